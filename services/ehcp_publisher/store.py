"""All SQL of the publisher, as named functions over a connection of a council transaction (row-level security applies).

Invariants that every write here keeps: plans are locked by ``plan_id`` before shares by ``share_id``; a share's ``seq`` rises
with every change of the wish, and its instruction, outbox row, ``unsatisfied`` row and act are written in the same
transaction; outbox rows are inserted while the share's lock is held, so that per key their ids rise with commits.
Everything takes batches: arrays and ``unnest``, since ``COPY`` is refused on tables with row-level security.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

import asyncpg

from schemas.base import Channel, RecipientKind
from schemas.guard import Finding
from schemas.identifiers import CodeScheme
from schemas.lifecycle import PlanState
from schemas.notices import NoticeKind
from services.ehcp_publisher.instructions import OutboxRow
from services.ehcp_publisher.registry import Known
from services.ehcp_publisher.shares import Ground
from services.ehcp_publisher.versions import Hold, Issued
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
    state: PlanState
    revision: int
    identity_revision: int
    circumstances: bytes | None
    """Sealed; None where they are those of the current version."""
    restrictions: Sequence[str]
    """Why it is held, oldest first."""
    appeal_until: date | None
    versions: tuple[Issued, ...]
    doubts: Mapping[str, str] = field(default_factory=dict)
    """Whom of the family a second person must confirm when they are named again, and why: a word of ``families``."""

    @property
    def restricted(self) -> str | None:
        return self.restrictions[0] if self.restrictions else None


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
    name_lookup: bytes | None
    different_from: tuple[UUID, ...]
    names: tuple[tuple[int, int], ...] = ()
    """Under which texts are found to be about the child."""
    decide_on: date | None = None
    parties: tuple[str, ...] = ()

    def is_same_child(self, nhs: bytes | None, upn: bytes | None, name: bytes | None, plan_id: UUID) -> bool:
        """By NHS number or UPN; by full name with date of birth unless the NHS numbers say otherwise, or a person did."""
        if (nhs and nhs == self.nhs_lookup) or (upn and upn == self.upn_lookup):
            return True
        told_apart = (nhs and self.nhs_lookup) or plan_id in self.different_from
        return name == self.name_lookup and not told_apart


@dataclass(frozen=True, slots=True)
class NewRendering:
    """A version in some or all of its sections, or a notice; sealed."""

    rendering_id: UUID
    version_id: UUID | None
    notice_id: UUID | None
    la_code: str
    sections: str
    sha256: str
    manifest: bytes
    document: bytes | None
    size: int
    identity_revision: int
    typeset: bool


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
    """The client that sent it."""
    by: str | None
    """The officer."""
    renderings: tuple[NewRendering, ...]
    """The whole first."""
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
    la_code: str
    """In whose name the instruction was said; the plan may be another council's by now."""
    subscriber: str | None
    """Where the instruction went; the recipient may have another by now."""
    version_id: UUID | None
    notice_id: UUID | None
    rendering_id: UUID
    identity_revision: int
    removing: tuple[UUID, ...]
    satisfied: bool
    """The newest instruction is known to be satisfied: what it wanted removed is gone."""
    notice: NoticeKind | None = None
    """What kind of notice it is of."""
    owed: Mapping[str, tuple[UUID, ...]] = field(default_factory=dict)
    """By subscriber, what was recalled from it and is not proved to be gone: who had the recipient before may have it again."""


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
    version_id: UUID | None
    notice_id: UUID | None
    rendering_id: UUID
    identity_revision: int
    removing: tuple[UUID, ...]
    type: str
    data: bytes
    requested_at: datetime
    due_at: datetime
    check_at: datetime
    grounds: tuple[Ground, ...] | None = ()
    """None leaves the grounds as they are."""

    @property
    def thing_id(self) -> UUID:
        """The version, or the notice."""
        thing = self.version_id or self.notice_id
        assert thing is not None
        return thing


# --- plans and versions ---

