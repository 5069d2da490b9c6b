"""SQL of dead letters. ``table`` is the schema's own: ``audit.dead_letter`` or ``delivery.dead_letter``.

Invariant: a letter is never deleted and its record never changes; it is closed once, as replayed or as dismissed, by somebody.
"""

from collections.abc import Sequence
from typing import Any

_SHOWN = 'id, topic, partition, "offset", headers, reason, at, owner, closed_at, closed_by, closed_as'


async def page(connection: Any, table: str, after: int, limit: int, *, still_open: bool) -> list[Any]:
    """In order of ``id``."""
    only_open = " AND closed_at IS NULL" if still_open else ""
    return list(
        await connection.fetch(f"SELECT {_SHOWN} FROM {table} WHERE id > $1{only_open} ORDER BY id LIMIT $2", after, limit)
    )


async def one(connection: Any, table: str, letter: int) -> Any:
    return await connection.fetchrow(f"SELECT {_SHOWN}, key, value FROM {table} WHERE id = $1", letter)


async def open_letters(
    connection: Any, table: str, ids: Sequence[int] | None, topic: str | None, after: int, limit: int
) -> list[Any]:
    """With their records: those of ``ids``, of ``topic``, or of both."""
    return list(
        await connection.fetch(
            f'SELECT id, topic, partition, "offset", key, value, headers FROM {table}'
            " WHERE closed_at IS NULL AND id > $3 AND ($1::bigint[] IS NULL OR id = ANY($1))"
            " AND ($2::text IS NULL OR topic = $2) ORDER BY id LIMIT $4",
            list(ids) if ids is not None else None, topic, after, limit,
        )
    )  # fmt: skip


async def close(connection: Any, table: str, ids: Sequence[int], closed_as: str, by: str) -> list[int]:
    """Those that were still open."""
    rows = await connection.fetch(
        f"UPDATE {table} SET closed_at = now(), closed_as = $2, closed_by = $3 WHERE id = ANY($1) AND closed_at IS NULL"
        " RETURNING id",
        list(ids), closed_as, by,
    )  # fmt: skip
    return sorted(row["id"] for row in rows)


async def set_owner(connection: Any, table: str, letter: int, owner: str | None) -> Any:
    """Who looks after it. None when there is no such letter."""
    return await connection.fetchrow(f"UPDATE {table} SET owner = $2 WHERE id = $1 RETURNING {_SHOWN}", letter, owner)
