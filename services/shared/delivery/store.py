"""All SQL of delivery, as named functions. The load-bearing statement is :func:`claim`.

Invariants: ``seq`` and ``held_seq`` of a share never fall (a trigger refuses it); a receipt, the attempt it tells of and the
state it leaves are one transaction; a claim is fenced, so a dispatcher that lost its lease writes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

from services.shared.delivery.states import OVERTAKEN
from services.shared.kafka.consume import Record
from services.shared.record_systems.port import RecallOutcome, Removed

LEASE_SECONDS = 120
"""Longer than the dispatcher's hard deadline for one batch."""
FIRST_CHECK_SECONDS = 60.0
"""After a change, until the record system is asked whether it holds: servers may show a write only after a while."""
_CHECK_AT = "now() + make_interval(secs => least({seconds} * power(5, least({d}mended, 5)), 86400))"
"""Later each time that a copy had to be done again: a minute, five, twenty-five, two hours, ten hours, a day."""
_CHECKED = ["filed", "opened", "withdrawn", "recalled"]
"""States that say something of the record that it can be asked about; nobody can ask for a letter."""


@dataclass(frozen=True, slots=True)
class Parking:
    """An instruction to write as a share's newest."""

    share_id: UUID
    seq: int
    action: str
    instruction: dict[str, Any]
    sha256: str | None
    plan_id: UUID
    lane: str
    state: str
    next_attempt_at: datetime | None
    notice: bool = False
    """It is known to be of a notice; an end of a share does not say so."""


@dataclass(frozen=True, slots=True)
class Claimed:
    share_id: UUID
    seq: int
    action: str
    instruction: dict[str, Any]
    lane: str
    held_seq: int
    held_version_id: UUID | None
    attempts: int
    removed_seq: int | None = None
    """The ``seq`` for which it is proved that what its instruction names to remove is gone."""
    held_record: str | None = None
    held_sha256: str | None = None
    state: str = "waiting"
    removal: RecallOutcome | None = None
    """What became, in this attempt, of what must go before the right version is held."""
    former_lanes: Sequence[str] = ()
    """Record systems in which it was held before this one served its recipient."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one claimed delivery. ``held`` is set when the record system is now as this ``seq`` wants it."""

    share_id: UUID
    seq: int
    status: str
    reason: str | None
    record: str | None
    held: bool
    version_id: UUID | None
    sha256: str | None
    next_attempt_at: datetime | None
    removed: bool = False
    """What the instruction names to remove is proved to be gone."""
    removal: str | None = None
    """The proof of that, where it came now."""
    away: bool = False
    """It failed because nobody answered."""
    paused: bool = False
    """Its recipient is paused: nothing was attempted, and nothing is due until it is resumed."""


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    number: int
    share_id: UUID
    seq: int
    status: str
    signed: bytes
    headers: dict[str, str]


async def lock_deliveries(connection: Any, share_ids: Sequence[UUID]) -> dict[UUID, Any]:
    rows = await connection.fetch(
        "SELECT share_id, seq, action, sha256, state, lane, held_seq FROM delivery.delivery WHERE share_id = ANY($1)"
        " ORDER BY share_id FOR UPDATE",
        list(share_ids),
    )
    return {row["share_id"]: row for row in rows}


