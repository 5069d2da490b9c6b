"""School years, the end of compulsory school age and changes of phase, by hand from birthdays at the edges of the year."""

from datetime import date

import pytest

from services.shared.law import due
from services.shared.law.ages import (
    Phase,
    academic_year,
    compulsory_school_age_ends,
    phase_transfer_near,
    phase_transfers,
    rights_pass_on,
)


@pytest.mark.parametrize(
    ("born", "ends"),
    [
        (date(2009, 9, 1), date(2026, 6, 26)),  # the oldest of their year: 16 on 1 September 2025
        (date(2010, 8, 31), date(2026, 6, 26)),  # the youngest: still 15 on that Friday
        (date(2010, 9, 1), date(2027, 6, 25)),  # one day younger, one year later
        (date(2010, 6, 27), date(2026, 6, 26)),  # 16 the day after
        (date(2008, 2, 29), date(2024, 6, 28)),
        (date(2006, 12, 24), date(2023, 6, 30)),  # where 30 June is a Friday
        (date(2007, 1, 5), date(2023, 6, 30)),
        (date(2002, 3, 3), date(2018, 6, 29)),
    ],
)
def test_compulsory_school_age_ends_on_the_last_friday_in_june(born: date, ends: date) -> None:
    assert compulsory_school_age_ends(born) == ends
    assert rights_pass_on(born) == ends


def test_academic_year_begins_in_september() -> None:
    assert academic_year(date(2026, 8, 31)) == 2025
    assert academic_year(date(2026, 9, 1)) == 2026


@pytest.mark.parametrize(
    ("born", "starts"),
    [
        (date(2014, 9, 1), (2019, 2026, 2031)),
        (date(2015, 8, 31), (2019, 2026, 2031)),
        (date(2015, 9, 1), (2020, 2027, 2032)),
        (date(2016, 2, 29), (2020, 2027, 2032)),
    ],
)
def test_reception_year_seven_and_year_twelve(born: date, starts: tuple[int, int, int]) -> None:
    found = phase_transfers(born)
    assert [each.phase for each in found] == [
        Phase.EARLY_YEARS_TO_PRIMARY, Phase.PRIMARY_TO_SECONDARY, Phase.SECONDARY_TO_POST_16,
    ]  # fmt: skip
    assert tuple(each.on for each in found) == tuple(date(year, 9, 1) for year in starts)


def test_amended_by_february_or_for_post_16_by_march() -> None:
    assert [due.phase_transfer(each) for each in phase_transfers(date(2015, 3, 3))] == [
        date(2019, 2, 14), date(2026, 2, 14), date(2031, 3, 30),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("on", "phase"),
    [
        (date(2025, 8, 31), None),
        (date(2025, 9, 1), Phase.PRIMARY_TO_SECONDARY),  # twelve months before
        (date(2026, 8, 31), Phase.PRIMARY_TO_SECONDARY),
        (date(2026, 9, 1), None),  # transferred
        (date(2030, 12, 24), Phase.SECONDARY_TO_POST_16),
        (date(2040, 1, 1), None),
    ],
)
def test_a_transfer_is_near_for_twelve_months(on: date, phase: Phase | None) -> None:
    found = phase_transfer_near(date(2015, 3, 3), on)
    assert (found and found.phase) == phase
