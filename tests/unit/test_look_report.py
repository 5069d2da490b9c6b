"""What an inspector's report says: each verdict, what is counted, and the interval, worked out by hand."""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest

from schemas.holdings import Found
from schemas.looks import LookReport, Verdict
from services.audit import looks
from services.shared.delivery.differences import Difference

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
OLD, WANTED, NEW = UUID(int=1), UUID(int=2), UUID(int=3)
SHA = "ab" * 32
TRUST = UUID(int=100)


def share(number: int = 1, plan: int = 1, **changes: Any) -> dict[str, Any]:
    """A trust that should hold version 2 of a plan, and does."""
    return {
        "share_id": UUID(int=1000 + number), "plan_id": UUID(int=500 + plan), "subscriber": "health", "seq": 3,
        "version_id": WANTED, "sha256": SHA, "recipient_id": TRUST, "recipient_kind": "trust", "recipient_name": "Dudley Group",
        "person": False, "channel": "fhir", "grounds": ["decision"], "hosted_by": "agency", "found": Found.HELD,
        "found_version_id": WANTED, "found_sha256": SHA, "record": "DocumentReference/1", "withdrawn": False, "intact": True,
        "reason": None, "at": NOW, "signed": b"a.b.c", "found_version": 2, "newer": False, "recalled": False,
        "satisfied_seq": 3, "proved_version_id": WANTED, "proved_status": "filed", "proved_record": "DocumentReference/1",
        "proved_at": NOW, "proved_version": 2, "told_status": "filed", "told_reason": None,
    } | changes  # fmt: skip


ABSENT: dict[str, Any] = {
    "found": Found.ABSENT,
    "found_version_id": None,
    "found_sha256": None,
    "record": None,
    "found_version": None,
}
UNKNOWN: dict[str, Any] = ABSENT | {"withdrawn": False, "intact": True}


@pytest.mark.parametrize(
    ("changes", "verdict", "difference", "reason"),
    [
        ({}, Verdict.CURRENT, None, None),
        ({"found_version_id": OLD, "found_version": 1}, Verdict.OLDER_VERSION, Difference.STALE, None),
        ({"found_version_id": NEW, "found_version": 3, "newer": True}, Verdict.CURRENT, None, None),
        ({"found_version_id": NEW, "found_version": 3, "newer": True, "recalled": True},
         Verdict.OLDER_VERSION, Difference.STALE, looks.RECALLED),
        ({"found_version_id": OLD, "found_version": 1, "recalled": True},
         Verdict.OLDER_VERSION, Difference.STALE, looks.RECALLED),
        ({"found_sha256": "0" * 64}, Verdict.ALTERED, Difference.ALTERED, "what is there is not what was filed"),
        ({"intact": False}, Verdict.ALTERED, Difference.ALTERED, "a file of it is missing or changed"),
        ({"withdrawn": True}, Verdict.ALTERED, Difference.ALTERED, "it is marked as no longer updated"),
        (ABSENT, Verdict.ABSENT, Difference.MISSING_FROM_RECORD, None),
        (ABSENT | {"satisfied_seq": 2, "proved_version_id": OLD}, Verdict.ABSENT, Difference.NEVER_ARRIVED, None),
        (ABSENT | {"satisfied_seq": 0, "proved_version_id": None}, Verdict.ABSENT, Difference.NEVER_ARRIVED, None),
        (ABSENT | {"satisfied_seq": 0, "proved_version_id": None, "told_status": "refused", "told_reason": "no patient"},
         Verdict.ABSENT, Difference.NEVER_ARRIVED, "refused: no patient"),
        (UNKNOWN | {"found": Found.CANNOT_BE_ASKED, "reason": "no"}, Verdict.CANNOT_BE_ASKED, None, "no"),
        (UNKNOWN | {"found": Found.NO_ANSWER, "reason": "away"}, Verdict.NO_ANSWER, None, "away"),
        (UNKNOWN | {"found": Found.BY_HAND}, Verdict.BY_HAND, None, None),
        (UNKNOWN | {"found": Found.NOT_SERVED}, Verdict.ABSENT, Difference.NEVER_ARRIVED, looks.NOT_SERVED),
        (UNKNOWN | {"found": None}, Verdict.NO_ANSWER, None, looks.NOT_ANSWERED),
        (UNKNOWN | {"found": None, "subscriber": None}, Verdict.ABSENT, Difference.NEVER_ARRIVED, looks.NOBODY_DELIVERS),
    ],
)  # fmt: skip
def test_each_record_has_its_verdict(
    changes: dict[str, Any], verdict: Verdict, difference: Difference | None, reason: str | None
) -> None:
    assert looks.judge(share(**changes)) == (verdict, difference, reason)


@pytest.mark.parametrize(
    ("current", "of", "low", "high"),
    [
        # (p + z²/2n ± z·√(p(1-p)/n + z²/4n²)) / (1 + z²/n) with z² = 3.8415
        (18, 20, "69.9", "97.2"),
        (0, 10, "0.0", "27.8"),
        (10, 10, "72.2", "100.0"),
        (48, 50, "86.5", "98.9"),
        (1, 1, "20.7", "100.0"),
    ],
)
def test_the_interval_is_wilsons(current: int, of: int, low: str, high: str) -> None:
    found = looks.interval(current, of)
    assert (found.low, found.high) == (low, high)


