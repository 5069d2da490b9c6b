"""Sends plans through MESH: the ``RecordSystem`` of ``kind: mesh``, and the work that fetches what comes back.

A message that MESH has taken is *sent*; acknowledged by the receiver's mailbox it is *collected*; *filed* it is only on a
receipt of the receiver's own system that proves the bytes. One that is not collected within five days comes back, and is sent
again. Invariants: a message has its row in the books before it is sent, and what the books say was sent is not sent again
for a day (MESH lets through whatever is sent twice); what lies in our mailbox is acknowledged, which deletes it, only after
what it says is committed; only the mailbox that a message went to can say what became of it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import structlog

from schemas.base import Closed
from schemas.identifiers import CodeScheme
from schemas.receipts import Status
from services.health_subscriber import mesh_messages as wire
from services.health_subscriber import store
from services.health_subscriber.matching import Doubt
from services.health_subscriber.mesh_mailbox import Account, Incoming, Mailbox, MeshError
from services.health_subscriber.mesh_messages import About, Event, Mailboxes, UnreadableReceiptError
from services.shared.clock import Clock, utc_now
from services.shared.delivery import evidence
from services.shared.delivery import store as delivery_store
from services.shared.delivery.receipts import Receipts
from services.shared.kafka.consume import Record
from services.shared.record_systems.port import (
    Awaiting,
    CannotBeAskedError,
    Collected,
    Content,
    Filed,
    Held,
    Outcome,
    Recall,
    RecallOutcome,
    Recipient,
    Refused,
    Removed,
    Retry,
    Sent,
    Withdrawal,
    Withdrawn,
    WithdrawOutcome,
)
from services.shared.record_systems.systems import RecordSystemsFileError, SystemSettings, options_of

log = structlog.get_logger()

NOTHING_TO_SEND = "the version has neither a document nor any section"
NO_MAILBOX = "no MESH mailbox is configured for this recipient"
_TIMEOUT_SECONDS = 15.0
_BUDGET_SECONDS = 60.0
"""No message of a batch is begun later than this: begun then, it still ends before the dispatcher's deadline."""
AT_A_TIME = 4
_SILENT = 3
"""Messages in a row without an answer, after which the rest of a batch waits for its next turn."""
_SAME = timedelta(days=1)
"""Asked for again within this time it is a repeat (after a crash); later somebody wants it to go again."""
_FIRST_LOOK, _SELDOM = timedelta(minutes=1), timedelta(hours=1)
_LOOKS = 100
"""Messages that MESH is asked about in one round."""

_Thing = TypeVar("_Thing", Content, Withdrawal, Recall)


class Workflows(Closed):
    """Workflow ids, one for each event. The defaults are names of our own: each must be registered with MESH before use."""

    plan: str = "EHCP_PLAN_UPDATE"
    notice: str = "EHCP_PLAN_NOTICE"
    withdrawn: str = "EHCP_PLAN_WITHDRAWN"
    recalled: str = "EHCP_PLAN_RECALLED"
    receipt: str = "EHCP_PLAN_RECEIPT"

    def of(self, event: Event) -> str:
        return {
            Event.PLAN: self.plan,
            Event.NOTICE: self.notice,
            Event.WITHDRAWN: self.withdrawn,
            Event.RECALLED: self.recalled,
            Event.RECEIPT: self.receipt,
        }[event]


class Options(Closed):
    """``options`` of an entry of the record systems file; ``secret`` is the mailbox's password."""

    mailbox: str
    """Ours."""
    shared_key: str
    """The environment's key, which MESH gives with the mailbox."""
    mailboxes: dict[str, str]
    """The recipients' mailboxes by ODS code; of a service that shares a trust's code as ``camhs/ods:RNA``."""
    workflows: Workflows = Workflows()
    poll_seconds: float = 60
    certificate_file: Path | None = None
    key_file: Path | None = None
    ca_file: Path | None = None


