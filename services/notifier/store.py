"""All SQL of the notifier, as named functions over a connection of a council transaction (row-level security applies).

The sweep's cost is what is wrong, not what exists: each search for shares starts from an index of trouble (overdue, refused,
lost, without subscriber) and leaves out what has its alert already. Clocks run in every plan, so plans are looked at in turn, a
page in each round. Unique indices on open alerts guard *raise once*. The only tables read from outside are the views of the
publisher and of audit.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg

from schemas.alerts import AlertKind, ClearedBecause
from schemas.base import RecipientKind
from schemas.lifecycle import ReviewOutcome
from schemas.receipts import Status
from services.notifier.clocks import Plan, Review, Trouble
from services.notifier.missed import Wanted

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class Alert:
    """Of one share; or of a plan: then without share, seq and recipient, and with the clock where it is about one; or of a
    council and none of its plans. ``about`` tells two of one kind apart, ``count`` is of what has no id here."""

    alert_id: UUID
    kind: AlertKind
    la_code: str
    plan_id: UUID | None
    share_id: UUID | None
    seq: int | None
    recipient_kind: RecipientKind | None
    subscriber: str | None
    due_at: datetime
    raised_at: datetime
    clock: str | None = None
    reference: str | None = None
    review: str | None = None
    about: str | None = None
    count: int | None = None
    recall_id: UUID | None = None
    level: int | None = None
    outstanding: Mapping[str, int] | None = None
    """Of a recall: copies by subscriber, when it was raised."""

    @property
    def trouble(self) -> Trouble:
        """What it says of its plan."""
        return Trouble(self.kind, self.due_at, self.clock, self.review, self.reference)


@dataclass(frozen=True, slots=True)
class Event:
    """A row for the relay."""

    topic: str
    key: str
    headers: dict[str, str]
    value: bytes


@dataclass(frozen=True, slots=True)
class Notice:
    """A channel is to tell of this alert."""

    alert: Alert
    cleared_because: ClearedBecause | None


@dataclass(frozen=True, slots=True)
class Message:
    """Notices of one council that go out together. ``attempts`` counts this one."""

    message_id: UUID
    la_code: str
    made_at: datetime
    attempts: int


async def read_councils(pool: Pool) -> dict[str, str]:
    """Name by la_code."""
    async with pool.acquire() as connection:
        rows = await connection.fetch("SELECT la_code, name FROM publisher.v_council")
    return {row["la_code"]: row["name"] for row in rows}


async def lock_sweep(connection: Connection) -> datetime | None:
    """The database's time, or None when another process sweeps now. One sweep at a time also keeps outbox ids in order."""
    now: datetime | None = await connection.fetchval("SELECT now() WHERE pg_try_advisory_xact_lock(hashtext('notifier.sweep'))")
    return now


# --- what is wrong --------------------------------------------------------------------------------------------------

_NO_ALERT = "NOT EXISTS (SELECT FROM notifier.alert a WHERE a.kind = '{}' AND a.share_id = {} AND a.cleared_at IS NULL)"


async def find_troubled(connection: Connection, limit: int) -> list[UUID]:
    """Ids of shares that lack an alert they should have; at most ``limit`` of each kind, the longest overdue first.

    Narrowed by the same rules as :mod:`services.notifier.missed`, which has the last word.
    """
    rows = await connection.fetch(
        f"""
        WITH late AS MATERIALIZED (  -- first without those that have their alert: in an outage they are nearly all
            SELECT u.share_id, u.due_at FROM publisher.v_unsatisfied u
            WHERE u.due_at < now() AND {_NO_ALERT.format("missed", "u.share_id")}
        ), overdue AS (
            SELECT late.share_id FROM late
            JOIN publisher.v_share s ON s.share_id = late.share_id
            LEFT JOIN audit.v_newest n ON n.share_id = late.share_id
            WHERE coalesce(n.satisfied_seq, 0) < s.seq AND (s.subscriber IS NOT NULL OR s.action = 'hold') AND NOT s.silent
            ORDER BY late.due_at LIMIT $1
        ), lost AS (  -- satisfied once, so that the publisher may have struck it off its list of unsatisfied shares
            SELECT s.share_id FROM audit.v_newest n JOIN publisher.v_share s ON s.share_id = n.share_id
            WHERE n.lost AND n.satisfied_seq < s.seq AND s.due_at < now() AND NOT s.silent
              AND {_NO_ALERT.format("missed", "n.share_id")}
            LIMIT $1
        ), refused AS (
            SELECT s.share_id FROM audit.v_newest n JOIN publisher.v_share s ON s.share_id = n.share_id
            WHERE n.status = 'refused' AND n.seq = s.seq AND NOT s.silent AND {_NO_ALERT.format("refused", "n.share_id")}
            LIMIT $1
        ), undeliverable AS (
            SELECT s.share_id FROM publisher.v_share s
            WHERE s.subscriber IS NULL AND s.action = 'hold' AND NOT s.silent
              AND {_NO_ALERT.format("undeliverable", "s.share_id")}
            LIMIT $1
        )
        TABLE overdue UNION TABLE lost UNION TABLE refused UNION TABLE undeliverable
        """,
        limit,
    )
    return [row["share_id"] for row in rows]


