"""A council's sharing policy: whom it shares plans with although no law says that it must, and under which approval.

One file for each council (``docs/sharing-policy.md``). It is judged whole when it is read: a rule that can never apply, or that
another one contradicts, is refused with one sentence, since nobody would notice it afterwards. Whether the organisations that
it names exist is for the directory to say; what follows from a policy for one plan: ``services/ehcp_publisher/policy.py``.
"""

from collections.abc import Hashable, Iterator, Mapping
from datetime import date
from enum import StrEnum
from itertools import combinations
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from schemas.base import Closed, ContractError, RecipientKind
from schemas.identifiers import CodeScheme, LaCode, OrganisationCode
from schemas.plan import IsoDate, Role, SectionLetter

RuleName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
PEOPLE = frozenset({RecipientKind.PARENT, RecipientKind.YOUNG_PERSON})
OLDEST = 26
"""A plan may last to the end of the academic year of the 25th birthday (CFA 2014 s.46), so nobody with one is 27."""


def _some(value: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    if value == ():
        raise ContractError("the list is empty, so the rule could never apply", "send one or more, or leave it out for any")
    return value


Some = AfterValidator(_some)


class Dated(Closed):
    """In force from the first to the last of these days."""

    from_: Annotated[IsoDate | None, Field(alias="from")] = None
    until: IsoDate | None = None

    def holds(self, on: date) -> bool:
        return (self.from_ or date.min) <= on <= (self.until or date.max)

    def overlaps(self, other: "Dated") -> bool:
        return (self.from_ or date.min) <= (other.until or date.max) and (other.from_ or date.min) <= (self.until or date.max)

    def within(self, other: "Dated") -> bool:
        return (other.from_ or date.min) <= (self.from_ or date.min) and (self.until or date.max) <= (other.until or date.max)


class Approval(Dated):
    """What allows the council to share beyond the law. Until both are named and in force, every rule that shares is off."""

    data_sharing_agreement: Text | None = None
    dpia: Text | None = None
    """Reference of the data protection impact assessment."""
    from_: Annotated[IsoDate, Field(alias="from")]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.until is not None and self.until < self.from_:
            raise ContractError("the approval ends (until) before it begins (from)", "send until on or after from")
        return self

    def missing(self, on: date) -> str | None:
        """Why nothing may be shared under it on that day, or None."""
        if self.data_sharing_agreement is None:
            return "the approval names no data sharing agreement"
        if self.dpia is None:
            return "the approval names no data protection impact assessment (dpia)"
        if on < self.from_:
            return f"the approval is in force only from {self.from_}"
        if self.until is not None and self.until < on:
            return f"the approval ended on {self.until}"
        return None

    def __str__(self) -> str:
        return "; ".join(name for name in (self.data_sharing_agreement, self.dpia) if name)


class Someone(Closed):
    """Someone involved in the plan, by what the version says of them. Every field left out is any."""

    kinds: Annotated[tuple[RecipientKind, ...], Some]
    roles: Annotated[tuple[Role, ...] | None, Some] = None
    sections: Annotated[tuple[SectionLetter, ...] | None, Some] = None
    """Involved in one of these sections: gave advice for it, or gives its provision."""

    @model_validator(mode="after")
    def _organisations(self) -> Self:
        if PEOPLE & set(self.kinds):
            raise ContractError("parent and young_person are no organisations", "leave them out: the law says what they get")
        return self

    def covers(self, other: "Someone") -> bool:
        return _all_of(other.kinds, self.kinds) and _all_of(other.roles, self.roles) and _all_of(other.sections, self.sections)


class NamedOrganisation(OrganisationCode):
    """One organisation, by its code and its kind: two kinds may bear the same code."""

    kind: RecipientKind

    @model_validator(mode="after")
    def _no_person(self) -> Self:
        if self.kind in PEOPLE or self.scheme is CodeScheme.RECIPIENT:
            raise ContractError(
                "a person cannot be named in a policy", "name an organisation by its URN, UKPRN, ODS or LA code"
            )
        return self


class WhoseCouncil(StrEnum):
    PLAN = "plan"
    """The council whose plan it is."""
    LOOKED_AFTER_BY = "looked_after_by"
    RESIDENT_IN = "resident_in"
    """Where the child lives: the plan's own council unless the plan says another."""


class OfCouncil(Closed):
    """The service of one kind that belongs to a council, such as its virtual school: found by kind and LA code."""

    kind: RecipientKind
    council: WhoseCouncil

    @model_validator(mode="after")
    def _organisations(self) -> Self:
        if self.kind in PEOPLE:
            raise ContractError("parent and young_person are no services of a council", "name a kind of organisation")
        return self


class ShareWith(Closed):
    """To whom: exactly one of the three."""

    involved: Someone | None = None
    """Every organisation that the plan lists as involved and that fits."""
    organisation: NamedOrganisation | None = None
    of_council: OfCouncil | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(each is not None for each in (self.involved, self.organisation, self.of_council)) != 1:
            raise ContractError("share_with does not name exactly one thing", "send one of involved, organisation, of_council")
        return self

    def covers(self, other: "ShareWith") -> bool:
        if self.involved and other.involved:
            return self.involved.covers(other.involved)
        return self == other


class LookedAfter(StrEnum):
    BY_THIS_COUNCIL = "by_this_council"
    BY_ANOTHER_COUNCIL = "by_another_council"
    BY_ANY_COUNCIL = "by_any_council"
    BY_NONE = "by_none"


class Residence(StrEnum):
    HERE = "here"
    ELSEWHERE = "elsewhere"


class Phase(StrEnum):
    """Of education, by the date of birth alone: year groups that a child was moved out of are not known here."""

    EARLY_YEARS = "early_years"
    PRIMARY = "primary"
    SECONDARY = "secondary"
    POST_16 = "post_16"


AGES = {Phase.EARLY_YEARS: (0, 4), Phase.PRIMARY: (4, 11), Phase.SECONDARY: (11, 16), Phase.POST_16: (16, OLDEST)}
"""The youngest and the oldest that a child of a phase can be, in whole years."""


class Ages(Closed):
    """In whole years on the day; both ends belong to it."""

    from_: Annotated[int, Field(ge=0, alias="from")] = 0
    until: int = OLDEST

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.from_ > OLDEST:
            raise ContractError(
                f"nobody older than {OLDEST} has a plan, so the rule could never apply", f"send from at most {OLDEST}"
            )
        if self.until < self.from_:
            raise ContractError("the age range is empty, so the rule could never apply", "send until at least as great as from")
        return self

    def covers(self, other: "Ages") -> bool:
        return self.from_ <= other.from_ and other.until <= self.until


class When(Closed):
    """Conditions on the plan. All that are given must be true; none given is always."""

    involved: Someone | None = None
    has_content: Annotated[tuple[SectionLetter, ...] | None, Some] = None
    """One of these sections has content."""
    age: Ages | None = None
    phase: Annotated[tuple[Phase, ...] | None, Some] = None
    looked_after: LookedAfter | None = None
    resident: Residence | None = None
    detained: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _known_here(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and {"sen_type", "sen_types"} & value.keys():
            raise ContractError(
                "the exchange does not know a child's type of SEN, so no condition can be put on it",
                "remove sen_type; name who is involved instead",
            )
        return value

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.age and self.phase:
            fits = any(AGES[phase][0] <= self.age.until and self.age.from_ <= AGES[phase][1] for phase in self.phase)
            if not fits:
                raise ContractError(
                    "no child of this phase is of this age, so the rule could never apply", "correct age, or phase"
                )
        return self

    def covers(self, other: "When") -> bool:
        """Whether this one is true wherever the other is."""
        return (
            (self.involved is None or (other.involved is not None and self.involved.covers(other.involved)))
            and _all_of(other.has_content, self.has_content)
            and (self.age is None or (other.age is not None and self.age.covers(other.age)))
            and _all_of(other.phase, self.phase)
            and self.looked_after in (None, other.looked_after, _WIDER.get(other.looked_after))
            and self.resident in (None, other.resident)
            and self.detained in (None, other.detained)
        )  # fmt: skip


_WIDER: Mapping[LookedAfter | None, LookedAfter] = {
    LookedAfter.BY_THIS_COUNCIL: LookedAfter.BY_ANY_COUNCIL,
    LookedAfter.BY_ANOTHER_COUNCIL: LookedAfter.BY_ANY_COUNCIL,
}


class PolicyRule(Dated):
    """Share with somebody, or (``exclude``) never share with them by policy. An exclusion needs no approval."""

    rule: RuleName
    when: When = When()
    share_with: ShareWith
    exclude: bool = False
    sections: Annotated[tuple[SectionLetter, ...] | None, Some] = None
    """What the recipient gets; left out: the whole. Who must have the plan by law always gets the whole."""
    lawful_basis: Text | None = None
    reason: Text

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.until is not None and self.from_ is not None and self.until < self.from_:
            raise ContractError(
                f"rule {self.rule} ends (until) before it begins (from), so it could never apply", "send until on or after from"
            )
        if self.exclude and self.sections:
            raise ContractError(
                f"rule {self.rule} excludes, and names sections", "remove sections: an exclusion is of the whole"
            )
        if not self.exclude and self.lawful_basis is None:
            raise ContractError(f"rule {self.rule} names no lawful_basis", "send the lawful basis of this share")
        of, when = self.share_with.of_council, self.when
        if of and of.council is WhoseCouncil.LOOKED_AFTER_BY and when.looked_after is LookedAfter.BY_NONE:
            raise ContractError(
                f"rule {self.rule} could never apply: it is for children whom no council looks after, and names the council "
                "that looks after the child",
                "correct looked_after, or of_council",
            )
        return self


class Unread(StrEnum):
    """Files in which the guard against a wrong child can read nothing."""

    SCANS = "scans"
    """PDFs, or pages of one, that are pictures of paper."""
    PICTURES = "pictures"
    """PNG and JPEG."""


class UnreadFiles(Dated):
    """Such files leave unread; each plan that has one is flagged. Else each waits for a second person to look at it."""

    may_leave: Annotated[tuple[Unread, ...], Some]
    reason: Text


class SharingPolicy(Closed):
    la_code: LaCode
    approval: Approval | None = None
    rules: Annotated[tuple[PolicyRule, ...], Field(max_length=500)] = ()
    unread_files: UnreadFiles | None = None
    """Needs no approval: it is about looking, not about sharing."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [rule.rule for rule in self.rules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ContractError(f"two rules have the name {twice[0]}", "give each rule a name of its own")
        for rule in self.rules:
            if self.approval and not rule.exclude and not rule.overlaps(self.approval):
                raise ContractError(
                    f"rule {rule.rule} could never apply: it and the approval are never in force on the same day",
                    "correct the dates of the rule, or of the approval",
                )
        for one, other in combinations(self.rules, 2):
            if one.exclude is not other.exclude:
                share, exclude = (other, one) if one.exclude else (one, other)
                _not_contradicted(share, exclude)
            elif shadowed := next(_shadowed(one, other), None):
                first, second = shadowed
                raise ContractError(
                    f"rule {second.rule} adds nothing to rule {first.rule}: same conditions, same recipients",
                    "remove one of the two",
                )
        return self

    def off(self, on: date) -> str | None:
        """Why no rule of it shares anything on that day, or None."""
        return self.approval.missing(on) if self.approval else "the policy names no approval"


def _not_contradicted(share: PolicyRule, exclude: PolicyRule) -> None:
    """An exclusion narrower than the share is an exception to it; one as wide leaves nothing of it."""
    if exclude.when.covers(share.when) and exclude.share_with.covers(share.share_with) and exclude.overlaps(share):
        raise ContractError(
            f"rules {share.rule} and {exclude.rule} contradict each other: what one shares, the other excludes",
            "remove one of the two, or make the exclusion narrower than the share",
        )


def _shadowed(one: PolicyRule, other: PolicyRule) -> Iterator[tuple[PolicyRule, PolicyRule]]:
    """The rule that does it all, and the one that is lost behind it."""
    if one.when == other.when and one.share_with == other.share_with and one.lawful_basis == other.lawful_basis:
        for first, second in ((one, other), (other, one)):
            if second.within(first) and _all_of(second.sections, first.sections):
                yield first, second


def _all_of(narrow: tuple[Any, ...] | None, wide: tuple[Any, ...] | None) -> bool:
    """None is any."""
    return wide is None or (narrow is not None and set(narrow) <= set(wide))


class _OneOfEach(yaml.SafeLoader):
    """YAML in which a key that comes twice is an error: by default the later one wins, and half of a policy is lost."""


def _mapping(loader: _OneOfEach, node: yaml.MappingNode) -> dict[Hashable, Any]:
    made = loader.construct_mapping(node, deep=True)
    if len(made) < len(node.value):
        line = node.start_mark.line + 1
        raise yaml.constructor.ConstructorError(None, None, f"a key comes twice in the mapping at line {line}", node.start_mark)
    return made


_OneOfEach.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_policy(text: str | bytes) -> SharingPolicy:
    """From YAML, of which JSON is a part. Raises ``pydantic.ValidationError``, or ``ValueError`` when it is neither."""
    try:
        content = yaml.load(text, _OneOfEach)  # noqa: S506 - it is a safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise ValueError(f"it is neither YAML nor JSON{where}: {getattr(error, 'problem', None) or 'cannot be read'}") from None
    return SharingPolicy.model_validate(content)
