"""Every statutory clock, with days worked out by hand on a calendar: over month ends, leap years, holidays."""

from datetime import UTC, date, datetime

import pytest

from services.shared.law import UnknownRuleError, clock, clocks, due, in_force
from services.shared.law.rules import Clock, all_rules, parse

BY_HAND = [
    # id, day of the trigger, last day in time
    ("decide_whether_to_assess", "2026-01-05", "2026-02-16"),
    ("decide_whether_to_assess", "2025-07-18", "2025-08-29"),  # the summer holidays stop no clock
    ("decide_whether_to_assess", "2024-01-24", "2024-03-06"),  # over 29 February
    ("decide_whether_to_assess", "2023-01-24", "2023-03-07"),  # and without it
    ("give_advice", "2026-01-05", "2026-02-16"),
    ("decide_no_plan", "2025-09-02", "2025-12-23"),
    ("family_answers_draft", "2025-12-01", "2025-12-15"),  # the day served is the first of the fifteen
    ("family_answers_draft", "2024-02-20", "2024-03-05"),
    ("family_answers_draft", "2023-02-20", "2023-03-06"),
    ("final_plan", "2025-09-02", "2026-01-20"),
    ("final_plan", "2023-10-13", "2024-03-01"),
    ("final_plan", "2022-10-13", "2023-03-02"),
    ("final_plan_of_detained", "2025-09-02", "2026-01-20"),
    ("review", "2019-01-01", "2019-12-31"),  # "starting with": the anniversary itself is too late
    ("review", "2025-03-10", "2026-03-09"),
    ("review", "2024-02-29", "2025-02-28"),
    ("review", "2023-03-01", "2024-02-29"),
    ("review", "2023-02-28", "2024-02-27"),
    ("review_after_transfer", "2025-11-15", "2026-02-14"),
    ("review_after_transfer", "2025-12-01", "2026-02-28"),
    ("review_after_transfer", "2026-01-31", "2026-04-30"),
    ("review_under_five", "2025-08-31", "2026-02-28"),
    ("review_under_five", "2025-03-10", "2025-09-10"),
    ("review_invitation", "2026-03-12", "2026-02-26"),
    ("review_invitation", "2024-03-07", "2024-02-22"),
    ("review_invitation", "2026-01-08", "2025-12-25"),  # calendar weeks: also when the day is Christmas
    ("review_advice", "2026-03-12", "2026-02-26"),
    ("review_report", "2026-03-12", "2026-03-26"),
    ("review_report", "2025-12-18", "2026-01-01"),
    ("review_decision", "2026-03-12", "2026-04-09"),
    ("review_decision", "2024-02-02", "2024-03-01"),
    ("review_decision", "2023-02-02", "2023-03-02"),
    ("family_answers_amendments", "2026-04-09", "2026-04-23"),
    ("final_plan_after_notice", "2026-04-09", "2026-06-04"),
    ("final_plan_after_meeting", "2026-03-12", "2026-06-04"),
    ("phase_transfer", "2026-09-01", "2026-02-14"),  # "before 15 February"
    ("phase_transfer_to_post_16", "2026-09-01", "2026-03-30"),
    ("transfer_between_post_16", "2026-09-01", "2026-04-01"),
    ("transfer_between_post_16", "2026-07-31", "2026-02-28"),
    ("transfer_between_post_16", "2024-07-31", "2024-02-29"),
    ("transfer_between_post_16", "2026-01-05", "2025-08-05"),
    ("final_plan_after_reassessment", "2026-01-12", "2026-04-20"),
    ("know_of_move", "2026-04-20", "2026-03-26"),  # back over Easter
    ("transfer_known_move", "2026-04-20", "2026-04-20"),
    ("transfer", "2026-03-16", "2026-04-07"),  # Good Friday 3 April, Easter Monday 6 April
    ("transfer", "2025-12-20", "2026-01-14"),  # heard of on a Saturday before Christmas
    ("transfer", "2025-11-17", "2025-12-05"),  # St Andrew's Day is no holiday in England
    ("transfer", "2022-09-09", "2022-09-30"),  # 19 September 2022 was one, once
    ("tell_family_of_transfer", "2026-05-22", "2026-07-03"),
    ("commissioner_tells_successor", "2026-03-16", "2026-04-07"),
    ("tribunal_cease_upheld", "2026-01-12", "2026-01-12"),
    ("tribunal_draft_plan", "2026-01-12", "2026-02-16"),
    ("tribunal_final_plan", "2026-01-12", "2026-03-30"),
    ("tribunal_amended_plan", "2026-01-12", "2026-02-16"),
    ("tribunal_placement", "2026-01-12", "2026-01-26"),
]


def day(text: str) -> date:
    return date.fromisoformat(text)


@pytest.mark.parametrize(("id_", "trigger", "last"), BY_HAND)
def test_last_day_in_time(id_: str, trigger: str, last: str) -> None:
    assert clock(id_, day(trigger)).due(day(trigger)) == day(last)


def test_every_clock_was_worked_out_by_hand() -> None:
    assert {each.id for each in all_rules().clocks} == {id_ for id_, _, _ in BY_HAND} | {"report_breach"}


def test_a_clock_of_hours_counts_through_the_night_the_weekend_and_the_change_of_the_clocks() -> None:
    breach = clock("report_breach", date(2026, 10, 23))
    aware = datetime(2026, 10, 23, 16, 30, tzinfo=UTC)  # a Friday; summer time ends on the Sunday
    assert breach.ends(aware) == datetime(2026, 10, 26, 16, 30, tzinfo=UTC)
    with pytest.raises(ValueError, match="report_breach counts hours"):
        breach.due(date(2026, 10, 23))
    with pytest.raises(ValueError, match="review counts days"):
        clock("review", date(2026, 10, 23)).ends(aware)


