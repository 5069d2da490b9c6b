"""Who should hold a plan, and on what grounds. Pure: from what is known of the plan, the directory and the sharing policy.

Statutory recipients follow from the circumstances: parents or the young person, the settings named in the plan, the
commissioning bodies (Children and Families Act 2014 s.40(5); SEND Regulations 2014 regs 13(2), 22(3)), for a detained child
those of SI 2015/62. Others follow from the policy that the council approved, or from a decision of its own. Where the directory
does not know a code, the share still exists, without a subscriber: a duty does not lapse because of a wrong code, it becomes
visible as undeliverable. Somebody involved who gets no share is a share gap. Next: ``wishes.py``.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import assert_never
from uuid import UUID

from schemas.base import Channel, Grounds, RecipientKind
from schemas.identifiers import CodeScheme, OrganisationCode
from schemas.plan import Circumstances, FamilyMember, FamilyRole, Involved, Placement, SectionLetter
from services.ehcp_publisher import families, policy
from services.ehcp_publisher.registry import Directory, Known, organisation_id, person_id
from services.shared.law.ages import rights_pass_on
from services.shared.law.counting import is_working_day, london_date
from services.shared.law.rules import Who, recipients_for

SETTINGS = frozenset(
    {RecipientKind.SCHOOL, RecipientKind.COLLEGE, RecipientKind.EARLY_YEARS, RecipientKind.ALTERNATIVE_PROVISION}
)
FAMILY = frozenset({RecipientKind.PARENT, RecipientKind.YOUNG_PERSON})
FAMILY_SUBSCRIBER = "family"
SYSTEM_CHANNELS = frozenset({Channel.FHIR, Channel.MESH, Channel.HL7V2, Channel.WEBHOOK, Channel.SFTP})
SYSTEM_DUE = timedelta(days=1)
PEOPLE_DUE_WORKING_DAYS = 5


@dataclass(frozen=True, slots=True)
class Ground:
    grounds: Grounds
    reference: str
    reason: str
    from_: date
    until: date | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """One recipient that should hold the plan. ``member`` is set for people; ``sections`` are those it gets, None for all."""

    recipient: Known
    grounds: tuple[Ground, ...]
    member: FamilyMember | None = None
    unknown: bool = False
    sections: tuple[SectionLetter, ...] | None = None
    named: bool = False
    """The sharing policy itself says which organisation it is, not a code that somebody typed into this plan."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's decision about one recipient: to share although no rule says so, or not to."""

    recipient_id: UUID
    share: bool
    code: OrganisationCode | None
    lawful_basis: str
    reason: str
    until: date | None
    kind: RecipientKind | None = None
    """Of the organisation: one code may be registered as several."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a plan on the day on which its shares are decided."""

    plan_id: UUID
    la_code: str
    circumstances: Circumstances
    born: date
    issued_on: date
    """Of the current version: its grounds begin then."""
    first: bool = True
    """The current version is the first final plan; otherwise it is an amended one."""
    letters: tuple[SectionLetter, ...] = ()
    """The sections of the current version; none where it is a document alone."""
    decisions: tuple[Decision, ...] = ()
    confirmed: Mapping[UUID, bool | None] = field(default_factory=dict)
    """What a second person said of an unusual recipient; None while it waits."""
    doubts: Mapping[str, str] = field(default_factory=dict)
    """Of the family, as :mod:`services.ehcp_publisher.families` has them."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Somebody involved who has no share. ``who`` is a role with an organisation's kind and code, never a person."""

    who: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unusual:
    """A recipient that waits for a second person's confirmation."""

    recipient: Known
    reason: str
    once: bool = False
    """It is the organisation that is new to the council: who confirms it confirms it for every plan."""


@dataclass(frozen=True, slots=True)
class Decided:
    wanted: tuple[Wanted, ...] = ()
    unconfirmed: tuple[Unusual, ...] = ()
    gaps: tuple[Gap, ...] = ()
    next_on: date | None = None
    """The next day on which another decision may follow from the date alone."""
    parties: tuple[str, ...] = ()
    """Every code that leads to somebody, as ``scheme:value``: of organisations, and of councils whose services are involved."""


