"""SQL of what happens to plans between versions: events, reviews, notices, decisions, transfers, and the queue of plans whose
shares are to be decided again.

As everything in ``store``: over a connection of a council transaction, with the plan's lock held by the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from schemas.base import RecipientKind
from schemas.identifiers import CodeScheme, OrganisationCode
from schemas.lifecycle import PastReview
from services.ehcp_publisher import lifecycle, store_guard
from services.ehcp_publisher.currency import Flag, FlagCode
from services.ehcp_publisher.shares import Decided, Decision
from services.shared.postgres.pool import Row


@dataclass(frozen=True, slots=True)
class NewNotice:
    notice_id: UUID
    plan_id: UUID
    la_code: str
    kind: str
    happened_on: date
    body: bytes
    left_out: tuple[Row, ...] = ()
    waiting: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class NewEvent:
    plan_id: UUID
    revision: int
    la_code: str
    type: str
    about: str
    by: str
    happened_on: date
    hash: bytes
    data: bytes


# --- what shares follow from ---


async def read_decisions(connection: Any, plan_ids: Sequence[UUID]) -> dict[UUID, tuple[Decision, ...]]:
    decisions: dict[UUID, list[Decision]] = {}
    for row in await connection.fetch(
        "SELECT plan_id, recipient_id, share, scheme, value, lawful_basis, reason, until_date, kind FROM publisher.decision"
        " WHERE plan_id = ANY($1) ORDER BY plan_id, recipient_id",
        list(plan_ids),
    ):
        code = OrganisationCode(scheme=CodeScheme(row["scheme"]), value=row["value"]) if row["scheme"] else None
        kind = RecipientKind(row["kind"]) if row["kind"] else None
        decisions.setdefault(row["plan_id"], []).append(
            Decision(row["recipient_id"], row["share"], code, row["lawful_basis"], row["reason"], row["until_date"], kind)
        )
    return {plan_id: tuple(each) for plan_id, each in decisions.items()}


async def read_confirmed(connection: Any, plan_ids: Sequence[UUID]) -> dict[UUID, dict[UUID, bool | None]]:
    """By plan and recipient, what a second person said; None while it waits."""
    confirmed: dict[UUID, dict[UUID, bool | None]] = {}
    for row in await connection.fetch(
        "SELECT plan_id, recipient_id, share FROM publisher.confirmation WHERE plan_id = ANY($1)", list(plan_ids)
    ):
        confirmed.setdefault(row["plan_id"], {})[row["recipient_id"]] = row["share"]
    return confirmed


async def write_doubts(connection: Any, doubts: Mapping[UUID, Mapping[str, str]]) -> None:
    """New doubts about the family of these plans; what was confirmed of them before is asked anew."""
    rows = [(plan_id, UUID(recipient_id), why) for plan_id, each in doubts.items() for recipient_id, why in each.items()]
    if not rows:
        return
    await connection.execute(
        "DELETE FROM publisher.confirmation c USING unnest($1::uuid[], $2::uuid[]) AS t (plan_id, recipient_id)"
        " WHERE c.plan_id = t.plan_id AND c.recipient_id = t.recipient_id",
        [row[0] for row in rows], [row[1] for row in rows],
    )  # fmt: skip
    await connection.execute(
        "UPDATE publisher.plan p SET doubts = p.doubts || t.doubts FROM (SELECT plan_id, jsonb_object_agg(recipient_id, why)"
        " AS doubts FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS r (plan_id, recipient_id, why) GROUP BY plan_id) t"
        " WHERE p.plan_id = t.plan_id",
        *[list(column) for column in zip(*rows, strict=True)],
    )


async def write_decided(connection: Any, decided: Mapping[UUID, tuple[str, Decided]]) -> None:
    """By plan, its council and what was decided: when to decide next, who is named, has no share, or is to be confirmed.

    Who asks for a confirmation is whoever said last that the recipient is to have the plan: by a decision about it, by an event
    that says who is around the child, else by the current version; where no officer issued that, the client that sent it.
    """
    if not decided:
        return
    plan_ids = list(decided)
    await connection.execute(
        """
        UPDATE publisher.plan p SET decide_on = t.decide_on, parties = string_to_array(t.parties, ' ')
        FROM unnest($1::uuid[], $2::date[], $3::text[]) AS t (plan_id, decide_on, parties)
        WHERE p.plan_id = t.plan_id
        AND (p.decide_on, p.parties) IS DISTINCT FROM (t.decide_on, string_to_array(t.parties, ' '))
        """,
        plan_ids, [each.next_on for _, each in decided.values()], [" ".join(each.parties) for _, each in decided.values()],
    )  # fmt: skip
    gaps = [(plan_id, gap.who, la_code, gap.reason) for plan_id, (la_code, each) in decided.items() for gap in each.gaps]
    await _replace(connection, "share_gap", "who", "reason", plan_ids, gaps)
    asked = [
        (plan_id, each.recipient.recipient_id, la_code, each.recipient.kind, each.recipient.name, each.reason, each.once)
        for plan_id, (la_code, of_plan) in decided.items()
        for each in of_plan.unconfirmed
    ]
    await connection.execute(
        "DELETE FROM publisher.confirmation c WHERE c.plan_id = ANY($1) AND c.decided_at IS NULL AND NOT EXISTS"
        " (SELECT FROM unnest($2::uuid[], $3::uuid[]) AS t (plan_id, recipient_id)"
        " WHERE t.plan_id = c.plan_id AND t.recipient_id = c.recipient_id)",
        plan_ids, [row[0] for row in asked], [row[1] for row in asked],
    )  # fmt: skip
    if asked:
        await connection.execute(
            """
            INSERT INTO publisher.confirmation AS c (plan_id, recipient_id, la_code, kind, name, reason, once, asked_by)
            SELECT t.*, coalesce(
                (SELECT d.by FROM publisher.decision d
                 WHERE d.plan_id = t.plan_id AND d.recipient_id = t.recipient_id AND d.share),
                (SELECT e.by FROM publisher.plan_event e JOIN publisher.plan p USING (plan_id)
                 WHERE e.plan_id = t.plan_id AND p.circumstances IS NOT NULL AND e.type = ANY($8)
                 ORDER BY e.revision DESC LIMIT 1),
                (SELECT coalesce(v.by, v.issued_by)
                 FROM publisher.may_leave m JOIN publisher.version v ON v.version_id = m.thing_id
                 WHERE m.plan_id = t.plan_id ORDER BY m.issued_on DESC, m.number DESC LIMIT 1)
            )
            FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bool[])
            AS t (plan_id, recipient_id, la_code, kind, name, reason, once)
            ON CONFLICT (plan_id, recipient_id) DO UPDATE
            SET asked_by = excluded.asked_by, reason = excluded.reason, once = excluded.once
            WHERE c.decided_at IS NULL AND (c.asked_by, c.reason, c.once)
                  IS DISTINCT FROM (excluded.asked_by, excluded.reason, excluded.once)
            """,
            *[list(column) for column in zip(*asked, strict=True)], sorted(lifecycle.AROUND),
        )  # fmt: skip


async def write_flags(connection: Any, flags: Mapping[UUID, tuple[str, Sequence[Flag]]]) -> None:
    """By plan, its council and all its flags as they are now; one that stays keeps its day."""
    rows = [(plan_id, flag.code, la_code, flag.detail) for plan_id, (la_code, each) in flags.items() for flag in each]
    await _replace(connection, "flag", "code", "detail", list(flags), rows)
    clocks = [(plan_id, each) for plan_id, (_, of_plan) in flags.items() for each in of_plan if each.clock]
    if clocks:
        await connection.execute(
            "UPDATE publisher.flag f SET clock = t.clock, runs_from = t.runs_from"
            " FROM unnest($1::uuid[], $2::text[], $3::text[], $4::date[]) AS t (plan_id, code, clock, runs_from)"
            " WHERE f.plan_id = t.plan_id AND f.code = t.code",
            [plan_id for plan_id, _ in clocks], [each.code for _, each in clocks], [each.clock for _, each in clocks],
            [each.runs_from for _, each in clocks],
        )  # fmt: skip


async def look_for_same_child(connection: Any, plan_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Flags each of these plans, and the other one too, whose child has a plan in force in another council of the exchange, and
    clears what is over. Of these plans, what the flag says."""
    found = [row[0] for row in await connection.fetch("SELECT publisher.look_for_same_child($1)", list(plan_ids))]
    if not found:
        return {}
    rows = await connection.fetch(
        "SELECT plan_id, detail FROM publisher.v_flag WHERE plan_id = ANY($1) AND code = $2", found, FlagCode.PLAN_ELSEWHERE
    )
    return {row["plan_id"]: row["detail"] for row in rows}