def build_mesh(entry: SystemSettings, pool: "asyncpg.Pool[asyncpg.Record]", receipts: Receipts) -> "MeshRecord":
    """From an entry ``{"kind": "mesh", "url": …, "secret": …, "options": {"mailbox": …, "mailboxes": {"RNA": …}, …}}``."""
    options = options_of(entry, Options)
    if not entry.url or not entry.secret:
        raise RecordSystemsFileError(f"{entry.name}: MESH needs its url and, as secret, our mailbox's password")
    if entry.recipients != "*" and (
        without := [name for each in entry.recipients if (name := _in_mailboxes(str(each))) not in options.mailboxes]
    ):
        raise RecordSystemsFileError(f"{entry.name}: options/mailboxes lacks the mailbox of {', '.join(without)}")
    account = Account(
        entry.url, options.mailbox, entry.secret, options.shared_key,
        options.certificate_file, options.key_file, options.ca_file,
    )  # fmt: skip
    try:
        mailbox = Mailbox(account, allow_private=entry.allow_private, timeout=_TIMEOUT_SECONDS, concurrency=AT_A_TIME)
    except ValueError as error:
        raise RecordSystemsFileError(f"{entry.name}: {error}") from None
    return MeshRecord(
        pool, receipts, entry.name, mailbox, options.mailboxes, options.workflows, poll_seconds=options.poll_seconds
    )


def _in_mailboxes(recipient: str) -> str:
    """A trust by its bare ODS code; with a kind, whoever shares it."""
    return recipient.removeprefix(f"{CodeScheme.ODS}:")


@dataclass(slots=True)
class _Batch:
    """What the sendings of one batch learn from each other."""

    until: float
    verdict: Retry | Refused | None = None
    silent: int = 0


@dataclass(slots=True)
class _Sending:
    """One thing of a batch: its row, the message made when it is to be sent, and what came of sending it."""

    row: store.Message
    make: Callable[[UUID | None], wire.Message]
    """With the version that it replaces."""
    known: store.Message | None = None
    error: Retry | Refused | None = None
    message_id: str | None = None


