"""What a subscriber's operator sees of its recipients, and how one is paused. For the people who run a subscriber."""

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, Field

from schemas.base import Closed, OneLine, Open


class PauseRecord(Closed):
    """Who pauses a recipient and why. Both are told to the council with every share that waits for it."""

    reason: Annotated[OneLine, Field(max_length=200)]
    """Nothing of any child: it goes into receipts and the ledger."""
    by: Annotated[OneLine, Field(max_length=100)]
    """A person or a team."""


class Pause(Open):
    recipient: str
    """``ods:RNA``; who shares an organisation's code has its kind before it: ``camhs/ods:RNA``."""
    reason: str
    paused_by: str
    paused_at: AwareDatetime


class Paused(Pause):
    was_paused: bool = False
    """It was paused before: that pause stands, and nothing was changed."""


class RecipientState(Open):
    recipient: str
    record_system: str
    """Its name in this subscriber's settings; empty where none serves it."""
    per_minute: int | None = None
    """How many deliveries the record system takes in a minute; null where as many as it can."""
    shares: int
    waiting: int
    failed: int
    refused: int
    next_try_at: datetime | None
    """The earliest of those that failed."""
    pause: Pause | None


class Recipients(Open):
    recipients: tuple[RecipientState, ...]


class Resumed(Open):
    recipient: str
    was_paused: bool
    deliveries: int
    """That were put off meanwhile and go on now."""
