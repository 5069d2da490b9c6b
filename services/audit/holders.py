"""Say for one share who holds what, in the display words of the exchange. Pure: from wish, newest receipt and time.

``status`` is about the version that is wanted; ``held_…`` is what the recipient holds now, maybe an older one.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from schemas.receipts import Status

NO_SUBSCRIBER = "no subscriber delivers to this recipient"
RESTRICTED = "the plan is restricted: send nothing until a named person lifts that"
"""Said also where no subscriber could find out by itself: of what an officer is to post."""


class Shown(StrEnum):
    """What a person reads. ``missed``: not satisfied when due, counted from the oldest unsatisfied instruction."""

    WAITING = "waiting"
    SENT = "sent"
    COLLECTED = "collected"
    FILED = "filed"
    OPENED = "opened"
    MISSED = "missed"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    RECALLED = "recalled"


_EVIDENCE: dict[Status | None, Shown] = {
    Status.SENT: Shown.SENT,
    Status.COLLECTED: Shown.COLLECTED,
    Status.OPENED: Shown.OPENED,
    Status.FILED: Shown.FILED,
}
_SATISFYING = {*_EVIDENCE, Status.WITHDRAWN, Status.RECALLED, Status.RELEASED}
_ENDED = {"withdraw": Shown.WITHDRAWN, "recall": Shown.RECALLED}
"""What is shown once an ending is satisfied."""


class Holder(BaseModel):
    """One share: who should hold which version, and what became of it."""

    share_id: UUID
    plan_id: UUID
    case_reference: str
    la_code: str
    recipient: str
    """Name of an organisation; for a person the council's reference label, never a name."""
    recipient_kind: str
    channel: str
    notice: str | None
    """The kind of the notice that the share is of; None for the plan itself."""
    subscriber: str | None
    hosted_by: str | None
    version: int | None
    """The version wanted; None where the share was withdrawn or recalled: nothing more is wanted then, whatever is held."""
    version_id: UUID | None
    seq: int
    status: Shown
    satisfied: bool
    evidence: Shown | None
    """How strong the proof is for the version wanted; None while there is none."""
    reason: str | None
    """Why it is not satisfied, as far as anybody said; or a warning about what was filed."""
    record: str | None
    """The record system's own id of the version wanted."""
    failed_tries: int | None
    """How often it has failed, while it does; ``next_try_at`` is the subscriber's word."""
    next_try_at: datetime | None
    held_version: int | None
    held_record: str | None
    requested_at: datetime
    due_at: datetime
    at: datetime | None
    """When the newest receipt for the version wanted was written."""
    seconds: float | None
    """From ``requested_at`` to ``at``, once the version has reached the recipient or was refused."""


def holder(row: Mapping[str, Any]) -> Holder:
    """From a row of the holders query."""
    satisfied = row["satisfied_seq"] >= row["seq"]
    # A receipt for an older instruction says nothing of the wish as it is now.
    told = Status(row["status"]) if row["told_seq"] == row["seq"] else None
    record, at = (row["record"], row["at"]) if told else (None, None)
    if satisfied and told not in _SATISFYING and row["held_status"]:
        # The newest word ("superseded") takes nothing back: what was proved before it is what counts.
        told, record, at = Status(row["held_status"]), row["held_record"], row["held_at"]
    status = _status(row, told, satisfied=satisfied)
    wanted = {name: row[name] if row["action"] == "hold" else None for name in ("version", "version_id")}
    failed = told is Status.FAILED and not satisfied
    reached = at is not None and status not in (Shown.WAITING, Shown.MISSED)
    return Holder(
        **{name: row[name] for name in _AS_IS},
        **wanted,
        recipient=row["recipient_name"],
        status=status,
        satisfied=satisfied,
        evidence=_EVIDENCE.get(told),
        reason=_reason(row, told, satisfied=satisfied),
        record=record,
        failed_tries=row["failed_tries"] if failed else None,
        next_try_at=row["next_try_at"] if failed else None,
        at=at,
        # The two times come from two clocks, which may differ by more than a fast delivery takes.
        seconds=round(max(0.0, (at - row["requested_at"]).total_seconds()), 3) if reached else None,
    )


_AS_IS = (
    "share_id", "plan_id", "case_reference", "la_code", "recipient_kind", "channel", "notice", "subscriber", "hosted_by",
    "seq", "held_version", "held_record", "requested_at", "due_at",
)  # fmt: skip


def _status(row: Mapping[str, Any], told: Status | None, *, satisfied: bool) -> Shown:
    ended = _ENDED.get(row["action"])
    if ended is not None and (satisfied or row["subscriber"] is None):
        return ended  # satisfied, or nobody was ever there to hold it
    if satisfied:
        return _EVIDENCE.get(told, Shown.WAITING)
    if told is Status.REFUSED:
        return Shown.REFUSED  # also when overdue: it says what to do, and the missed alert is raised all the same
    if row["due_at"] < row["now"]:
        return Shown.MISSED
    return _EVIDENCE.get(told, Shown.WAITING)


def _reason(row: Mapping[str, Any], told: Status | None, *, satisfied: bool) -> str | None:
    if row["subscriber"] is None and not satisfied and row["action"] == "hold":
        return NO_SUBSCRIBER
    reason: str | None = row["reason"] if told else None
    if reason is None and row["restricted"] and row["action"] == "hold" and not satisfied and told not in _EVIDENCE:
        return RESTRICTED
    return reason
