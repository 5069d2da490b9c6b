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
    """Handovers whose share the new subscriber satisfies, with its newest instruction; other sweeps pass over them.

    ``remove``: what the former one was asked to remove while it was the recipient's, and has not proved to be gone.
    """
    return list(
        await connection.fetch(
            """
            SELECT h.share_id, h.subscriber, h.la_code, s.seq, s.plan_id, i.data, i.due_at, ARRAY(
                SELECT DISTINCT thing FROM publisher.recalled_copy c, unnest(c.things) AS thing
                WHERE c.share_id = h.share_id AND c.subscriber = h.subscriber
                AND audit.proof_of_removal(c.share_id, c.subscriber, c.seq, c.things) IS NULL ORDER BY thing
            ) AS remove
            FROM publisher.handover h
            JOIN publisher.share s USING (share_id)
            JOIN publisher.instruction i ON i.share_id = s.share_id AND i.seq = s.seq
            JOIN audit.v_newest n ON n.share_id = h.share_id
            WHERE h.released_at IS NULL AND n.satisfied_seq >= s.seq ORDER BY h.since LIMIT $1 FOR UPDATE OF h SKIP LOCKED
            """,
            limit,
        )
    )


async def write_told(connection: Any, told: Sequence[tuple[UUID, str, int, str, bytes]], at: datetime) -> None:
    """(share, former subscriber, seq, type, instruction) of each: what it is told from now on; it stays on its list."""
    await connection.execute(
        "UPDATE publisher.handover h SET seq = t.seq, type = t.type, data = t.data, released_at = $6"
        " FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::bytea[])"
        " AS t (share_id, subscriber, seq, type, data) WHERE h.share_id = t.share_id AND h.subscriber = t.subscriber",
        *([each[place] for each in told] for place in range(5)), at,
    )  # fmt: skip


async def list_told(connection: Any, subscriber: str, after: UUID | None, limit: int, *, unanswered: bool) -> list[Any]:
    """What this subscriber was told as a former one, in order of ``share_id``: part of its list. ``unanswered``: only what it
    is to remove and has not proved to be gone; nobody waits for an answer to the rest."""
    open_only = (
        " AND type = 'ehcp.share.recalled.v1' AND EXISTS (SELECT FROM publisher.recalled_copy c"
        " WHERE c.share_id = h.share_id AND c.subscriber = h.subscriber"
        " AND audit.proof_of_removal(c.share_id, c.subscriber, c.seq, c.things) IS NULL)"
    )
    return list(
        await connection.fetch(
            "SELECT share_id, seq, la_code, type, data, released_at AS requested_at FROM publisher.handover h"
            " WHERE subscriber = $1 AND released_at IS NOT NULL AND ($2::uuid IS NULL OR share_id > $2)"
            f"{open_only if unanswered else ''} ORDER BY share_id LIMIT $3",
            subscriber, after, limit,
        )
    )  # fmt: skip
