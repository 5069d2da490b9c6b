"""SQL over what councils' comparisons with their case systems found: the publisher's views, beside the alerts that are open."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from schemas.comparison import DifferenceKind
from services.notifier.store import Connection


@dataclass(frozen=True, slots=True)
class Difference:
    plan_id: UUID
    la_code: str
    kind: DifferenceKind
    since: datetime


@dataclass(frozen=True, slots=True)
class NotHere:
    """``count`` plans in force in the case system that have no id here."""

    la_code: str
    compared_at: datetime
    count: int


async def find_differences(connection: Connection, limit: int) -> list[Difference]:
    """At most ``limit`` of those that have no open alert.

    Both sides in one heap and no join: while the statistics are old, a join looks through all alerts for every difference.
    """
    rows = await connection.fetch(
        """
        SELECT plan_id, la_code, kind, max(since) AS since FROM (
            SELECT plan_id, la_code, kind, since, 0 AS alerts FROM publisher.v_difference
            UNION ALL
            SELECT plan_id, la_code, about, due_at, 1 FROM notifier.alert WHERE kind = 'differs' AND cleared_at IS NULL
        ) AS both_sides GROUP BY plan_id, la_code, kind HAVING sum(alerts) = 0 LIMIT $1
        """,
        limit,
    )
    return [Difference(row["plan_id"], row["la_code"], DifferenceKind(row["kind"]), row["since"]) for row in rows]


async def read_differences(connection: Connection, plan_ids: Collection[UUID]) -> set[tuple[UUID, str, str]]:
    """(plan, council, kind) of those that are there."""
    rows = await connection.fetch(
        "SELECT plan_id, la_code, kind FROM publisher.v_difference WHERE plan_id = ANY($1)", list(plan_ids)
    )
    return {(row["plan_id"], row["la_code"], row["kind"]) for row in rows}


async def read_not_here(connection: Connection) -> dict[str, NotHere]:
    """By council; one for each that has any."""
    rows = await connection.fetch("SELECT la_code, compared_at, not_here FROM publisher.v_comparison WHERE not_here > 0")
    return {row["la_code"]: NotHere(row["la_code"], row["compared_at"], row["not_here"]) for row in rows}
