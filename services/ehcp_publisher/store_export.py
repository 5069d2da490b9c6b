"""SQL of an export: what happened to a plan, sealed as it is kept, and the newest whole rendering of a version."""

from typing import Any
from uuid import UUID

from services.shared.postgres.pool import Row


async def read_events(connection: Any, plan_id: UUID) -> list[Row]:
    rows = await connection.fetch(
        "SELECT revision, data, recorded_at FROM publisher.plan_event WHERE plan_id = $1 ORDER BY revision", plan_id
    )
    return [dict(row) for row in rows]


async def read_manifests(connection: Any, plan_id: UUID) -> dict[UUID, Row]:
    """By version, of the whole of it, in its newest rendering: after a correction of the child, the corrected one."""
    rows = await connection.fetch(
        "SELECT DISTINCT ON (version_id) version_id, rendering_id, manifest FROM publisher.rendering"
        " JOIN publisher.version USING (version_id) WHERE plan_id = $1 AND sections = '*'"
        " ORDER BY version_id, identity_revision DESC",
        plan_id,
    )
    return {row["version_id"]: dict(row) for row in rows}


async def read_document(connection: Any, rendering_id: UUID) -> bytes | None:
    document: bytes | None = await connection.fetchval(
        "SELECT document FROM publisher.rendering WHERE rendering_id = $1", rendering_id
    )
    return document
