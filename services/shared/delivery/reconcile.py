"""Compare the council's list of this subscriber's shares with the books here, and take in what is missing.

Fully at the start and once a day: so a subscriber whose database is lost rebuilds itself. Every few minutes only what the
council has no satisfying receipt for: that is small. The list is paged by ``share_id``; a share that changes behind the page
is in the next pass or on its topic. Whether the records hold what the books say: :mod:`services.shared.delivery.record_check`.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from schemas.documents import ReadAnswer, ReadOutcome
from services.shared.clock import Clock, utc_now
from services.shared.delivery import store_checks
from services.shared.delivery.council import Council, CouncilAwayError
from services.shared.delivery.differences import Difference
from services.shared.delivery.handlers import Instruction, Parking, UnreadableError, read_instruction
from services.shared.delivery.record_check import DIFFERENCES
from services.shared.json import dumps

log = structlog.get_logger()

FULL_EVERY_SECONDS = 24 * 3600.0
RETRY_SECONDS = 2.0
LATE = timedelta(minutes=10)
"""An instruction younger than this may still be on its way; the list merely was quicker."""
_ASK = 100
"""Reads in one request."""


class Reconcile:
    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        council: Council,
        parking: Parking,
        every: float = 300.0,
        clock: Clock = utc_now,
    ) -> None:
        self._pool = pool
        self._council = council
        self._parking = parking
        self._every = every
        self._clock = clock

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
            asked_at, begin = self._clock(), after
            rows, after = await self._council.shares(after, unanswered=not full)
            async with self._pool.acquire() as connection, connection.transaction():
                parked = await self._parking.park(connection, _readable(rows), listed=True)
            self._parking.woken()
            await self._differ([
                (each.share_id, Difference.STALE if known else Difference.NEVER_ARRIVED)
                for each, known in parked.behind
                if asked_at - datetime.fromisoformat(each.data["requested_at"]) > LATE
            ])  # fmt: skip
            for start in range(0, len(parked.doubted), _ASK):
                await self._ask(parked.doubted[start : start + _ASK])
            if full:
                await self._find_orphans(begin, after, rows, asked_at)
            seen += len(rows)
            if after is None:
                if full:
                    async with self._pool.acquire() as connection:
                        await store_checks.forget_differences(connection)
                log.info("reconciled_with_council", shares=seen, full=full)
                return seen

    async def _find_orphans(
        self, begin: UUID | None, end: UUID | None, rows: Sequence[dict[str, Any]], asked_at: datetime
    ) -> None:
        """What is held here and the council's list does not name. It stays as it is: only the council can say what it is."""
        listed = [UUID(str(row["share_id"])) for row in rows]
        while True:
            async with self._pool.acquire() as connection:
                unlisted = await store_checks.unlisted(connection, begin, end, listed, asked_at - LATE)
            if not unlisted:
                return
            begin = unlisted[-1][0]
            for start in range(0, len(unlisted), _ASK):
                answers = await self._council.read(unlisted[start : start + _ASK])
                unknown = [share_id for share_id, answer in answers.items() if answer.outcome is ReadOutcome.UNKNOWN]
                await self._differ([(share_id, Difference.ORPHAN) for share_id in unknown])

    async def _differ(self, found: Sequence[tuple[UUID, Difference]]) -> None:
        async with self._pool.acquire() as connection:
            await store_checks.note_differences(connection, found)
        for share_id, difference in found:
            DIFFERENCES.labels(difference).inc()
            log.warning("books_differ", share_id=str(share_id), difference=difference)

    async def _ask(self, doubted: Sequence[tuple[UUID, int]]) -> None:
        """Whether the council really wants a lower ``seq`` than is here; then it was restored from backup, and must hear it."""
        answers = await self._council.read(doubted)
        ahead = [(share_id, seq) for share_id, seq in doubted if _wants_lower(answers.get(share_id), seq)]
        if ahead:
            async with self._pool.acquire() as connection, connection.transaction():
                await self._parking.contradict(connection, ahead)


def _wants_lower(answer: ReadAnswer | None, seq: int) -> bool:
    return answer is not None and answer.outcome is ReadOutcome.STALE and (answer.current_seq or 0) < seq


def _readable(rows: Sequence[dict[str, Any]]) -> list[Instruction]:
    """One row that cannot be read holds up no other; it stays on the list, and unsatisfied at the council."""
    instructions = []
    for row in rows:
        try:
            instructions.append(read_instruction(row["type"], dumps(row["instruction"])))
        except UnreadableError as error:
            log.error("listed_instruction_unreadable", share_id=row.get("share_id"), reason=str(error))
    return instructions
