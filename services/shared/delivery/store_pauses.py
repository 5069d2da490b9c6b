"""SQL of paused recipients.

Invariant: whoever marks a delivery as paused, or takes the mark off, holds the pause's row first. So none is marked behind the
back of a resume, which would leave it lying for ever.
"""

from collections.abc import Collection, Sequence
from typing import Any

_RECIPIENT = "delivery.recipient_name(instruction->'recipient')"


async def pause(connection: Any, recipient: str, reason: str, by: str, lanes: Sequence[str]) -> Any:
    """From now on; what waits for its next try is looked at now, so that the council hears of the pause. ``lanes`` have a
    record system. Returns the pause as it stands: the first one, where there was one (``was_paused``)."""
    row = await connection.fetchrow(
        "INSERT INTO delivery.pause (recipient, reason, paused_by) VALUES ($1, $2, $3)"
        " ON CONFLICT (recipient) DO UPDATE SET recipient = excluded.recipient RETURNING *, xmax <> 0 AS was_paused",
        recipient, reason, by,
    )  # fmt: skip
    await connection.execute(
        "UPDATE delivery.delivery SET next_attempt_at = now() WHERE next_attempt_at > now() AND share_id = ANY(ARRAY("
        f" SELECT share_id FROM delivery.delivery WHERE next_attempt_at IS NOT NULL AND lane = ANY($2) AND {_RECIPIENT} = $1"
        " ORDER BY share_id FOR UPDATE))",
        recipient, list(lanes),
    )  # fmt: skip
    return row


async def pause_lane(connection: Any, lane: str, reason: str, by: str) -> list[str]:
    """Everyone with a delivery in this lane. Returns those who were not paused. What waits for its next try is put off when
    that comes."""
    rows = await connection.fetch(
        "INSERT INTO delivery.pause (recipient, reason, paused_by)"
        f" SELECT DISTINCT {_RECIPIENT}, $2, $3 FROM delivery.delivery WHERE lane = $1 ORDER BY 1"
        " ON CONFLICT DO NOTHING RETURNING recipient",
        lane, reason, by,
    )  # fmt: skip
    return [row["recipient"] for row in rows]


async def resume(connection: Any, recipient: str) -> int | None:
    """How many deliveries go on, from their first attempt; None when it was not paused."""
    if await connection.fetchval("DELETE FROM delivery.pause WHERE recipient = $1 RETURNING true", recipient) is None:
        return None
    done: str = await connection.execute(
        "UPDATE delivery.delivery SET paused = false, attempts = 0,"
        " next_attempt_at = CASE WHEN state = 'waiting' THEN coalesce(next_attempt_at, now()) ELSE next_attempt_at END"
        " WHERE share_id = ANY(ARRAY("
        f" SELECT share_id FROM delivery.delivery WHERE paused AND {_RECIPIENT} = $1 ORDER BY share_id FOR UPDATE))",
        recipient,
    )
    return int(done.rpartition(" ")[2])


async def paused(connection: Any) -> list[Any]:
    """All pauses, the longest first."""
    return list(await connection.fetch("SELECT * FROM delivery.pause ORDER BY paused_at, recipient"))


async def still_paused(connection: Any, recipients: Collection[str]) -> set[str]:
    """Those of ``recipients`` that are paused until this transaction ends."""
    rows = await connection.fetch(
        "SELECT recipient FROM delivery.pause WHERE recipient = ANY($1) ORDER BY recipient FOR SHARE", list(recipients)
    )
    return {row["recipient"] for row in rows}


async def recipients(connection: Any) -> list[Any]:
    """Everyone with a delivery here: their record system, and how their deliveries stand. Reads every row."""
    return list(
        await connection.fetch(
            f"SELECT {_RECIPIENT} AS recipient, lane, count(*) AS shares,"
            " count(*) FILTER (WHERE state = 'waiting') AS waiting, count(*) FILTER (WHERE state = 'failed') AS failed,"
            " count(*) FILTER (WHERE state = 'refused') AS refused,"
            " min(next_attempt_at) FILTER (WHERE state = 'failed') AS next_try_at"
            " FROM delivery.delivery GROUP BY 1, 2 ORDER BY 1, 2"
        )
    )


async def is_known(connection: Any, recipient: str) -> bool:
    found: bool = await connection.fetchval(f"SELECT EXISTS (SELECT FROM delivery.delivery WHERE {_RECIPIENT} = $1)", recipient)
    return found
