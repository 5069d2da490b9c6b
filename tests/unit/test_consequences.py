"""What follows from an event: the plan's columns, who is around the child, whom to tell; and what cannot be."""

from dataclasses import replace
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from schemas.base import RecipientKind
from schemas.lifecycle import PLAN_EVENT, PlanState
from schemas.plan import Child, Circumstances
from services.ehcp_publisher.consequences import Before, Consequences, circumstances_after, consequences
from services.ehcp_publisher.registry import Directory, Registry
from services.ehcp_publisher.store import KnownPlan
from services.ehcp_publisher.versions import Issued
from services.shared.web.problems import Problem

TODAY = date(2026, 6, 15)
VERSION = Issued(uuid4(), 1, date(2026, 2, 10), "ab" * 32, {})
CHILD = Child(family_name="Example", given_names="Ann", date_of_birth=date(2014, 5, 6))
PLAN = KnownPlan(uuid4(), "332", "EHC-1", uuid4(), b"", b"", PlanState.LIVE, 1, 1, None, (), None, (VERSION,))
DIRECTORY = Directory(
    Registry.model_validate({"councils": [{"la_code": la, "name": la, "ods_code": "408"} for la in ("332", "333")]})
)


def before(**changes: Any) -> Before:
    plan = replace(PLAN, **{key: changes.pop(key) for key in ("state", "appeal_until") if key in changes})
    known = Before(plan, VERSION, None, CHILD, Circumstances(), None, None, None, DIRECTORY, has_document=False)
    return replace(known, **changes)


def follows(type_: str, known: Before | None = None, **fields: Any) -> Consequences:
    return consequences(PLAN_EVENT.validate_python({"type": type_, "by": "officer-1", **fields}), known or before(), TODAY)


def refused(slug: str, type_: str, known: Before | None = None, **fields: Any) -> str | None:
    """The field that is to be corrected."""
    with pytest.raises(Problem) as problem:
        follows(type_, known, **fields)
    assert problem.value.slug == slug
    return problem.value.errors[0].field if problem.value.errors else None


TOMORROW = "2026-06-16"


@pytest.mark.parametrize(
    ("type_", "field", "fields"),
    [
        ("cease_notice", "notified_on", {"ceases_on": TOMORROW, "reason": "other"}),
        ("cease", "ceased_on", {"reason": "other", "notified_on": "2026-05-01"}),
        ("transfer", "moved_on", {"to_la_code": "333", "aware_on": "2026-06-01"}),
        ("transfer", "aware_on", {"to_la_code": "333", "moved_on": "2026-06-01"}),
        ("commissioner_changed", "changed_on", {"commissioning_bodies": []}),
        ("family_changed", "changed_on", {"family": []}),
        ("involved_changed", "changed_on", {"involved": []}),
        ("care_changed", "changed_on", {}),
        ("review_held", "held_on", {"review": "R1"}),
        ("review_decided", "decided_on", {"review": "R1", "decision": "amend"}),
        ("objection", "received_on", {"from_reference": "M1"}),
        ("adoption", "adopted_on", {}),
        ("death", "died_on", {}),
    ],
)
def test_what_has_not_happened_yet(type_: str, field: str, fields: dict[str, Any]) -> None:
    assert refused("in-future", type_, **{field: TOMORROW, **fields}) == f"event/{field}"


@pytest.mark.parametrize(
    ("type_", "field", "fields"),
    [
        ("cease_notice", "notified_on", {"ceases_on": TOMORROW, "reason": "other"}),
        ("transfer", "moved_on", {"to_la_code": "333", "aware_on": "2026-06-01"}),
        ("placement_changed", "changed_on", {"placements": []}),
        ("care_changed", "changed_on", {"resident_in": "333"}),
        ("review_held", "held_on", {"review": "R1"}),
    ],
)
def test_a_mistyped_year_is_refused_since_no_clock_could_count_from_it(type_: str, field: str, fields: dict[str, Any]) -> None:
    assert refused("too-early", type_, **{field: "1926-06-01", **fields}) == f"event/{field}"
    assert follows(type_, **{field: "2014-09-01", **fields})


def test_placements_may_be_told_ahead_since_they_have_their_own_days() -> None:
    placement = {"setting": {"scheme": "urn", "value": "100001"}, "from": "2026-09-01"}
    known = follows("placement_changed", placements=[placement], changed_on="2026-09-01")
    assert known.circumstances
    assert [each.from_ for each in known.circumstances.placements] == [date(2026, 9, 1)]


