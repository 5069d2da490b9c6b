"""Sends plans as HL7 v2 documents over MLLP to a trust's integration engine: the ``RecordSystem`` of ``kind: hl7v2``.

One connection for a batch, one message at a time on it, as MLLP has it. Invariants: an answer counts for the message whose
control id it names and for no other; a receiver that answers nothing, or twice and differently, has taken nothing; without
TLS only a private address is reached. What messages and answers mean: ``hl7v2_messages.py``. Accepted is *collected*: the
engine has it, whether it is in the record is not known, and cannot be asked.
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
from hl7.mllp import (  # type: ignore[import-untyped]
    HL7StreamReader,
    HL7StreamWriter,
    InvalidBlockError,
    open_hl7_connection,
)

from schemas.base import Closed
from services.health_subscriber import hl7v2_messages as messages
from services.health_subscriber import store
from services.health_subscriber.filing import Stop
from services.health_subscriber.hl7v2_messages import Answer, Availability, Message, Names, UnreadableAnswerError
from services.health_subscriber.matching import Doubt
from services.shared.clock import Clock, utc_now
from services.shared.record_systems.guarded_http import Address, PrivateAddressError, judge
from services.shared.record_systems.port import (
    Awaiting,
    CannotBeAskedError,
    Collected,
    Content,
    Held,
    Outcome,
    Recall,
    RecallOutcome,
    Recipient,
    Refused,
    Retry,
    Withdrawal,
    Withdrawn,
    WithdrawOutcome,
)
from services.shared.record_systems.systems import Builder, RecordSystemsFileError, SystemSettings, options_of

_TIMEOUT_SECONDS = 15.0
_BYTES_A_SECOND = 2 * 2**20
"""A large message gets more time than the 15 seconds, at this rate."""
_BUDGET_SECONDS = 60.0
"""No message of a batch is begun later than this: begun then, it still ends before the dispatcher's deadline."""
_SECOND_ANSWER_SECONDS = 0.1
"""How long a second answer to a batch's last message is waited for; one to an earlier message is met anyway."""
_SILENT = 2
"""Messages in a row without an answer, after which the rest of a batch waits for its next turn."""
_ANSWER_BYTES = 256 * 1024

_NOT_THERE = "nothing was sent: the receiver's address is public, which takes mllps://, or private without being allowed"
NOTHING_TO_SEND = "the version has neither a document nor any section"


class Options(Closed):
    """``options`` of an entry of the record systems file."""

    sending_application: str = "EHCP"
    sending_facility: str = "EHCP"
    receiving_application: str = ""
    receiving_facility: str = ""
    processing_id: str = "P"
    document_type: str = "EHCP"
    ca_file: Path | None = None
    """Who vouches for the receiver's certificate; the machine's own authorities where it is not given."""
    certificate_file: Path | None = None
    """Ours, with its key, for a receiver that asks for one."""
    key_file: Path | None = None


def build_hl7v2(pool: "asyncpg.Pool[asyncpg.Record]") -> Builder:
    """For entries ``{"kind": "hl7v2", "url": "mllps://engine.example:2575", "options": {…}}``."""

    def build(entry: SystemSettings) -> Hl7v2Receiver:
        options = options_of(entry, Options)
        names = Names(**options.model_dump(include=set(Names.__slots__)))
        try:
            tls = _tls(options) if (entry.url or "").startswith("mllps:") else None
            return Hl7v2Receiver(pool, entry.name, entry.url or "", names, tls=tls, allow_private=entry.allow_private)
        except (ValueError, OSError) as error:
            raise RecordSystemsFileError(f"{entry.name}: {error}") from None

    return build


def _tls(options: Options) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.ca_file)
    if options.certificate_file:
        context.load_cert_chain(options.certificate_file, options.key_file)
    return context


@dataclass(slots=True)
class _Connection:
    """One connection and the answers that came on it, by control id."""

    reader: HL7StreamReader
    writer: HL7StreamWriter
    answers: dict[str, list[Answer]] = field(default_factory=dict)

    def take(self, answer: Answer) -> None:
        self.answers.setdefault(answer.control_id, []).append(answer)

    def cut(self) -> None:
        """At once: an orderly end would wait for a peer that says nothing."""
        self.writer.transport.abort()


class _BrokenError(Exception):
    """Why a message has no answer. ``away``: nobody said anything; ``useless``: trying the rest of the batch now is."""

    def __init__(self, reason: str, *, away: bool = False, useless: bool = False) -> None:
        super().__init__(reason)
        self.away = away or useless
        self.useless = useless


