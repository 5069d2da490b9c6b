"""Leave a record system alone that does not answer, and notice when it does again. Pure; one for each lane.

Without it a thousand waiting deliveries would each find out by a time-out of their own, and after a long outage each would wait
out its own back-off, up to ten hours, although the record is back. In memory only: a new process finds out by one batch.
"""

from dataclasses import dataclass

FIRST_REST_SECONDS = 5.0
LONGEST_REST_SECONDS = 300.0


@dataclass(slots=True)
class Breaker:
    """Times are of the event loop's clock, in seconds."""

    away: int = 0
    """Batches in a row to which nobody answered."""
    rests_until: float = 0.0
    answered_before: bool = False

    def rests(self, now: float) -> bool:
        return now < self.rests_until

    def nobody_answered(self, now: float, asked: float | None) -> float:
        """After a batch; returns for how long it is left alone: as long as it ``asked`` for, else twice as long as last."""
        rest = max(min(FIRST_REST_SECONDS * 2.0 ** min(self.away, 10), LONGEST_REST_SECONDS), asked or 0.0)
        self.away += 1
        self.rests_until = now + rest
        return rest

    def answered(self) -> bool:
        """After a batch; True when it is back, or has not answered before: what waits for it may be tried now.

        One silent batch is no outage: it may be one delivery that always takes too long, and hurrying that would never end.
        """
        back = self.away > 1 or not self.answered_before
        self.away, self.rests_until, self.answered_before = 0, 0.0, True
        return back
