"""The one port of delivery: what every record system does for a subscriber.

An adapter takes a batch and answers one outcome for each, in order; it never raises for what a peer did, so that one
recipient's trouble stays its own. It makes its own writes idempotent by (recipient, plan, version, rendering): the
dispatcher may deliver the same content again after a crash. It needs no lock of its own: the dispatcher has one delivery
in flight per share and never hands out an older ``seq`` after a newer one was taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol, runtime_checkable
from uuid import UUID

from schemas.base import RecipientKind
from schemas.documents import Council, Sections
from schemas.identifiers import CodeScheme, recipient_name
from schemas.manifest import Manifest
from schemas.notices import Notice
from schemas.plan import Child, SectionLetter


@dataclass(frozen=True, slots=True)
class Recipient:
    kind: RecipientKind
    scheme: CodeScheme
    value: str
    name: str
    email: str | None = None
    address: tuple[str, ...] = ()

    def __str__(self) -> str:
        """What it is addressed, kept and asked for by: two kinds of one code are two recipients."""
        return recipient_name(self.kind, self.scheme, self.value)

    @property
    def code(self) -> str:
        return f"{self.scheme}:{self.value}"


@dataclass(frozen=True, slots=True)
class File:
    """A document or an attachment; ``data`` are its raw bytes, ``sha256`` their hash, already verified."""

    name: str
    media_type: str
    sha256: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """One rendering of one version, or one notice, for one recipient, its manifest verified against the instruction's hash.

    A notice has no sections; ``version_id`` is its own id and ``version`` 1. It stands beside the plan and replaces nothing.
    """

    share_id: UUID
    seq: int
    plan_id: UUID
    case_reference: str
    council: Council
    recipient: Recipient
    version_id: UUID
    version: int
    issued_on: date
    child: Child
    sections: Sections
    changed_sections: tuple[SectionLetter, ...]
    manifest: Manifest
    sha256: str
    document: File | None
    attachments: tuple[File, ...]
    replaces: UUID | None
    """The version this recipient's record held last as far as the subscriber knows; None for the first and for a notice."""
    notice: Notice | None = None


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """No further version will come; mark what this share filed, leave it in the record."""

    share_id: UUID
    seq: int
    plan_id: UUID
    recipient: Recipient


@dataclass(frozen=True, slots=True)
class Recall:
    """These versions, or this notice, should never have been there: remove them, and prove it."""

    share_id: UUID
    seq: int
    plan_id: UUID
    recipient: Recipient
    versions: tuple[UUID, ...]
    record: str | None = None
    """The record's own id of one of them, where the subscriber knows it."""


@dataclass(frozen=True, slots=True)
class Filed:
    """The system of record confirmed that it holds the version: its own id of it, and the hash read back."""

    record: str
    sha256: str
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """The receiving system took it; that it was filed is not known."""

    record: str


@dataclass(frozen=True, slots=True)
class Sent:
    """It is where a person will find it; ``opened`` (or nothing) comes later through :meth:`RecordSystem.reports`."""

    record: str


@dataclass(frozen=True, slots=True)
class Awaiting:
    """A person must act before anything is sent (manual)."""

    record: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now. ``after`` is what the peer asked for, in seconds; None leaves it to the back-off."""

    reason: str
    after: float | None = None
    away: bool = field(default=False, compare=False)
    """Nobody answered, or wants anything now: it says nothing about this content, and others would fare the same."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Not until a person or a new instruction changes something. No personal data in ``reason``."""

    reason: str
    disabled: bool = False
    """The record system takes nothing from us any more, of anybody: its recipients are paused, until a person resumes them."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    record: str


@dataclass(frozen=True, slots=True)
class Removed:
    """What was recalled is there no more. ``record`` is the proof in words: what was removed, and whether it was opened."""

    record: str


Outcome = Filed | Collected | Sent | Awaiting | Retry | Refused
WithdrawOutcome = Withdrawn | Retry | Refused
RecallOutcome = Removed | Awaiting | Retry | Refused


@dataclass(frozen=True, slots=True)
class Held:
    """What a record system says it really holds for a plan."""

    version_id: UUID
    sha256: str
    record: str
    withdrawn: bool = False
    """The copy is marked as no longer updated."""
    intact: bool = True
    """What is there is what was filed; False when a file of it is missing or another."""


class RecordAwayError(ConnectionError):
    """What a record holds cannot be asked just now. Silence is not absence."""


class CannotBeAskedError(RecordAwayError):
    """There is no question for what such a record holds, today or tomorrow. One sentence."""


@runtime_checkable
class SilentOnAbsence(Protocol):
    """A record system that repeats what its recipient once told. What it does not name may be there all the same: the recipient
    may have cleared away what it had said."""

    silent_on_absence: bool


@runtime_checkable
class HoldsNotices(Protocol):
    """A record system that can be asked about notices too."""

    async def holds_notices(self, recipient: Recipient, notices: Sequence[UUID]) -> dict[UUID, Held]:
        """As :meth:`RecordSystem.holds`, by the notice's id."""
        ...


class RecordSystem(Protocol):
    """Implemented by ``inbox``, ``manual``, ``webhook`` here and by ``fhir`` in the health subscriber."""

    async def deliver(self, batch: Sequence[Content]) -> list[Outcome]:
        """Make each recipient's record hold this content. One outcome each, in order; never raises for a peer's fault."""
        ...

    async def withdraw(self, batch: Sequence[Withdrawal]) -> list[WithdrawOutcome]:
        """Mark each copy as no longer updated."""
        ...

    async def recall(self, batch: Sequence[Recall]) -> list[RecallOutcome]:
        """Remove those versions, so that nobody finds them any more. :class:`Removed` only on proof.

        A version that is not there is removed. :class:`Awaiting` where only people at the other end can remove it.
        """
        ...

    async def holds(self, recipient: Recipient, plans: Sequence[UUID]) -> dict[UUID, Held]:
        """What the record really holds of these plans (not of their notices); a plan that it does not hold is absent.

        Raises :class:`RecordAwayError` when it does not answer, :class:`CannotBeAskedError` when it never will.
        """
        ...

    async def close(self) -> None: ...
