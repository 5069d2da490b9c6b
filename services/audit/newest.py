"""What all receipts of one share say together. Pure, and a function of the set: order and repeats change nothing.

The newest by (``seq``, number) counts, so *filed, then found missing* can be said. :func:`fold` gives the row of
``audit.newest``, which the publisher's resend sweep, the notifier and the holders answer read.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from schemas.receipts import Status

_HOLDS = frozenset({Status.SENT, Status.COLLECTED, Status.FILED, Status.OPENED})
_GONE = frozenset({Status.FAILED, Status.REFUSED, Status.RECALLED, Status.CONFLICT})
"""Said after a version was held, and for the same ``seq``: it is not known to be there any more."""


@dataclass(frozen=True, slots=True)
class Told:
    """One stored receipt. ``satisfies`` was judged when it came."""

    number: int
    seq: int
    status: Status
    satisfies: bool
    version_id: UUID | None
    sha256: str | None
    record: str | None
    reason: str | None
    next_try_at: datetime | None
    at: datetime
    removed: Collection[UUID] = ()
    """Recalled versions that are proved to be gone."""

    @property
    def place(self) -> tuple[int, int]:
        return self.seq, self.number


@dataclass(frozen=True, slots=True)
class Newest:
    """``newest`` is the word that counts; ``held`` the receipt for what the recipient holds, as far as is known."""

    newest: Told
    satisfied_seq: int
    lost: bool
    """Once satisfied, and a newer receipt for the same ``seq`` says otherwise."""
    held: Told | None


def fold(receipts: Collection[Told]) -> Newest:
    """``receipts`` of one share, at least one. Of each (``seq``, status, satisfies) the newest is enough."""
    last_word: dict[int, Told] = {}
    for told in receipts:
        # "Superseded" closes a delivery; it takes nothing back that an earlier receipt for the same seq has proved.
        if told.status is not Status.SUPERSEDED and (told.seq not in last_word or told.number > last_word[told.seq].number):
            last_word[told.seq] = told
    satisfied_seq = max((told.seq for told in last_word.values() if told.satisfies), default=0)
    return Newest(
        newest=max(receipts, key=lambda told: told.place),
        satisfied_seq=satisfied_seq,
        lost=any(told.satisfies and told.seq > satisfied_seq for told in receipts),
        held=_held(receipts),
    )


def _held(receipts: Collection[Told]) -> Told | None:
    """The last that was held, unless it was said to be gone: the one before it was replaced, so it is no answer."""
    held = max((told for told in receipts if told.status in _HOLDS), key=lambda told: told.place, default=None)
    if held is None:
        return None
    gone = any(
        (told.status in _GONE and told.seq == held.seq and told.number > held.number)
        or (told.status is Status.RECALLED and told.place > held.place)
        or (held.version_id in told.removed and told.place > held.place)
        for told in receipts
    )
    return None if gone else held
