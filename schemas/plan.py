"""A plan version as a council issues it: what comes into ``POST /v1/plans`` and ``POST /v1/plans/{plan_id}/versions``.

Sections are kept apart (SEND Regulations 2014, reg 12). A version may instead be a document alone, as most existing
plans are; what is missing is flagged, not refused. Section K's advice is part of the plan (reg 12(4)) and comes as
attachments.
"""

import re
from datetime import date
from enum import StrEnum
from typing import Annotated, Self
from unicodedata import category
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationInfo, model_validator

from schemas.base import FROM_OUTSIDE, Closed, ContractError, RecipientKind
from schemas.identifiers import LaCode, NhsNumber, Organisation, Uln, Upn

_DATE = re.compile(r"\s*(19|20)[0-9]{2}-[0-9]{2}-[0-9]{2}\s*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNSEEN = ("Cf", "Cc", "Zl", "Zp")
"""Unicode's categories of what nobody sees: characters that turn the direction of writing, or have no width."""


def _iso_date(value: object) -> object:
    # pydantic also takes seconds since 1970, as a number or in quotes: a date of birth must never be a misread number.
    if isinstance(value, date) or (isinstance(value, str) and _DATE.fullmatch(value)):
        return value
    raise ContractError("it is not a date of this century or the last", "send the date as YYYY-MM-DD")


def _one_line(value: str, info: ValidationInfo) -> str:
    if _CONTROL.search(value):
        raise ContractError("it holds a line break or another control character", "send one line of plain text")
    # Two names that look alike would be two children. What was taken in before this was asked for can still be read.
    if info.context == FROM_OUTSIDE and not value.isascii() and any(category(each) in _UNSEEN for each in value):
        raise ContractError(
            "it holds a character that nobody sees, such as a zero-width space or one that turns the direction of writing",
            "type it anew; it was probably copied from a document",
        )
    return value


def _no_nul(value: str) -> str:
    # Word's soft line breaks and the like are common in plans and do no harm; a NUL ends the text in many systems.
    if "\0" in value:
        raise ContractError("the text holds a NUL character", "remove it; usually it comes from a damaged export")
    return value


def _email(value: str) -> str:
    name, at, domain = value.rpartition("@")
    if not (name and at and "." in domain) or any(c.isspace() for c in value) or "@" in name:
        raise ContractError("it is not one e-mail address", "send one address, such as name@example.org, or leave it out")
    return value


IsoDate = Annotated[date, BeforeValidator(_iso_date)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_one_line)]
Line = Annotated[str, StringConstraints(max_length=200), AfterValidator(_one_line)]
Reference = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9/_.:-]*$")
]
Prose = Annotated[str, StringConstraints(max_length=200_000), AfterValidator(_no_nul)]
Email = Annotated[str, StringConstraints(max_length=254), AfterValidator(_email)]
Address = Annotated[tuple[Line, ...], Field(max_length=10)]


class SectionLetter(StrEnum):
    """The sections of reg 12(1); H1 and H2 are separate in law."""

    A = "A"
    B = "B"
    C = "C"
    D = "D"
    E = "E"
    F = "F"
    G = "G"
    H1 = "H1"
    H2 = "H2"
    I = "I"  # noqa: E741 - the law's own letter
    J = "J"
    K = "K"


ItemRef = Annotated[str, StringConstraints(min_length=1, max_length=20), AfterValidator(_one_line)]


class Item(Closed):
    """One need, outcome or provision. ``serves`` names the items it answers: F1 serves E1, E1 serves B2."""

    ref: ItemRef
    text: Annotated[Prose, Field(min_length=1)]
    serves: Annotated[tuple[ItemRef, ...], Field(max_length=100)] = ()
    provider: Prose | None = None
    frequency: Prose | None = None


class Section(Closed):
    """One section's text, its items, or both."""

    text: Prose = ""
    items: Annotated[tuple[Item, ...], Field(max_length=1_000)] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.text and not self.items:
            raise ContractError("a section has neither text nor items", "leave an empty section out")
        refs = [item.ref for item in self.items]
        if len(set(refs)) != len(refs):
            raise ContractError("two items of one section have the same ref", "give each item a ref of its own: B1, B2, B3")
        return self


class Child(Closed):
    """Whose plan it is. The NHS number may be unknown yet: the plan is issued, its health shares are refused."""

    family_name: Name
    given_names: Name
    preferred_name: Name | None = None
    date_of_birth: IsoDate
    nhs_number: NhsNumber | None = None
    upn: Upn | None = None
    uln: Uln | None = None
    address: Address = ()
    postcode: Line | None = None


class FamilyRole(StrEnum):
    PARENT = "parent"
    YOUNG_PERSON = "young_person"


class FamilyMember(Closed):
    """A parent (as the Education Act has it) or the young person; each is a recipient of their own."""

    reference: Reference
    """The council's own stable reference for this person."""
    role: FamilyRole
    name: Name
    email: Email | None = None
    address: Address = ()
    acts_for_young_person: bool = False
    """The young person lacks capacity (Mental Capacity Act 2005), so this parent keeps the rights that would have passed."""


