"""SQL of recalls and breach packs: what the publisher's views say was recalled, and what receipts and acts say of each copy.

As everything in ``store``: over a connection of a council transaction, so that each council sees its own recalls.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from services.audit.store import Connection
from services.shared.postgres.pool import Row

_COPIES = """
    SELECT c.recall_id, c.share_id, c.subscriber, c.seq, c.things, c.asked_at, c.due_at, s.recipient_name, s.recipient_kind,
           s.channel, s.subscriber IS DISTINCT FROM c.subscriber AS former, k.hosted_by, k.receipt_key,
           audit.proof_of_removal(c.share_id, c.subscriber, c.seq, c.things) AS proof,
           s.action = 'hold' AND s.version_id = ANY (c.things) AND s.subscriber IS NOT DISTINCT FROM c.subscriber AS wanted
    FROM publisher.v_recalled_copy c
    JOIN publisher.v_share s USING (share_id)
    JOIN publisher.v_subscriber k ON k.subscriber = c.subscriber
"""
_RECALLS = f"""
    SELECT r.recall_id, r.la_code, r.plan_id, r.case_reference, r.reason, r.thing_id, r.version, r.notice, r.recorded_by,
           r.recorded_at, r.aware_at, r.words, k.name AS council, now() AS now, c.copies, c.outstanding
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
        "SELECT share_id, seq, thing_id, version, issued_on, notice, requested_at, sha256, sections, recipient, whole, told_by"
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


async def read_receipts(connection: Connection, recall_id: UUID) -> list[Row]:
    """What was said of the copies of this recall, by whichever subscriber, in order of number: that what is recalled arrived or
    was opened, and everything since its removal was asked for. Repeats that say nothing new are left out: of each failure,
    delay and supersession of one instruction the newest, and the first that says what was removed, which is the proof of it.

    Receipts stay with the council in whose time they came. To have those of one that had the plan before, its code is among the
    transaction's too; then :func:`write_act` says so in its ledger.
    """
    columns = "share_id, subscriber, number, la_code, seq, status, at, signed, received_at, removed, version_id"
    rows = await connection.fetch(
        f"""
        WITH of_copies AS (
            SELECT r.*, c.seq AS asked, c.things
            FROM publisher.v_recalled_copy c CROSS JOIN LATERAL (
                SELECT {columns} FROM audit.receipt r WHERE r.share_id = c.share_id AND r.subscriber = c.subscriber
                UNION ALL
                SELECT {columns} FROM audit.former_receipt r WHERE r.share_id = c.share_id AND r.subscriber = c.subscriber
            ) r
            WHERE c.recall_id = $1
        ), said AS (
            SELECT {columns} FROM of_copies
            WHERE seq >= asked OR (version_id = ANY (things) AND status IN ('sent', 'collected', 'filed', 'opened', 'conflict'))
        )
        SELECT * FROM said WHERE status NOT IN ('failed', 'waiting', 'superseded')
        UNION
        (SELECT DISTINCT ON (share_id, subscriber, seq, status) * FROM said
         WHERE status IN ('failed', 'waiting', 'superseded') ORDER BY share_id, subscriber, seq, status, number DESC)
        UNION
        (SELECT DISTINCT ON (share_id, subscriber, seq, removed) * FROM said
         WHERE removed <> '{{}}' ORDER BY share_id, subscriber, seq, removed, number)
        ORDER BY share_id, number
        """,
        recall_id,
    )
    return [dict(row) for row in rows]


async def read_keys(connection: Connection, subscribers: Sequence[str]) -> list[Row]:
    """Every key that these subscribers have signed receipts with, the newest of each first."""
    rows = await connection.fetch(
        "SELECT subscriber, key, valid_from, valid_until FROM publisher.v_receipt_key WHERE subscriber = ANY($1)"
        " ORDER BY subscriber, place DESC",
        list(subscribers),
    )
    return [dict(row) for row in rows]


async def read_custody(connection: Connection, plan_id: UUID) -> list[Row]:
    """The councils of this exchange that had the plan before, in order."""
    rows = await connection.fetch(
        "SELECT c.la_code, k.name, c.case_reference, c.from_date, c.until_date FROM publisher.v_custody c"
        " LEFT JOIN publisher.v_council k USING (la_code) WHERE c.plan_id = $1 ORDER BY c.place",
        plan_id,
    )
    return [dict(row) for row in rows]


async def read_moves(connection: Connection, plan_id: UUID) -> list[Row]:
    """When the plan came from a council elsewhere, or went to one."""
    rows = await connection.fetch(
        "SELECT e.type, e.happened_on FROM publisher.v_event e JOIN publisher.v_plan p USING (plan_id)"
        " WHERE e.plan_id = $1 AND (e.type = 'taken_over' OR e.type = 'transfer' AND p.state = 'transferred')"
        " ORDER BY e.revision",
        plan_id,
    )
    return [dict(row) for row in rows]


async def write_act(connection: Connection, act: str, actor: str, la_code: str, plan_id: UUID | None, details: Any) -> None:
    """A look at recalls, in the ledger of the council whose they are."""
    await connection.execute(
        "INSERT INTO audit.pending (act, actor, la_code, plan_id, details) VALUES ($1, $2, $3, $4, $5)",
        act, actor, la_code, plan_id, details,
    )  # fmt: skip
