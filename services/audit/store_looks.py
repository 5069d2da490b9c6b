"""SQL of looking into the records, at audit: the signed answers in, and what a report is made of out.

As in ``store``: over a connection of a council transaction; answers are appended to and never changed.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

from schemas.holdings import Holding
from services.audit.store import Connection
from services.shared.kafka.consume import Record

Place: TypeAlias = tuple[UUID, UUID]
"""A share of a look."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the council asked: of whom, and whose plan it is."""

    la_code: str
    plan_id: UUID
    subscriber: str | None


async def read_asked(connection: Connection, places: Collection[Place]) -> dict[Place, Asked]:
    rows = await connection.fetch(
        "SELECT l.look_id, l.share_id, l.la_code, l.plan_id, l.subscriber FROM publisher.v_look_share l"
        " JOIN unnest($1::uuid[], $2::uuid[]) AS t (look_id, share_id) ON t.look_id = l.look_id AND t.share_id = l.share_id",
        [look_id for look_id, _ in places], [share_id for _, share_id in places],
    )  # fmt: skip
    return {(row["look_id"], row["share_id"]): Asked(row["la_code"], row["plan_id"], row["subscriber"]) for row in rows}


async def append_holdings(connection: Connection, answers: Sequence[tuple[Record, Holding, Asked]]) -> None:
    """Answers that are not there yet, each with its act."""
    holdings = [holding for _, holding, _ in answers]
    await connection.execute(
        """
        WITH told AS (
            SELECT * FROM unnest(
                $1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::text[],
                $10::text[], $11::bool[], $12::bool[], $13::text[], $14::bigint[], $15::timestamptz[], $16::bytea[], $17::uuid[]
            ) AS t (share_id, number, look_id, la_code, subscriber, hosted_by, found, version_id, sha256, record, withdrawn,
                    intact, reason, told_seq, at, signed, plan_id)
        ), new AS (
            INSERT INTO audit.holding (share_id, number, look_id, la_code, subscriber, hosted_by, found, version_id, sha256,
                                       record, withdrawn, intact, reason, told_seq, at, signed)
            SELECT share_id, number, look_id, la_code, subscriber, hosted_by, found, version_id, sha256, record, withdrawn,
                   intact, reason, told_seq, at, signed FROM told
            ON CONFLICT (share_id, number) DO NOTHING RETURNING share_id, number
        )
        INSERT INTO audit.pending (act, actor, la_code, plan_id, version_id, share_id, details)
        SELECT 'record_looked_at', subscriber, la_code, plan_id, version_id, share_id, jsonb_build_object(
            'look_id', look_id, 'number', number, 'found', found, 'hosted_by', hosted_by, 'at', at)
        FROM told JOIN new USING (share_id, number)
        """,
        [h.share_id for h in holdings], [h.number for h in holdings], [h.look_id for h in holdings],
        [asked.la_code for _, _, asked in answers], [h.subscriber for h in holdings], [h.hosted_by.value for h in holdings],
        [h.found.value for h in holdings], [h.version_id for h in holdings], [h.sha256 for h in holdings],
        [h.record for h in holdings], [h.withdrawn for h in holdings], [h.intact for h in holdings],
        [h.reason for h in holdings], [h.seq for h in holdings], [h.at for h in holdings],
        [record.value for record, _, _ in answers], [asked.plan_id for _, _, asked in answers],
    )  # fmt: skip


async def read_look(connection: Connection, look_id: UUID) -> Any:
    """None when the caller's councils have not asked this."""
    return await connection.fetchrow(
        "SELECT l.look_id, l.la_code, l.asked_by, l.asked_at, l.until, l.asked, c.name AS council, now() AS now"
        " FROM publisher.v_look l JOIN publisher.v_council c USING (la_code) WHERE l.look_id = $1",
        look_id,
    )  # fmt: skip


async def read_progress(connection: Connection, look_id: UUID) -> list[Any]:
    """Of each share: who was asked, and what came; None where nothing has."""
    return list(
        await connection.fetch(
            "SELECT l.subscriber, h.found FROM publisher.v_look_share l LEFT JOIN LATERAL ("
            " SELECT found FROM audit.holding h WHERE h.look_id = l.look_id AND h.share_id = l.share_id"
            " ORDER BY h.number DESC LIMIT 1) h ON true WHERE l.look_id = $1",
            look_id,
        )
    )  # fmt: skip


async def read_plans(connection: Connection, look_id: UUID) -> list[Any]:
    return list(
        await connection.fetch(
            "SELECT plan_id, case_reference, version, issued_on FROM publisher.v_look_plan WHERE look_id = $1"
            " ORDER BY position",
            look_id,
        )
    )  # fmt: skip


