"""Kafka in: park instructions, and nothing else. Never calls anything slow; the dispatcher does the work.

One transaction per batch writes the newest wish of each share, the receipts of what is already known, and dead letters for
what nobody can read. Then the offset is committed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import structlog
from pydantic import ValidationError

from schemas.events import EventType, RecipientCode, ShareRecalled, ShareReleased, ShareRequested, ShareWithdrawn
from schemas.holdings import HoldingsRequested
from schemas.receipts import Status
from services.shared.clock import Clock, utc_now
from services.shared.delivery import states, store
from services.shared.delivery.looks import Looks
from services.shared.delivery.receipts import Draft, Receipts
from services.shared.delivery.states import Action, Parked, Wish
from services.shared.kafka.apart import apart
from services.shared.kafka.cloudevents import SENT_AGAIN
from services.shared.kafka.consume import Record
from services.shared.record_systems.systems import Systems

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Instruction:
    """What was read off the topic, or off the council's list."""

    share_id: UUID
    plan_id: UUID
    recipient: RecipientCode
    wish: Wish
    version_id: UUID | None
    data: dict[str, Any]
    hurry: bool = False
    """A person at the council sent it again: what waits is tried now, what is held is looked at in the record."""


_TOO_FAR = "its seq is farther ahead than any backup explains"


class UnreadableError(Exception):
    """Why a record is no instruction; nothing of its content."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a batch of records says."""

    instructions: list[Instruction]
    records: list[Record]
    """Those that the instructions were read from, in the same order."""
    asked: list[HoldingsRequested]
    """The council wants to know what the records really hold."""
    unreadable: list[tuple[Record, str]]


def read_records(records: Sequence[Record]) -> Read:
    read = Read([], [], [], [])
    for record in records:
        try:
            if record.header("ce_type") == EventType.HOLDINGS_REQUESTED:
                read.asked.append(_read_question(record.value))
            else:
                instruction = read_instruction(record.header("ce_type"), record.value)
                read.instructions.append(replace(instruction, hurry=bool(record.header(SENT_AGAIN))))
                read.records.append(record)
        except UnreadableError as error:
            read.unreadable.append((record, str(error)))
    return read


def _read_question(value: bytes) -> HoldingsRequested:
    """Raises :class:`UnreadableError`."""
    with _readably():
        request = HoldingsRequested.model_validate(orjson.loads(value))
    if any("\0" in each.recipient.value for each in request.shares):
        raise UnreadableError("a text holds a NUL character, which cannot be stored")
    return request


@contextmanager
def _readably() -> Iterator[None]:
    """Every way in which a value does not fit is one sentence, with nothing of the value."""
    try:
        yield
    except orjson.JSONDecodeError:
        raise UnreadableError("the value is not JSON") from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        # Of an id that is none pydantic quotes a character: of a child's name, or one that PostgreSQL cannot hold.
        said = "Input should be a valid UUID" if first["type"] == "uuid_parsing" else first["msg"]
        raise UnreadableError(f"{'/'.join(map(str, first['loc']))}: {said}") from None


def read_instruction(type_: str, value: bytes) -> Instruction:
    """Raises :class:`UnreadableError`. Only fields that this version knows are kept: the others could not be relied on."""
    with _readably():
        match type_:
            case EventType.SHARE_REQUESTED:
                hold = ShareRequested.model_validate(orjson.loads(value))
                wish = Wish(hold.seq, Action.HOLD, hold.sha256)
                data = _storable(hold, hold.la_code, hold.recipient, hold.dataref)
                return Instruction(hold.share_id, hold.plan_id, hold.recipient, wish, hold.version_id, data)
            case EventType.SHARE_WITHDRAWN:
                return _ended(ShareWithdrawn, Action.WITHDRAW, value)
            case EventType.SHARE_RECALLED:
                return _ended(ShareRecalled, Action.RECALL, value)
            case EventType.SHARE_RELEASED:
                return _ended(ShareReleased, Action.RELEASE, value)
            case _:
                raise UnreadableError("the header ce_type names no instruction that this version knows")


def _ended(model: type[ShareWithdrawn], action: Action, value: bytes) -> Instruction:
    gone = model.model_validate(orjson.loads(value))
    data = _storable(gone, gone.la_code, gone.recipient)
    return Instruction(gone.share_id, gone.plan_id, gone.recipient, Wish(gone.seq, action, None), None, data)


