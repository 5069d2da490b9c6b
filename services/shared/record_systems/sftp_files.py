"""What lies in a recipient's SFTP folder, by name and content, and what a receipt there proves. Pure; moved by ``sftp.py``.

A delivery is a few files of one name: the document, the attachments, and last a JSON file that describes them, so that who
sees the JSON sees all. The name holds plan, version and rendering and nothing about the child; the same delivery has the same
name and the same bytes. A receipt is a JSON file of that name in ``receipts/``, written by the recipient's own system:
``docs/channels/sftp.md`` describes both for those who receive them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import quote
from uuid import UUID

import orjson
from pydantic import Field, ValidationError

from schemas.base import Open
from schemas.manifest import Manifest, NotCanonicalError, Sha256
from services.shared.json import dumps
from services.shared.record_systems.port import Content, File, Filed, Held, Recipient, Refused, Withdrawal
from services.shared.record_systems.webhook_messages import DELIVERED, WITHDRAWN, described, recipient_code

RECEIPTS = "receipts"
ASIDE = ".part"
_HASH_DIGITS = 16
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}")
_NAME = re.compile(r"plan-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-v([0-9]{1,10})-[0-9a-f]{16}\.json")


@dataclass(frozen=True, slots=True)
class Upload:
    """One file, to be written under ``name`` in the recipient's folder."""

    name: str
    data: bytes


class _Receipt(Open):
    """What a recipient's system says of one delivery. Free text of theirs is never read: it could hold anything."""

    outcome: Literal["filed", "refused"]
    record: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    manifest: Manifest | None = None
    files: Mapping[str, Sha256] = Field(default_factory=dict)


def folder(recipient: Recipient) -> str:
    """A recipient's own folder: ``ods-RNA``. Whatever a code holds, it is one step down and no other's."""
    return f"{recipient.scheme}-{quote(recipient.value, safe='')}"


def delivery_name(content: Content) -> str:
    return f"plan-{content.plan_id}-v{content.version}-{content.sha256[:_HASH_DIGITS]}"


def receipt_path(recipient: Recipient, name: str) -> str:
    return f"{folder(recipient)}/{RECEIPTS}/{name}.json"


def uploads(content: Content) -> list[Upload]:
    """In the order in which they are to appear; the JSON last."""
    name = delivery_name(content)
    names = _file_names(name, content.manifest)
    sent = [file for file in (content.document, *content.attachments) if file]
    files = [Upload(each, file.data) for each, file in zip(names, sent, strict=True)]
    listed = [_listed(each, file) for each, file in zip(names, sent, strict=True)]
    event = {
        "type": DELIVERED, "share_id": content.share_id, "seq": content.seq, "plan_id": content.plan_id,
        **described(content),
        "document": listed[0] if content.document else None,
        "attachments": listed[1:] if content.document else listed,
        "receipt": f"{RECEIPTS}/{name}.json",
    }  # fmt: skip
    return [*files, Upload(f"{name}.json", dumps(event))]


def withdrawn(withdrawal: Withdrawal) -> Upload:
    """No further version will come; the receiver marks its copy and keeps it under its own retention."""
    event = {
        "type": WITHDRAWN, "share_id": withdrawal.share_id, "seq": withdrawal.seq, "plan_id": withdrawal.plan_id,
        "recipient": recipient_code(withdrawal.recipient),
    }  # fmt: skip
    return Upload(f"plan-{withdrawal.plan_id}-withdrawn-{withdrawal.seq}.json", dumps(event))


def proved(receipt: bytes, name: str, sha256: str) -> Filed | Refused | None:
    """What a receipt for the delivery ``name`` says of the rendering ``sha256``; None when it says nothing that counts.

    Filed needs the manifest, which the instruction's own hash binds, and the hash of each file as the receiver stored it:
    neither can be had without having read what was sent.
    """
    told = _read(receipt)
    if told is None:
        return None
    if told.outcome == "refused":
        return Refused("the recipient's receipt says that it was refused")
    if told.manifest is None or told.record is None or not told.record.isprintable() or _hash(told.manifest) != sha256:
        return None
    if not _files_fit(told.manifest, name, told.files):
        return Refused("the recipient's receipt gives another hash for a file than was sent")
    return Filed(told.record, sha256)


def plan_and_version(file_name: str) -> tuple[UUID, int] | None:
    """Of a receipt's file name."""
    match = _NAME.fullmatch(file_name)
    return (UUID(match[1]), int(match[2])) if match else None


def held(receipt: bytes, file_name: str) -> Held | None:
    """What a receipt says is held; None unless it proves it by itself."""
    name = file_name.removesuffix(".json")
    told = _read(receipt)
    if told is None or told.manifest is None or (sha := _hash(told.manifest)) is None:
        return None
    # The name holds the beginning of the rendering's hash, so that a receipt under another's name is none.
    if not name.endswith(sha[:_HASH_DIGITS]) or not isinstance(filed := proved(receipt, name, sha), Filed):
        return None
    return Held(told.manifest.version_id, sha, filed.record)


def _read(receipt: bytes) -> _Receipt | None:
    try:
        return _Receipt.model_validate(orjson.loads(receipt))
    except (orjson.JSONDecodeError, ValidationError):
        return None


def _hash(manifest: Manifest) -> str | None:
    try:
        return manifest.hash()
    except NotCanonicalError:
        return None


def _files_fit(manifest: Manifest, name: str, stored: Mapping[str, Sha256]) -> bool:
    entries = [entry for entry in (manifest.document, *manifest.attachments) if entry]
    names = _file_names(name, manifest)
    return all(stored.get(each) == entry.sha256 for each, entry in zip(names, entries, strict=True))


def _file_names(name: str, manifest: Manifest) -> Sequence[str]:
    """``name.pdf`` for the document, ``name-1.pdf`` and so on for the attachments."""
    document = [f"{name}{_suffix(manifest.document.name)}"] if manifest.document else []
    return document + [f"{name}-{i}{_suffix(entry.name)}" for i, entry in enumerate(manifest.attachments, 1)]


def _suffix(file_name: str) -> str:
    suffix = PurePosixPath(file_name).suffix
    # Never .json or .part: those have a meaning here.
    return suffix.lower() if _SUFFIX.fullmatch(suffix) and suffix.lower() not in (".json", ASIDE) else ".bin"


def _listed(name: str, file: File) -> dict[str, object]:
    """``file`` is its name here; ``name`` the one that people know it by."""
    return {
        "file": name, "name": file.name, "media_type": file.media_type, "size": len(file.data), "sha256": file.sha256,
    }  # fmt: skip
