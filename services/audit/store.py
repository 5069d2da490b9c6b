"""All SQL of audit, as named functions over a connection of a council transaction (row-level security applies).

Load-bearing: :func:`append_receipts` adds only what is not there yet, so a replay changes nothing, and writes each new
receipt's act in the same statement; :func:`lock_shares` comes first, so that what :func:`read_told` reads and
:func:`write_newest` stores is the word of all receipts of a share, also while two processes handle the same topic in a
rebalance. Receipts are never updated; the role has no right to.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import orjson
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from schemas.base import Channel
from schemas.heartbeats import Heartbeat
from schemas.receipts import HostedBy, Status
from services.audit.newest import Newest, Told
from services.audit.receipts import DeadLetter, Former, Judged, Share, Subscriber

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class Directory:
    """Who may send receipts (by topic), and all councils of this exchange."""

    subscribers: dict[str, Subscriber]
    la_codes: tuple[str, ...]


async def read_directory(pool: Pool) -> Directory:
    """As it is now: a key that was changed counts from the next batch on."""
    async with pool.acquire() as connection:
        subscribers = await connection.fetch(
            "SELECT subscriber, hosted_by, receipt_key::text AS receipt_key FROM publisher.v_subscriber"
        )
        councils = await connection.fetch("SELECT la_code FROM publisher.v_council ORDER BY la_code")
    known = [Subscriber(r["subscriber"], HostedBy(r["hosted_by"]), _key(r["receipt_key"])) for r in subscribers]
    return Directory({each.topic: each for each in known}, tuple(row["la_code"] for row in councils))


@lru_cache(maxsize=256)
def _key(text: str) -> OKPKey | None:
    try:
        return OKPKey.import_key(orjson.loads(text))
    except (JoseError, ValueError, TypeError, KeyError):
        return None  # one subscriber's broken entry must not stop the receipts of the others


# --- receipts in --------------------------------------------------------------------------------


async def read_shares(connection: Connection, share_ids: Collection[UUID]) -> dict[UUID, Share]:
    rows = await connection.fetch(
        "SELECT s.share_id, s.la_code, s.plan_id, s.subscriber, s.channel, s.seq, s.action, s.version_id, s.sha256,"
        " ARRAY(SELECT h.subscriber FROM publisher.v_handover h WHERE h.share_id = s.share_id) AS former"
        " FROM publisher.v_share s WHERE s.share_id = ANY($1)",
        list(share_ids),
    )
    return {
        row["share_id"]: Share(
            row["share_id"], row["la_code"], row["plan_id"], row["subscriber"], Channel(row["channel"]), row["seq"],
            row["action"], row["version_id"], row["sha256"], frozenset(row["former"]),
        )
        for row in rows
    }  # fmt: skip


async def lock_shares(connection: Connection, share_ids: Iterable[UUID]) -> None:
    """Until the end of the transaction, against other audit processes. In order, so that two never wait for each other.

    Advisory, since a share's first receipt has no row to lock yet and the publisher's rows are not ours.
    """
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('audit.share:' || share_id, 0))"
        " FROM unnest($1::uuid[]) WITH ORDINALITY AS t (share_id, place) ORDER BY place",
        sorted(share_ids),
    )


async def append_receipts(connection: Connection, judged: Sequence[Judged]) -> set[tuple[UUID, int]]:
    """Receipts that are not there yet, each with its act. Returns the (share, number) of those that were new."""
    receipts = [each.receipt for each in judged]
    shares = [each.share for each in judged]
    rows = await connection.fetch(
        """
        WITH told AS (
            SELECT * FROM unnest(
                $1::uuid[], $2::bigint[], $3::text[], $4::uuid[], $5::bigint[], $6::text[], $7::text[], $8::bool[],
                $9::uuid[], $10::text[], $11::text[], $12::text[], $13::timestamptz[], $14::timestamptz[],
                $15::bytea[], $16::jsonb[], $17::text[], $18::text[], $19::text[]
            ) AS t (share_id, number, la_code, plan_id, seq, subscriber, status, satisfies, version_id, sha256,
                    record, reason, next_try_at, at, signed, details, act, removed, remaining)
        ), new AS (
            INSERT INTO audit.receipt (share_id, number, la_code, seq, subscriber, status, satisfies, version_id,
                                       sha256, record, reason, next_try_at, at, signed, removed, remaining)
            SELECT share_id, number, la_code, seq, subscriber, status, satisfies, version_id, sha256, record, reason,
                   next_try_at, at, signed, string_to_array(removed, ' ')::uuid[], string_to_array(remaining, ' ')::uuid[]
            FROM told
            ON CONFLICT (share_id, number) DO NOTHING RETURNING share_id, number
        ), acts AS (
            INSERT INTO audit.pending (act, actor, la_code, plan_id, version_id, share_id, seq, details)
            SELECT act, subscriber, la_code, plan_id, version_id, share_id, seq, details
            FROM told JOIN new USING (share_id, number)
        )
        SELECT share_id, number FROM new
        """,
        [r.share_id for r in receipts], [r.number for r in receipts], [s.la_code for s in shares],
        [s.plan_id for s in shares], [r.seq for r in receipts], [r.subscriber for r in receipts],
        [each.status.value for each in judged], [each.satisfies for each in judged], [r.version_id for r in receipts],
        [r.sha256 for r in receipts], [r.record for r in receipts], [each.reason for each in judged],
        [r.next_try_at for r in receipts], [r.at for r in receipts], [each.record.value for each in judged],
        [_details(each) for each in judged], [r.status.value for r in receipts],
        [_spaced(r.removed) for r in receipts], [_spaced(r.remaining) for r in receipts],
    )  # fmt: skip
    return {(row["share_id"], row["number"]) for row in rows}


def _details(judged: Judged) -> dict[str, Any]:
    receipt = judged.receipt
    details = {
        "number": receipt.number, "hosted_by": receipt.hosted_by, "at": receipt.at, "satisfies": judged.satisfies,
        "record": receipt.record, "sha256": receipt.sha256, "reason": judged.reason, "removal": receipt.removal,
        "opened_by": receipt.opened_by,
    }  # fmt: skip
    return {name: value for name, value in details.items() if value is not None}


async def write_former(connection: Connection, former: Sequence[Former]) -> None:
    """What a recipient's former subscriber still says, each new receipt with its act."""
    if not former:
        return
    receipts = [each.receipt for each in former]
    await connection.execute(
        """
        WITH told AS (
            SELECT DISTINCT ON (share_id, subscriber, number) * FROM unnest(
                $1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::uuid[], $6::bigint[], $7::text[], $8::uuid[],
                $9::text[], $10::text[], $11::text[], $12::timestamptz[], $13::bytea[], $14::text[]
            ) AS t (share_id, subscriber, number, la_code, plan_id, seq, status, version_id, removed, record, reason, at,
                    signed, remaining)
        ), new AS (
            INSERT INTO audit.former_receipt (share_id, subscriber, number, la_code, seq, status, version_id, removed, record,
                                              reason, at, signed, remaining)
            SELECT share_id, subscriber, number, la_code, seq, status, version_id, string_to_array(removed, ' ')::uuid[],
                   record, reason, at, signed, string_to_array(remaining, ' ')::uuid[] FROM told
            ON CONFLICT DO NOTHING RETURNING share_id, subscriber, number
        )
        INSERT INTO audit.pending (act, actor, la_code, plan_id, version_id, share_id, seq, details)
        SELECT status, subscriber, la_code, plan_id, version_id, share_id, seq,
               jsonb_build_object('number', number, 'former', true)
        FROM told JOIN new USING (share_id, subscriber, number)
        """,
        [r.share_id for r in receipts], [r.subscriber for r in receipts], [r.number for r in receipts],
        [each.share.la_code for each in former], [each.share.plan_id for each in former], [r.seq for r in receipts],
        [r.status.value for r in receipts], [r.version_id for r in receipts], [_spaced(r.removed) for r in receipts],
        [r.removal or r.record for r in receipts], [r.reason for r in receipts], [r.at for r in receipts],
        [each.record.value for each in former], [_spaced(r.remaining) for r in receipts],
    )  # fmt: skip