async def _replace(
    connection: Any, table: str, name: str, text: str, plan_ids: Sequence[UUID], rows: Sequence[tuple[Any, ...]]
) -> None:
    """All rows of these plans: (plan, name, council, text)."""
    if not plan_ids:
        return
    await connection.execute(
        f"DELETE FROM publisher.{table} g WHERE g.plan_id = ANY($1) AND NOT EXISTS"
        " (SELECT FROM unnest($2::uuid[], $3::text[]) AS t (plan_id, name)"
        f" WHERE t.plan_id = g.plan_id AND t.name = g.{name})",
        list(plan_ids), [row[0] for row in rows], [row[1] for row in rows],
    )  # fmt: skip
    if rows:
        await connection.execute(
            f"INSERT INTO publisher.{table} (plan_id, {name}, la_code, {text})"
            " SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])"
            f" ON CONFLICT (plan_id, {name}) DO UPDATE SET {text} = excluded.{text}",
            *[list(column) for column in zip(*rows, strict=True)],
        )


# --- events ---


async def last_event(connection: Any, plan_id: UUID, about: str) -> Row | None:
    row = await connection.fetchrow(
        "SELECT revision, hash FROM publisher.plan_event WHERE plan_id = $1 AND about = $2"
        " ORDER BY revision DESC LIMIT 1",
        plan_id, about,
    )  # fmt: skip
    return dict(row) if row else None


