"""What the resend sweep does with one share that is not known to be satisfied."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from schemas.receipts import Status
from services.ehcp_publisher.resend import Step, Unanswered, next_step

NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
AFTER = timedelta(minutes=1)


def failed(next_try_at: datetime) -> Unanswered:
    return Unanswered(uuid4(), 1, "health", 0, 1, Status.FAILED, next_try_at)


def test_a_subscriber_that_tries_again_soon_is_left_alone_until_then() -> None:
    soon = NOW + timedelta(hours=5)
    assert next_step(failed(soon), NOW, AFTER) == (Step.WAIT, 0, soon + AFTER)


def test_a_next_try_at_the_end_of_time_is_not_waited_for() -> None:
    """It would silence the share for ever, and the last day of the calendar has none after it."""
    step, _, at = next_step(failed(datetime.max.replace(tzinfo=UTC)), NOW, AFTER)
    assert step is Step.WAIT
    assert at == NOW + timedelta(days=1) + AFTER


def awaiting(status: Status, resends: int) -> Unanswered:
    return Unanswered(uuid4(), 1, "family", resends, 1, status, None)


def test_what_waits_for_a_person_is_asked_after_about_once_a_day() -> None:
    """Evidence whose receipt was lost would otherwise never come: the subscriber believes that it has told it."""
    for status in (Status.WAITING, Status.SENT, Status.COLLECTED, Status.REFUSED):
        now, resends, asked = NOW, 0, []
        while now < NOW + timedelta(days=7):
            step, resends, at = next_step(awaiting(status, resends), now, AFTER)
            assert timedelta(0) < at - now <= timedelta(hours=1)
            if step is Step.SEND_AGAIN:
                asked.append(now - NOW)
            now = at
        assert 6 <= len(asked) <= 8
        assert asked[0] > timedelta(hours=12)
