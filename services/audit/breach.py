"""A breach pack: who got what was recalled, when it was fetched, opened and removed, and the signed receipts that say so. Pure.

Invariant: every statement about a copy comes from an act of the council's ledger or from a receipt that is in the pack byte for
byte, so that it can be checked without the exchange. From here it is signed (``api``) and leaves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.breach import (
    BreachPack,
    CopyOf,
    CopyState,
    CouncilBefore,
    Fetched,
    Opened,
    RecalledFrom,
    RecallEntry,
    ReceiptKey,
    Removal,
    SignedReceipt,
)
from schemas.receipts import Receipt, Status, openings
from services.shared.identity.keys import import_key
from services.shared.identity.receipts import ReceiptError, held, verify, words
from services.shared.identity.signed_documents import fingerprint
from services.shared.law import clock
from services.shared.law.counting import london_date

KIND = "breach-pack"
CLOCK = "report_breach"
HOW_TO_VERIFY = (
    "`ehcp verify FILE` checks all of it without a network. By hand: signature.jws is a detached JWS (RFC 7515 appendix F, "
    "Ed25519) over the canonical JSON (RFC 8785) of `document`, made with the council's key for documents. Each `signed` in a "
    "recipient's `receipts` is a compact JWS (Ed25519) by that subscriber; its payload is the receipt. `key` names the one of "
    "`receipt_keys` that verifies it, by its fingerprint (RFC 7638, SHA-256): it held when the receipt was received."
)
_ARRIVED = frozenset({Status.SENT, Status.COLLECTED, Status.FILED, Status.OPENED})


_ELSEWHERE = {
    "taken_over": "The plan came from a council outside this exchange on {day}: that one must say who has it.",
    "transfer": "The plan went to a council outside this exchange on {day}: that one must say who has it.",
}


@dataclass(frozen=True, slots=True)
class Said:
    """A stored receipt, and its words. ``key``: the one that verifies it."""

    row: Mapping[str, Any]
    receipt: Receipt
    key: ReceiptKey | None


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of :mod:`services.audit.store_recalls`."""

    recall: Mapping[str, Any]
    copies: Sequence[Mapping[str, Any]]
    told: Sequence[Mapping[str, Any]]
    fetched: Sequence[Mapping[str, Any]]
    receipts: Sequence[Mapping[str, Any]]
    keys: Sequence[Mapping[str, Any]]
    custody: Sequence[Mapping[str, Any]] = ()
    moves: Sequence[Mapping[str, Any]] = ()