def _storable(event: ShareRequested | ShareWithdrawn, *texts: str | RecipientCode) -> dict[str, Any]:
    """The instruction as JSON. ``texts`` are its free texts: one that PostgreSQL cannot hold would stop the consumer."""
    if any("\0" in (text if isinstance(text, str) else text.value) for text in texts):
        raise UnreadableError("a text holds a NUL character, which cannot be stored")
    return event.model_dump(mode="json")


class Parking:
    """Writes instructions into the subscriber's books."""

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        systems: Systems,
        receipts: Receipts,
        wake: Callable[[], None],
        looks: Looks,
        clock: Clock = utc_now,
    ) -> None:
        self._pool = pool
        self._systems = systems
        self._receipts = receipts
        self._wake = wake
        self._looks = looks
        self._clock = clock
        self._hurried = False

    async def handle(self, records: Sequence[Record]) -> Sequence[tuple[Record, str]]:
        """The consumer's handler; returns what nobody can read, with the reason."""
        return await apart(self._handle, self._set_aside)(records)

    async def _set_aside(self, record: Record, reason: str) -> None:
        async with self._pool.acquire() as connection:
            await store.insert_dead_letters(connection, [(record, reason)])

    async def _handle(self, records: Sequence[Record]) -> Sequence[tuple[Record, str]]:
        read = read_records(records)
        async with self._pool.acquire() as connection, connection.transaction():
            refused = await self.take_in(connection, read)
            await self.park_questions(connection, read.asked)
        self.woken()
        return refused

    def woken(self) -> None:
        """After a commit: tell the dispatcher, and who looks into the records."""
        self._wake()
        self._looks.wake()
        if self._hurried:
            self._hurried = False
            self._looks.check_now()

    async def take_in(self, connection: Any, read: Read, *, listed: bool = False) -> list[tuple[Record, str]]:
        """Within the caller's transaction: park instructions as :meth:`park` does; what is none, or cannot be believed, is kept
        as a dead letter and returned."""
        done = await self.park(connection, read.instructions, listed=listed)
        far = {id(each) for each in done.too_far}
        pairs = zip(read.instructions, read.records, strict=True)
        refused = read.unreadable + [(record, _TOO_FAR) for each, record in pairs if id(each) in far]
        if refused:
            await store.insert_dead_letters(connection, refused)
        for record, reason in refused:
            log.warning("dead_letter", topic=record.topic, partition=record.partition, offset=record.offset, reason=reason)
        return refused

    async def park(self, connection: Any, instructions: Sequence[Instruction], *, listed: bool = False) -> "Sorted":
        """Within the caller's transaction. ``listed``: they are from the council's list."""
        rows = await store.lock_deliveries(connection, [each.share_id for each in instructions])
        known = {
            share_id: Known(_wish(row), Status(row["state"]), row["lane"] if row["held_seq"] else None)
            for share_id, row in rows.items()
        }
        done = sort_out(known, instructions, self._systems, self._clock(), listed=listed)
        if done.parked:
            await store.save_parked(connection, done.parked)
        await store.hasten(connection, done.again, self._systems.lanes())
        if done.hurried:
            await store.hurry(connection, done.hurried, self._systems.lanes())
            self._hurried = True
        await self._receipts.send_again(connection, done.again)
        await self._receipts.write(connection, done.drafts)
        for draft in done.drafts:
            if draft.status is Status.CONFLICT:
                log.error("conflicting_instruction", share_id=str(draft.share_id), seq=draft.seq)
        return done

    async def park_questions(self, connection: Any, asked: Sequence[HoldingsRequested]) -> None:
        """Within the caller's transaction."""
        await self._looks.park(connection, asked)

    async def contradict(self, connection: Any, ahead: Sequence[tuple[UUID, int]]) -> None:
        """Within the caller's transaction: tell the council of shares where it wants a lower ``seq`` than is here.

        What is held stays as it is. A share that has moved on since is left out: its own receipts speak for it.
        """
        rows = await store.lock_deliveries(connection, [share_id for share_id, _ in ahead])
        reason = "the council wants a lower seq than is here"
        still = [(share_id, seq) for share_id, seq in ahead if share_id in rows and rows[share_id]["seq"] == seq]
        await self._receipts.write(
            connection, [Draft(share_id, seq, Status.CONFLICT, reason=reason) for share_id, seq in still]
        )
        for share_id, seq in still:
            log.error("council_counts_lower", share_id=str(share_id), seq=seq)