_PLANS = """
    SELECT p.plan_id, p.la_code, p.case_reference, p.child_id, c.wrapped_key, c.identity, p.state, p.revision,
           p.identity_revision, p.circumstances, p.restrictions, p.appeal_until, p.doubts
    FROM publisher.plan p JOIN publisher.child c USING (child_id)
"""


async def find_plans(connection: Any, plan_ids: Sequence[UUID], references: Sequence[tuple[str, str]]) -> list[KnownPlan]:
    """Plans by id or by (council, case reference), in which capital letters do not count; those of other councils are not
    seen."""
    rows = await connection.fetch(
        _PLANS + " WHERE p.plan_id = ANY($1)"
        " OR (p.la_code, upper(p.case_reference)) IN (SELECT la_code, upper(reference)"
        " FROM unnest($2::text[], $3::text[]) AS t (la_code, reference))",
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
        "SELECT v.plan_id, version_id, number, issued_on, text_hash, section_hashes,"
        " recalled_at IS NOT NULL AS recalled, h.findings, h.released"
        " FROM publisher.version v LEFT JOIN publisher.hold h ON h.thing_id = version_id WHERE v.plan_id = ANY($1)",
        [row["plan_id"] for row in rows],
    ):
        values = dict(row)
        findings, released = values.pop("findings"), values.pop("released")
        if findings is not None:
            values["hold"] = Hold(tuple(map(Finding.model_validate, findings)), released)
        versions.setdefault(values.pop("plan_id"), []).append(Issued(**values))
    return [
        KnownPlan(**dict(row) | {"state": PlanState(row["state"])}, versions=tuple(versions.get(row["plan_id"], ())))
        for row in rows
    ]


async def find_same_children(connection: Any, plans: Sequence[NewPlan]) -> dict[UUID, Row]:
    """For each new plan whose child has one already: the plan that it has. Locks the names until the transaction ends.

    Identifiers are guarded by unique indexes; a name is not one, since two children may share it and the date of birth.
    """
    await connection.execute(
        "SELECT pg_advisory_xact_lock(key) FROM unnest($1::bigint[]) AS t (key)",
        sorted({int.from_bytes(plan.name_lookup[:8], signed=True) for plan in plans if plan.name_lookup}),
    )
    rows = await connection.fetch(
        """
        SELECT p.plan_id, p.la_code, p.case_reference, c.nhs_lookup, c.upn_lookup, c.name_lookup
        FROM publisher.child c JOIN publisher.plan p USING (child_id)
        WHERE c.findable AND c.la_code = ANY($1)
        AND (c.nhs_lookup = ANY($2) OR c.upn_lookup = ANY($3) OR c.name_lookup = ANY($4))
        """,
        list({plan.la_code for plan in plans}), [plan.nhs_lookup for plan in plans if plan.nhs_lookup],
        [plan.upn_lookup for plan in plans if plan.upn_lookup], [plan.name_lookup for plan in plans if plan.name_lookup],
    )  # fmt: skip
    return {
        plan.plan_id: dict(row)
        for plan in plans
        for row in rows
        if row["la_code"] == plan.la_code
        and row["case_reference"].upper() != plan.case_reference.upper()
        and plan.is_same_child(row["nhs_lookup"], row["upn_lookup"], row["name_lookup"], row["plan_id"])
    }


async def find_transferred(connection: Any, plans: Sequence[NewPlan]) -> dict[UUID, date]:
    """Of these new plans, those whose case reference went to another council with its plan: since when."""
    rows = await connection.fetch(
        """
        SELECT new.plan_id, max(c.until_date) AS until_date
        FROM unnest($1::uuid[], $2::text[], $3::text[]) AS new (plan_id, la_code, case_reference)
        JOIN publisher.custody c ON c.la_code = new.la_code AND upper(c.case_reference) = upper(new.case_reference)
        GROUP BY 1
        """,
        *_columns(plans, "plan_id la_code case_reference"),
    )
    return {row["plan_id"]: row["until_date"] for row in rows}


