"""Events over HTTP as CloudEvents 1.0 has it (JSON batch format): what is on the topics, for those whom no Kafka reaches.

The same attributes, the same value, the same key (as ``partitionkey``), so that whoever reads a record off Kafka reads one from
here. Written by the publisher's feed and by a subscriber's receipts; read by ``delivery/feed.py`` and by audit.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from services.shared.json import dumps
from services.shared.kafka.consume import Record

CONTENT_TYPE = "application/cloudevents-batch+json"
MAX_EVENTS = 500
"""In one request or answer."""
NO_PARTITION = -1
"""Of a record that came over HTTP; its offset is its place in the batch."""
_JSON = "application/json"


DESCRIBED: dict[str, Any] = {
    CONTENT_TYPE: {
        "schema": {
            "type": "array",
            "maxItems": MAX_EVENTS,
            "items": {
                "type": "object",
                "description": "A CloudEvent 1.0: the same attributes and data as on the topic.",
                "required": ["specversion", "id", "type", "source", "partitionkey", "data"],
                "properties": {
                    "specversion": {"const": "1.0"},
                    "id": {"type": "string"},
                    "type": {"type": "string"},
                    "source": {"type": "string"},
                    "time": {"type": "string", "format": "date-time"},
                    "datacontenttype": {"type": "string"},
                    "partitionkey": {"type": "string", "description": "The record's key on the topic."},
                    "data": {"description": "JSON, or the text of a compact JWS."},
                },
            },
        }
    }
}
"""For OpenAPI."""


class NoBatchError(ValueError):
    """One sentence: why this is no batch of events."""


def event(key: str, headers: Mapping[str, str], value: bytes) -> dict[str, Any]:
    """From what an outbox holds: ``headers`` as in Kafka's binary mode. Raises ``ValueError`` when ``value`` is no text."""
    attributes: dict[str, Any] = {name[3:]: text for name, text in headers.items() if name.startswith("ce_")}
    content_type = headers.get("content-type", _JSON)
    data = orjson.Fragment(value) if content_type == _JSON else value.decode()
    return attributes | {"datacontenttype": content_type, "partitionkey": key, "data": data}


def write(events: Iterable[Mapping[str, Any]]) -> bytes:
    return dumps(list(events))


def read(body: bytes, topic: str) -> list[Record]:
    """The events as records of ``topic``, in order. Raises :class:`NoBatchError`."""
    try:
        events = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise NoBatchError("the body is not JSON") from None
    if not isinstance(events, list) or not all(isinstance(each, dict) for each in events):
        raise NoBatchError("the body is not an array of CloudEvents")
    if len(events) > MAX_EVENTS:
        raise NoBatchError(f"more than {MAX_EVENTS} events at once")
    return [_record(each, topic, position) for position, each in enumerate(events)]


def _record(attributes: Mapping[str, Any], topic: str, position: int) -> Record:
    """Whatever it holds; what it is worth, its reader judges."""
    data = attributes.get("data")
    value = data.encode() if isinstance(data, str) else dumps(data)
    headers = tuple(
        (f"ce_{name}", text.encode())
        for name, text in attributes.items()
        if isinstance(text, str) and name not in ("data", "partitionkey")
    )
    key = attributes.get("partitionkey")
    return Record(topic, NO_PARTITION, position, key.encode() if isinstance(key, str) else b"", value, headers)
