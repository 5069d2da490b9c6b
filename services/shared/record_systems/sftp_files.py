"""What lies in a recipient's SFTP folder, by name and content, and what a receipt there proves. Pure; moved by ``sftp.py``.

A delivery is a few files of one name: the document, the attachments, and last a JSON file that describes them, so that who
sees the JSON sees all. The name holds plan, version and rendering and nothing about the child; the same delivery has the same
name. A receipt is a JSON file of that name in ``receipts/``, written by the recipient's own system; what lies there is what it
says that it holds. ``docs/channels/sftp.md`` describes both for those who receive them.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal, TypeVar
from urllib.parse import quote
from uuid import UUID

import orjson
from pydantic import AfterValidator, Field, ValidationError

from schemas.base import Open
from schemas.manifest import Manifest, NotCanonicalError, Sha256
from services.shared.json import dumps
from services.shared.record_systems.port import Content, File, Filed, Held, Recall, Recipient, Refused, Removed, Withdrawal
from services.shared.record_systems.webhook_messages import RECALLED, WITHDRAWN, delivered_type, described, recipient_code

RECEIPTS = "receipts"
ASIDE = ".part"
_HASH_DIGITS = 8
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}")
_ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_VERSION = re.compile(rf"plan-({_ID})-v([0-9]{{1,10}})-({_ID})-[0-9a-f]{{{_HASH_DIGITS}}}\.json")
_NOTICE = re.compile(rf"notice-({_ID})-[0-9a-f]{{{_HASH_DIGITS}}}\.json")
_THING = re.compile(rf"(?:plan-{_ID}-v[0-9]{{1,10}}|notice)-({_ID})-[0-9a-f]{{{_HASH_DIGITS}}}[-.].*")


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("not printable")
    return text


_Record = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]


@dataclass(frozen=True, slots=True)
class Upload:
    """One file, to be written under ``name`` in the recipient's folder."""

    name: str
    data: bytes


class _Receipt(Open):
    """What a recipient's system says of one delivery. Free text of theirs is never read: it could hold anything."""

    outcome: Literal["filed", "refused"]
    share_id: UUID | None = None
    record: _Record | None = None
    manifest: Manifest | None = None
    files: Mapping[str, Sha256] = Field(default_factory=dict)


class _Mark(Open):
    seq: int


class _OfShare(Open):
    share_id: UUID


class _Removal(Open):
    """What it says of a recall."""

    outcome: Literal["removed"]
    record: _Record


def folder(recipient: Recipient) -> str:
    """A recipient's own folder: ``ods-RNA``, ``camhs-ods-RNA``. Whatever a code holds, it is one step down and no other's."""
    return _folder_of_code(recipient) if str(recipient) == recipient.code else f"{recipient.kind}-{_folder_of_code(recipient)}"


def former_folder(recipient: Recipient) -> str | None:
    """Where version 0.1 put what is for one who shares another's code: into that one's folder. What lies there is this
    recipient's only where it names the share."""
    return None if str(recipient) == recipient.code else _folder_of_code(recipient)


def _folder_of_code(recipient: Recipient) -> str:
    return f"{recipient.scheme}-{quote(recipient.value, safe='')}"


def delivery_name(content: Content) -> str:
    thing = "notice" if content.notice else f"plan-{content.plan_id}-v{content.version}"
    return f"{thing}-{content.version_id}-{content.sha256[:_HASH_DIGITS]}"


def receipt_path(recipient: Recipient, name: str) -> str:
    return f"{folder(recipient)}/{RECEIPTS}/{name}.json"


def names_share(described: bytes, share_id: UUID) -> bool:
    """Whether a delivery's JSON, or a receipt, is of this share."""
    told = _read(_OfShare, described)
    return told is not None and told.share_id == share_id


def withdrawn_name(plan_id: UUID, share_id: UUID) -> str:
    return f"plan-{plan_id}-withdrawn-{share_id}"


def recalled_name(recall: Recall) -> str:
    return f"plan-{recall.plan_id}-recalled-{recall.share_id}-{recall.seq}"


