"""SQL of a subscriber's heartbeat: how it fares, in a few numbers."""

import hashlib
from datetime import datetime
from typing import Any


async def how_it_fares(connection: Any, heartbeat_key: str) -> Any:
    """``heartbeat_key``: of heartbeats in the outbox, which are no receipts."""
    return await connection.fetchrow(
        """
        SELECT due.waiting, due.lag_seconds,
               (SELECT count(*) FROM delivery.outbox WHERE refused IS NULL AND key <> $1) AS unsent,
               (SELECT count(*) FROM delivery.dead_letter WHERE closed_at IS NULL) AS dead_letters,
               (SELECT coalesce(jsonb_object_agg(difference, found), '{}') FROM (
                    SELECT difference, count(*) AS found FROM delivery.difference
                    WHERE found_at > now() - interval '25 hours' GROUP BY difference) d) AS differences
        FROM (
            SELECT count(*) AS waiting, coalesce(extract(epoch FROM now() - min(next_attempt_at)), 0)::bigint AS lag_seconds
            FROM delivery.delivery WHERE next_attempt_at <= now()
        ) due
        """,
        heartbeat_key,
    )


async def holdings(connection: Any) -> tuple[int, str]:
    """How many shares hold something, and the digest over them. Reads every row: not for every heartbeat."""
    count, digest = 0, hashlib.sha256()
    async with connection.transaction():
        async for row in connection.cursor(
            "SELECT share_id, held_seq FROM delivery.delivery WHERE held_seq > 0 ORDER BY share_id", prefetch=5000
        ):
            digest.update(b"%s%s:%d" % (b"\n" if count else b"", str(row["share_id"]).encode(), row["held_seq"]))
            count += 1
    return count, digest.hexdigest()


async def unasked(connection: Any) -> tuple[int, datetime | None]:
    """Copies that nobody could ask after for more than a day after their time, and when the oldest was due. Reads them all."""
    row = await connection.fetchrow(
        "SELECT count(*) AS copies, min(check_at) AS since FROM delivery.delivery WHERE check_at < now() - interval '1 day'"
    )
    return row["copies"], row["since"]


async def put_heartbeat(connection: Any, topic: str, key: str, headers: dict[str, str], value: bytes) -> None:
    """In place of one that has not gone out yet: nobody wants to hear how it fared an hour ago."""
    await connection.execute("DELETE FROM delivery.outbox WHERE topic = $1 AND key = $2", topic, key)
    await connection.execute(
        "INSERT INTO delivery.outbox (topic, key, headers, value) VALUES ($1, $2, $3, $4)", topic, key, headers, value
    )
    await connection.execute("NOTIFY outbox")