def _spaced(ids: Iterable[UUID]) -> str:
    """For ``string_to_array``: ``unnest`` takes no arrays of arrays."""
    return " ".join(map(str, ids))


async def read_signed(connection: Connection, places: Collection[tuple[UUID, int]]) -> dict[tuple[UUID, int], bytes]:
    """The stored bytes of these (share, number)."""
    rows = await connection.fetch(
        "SELECT share_id, number, signed FROM audit.receipt"
        " JOIN unnest($1::uuid[], $2::bigint[]) AS t (share_id, number) USING (share_id, number)",
        [share_id for share_id, _ in places], [number for _, number in places],
    )  # fmt: skip
    return {(row["share_id"], row["number"]): row["signed"] for row in rows}


async def read_told(connection: Connection, share_ids: Collection[UUID]) -> dict[UUID, list[Told]]:
    """What was told of each share, as far as the fold needs it: a share that failed a thousand times has a few rows."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT ON (share_id, seq, status, satisfies)
               share_id, number, seq, status, satisfies, version_id, sha256, record, reason, next_try_at, at, removed
        FROM audit.receipt WHERE share_id = ANY($1) ORDER BY share_id, seq, status, satisfies, number DESC
        """,
        list(share_ids),
    )
    told: dict[UUID, list[Told]] = defaultdict(list)
    for row in rows:
        told[row["share_id"]].append(
            Told(
                row["number"], row["seq"], Status(row["status"]), row["satisfies"], row["version_id"], row["sha256"],
                row["record"], row["reason"], row["next_try_at"], row["at"], row["removed"],
            )
        )  # fmt: skip
    return told


