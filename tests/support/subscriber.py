"""A subscriber's books on a real PostgreSQL, a council that answers in the same process, and record systems to be played with.

The council speaks through the real client over HTTP messages that never leave the process; the record systems implement
the port and remember what they were given.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import orjson
from joserfc.jwk import OKPKey

from schemas.base import RecipientKind
from schemas.documents import ReadAnswer, ReadOutcome, RecipientDetail, Rendering
from schemas.events import EventType, RecipientCode, ShareRecalled, ShareReleased, ShareRequested, ShareWithdrawn
from schemas.identifiers import CodeScheme, RecipientName
from schemas.manifest import Manifest, section_hash
from schemas.notices import Notice, NoticeKind
from schemas.plan import Child, Section, SectionLetter
from schemas.receipts import HostedBy, Receipt, Status
from services.shared.delivery.council import Council
from services.shared.delivery.dispatcher import Dispatcher
from services.shared.delivery.handlers import Parking
from services.shared.delivery.looks import Looks
from services.shared.delivery.receipts import Receipts
from services.shared.delivery.reconcile import Reconcile
from services.shared.delivery.record_check import RecordCheck
from services.shared.identity.client import TokenClient
from services.shared.identity.receipts import signer, verify
from services.shared.kafka import cloudevents
from services.shared.kafka.cloudevents import SENT_AGAIN
from services.shared.kafka.consume import Record
from services.shared.postgres.migrate import migrate
from services.shared.postgres.pool import open_pool
from services.shared.record_systems.inbox import Inbox, InboxKeys
from services.shared.record_systems.port import (
    Content,
    Filed,
    Held,
    Outcome,
    Recall,
    RecallOutcome,
    Recipient,
    RecordAwayError,
    RecordSystem,
    Removed,
    Withdrawal,
    Withdrawn,
    WithdrawOutcome,
)
from services.shared.record_systems.systems import Systems, SystemSettings
from services.shared.sealing.sealing import new_key
from tests.support.contents import DUDLEY, child, invitation
from tests.support.servers import RunningPostgres
from tests.support.waiting import until

RNA = RecipientCode(kind=RecipientKind.TRUST, scheme=CodeScheme.ODS, value="RNA")
RXK = RecipientCode(kind=RecipientKind.TRUST, scheme=CodeScheme.ODS, value="RXK")
SCHOOL = RecipientCode(kind=RecipientKind.SCHOOL, scheme=CodeScheme.URN, value="993201")
PARENT = RecipientCode(kind=RecipientKind.PARENT, scheme=CodeScheme.RECIPIENT, value="parent-1")
NOBODY = RecipientCode(kind=RecipientKind.TRUST, scheme=CodeScheme.ODS, value="RZZ")

SETTINGS = (
    SystemSettings(name="rna", kind="fhir", recipients=(RecipientName(scheme=CodeScheme.ODS, value="RNA"),)),
    SystemSettings(name="rxk", kind="fhir", recipients=(RecipientName(scheme=CodeScheme.ODS, value="RXK"),)),
    SystemSettings(name="inbox", kind="inbox", recipients=(RecipientName(scheme=CodeScheme.URN, value="993201"),)),
    SystemSettings(name="paper", kind="manual", recipients=(RecipientName(scheme=CodeScheme.RECIPIENT, value="parent-1"),)),
)
TOPIC = "ehcp.shares.health.v1"
TABLES = (
    "delivery",
    "pause",
    "attempt",
    "receipt",
    "outbox",
    "dead_letter",
    "inbox",
    "inbox_key",
    "inbox_opening",
    "look",
    "difference",
    "unanswered",
)
_offsets = itertools.count()


# --- what the council wants ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """One instruction: the wish for one share, under one ``seq``."""

    share_id: UUID
    plan_id: UUID
    seq: int
    version: int
    version_id: UUID
    recipient: RecipientCode
    withdrawn: bool = False
    recalled: bool = False
    released: bool = False
    remove: tuple[UUID, ...] = ()
    notice: Notice | None = None
    restricted: bool = False
    whose: Child = field(default_factory=child)

    @property
    def ended(self) -> bool:
        return self.withdrawn or self.recalled or self.released

    @property
    def rendering(self) -> Rendering:
        if self.notice:
            return self._notice_rendering(self.notice)
        section = Section(text=f"Text of version {self.version}.")
        issued_on = date(2026, 8, 31) + timedelta(days=self.version)
        manifest = Manifest(
            plan_id=self.plan_id,
            version_id=self.version_id,
            issued_on=issued_on,
            sections={SectionLetter.A: section_hash(section)},
        )
        who = RecipientDetail(**self.recipient.model_dump(), name="A recipient")
        return Rendering.model_validate(
            {
                "plan_id": self.plan_id, "case_reference": "EHC-2026-0001", "council": DUDLEY, "recipient": who,
                "version_id": self.version_id, "version": self.version, "issued_on": issued_on, "child": self.whose,
                "sections": {SectionLetter.A: section}, "manifest": manifest, "sha256": manifest.hash(),
            }
        )  # fmt: skip

    def _notice_rendering(self, notice: Notice) -> Rendering:
        manifest = Manifest(
            plan_id=self.plan_id, version_id=self.version_id, issued_on=notice.happened_on, notice=notice.hash()
        )  # fmt: skip
        who = RecipientDetail(**self.recipient.model_dump(), name="A recipient")
        return Rendering.model_validate(
            {
                "plan_id": self.plan_id, "case_reference": "EHC-2026-0001", "council": DUDLEY, "recipient": who,
                "version_id": self.version_id, "version": 1, "issued_on": notice.happened_on, "child": self.whose,
                "sections": {}, "notice": notice, "manifest": manifest, "sha256": manifest.hash(),
            }
        )  # fmt: skip

    @property
    def sha256(self) -> str:
        return self.rendering.sha256

    @property
    def type(self) -> EventType:
        if self.recalled:
            return EventType.SHARE_RECALLED
        if self.released:
            return EventType.SHARE_RELEASED
        return EventType.SHARE_WITHDRAWN if self.withdrawn else EventType.SHARE_REQUESTED

    @property
    def instruction(self) -> bytes:
        common: dict[str, Any] = {
            "share_id": self.share_id, "seq": self.seq, "la_code": "332", "plan_id": self.plan_id,
            "recipient": self.recipient, "requested_at": datetime(2026, 9, 1, tzinfo=UTC),
            "due_at": datetime(2026, 9, 2, tzinfo=UTC),
        }  # fmt: skip
        common["remove"] = self.remove
        if self.ended:
            model = ShareRecalled if self.recalled else ShareReleased if self.released else ShareWithdrawn
            return model(**common).model_dump_json().encode()
        return (
            ShareRequested(
                **common, version_id=self.version_id, version=self.version, issued_on=self.rendering.issued_on,
                sha256=self.sha256, sections=() if self.notice else (SectionLetter.A,),
                notice=NoticeKind(self.notice.kind) if self.notice else None, dataref="/v1/documents/read",
            )
            .model_dump_json()
            .encode()
        )  # fmt: skip

    def next(self, *, seq: int | None = None, withdrawn: bool = False, remove: tuple[UUID, ...] = ()) -> "Wanted":
        """A later wish: another version, or its end. ``remove`` are versions that must not be there any more."""
        seq = seq or self.seq + 1
        if withdrawn:
            return replace(self, seq=seq, withdrawn=True)
        return replace(self, seq=seq, version=seq, version_id=uuid4(), withdrawn=False, remove=remove)

    def recall(self) -> "Wanted":
        """This version should never have been there, and nothing else is wanted."""
        return replace(self, seq=self.seq + 1, recalled=True, remove=(self.version_id,))

    def release(self) -> "Wanted":
        """Another subscriber serves the recipient now."""
        return replace(self, seq=self.seq + 1, released=True)

    def answer(self, seq: int) -> ReadAnswer:
        """As the document API answers a read of ``seq`` while this is the wish."""
        if seq != self.seq:
            outcome, rendering = ReadOutcome.STALE, None
        elif self.ended:
            outcome, rendering = ReadOutcome.WITHDRAWN, None
        elif self.restricted:
            outcome, rendering = ReadOutcome.HELD, None
        else:
            outcome, rendering = ReadOutcome.OK, self.rendering
        return ReadAnswer(share_id=self.share_id, seq=seq, outcome=outcome, current_seq=self.seq, rendering=rendering)


def wanted(recipient: RecipientCode = RNA, *, seq: int = 1) -> Wanted:
    """The wish for a new share."""
    return Wanted(uuid4(), uuid4(), seq, seq, uuid4(), recipient)


def wanted_notice(recipient: RecipientCode = RNA, plan_id: UUID | None = None) -> Wanted:
    """The wish that a recipient holds an invitation to a review."""
    return Wanted(uuid4(), plan_id or uuid4(), 1, 1, uuid4(), recipient, notice=invitation())


def record_of(wish: Wanted, **changes: Any) -> Record:
    headers = cloudevents.headers(wish.type, "/councils/332", datetime.now(UTC))
    record = Record(
        TOPIC, 0, next(_offsets), str(wish.share_id).encode(), wish.instruction,
        tuple((name, value.encode()) for name, value in headers.items()),
    )  # fmt: skip
    return replace(record, **changes)


class CouncilStub:
    """A council's token endpoint, document API and list of shares. ``answers`` replaces the whole answer of a read."""

    def __init__(self) -> None:
        self.shares: dict[UUID, Wanted] = {}
        self.down: Callable[[httpx2.Request], httpx2.Response] | None = None
        self.answers: Callable[[UUID, int], dict[str, Any] | None] = lambda _share, _seq: None
        self.reads: list[list[tuple[UUID, int]]] = []
        self.rows: list[dict[str, Any]] | None = None
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self._handle))
        key = OKPKey.generate_key("Ed25519")
        self.client = Council(http, "http://council.test", TokenClient(http, "http://council.test", "subscriber-health", key))

    def wants(self, *wishes: Wanted) -> None:
        self.shares |= {wish.share_id: wish for wish in wishes}

    def _handle(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/oauth/token":
            return httpx2.Response(200, json={"access_token": "t", "token_type": "Bearer", "expires_in": 600})
        if self.down is not None:
            return self.down(request)
        if request.url.path == "/v1/shares":
            return httpx2.Response(200, content=orjson.dumps({"shares": self._listed(), "next": None}))
        wanted_reads = [(UUID(each["share_id"]), each["seq"]) for each in orjson.loads(request.content)["reads"]]
        self.reads.append(wanted_reads)
        return httpx2.Response(200, content=b"\n".join(self._line(*each) for each in wanted_reads))

    def _listed(self) -> list[dict[str, Any]]:
        if self.rows is not None:
            return self.rows
        return [self.row(wish) for _, wish in sorted(self.shares.items())]

    @staticmethod
    def row(wish: Wanted) -> dict[str, Any]:
        """One share of the list."""
        return {
            "share_id": str(wish.share_id), "seq": wish.seq, "type": wish.type,
            "instruction": orjson.loads(wish.instruction),
        }  # fmt: skip

    def _line(self, share_id: UUID, seq: int) -> bytes:
        if (answer := self.answers(share_id, seq)) is not None:
            return orjson.dumps({"share_id": str(share_id), "seq": seq} | answer)
        wish = self.shares.get(share_id)
        if wish is None:
            return orjson.dumps({"share_id": str(share_id), "seq": seq, "outcome": "unknown"})
        return wish.answer(seq).model_dump_json().encode()


# --- record systems -----------------------------------------------------------------------------------------------------


@dataclass
class RecordSystemStub:
    """Files everything, unless ``decide`` says otherwise for a content; waits while ``gate`` is closed."""

    name: str
    decide: Callable[[Content], Outcome] | None = None
    decide_withdrawal: Callable[[Withdrawal], WithdrawOutcome] | None = None
    batches: list[list[Content]] = field(default_factory=list)
    withdrawals: list[Withdrawal] = field(default_factory=list)
    decide_recall: Callable[[Recall], RecallOutcome] | None = None
    recalls: list[Recall] = field(default_factory=list)
    held: dict[tuple[str, UUID], Held] = field(default_factory=dict)
    """What it holds, by recipient's code and plan: what was filed, unless a test empties or changes it."""
    away: bool = False
    asked: list[int] = field(default_factory=list)
    """How many plans each question after what it holds was about."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def delivered(self) -> list[tuple[UUID, int]]:
        return [(each.share_id, each.seq) for batch in self.batches for each in batch]

    async def deliver(self, batch: Sequence[Content]) -> list[Outcome]:
        self.batches.append(list(batch))
        await self.gate.wait()
        return [self.decide(each) if self.decide else self.filed(each) for each in batch]

    def filed(self, content: Content) -> Filed:
        record = f"DocumentReference/{content.version_id}"
        if content.notice is None:
            self.held[content.recipient.value, content.plan_id] = Held(content.version_id, content.sha256, record)
        return Filed(record, content.sha256)

    async def withdraw(self, batch: Sequence[Withdrawal]) -> list[WithdrawOutcome]:
        self.withdrawals += batch
        await self.gate.wait()
        decide = self.decide_withdrawal
        for each in batch:
            if held := self.held.get((each.recipient.value, each.plan_id)):
                self.held[each.recipient.value, each.plan_id] = replace(held, withdrawn=True)
        return [decide(each) if decide else Withdrawn(f"DocumentReference/{each.share_id}") for each in batch]

    async def recall(self, batch: Sequence[Recall]) -> list[RecallOutcome]:
        self.recalls += batch
        await self.gate.wait()
        for each in batch:
            held = self.held.get((each.recipient.value, each.plan_id))
            if held and held.version_id in each.versions:
                del self.held[each.recipient.value, each.plan_id]
        return [self.decide_recall(each) if self.decide_recall else Removed("1 entry removed") for each in batch]

    async def holds(self, recipient: Recipient, plans: Sequence[UUID]) -> dict[UUID, Held]:
        self.asked.append(len(plans))
        if self.away:
            raise RecordAwayError("the record is away")
        return {plan: self.held[recipient.value, plan] for plan in plans if (recipient.value, plan) in self.held}

    async def close(self) -> None:
        """Nothing to close."""


# --- the subscriber -----------------------------------------------------------------------------------------------------


@dataclass
class SubscriberStub:
    """Everything that ``services.shared.delivery`` is made of, on one database, without Kafka."""

    owner: "asyncpg.Pool[asyncpg.Record]"
    pool: "asyncpg.Pool[asyncpg.Record]"
    key: OKPKey
    council: CouncilStub
    records: dict[str, RecordSystemStub]
    systems: Systems
    receipts: Receipts
    parking: Parking
    looks: Looks
    inbox_keys: InboxKeys
    woken: int = 0

    @property
    def rna(self) -> RecordSystemStub:
        return self.records["rna"]

    @property
    def rxk(self) -> RecordSystemStub:
        return self.records["rxk"]

    def dispatcher(self, instance: str = "health-0") -> Dispatcher:
        return Dispatcher(self.pool, self.council.client, self.systems, self.receipts, instance)

    def reconcile(self) -> Reconcile:
        return Reconcile(self.pool, self.council.client, self.parking)

    def record_check(self, wake: Callable[[], None] = lambda: None) -> RecordCheck:
        return RecordCheck(self.pool, self.systems, self.receipts, wake)

    async def park(self, *wishes: Wanted) -> None:
        """One batch off the topic."""
        await self.parking.handle([record_of(wish) for wish in wishes])

    async def send_again(self, *wishes: Wanted) -> None:
        """As the council puts them out when a person wants them again."""
        records = [record_of(wish) for wish in wishes]
        mark = (SENT_AGAIN, str(uuid4()).encode())
        await self.parking.handle([replace(each, headers=(*each.headers, mark)) for each in records])

    async def row(self, wish: Wanted) -> Any:
        return await self.owner.fetchrow("SELECT * FROM delivery.delivery WHERE share_id = $1", wish.share_id)

    async def said(self, wish: Wanted) -> list[tuple[int, Status]]:
        """(``seq``, status) of every receipt of the share, in order of their numbers."""
        return [(receipt.seq, receipt.status) for receipt in await self.signed(wish)]

    async def signed(self, wish: Wanted) -> list[Receipt]:
        rows = await self.owner.fetch("SELECT signed FROM delivery.receipt WHERE share_id = $1 ORDER BY number", wish.share_id)
        return [verify(row["signed"], self.key) for row in rows]

    async def outbox(self, wish: Wanted) -> list[bytes]:
        rows = await self.owner.fetch("SELECT value FROM delivery.outbox WHERE key = $1 ORDER BY id", str(wish.share_id))
        return [row["value"] for row in rows]

    async def until_said(self, wish: Wanted, status: Status, within: float = 60) -> Receipt:
        """The receipt of this wish with this status."""

        async def said() -> Receipt | None:
            return next((r for r in await self.signed(wish) if (r.seq, r.status) == (wish.seq, status)), None)

        receipt = await until(said, within=within, what=f"a receipt {status} for seq {wish.seq}")
        assert receipt is not None
        return receipt

    async def until_said_one_of(self, wish: Wanted, statuses: set[Status]) -> None:
        async def said() -> bool:
            return any((seq, status) == (wish.seq, status) and status in statuses for seq, status in await self.said(wish))

        await until(said, within=60, what=f"a receipt that ends seq {wish.seq}")

    async def until_in_flight(self) -> None:
        """The record system of ``RNA`` has been called."""

        async def called() -> bool:
            return bool(self.rna.batches)

        await until(called, within=60, what="a delivery is in flight")

    async def make_due(self, wish: Wanted) -> None:
        """As if the back-off had passed."""
        await self.owner.execute("UPDATE delivery.delivery SET next_attempt_at = now() WHERE share_id = $1", wish.share_id)

    async def end_lease(self, wish: Wanted) -> None:
        """As if the lease had run out."""
        await self.owner.execute(
            "UPDATE delivery.delivery SET claimed_until = now() - interval '1 second' WHERE share_id = $1", wish.share_id
        )

    async def lose_everything(self) -> None:
        """As if the database had been deleted and made anew."""
        await self.owner.execute(f"TRUNCATE {', '.join(f'delivery.{table}' for table in TABLES)}")
        await self.owner.execute(
            "INSERT INTO delivery.receipt_number (last) VALUES (0) ON CONFLICT (only_row) DO UPDATE SET last = 0"
        )

    @asynccontextmanager
    async def dispatching(self, instance: str = "health-0") -> AsyncIterator[Dispatcher]:
        dispatcher = self.dispatcher(instance)
        task = asyncio.create_task(dispatcher.run())
        try:
            yield dispatcher
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            for record in self.records.values():
                record.gate.set()


@asynccontextmanager
async def subscriber_on(
    server: RunningPostgres, owner_dsn: str, rna: RecordSystem | None = None
) -> AsyncIterator[SubscriberStub]:
    """A subscriber with empty books and a council that wants nothing yet, on a database from :func:`books`.

    ``rna`` is a real record system in place of the one to play with.
    """
    owner = await open_pool(owner_dsn, max_size=2)
    pool = await open_pool(server.dsn_as("health_subscriber", owner_dsn))
    key = OKPKey.generate_key("Ed25519")
    records = {name: RecordSystemStub(name) for name in ("rna", "rxk")}
    inbox_keys = InboxKeys(new_key())
    inbox = Inbox(pool, inbox_keys)
    real: dict[str, RecordSystem] = {"rna": rna} if rna else {}
    fhir: dict[str, RecordSystem] = {**records, **real}
    systems = Systems(SETTINGS, {"fhir": lambda entry: fhir[entry.name], "inbox": lambda _: inbox})
    receipts = Receipts("health", HostedBy.AGENCY, signer(key))
    try:
        looks = Looks(pool, systems, "health", HostedBy.AGENCY, signer(key))
        parking = Parking(pool, systems, receipts, lambda: None, looks)
        subscriber = SubscriberStub(owner, pool, key, CouncilStub(), records, systems, receipts, parking, looks, inbox_keys)
        await subscriber.lose_everything()
        yield subscriber
    finally:
        await pool.close()
        await owner.close()


async def books(server: RunningPostgres) -> str:
    """An empty subscriber's database; its owner's DSN."""
    owner_dsn = await server.create_database("books", ("health_subscriber",))
    await migrate(owner_dsn, "health_subscriber")
    return owner_dsn


def soon(moment: datetime, seconds: float) -> bool:
    """Whether ``moment`` lies between now and so many seconds from now (with the jitter of a back-off)."""
    now = datetime.fromtimestamp(time.time(), UTC)
    return now - timedelta(seconds=1) <= moment <= now + timedelta(seconds=seconds * 1.2 + 1)
