"""SQL over how subscribers fare: the publisher's directory and what audit heard of them."""

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime

from services.notifier.store import Connection
from services.notifier.subscribers import Subscriber


async def read_subscribers(connection: Connection) -> dict[str, Subscriber]:
    """All of the directory, by name. One that was never heard of counts from when it was registered."""
    rows = await connection.fetch(
        """
        SELECT s.subscriber, coalesce(h.last_seen, s.registered_at) AS heard_at, coalesce(h.stopped_topics, '{}') AS stopped,
               coalesce(h.differences, '{}') AS differences, coalesce(h.held, 0) AS held, h.unasked_since,
               ARRAY(SELECT t.topic FROM audit.v_stopped_topic t WHERE t.subscriber = s.subscriber) AS stopped_here
        FROM publisher.v_subscriber s LEFT JOIN audit.v_heartbeat h ON h.subscriber = s.subscriber
        """
    )
    paused: dict[str, dict[str, datetime]] = defaultdict(dict)
    for row in await connection.fetch("SELECT subscriber, recipient, paused_at FROM audit.v_paused"):
        paused[row["subscriber"]][row["recipient"]] = row["paused_at"]
    away: dict[str, dict[str, datetime]] = defaultdict(dict)
    for row in await connection.fetch("SELECT subscriber, record_system, since FROM audit.v_away"):
        away[row["subscriber"]][row["record_system"] or ""] = row["since"]
    return {
        row["subscriber"]: Subscriber(
            row["subscriber"], row["heard_at"], frozenset(row["stopped"] + row["stopped_here"]), row["differences"],
            paused.get(row["subscriber"], {}), away.get(row["subscriber"], {}), row["unasked_since"], row["held"],
        )
        for row in rows
    }  # fmt: skip


async def read_served(connection: Connection, subscribers: Collection[str]) -> set[tuple[str, str]]:
    """(subscriber, council) of those whose recipients should hold something."""
    rows = await connection.fetch(
        "SELECT subscriber, la_code FROM publisher.v_served WHERE subscriber = ANY($1)", list(subscribers)
    )
    return {(row["subscriber"], row["la_code"]) for row in rows}