NOBODY = Decided()
"""For a plan that is not in force."""


def _unknown(kind: RecipientKind, code: OrganisationCode, directory: Directory) -> Known:
    recipient_id = organisation_id(kind, code.scheme, code.value)
    if directory.get(recipient_id):
        # It is listed, and the code does not hold on this day: what it has been given ends as any share does, and whom the code
        # means now is nobody that we know.
        recipient_id = organisation_id(kind, code.scheme, f"{code.value}:not-valid")
    return Known(
        recipient_id, kind, code.scheme, code.value,
        f"{code} (not in the directory)", None, Channel.INBOX,
    )  # fmt: skip


def decide(facts: Facts, directory: Directory, on: date) -> Decided:
    """Every recipient once, in a stable order, with all its grounds as they are on that day."""
    found: dict[UUID, Wanted] = {}
    for wanted in (*_statutory(facts, directory, on), *_by_policy(facts, directory, on), *_by_decision(facts, directory, on)):
        before = found.get(wanted.recipient.recipient_id)
        found[wanted.recipient.recipient_id] = _together(before, wanted) if before else wanted
    withheld = [found.pop(recipient_id) for recipient_id in kept_from(facts.decisions, on) & found.keys()]
    # A part of a document without separate sections cannot be given, and the whole must not.
    indivisible = {key: wanted for key, wanted in found.items() if wanted.sections is not None and not facts.letters}
    found = {key: wanted for key, wanted in found.items() if key not in indivisible}
    unconfirmed = []
    for recipient_id, wanted in list(found.items()):
        if unusual := _unusual(facts, wanted, directory):
            del found[recipient_id]
            if facts.confirmed.get(recipient_id) is None:
                unconfirmed.append(unusual)
            else:
                withheld.append(wanted)
    known = set(found) | {each.recipient.recipient_id for each in unconfirmed}
    gaps = (*_withheld(withheld), *_gaps(facts, directory, on, known, indivisible.keys()))
    return Decided(tuple(found.values()), tuple(unconfirmed), gaps, _next_on(facts, directory, on), _parties(facts))


def kept_from(decisions: Iterable[Decision], on: date) -> frozenset[UUID]:
    """Whom a person's decision, or a recall, keeps from the plan and all that is told of it."""
    return frozenset(each.recipient_id for each in decisions if not each.share and (each.until is None or on <= each.until))


def _withheld(withheld: Iterable[Wanted]) -> Iterator[Gap]:
    """What the law owes and a person holds back: right where a court says so, and wrong where a school that was once a wrong
    recipient is the child's by now. So it is seen."""
    owed = [each.recipient for each in withheld if any(ground.grounds is Grounds.STATUTORY for ground in each.grounds)]
    # Of the family without a number: it could say who of them it is.
    who = {str(each.kind) if each.kind in FAMILY else f"{each.kind} {each.scheme}:{each.value}" for each in owed}
    yield from (Gap(f"owed by law: {name}", "a person keeps it from the plan") for name in sorted(who))


def _statutory(facts: Facts, directory: Directory, on: date) -> Iterator[Wanted]:
    """By the law of the day of issue, filled with who is around the child on the day of deciding."""
    rules = list(recipients_for("first_final" if facts.first else "amended_after_review", facts.issued_on))
    if not facts.first:
        # Reg 22(3) does not mention early years providers: theirs is the standing ground of the first plan.
        rules += [rule for rule in recipients_for("first_final", facts.issued_on) if rule.role is Who.NAMED_EARLY_YEARS]
    if facts.circumstances.detained_at:
        rules += recipients_for("detained", facts.issued_on)
    for rule in rules:
        for wanted in _who(rule.role, facts, directory, on):
            (ground,) = wanted.grounds
            yield replace(wanted, grounds=(replace(ground, reference=rule.reference),))


def told(event: str, facts: Facts, directory: Directory, on: date) -> tuple[Wanted, ...]:
    """Who must be told of what happened, by the law's rows for ``event``. The council's own officers need no share; whoever
    waits for a confirmation, or is kept from the plan, is told nothing."""
    return _told(event, facts, directory, on, unusual=False)


