"""A record that the database does not take is that record's trouble: the others of its batch are taken in without it.

What can be seen to be unreadable is set aside by who reads it. This is for what was overlooked there: without it such a record
would end the process, again after each start, and nothing behind it would ever be read.
"""

from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import structlog

from services.shared.kafka.consume import Handler, Record

log = structlog.get_logger()

_OF_THE_DATA = (asyncpg.DataError, asyncpg.ProgramLimitExceededError, asyncpg.CheckViolationError)


def apart(handler: Handler, set_aside: Callable[[Record, str], Awaitable[None]]) -> Handler:
    """``handler`` for the whole batch, and for halves of it where the data is at fault; ``set_aside`` keeps the one."""

    async def handle(records: Sequence[Record]) -> Sequence[tuple[Record, str]]:
        try:
            return await handler(records)
        except _OF_THE_DATA as error:
            reason = f"the database does not take it ({type(error).__name__})"
        if len(records) > 1:
            half = len(records) // 2
            return [*await handle(records[:half]), *await handle(records[half:])]
        [record] = records
        await set_aside(record, reason)
        log.error("dead_letter", topic=record.topic, partition=record.partition, offset=record.offset, reason=reason)
        return [(record, reason)]

    return handle
