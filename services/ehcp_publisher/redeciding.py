"""Decide queued plans again: after a change of policy or directory, and when a day comes on which the wish may differ.

Invariant: a plan leaves the queue in the transaction that writes what differs for it; ``seq`` rises only there. A plan that
cannot be decided holds up no other: it is tried again later and later, and at once when something changes for it. From the
second failure on that is one of its flags, since a person must act.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from services.ehcp_publisher import store, store_directory, store_events, versions
from services.ehcp_publisher.deciding import Batch, Deciding, RenderingNeededError, Situation
from services.ehcp_publisher.rendering import RenderingError
from services.ehcp_publisher.store import KnownPlan
from services.shared.postgres.pool import council_transaction, transient

log = structlog.get_logger()
BATCH = 100
ACTOR = "redeciding"
CANNOT_BE_TYPESET = (
    "Some recipients do not get what they should: no document can be made of the sections for them. Issue the version again "
    "with shorter sections."
)
FAILED = "Some recipients may not get what they should: deciding again fails. The publisher's log says why."


class Redeciding:
    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", deciding: Deciding, councils: Sequence[str]) -> None:
        self._pool = pool
        self._deciding = deciding
        self._councils = list(councils)
        self._dated: date | None = None

    async def run(self) -> None:
        while True:
            if not await self.step():
                await asyncio.sleep(1)

    async def step(self) -> int:
        """One batch; returns how many plans were looked at."""
        today = self._deciding.today()
        async with council_transaction(self._pool, self._councils) as connection:
            if today != self._dated:
                await store_events.queue_dated(connection, today)
                self._dated = today
            plan_ids = await store_events.next_queued(connection, BATCH)
        if plan_ids:
            await self._decide(plan_ids)
        return len(plan_ids)

    async def _decide(self, plan_ids: Sequence[UUID]) -> None:
        try:
            try:
                raised = await self._write(plan_ids)
            except RenderingNeededError as needed:
                await self._render(needed.sections)
                return
        except Exception as error:
            if transient(error):
                raise
            if len(plan_ids) > 1:
                for plan_id in plan_ids:
                    await self._decide([plan_id])
                return
            log.exception("redeciding_failed", plan_id=str(plan_ids[0]))
            why = CANNOT_BE_TYPESET if isinstance(error, RenderingError) else FAILED
            async with council_transaction(self._pool, self._councils) as connection:
                await store_events.put_off(connection, plan_ids[0], why)
        else:
            log.info("decided_again", plans=len(plan_ids), shares=raised)

    async def _write(self, plan_ids: Sequence[UUID]) -> int:
        async with council_transaction(self._pool, self._councils) as connection:
            await store_directory.refresh(connection, self._deciding.directory)
            plans = await store.lock_plans(connection, plan_ids)
            situations = await self._situations(connection, list(plans.values()))
            at = await connection.fetchval("SELECT clock_timestamp()")
            batch = Batch()
            await self._deciding.again(connection, ACTOR, situations, at, batch)
            await batch.write(connection)
            await store_events.leave_queue(connection, plan_ids)
        return len(batch.wishes)

    async def _situations(self, connection: Any, plans: Sequence[KnownPlan]) -> list[Situation]:
        """The text is read only of plans to which nothing happened since their version: it says who is around the child."""
        deciding, said = self._deciding, {}
        for plan in plans:
            if plan.circumstances is None and (now := versions.current(plan.versions)):
                said[plan.plan_id] = now.version_id
        bodies = await store.read_bodies(connection, list(said.values()))
        situations = []
        for plan in plans:
            version_id = said.get(plan.plan_id)
            version = deciding.version_of(plan, version_id, bodies[version_id]) if version_id else None
            around = deciding.circumstances_of(plan, version)
            situations.append(Situation(plan, deciding.child_of(plan), around, deciding.key_of(plan)))
        return situations

    async def _render(self, needed: Mapping[UUID, frozenset[str]]) -> None:
        """The parts that these plans' recipients are to get, before the batch is tried again."""
        async with council_transaction(self._pool, self._councils) as connection:
            plans = await store.find_plans(connection, list(needed), [])
        for plan in plans:
            now = versions.current(plan.versions)
            if now is None:
                continue
            made = await self._deciding.render_again(self._pool, plan, now, needed[plan.plan_id])
            async with council_transaction(self._pool, self._councils) as connection:
                await store.insert_renderings(connection, made)
