"""SQL of coverage: the shares of the transaction's councils, counted in the database."""

from typing import Any

import asyncpg

from services.audit.store import Connection

_SHARES = """
    SELECT recipient_kind, satisfied, count(*) AS shares,
           CASE WHEN told IN ('filed', 'opened', 'collected', 'sent') THEN told
                -- A newer word that proves nothing takes nothing back: what was proved before it counts.
                WHEN satisfied THEN coalesce(held_status, 'waiting')
                WHEN told IN ('failed', 'refused', 'superseded') THEN told
                WHEN told = 'conflict' THEN 'failed'
                WHEN subscriber IS NULL THEN 'undeliverable'
                ELSE 'waiting' END AS proof
    FROM (
        SELECT s.recipient_kind, s.subscriber, n.held_status, coalesce(n.satisfied_seq, 0) >= s.seq AS satisfied,
               CASE WHEN n.seq = s.seq THEN n.status END AS told
        FROM publisher.v_share s LEFT JOIN audit.newest n ON n.share_id = s.share_id
        WHERE s.action = 'hold' AND s.notice IS NULL AND ($1::text IS NULL OR s.recipient_kind = $1)
    ) s GROUP BY recipient_kind, satisfied, proof
"""


async def count_shares(connection: Connection, kind: str | None) -> list[asyncpg.Record]:
    """Shares of plans that are to be held, by kind of recipient, proof of the version wanted, and whether that satisfies."""
    rows: list[asyncpg.Record] = await connection.fetch(_SHARES, kind)
    return rows


async def count_beside(connection: Connection) -> dict[str, Any]:
    row = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM publisher.v_plan WHERE state IN ('live', 'ceasing')) AS plans,"
        " count(*) AS share_gaps, count(DISTINCT plan_id) AS plans_with_gaps FROM publisher.v_gap"
    )
    assert row is not None
    return dict(row)
