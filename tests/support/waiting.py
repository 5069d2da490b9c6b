"""Wait on a condition with a deadline; never sleep for a guessed time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(probe: Callable[[], Awaitable[T]], *, within: float = 60, what: str = "") -> T:
    """The first true answer of ``probe``. Fails with ``what`` and the last answer when none comes in time (seconds)."""
    deadline = time.monotonic() + within
    while True:
        answer = await probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:.0f} s: {what or probe.__name__} (last answer: {answer!r})")
        await asyncio.sleep(0.02)
