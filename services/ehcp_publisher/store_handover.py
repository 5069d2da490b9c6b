"""SQL of handovers: a recipient that moved to another subscriber, and the one that is to let go of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.ehcp_publisher.store import Wish


async def note(connection: Any, wishes: Sequence[Wish]) -> None:
    """Before the wishes are written: who has these shares now and will not have them then. Who has one again is no former."""
    moving = [wish for wish in wishes if wish.seq > 1]
    if not moving:
        return
    ids, subscribers = [wish.share_id for wish in moving], [wish.subscriber for wish in moving]
    await connection.execute(
        "DELETE FROM publisher.handover h USING unnest($1::uuid[], $2::text[]) AS t (share_id, subscriber)"
        " WHERE h.share_id = t.share_id AND h.subscriber = t.subscriber",
        ids, subscribers,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO publisher.handover AS h (share_id, subscriber, la_code)"
        " SELECT s.share_id, s.subscriber, s.la_code"
        " FROM publisher.share s JOIN unnest($1::uuid[], $2::text[]) AS t (share_id, subscriber) USING (share_id)"
        " WHERE s.subscriber IS NOT NULL AND s.subscriber IS DISTINCT FROM t.subscriber"
        " ON CONFLICT (share_id, subscriber) DO UPDATE SET seq = NULL, data = NULL, released_at = NULL, since = now()",
        ids, subscribers,
    )  # fmt: skip


async def lock_satisfied(connection: Any, limit: int) -> list[Any]:
    """Handovers whose share the new subscriber satisfies, with its newest instruction; other sweeps pass over them."""
    return list(
        await connection.fetch(
            """
            SELECT h.share_id, h.subscriber, h.la_code, s.seq, s.plan_id, i.data
            FROM publisher.handover h
            JOIN publisher.share s USING (share_id)
            JOIN publisher.instruction i ON i.share_id = s.share_id AND i.seq = s.seq
            JOIN audit.v_newest n ON n.share_id = h.share_id
            WHERE h.released_at IS NULL AND n.satisfied_seq >= s.seq ORDER BY h.since LIMIT $1 FOR UPDATE OF h SKIP LOCKED
            """,
            limit,
        )
    )


async def write_released(connection: Any, released: Sequence[tuple[UUID, str, int, bytes]], at: datetime) -> None:
    """(share, former subscriber, seq, instruction) of each."""
    await connection.execute(
        "UPDATE publisher.handover h SET seq = t.seq, data = t.data, released_at = $5"
        " FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bytea[]) AS t (share_id, subscriber, seq, data)"
        " WHERE h.share_id = t.share_id AND h.subscriber = t.subscriber",
        *[list(column) for column in zip(*released, strict=True)], at,
    )  # fmt: skip


async def list_released(connection: Any, subscriber: str, after: UUID | None, limit: int) -> list[Any]:
    """What this subscriber was told to let go, in order of ``share_id``: part of its list."""
    return list(
        await connection.fetch(
            "SELECT share_id, seq, data FROM publisher.handover WHERE subscriber = $1 AND released_at IS NOT NULL"
            " AND ($2::uuid IS NULL OR share_id > $2) ORDER BY share_id LIMIT $3",
            subscriber, after, limit,
        )
    )  # fmt: skip
