"""What may happen to a plan in which state: the whole table, every state with every event, written by hand."""

from datetime import date

import pytest

from schemas.lifecycle import EVENT_MODELS, PLAN_EVENT, Cease, CeaseNotice, CeaseReason, PlanState
from services.ehcp_publisher import lifecycle
from services.ehcp_publisher.consequences import _RULES
from services.ehcp_publisher.lifecycle import EVENTS, NOTICES, TRANSITIONS, after, allowed, check_cease
from services.shared.web.problems import Problem

L, G, C, T = PlanState.LIVE, PlanState.CEASING, PlanState.CEASED, PlanState.TRANSFERRED
REFUSED = None

#                            from: live  ceasing ceased transferred
TABLE: dict[str, tuple[PlanState | None, ...]] = {
    "new_version":               (L, G, REFUSED, REFUSED),
    "cease_notice":              (G, G, REFUSED, REFUSED),
    "cease":                     (C, C, REFUSED, REFUSED),
    "reopen":                    (REFUSED, L, L, REFUSED),
    "transfer":                  (T, T, REFUSED, REFUSED),
    "taken_over":                (L, G, REFUSED, REFUSED),
    "transfer_told":             (L, G, REFUSED, REFUSED),
    "reviews_before":            (L, G, REFUSED, REFUSED),
    "adoption":                  (C, C, REFUSED, REFUSED),
    "death":                     (C, C, REFUSED, REFUSED),
    "child_corrected":           (L, G, REFUSED, REFUSED),
    "placement_changed":         (L, G, REFUSED, REFUSED),
    "commissioner_changed":      (L, G, REFUSED, REFUSED),
    "family_changed":            (L, G, REFUSED, REFUSED),
    "involved_changed":          (L, G, REFUSED, REFUSED),
    "care_changed":              (L, G, REFUSED, REFUSED),
    "review_scheduled":          (L, G, REFUSED, REFUSED),
    "review_held":               (L, G, REFUSED, REFUSED),
    "review_decided":            (L, G, REFUSED, REFUSED),
    "objection":                 (L, G, REFUSED, REFUSED),
    "decide":                    (L, G, REFUSED, REFUSED),
    "confirm":                   (L, G, REFUSED, REFUSED),
    "recall":                    (L, G, C, T),
    "restrict":                  (L, G, C, T),
    "lift":                      (L, G, C, T),
}  # fmt: skip


@pytest.mark.parametrize("type_", TABLE)
@pytest.mark.parametrize("place", range(4), ids=["live", "ceasing", "ceased", "transferred"])
def test_every_event_in_every_state(type_: str, place: int) -> None:
    state, expected = (L, G, C, T)[place], TABLE[type_][place]
    if expected is not None:
        assert after(state, type_) is expected
        assert type_ in allowed(state)
        return
    with pytest.raises(Problem) as refused:
        after(state, type_)
    problem = refused.value
    possible = sorted(name for name, row in TABLE.items() if row[place] is not None)
    assert (problem.status, problem.slug, problem.extra) == (409, "not-in-this-state", {"state": state, "allowed": possible})
    what = "A new version" if type_ == "new_version" else f"The event {type_}"
    assert problem.detail == f"{what} is not possible now. From {state}: {', '.join(possible)}."


def test_the_table_knows_every_event_of_the_contract_and_no_other() -> None:
    assert EVENT_MODELS.keys() | {"new_version"} == TABLE.keys()
    assert {type_ for _, type_ in TRANSITIONS} == TABLE.keys()
    assert {model.model_fields["type"].default for model in _RULES} == TABLE.keys() - {"new_version"}


def test_nothing_leads_to_a_state_by_accident() -> None:
    """The pairs that the database guards, besides staying (migration 002)."""
    assert {(before, now) for (before, _), now in TRANSITIONS.items() if before is not now} == {
        (L, G), (L, C), (L, T), (G, L), (G, C), (G, T), (C, L),
    }  # fmt: skip


def test_what_is_told_to_everyone_and_what_is_the_councils_own_matter() -> None:
    assert TABLE.keys() - EVENTS.keys() == {
        "new_version", "family_changed", "involved_changed", "care_changed", "restrict", "lift", "objection", "decide",
        "confirm", "taken_over", "transfer_told", "reviews_before",
    }  # fmt: skip
    assert NOTICES.keys() == {"cease_notice", "review_scheduled", "review_held", "review_decided"}


NOTICE = CeaseNotice(by="x", notified_on=date(2026, 5, 1), ceases_on=date(2026, 7, 20), reason=CeaseReason.OTHER)


@pytest.mark.parametrize(
    ("state", "notified", "appeal_until", "decided", "refused"),
    [
        (L, False, None, False, "no-cease-notice"),
        (L, True, None, False, None),
        (G, False, None, False, None),
        (G, False, date(2026, 7, 19), False, None),
        (G, False, date(2026, 7, 20), False, "appeal-time"),
        (G, False, date(2026, 7, 21), False, "appeal-time"),
        (G, False, date(2026, 7, 21), True, None),
        (L, False, None, True, "no-cease-notice"),
    ],
)
def test_when_a_plan_may_cease(
    state: PlanState, notified: bool, appeal_until: date | None, decided: bool, refused: str | None
) -> None:
    event = Cease(
        by="x", ceased_on=date(2026, 7, 20), reason=CeaseReason.OTHER, notified_on=date(2026, 5, 1) if notified else None,
        appeal_decided=decided,
    )  # fmt: skip
    if refused is None:
        check_cease(state, event, appeal_until)
        return
    with pytest.raises(Problem) as problem:
        check_cease(state, event, appeal_until)
    assert problem.value.slug == refused


def test_an_appeal_time_that_ends_before_the_notice() -> None:
    with pytest.raises(Problem):
        lifecycle.check_cease_notice(NOTICE.model_copy(update={"appeal_until": date(2026, 4, 30)}))
    lifecycle.check_cease_notice(NOTICE.model_copy(update={"appeal_until": date(2026, 5, 1)}))
    lifecycle.check_cease_notice(NOTICE)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"type": "restrict", "reason": "court_order"}, {"type": "lift"}, True),
        ({"type": "cease", "ceased_on": "2026-07-20", "reason": "other"},
         {"type": "reopen", "reopened_on": "2026-08-01", "reason": "appeal_succeeded"}, True),
        ({"type": "review_held", "review": "R1", "held_on": "2026-07-20"},
         {"type": "review_held", "review": "R2", "held_on": "2026-07-20"}, False),
        ({"type": "family_changed", "family": [], "changed_on": "2026-07-20"},
         {"type": "placement_changed", "placements": [], "changed_on": "2026-07-20"}, False),
    ],
)  # fmt: skip
def test_what_takes_back_what_is_about_the_same(one: dict[str, str], other: dict[str, str], same: bool) -> None:
    """So the first, said again after the other, is no repeat."""
    first, second = (PLAN_EVENT.validate_python({"by": "x", **each}) for each in (one, other))
    assert (lifecycle.about(first) == lifecycle.about(second)) is same