class Hl7v2Receiver:
    """One receiver. ``url``: ``mllp://host:port``, or ``mllps://`` with TLS; ``system`` names it in the books."""

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        system: str,
        url: str,
        names: Names,
        *,
        tls: ssl.SSLContext | None = None,
        allow_private: bool = False,
        timeout: float = _TIMEOUT_SECONDS,
        clock: Clock = utc_now,
    ) -> None:
        parsed = urlsplit(url)
        if parsed.scheme not in ("mllp", "mllps") or not parsed.hostname or not parsed.port or parsed.path.strip("/"):
            raise ValueError("its url must be mllps://host:port (mllp:// only inside a private network)")
        if parsed.scheme == "mllp" and not allow_private:
            raise ValueError("its url must begin with mllps:// (mllp:// only with allow_private, inside a private network)")
        self._host, self._port = parsed.hostname, parsed.port
        self._tls = tls if parsed.scheme == "mllps" else None
        self._pool = pool
        self._system = system
        self._names = names
        self._allow_private = allow_private
        self._timeout = timeout
        self._clock = clock

    async def close(self) -> None:
        """Nothing stays open between batches."""

    async def deliver(self, batch: Sequence[Content]) -> list[Outcome]:
        known = await self._documents(batch)
        plans = [self._to_send(each, known.get(each.share_id, [])) for each in batch]
        going = [each for each, plan in zip(batch, plans, strict=True) if not isinstance(plan, Refused)]
        await self._save([store.Document(each.share_id, each.seq, each.version_id, accepted=False) for each in going])
        outcomes = list[Outcome](await self._outcomes(plans))
        taken = [each for each, outcome in zip(batch, outcomes, strict=True) if isinstance(outcome, Collected)]
        await self._save([store.Document(each.share_id, each.seq, each.version_id, accepted=True) for each in taken])
        return outcomes

    def _to_send(self, content: Content, known: Sequence[store.Document]) -> list[Message] | Refused:
        """The document; before it, for each one whose answer was lost, that it is obsolete, lest two be current."""
        if content.child.nhs_number is None:
            return Refused(Doubt.NO_NHS_NUMBER.value)
        if not (parts := messages.parts_of(content)):
            return Refused(NOTHING_TO_SEND)
        accepted = [each.seq for each in known if each.accepted]
        if any(seq > content.seq for seq in accepted):
            return Refused(Stop.NEWER_HELD.value)
        before = max((seq for seq in accepted if seq < content.seq), default=None)
        doubtful = [each.seq for each in known if not each.accepted and (before or 0) < each.seq < content.seq]
        return [
            *(self._status(content, seq, Availability.OBSOLETE) for seq in doubtful),
            messages.document(content, parts, self._names, replaces_seq=before, now=self._clock()),
        ]

    async def withdraw(self, batch: Sequence[Withdrawal]) -> list[WithdrawOutcome]:
        """What the receiver has, or may have, of a share is marked obsolete; where nothing was ever sent, nothing is."""
        known = await self._documents(batch)
        plans = [
            [self._status(each, seq, Availability.OBSOLETE) for seq in _current(known.get(each.share_id, []))] for each in batch
        ]
        outcomes = await self._outcomes(plans)
        return [Withdrawn(outcome.record) if isinstance(outcome, Collected) else outcome for outcome in outcomes]

    async def recall(self, batch: Sequence[Recall]) -> list[RecallOutcome]:
        """The documents are cancelled. An engine's acknowledgement proves no removal, so a person states that."""
        known = await self._documents(batch)
        plans = [
            [
                self._status(each, document.seq, Availability.CANCELLED)
                for document in known.get(each.share_id, []) if document.version_id in each.versions
            ]
            for each in batch
        ]  # fmt: skip
        outcomes = await self._outcomes(plans)
        return [Awaiting(outcome.record) if isinstance(outcome, Collected) else outcome for outcome in outcomes]

    async def _documents(self, batch: Sequence[Content | Withdrawal | Recall]) -> dict[UUID, list[store.Document]]:
        async with self._pool.acquire() as connection:
            return await store.documents(connection, self._system, [each.share_id for each in batch])

    async def _save(self, documents: Sequence[store.Document]) -> None:
        if documents:
            async with self._pool.acquire() as connection:
                await store.save_documents(connection, self._system, documents)

    def _status(self, what: Content | Withdrawal | Recall, document_seq: int, availability: Availability) -> Message:
        return messages.status_change(
            what.share_id, what.seq, what.plan_id, document_seq, availability, self._names, self._clock()
        )

    async def _outcomes(self, plans: Sequence[list[Message] | Refused]) -> list[Collected | Retry | Refused]:
        """One for each: of its last message, unless an earlier one has no good answer. An unknown document is no trouble
        where one is only to be marked."""
        flat = [message for plan in plans if isinstance(plan, list) for message in plan]
        answers = dict(zip((message.control_id for message in flat), await self._exchange(flat), strict=True))
        return [plan if isinstance(plan, Refused) else _together(plan, answers) for plan in plans]

    async def holds(self, recipient: Recipient, plans: Sequence[UUID]) -> dict[UUID, Held]:  # noqa: ARG002 (the port's)
        """HL7 v2 has no question for it."""
        raise CannotBeAskedError("an HL7 v2 receiver cannot be asked what the record behind it holds")

    async def _exchange(self, batch: Sequence[Message]) -> list[Answer | Retry]:
        """One answer, or why there is none, for each message in order. One that fails does not hold up the others."""
        until = time.monotonic() + _BUDGET_SECONDS
        lines: list[_Connection] = []
        results: list[_Connection | Retry] = []
        line: _Connection | None = None
        useless: Retry | None = None
        silent = 0
        for message in batch:
            if useless is None and time.monotonic() > until:
                useless = Retry("the receiver is slow; this one's turn did not come")
            if useless is not None:
                results.append(useless)
                continue
            try:
                if line is None:
                    line = await self._connect()
                    lines.append(line)
                await self._send(line, message)
                results.append(line)
                silent = 0
            except _BrokenError as error:
                if line is not None:
                    line.cut()
                line = None  # what still comes on it could be the answer to anything
                silent += 1
                failed = Retry(str(error), away=error.away)
                results.append(failed)
                if error.useless or silent >= _SILENT:
                    useless = failed
        if line is not None:
            await self._finish(line)
        return [
            result if isinstance(result, Retry) else _one_answer(result.answers[message.control_id])
            for message, result in zip(batch, results, strict=True)
        ]

    async def _connect(self) -> _Connection:
        # Checked against the name, whichever of its addresses is reached.
        tls = {"ssl": self._tls, "server_hostname": self._host} if self._tls else {}
        try:
            async with asyncio.timeout(self._timeout):
                for address in judge(
                    await self._addresses(), scheme="https" if self._tls else "http", allow_private=self._allow_private
                ):
                    with contextlib.suppress(ConnectionError):
                        return _Connection(*await open_hl7_connection(str(address), self._port, limit=_ANSWER_BYTES, **tls))
        except PrivateAddressError:
            raise _BrokenError(_NOT_THERE, useless=True) from None
        except TimeoutError:
            raise _BrokenError("the receiver cannot be reached in time", useless=True) from None
        except (OSError, ValueError) as error:
            raise _BrokenError(f"the receiver cannot be reached ({type(error).__name__})", useless=True) from None
        raise _BrokenError("the receiver cannot be reached", useless=True)

    async def _addresses(self) -> list[Address]:
        found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        return [ipaddress.ip_address(each) for each in dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)]

    async def _send(self, line: _Connection, message: Message) -> None:
        """Returns when an answer to this message has come; answers to earlier ones are kept on the way."""
        try:
            async with asyncio.timeout(self._timeout + len(message.body) / _BYTES_A_SECOND):
                line.writer.writeblock(message.body)
                await line.writer.drain()
                while message.control_id not in line.answers:
                    answer = messages.read_answer(await line.reader.readblock())
                    if answer.control_id != message.control_id and answer.control_id not in line.answers:
                        raise _BrokenError("the receiver answered another message than the one that was sent")
                    line.take(answer)
        except TimeoutError:
            raise _BrokenError("the receiver did not answer in time", away=True) from None
        except UnreadableAnswerError as error:
            raise _BrokenError(str(error)) from None
        except (InvalidBlockError, ValueError):
            raise _BrokenError("what the receiver answered is not MLLP") from None
        except (OSError, EOFError) as error:
            raise _BrokenError(f"the connection to the receiver broke off ({type(error).__name__})", away=True) from None

    async def _finish(self, line: _Connection) -> None:
        """A receiver that answers twice does so at once: what it says to the last message must not be missed."""
        with contextlib.suppress(TimeoutError, UnreadableAnswerError, InvalidBlockError, ValueError, OSError, EOFError):
            async with asyncio.timeout(_SECOND_ANSWER_SECONDS):
                while True:
                    line.take(messages.read_answer(await line.reader.readblock()))
        line.writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await line.writer.wait_closed()


def _together(plan: Sequence[Message], answers: Mapping[str, Answer | Retry]) -> Collected | Retry | Refused:
    """Of one share's messages: the first that has to be tried again, else what became of the last."""
    outcome: Collected | Retry | Refused = Collected("")
    for message in plan:
        answer = answers[message.control_id]
        outcome = messages.meaning(answer, message) if isinstance(answer, Answer) else answer
        if isinstance(outcome, Retry):
            return outcome
    return outcome


def _current(known: Sequence[store.Document]) -> list[int]:
    """The newest that was accepted, and those after it whose answer was lost."""
    newest = max((each.seq for each in known if each.accepted), default=0)
    return [each.seq for each in known if each.seq >= newest]


def _one_answer(answers: Sequence[Answer]) -> Answer | Retry:
    """The same answer twice is one; two that differ are none."""
    if len({answer.code for answer in answers}) > 1:
        return Retry("the receiver gave two answers that differ")
    return answers[0]
