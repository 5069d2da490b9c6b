"""What a MESH message says, and what comes back. Pure; sent and fetched by ``mesh_mailbox.py`` for ``mesh.py``.

A message is a FHIR R4 message Bundle. Its id, the message's local id at MESH, comes from (share, ``seq``), which names one
wish and no other, so a message that is sent again is the same one, byte for byte, and a receiver that takes in each Bundle id
once needs no other care: MESH itself lets through whatever is sent twice. A receiver proves filing with a message of its own
that names ours in ``MessageHeader.response`` and gives the SHA-256 of every file as it lies in its record.
``docs/adr/0011-mesh.md`` shows both.

Sources: R4 messaging (https://hl7.org/fhir/R4/messaging.html), the NHS England MESH API's headers and error codes.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from enum import StrEnum
from uuid import UUID, uuid5

import orjson

from schemas.notices import Notice
from schemas.plan import Child
from services.health_subscriber import mapping, notices
from services.health_subscriber.mapping import Part, Resource
from services.health_subscriber.matching import NHS_NUMBER
from services.shared.json import dumps
from services.shared.record_systems.port import Content, Recall, Recipient, Withdrawal

CONTENT_TYPE = "application/fhir+json"
MESSAGE_EVENT = "urn:ehcp:message-event"
"""Code system of ``MessageHeader.eventCoding``."""
SHA256 = "urn:ehcp:sha256"
"""Extension on ``Attachment``: SHA-256, in hex, of the file's bytes. R4's own ``hash`` is SHA-1."""
UNDELIVERED = "14"
"""MESH's error code of a report: not collected within five days."""

# Fixes the ids of messages for ever; another value here would let a receiver file what it has.
_NAMESPACE = UUID("3a7f0a0e-93a5-5d0e-8a2c-5b6f6e0f6c11")


class Event(StrEnum):
    """What a message is about; each has a workflow id of its own at MESH."""

    PLAN = "plan-version"
    NOTICE = "plan-notice"
    WITHDRAWN = "plan-withdrawn"
    RECALLED = "plan-recalled"
    RECEIPT = "receipt"


class About(StrEnum):
    """The same, as the books have it."""

    CONTENT = "content"
    WITHDRAWAL = "withdrawal"
    RECALL = "recall"


@dataclass(frozen=True, slots=True)
class Message:
    local_id: UUID
    event: Event
    body: bytes


@dataclass(frozen=True, slots=True)
class Mailboxes:
    """The sender's and the receiver's mailbox at MESH."""

    ours: str
    theirs: str


def message_id(what: Content | Withdrawal | Recall, about: About) -> UUID:
    """Not of the version: the same version goes again when the child was corrected, or the share withdrawn in between."""
    return uuid5(_NAMESPACE, f"{what.share_id} {what.seq} {about}")


def parts_of(content: Content) -> tuple[Part, ...]:
    """The files that go with it: none only where there is nothing to send, or of a notice, whose text is in the message."""
    return mapping.parts(content) if content.notice is None else notices.parts(content)


def proofs_of(content: Content, parts: Sequence[Part]) -> list[str]:
    """What a receipt must give back: SHA-256 of each file, and of a notice's text."""
    text = [_text_hash(notices.text(content.notice))] if content.notice is not None else []
    return sorted([*text, *(part.sha256 for part in parts)])


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def delivered(content: Content, parts: Sequence[Part], mailboxes: Mailboxes) -> Message:
    """The plan, or the notice, with every file whole."""
    local_id = message_id(content, About.CONTENT)
    event = Event.NOTICE if content.notice is not None else Event.PLAN
    patient = uuid5(local_id, "patient")
    files = {part.number: uuid5(part.key, "binary") for part in parts}
    # The day of issue, not of sending: the same message must have the same bytes.
    at = datetime.combine(content.issued_on, time(), UTC)
    if content.notice is not None:
        focus = [_notice(content, content.notice, parts, _urn(patient), [_urn(each) for each in files.values()], at)]
    else:
        focus = [_document(content, part, parts, _urn(patient), _urn(files[part.number]), at) for part in parts]
    header = _header(local_id, event, content.recipient, mailboxes)
    header["sender"] = header["responsible"] = mapping.council_of(content)
    header["focus"] = [{"reference": _urn(key)} for key, _ in focus]
    binaries = [(files[part.number], mapping.binary(part, _urn(patient), str(files[part.number]))) for part in parts]
    entries = [(local_id, header), (patient, _patient(content.child)), *focus, *binaries]
    return Message(local_id, event, _bundle(local_id, entries))


