"""A person at the council sends instructions again: one share, or all that wait at a recipient. First it is said how many.

Invariant: the same wishes under the same ``seq``, so that sending twice changes nothing. How far it is stands in the database,
in the transaction that puts the batch out: a crash resumes, and a cancellation holds from the next batch. Counting, beginning
and cancelling are acts in the ledger, as each share that goes out is. The subscriber tries at once what waits; its pauses and
rates are its own and stand.
"""

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from schemas.sending_again import JobState, SendAgain, SendingAgain, To, WouldSend
from services.ehcp_publisher import instructions, store, store_sending_again
from services.ehcp_publisher.store import Act
from services.shared.identity.tokens import Caller
from services.shared.ids import new_id
from services.shared.kafka.cloudevents import SENT_AGAIN
from services.shared.postgres.pool import council_transaction
from services.shared.waking import woken
from services.shared.web.problems import Problem

log = structlog.get_logger()

BATCH = 500
PAUSE_SECONDS = 0.5
"""Between two batches: what else the council wants goes in between."""
SHOWN = 50


class SendingAgains:
    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", councils: list[str]) -> None:
        self._pool = pool
        self._councils = councils
        self._wake = asyncio.Event()

    async def would_send(self, caller: Caller, choice: SendAgain) -> WouldSend:
        async with council_transaction(self._pool, caller.la_codes) as connection:
            found = await self._count(connection, caller, choice)
            await _note(connection, "sending_again_counted", caller, choice, found)
        return found

    async def begin(self, caller: Caller, choice: SendAgain) -> SendingAgain:
        """Raises :class:`Problem` where nothing is chosen."""
        async with council_transaction(self._pool, caller.la_codes) as connection:
            found, job_id = await self._count(connection, caller, choice), new_id()
            if found.shares:
                row = await store_sending_again.begin(
                    connection, job_id, caller.la_codes, caller.client_id, choice, found.shares
                )
                await _note(connection, "sending_again_begun", caller, choice, found, job_id=job_id)
            else:
                await _note(connection, "sending_again_counted", caller, choice, found)
        if not found.shares:
            raise Problem(
                404, "nothing-to-send", "There is nothing to send again",
                "No share of your councils fits. What is satisfied is sent again with satisfied_too.",
            )  # fmt: skip
        self._wake.set()
        return _job(row)

    async def jobs(self, caller: Caller) -> list[SendingAgain]:
        async with council_transaction(self._pool, caller.la_codes) as connection:
            return [_job(row) for row in await store_sending_again.jobs(connection)]

    async def job(self, caller: Caller, job_id: UUID, *, cancel: bool = False) -> SendingAgain:
        """Raises :class:`Problem` where the caller's councils have no such job."""
        async with council_transaction(self._pool, caller.la_codes) as connection:
            if cancel:
                councils = await store_sending_again.cancel(connection, job_id, caller.client_id)
                details = {"job_id": job_id}
                acts = [Act("sending_again_cancelled", caller.client_id, each, details=details) for each in councils]
                await store.insert_acts(connection, acts)
            rows = await store_sending_again.jobs(connection, job_id)
        if not rows:
            raise Problem(404, "no-job", "There is no such sending", "Take an id from the list.")
        return _job(rows[0])

    async def _count(self, connection: Any, caller: Caller, choice: SendAgain) -> WouldSend:
        rows = await store_sending_again.count(connection, caller.la_codes, choice, SHOWN)
        return WouldSend(
            shares=rows[0]["total"] if rows else 0, recipients=rows[0]["recipients"] if rows else 0,
            to=tuple(To(recipient=row["recipient"], subscriber=row["subscriber"], shares=row["shares"]) for row in rows),
        )  # fmt: skip

    async def run(self) -> None:
        while True:
            self._wake.clear()
            if await self.step():
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                await woken(self._wake, 5.0)

    async def step(self) -> bool:
        """Put out the next batch; False when nothing is to be sent."""
        async with council_transaction(self._pool, self._councils) as connection:
            job = await store_sending_again.lock_next(connection)
            if job is None:
                return False
            choice = SendAgain.model_validate(job["choice"])
            rows = await store_sending_again.page(connection, job["la_codes"], choice, job["after"], BATCH)
            now = await connection.fetchval("SELECT clock_timestamp()")
            mark = {SENT_AGAIN: str(job["job_id"])}
            outbox = [
                instructions.to_subscriber(
                    row["subscriber"], row["share_id"], row["type"], row["la_code"], row["data"], now, mark
                )
                for row in rows
            ]  # fmt: skip
            details = {"job_id": job["job_id"], "by": job["by"]}
            acts = [
                Act("sent_again", job["asked_by"], row["la_code"], row["plan_id"], None, row["share_id"], row["seq"], details)
                for row in rows
            ]  # fmt: skip
            await store.insert_outbox(connection, outbox)
            await store.insert_acts(connection, acts)
            await store_sending_again.tell_again(connection, job["job_id"], rows)
            after, done = rows[-1]["share_id"] if rows else None, len(rows) < BATCH
            await store_sending_again.save_progress(connection, job["job_id"], len(rows), after, done=done)
        log.info("sent_again", job_id=str(job["job_id"]), shares=len(rows), done=done)
        return True


async def _note(
    connection: Any, act: str, caller: Caller, choice: SendAgain, found: WouldSend, **more: UUID
) -> None:  # fmt: skip
    """In the ledger: of the plan that is meant, where one is named, else of each council."""
    details = {"by": choice.by, "shares": found.shares, **more}
    plans = await store_sending_again.plans_meant(connection, caller.la_codes, choice)
    meant = [(row["la_code"], row["plan_id"]) for row in plans] or [(each, None) for each in sorted(caller.la_codes)]
    acts = [Act(act, caller.client_id, la_code, plan_id, details=details) for la_code, plan_id in meant]
    await store.insert_acts(connection, acts)


def _job(row: Any) -> SendingAgain:
    ended = JobState.CANCELLED if row["cancelled_by"] else JobState.DONE
    return SendingAgain(
        job_id=row["job_id"], state=ended if row["ended_at"] else JobState.RUNNING, by=row["by"], total=row["total"],
        sent=row["sent"], begun_at=row["begun_at"], ended_at=row["ended_at"],
    )  # fmt: skip