async def insert_plans(connection: Any, plans: Sequence[NewPlan]) -> set[UUID]:
    """Insert children and plans; returns the plans that are new. A case reference or a child taken meanwhile is left out."""
    made = {
        row["plan_id"]
        for row in await connection.fetch(
            """
            WITH new AS (
                SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::bytea[], $6::bytea[], $7::bytea[],
                                     $8::bytea[], $9::bytea[], $10::date[], $11::text[])
                AS t (plan_id, la_code, case_reference, child_id, wrapped_key, identity, nhs_lookup, upn_lookup, name_lookup,
                      decide_on, parties)
            ), child AS (
                INSERT INTO publisher.child
                    (child_id, la_code, wrapped_key, identity, nhs_lookup, upn_lookup, name_lookup, named)
                SELECT child_id, la_code, wrapped_key, identity, nhs_lookup, upn_lookup, name_lookup, true FROM new
                WHERE NOT EXISTS (SELECT FROM publisher.plan p
                                  WHERE p.la_code = new.la_code
                                  AND upper(p.case_reference) = upper(new.case_reference))
                ORDER BY nhs_lookup, upn_lookup
                ON CONFLICT DO NOTHING
                RETURNING child_id
            )
            INSERT INTO publisher.plan (plan_id, la_code, case_reference, child_id, decide_on, parties)
            SELECT plan_id, la_code, case_reference, child_id, decide_on, string_to_array(parties, ' ')
            FROM new JOIN child USING (child_id)
            ORDER BY la_code, upper(case_reference)
            ON CONFLICT DO NOTHING
            RETURNING plan_id
            """,
            *_columns(
                plans,
                "plan_id la_code case_reference child_id wrapped_key identity nhs_lookup upn_lookup name_lookup decide_on",
            ),
            [" ".join(plan.parties) for plan in plans],
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
            (version_id, plan_id, la_code, number, issued_on, text_hash, section_hashes, body, issued_by, by)
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::date[], $6::text[], $7::jsonb[],
                             $8::bytea[], $9::text[], $10::text[])
        """,
        *_columns(versions, "version_id plan_id la_code number issued_on text_hash section_hashes body issued_by by"),
    )
    await insert_renderings(connection, [rendering for version in versions for rendering in version.renderings])
    await insert_attachments(
        connection, [(v.version_id, i, v.la_code, d) for v in versions for i, d in enumerate(v.attachments)]
    )


async def take_circumstances(connection: Any, plan_ids: Sequence[UUID]) -> None:
    """A new version says who is around the child: what events said before is over."""
    await connection.execute(
        "UPDATE publisher.plan SET circumstances = NULL, revision = revision + 1 WHERE plan_id = ANY($1)"
        " AND (SELECT count(*) FROM publisher.version v WHERE v.plan_id = plan.plan_id) > 1",
        list(plan_ids),
    )


async def insert_renderings(connection: Any, renderings: Sequence[NewRendering]) -> None:
    """One that another request made meanwhile stays."""
    await connection.execute(
        """
        INSERT INTO publisher.rendering
            (rendering_id, version_id, notice_id, la_code, sections, sha256, manifest, document, size, identity_revision,
             typeset)
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::jsonb[], $8::bytea[],
                             $9::bigint[], $10::int[], $11::bool[])
        ON CONFLICT DO NOTHING
        """,
        *_columns(
            renderings,
            "rendering_id version_id notice_id la_code sections sha256 manifest document size identity_revision typeset",
        ),
    )


async def insert_attachments(connection: Any, attachments: Sequence[tuple[UUID, int, str, bytes]]) -> None:
    """(version or notice, position, council, sealed bytes)."""
    if attachments:
        await connection.executemany(
            "INSERT INTO publisher.attachment (owner_id, position, la_code, data) VALUES ($1, $2, $3, $4)", attachments
        )


async def find_renderings(connection: Any, version_ids: Sequence[UUID]) -> dict[UUID, dict[str, Row]]:
    """By version and sections, the newest of each: id, hash, whether it was typeset here, for which identity of the child."""
    found: dict[UUID, dict[str, Row]] = {}
    for row in await connection.fetch(
        "SELECT DISTINCT ON (version_id, sections) version_id, sections, rendering_id, sha256, typeset, identity_revision"
        " FROM publisher.rendering WHERE version_id = ANY($1) ORDER BY version_id, sections, identity_revision DESC",
        list(version_ids),
    ):
        found.setdefault(row["version_id"], {})[row["sections"]] = dict(row)
    return found


async def read_body(connection: Any, version_id: UUID) -> bytes:
    """A version's sealed text, as :func:`services.ehcp_publisher.versions.stored` made it."""
    return (await read_bodies(connection, [version_id]))[version_id]


