"""What an instruction means for what is there, what an outcome means for a delivery, and when to try again. Pure.

The invariants of the whole exchange are here: a lower ``seq`` never replaces a higher one, an equal ``seq`` with another hash
is never believed, and what is held only ever rises.
"""

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from schemas.receipts import Status
from services.shared.record_systems.port import (
    Awaiting,
    Collected,
    Filed,
    Outcome,
    RecallOutcome,
    Refused,
    Removed,
    Retry,
    Sent,
    Withdrawn,
    WithdrawOutcome,
)


class Action(StrEnum):
    HOLD = "hold"
    WITHDRAW = "withdraw"
    RECALL = "recall"
    """Remove what should never have been there, and prove it."""
    RELEASE = "release"
    """Another subscriber serves the recipient now: leave the record alone."""


@dataclass(frozen=True, slots=True)
class Wish:
    """The part of an instruction that ordering looks at. ``sha256`` is None where nothing more is to be held."""

    seq: int
    action: Action
    sha256: str | None


class Parked(StrEnum):
    """What parking an instruction does."""

    NEW = "new"
    """Nothing was known, or a lower ``seq``: this is the wish now."""
    AGAIN = "again"
    """The same instruction: its newest receipt is sent again."""
    SUPERSEDED = "superseded"
    """A newer one is here: recorded, never delivered."""
    CONFLICT = "conflict"
    """Equal ``seq``, another wish: a restored backup counted again. Refused and reported."""
    TOO_FAR = "too_far"
    """So high a ``seq`` that nothing explains it, and that none the council gives later would be higher."""


FARTHEST_AHEAD = 1_000_000
"""How far a ``seq`` may be above the one before. A restored backup explains a few; whoever is told of a higher one counts on
from there, so that the highest number there is would leave none to count on with."""


def park(known: Wish | None, coming: Wish) -> Parked:
    if coming.seq > (known.seq if known else 0) + FARTHEST_AHEAD:
        return Parked.TOO_FAR
    if known is None or coming.seq > known.seq:
        return Parked.NEW
    if coming.seq < known.seq:
        return Parked.SUPERSEDED
    return Parked.AGAIN if coming == known else Parked.CONFLICT


BACK_OFF = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0)
"""Seconds before the second, third … attempt; the last repeats for ever, since a statutory share is never given up."""


def back_off(attempts: int, asked: float | None = None, jitter: float | None = None) -> float:
    """Seconds until the next attempt after ``attempts`` failed ones; never sooner than the peer ``asked``.

    Up to a fifth more, at random, so that recipients that failed together do not come back together.
    """
    base = BACK_OFF[min(max(attempts, 1), len(BACK_OFF)) - 1]
    spread = random.random() if jitter is None else jitter
    return max(base, asked or 0.0) * (1 + 0.2 * spread)


def status_of(outcome: Outcome | WithdrawOutcome | RecallOutcome) -> Status:
    """What a receipt says of an outcome."""
    match outcome:
        case Filed():
            return Status.FILED
        case Collected():
            return Status.COLLECTED
        case Sent():
            return Status.SENT
        case Awaiting():
            return Status.WAITING
        case Retry():
            return Status.FAILED
        case Refused():
            return Status.REFUSED
        case Withdrawn():
            return Status.WITHDRAWN
        case Removed():
            return Status.RECALLED
        case _:
            assert_never(outcome)


EVIDENCE: dict[Status, frozenset[Status]] = {
    Status.WAITING: frozenset({Status.SENT, Status.COLLECTED, Status.OPENED, Status.FILED, Status.REFUSED}),
    Status.FAILED: frozenset({Status.SENT, Status.COLLECTED, Status.OPENED, Status.FILED, Status.REFUSED}),
    Status.SENT: frozenset({Status.COLLECTED, Status.OPENED, Status.FILED, Status.REFUSED}),
    Status.COLLECTED: frozenset({Status.OPENED, Status.FILED, Status.REFUSED}),
    Status.OPENED: frozenset({Status.FILED}),
}
"""Which later evidence may follow which state of the same ``seq``; everything else is refused.

A person may open an item, or a recipient's system say that it was collected or filed, before the dispatcher has written that it
is there, or although it noted a failure: a peer that answered too late may have done it all the same.
"""


STATEMENT_OF_REMOVAL = frozenset({Status.WAITING, Status.FAILED, Status.REFUSED})
"""States of a recall that a person may end by stating that it was removed, whatever the record system said before."""


def holds_now(state: Status, held_seq: int, seq: int) -> bool:
    """Whether what this instruction wants held is there. It was once where ``held_seq`` says so; after that a check of the
    record, or a person who sends it again, may have put it to work anew."""
    return held_seq == seq and state not in (Status.WAITING, Status.FAILED, Status.REFUSED)


def accepts(action: Action, state: Status, evidence: Status) -> bool:
    match action:
        case Action.HOLD:
            return evidence in EVIDENCE.get(state, frozenset())
        case Action.RECALL:
            return evidence is Status.RECALLED and state in STATEMENT_OF_REMOVAL
        case Action.WITHDRAW | Action.RELEASE:
            return False
        case _:
            assert_never(action)


OVERTAKEN: tuple[tuple[Status, Status], ...] = tuple(
    (outcome, proof) for outcome, proofs in EVIDENCE.items() for proof in sorted(proofs - {Status.REFUSED})
)
"""(outcome, state) where evidence that came during a delivery says more than the delivery's own outcome: it stands."""
