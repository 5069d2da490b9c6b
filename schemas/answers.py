"""What the services answer over HTTP, besides documents (:mod:`schemas.documents`): for OpenAPI, and its readers.

Services write these answers straight from what they store; a contract test holds every answer against its model here. Readers
ignore fields that they do not know.
"""

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Channel, Grounds, Kept, Open, RecipientKind
from schemas.events import Seq, VersionNumber
from schemas.guard import Finding
from schemas.notices import Notice, NoticeKind
from schemas.plan import SectionLetter


class FieldProblem(Open):
    field: str
    """The way to it, joined by ``/``; a name that the contract does not know is ``(unknown)``."""
    problem: str
    instead: str | None = None
    """What to send instead."""


class Problem(Kept):
    """Why a request was refused (RFC 9457). Nothing of the request is repeated. Some kinds have further members."""

    type: str
    """``urn:ehcp:problem:`` and the kind of problem; never changes its meaning."""
    title: str
    status: int
    detail: str | None = None
    errors: tuple[FieldProblem, ...] = ()


class TokenRequest(Open):
    """A form: the client's own signed assertion for a token (RFC 7523 section 2.2)."""

    grant_type: Literal["client_credentials"]
    client_assertion_type: Literal["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"]
    client_assertion: str
    """A JWT for a minute or so, signed with Ed25519: ``iss`` and ``sub`` the client's id, ``aud`` the issuer, ``jti`` new."""


class Token(Open):
    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    """Seconds."""


class SharedWith(Open):
    """One who should hold the version, as the answer to issuing it tells."""

    share_id: UUID
    recipient: str
    """Name of an organisation; for a person the council's reference, never a name."""
    recipient_kind: RecipientKind
    seq: Seq
    channel: Channel
    grounds: tuple[Grounds, ...]
    due_at: datetime
    sections: tuple[SectionLetter, ...] | None = None
    """Where the recipient gets some sections only."""


class IssueResult(StrEnum):
    ISSUED = "issued"
    UNCHANGED = "unchanged"
    """The same request again: nothing was stored."""
    KEPT_AS_HISTORY = "kept_as_history"
    """An older version than the current one: stored, never shared as new."""
    HELD = "held"
    """Stored, and goes to nobody before a second person has looked: see ``findings``. Answered with 202."""


class ShareGap(Open):
    """Someone involved in the plan who has no share."""

    who: str
    """What they are to the child, never a name."""
    reason: str


class Flag(Open):
    """What a person should look at; nothing was refused for it."""

    code: str
    detail: str


class _Issued(Open):
    plan_id: UUID
    version_id: UUID
    version: VersionNumber
    case_reference: str
    shares: tuple[SharedWith, ...] = ()
    warnings: tuple[str, ...] = ()
    noted: tuple[FieldProblem, ...] = ()
    """Codes that lead to nobody on that day, by the field of the submission: the version is issued all the same."""
    share_gaps: tuple[ShareGap, ...] = ()
    flags: tuple[Flag, ...] = ()
    findings: tuple[Finding, ...] = ()
    """What the guard against a wrong child found; what is waived did not hold the version."""


class VersionAnswer(_Issued):
    status: IssueResult


class LineTaken(_Issued):
    """One line of a batch's answer: the line was taken."""

    line: Annotated[int, Field(ge=1)]
    status: int
    """As the same request by itself would be answered over HTTP."""
    result: IssueResult


class LineRefused(Open):
    """One line of a batch's answer: the line was refused, the others are not touched by that."""

    line: Annotated[int, Field(ge=1)]
    status: int
    problem: Problem


class InboxEntry(Open):
    share_id: UUID
    seq: Seq
    plan_id: UUID
    version_id: UUID
    notice: NoticeKind | None
    """The item is a notice of this kind, not the plan."""
    arrived_at: datetime
    opened_at: datetime | None
    opened_by: str | None = None
    """The account that opened this version first."""
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    """Who said that it was read."""
    withdrawn_at: datetime | None


class InboxAcknowledged(Open):
    share_id: UUID
    seq: Seq
    acknowledged_at: datetime
    acknowledged_by: str
    """What was said first stands."""


class InboxPage(Open):
    items: tuple[InboxEntry, ...]
    next: UUID | None
    """Send it as ``after`` for the next page; null on the last."""


class InboxFile(Open):
    name: str
    media_type: str


class InboxItem(Open):
    share_id: UUID
    case_reference: str
    council: str
    version: VersionNumber
    issued_on: date
    child: dict[str, Any]
    sections: dict[SectionLetter, dict[str, Any]]
    """As the council issued them, see ``plan-submission``."""
    notice: Notice | None = None
    changed_sections: tuple[SectionLetter, ...]
    has_document: bool
    files: tuple[InboxFile, ...]
    withdrawn_at: datetime | None


class ManualDelivery(Open):
    share_id: UUID
    seq: Seq
    state: str
    plan_id: UUID
    recipient_kind: RecipientKind
    version: VersionNumber | None
    action: Literal["hold", "withdraw", "recall", "release"]
    notice: NoticeKind | None
    remove: tuple[UUID, ...]
    """Versions that the family must give back or destroy, until that is recorded."""
    due_at: datetime
    parked_at: datetime
    record: str | None
    """How and when it was sent, and who says so."""


class ManualDeliveries(Open):
    deliveries: tuple[ManualDelivery, ...]
    next: UUID | None
    """Send it as ``after`` for the next page; null on the last."""


class RemovedAnswer(Open):
    share_id: UUID
    seq: Seq
    status: Literal["recalled", "waiting", "held"]
    """``waiting``: the right version has still to be sent. ``held``: it is there already."""
    recorded: bool
    """False where a removal was recorded already: nothing was changed."""


class OpenRecall(Open):
    share_id: UUID
    seq: Seq
    state: str
    plan_id: UUID
    remove: tuple[UUID, ...]
    """The versions, or the notice, that must go."""
    asked_at: datetime
    due_at: datetime


class RecallsPage(Open):
    recalls: tuple[OpenRecall, ...]
    next: UUID | None
    """Send it as ``after`` for the next page; null on the last."""


class SentAnswer(Open):
    share_id: UUID
    seq: Seq
    status: Literal["sent"]
    recorded: bool
    """False where another record stood already: nothing was changed."""
    record: str | None
    """What stands."""
