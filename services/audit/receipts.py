"""Judge one record of a receipts topic: is it a receipt of that topic's subscriber, for its own share; does it satisfy.

Invariant: whatever bytes come in, the answer is a value, never an exception; what is not accepted becomes a dead letter
with one reason, which repeats nothing of the input. Pure: the handler brings the directory and the shares, and stores
the answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from uuid import UUID

from joserfc.jwk import OKPKey

from schemas.base import Channel
from schemas.events import EventType
from schemas.heartbeats import Heartbeat as Told
from schemas.holdings import Holding
from schemas.receipts import HostedBy, Receipt, Status, satisfies
from services.shared.delivery.differences import Difference
from services.shared.delivery.states import FARTHEST_AHEAD
from services.shared.identity.receipts import ReceiptError, verify, verify_heartbeat, verify_holding
from services.shared.kafka.consume import Record
from services.shared.kafka.header_names import REPLACED

_ANSWERS = {
    "withdraw": frozenset({Status.WITHDRAWN, Status.RELEASED}),
    "recall": frozenset({Status.RECALLED}),
}
"""What a subscriber says when it has ended a share, by what the council wants: the answer to that and to nothing else."""
_ENDED = frozenset(status for statuses in _ANSWERS.values() for status in statuses)


def receipts_topic(subscriber: str) -> str:
    return f"ehcp.receipts.{subscriber}.v1"


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A subscriber as the council's directory knows it. ``key`` is None where the directory holds no usable one."""

    name: str
    hosted_by: HostedBy
    key: OKPKey | None

    @property
    def topic(self) -> str:
        return receipts_topic(self.name)


@dataclass(frozen=True, slots=True)
class Share:
    """The council's wish for one share, as it is now."""

    share_id: UUID
    la_code: str
    plan_id: UUID
    subscriber: str | None
    channel: Channel
    seq: int
    action: str
    """hold, withdraw or recall."""
    version_id: UUID
    sha256: str
    former: frozenset[str] = frozenset()
    """Subscribers that this recipient had before."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A receipt whose signature and topic fit; the share is still to be looked up."""

    record: Record
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """``told`` is what the subscriber says of itself."""

    subscriber: str
    told: Told


@dataclass(frozen=True, slots=True)
class Answer:
    """What a subscriber found when the council asked it to look; whether it was asked is still to be looked up."""

    record: Record
    holding: Holding


@dataclass(frozen=True, slots=True)
class DeadLetter:
    record: Record
    reason: str


@dataclass(frozen=True, slots=True)
class Judged:
    """An accepted receipt.

    ``status`` is what it counts as: its own, but *conflict* for an instruction that the council has not given. Whatever it
    says of that one, to the council it says that the subscriber knows another wish, and it must keep saying so when the
    council comes to that ``seq`` itself. ``reason`` is the subscriber's, or why it does not satisfy although its status would.
    """

    record: Record
    receipt: Receipt
    share: Share
    status: Status
    satisfies: bool
    reason: str | None


@dataclass(frozen=True, slots=True)
class Former:
    """A genuine receipt of a subscriber that the recipient had before: says what became of its copy, nothing of the wish."""

    record: Record
    receipt: Receipt
    share: Share


def read(record: Record, subscribers: Mapping[str, Subscriber]) -> Signed | Heartbeat | Answer | DeadLetter:
    """``subscribers`` by topic."""
    subscriber = subscribers.get(record.topic)
    if subscriber is None:
        return DeadLetter(record, "no subscriber in the directory has this topic")
    if not all(_is_utf8(name, value) for name, value in record.headers):
        return DeadLetter(record, "a header is not UTF-8")
    match record.header("ce_type"):
        case EventType.HEARTBEAT:
            return _read_heartbeat(record, subscriber)
        case EventType.RECEIPT:
            return _read_receipt(record, subscriber)
        case EventType.HOLDING:
            return _read_holding(record, subscriber)
        case _:
            return DeadLetter(record, "the header ce_type names neither a receipt nor a heartbeat")


def _read_holding(record: Record, subscriber: Subscriber) -> Answer | DeadLetter:
    if subscriber.key is None:
        return DeadLetter(record, "the directory holds no usable key of this subscriber")
    try:
        holding = verify_holding(record.value, subscriber.key)
        holding = holding.model_copy(update={"at": holding.at.astimezone(UTC)})
    except ReceiptError as error:
        return DeadLetter(record, str(error))
    except OverflowError:
        return DeadLetter(record, "a time of the answer is out of range")
    if holding.subscriber != subscriber.name:
        return DeadLetter(record, "the answer names another subscriber than its topic")
    if any("\0" in text for text in (holding.record, holding.reason) if text):
        return DeadLetter(record, "a text of the answer holds a NUL character, which cannot be stored")
    return Answer(record, holding)


