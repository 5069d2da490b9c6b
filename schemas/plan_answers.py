"""What the publisher answers about a council's plans: lists, one plan with its history, what is open. For OpenAPI.

No child's name and no text: the case reference says which plan it is to those who may know.
"""

from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Open, RecipientKind
from schemas.events import VersionNumber
from schemas.guard import Finding
from schemas.identifiers import CodeScheme
from schemas.lifecycle import CeaseReason, PlanState, RestrictionReason, ReviewOutcome
from schemas.notices import NoticeKind


class CurrentVersion(Open):
    version_id: UUID
    version: VersionNumber
    issued_on: date
    document: bool
    """Whether it has a PDF."""


class PlacedAt(Open):
    """A named setting of section I, with the days between which it holds."""

    scheme: CodeScheme
    value: str
    from_: Annotated[date, Field(alias="from")]
    until: date | None


class _Plan(Open):
    plan_id: UUID
    la_code: str
    case_reference: str
    state: PlanState
    restricted: RestrictionReason | None
    """The oldest of ``restrictions``."""
    restrictions: tuple[RestrictionReason, ...]
    """All that stand; each is lifted by itself."""
    ceases_on: date | None
    appeal_until: date | None
    cease_reason: CeaseReason | None
    has_nhs_number: bool
    current: CurrentVersion | None
    """Null where every version was recalled."""
    settings: tuple[PlacedAt, ...]
    shares: int
    deliverable: int = 0
    """Of ``shares``, those that somebody delivers: the others' codes lead to nobody."""
    gaps: int
    flag_count: int
    to_confirm: bool
    held: int = 0
    """Versions and notices that wait for a second person."""


class PlanEntry(_Plan):
    flags: int
    """The same as ``flag_count``; of one plan, ``flags`` are the flags themselves."""


class TransferredPlan(Open):
    """A case reference whose plan another council of this exchange has now."""

    la_code: str
    case_reference: str
    until: date
    """The last council's first day."""


class PlansPage(Open):
    plans: tuple[PlanEntry, ...]
    next: UUID | None
    """Send it as ``after`` for the next page; null on the last."""
    transferred: tuple[TransferredPlan, ...] = ()
    """On the first page: plans that the client's councils had, and have no more."""


class VersionOfPlan(Open):
    version_id: UUID
    version: VersionNumber
    issued_on: date
    by: str | None
    """The council's own id of the officer who issued it, where it was said."""
    received_at: datetime
    recalled_at: datetime | None


class EventOfPlan(Open):
    revision: int
    type: str
    by: str
    happened_on: date
    recorded_at: datetime


class ReviewOfPlan(Open):
    review: str
    meeting_on: date | None
    invited_on: date | None
    held_on: date | None
    reported_on: date | None
    decision: ReviewOutcome | None
    decided_on: date | None


class LeftOutOfNotice(Open):
    """Whom the law has told by this notice, and the council did not tell."""

    recipient_id: UUID
    who: str
    """An organisation's name, or the family member's reference."""
    reason: str


class NoticeOfPlan(Open):
    notice_id: UUID
    kind: NoticeKind
    happened_on: date
    left_out: tuple[LeftOutOfNotice, ...] = ()


class Custody(Open):
    """A council that had the plan before."""

    la_code: str
    case_reference: str
    from_date: date
    until_date: date


class GapOfPlan(Open):
    who: str
    reason: str
    since: datetime


class FlagOfPlan(Open):
    code: str
    detail: str
    since: datetime


class Confirmation(Open):
    """An unusual recipient that waits, or waited, for a second person."""

    recipient_id: UUID
    kind: RecipientKind
    name: str
    reason: str
    asked_by: str
    asked_at: datetime
    decided_by: str | None
    share: bool | None


class ObjectionOfPlan(Open):
    """What somebody of the family objects to; what follows from it is for people to decide."""

    from_reference: str
    """The family member's reference."""
    scheme: str | None
    value: str | None
    """Of the organisation whose share it is about; without one, all that no law asks for."""
    received_on: date
    text: str
    by: str


class Hold(Open):
    """A version, or a notice, that waits or waited for a second person, or that left unread by the council's policy."""

    version_id: UUID
    """The version's id, or the notice's."""
    findings: tuple[Finding, ...]
    asked_by: str
    asked_at: datetime
    decided_by: str | None
    released: bool | None
    """Null while it waits; false where it was rejected, and never leaves."""


class DecisionOfPlan(Open):
    """To share with somebody, or not to, by a decision of its own."""

    recipient_id: UUID
    kind: RecipientKind | None
    name: str | None
    """Of an organisation, or the family member's reference."""
    share: bool
    scheme: str | None
    value: str | None
    lawful_basis: str
    reason: str
    by: str
    until_date: date | None
    decided_at: datetime


class PlanShown(_Plan):
    versions: tuple[VersionOfPlan, ...]
    events: tuple[EventOfPlan, ...]
    reviews: tuple[ReviewOfPlan, ...]
    notices: tuple[NoticeOfPlan, ...]
    custody: tuple[Custody, ...]
    share_gaps: tuple[GapOfPlan, ...]
    flags: tuple[FlagOfPlan, ...]
    confirmations: tuple[Confirmation, ...]
    decisions: tuple[DecisionOfPlan, ...]
    objections: tuple[ObjectionOfPlan, ...]
    holds: tuple[Hold, ...] = ()


class OpenOfPlan(Open):
    plan_id: UUID
    la_code: str
    case_reference: str
    name: str
    """Of a gap who it is, of a flag its code, of a confirmation the id of the recipient, or of the version or notice held."""
    reason: str
    since: datetime


class NextOpen(Open):
    after_plan: UUID
    after_name: str


class _OpenPage(Open):
    next: NextOpen | None
    """Send its members as parameters for the next page; null on the last."""


class GapsPage(_OpenPage):
    gaps: tuple[OpenOfPlan, ...]


class FlagsPage(_OpenPage):
    flags: tuple[OpenOfPlan, ...]


class OpenConfirmation(OpenOfPlan):
    recipient: str
    """Name of the organisation."""
    plans: int
    """How many wait for the answer: more than this one where the organisation is new to the council."""


class ConfirmationsPage(_OpenPage):
    confirmations: tuple[OpenConfirmation, ...]


EventResult = Literal["recorded", "unchanged"]


class _Happened(Open):
    plan_id: UUID
    case_reference: str
    type: str
    """The event's."""
    state: PlanState
    """Of the plan, after it."""
    restricted: bool
    shares_changed: int = 0
    notice_id: UUID | None = None
    told: int = 0
    """How many get the notice."""
    left_out: tuple[str, ...] = ()
    """Who by the law's rows would get it too, and does not: ``not_to`` names them."""
    findings: tuple[Finding, ...] = ()
    """Where there are any that are not waived, the notice is held: nobody is told before a second person has looked."""
    warnings: tuple[str, ...] = ()


class EventAnswer(_Happened):
    status: EventResult


class EventLineTaken(_Happened):
    """One line of a batch's answer: the event was recorded, or had been before."""

    line: Annotated[int, Field(ge=1)]
    status: int
    result: EventResult
