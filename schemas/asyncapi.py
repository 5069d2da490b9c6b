"""Writes ``schemas/asyncapi.json`` (AsyncAPI 3.0): every topic, who writes and reads it, its messages, their headers and keys.

``python -m schemas.asyncapi``; ``--check`` in ``make check``. The messages are those of :data:`MESSAGES`, one for each
:class:`EventType`; a type without one is a failing test. The bodies are the models of the contract, as in ``schemas/json/``.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas import published
from schemas.alerts import AlertCleared, AlertRaised, CouncilAlertCleared, CouncilAlertRaised
from schemas.events import (
    EventType,
    PlanAmended,
    PlanFinalised,
    PlanHappened,
    PlanRecalled,
    PlanTransferred,
    ReviewDecided,
    ReviewHappened,
    ShareRecalled,
    ShareReleased,
    ShareRequested,
    ShareWithdrawn,
)
from schemas.generate import MODELS, without_closing
from schemas.heartbeats import Heartbeat
from schemas.holdings import Holding, HoldingsRequested
from schemas.receipts import Receipt

FILE = Path(__file__).parent / "asyncapi.json"
EXAMPLES = Path(__file__).parent / "examples" / "good"


@dataclass(frozen=True, slots=True)
class Topic:
    address: str
    key: str
    about: str
    messages: Mapping[EventType, type[BaseModel]]


EVENTS = Topic(
    "ehcp.events.v1",
    "The plan's id.",
    "Every domain event, as a feed for integrations. No correctness rests on it: who should hold a plan gets an instruction.",
    {
        EventType.PLAN_FINALISED: PlanFinalised,
        EventType.PLAN_AMENDED: PlanAmended,
        EventType.PLAN_CEASING: PlanHappened,
        EventType.PLAN_CEASED: PlanHappened,
        EventType.PLAN_REOPENED: PlanHappened,
        EventType.PLAN_TRANSFERRED: PlanTransferred,
        EventType.PLAN_RECALLED: PlanRecalled,
        EventType.CHILD_CORRECTED: PlanHappened,
        EventType.PLACEMENT_CHANGED: PlanHappened,
        EventType.COMMISSIONER_CHANGED: PlanHappened,
        EventType.REVIEW_SCHEDULED: ReviewHappened,
        EventType.REVIEW_HELD: ReviewHappened,
        EventType.REVIEW_DECIDED: ReviewDecided,
    },
)
SHARES = Topic(
    "ehcp.shares.{subscriber}.v1",
    "The share's id; of holdings.requested the look's.",
    "Instructions for one subscriber, which alone may read them. Of a share the highest seq counts; each may come twice. "
    "Beside them the question what the records really hold.",
    {
        EventType.SHARE_REQUESTED: ShareRequested,
        EventType.SHARE_WITHDRAWN: ShareWithdrawn,
        EventType.SHARE_RECALLED: ShareRecalled,
        EventType.SHARE_RELEASED: ShareReleased,
        EventType.HOLDINGS_REQUESTED: HoldingsRequested,
    },
)
RECEIPTS = Topic(
    "ehcp.receipts.{subscriber}.v1",
    "The share's id; of a heartbeat the subscriber's name.",
    "What became of each instruction, and what the records hold when the council asks, signed by the subscriber, which alone "
    "may write here; and how it fares.",
    {EventType.RECEIPT: Receipt, EventType.HOLDING: Holding, EventType.HEARTBEAT: Heartbeat},
)
ALERTS = Topic(
    "ehcp.alerts.v1",
    "The plan's id; of an alert about no single plan the council's code.",
    "What should have arrived and did not, and when that is over.",
    {
        EventType.ALERT_RAISED: AlertRaised,
        EventType.ALERT_CLEARED: AlertCleared,
        EventType.COUNCIL_ALERT_RAISED: CouncilAlertRaised,
        EventType.COUNCIL_ALERT_CLEARED: CouncilAlertCleared,
    },
)

TOPICS = {"events": EVENTS, "shares": SHARES, "receipts": RECEIPTS, "alerts": ALERTS}
MESSAGES = {type_: model for topic in TOPICS.values() for type_, model in topic.messages.items()}
SIGNED = frozenset({EventType.RECEIPT, EventType.HOLDING, EventType.HEARTBEAT})
"""Sent as a compact JWS (RFC 7515) whose payload is the canonical JSON (RFC 8785) of the model."""

OPERATIONS = (
    ("ehcp_publisher", "send", "events", "The council's publisher tells what happened to a plan."),
    ("ehcp_publisher", "send", "shares", "The council's publisher tells a subscriber what each recipient should hold."),
    ("subscriber", "receive", "shares", "A subscriber takes its own instructions in."),
    ("subscriber", "send", "receipts", "A subscriber says what became of them."),
    ("audit", "receive", "receipts", "The council's audit checks each signature and keeps the receipt."),
    ("notifier", "send", "alerts", "The council's notifier tells what is late, refused or undeliverable."),
    ("integration", "receive", "events", "Whoever the council gives an account that may read events."),
    ("integration", "receive", "alerts", "Whoever the council gives an account that may read alerts."),
)
"""Service, what it does, topic."""

_ABOUT = """\
What travels between a council and the subscribers that deliver its plans. Messages are CloudEvents 1.0 in Kafka's binary
mode: attributes in headers, the event as the value.

