"""The bare loop: the same rows and bytes through the same PostgreSQL and Kafka, and nothing else, in one process.

It is the yardstick, not a second product: no HTTP, no validation, no hashing, sealing or signing, no row-level security, no
triggers or foreign keys, no repeat is recognised. Its rows are copies of rows that the product wrote, with new ids, and so
have the product's sizes; sealed texts are the product's own. The stages run at the same time, as the services do, and hand
on through the same outbox tables and topics, in the same batches, with the same commits.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from services.shared.clock import utc_now
from services.shared.ids import new_id
from services.shared.kafka.connection import make_producer, security
from services.shared.postgres.pool import open_pool
from services.shared.settings import KafkaSettings
from tests.support.servers import RunningKafka, RunningPostgres
from tests.support.services import REPOSITORY

BATCH = 100
RECIPIENTS = 4
RELAY_BATCH = 1000
RECORDS = 500
PARTITIONS = 6
WARM_UP_PLANS = 200
COUNCIL_TABLES = (
    "publisher.child", "publisher.plan", "publisher.version", "publisher.rendering", "publisher.share",
    "publisher.share_ground", "publisher.instruction", "publisher.unsatisfied", "publisher.outbox", "publisher.flag",
    "audit.pending", "audit.receipt", "audit.newest",
)  # fmt: skip
SCHOOL_TABLES = ("delivery.delivery", "delivery.attempt", "delivery.receipt", "delivery.outbox", "delivery.inbox")
HEADERS = {
    "ce_specversion": "1.0", "ce_id": "0" * 36, "ce_type": "ehcp.share.requested.v1", "ce_source": "/councils/332",
    "ce_time": "2026-11-02T09:00:00.000000Z", "content-type": "application/json",
}  # fmt: skip
_SENT_HEADERS = [(name, value.encode()) for name, value in HEADERS.items()]
EVENT_BYTES = 320

Row: TypeAlias = dict[str, Any]
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


class Copy:
    """Copies of the product's tables in a schema ``bare``, and of each table a row as the product wrote it."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._samples: dict[str, Row] = {}
        self._inserts: dict[str, tuple[str, list[str]]] = {}

    async def make(self, tables: Sequence[str]) -> None:
        await self.pool.execute("CREATE SCHEMA IF NOT EXISTS bare")
        for table in tables:
            name = table.partition(".")[2]
            await self.pool.execute(
                f"CREATE TABLE IF NOT EXISTS bare.{name}"
                f" (LIKE {table} INCLUDING DEFAULTS INCLUDING IDENTITY INCLUDING INDEXES INCLUDING STORAGE)"
            )
            # Lists keep their defaults: unnest would take them apart, and they are short.
            columns = await self.pool.fetch(
                "SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute JOIN pg_type t ON t.oid = atttypid"
                " WHERE attrelid = $1::text::regclass AND attnum > 0 AND attidentity = '' AND typcategory <> 'A'",
                f"bare.{name}",
            )
            names = [column["attname"] for column in columns]
            listed = ", ".join(f'"{column}"' for column in names)
            arrays = ", ".join(f"${i}::{column['type']}[]" for i, column in enumerate(columns, 1))
            self._inserts[name] = (f"INSERT INTO bare.{name} ({listed}) SELECT * FROM unnest({arrays})", names)
            row = await self.pool.fetchrow(f"SELECT {listed} FROM {table} LIMIT 1")
            self._samples[name] = dict(row) if row else dict.fromkeys(names)

    def row(self, table: str, **changed: Any) -> Row:
        return self._samples[table] | changed

    async def insert(self, connection: Any, table: str, rows: Sequence[Row], more: str = "") -> None:
        statement, columns = self._inserts[table]
        await connection.execute(statement + more, *([row[column] for row in rows] for column in columns))


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds by the clock, and of processor time in the loop's own process, after a warm-up that counts in neither."""

    seconds: float
    cpu: float
    warm_up_plans: int


