"""A subscriber that is not heard of, and a topic that is not read, on real PostgreSQL, Kafka and SMTP: told and cleared."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from schemas.alerts import CouncilAlertCleared, CouncilAlertRaised
from services.cli.machine.ports import HOST
from services.notifier.store import Pool
from services.notifier.sweep import Sweep
from services.shared.postgres.pool import open_pool
from tests.support.council import CouncilDatabase, council_database
from tests.support.mail import mail_server
from tests.support.servers import RunningKafka, RunningPostgres
from tests.support.services import running_service
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

AT_ONCE = timedelta(seconds=0)
TOPIC = "ehcp.shares.health.v1"


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


async def beat(council: CouncilDatabase, subscriber: str, seconds_ago: int = 0, *stopped: str) -> None:
    await council.owner.execute(
        "INSERT INTO audit.heartbeat (subscriber, last_seen, at, stopped_topics)"
        " VALUES ($1, now() - make_interval(secs => $2), now(), $3) ON CONFLICT (subscriber)"
        " DO UPDATE SET last_seen = excluded.last_seen, stopped_topics = excluded.stopped_topics",
        subscriber, seconds_ago, list(stopped),
    )  # fmt: skip


async def alerts(council: CouncilDatabase) -> list[tuple[str, str, str, str | None]]:
    """(council, kind, subscriber, why cleared or None while open)."""
    rows = await council.owner.fetch(
        "SELECT la_code, kind, subscriber, cleared_because FROM notifier.alert WHERE plan_id IS NULL"
        " ORDER BY raised_at, la_code, kind, subscriber"
    )
    return [tuple(row) for row in rows]


async def test_a_paused_recipient_is_told_and_cleared_when_it_is_resumed(council: CouncilDatabase, pool: Pool) -> None:
    await council.write_share(la_code="332")
    await beat(council, "health")
    pause = {"recipient": "ods:RNA", "reason": "their server moves", "paused_by": "Ann", "paused_at": "2026-11-02T09:00:00Z"}
    await council.owner.execute("UPDATE audit.heartbeat SET paused = $1", [pause])
    sweep = Sweep(pool, ["heard"])
    for _ in range(2):
        await sweep.run_once()
    assert await alerts(council) == [("332", "paused", "health", None)]
    assert await council.owner.fetchval("SELECT about FROM notifier.alert") == "ods:RNA"
    await council.owner.execute("UPDATE audit.heartbeat SET paused = '[]'")
    await sweep.run_once()
    assert await alerts(council) == [("332", "paused", "health", "resumed")]


async def test_a_record_system_that_is_long_away_is_told_and_cleared_when_it_answers(
    council: CouncilDatabase, pool: Pool
) -> None:
    await council.write_share(la_code="332")
    await beat(council, "health")
    away = [
        {"record_system": name, "since": "2026-11-02T09:00:00Z", "reason": "the record is not reachable (ConnectError)"}
        for name in ("rna", None)
    ]
    await council.owner.execute("UPDATE audit.heartbeat SET away = $1", away)
    sweep = Sweep(pool, ["heard"])
    for _ in range(2):
        await sweep.run_once()
    assert await alerts(council) == [("332", "away", "health", None)] * 2
    told = await council.owner.fetch("SELECT about, due_at::text AS since FROM notifier.alert ORDER BY about")
    assert [tuple(row) for row in told] == [("rna", "2026-11-02 09:00:00+00"), (None, "2026-11-02 09:00:00+00")]
    await council.owner.execute("UPDATE audit.heartbeat SET away = $1", away[:1])
    await sweep.run_once()
    assert sorted(each[3] or "" for each in await alerts(council)) == ["", "heard"]
    await council.owner.execute("UPDATE audit.heartbeat SET away = '[]'")
    await sweep.run_once()
    assert await alerts(council) == [("332", "away", "health", "heard")] * 2


async def test_silence_is_told_once_to_the_councils_that_it_delivers_for(council: CouncilDatabase, pool: Pool) -> None:
    await council.write_share(la_code="332")
    await council.write_share(la_code="333", subscriber="school", channel="inbox", kind="school")
    for subscriber in ("health", "school", "social-care"):
        await beat(council, subscriber, 3600)
    fresh = Sweep(pool, ["heard"])
    await fresh.run_once()
    assert await alerts(council) == [], "whoever has just started takes nobody for dead"
    sweep = Sweep(pool, ["heard"], AT_ONCE)
    for _ in range(3):
        await sweep.run_once()
    # Nobody waits for anything from social care, nor from the family's subscriber, which was never heard of.
    assert await alerts(council) == [("332", "silent", "health", None), ("333", "silent", "school", None)]
    await beat(council, "health")
    await council.owner.execute("UPDATE publisher.share SET action = 'withdraw', seq = 2 WHERE subscriber = 'school'")
    listening = Sweep(pool, ["heard"])
    for _ in range(2):
        await listening.run_once()
    assert await alerts(council) == [("332", "silent", "health", "heard"), ("333", "silent", "school", "settled")]
    rows = await council.owner.fetch("SELECT key, headers, value FROM notifier.outbox ORDER BY id")
    assert [(row["key"], row["headers"]["ce_type"]) for row in rows] == [
        ("332", "ehcp.council.alert.raised.v1"), ("333", "ehcp.council.alert.raised.v1"),
        ("332", "ehcp.council.alert.cleared.v1"), ("333", "ehcp.council.alert.cleared.v1"),
    ]  # fmt: skip
    assert CouncilAlertRaised.model_validate_json(rows[0]["value"]).subscriber == "health"
    assert CouncilAlertCleared.model_validate_json(rows[2]["value"]).because == "heard"


async def test_one_that_was_never_heard_of_although_it_has_something_to_deliver(council: CouncilDatabase, pool: Pool) -> None:
    await council.write_share()
    sweep = Sweep(pool, ["heard"], AT_ONCE)
    for _ in range(2):
        await sweep.run_once()
    assert await alerts(council) == [("332", "silent", "health", None)]


async def test_a_stopped_topic_on_either_end(council: CouncilDatabase, pool: Pool) -> None:
    await council.write_share()
    await beat(council, "health", 0, TOPIC)
    await council.owner.execute(
        "INSERT INTO audit.stopped_topic VALUES ('ehcp.receipts.health.v1', gen_random_uuid(), 'health', now(), now())"
    )
    sweep = Sweep(pool, ["heard"])
    for _ in range(2):
        await sweep.run_once()
    assert await alerts(council) == [("332", "stopped", "health", None)] * 2
    rows = await council.owner.fetch("SELECT value FROM notifier.outbox ORDER BY id")
    assert {CouncilAlertRaised.model_validate_json(row["value"]).about for row in rows} == {TOPIC, "ehcp.receipts.health.v1"}
    await beat(council, "health")
    # The process that had stopped it has said nothing for more than a minute: it is gone, and its memory with it.
    await council.owner.execute("UPDATE audit.stopped_topic SET said_at = now() - interval '61 seconds'")
    for _ in range(2):
        await sweep.run_once()
    assert await alerts(council) == [("332", "stopped", "health", "resumed")] * 2


async def test_the_whole_service_tells_of_silence_and_of_its_end(council: CouncilDatabase, kafka_server: RunningKafka) -> None:
    await council.write_share()
    await beat(council, "health", 3600)
    async with mail_server() as server:
        await server.start()
        environment = {
            "DATABASE_URL": council.dsn("notifier"), "EHCP_SMTP_HOST": HOST, "EHCP_SMTP_PORT": str(server.port),
            "EHCP_ALERT_TO": "send@dudley.example", "EHCP_SWEEP_SECONDS": "0.2", "EHCP_ALERT_GATHER_SECONDS": "0",
            "EHCP_SILENT_AFTER_SECONDS": "2", **kafka_server.login("notifier").environment(),
        }  # fmt: skip
        async with running_service("notifier", environment):

            async def mails(count: int) -> bool:
                return len(server.mails) >= count

            await until(lambda: mails(1))
            await council.owner.execute("UPDATE audit.heartbeat SET last_seen = now() + interval '1 hour'")
            await until(lambda: mails(2))
    raised, cleared = server.mails[:2]
    assert (raised["Subject"], cleared["Subject"]) == ("EHC plans: 1 silent", "EHC plans: 1 cleared")
    assert "- subscriber health; since " in raised.get_content()
    assert "- subscriber health (silent): it has been heard of again" in cleared.get_content()


async def test_records_that_a_person_must_look_at_are_told_and_cleared(council: CouncilDatabase, pool: Pool) -> None:
    await council.write_share(la_code="332")
    await beat(council, "health")
    await council.owner.execute(
        "UPDATE audit.heartbeat SET differences = $1, unasked = 3, unasked_since = now() - interval '2 days'",
        {"orphan": 2, "stale": 1, "missing_from_record": 10},
    )  # fmt: skip
    sweep = Sweep(pool, ["heard"])
    for _ in range(2):
        await sweep.run_once()
    kinds = ("orphaned", "records_differ", "unasked")
    assert await alerts(council) == [("332", kind, "health", None) for kind in kinds], (
        "a stale one mends itself, and is not told"
    )
    await council.owner.execute("UPDATE audit.heartbeat SET differences = '{}', unasked = 0, unasked_since = NULL")
    await sweep.run_once()
    assert await alerts(council) == [("332", kind, "health", "settled") for kind in kinds]
