"""A breach pack as files: the signed document, and beside it what people and other tools open first.

Invariant: every other file of the archive follows from ``pack.json`` byte for byte, so that the council's one signature covers
all of it, and a changed byte anywhere is noticed.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from joserfc.jwk import OKPKey

from schemas.receipts import Receipt, Status, openings
from services.cli.exported import BROKEN_ZIP
from services.cli.output import csv_of
from services.shared.identity.keys import import_key
from services.shared.identity.receipts import ReceiptError, held, verify, words
from services.shared.identity.signed_documents import SignedDocumentError

KIND = "breach-pack"
PACK = "pack.json"
COLUMNS = (
    "recipient", "recipient_kind", "code", "subscriber", "hosted_by", "channel", "version", "notice", "version_id", "sha256",
    "sections", "instructed_at", "fetched_at", "fetched_by", "held_since", "held_as", "opened", "removal_asked_at", "removal",
    "removed_at", "proof", "share_id",
)  # fmt: skip
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Of every entry, so that one pack is one archive."""


def archive(signed: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as written:
        for name, data in {PACK: signed, **_beside(orjson.loads(signed)["document"])}.items():
            written.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def opened(data: bytes) -> bytes:
    """The signed document out of an archive. Raises :class:`SignedDocumentError` where a file does not follow from it."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            names = packed.namelist()
            files = {name: packed.read(name) for name in names}
        if len(names) != len(files):
            # Which of two of one name somebody is shown, their program decides.
            raise SignedDocumentError("A file is in the archive twice: it was changed.")
        signed = files.pop(PACK)
        expected = _beside(orjson.loads(signed)["document"])
    except (*BROKEN_ZIP, KeyError, ValueError, TypeError, AttributeError, IndexError):
        raise SignedDocumentError("This is no breach pack, or a damaged one.") from None
    if wrong := sorted(name for name in files.keys() | expected.keys() if files.get(name) != expected.get(name)):
        raise SignedDocumentError(
            f"{wrong[0]} in the archive is not what the signed {PACK} says: it was changed, or written by another version of "
            f"ehcp. {PACK} can be verified by itself."
        )
    return signed


@dataclass(frozen=True, slots=True)
class Checked:
    """``good``: receipts that are as their subscribers signed them. ``other_key``: those whose subscriber has another key now,
    so that only the council's word stands for them."""

    good: int
    other_key: int


def check_receipts(document: dict[str, Any]) -> Checked:
    """Verify every receipt of a pack with its subscriber's key, and that what the pack says of removal and opening is what they
    say. Raises :class:`SignedDocumentError`."""
    good = other_key = 0
    try:
        for recipient in document["recipients"]:
            said = []
            for receipt in recipient["receipts"]:
                if receipt["signature"] == "good":
                    good += 1
                    said.append(_verified(document, recipient, receipt))
                else:
                    other_key += 1
                    said.append(words(receipt["signed"].encode()))
            if not _borne_out(recipient, said):
                raise SignedDocumentError(
                    f"What is said of the copies of {recipient['recipient']} is not what its receipts say."
                )
        outstanding = sum(each["removal"]["state"] == "outstanding" for each in document["recipients"])
        if (document["recall"]["copies"], document["recall"]["outstanding"]) != (len(document["recipients"]), outstanding):
            raise SignedDocumentError("The figures in it are not those of its copies.")
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        raise SignedDocumentError("This is no breach pack, or a damaged one.") from None
    return Checked(good, other_key)


def _verified(document: dict[str, Any], recipient: dict[str, Any], receipt: dict[str, Any]) -> Receipt:
    try:
        said = verify(receipt["signed"].encode(), _key(document, recipient["subscriber"], receipt))
    except (ReceiptError, KeyError, ValueError):
        raise SignedDocumentError(
            f"Receipt {receipt['number']} of {recipient['recipient']} is not signed by {recipient['subscriber']}."
        ) from None
    if (str(said.share_id), said.number) != (recipient["share_id"], receipt["number"]):
        raise SignedDocumentError(f"Receipt {receipt['number']} of {recipient['recipient']} is another one.")
    return said


def _borne_out(recipient: dict[str, Any], said: Sequence[Receipt]) -> bool:
    removal, copies = recipient["removal"], recipient["copies"]
    things = {each["version_id"] for each in copies}
    if removal["state"] == "removed":
        at = datetime.fromisoformat(removal["at"])
        if not any(each.at == at and each.seq >= removal["seq"] and _proves(each, things) for each in said):
            return False
    for copy in copies:
        of_copy = sorted((each for each in said if str(each.version_id) == copy["version_id"]), key=lambda each: each.number)
        told = {(each.at, each.opened_by) for each in openings(of_copy)}
        if told != {(datetime.fromisoformat(each["at"]), each["by"]) for each in copy["opened"]}:
            return False
    return True


def _proves(said: Receipt, things: set[str]) -> bool:
    """That these versions or notices are gone: it says so. One that names neither what was removed nor what remains, as a
    subscriber that does not know these words: it answers the recall, or says that what comes after the removal is there."""
    removed, remaining = {str(each) for each in said.removed}, {str(each) for each in said.remaining}
    if removed or remaining:
        return things <= removed and not things & remaining
    return said.status is Status.RECALLED or (said.status in _HELD and str(said.version_id) not in things)


_HELD = (Status.SENT, Status.COLLECTED, Status.FILED, Status.OPENED, Status.WITHDRAWN, Status.RELEASED)


def table(document: dict[str, Any]) -> str:
    """One line for each copy, as CSV."""
    return csv_of(COLUMNS, rows(document))


def rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            **{name: recipient[name] for name in COLUMNS[:6]},
            **{name: copy[name] for name in ("version", "notice", "version_id", "sha256", "instructed_at", "held_since",
                                             "held_as")},
            "sections": "all" if copy["whole"] else " ".join(copy["sections"]),
            "fetched_at": copy["fetched"][0]["at"] if copy["fetched"] else None,
            "fetched_by": copy["fetched"][0]["by"] if copy["fetched"] else None,
            "opened": "; ".join(f"{each['at']} {each['by'] or ''}".strip() for each in copy["opened"]),
            "removal_asked_at": recipient["removal"]["asked_at"], "removal": recipient["removal"]["state"],
            "removed_at": recipient["removal"]["at"], "proof": recipient["removal"]["proof"],
            "share_id": recipient["share_id"],
        }
        for recipient in document["recipients"]
        for copy in recipient["copies"]
    ]  # fmt: skip


