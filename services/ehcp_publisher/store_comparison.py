"""SQL of a council's comparison with its case system, over a connection of a council transaction."""

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from schemas.comparison import DifferenceKind
from services.shared.postgres.pool import Row


async def write_comparison(connection: Any, la_code: str, by: str, plans: int, rows_refused: int, not_here: int) -> None:
    """First of all: whoever compares the same council at the same time waits here."""
    await connection.execute(
        """
        INSERT INTO publisher.comparison (la_code, compared_at, compared_by, plans, rows_refused, not_here)
        VALUES ($1, now(), $2, $3, $4, $5)
        ON CONFLICT (la_code) DO UPDATE SET compared_at = excluded.compared_at, compared_by = excluded.compared_by,
            plans = excluded.plans, rows_refused = excluded.rows_refused, not_here = excluded.not_here
        """,
        la_code, by, plans, rows_refused, not_here,
    )  # fmt: skip


async def replace_differences(connection: Any, la_code: str, differences: Mapping[DifferenceKind, Collection[UUID]]) -> None:
    """By kind. What is still there keeps the time since when it is; a plan that is not the council's is left out."""
    told = {plan_id for plans in differences.values() for plan_id in plans}
    rows = await connection.fetch(
        "SELECT plan_id FROM publisher.plan WHERE plan_id = ANY($1) AND la_code = $2", list(told), la_code
    )
    known = {row["plan_id"] for row in rows}
    pairs = {(plan_id, kind) for kind, plans in differences.items() for plan_id in plans if plan_id in known}
    await connection.execute(
        "INSERT INTO publisher.difference (la_code, plan_id, kind, since, told_at)"
        " SELECT $1, t.plan_id, t.kind, now(), now() FROM unnest($2::uuid[], $3::text[]) AS t (plan_id, kind)"
        " ON CONFLICT (la_code, plan_id, kind) DO UPDATE SET told_at = excluded.told_at",
        la_code, [plan_id for plan_id, _ in pairs], [kind for _, kind in pairs],
    )  # fmt: skip
    await connection.execute("DELETE FROM publisher.difference WHERE la_code = $1 AND told_at < now()", la_code)


async def read_comparisons(connection: Any) -> list[Row]:
    rows = await connection.fetch(
        """
        SELECT c.la_code, c.compared_at, c.plans, c.rows_refused, c.not_here,
               coalesce((SELECT jsonb_object_agg(of_kind.kind, of_kind.plans) FROM (
                   SELECT kind, count(*) AS plans FROM publisher.difference WHERE la_code = c.la_code GROUP BY kind
               ) of_kind), '{}') AS differences
        FROM publisher.comparison c ORDER BY c.la_code
        """
    )
    return [dict(row) for row in rows]
