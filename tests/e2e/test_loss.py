"""Whole stores lost in the middle: the broker's data, a subscriber's database, one broker of three. All still arrive."""

import asyncio
import shutil

import asyncpg
import pytest

from services.cli.machine.databases import database_of
from services.cli.machine.kafka_access import ensure_topics, load_access
from tests.e2e.exchange import Exchange, running_exchange
from tests.e2e.test_kill import arrived, everywhere, filed_once, first_versions
from tests.support.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


async def test_the_brokers_data_is_deleted_in_the_middle(exchange: Exchange) -> None:
    children, patients, plans = await first_versions(exchange)
    amendments = [{"plan_id": plan, "version": child.version(2)} for child, plan in zip(children, plans, strict=True)]
    second = asyncio.create_task(exchange.issue(amendments))
    await asyncio.wait([second], timeout=0.3)
    await exchange.killed("kafka")
    assert exchange.machine.places is not None
    assert exchange.machine.places.kafka is not None
    shutil.rmtree(exchange.machine.places.kafka.folder)
    await second
    await exchange.ready("kafka")
    await until(lambda: everywhere(exchange, plans, 2), within=180, what="all is everywhere after the broker was wiped")
    await filed_once(exchange, patients)


async def test_a_receipts_topic_alone_is_wiped_in_the_middle(exchange: Exchange) -> None:
    children, patients, plans = await first_versions(exchange)
    amendments = [{"plan_id": plan, "version": child.version(2)} for child, plan in zip(children, plans, strict=True)]
    second = asyncio.create_task(exchange.issue(amendments))
    await asyncio.wait([second], timeout=0.3)
    assert exchange.machine.places is not None
    assert exchange.machine.places.kafka is not None
    kafka = exchange.machine.places.kafka
    topic = "ehcp.receipts.health.v1"
    admin = kafka.admin()
    await asyncio.to_thread(admin.delete_topics([topic])[topic].result, 30)
    await second

    async def made_anew() -> bool:  # the broker deletes by and by
        return topic in await asyncio.to_thread(ensure_topics, admin, load_access(), kafka.replication)

    await until(made_anew, within=60, what="the topic is made anew")
    await until(lambda: everywhere(exchange, plans, 2), within=180, what="all is everywhere after the receipts were wiped")
    await filed_once(exchange, patients)


@pytest.mark.parametrize("service", ["health_subscriber", "school_subscriber", "family_subscriber"])
async def test_a_subscribers_database_is_deleted_in_the_middle(exchange: Exchange, service: str) -> None:
    children, patients, plans = await first_versions(exchange)
    amendments = [{"plan_id": plan, "version": child.version(2)} for child, plan in zip(children, plans, strict=True)]
    second = asyncio.create_task(exchange.issue(amendments))
    await asyncio.wait([second], timeout=0.3)
    await recreate_database(exchange, service)
    await second
    await until(lambda: everywhere(exchange, plans, 2), within=180, what=f"all is everywhere after {service} lost its books")
    await filed_once(exchange, patients)
    rebuilt = await exchange.query(service, "SELECT count(*) AS shares FROM delivery.delivery")
    wanted = await exchange.query(
        "ehcp_publisher",
        "SELECT count(*) AS shares FROM publisher.share WHERE subscriber = $1",
        service.removesuffix("_subscriber"),
    )
    assert rebuilt[0]["shares"] == wanted[0]["shares"]


async def recreate_database(exchange: Exchange, service: str) -> None:
    """Drop it under the running service, make it anew and empty, and restart the service as its keeper would."""
    assert exchange.machine.places is not None
    databases = exchange.machine.places.databases
    name = database_of(service)
    connection = await asyncpg.connect(databases.admin_dsn)
    try:
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await connection.close()
    await databases.ensure()
    await exchange.killed(service)
    await exchange.ready(service)


async def test_one_of_three_brokers_is_killed() -> None:
    async with running_exchange(brokers=3) as exchange:
        children, patients, plans = await first_versions(exchange)
        amendments = [{"plan_id": plan, "version": child.version(2)} for child, plan in zip(children, plans, strict=True)]
        second = asyncio.create_task(exchange.issue(amendments))
        await asyncio.wait([second], timeout=0.3)
        await exchange.killed("kafka-2")
        await second
        await until(lambda: everywhere(exchange, plans, 2), within=120, what="all is everywhere although a broker died")
        await filed_once(exchange, patients)
        assert all(arrived(row, 2) for row in await exchange.all_holders())
