"""Every night: what a person should look at in each plan in force, judged anew, since most of it comes with time alone.

Pages through all plans, a few at a time and with a pause between, so that a whole nation's are done by morning and nothing else
waits. Flags go to ``publisher.flag``; what they say is ``currency``'s.
"""

import asyncio
from collections.abc import Sequence
from datetime import date
from uuid import UUID

import asyncpg
import structlog

from services.ehcp_publisher import currency, store, store_events, versions
from services.ehcp_publisher.deciding import Deciding
from services.shared.postgres.pool import council_transaction

log = structlog.get_logger()
PAGE = 50


class Nightly:
    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", deciding: Deciding, councils: Sequence[str]) -> None:
        self._pool = pool
        self._deciding = deciding
        self._councils = list(councils)

    async def run(self) -> None:
        """On each new day, from a little after it began."""
        done = self._deciding.today()
        while True:
            if (today := self._deciding.today()) != done:
                log.info("flags_judged", plans=await self.judge_all(today), on=str(today))
                done = today
            await asyncio.sleep(60)

    async def judge_all(self, today: date) -> int:
        """Returns how many plans were looked at."""
        after: UUID | None = None
        seen = 0
        while page := await self._page(after, today):
            after, seen = page[-1], seen + len(page)
            await asyncio.sleep(0.01)
        return seen

    async def _page(self, after: UUID | None, today: date) -> list[UUID]:
        async with council_transaction(self._pool, self._councils) as connection:
            plan_ids = await store_events.page_of_plans(connection, after, PAGE)
            plans = await store.find_plans(connection, plan_ids, [])
            current = {plan.plan_id: now for plan in plans if (now := versions.current(plan.versions))}
            bodies = await store.read_bodies(connection, [now.version_id for now in current.values()])
            moves = await store_events.last_moves(connection, plan_ids)
        flags: dict[UUID, tuple[str, Sequence[currency.Flag]]] = {}
        for plan in plans:
            await asyncio.sleep(0)
            if (now := current.get(plan.plan_id)) is not None:
                version = self._deciding.version_of(plan, now.version_id, bodies[now.version_id])
                around = self._deciding.circumstances_of(plan, version)
                moved = moves.get(plan.plan_id)
                flags[plan.plan_id] = (
                    plan.la_code, currency.flags(version, self._deciding.child_of(plan), around, today, moved, plan.la_code)
                )  # fmt: skip
        async with council_transaction(self._pool, self._councils) as connection:
            await store_events.write_flags(connection, flags)
        return plan_ids
