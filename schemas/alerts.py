"""Alerts on ``ehcp.alerts.v1``: what should have arrived and did not, or have been done by law and was not.

Opaque ids only; key is the plan's id. An alert is about one share, or about a plan as a whole: a statutory clock, somebody
without a share, somebody who waits to be confirmed, a difference from the case system. What is about no plan is an event of
its own: :class:`CouncilAlertRaised`.
"""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from schemas.base import Open, RecipientKind
from schemas.comparison import DifferenceKind
from schemas.events import Seq


class AlertKind(StrEnum):
    MISSED = "missed"
    """Not satisfied by its due time, counted from the oldest unsatisfied instruction."""
    REFUSED = "refused"
    """The recipient's side will not take it until a person or a new instruction changes something."""
    UNDELIVERABLE = "undeliverable"
    """No subscriber delivers to this recipient."""
    DUE_SOON = "due_soon"
    """A statutory clock of the plan runs out soon."""
    OVERDUE = "overdue"
    """A statutory clock of the plan has run out."""
    SHARE_GAP = "share_gap"
    """Somebody involved in the plan has no share of it."""
    UNCONFIRMED = "unconfirmed"
    """A share with an unusual recipient waits for a second person's confirmation."""
    DIFFERS = "differs"
    """The case system says something else of the plan than the exchange does."""
    NOT_HERE = "not_here"
    """Plans are in force in the case system that the exchange does not know."""
    RECALL = "recall"
    """Copies of what was recalled are not proved to be gone; raised again, at a higher level, as the 72 hours run out."""
    SILENT = "silent"
    """Nothing has been heard of a subscriber for long."""
    STOPPED = "stopped"
    """A topic is not read, because too much of it was garbage."""
    ORPHANED = "orphaned"
    """A subscriber holds copies of shares that the council does not know."""
    NOT_ENDED = "not_ended"
    """Records show copies as if they had not ended, or had not been recalled."""
    RECORDS_DIFFER = "records_differ"
    """Many copies of a subscriber were found missing, stale, altered or never arrived within a day; they mend themselves."""
    UNASKED = "unasked"
    """Records could not be asked for more than a day what they hold."""
    HELD = "held"
    """A version or a notice is held: it may have another child in it, and waits for a second person."""

    PAUSED = "paused"
    """Nothing is delivered to a recipient until its operator resumes it."""
    AWAY = "away"
    """A subscriber's record system has not answered for long, so nothing is delivered to it."""


class ClearedBecause(StrEnum):
    SATISFIED = "satisfied"
    NOT_DUE = "not_due"
    """The due time was moved."""
    NOT_REFUSED = "not_refused"
    """A newer instruction or receipt came."""
    DELIVERABLE = "deliverable"
    """A subscriber delivers to this recipient now, or nothing is to be delivered any more."""
    GONE = "gone"
    """The council has no such share or plan any more (restored from a backup)."""
    SETTLED = "settled"
    """It has been done, or is not to be done any more: the plan has ended, or the recipient is to hear nothing more."""
    OVERDUE = "overdue"
    """What was due soon is overdue; another alert says so."""
    AGREED = "agreed"
    """The last comparison did not find this difference any more."""
    MORE = "more"
    """There are more of them now; another alert says so."""
    ESCALATED = "escalated"
    """It is still so; an alert of a higher level says it."""
    HEARD = "heard"
    """It has been heard of again, or answers again."""
    RESUMED = "resumed"
    """The topic is read again, or the recipient is delivered to again."""


class AlertRaised(Open):
    alert_id: UUID
    kind: AlertKind
    la_code: str
    plan_id: UUID
    share_id: UUID | None = None
    """With ``seq`` and ``recipient_kind`` where the alert is about one share."""
    seq: Seq | None = None
    recipient_kind: RecipientKind | None = None
    subscriber: str | None = None
    clock: str | None = None
    """The statutory clock, where it is about one."""
    reference: str | None = None
    """The law that the clock comes from."""
    difference: DifferenceKind | None = None
    """Where the case system says something else."""
    recall_id: UUID | None = None
    """With ``level`` and ``outstanding`` where it is about a recall."""
    level: Annotated[int, Field(ge=1)] | None = None
    """Rises from 1 while the recall is open."""
    outstanding: dict[str, int] | None = None
    """By subscriber: how many of its recipients' copies nobody has proved to be gone, when the alert was raised."""
    due_at: AwareDatetime
    """Of a clock: the end of its last day in Europe/London. Of a share gap or a confirmation: since when it has waited. Of a
    hold too. Of a difference: since when it was found. Of a recall: when the time to report the breach has run out."""
    raised_at: AwareDatetime


class AlertCleared(AlertRaised):
    cleared_at: AwareDatetime
    because: ClearedBecause


class CouncilAlertRaised(Open):
    """About no single plan: a council as a whole, or a subscriber that delivers for it."""

    alert_id: UUID
    kind: AlertKind
    la_code: str
    count: Annotated[int, Field(ge=1)] | None = None
    """How many plans it concerns, where they have no id here."""
    subscriber: str | None = None
    about: str | None = None
    """What of it: a topic that is not read, a paused recipient's code, the name of a record system that is away, the kind of
    difference between the records and what was filed."""
    since: AwareDatetime
    raised_at: AwareDatetime


class CouncilAlertCleared(CouncilAlertRaised):
    cleared_at: AwareDatetime
    because: ClearedBecause