def _document(
    content: Content, part: Part, parts: Sequence[Part], patient: str, url: str, at: datetime
) -> tuple[UUID, Resource]:
    document = mapping.document_reference(
        content, part, patient=patient, binary_url=url, filed_at=at, relates_to=_related(content, part, parts)
    )
    document["content"][0]["attachment"]["extension"] = [_proof(part.sha256)]
    return part.key, document


def _notice(
    content: Content, notice: Notice, parts: Sequence[Part], patient: str, urls: Sequence[str], at: datetime
) -> tuple[UUID, Resource]:
    about = {"identifier": {"system": mapping.PLAN, "value": str(content.plan_id)}}
    communication = notices.communication(content, notice, patient, about, urls, at)
    text, *attached = communication["payload"]
    text["extension"] = [_proof(_text_hash(text["contentString"]))]
    for each, part in zip(attached, parts, strict=True):
        each["contentAttachment"]["extension"] = [_proof(part.sha256)]
    return mapping.document_key(content), communication


def _proof(sha256: str) -> Resource:
    return {"url": SHA256, "valueString": sha256}


def withdrawn(withdrawal: Withdrawal, mailboxes: Mailboxes) -> Message:
    """No further version will come; mark the copy, keep it as long as your own rules say."""
    return _about_copies(message_id(withdrawal, About.WITHDRAWAL), Event.WITHDRAWN, withdrawal, (), mailboxes)


def recalled(recall: Recall, mailboxes: Mailboxes) -> Message:
    """These versions should never have come: remove them, and say so in a receipt."""
    return _about_copies(message_id(recall, About.RECALL), Event.RECALLED, recall, recall.versions, mailboxes)


def _about_copies(
    local_id: UUID, event: Event, what: Withdrawal | Recall, versions: Sequence[UUID], mailboxes: Mailboxes
) -> Message:
    """No child in it: the receiver knows its copies by our identifiers."""
    subject = uuid5(local_id, "copies")
    parameters: Resource = {
        "resourceType": "Parameters",
        "parameter": [
            _identifier("share", mapping.SHARE, what.share_id),
            _identifier("instruction", mapping.INSTRUCTION, f"{what.share_id}/{what.seq}"),
            _identifier("plan", mapping.PLAN, what.plan_id),
            *(_identifier("version", mapping.VERSION, version) for version in versions),
        ],
    }
    header = _header(local_id, event, what.recipient, mailboxes)
    header["focus"] = [{"reference": _urn(subject)}]
    return Message(local_id, event, _bundle(local_id, [(local_id, header), (subject, parameters)]))


def _header(local_id: UUID, event: Event, recipient: Recipient, mailboxes: Mailboxes) -> Resource:
    receiver = {"type": "Organization", "identifier": {"system": mapping.ODS_CODE, "value": recipient.value}}
    return {
        "resourceType": "MessageHeader",
        "id": str(local_id),
        "eventCoding": {"system": MESSAGE_EVENT, "code": event.value},
        "destination": [{"endpoint": _endpoint(mailboxes.theirs), "receiver": receiver}],
        "source": {"name": "EHC Plan Exchange", "endpoint": _endpoint(mailboxes.ours)},
    }


def _related(content: Content, part: Part, parts: Sequence[Part]) -> list[Resource]:
    if not part.is_plan:
        return [{"code": "appends", "target": {"reference": _urn(parts[0].key)}}]
    if content.replaces is None:
        return []
    # The receiver gave it an id of its own; ours it knows as an identifier.
    identifier = {"system": mapping.VERSION, "value": str(content.replaces)}
    return [{"code": "replaces", "target": {"type": "DocumentReference", "identifier": identifier}}]


def _patient(child: Child) -> Resource:
    return {
        "resourceType": "Patient",
        "identifier": [{"system": NHS_NUMBER, "value": child.nhs_number}],
        "name": [{"use": "official", "family": child.family_name, "given": child.given_names.split()}],
        "birthDate": child.date_of_birth.isoformat(),
    }


def _bundle(local_id: UUID, entries: Sequence[tuple[UUID, Resource]]) -> bytes:
    return dumps(
        {
            "resourceType": "Bundle",
            "id": str(local_id),
            "identifier": {"system": "urn:ietf:rfc:3986", "value": _urn(local_id)},
            "type": "message",
            "entry": [{"fullUrl": _urn(key), "resource": resource} for key, resource in entries],
        }
    )


