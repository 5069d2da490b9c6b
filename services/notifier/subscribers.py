"""What is wrong with a subscriber: long silence, a topic that is not read because it was mostly garbage, a recipient that is
paused, a record system that does not answer, or records in which something stands that a person must look at. Pure.

A subscriber that is dead, cut off or stuck cannot say so, so its silence is the alarm. If all of them are silent at once, it is
audit or Kafka that is away. ``now`` is the council's database clock, by which a heartbeat was noted when it came.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from schemas.alerts import AlertKind, ClearedBecause
from services.shared.delivery.differences import Difference

OF_RECORDS = {Difference.ORPHAN: AlertKind.ORPHANED, Difference.SHOULD_HAVE_BEEN_WITHDRAWN: AlertKind.NOT_ENDED}
"""Differences that a person must hear of, even one."""
MENDED = (Difference.NEVER_ARRIVED, Difference.STALE, Difference.MISSING_FROM_RECORD, Difference.ALTERED)
"""These mend themselves, so one is nobody's concern. Many within a day are a record that was emptied or restored, or messages
that are lost: filed again before anything is late, nobody would hear of it."""
MANY = 10
FEW = 3
ONE_IN = 10
"""``FEW`` are many where that is one in ten of all that is held."""
KINDS = frozenset(
    {
        AlertKind.SILENT, AlertKind.STOPPED, AlertKind.UNASKED, AlertKind.PAUSED, AlertKind.AWAY, AlertKind.RECORDS_DIFFER,
        *OF_RECORDS.values(),
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Subscriber:
    name: str
    heard_at: datetime
    """Its last heartbeat; of one that was never heard of, when it was registered."""
    stopped: frozenset[str]
    """Topics that it, or audit on the other end, does not read."""
    differences: Mapping[str, int] = field(default_factory=dict)
    """How many of each kind it found in its records within a day; none is left out."""
    paused: Mapping[str, datetime] = field(default_factory=dict)
    """Recipients to which it delivers nothing just now, and since when."""
    away: Mapping[str, datetime] = field(default_factory=dict)
    """Record systems where nobody has answered for long, and since when; the empty name is the council's document API."""
    unasked_since: datetime | None = None
    """When copies should have been asked after that, more than a day later, nobody could ask after."""
    held: int = 0
    """Shares of which its recipients hold something."""

    def many(self) -> list[str]:
        """Kinds of difference that mend themselves, and of which there are too many to pass over."""
        counts = ((kind, self.differences.get(kind, 0)) for kind in MENDED)
        return [kind.value for kind, n in counts if n >= MANY or (n >= FEW and n * ONE_IN >= self.held)]


@dataclass(frozen=True, slots=True)
class Trouble:
    """``about`` is the topic, the recipient's code or the record system; ``since`` from when on, as far as it is known."""

    kind: AlertKind
    subscriber: str
    about: str | None
    since: datetime


def troubles(
    subscribers: Collection[Subscriber], now: datetime, watching_since: datetime, silent_after: timedelta
) -> Iterator[Trouble]:
    """``watching_since``: when everything was down, who starts first must not take the others for dead."""
    for each in subscribers:
        if now - max(each.heard_at, watching_since) > silent_after:
            yield Trouble(AlertKind.SILENT, each.name, None, each.heard_at)
        for topic in sorted(each.stopped):
            yield Trouble(AlertKind.STOPPED, each.name, topic, now)
        for difference, kind in OF_RECORDS.items():
            if difference in each.differences:
                yield Trouble(kind, each.name, None, now)
        for name in each.many():
            yield Trouble(AlertKind.RECORDS_DIFFER, each.name, name, now)
        for recipient, since in sorted(each.paused.items()):
            yield Trouble(AlertKind.PAUSED, each.name, recipient, since)
        for record_system, since in sorted(each.away.items()):
            yield Trouble(AlertKind.AWAY, each.name, record_system or None, since)
        if each.unasked_since is not None:
            yield Trouble(AlertKind.UNASKED, each.name, None, each.unasked_since)


def why_cleared(
    kind: AlertKind, about: str | None, subscriber: Subscriber | None, now: datetime, silent_after: timedelta
) -> ClearedBecause | None:
    """None while this trouble is there. ``subscriber`` is None when it has nothing to deliver for the council any more."""
    if subscriber is None:
        return ClearedBecause.SETTLED
    if kind is AlertKind.SILENT:
        return None if now - subscriber.heard_at > silent_after else ClearedBecause.HEARD
    if kind is AlertKind.UNASKED:
        return None if subscriber.unasked_since is not None else ClearedBecause.SETTLED
    if kind in OF_RECORDS.values():
        there = {OF_RECORDS.get(Difference(each)) for each in subscriber.differences}
        return None if kind in there else ClearedBecause.SETTLED
    if kind is AlertKind.RECORDS_DIFFER:
        return None if about in subscriber.many() else ClearedBecause.SETTLED
    if kind is AlertKind.AWAY:
        return None if (about or "") in subscriber.away else ClearedBecause.HEARD
    if kind is AlertKind.PAUSED:
        return None if about in subscriber.paused else ClearedBecause.RESUMED
    return None if about in subscriber.stopped else ClearedBecause.RESUMED