@pytest.mark.parametrize(
    ("type_", "changes"),
    [
        ("placement_changed", {"placements": [{"setting_type": "special school", "from": "2026-09-01"}]}),
        ("commissioner_changed", {"commissioning_bodies": [{"scheme": "ods", "value": "QUA"}]}),
        ("family_changed", {"family": [{"reference": "M2", "role": "parent", "name": "Somebody"}]}),
        ("involved_changed", {"involved": [{"role": "advice", "name": "Somebody"}]}),
        ("care_changed", {"looked_after_by": "333"}),
    ],
)
def test_each_change_replaces_its_own_part_of_who_is_around_the_child_and_no_other(type_: str, changes: dict[str, Any]) -> None:
    everything: dict[str, Any] = {
        "placements": [{"setting_type": "mainstream", "from": "2020-09-01"}],
        "commissioning_bodies": [{"scheme": "ods", "value": "QHL"}], "resident_in": "333",
        "family": [{"reference": "M1", "role": "parent", "name": "Ann"}], "involved": [{"role": "advice", "name": "Ben"}],
    }  # fmt: skip
    known = before(circumstances=Circumstances.model_validate(everything))
    expected = everything | changes
    if type_ == "care_changed":
        del expected["resident_in"]  # what is left out is so no more
    found = follows(type_, known, **changes, changed_on="2026-06-01")
    assert found.circumstances == Circumstances.model_validate(expected)
    assert found.happened_on == date(2026, 6, 1)


def test_changes_follow_each_other_and_other_events_change_nothing() -> None:
    sent: list[dict[str, Any]] = [
        {"type": "family_changed", "family": [], "changed_on": "2026-06-01"},
        {"type": "lift"},
        {"type": "family_changed", "family": [{"reference": "M2", "role": "parent", "name": "Cy"}], "changed_on": "2026-06-02"},
        {"type": "care_changed", "looked_after_by": "332", "changed_on": "2026-05-01"},
    ]
    events = [PLAN_EVENT.validate_python({"by": "x", **each}) for each in sent]
    found = circumstances_after(Circumstances(), events)
    assert ([member.reference for member in found.family], found.looked_after_by) == (["M2"], "332")


def test_the_end_of_a_plan_frees_its_child_for_another_and_stops_its_days() -> None:
    ends: list[tuple[str, dict[str, Any]]] = [
        ("cease", {"ceased_on": "2026-06-01", "reason": "other", "notified_on": "2026-05-01"}),
        ("adoption", {"adopted_on": "2026-06-01"}),
        ("death", {"died_on": "2026-06-01"}),
        ("transfer", {"to_la_code": "301", "moved_on": "2026-06-01", "aware_on": "2026-06-01"}),
    ]
    for type_, fields in ends:
        known = follows(type_, **fields)
        assert known.child_columns == {"findable": False}
        assert known.plan["decide_on"] is None
        assert known.plan["ceases_on"] == date(2026, 6, 1)


def test_nothing_more_reaches_the_family_after_a_death_or_an_adoption() -> None:
    assert follows("death", died_on="2026-06-01").quiet
    assert follows("death", died_on="2026-06-01").plan["died"] is True
    assert follows("adoption", adopted_on="2026-06-01").quiet, "the family that the plan names is the child's no more"


def test_reopening_takes_the_end_back() -> None:
    known = follows("reopen", before(state=PlanState.CEASED), reopened_on="2026-06-10", reason="appeal_succeeded")
    assert known.state is PlanState.LIVE
    assert known.plan == {"ceases_on": None, "appeal_until": None, "cease_reason": None, "died": False}
    assert known.child_columns == {"findable": True}
    notice = follows("reopen", before(state=PlanState.CEASING), reopened_on="2026-06-10", reason="notice_withdrawn")
    assert notice.child_columns == {}, "it was never to be had again"


def test_a_transfer_within_the_exchange_leaves_the_state_and_takes_the_reference() -> None:
    moved: dict[str, Any] = {"to_la_code": "333", "moved_on": "2026-06-08", "aware_on": "2026-06-08"}
    for state in (PlanState.LIVE, PlanState.CEASING):
        known = follows("transfer", before(state=state), **moved)
        assert (known.state, known.to_council, known.warnings) == (state, "333", ())
        assert known.plan == {"la_code": "333", "case_reference": "EHC-1"}
    assert follows("transfer", **moved, case_reference="X-9").plan["case_reference"] == "X-9"
    elsewhere = follows("transfer", **moved | {"to_la_code": "301"})
    assert (elsewhere.state, elsewhere.to_council) == (PlanState.TRANSFERRED, None)
    assert refused("same-council", "transfer", **moved | {"to_la_code": "332"}) == "event/to_la_code"


def test_a_wrong_childs_version_takes_its_circumstances_with_it_and_a_wrong_recipient_leaves_them() -> None:
    """``Before.circumstances`` are what remains without the recalled version."""
    around = Circumstances(resident_in="333")
    fields: dict[str, Any] = {"version_id": VERSION.version_id, "aware_at": "2026-06-14T23:30:00Z"}
    known = follows("recall", before(circumstances=around), reason="wrong_child", **fields)
    assert known.circumstances == around
    assert known.happened_on == date(2026, 6, 15), "the council's day is London's"
    kept = follows("recall", before(circumstances=around), reason="wrong_recipient", shares=[uuid4()], **fields)
    assert kept.circumstances is None
    notice = follows("recall", before(circumstances=around), reason="wrong_child", **fields | {"version_id": UUID(int=1)})
    assert notice.circumstances is None


