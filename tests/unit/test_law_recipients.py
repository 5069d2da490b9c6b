"""Who must get what by law, on the day it happens."""

from datetime import date

import pytest

from services.shared.law import UnknownRuleError, recipients_for

TODAY = date(2026, 1, 15)


def roles(event: str, on: date = TODAY) -> set[str]:
    return {rule.role.value for rule in recipients_for(event, on)}


def references(event: str) -> set[str]:
    return {rule.reference for rule in recipients_for(event, TODAY)}


def test_the_first_final_plan_goes_to_early_years_too() -> None:
    assert roles("first_final") == {"parent_or_young_person", "named_setting", "named_early_years", "commissioning_body"}


@pytest.mark.parametrize(("event", "law"), [("amended_after_review", "reg 22(3)"), ("after_reassessment", "reg 27(2)")])
def test_later_ones_do_not(event: str, law: str) -> None:
    assert roles(event) == {"parent_or_young_person", "named_setting", "commissioning_body"}
    assert references(event) == {f"SEND Regs 2014 {law}"}


def test_a_cease_notice_goes_to_family_setting_and_commissioner() -> None:
    assert roles("cease_notice") == {"parent_or_young_person", "named_setting", "commissioning_body"}
    assert references("cease_notice") == {"SEND Regs 2014 reg 31(2)"}


@pytest.mark.parametrize("event", ["review_invitation", "review_advice", "review_report"])
def test_a_review_has_its_invited(event: str) -> None:
    assert roles(event) == {
        "parent_or_young_person", "attended_setting", "education_officer", "health_professional", "social_care_officer",
    }  # fmt: skip


def test_the_decision_goes_to_family_and_setting() -> None:
    assert roles("review_decision") == {"parent_or_young_person", "attended_setting"}


def test_detained_adds_establishment_youth_offending_team_and_health_commissioner() -> None:
    assert {"custodial_establishment", "youth_offending_team", "detained_health_commissioner"} <= roles("detained")
    assert references("detained") == {"SI 2015/62 reg 13(2)"}
    assert roles("detained", date(2015, 3, 31)) == set()


def test_moves() -> None:
    assert roles("transfer") == {"new_council", "parent_or_young_person"}
    assert roles("commissioner_changed") == {"new_commissioning_body"}
    assert not recipients_for("commissioner_changed", TODAY)[0].verified


def test_an_unknown_event_is_an_error_since_an_empty_answer_would_send_to_nobody() -> None:
    with pytest.raises(UnknownRuleError):
        recipients_for("amended_after_reveiw", TODAY)
