"""What a council sees of its own plans: lists by page, one plan with its history, and what is open about them.

Every look is an act in the ledger of the councils that were looked at. No child's name, no text of a plan: the case reference
says which plan it is to those who may know.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from schemas.lifecycle import Objection
from services.ehcp_publisher import store, store_events, versions
from services.ehcp_publisher.deciding import Deciding
from services.ehcp_publisher.store import Act, KnownPlan
from services.shared.identity.tokens import Caller
from services.shared.postgres.pool import Row, council_transaction
from services.shared.sealing.sealing import SealError
from services.shared.web.problems import Problem

log = structlog.get_logger()


class Overview:
    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", deciding: Deciding) -> None:
        self._pool = pool
        self._deciding = deciding

    async def plans(
        self, caller: Caller, after: UUID | None, limit: int, plan_id: UUID | None = None, case_reference: str | None = None
    ) -> list[Row]:
        async with council_transaction(self._pool, caller.la_codes) as connection:
            rows = await store_events.list_plans(connection, after, limit, plan_id, case_reference)
            plans = {each.plan_id: each for each in await store.find_plans(connection, [row["plan_id"] for row in rows], [])}
            current = {key: now for key, each in plans.items() if (now := versions.current(each.versions))}
            version_ids = [now.version_id for now in current.values()]
            documents = await store_events.has_document(connection, version_ids)
            bodies = await store.read_bodies(connection, version_ids)
            councils = sorted({row["la_code"] for row in rows})
            await store.insert_acts(connection, [Act("plans_read", caller.client_id, each, plan_id) for each in councils])
        for row in rows:
            now = current.get(row["plan_id"])
            row["flag_count"] = row["flags"]
            row["current"] = now and {
                "version_id": now.version_id, "version": now.number, "issued_on": now.issued_on,
                "document": now.version_id in documents,
            }  # fmt: skip
            row["settings"] = self._settings(plans[row["plan_id"]], now, bodies)
        return rows

    async def transferred(self, caller: Caller) -> list[Row]:
        """Its case system may go on naming them; no child is named here, so it is no act."""
        async with council_transaction(self._pool, caller.la_codes) as connection:
            return await store_events.list_transferred(connection, sorted(caller.la_codes))

    def _settings(self, plan: KnownPlan, now: versions.Issued | None, bodies: dict[UUID, bytes]) -> list[Row]:
        try:
            version = self._deciding.version_of(plan, now.version_id, bodies[now.version_id]) if now else None
            placements = self._deciding.circumstances_of(plan, version).placements
        except (SealError, ValueError):
            # The other plans of the page are to be seen all the same.
            log.error("plan_not_shown", plan_id=str(plan.plan_id), reason="what is stored of it cannot be opened")
            return []
        return [
            {"scheme": each.setting.scheme, "value": each.setting.value, "from": each.from_, "until": each.until}
            for each in placements
            if each.setting
        ]

    async def plan(self, caller: Caller, plan_id: UUID) -> Row:
        found = await self.plans(caller, None, 1, plan_id)
        async with council_transaction(self._pool, caller.la_codes) as connection:
            if not found:
                raise await no_such_plan(connection, plan_id)
            history = await store_events.read_history(connection, plan_id)
            sealed = await store_events.read_objections(connection, plan_id)
            plans = await store.find_plans(connection, [plan_id], []) if sealed else []
        return found[0] | history | {"objections": [self._objection(plan, row) for plan in plans for row in sealed]}

    def _objection(self, plan: KnownPlan, row: Row) -> Row:
        opened = self._deciding.key_of(plan).open(row["data"], f"event:{plan.plan_id}:{row['revision']}")
        said = Objection.model_validate_json(opened)
        return {
            "from_reference": said.from_reference, "scheme": said.about and said.about.scheme,
            "value": said.about and said.about.value, "received_on": said.received_on, "text": said.text, "by": said.by,
        }  # fmt: skip

    async def open(self, caller: Caller, what: str, after: tuple[UUID, str] | None, limit: int) -> Sequence[Row]:
        async with council_transaction(self._pool, caller.la_codes) as connection:
            rows = await store_events.list_open(connection, what, after, limit)
            councils = sorted({row["la_code"] for row in rows})
            await store.insert_acts(connection, [Act(f"{what}_read", caller.client_id, each) for each in councils])
        return rows


async def no_such_plan(connection: Any, plan_id: UUID) -> Problem:
    """What to answer for a plan that is none of the transaction's councils, or is theirs no more."""
    if moved := await store_events.find_custody(connection, plan_id):
        return Problem(
            409, "transferred", "The plan was transferred",
            f"Another council has had it since {moved['until_date']}; only that one may act for it.",
        )  # fmt: skip
    return Problem(404, "unknown-plan", "There is no such plan", "No plan of your council has this id.")