def report(shares: list[dict[str, Any]], *, population: int | None = 100, gaps: tuple[int, ...] = ()) -> LookReport:
    plans = sorted({each["plan_id"] for each in shares} | {UUID(int=500 + each) for each in gaps})
    rows = [
        {"plan_id": each, "case_reference": f"EHC-{each.int}", "version": 2, "issued_on": date(2026, 9, 1)} for each in plans
    ]
    look = {
        "look_id": UUID(int=9), "la_code": "332", "asked_at": NOW, "asked_by": "operator",
        "asked": {"seed": "1" if population else None, "population": population, "agency": None, "kind": None,
                  "not_looked_at": [{"position": 2, "reason": "unknown"}]},
    }  # fmt: skip
    found = [{"plan_id": UUID(int=500 + each), "who": "therapies: speech", "reason": "no share", "since": NOW} for each in gaps]
    return looks.report(look, "Dudley", rows, shares, found, {"health": {"kty": "OKP"}, "school": {}}, NOW)


def test_what_was_not_seen_is_counted_beside_and_never_as_present() -> None:
    made = report([
        share(1, 1), share(2, 2, **ABSENT), share(3, 3, **UNKNOWN | {"found": Found.NO_ANSWER}),
        share(4, 4, **UNKNOWN | {"found": Found.CANNOT_BE_ASKED}),
    ])  # fmt: skip
    (total,) = made.totals
    assert (total.wanted, total.looked_into, total.current, total.absent) == (4, 2, 1, 1)
    assert (total.no_answer, total.cannot_be_asked, total.per_cent) == (1, 1, "50.0")
    assert total.interval == looks.interval(1, 2)
    assert not made.complete
    assert (made.with_all_current.looked_into, made.with_all_current.current) == (2, 1)
    assert [child.all_current for child in made.children] == [True, False, None, None]


def test_organisations_are_counted_each_and_families_together() -> None:
    people = [
        share(10 + each, each, recipient_id=UUID(int=each), recipient_kind="parent", recipient_name=f"M{each}", person=True,
              **UNKNOWN | {"found": Found.BY_HAND})
        for each in (1, 2)
    ]  # fmt: skip
    other = share(20, 2, recipient_id=UUID(int=7), recipient_name="Russells Hall")
    made = report([share(1, 1), *people, other])
    assert [(each.agency, each.wanted, each.by_hand) for each in made.totals] == [
        ("parent", 2, 2), ("Dudley Group", 1, 0), ("Russells Hall", 1, 0),
    ]  # fmt: skip
    assert made.totals[0].per_cent is None
    assert made.complete


@pytest.mark.parametrize("population", [None, 1])
def test_nothing_is_estimated_from_a_choice_or_when_all_were_looked_at(population: int | None) -> None:
    made = report([share()], population=population)
    assert made.with_all_current.per_cent == "100.0"
    assert made.with_all_current.interval is None
    assert made.totals[0].interval is None
    assert (made.drawn_by is None) == (population is None)


def test_every_earlier_draw_is_told_with_its_result() -> None:
    asked = {"seed": "1", "population": 100, "n": 50, "agency": None, "kind": None, "not_looked_at": []}
    draws = [
        {"look_id": UUID(int=20 + each), "asked_at": NOW, "asked_by": "operator", "asked": asked, "children": 3}
        for each in range(looks.DRAWS_COUNTED + 1)
    ]
    newest = {"look_id": UUID(int=20)}
    found = looks.earlier_draws(
        draws,
        [share(1, 1) | newest, share(2, 1, **ABSENT) | newest, share(3, 2) | newest,
         share(4, 3, **UNKNOWN | {"found": Found.NO_ANSWER}) | newest],
    )  # fmt: skip
    assert (found[0].seed, found[0].children, found[0].looked_into, found[0].current) == ("1", 3, 2, 1)
    assert (found[1].looked_into, found[1].current) == (0, 0)
    assert (found[-1].look_id, found[-1].looked_into, found[-1].current) == (draws[-1]["look_id"], None, None)


def test_gaps_stand_with_their_child_and_keys_with_whose_word_it_is() -> None:
    made = report([share()], gaps=(1, 2))
    assert [[gap.who for gap in child.gaps] for child in made.children] == [["therapies: speech"]] * 2
    assert made.with_gaps == 2
    assert made.keys == {"health": {"kty": "OKP"}}
    assert [(each.position, each.reason) for each in made.not_looked_at] == [(2, "unknown")]


def test_the_last_proof_says_whether_it_is_for_the_current_version() -> None:
    made = report([share(proved_version_id=OLD, proved_version=1, **UNKNOWN | {"found": Found.CANNOT_BE_ASKED})])
    proof = made.children[0].records[0].last_proof
    assert proof is not None
    assert (proof.status, proof.version, proof.current) == ("filed", 1, False)
