"""What is wrong with a subscriber: long silence, or a topic that is not read because it was mostly garbage. Pure.

A subscriber that is dead, cut off or stuck cannot say so, so its silence is the alarm. If all of them are silent at once, it is
audit or Kafka that is away. ``now`` is the council's database clock, by which a heartbeat was noted when it came.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.alerts import AlertKind, ClearedBecause

KINDS = frozenset({AlertKind.SILENT, AlertKind.STOPPED})


@dataclass(frozen=True, slots=True)
class Subscriber:
    name: str
    heard_at: datetime
    """Its last heartbeat; of one that was never heard of, when it was registered."""
    stopped: frozenset[str]
    """Topics that it, or audit on the other end, does not read."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """``about`` is the topic, ``since`` from when on, as far as it is known."""

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


def why_cleared(
    kind: AlertKind, about: str | None, subscriber: Subscriber | None, now: datetime, silent_after: timedelta
) -> ClearedBecause | None:
    """None while this trouble is there. ``subscriber`` is None when it has nothing to deliver for the council any more."""
    if subscriber is None:
        return ClearedBecause.SETTLED
    if kind is AlertKind.SILENT:
        return None if now - subscriber.heard_at > silent_after else ClearedBecause.HEARD
    return None if about in subscriber.stopped else ClearedBecause.RESUMED
