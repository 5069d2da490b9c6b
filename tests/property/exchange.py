"""The whole exchange in memory, for the stateful test: a council, a broker, a subscriber and the receivers behind it.

Everything that *decides* is the product's own pure function: which version is current, what an instruction means for what is
there, what an answer of the document API and an outcome mean, what receipts say together, what the resend sweep does.
What SQL does is mirrored by hand; each such method names the statement that it stands for. Nothing here waits or calls out:
the clock stands still until somebody moves it.

Simplifications: one council, one plan, one subscriber with a recipient of every kind of channel; messages and receipts
come in any order, although real ones are ordered by share; receipts are not signed.
"""

import copy
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from schemas.base import Channel, RecipientKind
from schemas.documents import Council as CouncilDetail
from schemas.documents import ReadAnswer, ReadOutcome, RecipientDetail, Rendering
from schemas.events import RecipientCode
from schemas.identifiers import CodeScheme, RecipientName
from schemas.manifest import Manifest, section_hash, sha256
from schemas.plan import Child, Section, SectionLetter
from schemas.receipts import HostedBy, Receipt, Status
from services.audit.newest import Newest, Told, fold
from services.audit.receipts import Judged, Signed, judge
from services.audit.receipts import Share as JudgedShare
from services.ehcp_publisher import instructions, resend, versions, wishes
from services.ehcp_publisher.registry import Known as Recipient
from services.ehcp_publisher.resend import Step, Unanswered
from services.ehcp_publisher.store import Share as StandingShare
from services.ehcp_publisher.versions import First, History, Issued, Next, Text
from services.shared.delivery import states
from services.shared.delivery.dispatcher import Conflict, Restricted, _judge, record
from services.shared.delivery.handlers import Instruction, Known, read_instruction, sort_out
from services.shared.delivery.receipts import Draft
from services.shared.delivery.reconcile import _wants_lower
from services.shared.delivery.states import Action, Wish
from services.shared.delivery.store import LEASE_SECONDS, Claimed, Parking, Result
from services.shared.kafka.consume import Record
from services.shared.record_systems.port import Content, Filed, Outcome, RecordSystem, Retry, Sent, Withdrawn
from services.shared.record_systems.systems import Systems, SystemSettings

START = datetime(2026, 9, 1, 9, 0, tzinfo=UTC)
RESEND_AFTER = timedelta(seconds=60)
LA_CODE = "332"
SUBSCRIBER = "health"
PLAN = UUID(int=1)
CHILD = Child(family_name="Hartley", given_names="Rowan", date_of_birth=date(2014, 5, 6))
DUDLEY = CouncilDetail(la_code=LA_CODE, name="Dudley Metropolitan Borough Council", ods_code="00CTW")

TRUST = Recipient(UUID(int=11), RecipientKind.TRUST, CodeScheme.ODS, "RNA", "Dudley Group", SUBSCRIBER, Channel.FHIR)
SCHOOL = Recipient(UUID(int=12), RecipientKind.SCHOOL, CodeScheme.URN, "993201", "A school", SUBSCRIBER, Channel.INBOX)
PARENT = Recipient(UUID(int=13), RecipientKind.PARENT, CodeScheme.RECIPIENT, "p1", "parent 1", SUBSCRIBER, Channel.MANUAL)
RECIPIENTS = (TRUST, SCHOOL, PARENT)
"""One for each way of delivery: a record system that confirms, an inbox that a person opens, an officer who sends."""

_SYSTEMS = (
    SystemSettings(name="record", kind="fhir", recipients=(RecipientName(scheme=CodeScheme.ODS, value="RNA"),)),
    SystemSettings(name="inbox", kind="inbox", recipients=(RecipientName(scheme=CodeScheme.URN, value="993201"),)),
    SystemSettings(name="manual", kind="manual", recipients="*"),
)


class NotCalled:
    """Systems need an adapter for every lane; here the exchange itself plays the record systems."""

    async def deliver(self, batch: Sequence[Content]) -> list[Outcome]:
        raise NotImplementedError

    async def withdraw(self, batch: Sequence[Any]) -> list[Any]:
        raise NotImplementedError

    async def recall(self, batch: Sequence[Any]) -> list[Any]:
        raise NotImplementedError

    async def holds(self, recipient: Any, plans: Sequence[UUID]) -> dict[UUID, Any]:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


