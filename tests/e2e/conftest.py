"""One exchange for all end-to-end tests of a run; tests that break more than a process start their own."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.e2e.exchange import Exchange, running_exchange


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def exchange() -> AsyncIterator[Exchange]:
    async with running_exchange() as running:
        yield running