class Placement(Closed):
    """Section I: a named setting, or only a type of setting (reg 12(1)(i)); with the dates between which it holds."""

    setting: Organisation | None = None
    setting_type: Line | None = None
    name: Name | None = None
    from_: Annotated[IsoDate, Field(alias="from")]
    until: IsoDate | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.setting is None and self.setting_type is None:
            raise ContractError("a placement names neither a setting nor a type", "send setting (a code) or setting_type")
        if self.until is not None and self.until < self.from_:
            raise ContractError("a placement ends (until) before it begins (from)", "send until on or after from")
        return self


def _not_overlapping(placements: tuple[Placement, ...]) -> tuple[Placement, ...]:
    # Two settings at once are lawful (part of the week each, or an old and a new school of a phase transfer); the same
    # setting twice at the same time is a slip that would give one recipient two grounds which end differently.
    for place, each in enumerate(placements):
        for other in placements[:place]:
            same = each.setting is not None and each.setting == other.setting
            if same and each.from_ <= (other.until or date.max) and other.from_ <= (each.until or date.max):
                raise ContractError("two placements at the same setting overlap", "send one, with its first and its last day")
    return placements


def _one_reference_each(family: tuple[FamilyMember, ...]) -> tuple[FamilyMember, ...]:
    references = [member.reference for member in family]
    if len(set(references)) != len(references):
        raise ContractError("two members of the family have the same reference", "send one reference for each person")
    return family


class Role(StrEnum):
    ADVICE = "advice"
    PROVISION = "provision"
    NAMED_PROFESSIONAL = "named_professional"


class Involved(Closed):
    """Someone who gave advice (K), gives provision (F, G, H) or is named: should hold the plan, or is a share gap."""

    role: Role
    kind: RecipientKind | None = None
    organisation: Organisation | None = None
    name: Name | None = None
    profession: Line | None = None
    sections: Annotated[tuple[SectionLetter, ...], Field(max_length=12)] = ()
    advice_dated: IsoDate | None = None

    @model_validator(mode="after")
    def _is_someone(self) -> Self:
        # Without any of these nobody could ever find out whose share is missing.
        if self.organisation is None and self.name is None and not self.profession:
            raise ContractError("nobody is named", "send organisation, name or profession of who is involved")
        return self


Placements = Annotated[tuple[Placement, ...], Field(max_length=50), AfterValidator(_not_overlapping)]
Organisations = Annotated[tuple[Organisation, ...], Field(max_length=20)]
Family = Annotated[tuple[FamilyMember, ...], Field(max_length=20), AfterValidator(_one_reference_each)]
People = Annotated[tuple[Involved, ...], Field(max_length=200)]


class Circumstances(Closed):
    """Who is around the child: what a version says, and what events change between two versions. Shares follow from it."""

    placements: Placements = ()
    commissioning_bodies: Organisations = ()
    family: Family = ()
    involved: People = ()
    looked_after_by: LaCode | None = None
    """The council that looks after the child; its virtual school is involved, and that of ``resident_in``."""
    resident_in: LaCode | None = None
    """The council where the child lives, when that is not the plan's own."""
    detained_at: Organisation | None = None
    """The custodial establishment, while the child or young person is detained (SI 2015/62)."""


class Agreement(Closed):
    """Who agreed the health provision of section G, and when."""

    by: Organisation
    on: IsoDate


class PlanVersion(Circumstances):
    """One issued text of a plan. Immutable once accepted."""

    issued_on: IsoDate
    sections: dict[SectionLetter, Section] | None = None
    views_recorded_on: IsoDate | None = None
    """When the child's or young person's views in section A were last asked for."""
    health_provision_agreed: Agreement | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sections is not None and not self.sections:
            raise ContractError("sections is empty", "leave it out when the version is a document alone")
        return self

    def circumstances(self) -> Circumstances:
        # Checked when the version was.
        return Circumstances.model_construct(**{name: getattr(self, name) for name in Circumstances.model_fields})


class Submitted(Closed):
    by: Reference | None = None
    """The council's own id of the officer who issues the version, never a name. An unusual recipient that the version names is
    confirmed by another officer."""


class PlanSubmission(Submitted):
    """The first version of a plan. A repeat with the same case reference and text is harmless."""

    la_code: LaCode
    case_reference: Reference
    """The council's own. Capital letters do not count: DUD-1 and dud-1 are one plan."""
    child: Child
    version: PlanVersion
    different_child_from: Annotated[tuple[UUID, ...], Field(max_length=20)] = ()
    """Plans whose child has the same name and date of birth: a person has checked that it is another child."""

    @model_validator(mode="after")
    def _born_before(self) -> Self:
        if self.child.date_of_birth > self.version.issued_on:
            raise ContractError("date_of_birth is after issued_on", "check which of the two dates has the typing error")
        return self


class VersionSubmission(Submitted):
    """A further version of a plan."""

    version: PlanVersion


class VersionLine(VersionSubmission):
    """A further version, as one line of a batch."""

    plan_id: UUID
