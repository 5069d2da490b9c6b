"""An inbox's own readers: an assertion that was used is not taken twice."""

import asyncio
from datetime import UTC, datetime, timedelta

from services.shared.record_systems.inbox_readers import Readers

EXPIRES = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)


def test_an_assertion_is_remembered_for_as_long_as_it_is_taken() -> None:
    """It is taken until half a minute after it has expired; forgotten sooner, it could be used again and again."""
    now = EXPIRES
    readers = Readers((), lambda: now)
    assert asyncio.run(readers.first_use("school", "once", EXPIRES))
    for seconds in (1, 15, 30):
        now = EXPIRES + timedelta(seconds=seconds)
        assert not asyncio.run(readers.first_use("school", "once", EXPIRES))
