"""Tell a recipient's former subscriber to let go, once the new one satisfies the share: nobody is without the plan in between.

The record stays as it is, since it is the recipient's own; but what was recalled while the former subscriber served it, and is
not proved to be gone, that one has still to remove. Looks only at what is being handed over.
"""

from datetime import datetime
from typing import Any

import orjson

from schemas.events import EventType, ShareReleased
from schemas.manifest import canonical
from services.ehcp_publisher import instructions, recalls, store, store_handover
from services.ehcp_publisher.store import Act

_ACTS = {EventType.SHARE_RELEASED: "released", EventType.SHARE_RECALLED: "recalled"}


async def release(connection: Any, limit: int) -> int:
    """Within the caller's transaction; returns how many were told."""
    rows = await store_handover.lock_satisfied(connection, limit)
    if not rows:
        return 0
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    told = [(row, *_said(row, now)) for row in rows]
    await store_handover.write_told(
        connection, [(row["share_id"], row["subscriber"], row["seq"], type_, data) for row, type_, data in told], now
    )
    await store.insert_outbox(
        connection,
        [
            instructions.to_subscriber(row["subscriber"], row["share_id"], type_, row["la_code"], data, now)
            for row, type_, data in told
        ],
    )
    await store.insert_acts(
        connection,
        [
            Act(_ACTS[type_], "handover", row["la_code"], row["plan_id"], share_id=row["share_id"], seq=row["seq"],
                details={"subscriber": row["subscriber"]})
            for row, type_, _ in told
        ],
    )  # fmt: skip
    return len(rows)


def _said(row: Any, now: datetime) -> tuple[EventType, bytes]:
    if row["remove"]:
        return EventType.SHARE_RECALLED, recalls.said(row, row["remove"], now, row["due_at"])
    event = ShareReleased(
        share_id=row["share_id"], seq=row["seq"], la_code=row["la_code"], plan_id=row["plan_id"],
        recipient=orjson.loads(row["data"])["recipient"], requested_at=now, due_at=now,
    )  # fmt: skip
    return EventType.SHARE_RELEASED, canonical(event.model_dump(mode="json"))
