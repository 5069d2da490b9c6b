"""Tell a recipient's former subscriber to let go, once the new one satisfies the share: nobody is without the plan in between.

The record stays as it is, since it is the recipient's own. Looks only at what is being handed over.
"""

from datetime import datetime
from typing import Any

import orjson

from schemas.events import EventType, ShareReleased
from schemas.manifest import canonical
from services.ehcp_publisher import instructions, store, store_handover
from services.ehcp_publisher.store import Act


async def release(connection: Any, limit: int) -> int:
    """Within the caller's transaction; returns how many were told."""
    rows = await store_handover.lock_satisfied(connection, limit)
    if not rows:
        return 0
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    told = [(row, _released(row, now)) for row in rows]
    await store_handover.write_released(
        connection, [(row["share_id"], row["subscriber"], row["seq"], data) for row, data in told], now
    )
    await store.insert_outbox(
        connection,
        [
            instructions.to_subscriber(row["subscriber"], row["share_id"], EventType.SHARE_RELEASED, row["la_code"], data, now)
            for row, data in told
        ],
    )
    await store.insert_acts(
        connection,
        [
            Act("released", "handover", row["la_code"], row["plan_id"], share_id=row["share_id"], seq=row["seq"],
                details={"subscriber": row["subscriber"]})
            for row, _ in told
        ],
    )  # fmt: skip
    return len(rows)


def _released(row: Any, now: datetime) -> bytes:
    wish = orjson.loads(row["data"])
    event = ShareReleased(
        share_id=row["share_id"], seq=row["seq"], la_code=row["la_code"], plan_id=row["plan_id"], recipient=wish["recipient"],
        requested_at=now, due_at=now,
    )  # fmt: skip
    return canonical(event.model_dump(mode="json"))
