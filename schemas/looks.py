"""Looking into the records: whose plans the council asks about, and how they were found.

Nothing personal leaves in an answer, nor is it kept: a child is named by the council's own case reference.
"""

import re
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints, field_validator, model_validator

from schemas.base import Closed, ContractError, Open, RecipientKind
from schemas.identifiers import LaCode, OrganisationCode
from schemas.manifest import Sha256

MAX_CHILDREN = 1000
DRAWN_BY = "the smallest SHA-256 (hexadecimal) of 'seed:case reference', in UTF-8"
"""Of each plan that may be drawn: anyone with the list of case references and the seed draws the same again."""

_Seed = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
_Child = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]


class Draw(Closed):
    """At random, so that any other draw was as likely."""

    n: Annotated[int, Field(ge=1, le=MAX_CHILDREN)]
    seed: _Seed | None = None
    """Best given by the inspector, so that nobody could look for a seed that draws well; left out, one is made."""


class LookRequest(Closed):
    """Whose plans, and whose records. Exactly one of ``draw`` and ``children``."""

    la_code: LaCode | None = None
    """The council, where the client acts for several."""
    draw: Draw | None = None
    children: Annotated[tuple[_Child, ...], Field(min_length=1, max_length=MAX_CHILDREN)] | None = None
    """The asker's own choice: case references, NHS numbers or plan ids."""
    agency: OrganisationCode | None = None
    """Only this organisation's records; a draw is then among the plans that it should hold."""
    kind: RecipientKind | None = None
    """Only records of recipients of this kind; a draw is then among the plans that one of them should hold."""

    @field_validator("children")
    @classmethod
    def _no_controls(cls, children: Any) -> Any:
        if any(re.search(r"[\x00-\x1f]", each) for each in children or ()):
            raise ContractError("a control character is in it", "send one case reference or NHS number in each text")
        return children

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.draw is None) == (self.children is None):
            raise ContractError("there is not exactly one of draw and children", "send one of the two")
        if self.agency is not None and self.kind is not None:
            raise ContractError("there are both agency and kind", "send one of the two")
        return self


class NotLookedAt(Open):
    """One of ``children`` that leads to no plan in force. By its place alone: what was sent may name a child."""

    position: Annotated[int, Field(ge=1)]
    """In ``children``, from 1."""
    reason: Literal["unknown", "not_in_force", "no_version", "not_shared_with_agency", "repeated"]


class LookAsked(Open):
    look_id: UUID
    asked_at: AwareDatetime
    until: AwareDatetime
    """Answers are waited for until then."""
    seed: str | None
    population: int | None
    """Plans that might have been drawn; null where they were chosen."""
    children: int
    """Plans that are looked at."""
    shares: int
    """Records that are looked into."""
    not_looked_at: tuple[NotLookedAt, ...] = ()


class LookProgress(Open):
    """How far a look has come. Nothing of what was found."""

    look_id: UUID
    la_code: str
    asked_at: AwareDatetime
    until: AwareDatetime
    children: int
    shares: int
    answered: int
    """Records that were looked into, or of which is known that they cannot be."""
    waiting_for: dict[str, int]
    """By subscriber, the shares that are not answered yet, or whose record did not answer yet."""


class Verdict(StrEnum):
    """What somebody who opened this record would find."""

    CURRENT = "current"
    """The current version, as it was filed."""
    OLDER_VERSION = "older_version"
    ALTERED = "altered"
    """The current version, but changed, damaged, or marked as ended."""
    ABSENT = "absent"
    CANNOT_BE_ASKED = "cannot_be_asked"
    """This channel cannot be asked: the last receipt is all there is."""
    BY_HAND = "by_hand"
    """Sent by an officer: the officer's word is all there is."""
    NO_ANSWER = "no_answer"
    """The record did not answer, or its subscriber did not: what it holds is not known."""


SEEN = (Verdict.CURRENT, Verdict.OLDER_VERSION, Verdict.ALTERED, Verdict.ABSENT)
"""Where it was really looked; only these are counted in a share of 100."""


class LastProof(Open):
    """The newest receipt for what is held: what the exchange knew without looking."""

    status: str
    version: int | None
    at: AwareDatetime
    record: str | None
    current: bool
    """It is for the version that should be held."""