class MeshRecord:
    """The mailboxes of any number of recipients, reached from one of ours. ``system`` names it in the books."""

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        receipts: Receipts,
        system: str,
        mailbox: Mailbox,
        mailboxes: Mapping[str, str],
        workflows: Workflows,
        *,
        poll_seconds: float = 60,
        clock: Clock = utc_now,
    ) -> None:
        self._pool = pool
        self._receipts = receipts
        self.system = system
        self._mailbox = mailbox
        self._mailboxes = mailboxes
        self._workflows = workflows
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._turn = asyncio.Semaphore(AT_A_TIME)
        self._set_aside: set[str] = set()
        """Messages in our mailbox that nobody can read: they stay there, for a person, until MESH returns them."""

    async def close(self) -> None:
        await self._mailbox.close()

    # --- out

    async def deliver(self, batch: Sequence[Content]) -> list[Outcome]:
        sendings = await self._send_what_is_new(batch, self._content)
        return [each if isinstance(each, Refused) else _delivered(each) for each in sendings]

    async def withdraw(self, batch: Sequence[Withdrawal]) -> list[WithdrawOutcome]:
        """Withdrawn when the receiver has collected the message that says so."""
        sendings = await self._send_what_is_new(batch, self._withdrawal)
        return [each if isinstance(each, Refused) else _withdrawn(each) for each in sendings]

    async def recall(self, batch: Sequence[Recall]) -> list[RecallOutcome]:
        """Removed when the receiver's own system says so in a receipt."""
        sendings = await self._send_what_is_new(batch, self._recall)
        return [each if isinstance(each, Refused) else _removed(each) for each in sendings]

    async def holds(self, recipient: Recipient, plans: Sequence[UUID]) -> dict[UUID, Held]:  # noqa: ARG002 (the port's)
        """MESH carries messages; it has no question for it."""
        raise CannotBeAskedError("what lies behind a MESH mailbox cannot be asked")

    def _content(self, content: Content, to: str) -> _Sending | Refused:
        if content.child.nhs_number is None:
            return Refused(Doubt.NO_NHS_NUMBER.value)
        parts = wire.parts_of(content)
        if not parts and content.notice is None:
            return Refused(NOTHING_TO_SEND)
        row = replace(
            _row(content, About.CONTENT, to),
            version_id=content.version_id,
            # After it was sent, the subscriber takes this very version for the one that is held.
            replaces=content.replaces if content.replaces != content.version_id else None,
            sha256=content.sha256,
            proofs=" ".join(wire.proofs_of(content, parts)),
        )

        def make(replaces: UUID | None) -> wire.Message:
            return wire.delivered(replace(content, replaces=replaces), parts, Mailboxes(self._mailbox.id, to))

        return _Sending(row, make)

    def _withdrawal(self, what: Withdrawal, to: str) -> _Sending:
        row = _row(what, About.WITHDRAWAL, to)
        return _Sending(row, lambda _: wire.withdrawn(what, Mailboxes(self._mailbox.id, to)))

    def _recall(self, what: Recall, to: str) -> _Sending:
        row = _row(what, About.RECALL, to)
        return _Sending(row, lambda _: wire.recalled(what, Mailboxes(self._mailbox.id, to)))

    async def _send_what_is_new(
        self, batch: Sequence[_Thing], make: Callable[[_Thing, str], _Sending | Refused]
    ) -> list[_Sending | Refused]:
        made: list[_Sending | Refused] = []
        for each in batch:
            to = self._mailboxes.get(_in_mailboxes(str(each.recipient)))
            made.append(make(each, to) if to else Refused(NO_MAILBOX))
        control = _Batch(until=asyncio.get_running_loop().time() + _BUDGET_SECONDS)
        new = await self._begin([each for each in made if isinstance(each, _Sending)])
        for failure in await asyncio.gather(*(self._send(each, control) for each in new), return_exceptions=True):
            if failure is not None:  # the database is away: as it is, so that the dispatcher knows it
                raise failure
        return made

    async def _begin(self, sendings: Sequence[_Sending]) -> list[_Sending]:
        """Write down what is about to be sent; returns that. The rest is known to have been sent, or to have come back."""
        async with self._pool.acquire() as connection, connection.transaction():
            known = await store.messages(connection, [each.row.local_id for each in sendings])
            for each in sendings:
                if (before := known.get(each.row.local_id)) is not None:
                    each.row = replace(each.row, replaces=before.replaces)
                    each.known = self._still_counts(before)
            new = [each for each in sendings if each.known is None]
            # Bad news is told once, as this attempt's outcome; the next attempt sends again.
            told = [each for each in sendings if each.known is not None and each.known.state in ("refused", "failed")]
            await store.begin_messages(connection, self.system, [each.row for each in (*new, *told)])
        return new

    def _still_counts(self, known: store.Message) -> store.Message | None:
        if known.state == "sending":
            return None  # whether it was taken is not known: sent twice is better than not at all
        if known.state in ("refused", "failed"):
            return known
        recent = known.known_at is not None and self._clock() - known.known_at < _SAME
        return known if recent or known.about != About.CONTENT else None

    async def _send(self, each: _Sending, batch: _Batch) -> None:
        async with self._turn:
            if batch.verdict is not None:
                each.error = batch.verdict
                return
            if asyncio.get_running_loop().time() > batch.until:
                each.error = Retry("MESH is slow; this one's turn did not come")
                return
            # Putting megabytes into a Bundle takes long enough to hold up the event loop.
            message = await asyncio.to_thread(each.make, each.row.replaces)
            try:
                each.message_id = await self._mailbox.send(message, each.row.mailbox, self._workflows.of(message.event))
            except MeshError as error:
                each.error = error.outcome
                batch.silent = batch.silent + 1 if error.silent else 0
                if error.for_all or batch.silent >= _SILENT:
                    batch.verdict = error.outcome
                return
            batch.silent = 0
        async with self._pool.acquire() as connection:
            await store.message_sent(connection, each.row.local_id, each.message_id, self._clock() + _FIRST_LOOK)

    # --- what comes back

    async def run(self) -> None:
        """Until cancelled: fetch, and ask after what was sent; raises when the database fails, to be started again."""
        while True:
            try:
                await self.fetch()
                await self.look()
            except MeshError as error:
                log.warning("mesh_not_asked", system=self.system, reason=str(error))
            await asyncio.sleep(self._poll_seconds)

    async def fetch(self) -> int:
        """Take in what lies in our mailbox; returns how many messages were acknowledged. Raises :class:`MeshError`."""
        taken = 0
        for workflow_id in dict.fromkeys(self._workflows.of(event) for event in Event):
            for message_id in await self._mailbox.list(workflow_id):
                if message_id not in self._set_aside:
                    with self._one_alone(message_id):
                        if await self._take_in(await self._mailbox.fetch(message_id)):
                            await self._mailbox.acknowledge(message_id)
                            taken += 1
        return taken

    async def look(self) -> None:
        """Ask MESH where messages are. Raises :class:`MeshError`."""
        async with self._pool.acquire() as connection:
            due = await store.due_messages(connection, self.system, _LOOKS)
        for row in due:
            with self._one_alone(row.message_id or ""):
                status = await self._mailbox.track(row.message_id or "")
                async with self._pool.acquire() as connection, connection.transaction():
                    await self._looked(connection, row, status)

    @contextlib.contextmanager
    def _one_alone(self, message_id: str) -> Iterator[None]:
        """Trouble that is about one message waits for the next round, and holds up no other."""
        try:
            yield
        except MeshError as error:
            if error.for_all or error.silent:
                raise
            log.warning("mesh_message_not_asked", system=self.system, message_id=message_id, reason=str(error))

    async def _looked(self, connection: Any, row: store.Message, status: str | None) -> None:
        match status:
            case "acknowledged":
                await self._good(connection, row, "collected", row.message_id or "")
                return
            case "error" | "undeliverable":
                await self._bad(connection, row, "failed", "MESH could not deliver it")
                return
            case None:
                await self._bad(connection, row, "failed", "MESH knows the message no more")
                return
        age = self._clock() - (row.known_at or self._clock())
        await store.look_later(connection, row.local_id, self._clock() + min(max(age / 4, _FIRST_LOOK), _SELDOM))

    async def _take_in(self, incoming: Incoming) -> bool:
        """Whether it may be acknowledged: what it says is committed, or says nothing more."""
        async with self._pool.acquire() as connection, connection.transaction():
            try:
                row = await self._row_of(connection, incoming)
                if row is None:
                    return True
                if incoming.is_report:
                    return await self._reported(connection, row, incoming)
                return await self._answered(connection, row, wire.read_receipt(incoming.body))
            except UnreadableReceiptError as error:
                await self._put_aside(connection, incoming.message_id, str(error))
                return False

    async def _row_of(self, connection: Any, incoming: Incoming) -> store.Message | None:
        """The message of ours that this is about. Raises :class:`UnreadableReceiptError` when nobody may say that of it."""
        about = incoming.local_id if incoming.is_report else str(wire.read_receipt(incoming.body).local_id)
        try:
            local_id = UUID(about)
        except ValueError:
            raise UnreadableReceiptError("it is about no message of ours") from None
        row = (await store.messages(connection, [local_id])).get(local_id)
        if row is None:
            raise UnreadableReceiptError("it is about a message that the books do not know")
        if incoming.is_report:
            # Of an earlier sending: what counts is the last one.
            return row if incoming.linked_message_id in ("", row.message_id) else None
        if incoming.sender.upper() != row.mailbox.upper():
            raise UnreadableReceiptError("it comes from another mailbox than the message went to")
        return row

    async def _reported(self, connection: Any, row: store.Message, incoming: Incoming) -> bool:
        if incoming.status_code == wire.UNDELIVERED:
            reason = f"nobody collected it from the recipient's MESH mailbox within five days (error {wire.UNDELIVERED})"
        else:
            code = incoming.status_code if incoming.status_code.isalnum() else "without a code"
            reason = f"MESH could not deliver it (error {code})"
        await self._bad(connection, row, "failed", reason)
        return True

    async def _answered(self, connection: Any, row: store.Message, receipt: wire.Receipt) -> bool:
        proof = wire.proof_of(receipt, About(row.about), row.proofs.split())
        if proof.reason is not None:
            await self._bad(connection, row, "refused" if proof.final else "failed", proof.reason)
            return True
        await self._good(connection, row, "done", proof.record)
        return True

    async def _good(self, connection: Any, row: store.Message, state: str, record: str) -> None:
        """Evidence for the newest wish, also where it came before the dispatcher wrote that the message was sent."""
        if row.about == About.CONTENT:
            status = Status.FILED if state == "done" else Status.COLLECTED
            try:
                await evidence.record(connection, self._receipts, row.share_id, row.seq, status, proof=record)
            except evidence.EvidenceRefusedError:
                delivery = await delivery_store.lock_for_evidence(connection, row.share_id)
                now = delivery["state"] if delivery is not None and delivery["seq"] == row.seq else None
                if now == Status.REFUSED:  # the receiver's people put right what was wrong: it is asked for, and found done
                    await store.try_again(connection, row.share_id, row.seq)
        else:
            await store.try_again(connection, row.share_id, row.seq)
        await store.message_told(connection, row.local_id, state, record=record)

    async def _bad(self, connection: Any, row: store.Message, state: str, reason: str) -> None:
        """The dispatcher asks for it again, gets this as the outcome, and the council hears of it."""
        if row.state != "done":
            await store.message_told(connection, row.local_id, state, reason=reason)
            await store.try_again(connection, row.share_id, row.seq)

    async def _put_aside(self, connection: Any, message_id: str, reason: str) -> None:
        """Not acknowledged: its sender hears from MESH that it was not collected. Its content may be about anybody, so the
        dead letter names the message alone."""
        letter = Record(f"mesh.{self._mailbox.id}", 0, 0, message_id.encode(), message_id.encode(), ())
        await delivery_store.insert_dead_letters(connection, [(letter, reason)])
        self._set_aside.add(message_id)
        log.warning("mesh_message_set_aside", system=self.system, message_id=message_id, reason=reason)


