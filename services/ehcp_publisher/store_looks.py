"""SQL of looking into the records: which plans are looked at, what is asked, and what is still unanswered.

Over a connection of a council transaction. ``agency`` and ``kind`` narrow the recipients; both None is everyone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import orjson

from schemas.events import RecipientCode
from schemas.identifiers import OrganisationCode

Place: TypeAlias = tuple[UUID, UUID]
"""A share of a look."""
IN_FORCE = ("live", "ceasing")
_SHOULD_HOLD = """
    SELECT FROM publisher.share s JOIN publisher.recipient r ON r.recipient_id = s.recipient_id
    WHERE s.plan_id = p.plan_id AND s.action = 'hold' AND s.notice_id IS NULL
    AND ({kind}::text IS NULL OR r.kind = {kind})
    AND ({scheme}::text IS NULL OR EXISTS (SELECT FROM publisher.recipient_code c
         WHERE c.recipient_id = r.recipient_id AND c.scheme = {scheme} AND c.value = {value}))
"""
_CURRENT = """
    SELECT m.thing_id AS version_id FROM publisher.may_leave m WHERE m.plan_id = p.plan_id AND m.kind = 'version'
    ORDER BY m.issued_on DESC, m.number DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan that may be looked at. ``version_id`` None: no version of it is in force."""

    plan_id: UUID
    case_reference: str
    in_force: bool
    version_id: UUID | None
    shared: bool
    """With whom the look is about."""
    nhs_lookup: bytes | None = None


@dataclass(frozen=True, slots=True)
class AskedShare:
    look_id: UUID
    share_id: UUID
    la_code: str
    plan_id: UUID
    subscriber: str | None
    asked_at: datetime
    until: datetime
    recipient: RecipientCode


async def draw(
    connection: Any, la_code: str, n: int, seed: str, agency: OrganisationCode | None, kind: str | None
) -> tuple[list[Candidate], int]:
    """The plans drawn, in the order of the draw, and how many there were to draw from."""
    rows = await connection.fetch(
        f"""
        SELECT p.plan_id, p.case_reference, true AS in_force, current.version_id, true AS shared,
               count(*) OVER () AS population
        FROM publisher.plan p JOIN LATERAL ({_CURRENT}) current ON true
        WHERE p.la_code = $1 AND p.state = ANY($4) AND NOT p.died
        AND ($5::text IS NULL AND $6::text IS NULL
             OR EXISTS ({_SHOULD_HOLD.format(kind="$5", scheme="$6", value="$7")}))
        ORDER BY encode(sha256(convert_to($3 || ':' || p.case_reference, 'UTF8')), 'hex') LIMIT $2
        """,
        la_code, n, seed, list(IN_FORCE), kind, agency and agency.scheme.value, agency and agency.value,
    )  # fmt: skip
    found = [_candidate(row) for row in rows]
    return found, rows[0]["population"] if rows else 0


async def find(
    connection: Any, la_code: str, references: Sequence[str], plan_ids: Sequence[UUID], nhs_lookups: Sequence[bytes],
    agency: OrganisationCode | None, kind: str | None,
) -> list[Candidate]:  # fmt: skip
    """Plans of the council by case reference in capital letters, id or NHS number, whatever their state."""
    rows = await connection.fetch(
        f"""
        SELECT p.plan_id, p.case_reference, p.state = ANY($5) AND NOT p.died AS in_force, current.version_id,
               ch.nhs_lookup, ($6::text IS NULL AND $7::text IS NULL
                   OR EXISTS ({_SHOULD_HOLD.format(kind="$6", scheme="$7", value="$8")})) AS shared
        FROM publisher.plan p JOIN publisher.child ch ON ch.child_id = p.child_id LEFT JOIN LATERAL ({_CURRENT}) current ON true
        WHERE p.la_code = $1 AND (upper(p.case_reference) = ANY($2) OR p.plan_id = ANY($3) OR p.child_id = ANY(ARRAY(
            SELECT c.child_id FROM publisher.child c WHERE c.la_code = $1 AND c.nhs_lookup = ANY($4))))
        """,
        la_code, list(references), list(plan_ids), list(nhs_lookups), list(IN_FORCE), kind,
        agency and agency.scheme.value, agency and agency.value,
    )  # fmt: skip
    return [_candidate(row) for row in rows]


def _candidate(row: Any) -> Candidate:
    return Candidate(
        row["plan_id"], row["case_reference"], row["in_force"], row["version_id"], row["shared"], row.get("nhs_lookup")
    )  # fmt: skip


async def insert_look(
    connection: Any, look_id: UUID, la_code: str, asked_by: str, minutes: float, asked: dict[str, Any]
) -> tuple[datetime, datetime]:
    row = await connection.fetchrow(
        "INSERT INTO publisher.look (look_id, la_code, asked_by, until, asked)"
        " VALUES ($1, $2, $3, now() + make_interval(mins => $4), $5) RETURNING asked_at, until",
        look_id, la_code, asked_by, minutes, asked,
    )  # fmt: skip
    return row["asked_at"], row["until"]


async def insert_plans(connection: Any, look_id: UUID, la_code: str, plans: Sequence[Candidate]) -> None:
    await connection.execute(
        "INSERT INTO publisher.look_plan (look_id, plan_id, la_code, position, version_id)"
        " SELECT $1, t.plan_id, $2, t.position, t.version_id"
        " FROM unnest($3::uuid[], $4::uuid[]) WITH ORDINALITY AS t (plan_id, version_id, position)",
        look_id, la_code, [each.plan_id for each in plans], [each.version_id for each in plans],
    )  # fmt: skip


async def insert_shares(
    connection: Any, look_id: UUID, agency: OrganisationCode | None, kind: str | None, again: float
) -> list[AskedShare]:
    """Every wish to hold one of the look's plans, as it is now. ``again``: seconds until it is asked once more."""
    await connection.execute(
        f"""
        INSERT INTO publisher.look_share (look_id, share_id, la_code, plan_id, subscriber, seq, version_id, sha256, ask_at)
        SELECT l.look_id, w.share_id, w.la_code, w.plan_id, w.subscriber, w.seq, w.version_id, g.sha256,
               CASE WHEN w.subscriber IS NOT NULL THEN now() + make_interval(secs => $5) END
        FROM publisher.look_plan l JOIN publisher.plan p USING (plan_id) JOIN publisher.share w ON w.plan_id = l.plan_id
        JOIN publisher.rendering g ON g.rendering_id = w.rendering_id
        WHERE l.look_id = $1 AND w.action = 'hold' AND w.notice_id IS NULL
        AND ($2::text IS NULL AND $3::text IS NULL
             OR EXISTS ({_SHOULD_HOLD.format(kind="$2", scheme="$3", value="$4")} AND s.share_id = w.share_id))
        """,
        look_id, kind, agency and agency.scheme.value, agency and agency.value, again,
    )  # fmt: skip
    rows = await connection.fetch(f"{_ASKED} WHERE l.look_id = $1 ORDER BY l.subscriber, l.share_id", look_id)
    return [_asked(row) for row in rows]