async def find_open(connection: Connection, after: UUID, limit: int) -> list[Alert]:
    """The next ``limit`` open alerts, in order of their id."""
    rows = await connection.fetch(
        "SELECT * FROM notifier.alert WHERE cleared_at IS NULL AND alert_id > $1 ORDER BY alert_id LIMIT $2", after, limit
    )
    return [_alert(row) for row in rows]


async def read_wanted(connection: Connection, share_ids: Collection[UUID]) -> dict[UUID, Wanted]:
    """These shares as they are now. By id, apart from the searches: in one statement the planner would read every share."""
    rows = await connection.fetch(
        """
        SELECT s.share_id, s.plan_id, s.la_code, s.recipient_kind, s.subscriber, s.seq, s.action <> 'hold' AS withdrawn,
               coalesce(u.due_at, s.due_at) AS due_at, coalesce(n.satisfied_seq, 0) AS satisfied_seq, n.seq AS told_seq,
               n.status AS told, s.silent
        FROM publisher.v_share s
        LEFT JOIN publisher.v_unsatisfied u ON u.share_id = s.share_id
        LEFT JOIN audit.v_newest n ON n.share_id = s.share_id
        WHERE s.share_id = ANY($1)
        """,
        list(share_ids),
    )
    return {row["share_id"]: _wanted(row) for row in rows}


def _wanted(row: asyncpg.Record) -> Wanted:
    return Wanted(
        row["share_id"], row["plan_id"], row["la_code"], RecipientKind(row["recipient_kind"]), row["subscriber"],
        row["seq"], row["withdrawn"], row["due_at"], row["satisfied_seq"], row["told_seq"],
        Status(row["told"]) if row["told"] else None, row["silent"],
    )  # fmt: skip


async def find_plans(connection: Connection, after: UUID, limit: int) -> list[UUID]:
    """The next ``limit`` plans in force, in order of their id."""
    rows = await connection.fetch(
        "SELECT plan_id FROM publisher.v_plan WHERE plan_id > $1 AND state IN ('live', 'ceasing') ORDER BY plan_id LIMIT $2",
        after, limit,
    )  # fmt: skip
    return [row["plan_id"] for row in rows]


