"""SQL of the HTTPS feed at the subscriber."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID


async def unanswered(connection: Any, share_ids: Sequence[UUID]) -> list[Any]:
    """Of these deliveries those whose newest instruction has no receipt of ours yet. Their rows are locked by the caller."""
    return list(
        await connection.fetch(
            "SELECT d.share_id, d.seq, (d.instruction->>'version_id')::uuid AS version_id FROM delivery.delivery d"
            " WHERE d.share_id = ANY($1)"
            " AND NOT EXISTS (SELECT FROM delivery.receipt r WHERE r.share_id = d.share_id AND r.seq = d.seq)",
            list(share_ids),
        )
    )


async def outbox_is_empty(connection: Any) -> bool:
    empty: bool = await connection.fetchval("SELECT NOT EXISTS (SELECT FROM delivery.outbox WHERE refused IS NULL)")
    return empty
