"""Take records off Kafka in batches, at least once: the one place that names ack policy, parser and offset reset.

Invariant: an offset is committed only after the handler's transaction. The handler gets raw records and looks after the
undecodable ones itself (a dead letter in the same transaction); so nothing is skipped and nothing stops the rest. FastStream
would log a failed batch and go on, and the next commit would pass over it: therefore a batch is tried again in place while
the database is away, and any other failure ends the process, which starts again at the last committed offset. A topic of which
too much is garbage is not read on (``garbage.py``).
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram512
from prometheus_client import Gauge

from services.shared.kafka import header_names
from services.shared.kafka.garbage import Breaker
from services.shared.postgres.pool import transient
from services.shared.settings import KafkaSettings

log = structlog.get_logger()

Handler = Callable[[Sequence["Record"]], Awaitable[Sequence[tuple["Record", str]]]]
"""Returns what it set aside as dead letters, each with its reason."""
STOPPED = Gauge("ehcp_consumer_stopped", "1 while a topic is not read because too much of it was garbage", ["topic"])
RETRY_FOR_SECONDS = 120.0
"""Well below ``max_poll_interval_ms`` (five minutes), beyond which the group would throw the consumer out."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it came: headers as bytes, since a non-UTF-8 header must not lose the record."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]

    def header(self, name: str) -> str:
        """The header's text, undecodable bytes replaced; empty when it is missing."""
        for key, value in self.headers:
            if key == name:
                return (value or b"").decode(errors="replace")
        return ""

    def header_text(self) -> list[list[str]]:
        """Every header as text, for a dead letter; bytes that are no UTF-8 show as ``\\x…``, NUL is not for jsonb."""
        return [
            [name.replace("\0", "\\x00"), (value or b"").decode(errors="backslashreplace").replace("\0", "\\x00")]
            for name, value in self.headers
        ]


@dataclass(slots=True)
class Progress:
    """Liveness by time since progress: a client that answers pings may have a dead consumer behind it."""

    busy_since: float | None = None
    handled: int = 0
    subscribers: list[Any] = field(default_factory=list)
    breaker: Breaker = field(default_factory=Breaker)

    def alive(self) -> bool:
        stuck = self.busy_since is not None and time.monotonic() - self.busy_since > 2 * RETRY_FOR_SECONDS
        return not stuck and all(subscriber.consumer is not None for subscriber in self.subscribers)

    def resume(self, topic: str) -> None:
        """Read a stopped topic again."""
        if topic in self.breaker.stopped:
            self.breaker.resume(topic)
            for subscriber in self.subscribers:
                consumer = subscriber.consumer
                consumer.resume(*(each for each in consumer.paused() if each.topic == topic))
            STOPPED.labels(topic).set(0)
            log.warning("topic_resumed", topic=topic)


def stopped_topics(progress: Sequence[Progress]) -> tuple[Callable[[], set[str]], Callable[[str], None]]:
    """What a service's consumers do not read because too much of it was garbage, and how to have one read again."""

    def stopped() -> set[str]:
        return {topic for each in progress for topic in each.breaker.stopped}

    def resume(topic: str) -> None:
        for each in progress:
            each.resume(topic)

    return stopped, resume


def _security(settings: KafkaSettings) -> BaseSecurity | None:
    if settings.security_protocol == "PLAINTEXT":
        return None
    context = None
    if settings.security_protocol.endswith("SSL"):
        from aiokafka.helpers import create_ssl_context

        context = create_ssl_context(cafile=str(settings.ssl_cafile) if settings.ssl_cafile else None)
    if not settings.security_protocol.startswith("SASL"):
        return BaseSecurity(ssl_context=context, use_ssl=True)
    kind = SASLPlaintext if settings.sasl_mechanism == "PLAIN" else SASLScram512
    return kind(
        username=settings.sasl_username or "",
        password=settings.sasl_password or "",
        ssl_context=context,
        use_ssl=context is not None,
    )


