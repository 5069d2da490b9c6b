"""Alerts on ``ehcp.alerts.v1``: what should have arrived and did not. Opaque ids only; key is the plan's id."""

from enum import StrEnum
from uuid import UUID

from pydantic import AwareDatetime

from schemas.base import Open, RecipientKind
from schemas.events import Seq


class AlertKind(StrEnum):
    MISSED = "missed"
    """Not satisfied by its due time, counted from the oldest unsatisfied instruction."""
    REFUSED = "refused"
    """The recipient's side will not take it until a person or a new instruction changes something."""
    UNDELIVERABLE = "undeliverable"
    """No subscriber delivers to this recipient."""


class ClearedBecause(StrEnum):
    SATISFIED = "satisfied"
    NOT_DUE = "not_due"
    """The due time was moved."""
    NOT_REFUSED = "not_refused"
    """A newer instruction or receipt came."""
    DELIVERABLE = "deliverable"
    """A subscriber delivers to this recipient now, or nothing is to be delivered any more."""
    GONE = "gone"
    """The council has no such share any more (restored from a backup)."""


class AlertRaised(Open):
    alert_id: UUID
    kind: AlertKind
    la_code: str
    plan_id: UUID
    share_id: UUID
    seq: Seq
    recipient_kind: RecipientKind
    subscriber: str | None = None
    due_at: AwareDatetime
    raised_at: AwareDatetime


class AlertCleared(AlertRaised):
    cleared_at: AwareDatetime
    because: ClearedBecause
