"""The relay on real PostgreSQL and Kafka: in order per key, at least once, and no row stops another."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

import asyncpg
import orjson
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer
from confluent_kafka.admin import NewTopic

from services.shared.kafka.connection import security
from services.shared.outbox.relay import Relay
from services.shared.runtime import keep_running
from services.shared.settings import KafkaSettings
from tests.support.publisher import Publisher, running_publisher
from tests.support.servers import RunningKafka, RunningPostgres
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

HEALTH = "ehcp.shares.health.v1"
Row = tuple[str, str, bytes]
"""Topic, key, value."""


class Outbox:
    """A table for one test, and the relays that empty it."""

    def __init__(self, dsn: str, connection: "asyncpg.Connection[asyncpg.Record]", kafka: RunningKafka) -> None:
        self.dsn, self.connection, self.kafka = dsn, connection, kafka

    def relay(self, account: str = "ehcp_publisher") -> Relay:
        return Relay(self.dsn, "public.outbox", settings(self.kafka, account), "test")

    async def put(self, rows: Sequence[Row]) -> None:
        async with self.connection.transaction():
            await self.connection.executemany(
                "INSERT INTO public.outbox (topic, key, headers, value) VALUES ($1, $2, $3, $4)",
                [(topic, key, orjson.dumps({"ce_type": "test", "ce_id": key}).decode(), value) for topic, key, value in rows],
            )
            await self.connection.execute("NOTIFY outbox")

    async def left(self) -> list[asyncpg.Record]:
        return await self.connection.fetch("SELECT * FROM public.outbox ORDER BY id")

    async def empty(self) -> bool:
        return not await self.left()


def settings(kafka: RunningKafka, account: str) -> KafkaSettings:
    login = kafka.admin_login if account == "admin" else kafka.login(account)
    return KafkaSettings.model_validate(login.environment())


@pytest_asyncio.fixture
async def outbox(postgres_server: RunningPostgres, kafka_server: RunningKafka) -> AsyncIterator[Outbox]:
    dsn = await postgres_server.create_database("relay")
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "CREATE TABLE public.outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, topic text NOT NULL,"
        " key text NOT NULL, headers jsonb NOT NULL, value bytea NOT NULL, refused text)"
    )
    yield Outbox(dsn, connection, kafka_server)
    await connection.close()


@asynccontextmanager
async def running(*relays: Relay) -> AsyncIterator[list["asyncio.Task[None]"]]:
    """As a service runs them."""
    tasks = [asyncio.create_task(keep_running("relay", relay.run)) for relay in relays]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Reader:
    """Everything that came to a topic since the reader was made, by key."""

    def __init__(self, kafka: RunningKafka, topic: str) -> None:
        self._consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=kafka.bootstrap_servers,
            auto_offset_reset="earliest",
            **security(settings(kafka, "admin")),
        )
        self.by_key: dict[str, list[bytes]] = defaultdict(list)

    async def __aenter__(self) -> "Reader":
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def until(self, key: str, count: int, within: float = 60) -> list[bytes]:
        """The values of this key once there are so many."""
        async with asyncio.timeout(within):
            while len(self.by_key[key]) < count:
                record = await self._consumer.getone()
                self.by_key[(record.key or b"").decode()].append(record.value)
        return self.by_key[key]


async def test_in_order_per_key_and_nothing_left(kafka_server: RunningKafka, outbox: Outbox) -> None:
    topic, keys = kafka_server.create_topic("ordered", 6), [str(uuid4()) for _ in range(20)]
    await outbox.put([(topic, key, str(n).encode()) for n in range(100) for key in keys])
    async with Reader(kafka_server, topic) as reader, running(outbox.relay("admin")):
        for key in keys:
            assert await reader.until(key, 100) == [str(n).encode() for n in range(100)]
        await until(outbox.empty)
        await outbox.put([(topic, keys[0], b"later")])
        assert (await reader.until(keys[0], 101))[-1] == b"later"


async def test_what_is_told_is_a_cloudevent_in_binary_mode(kafka_server: RunningKafka, outbox: Outbox) -> None:
    topic, key = kafka_server.create_topic("headers"), str(uuid4())
    await outbox.put([(topic, key, b"{}")])
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka_server.bootstrap_servers, auto_offset_reset="earliest",
        **security(settings(kafka_server, "admin")),
    )  # fmt: skip
    async with consumer, running(outbox.relay("admin")):
        async with asyncio.timeout(30):
            record = await consumer.getone()
    assert (record.key, dict(record.headers)) == (key.encode(), {"ce_type": b"test", "ce_id": key.encode()})


async def test_a_row_that_is_too_large_is_set_aside_with_its_reason(kafka_server: RunningKafka, outbox: Outbox) -> None:
    key = str(uuid4())
    huge = b"x" * (2 * 2**20)
    await outbox.put([(HEALTH, key, value) for value in (b"1", b"2", huge, b"3", huge, b"4")])
    async with Reader(kafka_server, HEALTH) as reader, running(outbox.relay()):
        values = await reader.until(key, 4)
        while values[-1] != b"4":  # those before the bad row may have come twice
            values = await reader.until(key, len(values) + 1)
        await until(lambda: _refused(outbox, 2))
    assert list(dict.fromkeys(values)) == [b"1", b"2", b"3", b"4"]
    assert [row["refused"] for row in await outbox.left()] == ["MessageSizeTooLargeError"] * 2


async def _refused(outbox: Outbox, count: int) -> bool:
    left = await outbox.left()
    return len(left) == count and all(row["refused"] for row in left)


async def test_a_topic_that_it_may_not_write_is_set_aside_too(kafka_server: RunningKafka, outbox: Outbox) -> None:
    key = str(uuid4())
    await outbox.put([("ehcp.receipts.health.v1", key, b"forged"), (HEALTH, key, b"1")])
    async with Reader(kafka_server, HEALTH) as reader, running(outbox.relay()):
        assert await reader.until(key, 1) == [b"1"]
        await until(lambda: _refused(outbox, 1))
    assert (await outbox.left())[0]["refused"] == "TopicAuthorizationFailedError"


async def test_a_topic_that_is_not_there_yet_waits_alone(kafka_server: RunningKafka, outbox: Outbox) -> None:
    """A subscriber was registered before its topic was made: all others must hear all the same."""
    there, name, key = kafka_server.create_topic("there"), f"missing.{uuid4().hex}", str(uuid4())
    relay = outbox.relay("admin")
    relay.ask_again_after = 1
    await outbox.put([(name, key, b"1"), (there, key, b"2"), (name, key, b"3")])
    async with Reader(kafka_server, there) as reader, running(relay):
        assert await reader.until(key, 1, within=60) == [b"2"]
        await until(lambda: _waiting(outbox, 2))
        assert [row["refused"] for row in await outbox.left()] == [None, None]
        await outbox.put([(there, key, b"4")])
        assert await reader.until(key, 2, within=60) == [b"2", b"4"]
        with kafka_server.admin() as admin:
            await asyncio.to_thread(admin.create_topics([NewTopic(name, 1, 1)])[name].result, 30)
        async with Reader(kafka_server, name) as late:
            assert await late.until(key, 2) == [b"1", b"3"]


async def _waiting(outbox: Outbox, count: int) -> bool:
    return len(await outbox.left()) == count


async def test_one_relay_at_a_time_and_the_next_takes_over(
    postgres_server: RunningPostgres, kafka_server: RunningKafka, outbox: Outbox
) -> None:
    topic, key = kafka_server.create_topic("takeover"), str(uuid4())
    database = outbox.dsn.rsplit("/", 1)[1]
    admin = await asyncpg.connect(postgres_server.admin_dsn(database))
    holders = (
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = $1)"
    )

    async def holder() -> int | None:
        pids = [row["pid"] for row in await admin.fetch(holders, database)]
        assert len(pids) <= 1, "two relays at once"
        return pids[0] if pids else None

    try:
        async with Reader(kafka_server, topic) as reader, running(*(outbox.relay("admin") for _ in range(3))) as tasks:
            for n in range(3):
                pid = await until(holder)
                assert pid is not None
                await outbox.put([(topic, key, str(n).encode())])
                await reader.until(key, n + 1)
                await until(outbox.empty)
                await admin.execute("SELECT pg_terminate_backend($1)", pid)
                await until(partial(_other, holder, pid))
            assert not any(task.done() for task in tasks)
        assert reader.by_key[key] == [b"0", b"1", b"2"]
    finally:
        await admin.close()


async def _other(holder: Callable[[], Awaitable[int | None]], gone: int) -> bool:
    found = await holder()
    return found is not None and found != gone


async def test_killed_between_the_acknowledgement_and_the_delete_nothing_is_lost(
    postgres_server: RunningPostgres, kafka_server: RunningKafka
) -> None:
    keys = [str(uuid4()) for _ in range(50)]
    expected = [b"1", b"2", b"3"]
    async with running_publisher(postgres_server, kafka_server) as publisher, Reader(kafka_server, HEALTH) as reader:
        assert publisher.service is not None
        await publisher.service.kill()
        await put_out(publisher, keys)
        async with publisher.owner.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("LOCK TABLE publisher.outbox IN SHARE MODE")  # reads go on, a delete waits
            await publisher.service.start()
            for key in keys:
                assert await reader.until(key, 3) == expected
            await publisher.service.kill()
            await transaction.rollback()
        assert await publisher.owner.fetchval("SELECT count(*) FROM publisher.outbox") == 150
        await publisher.service.start()
        for key in keys:
            assert await reader.until(key, 6) == expected * 2, "again, and in order"

        async def empty() -> bool:
            return bool(await publisher.owner.fetchval("SELECT count(*) = 0 FROM publisher.outbox"))

        await until(empty)


async def put_out(publisher: Publisher, keys: list[str]) -> None:
    await publisher.owner.executemany(
        "INSERT INTO publisher.outbox (topic, key, headers, value) VALUES ($1, $2, '{}', $3)",
        [(HEALTH, key, value) for value in (b"1", b"2", b"3") for key in keys],
    )
