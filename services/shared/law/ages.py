"""What follows from a date of birth alone: school years, the end of compulsory school age, changes of phase. Pure.

The academic year runs from 1 September to 31 August here, whatever a school's own terms are. A council may teach a child out of
its year group: these are the dates of most children, and what they lead to is a flag for a person, never a refusal.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

FRIDAY = 4


def academic_year(day: date) -> int:
    """The calendar year in which the academic year of this day began: 2025 for 1 September 2025 to 31 August 2026."""
    return day.year if day.month >= 9 else day.year - 1


def compulsory_school_age_ends(born: date) -> date:
    """The last Friday in June of the academic year in which the child turns 16.

    Education Act 1996 s.8(3) and the Education (School Leaving Date) Order 1997; it ends at the end of that day. A child
    born in July or August is still 15 then.
    """
    last = date(academic_year(born) + 17, 6, 30)
    return last - timedelta(days=(last.weekday() - FRIDAY) % 7)


def rights_pass_on(born: date) -> date:
    """When rights pass from the parent to the young person (CFA 2014 s.83(2)): not the sixteenth birthday, and subject to
    capacity, which a person has to judge. On this day the exchange begins to share with the young person."""
    return compulsory_school_age_ends(born)


class Phase(StrEnum):
    """Transfers between phases of education (SEND Regs 2014 reg 2(1)) that every child makes at a known age.

    Infant to junior and by way of a middle school depend on the area's schools, post-16 to post-16 on the young person.
    """

    EARLY_YEARS_TO_PRIMARY = "early_years_to_primary"
    PRIMARY_TO_SECONDARY = "primary_to_secondary"
    SECONDARY_TO_POST_16 = "secondary_to_post_16"


AFTER_BIRTH = {Phase.EARLY_YEARS_TO_PRIMARY: 5, Phase.PRIMARY_TO_SECONDARY: 12, Phase.SECONDARY_TO_POST_16: 17}
"""Academic years from that of birth to the one that begins in the new phase: reception, year 7, year 12."""


@dataclass(frozen=True, slots=True)
class PhaseTransfer:
    phase: Phase
    on: date
    """1 September of the new phase."""

    @property
    def opens(self) -> date:
        """From here the child is within twelve months of the transfer (reg 18(1))."""
        return date(self.on.year - 1, 9, 1)


def phase_transfers(born: date) -> tuple[PhaseTransfer, ...]:
    return tuple(PhaseTransfer(phase, date(academic_year(born) + years, 9, 1)) for phase, years in AFTER_BIRTH.items())


def phase_transfer_near(born: date, on: date) -> PhaseTransfer | None:
    """The transfer that lies at most twelve months ahead of ``on``, if there is one."""
    return next((each for each in phase_transfers(born) if each.opens <= on < each.on), None)
