"""What an HL7 v2 message says and what an acknowledgement means. Pure; sent by ``hl7v2.py``.

MDM^T02 brings a document, T10 one that replaces the one before, T03 marks it obsolete, T11 cancels it. The control id
(MSH-10) and the document's unique number (TXA-12) come from (share, ``seq``), so a message that is sent again is the same one,
for a receiver too. Nothing that an acknowledgement says in words is repeated: it may name the patient.

Sources: HL7 2.4 chapters 2 (acknowledgements) and 9 (medical records).
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import hl7  # type: ignore[import-untyped]

from services.health_subscriber import mapping, notices
from services.health_subscriber.mapping import Part
from services.shared.record_systems.port import Collected, Content, Refused, Retry

VERSION = "2.4"
NAMESPACE = "EHCP"
"""Assigning authority of document numbers, of shares and of plans."""


class Trigger(StrEnum):
    """The trigger event, with the message structure that goes with it."""

    ORIGINAL = "MDM^T02^MDM_T02"
    STATUS = "MDM^T03^MDM_T01"
    REPLACEMENT = "MDM^T10^MDM_T02"
    CANCEL = "MDM^T11^MDM_T01"


class Availability(StrEnum):
    """TXA-19, HL7 table 0273."""

    AVAILABLE = "AV"
    OBSOLETE = "OB"
    CANCELLED = "CA"


@dataclass(frozen=True, slots=True)
class Names:
    """How the two ends are called in the header, and whether it is for real: agreed with the receiver's operator."""

    sending_application: str = "EHCP"
    sending_facility: str = "EHCP"
    receiving_application: str = ""
    receiving_facility: str = ""
    processing_id: str = "P"
    document_type: str = "EHCP"
    """TXA-2, HL7 table 0270, which each receiver extends."""


@dataclass(frozen=True, slots=True)
class Message:
    control_id: str
    body: bytes
    document: str
    """The number of the document that it brings, or is about."""
    brings: bool


def number(share_id: UUID, seq: int) -> str:
    """20 characters, which is all that MSH-10 takes; a hundred bits of a hash, so no two are ever the same."""
    return _short(f"{share_id} {seq}")


def _short(of: str) -> str:
    return base64.b32encode(hashlib.sha256(f"ehcp hl7v2 {of}".encode()).digest()).decode("ascii")[:20]


def parts_of(content: Content) -> tuple[Part, ...]:
    """What goes into the message, one OBX each; a notice's own words are the first. Empty when there is nothing to send."""
    if content.notice is None:
        return mapping.parts(content)
    title, text = notices.TITLES[content.notice.kind], notices.text(content.notice).encode()
    attached = notices.parts(content)
    count = 1 + len(attached)
    return Part(1, count, mapping.document_key(content), title, "text/plain; charset=utf-8", text), *(
        replace(part, number=number, count=count) for number, part in enumerate(attached, 2)
    )


def document(content: Content, parts: Sequence[Part], names: Names, *, replaces_seq: int | None, now: datetime) -> Message:
    """The plan and what is appended to it, each file whole in an OBX-5. ``replaces_seq``: of the document held before."""
    trigger = Trigger.ORIGINAL if replaces_seq is None else Trigger.REPLACEMENT
    control_id = number(content.share_id, content.seq)
    changed = ", ".join(content.changed_sections)
    child = content.child
    day = _day(content.issued_on)
    segments = [
        *_head(trigger, control_id, names, now),
        _segment(
            "PID", {
                # The second identifier is what a later status change, which knows no more of the child, has too.
                3: f"{_text(child.nhs_number)}^^^NHS^NH~{_plan(content.plan_id)}",
                5: f"{_text(child.family_name)}^{'^'.join(map(_text, child.given_names.split(maxsplit=1)))}",
                7: _day(child.date_of_birth),
            },
        ),
        _segment("PV1", {1: "1", 2: "N"}),
        _txa(content.share_id, content.seq, names, Availability.AVAILABLE, {
            4: day, 6: day,
            13: f"{number(content.share_id, replaces_seq)}^{NAMESPACE}" if replaces_seq is not None else "",
            21: _text(f"Sections changed since the version before: {changed}") if changed else "",
        }),
        *(_obx(content, part, day) for part in parts),
    ]  # fmt: skip
    return Message(control_id, _bytes(segments), control_id, brings=True)


