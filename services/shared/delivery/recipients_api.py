"""Recipients over HTTP, for the operator of the subscriber that serves them: see how they stand, pause one, resume it.

Paused means that nothing new is put into the recipient's record: its shares stay wanted, show who paused them and why, and
are missed when their time is over. What must be removed is removed all the same.
"""

from collections.abc import Callable
from typing import Annotated, Any

import asyncpg
import structlog
from fastapi import APIRouter, Depends, Path

from schemas.recipients import Pause, Paused, PauseRecord, Recipients, RecipientState, Resumed
from services.shared.dead_letters.api import Operator
from services.shared.delivery import store_pauses
from services.shared.record_systems.systems import Systems
from services.shared.web.problems import Problem

log = structlog.get_logger()


def make_recipients_router(
    pool: "asyncpg.Pool[asyncpg.Record]", systems: Systems, wake: Callable[[], None], operator: Operator
) -> APIRouter:
    """``wake`` the dispatcher: what is due has changed."""
    router = APIRouter(prefix="/v1/recipients")
    OperatorOf = Annotated[str, Depends(operator)]
    Code = Annotated[
        str,
        Path(
            pattern=r"^(?:[a-z_]{1,40}/)?[a-z_]{1,20}:[A-Za-z0-9._-]{1,100}$",
            description="`ods:RNA`; who shares an organisation's code has its kind before it: `camhs/ods:RNA`",
        ),
    ]

    @router.get("", summary="Everyone whom this subscriber delivers to, and how their deliveries stand")
    async def recipients(_: OperatorOf) -> Recipients:
        async with pool.acquire() as connection:
            rows = await store_pauses.recipients(connection)
            pauses = {row["recipient"]: _pause(row) for row in await store_pauses.paused(connection)}
        return Recipients(
            recipients=tuple(
                RecipientState(
                    **{name: value for name, value in row.items() if name != "lane"}, record_system=row["lane"],
                    per_minute=systems.per_minute(row["lane"]), pause=pauses.get(row["recipient"]),
                )
                for row in rows
            )
        )  # fmt: skip

    @router.put("/{code:path}/pause", summary="Put nothing into this recipient's record until it is resumed")
    async def pause(code: Code, record: PauseRecord, _: OperatorOf) -> Paused:
        async with pool.acquire() as connection, connection.transaction():
            await _check(connection, systems, code)
            row = await store_pauses.pause(connection, code, record.reason, record.by, systems.lanes())
        wake()
        if not row["was_paused"]:
            log.warning("recipient_paused", recipient=code)
        return Paused(**dict(row))

    @router.delete("/{code:path}/pause", summary="Deliver to this recipient again")
    async def resume(code: Code, _: OperatorOf) -> Resumed:
        async with pool.acquire() as connection, connection.transaction():
            deliveries = await store_pauses.resume(connection, code)
        wake()
        if deliveries is not None:
            log.info("recipient_resumed", recipient=code, deliveries=deliveries)
        return Resumed(recipient=code, was_paused=deliveries is not None, deliveries=deliveries or 0)

    return router


async def _check(connection: Any, systems: Systems, code: str) -> None:
    """Raises :class:`Problem` where a pause would do nothing: a wrong code would be found out too late."""
    lane = systems.lane_of(code)
    if lane is not None and systems.is_manual(lane):
        raise Problem(
            409, "by-hand", "Nothing is sent to this recipient by itself", "People deliver to it: tell them to wait instead."
        )
    if not systems.names(code) and not await store_pauses.is_known(connection, code):
        raise Problem(
            404, "no-recipient", "This subscriber does not deliver to such a recipient",
            "Take it from the list of its recipients, for example ods:RNA or camhs/ods:RNA.",
        )  # fmt: skip


def _pause(row: Any) -> Pause:
    return Pause(**dict(row))
