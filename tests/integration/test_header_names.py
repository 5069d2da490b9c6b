"""A record whose header name is not UTF-8 reaches the handler like any other, and so does all that comes after it."""

from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.producer import message_accumulator, producer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from services.shared.kafka.connection import make_producer
from services.shared.kafka.consume import Record, consume, make_broker
from services.shared.settings import KafkaSettings
from tests.support.servers import RunningKafka
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]


class OddName(str):
    """A header name that goes out as bytes that are no UTF-8, as a client in another language may send it."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        del encoding, errors
        return b"x-\xff\xfe"


def odd_producer(settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> AIOKafkaProducer:
    """With aiokafka's own batch builder in Python, which lets :class:`OddName` through."""
    for module in (message_accumulator, producer):
        monkeypatch.setattr(module, "DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)
    return make_producer(settings, "odd")


async def test_everything_is_delivered(kafka_server: RunningKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = kafka_server.create_topic("test.header-names", partitions=2)
    settings = KafkaSettings.model_validate(kafka_server.admin_login.environment())
    async with odd_producer(settings, monkeypatch) as sender:
        for number in range(10):
            headers: Any = [(OddName("x"), b"1"), ("y", b"2")] if number == 4 else []
            # Several in one batch, so that the bad one stands in its middle.
            await sender.send(topic, b"%d" % number, partition=0, headers=headers)
            await sender.send(topic, b"other %d" % number, partition=1)
        await sender.flush()
    taken: list[Record] = []

    async def handler(records: Any) -> list[tuple[Record, str]]:
        taken.extend(records)
        return []

    broker = make_broker(settings, "test")
    consume(broker, [topic], "ehcp.test.header-names", handler)
    await broker.start()
    try:

        async def all_taken() -> bool:
            return len(taken) == 20

        await until(all_taken)
    finally:
        await broker.stop()
    assert [record.value for record in taken if record.partition == 0] == [b"%d" % number for number in range(10)]
    [odd] = [record for record in taken if record.headers]
    assert odd.value == b"4"
    assert odd.headers == (("x-\ufffd\ufffd", b"1"), ("y", b"2"))