def told_later(event: str, facts: Facts, directory: Directory, on: date) -> tuple[Wanted, ...]:
    """Who must be told too, and waits for a confirmation. Whom a second person has refused waits for nothing."""
    found = _told(event, facts, directory, on, unusual=True)
    return tuple(each for each in found if facts.confirmed.get(each.recipient.recipient_id) is None)


def _told(event: str, facts: Facts, directory: Directory, on: date, *, unusual: bool) -> tuple[Wanted, ...]:
    found: dict[UUID, Wanted] = {}
    out = kept_from(facts.decisions, on)
    for rule in recipients_for(event, on):
        for wanted in _who(rule.role, facts, directory, on):
            # A notice says as much of a child as its plan: who does not get the one does not get the other.
            if wanted.recipient.recipient_id in out or (_unusual(facts, wanted, directory) is not None) is not unusual:
                continue
            (ground,) = wanted.grounds
            told_ = replace(wanted, grounds=(replace(ground, reference=rule.reference, from_=on, until=None),))
            found.setdefault(wanted.recipient.recipient_id, told_)
    return tuple(found.values())


def _who(role: Who, facts: Facts, directory: Directory, on: date) -> Iterator[Wanted]:
    """Everyone who fills a role of the law; the reference of the ground is the rule's, to be put in."""
    around = facts.circumstances

    def ground(reason: str, from_: date = facts.issued_on, until: date | None = None) -> tuple[Ground]:
        return (Ground(Grounds.STATUTORY, "", reason, from_, until),)

    def organisation(code: OrganisationCode, kind: RecipientKind, reason: str) -> Wanted:
        known = directory.find(code, frozenset({kind}), on)
        return Wanted(known or _unknown(kind, code, directory), ground(reason), unknown=known is None)

    def settings() -> Iterator[tuple[Placement, Wanted]]:
        for placement in around.placements:
            if placement.setting is not None and (placement.until is None or placement.until >= on):
                known = directory.find(placement.setting, SETTINGS, on)
                named = ground("named in section I", placement.from_, placement.until)
                recipient = known or _unknown(RecipientKind.SCHOOL, placement.setting, directory)
                yield placement, Wanted(recipient, named, unknown=known is None)

    match role:
        case Who.PARENT_OR_YOUNG_PERSON:
            for member in family_with_rights(around, facts.born, on):
                yield Wanted(person(facts.plan_id, member), ground("parent or young person"), member)
        case Who.NAMED_SETTING | Who.NAMED_EARLY_YEARS:
            early = role is Who.NAMED_EARLY_YEARS
            yield from (each for _, each in settings() if (each.recipient.kind is RecipientKind.EARLY_YEARS) is early)
        case Who.ATTENDED_SETTING:
            yield from (each for placement, each in settings() if placement.from_ <= on)
        case Who.COMMISSIONING_BODY | Who.NEW_COMMISSIONING_BODY | Who.DETAINED_HEALTH_COMMISSIONER:
            for code in around.commissioning_bodies:
                yield organisation(code, RecipientKind.COMMISSIONING_BODY, "responsible commissioning body")
        case Who.HEALTH_PROFESSIONAL:
            # The commissioning body says who advises on health care, so it is told.
            for code in around.commissioning_bodies:
                yield organisation(code, RecipientKind.COMMISSIONING_BODY, "identifies the health professional")
        case Who.SOCIAL_CARE_OFFICER:
            code = OrganisationCode(scheme=CodeScheme.LA, value=facts.la_code)
            yield organisation(code, RecipientKind.SOCIAL_CARE, "social care officer of the council")
        case Who.CUSTODIAL_ESTABLISHMENT:
            if around.detained_at:
                yield organisation(around.detained_at, RecipientKind.CUSTODIAL_ESTABLISHMENT, "the child is detained there")
        case Who.YOUTH_OFFENDING_TEAM:
            code = OrganisationCode(scheme=CodeScheme.LA, value=around.resident_in or facts.la_code)
            yield organisation(code, RecipientKind.YOUTH_OFFENDING_SERVICE, "the child is detained")
        case Who.EDUCATION_OFFICER | Who.NEW_COUNCIL:
            return
        case _:
            assert_never(role)