async def read_ends(connection: Any, plan_id: UUID) -> tuple[tuple[str, date], ...]:
    """The events about the plan's end and its way back, with their days, as they were recorded."""
    rows = await connection.fetch(
        "SELECT type, happened_on FROM publisher.plan_event WHERE plan_id = $1 AND about = 'end' ORDER BY revision", plan_id
    )
    return tuple((row["type"], row["happened_on"]) for row in rows)


async def read_events_since(connection: Any, plan_id: UUID, version_id: UUID) -> list[Row]:
    """The events that came after this version, or tell of what happened after it, in their order; sealed."""
    rows = await connection.fetch(
        "SELECT e.revision, e.data FROM publisher.plan_event e JOIN publisher.version v ON v.version_id = $2"
        " WHERE e.plan_id = $1 AND (e.recorded_at >= v.received_at OR e.happened_on > v.issued_on) ORDER BY e.revision",
        plan_id, version_id,
    )  # fmt: skip
    return [dict(row) for row in rows]


async def council_of_commissioner(connection: Any, plan_id: UUID, subscriber: str) -> str | None:
    """The plan's council, if this subscriber is to deliver the plan to a commissioning body."""
    la_code: str | None = await connection.fetchval(
        "SELECT s.la_code FROM publisher.share s JOIN publisher.recipient r USING (recipient_id)"
        " WHERE s.plan_id = $1 AND s.subscriber = $2 AND s.action = 'hold' AND r.kind = 'commissioning_body' LIMIT 1",
        plan_id, subscriber,
    )  # fmt: skip
    return la_code


async def find_since(connection: Any, plan_id: UUID) -> date | None:
    """Since when the plan's council has it, where it had another before."""
    since: date | None = await connection.fetchval("SELECT max(until_date) FROM publisher.custody WHERE plan_id = $1", plan_id)
    return since


async def find_custody(connection: Any, plan_id: UUID) -> Row | None:
    """When a council of this transaction had the plan, if it has it no more."""
    row = await connection.fetchrow(
        "SELECT la_code, until_date FROM publisher.custody WHERE plan_id = $1 ORDER BY place DESC LIMIT 1", plan_id
    )
    return dict(row) if row else None


async def read_manifest(connection: Any, version_id: UUID) -> Row:
    """Of the whole version, as it was first rendered."""
    manifest: Row = await connection.fetchval(
        "SELECT manifest FROM publisher.rendering WHERE version_id = $1 AND sections = '*' ORDER BY identity_revision LIMIT 1",
        version_id,
    )
    return manifest


async def insert_event(connection: Any, event: NewEvent) -> None:
    await connection.execute(
        "INSERT INTO publisher.plan_event (plan_id, revision, la_code, type, about, by, happened_on, hash, data)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        event.plan_id, event.revision, event.la_code, event.type, event.about, event.by, event.happened_on,
        event.hash, event.data,
    )  # fmt: skip


async def update_plan(connection: Any, plan_id: UUID, changes: Mapping[str, Any]) -> None:
    """``changes`` by column; the revision rises with each."""
    columns = "".join(f", {name} = ${place}" for place, name in enumerate(changes, 2))
    await connection.execute(
        f"UPDATE publisher.plan SET revision = revision + 1{columns} WHERE plan_id = $1", plan_id, *changes.values()
    )


