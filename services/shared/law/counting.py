"""Count periods of law in whole days of Europe/London: months of unequal length, and working days with England's bank holidays.

Dates here are dates in England; turn an instant into one with :func:`london_date` first, since the last hour of a summer's day
in UTC is the next day in London. ``day_one`` is the law's "beginning with" or "starting with" a day: that day is the first of
the period. Otherwise the day of the event is left out and the period ends at the end of its last day.
"""

from calendar import monthrange
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import assert_never
from zoneinfo import ZoneInfo

import holidays

LONDON = ZoneInfo("Europe/London")
DAY = timedelta(days=1)


class Unit(StrEnum):
    DAYS = "days"
    WEEKS = "weeks"
    MONTHS = "months"
    WORKING_DAYS = "working_days"


def london_date(instant: datetime) -> date:
    """``instant`` is aware; a naive one would be read as the machine's own time, so it is refused."""
    if instant.tzinfo is None:
        raise ValueError("the instant has no time zone")
    return instant.astimezone(LONDON).date()


def is_working_day(day: date) -> bool:
    """Monday to Friday, no bank holiday of England. The library knows one-off holidays only up to its own release."""
    return day.weekday() < 5 and day not in _bank_holidays(day.year)


def last_day(start: date, limit: int, unit: Unit, *, day_one: bool) -> date:
    """The last day on which what must happen within ``limit`` of ``start`` is in time."""
    match unit:
        case Unit.DAYS:
            return start + (limit - day_one) * DAY
        case Unit.WEEKS:
            return start + (7 * limit - day_one) * DAY
        case Unit.MONTHS:
            return _months(start, limit, day_one)
        case Unit.WORKING_DAYS:
            return _working_days(start, limit, day_one)
        case _:
            assert_never(unit)


def before(end: date, limit: int, unit: Unit) -> date:
    """The last day that is at least ``limit`` before ``end``: two weeks before a meeting, five months before a transfer."""
    match unit:
        case Unit.DAYS:
            return end - limit * DAY
        case Unit.WEEKS:
            return end - 7 * limit * DAY
        case Unit.MONTHS:
            return _months(end, -limit, day_one=False)
        case Unit.WORKING_DAYS:
            day = end
            for _ in range(limit):
                day -= DAY
                while not is_working_day(day):
                    day -= DAY
            return day
        case _:
            assert_never(unit)


def _months(start: date, limit: int, day_one: bool) -> date:
    """The corresponding date rule: the same number of the later month, or that month's last day where it has no such number."""
    months = start.year * 12 + start.month - 1 + limit
    year, month = months // 12, months % 12 + 1
    longest = monthrange(year, month)[1]
    if start.day > longest:
        # Twelve months starting with 29 February end on 28 February: the day before a day that does not exist.
        return date(year, month, longest)
    return date(year, month, start.day) - day_one * DAY


def _working_days(start: date, limit: int, day_one: bool) -> date:
    day, left = start, limit - (day_one and is_working_day(start))
    while left > 0:
        day += DAY
        left -= is_working_day(day)
    return day


@cache
def _bank_holidays(year: int) -> frozenset[date]:
    # GB's subdivision matters: Easter Monday and the summer bank holiday are others in Scotland and Northern Ireland.
    return frozenset(holidays.country_holidays("GB", subdiv="ENG", years=year))
