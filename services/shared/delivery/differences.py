"""How the wanted, the receipts and a record may differ: one pure comparison for all who ask.

A subscriber holds its books against its records with it every night (:mod:`.record_check`); the council holds its wishes
against what was found when it asked (an inspector's sample).
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from services.shared.record_systems.port import Held


class Difference(StrEnum):
    """How the wanted, the books and a record may differ."""

    NEVER_ARRIVED = "never_arrived"
    """It has been wanted for a while, and nothing says that it ever came."""
    STALE = "stale"
    """An older version is there, or an older instruction came."""
    MISSING_FROM_RECORD = "missing_from_record"
    """It was there once."""
    ALTERED = "altered"
    """The version is there, but not as it was filed."""
    ORPHAN = "orphan"
    """Held, and the council knows no such share."""
    SHOULD_HAVE_BEEN_WITHDRAWN = "should_have_been_withdrawn"
    """It ended, or was recalled, and the record shows it as if it had not."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a record should show of one share."""

    action: str
    """hold, withdraw or recall."""
    version_id: UUID | None
    sha256: str | None
    removed: Collection[UUID] = ()
    """Versions that were recalled."""
    arrived: bool = True
    """It was proved once that this is there."""
    shared_anew: bool = False
    """The same recipient has another share of the plan that is to be held: what the record has is that one's."""


def compare(expected: Expected | None, held: Held | None) -> Difference | None:
    """What is different; None where they agree. ``expected`` None: nobody knows of such a share. Pure."""
    if expected is None:
        return Difference.ORPHAN if held and not held.withdrawn else None
    if expected.action == "hold":
        if held is None:
            return Difference.MISSING_FROM_RECORD if expected.arrived else Difference.NEVER_ARRIVED
        if held.version_id != expected.version_id:
            return Difference.STALE
        if not held.intact or held.withdrawn or held.sha256 != expected.sha256:
            return Difference.ALTERED
        return None
    if held is None or expected.shared_anew:
        return None
    over = held.version_id not in expected.removed if expected.action == "recall" else held.withdrawn
    return None if over else Difference.SHOULD_HAVE_BEEN_WITHDRAWN