async def read_bodies(connection: Any, version_ids: Sequence[UUID]) -> dict[UUID, bytes]:
    rows = await connection.fetch(
        "SELECT version_id, body FROM publisher.version WHERE version_id = ANY($1)", list(version_ids)
    )
    return {row["version_id"]: row["body"] for row in rows}


# --- recipients and shares ---


SealedFamily = tuple[tuple[UUID, bytes], ...]
"""Recipient id, and who it is, sealed."""


async def read_family(connection: Any, plan_ids: Sequence[UUID]) -> dict[UUID, SealedFamily]:
    """By plan, everyone of its family who was ever to get it."""
    found: dict[UUID, list[tuple[UUID, bytes]]] = {}
    for row in await connection.fetch(
        "SELECT plan_id, recipient_id, person FROM publisher.recipient WHERE plan_id = ANY($1) AND person IS NOT NULL"
        " ORDER BY recipient_id",
        list(plan_ids),
    ):
        found.setdefault(row["plan_id"], []).append((row["recipient_id"], row["person"]))
    return {plan_id: tuple(family) for plan_id, family in found.items()}


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


async def lock_shares(
    connection: Any, plan_ids: Sequence[UUID], *, notices: bool = False, arrived: bool = False
) -> dict[UUID, list[Share]]:
    """Every share of these plans, locked in order of ``share_id``. Call with the plans' locks held.

    A recipient keeps the code of its last instruction: to its subscriber that is its address. ``notices``: and those of notices
    that have not arrived, as far as is known; together, so that nobody holds the one while waiting for the other. ``arrived``:
    of those that have, or were taken back, as well.
    """
    pending = (
        " UNION ALL SELECT s.share_id FROM publisher.notice t JOIN publisher.share s USING (notice_id)"
        " JOIN publisher.unsatisfied u USING (share_id) WHERE t.plan_id = ANY($1) AND s.action = 'hold'"
    )
    if arrived:
        pending = " UNION ALL SELECT share_id FROM publisher.share WHERE plan_id = ANY($1) AND notice_id IS NOT NULL"
    shares: dict[UUID, list[Share]] = {}
    rows = await connection.fetch(
        f"""
        SELECT s.share_id, s.plan_id, s.recipient_id, s.seq, s.action, said.la_code, s.subscriber, s.version_id, s.notice_id,
               s.rendering_id, s.identity_revision, s.removing, r.kind, r.name, r.subscriber AS serves, r.channel,
               said.recipient AS code, said.notice, coalesce(n.satisfied_seq, 0) >= s.seq AS satisfied, (
                   SELECT jsonb_object_agg(o.subscriber, o.things) FROM (
                       SELECT c.subscriber, jsonb_agg(DISTINCT t.thing) AS things
                       FROM publisher.recalled_copy c CROSS JOIN unnest(c.things) AS t (thing)
                       WHERE c.share_id = s.share_id
                       AND audit.proof_of_removal(c.share_id, c.subscriber, c.seq, ARRAY[t.thing]) IS NULL
                       AND NOT EXISTS (  -- it was given to the recipient after all
                           SELECT FROM publisher.instruction a WHERE a.share_id = c.share_id AND a.seq > c.seq
                           AND a.version_id = t.thing AND a.type = 'ehcp.share.requested.v1'
                       )
                       GROUP BY 1
                   ) o
               ) AS owed
        FROM publisher.share s JOIN publisher.recipient r USING (recipient_id)
        JOIN publisher.instruction i ON i.share_id = s.share_id AND i.seq = s.seq
        CROSS JOIN jsonb_to_record(convert_from(i.data, 'UTF8')::jsonb) AS said (la_code text, recipient jsonb, notice text)
        LEFT JOIN audit.v_newest n ON n.share_id = s.share_id
        WHERE s.share_id = ANY (ARRAY(SELECT share_id FROM publisher.share WHERE plan_id = ANY($1) AND notice_id IS NULL
                                      {pending if notices else ""}))
        ORDER BY s.share_id FOR UPDATE OF s
        """,
        list(plan_ids),
    )
    for row in rows:
        values = dict(row)
        code = values.pop("code")
        recipient = Known(
            values["recipient_id"], RecipientKind(values.pop("kind")), CodeScheme(code["scheme"]), code["value"],
            values.pop("name"), values.pop("serves"), Channel(values.pop("channel")),
        )  # fmt: skip
        values["removing"] = tuple(values["removing"])
        values["owed"] = {name: tuple(map(UUID, things)) for name, things in (values["owed"] or {}).items()}
        values["notice"] = NoticeKind(values["notice"]) if values["notice"] else None
        shares.setdefault(row["plan_id"], []).append(Share(**values, recipient=recipient))
    return shares