async def read_plans(connection: Connection, plan_ids: Collection[UUID]) -> dict[UUID, Plan]:
    """These plans with their reviews, as they are now.

    A transfer's day is the one on which it was recorded; of a plan that came from elsewhere, when it was handed over there.
    """
    rows = await connection.fetch(
        """
        SELECT p.plan_id, p.la_code, p.state IN ('live', 'ceasing') AND NOT p.died AS in_force, p.first_issued_on, p.issued_on,
               moved.transferred_on,
               EXISTS (SELECT FROM publisher.v_event e WHERE e.plan_id = p.plan_id AND e.type = 'transfer_told'
                       AND e.revision > moved.revision) AS told_of_transfer,
               (SELECT ARRAY[f.clock, f.runs_from::text] FROM publisher.v_flag f
                WHERE f.plan_id = p.plan_id AND f.code = 'phase_transfer' AND f.clock IS NOT NULL) AS phase_transfer,
               (SELECT (f.since AT TIME ZONE 'Europe/London')::date FROM publisher.v_flag f
                WHERE f.plan_id = p.plan_id AND f.code = 'lives_elsewhere') AS lives_elsewhere_since,
               (SELECT min(g.since) FROM publisher.v_gap g WHERE g.plan_id = p.plan_id) AS gap_since,
               (SELECT min(c.asked_at) FROM publisher.v_confirmation c WHERE c.plan_id = p.plan_id) AS waiting_since,
               (SELECT min(h.asked_at) FROM publisher.v_hold h WHERE h.plan_id = p.plan_id) AS held_since
        FROM publisher.v_plan p
        LEFT JOIN LATERAL (
            SELECT e.revision, CASE e.type WHEN 'transfer' THEN (e.recorded_at AT TIME ZONE 'Europe/London')::date
                                           ELSE e.happened_on END AS transferred_on
            FROM publisher.v_event e WHERE e.plan_id = p.plan_id AND e.type IN ('transfer', 'taken_over')
            ORDER BY e.revision DESC LIMIT 1
        ) moved ON true
        WHERE p.plan_id = ANY($1)
        """,
        list(plan_ids),
    )
    reviews: dict[UUID, list[Review]] = {row["plan_id"]: [] for row in rows}
    for row in await connection.fetch(
        "SELECT plan_id, review, meeting_on, invited_on, held_on, reported_on, decision, decided_on FROM publisher.v_review"
        " WHERE plan_id = ANY($1) ORDER BY plan_id, review",
        list(reviews),
    ):
        reviews[row["plan_id"]].append(_review(row))
    return {
        row["plan_id"]: Plan(
            row["plan_id"], row["la_code"], row["in_force"], row["first_issued_on"], row["issued_on"], row["transferred_on"],
            row["lives_elsewhere_since"], tuple(reviews[row["plan_id"]]), row["gap_since"], row["waiting_since"],
            told_of_transfer=row["told_of_transfer"], phase_transfer=_phase_transfer(row["phase_transfer"]),
            held_since=row["held_since"],
        )
        for row in rows
    }  # fmt: skip


def _phase_transfer(found: list[str] | None) -> tuple[str, date] | None:
    return (found[0], date.fromisoformat(found[1])) if found else None


def _review(row: asyncpg.Record) -> Review:
    return Review(
        row["review"], row["meeting_on"], row["invited_on"], row["held_on"], row["reported_on"],
        ReviewOutcome(row["decision"]) if row["decision"] else None, row["decided_on"],
    )  # fmt: skip


def _alert(row: asyncpg.Record) -> Alert:
    return Alert(
        row["alert_id"], AlertKind(row["kind"]), row["la_code"], row["plan_id"], row["share_id"], row["seq"],
        RecipientKind(row["recipient_kind"]) if row["recipient_kind"] else None, row["subscriber"], row["due_at"],
        row["raised_at"], row["clock"], row["reference"], row["review"], row["about"], row["count"], row["recall_id"],
        row["level"], row["outstanding"],
    )  # fmt: skip


# --- alerts ---------------------------------------------------------------------------------------------------------


async def insert_alerts(connection: Connection, alerts: Sequence[Alert]) -> set[UUID]:
    """Those that had no open alert of the same kind about the same yet."""
    rows = await connection.fetch(
        """
        INSERT INTO notifier.alert (alert_id, kind, la_code, plan_id, share_id, seq, recipient_kind, subscriber, due_at,
                                    raised_at, clock, reference, review, about, count, recall_id, level, outstanding)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::bigint[], $7::text[],
                             $8::text[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::text[], $13::text[],
                             $14::text[], $15::bigint[], $16::uuid[], $17::int[], $18::jsonb[])
        ON CONFLICT DO NOTHING RETURNING alert_id
        """,
        *_columns(
            alerts,
            "alert_id kind la_code plan_id share_id seq recipient_kind subscriber due_at raised_at clock reference review about"
            " count recall_id level outstanding",
        ),
    )
    return {row["alert_id"] for row in rows}


async def clear_alerts(connection: Connection, cleared: Sequence[tuple[UUID, ClearedBecause]]) -> None:
    await connection.execute(
        "UPDATE notifier.alert a SET cleared_at = now(), cleared_because = t.because"
        " FROM unnest($1::uuid[], $2::text[]) AS t (alert_id, because)"
        " WHERE a.alert_id = t.alert_id AND a.cleared_at IS NULL",
        [alert_id for alert_id, _ in cleared], [because for _, because in cleared],
    )  # fmt: skip


async def insert_notices(connection: Connection, channels: Collection[str], alerts: Sequence[Alert], change: str) -> None:
    await connection.execute(
        "INSERT INTO notifier.notice (channel, la_code, alert_id, change, made_at)"
        " SELECT c.channel, t.la_code, t.alert_id, $4, now()"
        " FROM unnest($2::text[], $3::uuid[]) WITH ORDINALITY AS t (la_code, alert_id, place)"
        " CROSS JOIN unnest($1::text[]) AS c (channel) ORDER BY t.place",
        sorted(channels), [alert.la_code for alert in alerts], [alert.alert_id for alert in alerts], change,
    )  # fmt: skip


