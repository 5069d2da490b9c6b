"""Writes ``schemas/webhooks.json`` (OpenAPI 3.1): what a case system that takes plans as signed webhooks gets, and answers.

``python -m schemas.webhooks``; ``--check`` in ``make check``. The exchange calls, the receiver answers: what stands here as a
request is sent by a subscriber (``services/shared/record_systems/webhook_messages.py``), and SFTP carries the same data.
"""

import sys
from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from schemas import published
from schemas.base import Open
from schemas.documents import Council, File
from schemas.events import RecipientCode, Seq, VersionNumber
from schemas.generate import without_closing
from schemas.manifest import Manifest, Sha256
from schemas.notices import Notice, NoticeKind
from schemas.plan import Child, Section, SectionLetter

FILE = Path(__file__).parent / "webhooks.json"


class WebhookType(StrEnum):
    """The CloudEvents ``type`` of what a receiver gets; each is a name of its own, not one of those on Kafka."""

    PLAN_DELIVERED = "ehcp.plan.delivered.v1"
    NOTICE_DELIVERED = "ehcp.notice.delivered.v1"
    AVAILABLE = "ehcp.delivery.available.v1"
    PLAN_WITHDRAWN = "ehcp.plan.withdrawn.v1"
    RECALL_REQUESTED = "ehcp.recall.requested.v1"


class Addressee(RecipientCode):
    name: str


class OfShare(Open):
    share_id: UUID
    seq: Seq
    """Of one share the highest counts, whatever comes last."""
    plan_id: UUID


class Delivered(OfShare):
    """One version and everything that the recipient gets of it."""

    case_reference: str
    council: Council
    recipient: Addressee
    version_id: UUID
    version: VersionNumber
    issued_on: date
    child: Child
    sections: dict[SectionLetter, Section]
    changed_sections: tuple[SectionLetter, ...] = ()
    manifest: Manifest
    sha256: Sha256
    """Of the manifest (RFC 8785, without empty members), which holds the hashes of everything else."""
    replaces: UUID | None = None
    """The version that the recipient held before."""
    document: File | None = None
    attachments: tuple[File, ...] = ()


class NoticeDelivered(Delivered):
    """A notice instead of a version: ``version_id`` is the notice's own id, and there are no sections."""

    notice: Notice


class Available(OfShare):
    """There is a version, or a notice, to be fetched at ``dataref``: the message in full. File that, then answer this one.

    Fetch with ``GET``, signed as messages are, over the query as it stands there.
    """

    recipient: RecipientCode
    notice: NoticeKind | None = None
    version_id: UUID
    version: VersionNumber
    issued_on: date
    changed_sections: tuple[SectionLetter, ...] = ()
    sha256: Sha256


class Ended(OfShare):
    """No further version will come: mark the copy, and keep it as long as your own rules say."""

    recipient: RecipientCode


class RecallRequested(OfShare):
    """These versions or notices should never have come: remove them, and state it, signed."""

    recipient: RecipientCode
    versions: Annotated[tuple[UUID, ...], Field(min_length=1)]


class Stored(Open):
    """What was stored. Only an answer with the right hash counts as filed."""

    record: Annotated[str, Field(min_length=1, max_length=200)]
    """The receiver's own id of it."""
    sha256: Sha256
    """As the receiver computed it from what it stored."""
    current: bool = True
    """False when the receiver holds a newer instruction of this share already."""


class Marked(Open):
    record: Annotated[str, Field(max_length=200)]
    """The receiver's own id of what was marked; empty when there was none."""


class Removed(Open):
    """A statement, signed as the request is, with the same secret: headers ``webhook-id``, ``-timestamp``, ``-signature``."""

    removed: tuple[UUID, ...]
    """All versions that were asked for, also those that were not there."""
    record: Annotated[str, Field(max_length=200)] | None = None
    removed_at: str | None = None


class Holding(Open):
    plan_id: UUID
    version_id: UUID
    sha256: Sha256
    record: str
    withdrawn: bool = False


class Holdings(Open):
    """What is really stored and current; what is not there is left out."""

    holdings: tuple[Holding, ...]


MESSAGES: dict[WebhookType, tuple[type[OfShare], type[BaseModel]]] = {
    WebhookType.PLAN_DELIVERED: (Delivered, Stored),
    WebhookType.NOTICE_DELIVERED: (NoticeDelivered, Stored),
    WebhookType.AVAILABLE: (Available, Stored),
    WebhookType.PLAN_WITHDRAWN: (Ended, Marked),
    WebhookType.RECALL_REQUESTED: (RecallRequested, Removed),
}
"""What each type brings, and what answers it."""