def status_change(
    share_id: UUID, seq: int, plan_id: UUID, document_seq: int, availability: Availability, names: Names, now: datetime
) -> Message:
    """The document that came with ``document_seq`` is obsolete, or was never this patient's: no text, no name, its number."""
    trigger = Trigger.CANCEL if availability is Availability.CANCELLED else Trigger.STATUS
    # A recall may name several documents under one seq: each message has a control id of its own.
    control_id = _short(f"{share_id} {seq} {availability} {document_seq}")
    segments = [
        *_head(trigger, control_id, names, now),
        _segment("PID", {3: _plan(plan_id), 5: '""'}),
        _segment("PV1", {1: "1", 2: "N"}),
        _txa(share_id, document_seq, names, availability, {}),
    ]
    return Message(control_id, _bytes(segments), number(share_id, document_seq), brings=False)


def _head(trigger: Trigger, control_id: str, names: Names, now: datetime) -> list[str]:
    at = now.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")
    # MSH-1 is the separator itself, so a field stands one place earlier than its number says.
    header = ["MSH", "^~\\&", names.sending_application, names.sending_facility, names.receiving_application]
    header += [names.receiving_facility, at, "", trigger, control_id, names.processing_id, VERSION]
    header = [*header[:2], *map(_text, header[2:6]), *header[6:], "", "", "", "", "GBR", "UNICODE UTF-8"]
    return ["|".join(header), f"EVN|{trigger.split('^')[1]}|{at}"]


def _txa(share_id: UUID, seq: int, names: Names, availability: Availability, more: dict[int, str]) -> str:
    return _segment("TXA", {
        1: "1", 2: _text(names.document_type), 3: "AP", 12: f"{number(share_id, seq)}^{NAMESPACE}",
        # By which a receiver that keeps one current document of a plan finds the one before, whatever its number.
        14: f"{share_id}^{NAMESPACE}",
        17: "AU", 19: availability, **more,
    })  # fmt: skip


def _obx(content: Content, part: Part, day: str) -> str:
    top, _, sub = part.media_type.partition(";")[0].strip().partition("/")
    data = base64.b64encode(part.data).decode("ascii")
    return _segment("OBX", {
        1: str(part.number), 2: "ED", 3: _code(content, part), 4: str(part.number),
        5: f"^{_text(top)}^{_text(sub)}^Base64^{data}",
        11: "F", 14: day, 15: f"{_text(content.council.ods_code)}^{_text(content.council.name)}",
    })  # fmt: skip


def _code(content: Content, part: Part) -> str:
    title = _text(part.title)
    if content.notice is not None:
        return f"{content.notice.kind.replace('_', '-')}^{title}^L"
    if not part.is_plan:
        return f"{mapping.ATTACHMENT_TYPE.code}^{title}^L"
    return f"{mapping.PLAN_TYPE.code}^{title}^L^{mapping.CARE_PLAN.code}^{mapping.CARE_PLAN.display}^SCT"


def _plan(plan_id: UUID) -> str:
    return f"{plan_id}^^^{NAMESPACE}^PI"


def _segment(name: str, fields: dict[int, str]) -> str:
    return "|".join([name, *(fields.get(n, "") for n in range(1, max(fields) + 1))]).rstrip("|")


def _bytes(segments: Sequence[str]) -> bytes:
    return ("\r".join(segments) + "\r").encode()


_ESCAPES = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"})


