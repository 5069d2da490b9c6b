"""Fixtures of the integration tests."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support.publisher import Publisher, running_publisher
from tests.support.servers import RunningPostgres
from tests.support.subscriber import SubscriberStub, books, subscriber_on


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def publisher(postgres_server: RunningPostgres) -> AsyncIterator[Publisher]:
    """One publisher without Kafka for all tests of its API; each test makes plans of its own."""
    async with running_publisher(postgres_server) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_server: RunningPostgres) -> str:
    """A subscriber's own, one for all tests of a module."""
    return await books(postgres_server)


@pytest_asyncio.fixture
async def subscriber(postgres_server: RunningPostgres, database: str) -> AsyncIterator[SubscriberStub]:
    async with subscriber_on(postgres_server, database) as running:
        yield running