async def save_parked(connection: Any, parked: Sequence[Parking]) -> None:
    """The newest wish of each share; a claim in flight stays, and its owner finds the higher ``seq`` when it is done.

    In order of ``share_id``, so that the topic and the council's list, which bring new shares at the same time, never wait
    for each other.
    """
    await connection.execute(
        """
        INSERT INTO delivery.delivery AS d
            (share_id, seq, action, instruction, sha256, plan_id, lane, state, next_attempt_at, notice)
        -- Claims go by this database's clock: one of ours that is ahead of it must not put a delivery off.
        SELECT share_id, seq, action, instruction, sha256, plan_id, lane, state,
            CASE WHEN next_attempt_at IS NOT NULL THEN least(next_attempt_at, now()) END, notice
        FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::jsonb[], $5::text[], $6::uuid[], $7::text[],
                    $8::text[], $9::timestamptz[], $10::bool[])
            AS t (share_id, seq, action, instruction, sha256, plan_id, lane, state, next_attempt_at, notice)
        ON CONFLICT (share_id) DO UPDATE SET seq = excluded.seq, action = excluded.action, instruction = excluded.instruction,
            notice = d.notice OR excluded.notice,
            sha256 = excluded.sha256, lane = excluded.lane, next_attempt_at = excluded.next_attempt_at,
            state = excluded.state, attempts = 0, parked_at = now(), check_at = NULL, away = false, paused = false, mended = 0,
            removed = array_remove(d.removed, (excluded.instruction->>'version_id')::uuid),
            -- What was proved to be gone, and was not wanted since, need not be proved again beside the right version.
            removed_seq = CASE WHEN excluded.action = 'hold' AND excluded.instruction->'remove' <@ to_jsonb(d.removed)
                               THEN excluded.seq ELSE d.removed_seq END
        WHERE d.seq < excluded.seq
        """,
        *_columns(
            sorted(parked, key=_by_share), "share_id seq action instruction sha256 plan_id lane state next_attempt_at notice"
        ),
    )


async def hasten(connection: Any, share_ids: Sequence[UUID], lanes: Sequence[str]) -> None:
    """Try at once what the council puts out again: it may have lifted what it held back, or people may have put right why it
    was refused (a patient registered, an endpoint moved). ``lanes`` have a record system; people are not hurried."""
    if share_ids:
        await connection.execute(
            "UPDATE delivery.delivery SET next_attempt_at = now() WHERE share_id = ANY($1) AND lane = ANY($2)"
            " AND (state = 'waiting' AND next_attempt_at > now() OR state = 'refused' AND next_attempt_at IS NULL)",
            list(share_ids), list(lanes),
        )  # fmt: skip


async def hurry(connection: Any, share_ids: Sequence[UUID], lanes: Sequence[str]) -> None:
    """A person wants these now: no back-off is waited out, and what is held is looked at in the record, which files again what
    is not there. A pause and a rate stand."""
    await connection.execute(
        "UPDATE delivery.delivery SET next_attempt_at = CASE WHEN state = 'refused' OR next_attempt_at IS NOT NULL"
        " THEN least(next_attempt_at, now()) END, check_at = CASE WHEN check_at IS NOT NULL THEN now() END"
        " WHERE share_id = ANY(ARRAY(SELECT share_id FROM delivery.delivery WHERE share_id = ANY($1) AND lane = ANY($2)"
        " AND (next_attempt_at IS NOT NULL OR check_at IS NOT NULL OR state = 'refused') ORDER BY share_id FOR UPDATE))",
        list(share_ids), list(lanes),
    )  # fmt: skip


async def hasten_lane(connection: Any, lane: str) -> int:
    """The record system answers again: what failed for that reason alone is tried now, in no order, over some seconds.

    What somebody else holds is left out: to wait for it, with rows of our own locked, could be to wait for each other.
    """
    done: str = await connection.execute(
        "UPDATE delivery.delivery SET next_attempt_at = least(next_attempt_at, now() + random() * interval '5 seconds'),"
        " away = false WHERE share_id = ANY(ARRAY(SELECT share_id FROM delivery.delivery"
        " WHERE lane = $1 AND away AND state = 'failed' FOR UPDATE SKIP LOCKED))",
        lane,
    )
    return int(done.rpartition(" ")[2])


async def release(connection: Any, instance: str) -> None:
    """Give back what an earlier run of this very instance had claimed: it is dead, so nothing of it is in flight.

    Locked in order, as parking does, which is busy at the same time when a process starts.
    """
    await connection.execute(
        "UPDATE delivery.delivery SET claim = NULL, claimed_until = NULL WHERE share_id = ANY(ARRAY("
        " SELECT share_id FROM delivery.delivery"
        " WHERE claimed_by = $1 AND claimed_until IS NOT NULL AND next_attempt_at IS NOT NULL ORDER BY share_id FOR UPDATE))",
        instance,
    )


_DUE = """
    WITH RECURSIVE lanes AS (
        (SELECT lane FROM delivery.delivery WHERE next_attempt_at IS NOT NULL ORDER BY lane LIMIT 1)
        UNION ALL
        SELECT (SELECT d.lane FROM delivery.delivery d WHERE d.next_attempt_at IS NOT NULL AND d.lane > lanes.lane
                ORDER BY d.lane LIMIT 1)
        FROM lanes WHERE lanes.lane IS NOT NULL
    )
"""
"""The lanes that have something to do, one step into the index for each: a long queue of one costs the others nothing."""


