"""Statutory clocks, share gaps and confirmations on real PostgreSQL: told of once, cleared by what people record."""

from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio

from schemas.alerts import AlertRaised
from services.notifier.alerts import Digest, text
from services.notifier.messages import send_one
from services.notifier.store import Pool
from services.notifier.sweep import Sweep
from services.shared.postgres.pool import open_pool
from tests.support.council import CouncilDatabase, council_database
from tests.support.servers import RunningPostgres

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]


@pytest_asyncio.fixture(loop_scope="session")
async def council(postgres_server: RunningPostgres) -> AsyncIterator[CouncilDatabase]:
    async with council_database(postgres_server) as database:
        yield database


@pytest_asyncio.fixture(loop_scope="session")
async def pool(council: CouncilDatabase) -> AsyncIterator[Pool]:
    """Logged in as the notifier."""
    pool = await open_pool(council.dsn("notifier"))
    try:
        yield pool
    finally:
        await pool.close()


@pytest_asyncio.fixture(loop_scope="session")
async def today(council: CouncilDatabase) -> date:
    day: date = await council.owner.fetchval("SELECT (now() AT TIME ZONE 'Europe/London')::date")
    return day


async def write_plan(council: CouncilDatabase, la_code: str = "332") -> UUID:
    """Issued twenty days ago, so that its next review is far off."""
    return (await council.write_share(la_code=la_code)).plan_id


async def write_review(council: CouncilDatabase, plan_id: UUID, la_code: str = "332", **said: Any) -> None:
    """What is recorded of review R-7 now."""
    names = ("meeting_on", "invited_on", "held_on", "reported_on", "decision", "decided_on")
    await council.owner.execute(
        f"INSERT INTO publisher.review (plan_id, review, la_code, {', '.join(names)}) VALUES ($1, 'R-7', $2, $3, $4, $5, $6,"
        " $7, $8) ON CONFLICT (plan_id, review) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in names),
        plan_id, la_code, *[said.get(name) for name in names],
    )  # fmt: skip


async def alerts(council: CouncilDatabase, plan_id: UUID) -> list[tuple[str, str | None, str | None]]:
    """(kind, clock, why cleared or None while open) of the plan as a whole, in the order in which they were raised."""
    rows = await council.owner.fetch(
        "SELECT kind, clock, cleared_because FROM notifier.alert WHERE plan_id = $1 AND share_id IS NULL"
        " ORDER BY raised_at, clock, kind",
        plan_id,
    )
    return [(row["kind"], row["clock"], row["cleared_because"]) for row in rows]


async def sweep_twice(pool: Pool) -> None:
    """What is cleared in one round is raised anew in the next."""
    for _ in range(2):
        await Sweep(pool, ["heard"]).run_once()


async def test_a_review_from_invitation_to_final_plan(council: CouncilDatabase, pool: Pool, today: date) -> None:
    plan_id, quiet = await write_plan(council), await write_plan(council)
    meeting = today + timedelta(days=3)
    await write_review(council, plan_id, meeting_on=meeting)
    await sweep_twice(pool)
    expected: list[tuple[str, str | None, str | None]] = [("overdue", "review_invitation", None)]
    assert await alerts(council, plan_id) == expected

    # The meeting is moved, so that there is time for two weeks' notice.
    await write_review(council, plan_id, meeting_on=today + timedelta(days=17))
    await sweep_twice(pool)
    expected = [("overdue", "review_invitation", "not_due"), ("due_soon", "review_invitation", None)]
    assert await alerts(council, plan_id) == expected
    await write_review(council, plan_id, meeting_on=today + timedelta(days=17), invited_on=today)
    await sweep_twice(pool)
    expected[1] = ("due_soon", "review_invitation", "settled")
    assert await alerts(council, plan_id) == expected

    # Thirteen days after the meeting, its report is due tomorrow.
    held = today - timedelta(days=13)
    await write_review(council, plan_id, held_on=held)
    await sweep_twice(pool)
    assert (await alerts(council, plan_id))[2:] == [("due_soon", "review_report", None)]
    held = today - timedelta(days=29)
    await write_review(council, plan_id, held_on=held, reported_on=today)
    await sweep_twice(pool)
    assert (await alerts(council, plan_id))[2:] == [
        ("due_soon", "review_report", "settled"), ("overdue", "review_decision", None),
    ]  # fmt: skip

    # Decided late, five weeks after the meeting: the final plan is due twelve weeks after it all the same, in seven.
    held = today - timedelta(days=83)
    await write_review(council, plan_id, held_on=held, decision="amend", decided_on=held + timedelta(days=35))
    await council.owner.execute("UPDATE publisher.version SET issued_on = $2 WHERE plan_id = $1", plan_id, held)
    await sweep_twice(pool)
    assert (await alerts(council, plan_id))[3:] == [
        ("overdue", "review_decision", "settled"), ("due_soon", "final_plan_after_meeting", None),
    ]  # fmt: skip
    await council.owner.execute("UPDATE publisher.version SET issued_on = $2 WHERE plan_id = $1", plan_id, today)
    await sweep_twice(pool)
    assert (await alerts(council, plan_id))[4:] == [("due_soon", "final_plan_after_meeting", "settled")]
    assert await alerts(council, quiet) == []