They are thin: opaque ids, numbers, hashes, recipient codes. Never a name, a date of birth, an NHS number or text of a plan:
those are read with a token from the document API (`openapi/ehcp_publisher.json`), by share and seq.

Rules for a reader: a message may come twice, late or out of order; of a share the highest `seq` counts. Ignore fields that
you do not know. Set aside, and do not drop, a message whose type or value you do not know: a newer council may send it. A
breaking change is a new type with a higher major version beside the old one."""


def make_document() -> dict[str, Any]:
    references, schemas = _schemas()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "EHC Plan Exchange: messages",
            "version": "1",
            "description": _ABOUT,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka-secure",
                "description": "The council's Kafka, or one that both sides trust. One account for each service, with exactly "
                "its own topics and group.",
                "variables": {"bootstrap": {"description": "KAFKA_BOOTSTRAP_SERVERS", "examples": ["kafka.example.org:9093"]}},
                "security": [{"$ref": "#/components/securitySchemes/scram"}],
            }
        },
        "channels": {name: _channel(topic) for name, topic in TOPICS.items()},
        "operations": {
            f"{service}.{action}.{name}": _operation(service, action, name, about)
            for service, action, name, about in OPERATIONS
        },
        "components": {
            "messages": {type_.value: _message(type_, references) for type_ in MESSAGES},
            "schemas": schemas,
            "securitySchemes": {
                "scram": {"type": "scramSha512", "description": "SASL/SCRAM-SHA-512 over TLS (SASL_SSL)."},
            },
        },
    }


def _schemas() -> tuple[dict[type[BaseModel], dict[str, Any]], dict[str, Any]]:
    """Where each model's schema stands, and all of them as a reader sees them."""
    models = dict.fromkeys(MESSAGES.values())
    references, definitions = models_json_schema(
        [(model, "validation") for model in models], by_alias=True, ref_template="#/components/schemas/{model}"
    )
    return {model: references[model, "validation"] for model in models}, without_closing(definitions["$defs"])


def _channel(topic: Topic) -> dict[str, Any]:
    channel: dict[str, Any] = {
        "address": topic.address,
        "description": topic.about,
        "messages": {type_.value: {"$ref": f"#/components/messages/{type_.value}"} for type_ in topic.messages},
        "bindings": {"kafka": {"topicConfiguration": {"cleanup.policy": ["delete"]}}},
    }
    if "{subscriber}" in topic.address:
        channel["parameters"] = {
            "subscriber": {"description": "The subscriber's name in the council's directory.", "examples": ["health", "school"]}
        }
    return channel


def _operation(service: str, action: str, channel: str, about: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": about,
        "tags": [{"name": service}],
        "messages": [{"$ref": f"#/channels/{channel}/messages/{type_.value}"} for type_ in TOPICS[channel].messages],
    }
    if action == "receive" and service != "integration":
        group = "ehcp.{subscriber}" if service == "subscriber" else f"ehcp.{service}"
        operation["bindings"] = {"kafka": {"groupId": {"type": "string", "description": f"The group is {group}."}}}
    return operation


def _message(type_: EventType, references: Mapping[type[BaseModel], dict[str, Any]]) -> dict[str, Any]:
    model = MESSAGES[type_]
    (topic,) = (topic for topic in TOPICS.values() if type_ in topic.messages)
    signed = type_ in SIGNED
    content_type = "application/jose" if signed else "application/json"
    message: dict[str, Any] = {
        "name": type_.value,
        "title": model.__name__,
        "summary": (model.__doc__ or "").strip().partition("\n\n")[0],
        "contentType": content_type,
        "headers": _headers(type_, content_type),
        "payload": references[model],
        "bindings": {"kafka": {"key": {"type": "string", "description": topic.key}}},
    }
    if signed:
        message["payload"] = {
            "type": "string",
            "pattern": r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$",
            "description": f"Compact JWS (RFC 7515), Ed25519, by the key that the council's directory has for this subscriber. "
            f"Its payload is the canonical JSON (RFC 8785) of {model.__name__}.",
            "x-jws-payload": references[model],
        }
    elif examples := _examples(model):
        message["examples"] = examples
    return message


_SENT_AGAIN = {
    "type": "string",
    "description": "A person at the council sent it again: try at once what waits, look into the record for what is held.",
}


def _headers(type_: EventType, content_type: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "content-type"],
        "properties": {
            "ce_specversion": {"const": "1.0"},
            "ce_id": {
                "type": "string",
                "description": "Of this message; an instruction that is sent again has another: go by its seq.",
            },
            "ce_type": {"const": type_.value},
            "ce_source": {
                "type": "string",
                "format": "uri-reference",
                "examples": ["/councils/332", "/subscribers/health"],
            },
            "ce_time": {"type": "string", "format": "date-time"},
            "content-type": {"const": content_type},
            **({"ce_sentagain": _SENT_AGAIN} if type_.startswith("ehcp.share.") else {}),
        },
    }


def _examples(model: type[BaseModel]) -> list[dict[str, Any]]:
    names = [name for name, published in MODELS.items() if published is model]
    return [
        {"name": path.stem, "payload": json.loads(path.read_text("utf-8"))}
        for name in names
        for path in sorted((EXAMPLES / name).glob("*.json"))
    ]


def main(arguments: list[str]) -> int:
    return published.run("schemas.asyncapi", {FILE: published.as_text(make_document())}, arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
