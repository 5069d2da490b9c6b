"""The machine's PostgreSQL and Kafka: who may do what is really enforced."""

import asyncio

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import TopicAuthorizationFailedError
from confluent_kafka import Consumer, KafkaError, Producer

from services.cli.machine.databases import DATABASES, OWNER
from services.cli.machine.kafka_access import Login, load_access
from tests.support.servers import RunningKafka, RunningPostgres

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

ACCESS = load_access()
EVERY_ACCOUNT = sorted(ACCESS.accounts)


def may_write(login: Login, topic: str, *, idempotent: bool) -> bool:
    outcome: list[KafkaError | None] = []
    settings = {**login.settings(), "enable.idempotence": idempotent, "log_level": 0, "message.timeout.ms": 10_000}
    producer = Producer(settings)
    producer.produce(topic, b"x", on_delivery=lambda error, _message: outcome.append(error))
    assert producer.flush(15) == 0
    [error] = outcome
    if error is None:
        return True
    assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED, error
    return False


async def may_read(login: Login, topic: str) -> bool:
    """Reads the topic without any group, so that only the topic's own grant counts."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=login.bootstrap_servers,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_plain_username=login.username,
        sasl_plain_password=login.password,
        auto_offset_reset="earliest",
    )
    try:
        async with asyncio.timeout(20):
            await consumer.start()
            await consumer.getone()
    except TopicAuthorizationFailedError:
        return False
    finally:
        await consumer.stop()
    return True


def may_join(login: Login, topic: str, group: str) -> bool:
    """Joins the group as a consumer of a topic; True when it is given partitions."""
    given: list[object] = []
    consumer = Consumer({**login.settings(), "group.id": group, "enable.auto.commit": False, "log_level": 0})
    try:
        consumer.subscribe([topic], on_assign=lambda _consumer, partitions: given.extend(partitions))
        for _ in range(200):
            message = consumer.poll(0.1)
            if given:
                return True
            if message is not None and (error := message.error()) is not None:
                assert error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED, error
                return False
    finally:
        consumer.close()
    raise AssertionError(f"neither partitions nor a refusal from group {group} for {login.username}")


@pytest.mark.parametrize("account", EVERY_ACCOUNT)
async def test_account_writes_its_own_topics_and_no_other(kafka_server: RunningKafka, account: str) -> None:
    login, mine = kafka_server.login(account), ACCESS.accounts[account]
    # Who may write nothing may not even begin as an idempotent producer.
    idempotent = bool(mine.writes)
    asked = (asyncio.to_thread(may_write, login, topic, idempotent=idempotent) for topic in ACCESS.topics)
    answers = await asyncio.gather(*asked)
    assert {topic for topic, allowed in zip(ACCESS.topics, answers, strict=True) if allowed} == set(mine.writes)


@pytest.mark.parametrize("account", EVERY_ACCOUNT)
async def test_account_reads_its_own_topics_and_no_other(kafka_server: RunningKafka, account: str) -> None:
    admin, login = kafka_server.admin_login, kafka_server.login(account)
    written = (asyncio.to_thread(may_write, admin, topic, idempotent=True) for topic in ACCESS.topics)
    assert all(await asyncio.gather(*written))
    answers = await asyncio.gather(*(may_read(login, topic) for topic in ACCESS.topics))
    allowed = {topic for topic, allowed in zip(ACCESS.topics, answers, strict=True) if allowed}
    assert allowed == set(ACCESS.accounts[account].reads)


@pytest.mark.parametrize("account", [name for name in EVERY_ACCOUNT if ACCESS.accounts[name].reads])
async def test_account_joins_its_own_group_and_no_other(kafka_server: RunningKafka, account: str) -> None:
    login, mine = kafka_server.login(account), ACCESS.accounts[account]
    groups = sorted(other.group for other in ACCESS.accounts.values() if other.group is not None)
    answers = await asyncio.gather(*(asyncio.to_thread(may_join, login, mine.reads[0], group) for group in groups))
    assert [group for group, allowed in zip(groups, answers, strict=True) if allowed] == [mine.group]


async def test_wrong_password_is_refused(kafka_server: RunningKafka) -> None:
    right = kafka_server.login("audit")
    refused: list[KafkaError] = []
    producer = Producer(
        {
            **Login(right.bootstrap_servers, "audit", "wrong").settings(),
            "error_cb": refused.append,
            "log_level": 0,
        }
    )
    for _ in range(100):
        producer.poll(0.1)
        if any(error.code() == KafkaError._AUTHENTICATION for error in refused):
            return
    raise AssertionError(f"not refused: {refused}")


async def test_topics_are_made_as_written(kafka_server: RunningKafka) -> None:
    with kafka_server.admin() as admin:
        topics = await asyncio.to_thread(lambda: admin.list_topics(timeout=10).topics)
    assert {name: len(topics[name].partitions) for name in ACCESS.topics} == dict.fromkeys(ACCESS.topics, 6)


async def test_a_role_reaches_only_the_database_of_its_owner(postgres_server: RunningPostgres) -> None:
    server = postgres_server.databases
    for database, roles in DATABASES.items():
        await server.ensure_database(database, roles)
        for role in (role for roles in DATABASES.values() for role in roles):
            if role in DATABASES[database]:
                connection = await asyncpg.connect(server.dsn(database, role))
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute("CREATE TABLE public.mine (x int)")
                await connection.close()
            else:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await asyncpg.connect(server.dsn(database, role))


async def test_commits_are_durable_and_passwords_asked_for(postgres_server: RunningPostgres) -> None:
    connection = await asyncpg.connect(postgres_server.admin_dsn())
    try:
        assert await connection.fetchval("SHOW fsync") == "on"
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        assert await connection.fetchval("SHOW full_page_writes") == "on"
        assert await connection.fetchval("SHOW password_encryption") == "scram-sha-256"
        owner = await connection.fetchrow("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = $1", OWNER)
        assert owner is not None
        assert not owner["rolsuper"]
        assert not owner["rolbypassrls"]
    finally:
        await connection.close()
    port = postgres_server.server.port
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://audit:wrong@127.0.0.1:{port}/council")
