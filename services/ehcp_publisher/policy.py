"""What a council's sharing policy says for one plan: whom it shares with beyond the law, and for every rule why or why not.

Pure. The rules themselves, and what is refused in them: ``schemas/policy.py``. Statutory recipients do not come from here, and
whoever is one gets the whole plan whatever a rule gives. Two rules that give one recipient different sections give both. A part
of a plan is shared only where it can be told apart: of a version that is a document alone, nobody gets "some sections".
Next: ``shares.py`` joins this with what the law says.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from uuid import UUID

from schemas.base import RecipientKind
from schemas.identifiers import CodeScheme, OrganisationCode
from schemas.plan import Circumstances, Involved, SectionLetter
from schemas.policy import (
    OLDEST,
    PEOPLE,
    LookedAfter,
    Phase,
    PolicyRule,
    Residence,
    SharingPolicy,
    Someone,
    WhoseCouncil,
)
from services.ehcp_publisher.registry import Directory, Known
from services.shared.law.ages import academic_year

ORGANISATIONS = frozenset(RecipientKind) - PEOPLE
_YEARS_UNTIL = ((5, Phase.EARLY_YEARS), (12, Phase.PRIMARY), (17, Phase.SECONDARY))
"""Academic years since that of birth before which a child is in the phase: reception is the 5th, year 7 the 12th, year 12 the
17th (as in ``services.shared.law.ages``)."""


@dataclass(frozen=True, slots=True)
class PolicyShare:
    """One rule's share with one recipient. ``sections`` is what the recipient gets by all rules together; None is the whole."""

    recipient: Known
    rule: str
    sections: tuple[SectionLetter, ...] | None
    lawful_basis: str
    reason: str
    approval: str
    from_: date | None
    until: date | None
    """First and last day on which rule and approval are both in force; the plan's own circumstances may end it earlier."""
    named: bool
    """The rule says which organisation it is; otherwise the plan does."""

    @property
    def reference(self) -> str:
        """For the ground of the share and the ledger."""
        return f"{self.lawful_basis} · {self.approval} · {self.rule}"


@dataclass(frozen=True, slots=True)
class Explained:
    """One recipient of a rule: the directory's, or the code that leads to nobody."""

    code: str
    name: str | None
    kind: RecipientKind | None
    shared: bool
    why: str


