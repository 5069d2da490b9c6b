"""SQL of the guard: children by the keyed hashes of their identifiers and names, and what is held until a second person looked.

As everything in ``store``, over a connection of a council transaction; :func:`find_known` needs one that sees every council.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from schemas.guard import Finding
from services.ehcp_publisher.guard import Asked, Known
from services.shared.postgres.pool import Row

POLICY = "policy"
"""Who decided where the council's policy lets a file leave unread."""


@dataclass(frozen=True, slots=True)
class NewHold:
    """``kind`` is version or notice."""

    thing_id: UUID
    kind: str
    plan_id: UUID
    la_code: str
    findings: tuple[Finding, ...]
    asked_by: str
    waived: bool = False
    """Nothing waits: all its findings are waived."""


@dataclass(frozen=True, slots=True)
class NamedChild:
    """``names``: pairs of the keyed hashes of a name, and of it with the day of birth."""

    child_id: UUID
    la_code: str
    names: Sequence[tuple[int, int]]


async def find_known(connection: Any, asked: Asked) -> Known:
    """What of this is some child's, of whichever council."""
    nhs = upns = frozenset[bytes]()
    if asked.nhs_numbers:
        rows = await connection.fetch(
            "SELECT DISTINCT nhs_lookup FROM publisher.child WHERE nhs_lookup = ANY($1)", list(asked.nhs_numbers)
        )
        nhs = frozenset(row["nhs_lookup"] for row in rows)
    if asked.upns:
        rows = await connection.fetch(
            "SELECT DISTINCT upn_lookup FROM publisher.child WHERE upn_lookup = ANY($1)", list(asked.upns)
        )
        upns = frozenset(row["upn_lookup"] for row in rows)
    names: dict[int, dict[int, UUID]] = {}
    if asked.names:
        for row in await connection.fetch(
            "SELECT name_key, born_key, child_id FROM publisher.child_known_as WHERE name_key = ANY($1)", list(asked.names)
        ):
            names.setdefault(row["name_key"], {})[row["born_key"]] = row["child_id"]
    return Known(nhs, upns, names)


async def insert_names(connection: Any, children: Sequence[NamedChild]) -> None:
    rows = [(each.child_id, each.la_code, *names) for each in children for names in each.names]
    if not rows:
        return
    await connection.execute(
        "INSERT INTO publisher.child_known_as (child_id, la_code, name_key, born_key)"
        " SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[]) ON CONFLICT DO NOTHING",
        *[list(column) for column in zip(*rows, strict=True)],
    )


async def rename(connection: Any, child: NamedChild) -> None:
    await connection.execute("DELETE FROM publisher.child_known_as WHERE child_id = $1", child.child_id)
    await insert_names(connection, [child])


async def has_unnamed(connection: Any) -> bool:
    found: bool = await connection.fetchval("SELECT EXISTS (SELECT FROM publisher.child WHERE NOT named)")
    return found


async def read_unnamed(connection: Any, limit: int) -> list[Row]:
    """Children whose names were never worked out."""
    rows = await connection.fetch(
        "SELECT child_id, la_code, wrapped_key, identity FROM publisher.child WHERE NOT named ORDER BY child_id LIMIT $1", limit
    )
    return [dict(row) for row in rows]


async def lock_unchanged(connection: Any, rows: Sequence[Row]) -> set[UUID]:
    """Who of them still has no names and is as it was read: the same details, in the same council. Locked, and in order, so
    that two who do it wait for each other and never for ever."""
    locked = await connection.fetch(
        "SELECT c.child_id FROM publisher.child c"
        " JOIN unnest($1::uuid[], $2::text[], $3::bytea[]) AS t (child_id, la_code, identity) USING (child_id)"
        " WHERE NOT c.named AND c.la_code = t.la_code AND c.identity = t.identity ORDER BY c.child_id FOR UPDATE OF c",
        *[[row[name] for row in rows] for name in ("child_id", "la_code", "identity")],
    )
    return {row["child_id"] for row in locked}


async def mark_named(connection: Any, child_ids: Iterable[UUID]) -> None:
    await connection.execute("UPDATE publisher.child SET named = true WHERE child_id = ANY($1)", list(child_ids))


# --- holds ---


async def insert_holds(connection: Any, holds: Sequence[NewHold]) -> None:
    if not holds:
        return
    rows = [
        (each.thing_id, each.kind, each.plan_id, each.la_code, {"found": [f.model_dump(mode="json") for f in each.findings]},
         said(each.findings), each.waived, each.asked_by, POLICY if each.waived else None)
        for each in holds
    ]  # fmt: skip
    await connection.execute(
        """
        INSERT INTO publisher.hold
            (thing_id, kind, plan_id, la_code, findings, said, waived, asked_by, decided_by, released, decided_at)
        SELECT thing_id, kind, plan_id, la_code, findings -> 'found', said, waived, asked_by, decided_by,
               CASE WHEN decided_by IS NOT NULL THEN true END, CASE WHEN decided_by IS NOT NULL THEN now() END
        FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::jsonb[], $6::text[], $7::bool[], $8::text[], $9::text[])
        AS t (thing_id, kind, plan_id, la_code, findings, said, waived, asked_by, decided_by)
        """,
        *[list(column) for column in zip(*rows, strict=True)],
    )


def said(findings: Iterable[Finding]) -> str:
    return "; ".join(map(str, findings))


async def find_hold(connection: Any, plan_id: UUID, thing_id: UUID) -> Row | None:
    row = await connection.fetchrow("SELECT * FROM publisher.hold WHERE plan_id = $1 AND thing_id = $2", plan_id, thing_id)
    return dict(row) if row else None


async def decide(connection: Any, thing_id: UUID, by: str, *, released: bool) -> None:
    await connection.execute(
        "UPDATE publisher.hold SET released = $2, decided_by = $3, decided_at = now() WHERE thing_id = $1",
        thing_id,
        released,
        by,
    )


async def read_notice(connection: Any, notice_id: UUID) -> Row:
    """A stored notice with its one rendering."""
    row: Row = await connection.fetchrow(
        "SELECT n.kind, n.happened_on, n.body, n.left_out, g.rendering_id, g.sha256 FROM publisher.notice n"
        " JOIN publisher.rendering g USING (notice_id) WHERE n.notice_id = $1",
        notice_id,
    )
    return row


CONFIRMATIONS = """
    SELECT plan_id, thing_id::text AS name, said AS reason, asked_at AS since, 'held ' || kind AS recipient, 1 AS plans
    FROM publisher.hold WHERE released IS NULL
"""
"""What waits for a second person, as a council's list of open confirmations has it."""
FLAGS = """
    SELECT plan_id, 'held' AS name, string_agg(kind || ': ' || said, '; ' ORDER BY asked_at) AS reason, min(asked_at) AS since
    FROM publisher.hold WHERE released IS NULL GROUP BY plan_id
    UNION ALL
    SELECT h.plan_id, 'files_not_read', h.said, h.asked_at
    FROM publisher.hold h JOIN publisher.version v ON v.version_id = h.thing_id
    WHERE h.waived AND v.recalled_at IS NULL AND NOT EXISTS (
        SELECT FROM publisher.may_leave m
        WHERE m.plan_id = v.plan_id AND m.kind = 'version' AND (m.issued_on, m.number) > (v.issued_on, v.number)
    )
"""
"""What is held, and a current version that left unread, as flags."""