def _read_heartbeat(record: Record, subscriber: Subscriber) -> Heartbeat | DeadLetter:
    if subscriber.key is None:
        return DeadLetter(record, "the directory holds no usable key of this subscriber")
    try:
        told = verify_heartbeat(record.value, subscriber.key)
        since = told.unasked_since and told.unasked_since.astimezone(UTC)
        # Kinds of a newer version that nobody here knows are not kept.
        known = {kind: count for kind, count in told.differences.items() if kind in set(Difference)}
        paused = tuple(each.model_copy(update={"paused_at": each.paused_at.astimezone(UTC)}) for each in told.paused)
        away = tuple(each.model_copy(update={"since": each.since.astimezone(UTC)}) for each in told.away)
        told = told.model_copy(
            update={
                "at": told.at.astimezone(UTC), "unasked_since": since, "differences": known, "paused": paused, "away": away,
            }
        )  # fmt: skip
    except ReceiptError as error:
        return DeadLetter(record, str(error))
    except OverflowError:
        return DeadLetter(record, "a time of the heartbeat is out of range")
    if told.subscriber != subscriber.name:
        return DeadLetter(record, "the heartbeat names another subscriber than its topic")
    of_pauses = (text for each in told.paused for text in (each.recipient, each.reason, each.paused_by))
    of_away = (text for each in told.away for text in (each.record_system, each.reason))
    if any("\0" in text for text in (*told.stopped_topics, told.checkpoint, *of_pauses, *of_away) if text):
        return DeadLetter(record, "a text of the heartbeat holds a NUL character, which cannot be stored")
    # These stand in alerts and mails to the council's people: nothing in them may look like another line of it.
    shown = (*told.stopped_topics, *(each.recipient for each in told.paused), *(each.record_system for each in told.away))
    if not all(text.isprintable() and len(text) <= _LONGEST_SHOWN for text in shown if text):
        return DeadLetter(record, "a name in the heartbeat is no short line of text")
    return Heartbeat(subscriber.name, told)


_LONGEST_SHOWN = 255


def _read_receipt(record: Record, subscriber: Subscriber) -> Signed | DeadLetter:
    if subscriber.key is None:
        return DeadLetter(record, "the directory holds no usable key of this subscriber")
    try:
        receipt = verify(record.value, subscriber.key)
        receipt = receipt.model_copy(
            update={
                "at": receipt.at.astimezone(UTC),
                "next_try_at": receipt.next_try_at and receipt.next_try_at.astimezone(UTC),
            }
        )
    except ReceiptError as error:
        return DeadLetter(record, str(error))
    except OverflowError:  # year 1 or 9999 in another zone: no database could hold it
        return DeadLetter(record, "a time of the receipt is out of range")
    if receipt.subscriber != subscriber.name:
        return DeadLetter(record, "the receipt names another subscriber than its topic")
    # The key orders the receipts of a share; under another key they could overtake each other.
    if record.key != str(receipt.share_id).encode():
        return DeadLetter(record, "the record's key is not the receipt's share")
    if any("\0" in text for text in (receipt.record, receipt.reason, receipt.removal, receipt.opened_by) if text):
        return DeadLetter(record, "a text of the receipt holds a NUL character, which cannot be stored")
    return Signed(record, receipt)


def judge(signed: Signed, share: Share | None) -> Judged | Former | DeadLetter:
    """``share`` is None when the council has none of this id.

    That cannot be a receipt overtaking our own row: a share is committed before its instruction is published. It is a
    made-up id, or the council's database was restored from before the share was made; then the dead letter keeps the
    proof of what the recipient holds, and can be put in again once the share is back.
    """
    receipt = signed.receipt
    if share is None:
        return DeadLetter(signed.record, "the council has no such share")
    if share.subscriber != receipt.subscriber and receipt.subscriber in share.former:
        return Former(signed.record, receipt, share)
    if share.subscriber != receipt.subscriber:
        return DeadLetter(signed.record, "the share belongs to another subscriber")
    if receipt.seq > share.seq + FARTHEST_AHEAD:
        return DeadLetter(signed.record, "the receipt's seq is farther ahead than any backup explains")
    contradiction = _contradiction(receipt, share)
    return Judged(
        signed.record,
        receipt,
        share,
        status=Status.CONFLICT if receipt.seq > share.seq else receipt.status,
        satisfies=contradiction is None and satisfies(share.channel, receipt.status),
        reason=receipt.reason or contradiction,
    )


def _contradiction(receipt: Receipt, share: Share) -> str | None:
    """Why a receipt proves nothing about this wish, although it is genuine; None when it may satisfy.

    What an older instruction said is not looked up: whether it was satisfied decides a due time, and what it had removed.
    """
    if receipt.seq > share.seq:
        # Our database was restored; the publisher answers by wanting again under a higher seq. Until then this must not
        # satisfy, or our next wish with that number would count as held.
        return "the receipt is for an instruction that the council has not given"
    if receipt.remaining:
        # Of an older instruction too: a satisfied one stands for the removal that came with it.
        return "what was recalled is not proved to be gone yet"
    if receipt.seq < share.seq:
        return None
    if (answers := _ANSWERS.get(share.action)) is not None:
        ended = "withdrawn" if share.action == "withdraw" else "recalled"
        return None if receipt.status in answers else f"the share is {ended}, which this does not answer"
    if receipt.status in _ENDED:
        return "the recipient should hold the plan, which this does not answer"
    if receipt.version_id not in (None, share.version_id) or receipt.sha256 not in (None, share.sha256):
        return "the receipt is for another version or rendering than the one wanted"
    return None


def _is_utf8(name: str, value: bytes | None) -> bool:
    if REPLACED in name:
        return False
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