@dataclass(frozen=True, slots=True)
class RuleExplained:
    rule: str
    exclude: bool
    applies: bool
    why_not: tuple[str, ...]
    """Everything that keeps the rule from applying; empty when it applies."""
    sections: tuple[SectionLetter, ...] | None
    lawful_basis: str | None
    reason: str
    recipients: tuple[Explained, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What rules are judged by."""

    la_code: str
    circumstances: Circumstances
    born: date | None
    letters: frozenset[SectionLetter] | None
    directory: Directory
    on: date

    @property
    def years(self) -> int | None:
        return None if self.born is None else age_on(self.born, self.on)

    def council(self, which: WhoseCouncil) -> str | None:
        match which:
            case WhoseCouncil.LOOKED_AFTER_BY:
                return self.circumstances.looked_after_by
            case WhoseCouncil.RESIDENT_IN:
                return self.circumstances.resident_in or self.la_code
            case WhoseCouncil.PLAN:
                return self.la_code


def evaluate(
    policy: SharingPolicy,
    circumstances: Circumstances,
    born: date | None,
    letters: frozenset[SectionLetter] | None,
    directory: Directory,
    on: date,
) -> tuple[PolicyShare, ...]:
    """Every share that the policy gives on that day, in the order of its rules.

    ``letters`` are the sections with content, None for a version that is a document alone. ``born`` is None where nobody
    knows: then no condition on age or phase is true.
    """
    if policy.off(on) is not None or policy.approval is None:
        return ()
    plan = _Plan(policy.la_code, circumstances, born, letters, directory, on)
    excluded = _excluded(policy, plan)
    shares = []
    for rule in policy.rules:
        if not rule.exclude and next(_why_not(rule, plan), None) is None:
            for known in _recipients(rule, plan):
                if known.recipient_id not in excluded:
                    shares.append(_share(policy, rule, known))  # noqa: PERF401 - a comprehension of this is hard to read
    together: dict[UUID, frozenset[SectionLetter] | None] = {}
    for share in shares:
        before, more = together.get(share.recipient.recipient_id, frozenset()), share.sections
        whole = before is None or more is None
        together[share.recipient.recipient_id] = None if whole else frozenset((*before, *more))  # type: ignore[misc]
    return tuple(replace(share, sections=_in_order(together[share.recipient.recipient_id])) for share in shares)


def explain(
    policy: SharingPolicy,
    circumstances: Circumstances,
    born: date | None,
    letters: frozenset[SectionLetter] | None,
    directory: Directory,
    on: date,
) -> tuple[RuleExplained, ...]:
    """Every rule, whether it applies and why not, and what it means for each recipient it names; by the same judgement as
    :func:`evaluate`, which never says more or less."""
    plan = _Plan(policy.la_code, circumstances, born, letters, directory, on)
    excluded = _excluded(policy, plan)
    off = policy.off(on)
    explained = []
    for rule in policy.rules:
        why_not = tuple(_why_not(rule, plan))
        if off and not rule.exclude:
            why_not = (off, *why_not)
        recipients = []
        for code, kinds, known in _named(rule, plan):
            shared, why = False, "the rule does not apply"
            if known is None:
                why = directory.why_unknown(code, kinds, on)
            elif not why_not and rule.exclude:
                why = "excluded by this rule; what the law gives stays"
            elif not why_not and (by := excluded.get(known.recipient_id)):
                why = f"excluded by rule {by}"
            elif not why_not:
                shared, why = True, "shared" if known.subscriber else "shared, but nobody delivers to it: it has no subscriber"
            recipients.append(Explained(str(code), known.name if known else None, known.kind if known else None, shared, why))
        explained.append(
            RuleExplained(
                rule.rule, rule.exclude, not why_not, why_not, rule.sections, rule.lawful_basis, rule.reason,
                tuple(dict.fromkeys(recipients)),
            )
        )  # fmt: skip
    return tuple(explained)


def unknown_organisations(policy: SharingPolicy, directory: Directory, on: date) -> Iterator[tuple[int, PolicyRule, str]]:
    """Rules that name an organisation which the directory does not know under this kind on the first day that still matters:
    the rule's place, the rule, and what is wrong."""
    for place, rule in enumerate(policy.rules):
        if (named := rule.share_with.organisation) and (rule.until is None or rule.until >= on):
            day = max(on, rule.from_ or on)
            if directory.find(named, frozenset({named.kind}), day) is None:
                yield place, rule, directory.why_unknown(named, frozenset({named.kind}), day)


def next_change(policy: SharingPolicy, born: date | None, on: date) -> date | None:
    """The next day on which the policy may say something else by the date alone: a rule or the approval begins or has ended, a
    birthday, a change of phase."""
    days: list[date] = []
    for dated in (*policy.rules, *((policy.approval,) if policy.approval else ())):
        days += [day for day in (dated.from_, _day_after(dated.until)) if day]
    if born is not None:
        limits = {limit for rule in policy.rules if (age := rule.when.age) for limit in (age.from_, age.until + 1)}
        days += [_birthday(born, years) for years in limits if 0 < years <= OLDEST]
        if any(rule.when.phase for rule in policy.rules):
            days += [date(academic_year(born) + years, 9, 1) for years, _ in _YEARS_UNTIL]
    return min((day for day in days if day > on), default=None)


def age_on(born: date, on: date) -> int:
    return on.year - born.year - ((on.month, on.day) < (born.month, born.day))


def phase_on(born: date, on: date) -> Phase:
    years = academic_year(on) - academic_year(born)
    return next((phase for until, phase in _YEARS_UNTIL if years < until), Phase.POST_16)


def _why_not(rule: PolicyRule, plan: _Plan) -> Iterator[str]:
    """Everything about the rule's dates and conditions that is not fulfilled. Lazy: deciding asks for the first only."""
    when, around = rule.when, plan.circumstances
    if rule.from_ and plan.on < rule.from_:
        yield f"it is in force only from {rule.from_}"
    if rule.until and rule.until < plan.on:
        yield f"it ended on {rule.until}"
    if when.involved and not any(_fits(when.involved, each, plan) for each in around.involved):
        yield "nobody of this kind, role and section is involved"
    if when.has_content:
        if plan.letters is None:
            yield "the version is a document without separate sections"
        elif not plan.letters.intersection(when.has_content):
            yield f"the plan has nothing in {_list(when.has_content)}"
    if when.age:
        if plan.years is None:
            yield "the child's age is not known"
        elif not when.age.from_ <= plan.years <= when.age.until:
            yield f"the child is not {when.age.from_} to {when.age.until} years old"
    if when.phase:
        if plan.born is None:
            yield "the child's phase of education is not known"
        elif phase_on(plan.born, plan.on) not in when.phase:
            yield f"the child is not in {' or '.join(when.phase)}"
    if when.looked_after and not _looked_after(when.looked_after, plan):
        yield _NOT_LOOKED_AFTER[when.looked_after]
    if when.resident and (plan.council(WhoseCouncil.RESIDENT_IN) == plan.la_code) is not (when.resident is Residence.HERE):
        yield f"the child {'does not live' if when.resident is Residence.HERE else 'lives'} in this council's area"
    if when.detained is not None and (around.detained_at is not None) is not when.detained:
        yield "the child is not detained" if when.detained else "the child is detained"
    if rule.sections:
        if plan.letters is None:
            yield "it gives some sections only, and the version is a document without separate sections"
        elif not plan.letters.intersection(rule.sections):
            yield f"it gives only {_list(rule.sections)}, in which the plan has nothing"


_NOT_LOOKED_AFTER = {
    LookedAfter.BY_THIS_COUNCIL: "this council does not look after the child",
    LookedAfter.BY_ANOTHER_COUNCIL: "no other council looks after the child",
    LookedAfter.BY_ANY_COUNCIL: "no council looks after the child",
    LookedAfter.BY_NONE: "a council looks after the child",
}


def _looked_after(wanted: LookedAfter, plan: _Plan) -> bool:
    by = plan.circumstances.looked_after_by
    match wanted:
        case LookedAfter.BY_THIS_COUNCIL:
            return by == plan.la_code
        case LookedAfter.BY_ANOTHER_COUNCIL:
            return by is not None and by != plan.la_code
        case LookedAfter.BY_ANY_COUNCIL:
            return by is not None
        case LookedAfter.BY_NONE:
            return by is None


def _fits(someone: Someone, involved: Involved, plan: _Plan) -> bool:
    """Whether this is the someone whom a condition asks for, with or without a code that is in the directory."""
    if not _in_role(someone, involved):
        return False
    if involved.kind is not None:
        return involved.kind in someone.kinds
    return involved.organisation is not None and _found(involved, someone, plan) is not None


def _in_role(someone: Someone, involved: Involved) -> bool:
    return (someone.roles is None or involved.role in someone.roles) and (
        someone.sections is None or not set(someone.sections).isdisjoint(involved.sections)
    )


def _found(involved: Involved, someone: Someone, plan: _Plan) -> Known | None:
    """The organisation of someone involved: of the kind that the version says, where it says one."""
    assert involved.organisation is not None
    kinds = frozenset(someone.kinds)
    if involved.kind in kinds:
        kinds = frozenset({involved.kind})
    elif involved.kind is not None and plan.directory.find(involved.organisation, frozenset({involved.kind}), plan.on):
        # The trust and its CAMHS bear one code; what the version says of the one is not said of the other.
        return None
    return plan.directory.find(involved.organisation, kinds, plan.on)


def _recipients(rule: PolicyRule, plan: _Plan) -> list[Known]:
    """Each once."""
    return list({known.recipient_id: known for _, _, known in _named(rule, plan) if known}.values())


def _named(rule: PolicyRule, plan: _Plan) -> Iterator[tuple[OrganisationCode, frozenset[RecipientKind], Known | None]]:
    """Whom the rule leads to: the code, the kinds that are meant, and None where the directory knows nobody of that day."""
    to = rule.share_with
    if to.organisation:
        kinds = frozenset({to.organisation.kind})
        yield to.organisation, kinds, plan.directory.find(to.organisation, kinds, plan.on)
    elif to.of_council:
        la_code, kinds = plan.council(to.of_council.council), frozenset({to.of_council.kind})
        if la_code is not None:
            code = OrganisationCode(scheme=CodeScheme.LA, value=la_code)
            yield code, kinds, plan.directory.find(code, kinds, plan.on)
    elif to.involved:
        kinds = frozenset(to.involved.kinds)
        for involved in plan.circumstances.involved:
            if involved.organisation and _in_role(to.involved, involved):
                known = _found(involved, to.involved, plan)
                if known is not None or involved.kind in kinds:
                    yield involved.organisation, kinds, known


def _excluded(policy: SharingPolicy, plan: _Plan) -> dict[UUID, str]:
    """Recipients that a rule excludes, with the first such rule."""
    found: dict[UUID, str] = {}
    for rule in policy.rules:
        if rule.exclude and next(_why_not(rule, plan), None) is None:
            for known in _recipients(rule, plan):
                found.setdefault(known.recipient_id, rule.rule)
    return found


def _share(policy: SharingPolicy, rule: PolicyRule, known: Known) -> PolicyShare:
    approval = policy.approval
    assert approval is not None
    assert rule.lawful_basis is not None
    ends = [day for day in (rule.until, approval.until) if day]
    return PolicyShare(
        known, rule.rule, rule.sections, rule.lawful_basis, rule.reason, str(approval),
        max(rule.from_ or approval.from_, approval.from_), min(ends, default=None), rule.share_with.involved is None,
    )  # fmt: skip


def _in_order(sections: frozenset[SectionLetter] | None) -> tuple[SectionLetter, ...] | None:
    return None if sections is None else tuple(letter for letter in SectionLetter if letter in sections)


def _list(sections: tuple[SectionLetter, ...]) -> str:
    return f"section {' or '.join(sections)}"


def _day_after(day: date | None) -> date | None:
    return None if day is None else date.fromordinal(day.toordinal() + 1)


def _birthday(born: date, years: int) -> date:
    """The day on which :func:`age_on` gives this age first: for 29 February that is 1 March in other years."""
    try:
        return born.replace(year=born.year + years)
    except ValueError:
        return date(born.year + years, 3, 1)
