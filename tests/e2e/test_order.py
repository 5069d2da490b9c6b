"""Instructions that arrive out of order and twice: 2, 1, 3, 3 ends with 3 in the clinical record."""

from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import TopicPartition as ConfluentPartition
from confluent_kafka.admin import OffsetSpec

from tests.e2e.children import new_child
from tests.e2e.exchange import Exchange
from tests.support.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]
TOPIC = "ehcp.shares.health.v1"


async def test_two_one_three_three_ends_with_three(exchange: Exchange) -> None:
    child = new_child()
    patient = await exchange.add_patient(child.patient)
    exchange.stop_for_now("health_subscriber")
    try:
        [first] = await exchange.issue([child.first()])
        for number in (2, 3):
            [answer] = await exchange.issue([{"plan_id": first["plan_id"], "version": child.version(number)}])
            assert answer["version"] == number
        trust = (await exchange.holders(first["plan_id"]))["trust"]
        records = await until(lambda: of_share(exchange, trust["share_id"], 3), within=60, what="three instructions")
        by_seq = dict(enumerate(records[:3], start=1))
        await forget_topic(exchange)
        await send(exchange, [by_seq[seq] for seq in (2, 1, 3, 3)])
    finally:
        exchange.go_on("health_subscriber")
    held = await until(lambda: held_version(exchange, first["plan_id"], 3), within=60, what="version 3 is filed")
    assert held["seq"] == 3
    documents = await exchange.documents(patient)
    current = [each for each in documents if each["status"] == "current"]
    assert len(current) == 1
    assert held["held_record"] == f"DocumentReference/{current[0]['id']}"

    async def said() -> list[tuple[int, str]]:
        """All receipts; it may have filed what the council's list says before it read the topic again."""
        rows = await exchange.query(
            "audit", "SELECT seq, status FROM audit.receipt WHERE share_id = $1::text::uuid ORDER BY number", trust["share_id"]
        )
        seen = [(row["seq"], row["status"]) for row in rows]
        return seen if (1, "superseded") in seen else []

    seen = await until(said, within=60, what="that the first one came too late is said")
    filed = [seq for seq, status in seen if status == "filed"]
    assert filed == sorted(filed)


async def held_version(exchange: Exchange, plan_id: str, version: int) -> dict[str, Any]:
    trust = (await exchange.holders(plan_id))["trust"]
    return trust if trust["held_version"] == version and trust["status"] == "filed" else {}


def login(exchange: Exchange) -> dict[str, Any]:
    assert exchange.machine.places is not None
    assert exchange.machine.places.kafka is not None
    cluster = exchange.machine.places.kafka
    account = cluster.login("admin")
    return {
        "bootstrap_servers": account.bootstrap_servers, "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_username": account.username, "sasl_plain_password": account.password,
    }  # fmt: skip


async def of_share(exchange: Exchange, share_id: str, count: int) -> list[Any]:
    """The records on the topic for one share, in order, once there are ``count``."""
    records = [each for each in await read_topic(exchange, TOPIC) if each.key == share_id.encode()]
    return records if len(records) >= count else []


async def read_topic(exchange: Exchange, topic: str) -> list[Any]:
    """Everything on a topic now, partition by partition."""
    consumer = AIOKafkaConsumer(topic, **login(exchange), auto_offset_reset="earliest")
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        starts = await consumer.beginning_offsets(consumer.assignment())
        left = {each for each in ends if ends[each] > starts[each]}
        records: list[Any] = []
        while left:
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                records += batch
            left = {each for each in left if await consumer.position(each) < ends[each]}
        return records
    finally:
        await consumer.stop()


async def forget_topic(exchange: Exchange) -> None:
    """Delete every record that is on the topic."""
    assert exchange.machine.places is not None
    assert exchange.machine.places.kafka is not None
    with exchange.machine.places.kafka.admin() as admin:
        partitions = [ConfluentPartition(TOPIC, number) for number in admin.list_topics(TOPIC).topics[TOPIC].partitions]
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call] # the library has no types here
        ends = admin.list_offsets(dict.fromkeys(partitions, latest))
        upto = [ConfluentPartition(TOPIC, each.partition, ends[each].result().offset) for each in partitions]
        for done in admin.delete_records(upto).values():
            done.result()


async def send(exchange: Exchange, records: list[Any]) -> None:
    producer = AIOKafkaProducer(**login(exchange), acks="all")
    await producer.start()
    try:
        for record in records:
            await producer.send_and_wait(
                TOPIC, record.value, key=record.key, headers=list(record.headers), partition=record.partition
            )
    finally:
        await producer.stop()
