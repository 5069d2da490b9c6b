"""SQL of recalls: what was recalled, whose copies must go for it, and who of them is a former subscriber."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class NewRecall:
    recall_id: UUID
    plan_id: UUID
    la_code: str
    thing_id: UUID
    reason: str
    recorded_by: str
    aware_at: datetime


@dataclass(frozen=True, slots=True)
class Former:
    """What a subscriber that the recipient had before is told: its copies must go."""

    share_id: UUID
    subscriber: str
    la_code: str
    seq: int
    data: bytes


async def shares_with(connection: Any, plan_id: UUID, thing_id: UUID) -> set[UUID]:
    """Every share of the plan that was ever told to hold this version or notice: whoever may have read it."""
    rows = await connection.fetch(
        "SELECT DISTINCT i.share_id FROM publisher.instruction i JOIN publisher.share s USING (share_id)"
        " WHERE s.plan_id = $1 AND i.version_id = $2",
        plan_id, thing_id,
    )  # fmt: skip
    return {row["share_id"] for row in rows}


async def things_of(connection: Any, share_ids: Sequence[UUID]) -> dict[UUID, tuple[UUID, ...]]:
    """By share, every version that it was ever told to hold, or its notice."""
    rows = await connection.fetch(
        "SELECT share_id, array_agg(DISTINCT version_id ORDER BY version_id) AS things FROM publisher.instruction"
        " WHERE share_id = ANY($1) GROUP BY share_id",
        list(share_ids),
    )
    return {row["share_id"]: tuple(row["things"]) for row in rows}


async def is_notice(connection: Any, plan_id: UUID, thing_id: UUID) -> bool:
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM publisher.notice WHERE notice_id = $2 AND plan_id = $1)", plan_id, thing_id
    )
    return found


async def find_same(connection: Any, plan_id: UUID, thing_id: UUID, reason: str, share_ids: Sequence[UUID]) -> UUID | None:
    """The recall that asks for the same already: of this version or notice for this reason; of wrong recipients, of one of
    these shares. Call with the plan's lock held."""
    found: UUID | None = await connection.fetchval(
        "SELECT recall_id FROM publisher.recall r WHERE plan_id = $1 AND thing_id = $2 AND reason = $3"
        " AND ($4::uuid[] = '{}' OR EXISTS (SELECT FROM publisher.recalled_copy c WHERE c.recall_id = r.recall_id"
        " AND c.share_id = ANY($4))) ORDER BY recall_id LIMIT 1",
        plan_id, thing_id, reason, list(share_ids),
    )  # fmt: skip
    return found


async def insert(connection: Any, recall: NewRecall) -> None:
    await connection.execute(
        "INSERT INTO publisher.recall (recall_id, plan_id, la_code, thing_id, reason, recorded_by, aware_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        recall.recall_id, recall.plan_id, recall.la_code, recall.thing_id, recall.reason, recall.recorded_by, recall.aware_at,
    )  # fmt: skip


async def insert_word(connection: Any, recall: NewRecall) -> None:
    """Of a further officer."""
    await connection.execute(
        "INSERT INTO publisher.recall_word (recall_id, plan_id, la_code, recorded_by, aware_at) VALUES ($1, $2, $3, $4, $5)",
        recall.recall_id, recall.plan_id, recall.la_code, recall.recorded_by, recall.aware_at,
    )  # fmt: skip


_ASKED_AGAIN = """
    ON CONFLICT (recall_id, share_id, subscriber) DO UPDATE SET
        things = ARRAY(SELECT unnest(c.things) UNION SELECT unnest(excluded.things) ORDER BY 1),
        (seq, due_at) = (
            SELECT CASE WHEN stands THEN c.seq ELSE excluded.seq END, CASE WHEN stands THEN c.due_at ELSE excluded.due_at END
            FROM (SELECT excluded.things <@ c.things
                  AND audit.proof_of_removal(c.share_id, c.subscriber, c.seq, c.things) IS NULL) AS asked (stands)
        )
"""
"""A copy that was asked for already: what is outstanding goes on being so; what was proved to be gone is to be proved anew."""


async def insert_copies(connection: Any, recall_id: UUID, things: Mapping[UUID, tuple[UUID, ...]], at: datetime) -> None:
    """A copy for each of these shares that asks for the removal. Call when the wishes are written."""
    await connection.execute(
        f"""
        INSERT INTO publisher.recalled_copy AS c (recall_id, share_id, subscriber, la_code, seq, things, asked_at, due_at)
        SELECT $1, s.share_id, s.subscriber, s.la_code, s.seq, string_to_array(t.things, ' ')::uuid[], $4, i.due_at
        FROM unnest($2::uuid[], $3::text[]) AS t (share_id, things)
        JOIN publisher.share s USING (share_id)
        JOIN publisher.instruction i ON i.share_id = s.share_id AND i.seq = s.seq
        WHERE s.subscriber IS NOT NULL AND s.removing && string_to_array(t.things, ' ')::uuid[]
        {_ASKED_AGAIN}
        """,
        recall_id, list(things), [" ".join(map(str, each)) for each in things.values()], at,
    )  # fmt: skip


async def lock_former(connection: Any, share_ids: Sequence[UUID]) -> list[Any]:
    """The former subscribers of these shares, with what each was told last and the share's newest instruction."""
    return list(
        await connection.fetch(
            "SELECT h.share_id, h.subscriber, h.type, h.data AS told, s.plan_id, s.la_code, s.seq, i.data, i.due_at"
            " FROM publisher.handover h JOIN publisher.share s USING (share_id)"
            " JOIN publisher.instruction i ON i.share_id = s.share_id AND i.seq = s.seq"
            " WHERE h.share_id = ANY($1) ORDER BY h.share_id, h.subscriber FOR UPDATE OF h",
            list(share_ids),
        )
    )


async def insert_former(
    connection: Any, recall_id: UUID, copies: Sequence[tuple[Former, Sequence[UUID], datetime]], at: datetime
) -> None:
    """(former subscriber, what must go, by when) of each."""
    await connection.executemany(
        "INSERT INTO publisher.recalled_copy AS c (recall_id, share_id, subscriber, la_code, seq, things, asked_at, due_at)"
        f" VALUES ($1, $2, $3, $4, $5, $6, $7, $8) {_ASKED_AGAIN}",
        [
            (recall_id, each.share_id, each.subscriber, each.la_code, each.seq, list(things), at, due_at)
            for each, things, due_at in copies
        ],
    )