_FREE = """
            SELECT due.share_id FROM lanes CROSS JOIN LATERAL (
                SELECT share_id FROM delivery.delivery d
                WHERE d.lane = lanes.lane AND d.next_attempt_at <= now() {and_removes}
                AND (d.claimed_until IS NULL OR d.claimed_until < now())
                ORDER BY d.next_attempt_at
                LIMIT coalesce((SELECT most FROM unnest($6::text[], $7::int[]) AS t (lane, most) WHERE t.lane = lanes.lane), $3)
                FOR UPDATE SKIP LOCKED
            ) due
            WHERE lanes.lane <> ALL($2) {and_lane}
"""


_REMOVES = "AND jsonb_array_length(d.instruction->'remove') > 0 AND (d.attempts = 0 OR d.lane <> ALL($8))"


async def claim(
    connection: Any,
    claim_id: UUID,
    instance: str,
    busy: Sequence[str],
    per_lane: int,
    fewer: Mapping[str, int] = MappingProxyType({}),
    resting: Sequence[str] = (),
) -> list[Claimed]:
    """Due deliveries of lanes that are not busy, at most ``per_lane`` of each (or what ``fewer`` says), leased to ``claim_id``.
    As many more where something is to be removed, which waits behind nothing: where nobody answered just now (``resting``), it
    is tried once all the same, and the council hears what came of it.

    By an array, not a join: the planner takes the lanes for many and would read the whole table instead.
    """
    rows = await connection.fetch(
        _DUE
        + f"""
        , first AS ({_FREE.format(and_removes=_REMOVES, and_lane="")}),
        free AS ({_FREE.format(and_removes="", and_lane="AND lanes.lane <> ALL($8)")})
        UPDATE delivery.delivery d SET claim = $1, claimed_until = now() + make_interval(secs => $4), claimed_by = $5
        WHERE d.share_id = ANY(ARRAY(SELECT share_id FROM first UNION SELECT share_id FROM free))
        RETURNING d.share_id, d.seq, d.action, d.instruction, d.lane, d.held_seq, d.held_version_id, d.attempts,
            d.removed_seq, d.held_record, d.held_sha256, d.state, d.former_lanes
        """,
        claim_id, list(busy), per_lane, LEASE_SECONDS, instance, list(fewer), list(fewer.values()), list(resting),
    )  # fmt: skip
    return [Claimed(**dict(row)) for row in rows]


async def renew(connection: Any, claim_id: UUID) -> set[UUID]:
    """Begin the lease anew; returns the shares that are still this claim's."""
    rows = await connection.fetch(
        "UPDATE delivery.delivery SET claimed_until = now() + make_interval(secs => $2) WHERE share_id = ANY(ARRAY("
        " SELECT share_id FROM delivery.delivery WHERE claim = $1 ORDER BY share_id FOR UPDATE)) RETURNING share_id",
        claim_id, LEASE_SECONDS,
    )  # fmt: skip
    return {row["share_id"] for row in rows}


async def move(connection: Any, claim_id: UUID, moved: Sequence[tuple[Claimed, str]], by_hand: Sequence[str]) -> set[UUID]:
    """Give what another record system serves now to that one, with what was proved to be removed; returns the shares.
    Of ``by_hand`` nothing is due."""
    rows = await connection.fetch(
        """
        UPDATE delivery.delivery d SET claim = NULL, claimed_until = NULL, lane = t.lane, state = 'waiting', attempts = 0,
            former_lanes = CASE WHEN d.held_seq > 0 THEN array_append(array_remove(d.former_lanes, d.lane), d.lane)
                                ELSE d.former_lanes END,
            removed_seq = coalesce(t.removed_seq, d.removed_seq), removal = coalesce(t.removal, d.removal),
            removed = CASE WHEN t.removal IS NOT NULL
                           THEN ARRAY(SELECT jsonb_array_elements_text(d.instruction->'remove')::uuid) ELSE d.removed END,
            next_attempt_at = CASE WHEN t.lane <> ALL($7) THEN now() END
        FROM unnest($2::uuid[], $3::bigint[], $4::text[], $5::bigint[], $6::text[])
            AS t (share_id, seq, lane, removed_seq, removal)
        WHERE d.share_id = t.share_id AND d.claim = $1 AND d.seq = t.seq
        RETURNING d.share_id
        """,
        claim_id, [each.share_id for each, _ in moved], [each.seq for each, _ in moved], [lane for _, lane in moved],
        [each.seq if each.removed_seq == each.seq else None for each, _ in moved],
        [each.removal.record if isinstance(each.removal, Removed) else None for each, _ in moved], list(by_hand),
    )  # fmt: skip
    return {row["share_id"] for row in rows}