async def read_earlier_draws(connection: Connection, look_id: UUID) -> list[Any]:
    """Draws of the same council in the twelve months before this look, the newest first."""
    return list(
        await connection.fetch(
            "SELECT l.look_id, l.asked_at, l.asked_by, l.asked,"
            " (SELECT count(*) FROM publisher.v_look_plan p WHERE p.look_id = l.look_id) AS children"
            " FROM publisher.v_look this JOIN publisher.v_look l ON l.la_code = this.la_code AND l.look_id <> this.look_id"
            " AND l.asked_at BETWEEN this.asked_at - interval '1 year' AND this.asked_at AND l.asked->>'seed' IS NOT NULL"
            " WHERE this.look_id = $1 ORDER BY l.asked_at DESC, l.look_id DESC",
            look_id,
        )
    )  # fmt: skip


async def read_shares(connection: Connection, look_ids: Sequence[UUID]) -> list[Any]:
    """Every share of these looks: the wish as it was asked, the newest answer, and what receipts said without looking."""
    return list(
        await connection.fetch(
            """
            SELECT l.look_id, l.share_id, l.plan_id, l.subscriber, l.seq, l.version_id, l.sha256, l.recipient_id,
                   l.recipient_kind, l.recipient_name, l.person, l.channel, l.grounds, h.hosted_by, h.found,
                   h.version_id AS found_version_id,
                   h.sha256 AS found_sha256, h.record, h.withdrawn, h.intact, h.reason, h.at, h.signed,
                   v.number AS found_version,
                   (v.issued_on, v.number) > (w.issued_on, w.number) AND v.recalled_at IS NULL AS newer,
                   v.recalled_at IS NOT NULL AS recalled,
                   coalesce(n.satisfied_seq, 0) AS satisfied_seq, n.held_version_id AS proved_version_id,
                   n.held_status AS proved_status, n.held_record AS proved_record, n.held_at AS proved_at,
                   p.number AS proved_version, CASE WHEN n.seq = l.seq THEN n.status END AS told_status,
                   CASE WHEN n.seq = l.seq THEN n.reason END AS told_reason
            FROM publisher.v_look_share l
            LEFT JOIN LATERAL (
                SELECT * FROM audit.holding h WHERE h.look_id = l.look_id AND h.share_id = l.share_id
                ORDER BY h.number DESC LIMIT 1
            ) h ON true
            LEFT JOIN publisher.v_version w ON w.version_id = l.version_id
            LEFT JOIN publisher.v_version v ON v.version_id = h.version_id AND v.plan_id = l.plan_id
            LEFT JOIN audit.newest n ON n.share_id = l.share_id
            LEFT JOIN publisher.v_version p ON p.version_id = n.held_version_id
            WHERE l.look_id = ANY($1) ORDER BY l.plan_id, l.share_id
            """,
            list(look_ids),
        )
    )  # fmt: skip


async def read_gaps(connection: Connection, plan_ids: Sequence[UUID]) -> list[Any]:
    return list(
        await connection.fetch(
            "SELECT plan_id, who, reason, since FROM publisher.v_gap WHERE plan_id = ANY($1) ORDER BY plan_id, who",
            list(plan_ids),
        )
    )  # fmt: skip


async def read_keys(connection: Connection) -> dict[str, Any]:
    """Public keys by subscriber."""
    rows = await connection.fetch("SELECT subscriber, receipt_key FROM publisher.v_subscriber")
    return {row["subscriber"]: row["receipt_key"] for row in rows}


async def write_read_acts(connection: Connection, actor: str, la_code: str, look_id: UUID, plan_ids: Sequence[UUID]) -> None:
    """Whose records were shown, in the ledger."""
    await connection.execute(
        "INSERT INTO audit.pending (act, actor, la_code, plan_id, details)"
        " SELECT 'look_read', $1, $2, plan_id, $4 FROM unnest($3::uuid[]) AS t (plan_id)",
        actor, la_code, list(plan_ids), {"look_id": look_id},
    )  # fmt: skip


async def read_records(connection: Any) -> list[Any]:
    return list(
        await connection.fetch(
            "SELECT s.subscriber, s.name, h.last_seen, h.held, coalesce(h.differences, '{}') AS differences,"
            " coalesce(h.unasked, 0) AS unasked, h.unasked_since"
            " FROM publisher.v_subscriber s LEFT JOIN audit.heartbeat h USING (subscriber) ORDER BY s.subscriber"
        )
    )