async def test_the_yearly_review_is_noticed_without_anyone_recording_anything(
    council: CouncilDatabase, pool: Pool, today: date
) -> None:
    plan_id = await write_plan(council)
    made = today - timedelta(days=340)
    await council.owner.execute("UPDATE publisher.version SET issued_on = $2 WHERE plan_id = $1", plan_id, made)
    await sweep_twice(pool)
    assert await alerts(council, plan_id) == [("due_soon", "review", None)]
    await council.owner.execute(
        "UPDATE publisher.version SET issued_on = $2 WHERE plan_id = $1", plan_id, today - timedelta(days=370)
    )
    await sweep_twice(pool)
    assert await alerts(council, plan_id) == [("due_soon", "review", "not_due"), ("overdue", "review", None)]
    await write_review(council, plan_id, held_on=today, decision="maintain", decided_on=today)
    await sweep_twice(pool)
    # The next one is due in a year.
    assert (await alerts(council, plan_id))[1] == ("overdue", "review", "not_due")


async def test_a_plan_that_came_from_another_council_has_three_months_for_its_review(
    council: CouncilDatabase, pool: Pool, today: date
) -> None:
    plan_id = await write_plan(council)
    await council.owner.execute(
        "UPDATE publisher.version SET issued_on = $2 WHERE plan_id = $1", plan_id, today - timedelta(days=380)
    )
    await council.owner.execute(
        "INSERT INTO publisher.plan_event (plan_id, revision, la_code, type, about, by, happened_on, hash, data)"
        " VALUES ($1, 2, '332', 'transfer', 'end', 'officer-1', $2, '', '')",
        plan_id, today,
    )  # fmt: skip
    await sweep_twice(pool)
    assert await alerts(council, plan_id) == []


async def test_a_child_who_lives_in_another_councils_area(council: CouncilDatabase, pool: Pool) -> None:
    plan_id = await write_plan(council)
    await council.owner.execute(
        "INSERT INTO publisher.flag (plan_id, code, la_code, detail, since)"
        " VALUES ($1, 'lives_elsewhere', '332', 'lives elsewhere', now() - interval '30 days')",
        plan_id,
    )
    await sweep_twice(pool)
    assert await alerts(council, plan_id) == [("overdue", "transfer", None)]
    await council.owner.execute("DELETE FROM publisher.flag WHERE plan_id = $1", plan_id)
    await sweep_twice(pool)
    assert await alerts(council, plan_id) == [("overdue", "transfer", "settled")]


async def test_a_phase_transfer_and_a_transfer_that_nobody_told_of(council: CouncilDatabase, pool: Pool, today: date) -> None:
    plan_id, moved = await write_plan(council), await write_plan(council)
    await council.owner.execute(
        "INSERT INTO publisher.flag (plan_id, code, la_code, detail, clock, runs_from)"
        " VALUES ($1, 'phase_transfer', '332', 'the next phase begins', 'phase_transfer', $2)",
        plan_id, date(today.year - 1, 9, 1),
    )  # fmt: skip
    say = (
        "INSERT INTO publisher.plan_event (plan_id, revision, la_code, type, about, by, happened_on, hash, data)"
        " VALUES ($1, $2, '332', $3, $3, 'officer-1', $4, '', '')"
    )
    await council.owner.execute(say, moved, 2, "taken_over", today - timedelta(days=43))
    await sweep_twice(pool)
    assert await alerts(council, plan_id) == [("overdue", "phase_transfer", None)]
    assert await alerts(council, moved) == [("overdue", "tell_family_of_transfer", None)]
    await council.owner.execute("DELETE FROM publisher.flag WHERE plan_id = $1", plan_id)
    await council.owner.execute(say, moved, 3, "transfer_told", today)
    await sweep_twice(pool)
    assert await alerts(council, plan_id) == [("overdue", "phase_transfer", "settled")]
    assert await alerts(council, moved) == [("overdue", "tell_family_of_transfer", "settled")]


