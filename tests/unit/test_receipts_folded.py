"""What all receipts of a share say together, and that neither order nor repetition changes it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from schemas.receipts import Status
from services.audit.newest import Told, fold

START = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
VERSIONS = UUID(int=1)
SATISFYING = {Status.FILED, Status.WITHDRAWN}


def told(number: int, seq: int, status: Status, **changes: Any) -> Told:
    values: dict[str, Any] = {
        "number": number, "seq": seq, "status": status, "satisfies": status in SATISFYING,
        "version_id": uuid5(VERSIONS, str(seq)), "sha256": None, "record": f"record/{seq}", "reason": None,
        "next_try_at": None, "at": START + timedelta(seconds=number),
    }  # fmt: skip
    return Told(**(values | changes))


def test_filed() -> None:
    row = fold([told(1, 1, Status.FILED)])
    assert (row.newest.number, row.satisfied_seq, row.lost) == (1, 1, False)
    assert row.held == told(1, 1, Status.FILED)


def test_the_greater_seq_counts_whatever_its_number() -> None:
    row = fold([told(9, 1, Status.FILED), told(3, 2, Status.FAILED)])
    assert row.newest == told(3, 2, Status.FAILED)
    assert row.satisfied_seq == 1
    assert row.held == told(9, 1, Status.FILED)


def test_instructions_answered_as_2_1_3_3_end_with_3() -> None:
    answers = [told(1, 2, Status.FILED), told(2, 1, Status.SUPERSEDED), told(3, 3, Status.FILED), told(3, 3, Status.FILED)]
    row = fold(answers)
    assert (row.newest.seq, row.satisfied_seq, row.lost) == (3, 3, False)
    assert row.held == told(3, 3, Status.FILED)


def test_what_was_recalled_and_removed_is_held_no_more_while_the_right_version_still_waits() -> None:
    filed, gone = told(1, 1, Status.FILED), (uuid5(VERSIONS, "1"),)
    assert fold([filed, told(2, 2, Status.WAITING, removed=gone)]).held is None
    assert fold([filed, told(2, 2, Status.FAILED, removed=(uuid5(VERSIONS, "9"),))]).held == filed
    again = told(3, 3, Status.FILED, version_id=gone[0])
    assert fold([filed, told(2, 2, Status.WAITING, removed=gone), again]).held == again


def test_late_failure_of_an_earlier_attempt_changes_nothing() -> None:
    row = fold([told(8, 1, Status.FILED), told(7, 1, Status.FAILED)])
    assert (row.newest.status, row.satisfied_seq, row.lost) == (Status.FILED, 1, False)


def test_filed_then_found_missing() -> None:
    row = fold([told(1, 1, Status.FILED), told(2, 2, Status.FILED), told(3, 2, Status.FAILED)])
    assert (row.newest.status, row.satisfied_seq, row.lost) == (Status.FAILED, 1, True)
    # Version 1 was replaced by version 2 in the record: it is no longer known to hold anything.
    assert row.held is None


def test_found_missing_then_filed_again() -> None:
    row = fold([told(1, 1, Status.FILED), told(2, 1, Status.FAILED), told(3, 1, Status.FILED)])
    assert (row.satisfied_seq, row.lost) == (1, False)
    assert row.held == told(3, 1, Status.FILED)


def test_found_missing_then_the_next_version_filed() -> None:
    row = fold([told(1, 1, Status.FILED), told(2, 1, Status.FAILED), told(3, 2, Status.FILED)])
    assert (row.satisfied_seq, row.lost) == (2, False)


def test_superseded_takes_nothing_back() -> None:
    row = fold([told(1, 1, Status.FILED), told(2, 1, Status.SUPERSEDED)])
    assert (row.newest.status, row.satisfied_seq, row.lost) == (Status.SUPERSEDED, 1, False)
    assert row.held == told(1, 1, Status.FILED)


def test_a_failed_attempt_at_the_next_version_leaves_the_former_one_held() -> None:
    row = fold([told(1, 1, Status.FILED), told(2, 2, Status.FAILED)])
    assert row.held == told(1, 1, Status.FILED)
    assert not row.lost


def test_withdrawn_copy_is_still_held() -> None:
    row = fold([told(1, 1, Status.FILED), told(2, 2, Status.WITHDRAWN)])
    assert row.satisfied_seq == 2
    assert row.held == told(1, 1, Status.FILED)


def test_recalled_is_not_held_any_more() -> None:
    row = fold([told(1, 1, Status.FILED), told(2, 2, Status.RECALLED)])
    assert row.held is None


def test_a_receipt_that_was_judged_weak_does_not_satisfy() -> None:
    row = fold([told(1, 4, Status.FILED, satisfies=False)])
    assert (row.satisfied_seq, row.lost) == (0, False)


_ANY = st.builds(
    lambda number, seq, status, weak: told(number, seq, status, satisfies=status in SATISFYING and not weak),
    st.integers(1, 12), st.integers(1, 4), st.sampled_from(list(Status)), st.booleans(),
)  # fmt: skip
_RECEIPTS = st.lists(_ANY, min_size=1, max_size=12, unique_by=lambda each: each.number)


@given(_RECEIPTS, st.randoms(use_true_random=False))
def test_order_and_repeats_change_nothing(receipts: Sequence[Told], random: Any) -> None:
    again = [*receipts, *receipts]
    random.shuffle(again)
    assert fold(again) == fold(receipts)


@given(_RECEIPTS)
def test_the_newest_of_each_seq_and_status_is_enough(receipts: Sequence[Told]) -> None:
    kept: dict[tuple[int, Status, bool], Told] = {}
    for each in sorted(receipts, key=lambda told: told.number):
        kept[each.seq, each.status, each.satisfies] = each
    assert fold(list(kept.values())) == fold(receipts)