async def update_child(connection: Any, child_id: UUID, changes: Mapping[str, Any]) -> None:
    """Raises ``asyncpg.UniqueViolationError`` where another child of the council has the identifier."""
    columns = ", ".join(f"{name} = ${place}" for place, name in enumerate(changes, 2))
    await connection.execute(f"UPDATE publisher.child SET {columns} WHERE child_id = $1", child_id, *changes.values())


async def find_namesakes(connection: Any, child_id: UUID) -> list[str]:
    """Case references of the council's other plans of a child with this name and date of birth, unless NHS numbers tell them
    apart."""
    rows = await connection.fetch(
        "SELECT p.case_reference FROM publisher.child own JOIN publisher.child c ON c.la_code = own.la_code"
        " AND c.name_lookup = own.name_lookup AND c.child_id <> own.child_id AND c.findable"
        " AND (c.nhs_lookup IS NULL OR own.nhs_lookup IS NULL) JOIN publisher.plan p ON p.child_id = c.child_id"
        " WHERE own.child_id = $1 ORDER BY p.case_reference",
        child_id,
    )
    return [row["case_reference"] for row in rows]


async def last_moves(connection: Any, plan_ids: Sequence[UUID]) -> dict[UUID, date]:
    """The day of the last move (another placement, another home) that an event told of."""
    rows = await connection.fetch(
        "SELECT plan_id, max(happened_on) AS moved_on FROM publisher.plan_event"
        " WHERE plan_id = ANY($1) AND type IN ('placement_changed', 'care_changed') GROUP BY plan_id",
        list(plan_ids),
    )
    return {row["plan_id"]: row["moved_on"] for row in rows}


async def insert_notice(connection: Any, notice: NewNotice) -> None:
    await connection.execute(
        "INSERT INTO publisher.notice (notice_id, plan_id, la_code, kind, happened_on, body, left_out, waiting)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        notice.notice_id, notice.plan_id, notice.la_code, notice.kind, notice.happened_on, notice.body, list(notice.left_out),
        list(notice.waiting),
    )  # fmt: skip


async def read_waiting_notices(connection: Any, plan_ids: Sequence[UUID]) -> dict[UUID, list[Row]]:
    """By plan, its notices of which somebody is told once a second person has confirmed them; with their rendering. Not what
    may not leave, nor a cease notice that another followed."""
    found: dict[UUID, list[Row]] = {}
    for row in await connection.fetch(
        """
        SELECT n.plan_id, n.notice_id, n.kind, n.happened_on, n.body, n.waiting, g.rendering_id, g.sha256
        FROM publisher.notice n JOIN publisher.rendering g USING (notice_id)
        WHERE n.plan_id = ANY($1) AND n.waiting <> '{}'
        AND EXISTS (SELECT FROM publisher.may_leave m WHERE m.thing_id = n.notice_id AND m.kind = 'notice')
        AND NOT (n.kind = 'cease_notice' AND EXISTS (
            SELECT FROM publisher.notice l
            WHERE l.plan_id = n.plan_id AND l.kind = 'cease_notice' AND l.notice_id > n.notice_id))
        ORDER BY n.notice_id
        """,
        list(plan_ids),
    ):
        found.setdefault(row["plan_id"], []).append(dict(row))
    return found


async def told_now(connection: Any, told: Sequence[tuple[UUID, UUID]]) -> None:
    """(notice, recipient): who waited to be told of it and is told."""
    if told:
        await connection.execute(
            "UPDATE publisher.notice n SET waiting = ARRAY(SELECT unnest(n.waiting) EXCEPT SELECT recipient_id"
            " FROM unnest($1::uuid[], $2::uuid[]) AS t (notice_id, recipient_id) WHERE t.notice_id = n.notice_id)"
            " WHERE n.notice_id = ANY($1)",
            [each[0] for each in told], [each[1] for each in told],
        )  # fmt: skip


async def find_review(connection: Any, plan_id: UUID, review: str) -> Row | None:
    row = await connection.fetchrow("SELECT * FROM publisher.review WHERE plan_id = $1 AND review = $2", plan_id, review)
    return dict(row) if row else None


_SAME_REVIEW = """
    (t.held_on = r.held_on OR t.decided_on = r.decided_on
     OR (r.decided_on IS NULL AND t.decided_on BETWEEN r.held_on AND r.held_on + 84))
"""
"""Two references for one review: it was held or decided on the same day, or it is the decision of a meeting, which is due four
weeks after that and may be late."""


