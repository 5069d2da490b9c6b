"""The port through which people hear of alerts, what is said, and its simplest adapter: the log.

Nothing personal leaves here: a plan's opaque id, the kind of recipient, the subscriber, the statutory clock or the kind of
difference, how late, and a link that asks for sign-in. A channel is handed the same digest again after a failure, so it makes
repeats recognisable by ``message_id``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol, assert_never
from uuid import UUID

import structlog

from schemas.alerts import AlertKind, ClearedBecause
from schemas.comparison import DifferenceKind
from services.notifier.store import Alert, Notice
from services.shared.law import UnknownRuleError, clock
from services.shared.law.counting import LONDON, london_date

log = structlog.get_logger()

LINES = 100
"""In one message; the rest is counted."""


class ChannelAwayError(Exception):
    """The channel did not take it; the same digest is handed over again later. The message says why, without addresses."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What one council is to hear at once."""

    message_id: UUID
    la_code: str
    council: str
    made_at: datetime
    raised: tuple[Alert, ...]
    cleared: tuple[tuple[Alert, ClearedBecause], ...]


class AlertChannel(Protocol):
    """``name`` stands in the database; ``gather_seconds`` is how long a first alert waits for others to go with it."""

    name: str
    gather_seconds: float

    async def send(self, digest: Digest) -> None:
        """Raises :class:`ChannelAwayError` when it was not taken."""
        ...


class LogChannel:
    """For those who watch logs, and as the channel that is always there."""

    name = "log"
    gather_seconds = 0.0

    async def send(self, digest: Digest) -> None:
        for alert in digest.raised:
            log.warning("alert_raised", **_ids(alert), due_at=alert.due_at.isoformat())
        for alert, because in digest.cleared:
            log.info("alert_cleared", **_ids(alert), because=because.value)


def _ids(alert: Alert) -> dict[str, str]:
    said = {
        "kind": alert.kind, "la_code": alert.la_code, "plan_id": alert.plan_id, "share_id": alert.share_id,
        "recipient_kind": alert.recipient_kind, "subscriber": alert.subscriber, "clock": alert.clock,
        "about": alert.about, "count": alert.count, "recall_id": alert.recall_id, "recall_level": alert.level,
    }  # fmt: skip
    return {name: str(value) for name, value in said.items() if value is not None}


def digest_of(message_id: UUID, la_code: str, council: str, made_at: datetime, notices: Sequence[Notice]) -> Digest:
    """What was raised and is cleared by now is told once, as cleared."""
    cleared = {each.alert.alert_id: (each.alert, each.cleared_because) for each in notices if each.cleared_because}
    raised = tuple(each.alert for each in notices if each.alert.alert_id not in cleared)
    return Digest(message_id, la_code, council, made_at, raised, tuple((a, b) for a, b in cleared.values() if b))


def subject(digest: Digest) -> str:
    counts = [(sum(alert.kind is kind for alert in digest.raised), _name(kind)) for kind in AlertKind]
    parts = [f"{count} {name}" for count, name in counts if count]
    if digest.cleared:
        parts.append(f"{len(digest.cleared)} cleared")
    return f"EHC plans: {', '.join(parts)}"


def text(digest: Digest, dashboard_url: str | None) -> str:
    """For people; times in Europe/London."""
    return "\n".join(_lines(digest, dashboard_url)) + "\n"