class Bare:
    """``await bare.run(plans)`` files that many plans for four recipients each and gives the seconds it took."""

    def __init__(
        self, council: Copy, school: Copy, producer: AIOKafkaProducer, instructions: AIOKafkaConsumer,
        receipts: AIOKafkaConsumer, topics: Sequence[str],
    ) -> None:  # fmt: skip
        self._council = council
        self._school = school
        self._producer = producer
        self._instructions = instructions
        self._told = receipts
        self._events, self._shares, self._receipts = topics

    async def run(self, plans: int) -> float:
        issued, parked, told = asyncio.Event(), asyncio.Event(), asyncio.Event()
        shares = plans * RECIPIENTS
        started = time.perf_counter()
        async with asyncio.TaskGroup() as stages:
            stages.create_task(self._issue(plans, issued))
            stages.create_task(self._relay(self._council, issued, plans * (RECIPIENTS + 1)))
            stages.create_task(self._park(shares, parked))
            stages.create_task(self._deliver(shares, parked, told))
            stages.create_task(self._relay(self._school, told, shares))
            stages.create_task(self._take_in(shares))
        return time.perf_counter() - started

    async def _issue(self, plans: int, issued: asyncio.Event) -> None:
        copy = self._council
        sample = copy.row("instruction")
        for first in range(0, plans, BATCH):
            rows: dict[str, list[Row]] = {name: [] for name in (*_ISSUED, "outbox", "pending")}
            for _ in range(min(BATCH, plans - first)):
                child_id, plan_id, version_id, rendering_id = new_id(), new_id(), new_id(), new_id()
                nobodys = dict.fromkeys(("nhs_lookup", "name_lookup"), child_id.bytes * 2)
                rows["child"].append(copy.row("child", child_id=child_id, **nobodys))
                rows["plan"].append(copy.row("plan", plan_id=plan_id, case_reference=f"BARE-{plan_id}", child_id=child_id))
                rows["flag"].append(copy.row("flag", plan_id=plan_id))
                rows["version"].append(copy.row("version", version_id=version_id, plan_id=plan_id))
                rows["rendering"].append(copy.row("rendering", rendering_id=rendering_id, version_id=version_id))
                rows["pending"].append(copy.row("pending", act="issued", plan_id=plan_id, version_id=version_id))
                rows["outbox"].append(_outbox(self._events, plan_id, b"x" * EVENT_BYTES))
                for _ in range(RECIPIENTS):
                    share_id = new_id()
                    ids = {"share_id": share_id, "plan_id": plan_id, "version_id": version_id}
                    value = sample["data"].replace(str(sample["share_id"]).encode(), str(share_id).encode())
                    value = value.replace(str(sample["version_id"]).encode(), str(version_id).encode())
                    rows["share"].append(copy.row("share", **ids, recipient_id=uuid4(), rendering_id=rendering_id))
                    rows["share_ground"].append(copy.row("share_ground", share_id=share_id))
                    rows["instruction"].append(copy.row("instruction", share_id=share_id, version_id=version_id, data=value))
                    rows["unsatisfied"].append(copy.row("unsatisfied", share_id=share_id))
                    rows["pending"].append(copy.row("pending", **ids, act="shared", details={}))
                    rows["outbox"].append(_outbox(self._shares, share_id, value))
            async with copy.pool.acquire() as connection, connection.transaction():
                for table, of_table in rows.items():
                    await copy.insert(connection, table, of_table)
            issued.set()

    async def _relay(self, copy: Copy, wake: asyncio.Event, total: int) -> None:
        done = 0
        async with copy.pool.acquire() as connection:
            while done < total:
                wake.clear()
                rows = await connection.fetch(
                    f"SELECT id, topic, key, headers::text, value FROM bare.outbox ORDER BY id LIMIT {RELAY_BATCH}"
                )
                if not rows:
                    await wake.wait()
                    continue
                await asyncio.gather(
                    *[
                        await self._producer.send(row["topic"], row["value"], row["key"].encode(), headers=_SENT_HEADERS)
                        for row in rows
                    ]
                )
                await connection.execute("DELETE FROM bare.outbox WHERE id = ANY($1)", [row["id"] for row in rows])
                done += len(rows)

    async def _park(self, total: int, parked: asyncio.Event) -> None:
        copy = self._school
        instruction = copy.row("delivery")["instruction"]
        sample = self._council.row("instruction")
        before = sample["data"].index(str(sample["version_id"]).encode())
        done = 0
        async for batch in _batches(self._instructions):
            rows = [
                copy.row(
                    "delivery", share_id=UUID(record.key.decode()), state="waiting", next_attempt_at=utc_now(), claim=None,
                    held_version_id=None, held_sha256=None, held_record=None, attempts=0, held_seq=0,
                    claimed_by=None, claimed_until=None,
                    instruction=instruction | {"version_id": record.value[before : before + 36].decode()},
                )
                for record in batch
            ]  # fmt: skip
            async with copy.pool.acquire() as connection, connection.transaction():
                await copy.insert(connection, "delivery", rows, " ON CONFLICT (share_id) DO NOTHING")
            await self._instructions.commit()
            parked.set()
            if (done := done + len(batch)) >= total:
                return

    async def _deliver(self, total: int, parked: asyncio.Event, told: asyncio.Event) -> None:
        school, council = self._school, self._council
        done = 0
        while done < total:
            parked.clear()
            claim = new_id()
            due = await school.pool.fetch(_CLAIM, claim)
            if not due:
                await parked.wait()
                continue
            shares = [row["share_id"] for row in due]
            async with council.pool.acquire() as connection, connection.transaction():
                acts = [
                    council.row("pending", act="read", share_id=row["share_id"], version_id=row["version_id"], details={})
                    for row in due
                ]
                await council.insert(connection, "pending", acts)
            await council.pool.fetch(
                "SELECT body FROM bare.version WHERE version_id = ANY($1)", list({row["version_id"] for row in due})
            )
            async with school.pool.acquire() as connection:
                await school.insert(connection, "inbox", [school.row("inbox", share_id=share_id) for share_id in shares])
            number = time.time_ns() // 1000
            receipts = [school.row("receipt", share_id=share_id, number=number + i) for i, share_id in enumerate(shares)]
            async with school.pool.acquire() as connection, connection.transaction():
                await connection.execute(_FINISH, claim)
                await school.insert(connection, "attempt", [school.row("attempt", share_id=share_id) for share_id in shares])
                await school.insert(connection, "receipt", receipts)
                outbox = [_outbox(self._receipts, row["share_id"], row["signed"]) for row in receipts]
                await school.insert(connection, "outbox", outbox)
            told.set()
            done += len(due)

    async def _take_in(self, total: int) -> None:
        copy = self._council
        acts = copy.row("pending")["details"]
        done = 0
        async for batch in _batches(self._told):
            number = time.time_ns() // 1000
            shares = [UUID(record.key.decode()) for record in batch]
            receipts = [
                copy.row("receipt", share_id=share_id, number=number + i, signed=record.value)
                for i, (share_id, record) in enumerate(zip(shares, batch, strict=True))
            ]
            async with copy.pool.acquire() as connection, connection.transaction():
                await copy.insert(connection, "receipt", receipts)
                pending = [copy.row("pending", act="sent", share_id=share_id, details=acts) for share_id in shares]
                await copy.insert(connection, "pending", pending)
                await copy.insert(connection, "newest", [copy.row("newest", share_id=share_id) for share_id in shares], _NEWEST)
            await self._told.commit()
            if (done := done + len(batch)) >= total:
                return


