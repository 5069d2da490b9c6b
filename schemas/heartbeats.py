"""A heartbeat: a subscriber says that it is alive and how it fares, signed as its receipts are.

Proof of life and nothing else: what a recipient holds is said by receipts alone.
"""

from typing import Annotated

from pydantic import AwareDatetime, Field

from schemas.base import Open
from schemas.manifest import Sha256
from schemas.recipients import Pause

_Count = Annotated[int, Field(ge=0, le=2**53 - 1)]


class Away(Open):
    """Nobody has answered there for long, although something is to be done there."""

    record_system: str | None = None
    """Its name in the subscriber's settings; null where it is the council's document API."""
    since: AwareDatetime
    reason: str
    """What came of the last attempt, in words without any personal data."""


class Heartbeat(Open):
    """The subscriber is alive."""

    subscriber: str
    at: AwareDatetime
    waiting: _Count | None = None
    """Deliveries that are due and not done."""
    lag_seconds: _Count | None = None
    """How long the oldest of them has been due."""
    unsent: _Count | None = None
    """Receipts that have not gone out yet."""
    dead_letters: _Count | None = None
    """Records that nobody could read and nobody has closed."""
    stopped_topics: tuple[str, ...] = ()
    """Not read because too much of them was garbage, until a person resumes them."""
    held: _Count | None = None
    """Shares of which the recipient holds something, as far as the books here say."""
    holdings_digest: Sha256 | None = None
    """SHA-256 over their ``share_id:seq``, in order of ``share_id``, joined by newlines; computed now and then."""
    differences: dict[str, _Count] = Field(default_factory=dict)
    """Found within the last 25 hours between wanted, books and records, by kind (``never_arrived``, ``stale``,
    ``missing_from_record``, ``altered``, ``orphan``, ``should_have_been_withdrawn``): as many as a nightly look finds."""
    unasked: _Count = 0
    """Copies that should have been asked after in their records more than a day ago, and could not be."""
    unasked_since: AwareDatetime | None = None
    """When the oldest of them should have been."""
    paused: tuple[Pause, ...] = ()
    """Recipients to which nothing is delivered until their operator resumes them."""
    away: tuple[Away, ...] = ()
    """Where nobody has answered for long: nothing is delivered there, and all of it goes out when somebody does."""
    checkpoint: str | None = None
    """The newest checkpoint of the council's ledger that this subscriber has seen."""
