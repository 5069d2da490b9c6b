"""Counting of periods, on any day: relations that hold whatever the calendar does."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.shared.law import clocks, due
from services.shared.law.ages import academic_year, compulsory_school_age_ends, phase_transfers
from services.shared.law.counting import Unit, before, is_working_day, last_day

DAY = timedelta(days=1)
days = st.dates(date(2015, 9, 2), date(2060, 12, 31))
births = st.dates(date(1990, 1, 1), date(2050, 12, 31))
units = st.sampled_from(Unit)
limits = st.integers(1, 60)


@given(days, limits, units)
def test_counting_the_first_day_ends_at_most_one_day_earlier(start: date, limit: int, unit: Unit) -> None:
    with_it = last_day(start, limit, unit, day_one=True)
    without = last_day(start, limit, unit, day_one=False)
    assert start <= with_it <= without
    if unit is not Unit.WORKING_DAYS:
        assert without - with_it <= DAY


@given(days, limits, units, st.booleans())
def test_a_later_start_never_ends_earlier(start: date, limit: int, unit: Unit, day_one: bool) -> None:
    assert last_day(start, limit, unit, day_one=day_one) <= last_day(start + DAY, limit, unit, day_one=day_one)


@given(days, limits)
def test_a_period_of_working_days_holds_exactly_so_many(start: date, limit: int) -> None:
    last = last_day(start, limit, Unit.WORKING_DAYS, day_one=True)
    period = [start + i * DAY for i in range((last - start).days + 1)]
    assert sum(map(is_working_day, period)) == limit
    assert is_working_day(last)


@given(days, limits)
def test_twelve_months_tile_the_calendar(start: date, years: int) -> None:
    """Each period starts the day after the last one ended: no day is in none, and years drift by nothing but 29 February."""
    end = start - DAY
    for _ in range(min(years, 10)):
        end = last_day(end + DAY, 12, Unit.MONTHS, day_one=True)
    assert end.year == start.year + min(years, 10) or (start.month, start.day) == (1, 1)
    assert abs((end + DAY - start).days - min(years, 10) * 365.25) < 2


@given(days, limits, units)
def test_before_is_never_too_late(end: date, limit: int, unit: Unit) -> None:
    latest = before(end, limit, unit)
    if unit is Unit.WORKING_DAYS:
        assert sum(is_working_day(latest + i * DAY) for i in range((end - latest).days)) == limit
    else:
        assert last_day(latest, limit, unit, day_one=False) <= end


@given(days)
def test_every_clock_counts_from_any_day(on: date) -> None:
    for each in clocks(on):
        if each.hours is None:
            assert abs((each.due(on) - on).days) < 370


@given(days, st.integers(0, 200))
def test_the_final_amended_plan_is_never_later_than_either_clock(meeting: date, later: int) -> None:
    noticed = meeting + later * DAY
    last = due.final_amended_plan(meeting, noticed)
    assert last <= meeting + 84 * DAY
    assert last <= noticed + 56 * DAY


@given(births)
def test_school_age_ends_in_the_academic_year_of_turning_sixteen(born: date) -> None:
    ends = compulsory_school_age_ends(born)
    assert (ends.month, ends.weekday()) == (6, 4)
    assert (ends + 7 * DAY).month == 7
    sixteen = born.replace(year=born.year + 16) if (born.month, born.day) != (2, 29) else date(born.year + 16, 3, 1)
    assert academic_year(ends) == academic_year(sixteen)


@given(births)
def test_the_phases_follow_each_other(born: date) -> None:
    first, second, third = phase_transfers(born)
    assert born < first.opens < first.on < second.opens < second.on < third.opens < third.on
    # Post-16 begins at the first September after compulsory school age.
    assert compulsory_school_age_ends(born) < third.on <= compulsory_school_age_ends(born) + 70 * DAY