_ABOUT = """\
What a subscriber sends to a case system, and what it takes as an answer. Messages are CloudEvents 1.0 in structured JSON,
signed as Standard Webhooks 1.0 says: `v1` with a shared secret, `v1a` with our Ed25519 key; one signature for each key while
keys are being changed, and one that fits is enough. A receiver gets messages in full, or thin ones whose content it fetches.
Verify the signature and the time (5 minutes either way) over the bytes as they came, before reading them. `webhook-id` is the
same at every attempt: answer a message that you have already with the answer that you gave. Ignore fields that you do not
know."""
_REFUSALS = {
    "4XX": "400, 409, 413, 415, 422 and 451 are refusals: a person or a new instruction must change something. 410 stops the "
    "endpoint. 429 waits for `Retry-After`. The others are tried again: after 5 s, 5 min, 30 min, 2 h, 5 h, then every 10 h.",
    "5XX": "Tried again, not before `Retry-After`.",
}


def make_document() -> dict[str, Any]:
    models = [model for pair in MESSAGES.values() for model in pair] + [Holdings]
    references, definitions = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)], by_alias=True, ref_template="#/components/schemas/{model}"
    )
    schemas = {model: reference for (model, _), reference in references.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "EHC Plan Exchange: webhooks",
            "version": "1",
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "webhooks": {type_.value: {"post": _message(type_, schemas)} for type_ in MESSAGES},
        "paths": {"/holdings": {"get": _holdings(schemas[Holdings])}},
        "components": {
            "schemas": dict(sorted(without_closing(definitions["$defs"]).items())),
            "parameters": {name: _header(name, about) for name, about in _HEADERS.items()},
            "securitySchemes": {"signature": {"type": "apiKey", "in": "header", "name": "webhook-signature"}},
        },
        "security": [{"signature": []}],
    }


_HEADERS = {
    "webhook-id": "Of the message; the same at every attempt.",
    "webhook-timestamp": "When it was sent, in seconds since 1970.",
    "webhook-signature": "`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, or `v1a,` and that of an Ed25519 "
    "signature; several are parted by spaces.",
}


def _header(name: str, about: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": True, "description": about, "schema": {"type": "string"}}


def _signed() -> list[dict[str, Any]]:
    return [{"$ref": f"#/components/parameters/{name}"} for name in _HEADERS]


def _message(type_: WebhookType, schemas: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    model, answer = MESSAGES[type_]
    event: dict[str, Any] = {
        "type": "object",
        "required": ["specversion", "id", "source", "type", "subject", "datacontenttype", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "description": "As `webhook-id`."},
            "source": {"type": "string", "format": "uri-reference"},
            "type": {"const": type_.value},
            "subject": {"type": "string", "format": "uuid", "description": "The plan's id."},
            "datacontenttype": {"const": "application/json"},
            "data": schemas[model],
        },
    }
    if type_ is WebhookType.AVAILABLE:
        event["required"].append("dataref")
        event["properties"]["dataref"] = {"type": "string", "format": "uri"}
    return {
        "summary": (model.__doc__ or "").strip().partition("\n")[0],
        "operationId": type_.value,
        "parameters": _signed(),
        "requestBody": {"required": True, "content": {"application/cloudevents+json": {"schema": event}}},
        "responses": {
            "200": {
                "description": (answer.__doc__ or "Done.").strip(),
                "content": {"application/json": {"schema": schemas[answer]}},
            },
            **{status: {"description": about} for status, about in _REFUSALS.items()},
        },
    }


def _holdings(answer: dict[str, Any]) -> dict[str, Any]:
    recipient = {"name": "recipient", "in": "query", "required": True, "schema": {"type": "string"}, "example": "la:332"}
    plans = {"type": "array", "items": {"type": "string", "format": "uuid"}, "minItems": 1, "maxItems": 50}
    return {
        "summary": "What the receiver really holds. Signed over the query as sent.",
        "operationId": "holdings",
        "parameters": [*_signed(), recipient, {"name": "plan", "in": "query", "required": True, "schema": plans}],
        "responses": {"200": {"description": "Holdings.", "content": {"application/json": {"schema": answer}}}},
    }


def main(arguments: list[str]) -> int:
    return published.run("schemas.webhooks", {FILE: published.as_text(make_document())}, arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
