"""The words of an instruction: the whole wish for one share as it goes to the subscriber's topic, and domain events. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

import orjson
from pydantic import AwareDatetime, TypeAdapter

from schemas.base import Open
from schemas.events import EventType, PlanAmended, PlanFinalised, RecipientCode
from schemas.manifest import canonical
from services.ehcp_publisher.registry import Known
from services.ehcp_publisher.versions import Issued, changed_sections, hashes_by_letter
from services.shared.kafka import cloudevents

EVENTS_TOPIC = "ehcp.events.v1"
DATAREF = "/v1/documents/read"


@dataclass(frozen=True, slots=True)
class OutboxRow:
    topic: str
    key: str
    headers: dict[str, str]
    value: bytes


def shares_topic(subscriber: str) -> str:
    return f"ehcp.shares.{subscriber}.v1"


def source(la_code: str) -> str:
    return f"/councils/{la_code}"


def again(data: bytes, seq: int, la_code: str, requested_at: datetime, due_at: datetime) -> bytes:
    """The same wish under another ``seq``, in the name of the council that has the plan now."""
    times = {"requested_at": requested_at, "due_at": due_at}
    return canonical(orjson.loads(data) | {"seq": seq, "la_code": la_code} | {name: _time(at) for name, at in times.items()})


def _time(at: datetime) -> str:
    return str(_TIME.dump_python(at, mode="json"))


_TIME: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


def code_of(recipient: Known) -> RecipientCode:
    return RecipientCode(kind=recipient.kind, scheme=recipient.scheme, value=recipient.value)


def to_subscriber(
    subscriber: str,
    share_id: UUID,
    type_: str,
    la_code: str,
    data: bytes,
    at: datetime,
    marks: Mapping[str, str] = MappingProxyType({}),
) -> OutboxRow:
    """``marks`` are further headers."""
    headers = cloudevents.headers(type_, source(la_code), at)
    return OutboxRow(shares_topic(subscriber), str(share_id), {**headers, **marks}, data)


def issued(plan_id: UUID, la_code: str, version: Issued, replaces: Issued | None, at: datetime) -> OutboxRow:
    """The plan has a new current version: its first, or one that replaces another."""
    letters = hashes_by_letter(version)
    common: dict[str, Any] = {
        "la_code": la_code, "plan_id": plan_id, "version_id": version.version_id, "version": version.number,
        "issued_on": version.issued_on, "sections": tuple(letters),
    }  # fmt: skip
    if replaces is None:
        return domain_event(EventType.PLAN_FINALISED, plan_id, la_code, PlanFinalised(**common), at)
    changed = changed_sections(replaces.section_hashes, letters)
    event = PlanAmended(**common, replaces=replaces.version_id, changed_sections=changed)
    return domain_event(EventType.PLAN_AMENDED, plan_id, la_code, event, at)


def domain_event(type_: EventType, plan_id: UUID, la_code: str, event: Open, at: datetime) -> OutboxRow:
    return OutboxRow(
        EVENTS_TOPIC,
        str(plan_id),
        cloudevents.headers(type_, source(la_code), at),
        canonical(event.model_dump(mode="json")),
    )