NEVER = {"held_on": None, "decided_on": None}


@pytest.mark.parametrize(
    ("type_", "fields", "review", "slug"),
    [
        ("review_scheduled", {"meeting_on": "2026-06-14"}, None, "order"),
        ("review_scheduled", {"meeting_on": "2026-07-14"}, {"held_on": date(2026, 6, 1), "decided_on": None}, "order"),
        ("review_held", {"held_on": "2026-06-10"}, {"held_on": None, "decided_on": date(2026, 6, 9)}, "order"),
        ("review_decided", {"decision": "amend", "decided_on": "2026-06-10"}, None, "not-held"),
        ("review_decided", {"decision": "amend", "decided_on": "2026-06-10"}, NEVER, "not-held"),
        ("review_decided", {"decision": "amend", "decided_on": "2026-05-31"},
         {"held_on": date(2026, 6, 1), "decided_on": None}, "order"),
    ],
)  # fmt: skip
def test_impossible_orders(type_: str, fields: dict[str, Any], review: Any, slug: str) -> None:
    assert refused(slug, type_, before(review=review), review="R1", **fields)


def test_a_meeting_is_held_without_its_report_and_told_with_it() -> None:
    known = follows("review_held", review="R1", held_on="2026-06-10")
    assert (known.telling, known.review) == (None, ("R1", {"held_on": date(2026, 6, 10)}))
    told = follows("review_held", before(has_document=True), review="R1", held_on="2026-06-10")
    assert told.telling
    assert told.telling.event == "review_report"
    assert told.review == ("R1", {"held_on": date(2026, 6, 10), "reported_on": TODAY})


def test_the_plan_is_older_than_its_child() -> None:
    child = CHILD.model_copy(update={"date_of_birth": date(2026, 2, 11)})
    assert refused("dates", "child_corrected", child=child.model_dump()) == "event/child/date_of_birth"
    follows("child_corrected", child=CHILD.model_copy(update={"date_of_birth": date(2026, 2, 10)}).model_dump())


def test_two_people_confirm() -> None:
    recipient = uuid4()
    asked = {"asked_by": "officer-1", "decided_by": None, "once": False}
    assert refused("no-confirmation", "confirm", recipient_id=recipient, share=True) is None
    assert refused("same-person", "confirm", before(confirmation=asked), recipient_id=recipient, share=True) == "event/by"
    louder = before(confirmation={"asked_by": "OFFICER-1", "decided_by": None})
    assert refused("same-person", "confirm", louder, recipient_id=recipient, share=False) == "event/by"
    done = asked | {"asked_by": "officer-0", "decided_by": "officer-2"}
    assert refused("confirmed", "confirm", before(confirmation=done), recipient_id=recipient, share=False) is None
    other = asked | {"asked_by": "officer-2"}
    assert follows("confirm", before(confirmation=other), recipient_id=recipient, share=False).confirmed == (recipient, False)


@pytest.mark.parametrize(("once", "share"), [(True, True), (True, False), (False, True), (False, False)])
def test_an_organisation_is_confirmed_for_all_plans_where_it_is_the_organisation_that_is_new(once: bool, share: bool) -> None:
    recipient = uuid4()
    asked = before(confirmation={"asked_by": "officer-2", "decided_by": None, "once": once})
    assert follows("confirm", asked, recipient_id=recipient, share=share).familiar == (recipient if once and share else None)


def test_an_organisation_that_nobody_registered_is_no_one_to_share_with() -> None:
    fields: dict[str, Any] = {"organisation": {"scheme": "ods", "value": "RNA"}, "lawful_basis": "consent", "reason": "asked"}
    assert refused("unknown-organisation", "decide", share=True, **fields) == "event/organisation"
    known = follows("decide", share=False, **fields)
    assert known.decision
    assert not known.decision.share


def test_nobody_is_named_in_a_notice() -> None:
    known = follows(
        "cease_notice", notified_on="2026-06-01", ceases_on="2026-07-31", appeal_until="2026-08-01", reason="needs_met"
    )
    assert known.telling
    assert known.telling.notice.text == (
        "The council has decided to cease the plan on 31 July 2026. It stays in force until then, and while an appeal is "
        "possible, until 1 August 2026."
    )
    assert RecipientKind.PARENT not in known.telling.notice.model_dump_json()


# --- days in an impossible order ---

