"""What a receiver sees over a long and bad day: of each share instructions and versions only rise, and the last is the newest.

Instructions come doubled, in any order and late; the dispatcher is killed in the middle of deliveries and started again; the
record system fails now and then. The whole history of every copy is kept and looked at. ``EHCP_HISTORY_EVENTS`` makes the day
longer.
"""

import asyncio
import itertools
import os
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

import pytest
import pytest_asyncio

from services.shared.delivery import breaker, states
from services.shared.record_systems.port import (
    Content,
    Filed,
    Outcome,
    Recall,
    RecallOutcome,
    Removed,
    Retry,
    Withdrawal,
    Withdrawn,
    WithdrawOutcome,
)
from tests.support.servers import RunningPostgres
from tests.support.subscriber import RNA, RXK, SubscriberStub, Wanted, books, record_of, subscriber_on, wanted
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

EVENTS = int(os.environ.get("EHCP_HISTORY_EVENTS", "4000"))
SHARES = 200
A_BATCH = 100


@pytest_asyncio.fixture
async def subscriber(postgres_server: RunningPostgres) -> AsyncIterator[SubscriberStub]:
    async with subscriber_on(postgres_server, await books(postgres_server)) as running:
        yield running


class Receiver:
    """Both record systems' eyes: what was done to each share's copy, in order."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.history: dict[UUID, list[tuple[int, str]]] = defaultdict(list)

    def deliver(self, content: Content) -> Outcome:
        if self._chance.random() < 0.02:
            return Retry("the record failed (500)")
        self.history[content.share_id].append((content.seq, f"version {content.version}"))
        return Filed(f"DocumentReference/{content.version_id}", content.sha256)

    def withdraw(self, withdrawal: Withdrawal) -> WithdrawOutcome:
        self.history[withdrawal.share_id].append((withdrawal.seq, "withdrawn"))
        return Withdrawn("DocumentReference/1")

    def recall(self, recall: Recall) -> RecallOutcome:
        self.history[recall.share_id].append((recall.seq, "recalled"))
        return Removed("1 entry removed")


def changed(wish: Wanted, chance: random.Random) -> Wanted:
    """The next wish of a share."""
    over = wish.withdrawn or wish.recalled
    what = chance.random()
    if over or what < 0.8:
        return replace(wish.next(), recalled=False, remove=())
    return (
        wish.next(withdrawn=True) if what < 0.9 else replace(wish, seq=wish.seq + 1, recalled=True, remove=(wish.version_id,))
    )


def expected(wish: Wanted) -> str:
    return "withdrawn" if wish.withdrawn else "recalled" if wish.recalled else f"version {wish.version}"


async def test_instructions_only_rise_at_the_receiver(
    subscriber: SubscriberStub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(states, "BACK_OFF", (0.05, 0.1))
    monkeypatch.setattr(breaker, "FIRST_REST_SECONDS", 0.05)
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    receiver = Receiver(chance)
    for record in subscriber.records.values():
        record.decide, record.decide_withdrawal, record.decide_recall = receiver.deliver, receiver.withdraw, receiver.recall
    newest = {wish.share_id: wish for wish in (wanted(chance.choice([RNA, RXK])) for _ in range(SHARES))}
    subscriber.council.wants(*newest.values())
    on_their_way = list(newest.values())
    sent = crashes = 0

    async def dispatch() -> None:
        await subscriber.dispatcher().run()

    running = asyncio.create_task(dispatch())
    try:
        while sent < EVENTS:
            for share_id in chance.sample(sorted(newest), A_BATCH // 3):
                newest[share_id] = changed(newest[share_id], chance)
                subscriber.council.wants(newest[share_id])
                on_their_way += [newest[share_id]] * chance.choice([1, 1, 2])
            chance.shuffle(on_their_way)
            batch, on_their_way = on_their_way[:A_BATCH], on_their_way[A_BATCH // 2 :]  # half of a batch comes again
            await subscriber.parking.handle([record_of(wish) for wish in batch])
            sent += len(batch)
            if chance.random() < 0.15:
                crashes += 1
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
                running = asyncio.create_task(dispatch())
        await subscriber.parking.handle([record_of(wish) for wish in newest.values()])

        async def done() -> bool:
            last = {share_id: history[-1] for share_id, history in receiver.history.items()}
            return all(last.get(share_id) == (wish.seq, expected(wish)) for share_id, wish in newest.items())

        await until(done, within=120, what=f"every share is as it is wanted last (seed {seed})")
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    for share_id, history in receiver.history.items():
        seqs = [seq for seq, _ in history]
        assert seqs == sorted(seqs), f"seed {seed}: {share_id}"
        versions = [int(what.removeprefix("version ")) for _, what in history if what.startswith("version ")]
        assert versions == sorted(versions), f"seed {seed}: {share_id} was given an older version after a newer one"
        for (one, first), (two, second) in itertools.pairwise(history):
            assert one != two or first == second, f"seed {seed}: another thing under the same seq"
    steps = sum(map(len, receiver.history.values()))
    with capsys.disabled():
        print(f" {sent} instructions, {crashes} crashes, {steps} steps at the receiver, seed {seed} ", end="")  # noqa: T201 - a figure
