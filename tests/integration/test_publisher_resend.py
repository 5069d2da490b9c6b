"""The resend sweep on real PostgreSQL: what no receipt answered is put out again, what is satisfied is forgotten, and what the
subscriber contradicts is wanted again under a higher seq. Rows of ``audit.newest`` are written by the owner, who plays audit.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from services.ehcp_publisher import store
from services.shared.postgres.pool import council_transaction
from tests.support.publisher import PRIMARY, PublisherAtHand, code, placed, publisher_at_hand, submission, version
from tests.support.servers import RunningPostgres

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

MINUTE = timedelta(minutes=1)
TRUST_NAME, SCHOOL_NAME = "The Dudley Group NHS Foundation Trust", "Saltwells Brook Primary School"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def publisher(postgres_server: RunningPostgres) -> AsyncIterator[PublisherAtHand]:
    async with publisher_at_hand(postgres_server, EHCP_RESEND_AFTER_SECONDS="60") as at_hand:
        yield at_hand


class Shares:
    """One plan's shares, of which a test tells and moves one."""

    def __init__(self, publisher: PublisherAtHand, plan_id: str, share_id: UUID) -> None:
        self.publisher, self.plan_id, self.share_id = publisher, plan_id, share_id

    async def told(
        self, seq: int, status: str, satisfied_seq: int = 0, next_try_in: timedelta | None = None, **more: Any
    ) -> None:
        """As audit does when a receipt came."""
        lost: bool = more.get("lost", False)
        await self.publisher.owner.execute(
            "INSERT INTO audit.newest (share_id, la_code, seq, number, status, at, satisfied_seq, next_try_at, lost)"
            " VALUES ($1, '332', $2, 1, $3, now(), $4, now() + $5::interval, $6) ON CONFLICT (share_id) DO UPDATE SET"
            " seq = excluded.seq, status = excluded.status, satisfied_seq = excluded.satisfied_seq,"
            " next_try_at = excluded.next_try_at, lost = excluded.lost",
            self.share_id, seq, status, satisfied_seq, next_try_in, lost,
        )  # fmt: skip

    async def make_due(self) -> None:
        await self.publisher.owner.execute(
            "UPDATE publisher.unsatisfied SET check_at = now() - interval '1 second' WHERE share_id = $1", self.share_id
        )

    async def sweep(self) -> None:
        """With only this share due."""
        await self.make_due()
        await self.publisher.resend.sweep()

    async def forget(self) -> None:
        """Satisfied long ago and swept away."""
        await self.publisher.owner.execute("DELETE FROM publisher.unsatisfied WHERE share_id = $1", self.share_id)

    async def put_out(self) -> list[tuple[int, str]]:
        """(seq, type without prefix) of every row for the relay."""
        rows = await self.publisher.outbox(self.share_id)
        return [(row["data"]["seq"], row["type"].removeprefix("ehcp.share.").removesuffix(".v1")) for row in rows]

    async def open(self) -> asyncpg.Record | None:
        return await self.publisher.owner.fetchrow(
            "SELECT *, check_at - now() AS wait FROM publisher.unsatisfied WHERE share_id = $1", self.share_id
        )

    async def wait(self) -> timedelta:
        row = await self.open()
        assert row is not None
        wait: timedelta = row["wait"]
        return wait


async def share_of(publisher: PublisherAtHand, name: str = TRUST_NAME, **changes: Any) -> Shares:
    body = await publisher.issue(submission(version=version(**changes)))
    return Shares(publisher, body["plan_id"], (await publisher.shares(body["plan_id"]))[name]["share_id"])


def about(wait: timedelta, expected: timedelta) -> bool:
    return expected - timedelta(seconds=30) < wait <= expected


# --- no answer ---


async def test_what_nobody_answered_is_put_out_again_ever_more_seldom(publisher: PublisherAtHand) -> None:
    share = await share_of(publisher)
    await publisher.resend.sweep()
    assert await share.put_out() == [(1, "requested")], "not yet"
    for resends, minutes in enumerate([2, 4, 8, 16, 32, 60, 60], start=1):
        await share.sweep()
        row = await share.open()
        assert row is not None
        assert row["resends"] == resends
        assert about(row["wait"], minutes * MINUTE)
    assert await share.put_out() == [(1, "requested")] * 8
    rows = await publisher.owner.fetch("SELECT value, topic FROM publisher.outbox WHERE key = $1", str(share.share_id))
    assert len({(row["value"], row["topic"]) for row in rows}) == 1, "the same instruction, byte for byte"


