"""SQL of looking into the records when the council asks: what is to be looked at, and what was answered.

Invariant: a (look, share) is answered once, and then answered the same; only where the record did not answer it is asked again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

KEPT_DAYS = 30
"""Answers are the council's by then."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Compared as itself, not by what it says."""

    look_id: UUID
    share_id: UUID
    plan_id: UUID
    recipient: dict[str, Any]
    lane: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Books:
    """What the books have of a share that is looked at."""

    seq: int
    held_version_id: UUID | None
    held_sha256: str | None


@dataclass(frozen=True, slots=True)
class Answered:
    look: Look
    found: str
    signed: bytes


async def park(connection: Any, looks: Sequence[Look]) -> list[tuple[UUID, bytes]]:
    """Returns (share, signed) of those that were answered before, to be sent once more."""
    if not looks:
        return []
    looks = sorted(looks, key=lambda each: (each.look_id, each.share_id))
    rows = await connection.fetch(
        """
        INSERT INTO delivery.look AS l (look_id, share_id, plan_id, recipient, lane, until, due_at)
        SELECT *, now() FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::jsonb[], $5::text[], $6::timestamptz[])
        ON CONFLICT (look_id, share_id) DO UPDATE SET
            due_at = CASE WHEN l.found = 'no_answer' THEN now() ELSE l.due_at END
        RETURNING share_id, CASE WHEN due_at IS NULL THEN signed END AS signed
        """,
        *([getattr(each, name) for each in looks] for name in ("look_id", "share_id", "plan_id", "recipient", "lane", "until")),
    )
    return [(row["share_id"], row["signed"]) for row in rows if row["signed"]]


async def lanes(connection: Any) -> set[str]:
    """Record systems with something to look at. What nobody waits for any more is left alone, and in the end forgotten."""
    await connection.execute("DELETE FROM delivery.look WHERE until < now() - make_interval(days => $1)", KEPT_DAYS)
    rows = await connection.fetch("SELECT DISTINCT lane FROM delivery.look WHERE due_at <= now() AND until > now()")
    return {row["lane"] for row in rows}


async def due(connection: Any, lane: str, limit: int) -> list[Look]:
    rows = await connection.fetch(
        "SELECT look_id, share_id, plan_id, recipient, lane, until FROM delivery.look"
        " WHERE lane = $1 AND due_at <= now() AND until > now() ORDER BY due_at, share_id LIMIT $2",
        lane, limit,
    )  # fmt: skip
    return [Look(**dict(row)) for row in rows]


async def lock_unanswered(connection: Any, looks: Sequence[Look]) -> list[Look]:
    """Of these, what nobody else has answered meanwhile; in order of (look, share)."""
    rows = await connection.fetch(
        "SELECT l.look_id, l.share_id, l.plan_id, l.recipient, l.lane, l.until FROM delivery.look l"
        " JOIN unnest($1::uuid[], $2::uuid[]) AS t (look_id, share_id) USING (look_id, share_id)"
        " WHERE l.due_at IS NOT NULL ORDER BY l.look_id, l.share_id FOR UPDATE OF l",
        [each.look_id for each in looks], [each.share_id for each in looks],
    )  # fmt: skip
    return [Look(**dict(row)) for row in rows]


async def books(connection: Any, share_ids: Sequence[UUID]) -> dict[UUID, Books]:
    rows = await connection.fetch(
        "SELECT share_id, seq, held_version_id, held_sha256 FROM delivery.delivery WHERE share_id = ANY($1)", list(share_ids)
    )
    return {row["share_id"]: Books(row["seq"], row["held_version_id"], row["held_sha256"]) for row in rows}


async def save_answers(connection: Any, answers: Sequence[Answered]) -> None:
    await connection.execute(
        "UPDATE delivery.look l SET due_at = NULL, found = t.found, signed = t.signed"
        " FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[]) AS t (look_id, share_id, found, signed)"
        " WHERE l.look_id = t.look_id AND l.share_id = t.share_id",
        [each.look.look_id for each in answers], [each.look.share_id for each in answers],
        [each.found for each in answers], [each.signed for each in answers],
    )  # fmt: skip