def _adapter(_: SystemSettings) -> RecordSystem:
    return NotCalled()


# --- the council: publisher and audit in one database, backed up and restored together ----------------------------------


@dataclass
class Share:
    share_id: UUID
    recipient: Recipient
    seq: int
    action: Action
    version: Issued


@dataclass
class Unsatisfied:
    """A row of ``publisher.unsatisfied``."""

    seq: int
    check_at: datetime
    resends: int = 0


class Message(NamedTuple):
    """An instruction on its way."""

    type: str
    data: bytes


@dataclass
class Council:
    versions: list[Issued] = field(default_factory=list)
    shares: dict[UUID, Share] = field(default_factory=dict)
    instructions: dict[tuple[UUID, int], Message] = field(default_factory=dict)
    unsatisfied: dict[UUID, Unsatisfied] = field(default_factory=dict)
    outbox: list[Message] = field(default_factory=list)
    receipts: dict[tuple[UUID, int], Told] = field(default_factory=dict)
    newest: dict[UUID, Newest] = field(default_factory=dict)

    def satisfied(self, share_id: UUID) -> bool:
        """As ``store.delete_satisfied`` compares."""
        newest, share = self.newest.get(share_id), self.shares[share_id]
        return newest is not None and newest.satisfied_seq >= share.seq and newest.newest.seq <= share.seq


# --- the subscriber: its database ----------------------------------------------------------------------------------------


@dataclass
class Delivery:
    """A row of ``delivery.delivery``."""

    share_id: UUID
    seq: int
    action: str
    instruction: dict[str, Any]
    sha256: str | None
    lane: str
    state: str
    next_attempt_at: datetime | None
    held_seq: int = 0
    held_version_id: UUID | None = None
    held_sha256: str | None = None
    held_record: str | None = None
    attempts: int = 0
    claim: int | None = None
    claimed_until: datetime | None = None


@dataclass
class InboxItem:
    seq: int
    version_id: UUID
    opened: bool = False
    withdrawn: bool = False


@dataclass
class Books:
    deliveries: dict[UUID, Delivery] = field(default_factory=dict)
    receipts: list[Receipt] = field(default_factory=list)
    outbox: list[Receipt] = field(default_factory=list)
    last_number: int = 0
    inbox: dict[UUID, InboxItem] = field(default_factory=dict)


# --- what is in memory or outside ----------------------------------------------------------------------------------------


@dataclass
class Work:
    """A claimed delivery in the dispatcher's memory; each step may be the last before a crash."""

    claim: int
    claimed: Claimed
    started: datetime
    content: Content | None = None
    outcome: Outcome | Withdrawn | Conflict | Restricted | None = None
    sha256: str | None = None

    @property
    def withdraws(self) -> bool:
        return self.claimed.action == Action.WITHDRAW


@dataclass
class Copy:
    """What a record system outside holds for a share."""

    seq: int
    version_id: UUID
    withdrawn: bool = False