async def test_a_new_wish_starts_the_back_off_anew_and_keeps_the_oldest_due_time(publisher: PublisherAtHand) -> None:
    share = await share_of(publisher)
    before = await share.open()
    assert before is not None
    for _ in range(3):
        await share.sweep()
    await publisher.amend(share.plan_id, version("2026-03-02", "Two."))
    row = await share.open()
    assert row is not None
    assert (row["seq"], row["resends"], row["due_at"]) == (2, 0, before["due_at"])
    await share.sweep()
    assert (await share.put_out())[-2:] == [(2, "requested")] * 2


async def test_due_anew_where_the_former_wish_was_satisfied_and_only_not_swept_away_yet(publisher: PublisherAtHand) -> None:
    share = await share_of(publisher)
    await publisher.owner.execute(
        "UPDATE publisher.unsatisfied SET due_at = now() - interval '9 days' WHERE share_id = $1", share.share_id
    )
    await share.told(1, "filed", 1)
    await publisher.amend(share.plan_id, version("2026-03-02", "Two."))
    row = await share.open()
    assert row is not None
    requested: datetime = await publisher.owner.fetchval(
        "SELECT requested_at FROM publisher.instruction WHERE share_id = $1 AND seq = 2", share.share_id
    )
    assert row["due_at"] == requested + timedelta(days=1)


async def test_nobody_to_send_it_to(publisher: PublisherAtHand) -> None:
    share = await share_of(publisher, "ods:XYZ (not in the directory)", commissioning_bodies=[code("ods:XYZ")])
    await share.sweep()
    assert await share.put_out() == []
    assert about(await share.wait(), 60 * MINUTE)


# --- answers ---


async def test_satisfied_leaves_the_table(publisher: PublisherAtHand) -> None:
    share = await share_of(publisher)
    await share.told(1, "filed", 1)
    await share.sweep()
    assert await share.open() is None
    assert await share.put_out() == [(1, "requested")]


async def test_satisfied_for_a_former_wish_only_does_not(publisher: PublisherAtHand) -> None:
    share = await share_of(publisher)
    await publisher.amend(share.plan_id, version("2026-03-02", "Two."))
    await share.told(1, "filed", 1)
    await share.sweep()
    assert await share.put_out() == [(1, "requested"), (2, "requested"), (2, "requested")]


@pytest.mark.parametrize("status", ["waiting", "sent", "collected", "refused"])
async def test_what_waits_for_a_person_is_left_alone(publisher: PublisherAtHand, status: str) -> None:
    share = await share_of(publisher)
    await share.told(1, status)
    await share.sweep()
    assert await share.put_out() == [(1, "requested")]
    assert await share.wait() > timedelta(seconds=30)


async def test_what_will_be_tried_again_is_given_its_time(publisher: PublisherAtHand) -> None:
    share = await share_of(publisher)
    await share.told(1, "failed", next_try_in=timedelta(hours=5))
    await share.sweep()
    assert await share.put_out() == [(1, "requested")]
    assert about(await share.wait(), timedelta(hours=5) + MINUTE)
    await share.told(1, "failed", next_try_in=-timedelta(minutes=2))
    await share.sweep()
    assert await share.put_out() == [(1, "requested")] * 2, "the promised try told nothing: ask again"


async def test_filed_and_then_found_missing_is_open_again(publisher: PublisherAtHand) -> None:
    share = await share_of(publisher)
    await share.forget()
    await share.told(1, "failed", 0, lost=True)
    await publisher.resend.sweep()
    assert await share.open() is not None


async def test_many_lost_shares_that_are_open_already_do_not_hide_another(publisher: PublisherAtHand) -> None:
    shares = [await share_of(publisher) for _ in range(3)]
    for share in shares:
        await share.told(1, "failed", 0, lost=True)
    for share in shares:
        await share.forget()
        for _ in shares:
            async with council_transaction(publisher.pool, ["332"]) as connection:
                await store.reopen_lost(connection, 1)
        assert await share.open() is not None


# --- contradictions ---


async def test_a_conflict_is_wanted_again_under_a_higher_seq(publisher: PublisherAtHand) -> None:
    share = await share_of(publisher)
    await share.told(1, "conflict")
    await share.sweep()
    assert await share.put_out() == [(1, "requested"), (2, "requested")]
    first, second = (row["data"] for row in await publisher.outbox(share.share_id))
    changing = {"seq", "requested_at", "due_at"}
    assert {k: v for k, v in second.items() if k not in changing} == {k: v for k, v in first.items() if k not in changing}
    row = (await publisher.shares(share.plan_id))[TRUST_NAME]
    assert (row["seq"], row["action"]) == (2, "hold")
    act = await publisher.owner.fetchrow("SELECT * FROM audit.pending WHERE share_id = $1 AND seq = 2", share.share_id)
    assert act is not None
    assert (act["act"], act["actor"]) == ("shared", "resend")
    (read,) = await publisher.read("subscriber-health", (share.share_id, 2))
    assert read["outcome"] == "ok"
    grounds = "SELECT count(*) FROM publisher.share_ground WHERE share_id = $1 AND until_date IS NULL"
    assert await publisher.owner.fetchval(grounds, share.share_id) == 1


