"""Compare the council's list of this subscriber's shares with the books here, and take in what is missing.

Fully at the start and once a day: so a subscriber whose database is lost rebuilds itself. Every few minutes only what the
council has no satisfying receipt for: that is small. The list is paged by ``share_id``; a share that changes behind the page
is in the next pass or on its topic.
"""

import asyncio
from uuid import UUID

import asyncpg
import structlog

from services.shared.delivery.council import Council, CouncilAwayError
from services.shared.delivery.handlers import Parking, read_instruction
from services.shared.json import dumps

log = structlog.get_logger()

FULL_EVERY_SECONDS = 24 * 3600.0
RETRY_SECONDS = 2.0


class Reconcile:
    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", council: Council, parking: Parking, every: float = 300.0) -> None:
        self._pool = pool
        self._council = council
        self._parking = parking
        self._every = every

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        full_at = loop.time()
        while True:
            full = loop.time() >= full_at
            try:
                await self.once(full=full)
            except CouncilAwayError as error:
                log.warning("reconcile_waits_for_council", reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if full:
                full_at = loop.time() + FULL_EVERY_SECONDS
            await asyncio.sleep(self._every)

    async def once(self, *, full: bool) -> int:
        """Page through the list; returns how many shares it named. Raises :class:`CouncilAwayError`."""
        after: UUID | None = None
        seen = 0
        while True:
            rows, after = await self._council.shares(after, unanswered=not full)
            instructions = [read_instruction(row["type"], dumps(row["instruction"])) for row in rows]
            async with self._pool.acquire() as connection, connection.transaction():
                await self._parking.park(connection, instructions, listed=True)
            self._parking.woken()
            seen += len(rows)
            if after is None:
                log.info("reconciled_with_council", shares=seen, full=full)
                return seen