def _text(text: str | None) -> str:
    """As a component: delimiters escaped (HL7 2.4 chapter 2.10); control characters, which would end a segment or the whole
    block, become spaces."""
    return "".join(max(c, " ") for c in text or "").translate(_ESCAPES)


def _day(day: date) -> str:
    return day.strftime("%Y%m%d")


# --- acknowledgements


class UnreadableAnswerError(Exception):
    """Why what came back is no acknowledgement; nothing of its content."""


@dataclass(frozen=True, slots=True)
class Answer:
    control_id: str
    code: str
    """MSA-1, HL7 table 0008."""
    error: str = ""
    """The error's code, HL7 table 0357, where the receiver gave one."""


def read_answer(block: bytes) -> Answer:
    """Raises :class:`UnreadableAnswerError`."""
    lines = [line for line in block.decode(errors="replace").replace("\n", "\r").split("\r") if line]
    try:
        message: Any = hl7.parse("\r".join(lines) + "\r")
        names = [str(segment[0]) for segment in message]
        if names[:1] != ["MSH"] or "MSA" not in names:
            raise UnreadableAnswerError("the receiver answered something else than an acknowledgement")
        msa = message.segment("MSA")
        error = _error_code(message) if "ERR" in names else ""
        return Answer(str(msa[2]), str(msa[1]), error)
    except (hl7.HL7Exception, LookupError, ValueError, TypeError):
        raise UnreadableAnswerError("the receiver's acknowledgement cannot be read") from None


def _error_code(message: Any) -> str:
    """ERR-3 (2.5 and later), else the fourth component of ERR-1 (2.4)."""
    segment = next(each for each in message if str(each[0]) == "ERR")
    for field, component in ((3, 0), (1, 3)):
        try:
            repetition = segment[field][0]
            code = repetition if isinstance(repetition, str) else repetition[component]
            code = str(code if isinstance(code, str) else code[0])
        except LookupError:
            continue
        if code in _ERRORS:
            return code
    return ""


_ERRORS = {
    "100": "a segment is missing or out of place",
    "101": "a required field is missing",
    "102": "a field has a wrong type",
    "103": "a coded value is not in the receiver's table",
    "200": "it does not take this type of message",
    "201": "it does not take this event",
    "202": "it does not take this processing id",
    "203": "it does not take this version of HL7",
    "204": "it does not know a number of the patient or of the document",
    "205": "it already has the document's number",
    "206": "the record is locked just now",
    "207": "an internal error",
}
"""HL7 table 0357."""
_PASSING = frozenset({"206", "207"})
_UNKNOWN, _DUPLICATE = "204", "205"


def meaning(answer: Answer, message: Message) -> Collected | Retry | Refused:
    """What an acknowledgement says of a message.

    Taken is not filed: the acknowledgement is an integration engine's. An error (AE) is tried again unless its code says
    that the same message can never do; a reject (AR) is not, unless its code says that it was a passing trouble. A duplicate
    is the answer to a message that was sent again because its first answer was lost: nobody else can have our number. And a
    document that the receiver does not know is one that it does not hold: nothing is left to mark.
    """
    record = message.document
    why = f" ({answer.error}: {_ERRORS[answer.error]})" if answer.error else ""
    match answer.code:
        case "AA" | "CA":
            return Collected(record)
        case "AE" | "CE" | "AR" | "CR" if answer.error == (_DUPLICATE if message.brings else _UNKNOWN):
            return Collected(record)
        case "AE" | "CE" if not answer.error or answer.error in _PASSING:
            return Retry(f"the receiver answered with an error{why}")
        case "AR" | "CR" if answer.error in _PASSING:
            return Retry(f"the receiver rejected it for now{why}")
        case "AE" | "CE":
            return Refused(f"the receiver answered with an error{why}")
        case "AR" | "CR":
            return Refused(f"the receiver rejected it{why}")
        case _:
            return Retry("the receiver's acknowledgement has a code that HL7 does not know")
