"""Fixtures of the integration tests."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support.publisher import Publisher, running_publisher
from tests.support.servers import RunningPostgres


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def publisher(postgres_server: RunningPostgres) -> AsyncIterator[Publisher]:
    """One publisher without Kafka for all tests of its API; each test makes plans of its own."""
    async with running_publisher(postgres_server) as running:
        yield running
