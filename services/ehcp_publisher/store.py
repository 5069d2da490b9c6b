"""All SQL of the publisher, as named functions over a connection of a council transaction (row-level security applies).

Invariants that every write here keeps: plans are locked by ``plan_id`` before shares by ``share_id``; a share's ``seq`` rises
with every change of the wish, and its instruction, outbox row, ``unsatisfied`` row and act are written in the same
transaction; outbox rows are inserted while the share's lock is held, so that per key their ids rise with commits.
Everything takes batches: arrays and ``unnest``, since ``COPY`` is refused on tables with row-level security.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

import asyncpg

from services.ehcp_publisher.instructions import OutboxRow
from services.ehcp_publisher.registry import Known
from services.ehcp_publisher.shares import Ground
from services.ehcp_publisher.versions import Issued
from services.shared.postgres.pool import Row

Connection = asyncpg.pool.PoolConnectionProxy
ALL_SECTIONS = "*"
"""In ``rendering.sections``: nothing of the version is left out."""


@dataclass(frozen=True, slots=True)
class KnownPlan:
    """A plan as it stands, with what is needed to issue its next version."""

    plan_id: UUID
    la_code: str
    case_reference: str
    child_id: UUID
    wrapped_key: bytes
    identity: bytes
    versions: tuple[Issued, ...]


@dataclass(frozen=True, slots=True)
class Act:
    """One entry for the audit ledger. ``details`` holds nothing personal."""

    act: str
    actor: str
    la_code: str | None = None
    plan_id: UUID | None = None
    version_id: UUID | None = None
    share_id: UUID | None = None
    seq: int | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewPlan:
    plan_id: UUID
    la_code: str
    case_reference: str
    child_id: UUID
    wrapped_key: bytes
    identity: bytes
    nhs_lookup: bytes | None
    upn_lookup: bytes | None


@dataclass(frozen=True, slots=True)
class NewVersion:
    version_id: UUID
    plan_id: UUID
    la_code: str
    number: int
    issued_on: date
    text_hash: str
    section_hashes: dict[str, str]
    body: bytes
    issued_by: str
    rendering_id: UUID
    sha256: str
    manifest: bytes
    document: bytes | None
    size: int
    attachments: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Person:
    recipient_id: UUID
    kind: str
    name: str
    subscriber: str
    channel: str
    la_code: str
    plan_id: UUID
    reference: str
    person: bytes


@dataclass(frozen=True, slots=True)
class Share:
    """A share as it stands, locked."""

    share_id: UUID
    plan_id: UUID
    recipient_id: UUID
    seq: int
    action: str
    recipient: Known


@dataclass(frozen=True, slots=True)
class Wish:
    """A share's new state, with its instruction."""

    share_id: UUID
    la_code: str
    plan_id: UUID
    recipient_id: UUID
    subscriber: str | None
    seq: int
    action: str
    version_id: UUID
    rendering_id: UUID
    type: str
    data: bytes
    requested_at: datetime
    due_at: datetime
    check_at: datetime
    grounds: tuple[Ground, ...] | None = ()
    """None leaves the grounds as they are."""


# --- plans and versions ---

_PLANS = """
    SELECT p.plan_id, p.la_code, p.case_reference, p.child_id, c.wrapped_key, c.identity
    FROM publisher.plan p JOIN publisher.child c USING (child_id)
"""


async def find_plans(connection: Any, plan_ids: Sequence[UUID], references: Sequence[tuple[str, str]]) -> list[KnownPlan]:
    """Plans by id or by (council, case reference); those of other councils are not seen."""
    rows = await connection.fetch(
        _PLANS + " WHERE p.plan_id = ANY($1)"
        " OR (p.la_code, p.case_reference) IN (SELECT * FROM unnest($2::text[], $3::text[]))",
        list(plan_ids), [r[0] for r in references], [r[1] for r in references],
    )  # fmt: skip
    return await _with_versions(connection, rows)


