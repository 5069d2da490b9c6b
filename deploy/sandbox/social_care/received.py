"""Reads a delivered plan and proves it: the receiver's own hash of what came, from the bytes up. Pure.

Invariant: nothing of the sender's arithmetic is believed. Every hash that is part of the answer is computed here from the
sections and the files themselves; the manifest that came only says which parts there should be.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from schemas.manifest import NotCanonicalError, canonical, section_hash, sha256, without_empty

Json = dict[str, Any]


class WrongMessageError(Exception):
    """What was sent is no plan that can be kept. One sentence, without anything of the plan."""


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    role: str
    name: str
    media_type: str
    sha256: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Instruction:
    """Which share, which turn: what both kinds of message have."""

    share_id: UUID
    seq: int
    plan_id: UUID
    recipient: str
    """Scheme and value, e.g. ``la:332``."""


@dataclass(frozen=True, slots=True)
class ReceivedPlan:
    instruction: Instruction
    case_reference: str
    child: Json
    version_id: UUID
    version: int
    issued_on: str
    sections: Json
    files: tuple[ReceivedFile, ...]
    sha256: str
    """Computed here."""
    notice: Json | None = None
    """What a notice tells, where the message is one."""


@dataclass(frozen=True, slots=True)
class ReceivedRecall:
    instruction: Instruction
    versions: tuple[UUID, ...]


def read_recall(data: Json) -> ReceivedRecall:
    """Raises :class:`WrongMessageError`."""
    try:
        versions = tuple(UUID(version) for version in data["versions"])
    except (KeyError, TypeError, ValueError, AttributeError):
        versions = ()
    if not versions:
        raise WrongMessageError("versions is missing or malformed")
    return ReceivedRecall(read_instruction(data), versions)


def read_instruction(data: Json) -> Instruction:
    """Raises :class:`WrongMessageError`."""
    try:
        recipient = data["recipient"]
        seq = data["seq"]
        if not isinstance(seq, int) or seq < 1:
            raise WrongMessageError("seq is not a positive whole number")
        return Instruction(UUID(data["share_id"]), seq, UUID(data["plan_id"]), _named(recipient))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise WrongMessageError("share_id, seq, plan_id or recipient is missing or malformed") from None


def _named(recipient: Json) -> str:
    """Whose cases it belongs to: the council's services share its code, and each has its own."""
    code = f"{recipient['scheme']}:{recipient['value']}"
    return code if recipient["kind"] == "social_care" else f"{recipient['kind']}/{code}"


def read_plan(data: Json) -> ReceivedPlan:
    """Raises :class:`WrongMessageError` when the parts do not add up to the hash that they came with."""
    instruction = read_instruction(data)
    try:
        files = _files(data)
        plan = ReceivedPlan(
            instruction=instruction,
            case_reference=str(data["case_reference"]),
            child=dict(data["child"]),
            version_id=UUID(data["version_id"]),
            version=int(data["version"]),
            issued_on=str(data["issued_on"]),
            sections=dict(data["sections"]),
            files=files,
            sha256=sha256(canonical(without_empty(_manifest(data, files)))),
            notice=dict(data["notice"]) if data.get("notice") else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError, NotCanonicalError, RecursionError):
        raise WrongMessageError("the plan is incomplete or malformed") from None
    if plan.sha256 != data.get("sha256"):
        raise WrongMessageError("the parts of the plan do not add up to its hash")
    return plan


def _files(data: Json) -> tuple[ReceivedFile, ...]:
    document = data.get("document")
    came = [("document", document)] if document else []
    came += [("attachment", each) for each in data.get("attachments") or []]
    return tuple(_file(role, each) for role, each in came)


def _file(role: str, came: Json) -> ReceivedFile:
    try:
        content = base64.b64decode(came["data"], validate=True)
    except binascii.Error:
        raise WrongMessageError("a file is not base64") from None
    return ReceivedFile(role, str(came["name"]), str(came["media_type"]), sha256(content), content)


def _manifest(data: Json, files: tuple[ReceivedFile, ...]) -> Json:
    """The manifest as it must be for these parts. Members that a newer contract may add to it are taken over."""
    documents = [each for each in files if each.role == "document"]
    attachments = [each for each in files if each.role == "attachment"]
    came = dict(data["manifest"])
    return came | {
        "plan_id": str(UUID(data["plan_id"])),
        "version_id": str(UUID(data["version_id"])),
        "issued_on": str(data["issued_on"]),
        "sections": {letter: section_hash(section) for letter, section in data["sections"].items()},
        "notice": sha256(canonical(without_empty(data["notice"]))) if data.get("notice") else None,
        "document": _entry(came.get("document"), documents[0]) if documents else None,
        "attachments": [_entry(entry, each) for entry, each in zip(came.get("attachments") or [], attachments, strict=True)],
    }


def _entry(came: Json | None, file: ReceivedFile) -> Json:
    computed = {"name": file.name, "media_type": file.media_type, "size": len(file.data), "sha256": file.sha256}
    return (came or {}) | computed