def _lines(digest: Digest, dashboard_url: str | None) -> Iterator[str]:
    yield digest.council
    for kind in AlertKind:
        alerts = [alert for alert in digest.raised if alert.kind is kind]
        if not alerts:
            continue
        yield ""
        yield _heading(kind)
        for alert in alerts[:LINES]:
            yield f"- {_about(alert)}; {_due(alert, digest.made_at)}"
            if dashboard_url and alert.plan_id:
                yield f"  {dashboard_url.rstrip('/')}/plans/{alert.plan_id}"
        if len(alerts) > LINES:
            yield f"- and {len(alerts) - LINES} more"
    if digest.cleared:
        yield ""
        yield "Cleared"
        for alert, because in digest.cleared[:LINES]:
            gone = alert.recall_id is not None and because is ClearedBecause.SATISFIED
            reason = "all copies are proved to be gone" if gone else _reason(because)
            yield f"- {_about(alert)} ({_name(alert.kind)}): {reason}"
        if len(digest.cleared) > LINES:
            yield f"- and {len(digest.cleared) - LINES} more"
    yield ""
    if dashboard_url:
        yield "Links ask you to sign in. This message names no child."
    else:
        yield "Look a plan up with `ehcp who PLAN`. This message names no child."


def _heading(kind: AlertKind) -> str:
    match kind:
        case AlertKind.MISSED:
            return "Missed: the newest version has not arrived by its due time"
        case AlertKind.REFUSED:
            return "Refused: it will not be taken until somebody looks at it"
        case AlertKind.UNDELIVERABLE:
            return "Undeliverable: no subscriber delivers to this recipient"
        case AlertKind.DUE_SOON:
            return "Due soon: the law's time for it runs out"
        case AlertKind.OVERDUE:
            return "Overdue: the law's time for it has run out"
        case AlertKind.SHARE_GAP:
            return "Share gap: somebody involved in the plan has no share of it"
        case AlertKind.UNCONFIRMED:
            return "Unconfirmed: a share with an unusual recipient waits for a second person"
        case AlertKind.DIFFERS:
            return "Differs: the case system says something else of the plan; `ehcp reconcile extract` says what"
        case AlertKind.NOT_HERE:
            return "Not here: in force in the case system, and the exchange does not know them"
        case AlertKind.RECALL:
            return "Recall: copies that must go are not proved to be gone"
        case AlertKind.SILENT:
            return "Silent: nothing is heard of a subscriber, so nothing may reach its recipients"
        case AlertKind.STOPPED:
            return "Stopped: a topic is not read, because too much of it was garbage; `ehcp dead-letters` shows it"
        case AlertKind.ORPHANED:
            return "Orphaned: copies are held of shares that the council does not know; `ehcp reconcile records` counts them"
        case AlertKind.NOT_ENDED:
            return "Not ended: records show copies as current that ended or were recalled; they are being ended again"
        case AlertKind.RECORDS_DIFFER:
            return (
                "Records differ: many copies were not as they should be within a day, and are filed again by themselves; "
                "`ehcp reconcile records` counts them"
            )
        case AlertKind.PAUSED:
            return "Paused: nothing is delivered to a recipient until its operator resumes it; what is late is still late"
        case AlertKind.AWAY:
            return (
                "Away: a record system has not answered for long, so nothing is delivered to it; "
                "where none is named, the subscriber does not reach this council's document API"
            )
        case AlertKind.UNASKED:
            return "Not asked: records have not said for more than a day what they hold; `ehcp reconcile records` says whose"
        case AlertKind.HELD:
            return "Held: it may have another child in it, and goes to nobody before a second person has looked"
        case _:
            assert_never(kind)


def _reason(because: ClearedBecause) -> str:
    match because:
        case ClearedBecause.SATISFIED:
            return "it has arrived"
        case ClearedBecause.NOT_DUE:
            return "it is due later"
        case ClearedBecause.NOT_REFUSED:
            return "it is being tried anew"
        case ClearedBecause.DELIVERABLE:
            return "a subscriber delivers to it now, or nothing is left to deliver"
        case ClearedBecause.GONE:
            return "there is no such share or plan any more"
        case ClearedBecause.SETTLED:
            return "it has been done, or is not to be done any more"
        case ClearedBecause.OVERDUE:
            return "it is overdue now"
        case ClearedBecause.AGREED:
            return "the case system and the exchange say the same now"
        case ClearedBecause.MORE:
            return "there are more of them now"
        case ClearedBecause.ESCALATED:
            return "still so, and told again"
        case ClearedBecause.HEARD:
            return "it has been heard of again, or it answers again"
        case ClearedBecause.RESUMED:
            return "the topic is read, or the recipient is delivered to, again"
        case _:
            assert_never(because)


