"""The notifier on real PostgreSQL, Kafka and SMTP: silence is noticed, told once, and cleared by itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg
import orjson
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer

from schemas.alerts import AlertCleared, AlertRaised
from schemas.receipts import Receipt, Status
from services.audit.handlers import receipts_handler
from services.cli.machine.ports import HOST
from services.notifier.alerts import Digest
from services.notifier.mail import MailChannel, MailServer
from services.notifier.messages import send_one
from services.notifier.store import Pool
from services.notifier.sweep import Sweep
from services.shared.kafka.connection import security
from services.shared.kafka.consume import Record
from services.shared.postgres.pool import open_pool
from services.shared.settings import KafkaSettings
from tests.support.council import CouncilDatabase, WrittenShare, council_database, event_headers, receipt_for
from tests.support.mail import MailServerForTests, mail_server
from tests.support.servers import RunningKafka, RunningPostgres
from tests.support.services import running_service
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

Hear = Callable[[Receipt], Awaitable[None]]


@dataclass
class Heard:
    """A channel that remembers; stands for any, so that what is raised can be seen as people hear of it."""

    name: str = "heard"
    gather_seconds: float = 0.0
    digests: list[Digest] = field(default_factory=list)

    async def send(self, digest: Digest) -> None:
        self.digests.append(digest)


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
async def hear(council: CouncilDatabase) -> AsyncIterator[Hear]:
    """Audit takes in a receipt."""
    pool = await open_pool(council.dsn("audit"), max_size=2)
    handle = receipts_handler(pool)

    async def take(receipt: Receipt) -> None:
        topic, key = f"ehcp.receipts.{receipt.subscriber}.v1", str(receipt.share_id).encode()
        await handle([Record(topic, 0, receipt.number, key, council.sign(receipt), tuple(event_headers()))])

    try:
        yield take
    finally:
        await pool.close()


async def alerts(council: CouncilDatabase, share: WrittenShare) -> list[tuple[str, str | None]]:
    """(kind, why cleared or None while open), in the order in which they were raised."""
    rows = await council.owner.fetch(
        "SELECT kind, cleared_because FROM notifier.alert WHERE share_id = $1 ORDER BY raised_at, kind", share.share_id
    )
    return [(row["kind"], row["cleared_because"]) for row in rows]


async def events(council: CouncilDatabase) -> list[AlertRaised]:
    rows = await council.owner.fetch("SELECT topic, key, headers, value FROM notifier.outbox ORDER BY id")
    found: list[AlertRaised] = []
    for row in rows:
        kind = row["headers"]["ce_type"]
        model = AlertRaised if kind == "ehcp.alert.raised.v1" else AlertCleared
        event = model.model_validate_json(row["value"])
        assert (row["topic"], row["key"]) == ("ehcp.alerts.v1", str(event.plan_id))
        found.append(event)
    return found


async def test_missed_is_raised_once_and_clears_when_the_receipt_comes(
    council: CouncilDatabase, pool: Pool, hear: Hear
) -> None:
    share, in_time = await council.write_share(), await council.write_share()
    sweep = Sweep(pool, ["heard"])
    await sweep.run_once()
    assert await alerts(council, share) == []
    await council.make_overdue(share)
    for _ in range(3):
        await sweep.run_once()
    assert await alerts(council, share) == [("missed", None)]
    assert await alerts(council, in_time) == []
    await hear(receipt_for(share, Status.FAILED))
    await sweep.run_once()
    assert await alerts(council, share) == [("missed", None)]
    await hear(receipt_for(share))
    for _ in range(2):
        await sweep.run_once()
    assert await alerts(council, share) == [("missed", "satisfied")]
    raised, cleared = await events(council)
    assert isinstance(cleared, AlertCleared)
    assert (raised.kind, raised.share_id, raised.subscriber, raised.la_code) == ("missed", share.share_id, "health", "332")
    assert (cleared.alert_id, cleared.because) == (raised.alert_id, "satisfied")
    acts = await council.owner.fetch("SELECT act, la_code, details FROM audit.pending WHERE actor = 'notifier' ORDER BY id")
    assert [(row["act"], row["la_code"]) for row in acts] == [("alert_raised", "332"), ("alert_cleared", "332")]
    assert acts[0]["details"]["alert_id"] == str(raised.alert_id)


async def test_refused_is_raised_at_once_and_a_new_instruction_clears_it(
    council: CouncilDatabase, pool: Pool, hear: Hear
) -> None:
    share = await council.write_share()
    sweep = Sweep(pool, ["heard"])
    await hear(receipt_for(share, Status.REFUSED, reason="no patient was found"))
    await sweep.run_once()
    assert await alerts(council, share) == [("refused", None)]
    again = await council.want_again(share)
    await sweep.run_once()
    assert await alerts(council, share) == [("refused", "not_refused")]
    await hear(receipt_for(again, Status.REFUSED, reason="no patient was found"))
    await council.make_overdue(again)
    await sweep.run_once()
    assert await alerts(council, share) == [("refused", "not_refused"), ("missed", None), ("refused", None)]


async def test_a_recipient_without_subscriber_is_told_at_once(council: CouncilDatabase, pool: Pool) -> None:
    share = await council.write_share(subscriber=None, channel="manual", kind="parent")
    sweep = Sweep(pool, ["heard"])
    await sweep.run_once()
    assert await alerts(council, share) == [("undeliverable", None)]
    await council.owner.execute("UPDATE publisher.share SET subscriber = 'family', seq = 2 WHERE share_id = $1", share.share_id)
    await council.owner.execute(
        "INSERT INTO publisher.instruction SELECT share_id, 2, la_code, type, data, version_id, requested_at, due_at"
        " FROM publisher.instruction WHERE share_id = $1",
        share.share_id,
    )
    await sweep.run_once()
    assert await alerts(council, share) == [("undeliverable", "deliverable")]


async def test_filed_then_found_missing_is_noticed_although_it_was_struck_off_the_list(
    council: CouncilDatabase, pool: Pool, hear: Hear
) -> None:
    share = await council.write_share()
    await hear(receipt_for(share))
    await council.make_overdue(share)
    await council.forget_unsatisfied(share)
    sweep = Sweep(pool, ["heard"])
    await sweep.run_once()
    assert await alerts(council, share) == []
    await hear(receipt_for(share, Status.FAILED, reason="it was not in the record any more"))
    await sweep.run_once()
    assert await alerts(council, share) == [("missed", None)]
    await hear(receipt_for(share))
    await sweep.run_once()
    assert await alerts(council, share) == [("missed", "satisfied")]


async def test_alert_of_a_share_that_is_gone_is_cleared(council: CouncilDatabase, pool: Pool) -> None:
    """As after the council's database was restored from before the share was made."""
    share = await council.write_share()
    await council.make_overdue(share)
    sweep = Sweep(pool, ["heard"])
    await sweep.run_once()
    for table in ("unsatisfied", "instruction", "share"):
        await council.owner.execute(f"DELETE FROM publisher.{table} WHERE share_id = $1", share.share_id)
    await sweep.run_once()
    assert await alerts(council, share) == [("missed", "gone")]


