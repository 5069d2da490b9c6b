"""Fixtures that every test may ask for. Servers are real, start when first asked for and stop with the session."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support.servers import RunningKafka, RunningPostgres, running_kafka, running_postgres


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_server() -> AsyncIterator[RunningPostgres]:
    async with running_postgres() as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kafka_server() -> AsyncIterator[RunningKafka]:
    async with running_kafka() as server:
        yield server
