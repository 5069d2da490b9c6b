"""Days of Europe/London, months of unequal length, working days of England."""

from datetime import UTC, date, datetime

import pytest

from services.shared.law.counting import Unit, before, is_working_day, last_day, london_date


@pytest.mark.parametrize(
    ("instant", "day"),
    [
        (datetime(2026, 7, 1, 22, 59, tzinfo=UTC), date(2026, 7, 1)),
        (datetime(2026, 7, 1, 23, 0, tzinfo=UTC), date(2026, 7, 2)),  # summer time: midnight in London
        (datetime(2026, 1, 1, 23, 59, tzinfo=UTC), date(2026, 1, 1)),
        (datetime(2026, 3, 29, 0, 59, tzinfo=UTC), date(2026, 3, 29)),  # the hour in which the clocks go forward
    ],
)
def test_an_instant_falls_on_a_day_in_london(instant: datetime, day: date) -> None:
    assert london_date(instant) == day


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        london_date(datetime(2026, 7, 1, 23, 0))  # noqa: DTZ001 - the point


@pytest.mark.parametrize(
    ("day", "working"),
    [
        (date(2026, 4, 2), True),  # Maundy Thursday
        (date(2026, 4, 3), False),  # Good Friday
        (date(2026, 4, 6), False),  # Easter Monday, no holiday in Scotland
        (date(2026, 8, 3), True),  # Scotland's summer holiday
        (date(2026, 8, 31), False),  # England's
        (date(2026, 12, 25), False),
        (date(2026, 12, 28), False),  # for Boxing Day, a Saturday
        (date(2026, 12, 29), True),
        (date(2026, 12, 5), False),  # Saturday
        (date(2027, 1, 4), True),  # 1 January 2027 is a Friday, nothing is moved
        (date(2026, 7, 13), True),  # a holiday in Northern Ireland
    ],
)
def test_working_days_are_englands(day: date, working: bool) -> None:
    assert is_working_day(day) is working


@pytest.mark.parametrize(
    ("start", "months", "day_one", "last"),
    [
        (date(2026, 1, 31), 1, False, date(2026, 2, 28)),
        (date(2024, 1, 31), 1, False, date(2024, 2, 29)),
        (date(2026, 1, 31), 1, True, date(2026, 2, 28)),
        (date(2026, 1, 30), 1, True, date(2026, 2, 28)),
        (date(2026, 1, 28), 1, True, date(2026, 2, 27)),
        (date(2026, 2, 28), 1, False, date(2026, 3, 28)),  # the same number, not the end of the month
        (date(2026, 3, 1), 1, True, date(2026, 3, 31)),
        (date(2025, 12, 31), 2, False, date(2026, 2, 28)),
    ],
)
def test_months_by_the_corresponding_date(start: date, months: int, day_one: bool, last: date) -> None:
    assert last_day(start, months, Unit.MONTHS, day_one=day_one) == last


@pytest.mark.parametrize(
    ("end", "limit", "unit", "latest"),
    [
        (date(2026, 1, 5), 10, Unit.DAYS, date(2025, 12, 26)),
        (date(2024, 3, 14), 2, Unit.WEEKS, date(2024, 2, 29)),
        (date(2026, 3, 31), 1, Unit.MONTHS, date(2026, 2, 28)),
        (date(2026, 4, 7), 1, Unit.WORKING_DAYS, date(2026, 4, 2)),
    ],
)
def test_at_least_so_long_before(end: date, limit: int, unit: Unit, latest: date) -> None:
    assert before(end, limit, unit) == latest