async def write_wishes(connection: Any, wishes: Sequence[Wish], outbox: Sequence[OutboxRow]) -> None:
    """New and changed shares with their grounds, instructions and outbox rows."""
    await connection.execute(
        """
        INSERT INTO publisher.share
            (share_id, la_code, plan_id, recipient_id, subscriber, seq, action, version_id, notice_id, rendering_id,
             identity_revision, removing)
        SELECT share_id, la_code, plan_id, recipient_id, subscriber, seq, action, version_id, notice_id, rendering_id,
               identity_revision, string_to_array(removing, ' ')::uuid[]
        FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::bigint[], $7::text[], $8::uuid[],
                    $9::uuid[], $10::uuid[], $11::int[], $12::text[])
        AS t (share_id, la_code, plan_id, recipient_id, subscriber, seq, action, version_id, notice_id, rendering_id,
              identity_revision, removing)
        ON CONFLICT (share_id) DO UPDATE SET seq = excluded.seq, action = excluded.action, subscriber = excluded.subscriber,
            version_id = excluded.version_id, rendering_id = excluded.rendering_id, removing = excluded.removing,
            identity_revision = excluded.identity_revision, la_code = excluded.la_code
        """,
        *_columns(
            wishes,
            "share_id la_code plan_id recipient_id subscriber seq action version_id notice_id rendering_id identity_revision",
        ),
        [" ".join(map(str, wish.removing)) for wish in wishes],
    )
    await connection.execute(
        """
        INSERT INTO publisher.instruction (share_id, seq, la_code, type, data, version_id, requested_at, due_at)
        SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::uuid[], $7::timestamptz[],
                             $8::timestamptz[])
        """,
        *_columns(wishes, "share_id seq la_code type data thing_id requested_at due_at"),
    )
    # A withdrawal that has no subscriber is done with: nobody holds anything, and nobody would ever answer.
    answered = [wish for wish in wishes if wish.subscriber or wish.action == "hold"]
    if len(answered) < len(wishes):
        gone = [wish.share_id for wish in wishes if not wish.subscriber and wish.action != "hold"]
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
    said = [(each.share_id, each.la_code, each.grounds) for each in wishes if each.grounds is not None]
    await write_grounds(connection, said)
    await insert_outbox(connection, outbox)