async def write_newest(connection: Connection, folded: Mapping[UUID, Newest], la_codes: Mapping[UUID, str]) -> None:
    """One row for each share; ``folded`` and ``la_codes`` have the same keys."""
    newest = [each.newest for each in folded.values()]
    held = [each.held for each in folded.values()]
    await connection.execute(
        """
        INSERT INTO audit.newest (share_id, la_code, seq, number, status, version_id, sha256, record, reason,
                                  next_try_at, at, satisfied_seq, lost, held_version_id, held_status, held_record,
                                  held_at)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::uuid[], $7::text[],
                             $8::text[], $9::text[], $10::timestamptz[], $11::timestamptz[], $12::bigint[], $13::bool[],
                             $14::uuid[], $15::text[], $16::text[], $17::timestamptz[])
        ON CONFLICT (share_id) DO UPDATE SET
            la_code = excluded.la_code, seq = excluded.seq, number = excluded.number, status = excluded.status,
            version_id = excluded.version_id, sha256 = excluded.sha256, record = excluded.record,
            reason = excluded.reason, next_try_at = excluded.next_try_at, at = excluded.at,
            satisfied_seq = excluded.satisfied_seq, lost = excluded.lost, held_version_id = excluded.held_version_id,
            held_status = excluded.held_status, held_record = excluded.held_record, held_at = excluded.held_at
        """,
        list(folded), [la_codes[share_id] for share_id in folded], [n.seq for n in newest], [n.number for n in newest],
        [n.status.value for n in newest], [n.version_id for n in newest], [n.sha256 for n in newest],
        [n.record for n in newest], [n.reason for n in newest], [n.next_try_at for n in newest], [n.at for n in newest],
        [each.satisfied_seq for each in folded.values()], [each.lost for each in folded.values()],
        [h and h.version_id for h in held], [h and h.status.value for h in held], [h and h.record for h in held],
        [h and h.at for h in held],
    )  # fmt: skip


async def write_dead_letters(connection: Connection, letters: Sequence[DeadLetter]) -> None:
    """Each with its origin; one that comes again after a crash is there already."""
    records = [letter.record for letter in letters]
    await connection.execute(
        """
        INSERT INTO audit.dead_letter (topic, partition, "offset", key, value, headers, reason)
        SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bytea[], $5::bytea[], $6::jsonb[], $7::text[])
        ON CONFLICT DO NOTHING
        """,
        [r.topic for r in records], [r.partition for r in records], [r.offset for r in records],
        [r.key for r in records], [r.value for r in records], [orjson.dumps(r.header_text()) for r in records],
        [letter.reason for letter in letters],
    )  # fmt: skip


