"""Every night: what a person should look at in each plan in force, judged anew, since most of it comes with time alone.

Pages through all plans, a few at a time and with a pause between, so that a whole nation's are done by morning and nothing else
waits. Invariant: how far it came is kept with what it wrote, so a restart goes on there; what changed a plan meanwhile has
judged it itself, and is not overwritten; a plan that cannot be opened keeps no other from being judged. Flags go to
``publisher.flag``; what they say is ``currency``'s.
"""

import asyncio
from collections.abc import Sequence
from datetime import date
from uuid import UUID

import asyncpg
import structlog

from services.ehcp_publisher import currency, store, store_events, versions
from services.ehcp_publisher.deciding import Deciding
from services.ehcp_publisher.store import KnownPlan
from services.shared.postgres.pool import council_transaction
from services.shared.sealing.sealing import SealError

log = structlog.get_logger()
PAGE = 50
_Judged = dict[UUID, tuple[str, Sequence[currency.Flag]]]


class Nightly:
    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", deciding: Deciding, councils: Sequence[str]) -> None:
        self._pool = pool
        self._deciding = deciding
        self._councils = list(councils)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.01 if await self.step() else 60)

    async def step(self) -> bool:
        """The next page of this day's; False when the day is done."""
        today = self._deciding.today()
        async with council_transaction(self._pool, self._councils) as connection:
            night = await store_events.read_night(connection)
            if night and night["judged_on"] == today and night["done"]:
                return False
            after = night["after"] if night and night["judged_on"] == today else None
            plan_ids = await store_events.page_of_plans(connection, after, PAGE)
            plans = await store.find_plans(connection, plan_ids, [])
            current = {plan.plan_id: now for plan in plans if (now := versions.current(plan.versions))}
            bodies = await store.read_bodies(connection, [now.version_id for now in current.values()])
            moves = await store_events.last_moves(connection, plan_ids)
        judged: _Judged = {}
        for plan in plans:
            await asyncio.sleep(0)
            if (now := current.get(plan.plan_id)) is None:
                continue
            try:
                judged[plan.plan_id] = self._judge(plan, now, bodies[now.version_id], moves.get(plan.plan_id), today)
            except (SealError, ValueError):
                log.error("plan_not_judged", plan_id=str(plan.plan_id), reason="what is stored of it cannot be opened")
        await self._write(plans, judged, today, plan_ids[-1] if plan_ids else None)
        if not plan_ids:
            log.info("flags_judged", on=str(today))
        return bool(plan_ids)

    def _judge(
        self, plan: KnownPlan, now: versions.Issued, body: bytes, moved: date | None, today: date
    ) -> tuple[str, Sequence[currency.Flag]]:
        version = self._deciding.version_of(plan, now.version_id, body)
        around = self._deciding.circumstances_of(plan, version)
        return plan.la_code, currency.flags(version, self._deciding.child_of(plan), around, today, moved, plan.la_code)

    async def _write(self, plans: Sequence[KnownPlan], judged: _Judged, today: date, after: UUID | None) -> None:
        async with council_transaction(self._pool, self._councils) as connection:
            locked = await store.lock_plans(connection, [plan.plan_id for plan in plans])
            as_judged = {plan.plan_id for plan in plans if locked.get(plan.plan_id) == plan}
            await store_events.write_flags(connection, {key: each for key, each in judged.items() if key in as_judged})
            # Two that came in at once did not see each other.
            await store_events.look_for_same_child(connection, list(locked))
            await store_events.save_night(connection, today, after)
