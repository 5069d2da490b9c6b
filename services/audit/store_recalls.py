"""SQL of recalls and breach packs: what the publisher's views say was recalled, and what receipts and acts say of each copy.

As everything in ``store``: over a connection of a council transaction, so that each council sees its own recalls.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson

from services.audit.store import Connection
from services.shared.postgres.pool import Row

_COPIES = """
    SELECT c.recall_id, c.share_id, c.subscriber, c.seq, c.things, c.asked_at, c.due_at, s.recipient_name, s.recipient_kind,
           s.channel, s.subscriber IS DISTINCT FROM c.subscriber AS former, k.hosted_by, k.receipt_key::text AS receipt_key,
           audit.proof_of_removal(c.share_id, c.subscriber, c.seq, c.things) AS proof,
           s.action = 'hold' AND s.version_id = ANY (c.things) AND s.subscriber = c.subscriber AS wanted
    FROM publisher.v_recalled_copy c
    JOIN publisher.v_share s USING (share_id)
    JOIN publisher.v_subscriber k ON k.subscriber = c.subscriber
"""
_RECALLS = f"""
    SELECT r.recall_id, r.la_code, r.plan_id, r.case_reference, r.reason, r.thing_id, r.version, r.notice, r.recorded_by,
           r.recorded_at, r.aware_at, k.name AS council, now() AS now, c.copies, c.outstanding
    FROM publisher.v_recall r
    JOIN publisher.v_council k USING (la_code)
    CROSS JOIN LATERAL (
        SELECT count(*) AS copies, count(*) FILTER (WHERE proof IS NULL AND NOT wanted) AS outstanding
        FROM ({_COPIES} WHERE c.recall_id = r.recall_id) copies
    ) c
"""


async def list_recalls(connection: Connection, after: UUID, limit: int, plan_id: UUID | None, *, open_only: bool) -> list[Row]:
    """A page of the councils' recalls in order of ``recall_id``, which is that of their time; how each stands."""
    rows = await connection.fetch(
        f"{_RECALLS} WHERE r.recall_id > $1 AND ($3::uuid IS NULL OR r.plan_id = $3) AND (NOT $4 OR c.outstanding > 0)"
        " ORDER BY r.recall_id LIMIT $2",
        after, limit, plan_id, open_only,
    )  # fmt: skip
    return [dict(row) for row in rows]


async def read_recall(connection: Connection, recall_id: UUID) -> Row | None:
    row = await connection.fetchrow(f"{_RECALLS} WHERE r.recall_id = $1", recall_id)
    return dict(row) if row else None


async def read_copies(connection: Connection, recall_id: UUID) -> list[Row]:
    rows = await connection.fetch(
        f"{_COPIES} WHERE c.recall_id = $1 ORDER BY s.recipient_name, c.share_id, c.subscriber", recall_id
    )
    return [dict(row) for row in rows]


async def read_told(connection: Connection, share_ids: Sequence[UUID], things: Sequence[UUID]) -> list[Row]:
    """What these shares were told to hold of these versions or notices, in the order in which they were told."""
    rows = await connection.fetch(
        "SELECT share_id, seq, thing_id, version, issued_on, notice, requested_at, sha256, sections, recipient, whole"
        " FROM publisher.v_told WHERE share_id = ANY($1) AND thing_id = ANY($2) ORDER BY share_id, seq",
        list(share_ids), list(things),
    )  # fmt: skip
    return [dict(row) for row in rows]


async def read_fetched(connection: Connection, share_ids: Sequence[UUID], things: Sequence[UUID]) -> list[Row]:
    """The reads of these versions or notices by these shares' subscribers, as the ledger has them."""
    rows = await connection.fetch(
        "SELECT share_id, version_id, at, actor, details->>'subscriber' AS subscriber FROM audit.pending"
        " WHERE act = 'read' AND share_id = ANY($1) AND version_id = ANY($2) ORDER BY id",
        list(share_ids), list(things),
    )  # fmt: skip
    return [dict(row) for row in rows]


async def read_receipts(connection: Connection, share_ids: Sequence[UUID]) -> list[Row]:
    """What was ever said of these shares, by whichever subscriber, in order of number; repeats that say nothing new left out:
    of each failure, delay and supersession of one instruction the newest, and the first that says what was removed, which is
    the proof of it."""
    rows = await connection.fetch(
        """
        WITH said AS (
            SELECT share_id, subscriber, number, seq, status, at, signed, received_at, removed FROM audit.receipt
            WHERE share_id = ANY($1)
            UNION ALL
            SELECT share_id, subscriber, number, seq, status, at, signed, received_at, removed FROM audit.former_receipt
            WHERE share_id = ANY($1)
        )
        SELECT * FROM said WHERE status NOT IN ('failed', 'waiting', 'superseded')
        UNION
        (SELECT DISTINCT ON (share_id, subscriber, seq, status) * FROM said
         WHERE status IN ('failed', 'waiting', 'superseded') ORDER BY share_id, subscriber, seq, status, number DESC)
        UNION
        (SELECT DISTINCT ON (share_id, subscriber, seq, removed) * FROM said
         WHERE removed <> '{}' ORDER BY share_id, subscriber, seq, removed, number)
        ORDER BY share_id, number
        """,
        list(share_ids),
    )
    return [dict(row) for row in rows]


async def write_act(connection: Connection, act: str, actor: str, la_code: str, plan_id: UUID | None, details: Any) -> None:
    """A look at recalls, in the ledger of the council whose they are."""
    await connection.execute(
        "INSERT INTO audit.pending (act, actor, la_code, plan_id, details) VALUES ($1, $2, $3, $4, $5)",
        act, actor, la_code, plan_id, details,
    )  # fmt: skip


def key_of(row: Any) -> dict[str, Any]:
    """A copy's subscriber's public key."""
    key: dict[str, Any] = orjson.loads(row["receipt_key"])
    return key