def _beside(document: dict[str, Any]) -> dict[str, bytes]:
    files = {"README.txt": _readme(document).encode(), "recipients.csv": table(document).encode()}
    keys = [(f"keys/{name}.jwk", key) for name, key in document["keys"].items()]
    keys += [(f"keys/{_file_of(each)}.jwk", each["key"]) for each in document.get("receipt_keys", ())]
    files |= {name: orjson.dumps(key, option=orjson.OPT_SORT_KEYS) for name, key in keys}
    for recipient in document["recipients"]:
        for receipt in recipient["receipts"]:
            place = f"receipts/{recipient['subscriber']}/{recipient['share_id']}-{receipt['number']}.jws"
            files[place] = receipt["signed"].encode()
    return files


def _file_of(key: dict[str, Any]) -> str:
    """Several of one subscriber are told apart by the beginning of their fingerprints."""
    return f"{key['subscriber']}-{key['fingerprint'].split()[0]}"


def _by(recall: dict[str, Any]) -> str:
    said = (f"{each['by']} at {each['recorded_at']} (aware at {each['aware_at']})" for each in recall.get("words", ()))
    named = "; ".join(said)
    return f" Recalled by {named}." if named else ""


def _readme(document: dict[str, Any]) -> str:
    recall = document["recall"]
    return (
        f"Breach pack of {document['council']}, plan {recall['case_reference']}, recall {recall['recall_id']}.\n"
        f"Made at {document['made_at']} by {document['made_by']}.{_by(recall)} "
        f"Aware since {recall['aware_at']}; to be reported by {recall['report_by']} ({document['law']}).\n\n"
        f"{PACK} is the signed document. The other files say the same for people and other tools: recipients.csv as a table,\n"
        f"receipts/ the subscribers' signed receipts as they came, keys/ the public keys that verify them.\n\n"
        f"{document['how_to_verify']}\n"
    )


def _key(document: dict[str, Any], subscriber: str, receipt: dict[str, Any]) -> OKPKey:
    """The one that the pack names for this receipt, which held when it came. Raises ``ValueError``."""
    if receipt.get("key") is None:  # a pack from before it carried replaced keys
        return import_key(document["keys"][subscriber])
    received = datetime.fromisoformat(receipt["received_at"])
    for each in document["receipt_keys"]:
        is_it = (each["subscriber"], each["fingerprint"]) == (subscriber, receipt["key"])
        if is_it and held(_time(each["valid_from"]), _time(each["valid_until"]), received):
            return import_key(each["key"])
    raise ValueError("no key of this subscriber held then")


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
