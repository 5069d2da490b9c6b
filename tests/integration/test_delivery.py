"""Delivery on real PostgreSQL: parking, claiming, delivering, receipts and reconciliation, with record systems to play with."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import orjson
import pytest
from joserfc.jwk import OKPKey

from schemas.events import EventType
from schemas.heartbeats import Away
from schemas.holdings import HoldingsRequested, LookAt
from schemas.receipts import Status
from services.shared.clock import utc_now
from services.shared.delivery import breaker, evidence, store
from services.shared.delivery import dispatcher as dispatching
from services.shared.delivery.handlers import Parking
from services.shared.delivery.heartbeats import Heartbeats
from services.shared.identity.receipts import signer, verify
from services.shared.record_systems.port import Collected, Content, Filed, Outcome, Refused, Retry, Sent, Withdrawal, Withdrawn
from services.shared.record_systems.systems import Systems, SystemSettings
from tests.support.subscriber import (
    NOBODY,
    PARENT,
    RNA,
    RXK,
    SCHOOL,
    RecordSystemStub,
    SubscriberStub,
    Wanted,
    record_of,
    soon,
    wanted,
)
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

HASHES = ("0" * 64, "1" * 64)


@pytest.fixture(autouse=True)
def _short_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane that nobody answered at is asked again soon."""
    monkeypatch.setattr(breaker, "FIRST_REST_SECONDS", 0.05)
    monkeypatch.setattr(breaker, "LONGEST_REST_SECONDS", 0.2)


async def dead_letters(subscriber: SubscriberStub) -> list[Any]:
    return await subscriber.owner.fetch("SELECT * FROM delivery.dead_letter ORDER BY id")


async def attempts(subscriber: SubscriberStub, wish: Wanted) -> list[tuple[int, str]]:
    rows = await subscriber.owner.fetch(
        "SELECT seq, outcome FROM delivery.attempt WHERE share_id = $1 ORDER BY id", wish.share_id
    )
    return [(row["seq"], row["outcome"]) for row in rows]


# --- parking ------------------------------------------------------------------------------------------------------------


async def test_a_new_instruction_is_parked_and_due(subscriber: SubscriberStub) -> None:
    wish = wanted()
    await subscriber.park(wish)
    row = await subscriber.row(wish)
    assert (row["seq"], row["action"], row["sha256"], row["lane"], row["state"]) == (1, "hold", wish.sha256, "rna", "waiting")
    assert row["next_attempt_at"] is not None
    assert await subscriber.said(wish) == []


async def test_a_clock_that_is_ahead_of_the_database_delays_nothing(subscriber: SubscriberStub) -> None:
    ahead = Parking(
        subscriber.pool, subscriber.systems, subscriber.receipts, lambda: None, subscriber.looks,
        clock=lambda: utc_now() + timedelta(hours=1),
    )  # fmt: skip
    wish = wanted()
    subscriber.council.wants(wish)
    await ahead.handle([record_of(wish)])
    async with subscriber.dispatching():
        await subscriber.until_said(wish, Status.FILED)


@pytest.mark.parametrize("batches", [[[2, 1, 3, 3]], [[2], [1], [3], [3]], [[2, 1], [3, 3]], [[3], [2, 1, 3]]])
async def test_whatever_the_order_the_highest_stays(subscriber: SubscriberStub, batches: list[list[int]]) -> None:
    first = wanted()
    wishes = {1: first, 2: first.next(), 3: first.next().next()}
    for batch in batches:
        await subscriber.park(*[wishes[seq] for seq in batch])
    row = await subscriber.row(first)
    assert (row["seq"], row["sha256"], row["instruction"]["version"]) == (3, wishes[3].sha256, 3)
    # Each lower one was answered, whether it was overtaken before or after it came; the highest waits to be delivered.
    assert set(await subscriber.said(first)) <= {(1, Status.SUPERSEDED), (2, Status.SUPERSEDED)}
    assert {seq for seq, _ in await subscriber.said(first)} == {1, 2}


async def test_2_1_3_3_is_delivered_once_as_3(subscriber: SubscriberStub) -> None:
    first = wanted()
    second, third = first.next(), first.next().next()
    subscriber.council.wants(third)
    await subscriber.park(second)
    await subscriber.park(first, third)
    async with subscriber.dispatching():
        filed = await subscriber.until_said(third, Status.FILED)
        await subscriber.park(third)
    assert subscriber.rna.delivered == [(first.share_id, 3)]
    assert (filed.version_id, filed.sha256) == (third.version_id, third.sha256)
    row = await subscriber.row(first)
    assert (row["state"], row["held_seq"], row["held_version_id"]) == ("filed", 3, third.version_id)
    # The repeat had the same receipt sent once more, byte for byte.
    outbox = await subscriber.outbox(first)
    assert outbox.count(outbox[-1]) == 2


@pytest.mark.parametrize("together", [True, False])
async def test_another_wish_with_the_same_seq_is_refused_and_reported(subscriber: SubscriberStub, together: bool) -> None:
    wish = wanted()
    other = replace(wish, version_id=uuid4())
    for batch in [[wish, other]] if together else [[wish], [other]]:
        await subscriber.park(*batch)
    assert (await subscriber.row(wish))["sha256"] == wish.sha256
    [receipt] = await subscriber.signed(wish)
    assert (receipt.seq, receipt.status, receipt.version_id) == (1, Status.CONFLICT, other.version_id)


async def test_a_withdrawal_with_the_seq_of_a_wish_to_hold_is_a_conflict(subscriber: SubscriberStub) -> None:
    wish = wanted()
    await subscriber.park(wish)
    await subscriber.park(wish.next(seq=1, withdrawn=True))
    assert await subscriber.said(wish) == [(1, Status.CONFLICT)]
    assert (await subscriber.row(wish))["action"] == "hold"


async def test_a_recipient_that_nobody_here_serves_is_refused(subscriber: SubscriberStub) -> None:
    wish = wanted(NOBODY)
    subscriber.council.wants(wish)
    await subscriber.park(wish)
    [receipt] = await subscriber.signed(wish)
    assert (receipt.status, receipt.reason) == (Status.REFUSED, "this subscriber has no record system for ods:RZZ")
    row = await subscriber.row(wish)
    assert (row["state"], row["next_attempt_at"]) == ("refused", None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"value": b"\xff\xfe\x00 no JSON"}, "the value is not JSON"),
        ({"value": b""}, "the value is not JSON"),
        ({"value": b"{}"}, "share_id: Field required"),
        ({"value": b"[]"}, ": Input should be a valid dictionary"),
        ({"headers": (("ce_type", b"\xff"),)}, "the header ce_type names no instruction that this version knows"),
        ({"headers": ()}, "the header ce_type names no instruction that this version knows"),
    ],
)
async def test_what_is_no_instruction_is_kept_once_and_holds_up_nothing(
    subscriber: SubscriberStub, changes: dict[str, Any], reason: str
) -> None:
    wish = wanted()
    bad = record_of(wanted(), **changes)
    await subscriber.parking.handle([bad, record_of(wish), bad])
    await subscriber.parking.handle([bad])
    [letter] = await dead_letters(subscriber)
    assert letter["reason"].startswith(reason)
    assert (letter["topic"], letter["partition"], letter["offset"]) == (bad.topic, bad.partition, bad.offset)
    assert (letter["key"], letter["value"]) == (bad.key, bad.value)
    assert (await subscriber.row(wish))["seq"] == 1


