"""The words in which a share is shown, from its wish, its newest receipt and the time."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.audit.holders import Holder, Shown, holder

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
REQUESTED = NOW - timedelta(hours=1)


def shown(**changes: Any) -> Holder:
    row: dict[str, Any] = {
        "share_id": uuid4(), "plan_id": uuid4(), "case_reference": "EHCP-1", "la_code": "332",
        "recipient_name": "Dudley Group", "recipient_kind": "trust", "channel": "fhir", "notice": None, "subscriber": "health",
        "hosted_by": "agency", "seq": 2, "action": "hold", "version": 2, "version_id": uuid4(), "requested_at": REQUESTED,
        "due_at": NOW + timedelta(days=1), "told_seq": None, "status": None, "record": None, "reason": None, "at": None,
        "satisfied_seq": 0, "held_version": None, "held_status": None, "held_record": None, "held_at": None, "now": NOW,
        "failed_tries": None, "next_try_at": None, "restricted": False,
    }  # fmt: skip
    return holder(row | changes)


def told(status: str, **changes: Any) -> dict[str, Any]:
    return {"told_seq": 2, "status": status, "at": REQUESTED + timedelta(seconds=1.5)} | changes


def test_nothing_heard_yet() -> None:
    row = shown()
    assert (row.status, row.satisfied, row.evidence, row.at, row.seconds) == (Shown.WAITING, False, None, None, None)


def test_of_a_restricted_plan_what_still_waits_is_not_to_be_sent() -> None:
    """An officer posts to parents from this list; nothing else would stop the letter."""
    why = "the plan is restricted: send nothing until a named person lifts that"
    assert shown(restricted=True, channel="manual").reason == why
    assert shown(restricted=True, channel="manual", **told("waiting")).reason == why
    assert shown(restricted=True, **told("filed", satisfied_seq=2)).reason is None
    assert shown(restricted=True, **told("sent")).reason is None, "it has its copy"
    assert shown(restricted=True, action="withdraw").reason is None
    assert shown(restricted=True, **told("refused", reason="no patient")).reason == "no patient"


def test_filed() -> None:
    row = shown(**told("filed", satisfied_seq=2, record="DocumentReference/7", held_version=2, held_status="filed"))
    assert (row.status, row.satisfied, row.evidence) == (Shown.FILED, True, Shown.FILED)
    assert (row.record, row.held_version, row.seconds) == ("DocumentReference/7", 2, 1.5)


def test_what_fails_says_how_often_and_when_it_is_tried_next() -> None:
    then = NOW + timedelta(hours=2)
    row = shown(**told("failed", reason="the record answered 500", failed_tries=4, next_try_at=then))
    assert (row.status, row.failed_tries, row.next_try_at) == (Shown.WAITING, 4, then)
    late = shown(**told("failed", reason="the record answered 500", failed_tries=9, next_try_at=then, due_at=REQUESTED))
    assert (late.status, late.failed_tries, late.next_try_at) == (Shown.MISSED, 9, then)


def test_of_an_older_wish_no_try_is_shown() -> None:
    row = shown(told_seq=1, status="failed", at=NOW, failed_tries=4, next_try_at=NOW)
    assert (row.failed_tries, row.next_try_at) == (None, None)


def test_a_pause_is_shown_and_hides_nothing_that_is_late() -> None:
    reason = "paused by Ann since 2026-11-02 09:00 UTC: their server moves"
    assert (shown(**told("waiting", reason=reason)).reason) == reason
    late = shown(**told("waiting", reason=reason, due_at=REQUESTED))
    assert (late.status, late.reason) == (Shown.MISSED, reason)


def test_filed_with_a_warning() -> None:
    row = shown(**told("filed", satisfied_seq=2, reason="the record has another given name"))
    assert (row.status, row.reason) == (Shown.FILED, "the record has another given name")


def test_only_the_former_version_is_filed() -> None:
    row = shown(told_seq=1, status="filed", at=NOW, record="DocumentReference/6", satisfied_seq=1, held_version=1,
                held_record="DocumentReference/6")  # fmt: skip
    assert (row.status, row.satisfied, row.evidence, row.record, row.seconds) == (Shown.WAITING, False, None, None, None)
    assert (row.held_version, row.held_record) == (1, "DocumentReference/6")


def test_missed_when_due_and_not_satisfied() -> None:
    assert shown(due_at=NOW - timedelta(seconds=1)).status is Shown.MISSED


def test_withdrawn_where_nobody_could_deliver_is_not_missed() -> None:
    row = shown(action="withdraw", subscriber=None, due_at=NOW - timedelta(days=9))
    assert (row.status, row.version, row.reason) == (Shown.WITHDRAWN, None, None)


def test_satisfied_is_never_missed() -> None:
    row = shown(**told("filed", satisfied_seq=2), due_at=NOW - timedelta(days=9))
    assert row.status is Shown.FILED


@pytest.mark.parametrize("due_at", [NOW + timedelta(days=1), NOW - timedelta(days=1)])
def test_refused_says_why(due_at: datetime) -> None:
    row = shown(**told("refused", reason="no patient found"), due_at=due_at)
    assert (row.status, row.reason, row.satisfied, row.seconds) == (Shown.REFUSED, "no patient found", False, 1.5)


def test_failed_attempt_is_waiting_with_its_reason() -> None:
    row = shown(**told("failed", reason="the record system answered 500"))
    assert (row.status, row.reason, row.seconds) == (Shown.WAITING, "the record system answered 500", None)


def test_sent_to_an_inbox_but_not_opened() -> None:
    row = shown(**told("sent"), channel="inbox")
    assert (row.status, row.satisfied, row.evidence) == (Shown.SENT, False, Shown.SENT)


def test_nobody_delivers_to_this_recipient() -> None:
    row = shown(subscriber=None, hosted_by=None)
    assert (row.status, row.reason) == (Shown.WAITING, "no subscriber delivers to this recipient")


def test_withdrawn_while_the_copy_is_still_held() -> None:
    row = shown(**told("withdrawn", satisfied_seq=2), action="withdraw", held_version=1, held_status="filed")
    assert (row.status, row.satisfied, row.held_version) == (Shown.WITHDRAWN, True, 1)


def test_withdrawal_not_answered_yet() -> None:
    assert shown(action="withdraw", told_seq=1, status="filed", at=NOW, satisfied_seq=1).status is Shown.WAITING


def test_superseded_after_filed_still_shows_filed() -> None:
    row = shown(**told("superseded", satisfied_seq=2), held_status="filed", held_record="DocumentReference/7", held_at=NOW)
    assert (row.status, row.record, row.at) == (Shown.FILED, "DocumentReference/7", NOW)


def test_clocks_that_differ_give_no_negative_time() -> None:
    row = shown(**told("filed", satisfied_seq=2, at=REQUESTED - timedelta(seconds=2)))
    assert row.seconds == 0