async def save_review(connection: Any, plan_id: UUID, la_code: str, review: str, changes: Mapping[str, Any]) -> None:
    names, places = ", ".join(changes), ", ".join(f"${place}" for place in range(4, 4 + len(changes)))
    sets = ", ".join(f"{name} = excluded.{name}" for name in changes)
    await connection.execute(
        f"INSERT INTO publisher.review (plan_id, la_code, review, {names}) VALUES ($1, $2, $3, {places})"
        f" ON CONFLICT (plan_id, review) DO UPDATE SET {sets}",
        plan_id, la_code, review, *changes.values(),
    )  # fmt: skip
    # Now that it is recorded here, what an extract or another exchange told of it goes: that has a day and no invitation.
    await connection.execute(
        "DELETE FROM publisher.review t USING publisher.review r WHERE r.plan_id = $1 AND r.review = $2 AND t.plan_id = $1"
        f" AND t.review <> $2 AND t.meeting_on IS NOT NULL AND t.invited_on IS NULL AND {_SAME_REVIEW}",
        plan_id, review,
    )  # fmt: skip


async def keep_past_reviews(connection: Any, plan_id: UUID, la_code: str, reviews: Sequence[PastReview]) -> None:
    """What was recorded here of a review stands, under whichever reference."""
    columns = ["review", "held_on", "reported_on", "decision", "decided_on"]
    await connection.execute(
        "INSERT INTO publisher.review (plan_id, la_code, review, meeting_on, held_on, reported_on, decision, decided_on)"
        " SELECT $1, $2, t.review, t.held_on, t.held_on, t.reported_on, t.decision, t.decided_on"
        " FROM unnest($3::text[], $4::date[], $5::date[], $6::text[], $7::date[])"
        " AS t (review, held_on, reported_on, decision, decided_on)"
        f" WHERE NOT EXISTS (SELECT FROM publisher.review r WHERE r.plan_id = $1 AND r.review <> t.review AND {_SAME_REVIEW})"
        " ON CONFLICT (plan_id, review) DO NOTHING",
        plan_id, la_code, *[[getattr(each, name) for each in reviews] for name in columns],
    )  # fmt: skip


async def recall_version(connection: Any, version_id: UUID) -> None:
    await connection.execute(
        "UPDATE publisher.version SET recalled_at = coalesce(recalled_at, now()) WHERE version_id = $1", version_id
    )


async def save_decision(connection: Any, plan_id: UUID, la_code: str, decision: Decision, by: str) -> None:
    """A newer decision about the same recipient replaces the older; the event keeps both."""
    code = decision.code
    await connection.execute(
        "INSERT INTO publisher.decision"
        " (plan_id, recipient_id, la_code, share, scheme, value, lawful_basis, reason, by, until_date, kind)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
        " ON CONFLICT (plan_id, recipient_id) DO UPDATE SET share = excluded.share, scheme = excluded.scheme,"
        " value = excluded.value, lawful_basis = excluded.lawful_basis, reason = excluded.reason, by = excluded.by,"
        " until_date = excluded.until_date, kind = excluded.kind, decided_at = now()",
        plan_id, decision.recipient_id, la_code, decision.share, code and code.scheme, code and code.value,
        decision.lawful_basis, decision.reason, by, decision.until, decision.kind,
    )  # fmt: skip
    if decision.share:
        # Where a second person refused it, one is asked again.
        await connection.execute(
            "DELETE FROM publisher.confirmation WHERE plan_id = $1 AND recipient_id = $2 AND NOT share",
            plan_id, decision.recipient_id,
        )  # fmt: skip


async def find_confirmation(connection: Any, plan_id: UUID, recipient_id: UUID) -> Row | None:
    row = await connection.fetchrow(
        "SELECT * FROM publisher.confirmation WHERE plan_id = $1 AND recipient_id = $2", plan_id, recipient_id
    )
    return dict(row) if row else None


async def confirm(connection: Any, plan_id: UUID, recipient_id: UUID, by: str, *, share: bool) -> None:
    await connection.execute(
        "UPDATE publisher.confirmation SET share = $3, decided_by = $4, decided_at = now()"
        " WHERE plan_id = $1 AND recipient_id = $2",
        plan_id, recipient_id, share, by,
    )  # fmt: skip


# --- transfer between two councils of this exchange ---

_OF_A_PLAN = ("plan_event", "review", "notice", "hold", "decision", "confirmation", "share_gap", "flag", "decision_queue",
              "recipient", "recall", "recall_word")  # fmt: skip
_OF_A_SHARE = ("share", "share_ground", "instruction", "unsatisfied", "handover", "recalled_copy")