def _identifier(name: str, system: str, value: object) -> Resource:
    return {"name": name, "valueIdentifier": {"system": system, "value": str(value)}}


def _urn(key: UUID) -> str:
    return f"urn:uuid:{key}"


def _endpoint(mailbox: str) -> str:
    return f"urn:ehcp:mesh-mailbox:{mailbox}"


# --- what comes back


class UnreadableReceiptError(Exception):
    """Why a message in our mailbox is no receipt; nothing of its content."""


class Said(StrEnum):
    """``MessageHeader.response.code``."""

    OK = "ok"
    LATER = "transient-error"
    NEVER = "fatal-error"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a receiver's own system says became of one message of ours."""

    local_id: UUID
    said: Said
    record: str
    """The record's own id of the plan, empty where nothing was filed."""
    proofs: tuple[str, ...]
    """SHA-256 of each file, and of a notice's text, as it lies in the record; sorted."""
    issue: str
    """The code of the first issue, of R4's own list, where something went wrong."""


_RECORD_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_ISSUE_CODE = re.compile(r"[a-z-]{1,30}")
_HASH = re.compile(r"[0-9a-f]{64}")


def read_receipt(body: bytes) -> Receipt:
    """Raises :class:`UnreadableReceiptError`."""
    try:
        bundle = orjson.loads(body)
        resources = [entry["resource"] for entry in bundle["entry"]]
        header = resources[0]
        if (bundle["resourceType"], bundle["type"], header["resourceType"]) != ("Bundle", "message", "MessageHeader"):
            raise UnreadableReceiptError("it is no FHIR message")
        event = (header["eventCoding"]["system"], header["eventCoding"]["code"])
        if event != (MESSAGE_EVENT, Event.RECEIPT.value) or "response" not in header:
            raise UnreadableReceiptError("it is a FHIR message of another event than a receipt")
        local_id, said = UUID(header["response"]["identifier"]), Said(header["response"]["code"])
        filed = [each for each in resources if each["resourceType"] in ("DocumentReference", "Communication")]
        issues = [each["issue"][0]["code"] for each in resources if each["resourceType"] == "OperationOutcome"]
        proofs = sorted(proof for each in filed for proof in _proofs(each))
        issue = next((code for code in issues if _ISSUE_CODE.fullmatch(code)), "")
        return Receipt(local_id, said, _record(filed), tuple(proofs), issue)
    except (ValueError, LookupError, TypeError, AttributeError):
        raise UnreadableReceiptError("it is not a receipt as agreed") from None


def _record(filed: Sequence[Resource]) -> str:
    """The plan's own entry is the first."""
    if not filed or not _RECORD_ID.fullmatch(filed[0].get("id", "")):
        return ""
    return f"{filed[0]['resourceType']}/{filed[0]['id']}"


def _proofs(filed: Resource) -> list[str]:
    payloads = filed.get("payload", [])
    attachments = [each["attachment"] for each in filed.get("content", [])]
    attachments += [each["contentAttachment"] for each in payloads if "contentAttachment" in each]
    extensions = [extension for each in (*payloads, *attachments) for extension in each.get("extension", [])]
    proofs = [each["valueString"] for each in extensions if each["url"] == SHA256]
    if not all(_HASH.fullmatch(proof) for proof in proofs):
        raise ValueError
    return proofs


@dataclass(frozen=True, slots=True)
class Proof:
    """What a receipt means for the message that it answers: nothing wrong, or ``reason``; ``final`` when a person is needed."""

    record: str
    reason: str | None = None
    final: bool = False


def proof_of(receipt: Receipt, about: About, proofs: Sequence[str]) -> Proof:
    """``proofs``: what the receipt must give back. Filed only where every file lies there as it was sent."""
    because = f" ({receipt.issue})" if receipt.issue else ""
    match receipt.said:
        case Said.NEVER:
            return Proof("", f"the receiver refused it{because}", final=True)
        case Said.LATER:
            return Proof("", f"the receiver could not file it yet{because}")
    if about is About.CONTENT:
        if not receipt.record or len(receipt.proofs) != len(proofs):
            return Proof("", "the receiver's receipt lacks the record's id or the hash of a file")
        if receipt.proofs != tuple(proofs):
            return Proof("", "the hash of what the receiver filed is not the hash of what was sent")
    return Proof(receipt.record)