async def test_after_the_broker_was_wiped_offsets_count_anew_and_nothing_is_dropped(subscriber: SubscriberStub) -> None:
    one = record_of(wanted(), value=b"one")
    await subscriber.parking.handle([one])
    await subscriber.parking.handle([replace(one, value=b"another")])
    assert [letter["value"] for letter in await dead_letters(subscriber)] == [b"one", b"another"]


async def test_an_instruction_that_no_database_could_hold_is_a_dead_letter(subscriber: SubscriberStub) -> None:
    wish, good = wanted(), wanted()
    nul = wish.instruction.replace(b'"RNA"', b'"RN\\u0000A"')
    deep = wish.instruction.replace(b'{"share_id"', b'{"extra":' + b"[" * 500 + b"]" * 500 + b',"share_id"')
    await subscriber.parking.handle([record_of(wish, value=nul), record_of(good)])
    [letter] = await dead_letters(subscriber)
    assert letter["reason"] == "a text holds a NUL character, which cannot be stored"
    assert await subscriber.row(good) is not None
    # A field that this version does not know is not kept, however deep it is.
    await subscriber.parking.handle([record_of(wish, value=deep)])
    assert (await subscriber.row(wish))["seq"] == 1


@pytest.mark.parametrize("value", ["\x00", "Persephone"], ids=["nul", "name"])
async def test_a_reason_quotes_nothing_of_an_id_that_is_none(subscriber: SubscriberStub, value: str) -> None:
    wish = wanted()
    forged = record_of(wish, value=orjson.dumps(orjson.loads(wish.instruction) | {"plan_id": value}))
    await subscriber.parking.handle([forged, record_of(wish)])
    [letter] = await dead_letters(subscriber)
    assert letter["reason"] == "plan_id: Input should be a valid UUID"
    assert await subscriber.row(wish), "the rest of the batch is parked"


async def test_what_the_database_does_not_take_is_set_aside_alone(subscriber: SubscriberStub) -> None:
    wishes = [wanted() for _ in range(4)]
    look = HoldingsRequested(
        look_id=uuid4(), la_code="332", asked_at=utc_now(), until=utc_now(),
        shares=(LookAt(share_id=uuid4(), plan_id=uuid4(), recipient=RNA),),
    )  # fmt: skip
    # A moment that no reader objects to: before the year 1, once it is said in UTC.
    value = orjson.dumps(look.model_dump(mode="json") | {"until": "0001-01-01T00:00:00+23:59"})
    poison = record_of(wanted(), value=value, headers=(("ce_type", EventType.HOLDINGS_REQUESTED.encode()),))
    records = [record_of(wish) for wish in wishes]
    refused = await subscriber.parking.handle([*records[:2], poison, *records[2:]])
    assert [(record.offset, reason) for record, reason in refused] == [
        (poison.offset, "the database does not take it (DataError)")
    ]
    assert [letter["value"] for letter in await dead_letters(subscriber)] == [value]
    for wish in wishes:
        assert await subscriber.row(wish)


async def test_a_seq_that_would_make_all_that_comes_later_look_old_is_a_dead_letter(subscriber: SubscriberStub) -> None:
    known, unknown = wanted(), wanted()
    await subscriber.park(known)
    forged = [replace(each, seq=2**53 - 1, withdrawn=each is unknown) for each in (known, unknown)]
    refused = await subscriber.parking.handle([record_of(each) for each in [*forged, known.next()]])
    reason = "its seq is farther ahead than any backup explains"
    assert [why for _, why in refused] == [reason] * 2
    assert [row["reason"] for row in await dead_letters(subscriber)] == [reason] * 2
    assert (await subscriber.row(known))["seq"] == 2
    assert await subscriber.row(unknown) is None
    # The council itself says so: its list is believed.
    subscriber.council.wants(forged[0])
    await subscriber.reconcile().once(full=True)
    assert (await subscriber.row(known))["seq"] == 2**53 - 1


async def test_two_that_park_the_same_new_shares_do_not_wait_for_each_other(subscriber: SubscriberStub) -> None:
    """The list and the topic bring the same shares at the same time when books are rebuilt, each in its own order."""
    for _ in range(10):
        wishes = sorted((wanted() for _ in range(200)), key=lambda each: each.share_id)
        await asyncio.gather(subscriber.park(*wishes), subscriber.park(*reversed(wishes)))
    assert await subscriber.owner.fetchval("SELECT count(*) FROM delivery.delivery") == 2000


# --- receipts -----------------------------------------------------------------------------------------------------------


async def test_a_repeat_sends_the_newest_receipt_of_the_newest_seq(subscriber: SubscriberStub) -> None:
    """A late old message is answered after the newest was filed; that answer must not stand in for the filing."""
    first = wanted()
    second = first.next()
    subscriber.council.wants(second)
    await subscriber.park(second)
    async with subscriber.dispatching():
        await subscriber.until_said(second, Status.FILED)
    await subscriber.park(first)
    filed, superseded = await subscriber.outbox(first)
    await subscriber.park(second)
    assert await subscriber.outbox(first) == [filed, superseded, filed]


