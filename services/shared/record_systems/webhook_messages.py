"""What a webhook says and what an answer to it means. Pure; sent by ``webhook.py``.

A message is a CloudEvent 1.0 in structured JSON, signed as Standard Webhooks 1.0 has it. Its id comes from (share, ``seq``)
and its bytes from the content alone, so that a message that is sent again is the same message, and the receiver can tell.
``schemas/webhooks.json`` and ``deploy/sandbox/social_care/README.md`` describe it for those who receive it.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeGuard
from uuid import UUID

import orjson

from schemas.webhooks import WebhookType
from services.shared.json import dumps
from services.shared.record_systems.guarded_http import retry_after
from services.shared.record_systems.port import (
    Content,
    File,
    Filed,
    Held,
    Outcome,
    Recall,
    RecallOutcome,
    Recipient,
    Refused,
    Removed,
    Retry,
    Withdrawal,
    Withdrawn,
    WithdrawOutcome,
)
from services.shared.record_systems.webhook_keys import Keys, is_signed

CONTENT_TYPE = "application/cloudevents+json"
DELIVERED = WebhookType.PLAN_DELIVERED.value
NOTICE_DELIVERED = WebhookType.NOTICE_DELIVERED.value
WITHDRAWN = WebhookType.PLAN_WITHDRAWN.value
AVAILABLE = WebhookType.AVAILABLE.value
RECALLED = WebhookType.RECALL_REQUESTED.value
_SOURCE = "urn:ehcp:exchange"
_LONGEST_RECORD = 200


@dataclass(frozen=True, slots=True)
class Message:
    id: str
    """The ``webhook-id``: the same for every attempt."""
    body: bytes


def delivered(content: Content) -> Message:
    """Everything that the recipient gets of one version or one notice, files in base64."""
    files = {
        "document": _file(content.document) if content.document else None,
        "attachments": [_file(each) for each in content.attachments],
    }
    return _message(content.share_id, content.seq, content.plan_id, delivered_type(content), described(content) | files)


def available(content: Content, fetch_url: str) -> Message:
    """That there is something to fetch, and nothing of what it says. Whoever fetches gets :func:`delivered`."""
    data = {
        "recipient": recipient_code(content.recipient), "version_id": content.version_id, "version": content.version,
        "issued_on": content.issued_on, "changed_sections": content.changed_sections, "sha256": content.sha256,
        "notice": content.notice.kind if content.notice else None,
    }  # fmt: skip
    dataref = f"{fetch_url}?share={content.share_id}&seq={content.seq}"
    return _message(content.share_id, content.seq, content.plan_id, AVAILABLE, data, dataref=dataref)


def delivered_type(content: Content) -> str:
    return NOTICE_DELIVERED if content.notice else DELIVERED


def described(content: Content) -> dict[str, Any]:
    """A version and its text, or a notice, in the words of every channel that speaks JSON; all but the files."""
    notice = {"notice": content.notice.model_dump(mode="json", exclude_none=True)} if content.notice else {}
    return notice | {
        "case_reference": content.case_reference,
        "council": content.council.model_dump(mode="json"),
        "recipient": recipient_code(content.recipient) | {"name": content.recipient.name},
        "version_id": content.version_id,
        "version": content.version,
        "issued_on": content.issued_on,
        "child": content.child.model_dump(mode="json", exclude_none=True),
        "sections": {letter.value: section.model_dump(mode="json") for letter, section in content.sections.items()},
        "changed_sections": content.changed_sections,
        "manifest": content.manifest.model_dump(mode="json"),
        "sha256": content.sha256,
        "replaces": content.replaces,
    }


def withdrawn(withdrawal: Withdrawal) -> Message:
    """No further version will come; the receiver marks its copy and keeps it under its own retention."""
    data = {"recipient": recipient_code(withdrawal.recipient)}
    return _message(withdrawal.share_id, withdrawal.seq, withdrawal.plan_id, WITHDRAWN, data)


def recalled(recall: Recall) -> Message:
    """These versions should never have come; the receiver removes them and says so, signed."""
    data = {"recipient": recipient_code(recall.recipient), "versions": recall.versions}
    # An id of its own: the same instruction may want another version held, and that is another message.
    return _message(recall.share_id, recall.seq, recall.plan_id, RECALLED, data, "-recall")


def _message(
    share_id: UUID, seq: int, plan_id: UUID, type_: str, data: dict[str, Any], suffix: str = "", dataref: str | None = None
) -> Message:
    message_id = f"{share_id}-{seq}{suffix}"
    # No time: a time would make the same message differ at every attempt. When it was sent is in the signature.
    event = {
        "specversion": "1.0",
        "id": message_id,
        "source": _SOURCE,
        "type": type_,
        "subject": str(plan_id),
        "datacontenttype": "application/json",
        **({"dataref": dataref} if dataref else {}),
        "data": {"share_id": share_id, "seq": seq, "plan_id": plan_id} | data,
    }
    return Message(message_id, dumps(event))


def recipient_code(recipient: Recipient) -> dict[str, Any]:
    return {"kind": recipient.kind, "scheme": recipient.scheme, "value": recipient.value}


def _file(file: File) -> dict[str, str]:
    data = base64.b64encode(file.data).decode("ascii")
    return {"name": file.name, "media_type": file.media_type, "sha256": file.sha256, "data": data}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer means; ``for_all`` when it is about the endpoint, so that sending it more now would be useless."""

    outcome: Retry | Refused
    for_all: bool = False


