"""A plan on its way to a council elsewhere: ``plan.json`` of the archive that ``GET /v1/plans/{plan_id}/export`` gives.

Beside it are the versions, each as :class:`schemas.plan.PlanSubmission` with its files, so that any exchange takes them as they
are. What happened to the plan is told for people and for the record; none of it is done again where it arrives.
"""

from datetime import date, datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Open
from schemas.events import VersionNumber
from schemas.lifecycle import PlanEvent, PlanState, ReviewOutcome
from schemas.manifest import FileEntry, Sha256
from schemas.plan import SectionLetter

PLAN_FILE = "plan.json"


class ExportedVersion(Open):
    """A recalled one is named and not contained."""

    version_id: UUID
    version: VersionNumber
    issued_on: date
    recalled: bool
    sections: dict[SectionLetter, Sha256] = Field(default_factory=dict)
    document: FileEntry | None = None
    attachments: tuple[FileEntry, ...] = ()


class ExportedEvent(Open):
    recorded_at: datetime
    event: PlanEvent


class ExportedReview(Open):
    review: str
    meeting_on: date | None = None
    held_on: date | None = None
    reported_on: date | None = None
    decision: ReviewOutcome | None = None
    decided_on: date | None = None


class EarlierCouncil(Open):
    la_code: str
    case_reference: str
    from_date: date
    until_date: date


def still_in_force(la_code: str, state: PlanState) -> str | None:
    """An export is no transfer: two councils that both think the plan theirs each keep half of it up."""
    if state not in (PlanState.LIVE, PlanState.CEASING):
        return None
    return (
        f"The plan was not transferred: it is still in force at council {la_code}, which goes on sharing it. Before another "
        f"council takes it in, {la_code} records the transfer (ehcp record transfer)."
    )


class PlanExport(Open):
    format: Literal["ehcp.plan-export.v1"] = "ehcp.plan-export.v1"
    exported_on: date
    plan_id: UUID
    la_code: str
    case_reference: str
    state: PlanState
    current: VersionNumber
    """Its submission has who is around the child now, which events may have changed since it was issued."""
    versions: tuple[ExportedVersion, ...]
    events: tuple[ExportedEvent, ...]
    reviews: tuple[ExportedReview, ...]
    earlier_councils: tuple[EarlierCouncil, ...]
    warning: str | None = None
    """What whoever takes the plan in must know first."""