async def next_due(connection: Any, busy: Sequence[str]) -> datetime | None:
    """When the next delivery of a lane that is not busy may be claimed."""
    due: datetime | None = await connection.fetchval(
        _DUE
        + """
        SELECT min(greatest(soon.next_attempt_at, soon.claimed_until)) FROM lanes CROSS JOIN LATERAL (
            SELECT d.next_attempt_at, d.claimed_until FROM delivery.delivery d
            WHERE d.lane = lanes.lane AND d.next_attempt_at IS NOT NULL ORDER BY d.next_attempt_at LIMIT 100
        ) soon
        WHERE lanes.lane <> ALL($1)
        """,
        list(busy),
    )
    return due


async def finish(connection: Any, claim_id: UUID, started_at: datetime, results: Sequence[Result]) -> set[UUID]:
    """Write what became of a claim; returns the shares that it changed. Those whose lease did not hold write nothing.

    Where a newer instruction was parked meanwhile, what is held rises to what was delivered, and the state stays that of
    the newer wish, which is due. Where evidence came meanwhile that says more (an item was opened before it was written
    that it lies there), the evidence stands and only the attempt is kept, with what it proved to be removed.
    """
    rows = await connection.fetch(
        f"""
        WITH result AS (
            SELECT * FROM unnest($2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::bool[], $7::uuid[], $8::text[],
                                 $9::timestamptz[], $10::bool[], $11::bool[], $16::bool[], $17::text[])
            AS t (share_id, seq, status, record, held, version_id, sha256, next_attempt_at, removed, away, paused, removal)
        ), mine AS (
            SELECT d.share_id, d.seq = r.seq AND d.held_seq = r.seq AND EXISTS (
                SELECT FROM unnest($12::text[], $13::text[]) AS t (outcome, state)
                WHERE t.outcome = r.status AND t.state = d.state
            ) AS overtaken
            FROM delivery.delivery d JOIN result r USING (share_id)
            WHERE d.claim = $1 ORDER BY d.share_id FOR UPDATE OF d
        )
        UPDATE delivery.delivery d SET claim = NULL, claimed_until = NULL,
            held_seq = CASE WHEN r.held THEN greatest(d.held_seq, r.seq) ELSE d.held_seq END,
            held_version_id = CASE WHEN r.held AND r.seq >= d.held_seq THEN r.version_id ELSE d.held_version_id END,
            held_sha256 = CASE WHEN r.held AND r.seq >= d.held_seq THEN r.sha256 ELSE d.held_sha256 END,
            held_record = CASE WHEN r.held AND r.seq >= d.held_seq THEN r.record ELSE d.held_record END,
            away = r.away AND d.seq = r.seq,
            paused = r.paused AND d.seq = r.seq AND NOT mine.overtaken,
            removed_seq = CASE WHEN r.removed AND d.seq = r.seq THEN r.seq ELSE d.removed_seq END,
            removal = CASE WHEN r.removed AND d.seq = r.seq THEN coalesce(r.removal, d.removal) ELSE d.removal END,
            removed = CASE WHEN r.removed AND d.seq = r.seq AND r.removal IS NOT NULL
                           THEN ARRAY(SELECT jsonb_array_elements_text(d.instruction->'remove')::uuid) ELSE d.removed END,
            state = CASE WHEN d.seq = r.seq AND NOT mine.overtaken THEN r.status ELSE d.state END,
            attempts = CASE WHEN d.seq = r.seq THEN d.attempts + 1 ELSE d.attempts END,
            next_attempt_at = CASE WHEN d.seq = r.seq AND NOT mine.overtaken THEN r.next_attempt_at ELSE d.next_attempt_at END,
            check_at = CASE WHEN d.seq <> r.seq OR mine.overtaken THEN d.check_at
                            WHEN r.status = ANY($14::text[])
                            THEN {_CHECK_AT.format(seconds="$15", d="d.")} END
        FROM result r JOIN mine USING (share_id) WHERE d.share_id = r.share_id
        RETURNING d.share_id, mine.overtaken
        """,
        claim_id, *_columns(results, "share_id seq status record held version_id sha256 next_attempt_at removed away"),
        [outcome for outcome, _ in OVERTAKEN], [state for _, state in OVERTAKEN], _CHECKED, FIRST_CHECK_SECONDS,
        [result.paused for result in results], [result.removal for result in results],
    )  # fmt: skip
    mine = {row["share_id"] for row in rows}
    kept = [result for result in results if result.share_id in mine]
    await connection.execute(
        "INSERT INTO delivery.attempt (share_id, seq, started_at, outcome, reason, record)"
        " SELECT share_id, seq, $1, outcome, reason, record"
        " FROM unnest($2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::text[])"
        " AS t (share_id, seq, outcome, reason, record)",
        started_at, *_columns(kept, "share_id seq status reason record"),
    )  # fmt: skip
    return {row["share_id"] for row in rows if not row["overtaken"]}


