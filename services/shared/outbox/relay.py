"""Publish what a transaction left in an ``outbox`` table, and delete it once every in-sync replica acknowledged it.

Invariant: one active relay per table (session advisory lock), rows in order of ``id``; whoever writes them holds the lock of
the share or plan that is their key, so that ids rise with commits per key. At least once: a crash between the
acknowledgement and the delete publishes again, and every reader is idempotent. A row that the broker refuses goes aside with
its reason, rows of a topic that is not there wait; neither stops the others. When the producer sticks, the relay fails and
is started anew with a fresh one.
"""

import asyncio
import time
from typing import Any

import asyncpg
import orjson
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTopicError,
    MessageSizeTooLargeError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from services.shared.kafka.connection import make_producer
from services.shared.postgres.pool import PLANNED_FOR_FULL_TABLES
from services.shared.settings import KafkaSettings
from services.shared.waking import woken

log = structlog.get_logger()

BATCH = 1000
_LOOK_FOR = 1.0
"""Seconds for the broker to name a topic's partitions; all others wait meanwhile."""
_REFUSED = (MessageSizeTooLargeError, RecordTooLargeError, InvalidTopicError, TopicAuthorizationFailedError)


class RelayStuckError(Exception):
    """The broker did not acknowledge in time; nothing is lost, the rows stay."""


class Relay:
    """``table`` has columns ``id, topic, key, headers (jsonb object of strings), value, refused``."""

    def __init__(self, database_url: str, table: str, kafka: KafkaSettings, client_id: str) -> None:
        self._database_url = database_url
        self._table = table
        self._kafka = kafka
        self._client_id = client_id
        self._wake = asyncio.Event()
        self._there: set[str] = set()
        self._absent: dict[str, float] = {}
        self.ask_again_after = 5.0
        """Seconds after which a topic that was not there is looked for again."""

    def wake(self) -> None:
        """There may be rows now. Only saves waiting: the relay looks by itself every second."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled; raises when PostgreSQL or Kafka fails, to be started again."""
        # A connection of its own, outside any transaction: it holds the lock and nothing else waits for it.
        connection = await asyncpg.connect(self._database_url, server_settings=PLANNED_FOR_FULL_TABLES)
        producer = make_producer(self._kafka, self._client_id)
        self._there.clear()
        try:
            while not await connection.fetchval("SELECT pg_try_advisory_lock(hashtext($1))", f"relay:{self._table}"):
                await asyncio.sleep(1)
            await producer.start()
            await connection.add_listener("outbox", lambda *_: self._wake.set())
            while True:
                self._wake.clear()
                if not await self._publish_batch(connection, producer):
                    await woken(self._wake, 1)
        finally:
            connection.terminate()
            await asyncio.shield(_stop(producer))

    async def _publish_batch(self, connection: "asyncpg.Connection[Any]", producer: AIOKafkaProducer) -> int:
        found = await connection.fetch(
            f"SELECT id, topic, key, headers::text, value FROM {self._table}"
            f" WHERE refused IS NULL AND topic <> ALL($1) ORDER BY id LIMIT {BATCH}",
            [topic for topic, until in self._absent.items() if until > time.monotonic()],
        )
        absent = [topic for topic in {row["topic"] for row in found} if not await self._is_there(topic, producer)]
        rows = [row for row in found if row["topic"] not in absent]
        if not rows:
            return len(found)
        futures = []
        try:
            async with asyncio.timeout(30):
                for row in rows:
                    headers = _headers(row["headers"])
                    futures.append(await producer.send(row["topic"], row["value"], key=row["key"].encode(), headers=headers))
                outcomes = await asyncio.gather(*futures, return_exceptions=True)
        except _REFUSED as error:  # send() itself refuses a record that is too large: set it aside, the rest comes again
            await self._set_aside(connection, rows[len(futures)]["id"], error)
            return 1
        except TimeoutError:
            raise RelayStuckError(f"no acknowledgement for {self._table} within 30 s") from None
        done = [row["id"] for row, outcome in zip(rows, outcomes, strict=True) if not isinstance(outcome, BaseException)]
        await connection.execute(f"DELETE FROM {self._table} WHERE id = ANY($1)", done)
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, _REFUSED):
                await self._set_aside(connection, row["id"], outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
        return len(rows)

    async def _is_there(self, topic: str, producer: AIOKafkaProducer) -> bool:
        """A topic that nobody has made yet keeps its rows, in order, and holds up no other."""
        if topic in self._there:
            return True
        try:
            async with asyncio.timeout(_LOOK_FOR):
                await producer.partitions_for(topic)
        except TopicAuthorizationFailedError:
            pass  # the broker will say so of each row, which is then set aside
        except (TimeoutError, UnknownTopicOrPartitionError):
            log.error("topic_is_not_there", table=self._table, topic=topic)
            self._absent[topic] = time.monotonic() + self.ask_again_after
            return False
        self._there.add(topic)
        self._absent.pop(topic, None)
        return True

    async def _set_aside(self, connection: "asyncpg.Connection[Any]", row_id: int, error: BaseException) -> None:
        log.error("outbox_row_refused", table=self._table, row=row_id, reason=type(error).__name__)
        await connection.execute(f"UPDATE {self._table} SET refused = $2 WHERE id = $1", row_id, type(error).__name__)


async def _stop(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(5):
            await producer.stop()
    except Exception as error:  # it is being thrown away; what was not acknowledged is still in the table
        log.warning("producer_stop_failed", reason=type(error).__name__)


def _headers(text: str) -> list[tuple[str, bytes]]:
    return [(name, str(value).encode()) for name, value in orjson.loads(text).items()]
