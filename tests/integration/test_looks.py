"""The council asks what the records really hold: looked at now, answered with signed statements, on real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from schemas.events import EventType
from schemas.holdings import Found, Holding, HoldingsRequested, LookAt
from schemas.receipts import Status
from services.shared.delivery import asking
from services.shared.identity.receipts import verify_holding
from services.shared.kafka import cloudevents
from services.shared.kafka.consume import Record
from services.shared.record_systems.port import CannotBeAskedError, Held, Recipient, RecordAwayError
from tests.support.subscriber import (
    NOBODY,
    PARENT,
    RNA,
    RXK,
    SCHOOL,
    TOPIC,
    SubscriberStub,
    Wanted,
    wanted,
)
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]


def question(*wishes: Wanted, look_id: UUID | None = None, until: timedelta = timedelta(hours=1)) -> Record:
    now = datetime.now(UTC)
    request = HoldingsRequested(
        look_id=look_id or uuid4(), la_code="332", asked_at=now, until=now + until,
        shares=tuple(LookAt(share_id=each.share_id, plan_id=each.plan_id, recipient=each.recipient) for each in wishes),
    )  # fmt: skip
    headers = cloudevents.headers(EventType.HOLDINGS_REQUESTED, "/councils/332", now)
    return Record(
        TOPIC, 0, 0, str(request.look_id).encode(), request.model_dump_json().encode(),
        tuple((name, value.encode()) for name, value in headers.items()),
    )  # fmt: skip


async def filed(subscriber: SubscriberStub, *wishes: Wanted) -> None:
    subscriber.council.wants(*wishes)
    await subscriber.park(*wishes)
    async with subscriber.dispatching():
        for wish in wishes:
            await subscriber.until_said_one_of(wish, {Status.FILED, Status.SENT})


@asynccontextmanager
async def looking(subscriber: SubscriberStub) -> AsyncIterator[None]:
    task = asyncio.create_task(subscriber.looks.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def answers(subscriber: SubscriberStub, *wishes: Wanted, count: int | None = None) -> list[Holding]:
    """The newest answer of each, once all are there; ``count``: that many in the outbox."""
    ids = [str(each.share_id) for each in wishes]

    async def there() -> Sequence[Any] | None:
        rows = await subscriber.owner.fetch(
            "SELECT key, value FROM delivery.outbox WHERE key = ANY($1) AND headers->>'ce_type' = $2 ORDER BY id",
            ids, EventType.HOLDING.value,
        )  # fmt: skip
        return rows if len(rows) >= (count or len(ids)) else None

    rows = await until(there, within=60, what="the looks are answered")
    assert rows is not None
    newest = {row["key"]: verify_holding(row["value"], subscriber.key) for row in rows}
    return [newest[each] for each in ids]


async def test_the_answer_is_what_the_record_says_and_is_signed(subscriber: SubscriberStub) -> None:
    wish = wanted()
    await filed(subscriber, wish)
    look_id = uuid4()
    await subscriber.parking.handle([question(wish, look_id=look_id)])
    async with looking(subscriber):
        (said,) = await answers(subscriber, wish)
    assert (said.look_id, said.share_id, said.subscriber, said.hosted_by) == (look_id, wish.share_id, "health", "agency")
    assert (said.found, said.version_id, said.sha256) == (Found.HELD, wish.version_id, wish.sha256)
    assert (said.intact, said.withdrawn, said.seq) == (True, False, 1)
    assert said.record == f"DocumentReference/{wish.version_id}"


async def test_what_was_done_behind_our_back_is_seen_although_the_books_say_filed(subscriber: SubscriberStub) -> None:
    gone, old, other = wanted(), wanted(), wanted()
    await filed(subscriber, gone, old, other)
    held, before = subscriber.rna.held, UUID(int=7)
    del held["RNA", gone.plan_id]
    held["RNA", old.plan_id] = Held(before, "0" * 64, "DocumentReference/old")
    held["RNA", other.plan_id] = replace(held["RNA", other.plan_id], intact=False)
    await subscriber.parking.handle([question(gone, old, other)])
    async with looking(subscriber):
        said = await answers(subscriber, gone, old, other)
    assert [(each.found, each.version_id, each.intact) for each in said] == [
        (Found.ABSENT, None, True), (Found.HELD, before, True), (Found.HELD, other.version_id, False),
    ]  # fmt: skip
    # What differs is due for the record check at once, which names it and has it filed again.
    assert (await subscriber.record_check().once()).differences.total() == 3


async def test_the_record_speaks_for_shares_that_the_books_do_not_know(subscriber: SubscriberStub) -> None:
    there, not_there = wanted(), wanted()
    subscriber.rna.held["RNA", there.plan_id] = Held(there.version_id, there.sha256, "DocumentReference/1")
    await subscriber.parking.handle([question(there, not_there)])
    async with looking(subscriber):
        said = await answers(subscriber, there, not_there)
    assert [(each.found, each.seq) for each in said] == [(Found.HELD, None), (Found.ABSENT, None)]


async def test_each_channel_is_asked_in_its_own_way(subscriber: SubscriberStub) -> None:
    school, parent, nobody = wanted(SCHOOL), wanted(PARENT), wanted(NOBODY)
    await filed(subscriber, school)
    await subscriber.park(parent, nobody)
    await subscriber.parking.handle([question(school, parent, nobody)])
    async with looking(subscriber):
        said = await answers(subscriber, school, parent, nobody)
    assert [each.found for each in said] == [Found.HELD, Found.BY_HAND, Found.NOT_SERVED]
    assert (said[0].version_id, said[0].record) == (school.version_id, f"inbox/{school.share_id}")


async def test_a_record_that_does_not_answer_is_said_and_asked_again_only_when_the_council_asks_again(
    subscriber: SubscriberStub,
) -> None:
    wish = wanted()
    await filed(subscriber, wish)
    subscriber.rna.away = True
    asked = question(wish)
    await subscriber.parking.handle([asked])
    async with looking(subscriber):
        (said,) = await answers(subscriber, wish)
        assert (said.found, said.reason) == (Found.NO_ANSWER, "the record is away")
        subscriber.rna.away = False
        await subscriber.parking.handle([asked])
        (again,) = await answers(subscriber, wish, count=2)
    assert (again.found, again.number > said.number) == (Found.HELD, True)


async def test_a_question_that_comes_twice_is_answered_byte_for_byte_as_before(subscriber: SubscriberStub) -> None:
    wish = wanted()
    await filed(subscriber, wish)
    asked = question(wish)
    async with looking(subscriber):
        await subscriber.parking.handle([asked, asked])
        await answers(subscriber, wish)
        subscriber.rna.held.clear()
        await subscriber.parking.handle([asked])
        await answers(subscriber, wish, count=2)
    rows = await subscriber.owner.fetch("SELECT value FROM delivery.outbox WHERE headers->>'ce_type' = $1", EventType.HOLDING)
    assert len({bytes(row["value"]) for row in rows}) == 1
    assert subscriber.rna.asked == [1]


async def test_a_channel_without_a_question_says_so_and_is_not_asked_in_the_night(subscriber: SubscriberStub) -> None:
    wish = wanted()
    await filed(subscriber, wish)

    async def never(*_: Any) -> dict[UUID, Held]:
        raise CannotBeAskedError("what lies behind a mailbox cannot be asked")

    subscriber.rna.holds = never  # type: ignore[method-assign, assignment]
    await subscriber.parking.handle([question(wish)])
    async with looking(subscriber):
        (said,) = await answers(subscriber, wish)
    assert (said.found, said.reason) == (Found.CANNOT_BE_ASKED, "what lies behind a mailbox cannot be asked")
    outcome = await subscriber.record_check().once(full=True)
    assert (outcome.checked, outcome.not_asked) == (0, [])
    assert (await subscriber.row(wish))["check_at"] is None


async def test_a_recipient_that_cleared_away_what_it_told_is_not_given_everything_again(subscriber: SubscriberStub) -> None:
    wish = wanted()
    await filed(subscriber, wish)
    subscriber.rna.held.clear()
    subscriber.rna.silent_on_absence = True  # type: ignore[attr-defined]
    await subscriber.parking.handle([question(wish)])
    async with looking(subscriber):
        (said,) = await answers(subscriber, wish)
    assert (said.found, said.reason) == (Found.CANNOT_BE_ASKED, asking.CLEARED)
    assert (await subscriber.record_check().once(full=True)).differences.total() == 0
    assert subscriber.rna.delivered == [(wish.share_id, 1)]


async def test_one_copy_that_cannot_be_read_does_not_hide_the_others(subscriber: SubscriberStub) -> None:
    wishes = [wanted() for _ in range(4)]
    await filed(subscriber, *wishes)
    del subscriber.rna.held["RNA", wishes[3].plan_id]
    ask, broken = subscriber.rna.holds, wishes[1].plan_id

    async def holds(recipient: Recipient, plans: Sequence[UUID]) -> dict[UUID, Held]:
        if broken in plans:
            raise RecordAwayError("the record answered 500")
        return await ask(recipient, plans)

    subscriber.rna.holds = holds  # type: ignore[method-assign]
    await subscriber.parking.handle([question(*wishes)])
    async with looking(subscriber):
        said = await answers(subscriber, *wishes)
    assert [each.found for each in said] == [Found.HELD, Found.NO_ANSWER, Found.HELD, Found.ABSENT]
    outcome = await subscriber.record_check().once(full=True)
    assert (outcome.checked, outcome.differences.total(), outcome.not_asked) == (3, 1, [])


async def test_a_slow_record_holds_up_no_other_and_is_asked_in_batches(subscriber: SubscriberStub) -> None:
    near = wanted(RXK)
    far = [wanted(RNA) for _ in range(120)]
    gate, ask = asyncio.Event(), subscriber.rna.holds

    async def slow(recipient: Recipient, plans: Sequence[UUID]) -> dict[UUID, Held]:
        await gate.wait()
        return await ask(recipient, plans)

    subscriber.rna.holds = slow  # type: ignore[method-assign]
    await subscriber.parking.handle([question(*far[:100]), question(*far[100:])])
    async with looking(subscriber):
        await subscriber.parking.handle([question(near)])
        (said,) = await answers(subscriber, near)
        assert said.found is Found.ABSENT
        gate.set()
        await answers(subscriber, *far)
    assert subscriber.rna.asked == [50, 50, 20]


async def test_a_question_nobody_waits_for_any_more_costs_the_record_nothing(subscriber: SubscriberStub) -> None:
    late, now = wanted(), wanted()
    await subscriber.parking.handle([question(late, until=timedelta(seconds=-1)), question(now)])
    async with looking(subscriber):
        await answers(subscriber, now)
    assert subscriber.rna.asked == [1]


async def test_killed_between_looking_and_answering_it_is_looked_at_again(subscriber: SubscriberStub) -> None:
    wish = wanted()
    ask, killed = subscriber.rna.holds, asyncio.Event()

    async def last_words(*_: Any) -> dict[UUID, Held]:
        killed.set()
        await asyncio.Event().wait()
        return {}

    subscriber.rna.holds = last_words  # type: ignore[method-assign, assignment]
    await subscriber.parking.handle([question(wish)])
    async with looking(subscriber):
        await asyncio.wait_for(killed.wait(), 15)
    subscriber.rna.holds = ask  # type: ignore[method-assign]
    async with looking(subscriber):
        (said,) = await answers(subscriber, wish)
    assert said.found is Found.ABSENT


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b'{"look_id": 1}'])
async def test_a_question_nobody_can_read_is_a_dead_letter(subscriber: SubscriberStub, value: bytes) -> None:
    record = replace(question(wanted()), value=value)
    assert [reason for _, reason in await subscriber.parking.handle([record])]
