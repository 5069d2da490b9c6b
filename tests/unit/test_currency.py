"""What a person should look at in a plan: views, advice, placement, agreement, a move, a change of phase."""

from datetime import date
from typing import Any

import pytest

from schemas.plan import Child, Circumstances, PlanVersion
from services.ehcp_publisher.currency import FlagCode, flags

TODAY = date(2026, 3, 10)
TRUST = {"role": "advice", "kind": "trust", "organisation": {"scheme": "ods", "value": "RNA"}, "advice_dated": "2025-11-01"}
SOCIAL_WORKER = {"role": "advice", "kind": "social_care", "profession": "social worker", "advice_dated": "2025-11-01"}
# Nothing to look at: every other plan of these tests is this one with something changed.
COMPLETE: dict[str, Any] = {
    "issued_on": "2026-01-20",
    "sections": {
        letter: {"text": f"What section {letter} says."} for letter in ("A", "B", "C", "D", "E", "F", "G", "H1", "I", "K")
    },
    "placements": [{"setting": {"scheme": "urn", "value": "100001"}, "from": "2024-09-02"}],
    "involved": [TRUST, SOCIAL_WORKER],
    "views_recorded_on": "2025-11-20",
    "health_provision_agreed": {"by": {"scheme": "ods", "value": "QUA"}, "on": "2025-12-01"},
}
DOCUMENT = COMPLETE | {"sections": None}
CHILD = {"family_name": "Ashworth", "given_names": "Ida Rose", "date_of_birth": "2017-03-03"}


def found(
    changes: dict[str, Any] | None = None, born: str = "2017-03-03", on: date = TODAY, moved_since: date | None = None,
    now: dict[str, Any] | None = None, la_code: str | None = "332",
) -> dict[str, str]:  # fmt: skip
    version = PlanVersion.model_validate(COMPLETE | (changes or {}))
    circumstances = Circumstances.model_validate(version.circumstances().model_dump(by_alias=True) | (now or {}))
    child = Child.model_validate(CHILD | {"date_of_birth": born})
    return {flag.code.value: flag.detail for flag in flags(version, child, circumstances, on, moved_since, la_code)}


def sections(**texts: str | None) -> dict[str, Any]:
    changed = COMPLETE["sections"] | {letter: {"text": text} for letter, text in texts.items() if text is not None}
    return {"sections": {letter: section for letter, section in changed.items() if texts.get(letter, "") is not None}}


def test_nothing_to_look_at() -> None:
    assert found() == {}
    assert found(DOCUMENT) == {}


class TestViews:
    @pytest.mark.parametrize("plan", [COMPLETE, DOCUMENT])
    def test_are_current_for_twelve_months(self, plan: dict[str, Any]) -> None:
        dated = plan | {"views_recorded_on": "2025-03-10"}
        assert found(dated, on=date(2026, 3, 10)) == {}
        assert found(dated, on=date(2026, 3, 11)) == {
            "views_not_current": "The views in section A are of 10 March 2025, more than twelve months ago."
        }

    def test_of_29_february_are_current_until_28_february(self) -> None:
        dated = {"views_recorded_on": "2024-02-29", "involved": [], **sections(C=None, D=None, G=None, H1=None)}
        assert "views_not_current" not in found(dated, on=date(2025, 2, 28))
        assert "views_not_current" in found(dated, on=date(2025, 3, 1))

    @pytest.mark.parametrize("plan", [COMPLETE, DOCUMENT])
    def test_without_a_date_nobody_knows(self, plan: dict[str, Any]) -> None:
        assert set(found(plan | {"views_recorded_on": None})) == {"views_not_current"}


class TestAdvice:
    def test_none_at_all(self) -> None:
        assert found({"involved": []}) == {
            "health_advice_not_current": "Sections C and G have content, but section K lists no health advice.",
            "social_care_advice_not_current": "Sections D and H1 have content, but section K lists no social care advice.",
        }

    def test_the_newest_counts(self) -> None:
        older = TRUST | {"advice_dated": "2019-05-05"}
        assert found({"involved": [older, TRUST, SOCIAL_WORKER]}) == {}
        assert set(found({"involved": [older, SOCIAL_WORKER]})) == {"health_advice_not_current"}
        assert "is of 5 May 2019" in found({"involved": [older, SOCIAL_WORKER]})["health_advice_not_current"]

    def test_without_a_date_it_is_not_known_to_be_current(self) -> None:
        undated = SOCIAL_WORKER | {"advice_dated": None}
        assert "not recorded" in found({"involved": [TRUST, undated]})["social_care_advice_not_current"]

    def test_who_gives_provision_has_not_advised(self) -> None:
        provider = TRUST | {"role": "provision"}
        assert set(found({"involved": [provider, SOCIAL_WORKER]})) == {"health_advice_not_current"}

    @pytest.mark.parametrize("nothing", ["None.", "n/a", "Not applicable", " - None identified - ", "Nil"])
    def test_a_section_that_says_nothing_needs_none(self, nothing: str) -> None:
        assert found({"involved": [TRUST], **sections(D=nothing, H1=nothing)}) == {}

    def test_a_section_that_says_no_and_more_does(self) -> None:
        said = sections(D="None identified by the duty team, but an assessment is under way.", H1=None)
        assert set(found({"involved": [TRUST], **said})) == {"social_care_advice_not_current"}

    @pytest.mark.parametrize(
        "adviser",
        [
            {"role": "advice", "profession": "paediatrician", "sections": ["C"], "advice_dated": "2025-11-01"},
            {"role": "advice", "organisation": {"scheme": "ods", "value": "TAJ"}, "advice_dated": "2025-11-01"},
            {"role": "advice", "kind": "camhs", "profession": "psychologist", "advice_dated": "2025-11-01"},
        ],
    )
    def test_health_is_known_by_kind_by_section_or_by_code(self, adviser: dict[str, Any]) -> None:
        assert found({"involved": [adviser, SOCIAL_WORKER]}) == {}

    def test_a_school_is_neither(self) -> None:
        school = {"role": "advice", "kind": "school", "profession": "teacher", "sections": ["B"], "advice_dated": "2026-01-01"}
        assert len(found({"involved": [school]})) == 2

    def test_of_a_document_by_who_is_involved(self) -> None:
        nurse = {"role": "provision", "kind": "trust", "profession": "nurse", "sections": ["G"]}
        assert set(found(DOCUMENT | {"involved": [nurse]})) == {"health_advice_not_current"}
        assert found(DOCUMENT | {"involved": []}) == {}

    def test_new_advice_between_two_versions_counts(self) -> None:
        assert found({"involved": []}, now={"involved": [TRUST, SOCIAL_WORKER]}) == {}


