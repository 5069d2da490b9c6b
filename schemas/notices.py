"""A notice: what somebody must be told about a plan besides its text. Immutable, and never collapsed with another.

A notice is shared like a plan, by a share of its own: same instructions, receipts and ledger. Where a plan's instruction has a
version, a notice's has the notice itself: ``version_id`` is the notice's id, ``version`` is 1. Its manifest holds the hash of
:class:`Notice` beside those of its documents.
"""

from datetime import date
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from schemas.base import Kept
from schemas.lifecycle import CeaseReason, ReviewOutcome
from schemas.manifest import Sha256, canonical, sha256, without_empty


class NoticeKind(StrEnum):
    REVIEW_INVITATION = "review_invitation"
    """To the family, the setting, and those of health and social care who are invited (reg 20(2), (3))."""
    REVIEW_REPORT = "review_report"
    REVIEW_DECISION = "review_decision"
    CEASE_NOTICE = "cease_notice"
    """Reg 31(2): family, named institution, commissioning body."""


class Notice(Kept):
    """The facts of a notice, and a few plain sentences that say them."""

    kind: NoticeKind
    happened_on: date
    """The day of the decision or the event that it tells of."""
    text: Annotated[str, Field(min_length=1)]
    """For people; names nobody."""
    review: str | None = None
    meeting_on: date | None = None
    decision: ReviewOutcome | None = None
    ceases_on: date | None = None
    appeal_until: date | None = None
    cease_reason: CeaseReason | None = None

    def hash(self) -> Sha256:
        return notice_hash(self.model_dump(mode="json"))


def notice_hash(notice: dict[str, Any]) -> Sha256:
    """SHA-256 of a notice as the JSON that came (a reader hashes what it received)."""
    return sha256(canonical(without_empty(notice)))