def _row(what: Content | Withdrawal | Recall, about: About, to: str) -> store.Message:
    local_id = wire.message_id(what, about)
    return store.Message(local_id, to, what.share_id, what.seq, about, None, None, None, "", "sending", None, None, None, None)


def _delivered(each: _Sending) -> Outcome:
    if each.error is not None:
        return each.error
    known = each.known
    match known.state if known else "sent":
        case "done" if known is not None and known.record and known.sha256:
            return Filed(known.record, known.sha256)
        case "collected" if known is not None:
            return Collected(known.message_id or "")
        case "refused" if known is not None:
            return Refused(known.reason or "")
        case "failed" if known is not None:
            return Retry(known.reason or "")
        case _:
            return Sent(_message_id(each))


def _withdrawn(each: _Sending) -> WithdrawOutcome:
    if each.error is not None:
        return each.error
    match each.known.state if each.known else "sent":
        case "collected" | "done":
            return Withdrawn(_message_id(each))
        case "refused" if each.known is not None:
            return Refused(each.known.reason or "")
        case "failed" if each.known is not None:
            return Retry(each.known.reason or "")
        case _:
            return Retry("the withdrawal lies in the recipient's MESH mailbox and is not collected yet")


def _removed(each: _Sending) -> RecallOutcome:
    if each.error is not None:
        return each.error
    match each.known.state if each.known else "sent":
        case "done":
            return Removed(f"removed, as the receiver's own system says of MESH message {_message_id(each)}")
        case "refused" if each.known is not None:
            return Refused(each.known.reason or "")
        case "failed" if each.known is not None:
            return Retry(each.known.reason or "")
        case _:
            return Awaiting(_message_id(each))


def _message_id(each: _Sending) -> str:
    return each.message_id or (each.known.message_id if each.known else None) or ""
