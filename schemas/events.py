"""What travels on Kafka: thin CloudEvents 1.0 in binary mode; no name, date of birth, NHS number or plan text.

A type carries its major version; a breaking change is a new major version beside the old one.
"""

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from schemas.base import Open, RecipientKind
from schemas.identifiers import CodeScheme, recipient_name
from schemas.lifecycle import ReviewOutcome
from schemas.manifest import Sha256
from schemas.notices import NoticeKind
from schemas.plan import SectionLetter

Seq = Annotated[int, Field(ge=1, le=2**53 - 1)]
"""Number of a share's instruction; begins with 1 and rises with every change of the wish."""

VersionNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""1, 2, 3 ... in the order of acceptance, for people; systems use ``version_id``."""


class EventType(StrEnum):
    """The CloudEvents ``type`` of everything on the topics."""

    PLAN_FINALISED = "ehcp.plan.finalised.v1"
    PLAN_AMENDED = "ehcp.plan.amended.v1"
    PLAN_CEASING = "ehcp.plan.ceasing.v1"
    PLAN_CEASED = "ehcp.plan.ceased.v1"
    PLAN_REOPENED = "ehcp.plan.reopened.v1"
    PLAN_TRANSFERRED = "ehcp.plan.transferred.v1"
    PLAN_RECALLED = "ehcp.plan.recalled.v1"
    CHILD_CORRECTED = "ehcp.child.corrected.v1"
    PLACEMENT_CHANGED = "ehcp.placement.changed.v1"
    COMMISSIONER_CHANGED = "ehcp.commissioner.changed.v1"
    REVIEW_SCHEDULED = "ehcp.review.scheduled.v1"
    REVIEW_HELD = "ehcp.review.held.v1"
    REVIEW_DECIDED = "ehcp.review.decided.v1"
    SHARE_REQUESTED = "ehcp.share.requested.v1"
    SHARE_WITHDRAWN = "ehcp.share.withdrawn.v1"
    SHARE_RECALLED = "ehcp.share.recalled.v1"
    SHARE_RELEASED = "ehcp.share.released.v1"
    HOLDINGS_REQUESTED = "ehcp.holdings.requested.v1"
    RECEIPT = "ehcp.receipt.v1"
    HOLDING = "ehcp.holding.v1"
    HEARTBEAT = "ehcp.heartbeat.v1"
    ALERT_RAISED = "ehcp.alert.raised.v1"
    ALERT_CLEARED = "ehcp.alert.cleared.v1"
    COUNCIL_ALERT_RAISED = "ehcp.council.alert.raised.v1"
    COUNCIL_ALERT_CLEARED = "ehcp.council.alert.cleared.v1"


class RecipientCode(Open):
    """Who should hold it, as the subscriber knows them: kind, and a code with its scheme."""

    kind: RecipientKind
    scheme: CodeScheme
    value: str

    def __str__(self) -> str:
        return recipient_name(self.kind, self.scheme, self.value)


class PlanFinalised(Open):
    """The first final version of a plan was issued (CFA 2014 s.40)."""

    la_code: str
    plan_id: UUID
    version_id: UUID
    version: VersionNumber
    issued_on: date
    sections: tuple[SectionLetter, ...] = ()


class PlanAmended(PlanFinalised):
    """A further version was issued and is now the current one."""

    replaces: UUID
    changed_sections: tuple[SectionLetter, ...] = ()


class PlanHappened(Open):
    """Something happened to a plan; what exactly, its type says, and who may know reads it from the council."""

    la_code: str
    plan_id: UUID
    happened_on: date


class PlanTransferred(PlanHappened):
    """To another council; ``la_code`` is the old one's."""

    to_la_code: str


class PlanRecalled(PlanHappened):
    version_id: UUID


class ReviewHappened(PlanHappened):
    """``review`` is the council's own reference of the review."""

    review: str


class ReviewDecided(ReviewHappened):
    decision: ReviewOutcome


class ShareRequested(Open):
    """The whole wish for one share, never a difference: hold this version in this rendering, or this notice."""

    share_id: UUID
    seq: Seq
    la_code: str
    plan_id: UUID
    recipient: RecipientCode
    notice: NoticeKind | None = None
    """The share is of a notice: ``version_id`` is the notice's id, ``version`` 1, ``issued_on`` the day it tells of."""
    version_id: UUID
    version: VersionNumber
    issued_on: date
    sha256: Sha256
    sections: tuple[SectionLetter, ...] = ()
    changed_sections: tuple[SectionLetter, ...] = ()
    remove: tuple[UUID, ...] = ()
    """Versions to remove, until their removal is proved (recall)."""
    requested_at: AwareDatetime
    due_at: AwareDatetime
    dataref: str
    """Where the text and the documents are read, with a token: the document API."""


class ShareWithdrawn(Open):
    """No further version will come; the copy held is marked so and stays under its holder's retention."""

    share_id: UUID
    seq: Seq
    la_code: str
    plan_id: UUID
    recipient: RecipientCode
    remove: tuple[UUID, ...] = ()
    requested_at: AwareDatetime
    due_at: AwareDatetime


class ShareRecalled(ShareWithdrawn):
    """What ``remove`` names must be removed, and the removal proved by a receipt; no further version will come."""

    remove: Annotated[tuple[UUID, ...], Field(min_length=1)]


class ShareReleased(ShareWithdrawn):
    """Another subscriber serves this recipient now; the record stays as it is."""