async def lock_plans(connection: Any, plan_ids: Sequence[UUID]) -> dict[UUID, KnownPlan]:
    """The plans as they stand, locked in order of ``plan_id`` until the transaction ends."""
    await connection.fetch(
        "SELECT plan_id FROM publisher.plan WHERE plan_id = ANY($1) ORDER BY plan_id FOR UPDATE", list(plan_ids)
    )
    rows = await connection.fetch(_PLANS + " WHERE p.plan_id = ANY($1)", list(plan_ids))
    return {plan.plan_id: plan for plan in await _with_versions(connection, rows)}


async def _with_versions(connection: Any, rows: Sequence[Any]) -> list[KnownPlan]:
    versions: dict[UUID, list[Issued]] = {}
    for row in await connection.fetch(
        "SELECT plan_id, version_id, number, issued_on, text_hash, section_hashes FROM publisher.version"
        " WHERE plan_id = ANY($1)",
        [row["plan_id"] for row in rows],
    ):
        versions.setdefault(row["plan_id"], []).append(
            Issued(row["version_id"], row["number"], row["issued_on"], row["text_hash"], row["section_hashes"])
        )
    return [KnownPlan(**dict(row), versions=tuple(versions.get(row["plan_id"], ()))) for row in rows]


async def insert_plans(connection: Any, plans: Sequence[NewPlan]) -> set[UUID]:
    """Insert children and plans; returns the plans that are new. A case reference taken meanwhile is left out."""
    made = {
        row["plan_id"]
        for row in await connection.fetch(
            """
            WITH new AS (
                SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::bytea[], $6::bytea[], $7::bytea[],
                                     $8::bytea[])
                AS t (plan_id, la_code, case_reference, child_id, wrapped_key, identity, nhs_lookup, upn_lookup)
            ), child AS (
                INSERT INTO publisher.child (child_id, la_code, wrapped_key, identity, nhs_lookup, upn_lookup)
                SELECT child_id, la_code, wrapped_key, identity, nhs_lookup, upn_lookup FROM new
                WHERE NOT EXISTS (SELECT FROM publisher.plan p
                                  WHERE p.la_code = new.la_code AND p.case_reference = new.case_reference)
                RETURNING child_id
            )
            INSERT INTO publisher.plan (plan_id, la_code, case_reference, child_id)
            SELECT plan_id, la_code, case_reference, child_id FROM new JOIN child USING (child_id)
            ORDER BY la_code, case_reference
            ON CONFLICT (la_code, case_reference) DO NOTHING
            RETURNING plan_id
            """,
            *_columns(plans, "plan_id la_code case_reference child_id wrapped_key identity nhs_lookup upn_lookup"),
        )
    }
    orphans = [plan.child_id for plan in plans if plan.plan_id not in made]
    if orphans:
        await connection.execute("DELETE FROM publisher.child WHERE child_id = ANY($1)", orphans)
    return made


async def insert_versions(connection: Any, versions: Sequence[NewVersion]) -> None:
    """Versions with their rendering of all sections and their attachments."""
    await connection.execute(
        """
        INSERT INTO publisher.version
            (version_id, plan_id, la_code, number, issued_on, text_hash, section_hashes, body, issued_by)
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::date[], $6::text[], $7::jsonb[],
                             $8::bytea[], $9::text[])
        """,
        *_columns(versions, "version_id plan_id la_code number issued_on text_hash section_hashes body issued_by"),
    )
    await connection.execute(
        """
        INSERT INTO publisher.rendering (rendering_id, version_id, la_code, sections, sha256, manifest, document, size)
        SELECT rendering_id, version_id, la_code, $8, sha256, manifest, document, size
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::jsonb[], $6::bytea[], $7::bigint[])
        AS t (rendering_id, version_id, la_code, sha256, manifest, document, size)
        """,
        *_columns(versions, "rendering_id version_id la_code sha256 manifest document size"),
        ALL_SECTIONS,
    )
    attachments = [(v.version_id, i, v.la_code, data) for v in versions for i, data in enumerate(v.attachments)]
    await connection.executemany(
        "INSERT INTO publisher.attachment (version_id, position, la_code, data) VALUES ($1, $2, $3, $4)", attachments
    )


