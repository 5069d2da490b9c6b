"""A breach pack as files: the signed document, and beside it what people and other tools open first.

Invariant: every other file of the archive follows from ``pack.json`` byte for byte, so that the council's one signature covers
all of it, and a changed byte anywhere is noticed.
"""

import csv
import io
import zipfile
from typing import Any

import orjson
from joserfc.jwk import OKPKey

from services.shared.identity.keys import import_key
from services.shared.identity.receipts import ReceiptError, verify
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
            files = {name: packed.read(name) for name in packed.namelist()}
        signed = files.pop(PACK)
        expected = _beside(orjson.loads(signed)["document"])
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, IndexError):
        raise SignedDocumentError("This is no breach pack, or a damaged one.") from None
    if wrong := sorted(name for name in files.keys() | expected.keys() if files.get(name) != expected.get(name)):
        raise SignedDocumentError(
            f"{wrong[0]} in the archive is not what the signed {PACK} says: it was changed, or written by another version of "
            f"ehcp. {PACK} can be verified by itself."
        )
    return signed


def check_receipts(document: dict[str, Any]) -> int:
    """Verify every receipt of a pack with its subscriber's key; returns how many. Raises :class:`SignedDocumentError`."""
    checked = 0
    for recipient in document["recipients"]:
        for receipt in recipient["receipts"]:
            if receipt["signature"] != "good":
                continue
            try:
                said = verify(receipt["signed"].encode(), _key(document, recipient["subscriber"]))
            except (ReceiptError, KeyError, ValueError):
                raise SignedDocumentError(
                    f"Receipt {receipt['number']} of {recipient['recipient']} is not signed by {recipient['subscriber']}."
                ) from None
            if (str(said.share_id), said.number) != (recipient["share_id"], receipt["number"]):
                raise SignedDocumentError(f"Receipt {receipt['number']} of {recipient['recipient']} is another one.")
            checked += 1
    return checked


def table(document: dict[str, Any]) -> str:
    """One line for each copy, as CSV."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    for row in rows(document):
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return file.getvalue()


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
    for name, key in document["keys"].items():
        files[f"keys/{name}.jwk"] = orjson.dumps(key, option=orjson.OPT_SORT_KEYS)
    for recipient in document["recipients"]:
        for receipt in recipient["receipts"]:
            place = f"receipts/{recipient['subscriber']}/{recipient['share_id']}-{receipt['number']}.jws"
            files[place] = receipt["signed"].encode()
    return files


def _readme(document: dict[str, Any]) -> str:
    recall = document["recall"]
    return (
        f"Breach pack of {document['council']}, plan {recall['case_reference']}, recall {recall['recall_id']}.\n"
        f"Made at {document['made_at']} by {document['made_by']}. Aware since {recall['aware_at']}; to be reported by "
        f"{recall['report_by']} ({document['law']}).\n\n"
        f"{PACK} is the signed document. The other files say the same for people and other tools: recipients.csv as a table,\n"
        f"receipts/ the subscribers' signed receipts as they came, keys/ the public keys that verify them.\n\n"
        f"{document['how_to_verify']}\n"
    )


def _cell(value: object) -> object:
    """A spreadsheet takes a text that begins like a formula for one."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def _key(document: dict[str, Any], subscriber: str) -> OKPKey:
    return import_key(document["keys"][subscriber])