async def change_council(connection: Any, plan_id: UUID, child_id: UUID, wrapped_key: bytes, to: str, moved_on: date) -> None:
    """Everything of the plan belongs to the new council from now on; ids and versions stay. Needs both councils' rows in sight.

    What is held is wanted anew in the new council's name, which is not the one of its instruction.
    """
    await connection.execute(
        "INSERT INTO publisher.custody (plan_id, la_code, case_reference, from_date, until_date)"
        " SELECT plan_id, la_code, case_reference,"
        " coalesce((SELECT max(c.until_date) FROM publisher.custody c WHERE c.plan_id = p.plan_id), "
        " (SELECT least($2, min(v.issued_on)) FROM publisher.version v WHERE v.plan_id = p.plan_id), $2),"
        " $2 FROM publisher.plan p WHERE plan_id = $1",
        plan_id, moved_on,
    )  # fmt: skip
    await connection.execute(
        "UPDATE publisher.child SET la_code = $2, wrapped_key = $3 WHERE child_id = $1", child_id, to, wrapped_key
    )
    await connection.execute("UPDATE publisher.child_known_as SET la_code = $2 WHERE child_id = $1", child_id, to)
    versions = "SELECT version_id FROM publisher.version WHERE plan_id = $1"
    things = f"({versions} UNION ALL SELECT notice_id FROM publisher.notice WHERE plan_id = $1)"
    await connection.execute(f"UPDATE publisher.attachment SET la_code = $2 WHERE owner_id IN {things}", plan_id, to)
    await connection.execute(
        f"UPDATE publisher.rendering SET la_code = $2 WHERE coalesce(version_id, notice_id) IN {things}", plan_id, to
    )
    await connection.execute("UPDATE publisher.version SET la_code = $2 WHERE plan_id = $1", plan_id, to)
    for table in _OF_A_PLAN:
        await connection.execute(f"UPDATE publisher.{table} SET la_code = $2 WHERE plan_id = $1", plan_id, to)
    shares = "SELECT share_id FROM publisher.share WHERE plan_id = $1"
    for table in _OF_A_SHARE:
        await connection.execute(f"UPDATE publisher.{table} SET la_code = $2 WHERE share_id IN ({shares})", plan_id, to)
    await connection.execute(f"SELECT audit.change_council(ARRAY({shares}), $2)", plan_id, to)
    # What the former council's case system said of it is nobody's affair any more.
    await connection.execute("DELETE FROM publisher.difference WHERE plan_id = $1", plan_id)


# --- the queue ---


async def queue_plans(connection: Any, reason: str, la_code: str | None = None, codes: Sequence[str] | None = None) -> int:
    """Decide the shares of these plans again soon: those of one council (or all), and of these those that name one of the
    ``codes`` (``scheme:value``) or share with a recipient that has one. Returns how many."""
    tag = await connection.execute(
        """
        INSERT INTO publisher.decision_queue (plan_id, la_code, reason)
        SELECT p.plan_id, p.la_code, $1 FROM publisher.plan p
        WHERE p.state IN ('live', 'ceasing') AND ($2::text IS NULL OR p.la_code = $2)
        AND ($3::text[] IS NULL OR p.parties && $3 OR EXISTS (
            SELECT FROM publisher.share s JOIN publisher.recipient_code c USING (recipient_id)
            WHERE s.plan_id = p.plan_id AND c.scheme || ':' || c.value = ANY($3)
        ))
        ON CONFLICT (plan_id) DO UPDATE SET try_at = least(decision_queue.try_at, now())
        """,
        reason, la_code, list(codes) if codes is not None else None,
    )  # fmt: skip
    return int(tag.split()[-1])


async def queue_dated(connection: Any, today: date) -> int:
    """Plans for which today's date may change something."""
    tag = await connection.execute(
        "INSERT INTO publisher.decision_queue (plan_id, la_code, reason)"
        " SELECT plan_id, la_code, 'date' FROM publisher.plan WHERE decide_on <= $1 ON CONFLICT (plan_id) DO NOTHING",
        today,
    )
    return int(tag.split()[-1])


async def next_queued(connection: Any, limit: int) -> list[UUID]:
    rows = await connection.fetch(
        "SELECT plan_id FROM publisher.decision_queue WHERE try_at <= now() ORDER BY try_at LIMIT $1 FOR UPDATE SKIP LOCKED",
        limit,
    )
    return [row["plan_id"] for row in rows]


async def leave_queue(connection: Any, plan_ids: Sequence[UUID]) -> None:
    await connection.execute("DELETE FROM publisher.decision_queue WHERE plan_id = ANY($1)", list(plan_ids))