async def test_share_gaps_and_confirmations(council: CouncilDatabase, pool: Pool) -> None:
    plan_id = await write_plan(council)
    for who in ("trust, advice: ods:RNA", "therapies, provision: physiotherapist"):
        await council.owner.execute(
            "INSERT INTO publisher.share_gap (plan_id, who, la_code, reason) VALUES ($1, $2, '332', 'nobody knows them')",
            plan_id, who,
        )  # fmt: skip
    await council.owner.execute(
        "INSERT INTO publisher.confirmation (plan_id, recipient_id, la_code, kind, name, reason, asked_by)"
        " VALUES ($1, $2, '332', 'school', 'A School Far Away', 'out of area', 'officer-1')",
        plan_id, uuid4(),
    )  # fmt: skip
    await sweep_twice(pool)
    assert await alerts(council, plan_id) == [("share_gap", None, None), ("unconfirmed", None, None)]
    await council.owner.execute("DELETE FROM publisher.share_gap WHERE who LIKE 'trust%'")
    await sweep_twice(pool)
    assert (await alerts(council, plan_id))[0] == ("share_gap", None, None)
    await council.owner.execute("DELETE FROM publisher.share_gap")
    await council.owner.execute("UPDATE publisher.confirmation SET decided_at = now(), share = true, decided_by = 'officer-2'")
    await sweep_twice(pool)
    assert await alerts(council, plan_id) == [("share_gap", None, "settled"), ("unconfirmed", None, "settled")]


async def test_what_is_held_is_alerted_until_a_second_person_has_looked_at_all_of_it(
    council: CouncilDatabase, pool: Pool
) -> None:
    plan_id = await write_plan(council)
    things = [uuid4(), uuid4()]
    for thing_id, kind in zip(things, ("version", "notice"), strict=True):
        await council.owner.execute(
            "INSERT INTO publisher.hold (thing_id, kind, plan_id, la_code, findings, said, asked_by)"
            " VALUES ($1, $2, $3, '332', '[]', 'a scan', 'officer-1')", thing_id, kind, plan_id,
        )  # fmt: skip
    for thing_id, released, cleared in zip(things, (True, False), (None, "settled"), strict=True):
        await sweep_twice(pool)
        assert await alerts(council, plan_id) == [("held", None, None)]
        await council.owner.execute(
            "UPDATE publisher.hold SET released = $2, decided_by = 'officer-2', decided_at = now() WHERE thing_id = $1",
            thing_id, released,
        )  # fmt: skip
        await sweep_twice(pool)
        assert await alerts(council, plan_id) == [("held", None, cleared)]


async def test_when_a_child_dies_nobody_is_reminded_of_the_family_or_of_a_review(
    council: CouncilDatabase, pool: Pool, today: date
) -> None:
    family = await council.write_share(kind="parent", subscriber="family", channel="manual", due_in=timedelta(days=-1))
    trust = await council.write_share(plan_id=family.plan_id, due_in=timedelta(days=-1))
    await write_review(council, family.plan_id, held_on=today - timedelta(days=40))
    await sweep_twice(pool)
    assert {clock for _, clock, _ in await alerts(council, family.plan_id)} == {"review_report", "review_decision"}
    await council.owner.execute("UPDATE publisher.plan SET state = 'ceased', died = true WHERE plan_id = $1", family.plan_id)
    await sweep_twice(pool)
    assert {because for _, _, because in await alerts(council, family.plan_id)} == {"settled"}
    missed = await council.owner.fetch("SELECT share_id, cleared_because FROM notifier.alert WHERE kind = 'missed'")
    # That the trust's record still lacks what it should hold is told; that a letter did not reach the parents is not.
    assert {row["share_id"]: row["cleared_because"] for row in missed} == {family.share_id: "settled", trust.share_id: None}
    late = await council.write_share(
        plan_id=family.plan_id, kind="parent", subscriber=None, channel="manual", due_in=timedelta(days=-1)
    )
    await sweep_twice(pool)
    assert await council.owner.fetchval("SELECT count(*) FROM notifier.alert WHERE share_id = $1", late.share_id) == 0


