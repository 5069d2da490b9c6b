"""SQL of the feed: the instructions of one subscriber that no receipt has answered."""

from collections.abc import Sequence
from typing import Any


async def take_told_again(connection: Any, subscriber: str, limit: int) -> Sequence[Any]:
    """Those that a person sent again; each is told once, and who missed that answer is told by whoever sends it again."""
    rows: Sequence[Any] = await connection.fetch(
        """
        WITH told AS (
            DELETE FROM publisher.told_again WHERE share_id = ANY(ARRAY(
                SELECT share_id FROM publisher.told_again WHERE subscriber = $1 ORDER BY share_id LIMIT $2
                FOR UPDATE SKIP LOCKED))
            RETURNING share_id, job_id
        )
        SELECT s.share_id, s.seq, s.la_code, i.type, i.data, i.requested_at, told.job_id
        FROM told JOIN publisher.share s USING (share_id)
        JOIN publisher.instruction i ON i.share_id = s.share_id AND i.seq = s.seq
        WHERE s.subscriber = $1 ORDER BY s.share_id
        """,
        subscriber, limit,
    )  # fmt: skip
    return rows


async def unanswered(connection: Any, subscriber: str, limit: int) -> Sequence[Any]:
    """In order of ``share_id``, at most ``limit``. A receipt that answers takes its instruction off; nothing else does.

    From ``unsatisfied``: what is open, not what exists. A share that was answered and waits for a person is open for weeks,
    and is no instruction to be told again.
    """
    rows: Sequence[Any] = await connection.fetch(
        """
        SELECT s.share_id, s.seq, s.la_code, i.type, i.data, i.requested_at
        FROM publisher.unsatisfied u
        JOIN publisher.share s USING (share_id)
        JOIN publisher.instruction i ON i.share_id = s.share_id AND i.seq = s.seq
        LEFT JOIN audit.v_newest n ON n.share_id = s.share_id
        WHERE s.subscriber = $1 AND (n.seq IS NULL OR n.seq < s.seq)
        ORDER BY s.share_id LIMIT $2
        """,
        subscriber, limit,
    )  # fmt: skip
    return rows