async def put_off(connection: Any, plan_id: UUID, why: str) -> None:
    """It could not be decided: again in 10 s, 1 min, 6 min, 36 min, then every 3 h."""
    await connection.execute(
        "UPDATE publisher.decision_queue SET failures = failures + 1, why = $2, failing_since = coalesce(failing_since, now()),"
        " try_at = clock_timestamp() + least(interval '3 hours', interval '10 seconds' * 6 ^ least(failures, 9))"
        " WHERE plan_id = $1",
        plan_id, why,
    )  # fmt: skip


async def page_of_plans(connection: Any, after: UUID | None, limit: int) -> list[UUID]:
    """Plans in force, in order of ``plan_id``."""
    rows = await connection.fetch(
        "SELECT plan_id FROM publisher.plan WHERE state IN ('live', 'ceasing') AND ($1::uuid IS NULL OR plan_id > $1)"
        " ORDER BY plan_id LIMIT $2",
        after, limit,
    )  # fmt: skip
    return [row["plan_id"] for row in rows]


async def read_night(connection: Any) -> Row | None:
    row = await connection.fetchrow("SELECT judged_on, after, done FROM publisher.night")
    return dict(row) if row else None


async def save_night(connection: Any, judged_on: date, after: UUID | None) -> None:
    """``after``: the last plan that was judged, None once all were."""
    await connection.execute(
        "INSERT INTO publisher.night (judged_on, after, done) VALUES ($1, $2::uuid, $2::uuid IS NULL)"
        " ON CONFLICT (one) DO UPDATE SET judged_on = excluded.judged_on, after = excluded.after, done = excluded.done",
        judged_on, after,
    )  # fmt: skip


# --- what a council sees of its plans ---


async def list_plans(
    connection: Any, after: UUID | None, limit: int, plan_id: UUID | None = None, case_reference: str | None = None
) -> list[Row]:
    """A page of plans in order of ``plan_id``, or one, or those of one case reference.

    Each with its council's counts of shares, gaps and flags.
    """
    rows = await connection.fetch(
        f"""
        SELECT p.plan_id, p.la_code, p.case_reference, p.state, p.restricted, p.restrictions, p.ceases_on, p.appeal_until,
               p.cease_reason,
               c.nhs_lookup IS NOT NULL AS has_nhs_number,
               (SELECT count(*) FROM publisher.share s WHERE s.plan_id = p.plan_id AND s.notice_id IS NULL
                AND s.action = 'hold') AS shares,
               (SELECT count(*) FROM publisher.share s WHERE s.plan_id = p.plan_id AND s.notice_id IS NULL
                AND s.action = 'hold' AND s.subscriber IS NOT NULL) AS deliverable,
               (SELECT count(*) FROM publisher.share_gap g WHERE g.plan_id = p.plan_id) AS gaps,
               (SELECT count(*) FROM publisher.v_flag f WHERE f.plan_id = p.plan_id)
                   + (SELECT count(*) FROM ({store_guard.FLAGS}) f WHERE f.plan_id = p.plan_id) AS flags,
               EXISTS (SELECT FROM publisher.confirmation k WHERE k.plan_id = p.plan_id AND k.decided_at IS NULL)
                   OR EXISTS (SELECT FROM publisher.hold h WHERE h.plan_id = p.plan_id AND h.released IS NULL) AS to_confirm,
               (SELECT count(*) FROM publisher.hold h WHERE h.plan_id = p.plan_id AND h.released IS NULL) AS held
        FROM publisher.plan p JOIN publisher.child c USING (child_id)
        WHERE ($1::uuid IS NULL OR p.plan_id > $1) AND ($3::uuid IS NULL OR p.plan_id = $3)
        AND ($4::text IS NULL OR upper(p.case_reference) = upper(btrim($4))) ORDER BY p.plan_id LIMIT $2
        """,
        after, limit, plan_id, case_reference,
    )  # fmt: skip
    return [dict(row) for row in rows]


async def list_transferred(connection: Any, la_codes: Sequence[str]) -> list[Row]:
    """Case references of these councils whose plan went to another one, and that no plan of theirs has now."""
    rows = await connection.fetch(
        """
        SELECT c.la_code, c.case_reference, max(c.until_date) AS until FROM publisher.custody c
        WHERE c.la_code = ANY($1) AND NOT EXISTS (SELECT FROM publisher.plan p
            WHERE p.la_code = c.la_code AND upper(p.case_reference) = upper(c.case_reference))
        GROUP BY 1, 2 ORDER BY 1, 2
        """,
        list(la_codes),
    )
    return [dict(row) for row in rows]