async def take_numbers(connection: Any, count: int) -> range:
    """Receipt numbers: above the last, and above the clock in microseconds, so that a lost database never counts again."""
    last: int = await connection.fetchval(
        """
        INSERT INTO delivery.receipt_number AS n (last)
        VALUES ((extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $1)
        ON CONFLICT (only_row) DO UPDATE
            SET last = greatest(n.last, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) + $1
        RETURNING last
        """,
        count,
    )
    return range(last - count + 1, last + 1)


async def save_receipts(connection: Any, topic: str, receipts: Sequence[SignedReceipt]) -> None:
    """Keep them, and put them into the outbox."""
    await connection.execute(
        "INSERT INTO delivery.receipt (number, share_id, seq, status, signed)"
        " SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::text[], $5::bytea[])",
        *_columns(receipts, "number share_id seq status signed"),
    )
    await into_outbox(connection, topic, [(str(r.share_id), r.headers, r.signed) for r in receipts])


async def newest_receipts(connection: Any, share_ids: Sequence[UUID]) -> list[tuple[UUID, bytes]]:
    """(share, signed bytes) of the newest receipt of each share.

    Newest by (``seq``, number), as the council counts: an old message that comes late is answered too, with a higher number.
    """
    rows = await connection.fetch(
        "SELECT DISTINCT ON (share_id) share_id, signed FROM delivery.receipt WHERE share_id = ANY($1)"
        " ORDER BY share_id, seq DESC, number DESC",
        list(share_ids),
    )
    return [(row["share_id"], row["signed"]) for row in rows]


async def into_outbox(connection: Any, topic: str, rows: Sequence[tuple[str, dict[str, str], bytes]]) -> None:
    if not rows:
        return
    await connection.execute(
        "INSERT INTO delivery.outbox (topic, key, headers, value)"
        " SELECT $1, * FROM unnest($2::text[], $3::jsonb[], $4::bytea[])",
        topic, [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows],
    )  # fmt: skip
    await connection.execute("NOTIFY outbox")


async def lock_for_evidence(connection: Any, share_id: UUID) -> Any:
    return await connection.fetchrow(
        "SELECT share_id, seq, action, state, instruction, removed_seq, held_seq, held_version_id, held_sha256, held_record"
        " FROM delivery.delivery WHERE share_id = $1 FOR UPDATE",
        share_id,
    )


async def read_removals(connection: Any, share_ids: Sequence[UUID]) -> dict[UUID, Any]:
    """Of these shares, those whose newest instruction names something to remove, and how that stands."""
    rows = await connection.fetch(
        "SELECT share_id, seq, action, state, instruction->'remove' AS remove, removed_seq = seq AS proved, removal,"
        " held_seq = seq AS held, held_version_id, held_sha256, held_record FROM delivery.delivery"
        " WHERE share_id = ANY($1) AND jsonb_array_length(instruction->'remove') > 0",
        list(share_ids),
    )
    return {row["share_id"]: row for row in rows}