class TestFinalAmendedPlan:
    """Eight weeks from the notice and twelve from the meeting of 12 March 2026."""

    MEETING = date(2026, 3, 12)

    def test_a_notice_on_its_last_day_leaves_both_on_the_same_day(self) -> None:
        assert due.final_amended_plan(self.MEETING, date(2026, 4, 9)) == date(2026, 6, 4)

    def test_an_early_notice_brings_the_day_forward(self) -> None:
        assert due.final_amended_plan(self.MEETING, date(2026, 3, 20)) == date(2026, 5, 15)

    def test_a_late_notice_buys_no_time(self) -> None:
        assert due.final_amended_plan(self.MEETING, date(2026, 4, 30)) == date(2026, 6, 4)

    def test_without_a_notice_the_meeting_alone_counts(self) -> None:
        assert due.final_amended_plan(self.MEETING, None) == date(2026, 6, 4)


class TestTransferBetweenCouncils:
    MOVE = date(2026, 4, 20)

    @pytest.mark.parametrize(
        ("aware", "last"),
        [
            ("2026-03-01", "2026-04-20"),  # known long before: on the day of the move
            ("2026-03-26", "2026-04-20"),  # fifteen working days before, Easter left out
            ("2026-03-27", "2026-04-20"),  # fourteen: fifteen beginning with this day
            ("2026-03-30", "2026-04-21"),
            ("2026-05-01", "2026-05-22"),  # after the move; 4 May is a bank holiday
        ],
    )
    def test_last_day(self, aware: str, last: str) -> None:
        assert due.transfer(self.MOVE, day(aware)) == day(last)


class TestNextReview:
    def test_the_last_review_starts_it_anew(self) -> None:
        assert due.review(date(2024, 9, 1), date(2025, 6, 15)) == date(2026, 6, 14)

    def test_the_new_council_has_three_months_where_the_review_was_due_sooner(self) -> None:
        assert due.review(date(2025, 1, 10), None, transferred_on=date(2025, 12, 1)) == date(2026, 2, 28)

    def test_and_the_ordinary_day_where_that_is_later(self) -> None:
        assert due.review(date(2025, 11, 3), None, transferred_on=date(2025, 12, 1)) == date(2026, 11, 2)

    def test_a_review_by_the_new_council_ends_that(self) -> None:
        assert due.review(date(2024, 1, 10), date(2025, 12, 10), transferred_on=date(2025, 12, 1)) == date(2026, 12, 9)


class TestRows:
    ROW = """
      - id: review
        must: The plan is reviewed.
        trigger: plan_made_or_last_reviewed
        limit: {limit}
        unit: months
        counting: day_one
        reference: {reference}
        from: {from_}
    """

    def rules(self, *clocks_: str) -> str:
        return "clocks:" + "".join(clocks_) + "\nrecipients: []"

    def old(self, until: str = "") -> str:
        row = self.ROW.format(limit=12, reference="old Act", from_="2014-09-01")
        return row.rstrip() + (f"\n        until: {until}" if until else "")

    def new(self) -> str:
        return self.ROW.format(limit=6, reference="new Act", from_="2027-09-01").rstrip()

    def test_next_years_rule_is_a_row(self) -> None:
        rules = parse(self.rules(self.old(until="2027-08-31"), self.new()))

        def review(on: date) -> Clock:
            (found,) = in_force(rules.clocks, on)
            return found

        assert review(date(2027, 8, 31)).due(date(2027, 8, 31)) == date(2028, 8, 30)
        assert review(date(2027, 9, 1)).due(date(2027, 9, 1)) == date(2028, 2, 29)
        assert in_force(rules.clocks, date(2014, 8, 31)) == ()

    def test_two_rows_at_the_same_time_are_refused(self) -> None:
        with pytest.raises(ValueError, match="two rows of clock review are in force on 2027-09-01"):
            parse(self.rules(self.old(), self.new()))

    def test_a_period_without_a_unit_is_refused(self) -> None:
        with pytest.raises(ValueError, match="either limit and unit, or before_day, or hours"):
            parse(self.rules(self.old().replace("unit: months", "")))

    def test_a_misspelt_field_is_refused(self) -> None:
        with pytest.raises(ValueError, match="untill"):
            parse(self.rules(self.old() + "\n        untill: 2027-08-31"))

    def test_a_day_that_only_leap_years_have_is_refused(self) -> None:
        row = self.old().replace("limit: 12", "before_day: {month: 2, day: 29}").replace("unit: months", "")
        with pytest.raises(ValueError, match="day is out of range"):
            parse(self.rules(row))


def test_an_unknown_clock_is_an_error_not_a_silence() -> None:
    with pytest.raises(UnknownRuleError):
        clock("no_such_clock", date(2026, 1, 1))


def test_no_clock_runs_before_the_law_was_in_force() -> None:
    assert clocks(date(2014, 8, 31)) == ()
    assert "final_plan_of_detained" not in {each.id for each in clocks(date(2015, 3, 31))}


def test_what_no_source_confirmed_is_marked() -> None:
    unverified = {each.id for each in clocks(date(2026, 1, 1)) if not each.verified}
    assert unverified == {"commissioner_tells_successor", "review_after_transfer"}
    assert [each.id for each in clocks(date(2026, 1, 1)) if each.status == "guidance"] == ["review_under_five"]
