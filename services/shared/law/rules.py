"""The law as rows: statutory clocks and who must get what, each with its reference and the days between which it is in force.

``rules.yaml`` is the only place where a limit or a duty to send is stated. Whoever needs one asks here by its id and a date and
gets what the law is (or was) on that date. So a change of law is new rows, with the old ones given an end, and a plan of last
year is still judged by last year's law. The file is read once; a row that contradicts itself or another is refused.
"""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import cache, lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import Annotated, Protocol, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from services.shared.law.counting import Unit, before, last_day

Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Text = Annotated[str, StringConstraints(min_length=1)]


class Status(StrEnum):
    DUTY = "duty"
    GUIDANCE = "guidance"


class Who(StrEnum):
    """Roles that the law gives rights to. A closed list: for a new one, code must say who fills it."""

    PARENT_OR_YOUNG_PERSON = "parent_or_young_person"
    NAMED_SETTING = "named_setting"
    """Governing body, proprietor or principal of a school or other institution named in the plan."""
    NAMED_EARLY_YEARS = "named_early_years"
    ATTENDED_SETTING = "attended_setting"
    """Head teacher, principal or early years provider where the child goes, named in the plan or not."""
    COMMISSIONING_BODY = "commissioning_body"
    NEW_COMMISSIONING_BODY = "new_commissioning_body"
    NEW_COUNCIL = "new_council"
    EDUCATION_OFFICER = "education_officer"
    HEALTH_PROFESSIONAL = "health_professional"
    """Identified by the commissioning body to advise on health care provision."""
    SOCIAL_CARE_OFFICER = "social_care_officer"
    CUSTODIAL_ESTABLISHMENT = "custodial_establishment"
    YOUTH_OFFENDING_TEAM = "youth_offending_team"
    DETAINED_HEALTH_COMMISSIONER = "detained_health_commissioner"


class Row(BaseModel):
    """``from_`` and ``until`` are the first and the last day in force."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    from_: Annotated[date, Field(alias="from")]
    until: date | None = None
    reference: Text
    status: Status = Status.DUTY
    verified: bool = True
    """False where no source at hand confirmed the text: shown as such, never treated as weaker."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.until is not None and self.until < self.from_:
            raise ValueError("a rule ends (until) before it begins (from)")
        return self

    def holds(self, on: date) -> bool:
        return self.from_ <= on and (self.until is None or on <= self.until)


class YearDay(BaseModel):
    """A day that every year has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    month: int
    day: int

    @model_validator(mode="after")
    def _every_year(self) -> Self:
        self.of(2023)
        return self

    def of(self, year: int) -> date:
        return date(year, self.month, self.day)


class Counting(StrEnum):
    AFTER = "after"
    """The day of the trigger is left out."""
    DAY_ONE = "day_one"
    """"Beginning with" the day of the trigger: it is the first day of the period."""
    BEFORE = "before"
    """At least this long before the trigger."""


class Clock(Row):
    """What must happen by when. Either ``limit`` in ``unit``, ``before_day`` of the trigger's calendar year, or ``hours``."""

    id: Word
    must: Text
    trigger: Word
    limit: Annotated[int | None, Field(ge=0)] = None
    unit: Unit | None = None
    counting: Counting = Counting.AFTER
    before_day: YearDay | None = None
    hours: Annotated[int | None, Field(ge=1)] = None
    """From the very moment of the trigger; nights and weekends count."""
    exceptions: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _countable(self) -> Self:
        if [self.before_day, self.limit, self.hours].count(None) != 2 or (self.limit is None) != (self.unit is None):
            raise ValueError("a clock has either limit and unit, or before_day, or hours")
        if self.counting is Counting.DAY_ONE and self.limit == 0:
            raise ValueError("a period of no days has no first day")
        return self

    def due(self, trigger: date) -> date:
        """The last day in time. ``trigger`` is the day (Europe/London) of what starts the clock or, where it counts backwards,
        of what must not come too soon: a meeting, a transfer."""
        if self.before_day is not None:
            # "before 15 February" read strictly; who is done on the 14th is in time on every reading.
            return self.before_day.of(trigger.year) - timedelta(days=1)
        if self.limit is None or self.unit is None:
            raise ValueError(f"the clock {self.id} counts hours: ends() says when it ends")
        if self.counting is Counting.BEFORE:
            return before(trigger, self.limit, self.unit)
        return last_day(trigger, self.limit, self.unit, day_one=self.counting is Counting.DAY_ONE)

    def ends(self, trigger: datetime) -> datetime:
        """The moment at which a clock of hours has run out."""
        if self.hours is None:
            raise ValueError(f"the clock {self.id} counts days: due() says the last one")
        return trigger + timedelta(hours=self.hours)


class RecipientRule(Row):
    """Whoever fills ``role`` must get what ``event`` is about."""

    event: Word
    role: Who


class Rules(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    clocks: tuple[Clock, ...]
    recipients: tuple[RecipientRule, ...]

    @model_validator(mode="after")
    def _one_at_a_time(self) -> Self:
        _refuse_overlaps("clock", ((each.id, each) for each in self.clocks))
        _refuse_overlaps("recipient rule", ((f"{each.event}, {each.role}", each) for each in self.recipients))
        return self


class UnknownRuleError(LookupError):
    """No such clock or event in the law of that day; for an event nobody knows, an empty answer would send to nobody."""


class _Dated(Protocol):
    def holds(self, on: date) -> bool: ...


Held = TypeVar("Held", bound=_Dated)


def in_force(rules: Iterable[Held], on: date) -> tuple[Held, ...]:
    return tuple(rule for rule in rules if rule.holds(on))


def parse(text: str) -> Rules:
    return Rules.model_validate(yaml.safe_load(text))


@cache
def all_rules() -> Rules:
    return parse(files("services.shared.law").joinpath("rules.yaml").read_text("utf-8"))


def clocks(on: date) -> tuple[Clock, ...]:
    return in_force(all_rules().clocks, on)


PLANS_SINCE = date(2014, 9, 1)
"""Before, there were no EHC plans (Children and Families Act 2014, Part 3)."""


@lru_cache(maxsize=4096)
def clock(id_: str, on: date) -> Clock:
    """``on`` is the day of the trigger: what has begun is counted by the law of the day on which it began."""
    for each in all_rules().clocks:
        if each.id == id_ and each.holds(on):
            return each
    raise UnknownRuleError(f"no clock {id_} is in force on {on}")


@lru_cache(maxsize=4096)
def recipients_for(event: str, on: date) -> tuple[RecipientRule, ...]:
    """Who must get it, in the order of the law's list. Empty where the law of that day names nobody."""
    rules = tuple(rule for rule in all_rules().recipients if rule.event == event)
    if not rules:
        raise UnknownRuleError(f"no rule says who gets {event}")
    return in_force(rules, on)


def _refuse_overlaps(what: str, keyed: Iterable[tuple[str, Row]]) -> None:
    rows = sorted(keyed, key=lambda pair: (pair[0], pair[1].from_))
    for (key, earlier), (next_key, later) in pairwise(rows):
        if key == next_key and earlier.holds(later.from_):
            raise ValueError(f"two rows of {what} {key} are in force on {later.from_}; give the earlier one an until")