async def test_many_sweeps_at_once_raise_once(council: CouncilDatabase, pool: Pool) -> None:
    shares = [await council.write_share(due_in=timedelta(days=-1)) for _ in range(20)]
    await asyncio.gather(*(Sweep(pool, ["heard"]).run_once() for _ in range(6)))
    await Sweep(pool, ["heard"]).run_once()
    for share in shares:
        assert await alerts(council, share) == [("missed", None)]


async def test_more_alerts_than_one_round_takes(
    council: CouncilDatabase, pool: Pool, monkeypatch: pytest.MonkeyPatch, hear: Hear
) -> None:
    monkeypatch.setattr("services.notifier.sweep.RAISE_AT_ONCE", 3)
    monkeypatch.setattr("services.notifier.sweep.CHECK_AT_ONCE", 2)
    shares = [await council.write_share(due_in=timedelta(days=-1)) for _ in range(7)]
    sweep = Sweep(pool, ["heard"])
    assert [await sweep.run_once() for _ in range(3)] == [True, True, False]
    for share in shares:
        await hear(receipt_for(share))
    for _ in range(5):
        await sweep.run_once()
    assert [await alerts(council, share) for share in shares] == [[("missed", "satisfied")]] * 7


async def test_each_council_hears_of_its_own(council: CouncilDatabase, pool: Pool) -> None:
    ours, theirs = [await council.write_share(la_code=code, due_in=timedelta(days=-1)) for code in ("332", "333")]
    await Sweep(pool, ["heard"]).run_once()
    channel = Heard()
    while await send_one(pool, channel):
        pass
    told = {digest.la_code: [alert.share_id for alert in digest.raised] for digest in channel.digests}
    assert told == {"332": [ours.share_id], "333": [theirs.share_id]}
    assert {digest.council for digest in channel.digests} == {
        "Dudley Metropolitan Borough Council", "Sandwell Metropolitan Borough Council",
    }  # fmt: skip