def person(plan_id: UUID, member: FamilyMember) -> Known:
    kind = RecipientKind.PARENT if member.role is FamilyRole.PARENT else RecipientKind.YOUNG_PERSON
    recipient_id = person_id(plan_id, member.reference)
    return Known(
        recipient_id, kind, CodeScheme.RECIPIENT, str(recipient_id),
        f"{kind.value.replace('_', ' ')} {member.reference}", FAMILY_SUBSCRIBER, Channel.MANUAL,
    )  # fmt: skip


def family_with_rights(around: Circumstances, born: date, on: date) -> list[FamilyMember]:
    """Who of the family is owed the plan: the parents, and from the end of compulsory school age the young person instead.

    A parent who acts for a young person without capacity stays; where no young person is recorded, the parents do.
    """
    young = [member for member in around.family if member.role is FamilyRole.YOUNG_PERSON]
    parents = [member for member in around.family if member.role is FamilyRole.PARENT]
    if not young or not parents:
        return list(around.family)
    if on < rights_pass_on(born):
        return parents
    return [*young, *(member for member in parents if member.acts_for_young_person)]


def _by_policy(facts: Facts, directory: Directory, on: date) -> Iterator[Wanted]:
    sharing = directory.policies.get(facts.la_code)
    letters = frozenset(facts.letters) or None
    for each in policy.evaluate(sharing, facts.circumstances, facts.born, letters, directory, on) if sharing else ():
        ground = Ground(Grounds.POLICY, each.reference, each.reason, facts.issued_on, each.until)
        yield Wanted(each.recipient, (ground,), sections=each.sections, named=each.named)


def _by_decision(facts: Facts, directory: Directory, on: date) -> Iterator[Wanted]:
    family = {person_id(facts.plan_id, member.reference): member for member in facts.circumstances.family}
    for decision in facts.decisions:
        if not decision.share or (decision.until is not None and decision.until < on):
            continue
        ground = Ground(Grounds.DECISION, decision.lawful_basis, decision.reason, facts.issued_on, decision.until)
        if decision.code:
            kinds = frozenset({decision.kind}) if decision.kind else frozenset(RecipientKind) - FAMILY
            known = directory.find(decision.code, kinds, on)
            recipient = known or _unknown(decision.kind or RecipientKind.SCHOOL, decision.code, directory)
            yield Wanted(recipient, (ground,), unknown=known is None)
        elif member := family.get(decision.recipient_id):
            yield Wanted(person(facts.plan_id, member), (ground,), member)


def _together(before: Wanted, more: Wanted) -> Wanted:
    """All grounds of one recipient; with a statutory one among them it gets the whole, else what any of them gives."""
    grounds = {each.reference: each for each in (*before.grounds, *more.grounds)}
    sections = None
    if before.sections is not None and more.sections is not None:
        either = {*before.sections, *more.sections}
        sections = tuple(letter for letter in SectionLetter if letter in either)
    named = before.named or more.named
    return Wanted(before.recipient, tuple(grounds.values()), before.member or more.member, before.unknown, sections, named)


def _unusual(facts: Facts, wanted: Wanted, directory: Directory) -> Unusual | None:
    """Why nothing goes there before a second person has confirmed it: it is often a mistyped code. None when it is usual, or
    confirmed.

    An organisation outside the council's area is asked about for each plan. One that is not known to serve the area, and that
    neither the law nor the policy names, is asked about when the council shares with it for the first time, and then no more.
    Of the family, who was taken out of it or has another name by now is asked about.
    """
    recipient, said = wanted.recipient, facts.confirmed.get(wanted.recipient.recipient_id)
    if wanted.member:
        why = families.doubted(facts.doubts, recipient.recipient_id)
        return Unusual(recipient, why) if why and not said else None
    if said or facts.la_code in recipient.areas:
        return None
    if recipient.areas:
        return Unusual(recipient, f"it serves other areas than {facts.la_code}: {', '.join(recipient.areas)}")
    owed = any(ground.grounds is Grounds.STATUTORY for ground in wanted.grounds)
    familiar = recipient.recipient_id in directory.familiar.get(facts.la_code, ()) and said is None
    if owed or wanted.named or wanted.unknown or familiar:
        return None
    return Unusual(recipient, f"council {facts.la_code} has not shared with it before, and no law names it", once=True)