# --- recipients and shares ---


async def save_recipients(connection: Any, people: Sequence[Person], unknown: Sequence[Known]) -> None:
    """People of a plan, and organisations whose code nobody registered: so that their share exists and is seen."""
    await connection.execute(
        """
        INSERT INTO publisher.recipient
            (recipient_id, kind, name, subscriber, channel, la_code, plan_id, reference, person)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::uuid[],
                             $8::text[], $9::bytea[])
        ON CONFLICT (recipient_id) DO UPDATE SET person = excluded.person, kind = excluded.kind, name = excluded.name
        """,
        *_columns(people, "recipient_id kind name subscriber channel la_code plan_id reference person"),
    )
    for known in {each.recipient_id: each for each in unknown}.values():
        await connection.execute(
            "INSERT INTO publisher.recipient (recipient_id, kind, name, channel) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (recipient_id) DO NOTHING",
            known.recipient_id, known.kind, known.name, known.channel,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO publisher.recipient_code (recipient_id, kind, scheme, value, valid_from)"
            " VALUES ($1, $2, $3, $4, '1900-01-01') ON CONFLICT DO NOTHING",
            known.recipient_id, known.kind, known.scheme, known.value,
        )  # fmt: skip


async def lock_shares(connection: Any, plan_ids: Sequence[UUID]) -> dict[UUID, list[Share]]:
    """Every share of these plans, locked in order of ``share_id``. Call with the plans' locks held.

    A recipient keeps the code of its last instruction: to its subscriber that is its address.
    """
    shares: dict[UUID, list[Share]] = {}
    rows = await connection.fetch(
        """
        SELECT s.share_id, s.plan_id, s.recipient_id, s.seq, s.action, r.kind, r.name, r.subscriber, r.channel,
               convert_from(i.data, 'UTF8')::jsonb -> 'recipient' AS code
        FROM publisher.share s JOIN publisher.recipient r USING (recipient_id)
        JOIN publisher.instruction i ON i.share_id = s.share_id AND i.seq = s.seq
        WHERE s.plan_id = ANY($1) ORDER BY s.share_id FOR UPDATE OF s
        """,
        list(plan_ids),
    )
    for row in rows:
        recipient = Known(
            row["recipient_id"],
            row["kind"],
            row["code"]["scheme"],
            row["code"]["value"],
            row["name"],
            row["subscriber"],
            row["channel"],
        )
        shares.setdefault(row["plan_id"], []).append(
            Share(row["share_id"], row["plan_id"], row["recipient_id"], row["seq"], row["action"], recipient)
        )
    return shares


async def write_wishes(connection: Any, wishes: Sequence[Wish], outbox: Sequence[OutboxRow]) -> None:
    """New and changed shares with their grounds, instructions and outbox rows."""
    await connection.execute(
        """
        INSERT INTO publisher.share
            (share_id, la_code, plan_id, recipient_id, subscriber, seq, action, version_id, rendering_id)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::bigint[], $7::text[],
                             $8::uuid[], $9::uuid[])
        ON CONFLICT (share_id) DO UPDATE SET seq = excluded.seq, action = excluded.action, subscriber = excluded.subscriber,
            version_id = excluded.version_id, rendering_id = excluded.rendering_id
        """,
        *_columns(wishes, "share_id la_code plan_id recipient_id subscriber seq action version_id rendering_id"),
    )
    await connection.execute(
        """
        INSERT INTO publisher.instruction (share_id, seq, la_code, type, data, version_id, requested_at, due_at)
        SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::uuid[], $7::timestamptz[],
                             $8::timestamptz[])
        """,
        *_columns(wishes, "share_id seq la_code type data version_id requested_at due_at"),
    )
    # A withdrawal that has no subscriber is done with: nobody holds anything, and nobody would ever answer.
    answered = [wish for wish in wishes if wish.subscriber or wish.action == "hold"]
    if len(answered) < len(wishes):
        gone = [wish.share_id for wish in wishes if not wish.subscriber and wish.action == "withdraw"]
        await connection.execute("DELETE FROM publisher.unsatisfied WHERE share_id = ANY($1)", gone)
    # The due time of the oldest unsatisfied instruction stays, unless that one is satisfied and only not yet swept away.
    await connection.execute(
        """
        INSERT INTO publisher.unsatisfied AS u (share_id, la_code, seq, due_at, check_at)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::timestamptz[], $5::timestamptz[])
        ON CONFLICT (share_id) DO UPDATE SET seq = excluded.seq, check_at = excluded.check_at, resends = 0,
            due_at = CASE WHEN EXISTS (SELECT FROM audit.v_newest n WHERE n.share_id = u.share_id
                                       AND n.satisfied_seq >= u.seq)
                     THEN excluded.due_at ELSE least(u.due_at, excluded.due_at) END
        """,
        *_columns(answered, "share_id la_code seq due_at check_at"),
    )
    await _write_grounds(connection, wishes)
    await insert_outbox(connection, outbox)


