"""What is wrong with a share now, and whether an alert that was raised still holds. Pure.

Judged from what the council wants and what receipts say, so that silence is noticed: a share of which nobody ever heard is
as visible as one that failed. ``now`` is the council's database clock, against which due times were set.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from schemas.alerts import AlertKind, ClearedBecause
from schemas.base import RecipientKind
from schemas.receipts import Status

OF_SHARES = frozenset({AlertKind.MISSED, AlertKind.REFUSED, AlertKind.UNDELIVERABLE})
"""The others are about a plan (:mod:`services.notifier.clocks`) a comparison (:mod:`~.comparisons`), or a subscriber."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One share: the council's newest wish, and the newest receipt for any of its instructions."""

    share_id: UUID
    plan_id: UUID
    la_code: str
    recipient_kind: RecipientKind
    subscriber: str | None
    seq: int
    withdrawn: bool
    due_at: datetime
    """Of the oldest unsatisfied instruction."""
    satisfied_seq: int
    told_seq: int | None
    told: Status | None
    silent: bool = False
    """Nothing more goes to this recipient: the family of a child who died."""

    @property
    def satisfied(self) -> bool:
        return self.satisfied_seq >= self.seq


def troubles(share: Wanted, now: datetime) -> frozenset[AlertKind]:
    """All that is wrong: one that was refused is missed as well once it is due, since the law's clock does not stop."""
    return frozenset(kind for kind in OF_SHARES if why_cleared(kind, share, now) is None)


def why_cleared(kind: AlertKind, share: Wanted | None, now: datetime) -> ClearedBecause | None:
    """None while this trouble is there. ``share`` is None when the council has no such share any more."""
    if share is None:
        return ClearedBecause.GONE
    if share.satisfied:
        return ClearedBecause.SATISFIED
    if share.silent:
        return ClearedBecause.SETTLED
    # A withdrawal that nobody can deliver: no person can do anything about it.
    if share.subscriber is None and share.withdrawn:
        return ClearedBecause.DELIVERABLE
    match kind:
        case AlertKind.MISSED:
            return None if share.due_at < now else ClearedBecause.NOT_DUE
        case AlertKind.REFUSED:
            refused = share.told is Status.REFUSED and share.told_seq == share.seq
            return None if refused else ClearedBecause.NOT_REFUSED
        case AlertKind.UNDELIVERABLE:
            return None if share.subscriber is None else ClearedBecause.DELIVERABLE
        case _:
            raise ValueError(f"{kind} is not about one share")
