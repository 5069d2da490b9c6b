"""Post what a transaction left in an ``outbox`` table to audit over HTTPS, where no Kafka reaches; delete it once it was taken.

The same invariants as the Kafka relay (``relay.py``): one active relay per table, rows in order of ``id``, at least once. A row
that audit refuses goes aside with its reason and stops no other; while audit is away everything waits.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import httpx2
import orjson
import structlog

from services.shared.postgres.pool import PLANNED_FOR_FULL_TABLES
from services.shared.waking import woken
from services.shared.web import event_batch

log = structlog.get_logger()

_BYTES = 512 * 1024
"""In one request, but for a row that is larger by itself."""


class NotTakenError(ConnectionError):
    """Audit did not answer, or not with what it promised. Nothing is lost, the rows stay."""


class HttpsRelay:
    """``table`` as for the Kafka relay. ``headers`` gives those of a valid token."""

    def __init__(
        self,
        database_url: str,
        table: str,
        http: httpx2.AsyncClient,
        url: str,
        headers: Callable[[], Awaitable[dict[str, str]]],
    ) -> None:
        self._database_url = database_url
        self._table = table
        self._http = http
        self._url = url.rstrip("/") + "/v1/receipts"
        self._headers = headers
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled; raises when PostgreSQL or audit fails, to be started again."""
        connection = await asyncpg.connect(self._database_url, server_settings=PLANNED_FOR_FULL_TABLES)
        try:
            while not await connection.fetchval("SELECT pg_try_advisory_lock(hashtext($1))", f"relay:{self._table}"):
                await asyncio.sleep(1)
            await connection.add_listener("outbox", lambda *_: self._wake.set())
            while True:
                self._wake.clear()
                if not await self._post_batch(connection):
                    await woken(self._wake, 1)
        finally:
            connection.terminate()

    async def _post_batch(self, connection: "asyncpg.Connection[Any]") -> int:
        rows = await connection.fetch(
            f"SELECT id, key, headers::text, value FROM {self._table} WHERE refused IS NULL ORDER BY id LIMIT $1",
            event_batch.MAX_EVENTS,
        )
        rows = _fitting(rows)
        if rows:
            refused = await self._post([event_batch.event(r["key"], orjson.loads(r["headers"]), r["value"]) for r in rows])
            taken = [row["id"] for position, row in enumerate(rows) if position not in refused]
            async with connection.transaction():
                await connection.execute(f"DELETE FROM {self._table} WHERE id = ANY($1)", taken)
                for position, reason in refused.items():
                    log.error("outbox_row_refused", table=self._table, row=rows[position]["id"], reason=reason)
                    await connection.execute(
                        f"UPDATE {self._table} SET refused = $2 WHERE id = $1", rows[position]["id"], reason
                    )
        return len(rows)

    async def _post(self, events: list[dict[str, Any]]) -> dict[int, str]:
        """The reasons of those that were refused, by position. Raises :class:`NotTakenError`."""
        try:
            headers = await self._headers() | {"content-type": event_batch.CONTENT_TYPE}
            answer = await self._http.post(self._url, content=event_batch.write(events), headers=headers)
        except httpx2.HTTPError as error:
            raise NotTakenError(f"audit cannot be reached ({type(error).__name__})") from None
        except Exception as error:
            raise NotTakenError(f"no token for audit ({type(error).__name__})") from None
        if answer.status_code != 200:
            raise NotTakenError(f"audit answered {answer.status_code}")
        try:
            return {int(each["position"]): str(each["reason"]) for each in orjson.loads(answer.content)["refused"]}
        except (ValueError, TypeError, KeyError):
            raise NotTakenError("audit's answer cannot be read") from None


def _fitting(rows: list[Any]) -> list[Any]:
    """As many from the first as one request takes, at least one."""
    size = 0
    for count, row in enumerate(rows):
        size += len(row["value"])
        if count and size > _BYTES:
            return rows[:count]
    return rows