async def test_a_first_alert_waits_for_others_to_go_with_it(council: CouncilDatabase, pool: Pool) -> None:
    await council.write_share(due_in=timedelta(days=-1))
    await Sweep(pool, ["heard"]).run_once()
    patient = Heard(gather_seconds=3600)
    assert await send_one(pool, patient) is False
    await council.write_share(due_in=timedelta(days=-1))
    await Sweep(pool, ["heard"]).run_once()
    patient.gather_seconds = 0
    assert await send_one(pool, patient) is True
    assert await send_one(pool, patient) is False
    [digest] = patient.digests
    assert len(digest.raised) == 2


def mail_channel(server: MailServerForTests) -> MailChannel:
    return MailChannel(
        MailServer(HOST, server.port), "EHC plans <ehcp@dudley.example>", {None: ["send@dudley.example"]},
        "https://ehcp.dudley.example", 0.0,
    )  # fmt: skip


@pytest.mark.parametrize("answer", ["451 try again later", "554 no", None])
async def test_while_mail_is_down_nothing_is_lost_and_afterwards_it_is_one_digest(
    council: CouncilDatabase, pool: Pool, hear: Hear, answer: str | None
) -> None:
    first = await council.write_share(due_in=timedelta(days=-3), name="A Trust That Is Not Named")
    sweep = Sweep(pool, ["smtp"])
    await sweep.run_once()
    async with mail_server() as server:
        channel = mail_channel(server)
        if answer:
            server.answer = answer
            await server.start()
        assert await send_one(pool, channel) is True
        assert await send_one(pool, channel) is False  # not before its next attempt is due
        row = await council.owner.fetchrow("SELECT attempts, failure, sent_at FROM notifier.message")
        assert row is not None
        assert (row["attempts"], row["sent_at"]) == (1, None)
        assert row["failure"] == (f"the mail server answered {answer[:3]}" if answer else row["failure"])
        later = [await council.write_share(due_in=timedelta(days=-1)) for _ in range(30)]
        await sweep.run_once()
        await hear(receipt_for(later[0]))
        await sweep.run_once()
        server.answer = "250 OK"
        if not answer:
            await server.start()

        async def both_mails() -> bool:
            while await send_one(pool, channel):
                pass
            return len(server.mails) == 2

        await until(both_mails)
    one, digest = server.mails
    assert (one["Subject"], one["To"]) == ("EHC plans: 1 missed", "send@dudley.example")
    assert str(first.plan_id) in one.get_content()
    assert digest["Subject"] == "EHC plans: 29 missed, 1 cleared"
    assert one["Message-ID"] != digest["Message-ID"]
    for mail in server.mails:
        body = mail.get_content()
        assert "EHCP-" not in body, "a case reference may be known outside"
        assert "Not Named" not in body