async def has_document(connection: Any, version_ids: Sequence[UUID]) -> set[UUID]:
    rows = await connection.fetch(
        "SELECT DISTINCT version_id FROM publisher.rendering WHERE version_id = ANY($1) AND document IS NOT NULL",
        list(version_ids),
    )
    return {row["version_id"] for row in rows}


async def read_history(connection: Any, plan_id: UUID) -> dict[str, list[Row]]:
    """What happened to one plan: versions, events, reviews, earlier councils, and what is open about it."""
    statements = {
        "versions": "SELECT version_id, number AS version, issued_on, by, received_at, recalled_at FROM publisher.version"
        " WHERE plan_id = $1 ORDER BY number",
        "events": "SELECT revision, type, by, happened_on, recorded_at FROM publisher.plan_event WHERE plan_id = $1"
        " ORDER BY revision",
        "reviews": "SELECT review, meeting_on, invited_on, held_on, reported_on, decision, decided_on FROM publisher.review"
        " WHERE plan_id = $1 ORDER BY coalesce(held_on, meeting_on)",
        "notices": "SELECT notice_id, kind, happened_on, left_out FROM publisher.notice WHERE plan_id = $1 ORDER BY notice_id",
        "custody": "SELECT la_code, case_reference, from_date, until_date FROM publisher.custody WHERE plan_id = $1"
        " ORDER BY place",
        "share_gaps": "SELECT who, reason, since FROM publisher.share_gap WHERE plan_id = $1 ORDER BY who",
        "flags": "SELECT code, detail, since FROM publisher.v_flag WHERE plan_id = $1"
        f" UNION ALL SELECT name, reason, since FROM ({store_guard.FLAGS}) f WHERE plan_id = $1 ORDER BY code",
        "holds": "SELECT thing_id AS version_id, findings, asked_by, asked_at, decided_by, released FROM publisher.hold"
        " WHERE plan_id = $1 ORDER BY asked_at",
        "confirmations": "SELECT recipient_id, kind, name, reason, asked_by, asked_at, decided_by, share"
        " FROM publisher.confirmation WHERE plan_id = $1 ORDER BY asked_at",
        "decisions": "SELECT d.recipient_id, coalesce(d.kind, r.kind) AS kind, r.name, d.share, d.scheme, d.value,"
        " d.lawful_basis, d.reason, d.by, d.until_date, d.decided_at"
        " FROM publisher.decision d LEFT JOIN publisher.recipient r USING (recipient_id)"
        " WHERE d.plan_id = $1 ORDER BY d.decided_at",
    }
    return {name: [dict(row) for row in await connection.fetch(sql, plan_id)] for name, sql in statements.items()}


async def read_objections(connection: Any, plan_id: UUID) -> list[Row]:
    """Sealed."""
    rows = await connection.fetch(
        "SELECT revision, data FROM publisher.plan_event WHERE plan_id = $1 AND type = 'objection' ORDER BY revision", plan_id
    )
    return [dict(row) for row in rows]


_OPEN = {
    "gaps": "SELECT plan_id, who AS name, reason, since FROM publisher.share_gap",
    "flags": f"SELECT plan_id, code AS name, detail AS reason, since FROM publisher.v_flag UNION ALL {store_guard.FLAGS}",
    # A question that is asked once for all plans is listed with the first of them.
    "confirmations": f"""
        SELECT plan_id, name, reason, since, recipient, plans FROM (
            SELECT plan_id, recipient_id::text AS name, reason, asked_at AS since, name AS recipient,
                   count(*) OVER question AS plans, min(plan_id::text) OVER question = plan_id::text AS first
            FROM publisher.confirmation WHERE decided_at IS NULL
            WINDOW question AS (PARTITION BY la_code, recipient_id, CASE WHEN once THEN NULL ELSE plan_id END)
        ) c WHERE first
        UNION ALL {store_guard.CONFIRMATIONS}
    """,
}


async def list_open(connection: Any, what: str, after: tuple[UUID, str] | None, limit: int) -> list[Row]:
    """A page of share gaps, flags or confirmations of the transaction's councils, by plan and name."""
    rows = await connection.fetch(
        f"SELECT o.*, p.case_reference, p.la_code FROM ({_OPEN[what]}) o JOIN publisher.plan p USING (plan_id)"
        " WHERE $1::uuid IS NULL OR (o.plan_id, o.name) > ($1, $2) ORDER BY o.plan_id, o.name LIMIT $3",
        *(after or (None, None)), limit,
    )  # fmt: skip
    return [dict(row) for row in rows]
