"""SQL of record systems that do not answer, so that an outage of hours is told to people and not only waited out.

Invariant: a place stands here from its first silence until somebody answers there, or nothing is to be done there any more.
"""

from collections.abc import Collection
from typing import Any

COUNCIL = ""
"""The place that stands for the council's document API."""


async def note(connection: Any, place: str, reason: str) -> None:
    """Nobody answered. ``since`` stays that of the first silence."""
    await connection.execute(
        "INSERT INTO delivery.unanswered (place, reason) VALUES ($1, $2)"
        " ON CONFLICT (place) DO UPDATE SET reason = excluded.reason",
        place, reason,
    )  # fmt: skip


async def forget(connection: Any, places: Collection[str]) -> None:
    """Somebody answered there. In order, as two processes may do this at once."""
    await connection.execute(
        "DELETE FROM delivery.unanswered WHERE place = ANY(ARRAY("
        " SELECT place FROM delivery.unanswered WHERE place = ANY($1) ORDER BY place FOR UPDATE))",
        list(places),
    )


async def for_long(connection: Any, seconds: float) -> list[Any]:
    """Places that have not answered for so long; those where nothing is to be done any more are forgotten."""
    await connection.execute(
        "DELETE FROM delivery.unanswered WHERE place = ANY(ARRAY("
        " SELECT place FROM delivery.unanswered u WHERE NOT EXISTS (SELECT FROM delivery.delivery d"
        " WHERE d.next_attempt_at IS NOT NULL AND (u.place = $1 OR d.lane = u.place)) FOR UPDATE SKIP LOCKED))",
        COUNCIL,
    )
    rows = await connection.fetch(
        "SELECT place, since, reason FROM delivery.unanswered WHERE since <= now() - make_interval(secs => $1) ORDER BY place",
        seconds,
    )
    return list(rows)