@dataclass(frozen=True, slots=True)
class Known:
    """What the books have of a share: its newest wish, and what became of it so far."""

    wish: Wish
    state: Status
    held_in: str | None = None
    """The record system in which it was held last."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """What a batch of instructions does to the books."""

    parked: list[store.Parking]
    again: list[UUID]
    """Shares whose newest receipt is to be sent once more."""
    doubted: list[tuple[UUID, int]]
    """Shares of which the council's list names a lower ``seq`` than is here, and that one. The page may have been overtaken
    by the topic, so the council is asked before anything is said."""
    drafts: list[Draft]
    behind: list[tuple[Instruction, bool]]
    """What the list named and was not here, or only older (then True): its instruction should have come before."""
    hurried: list[UUID]
    """Shares that a person at the council sent again."""
    too_far: list[Instruction]
    """What no council gives: it would make everything that comes later look old."""


def sort_out(
    known: Mapping[UUID, Known], instructions: Sequence[Instruction], systems: Systems, now: datetime, *, listed: bool
) -> Sorted:
    """Compare each instruction, in order, with what is there. Pure.

    ``listed``: from the council's list, which is told again and again, so that a repeat asks for no receipt; nor is a
    lower ``seq`` an old message there, but the sign of a council that was restored from backup.
    """
    wishes = {share_id: each.wish for share_id, each in known.items()}
    open_ = {share_id for share_id, each in known.items() if each.state in (Status.WAITING, Status.FAILED)}
    parked: dict[UUID, store.Parking] = {}
    again: list[UUID] = []
    doubted: list[tuple[UUID, int]] = []
    drafts: list[Draft] = []
    behind: list[tuple[Instruction, bool]] = []
    hurried: list[UUID] = []
    too_far: list[Instruction] = []
    for each in instructions:
        before = wishes.get(each.share_id)
        match states.park(before, each.wish):
            case Parked.TOO_FAR if not listed:  # the council's own list is believed
                too_far.append(each)
            case Parked.NEW | Parked.TOO_FAR:
                if before is not None and each.share_id in open_:
                    drafts.append(Draft(each.share_id, before.seq, Status.SUPERSEDED))
                if listed:
                    behind.append((each, before is not None))
                parking, said = _take(each, systems, now, known.get(each.share_id))
                parked[each.share_id] = parking
                drafts += said
                wishes[each.share_id] = each.wish
                open_.add(each.share_id)
            case Parked.AGAIN:
                if not listed or each.hurry:
                    again.append(each.share_id)
                if each.hurry:
                    hurried.append(each.share_id)
            case Parked.SUPERSEDED if listed:
                doubted.append((each.share_id, wishes[each.share_id].seq))
            case Parked.SUPERSEDED:
                drafts.append(Draft(each.share_id, each.wish.seq, Status.SUPERSEDED, each.version_id))
            case Parked.CONFLICT:
                reason = "another instruction with this seq is already here"
                drafts.append(Draft(each.share_id, each.wish.seq, Status.CONFLICT, each.version_id, reason=reason))
    return Sorted(list(parked.values()), again, doubted, drafts, behind, hurried, too_far)


def _take(each: Instruction, systems: Systems, now: datetime, known: Known | None = None) -> tuple[store.Parking, list[Draft]]:
    """The row of a new wish: due at once, or waiting for a person, or refused because nobody here serves it."""
    lane = systems.lane(each.recipient)
    if known and known.held_in and systems.system(known.held_in):
        # What has to end or to go lies there, whoever serves the recipient now; the dispatcher moves on what is to be held.
        lane = known.held_in
    state, due, drafts = Status.WAITING, None, []
    if each.wish.action is Action.RELEASE:
        # The record is another subscriber's to keep now, so nothing is done to it, and nobody need serve it here.
        state = Status.RELEASED
        drafts = [Draft(each.share_id, each.wish.seq, state)]
    elif lane is None:
        reason = f"this subscriber has no record system for {each.recipient}"
        state = Status.REFUSED
        drafts = [Draft(each.share_id, each.wish.seq, state, each.version_id, reason=reason)]
    elif systems.is_manual(lane):
        # Nothing is sent, or taken back, by itself: the officer's record is the evidence. A withdrawn share needs neither.
        state = Status.WITHDRAWN if each.wish.action is Action.WITHDRAW else Status.WAITING
        drafts = [Draft(each.share_id, each.wish.seq, state, each.version_id, each.wish.sha256)]
    else:
        due = now
    parking = store.Parking(
        each.share_id, each.wish.seq, each.wish.action, each.data, each.wish.sha256, each.plan_id, lane or "", state, due,
        notice=bool(each.data.get("notice")),
    )  # fmt: skip
    return parking, drafts


def _wish(row: Any) -> Wish:
    return Wish(row["seq"], Action(row["action"]), row["sha256"])
