"""Asking what the records really hold, and the answers.

``holdings.requested`` goes to a subscriber's own topic: look, now, at these shares. Each share is answered by a
:class:`Holding`, signed as a receipt is and sent the same way: what the record system itself said when it was asked, not what
the subscriber's books say. It proves a moment and changes nothing: what a share is satisfied by is said by receipts alone.
"""

from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, model_validator

from schemas.base import ContractError, Open
from schemas.events import RecipientCode, Seq
from schemas.manifest import Sha256
from schemas.receipts import HostedBy

MAX_LOOKS = 100
"""Shares in one request."""


class LookAt(Open):
    """One share to look at: whose record, and which plan in it. It need not be known to the subscriber."""

    share_id: UUID
    plan_id: UUID
    recipient: RecipientCode


class HoldingsRequested(Open):
    """Look at what the records of these recipients really hold, and answer each share with a signed ``Holding``."""

    look_id: UUID
    """Of all that the council asks together. The same (look, share) may come twice; an answer is then sent again."""
    la_code: str
    asked_at: AwareDatetime
    until: AwareDatetime
    """Later answers are of no use."""
    shares: Annotated[tuple[LookAt, ...], Field(min_length=1, max_length=MAX_LOOKS)]


class Found(StrEnum):
    """What came of looking."""

    HELD = "held"
    """The record holds a version of the plan: which, ``version_id`` and ``sha256`` say."""
    ABSENT = "absent"
    """The record was asked and holds none."""
    NO_ANSWER = "no_answer"
    """The record system did not answer: what it holds is unknown."""
    CANNOT_BE_ASKED = "cannot_be_asked"
    """This channel has no such question (MESH, HL7 v2), or what it knew was cleared away: the last receipt is the proof."""
    BY_HAND = "by_hand"
    """An officer sends it: the officer's record is all there is."""
    NOT_SERVED = "not_served"
    """The subscriber has no record system for this recipient."""


class Holding(Open):
    """What a record held for one share at the moment of looking."""

    number: Annotated[int, Field(ge=1, le=2**53 - 1)]
    """Of the same numbers as receipts: of two answers to the same question the higher one counts."""
    subscriber: str
    hosted_by: HostedBy
    look_id: UUID
    share_id: UUID
    at: AwareDatetime
    """When it was looked."""
    found: Found
    version_id: UUID | None = None
    sha256: Sha256 | None = None
    """Of the rendering, as the record tells it."""
    record: str | None = None
    """The record system's own id of what it holds."""
    withdrawn: bool = False
    """The copy is marked as no longer updated."""
    intact: bool = True
    """What is there is what was filed; false when a file of it is missing or another."""
    reason: str | None = None
    """Why nothing can be said, in words without any personal data."""
    seq: Seq | None = None
    """The newest instruction for this share that has come to the subscriber; null where none has."""

    @model_validator(mode="after")
    def _says_enough(self) -> Self:
        if self.found is Found.HELD and None in (self.version_id, self.sha256, self.record):
            raise ContractError("it says that a version is held but not which", "send version_id, sha256 and record")
        return self