async def test_a_crash_between_sending_and_marking_sends_the_same_message_again(council: CouncilDatabase, pool: Pool) -> None:
    await council.write_share(due_in=timedelta(days=-1))
    await Sweep(pool, ["smtp"]).run_once()

    class CrashError(Exception):
        pass

    class Crashing(MailChannel):
        async def send(self, digest: Digest) -> None:
            await super().send(digest)
            raise CrashError

    async with mail_server() as server:
        await server.start()
        crashing = mail_channel(server)
        crashing.__class__ = Crashing
        with pytest.raises(CrashError):
            await send_one(pool, crashing)
        assert await send_one(pool, mail_channel(server)) is False  # its lease runs
        await council.owner.execute("UPDATE notifier.message SET next_try_at = now()")
        assert await send_one(pool, mail_channel(server)) is True
    first, second = server.mails
    assert first["Message-ID"] == second["Message-ID"]
    assert first.get_content() == second.get_content()


async def test_role_may_do_no_more_than_it_must(council: CouncilDatabase) -> None:
    connection = await asyncpg.connect(council.dsn("notifier"))
    try:
        for statement in (
            "SELECT * FROM publisher.share",
            "SELECT * FROM audit.newest",
            "SELECT * FROM audit.pending",
            "INSERT INTO audit.receipt DEFAULT VALUES",
            "DELETE FROM notifier.alert",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        share = await council.write_share(due_in=timedelta(days=-1))
        assert await connection.fetch("SELECT * FROM publisher.v_share WHERE share_id = $1", share.share_id) == []
    finally:
        await connection.close()


async def test_the_whole_service_through_a_mail_outage_and_a_power_cut(
    council: CouncilDatabase, kafka_server: RunningKafka, hear: Hear
) -> None:
    share = await council.write_share(due_in=timedelta(days=-1))
    settings = KafkaSettings.model_validate(kafka_server.admin_login.environment())
    consumer = AIOKafkaConsumer(
        "ehcp.alerts.v1", bootstrap_servers=settings.bootstrap_servers, auto_offset_reset="earliest", **security(settings)
    )
    seen: list[tuple[str, Any]] = []

    async def event_of_this_plan() -> bool:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            seen.extend(
                (dict(record.headers)["ce_type"].decode(), orjson.loads(record.value))
                for record in records
                if record.key == str(share.plan_id).encode()
            )
        return bool(seen)

    async with mail_server() as server, consumer:
        environment = {
            "DATABASE_URL": council.dsn("notifier"), "EHCP_SMTP_HOST": HOST, "EHCP_SMTP_PORT": str(server.port),
            "EHCP_ALERT_FROM": "ehcp@dudley.example", "EHCP_ALERT_TO": "332=send@dudley.example",
            "EHCP_DASHBOARD_URL": "https://ehcp.dudley.example", "EHCP_SWEEP_SECONDS": "0.2",
            "EHCP_ALERT_GATHER_SECONDS": "0", **kafka_server.login("notifier").environment(),
        }  # fmt: skip
        async with running_service("notifier", environment) as service:
            await until(event_of_this_plan)
            assert [name for name, _ in seen] == ["ehcp.alert.raised.v1"]
            await until(lambda: council.owner.fetchval("SELECT failure FROM notifier.message WHERE channel = 'smtp'"))
            await service.kill()
            await server.start()
            await service.start()

            async def mailed() -> bool:
                return len(server.mails) == 1

            await until(mailed)
            await hear(receipt_for(share))

            async def cleared() -> bool:
                await event_of_this_plan()
                return seen[-1][0] == "ehcp.alert.cleared.v1"

            await until(cleared)

            async def mailed_again() -> bool:
                return len(server.mails) == 2

            await until(mailed_again)
            log = service.log.read_text()
    assert [name for name, _ in seen] == ["ehcp.alert.raised.v1", "ehcp.alert.cleared.v1"]
    assert await alerts(council, share) == [("missed", "satisfied")]
    assert [mail["Subject"] for mail in server.mails] == ["EHC plans: 1 missed", "EHC plans: 1 cleared"]
    assert '"event": "alert_raised"' in log
    assert "send@dudley.example" not in log
