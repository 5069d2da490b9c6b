"""Wait until something may have happened, or for so long at most: what a loop does that is also woken from outside."""

import asyncio
from contextlib import suppress


async def woken(event: asyncio.Event, within: float) -> None:
    """Returns when ``event`` is set, at the latest after ``within`` seconds.

    Not ``asyncio.wait_for``: up to Python 3.11 that swallows a cancellation which comes together with the event, and a loop
    that was told to stop goes on for ever.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            await event.wait()