async def save_evidence(connection: Any, share_id: UUID, state: str, record: str | None, *, held: bool) -> None:
    await connection.execute(
        "UPDATE delivery.delivery SET state = $2, held_record = coalesce($3, held_record),"
        # A removal that is tried again goes on being tried.
        " next_attempt_at = CASE WHEN jsonb_array_length(instruction->'remove') > 0 AND removed_seq IS DISTINCT FROM seq"
        " THEN next_attempt_at END,"
        " held_seq = CASE WHEN $4 THEN seq ELSE held_seq END,"
        " held_version_id = CASE WHEN $4 THEN (instruction->>'version_id')::uuid ELSE held_version_id END,"
        " held_sha256 = CASE WHEN $4 THEN sha256 ELSE held_sha256 END,"
        " check_at = CASE WHEN $2 = ANY($5::text[])"
        f" THEN {_CHECK_AT.format(seconds='$6', d='')} END WHERE share_id = $1",
        share_id, state, record, held, _CHECKED, FIRST_CHECK_SECONDS,
    )  # fmt: skip


async def save_removal(connection: Any, share_id: UUID, state: str, proof: str, *, due: bool) -> None:
    """A person stated that what the newest instruction names to remove is gone. ``due``: something is still to be held."""
    await connection.execute(
        "UPDATE delivery.delivery SET removed_seq = seq, state = $2, next_attempt_at = CASE WHEN $4 THEN now() END,"
        " removal = $3, removed = ARRAY(SELECT jsonb_array_elements_text(instruction->'remove')::uuid),"
        " held_seq = CASE WHEN action = 'recall' THEN seq ELSE held_seq END,"
        " held_record = CASE WHEN action = 'recall' THEN $3 ELSE held_record END,"
        " held_version_id = CASE WHEN action = 'recall' THEN NULL ELSE held_version_id END,"
        " held_sha256 = CASE WHEN action = 'recall' THEN NULL ELSE held_sha256 END WHERE share_id = $1",
        share_id, state, proof, due,
    )  # fmt: skip


async def list_deliveries(connection: Any, state: str | None, after: UUID | None, limit: int) -> list[Any]:
    return list(
        await connection.fetch(
            "SELECT share_id, seq, action, state, instruction, removed_seq, held_record, parked_at FROM delivery.delivery"
            " WHERE ($1::text IS NULL OR state = $1 OR ($1 = 'waiting' AND jsonb_array_length(instruction->'remove') > 0"
            " AND removed_seq IS DISTINCT FROM seq)) AND ($2::uuid IS NULL OR share_id > $2) ORDER BY share_id LIMIT $3",
            state, after, limit,
        )
    )  # fmt: skip


async def list_recalls(connection: Any, recipient: str, after: UUID | None, limit: int) -> list[Any]:
    """What a recipient (``ods:RNA``, ``camhs/ods:RNA``) has still to remove, and nobody has proved to be gone."""
    return list(
        await connection.fetch(
            "SELECT share_id, seq, state, plan_id, instruction FROM delivery.delivery"
            " WHERE delivery.recipient_name(instruction->'recipient') = $1"
            " AND jsonb_array_length(instruction->'remove') > 0 AND removed_seq IS DISTINCT FROM seq"
            " AND ($2::uuid IS NULL OR share_id > $2) ORDER BY share_id LIMIT $3",
            recipient, after, limit,
        )
    )  # fmt: skip


async def insert_dead_letters(connection: Any, letters: Sequence[tuple[Record, str]]) -> None:
    """(record, reason); the same record twice is kept once."""
    await connection.executemany(
        'INSERT INTO delivery.dead_letter (topic, partition, "offset", key, value, headers, reason)'
        " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        [(r.topic, r.partition, r.offset, r.key, r.value, r.header_text(), reason) for r, reason in letters],
    )


def _by_share(parking: Parking) -> UUID:
    return parking.share_id


def _columns(items: Sequence[Any], names: str) -> list[list[Any]]:
    return [[getattr(item, name) for item in items] for name in names.split()]