@dataclass
class Exchange:
    now: datetime = START
    council: Council = field(default_factory=Council)
    books: Books = field(default_factory=Books)
    instructions: list[Message] = field(default_factory=list)
    """On the broker, not yet committed by the subscriber."""
    receipts: list[Receipt] = field(default_factory=list)
    """On the broker, not yet committed by audit."""
    work: list[Work] = field(default_factory=list)
    page: list[Message] = field(default_factory=list)
    """A page of the council's list that the subscriber has read and not yet parked."""
    doubted: list[tuple[UUID, int]] = field(default_factory=list)
    """Shares of which the list named a lower ``seq``; the council has not been asked yet."""
    record: dict[UUID, Copy] = field(default_factory=dict)
    """The trust's clinical record."""
    letters: dict[UUID, set[UUID]] = field(default_factory=dict)
    """Versions that were sent on paper."""
    record_away: bool = False
    council_away: bool = False
    council_backup: Council | None = None
    books_backup: Books | None = None
    council_restored: bool = False
    books_lost: bool = False
    renderings: dict[UUID, Rendering] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ids = itertools.count(1000)
        self._systems = Systems(_SYSTEMS, {"fhir": _adapter, "inbox": _adapter})

    def _new_id(self) -> UUID:
        return UUID(int=next(self._ids))

    # --- the council issues -------------------------------------------------------------------------------------------

    def issue(self, issued_on: date, text: int, recipients: Iterable[Recipient]) -> None:
        """``Issuing._write``: decide under the plan's lock, raise the wish of everyone who should hold it, end the others'."""
        text_of = Text({SectionLetter.A: section_hash(_section(text))}, sha256(f"text {text}".encode()))
        decision = versions.decide(self.council.versions, issued_on, text_of)
        if not isinstance(decision, First | Next | History):
            return
        version = Issued(
            self._new_id(),
            decision.number,
            issued_on,
            text_of.text_hash,
            {k.value: v for k, v in text_of.section_hashes.items()},
        )
        self.council.versions.append(version)
        self.renderings[version.version_id] = _rendering(version, text)
        if isinstance(decision, History):
            return
        standing = {share.recipient.recipient_id: share for share in self.council.shares.values()}
        for recipient in recipients:
            share = standing.pop(recipient.recipient_id, None)
            if share is None:
                share = Share(self._new_id(), recipient, 0, Action.HOLD, version)
                self.council.shares[share.share_id] = share
            self._want(share, share.seq + 1, Action.HOLD, version)
        for share in standing.values():
            if share.action is Action.HOLD:
                self._want(share, share.seq + 1, Action.WITHDRAW, version)

    def _want(self, share: Share, seq: int, action: Action, version: Issued) -> None:
        """``store.write_wishes``."""
        assert seq > share.seq, "a changed wish needs a higher seq"
        share.seq, share.action, share.version = seq, action, version
        asking = wishes.Asking(PLAN, LA_CODE, 1, self.now, RESEND_AFTER)
        rendering = self.renderings[version.version_id]
        if action is Action.HOLD:
            thing = wishes.Thing(
                version.version_id, version.version_id, rendering.sha256, version.number, version.issued_on, (SectionLetter.A,)
            )
            wish = wishes.hold(asking, share.share_id, seq, share.recipient, thing, (), None, ())
        else:
            standing = StandingShare(
                share.share_id, PLAN, share.recipient.recipient_id, seq - 1, "hold", share.recipient, LA_CODE,
                share.recipient.subscriber, version.version_id, None, version.version_id, 1, (), satisfied=False,
            )  # fmt: skip
            wish = wishes.withdraw(asking, standing)
        message = Message(wish.type, wish.data)
        self.council.instructions[share.share_id, seq] = message
        self.council.unsatisfied[share.share_id] = Unsatisfied(seq, self.now + RESEND_AFTER)
        self.council.outbox.append(message)

    def sweep(self) -> None:
        """``Resend.sweep``."""
        council = self.council
        self._reopen_lost()
        due = [share_id for share_id, row in council.unsatisfied.items() if row.check_at <= self.now]
        for share_id in due:
            if council.satisfied(share_id):
                del council.unsatisfied[share_id]
                continue
            row, share = council.unsatisfied[share_id], council.shares[share_id]
            assert row.seq == share.seq
            seen = self._unanswered(share_id)
            step, row.resends, row.check_at = resend.next_step(seen, self.now, RESEND_AFTER)
            if step is Step.SEND_AGAIN:
                council.outbox.append(council.instructions[share_id, share.seq])
            elif step is Step.WANT_AGAIN:
                self._want(share, max(share.seq, seen.receipt_seq or 0) + 1, share.action, share.version)

    def _reopen_lost(self) -> None:
        """``store.reopen_lost``."""
        for share_id, newest in self.council.newest.items():
            share, told = self.council.shares[share_id], newest.newest
            lost = newest.lost and newest.satisfied_seq < share.seq
            if lost or (told.status is Status.CONFLICT and told.seq >= share.seq):
                self.council.unsatisfied.setdefault(share_id, Unsatisfied(share.seq, self.now))

    def _unanswered(self, share_id: UUID) -> Unanswered:
        row, newest = self.council.unsatisfied[share_id], self.council.newest.get(share_id)
        if newest is None:
            return Unanswered(share_id, row.seq, SUBSCRIBER, row.resends, None, None, None)
        told = newest.newest
        return Unanswered(share_id, row.seq, SUBSCRIBER, row.resends, told.seq, told.status, told.next_try_at)

    def relay_instructions(self, count: int, *, crash: bool) -> None:
        """``Relay``: a crash between the broker's acknowledgement and the delete publishes again."""
        self.instructions += self.council.outbox[:count]
        if not crash:
            del self.council.outbox[:count]

    def back_up_council(self) -> None:
        self.council_backup = copy.deepcopy(self.council)

    def restore_council(self) -> None:
        """Everything since the backup is forgotten; what went out stays out."""
        if self.council_backup is not None:
            self.council = copy.deepcopy(self.council_backup)
            self.council_restored = True

    # --- the council hears --------------------------------------------------------------------------------------------

    def take_in(self, receipts: Sequence[Receipt]) -> None:
        """``receipts_handler``: judge, append what is not there yet, fold."""
        council = self.council
        for receipt in receipts:
            record = Record("ehcp.receipts.health.v1", 0, 0, str(receipt.share_id).encode(), b"", ())
            judged = judge(Signed(record, receipt), self._judged_share(receipt.share_id))
            place = (receipt.share_id, receipt.number)
            if not isinstance(judged, Judged) or place in council.receipts:
                continue
            council.receipts[place] = _told(judged)
            all_told = [told for (share_id, _), told in council.receipts.items() if share_id == receipt.share_id]
            council.newest[receipt.share_id] = fold(all_told)

    def _judged_share(self, share_id: UUID) -> JudgedShare | None:
        share = self.council.shares.get(share_id)
        if share is None:
            return None
        return JudgedShare(
            share_id, LA_CODE, PLAN, SUBSCRIBER, share.recipient.channel, share.seq, share.action,
            share.version.version_id, self.renderings[share.version.version_id].sha256,
        )  # fmt: skip

    # --- the council answers ------------------------------------------------------------------------------------------

    def read(self, share_id: UUID, seq: int) -> ReadAnswer:
        """``Reads.read`` for one share."""
        share = self.council.shares.get(share_id)
        if share is None:
            return ReadAnswer(share_id=share_id, seq=seq, outcome=ReadOutcome.UNKNOWN)
        if share.seq != seq:
            return ReadAnswer(share_id=share_id, seq=seq, outcome=ReadOutcome.STALE, current_seq=share.seq)
        if share.action is Action.WITHDRAW:
            return ReadAnswer(share_id=share_id, seq=seq, outcome=ReadOutcome.WITHDRAWN, current_seq=share.seq)
        rendering = self.renderings[share.version.version_id].model_copy(update={"recipient": _detail(share.recipient)})
        return ReadAnswer(share_id=share_id, seq=seq, outcome=ReadOutcome.OK, current_seq=seq, rendering=rendering)

    def list_shares(self, *, unanswered: bool) -> None:
        """``store.list_shares``; parked later, when the council may have moved on."""
        listed = self.council.unsatisfied if unanswered else self.council.shares
        self.page = [self.council.instructions[i, self.council.shares[i].seq] for i in sorted(listed)]

    # --- the subscriber parks -----------------------------------------------------------------------------------------

    def park(self, messages: Sequence[Message], *, listed: bool = False) -> None:
        """``Parking.park`` with ``store.lock_deliveries``, ``save_parked`` and ``send_again``."""
        taken: list[Instruction] = [read_instruction(each.type, each.data) for each in messages]
        known = {
            each.share_id: Known(Wish(row.seq, Action(row.action), row.sha256), Status(row.state))
            for each in taken
            if (row := self.books.deliveries.get(each.share_id)) is not None
        }
        done = sort_out(known, taken, self._systems, self.now, listed=listed)
        for parking in done.parked:
            self._save_parked(parking)
        self._send_again(done.again)
        self._write_receipts(done.drafts)
        self.doubted += done.doubted

    def park_page(self) -> None:
        """``Reconcile.once``, up to what it doubts."""
        page, self.page = self.page, []
        self.park(page, listed=True)

    def ask(self) -> None:
        """``Reconcile._ask`` with ``Parking.contradict``."""
        doubted, self.doubted = self.doubted, []
        if self.council_away:
            return
        for share_id, seq in doubted:
            row = self.books.deliveries.get(share_id)
            if row is not None and row.seq == seq and _wants_lower(self.read(share_id, seq), seq):
                self._write_receipts([Draft(share_id, seq, Status.CONFLICT, reason="the council wants a lower seq")])

    def _save_parked(self, parking: Parking) -> None:
        row = self.books.deliveries.get(parking.share_id)
        if row is None:
            self.books.deliveries[parking.share_id] = Delivery(
                parking.share_id, parking.seq, parking.action, parking.instruction, parking.sha256, parking.lane,
                parking.state, parking.next_attempt_at,
            )  # fmt: skip
        elif row.seq < parking.seq:
            row.seq, row.action, row.instruction, row.sha256 = parking.seq, parking.action, parking.instruction, parking.sha256
            row.lane, row.state, row.next_attempt_at, row.attempts = parking.lane, parking.state, parking.next_attempt_at, 0

    def _send_again(self, share_ids: Iterable[UUID]) -> None:
        for share_id in share_ids:
            of_share = [each for each in self.books.receipts if each.share_id == share_id]
            if of_share:
                self.books.outbox.append(max(of_share, key=lambda each: (each.seq, each.number)))

    def _write_receipts(self, drafts: Iterable[Draft]) -> None:
        """``store.take_numbers`` and ``save_receipts``."""
        for draft in drafts:
            self.now += timedelta(microseconds=1)  # no machine writes more than one in a microsecond
            self.books.last_number = max(self.books.last_number, int(self.now.timestamp() * 1_000_000)) + 1
            receipt = Receipt(
                number=self.books.last_number, subscriber=SUBSCRIBER, hosted_by=HostedBy.AGENCY, share_id=draft.share_id,
                seq=draft.seq, status=draft.status, version_id=draft.version_id, sha256=draft.sha256,
                record=draft.record, reason=draft.reason, next_try_at=draft.next_try_at, attempt=draft.attempt, at=self.now,
            )  # fmt: skip
            self.books.receipts.append(receipt)
            self.books.outbox.append(receipt)

    def relay_receipts(self, count: int, *, crash: bool) -> None:
        self.receipts += self.books.outbox[:count]
        if not crash:
            del self.books.outbox[:count]

    # --- the subscriber delivers: claim, read, deliver, record; a crash is possible after each ------------------------------

    def due(self) -> list[Delivery]:
        return [
            row
            for row in self.books.deliveries.values()
            if row.next_attempt_at is not None
            and row.next_attempt_at <= self.now
            and (row.claimed_until is None or row.claimed_until < self.now)
        ]

    def claim(self, row: Delivery) -> None:
        """``store.claim``. Another process may take over once a lease has run out; what it was for goes on in memory."""
        row.claim = next(self._ids)
        row.claimed_until = self.now + timedelta(seconds=LEASE_SECONDS)
        claimed = Claimed(
            row.share_id, row.seq, row.action, row.instruction, row.lane, row.held_seq, row.held_version_id, row.attempts
        )
        self.work.append(Work(row.claim, claimed, self.now))

    def go_on(self, work: Work) -> None:
        """The next step of one delivery."""
        in_time = self.now - work.started < timedelta(seconds=LEASE_SECONDS)
        if work.outcome is not None:
            self._finish(work)
            self.work.remove(work)
        elif not in_time:
            work.outcome = Retry("the hard deadline has passed")
        elif work.withdraws:
            work.outcome = self._withdraw(work.claimed)
        elif work.content is not None:
            work.outcome, work.sha256 = self._deliver(work.claimed.lane, work.content), work.content.sha256
        elif self.council_away:
            work.outcome = Retry("the document API cannot be reached")
        else:
            judged = _judge(work.claimed, self.read(work.claimed.share_id, work.claimed.seq))
            if isinstance(judged, Content):
                work.content = judged
            else:
                work.outcome = judged

    def _deliver(self, lane: str, content: Content) -> Outcome:
        match lane:
            case "record":
                if self.record_away:
                    return Retry("the record system is away")
                self._file(content)
                return Filed(f"DocumentReference/{content.share_id}", content.sha256)
            case "inbox":
                item = self.books.inbox.get(content.share_id)
                if item is None or item.seq < content.seq:
                    self.books.inbox[content.share_id] = InboxItem(content.seq, content.version_id)
                return Sent(f"inbox/{content.share_id}")
            case _:
                return Retry("the record system of this lane is not configured")

    def _file(self, content: Content) -> None:
        copy_ = self.record.get(content.share_id)
        if copy_ is not None and content.seq < copy_.seq:
            # The subscriber lost its books and the council its memory: nobody knows any more that there was a higher one.
            assert self.council_restored
            assert self.books_lost
        self.record[content.share_id] = Copy(content.seq, content.version_id)

    def _withdraw(self, claimed: Claimed) -> Withdrawn | Retry:
        match claimed.lane:
            case "record":
                if self.record_away:
                    return Retry("the record system is away")
                if copy_ := self.record.get(claimed.share_id):
                    copy_.withdrawn = True
            case "inbox":
                if item := self.books.inbox.get(claimed.share_id):
                    item.withdrawn = True
            case _:
                return Retry("the record system of this lane is not configured")
        return Withdrawn("")

    def _finish(self, work: Work) -> None:
        """``Dispatcher._finish`` with ``store.finish``: fenced by the claim."""
        assert work.outcome is not None
        result, draft = record(work.claimed, work.outcome, work.sha256, self.now)
        row = self.books.deliveries.get(result.share_id)
        if row is None or row.claim != work.claim:
            return
        row.claim = row.claimed_until = None
        if self._save_result(row, result):
            self._write_receipts([draft])

    def _save_result(self, row: Delivery, result: Result) -> bool:
        """``store.finish``; False where evidence that came meanwhile stands."""
        overtaken = (
            row.seq == result.seq
            and row.held_seq == result.seq
            and (Status(result.status), Status(row.state)) in states.OVERTAKEN
        )
        if result.held and result.seq >= row.held_seq:
            row.held_seq, row.held_version_id = result.seq, result.version_id
            row.held_sha256, row.held_record = result.sha256, result.record
        if row.seq == result.seq and not overtaken:
            row.state, row.next_attempt_at = result.status, result.next_attempt_at
        if row.seq == result.seq:
            row.attempts += 1
        assert row.held_seq <= row.seq
        return not overtaken

    def crash_subscriber(self) -> None:
        """What was in memory is gone. At its next start it gives back what it had claimed (``store.release``)."""
        self.work.clear()
        self.page.clear()
        self.doubted.clear()
        for row in self.books.deliveries.values():
            row.claim = row.claimed_until = None

    def lose_books(self) -> None:
        """The subscriber's database is deleted, its inbox with it. At its start it reads the whole list."""
        self.crash_subscriber()
        self.books = Books()
        self.books_lost = True
        # Not played: books that are lost, rebuilt, and then put back to a state from before. What the rebuilt ones told
        # has higher numbers than anything that the old ones can tell again, so their word would stand until the next seq.
        self.books_backup = None
        self.start_subscriber()

    def back_up_books(self) -> None:
        self.books_backup = copy.deepcopy(self.books)

    def restore_books(self) -> None:
        if self.books_backup is not None:
            self.books = copy.deepcopy(self.books_backup)
            self.books_lost = True
            self.crash_subscriber()
            self.start_subscriber()

    def start_subscriber(self) -> None:
        self.list_shares(unanswered=False)
        self.park_page()
        self.ask()

    # --- people -------------------------------------------------------------------------------------------------------

    def open_item(self, share_id: UUID) -> None:
        """``inbox_api``: a reader opens what is in the inbox, once; it is evidence where it fits."""
        item = self.books.inbox[share_id]
        if not item.opened and not item.withdrawn:
            item.opened = True
            self._evidence(share_id, item.seq, Status.OPENED)

    def send_letter(self, share_id: UUID, seq: int) -> None:
        """``manual``: an officer sends what the list of deliveries that await it names, and records it."""
        row = self.books.deliveries[share_id]
        if row.seq == seq and row.action == Action.HOLD:
            version = UUID(row.instruction["version_id"])
            if self._evidence(share_id, seq, Status.SENT):
                self.letters.setdefault(share_id, set()).add(version)

    def _evidence(self, share_id: UUID, seq: int, status: Status) -> bool:
        """``evidence.record`` with ``store.save_evidence``."""
        row = self.books.deliveries.get(share_id)
        if (
            row is None
            or row.seq != seq
            or row.state == status
            or not states.accepts(Action(row.action), Status(row.state), status)
        ):
            return False
        version = UUID(row.instruction["version_id"])
        row.state, row.next_attempt_at = status, None
        row.held_seq, row.held_version_id, row.held_sha256 = row.seq, version, row.sha256
        self._write_receipts([Draft(share_id, seq, status, version, row.held_sha256, "evidence")])
        return True

    def awaiting_letters(self) -> list[Delivery]:
        """What the officer sees: ``GET /v1/deliveries?state=awaiting``."""
        return [row for row in self.books.deliveries.values() if row.lane == "manual" and row.state == Status.WAITING]

    # --- until it is quiet --------------------------------------------------------------------------------------------

    def settle(self, days: int = 20) -> bool:
        """No more faults; everybody does their work, four times a day. True after a day that found nothing to put right."""
        self.record_away = self.council_away = False
        for _ in range(days):
            for _ in range(4):
                self.now += timedelta(hours=6)
                self.ask()
                self.sweep()
                for _ in range(6):
                    self.all_move_on()
                self._people_act()
                self.all_move_on()
                self.list_shares(unanswered=True)
                self.park_page()
            self.list_shares(unanswered=False)
            self.park_page()
            if not self.doubted and self._quiet():
                return True
        return False

    def _people_act(self) -> None:
        for share_id in list(self.books.inbox):
            self.open_item(share_id)
        for row in self.awaiting_letters():
            self.send_letter(row.share_id, row.seq)

    def all_move_on(self) -> None:
        """Everybody does once what there is to do, and nothing goes wrong."""
        self.relay_instructions(len(self.council.outbox), crash=False)
        messages, self.instructions = self.instructions, []
        self.park(messages)
        for row in self.due():
            self.claim(row)
        for _ in range(4):
            for work in list(self.work):
                self.go_on(work)
        self.relay_receipts(len(self.books.outbox), crash=False)
        receipts, self.receipts = self.receipts, []
        self.take_in(receipts)

    def _quiet(self) -> bool:
        self.now += timedelta(hours=1)
        self.sweep()
        return not (self.council.unsatisfied or self.council.outbox or self.books.outbox or self.due())


def _section(text: int) -> Section:
    return Section(text=f"Text {text} of section A.")


def _rendering(version: Issued, text: int) -> Rendering:
    manifest = Manifest(
        plan_id=PLAN,
        version_id=version.version_id,
        issued_on=version.issued_on,
        sections={SectionLetter.A: section_hash(_section(text))},
    )
    return Rendering(
        plan_id=PLAN, case_reference="EHC-2026-0001", council=DUDLEY, recipient=_detail(TRUST),
        version_id=version.version_id, version=version.number, issued_on=version.issued_on, child=CHILD,
        sections={SectionLetter.A: _section(text)}, manifest=manifest, sha256=manifest.hash(),
    )  # fmt: skip


def _detail(recipient: Recipient) -> RecipientDetail:
    code: RecipientCode = instructions.code_of(recipient)
    return RecipientDetail(kind=code.kind, scheme=code.scheme, value=code.value, name=recipient.name)


def _told(judged: Judged) -> Told:
    receipt = judged.receipt
    return Told(
        receipt.number, receipt.seq, judged.status, judged.satisfies, receipt.version_id, receipt.sha256, receipt.record,
        judged.reason, receipt.next_try_at, receipt.at,
    )  # fmt: skip
