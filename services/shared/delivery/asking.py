"""Ask a record system what it holds, and take whatever it does in return: the nightly check and the council's looks alike.

Three answers, never confused: it is there (and which), it is not there, it is not known. Silence is not absence. One copy that
the record cannot read out does not hide the others: after a failure they are asked for one by one.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import structlog

from services.shared.postgres.pool import transient
from services.shared.record_systems.port import (
    CannotBeAskedError,
    Held,
    HoldsNotices,
    Recipient,
    RecordAwayError,
    RecordSystem,
    SilentOnAbsence,
)

log = structlog.get_logger()

ANSWER_SECONDS = 90.0
FAILURES = 2
"""In a row, of things asked for singly, after which nobody is there."""
CLEARED = "no word of the recipient's lies there: it has not said it yet, or has cleared it away"


@dataclass(frozen=True, slots=True)
class Unknown:
    """What is held cannot be said. ``never``: there is no such question, so asking again changes nothing."""

    reason: str
    never: bool = False


Answer: TypeAlias = Held | Unknown | None


async def ask(
    system: RecordSystem, recipient: Recipient, things: Sequence[UUID], *, notices: bool = False
) -> dict[UUID, Answer]:
    """One answer for each of these plans, or of these notices. None: the record was asked and does not hold it."""
    if notices and not isinstance(system, HoldsNotices):
        return dict.fromkeys(things, Unknown("this record system has no question for notices", never=True))
    try:
        return await _ask(system, recipient, things, notices=notices)
    except CannotBeAskedError as error:
        return dict.fromkeys(things, Unknown(str(error), never=True))
    except RecordAwayError as error:
        if len(things) == 1:
            return {things[0]: Unknown(str(error))}
    answers: dict[UUID, Answer] = {}
    failures = 0
    for thing in things:
        if failures < FAILURES:
            try:
                answers |= await _ask(system, recipient, [thing], notices=notices)
                failures = 0
                continue
            except RecordAwayError as error:
                failures += 1
                unknown = Unknown(str(error))
        answers[thing] = unknown
    return answers


async def _ask(system: RecordSystem, recipient: Recipient, things: Sequence[UUID], *, notices: bool) -> dict[UUID, Answer]:
    """Raises :class:`RecordAwayError`, whatever went wrong."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            if notices and isinstance(system, HoldsNotices):
                held = await system.holds_notices(recipient, things)
            else:
                held = await system.holds(recipient, things)
    except TimeoutError:
        raise RecordAwayError(f"it took longer than {ANSWER_SECONDS:g} s") from None
    except RecordAwayError:
        raise
    except Exception as error:
        if not transient(error):
            log.exception("record_question_failed")
        raise RecordAwayError(type(error).__name__) from None
    absent = Unknown(CLEARED, never=True) if isinstance(system, SilentOnAbsence) else None
    return {thing: held.get(thing, absent) for thing in things}