# Who it is, the newest instruction names: a person by the council's reference, an organisation by its code.
_ASKED = """
    SELECT l.look_id, l.share_id, l.la_code, l.plan_id, l.subscriber, k.asked_at, k.until, n.data
    FROM publisher.look_share l JOIN publisher.look k USING (look_id) JOIN publisher.share s USING (share_id)
    JOIN publisher.instruction n ON n.share_id = s.share_id AND n.seq = s.seq
"""


def _asked(row: Any) -> AskedShare:
    given = dict(row)
    recipient = RecipientCode.model_validate(orjson.loads(given.pop("data"))["recipient"])
    return AskedShare(**given, recipient=recipient)


async def lock_due(connection: Any, limit: int) -> tuple[list[Place], list[Place]]:
    """Whose time to be asked again has come: those that need not be (answered, or nobody waits any more), and the others."""
    rows = await connection.fetch(
        """
        SELECT l.look_id, l.share_id, k.until <= now() OR EXISTS (
            SELECT FROM audit.v_holding h
            WHERE h.look_id = l.look_id AND h.share_id = l.share_id AND h.found <> 'no_answer'
        ) AS over
        FROM publisher.look_share l JOIN publisher.look k USING (look_id)
        WHERE l.ask_at <= now() ORDER BY l.ask_at LIMIT $1 FOR UPDATE OF l SKIP LOCKED
        """,
        limit,
    )
    over = [(row["look_id"], row["share_id"]) for row in rows if row["over"]]
    return over, [(row["look_id"], row["share_id"]) for row in rows if not row["over"]]


async def settle(connection: Any, places: Sequence[Place]) -> None:
    await connection.execute(_OF.format("ask_at = NULL"), *_columns(places))


async def ask_again(connection: Any, places: Sequence[Place]) -> list[AskedShare]:
    """Each half as often as before, at most every ten minutes."""
    later = "asks = asks + 1, asked_at = now(), ask_at = now() + make_interval(secs => least(30 * 2 ^ least(asks, 10), 600))"
    await connection.execute(_OF.format(later), *_columns(places))
    rows = await connection.fetch(
        f"{_ASKED} JOIN unnest($1::uuid[], $2::uuid[]) AS t (look_id, share_id)"
        " ON t.look_id = l.look_id AND t.share_id = l.share_id ORDER BY l.look_id, l.subscriber, l.share_id",
        *_columns(places),
    )  # fmt: skip
    return [_asked(row) for row in rows]


_OF = (
    "UPDATE publisher.look_share l SET {} FROM unnest($1::uuid[], $2::uuid[]) AS t (look_id, share_id)"
    " WHERE l.look_id = t.look_id AND l.share_id = t.share_id"
)


async def of_subscriber(connection: Any, subscriber: str, limit: int) -> list[AskedShare]:
    """What a subscriber has not answered since it was last asked."""
    rows = await connection.fetch(
        f"{_ASKED} WHERE l.subscriber = $1 AND l.ask_at IS NOT NULL AND k.until > now() AND NOT EXISTS ("
        " SELECT FROM audit.v_holding h"
        " WHERE h.look_id = l.look_id AND h.share_id = l.share_id AND h.received_at > l.asked_at)"
        " ORDER BY l.look_id, l.share_id LIMIT $2",
        subscriber, limit,
    )  # fmt: skip
    return [_asked(row) for row in rows]


def _columns(places: Sequence[Place]) -> tuple[list[UUID], list[UUID]]:
    return [look_id for look_id, _ in places], [share_id for _, share_id in places]
