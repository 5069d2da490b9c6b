"""On real Kafka: a topic of garbage is not read on, the others are, and after a person has looked nothing was lost."""

from collections.abc import Sequence

import pytest

from services.shared.kafka.connection import make_producer
from services.shared.kafka.consume import Record, consume, make_broker
from services.shared.kafka.garbage import Breaker
from services.shared.settings import KafkaSettings
from tests.support.servers import RunningKafka
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]


async def test_a_topic_of_garbage_is_stopped_and_resumed(kafka_server: RunningKafka) -> None:
    bad, good = kafka_server.create_topic("test.bad", partitions=2), kafka_server.create_topic("test.good")
    settings = KafkaSettings.model_validate(kafka_server.admin_login.environment())
    taken: list[Record] = []
    mended = False

    async def handler(records: Sequence[Record]) -> list[tuple[Record, str]]:
        taken.extend(records)
        return [] if mended else [(record, "garbage") for record in records if record.topic == bad]

    def values(topic: str, partition: int = 0) -> list[int]:
        return [int(record.value) for record in taken if (record.topic, record.partition) == (topic, partition)]

    broker = make_broker(settings, "test")
    progress = consume(broker, [bad, good], "ehcp.test.garbage", handler, max_records=50)
    async with make_producer(settings, "test") as sender:
        for number in range(1000):
            await sender.send(bad, b"%d" % number, partition=number % 2)
        await sender.flush()
        await broker.start()
        try:

            async def stopped() -> bool:
                return progress.breaker.stopped == {bad}

            await until(stopped, what="the topic of garbage is stopped")
            before = len(taken)
            assert 100 <= before <= 200
            for number in range(300):
                await sender.send(good, b"%d" % number, partition=0)
            await sender.flush()

            async def read_on() -> bool:
                return values(good) == list(range(300))

            await until(read_on, what="the other topic is read on")
            assert len(taken) == before + 300
            assert progress.alive()
            mended = True
            progress.resume(bad)

            async def everything() -> bool:
                return len(values(bad, 0)) == 500 and len(values(bad, 1)) == 500

            await until(everything, what="what was left is read")
        finally:
            await broker.stop()
    # In order, each once.
    assert values(bad, 0) == list(range(0, 1000, 2))
    assert values(bad, 1) == list(range(1, 1000, 2))


async def test_after_a_restart_the_topic_is_read_from_where_it_was_stopped(kafka_server: RunningKafka) -> None:
    topic = kafka_server.create_topic("test.restart")
    settings = KafkaSettings.model_validate(kafka_server.admin_login.environment())
    taken: list[int] = []
    set_aside = True

    async def handler(records: Sequence[Record]) -> list[tuple[Record, str]]:
        taken.extend(int(record.value) for record in records)
        return [(record, "garbage") for record in records] if set_aside else []

    async with make_producer(settings, "test") as sender:
        for number in range(500):
            await sender.send(topic, b"%d" % number, partition=0)
        await sender.flush()
    for _ in range(2):
        broker = make_broker(settings, "test")
        progress = consume(broker, [topic], "ehcp.test.garbage-restart", handler, max_records=50)
        await broker.start()
        try:

            async def done(breaker: Breaker = progress.breaker) -> bool:
                return len(taken) >= 500 or bool(breaker.stopped)

            await until(done, what="stopped, or everything read")
        finally:
            await broker.stop()
        set_aside = False
    assert taken == list(range(500))
