"""Waiting to be woken ends with the event, with the time, and above all when the loop is told to stop."""

import asyncio

import pytest

from services.shared.waking import woken

pytestmark = pytest.mark.asyncio


async def waiting(event: asyncio.Event, within: float) -> "asyncio.Task[None]":
    task = asyncio.create_task(woken(event, within))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_the_event_ends_it() -> None:
    event = asyncio.Event()
    task = await waiting(event, 60)
    event.set()
    async with asyncio.timeout(10):
        await task


async def test_the_time_ends_it() -> None:
    async with asyncio.timeout(10):
        await woken(asyncio.Event(), 0.01)


async def test_told_to_stop_at_the_very_moment_it_is_woken_it_stops() -> None:
    event = asyncio.Event()
    task = await waiting(event, 60)
    event.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