def filed(status: int, headers: Mapping[str, str], body: bytes, sha256: str, now: datetime) -> Outcome | Verdict:
    """What the answer to a delivered version means. Filed only on proof: the receiver's own hash of what it stored."""
    if not 200 <= status < 300:
        return fault(status, headers, now)
    answer = _answer(headers, body)
    if answer is None:
        return Verdict(Retry(f"the endpoint answered {status} without the JSON that proves filing"))
    record, proof = answer.get("record"), answer.get("sha256")
    if not _is_record(record) or not isinstance(proof, str):
        return Verdict(Retry("the endpoint's answer lacks the record's id or hash"))
    if proof != sha256:
        return Verdict(Retry("the hash of what the endpoint stored is not the hash of what was sent"))
    if answer.get("current") is False:
        # Proved to be there, but as history: what was sent is not what its users see, and sending it again changes nothing.
        return Refused("the record already holds a newer instruction than this one")
    return Filed(record, proof)


def marked(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> WithdrawOutcome | Verdict:
    """What the answer to a withdrawal means. An empty record id says that there was no copy to mark."""
    if not 200 <= status < 300:
        return fault(status, headers, now)
    answer = _answer(headers, body)
    record = answer.get("record") if answer is not None else None
    if record == "" or _is_record(record):
        return Withdrawn(record)
    return Verdict(Retry(f"the endpoint answered {status} without the record that it marked"))


def removed(
    status: int, headers: Mapping[str, str], body: bytes, versions: Sequence[UUID], keys: Keys, now: datetime
) -> RecallOutcome | Verdict:
    """What the answer to a recall means. Removed only on a statement that the receiver signed.

    A statement can be shown to others later; an answer without it is only that the message came.
    """
    if not 200 <= status < 300:
        return fault(status, headers, now)
    answer = _answer(headers, body)
    stated = answer.get("removed") if answer is not None else None
    if answer is None or not isinstance(stated, list) or not {str(each) for each in versions} <= {str(each) for each in stated}:
        asked = retry_after(headers.get("retry-after", ""), now)
        return Verdict(Retry(f"the endpoint answered {status} without stating the removal", asked))
    if not is_signed(headers, body, keys, now):
        return Verdict(Retry("the endpoint's statement of removal is not signed with our key"))
    record, at = answer.get("record"), answer.get("removed_at")
    where = f" ({record})" if _is_record(record) else ""
    when = f" at {at}" if _is_record(at) else ""
    return Removed(f"signed statement of removal{where}{when}")


def held(headers: Mapping[str, str], body: bytes) -> dict[UUID, Held] | None:
    """The holdings in an answer, by plan; None when it is no such answer."""
    answer = _answer(headers, body)
    rows = answer.get("holdings") if answer is not None else None
    if not isinstance(rows, list):
        return None
    try:
        return {
            UUID(row["plan_id"]): Held(
                UUID(row["version_id"]), str(row["sha256"]), str(row["record"]), withdrawn=row.get("withdrawn") is True
            )
            for row in rows
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def fault(status: int, headers: Mapping[str, str], now: datetime) -> Verdict:
    """What an answer other than 2xx means.

    What is about the endpoint (moved, signed with the wrong key, asleep) is tried again: it heals by itself or by somebody
    at the other end, and no plan should have to be sent anew by hand for that. Refused is only what the same message would
    meet again for ever.
    """
    asked = retry_after(headers.get("retry-after", ""), now)
    match status:
        case 410:
            # Standard Webhooks: Gone means stop. Only a person can say where this recipient takes plans now.
            return Verdict(Refused("the endpoint is gone (410)", disabled=True), for_all=True)
        case 429 | 503:
            return Verdict(Retry(f"the endpoint asked to be sent less ({status})", asked, away=True), for_all=True)
        case 401 | 403:
            # A secret being changed or a clock gone wrong. Both end without our doing.
            return Verdict(Retry(f"the endpoint does not accept our signature ({status})", asked))
        case 404 | 405:
            # Its address is not there: a deployment half done, or a wrong configuration. It says nothing about the plan.
            return Verdict(Retry(f"there is no endpoint at this address ({status})", asked))
        case _ if 300 <= status < 400:
            # Never followed: a redirect could lead a child's record to another host.
            return Verdict(Retry(f"the endpoint moved ({status}); check its address", asked), for_all=True)
        case 409:
            # It holds this id, or this seq, with other content. Only a new instruction can settle that.
            return Verdict(Refused("the endpoint holds something else under this instruction (409)"))
        case 413:
            # As large the next time. Either side must change a limit.
            return Verdict(Refused("the endpoint does not take a message of this size (413)"))
        case 400 | 415 | 422:
            # It read the message and does not want it: the same bytes would fare the same.
            return Verdict(Refused(f"the endpoint refused what was sent ({status})"))
        case 451:
            return Verdict(Refused("the endpoint may not hold this for legal reasons (451)"))
        case _ if 400 <= status < 500:
            # 402, 407, 408, 421, 423, 425 …: about now, or about what stands between.
            return Verdict(Retry(f"the endpoint refused for now ({status})", asked))
        case _:
            return Verdict(Retry(f"the endpoint failed ({status})", asked))


def _answer(headers: Mapping[str, str], body: bytes) -> dict[str, Any] | None:
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        return None
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return answer if isinstance(answer, dict) else None


def _is_record(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_RECORD and value.isprintable()
