"""Fixtures of the contract tests."""

from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio

from services.shared.postgres.pool import open_pool
from tests.support.servers import RunningPostgres
from tests.support.subscriber import books


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def pool(postgres_server: RunningPostgres) -> "AsyncIterator[asyncpg.Pool[asyncpg.Record]]":
    """A subscriber's books, for all adapters that keep some; each test has shares of its own."""
    opened = await open_pool(postgres_server.dsn_as("health_subscriber", await books(postgres_server)))
    yield opened
    await opened.close()