async def _write_grounds(connection: Any, wishes: Sequence[Wish]) -> None:
    grounds = [(w.share_id, w.la_code, g) for w in wishes for g in w.grounds or ()]
    raised = [w.share_id for w in wishes if w.seq > 1 and w.grounds is not None]
    if raised:
        await connection.execute(
            """
            UPDATE publisher.share_ground g SET until_date = current_date
            WHERE g.share_id = ANY($1) AND (g.until_date IS NULL OR g.until_date > current_date)
            AND NOT EXISTS (SELECT FROM unnest($2::uuid[], $3::text[]) AS kept (share_id, reference)
                            WHERE kept.share_id = g.share_id AND kept.reference = g.reference)
            """,
            raised, [g[0] for g in grounds], [g[2].reference for g in grounds],
        )  # fmt: skip
    await connection.execute(
        """
        INSERT INTO publisher.share_ground (share_id, la_code, grounds, reference, reason, from_date, until_date)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::date[], $7::date[])
        ON CONFLICT (share_id, reference) DO UPDATE SET until_date = excluded.until_date
        """,
        [g[0] for g in grounds], [g[1] for g in grounds], [g[2].grounds for g in grounds],
        [g[2].reference for g in grounds], [g[2].reason for g in grounds], [g[2].from_ for g in grounds],
        [g[2].until for g in grounds],
    )  # fmt: skip


async def insert_outbox(connection: Any, rows: Sequence[OutboxRow]) -> None:
    """Rows for the relay, and a nudge to it at commit."""
    if not rows:
        return
    await connection.execute(
        "INSERT INTO publisher.outbox (topic, key, headers, value)"
        " SELECT * FROM unnest($1::text[], $2::text[], $3::jsonb[], $4::bytea[])",
        *_columns(rows, "topic key headers value"),
    )
    await connection.execute("NOTIFY outbox")


async def insert_acts(connection: Any, acts: Sequence[Act]) -> None:
    await connection.execute(
        "INSERT INTO audit.pending (act, actor, la_code, plan_id, version_id, share_id, seq, details)"
        " SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::uuid[], $7::bigint[],"
        " $8::jsonb[])",
        *_columns(acts, "act actor la_code plan_id version_id share_id seq details"),
    )


# --- idempotency keys ---


async def find_answer(connection: Any, client_id: str, route: str, key: str) -> Row | None:
    row = await connection.fetchrow(
        "SELECT body_hash, status, answer FROM publisher.idempotency WHERE client_id = $1 AND route = $2 AND key = $3",
        client_id, route, key,
    )  # fmt: skip
    return dict(row) if row else None


async def keep_answer(connection: Any, client_id: str, route: str, key: str, body_hash: str, status: int, answer: Any) -> bool:
    """False when another request with this key was faster."""
    return bool(
        await connection.fetchval(
            "INSERT INTO publisher.idempotency (client_id, route, key, body_hash, status, answer)"
            " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING true",
            client_id, route, key, body_hash, status, answer,
        )
    )  # fmt: skip


