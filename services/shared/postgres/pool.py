"""Connections to PostgreSQL, and the list of councils that a transaction may touch.

Row-level security compares every row's ``la_code`` with ``ehcp.councils``, set for one transaction only, so a pooled
connection never carries one caller's reach to the next.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson

from services.shared.json import dumps

PLANNED_FOR_FULL_TABLES = {"enable_seqscan": "off", "jit": "off"}
"""A service prepares its statements once, mostly while its tables are empty, and PostgreSQL keeps their plans until it has
analysed the table: in a first load each claim read the whole table (measured: half of the server's time at 9,000 plans). What
grows is always looked up through an index; a table without one is still read whole. As the costs then say "never", such a
statement would be compiled, hence no JIT."""


async def _prepare(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + (value if isinstance(value, bytes) else dumps(value)),
        decoder=lambda data: orjson.loads(data[1:]),
    )


async def _keep(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Between two users of a pooled connection nothing is reset: settings, locks and cursors here live in transactions only.

    The default is a round trip to the server after each use.
    """


async def open_pool(database_url: str, *, min_size: int = 1, max_size: int = 8) -> "asyncpg.Pool[asyncpg.Record]":
    """Raises ``OSError`` or ``asyncpg.PostgresError`` when the server cannot be reached or refuses the account."""
    pool: asyncpg.Pool[asyncpg.Record] = await asyncpg.create_pool(
        database_url,
        min_size=min_size,
        max_size=max_size,
        init=_prepare,
        reset=_keep,
        command_timeout=60,
        server_settings={"timezone": "UTC", "idle_in_transaction_session_timeout": "60s", **PLANNED_FOR_FULL_TABLES},
    )
    return pool


@asynccontextmanager
async def council_transaction(
    pool: "asyncpg.Pool[asyncpg.Record]", councils: Iterable[str]
) -> AsyncIterator["asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"]:
    """A transaction that sees the rows of these councils and of no other."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config('ehcp.councils', $1, true)", ",".join(sorted(set(councils))))
        yield connection


AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that the server has just ended, used before the end of it was read
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    TimeoutError,
)


def transient(error: BaseException) -> bool:
    """Whether the same call may succeed once the server is back: connection lost, server starting or stopping."""
    # asyncpg refuses a value that PostgreSQL cannot hold with an InterfaceError too; no retry mends that.
    return isinstance(error, AWAY) and not isinstance(error, ValueError)


Row = dict[str, Any]