class RecordLookedInto(Open):
    """One recipient of one child's plan."""

    share_id: UUID
    recipient: str
    """Name of an organisation; for a person the council's reference, never a name."""
    recipient_kind: str
    channel: str
    grounds: tuple[str, ...]
    """Why it should hold the plan: statutory, policy, decision."""
    subscriber: str | None
    hosted_by: str | None
    """Whose word it is: the agency's own, or the council's for it."""
    version_id: UUID
    """What should be there; ``statement`` says what is."""
    sha256: Sha256
    verdict: Verdict
    difference: str | None
    """never_arrived, stale, missing_from_record or altered."""
    found_version: int | None
    """The version in the record; null where there is none, or the council does not know it."""
    record: str | None
    """The record system's own id of what it holds."""
    looked_at: AwareDatetime | None
    reason: str | None
    last_proof: LastProof | None
    statement: str | None
    """The subscriber's signed answer (compact JWS); its key is under ``keys``."""


class GapFound(Open):
    who: str
    reason: str
    since: AwareDatetime


class ChildLookedAt(Open):
    case_reference: str
    plan_id: UUID
    version: int
    """The current version when it was asked."""
    issued_on: date
    records: tuple[RecordLookedInto, ...]
    gaps: tuple[GapFound, ...]
    """Who is involved in the plan and gets nothing."""
    all_current: bool | None
    """Every record that could be looked into has the current version; null where none could be."""


class Interval(Open):
    """95 %, in per cent with one decimal: where the share of all would lie. Wilson's, without finite population correction."""

    low: str
    high: str


class Counted(Open):
    looked_into: int
    current: int
    per_cent: str | None
    """current ÷ looked_into; null where nothing was looked into."""
    interval: Interval | None
    """Null for a choice, and where everything was looked at: then nothing is estimated."""


class AgencyTotal(Counted):
    agency: str
    kind: str
    wanted: int
    """Records that should hold a plan of these children."""
    older_version: int
    altered: int
    absent: int
    cannot_be_asked: int
    by_hand: int
    no_answer: int


class EarlierDraw(Open):
    """Another draw among the council's children, asked before this one: whoever draws until a seed suits leaves a list here."""

    look_id: UUID
    asked_at: AwareDatetime
    asked_by: str
    seed: str
    population: int
    agency: str | None
    kind: str | None
    children: int
    """That were drawn."""
    looked_into: int | None
    """Of these, with a record that could be looked into; null for those before the newest hundred draws."""
    current: int | None
    """Of ``looked_into``, with the current version in every record that could be looked into, by what is known now."""


class LookReport(Open):
    """What an inspector would find in the real records. Integers and texts only, so that its signature has one form."""

    title: Literal["What the records hold"] = "What the records hold"
    council: str
    la_code: str
    look_id: UUID
    asked_at: AwareDatetime
    asked_by: str
    made_at: AwareDatetime
    complete: bool
    """Every record has answered, or cannot be asked."""
    drawn_by: str | None
    """How it was drawn, so that it can be drawn again; null for a choice."""
    seed: str | None
    population: int | None
    agency: str | None
    kind: str | None
    earlier_draws: tuple[EarlierDraw, ...] = ()
    """Every one of the twelve months before this was asked, the newest first."""
    children: tuple[ChildLookedAt, ...]
    not_looked_at: tuple[NotLookedAt, ...]
    with_all_current: Counted
    """Of the children: those whose every record that could be looked into has the current version."""
    with_gaps: int
    """Children with somebody involved who gets nothing."""
    totals: tuple[AgencyTotal, ...]
    keys: dict[str, dict[str, Any]]
    """By subscriber, the public key that its statements are checked with."""


class SignedLookReport(Open):
    kind: Literal["inspection-sample"]
    document: LookReport
    signature: dict[str, Any]
    """``jws``: a detached JWS over the canonical JSON of ``document``; ``key``: the council's public key for documents."""


class RecordsOfSubscriber(Open):
    """What a subscriber last said of its records, in numbers."""

    subscriber: str
    name: str
    last_seen: AwareDatetime | None
    held: int | None
    """Shares of which its recipients hold something, as its books say."""
    differences: dict[str, int]
    """Found within 25 hours between wanted, books and records, by kind."""
    unasked: int
    """Copies that could not be asked after for more than a day."""
    unasked_since: AwareDatetime | None


class RecordsShown(Open):
    subscribers: tuple[RecordsOfSubscriber, ...]