def _gaps(facts: Facts, directory: Directory, on: date, sharing: Set[UUID], indivisible: Set[UUID]) -> Iterator[Gap]:
    around, seen = facts.circumstances, set()
    nameless: Counter[str] = Counter()
    for involved in around.involved:
        gap = _gap(involved, directory, on, sharing, indivisible)
        if involved.organisation is None:
            # By number: a name or a rare profession would say who it is.
            role = involved.role.replace("_", " ")
            nameless[role] += 1
            gap = Gap(f"{role} {nameless[role]}", "no organisation is recorded")
        if gap and gap.who not in seen:
            seen.add(gap.who)
            yield gap
    for la_code in {around.looked_after_by, around.resident_in if around.looked_after_by else None} - {None}:
        code = OrganisationCode(scheme=CodeScheme.LA, value=la_code or "")
        school = directory.find(code, frozenset({RecipientKind.VIRTUAL_SCHOOL}), on)
        if school is None or school.recipient_id not in sharing:
            reason = "it is not in the directory" if school is None else "no rule of the sharing policy covers it"
            yield Gap(f"virtual school of {la_code}", reason)


def _gap(involved: Involved, directory: Directory, on: date, sharing: Set[UUID], indivisible: Set[UUID]) -> Gap | None:
    role = involved.role.replace("_", " ")
    if involved.organisation is None:
        return None
    code, known = involved.organisation, None
    if involved.kind is not None:  # social care, virtual school and youth offending service of a council bear one code
        known = directory.find(code, frozenset({involved.kind}), on)
    known = known or directory.find(code, frozenset(RecipientKind) - FAMILY, on)
    if known is not None and known.recipient_id in sharing:
        return None
    if known is None:
        return Gap(f"{role}: {code}", "it is not in the directory")
    who = f"{role}: {known.kind} {code}"
    if known.recipient_id in indivisible:
        return Gap(who, "it may get some sections only, and this version is one document")
    return Gap(who, "no rule of the sharing policy covers it")


def _next_on(facts: Facts, directory: Directory, on: date) -> date | None:
    days = [placement.until + timedelta(days=1) for placement in facts.circumstances.placements if placement.until]
    days += [decision.until + timedelta(days=1) for decision in facts.decisions if decision.until]
    sharing = directory.policies.get(facts.la_code)
    named = [rule.share_with.organisation for rule in sharing.rules if rule.share_with.organisation] if sharing else []
    for scheme, _, value in (party.partition(":") for party in (*_parties(facts), *map(str, named))):
        for code in (code for listed in directory.with_code(CodeScheme(scheme), value) for code in listed.codes):
            days += [code.from_, *([code.until + timedelta(days=1)] if code.until else [])]
    if len({member.role for member in facts.circumstances.family}) > 1:
        days.append(rights_pass_on(facts.born))
    if sharing:
        changes = policy.next_change(sharing, facts.born, on)
        days += [changes] if changes else []
    return min((day for day in days if day > on), default=None)


def _parties(facts: Facts) -> tuple[str, ...]:
    around = facts.circumstances
    codes = [placement.setting for placement in around.placements]
    codes += [*around.commissioning_bodies, *(involved.organisation for involved in around.involved), around.detained_at]
    codes += [decision.code for decision in facts.decisions]
    councils = {around.looked_after_by, around.resident_in, facts.la_code if around.detained_at else None} - {None}
    return tuple(sorted({str(code) for code in codes if code} | {f"{CodeScheme.LA}:{la_code}" for la_code in councils}))


@lru_cache(64)
def due_at(channel: Channel, requested_at: datetime) -> datetime:
    """When a share is missed: one day for systems, five working days for people (local policy, no law says otherwise)."""
    if channel in SYSTEM_CHANNELS:
        return requested_at + SYSTEM_DUE
    due, left = requested_at.astimezone(UTC), PEOPLE_DUE_WORKING_DAYS
    while left:
        due += timedelta(days=1)
        left -= is_working_day(london_date(due))
    return due