def _name(kind: AlertKind) -> str:
    return kind.value.replace("_", " ")


def _what(alert: Alert) -> str:
    match alert.kind, alert.about:
        case _, None:
            return ""
        case AlertKind.RECORDS_DIFFER, str(difference):
            return f", {difference.replace('_', ' ')}"
        case kind, about:
            named = {AlertKind.PAUSED: "recipient", AlertKind.AWAY: "record system"}.get(kind, "topic")
            return f", {named} {about}"


def _about(alert: Alert) -> str:
    if alert.count is not None:
        return f"{alert.count} plan{'s' if alert.count > 1 else ''}"
    if alert.plan_id is None:
        return f"subscriber {alert.subscriber}{_what(alert)}"
    plan = f"plan {alert.plan_id}"
    if alert.kind is AlertKind.DIFFERS and alert.about is not None:
        return f"{plan}: {_difference(DifferenceKind(alert.about))}"
    if alert.recall_id is not None:
        return f"{plan}, recall {alert.recall_id}, level {alert.level}: {_outstanding(alert)}"
    if alert.clock is not None:
        return f"{plan}: {_must(alert.clock, london_date(alert.raised_at))} ({alert.reference})"
    if alert.recipient_kind is None:
        return plan
    kind = alert.recipient_kind.value.replace("_", " ")
    return f"{plan} to {kind}" + (f" through {alert.subscriber}" if alert.subscriber else "")


def _difference(kind: DifferenceKind) -> str:
    match kind:
        case DifferenceKind.NEVER_SHARED:
            return "in force there, and nobody should hold it here"
        case DifferenceKind.CEASED_THERE:
            return "over there, in force here"
        case DifferenceKind.UNKNOWN_THERE:
            return "in force here, not in the extract"
        case DifferenceKind.CEASED_HERE:
            return "in force there, over here"
        case DifferenceKind.SETTING_DIFFERS:
            return "another setting is named there"
        case DifferenceKind.REVIEW_NEWER:
            return "reviewed there after the version here was issued, and to be amended"
        case _:
            assert_never(kind)


def _outstanding(alert: Alert) -> str:
    counts = alert.outstanding or {}
    total = sum(counts.values())
    at = ", ".join(f"{subscriber} {count}" for subscriber, count in counts.items())
    return f"{total} {'copy' if total == 1 else 'copies'} outstanding ({at})"


def _must(id_: str, on: date) -> str:
    try:
        return clock(id_, on).must.rstrip(".")
    except UnknownRuleError:  # repealed while it ran
        return id_.replace("_", " ")


def _due(alert: Alert, at: datetime) -> str:
    due = alert.due_at.astimezone(LONDON)
    if alert.clock is not None:
        # The moment that is too late is midnight; people know the day before it as the last one.
        last = london_date(alert.due_at - timedelta(seconds=1))
        return f"due {_day(last)}{_late((london_date(at) - last).days)}"
    if alert.recall_id is not None:
        left = alert.due_at - at
        hours = f"{left // timedelta(hours=1)} h left" if left > timedelta(0) else "the time has run out"
        return f"report the breach by {_day(due.date())} {due:%H:%M} ({alert.reference}; {hours})"
    if alert.share_id is None:
        return f"since {_day(due.date())}" + (f" {due:%H:%M}" if alert.subscriber else "")
    return f"due {_day(due.date())} {due:%H:%M}{_late((at - alert.due_at).days)}"


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _late(days: int) -> str:
    return f", {days} day{'s' if days > 1 else ''} late" if days >= 1 else ""