@pytest.mark.parametrize("state", ["ceased", "transferred"])
async def test_a_plan_that_has_ended_has_no_clocks(council: CouncilDatabase, pool: Pool, today: date, state: str) -> None:
    plan_id = await write_plan(council)
    await write_review(council, plan_id, held_on=today - timedelta(days=40), reported_on=today)
    await sweep_twice(pool)
    await council.owner.execute("UPDATE publisher.plan SET state = $2 WHERE plan_id = $1", plan_id, state)
    await sweep_twice(pool)
    assert await alerts(council, plan_id) == [("overdue", "review_decision", "settled")]


async def test_under_notice_to_cease_the_clocks_run_on(council: CouncilDatabase, pool: Pool, today: date) -> None:
    plan_id = await write_plan(council)
    await council.owner.execute("UPDATE publisher.plan SET state = 'ceasing' WHERE plan_id = $1", plan_id)
    await write_review(council, plan_id, held_on=today - timedelta(days=40), reported_on=today)
    await sweep_twice(pool)
    assert await alerts(council, plan_id) == [("overdue", "review_decision", None)]


async def test_more_plans_than_one_round_looks_at(
    council: CouncilDatabase, pool: Pool, today: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.notifier.sweep.PLANS_AT_ONCE", 3)
    plans = [await write_plan(council) for _ in range(7)]
    for plan_id in plans:
        await write_review(council, plan_id, held_on=today - timedelta(days=40), reported_on=today)
    sweep = Sweep(pool, ["heard"])
    for _ in range(6):  # three rounds for all of them, and once more round
        await sweep.run_once()
    assert [await alerts(council, plan_id) for plan_id in plans] == [[("overdue", "review_decision", None)]] * 7


async def test_what_is_told_names_nobody_and_each_council_hears_of_its_own(
    council: CouncilDatabase, pool: Pool, today: date
) -> None:
    ours, theirs = await write_plan(council, "332"), await write_plan(council, "333")
    for plan_id, la_code in ((ours, "332"), (theirs, "333")):
        await write_review(council, plan_id, la_code, held_on=today - timedelta(days=30), reported_on=today)
    await Sweep(pool, ["heard"]).run_once()
    digests: list[Digest] = []

    class Heard:
        name, gather_seconds = "heard", 0.0

        async def send(self, digest: Digest) -> None:
            digests.append(digest)

    while await send_one(pool, Heard()):
        pass
    assert {digest.la_code: [alert.plan_id for alert in digest.raised] for digest in digests} == {
        "332": [ours],
        "333": [theirs],
    }
    [digest] = [digest for digest in digests if digest.la_code == "332"]
    due = today - timedelta(days=2)
    assert text(digest, None).splitlines()[2:4] == [
        "Overdue: the law's time for it has run out",
        f"- plan {ours}: The decision is notified, and with it the proposed amendments where the plan is to change (SEND Regs"
        f" 2014 regs 20, 21, 22; R (L) v Devon CC [2022] EWHC 493 (Admin)); due {due.day} {due:%B %Y}, 2 days late",
    ]
    events = await council.owner.fetch("SELECT key, headers, value FROM notifier.outbox ORDER BY id")
    for row in events:
        event = AlertRaised.model_validate_json(row["value"])
        assert (row["key"], event.kind, event.clock, event.share_id) == (
            str(event.plan_id), "overdue", "review_decision", None,
        )  # fmt: skip
        assert b"R-7" not in row["value"], "the council's reference of a review may be known outside"
    assert "R-7" not in text(digest, None)
    acts = await council.owner.fetch("SELECT act, plan_id, share_id FROM audit.pending WHERE actor = 'notifier'")
    assert {(row["act"], row["plan_id"], row["share_id"]) for row in acts} == {
        ("alert_raised", ours, None), ("alert_raised", theirs, None),
    }  # fmt: skip


async def test_the_notifier_reads_views_alone(council: CouncilDatabase) -> None:
    connection = await asyncpg.connect(council.dsn("notifier"))
    try:
        for table in ("review", "share_gap", "confirmation", "plan_event", "plan"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"SELECT * FROM publisher.{table}")
        plan_id = await write_plan(council)
        assert await connection.fetch("SELECT * FROM publisher.v_plan WHERE plan_id = $1", plan_id) == []
    finally:
        await connection.close()
