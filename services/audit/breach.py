"""A breach pack: who got what was recalled, when it was fetched, opened and removed, and the signed receipts that say so. Pure.

Invariant: every statement about a copy comes from an act of the council's ledger or from a receipt that is in the pack byte for
byte, so that it can be checked without the exchange. From here it is signed (``api``) and leaves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from schemas.breach import (
    BreachPack,
    CopyOf,
    CopyState,
    Fetched,
    Opened,
    RecalledFrom,
    RecallEntry,
    Removal,
    SignedReceipt,
)
from schemas.receipts import Receipt, Status
from services.audit import store_recalls
from services.shared.identity.receipts import ReceiptError, verify, words
from services.shared.law import clock
from services.shared.law.counting import london_date

KIND = "breach-pack"
CLOCK = "report_breach"
HOW_TO_VERIFY = (
    "`ehcp verify FILE` checks all of it without a network. By hand: signature.jws is a detached JWS (RFC 7515 appendix F, "
    "Ed25519) over the canonical JSON (RFC 8785) of `document`, made with the council's key for documents. Each `signed` in a "
    "recipient's `receipts` is a compact JWS (Ed25519) by the subscriber that `keys` names; its payload is the receipt."
)
_ARRIVED = frozenset({Status.SENT, Status.COLLECTED, Status.FILED, Status.OPENED})


@dataclass(frozen=True, slots=True)
class Said:
    """A stored receipt, and its words."""

    row: Mapping[str, Any]
    receipt: Receipt
    good: bool


def entry(row: Mapping[str, Any]) -> RecallEntry:
    now: datetime = row["now"]
    names = ("recall_id", "la_code", "plan_id", "case_reference", "reason", "version", "notice", "recorded_by", "recorded_at",
             "aware_at", "copies", "outstanding")  # fmt: skip
    return RecallEntry(
        **{name: row[name] for name in names}, version_id=row["thing_id"], report_by=report_by(row),
        hours_since_aware=max(0, int((now - row["aware_at"]).total_seconds() // 3600)),
    )  # fmt: skip


def report_by(row: Mapping[str, Any]) -> datetime:
    """By the law of the day on which the recall was recorded."""
    return clock(CLOCK, london_date(row["recorded_at"])).ends(row["aware_at"])


def pack(
    recall: Mapping[str, Any], copies: Sequence[Mapping[str, Any]], told: Sequence[Mapping[str, Any]],
    fetched: Sequence[Mapping[str, Any]], receipts: Sequence[Mapping[str, Any]], made_by: str,
) -> BreachPack:  # fmt: skip
    """From the rows of :mod:`services.audit.store_recalls`."""
    now: datetime = recall["now"]
    until = report_by(recall)
    keys = {row["subscriber"]: store_recalls.key_of(row) for row in copies}
    said = [_read(row, keys) for row in receipts]
    return BreachPack(
        recall=entry(recall), council=recall["council"],
        law=clock(CLOCK, london_date(recall["recorded_at"])).reference, made_at=now, made_by=made_by,
        minutes_since_aware=max(0, int((now - recall["aware_at"]).total_seconds() // 60)),
        minutes_left=max(0, int((until - now).total_seconds() // 60)),
        recipients=tuple(_recipient(row, told, fetched, said) for row in copies), keys=keys, how_to_verify=HOW_TO_VERIFY,
    )  # fmt: skip


def _read(row: Mapping[str, Any], keys: Mapping[str, dict[str, Any]]) -> Said:
    try:
        key = OKPKey.import_key(keys[row["subscriber"]])
        return Said(row, verify(row["signed"], key), good=True)
    except (KeyError, JoseError, ValueError, ReceiptError):
        return Said(row, words(row["signed"]), good=False)


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
        sections=tuple(last["sections"] or ()), whole=last["whole"], instructed_at=first["requested_at"],
        fetched=tuple(
            Fetched(at=row["at"], by=row["actor"])
            for row in fetched
            if (row["share_id"], row["version_id"]) == (copy["share_id"], thing)
            and row["subscriber"] in (None, copy["subscriber"])
        ),
        held_since=arrived[0].at if arrived else None, held_as=best and best.status, record=best and best.record,
        opened=tuple(Opened(at=each.at, by=each.opened_by) for each in arrived if each.status is Status.OPENED),
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
        signed=bytes(row["signed"]).decode(), signature="good" if said.good else "other-key",
    )  # fmt: skip