_ISSUED = (
    "child", "plan", "version", "rendering", "share", "share_ground", "instruction", "unsatisfied", "flag",
)  # fmt: skip
_CLAIM = f"""
    UPDATE bare.delivery d SET claim = $1, claimed_until = now() + interval '120 seconds', claimed_by = 'bare'
    FROM (SELECT share_id FROM bare.delivery WHERE next_attempt_at <= now() AND claimed_until IS NULL
          ORDER BY next_attempt_at LIMIT {BATCH} FOR UPDATE SKIP LOCKED) due
    WHERE d.share_id = due.share_id
    RETURNING d.share_id, (d.instruction->>'version_id')::uuid AS version_id
"""
_FINISH = """
    UPDATE bare.delivery SET claim = NULL, claimed_until = NULL, held_seq = seq, held_sha256 = sha256, state = 'sent',
        held_version_id = (instruction->>'version_id')::uuid, held_record = 'inbox/' || share_id, attempts = attempts + 1,
        next_attempt_at = NULL
    WHERE claim = $1
"""
_NEWEST = " ON CONFLICT (share_id) DO UPDATE SET seq = excluded.seq, number = excluded.number, status = excluded.status"


def _outbox(topic: str, key: UUID, value: bytes) -> Row:
    return {"topic": topic, "key": str(key), "headers": HEADERS, "value": value, "refused": None}


async def _batches(consumer: AIOKafkaConsumer) -> AsyncIterator[list[Any]]:
    while True:
        fetched = await consumer.getmany(timeout_ms=200, max_records=RECORDS)
        for records in fetched.values():
            yield records


@dataclass(frozen=True, slots=True)
class Place:
    """Where one run of the loop writes: the owner's databases, and topics that nobody else uses."""

    council_dsn: str
    school_dsn: str
    kafka: dict[str, str]
    topics: list[str]
    plans: int


async def run_bare(postgres: RunningPostgres, kafka: RunningKafka, council: str, school: str, plans: int) -> Measured:
    """In a process of its own, as the services are. ``council`` and ``school`` are the product's databases, with a plan."""
    topics = [kafka.create_topic(f"bare.{name}", PARTITIONS) for name in ("events", "shares", "receipts")]
    place = Place(postgres.owner_dsn(council), postgres.owner_dsn(school), kafka.admin_login.environment(), topics, plans)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.bare", cwd=REPOSITORY, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await process.communicate(orjson.dumps(place))
    if process.returncode != 0:
        raise AssertionError(f"the bare loop ended with {process.returncode}")
    return Measured(**orjson.loads(said))


async def _run(place: Place) -> Measured:
    settings = KafkaSettings.model_validate(place.kafka)
    council, school = Copy(await open_pool(place.council_dsn)), Copy(await open_pool(place.school_dsn))
    await council.make(COUNCIL_TABLES)
    await school.make(SCHOOL_TABLES)
    producer = make_producer(settings, "bare")
    instructions, receipts = (_consumer(settings, topic) for topic in place.topics[1:])
    parts = (producer, instructions, receipts)
    try:
        for part in parts:
            await part.start()
        bare = Bare(council, school, producer, instructions, receipts, place.topics)
        await bare.run(WARM_UP_PLANS)
        before = time.process_time()
        seconds = await bare.run(place.plans)
        return Measured(seconds, time.process_time() - before, WARM_UP_PLANS)
    finally:
        for part in parts:
            await part.stop()
        await council.pool.close()
        await school.pool.close()


def _consumer(settings: KafkaSettings, topic: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        topic, bootstrap_servers=settings.bootstrap_servers, group_id=f"{topic}.group", enable_auto_commit=False,
        auto_offset_reset="earliest", **security(settings),
    )  # fmt: skip


if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps(uvloop.run(_run(Place(**orjson.loads(sys.stdin.buffer.read()))))))
