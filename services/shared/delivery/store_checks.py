"""SQL of checking the books against the record systems and against the council's list.

Invariant: a delivery is put to work again only in the state in which it was looked at; one that moved on meanwhile speaks for
itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True, eq=False)
class Believed:
    """What the books say of one share, to be held against the record. Compared as itself, not by what it says."""

    share_id: UUID
    seq: int
    action: str
    state: str
    instruction: dict[str, Any]
    held_version_id: UUID | None
    held_sha256: str | None
    notice: bool
    shared_anew: bool
    """The same recipient has another share of this plan that is to be held: what the record has is that one's."""

    @property
    def thing(self) -> UUID | None:
        """What the record is asked about: the plan, or the notice; None for one of which only the end is known."""
        if not self.notice:
            return UUID(self.instruction["plan_id"])
        if self.action == "recall":
            return UUID(self.instruction["remove"][0])
        return self.held_version_id


_BELIEVED = """
    SELECT d.share_id, d.seq, d.action, d.state, d.instruction, d.held_version_id, d.held_sha256, d.notice,
        d.action <> 'hold' AND NOT d.notice AND EXISTS (
            SELECT FROM delivery.delivery o
            WHERE o.plan_id = d.plan_id AND o.share_id <> d.share_id AND o.action = 'hold'
            AND o.instruction->'recipient' = d.instruction->'recipient' AND NOT o.notice
        ) AS shared_anew
    FROM delivery.delivery d
"""


async def due(connection: Any, lane: str, until: datetime, limit: int, but: Sequence[UUID]) -> list[Believed]:
    """What of this record system is to be looked at by ``until``, the longest waiting first; ``but``: not now."""
    rows = await connection.fetch(
        _BELIEVED + "WHERE d.lane = $1 AND d.check_at <= $2 AND d.share_id <> ALL($4) ORDER BY d.check_at LIMIT $3",
        lane, until, limit, list(but),
    )  # fmt: skip
    return [Believed(**dict(row)) for row in rows]


async def following(connection: Any, lane: str, after: UUID | None, limit: int) -> list[Believed]:
    """What of this record system can be looked at, whenever it was looked at last, in order of ``share_id``."""
    rows = await connection.fetch(
        _BELIEVED + "WHERE d.lane = $1 AND d.check_at IS NOT NULL AND ($2::uuid IS NULL OR d.share_id > $2)"
        " ORDER BY d.share_id LIMIT $3",
        lane, after, limit,
    )  # fmt: skip
    return [Believed(**dict(row)) for row in rows]


async def save_checked(connection: Any, believed: Sequence[Believed]) -> None:
    """It is as believed. Asked again in the night, each at its own time, so that no record system is asked all at once."""
    await connection.execute(
        """
        UPDATE delivery.delivery d
        SET mended = 0, check_at = date_trunc('day', now()) + interval '25 hours' + random() * interval '4 hours'
        FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS t (share_id, seq, state)
        WHERE d.share_id = t.share_id AND d.seq = t.seq AND d.state = t.state
        """,
        *_states(believed),
    )


async def ask_no_more(connection: Any, believed: Sequence[Believed]) -> None:
    """There is no question for it. After its next change it is tried once more."""
    if believed:
        await connection.execute(_AS_LOOKED_AT.format("check_at = NULL"), *_states(believed))


_AS_LOOKED_AT = (
    "UPDATE delivery.delivery d SET {} FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS t (share_id, seq, state)"
    " WHERE d.share_id = t.share_id AND d.seq = t.seq AND d.state = t.state"
)


async def check_now(connection: Any, share_ids: Sequence[UUID]) -> None:
    """A look found something else in the record than the books say: compare them properly, and mend it."""
    await connection.execute(
        "UPDATE delivery.delivery SET check_at = now() WHERE share_id = ANY(ARRAY(SELECT share_id FROM delivery.delivery"
        " WHERE share_id = ANY($1) AND check_at IS NOT NULL ORDER BY share_id FOR UPDATE))",
        list(share_ids),
    )  # fmt: skip


async def put_to_work(connection: Any, believed: Sequence[Believed]) -> set[UUID]:
    """Do again what the record does not show; returns the shares that were still as they had been looked at. What is with the
    record system just now is looked at again a little later."""
    rows = await connection.fetch(
        """
        UPDATE delivery.delivery d SET state = 'failed', next_attempt_at = now(), attempts = 0, check_at = NULL,
            mended = least(d.mended + 1, 100), removed_seq = CASE WHEN d.action <> 'recall' THEN d.removed_seq END
        FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS t (share_id, seq, state)
        WHERE d.share_id = t.share_id AND d.seq = t.seq AND d.state = t.state AND d.claim IS NULL
        RETURNING d.share_id
        """,
        *_states(believed),
    )
    again = {row["share_id"] for row in rows}
    if others := [each for each in believed if each.share_id not in again]:
        await connection.execute(_AS_LOOKED_AT.format("check_at = now() + interval '5 minutes'"), *_states(others))
    return again


DIFFERENCES_KEPT_DAYS = 30


async def note_differences(connection: Any, found: Sequence[tuple[UUID, str]]) -> None:
    """(share, difference), for the numbers that the council hears."""
    if found:
        await connection.execute(
            "INSERT INTO delivery.difference (share_id, difference)"
            " SELECT DISTINCT * FROM unnest($1::uuid[], $2::text[]) AS t (share_id, difference) ORDER BY 1, 2"
            " ON CONFLICT (share_id, difference) DO UPDATE SET found_at = now()",
            [share_id for share_id, _ in found], [difference for _, difference in found],
        )  # fmt: skip


async def forget_differences(connection: Any) -> None:
    await connection.execute(
        "DELETE FROM delivery.difference WHERE found_at < now() - make_interval(days => $1)", DIFFERENCES_KEPT_DAYS
    )


UNLISTED = 1000
"""In one reading."""


async def unlisted(
    connection: Any, after: UUID | None, upto: UUID | None, listed: Sequence[UUID], before: datetime
) -> list[tuple[UUID, int]]:
    """The next (share, ``seq``) of this stretch of the council's list, known here since ``before``, that it does not name."""
    rows = await connection.fetch(
        "SELECT share_id, seq FROM delivery.delivery WHERE ($1::uuid IS NULL OR share_id > $1)"
        " AND ($2::uuid IS NULL OR share_id <= $2) AND share_id <> ALL($3) AND action = 'hold' AND parked_at < $4"
        " ORDER BY share_id LIMIT $5",
        after, upto, list(listed), before, UNLISTED,
    )  # fmt: skip
    return [(row["share_id"], row["seq"]) for row in rows]


def _states(believed: Sequence[Believed]) -> tuple[list[UUID], list[int], list[str]]:
    return [each.share_id for each in believed], [each.seq for each in believed], [each.state for each in believed]
