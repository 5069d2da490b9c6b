"""The words of an instruction: the whole wish for one share as it goes to the subscriber's topic, and domain events. Pure."""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from schemas.base import Open
from schemas.events import EventType, RecipientCode, ShareRequested, ShareWithdrawn
from schemas.manifest import canonical
from schemas.plan import SectionLetter
from services.ehcp_publisher.registry import Known
from services.shared.kafka import cloudevents

EVENTS_TOPIC = "ehcp.events.v1"
_DATAREF = "/v1/documents/read"


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


def hold(
    *, share_id: UUID, seq: int, la_code: str, plan_id: UUID, recipient: Known, version_id: UUID, version: int,
    issued_on: date, sha256: str, sections: tuple[SectionLetter, ...], changed: tuple[SectionLetter, ...],
    requested_at: datetime, due_at: datetime,
) -> bytes:  # fmt: skip
    return canonical(
        ShareRequested(
            share_id=share_id, seq=seq, la_code=la_code, plan_id=plan_id, recipient=code_of(recipient),
            version_id=version_id, version=version, issued_on=issued_on, sha256=sha256, sections=sections,
            changed_sections=changed, requested_at=requested_at, due_at=due_at, dataref=_DATAREF,
        ).model_dump(mode="json")
    )  # fmt: skip


def withdraw(
    *, share_id: UUID, seq: int, la_code: str, plan_id: UUID, recipient: Known, requested_at: datetime, due_at: datetime
) -> bytes:
    return canonical(
        ShareWithdrawn(
            share_id=share_id, seq=seq, la_code=la_code, plan_id=plan_id, recipient=code_of(recipient),
            requested_at=requested_at, due_at=due_at,
        ).model_dump(mode="json")
    )  # fmt: skip


def code_of(recipient: Known) -> RecipientCode:
    return RecipientCode(kind=recipient.kind, scheme=recipient.scheme, value=recipient.value)


def to_subscriber(subscriber: str, share_id: UUID, type_: str, la_code: str, data: bytes, at: datetime) -> OutboxRow:
    return OutboxRow(shares_topic(subscriber), str(share_id), cloudevents.headers(type_, source(la_code), at), data)


def domain_event(type_: EventType, plan_id: UUID, la_code: str, event: Open, at: datetime) -> OutboxRow:
    return OutboxRow(
        EVENTS_TOPIC,
        str(plan_id),
        cloudevents.headers(type_, source(la_code), at),
        canonical(event.model_dump(mode="json")),
    )