async def test_it_is_wanted_again_once_not_again_and_again_until_the_answer_comes(publisher: PublisherAtHand) -> None:
    share = await share_of(publisher)
    await share.told(1, "conflict")
    for _ in range(4):
        await share.sweep()
    assert await share.put_out() == [(1, "requested"), *[(2, "requested")] * 4]


async def test_a_subscriber_that_has_seen_more_is_outbid(publisher: PublisherAtHand) -> None:
    """The council's database was restored from a backup and counts again."""
    share = await share_of(publisher)
    await share.told(7, "filed")
    await share.sweep()
    assert await share.put_out() == [(1, "requested"), (8, "requested")]


@pytest.mark.parametrize(("seq", "then"), [(1, 2), (3, 4)])
async def test_a_conflict_about_a_share_that_was_satisfied_long_ago(publisher: PublisherAtHand, seq: int, then: int) -> None:
    """After a restore the share looks satisfied, and nothing is open: the subscriber's word alone tells."""
    share = await share_of(publisher)
    await share.forget()
    await share.told(seq, "conflict", 1)
    for _ in range(3):
        await publisher.resend.sweep()
    assert await share.put_out() == [(1, "requested"), (then, "requested")]
    row = await share.open()
    assert row is not None
    assert row["seq"] == then


async def test_a_withdrawn_share_that_is_contradicted_is_withdrawn_again_with_the_same_address(
    publisher: PublisherAtHand,
) -> None:
    share = await share_of(publisher, SCHOOL_NAME, placements=[placed(PRIMARY)])
    await publisher.amend(share.plan_id, version("2026-03-02", "Two.", placements=[]))
    await share.told(5, "conflict")
    await share.sweep()
    assert await share.put_out() == [(1, "requested"), (2, "withdrawn"), (6, "withdrawn")]
    rows = await publisher.outbox(share.share_id)
    assert {row["data"]["recipient"]["value"] for row in rows} == {"993202"}
    (read,) = await publisher.read("subscriber-school", (share.share_id, 6))
    assert read["outcome"] == "withdrawn"


# --- at the same time ---


async def test_two_sweeps_at_once_put_each_share_out_once(publisher: PublisherAtHand) -> None:
    shares = [await share_of(publisher) for _ in range(20)]
    for share in shares:
        await share.make_due()
    await asyncio.gather(*(publisher.resend.sweep() for _ in range(4)))
    for share in shares:
        assert await share.put_out() == [(1, "requested")] * 2


@pytest.mark.parametrize("satisfied", [True, False])
async def test_a_sweep_does_not_wait_for_a_version_that_is_being_issued(publisher: PublisherAtHand, satisfied: bool) -> None:
    """Each would hold rows that the other wants: one of the two would be thrown out as a deadlock."""
    busy, free = await share_of(publisher), await share_of(publisher)
    for share in (busy, free):
        if satisfied:
            await share.told(1, "filed", 1)
        await share.make_due()
    async with publisher.owner.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM publisher.unsatisfied WHERE share_id = $1 FOR UPDATE", busy.share_id)
        await asyncio.wait_for(publisher.resend.sweep(), 10)
    row = await free.open()
    assert row is None if satisfied else row is not None and row["resends"] == 1


async def test_sweeping_while_versions_are_issued_keeps_every_share_in_order(publisher: PublisherAtHand) -> None:
    share = await share_of(publisher)
    ids = [row["share_id"] for row in (await publisher.shares(share.plan_id)).values()]
    stop = asyncio.Event()

    async def sweep() -> None:
        while not stop.is_set():
            for each in ids:  # one by one: whoever issues a version locks them in another order
                await publisher.owner.execute("UPDATE publisher.unsatisfied SET check_at = now() WHERE share_id = $1", each)
            await publisher.resend.sweep()

    sweeper = asyncio.create_task(sweep())
    for day in range(1, 21):
        await publisher.amend(share.plan_id, version(f"2026-03-{day:02d}", f"Day {day}."))
    stop.set()
    await sweeper
    for share_id in ids:
        seqs = [row["data"]["seq"] for row in await publisher.outbox(share_id)]
        assert seqs == sorted(seqs), "a resend never comes after the wish that replaced it"
        assert set(seqs) == set(range(1, 22))