async def write_heartbeats(connection: Connection, beats: Sequence[Heartbeat]) -> None:
    """Seen now, by the database's clock; at most one of each subscriber. One that was overtaken, or came out of the dead
    letters, is no sign of life; nor is one from the future, which would be the newest for ever."""
    await connection.execute(
        """
        INSERT INTO audit.heartbeat AS h (subscriber, last_seen, at, waiting, lag_seconds, unsent, dead_letters,
                                          stopped_topics, held, holdings_digest, checkpoint, differences, unasked,
                                          unasked_since, paused, away)
        SELECT subscriber, now(), at, waiting, lag_seconds, unsent, dead_letters,
               ARRAY(SELECT jsonb_array_elements_text(stopped_topics::jsonb)), held, holdings_digest, checkpoint, differences,
               unasked, unasked_since, paused, away
        FROM unnest($1::text[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[],
                    $8::bigint[], $9::text[], $10::text[], $11::jsonb[], $12::bigint[], $13::timestamptz[], $14::jsonb[],
                    $15::jsonb[])
            AS t (subscriber, at, waiting, lag_seconds, unsent, dead_letters, stopped_topics, held, holdings_digest, checkpoint,
                  differences, unasked, unasked_since, paused, away)
        WHERE at < now() + interval '1 day'
        ON CONFLICT (subscriber) DO UPDATE SET
            last_seen = excluded.last_seen, at = excluded.at, waiting = excluded.waiting,
            lag_seconds = excluded.lag_seconds, unsent = excluded.unsent, dead_letters = excluded.dead_letters,
            stopped_topics = excluded.stopped_topics, held = excluded.held, holdings_digest = excluded.holdings_digest,
            checkpoint = excluded.checkpoint, differences = excluded.differences, unasked = excluded.unasked,
            unasked_since = excluded.unasked_since, paused = excluded.paused, away = excluded.away
        WHERE h.at IS NULL OR h.at < excluded.at
        """,
        [b.subscriber for b in beats], [b.at for b in beats], [b.waiting for b in beats], [b.lag_seconds for b in beats],
        [b.unsent for b in beats], [b.dead_letters for b in beats], [orjson.dumps(b.stopped_topics).decode() for b in beats],
        [b.held for b in beats], [b.holdings_digest for b in beats], [b.checkpoint for b in beats],
        [b.differences for b in beats], [b.unasked for b in beats], [b.unasked_since for b in beats],
        [orjson.dumps([pause.model_dump(mode="json") for pause in b.paused]) for b in beats],
        [orjson.dumps([away.model_dump(mode="json") for away in b.away]) for b in beats],
    )  # fmt: skip


# --- who holds what -----------------------------------------------------------------------------

_HOLDERS = """
    SELECT s.share_id, s.plan_id, s.case_reference, s.la_code, s.recipient_name, s.recipient_kind, s.channel, s.notice,
           s.subscriber, s.hosted_by, s.seq, s.action, s.version, s.version_id, s.requested_at,
           coalesce(u.due_at, s.due_at) AS due_at, n.seq AS told_seq, n.status, n.record, n.reason, n.at, n.next_try_at,
           CASE WHEN n.status = 'failed' THEN (
               SELECT count(*) FROM audit.receipt r WHERE r.share_id = s.share_id AND r.seq = n.seq AND r.status = 'failed'
           ) END AS failed_tries,
           coalesce(n.satisfied_seq, 0) AS satisfied_seq, h.number AS held_version, n.held_status, n.held_record,
           n.held_at, p.restricted IS NOT NULL AS restricted, now() AS now
    FROM publisher.v_share s
    JOIN publisher.v_plan p ON p.plan_id = s.plan_id
    LEFT JOIN publisher.v_unsatisfied u ON u.share_id = s.share_id
    LEFT JOIN audit.newest n ON n.share_id = s.share_id
    LEFT JOIN publisher.v_version h ON h.version_id = n.held_version_id
"""


async def read_plan_council(connection: Connection, plan_id: UUID) -> str | None:
    """The plan's council; None when the caller's councils have no such plan."""
    la_code: str | None = await connection.fetchval("SELECT la_code FROM publisher.v_plan WHERE plan_id = $1", plan_id)
    return la_code


async def read_holders_of_plan(connection: Connection, plan_id: UUID) -> list[asyncpg.Record]:
    rows: list[asyncpg.Record] = await connection.fetch(f"{_HOLDERS} WHERE s.plan_id = $1 ORDER BY s.share_id", plan_id)
    return rows


async def read_holders(connection: Connection, after: UUID, limit: int) -> list[asyncpg.Record]:
    """The next ``limit`` shares of the transaction's councils, in order of ``share_id``."""
    rows: list[asyncpg.Record] = await connection.fetch(
        f"{_HOLDERS} WHERE s.share_id > $1 ORDER BY s.share_id LIMIT $2", after, limit
    )
    return rows


async def write_read_acts(
    connection: Connection, actor: str, la_codes: Collection[str], plan_id: UUID | None, details: dict[str, Any],
    *, act: str = "holders_read",
) -> None:  # fmt: skip
    """A read of who holds what, in the ledger of each council whose shares were looked at."""
    await connection.execute(
        "INSERT INTO audit.pending (act, actor, la_code, plan_id, details)"
        " SELECT $5, $1, la_code, $3, $4 FROM unnest($2::text[]) AS t (la_code)",
        actor, sorted(la_codes), plan_id, details, act,
    )  # fmt: skip
