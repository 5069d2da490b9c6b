"""Kafka in, and what comes over HTTP in its place: receipts, answers about records and heartbeats, in batches; one transaction
for each batch.

Invariant: after the transaction each record is a stored receipt or answer (with its act), one that was there already, a
heartbeat or a dead letter; only then is the offset committed, or the request answered. From here the data goes to
``audit.newest`` and ``audit.pending``.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from prometheus_client import Counter as Metric

from schemas.holdings import Holding
from services.audit import store, store_looks
from services.audit.newest import fold
from services.audit.receipts import Answer, DeadLetter, Former, Heartbeat, Judged, Signed, judge, read
from services.audit.store_looks import Asked
from services.shared.kafka.apart import apart
from services.shared.kafka.consume import Handler, Record
from services.shared.postgres.pool import council_transaction

log = structlog.get_logger()

RECEIPTS = Metric("ehcp_audit_receipts", "New receipts stored, by what they say", ["subscriber", "status"])
REPEATED = Metric("ehcp_audit_receipts_repeated", "Receipts that were there already: resends and redeliveries")
DEAD_LETTERS = Metric("ehcp_audit_dead_letters", "Records that were no acceptable receipt", ["topic"])


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch; what is in neither list was there already, or was a heartbeat."""

    new: list[Judged]
    refused: list[DeadLetter]


def receipts_handler(pool: store.Pool) -> Handler:
    async def handle(records: Sequence[Record]) -> list[tuple[Record, str]]:
        return [(each.record, each.reason) for each in (await take_in(pool, records)).refused]

    async def set_aside(record: Record, reason: str) -> None:
        async with pool.acquire() as connection:
            await store.write_dead_letters(connection, [DeadLetter(record, reason)])

    return apart(handle, set_aside)


async def take_in(pool: store.Pool, records: Sequence[Record]) -> Taken:
    directory = await store.read_directory(pool)
    readings = [read(record, directory.subscribers) for record in records]
    signed = [reading for reading in readings if isinstance(reading, Signed)]
    letters = [reading for reading in readings if isinstance(reading, DeadLetter)]
    # Of several of one subscriber the last one.
    beats = {reading.subscriber: reading.told for reading in readings if isinstance(reading, Heartbeat)}
    async with council_transaction(pool, directory.la_codes) as connection:
        shares = await store.read_shares(connection, {each.receipt.share_id for each in signed})
        judgements = [judge(each, shares.get(each.receipt.share_id)) for each in signed]
        judged = [judgement for judgement in judgements if isinstance(judgement, Judged)]
        letters += [judgement for judgement in judgements if isinstance(judgement, DeadLetter)]
        new, forked = await _append(connection, judged)
        letters += forked
        former = [judgement for judgement in judgements if isinstance(judgement, Former)]
        await store.write_former(connection, former)
        letters += await _keep(connection, [reading for reading in readings if isinstance(reading, Answer)])
        if letters:
            await store.write_dead_letters(connection, letters)
        if beats:
            await store.write_heartbeats(connection, list(beats.values()))
    _tell(new, len(judged) - len(new) - len(forked), letters)
    return Taken(new, letters)


async def _append(connection: store.Connection, judged: Sequence[Judged]) -> tuple[list[Judged], list[DeadLetter]]:
    """Store what is new and what it makes of its shares; returns it, and what wears the number of another receipt."""
    if not judged:
        return [], []
    la_codes = {each.share.share_id: each.share.la_code for each in judged}
    await store.lock_shares(connection, la_codes)
    first = {(each.receipt.share_id, each.receipt.number): each for each in reversed(judged)}
    added = await store.append_receipts(connection, list(first.values()))
    # A number used twice with different words would be lost silently: keep both, the second as a dead letter.
    signed = {place: each.record.value for place, each in first.items()}
    if len(added) < len(first):
        signed |= await store.read_signed(connection, first.keys() - added)
    forked = [
        DeadLetter(each.record, "another receipt of this share has the same number")
        for each in judged
        if signed[each.receipt.share_id, each.receipt.number] != each.record.value
    ]
    if added:
        told = await store.read_told(connection, {share_id for share_id, _ in added})
        folded = {share_id: fold(receipts) for share_id, receipts in told.items()}
        await store.write_newest(connection, folded, la_codes)
    return [first[place] for place in added], forked


async def _keep(connection: store.Connection, answers: Sequence[Answer]) -> list[DeadLetter]:
    """What subscribers found when they were asked; returns what nobody had asked of them."""
    if not answers:
        return []
    asked = await store_looks.read_asked(connection, {(each.holding.look_id, each.holding.share_id) for each in answers})
    good: dict[tuple[UUID, int], tuple[Record, Holding, Asked]] = {}
    letters: list[DeadLetter] = []
    for each in answers:
        question = asked.get((each.holding.look_id, each.holding.share_id))
        if question is None or question.subscriber != each.holding.subscriber:
            letters.append(DeadLetter(each.record, "the council has not asked this of this subscriber"))
        else:
            good.setdefault((each.holding.share_id, each.holding.number), (each.record, each.holding, question))
    if good:
        await store_looks.append_holdings(connection, list(good.values()))
    return letters


def _tell(new: Iterable[Judged], repeated: int, letters: Sequence[DeadLetter]) -> None:
    """After the commit, so that a batch that is tried again is counted once."""
    for (subscriber, status), count in Counter((e.receipt.subscriber, e.receipt.status) for e in new).items():
        RECEIPTS.labels(subscriber, status.value).inc(count)
    REPEATED.inc(repeated)
    for (topic, reason), count in Counter((each.record.topic, each.reason) for each in letters).items():
        DEAD_LETTERS.labels(topic).inc(count)
        log.warning("receipts_refused", topic=topic, reason=reason, records=count)
