"""Due dates that follow from more than one clock. Pure; every limit comes from the rows of the law."""

from datetime import date

from services.shared.law.ages import Phase, PhaseTransfer
from services.shared.law.rules import clock


def transfer(moves_on: date, aware_on: date) -> date:
    """When the old council must have handed the plan over (SEND Regs 2014 reg 15(2)).

    On the day of the move where the council knew of it at least fifteen working days ahead, else fifteen working days beginning
    with the day on which it became aware, be that before the move or long after.
    """
    if aware_on <= clock("know_of_move", moves_on).due(moves_on):
        return clock("transfer_known_move", moves_on).due(moves_on)
    return clock("transfer", aware_on).due(aware_on)


def final_amended_plan(meeting_on: date, noticed_on: date | None) -> date:
    """Eight weeks from the amendment notice *and* twelve from the meeting: a late notice buys no time (R (L) v Devon)."""
    from_meeting = clock("final_plan_after_meeting", meeting_on).due(meeting_on)
    if noticed_on is None:
        return from_meeting
    return min(from_meeting, clock("final_plan_after_notice", noticed_on).due(noticed_on))


def review(made_on: date, reviewed_on: date | None, transferred_on: date | None = None) -> date:
    """When the next review must be complete: its decision notified, not only its meeting held (CFA 2014 s.44(1)).

    A plan that came from another council may be reviewed up to three months after the transfer (SEND Regs 2014 reg 15(5)).
    """
    start = made_on if reviewed_on is None else reviewed_on
    due = clock("review", start).due(start)
    if transferred_on is None or (reviewed_on is not None and reviewed_on >= transferred_on):
        return due
    return max(due, clock("review_after_transfer", transferred_on).due(transferred_on))


def phase_transfer_clock(transfer: PhaseTransfer) -> str:
    return "phase_transfer_to_post_16" if transfer.phase is Phase.SECONDARY_TO_POST_16 else "phase_transfer"


def phase_transfer(transfer: PhaseTransfer) -> date:
    """The last day on which the plan is amended in time to name the next setting (SEND Regs 2014 reg 18(1))."""
    return clock(phase_transfer_clock(transfer), transfer.on).due(transfer.on)