ENDS: dict[str, dict[str, Any]] = {
    "cease_notice": {"notified_on": "2026-05-01", "ceases_on": "2026-07-31", "reason": "needs_met"},
    "cease": {"ceased_on": "2026-05-01", "reason": "needs_met", "notified_on": "2026-04-01"},
    "reopen": {"reopened_on": "2026-05-01", "reason": "notice_withdrawn"},
    "transfer": {"to_la_code": "333", "moved_on": "2026-05-01", "aware_on": "2026-05-01"},
}


@pytest.mark.parametrize(
    ("type_", "state", "earlier", "said"),
    [
        ("cease_notice", "live", "reopen", "notified_on is 2026-05-01, and the plan was reopened on"),
        ("cease_notice", "live", "transfer", "notified_on is 2026-05-01, and the plan came from another council on"),
        ("cease", "live", "reopen", "ceased_on is 2026-05-01, and the plan was reopened on"),
        ("cease", "ceasing", "cease_notice", "ceased_on is 2026-05-01, and the family had the cease notice on"),
        ("reopen", "ceasing", "cease_notice", "reopened_on is 2026-05-01, and the family had the cease notice on"),
        ("reopen", "ceased", "cease", "reopened_on is 2026-05-01, and the plan ceased on"),
        ("transfer", "live", "transfer", "moved_on is 2026-05-01, and the plan came from another council on"),
    ],
)
def test_what_ends_a_plan_and_brings_it_back_comes_in_the_order_of_its_days(
    type_: str, state: str, earlier: str, said: str
) -> None:
    """Both days are in the sentence; on one and the same day it may be."""
    known = before(state=PlanState(state), ends=((earlier, date(2026, 5, 2)),))
    with pytest.raises(Problem) as problem:
        follows(type_, known, **ENDS[type_])
    assert (problem.value.status, problem.value.slug, problem.value.detail) == (409, "order", f"{said} 2026-05-02.")
    follows(type_, before(state=PlanState(state), ends=((earlier, date(2026, 5, 1)),)), **ENDS[type_])


def test_a_plan_does_not_cease_before_its_newest_version_was_issued() -> None:
    fields: dict[str, Any] = {"reason": "needs_met", "notified_on": "2026-01-01"}
    assert refused("order", "cease", ceased_on="2026-02-09", **fields) == "event/ceased_on"
    follows("cease", ceased_on="2026-02-10", **fields)
    follows("cease", ceased_on="2026-02-09", reason="deceased")


def test_nothing_happens_before_the_child_was_born() -> None:
    young = before(child=CHILD.model_copy(update={"date_of_birth": date(2026, 1, 5)}))
    with pytest.raises(Problem, match="not born"):
        follows("review_held", young, review="R1", held_on="2026-01-04")
    follows("review_held", young, review="R1", held_on="2026-01-05")


def test_a_decision_is_not_over_before_it_is_made() -> None:
    fields: dict[str, Any] = {"organisation": {"scheme": "ods", "value": "RNA"}, "lawful_basis": "consent", "reason": "asked"}
    assert refused("order", "decide", share=False, until="2026-06-14", **fields) == "event/until"
    follows("decide", share=False, until="2026-06-15", **fields)


PAST = {"review": "R-1", "held_on": "2026-03-02", "decision": "maintain", "decided_on": "2026-03-20"}


def test_past_reviews_are_kept_and_nobody_is_told_of_them() -> None:
    for found in (
        follows("reviews_before", reviews=[PAST]),
        follows("taken_over", from_la_code="333", transferred_on="2026-06-01", reviews=[PAST]),
    ):
        assert [(each.review, each.decided_on) for each in found.past_reviews] == [("R-1", date(2026, 3, 20))]
        assert found.telling is None
    (unknown,) = follows("reviews_before", reviews=[PAST | {"decision": None}]).past_reviews
    assert (unknown.decision, unknown.decided_on) == (None, date(2026, 3, 20)), "what was decided is not known any more"
    assert follows("taken_over", from_la_code="333", transferred_on="2026-06-01").happened_on == date(2026, 6, 1)


def test_past_reviews_that_cannot_be() -> None:
    ahead = PAST | {"decided_on": TOMORROW}
    assert refused("in-future", "reviews_before", reviews=[PAST, ahead]) == "event/reviews/1/decided_on"
    assert refused("in-future", "taken_over", from_la_code="333", transferred_on=TOMORROW) == "event/transferred_on"
    assert refused("same-council", "taken_over", from_la_code="332", transferred_on="2026-06-01") == "event/from_la_code"
    assert refused("in-future", "transfer_told", told_on=TOMORROW) == "event/told_on"
    for wrong in (PAST | {"decided_on": "2026-03-01"}, {"review": "R-1", "held_on": "2026-03-02", "decision": "maintain"}):
        with pytest.raises(ValidationError):
            follows("reviews_before", reviews=[wrong])