async def test_a_receipt_of_a_former_key_is_said_again_under_the_new_one(
    subscriber: SubscriberStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key was changed while it was on its way: under the old one the council would refuse it for ever."""
    wish = wanted()
    subscriber.council.wants(wish)
    await subscriber.park(wish)
    async with subscriber.dispatching():
        await subscriber.until_said(wish, Status.FILED)
    [lost] = await subscriber.outbox(wish)
    new = OKPKey.generate_key("Ed25519")
    monkeypatch.setattr(subscriber.receipts, "_sign", signer(new))
    for _ in range(2):
        await subscriber.park(wish)
    _, again, repeated = await subscriber.outbox(wish)
    assert again == repeated, "byte for byte from then on"
    before, after = verify(lost, subscriber.key), verify(again, new)
    assert after.number > before.number
    assert after == before.model_copy(update={"number": after.number})


async def test_receipt_numbers_never_fall(subscriber: SubscriberStub) -> None:
    async def take(count: int) -> range:
        async with subscriber.pool.acquire() as connection:
            return await store.take_numbers(connection, count)

    one, two = await take(3), await take(2)
    assert len(one) == 3
    assert len(two) == 2
    assert two.start >= one.stop
    # The database is lost: the clock in microseconds is above whatever was counted before.
    await subscriber.owner.execute("UPDATE delivery.receipt_number SET last = 0")
    three = await take(1)
    assert three.start >= two.stop
    await subscriber.owner.execute("DELETE FROM delivery.receipt_number")
    four = await take(1)
    assert four.start >= three.stop
    # A clock that was set back does not take the numbers with it.
    await subscriber.owner.execute("UPDATE delivery.receipt_number SET last = $1", four.stop + 10**12)
    assert (await take(1)).start > four.stop + 10**12


async def test_numbers_of_many_writers_are_all_different(subscriber: SubscriberStub) -> None:
    wishes = [wanted(NOBODY) for _ in range(60)]
    await asyncio.gather(*(subscriber.park(*wishes[n : n + 3]) for n in range(0, 60, 3)))
    numbers = [row["number"] for row in await subscriber.owner.fetch("SELECT number FROM delivery.receipt")]
    assert len(set(numbers)) == 60


# --- delivering ---------------------------------------------------------------------------------------------------------


async def test_filed_is_recorded_with_its_attempt_and_its_receipt(subscriber: SubscriberStub) -> None:
    wish = wanted()
    subscriber.council.wants(wish)
    await subscriber.park(wish)
    async with subscriber.dispatching():
        receipt = await subscriber.until_said(wish, Status.FILED)
    where = f"DocumentReference/{wish.version_id}"
    assert (receipt.record, receipt.version_id, receipt.sha256) == (where, wish.version_id, wish.sha256)
    assert (receipt.subscriber, receipt.hosted_by, receipt.attempt) == ("health", "agency", 1)
    row = await subscriber.row(wish)
    assert (row["state"], row["held_seq"], row["held_record"], row["next_attempt_at"]) == ("filed", 1, where, None)
    assert (row["claim"], row["claimed_until"]) == (None, None)
    assert await attempts(subscriber, wish) == [(1, "filed")]
    assert len(await subscriber.outbox(wish)) == 1


async def test_the_next_version_names_the_one_that_it_replaces(subscriber: SubscriberStub) -> None:
    first = wanted()
    second = first.next()
    async with subscriber.dispatching() as dispatcher:
        for wish in (first, second):
            subscriber.council.wants(wish)
            await subscriber.park(wish)
            dispatcher.wake()
            await subscriber.until_said(wish, Status.FILED)
    contents = [content for batch in subscriber.rna.batches for content in batch]
    assert [content.replaces for content in contents] == [None, first.version_id]


@pytest.mark.parametrize(
    ("outcome", "status", "again"),
    [
        (Retry("the record system answered 500"), Status.FAILED, 5.0),
        (Retry("too many requests", after=90.0), Status.FAILED, 90.0),
        (Refused("no patient has this NHS number"), Status.REFUSED, None),
        (Collected("MSH-10"), Status.COLLECTED, None),
        (Sent("inbox/1"), Status.SENT, None),
    ],
)
async def test_every_outcome_has_its_receipt(
    subscriber: SubscriberStub, outcome: Outcome, status: Status, again: float | None
) -> None:
    wish = wanted()
    subscriber.council.wants(wish)
    subscriber.rna.decide = lambda _: outcome
    await subscriber.park(wish)
    async with subscriber.dispatching():
        receipt = await subscriber.until_said(wish, status)
    row = await subscriber.row(wish)
    assert row["state"] == status
    assert row["held_seq"] == (1 if status in (Status.COLLECTED, Status.SENT) else 0)
    if again is None:
        assert (row["next_attempt_at"], receipt.next_try_at) == (None, None)
    else:
        assert receipt.next_try_at == row["next_attempt_at"]
        assert soon(row["next_attempt_at"], again)
    if isinstance(outcome, Retry | Refused):
        assert receipt.reason == outcome.reason


async def test_a_failed_attempt_is_tried_again_and_counted(subscriber: SubscriberStub) -> None:
    wish = wanted()
    subscriber.council.wants(wish)
    subscriber.rna.decide = lambda _: Retry("not now")
    await subscriber.park(wish)
    async with subscriber.dispatching() as dispatcher:
        await subscriber.until_said(wish, Status.FAILED)
        subscriber.rna.decide = None
        await subscriber.make_due(wish)
        dispatcher.wake()
        receipt = await subscriber.until_said(wish, Status.FILED)
    assert receipt.attempt == 2
    assert await attempts(subscriber, wish) == [(1, "failed"), (1, "filed")]


async def test_a_warning_goes_with_the_filing(subscriber: SubscriberStub) -> None:
    wish = wanted()
    subscriber.council.wants(wish)
    subscriber.rna.decide = lambda content: Filed("DocumentReference/1", content.sha256, "the given name differs")
    await subscriber.park(wish)
    async with subscriber.dispatching():
        assert (await subscriber.until_said(wish, Status.FILED)).reason == "the given name differs"


async def test_withdrawn(subscriber: SubscriberStub) -> None:
    wish = wanted()
    gone = wish.next(withdrawn=True)
    async with subscriber.dispatching() as dispatcher:
        for each in (wish, gone):
            subscriber.council.wants(each)
            await subscriber.park(each)
            dispatcher.wake()
            await subscriber.until_said(each, Status.WITHDRAWN if each.withdrawn else Status.FILED)
    assert [(each.share_id, each.seq, each.plan_id) for each in subscriber.rna.withdrawals] == [
        (wish.share_id, 2, wish.plan_id)
    ]
    row = await subscriber.row(wish)
    # The copy stays where it is: what is held is still that version.
    assert (row["state"], row["held_seq"], row["held_version_id"]) == ("withdrawn", 2, wish.version_id)


async def test_a_share_that_is_withdrawn_before_it_was_ever_filed_is_marked_all_the_same(subscriber: SubscriberStub) -> None:
    """A crash may have kept us from recording that it was filed."""
    gone = wanted().next(withdrawn=True)
    subscriber.council.wants(gone)
    await subscriber.park(gone)
    async with subscriber.dispatching():
        await subscriber.until_said(gone, Status.WITHDRAWN)
    assert [each.share_id for each in subscriber.rna.withdrawals] == [gone.share_id]


async def test_a_newer_instruction_parked_during_a_delivery_is_delivered_next(subscriber: SubscriberStub) -> None:
    first = wanted()
    second = first.next()
    subscriber.council.wants(first)
    subscriber.rna.gate.clear()
    await subscriber.park(first)
    async with subscriber.dispatching():
        await until(_batches(subscriber, 1))
        subscriber.council.wants(second)
        await subscriber.park(second)
        row = await subscriber.row(first)
        assert (row["seq"], row["state"], row["claim"] is None) == (2, "waiting", False)
        subscriber.rna.gate.set()
        await subscriber.until_said(second, Status.FILED)
    assert subscriber.rna.delivered == [(first.share_id, 1), (first.share_id, 2)]
    assert [content.replaces for batch in subscriber.rna.batches for content in batch] == [None, first.version_id]
    assert await subscriber.said(first) == [(1, Status.SUPERSEDED), (1, Status.FILED), (2, Status.FILED)]
    assert await attempts(subscriber, first) == [(1, "filed"), (2, "filed")]
    row = await subscriber.row(first)
    assert (row["state"], row["held_seq"], row["attempts"]) == ("filed", 2, 1)


def _batches(subscriber: SubscriberStub, count: int) -> Any:
    async def there() -> bool:
        return len(subscriber.rna.batches) >= count

    return there


async def test_a_dispatcher_that_lost_its_lease_writes_nothing(subscriber: SubscriberStub) -> None:
    wish = wanted()
    subscriber.council.wants(wish)
    subscriber.rna.gate.clear()
    await subscriber.park(wish)
    async with subscriber.dispatching("health-0"):
        await until(_batches(subscriber, 1))
        async with subscriber.dispatching("health-1") as other:
            await subscriber.end_lease(wish)
            other.wake()
            await until(_batches(subscriber, 2))
            # Both are in flight. The first ends first; its claim is not the row's any more.
            subscriber.rna.gate.set()
            await subscriber.until_said(wish, Status.FILED)
    assert await attempts(subscriber, wish) == [(1, "filed")]
    assert await subscriber.said(wish) == [(1, Status.FILED)]
    assert len(await subscriber.outbox(wish)) == 1


async def test_what_a_crashed_process_had_claimed_is_given_back_when_it_starts_again(subscriber: SubscriberStub) -> None:
    wish = wanted()
    subscriber.council.wants(wish)
    await subscriber.park(wish)
    async with subscriber.pool.acquire() as connection:
        [claimed] = await store.claim(connection, uuid4(), "health-0", [], 10)
        assert claimed.share_id == wish.share_id
        assert await store.claim(connection, uuid4(), "health-1", [], 10) == []
    async with subscriber.dispatching("health-0"):
        await subscriber.until_said(wish, Status.FILED)


async def test_claims_are_of_lanes_that_are_not_busy_and_limited_in_each(subscriber: SubscriberStub) -> None:
    wishes = [wanted(RNA) for _ in range(5)] + [wanted(RXK) for _ in range(2)]
    await subscriber.park(*wishes)
    async with subscriber.pool.acquire() as connection:
        claimed = await store.claim(connection, uuid4(), "health-0", [], 3)
        assert sorted(each.lane for each in claimed) == ["rna"] * 3 + ["rxk"] * 2
        claimed = await store.claim(connection, uuid4(), "health-0", ["rna"], 3)
        assert claimed == []
        claimed = await store.claim(connection, uuid4(), "health-0", ["rxk"], 3)
        assert sorted(each.lane for each in claimed) == ["rna"] * 2


async def test_a_dead_lane_delays_no_other(subscriber: SubscriberStub) -> None:
    stuck = [wanted(RNA) for _ in range(5)]
    subscriber.council.wants(*stuck)
    subscriber.rna.gate.clear()
    await subscriber.park(*stuck)
    async with subscriber.dispatching() as dispatcher:
        await until(_batches(subscriber, 1))
        fine = [wanted(RXK) for _ in range(5)]
        subscriber.council.wants(*fine)
        await subscriber.park(*fine)
        dispatcher.wake()
        for wish in fine:
            await subscriber.until_said(wish, Status.FILED)
        assert (
            await subscriber.owner.fetchval("SELECT count(*) FROM delivery.attempt WHERE share_id = $1", stuck[0].share_id) == 0
        )


async def test_a_lanes_next_batch_is_read_while_one_is_delivered_and_waits_its_turn(subscriber: SubscriberStub) -> None:
    first, second, third, elsewhere = wanted(RNA), wanted(RNA), wanted(RNA), wanted(RXK)
    subscriber.council.wants(first, second, third, elsewhere)
    subscriber.rna.gate.clear()
    async with subscriber.dispatching() as dispatcher:
        for number, wish in enumerate((first, second), 1):
            await subscriber.park(wish)
            dispatcher.wake()
            await until(_reads(subscriber, number))
        await subscriber.park(third)
        await subscriber.park(elsewhere)
        dispatcher.wake()
        # The dispatcher has looked round since the third was parked: one ahead is enough, more would fill the memory.
        await subscriber.until_said(elsewhere, Status.FILED)
        assert [(third.share_id, 1)] not in subscriber.council.reads
        assert subscriber.rna.delivered == [(first.share_id, 1)]
        subscriber.rna.gate.set()
        for wish in (first, second, third):
            await subscriber.until_said(wish, Status.FILED)
    assert subscriber.rna.delivered == [(first.share_id, 1), (second.share_id, 1), (third.share_id, 1)]


async def test_an_adapter_that_raises_for_one_content_files_the_others(subscriber: SubscriberStub) -> None:
    good, bad = [wanted() for _ in range(4)], wanted()
    subscriber.council.wants(*good, bad)

    def decide(content: Content) -> Outcome:
        if content.share_id == bad.share_id:
            raise KeyError("a fault of the adapter's own")
        return subscriber.rna.filed(content)

    subscriber.rna.decide = decide
    await subscriber.park(*good, bad)
    async with subscriber.dispatching():
        receipt = await subscriber.until_said(bad, Status.FAILED)
        for wish in good:
            await subscriber.until_said(wish, Status.FILED)
    assert receipt.reason == "the adapter failed (KeyError)"
    assert soon((await subscriber.row(bad))["next_attempt_at"], 5)


async def test_an_adapter_that_raises_for_one_withdrawal_marks_the_others(subscriber: SubscriberStub) -> None:
    good, bad = [wanted().next(withdrawn=True) for _ in range(3)], wanted().next(withdrawn=True)
    subscriber.council.wants(*good, bad)

    def decide(withdrawal: Withdrawal) -> Any:
        if withdrawal.share_id == bad.share_id:
            raise KeyError("a fault of the adapter's own")
        return Withdrawn("")

    subscriber.rna.decide_withdrawal = decide
    await subscriber.park(*good, bad)
    async with subscriber.dispatching():
        receipt = await subscriber.until_said(bad, Status.FAILED)
        for wish in good:
            await subscriber.until_said(wish, Status.WITHDRAWN)
    assert receipt.reason == "the adapter failed (KeyError)"


async def test_a_record_system_that_is_too_slow_is_tried_again(
    subscriber: SubscriberStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "HARD_DEADLINE_SECONDS", 0.2)
    wish = wanted()
    subscriber.council.wants(wish)
    subscriber.rna.gate.clear()
    await subscriber.park(wish)
    async with subscriber.dispatching():
        receipt = await subscriber.until_said(wish, Status.FAILED)
    assert receipt.reason == "the record system took longer than 0.2 s"


async def test_a_delivery_never_begins_when_it_could_outlast_the_lease(
    subscriber: SubscriberStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers come in parts, so a batch takes several rounds under one claim; meanwhile another process took it over."""
    monkeypatch.setattr(dispatching, "HARD_DEADLINE_SECONDS", store.LEASE_SECONDS)
    one, two = sorted((wanted(), wanted()), key=lambda each: each.share_id)
    subscriber.council.wants(one, two)
    asked: list[UUID] = []

    def one_at_a_time(share_id: UUID, _: int) -> dict[str, Any] | None:
        asked.append(share_id)
        first_round = len(subscriber.council.reads) == 1
        return {"outcome": "later"} if share_id == two.share_id and first_round else None

    subscriber.council.answers = one_at_a_time
    subscriber.rna.gate.clear()
    await subscriber.park(one, two)
    async with subscriber.dispatching("health-0"):
        await until(_batches(subscriber, 1))
        async with subscriber.pool.acquire() as connection:
            await subscriber.end_lease(two)
            [taken] = await store.claim(connection, uuid4(), "health-1", [], 10)
            assert taken.share_id == two.share_id
        subscriber.rna.gate.set()
        await subscriber.until_said(one, Status.FILED)
        await until(_reads(subscriber, 2))
    assert subscriber.rna.delivered == [(one.share_id, 1)]


def _reads(subscriber: SubscriberStub, count: int) -> Any:
    async def there() -> bool:
        return len(subscriber.council.reads) >= count

    return there


async def test_what_did_not_fit_into_an_answer_is_asked_for_again(subscriber: SubscriberStub) -> None:
    wishes = [wanted() for _ in range(5)]
    subscriber.council.wants(*wishes)
    served: set[UUID] = set()

    def two_at_a_time(share_id: UUID, _: int) -> dict[str, Any] | None:
        asked = {share for share, _ in subscriber.council.reads[-1]}
        if len(served & asked) >= 2:
            return {"outcome": "later"}
        served.add(share_id)
        return None

    subscriber.council.answers = two_at_a_time
    await subscriber.park(*wishes)
    async with subscriber.dispatching():
        for wish in wishes:
            await subscriber.until_said(wish, Status.FILED)
    assert [len(reads) for reads in subscriber.council.reads] == [5, 3, 1]
    assert sorted(subscriber.rna.delivered) == sorted((wish.share_id, 1) for wish in wishes)


# --- a record system that is away ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["the record system", "the council"])
async def test_when_it_answers_again_nothing_waits_out_its_own_back_off(
    subscriber: SubscriberStub, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    monkeypatch.setattr(dispatching, "PER_LANE", 20)
    wishes = [wanted() for _ in range(100)]
    subscriber.council.wants(*wishes)
    if who == "the council":
        subscriber.council.down = _unreachable
    else:
        subscriber.rna.decide = lambda _: Retry("the record is not reachable", away=True)
    await subscriber.park(*wishes)
    async with subscriber.dispatching() as dispatcher:
        for wish in wishes:
            await subscriber.until_said(wish, Status.FAILED)
        # As after a long night: each would wait for hours yet.
        await subscriber.owner.execute("UPDATE delivery.delivery SET next_attempt_at = now() + interval '10 hours'")
        subscriber.rna.decide = subscriber.council.down = None
        newcomer = wanted()
        subscriber.council.wants(newcomer)
        await subscriber.park(newcomer)
        dispatcher.wake()
        for wish in [newcomer, *wishes]:
            await subscriber.until_said(wish, Status.FILED, within=60)


async def test_what_failed_for_its_own_reasons_is_not_hurried(subscriber: SubscriberStub) -> None:
    own, other = wanted(), wanted()
    subscriber.council.wants(own, other)
    subscriber.rna.decide = lambda content: (
        Retry("the record failed (500)", after=3600) if content.share_id == own.share_id else subscriber.rna.filed(content)
    )
    await subscriber.park(own)
    async with subscriber.dispatching() as dispatcher:
        failed = await subscriber.until_said(own, Status.FAILED)
        await subscriber.park(other)
        dispatcher.wake()
        await subscriber.until_said(other, Status.FILED)
    assert (await subscriber.row(own))["next_attempt_at"] == failed.next_try_at


async def test_while_nobody_answers_the_rest_is_not_tried_one_by_one(
    subscriber: SubscriberStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_REST_SECONDS", 60.0)
    monkeypatch.setattr(breaker, "LONGEST_REST_SECONDS", 60.0)
    monkeypatch.setattr(dispatching, "PER_LANE", 10)
    wishes, near = [wanted() for _ in range(200)], wanted(RXK)
    subscriber.council.wants(near, *wishes)
    subscriber.rna.decide = lambda _: Retry("the record is not reachable", away=True)
    await subscriber.park(*wishes)
    async with subscriber.dispatching() as dispatcher:
        await subscriber.until_in_flight()
        await subscriber.park(near)
        dispatcher.wake()
        await subscriber.until_said(near, Status.FILED)
    # The batch that met the silence, and the one that was read while it did.
    assert len(subscriber.rna.batches) <= 2


async def test_what_the_council_says_is_no_answer_of_a_silent_record_system(
    subscriber: SubscriberStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_REST_SECONDS", 0.0)
    waiting, restricted = [wanted() for _ in range(20)], replace(wanted(), restricted=True)
    subscriber.council.wants(*waiting, restricted)
    subscriber.rna.decide = lambda _: Retry("the record is not reachable", away=True)
    await subscriber.park(*waiting)
    async with subscriber.dispatching() as dispatcher:
        for wish in waiting:
            await subscriber.until_said(wish, Status.FAILED)
        await subscriber.owner.execute("UPDATE delivery.delivery SET next_attempt_at = now() + interval '10 hours'")
        await subscriber.make_due(waiting[0])  # a second silence, so that the next answer would be of one that is back
        dispatcher.wake()
        await until(_batches(subscriber, 2))
        await subscriber.park(restricted)
        dispatcher.wake()
        await subscriber.until_said(restricted, Status.WAITING)
    hurried = "SELECT count(*) FROM delivery.delivery WHERE state = 'failed' AND next_attempt_at < now() + interval '1 minute'"
    assert await subscriber.owner.fetchval(hurried) <= 1


async def test_a_long_silence_is_told_over_restarts_until_somebody_answers(
    subscriber: SubscriberStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_REST_SECONDS", 0.0)
    wish, refused, near = wanted(), wanted(), wanted(RXK)
    subscriber.council.wants(wish, refused, near)
    subscriber.rna.decide = lambda content: (
        Refused("no NHS number") if content.share_id == refused.share_id else Retry("it is not reachable", away=True)
    )
    heartbeats = Heartbeats(subscriber.pool, "health", lambda _: b"", lambda: ())
    await subscriber.park(wish, refused, near)
    async with subscriber.dispatching():
        await subscriber.until_said(wish, Status.FAILED)
        await subscriber.until_said(near, Status.FILED)
    assert (await heartbeats.beat()).away == ()  # not for long yet
    since = await subscriber.owner.fetchval(
        "UPDATE delivery.unanswered SET since = now() - interval '1 hour' WHERE place = 'rna' RETURNING since"
    )
    await subscriber.make_due(wish)
    async with subscriber.dispatching() as dispatcher:
        await until(_batches(subscriber, 2))
    async with subscriber.dispatching() as dispatcher:
        assert (await heartbeats.beat()).away == (Away(record_system="rna", since=since, reason="it is not reachable"),)
        subscriber.rna.decide = None
        await subscriber.make_due(wish)
        dispatcher.wake()
        await subscriber.until_said(wish, Status.FILED)
    assert (await heartbeats.beat()).away == ()


async def test_a_document_api_that_is_long_away_is_told_as_such_and_ends_with_the_last_share(
    subscriber: SubscriberStub,
) -> None:
    wish = wanted()
    subscriber.council.wants(wish)
    subscriber.council.down = _unreachable
    await subscriber.park(wish)
    async with subscriber.dispatching():
        await subscriber.until_said(wish, Status.FAILED)
    heartbeats = Heartbeats(subscriber.pool, "health", lambda _: b"", lambda: (), away_after=0)
    [away] = (await heartbeats.beat()).away
    assert (away.record_system, away.reason) == (None, "the document API cannot be reached (ConnectError)")
    await subscriber.park(wish.release())  # nothing is left to be done there
    assert (await heartbeats.beat()).away == ()


def _takes(subscriber: SubscriberStub, monkeypatch: pytest.MonkeyPatch, *, per_minute: int, at_once: int) -> None:
    """The record system of ``RNA`` has a measure, the others none."""
    monkeypatch.setattr(subscriber.systems, "per_minute", lambda lane: per_minute if lane == "rna" else None)
    monkeypatch.setattr(subscriber.systems, "at_once", lambda _: {"rna": at_once})


async def test_a_record_system_gets_no_more_in_a_minute_than_it_takes(
    subscriber: SubscriberStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    _takes(subscriber, monkeypatch, per_minute=1, at_once=5)
    paced, free = [wanted() for _ in range(20)], [wanted(RXK) for _ in range(20)]
    subscriber.council.wants(*paced, *free)
    await subscriber.park(*paced, *free)
    async with subscriber.dispatching():
        for wish in free:
            await subscriber.until_said(wish, Status.FILED)
        await until(_batches(subscriber, 1))
    assert len(subscriber.rna.delivered) == 5


@pytest.mark.parametrize(("per_minute", "at_once"), [(1, 1), (12, 1), (60, 5), (600, 50), (6000, 100)])
async def test_what_a_record_system_takes_comes_evenly(per_minute: int, at_once: int) -> None:
    entry = SystemSettings(name="trust", kind="fhir", recipients="*", per_minute=per_minute)
    systems = Systems((entry,), {"fhir": lambda _: RecordSystemStub("trust")})
    assert systems.at_once(100) == {"trust": at_once}


async def test_what_must_be_removed_waits_behind_no_first_load(
    subscriber: SubscriberStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    _takes(subscriber, monkeypatch, per_minute=1, at_once=1)
    wrong, *load = [wanted() for _ in range(10)]
    recall = wrong.recall()
    subscriber.council.wants(recall, *load)
    await subscriber.park(*load)
    await subscriber.park(recall)  # due after all the others
    async with subscriber.dispatching():
        await subscriber.until_said(recall, Status.RECALLED)
    assert len(subscriber.rna.delivered) <= 1


async def test_a_refusal_that_people_put_right_is_tried_when_the_council_puts_it_out_again(subscriber: SubscriberStub) -> None:
    wish = wanted()
    subscriber.council.wants(wish)
    subscriber.rna.decide = lambda _: Refused("no patient in this record has the plan's NHS number")
    await subscriber.park(wish)
    async with subscriber.dispatching() as dispatcher:
        await subscriber.until_said(wish, Status.REFUSED)
        subscriber.rna.decide = None  # the patient was registered
        await subscriber.park(wish)
        dispatcher.wake()
        await subscriber.until_said(wish, Status.FILED)
    assert subscriber.rna.delivered == [(wish.share_id, 1)] * 2


async def test_a_thousand_that_waited_for_the_document_api_for_an_hour_go_out_when_it_is_back(
    subscriber: SubscriberStub,
) -> None:
    wishes = [wanted() for _ in range(1000)]
    subscriber.council.wants(*wishes)
    subscriber.council.down = _unreachable
    await subscriber.park(*wishes)
    async with subscriber.dispatching() as dispatcher:
        await subscriber.until_said_one_of(wishes[0], {Status.FAILED})
        assert subscriber.rna.batches == []
        # As it stands after an hour without it: each has failed a few times, and the next try is hours away.
        await subscriber.owner.execute(
            "UPDATE delivery.delivery SET state = 'failed', away = true, attempts = 4, claimed_until = NULL, claim = NULL,"
            " next_attempt_at = now() + interval '2 hours'"
        )
        subscriber.council.down = None
        await subscriber.make_due(wishes[0])
        dispatcher.wake()

        async def all_filed() -> bool:
            filed: int = await subscriber.owner.fetchval("SELECT count(*) FROM delivery.delivery WHERE state = 'filed'")
            return filed == 1000

        await until(all_filed, within=90, what="all are filed")
    assert sorted(share_id for share_id, _ in subscriber.rna.delivered) == sorted(wish.share_id for wish in wishes)


async def test_what_a_person_sends_again_is_tried_now(subscriber: SubscriberStub) -> None:
    failed, refused, other = wanted(), wanted(), wanted(RXK)
    subscriber.council.wants(failed, refused, other)
    answers: dict[UUID, Outcome] = {
        failed.share_id: Retry("the record answered 500", after=36_000),
        refused.share_id: Refused("no such patient"),
    }
    subscriber.rna.decide = lambda content: answers[content.share_id]
    await subscriber.park(failed, refused)
    async with subscriber.dispatching() as dispatcher:
        await subscriber.until_said(failed, Status.FAILED)
        await subscriber.until_said(refused, Status.REFUSED)
        subscriber.rna.decide = None
        # The sweep's repeat leaves the back-off as it is.
        await subscriber.park(failed)
        assert (await subscriber.row(failed))["next_attempt_at"] > utc_now() + timedelta(hours=9)
        await subscriber.send_again(failed, refused)
        dispatcher.wake()
        for wish in (failed, refused):
            await subscriber.until_said(wish, Status.FILED)


async def test_what_is_held_and_sent_again_is_looked_at_in_the_record(subscriber: SubscriberStub) -> None:
    there, gone = wanted(), wanted()
    subscriber.council.wants(there, gone)
    await subscriber.park(there, gone)
    async with subscriber.dispatching() as dispatcher:
        for wish in (there, gone):
            await subscriber.until_said(wish, Status.FILED)
        del subscriber.rna.held["RNA", gone.plan_id]
        await subscriber.send_again(there, gone)
        await subscriber.record_check(dispatcher.wake).once()
        await subscriber.until_said(gone, Status.FAILED)

        async def filed_again() -> bool:
            return len(subscriber.rna.delivered) == 3

        await until(filed_again, what="what was gone is filed again")
    assert await subscriber.said(there) == [(1, Status.FILED)]


# --- the council's answers ----------------------------------------------------------------------------------------------


def _unreachable(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("refused", request=request)


@pytest.mark.parametrize(
    ("down", "reason"),
    [
        (_unreachable, "the document API cannot be reached (ConnectError)"),
        (lambda _: httpx2.Response(503), "the document API answered 503"),
        (lambda _: httpx2.Response(200, content=b"<html>"), "the document API"),
    ],
)
async def test_a_council_that_is_away_is_asked_again_and_hears_of_it(
    subscriber: SubscriberStub, down: Any, reason: str
) -> None:
    wish = wanted()
    subscriber.council.wants(wish)
    subscriber.council.down = down
    await subscriber.park(wish)
    async with subscriber.dispatching() as dispatcher:
        receipt = await subscriber.until_said(wish, Status.FAILED)
        assert receipt.reason is not None
        assert receipt.reason.startswith(reason)
        assert receipt.next_try_at is not None
        assert soon(receipt.next_try_at, 5)
        assert subscriber.rna.batches == []
        subscriber.council.down = None
        await subscriber.make_due(wish)
        dispatcher.wake()
        await subscriber.until_said(wish, Status.FILED)


async def test_a_stale_instruction_is_never_delivered(subscriber: SubscriberStub) -> None:
    first = wanted()
    subscriber.council.wants(first.next())
    await subscriber.park(first)
    async with subscriber.dispatching():
        receipt = await subscriber.until_said(first, Status.FAILED)
    assert receipt.reason == "a newer instruction is on its way"
    assert subscriber.rna.batches == []


async def test_an_instruction_that_names_another_recipient_than_the_council_brings_nobody_anothers_plan(
    subscriber: SubscriberStub,
) -> None:
    wish = wanted(RNA)
    subscriber.council.wants(wish)
    await subscriber.park(replace(wish, recipient=RXK))
    async with subscriber.dispatching():
        said = await subscriber.until_said(wish, Status.CONFLICT)
    assert said.reason == "the council wants this for another recipient than the instruction names"
    assert subscriber.rxk.batches == subscriber.rna.batches == []
    # Wanted again under a higher seq, as the council answers a conflict.
    again = replace(wish, seq=2)
    subscriber.council.wants(again)
    await subscriber.park(again)
    async with subscriber.dispatching():
        await subscriber.until_said(again, Status.FILED)
    assert (subscriber.rna.delivered, subscriber.rxk.delivered) == ([(wish.share_id, 2)], [])


async def test_a_share_that_was_withdrawn_meanwhile_is_never_delivered(subscriber: SubscriberStub) -> None:
    wish = wanted()
    subscriber.council.wants(wish.next(withdrawn=True))
    await subscriber.park(wish)
    async with subscriber.dispatching():
        await subscriber.until_said(wish, Status.FAILED)
    assert subscriber.rna.batches == []


async def test_a_council_that_counts_lower_hears_of_a_conflict(subscriber: SubscriberStub) -> None:
    first = wanted()
    third = first.next().next()
    subscriber.council.wants(first)
    await subscriber.park(third)
    async with subscriber.dispatching():
        receipt = await subscriber.until_said(third, Status.CONFLICT)
    assert receipt.reason == "the council wants a lower seq than is here"
    assert subscriber.rna.batches == []
    assert (await subscriber.row(first))["next_attempt_at"] is None


async def test_a_share_that_the_council_does_not_know_is_refused(subscriber: SubscriberStub) -> None:
    wish = wanted()
    await subscriber.park(wish)
    async with subscriber.dispatching():
        receipt = await subscriber.until_said(wish, Status.REFUSED)
    assert receipt.reason == "the council does not know this share"


async def test_a_rendering_that_is_not_what_was_wanted_is_never_delivered(subscriber: SubscriberStub) -> None:
    wish = wanted()
    rendering = replace(wish, version_id=uuid4()).rendering.model_dump(mode="json")
    subscriber.council.answers = lambda _share, _seq: {"outcome": "ok", "current_seq": 1, "rendering": rendering}
    await subscriber.park(wish)
    async with subscriber.dispatching():
        receipt = await subscriber.until_said(wish, Status.FAILED)
    assert receipt.reason == "the rendering's hash is not the instruction's"
    assert subscriber.rna.batches == []


# --- people -------------------------------------------------------------------------------------------------------------


async def record_evidence(subscriber: SubscriberStub, wish: Wanted, status: Status, proof: str | None = None) -> bool:
    async with subscriber.pool.acquire() as connection, connection.transaction():
        return await evidence.record(connection, subscriber.receipts, wish.share_id, wish.seq, status, proof=proof)


async def test_manual_waits_for_a_person_and_the_record_is_the_evidence(subscriber: SubscriberStub) -> None:
    wish = wanted(PARENT)
    await subscriber.park(wish)
    row = await subscriber.row(wish)
    assert (row["state"], row["next_attempt_at"]) == ("waiting", None)
    assert await subscriber.said(wish) == [(1, Status.WAITING)]
    assert await record_evidence(subscriber, wish, Status.SENT, "sent by post on 2026-09-03, recorded by J. Officer")
    sent = (await subscriber.signed(wish))[-1]
    assert (sent.status, sent.version_id, sent.sha256) == (Status.SENT, wish.version_id, wish.sha256)
    assert sent.record == "sent by post on 2026-09-03, recorded by J. Officer"
    row = await subscriber.row(wish)
    assert (row["state"], row["held_seq"], row["held_version_id"]) == ("sent", 1, wish.version_id)
    # Recorded twice is recorded once.
    assert not await record_evidence(subscriber, wish, Status.SENT)
    assert await subscriber.said(wish) == [(1, Status.WAITING), (1, Status.SENT)]


async def test_a_receipt_that_comes_after_a_failure_says_what_is_there_now_and_the_removal_goes_on(
    subscriber: SubscriberStub,
) -> None:
    """The peer answered too late, and had filed it all the same: the new version, not the one that it held before."""
    wrong = wanted()
    right = replace(wrong.next(), remove=(wrong.version_id,))
    subscriber.council.wants(wrong)
    await subscriber.park(wrong)
    async with subscriber.dispatching():
        await subscriber.until_said(wrong, Status.FILED)
        subscriber.rna.decide_recall = lambda _: Retry("nobody answers", away=True)
        subscriber.council.wants(right)
        await subscriber.park(right)
        await subscriber.until_said(right, Status.FAILED)
    assert await record_evidence(subscriber, right, Status.FILED, "Message/2")
    said = (await subscriber.signed(right))[-1]
    assert (said.version_id, said.sha256, said.record) == (right.version_id, right.sha256, "Message/2")
    assert said.remaining == (wrong.version_id,)
    row = await subscriber.row(right)
    assert (row["state"], row["held_seq"], row["held_version_id"]) == ("filed", 2, right.version_id)
    assert row["next_attempt_at"] is not None, "the removal is tried again"


async def test_evidence_for_an_older_instruction_is_refused(subscriber: SubscriberStub) -> None:
    wish = wanted(PARENT)
    await subscriber.park(wish)
    await subscriber.park(wish.next())
    with pytest.raises(evidence.EvidenceRefusedError, match=r"A newer instruction \(seq 2\) has come"):
        await record_evidence(subscriber, wish, Status.SENT)
    assert (await subscriber.row(wish))["state"] == "waiting"
    with pytest.raises(evidence.EvidenceRefusedError, match="no such delivery"):
        await record_evidence(subscriber, wanted(PARENT), Status.SENT)


async def test_evidence_for_a_withdrawn_share_is_refused(subscriber: SubscriberStub) -> None:
    gone = wanted(PARENT).next(withdrawn=True)
    await subscriber.park(gone)
    assert await subscriber.said(gone) == [(2, Status.WITHDRAWN)]
    with pytest.raises(evidence.EvidenceRefusedError, match="withdrawn cannot become sent"):
        await record_evidence(subscriber, gone, Status.SENT)


async def test_an_item_is_sent_then_opened(subscriber: SubscriberStub) -> None:
    wish = wanted(SCHOOL)
    subscriber.council.wants(wish)
    await subscriber.park(wish)
    async with subscriber.dispatching():
        await subscriber.until_said(wish, Status.SENT)
    assert await record_evidence(subscriber, wish, Status.OPENED)
    opened = (await subscriber.signed(wish))[-1]
    assert (opened.status, opened.sha256, opened.record) == (Status.OPENED, wish.sha256, f"inbox/{wish.share_id}")


async def test_an_item_that_is_opened_before_its_sending_is_recorded_stays_opened(subscriber: SubscriberStub) -> None:
    """The item lies in the inbox before the dispatcher writes that it does, and after a crash for longer."""
    wish = wanted(SCHOOL)
    subscriber.council.wants(wish)
    await subscriber.park(wish)
    async with subscriber.pool.acquire() as connection:
        claim = uuid4()
        [claimed] = await store.claim(connection, claim, "health-0", [], 10)
    assert await record_evidence(subscriber, wish, Status.OPENED)
    result, _ = dispatching.record(claimed, Sent(f"inbox/{wish.share_id}"), wish.sha256, utc_now())
    async with subscriber.pool.acquire() as connection, connection.transaction():
        assert await store.finish(connection, claim, utc_now(), [result]) == set()
    row = await subscriber.row(wish)
    assert (row["state"], row["held_seq"], row["next_attempt_at"], row["claim"]) == ("opened", 1, None, None)
    assert await subscriber.said(wish) == [(1, Status.OPENED)]


async def test_an_item_whose_sending_failed_may_have_been_opened(subscriber: SubscriberStub) -> None:
    wish = wanted(SCHOOL)
    subscriber.council.wants(wish)
    subscriber.council.down = _unreachable
    await subscriber.park(wish)
    async with subscriber.dispatching():
        await subscriber.until_said(wish, Status.FAILED)
    assert await record_evidence(subscriber, wish, Status.OPENED)
    row = await subscriber.row(wish)
    assert (row["state"], row["next_attempt_at"]) == ("opened", None)


# --- reconciliation -----------------------------------------------------------------------------------------------------


async def test_lost_books_are_rebuilt_from_the_councils_list(subscriber: SubscriberStub) -> None:
    wish, paper, gone = wanted(), wanted(PARENT), wanted(RXK).next(withdrawn=True)
    subscriber.council.wants(wish, paper, gone)
    await subscriber.park(wish, paper, gone)
    async with subscriber.dispatching():
        before = [await subscriber.until_said(wish, Status.FILED), await subscriber.until_said(gone, Status.WITHDRAWN)]
    await subscriber.lose_everything()
    async with subscriber.dispatching() as dispatcher:
        assert await subscriber.reconcile().once(full=True) == 3
        dispatcher.wake()
        after = [await subscriber.until_said(wish, Status.FILED), await subscriber.until_said(gone, Status.WITHDRAWN)]
    assert min(receipt.number for receipt in after) > max(receipt.number for receipt in before)
    assert await subscriber.said(paper) == [(1, Status.WAITING)]


async def test_the_list_told_again_asks_for_no_receipt(subscriber: SubscriberStub) -> None:
    paper = wanted(PARENT)
    subscriber.council.wants(paper)
    await subscriber.reconcile().once(full=True)
    await subscriber.reconcile().once(full=False)
    assert len(await subscriber.outbox(paper)) == 1


@pytest.mark.parametrize("recipient", [RNA, SCHOOL, PARENT, NOBODY])
@pytest.mark.parametrize("withdrawn", [False, True])
async def test_a_council_that_was_restored_and_counts_lower_hears_it_from_the_list(
    subscriber: SubscriberStub, recipient: Any, withdrawn: bool
) -> None:
    """Whatever is here, and though nothing is due: the council must want again above it."""
    first = wanted(recipient)
    third = first.next().next(withdrawn=withdrawn)
    subscriber.council.wants(third)
    await subscriber.park(third)
    async with subscriber.dispatching():
        await until(_settled(subscriber, third))
        subscriber.council.wants(first)
        before = await subscriber.row(third)
        await subscriber.reconcile().once(full=True)
        await subscriber.until_said(third, Status.CONFLICT)
    row = await subscriber.row(third)
    assert (row["seq"], row["state"], row["held_seq"]) == (3, before["state"], before["held_seq"])


def _settled(subscriber: SubscriberStub, wish: Wanted) -> Any:
    async def there() -> bool:
        row = await subscriber.row(wish)
        return row["next_attempt_at"] is None and row["claim"] is None

    return there


@pytest.mark.parametrize("recipient", [RNA, SCHOOL, PARENT])
async def test_a_page_of_the_list_that_was_overtaken_changes_nothing(subscriber: SubscriberStub, recipient: Any) -> None:
    """The list was read, then a newer instruction came and was done, then the page is parked."""
    first = wanted(recipient)
    second = first.next()
    subscriber.council.wants(second)
    subscriber.council.rows = [subscriber.council.row(first)]
    await subscriber.park(second)
    async with subscriber.dispatching():
        await until(_settled(subscriber, second))
        if recipient is not RNA:
            await record_evidence(subscriber, second, Status.OPENED if recipient is SCHOOL else Status.SENT)
        before, said = await subscriber.row(second), await subscriber.said(second)
        await subscriber.reconcile().once(full=False)
        await until(_settled(subscriber, second))
    assert await subscriber.row(second) == before
    assert await subscriber.said(second) == said


async def test_one_row_of_the_list_that_cannot_be_read_holds_up_no_other(subscriber: SubscriberStub) -> None:
    good, bad = wanted(PARENT), wanted(PARENT)
    row = subscriber.council.row(bad)
    subscriber.council.rows = [row | {"type": "ehcp.share.replaced.v2"}, subscriber.council.row(good)]
    await subscriber.reconcile().once(full=True)
    assert await subscriber.row(good) is not None


# --- what the database itself refuses -----------------------------------------------------------------------------------


async def test_seq_and_what_is_held_never_fall(subscriber: SubscriberStub) -> None:
    wish = wanted().next()
    subscriber.council.wants(wish)
    await subscriber.park(wish)
    async with subscriber.dispatching():
        await subscriber.until_said(wish, Status.FILED)
    for change in ("seq = 1", "held_seq = 1"):
        with pytest.raises(asyncpg.RaiseError, match="never fall"):
            await subscriber.owner.execute(f"UPDATE delivery.delivery SET {change} WHERE share_id = $1", wish.share_id)
    with pytest.raises(asyncpg.CheckViolationError):
        await subscriber.owner.execute("UPDATE delivery.delivery SET held_seq = 3 WHERE share_id = $1", wish.share_id)