# --- resend sweep ---


async def delete_satisfied(connection: Any, limit: int) -> int:
    """Forget shares that turned out satisfied. Waits for nobody: who issues a version holds rows that we would wait for, and
    could come to wait for ours."""
    tag = await connection.execute(
        """
        WITH due AS MATERIALIZED (
            SELECT share_id, seq FROM publisher.unsatisfied WHERE check_at <= now() ORDER BY check_at LIMIT $1
            FOR UPDATE SKIP LOCKED
        )
        DELETE FROM publisher.unsatisfied u USING due, audit.v_newest n
        WHERE u.share_id = due.share_id AND n.share_id = u.share_id AND n.satisfied_seq >= due.seq AND n.seq <= due.seq
        """,
        limit,
    )
    return int(tag.split()[-1])


async def reopen_lost(connection: Any, limit: int) -> int:
    """Take shares back in that looked satisfied and, by a newer receipt, are not: filed, then found missing; or contradicted,
    which after a restored backup is the only sign. Waits for nobody: whoever issues a version for one opens it anyway."""
    tag = await connection.execute(
        """
        INSERT INTO publisher.unsatisfied (share_id, la_code, seq, due_at, check_at)
        SELECT s.share_id, s.la_code, s.seq, i.due_at, now()
        FROM audit.v_newest n JOIN publisher.share s USING (share_id)
        JOIN publisher.instruction i ON i.share_id = s.share_id AND i.seq = s.seq
        WHERE ((n.lost AND n.satisfied_seq < s.seq) OR (n.status = 'conflict' AND n.seq >= s.seq))
        AND NOT EXISTS (SELECT FROM publisher.unsatisfied u WHERE u.share_id = s.share_id)
        LIMIT $1 FOR UPDATE OF s SKIP LOCKED
        ON CONFLICT (share_id) DO NOTHING
        """,
        limit,
    )
    return int(tag.split()[-1])


async def lock_unanswered(connection: Any, limit: int) -> list[Any]:
    """Due unsatisfied shares with the newest receipt that each has, locked; other sweeps pass over them."""
    return list(
        await connection.fetch(
            """
            SELECT u.share_id, u.seq, u.resends, s.subscriber, i.type, i.data, s.la_code, n.seq AS receipt_seq, n.status,
                   n.next_try_at
            FROM publisher.unsatisfied u
            JOIN publisher.share s USING (share_id)
            JOIN publisher.instruction i ON i.share_id = u.share_id AND i.seq = u.seq
            LEFT JOIN audit.v_newest n ON n.share_id = u.share_id
            WHERE u.check_at <= now() ORDER BY u.check_at LIMIT $1 FOR UPDATE OF u SKIP LOCKED
            """,
            limit,
        )
    )


async def check_later(connection: Any, checks: Sequence[tuple[UUID, int, datetime]]) -> None:
    """(share, resends, next look) of each."""
    await connection.execute(
        "UPDATE publisher.unsatisfied u SET resends = t.resends, check_at = t.check_at"
        " FROM unnest($1::uuid[], $2::int[], $3::timestamptz[]) AS t (share_id, resends, check_at)"
        " WHERE u.share_id = t.share_id",
        [c[0] for c in checks], [c[1] for c in checks], [c[2] for c in checks],
    )  # fmt: skip


async def lock_share_for_new_wish(connection: Any, share_id: UUID) -> Any:
    """One share with everything its instruction says, locked."""
    return await connection.fetchrow(
        """
        SELECT s.*, v.number, v.issued_on, v.section_hashes, g.sha256, r.kind, r.name, r.channel, n.seq AS receipt_seq,
               n.status, convert_from(i.data, 'UTF8')::jsonb -> 'recipient' AS code
        FROM publisher.share s
        JOIN publisher.version v USING (version_id)
        JOIN publisher.rendering g USING (rendering_id)
        JOIN publisher.recipient r USING (recipient_id)
        JOIN publisher.instruction i ON i.share_id = s.share_id AND i.seq = s.seq
        LEFT JOIN audit.v_newest n ON n.share_id = s.share_id
        WHERE s.share_id = $1 FOR UPDATE OF s
        """,
        share_id,
    )


