"""Dead letters as a service answers about them: records that it could not take in, with reason and origin."""

from datetime import datetime
from typing import Literal

from schemas.base import Open


class DeadLetter(Open):
    id: int
    topic: str
    """Where it came from; of what came over HTTP the topic on which it would have come, and partition -1."""
    partition: int
    offset: int
    type: str | None
    """What it said that it was."""
    reason: str
    """Nothing of its content."""
    at: datetime
    owner: str | None
    """Who looks after it."""
    closed_at: datetime | None
    closed_by: str | None
    closed_as: Literal["replayed", "dismissed"] | None


class DeadLetterRecord(DeadLetter):
    headers: tuple[tuple[str, str], ...]
    key: str
    """Base64."""
    value: str
    """Base64."""


class DeadLettersPage(Open):
    dead_letters: tuple[DeadLetter, ...]
    next: int | None
    """Send it as ``after`` for the next page; null on the last."""
    stopped_topics: tuple[str, ...]
    """Not read because too much of them was garbage, until somebody resumes them."""


class RefusedLetter(Open):
    id: int
    reason: str


class ReplayAnswer(Open):
    replayed: int
    refused: tuple[RefusedLetter, ...]
    """They stay open."""


class DismissAnswer(Open):
    dismissed: tuple[int, ...]
    """Those that were open."""


class ResumeAnswer(Open):
    stopped_topics: tuple[str, ...]
    """Those that are still not read."""