async def insert_events(connection: Connection, events: Sequence[Event]) -> None:
    """Rows for the relay, and a nudge to it at commit."""
    await connection.execute(
        "INSERT INTO notifier.outbox (topic, key, headers, value)"
        " SELECT * FROM unnest($1::text[], $2::text[], $3::jsonb[], $4::bytea[])",
        *_columns(events, "topic key headers value"),
    )
    await connection.execute("NOTIFY outbox")


async def insert_acts(connection: Connection, act: str, alerts: Sequence[Alert], details: Sequence[dict[str, Any]]) -> None:
    """For the ledger, in the transaction that does it."""
    await connection.execute(
        "INSERT INTO audit.pending (act, actor, la_code, plan_id, share_id, seq, details)"
        " SELECT $1, 'notifier', t.* FROM unnest($2::text[], $3::uuid[], $4::uuid[], $5::bigint[], $6::jsonb[]) AS t",
        act, *_columns(alerts, "la_code plan_id share_id seq"), list(details),
    )  # fmt: skip


# --- messages -------------------------------------------------------------------------------------------------------


async def gather(connection: Connection, channel: str, wait_seconds: float, limit: int) -> None:
    """Make a message for each council whose oldest notice has waited long enough, with what has come together since.

    Not while an earlier one is unsent: what happens during an outage becomes one digest after it.
    """
    await connection.execute(
        """
        WITH due AS (
            SELECT n.la_code FROM notifier.notice n WHERE n.channel = $1 AND n.message_id IS NULL
            GROUP BY n.la_code HAVING min(n.made_at) <= now() - make_interval(secs => $2)
        ), made AS (
            INSERT INTO notifier.message (message_id, channel, la_code, made_at, next_try_at)
            SELECT gen_random_uuid(), $1, la_code, now(), now() FROM due
            ON CONFLICT (channel, la_code) WHERE sent_at IS NULL DO NOTHING RETURNING message_id, la_code
        )
        UPDATE notifier.notice n SET message_id = made.message_id FROM made
        WHERE n.id IN (
            SELECT id FROM notifier.notice o WHERE o.channel = $1 AND o.la_code = made.la_code AND o.message_id IS NULL
            ORDER BY id LIMIT $3
        )
        """,
        channel, wait_seconds, limit,
    )  # fmt: skip


async def claim_message(connection: Connection, channel: str, lease_seconds: float) -> Message | None:
    """One that is due, not to be claimed by another until the lease has run out: a crash only delays it."""
    row = await connection.fetchrow(
        """
        UPDATE notifier.message SET attempts = attempts + 1, next_try_at = now() + make_interval(secs => $2)
        WHERE message_id = (
            SELECT message_id FROM notifier.message WHERE channel = $1 AND sent_at IS NULL AND next_try_at <= now()
            ORDER BY next_try_at LIMIT 1 FOR UPDATE SKIP LOCKED
        ) RETURNING message_id, la_code, made_at, attempts
        """,
        channel, lease_seconds,
    )  # fmt: skip
    return Message(row["message_id"], row["la_code"], row["made_at"], row["attempts"]) if row else None


async def read_notices(connection: Connection, message_id: UUID) -> list[Notice]:
    """In the order in which they were made."""
    rows = await connection.fetch(
        """
        SELECT a.*, n.change FROM notifier.notice n JOIN notifier.alert a USING (alert_id)
        WHERE n.message_id = $1 ORDER BY n.id
        """,
        message_id,
    )
    return [Notice(_alert(row), ClearedBecause(row["cleared_because"]) if row["change"] == "cleared" else None) for row in rows]


async def mark_sent(connection: Connection, message_id: UUID) -> None:
    await connection.execute("UPDATE notifier.message SET sent_at = now(), failure = NULL WHERE message_id = $1", message_id)


async def mark_failed(connection: Connection, message_id: UUID, failure: str, again_in: float) -> None:
    await connection.execute(
        "UPDATE notifier.message SET failure = $2, next_try_at = now() + make_interval(secs => $3) WHERE message_id = $1",
        message_id, failure, again_in,
    )  # fmt: skip


def _columns(items: Sequence[Any], names: str) -> list[list[Any]]:
    return [[getattr(item, name) for item in items] for name in names.split()]