def make_broker(settings: KafkaSettings, client_id: str) -> KafkaBroker:
    header_names.install()
    return KafkaBroker(
        settings.bootstrap_servers.split(","),  # FastStream takes a text as the address of one server
        client_id=client_id,
        security=_security(settings),
        apply_types=False,
        allow_auto_create_topics=False,
        metadata_max_age_ms=30_000,
        logger=None,
    )


def consume(broker: KafkaBroker, topics: Sequence[str], group: str, handler: Handler, *, max_records: int = 500) -> Progress:
    """Subscribe ``handler`` to ``topics``. Call before the broker starts; returns what liveness looks at."""
    progress = Progress()
    subscriber: Any

    async def parse(records: tuple[ConsumerRecord, ...]) -> KafkaMessage:
        return KafkaMessage(body=b"", headers={}, raw_message=records, consumer=subscriber.consumer)

    async def decode(message: KafkaMessage) -> KafkaMessage:
        return message

    subscriber = broker.subscriber(
        *topics,
        batch=True,
        group_id=group,
        group_instance_id=os.environ.get("EHCP_GROUP_INSTANCE_ID", f"{group}-0"),
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.MANUAL,
        max_records=max_records,
        session_timeout_ms=10_000,
        heartbeat_interval_ms=2_000,
        parser=parse,
        decoder=decode,
    )
    progress.subscribers.append(subscriber)

    async def on_batch(message: KafkaMessage) -> None:
        records = [
            Record(r.topic, r.partition, r.offset, r.key or b"", r.value or b"", tuple(r.headers)) for r in message.raw_message
        ]
        _leave_out_stopped(subscriber.consumer, progress.breaker, records)
        wanted = [record for record in records if record.topic not in progress.breaker.stopped]
        progress.busy_since = time.monotonic()
        try:
            set_aside = await _until_done(handler, wanted) if wanted else ()
        except Exception:
            log.exception("batch_failed", topic=records[0].topic, offset=records[0].offset, records=len(records))
            os._exit(1)
        progress.busy_since = None
        progress.handled += len(wanted)
        await _commit(subscriber.consumer)
        garbage = Counter(record.topic for record, _ in set_aside)
        for topic in progress.breaker.count(Counter(record.topic for record in wanted), garbage):
            STOPPED.labels(topic).set(1)
            log.error("topic_stopped", topic=topic, reason="too much of it is garbage; look at the dead letters, then resume")
            consumer = subscriber.consumer
            consumer.pause(*(each for each in consumer.assignment() if each.topic == topic))

    subscriber(on_batch)
    return progress


async def _commit(consumer: Any) -> None:
    """Of everything read so far. Not through FastStream's message: the kind that a parser of one's own makes acknowledges
    nothing (0.7.8), and the other swallows errors."""
    try:
        await consumer.commit()
    except KafkaError as error:
        # The group was dealt out anew, or its coordinator is away. The next commit covers it; until then it comes again.
        log.warning("offset_not_committed", reason=type(error).__name__)


def _leave_out_stopped(consumer: Any, breaker: Breaker, records: Sequence[Record]) -> None:
    """A batch that was fetched before its topic was stopped, or after the group was dealt out anew: go back before it."""
    first: dict[TopicPartition, int] = {}
    for record in records:
        if record.topic in breaker.stopped:
            first.setdefault(TopicPartition(record.topic, record.partition), record.offset)
    for partition, offset in first.items():
        consumer.seek(partition, offset)
        consumer.pause(partition)


async def _until_done(handler: Handler, records: Sequence[Record]) -> Sequence[tuple[Record, str]]:
    deadline = time.monotonic() + RETRY_FOR_SECONDS
    wait = 0.1
    while True:
        try:
            return await handler(records)
        except Exception as error:
            if not transient(error) or time.monotonic() > deadline:
                raise
            log.warning("batch_waits_for_database", reason=type(error).__name__, records=len(records))
            await asyncio.sleep(wait)
            wait = min(wait * 2, 5)