def uploads(content: Content) -> list[Upload]:
    """In the order in which they are to appear; the JSON last."""
    name = delivery_name(content)
    names = _file_names(name, content.manifest)
    sent = [file for file in (content.document, *content.attachments) if file]
    files = [Upload(each, file.data) for each, file in zip(names, sent, strict=True)]
    listed = [_listed(each, file) for each, file in zip(names, sent, strict=True)]
    event = {
        "type": delivered_type(content), "share_id": content.share_id, "seq": content.seq, "plan_id": content.plan_id,
        **described(content),
        "document": listed[0] if content.document else None,
        "attachments": listed[1:] if content.document else listed,
        "receipt": f"{RECEIPTS}/{name}.json",
    }  # fmt: skip
    return [*files, Upload(f"{name}.json", dumps(event))]


def withdrawn(withdrawal: Withdrawal) -> Upload:
    """No further version will come; the receiver marks its copy and keeps it under its own retention."""
    event = {"type": WITHDRAWN, **_about(withdrawal)}
    return Upload(f"{withdrawn_name(withdrawal.plan_id, withdrawal.share_id)}.json", dumps(event))


def seq_of(mark: bytes) -> int:
    """Of what :func:`withdrawn` wrote; 0 when somebody else wrote there."""
    told = _read(_Mark, mark)
    return told.seq if told is not None else 0


def recalled(recall: Recall) -> Upload:
    """These versions should never have come; the receiver removes them everywhere and says so."""
    name = recalled_name(recall)
    event = {"type": RECALLED, **_about(recall), "versions": recall.versions, "receipt": f"{RECEIPTS}/{name}.json"}
    return Upload(f"{name}.json", dumps(event))


def is_of(file_name: str, versions: Collection[UUID]) -> bool:
    """Whether a file in a recipient's folder belongs to a delivery of one of these versions, or notices."""
    match = _THING.fullmatch(file_name)
    return match is not None and UUID(match[1]) in versions


def _about(thing: Withdrawal | Recall) -> dict[str, object]:
    return {
        "share_id": thing.share_id, "seq": thing.seq, "plan_id": thing.plan_id, "recipient": recipient_code(thing.recipient),
    }  # fmt: skip


def proved(receipt: bytes, name: str, sha256: str) -> Filed | Refused | None:
    """What a receipt for the delivery ``name`` says of the rendering ``sha256``; None when it says nothing that counts.

    Filed needs the manifest, which the instruction's own hash binds, and the hash of each file as the receiver stored it:
    neither can be had without having read what was sent.
    """
    told = _read(_Receipt, receipt)
    if told is None:
        return None
    if told.outcome == "refused":
        return Refused("the recipient's receipt says that it was refused")
    if told.manifest is None or told.record is None or _hash(told.manifest) != sha256:
        return None
    if not _files_fit(told.manifest, name, told.files):
        return Refused("the recipient's receipt gives another hash for a file than was sent")
    return Filed(told.record, sha256)


def removed(receipt: bytes) -> Removed | None:
    """What a receipt for a recall says."""
    told = _read(_Removal, receipt)
    return None if told is None else Removed(told.record)


def plan_and_version(file_name: str) -> tuple[UUID, int] | None:
    """Of a receipt's file name; None when it is for no version of a plan."""
    match = _VERSION.fullmatch(file_name)
    return (UUID(match[1]), int(match[2])) if match else None


def notice(file_name: str) -> UUID | None:
    """Of a receipt's file name; None when it is for no notice."""
    match = _NOTICE.fullmatch(file_name)
    return UUID(match[1]) if match else None


def held(receipt: bytes, file_name: str, present: Collection[str]) -> Held | None:
    """What a receipt says is held; None unless it proves it by itself. ``present``: the names in the recipient's folder."""
    told = _read(_Receipt, receipt)
    if told is None or told.outcome != "filed" or told.manifest is None or told.record is None:
        return None
    name, sha, manifest = file_name.removesuffix(".json"), _hash(told.manifest), told.manifest
    # A receipt under another's name is none: the name tells plan, version and the beginning of the rendering's hash.
    if sha is None or not name.endswith(sha[:_HASH_DIGITS]) or not is_of(file_name, [manifest.version_id]):
        return None
    if (named := plan_and_version(file_name)) is not None and named[0] != manifest.plan_id:
        return None
    marked = told.share_id is not None and f"{withdrawn_name(manifest.plan_id, told.share_id)}.json" in present
    intact = _files_fit(manifest, name, told.files)
    return Held(manifest.version_id, sha, told.record, withdrawn=marked, intact=intact)


_Model = TypeVar("_Model", bound=Open)


def _read(model: type[_Model], receipt: bytes) -> _Model | None:
    try:
        return model.model_validate(orjson.loads(receipt))
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