class TestPlacement:
    def test_neither_name_nor_type(self) -> None:
        assert found(sections(I=None) | {"placements": []}) == {
            "no_placement": "Section I names neither a setting nor a type of setting (reg 12(1)(i))."
        }

    @pytest.mark.parametrize("changes", [{"placements": []}, DOCUMENT | {"placements": []}])
    def test_a_text_alone_shares_with_nobody(self, changes: dict[str, Any]) -> None:
        assert "no setting gets the plan" in found(changes)["no_placement"]

    def test_a_type_is_enough(self) -> None:
        assert found({"placements": [{"setting_type": "special school", "from": "2025-09-01"}]}) == {}

    def test_all_have_ended(self) -> None:
        ended = {"placements": [COMPLETE["placements"][0] | {"until": "2026-03-09"}]}
        assert "Every placement has ended" in found(ended)["no_placement"]
        assert found(ended, on=date(2026, 3, 9)) == {}

    def test_septembers_school_is_one(self) -> None:
        assert found({"placements": [COMPLETE["placements"][0] | {"from": "2026-09-01"}]}) == {}


class TestMove:
    CARE = {"looked_after_by": "332"}  # noqa: RUF012 - read only

    def test_after_the_version(self) -> None:
        assert found(now=self.CARE, moved_since=date(2026, 2, 1)) == {
            "moved_since_version": "The child has moved since this version of 20 January 2026 was issued."
        }

    def test_before_it_or_never(self) -> None:
        assert found(now=self.CARE, moved_since=date(2026, 1, 20)) == {}
        assert found(now=self.CARE) == {}

    def test_only_of_a_child_who_is_looked_after(self) -> None:
        assert found(moved_since=date(2026, 2, 1)) == {}


class TestLivesElsewhere:
    def test_in_another_councils_area(self) -> None:
        assert found(now={"resident_in": "333"}) == {
            "lives_elsewhere": "The child lives in the area of council 333, to which the plan is to be transferred (reg 15(2))."
        }

    def test_at_home_or_after_the_transfer(self) -> None:
        assert found(now={"resident_in": "332"}) == {}
        assert found(now={"resident_in": "333"}, la_code="333") == {}

    def test_where_a_looked_after_child_is_placed_may_be_no_move(self) -> None:
        assert found(now={"resident_in": "333", "looked_after_by": "332"}) == {}


class TestPhaseTransfer:
    YEAR_SIX = "2015-03-03"

    def test_within_the_window(self) -> None:
        assert found(born=self.YEAR_SIX) == {
            "phase_transfer": "The next phase of education begins on 1 September 2026: the plan must name its setting or type "
            "by 14 February 2026 (reg 18(1))."
        }

    def test_post_16_has_until_march(self) -> None:
        assert "by 30 March 2026" in found(born="2010-03-03")["phase_transfer"]

    def test_outside_it(self) -> None:
        assert found(born=self.YEAR_SIX, on=date(2025, 8, 31), changes={"views_recorded_on": "2025-01-01"}) == {}

    def test_the_plan_names_septembers_setting_already(self) -> None:
        both = [
            COMPLETE["placements"][0] | {"until": "2026-07-20"},
            {"setting_type": "mainstream secondary school", "from": "2026-09-01"},
        ]
        assert found({"placements": both}, born=self.YEAR_SIX) == {}

    def test_a_move_in_the_last_year_of_primary_is_no_answer(self) -> None:
        moved = {"placements": [COMPLETE["placements"][0] | {"from": "2025-11-03"}]}
        assert set(found(moved, born=self.YEAR_SIX)) == {"phase_transfer"}


class TestAgreement:
    def test_health_provision_without_who_agreed_it(self) -> None:
        assert set(found({"health_provision_agreed": None})) == {"health_provision_not_agreed"}

    def test_no_health_provision(self) -> None:
        assert found({"health_provision_agreed": None, **sections(G="None")}) == {}


def test_details_name_nobody() -> None:
    elsewhere = found(now={"resident_in": "333"})
    worst = elsewhere | found(
        {"involved": [], "placements": [], "views_recorded_on": None, "health_provision_agreed": None}, born="2015-03-03",
        moved_since=date(2026, 2, 1), now={"looked_after_by": "332"},
    )  # fmt: skip
    # That another council has a plan too is known to the database alone: ``test_two_councils``.
    assert set(worst) == {code.value for code in FlagCode} - {FlagCode.PLAN_ELSEWHERE.value}
    said = " ".join([*worst, *worst.values()]).lower()
    assert not [word for word in ("ida", "rose", "ashworth", "2015", "looked", "332") if word in said]