def entry(row: Mapping[str, Any]) -> RecallEntry:
    now: datetime = row["now"]
    names = ("recall_id", "la_code", "plan_id", "case_reference", "reason", "version", "notice", "recorded_by", "recorded_at",
             "aware_at", "words", "copies", "outstanding")  # fmt: skip
    return RecallEntry(
        **{name: row[name] for name in names}, version_id=row["thing_id"], report_by=report_by(row),
        hours_since_aware=max(0, int((now - row["aware_at"]).total_seconds() // 3600)),
    )  # fmt: skip


def report_by(row: Mapping[str, Any]) -> datetime:
    """By the law of the day on which the recall was recorded."""
    return clock(CLOCK, london_date(row["recorded_at"])).ends(row["aware_at"])


def pack(found: Found, made_by: str) -> BreachPack:
    recall = found.recall
    now: datetime = recall["now"]
    until = report_by(recall)
    known = [key for row in found.keys if (key := _key(row)) is not None]
    said = [_read(row, known) for row in found.receipts]
    recipients = tuple(_recipient(row, found.told, found.fetched, said) for row in found.copies)
    used = {receipt.key for each in recipients for receipt in each.receipts}
    return BreachPack(
        recall=entry(recall), council=recall["council"],
        law=clock(CLOCK, london_date(recall["recorded_at"])).reference, made_at=now, made_by=made_by,
        minutes_since_aware=max(0, int((now - recall["aware_at"]).total_seconds() // 60)),
        minutes_left=max(0, int((until - now).total_seconds() // 60)),
        recipients=recipients, keys={row["subscriber"]: row["receipt_key"] for row in found.copies},
        receipt_keys=tuple(key for key in known if key.fingerprint in used),
        earlier_councils=tuple(_before(row, recipients) for row in found.custody),
        to_be_asked=tuple(_ELSEWHERE[row["type"]].format(day=row["happened_on"]) for row in found.moves),
        how_to_verify=HOW_TO_VERIFY,
    )  # fmt: skip


def _key(row: Mapping[str, Any]) -> ReceiptKey | None:
    """None for a broken entry, which verified nothing."""
    try:
        import_key(row["key"])
    except ValueError:
        return None
    return ReceiptKey(**row, fingerprint=fingerprint(row["key"]))


def _before(row: Mapping[str, Any], recipients: Sequence[RecalledFrom]) -> CouncilBefore:
    came = sum(receipt.la_code == row["la_code"] for each in recipients for receipt in each.receipts)
    return CouncilBefore(**row, receipts=came)


def _read(row: Mapping[str, Any], known: Sequence[ReceiptKey]) -> Said:
    for key in known:
        if key.subscriber == row["subscriber"] and held(key.valid_from, key.valid_until, row["received_at"]):
            try:
                return Said(row, verify(row["signed"], import_key(key.key)), key)
            except ReceiptError:
                continue
    return Said(row, words(row["signed"]), None)


def _recipient(
    copy: Mapping[str, Any], told: Sequence[Mapping[str, Any]], fetched: Sequence[Mapping[str, Any]], said: Sequence[Said]
) -> RecalledFrom:
    mine = [each for each in said if (each.row["share_id"], each.row["subscriber"]) == (copy["share_id"], copy["subscriber"])]
    of_share = [row for row in told if row["share_id"] == copy["share_id"]]
    code = of_share[-1]["recipient"] if of_share else {"scheme": "", "value": ""}
    copies = [_copy(thing, copy, of_share, fetched, mine) for thing in _in_order(copy["things"], of_share)]
    shown = [
        each for each in mine
        if each.receipt.seq >= copy["seq"] or (each.receipt.version_id in copy["things"] and each.receipt.status in _ARRIVED)
    ]  # fmt: skip
    return RecalledFrom(
        share_id=copy["share_id"], recipient=copy["recipient_name"], recipient_kind=copy["recipient_kind"],
        code=f"{code['scheme']}:{code['value']}", channel=copy["channel"], subscriber=copy["subscriber"],
        hosted_by=copy["hosted_by"], former=copy["former"], copies=tuple(copies), removal=_removal(copy, mine),
        receipts=tuple(_signed(each) for each in shown),
    )  # fmt: skip


def _in_order(things: Sequence[UUID], told: Sequence[Mapping[str, Any]]) -> list[UUID]:
    """As they were first told; what was never told of is not among them."""
    return [thing for thing in dict.fromkeys(row["thing_id"] for row in told) if thing in things]


def _copy(
    thing: UUID, copy: Mapping[str, Any], told: Sequence[Mapping[str, Any]], fetched: Sequence[Mapping[str, Any]],
    said: Sequence[Said],
) -> CopyOf:  # fmt: skip
    first, *more = [row for row in told if row["thing_id"] == thing]
    last = more[-1] if more else first
    arrived = [each.receipt for each in said if each.receipt.version_id == thing and each.receipt.status in _ARRIVED]
    best = arrived[-1] if arrived else None
    return CopyOf(
        version_id=thing, version=last["version"], notice=last["notice"], issued_on=last["issued_on"], sha256=last["sha256"],
        sections=tuple(last["sections"] or ()), whole=last["whole"], shared_by=first["told_by"],
        instructed_at=first["requested_at"],
        fetched=tuple(
            Fetched(at=row["at"], by=row["actor"])
            for row in fetched
            if (row["share_id"], row["version_id"]) == (copy["share_id"], thing)
            and row["subscriber"] in (None, copy["subscriber"])
        ),
        held_since=arrived[0].at if arrived else None, held_as=best and best.status, record=best and best.record,
        opened=tuple(Opened(at=each.at, by=each.opened_by) for each in openings(arrived)),
    )  # fmt: skip


def _removal(copy: Mapping[str, Any], said: Sequence[Said]) -> Removal:
    proof = next((each.receipt for each in said if each.receipt.number == copy["proof"]), None)
    since = [each.receipt for each in said if each.receipt.seq >= copy["seq"]]
    newest = max(since, key=lambda receipt: (receipt.seq, receipt.number), default=None)
    state: CopyState = "removed" if copy["proof"] is not None else "wanted_again" if copy["wanted"] else "outstanding"
    waits = newest if state == "outstanding" else None
    return Removal(
        asked_at=copy["asked_at"], due_at=copy["due_at"], seq=copy["seq"], state=state, at=proof and proof.at,
        proof=proof and (proof.removal or proof.record), last_said=waits and waits.status, reason=waits and waits.reason,
    )  # fmt: skip


def _signed(said: Said) -> SignedReceipt:
    row = said.row
    return SignedReceipt(
        number=row["number"], seq=row["seq"], status=said.receipt.status, at=said.receipt.at, received_at=row["received_at"],
        signed=bytes(row["signed"]).decode(), signature="good" if said.key else "other-key",
        key=said.key and said.key.fingerprint, la_code=row["la_code"],
    )  # fmt: skip
