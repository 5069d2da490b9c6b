"""What an answer of the document API means for a claimed delivery, and what an outcome leaves in the books. Pure."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from schemas.documents import ReadAnswer, ReadOutcome
from schemas.receipts import HostedBy, Receipt, Status
from services.shared.delivery.dispatcher import AnyOutcome, Conflict, Restricted, _judge, record
from services.shared.delivery.receipts import Draft
from services.shared.delivery.store import Claimed
from services.shared.record_systems.port import Awaiting, Collected, Content, Filed, Refused, Removed, Retry, Sent, Withdrawn
from tests.support.subscriber import Wanted, wanted, wanted_notice

NOW = datetime(2026, 9, 3, 9, 0, tzinfo=UTC)
HELD = UUID(int=7)
READ_BACK = "f" * 64


def claimed(wish: Wanted, *, held_seq: int = 0, held: UUID | None = None, attempts: int = 0) -> Claimed:
    action = "withdraw" if wish.withdrawn else "recall" if wish.recalled else "hold"
    return Claimed(wish.share_id, wish.seq, action, orjson.loads(wish.instruction), "rna", held_seq, held, attempts)


def receipt_of(draft: Draft) -> Receipt:
    """As it will be signed: raises where the contract says that it does not say enough."""
    return Receipt(
        number=1, subscriber="health", hosted_by=HostedBy.AGENCY, share_id=draft.share_id, seq=draft.seq,
        status=draft.status, version_id=draft.version_id, sha256=draft.sha256, record=draft.record, reason=draft.reason,
        next_try_at=draft.next_try_at, attempt=draft.attempt, at=NOW,
    )  # fmt: skip


# --- what the council's answer means ------------------------------------------------------------------------------------


def test_the_rendering_that_was_wanted_is_content() -> None:
    wish = wanted(seq=3)
    content = _judge(claimed(wish, held_seq=2, held=HELD), wish.answer(3))
    assert isinstance(content, Content)
    assert (content.share_id, content.seq, content.plan_id) == (wish.share_id, 3, wish.plan_id)
    assert (content.version_id, content.sha256, content.replaces) == (wish.version_id, wish.sha256, HELD)


def test_another_rendering_than_the_instruction_names_is_asked_for_again() -> None:
    wish = wanted()
    other = replace(wish, version_id=uuid4())
    assert _judge(claimed(wish), other.answer(1)) == Retry("the rendering's hash is not the instruction's")


def test_an_answer_without_its_rendering_is_asked_for_again() -> None:
    wish = wanted()
    answer = ReadAnswer(share_id=wish.share_id, seq=1, outcome=ReadOutcome.OK, current_seq=1)
    assert _judge(claimed(wish), answer) == Retry("the document API's answer for this share cannot be read")


def stale(wish: Wanted, current: int | None) -> ReadAnswer:
    return ReadAnswer(share_id=wish.share_id, seq=wish.seq, outcome=ReadOutcome.STALE, current_seq=current)


def test_a_newer_instruction_is_waited_for() -> None:
    wish = wanted(seq=3)
    assert _judge(claimed(wish), stale(wish, 4)) == Retry("a newer instruction is on its way")
    answer = ReadAnswer(share_id=wish.share_id, seq=3, outcome=ReadOutcome.WITHDRAWN, current_seq=3)
    assert _judge(claimed(wish), answer) == Retry("a newer instruction is on its way")


@pytest.mark.parametrize("current", [1, 2, None])
def test_a_council_that_counts_lower_is_contradicted(current: int | None) -> None:
    wish = wanted(seq=3)
    assert isinstance(_judge(claimed(wish), stale(wish, current)), Conflict)


def test_a_share_that_is_not_ours_is_refused() -> None:
    wish = wanted()
    answer = ReadAnswer(share_id=wish.share_id, seq=1, outcome=ReadOutcome.UNKNOWN)
    assert _judge(claimed(wish), answer) == Refused("the council does not know this share")


def test_a_plan_that_is_restricted_is_waited_for_without_noise() -> None:
    wish = replace(wanted(), restricted=True)
    judged = _judge(claimed(wish), wish.answer(1))
    assert isinstance(judged, Restricted)
    result, draft = record(claimed(wish, attempts=1), judged, None, NOW)
    assert (result.status, result.held, result.reason) == (Status.WAITING, False, "the plan is restricted at the council")
    assert result.next_attempt_at is not None
    assert timedelta(seconds=300) <= result.next_attempt_at - NOW <= timedelta(seconds=360)
    assert receipt_of(draft).next_try_at == result.next_attempt_at


def test_a_notice_replaces_nothing_whatever_is_held() -> None:
    wish = wanted_notice()
    content = _judge(claimed(wish, held_seq=1, held=HELD), wish.answer(1))
    assert isinstance(content, Content)
    assert content.notice == wish.notice
    assert (content.replaces, dict(content.sections), content.version_id) == (None, {}, wish.version_id)


def test_a_version_that_was_removed_is_not_replaced() -> None:
    wish = replace(wanted(seq=3), remove=(HELD,))
    content = _judge(claimed(wish, held_seq=2, held=HELD), wish.answer(3))
    assert isinstance(content, Content)
    assert content.replaces is None


# --- what an outcome leaves ---------------------------------------------------------------------------------------------


def test_filed_is_held_with_the_hash_that_was_read_back() -> None:
    wish = wanted()
    result, draft = record(claimed(wish), Filed("DocumentReference/1", READ_BACK), wish.sha256, NOW)
    assert (result.status, result.held, result.version_id, result.sha256) == (Status.FILED, True, wish.version_id, READ_BACK)
    assert (result.record, result.reason, result.next_attempt_at) == ("DocumentReference/1", None, None)
    receipt = receipt_of(draft)
    assert (receipt.version_id, receipt.sha256, receipt.record) == (wish.version_id, READ_BACK, "DocumentReference/1")
    assert (receipt.seq, receipt.attempt, receipt.reason) == (1, 1, None)


def test_filed_with_a_warning_says_it() -> None:
    wish = wanted()
    result, draft = record(claimed(wish), Filed("1", READ_BACK, "the given name differs"), wish.sha256, NOW)
    assert (result.reason, draft.reason) == ("the given name differs", "the given name differs")


@pytest.mark.parametrize(("outcome", "status"), [(Sent("inbox/1"), Status.SENT), (Collected("MSH-1"), Status.COLLECTED)])
def test_what_was_only_handed_over_is_held_with_the_hash_that_was_sent(outcome: AnyOutcome, status: Status) -> None:
    wish = wanted()
    result, draft = record(claimed(wish), outcome, wish.sha256, NOW)
    assert (result.status, result.held, result.sha256) == (status, True, wish.sha256)
    assert receipt_of(draft).sha256 == wish.sha256


def test_awaiting_a_person_holds_nothing_yet() -> None:
    wish = wanted()
    result, draft = record(claimed(wish), Awaiting("letter"), wish.sha256, NOW)
    assert (result.status, result.held, result.sha256, result.next_attempt_at) == (Status.WAITING, False, None, None)
    assert receipt_of(draft).status is Status.WAITING


@pytest.mark.parametrize(
    ("attempts", "after", "least"), [(0, None, 5), (1, None, 300), (0, 90.0, 90), (1, 90.0, 300), (99, None, 36_000)]
)
def test_a_failed_attempt_says_why_and_when_it_is_tried_next(attempts: int, after: float | None, least: float) -> None:
    wish = wanted()
    result, draft = record(claimed(wish, attempts=attempts), Retry("HTTP 429", after), wish.sha256, NOW)
    assert (result.status, result.reason, result.held, result.sha256) == (Status.FAILED, "HTTP 429", False, None)
    assert result.next_attempt_at is not None
    assert timedelta(seconds=least) <= result.next_attempt_at - NOW <= timedelta(seconds=least * 1.2)
    receipt = receipt_of(draft)
    assert (receipt.next_try_at, receipt.attempt, receipt.reason) == (result.next_attempt_at, attempts + 1, "HTTP 429")
    assert (receipt.version_id, receipt.sha256, receipt.record) == (wish.version_id, None, None)


def test_a_refusal_is_not_tried_again() -> None:
    result, draft = record(claimed(wanted()), Refused("two patients have this NHS number"), None, NOW)
    assert (result.status, result.held, result.next_attempt_at) == (Status.REFUSED, False, None)
    assert receipt_of(draft).reason == "two patients have this NHS number"


def test_a_conflict_is_told_once() -> None:
    result, draft = record(claimed(wanted(seq=3), held_seq=2, held=HELD), Conflict(), None, NOW)
    assert (result.status, result.held, result.next_attempt_at) == (Status.CONFLICT, False, None)
    receipt = receipt_of(draft)
    assert (receipt.seq, receipt.reason) == (3, "the council wants a lower seq than is here")


def test_withdrawn_names_the_version_that_stays_where_it_is() -> None:
    gone = wanted().next(withdrawn=True)
    result, draft = record(claimed(gone, held_seq=1, held=HELD), Withdrawn("DocumentReference/1"), None, NOW)
    assert (result.status, result.held, result.version_id) == (Status.WITHDRAWN, True, HELD)
    assert (receipt_of(draft).version_id, receipt_of(draft).record) == (HELD, "DocumentReference/1")


def test_withdrawn_where_nothing_was_ever_held() -> None:
    result, draft = record(claimed(wanted().next(withdrawn=True)), Withdrawn(""), None, NOW)
    assert (result.status, result.version_id, result.record) == (Status.WITHDRAWN, None, None)
    assert receipt_of(draft).version_id is None


def test_a_withdrawal_that_failed_is_tried_again() -> None:
    gone = wanted().next(withdrawn=True)
    result, draft = record(claimed(gone, held_seq=1, held=HELD), Retry("away"), None, NOW)
    assert (result.status, result.held) == (Status.FAILED, False)
    assert result.next_attempt_at is not None
    assert receipt_of(draft).reason == "away"


def test_a_recall_that_is_proved_leaves_nothing_held() -> None:
    wish = wanted().recall()
    result, draft = record(claimed(wish, held_seq=1, held=wish.version_id), Removed("1 entry removed"), None, NOW)
    assert (result.status, result.held, result.removed) == (Status.RECALLED, True, True)
    assert (result.version_id, result.sha256, result.record) == (None, None, "1 entry removed")
    receipt = receipt_of(draft)
    assert (receipt.seq, receipt.version_id, receipt.record) == (2, wish.version_id, "1 entry removed")


@pytest.mark.parametrize(
    ("outcome", "status"),
    [(Retry("away"), Status.FAILED), (Refused("no"), Status.REFUSED), (Awaiting("a letter"), Status.WAITING)],
)
def test_a_recall_that_is_not_proved_is_not_over(outcome: AnyOutcome, status: Status) -> None:
    wish = wanted().recall()
    result, _ = record(claimed(wish, held_seq=1, held=wish.version_id), outcome, None, NOW)
    assert (result.status, result.held, result.removed) == (status, False, False)


OUTCOMES: list[Any] = [
    Filed("1", READ_BACK), Sent("1"), Collected("1"), Awaiting("1"), Retry("why"), Refused("why"), Conflict(),
]  # fmt: skip


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_result_and_receipt_say_the_same(outcome: AnyOutcome | Conflict) -> None:
    wish = wanted(seq=5)
    result, draft = record(claimed(wish, attempts=2), outcome, wish.sha256, NOW)
    receipt = receipt_of(draft)
    assert (result.share_id, result.seq, result.status) == (receipt.share_id, receipt.seq, receipt.status)
    assert (result.reason, result.record, result.next_attempt_at) == (receipt.reason, receipt.record, receipt.next_try_at)
    assert receipt.attempt == 3