async def write_grounds(connection: Any, shares: Sequence[tuple[UUID, str, Sequence[Ground]]]) -> None:
    """(share, council, all grounds that it stands on now); the others end. What says the same already is not written."""
    if not shares:
        return
    grounds = [(share_id, la_code, ground) for share_id, la_code, each in shares for ground in each]
    await connection.execute(
        """
        UPDATE publisher.share_ground g SET until_date = current_date
        WHERE g.share_id = ANY($1) AND (g.until_date IS NULL OR g.until_date > current_date)
        AND NOT EXISTS (SELECT FROM unnest($2::uuid[], $3::text[]) AS kept (share_id, reference)
                        WHERE kept.share_id = g.share_id AND kept.reference = g.reference)
        """,
        [each[0] for each in shares], [g[0] for g in grounds], [g[2].reference for g in grounds],
    )  # fmt: skip
    await connection.execute(
        """
        INSERT INTO publisher.share_ground AS g (share_id, la_code, grounds, reference, reason, from_date, until_date)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::date[], $7::date[])
        ON CONFLICT (share_id, reference) DO UPDATE
        SET grounds = excluded.grounds, reason = excluded.reason, until_date = excluded.until_date
        WHERE (g.grounds, g.reason, g.until_date) IS DISTINCT FROM (excluded.grounds, excluded.reason, excluded.until_date)
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


_FOR_NEW_WISH = """
    SELECT s.*, i.type, i.data, r.channel, n.seq AS receipt_seq, n.status
    FROM publisher.share s
    JOIN publisher.recipient r USING (recipient_id)
    JOIN publisher.instruction i ON i.share_id = s.share_id AND i.seq = s.seq
    LEFT JOIN audit.v_newest n ON n.share_id = s.share_id
"""


async def lock_share_for_new_wish(connection: Any, share_id: UUID) -> Any:
    """One share with everything its instruction says, locked."""
    return await connection.fetchrow(f"{_FOR_NEW_WISH} WHERE s.share_id = $1 FOR UPDATE OF s", share_id)


async def lock_pending_notices(connection: Any, plan_id: UUID) -> list[Any]:
    """As :func:`lock_share_for_new_wish`: the shares of the plan's notices that have not arrived, as far as is known."""
    rows: list[Any] = await connection.fetch(
        f"{_FOR_NEW_WISH} JOIN publisher.unsatisfied u ON u.share_id = s.share_id"
        " WHERE s.plan_id = $1 AND s.notice_id IS NOT NULL AND s.action = 'hold' ORDER BY s.share_id FOR UPDATE OF s",
        plan_id,
    )
    return rows


# --- document API ---


async def lock_reads(connection: Any, subscriber: str, share_ids: Sequence[UUID]) -> dict[UUID, Any]:
    """The subscriber's own shares among these, locked against a withdrawal until the read's act is committed."""
    rows = await connection.fetch(
        """
        SELECT s.share_id, s.seq, s.action, s.la_code, s.plan_id, coalesce(s.version_id, s.notice_id) AS thing_id,
               s.rendering_id, g.size, p.restricted IS NOT NULL AS restricted
        FROM publisher.share s JOIN publisher.rendering g USING (rendering_id) JOIN publisher.plan p USING (plan_id)
        WHERE s.share_id = ANY($1) AND s.subscriber = $2 ORDER BY s.share_id FOR SHARE OF s
        """,
        list(share_ids), subscriber,
    )  # fmt: skip
    return {row["share_id"]: row for row in rows}


async def read_renderings(connection: Any, rendering_ids: Sequence[UUID]) -> dict[UUID, Any]:
    rows = await connection.fetch(
        """
        SELECT g.rendering_id, g.sections, g.sha256, g.manifest, g.document, coalesce(v.version_id, n.notice_id) AS thing_id,
               n.notice_id, p.plan_id, coalesce(v.number, 1) AS number, coalesce(v.issued_on, n.happened_on) AS issued_on,
               coalesce(v.body, n.body) AS body, p.case_reference, p.la_code, c.child_id, c.wrapped_key, c.identity,
               k.name AS council, k.ods_code
        FROM publisher.rendering g
        LEFT JOIN publisher.version v ON v.version_id = g.version_id
        LEFT JOIN publisher.notice n ON n.notice_id = g.notice_id
        JOIN publisher.plan p ON p.plan_id = coalesce(v.plan_id, n.plan_id)
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


async def read_attachments(connection: Any, owner_ids: Sequence[UUID]) -> dict[UUID, list[bytes]]:
    attachments: dict[UUID, list[bytes]] = {}
    for row in await connection.fetch(
        "SELECT owner_id, data FROM publisher.attachment WHERE owner_id = ANY($1) ORDER BY owner_id, position",
        list(owner_ids),
    ):
        attachments.setdefault(row["owner_id"], []).append(row["data"])
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
