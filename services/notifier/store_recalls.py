"""SQL of recalls for the notifier: how many copies of each are outstanding, and with whom. As everything in ``store``."""

from collections.abc import Collection
from uuid import UUID

from services.notifier.recalls import OpenRecall
from services.notifier.store import Connection

_OUTSTANDING = """
    SELECT c.recall_id, c.subscriber, count(*)::int AS copies
    FROM publisher.v_recalled_copy c JOIN publisher.v_share s USING (share_id)
    WHERE audit.proof_of_removal(c.share_id, c.subscriber, c.seq, c.things) IS NULL
    AND NOT (s.action = 'hold' AND s.version_id = ANY (c.things) AND s.subscriber IS NOT DISTINCT FROM c.subscriber)
"""
"""A copy that a later decision gives its recipient after all need not go."""


async def find_open(connection: Connection) -> list[UUID]:
    """Recalls with copies that are outstanding. Recalls are few, so that all are looked at."""
    rows = await connection.fetch(f"SELECT DISTINCT recall_id FROM ({_OUTSTANDING} GROUP BY 1, 2) o ORDER BY recall_id")
    return [row["recall_id"] for row in rows]


async def read_recalls(connection: Connection, recall_ids: Collection[UUID]) -> dict[UUID, OpenRecall]:
    """These recalls as they stand now."""
    rows = await connection.fetch(
        f"""
        SELECT r.recall_id, r.plan_id, r.la_code, r.aware_at, r.recorded_at, o.subscriber, o.copies
        FROM publisher.v_recall r
        LEFT JOIN ({_OUTSTANDING} AND c.recall_id = ANY($1) GROUP BY 1, 2) o USING (recall_id)
        WHERE r.recall_id = ANY($1) ORDER BY r.recall_id, o.subscriber
        """,
        list(recall_ids),
    )
    found: dict[UUID, OpenRecall] = {}
    for row in rows:
        outstanding = {row["subscriber"]: row["copies"]} if row["subscriber"] else {}
        before = found.get(row["recall_id"])
        found[row["recall_id"]] = OpenRecall(
            row["recall_id"], row["plan_id"], row["la_code"], row["aware_at"], row["recorded_at"],
            {**(before.outstanding if before else {}), **outstanding},
        )  # fmt: skip
    return found
