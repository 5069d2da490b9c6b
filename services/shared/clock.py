"""The one source of time: aware UTC, injectable. Due times are judged on the council's database clock, not here."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)
