"""Stop listening to a topic that brings little but garbage: stopping beats flooding the table of dead letters.

Counts of each topic apart, so that one writer's trouble is its own. Pure; ``consume.py`` asks it after each batch. What is
stopped stays so until the service starts anew, or :meth:`Breaker.resume`: somebody must look first. No truth is lost
meanwhile: the records stay on the topic, instructions come from the council's list too, and what no receipt answers is sent
again.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

WINDOW = 1000
"""Records of one topic that are looked back at."""
AT_LEAST = 100
"""Garbage records below which nothing is stopped: a handful of bad ones is a dead letter each, and a person's look."""
SHARE = 0.5
"""Of the window, from which on a topic is stopped."""


@dataclass(slots=True)
class _Window:
    batches: deque[tuple[int, int]] = field(default_factory=deque)
    """(records, garbage) of each batch."""
    records: int = 0
    garbage: int = 0

    def add(self, records: int, garbage: int) -> None:
        self.batches.append((records, garbage))
        self.records += records
        self.garbage += garbage
        while self.records - self.batches[0][0] >= WINDOW:
            old_records, old_garbage = self.batches.popleft()
            self.records -= old_records
            self.garbage -= old_garbage


class Breaker:
    """``stopped`` are the topics that are not listened to."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}
        self.stopped: set[str] = set()

    def count(self, records: Mapping[str, int], garbage: Mapping[str, int]) -> set[str]:
        """By topic, of one batch; returns the topics that are to be stopped from now on."""
        tripped = set()
        for topic, number in records.items():
            window = self._windows.setdefault(topic, _Window())
            window.add(number, garbage.get(topic, 0))
            if topic not in self.stopped and window.garbage >= max(AT_LEAST, SHARE * window.records):
                tripped.add(topic)
        self.stopped |= tripped
        return tripped

    def resume(self, topic: str) -> None:
        """A person has looked: listen to it, and count anew."""
        self.stopped.discard(topic)
        self._windows.pop(topic, None)
