"""Ordering of instructions, back-off, and which evidence may follow what. Expectations are written by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.base import Channel
from schemas.receipts import Status, satisfies
from services.shared.delivery.states import BACK_OFF, OVERTAKEN, Action, Parked, Wish, accepts, back_off, park, status_of
from services.shared.record_systems.port import (
    Awaiting,
    Collected,
    Filed,
    Outcome,
    RecallOutcome,
    Refused,
    Removed,
    Retry,
    Sent,
    Withdrawn,
    WithdrawOutcome,
)

ONE, TWO = "1" * 64, "2" * 64


def hold(seq: int, sha256: str = ONE) -> Wish:
    return Wish(seq, Action.HOLD, sha256)


def withdraw(seq: int) -> Wish:
    return Wish(seq, Action.WITHDRAW, None)


def recall(seq: int) -> Wish:
    return Wish(seq, Action.RECALL, None)


def release(seq: int) -> Wish:
    return Wish(seq, Action.RELEASE, None)


@pytest.mark.parametrize(
    ("known", "coming", "parked"),
    [
        (None, hold(1), Parked.NEW),
        (None, hold(7), Parked.NEW),
        (None, withdraw(2), Parked.NEW),
        (hold(1), hold(2, TWO), Parked.NEW),
        (hold(1), hold(2, ONE), Parked.NEW),
        (hold(1), withdraw(2), Parked.NEW),
        (withdraw(2), hold(3), Parked.NEW),
        (hold(2), hold(2), Parked.AGAIN),
        (withdraw(2), withdraw(2), Parked.AGAIN),
        (hold(2), hold(1, TWO), Parked.SUPERSEDED),
        (hold(2), hold(1, ONE), Parked.SUPERSEDED),
        (withdraw(2), hold(1), Parked.SUPERSEDED),
        (hold(3), withdraw(2), Parked.SUPERSEDED),
        (hold(2, ONE), hold(2, TWO), Parked.CONFLICT),
        (hold(2), withdraw(2), Parked.CONFLICT),
        (withdraw(2), hold(2), Parked.CONFLICT),
        (hold(2), recall(3), Parked.NEW),
        (recall(3), hold(2), Parked.SUPERSEDED),
        (recall(3), recall(3), Parked.AGAIN),
        (recall(3), withdraw(3), Parked.CONFLICT),
        (hold(2), release(3), Parked.NEW),
        (release(3), hold(4), Parked.NEW),
        (release(3), hold(2), Parked.SUPERSEDED),
        (release(3), recall(3), Parked.CONFLICT),
        (None, hold(1_000_000), Parked.NEW),
        (None, hold(1_000_001), Parked.TOO_FAR),
        (hold(5), hold(1_000_005), Parked.NEW),
        (hold(5), withdraw(1_000_006), Parked.TOO_FAR),
        (hold(2_000_000), hold(1_000_001), Parked.SUPERSEDED),
    ],
)
def test_what_an_instruction_means_for_what_is_there(known: Wish | None, coming: Wish, parked: Parked) -> None:
    assert park(known, coming) is parked


wishes = st.builds(hold, st.integers(1, 5), st.sampled_from([ONE, TWO])) | st.sampled_from([withdraw, recall, release]).flatmap(
    lambda end: st.builds(end, st.integers(1, 5))
)


@given(st.lists(wishes, min_size=1))
def test_the_highest_seq_stays_and_the_first_of_equals(coming: list[Wish]) -> None:
    known: Wish | None = None
    for each in coming:
        if park(known, each) is Parked.NEW:
            known = each
    highest = max(each.seq for each in coming)
    assert known == next(each for each in coming if each.seq == highest)


@pytest.mark.parametrize(
    ("attempts", "asked", "seconds"),
    [
        (1, None, 5),
        (2, None, 300),
        (3, None, 1800),
        (4, None, 7200),
        (5, None, 18_000),
        (6, None, 36_000),
        (7, None, 36_000),
        (1000, None, 36_000),
        (0, None, 5),
        (1, 90.0, 90),
        (2, 90.0, 300),
        (6, 100_000.0, 100_000),
    ],
)
def test_waits_longer_and_never_less_than_was_asked_for(attempts: int, asked: float | None, seconds: float) -> None:
    assert back_off(attempts, asked, jitter=0.0) == seconds
    assert back_off(attempts, asked, jitter=1.0) == pytest.approx(seconds * 1.2)


@given(st.integers(0, 50), st.none() | st.floats(0, 10**6))
def test_always_tried_again_spread_by_at_most_a_fifth(attempts: int, asked: float | None) -> None:
    least = max(asked or 0.0, BACK_OFF[0])
    assert least <= back_off(attempts, asked) <= max(asked or 0.0, BACK_OFF[-1]) * 1.2


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Filed("DocumentReference/1", ONE), Status.FILED),
        (Collected("1"), Status.COLLECTED),
        (Sent("inbox/1"), Status.SENT),
        (Awaiting("1"), Status.WAITING),
        (Retry("away"), Status.FAILED),
        (Refused("no patient"), Status.REFUSED),
        (Withdrawn("DocumentReference/1"), Status.WITHDRAWN),
        (Removed("1 entry removed"), Status.RECALLED),
    ],
)
def test_what_a_receipt_says_of_an_outcome(outcome: Outcome | WithdrawOutcome | RecallOutcome, status: Status) -> None:
    assert status_of(outcome) is status


FOLLOWS = {
    (Status.WAITING, Status.SENT),
    (Status.WAITING, Status.COLLECTED),
    (Status.WAITING, Status.OPENED),
    (Status.WAITING, Status.FILED),
    (Status.WAITING, Status.REFUSED),
    (Status.FAILED, Status.SENT),
    (Status.FAILED, Status.COLLECTED),
    (Status.FAILED, Status.OPENED),
    (Status.FAILED, Status.FILED),
    (Status.FAILED, Status.REFUSED),
    (Status.SENT, Status.COLLECTED),
    (Status.SENT, Status.OPENED),
    (Status.SENT, Status.FILED),
    (Status.SENT, Status.REFUSED),
    (Status.COLLECTED, Status.OPENED),
    (Status.COLLECTED, Status.FILED),
    (Status.COLLECTED, Status.REFUSED),
    (Status.OPENED, Status.FILED),
}


def allowed(action: Action) -> set[tuple[Status, Status]]:
    return {(state, evidence) for state in Status for evidence in Status if accepts(action, state, evidence)}


def test_every_other_evidence_is_refused() -> None:
    assert allowed(Action.HOLD) == FOLLOWS


def test_a_recall_ends_by_a_statement_of_removal_and_by_nothing_else() -> None:
    assert allowed(Action.RECALL) == {
        (Status.WAITING, Status.RECALLED),
        (Status.FAILED, Status.RECALLED),
        (Status.REFUSED, Status.RECALLED),
    }


def test_what_is_over_takes_no_evidence() -> None:
    assert allowed(Action.WITHDRAW) == allowed(Action.RELEASE) == set()


def test_only_proof_outlasts_an_outcome_that_comes_after_it() -> None:
    assert set(OVERTAKEN) == {pair for pair in FOLLOWS if pair[1] is not Status.REFUSED}


# A row for each channel, a letter for each status in this order: yes, or no.
STATUSES = [
    "waiting", "sent", "collected", "filed", "opened", "refused", "failed", "superseded", "withdrawn", "recalled", "released",
    "conflict",
]  # fmt: skip
SATISFYING = {
    "fhir": "n n n y n n n n y y y n",
    "mesh": "n n n y n n n n y y y n",
    "hl7v2": "n n y y y n n n y y y n",
    "webhook": "n n n y n n n n y y y n",
    "sftp": "n n n y n n n n y y y n",
    "inbox": "n n n y y n n n y y y n",
    "manual": "n y y y y n n n y y y n",
}


def test_which_word_satisfies_which_channel() -> None:
    assert SATISFYING.keys() == set(Channel)
    assert set(STATUSES) == set(Status)
    for channel, row in SATISFYING.items():
        for status, letter in zip(STATUSES, row.split(), strict=True):
            assert satisfies(Channel(channel), Status(status)) is (letter == "y"), f"{status} over {channel}"
