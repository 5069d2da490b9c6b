"""Put out again what no receipt answered in time, so that a lost message, or a wiped broker, costs time and no truth.

Looks only at ``publisher.unsatisfied``: what is open, not what exists. A share that a receipt satisfied leaves the table; one
that waits for a person is left alone, but for once a day; a ``conflict``, or a receipt with a higher ``seq`` than was ever
wanted (a database restored from backup), is wanted again under a higher ``seq``.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, assert_never
from uuid import UUID

import asyncpg
import structlog

from schemas.receipts import Status
from services.ehcp_publisher import handover, instructions, store, wishes
from services.ehcp_publisher.store import Act
from services.shared.postgres.pool import council_transaction

log = structlog.get_logger()

BATCH = 500
LONGEST = timedelta(hours=1)
BELIEVED = timedelta(days=1)
"""A subscriber that says when it tries next is left alone until then, but no longer than this: its clock is not ours, and
what it means by the year 9999 is no reason to fall silent."""
LOOKS_AT_PEOPLE = 24
"""A share that waits for a person is put out again at every so many looks, an hour apart in the end: about once a day."""
_AWAITS_A_PERSON = {Status.WAITING, Status.SENT, Status.COLLECTED, Status.REFUSED}


def next_look(now: datetime, resends: int, resend_after: timedelta) -> datetime:
    """Doubling from ``resend_after`` to an hour."""
    return now + min(resend_after * float(2 ** min(resends, 20)), LONGEST)


class Step(StrEnum):
    """What the sweep does with a share that is not known to be satisfied."""

    WAIT = "wait"
    SEND_AGAIN = "send_again"
    """The same instruction once more; the subscriber answers with its newest receipt."""
    WANT_AGAIN = "want_again"
    """The same wish under a ``seq`` above everything the subscriber has seen."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A share that is not known to be satisfied, with its newest receipt as far as there is one."""

    share_id: UUID
    seq: int
    subscriber: str | None
    resends: int
    receipt_seq: int | None
    status: Status | None
    next_try_at: datetime | None


def contradicted(seq: int, receipt_seq: int | None, status: Status | None) -> bool:
    """Whether the newest receipt shows that the subscriber has seen another wish with this ``seq``, or a higher one."""
    # A conflict about a former seq has had its answer: that is why there is a higher one now.
    return receipt_seq is not None and (receipt_seq > seq or (receipt_seq == seq and status == Status.CONFLICT))


def next_step(share: Unanswered, now: datetime, resend_after: timedelta) -> tuple[Step, int, datetime]:
    """What to do now, the resends counted then, and when to look again. Pure."""
    at = next_look(now, share.resends, resend_after)
    answered = share.receipt_seq == share.seq
    if share.subscriber is None:
        return Step.WAIT, share.resends, now + LONGEST
    if contradicted(share.seq, share.receipt_seq, share.status):
        return Step.WANT_AGAIN, share.resends, at
    if answered and share.status in _AWAITS_A_PERSON:
        # There is nothing for the subscriber to do. But what a person did since may have been told in a receipt that was
        # lost, and nothing else would ever bring it: so the newest receipt is asked for now and then.
        step = Step.WAIT if (share.resends + 1) % LOOKS_AT_PEOPLE else Step.SEND_AGAIN
        return step, share.resends + 1, at
    if answered and share.next_try_at and share.next_try_at > now:
        return Step.WAIT, share.resends, min(share.next_try_at, now + BELIEVED) + resend_after
    return Step.SEND_AGAIN, share.resends + 1, next_look(now, share.resends + 1, resend_after)


class Resend:
    def __init__(
        self, pool: "asyncpg.Pool[asyncpg.Record]", councils: list[str], resend_after: timedelta, every: float = 1.0
    ) -> None:
        self._pool = pool
        self._councils = councils
        self._resend_after = resend_after
        self._every = every

    async def run(self) -> None:
        while True:
            if await self.sweep() < BATCH:
                await asyncio.sleep(self._every)

    async def sweep(self) -> int:
        """One batch; returns how many shares were looked at."""
        conflicts: list[UUID] = []
        async with council_transaction(self._pool, self._councils) as connection:
            gone = await store.delete_satisfied(connection, BATCH)
            await store.reopen_lost(connection, BATCH)
            await handover.release(connection, BATCH)
            rows = await store.lock_unanswered(connection, BATCH)
            now: datetime = await connection.fetchval("SELECT clock_timestamp()")
            checks: list[tuple[UUID, int, datetime]] = []
            outbox: list[instructions.OutboxRow] = []
            for row in rows:
                share = _unanswered(row)
                step, resends, at = next_step(share, now, self._resend_after)
                checks.append((share.share_id, resends, at))
                match step:
                    case Step.WAIT:
                        pass
                    case Step.WANT_AGAIN:
                        conflicts.append(share.share_id)
                    case Step.SEND_AGAIN:
                        outbox.append(
                            instructions.to_subscriber(
                                row["subscriber"], share.share_id, row["type"], row["la_code"], row["data"], now
                            )
                        )
                    case _:
                        assert_never(step)
            await store.check_later(connection, checks)
            await store.insert_outbox(connection, outbox)
        if outbox:
            log.info("instructions_sent_again", shares=len(outbox))
        for share_id in conflicts:
            await self._want_again(share_id)
        return gone + len(rows)

    async def _want_again(self, share_id: UUID) -> None:
        """The same wish under a ``seq`` above everything the subscriber has seen."""
        async with council_transaction(self._pool, self._councils) as connection:
            row = await store.lock_share_for_new_wish(connection, share_id)
            if row is None or not contradicted(row["seq"], row["receipt_seq"], row["status"]):
                return
            wish = wishes.again(row, await connection.fetchval("SELECT clock_timestamp()"), self._resend_after)
            out = instructions.to_subscriber(row["subscriber"], share_id, wish.type, wish.la_code, wish.data, wish.requested_at)
            await store.write_wishes(connection, [wish], [out])
            details = {"reason": "the subscriber reported a conflict"}
            act = Act("shared", "resend", wish.la_code, wish.plan_id, wish.thing_id, share_id, wish.seq, details)
            await store.insert_acts(connection, [act])
        log.warning("wanted_again", share_id=str(share_id), seq=wish.seq)


def _unanswered(row: Any) -> Unanswered:
    return Unanswered(
        row["share_id"], row["seq"], row["subscriber"], row["resends"], row["receipt_seq"],
        row["status"] and Status(row["status"]), row["next_try_at"],
    )  # fmt: skip
