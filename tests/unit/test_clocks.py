"""Which clocks of a plan people are told of, when, and when no more; days worked out by hand."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from schemas.alerts import AlertKind, ClearedBecause
from schemas.lifecycle import ReviewOutcome
from services.notifier.clocks import Plan, Review, Trouble, troubles, why_cleared

DUE_SOON, OVERDUE = AlertKind.DUE_SOON, AlertKind.OVERDUE
NEW = Plan(
    uuid4(), "332", in_force=True, first_issued_on=date(2026, 1, 20), issued_on=date(2026, 1, 20), transferred_on=None,
    lives_elsewhere_since=None, reviews=(), gap_since=None, waiting_since=None,
)  # fmt: skip


def noon(day: str) -> datetime:
    return datetime.fromisoformat(f"{day}T12:00:00+00:00")


def with_review(plan: Plan = NEW, **said: Any) -> Plan:
    """``said`` as dates in ISO format, and the decision."""
    names = ("meeting_on", "invited_on", "held_on", "reported_on", "decided_on")
    dates: dict[str, Any] = {name: date.fromisoformat(said[name]) if name in said else None for name in names}
    return replace(plan, reviews=(*plan.reviews, Review(said.get("review", "R1"), decision=said.get("decision"), **dates)))


def told(plan: Plan, on: str) -> dict[str, tuple[str, str]]:
    """(soon or overdue, last day in time) by clock."""
    found = {}
    for each in troubles(plan, noon(on)):
        assert each.clock is not None
        last = each.due_at - timedelta(hours=2)  # the end of a day in London is 23:00 or 24:00 UTC
        found[each.clock] = (each.kind.value, str(last.date()))
    return found


class TestReview:
    """Made on 20 January 2026: to be reviewed by 19 January 2027."""

    def test_is_told_of_six_weeks_ahead(self) -> None:
        assert told(NEW, "2026-12-07") == {}
        assert told(NEW, "2026-12-08") == {"review": ("due_soon", "2027-01-19")}
        assert told(NEW, "2027-01-19") == {"review": ("due_soon", "2027-01-19")}
        assert told(NEW, "2027-01-20") == {"review": ("overdue", "2027-01-19")}

    def test_the_day_ends_at_midnight_in_london(self) -> None:
        plan = replace(NEW, first_issued_on=date(2025, 7, 2))
        [before] = troubles(plan, datetime(2026, 7, 1, 22, 59, tzinfo=UTC))
        [after] = troubles(plan, datetime(2026, 7, 1, 23, 0, tzinfo=UTC))
        assert (before.kind, after.kind) == (DUE_SOON, OVERDUE)
        assert before.due_at == after.due_at == datetime(2026, 7, 1, 23, 0, tzinfo=UTC)

    def test_a_decision_starts_the_next_twelve_months(self) -> None:
        decided = with_review(held_on="2026-11-05", decided_on="2026-12-01", decision=ReviewOutcome.MAINTAIN)
        assert told(decided, "2027-01-20") == {}
        assert told(decided, "2027-12-01") == {"review": ("overdue", "2027-11-30")}

    def test_a_meeting_arranged_in_time_needs_no_warning(self) -> None:
        arranged = with_review(meeting_on="2027-01-12", invited_on="2026-12-01")
        assert told(arranged, "2026-12-20") == {}
        assert told(with_review(meeting_on="2027-01-25", invited_on="2026-12-01"), "2026-12-20") == {
            "review": ("due_soon", "2027-01-19")
        }

    def test_it_is_complete_with_the_decision_not_with_the_meeting(self) -> None:
        held = with_review(held_on="2027-01-12", reported_on="2027-01-14")
        assert told(held, "2027-01-20") == {"review": ("overdue", "2027-01-19")}

    def test_a_plan_from_another_council_has_three_months(self) -> None:
        moved = replace(NEW, transferred_on=date(2026, 12, 1))
        assert told(replace(moved, told_of_transfer=True), "2027-01-20") == {"review": ("due_soon", "2027-02-28")}

    def test_a_review_at_the_council_before_counts(self) -> None:
        decided = with_review(held_on="2026-10-05", decided_on="2026-10-20", decision=ReviewOutcome.MAINTAIN)
        moved = replace(decided, first_issued_on=date(2025, 2, 1), transferred_on=date(2026, 12, 1), told_of_transfer=True)
        assert told(moved, "2027-01-20") == {}
        assert told(moved, "2027-10-20") == {"review": ("overdue", "2027-10-19")}


def test_the_family_is_told_of_a_transfer_within_six_weeks() -> None:
    """Regulation 15(4): transferred on Monday 1 June 2026, to be told by Monday 13 July."""
    moved = replace(NEW, transferred_on=date(2026, 6, 1))
    assert told(moved, "2026-06-28") == {}
    assert told(moved, "2026-06-29") == {"tell_family_of_transfer": ("due_soon", "2026-07-13")}
    assert told(moved, "2026-07-13") == {"tell_family_of_transfer": ("due_soon", "2026-07-13")}
    assert told(moved, "2026-07-14") == {"tell_family_of_transfer": ("overdue", "2026-07-13")}
    assert told(replace(moved, told_of_transfer=True), "2026-07-14") == {}


@pytest.mark.parametrize(
    ("clock", "first_day", "last_day", "too_late"),
    [
        ("phase_transfer", "2026-11-22", "2027-02-14", "2027-02-15"),
        ("phase_transfer_to_post_16", "2027-01-05", "2027-03-30", "2027-03-31"),
    ],
)
def test_a_phase_transfer_that_no_placement_answers(clock: str, first_day: str, last_day: str, too_late: str) -> None:
    """Into the phase that begins on 1 September 2027: told of twelve weeks ahead."""
    reviewed = with_review(held_on="2026-10-05", decided_on="2026-10-20", decision=ReviewOutcome.MAINTAIN)
    plan = replace(reviewed, phase_transfer=(clock, date(2027, 9, 1)))
    before = date.fromisoformat(first_day) - timedelta(days=1)
    assert told(plan, str(before)) == {}
    assert told(plan, first_day) == {clock: ("due_soon", last_day)}
    assert told(plan, too_late) == {clock: ("overdue", last_day)}
    (alert,) = troubles(plan, noon(too_late))
    assert why_cleared(alert, replace(plan, phase_transfer=None), noon(too_late)) is ClearedBecause.SETTLED


class TestOneReview:
    """The meeting of 12 March 2026."""

    def test_invitations_two_weeks_before(self) -> None:
        scheduled = with_review(meeting_on="2026-03-12")
        assert told(scheduled, "2026-02-18") == {}
        assert told(scheduled, "2026-02-19") == {"review_invitation": ("due_soon", "2026-02-26")}
        assert told(scheduled, "2026-02-27") == {"review_invitation": ("overdue", "2026-02-26")}
        assert told(with_review(meeting_on="2026-03-12", invited_on="2026-02-26"), "2026-03-01") == {}

    def test_invitations_that_came_late_are_told_of_while_the_meeting_can_be_moved(self) -> None:
        late = with_review(meeting_on="2026-03-12", invited_on="2026-02-27")
        assert told(late, "2026-03-12") == {"review_invitation": ("overdue", "2026-02-26")}
        assert "review_invitation" not in told(late, "2026-03-13")

    def test_report_and_decision_after_the_meeting(self) -> None:
        held = with_review(meeting_on="2026-03-12", held_on="2026-03-12")
        assert told(held, "2026-03-22") == {}
        assert told(held, "2026-03-23") == {"review_report": ("due_soon", "2026-03-26")}
        assert told(held, "2026-04-02") == {
            "review_report": ("overdue", "2026-03-26"), "review_decision": ("due_soon", "2026-04-09"),
        }  # fmt: skip
        reported = with_review(held_on="2026-03-12", reported_on="2026-03-20")
        assert told(reported, "2026-04-10") == {"review_decision": ("overdue", "2026-04-09")}

    def test_a_meeting_that_nobody_recorded_counts_as_held(self) -> None:
        silent = with_review(meeting_on="2026-03-12", invited_on="2026-02-01")
        assert told(silent, "2026-04-10") == {
            "review_report": ("overdue", "2026-03-26"), "review_decision": ("overdue", "2026-04-09"),
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("decided_on", "clock", "last"),
        [
            ("2026-03-20", "final_plan_after_notice", "2026-05-15"),  # eight weeks from an early notice
            ("2026-04-09", "final_plan_after_notice", "2026-06-04"),  # both on the same day
            ("2026-04-30", "final_plan_after_meeting", "2026-06-04"),  # twelve weeks from the meeting
        ],
    )
    def test_the_final_amended_plan(self, decided_on: str, clock: str, last: str) -> None:
        amend = with_review(held_on="2026-03-12", decided_on=decided_on, decision=ReviewOutcome.AMEND)
        assert told(amend, str(date.fromisoformat(last) - timedelta(days=15))) == {}
        assert told(amend, last) == {clock: ("due_soon", last)}
        assert told(amend, str(date.fromisoformat(last) + timedelta(days=1))) == {clock: ("overdue", last)}
        amended = replace(amend, issued_on=date.fromisoformat(last))
        assert told(amended, "2026-06-30") == {}

    def test_nothing_is_due_where_the_plan_stays_as_it_is(self) -> None:
        maintained = with_review(held_on="2026-03-12", decided_on="2026-04-01", decision=ReviewOutcome.MAINTAIN)
        assert told(maintained, "2026-12-30") == {}

    def test_a_review_that_a_later_one_overtook_is_nobodys_task(self) -> None:
        first = with_review(review="R1", held_on="2026-03-12")
        both = with_review(first, review="R2", held_on="2026-05-20", decided_on="2026-06-01", decision=ReviewOutcome.MAINTAIN)
        assert told(both, "2026-07-01") == {}

    def test_two_reviews_have_clocks_of_their_own(self) -> None:
        first = with_review(review="R1", held_on="2026-03-12", reported_on="2026-03-12")
        both = with_review(first, review="R2", held_on="2026-03-19", reported_on="2026-03-19")
        found = troubles(both, noon("2026-04-30"))
        assert [(each.review, each.kind) for each in found] == [("R1", OVERDUE), ("R2", OVERDUE)]


class TestTransfer:
    def test_fifteen_working_days_beginning_with_the_day_of_knowing(self) -> None:
        moved = replace(NEW, lives_elsewhere_since=date(2026, 3, 16))  # Good Friday and Easter Monday lie between
        assert told(moved, "2026-03-30") == {}
        assert told(moved, "2026-03-31") == {"transfer": ("due_soon", "2026-04-07")}
        assert told(moved, "2026-04-08") == {"transfer": ("overdue", "2026-04-07")}


class TestEnded:
    def test_a_plan_that_is_not_in_force_has_no_clocks_and_nobody_waits(self) -> None:
        worst = replace(
            with_review(held_on="2026-03-12"), in_force=False, gap_since=noon("2026-01-01"), waiting_since=noon("2026-01-01")
        )
        assert troubles(worst, noon("2028-01-01")) == ()

    def test_a_plan_whose_only_version_was_recalled_has_no_review(self) -> None:
        assert troubles(replace(NEW, first_issued_on=None, issued_on=None), noon("2028-01-01")) == ()


class TestPeople:
    SINCE = noon("2026-02-01")

    def test_a_share_gap_and_a_confirmation_are_told_of_at_once(self) -> None:
        waiting = replace(NEW, gap_since=self.SINCE, waiting_since=self.SINCE)
        assert troubles(waiting, self.SINCE) == (
            Trouble(AlertKind.SHARE_GAP, self.SINCE), Trouble(AlertKind.UNCONFIRMED, self.SINCE),
        )  # fmt: skip

    def test_they_stay_one_alert_while_others_come_and_go(self) -> None:
        alert = Trouble(AlertKind.SHARE_GAP, self.SINCE)
        later = replace(NEW, gap_since=noon("2026-02-09"))
        assert why_cleared(alert, later, noon("2026-02-10")) is None
        assert why_cleared(alert, NEW, noon("2026-02-10")) is ClearedBecause.SETTLED


class TestMistypedYear:
    """Taken in before such days were refused: one plan must not stop the alerts of all."""

    def test_of_a_meeting(self) -> None:
        assert told(with_review(held_on="1926-02-09"), "2026-02-10") == {
            "review_report": ("overdue", "1926-02-23"), "review_decision": ("overdue", "1926-03-09"),
        }  # fmt: skip

    def test_of_a_decision(self) -> None:
        plan = with_review(held_on="1926-02-09", reported_on="1926-02-09", decided_on="1926-03-01", decision="maintain")
        assert told(plan, "2026-02-10") == {"review": ("overdue", "2015-08-31")}

    def test_of_a_move(self) -> None:
        plan = replace(NEW, lives_elsewhere_since=date(1926, 2, 9), transferred_on=date(1926, 2, 9))
        assert told(plan, "2026-02-10")["transfer"][0] == "overdue"


class TestCleared:
    NOW = "2026-03-02"
    SCHEDULED = with_review(meeting_on="2026-03-12")

    @pytest.mark.parametrize(
        ("plan", "because"),
        [
            (SCHEDULED, None),
            (with_review(meeting_on="2026-03-12", invited_on="2026-02-25"), ClearedBecause.SETTLED),
            (with_review(meeting_on="2026-04-30"), ClearedBecause.NOT_DUE),
            (replace(SCHEDULED, in_force=False), ClearedBecause.SETTLED),
            (None, ClearedBecause.GONE),
        ],
    )
    def test_why(self, plan: Plan | None, because: ClearedBecause | None) -> None:
        [alert] = troubles(self.SCHEDULED, noon(self.NOW))
        assert alert.kind is OVERDUE
        assert why_cleared(alert, plan, noon(self.NOW)) is because

    def test_due_soon_gives_way_to_overdue(self) -> None:
        [soon] = troubles(self.SCHEDULED, noon("2026-02-20"))
        assert why_cleared(soon, self.SCHEDULED, noon("2026-02-26")) is None
        assert why_cleared(soon, self.SCHEDULED, noon("2026-02-27")) is ClearedBecause.OVERDUE