# --- document API ---


async def lock_reads(connection: Any, subscriber: str, share_ids: Sequence[UUID]) -> dict[UUID, Any]:
    """The subscriber's own shares among these, locked against a withdrawal until the read's act is committed."""
    rows = await connection.fetch(
        """
        SELECT s.share_id, s.seq, s.action, s.la_code, s.plan_id, s.version_id, s.rendering_id, g.size
        FROM publisher.share s JOIN publisher.rendering g USING (rendering_id)
        WHERE s.share_id = ANY($1) AND s.subscriber = $2 ORDER BY s.share_id FOR SHARE OF s
        """,
        list(share_ids), subscriber,
    )  # fmt: skip
    return {row["share_id"]: row for row in rows}


async def read_renderings(connection: Any, rendering_ids: Sequence[UUID]) -> dict[UUID, Any]:
    rows = await connection.fetch(
        """
        SELECT g.rendering_id, g.sections, g.sha256, g.manifest, g.document, v.version_id, v.plan_id, v.number, v.issued_on,
               v.body, p.case_reference, p.la_code, c.child_id, c.wrapped_key, c.identity, k.name AS council, k.ods_code
        FROM publisher.rendering g
        JOIN publisher.version v USING (version_id)
        JOIN publisher.plan p USING (plan_id)
        JOIN publisher.child c USING (child_id)
        JOIN publisher.council k ON k.la_code = p.la_code
        WHERE g.rendering_id = ANY($1)
        """,
        list(rendering_ids),
    )
    return {row["rendering_id"]: row for row in rows}


async def read_instructions(connection: Any, wanted: Sequence[tuple[UUID, int]]) -> dict[UUID, Any]:
    """The instruction and the recipient of each share, as the subscriber must see them."""
    rows = await connection.fetch(
        """
        SELECT i.share_id, i.data, r.name, r.person, r.recipient_id
        FROM unnest($1::uuid[], $2::bigint[]) AS w (share_id, seq)
        JOIN publisher.instruction i USING (share_id, seq)
        JOIN publisher.share s USING (share_id)
        JOIN publisher.recipient r USING (recipient_id)
        """,
        [w[0] for w in wanted], [w[1] for w in wanted],
    )  # fmt: skip
    return {row["share_id"]: row for row in rows}


async def read_attachments(connection: Any, version_ids: Sequence[UUID]) -> dict[UUID, list[bytes]]:
    attachments: dict[UUID, list[bytes]] = {}
    for row in await connection.fetch(
        "SELECT version_id, data FROM publisher.attachment WHERE version_id = ANY($1) ORDER BY version_id, position",
        list(version_ids),
    ):
        attachments.setdefault(row["version_id"], []).append(row["data"])
    return attachments


async def list_shares(connection: Any, subscriber: str, after: UUID | None, limit: int, unanswered: bool) -> list[Any]:
    """A page of a subscriber's own shares with their newest instruction, in order of ``share_id``."""
    # Two statements, since the small table must lead where only what is open is asked for.
    everything = "SELECT s.share_id, s.seq, i.type, i.data FROM publisher.share s"
    open_only = "SELECT s.share_id, s.seq, i.type, i.data FROM publisher.unsatisfied u JOIN publisher.share s USING (share_id)"
    rest = (
        " JOIN publisher.instruction i ON i.share_id = s.share_id AND i.seq = s.seq"
        " WHERE s.subscriber = $1 AND ($2::uuid IS NULL OR s.share_id > $2) ORDER BY s.share_id LIMIT $3"
    )
    return list(await connection.fetch((open_only if unanswered else everything) + rest, subscriber, after, limit))


def _columns(items: Sequence[Any], names: str) -> list[list[Any]]:
    """One array per named attribute, for ``unnest``."""
    return [[getattr(item, name) for item in items] for name in names.split()]
