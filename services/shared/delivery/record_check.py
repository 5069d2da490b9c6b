"""Hold the books against what the record systems say they really hold, and put to work again what is not as it should be.

A copy is looked at a minute after it was filed, and then every night at a time of its own: what was emptied, changed or lost
behind our back is found although no message ever told of it. Each difference has a name, becomes a signed receipt (*filed*,
then found *missing*) and work for the dispatcher. A record system that cannot be asked says nothing: silence is not absence.
One that was asked rests for as long as it took to answer, and as its rate says: asking never takes more than half of its time,
and holds up no other.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import asyncpg
import prometheus_client
import structlog

from schemas.receipts import Status
from services.shared.clock import Clock, utc_now
from services.shared.delivery import store, store_checks
from services.shared.delivery.asking import Answer, Unknown, ask
from services.shared.delivery.differences import Difference, Expected, compare
from services.shared.delivery.receipts import Draft, Receipts
from services.shared.delivery.store_checks import Believed
from services.shared.record_systems.port import Recipient, RecordAwayError, RecordSystem
from services.shared.record_systems.systems import Systems
from services.shared.waking import woken

log = structlog.get_logger()

AT_ONCE = 50
"""Copies in one question."""
NOT_AGAIN_SECONDS = 3600.0
"""A record system that did not answer is asked again after this; some channels can never be asked."""


DIFFERENCES = prometheus_client.Counter(
    "ehcp_reconciliation_differences", "Differences found between wanted, books and records, by kind", ["difference"]
)
CHECKED = prometheus_client.Counter("ehcp_reconciliation_checked", "Copies that a record system was asked about")
NOT_ASKED = prometheus_client.Counter("ehcp_reconciliation_not_asked", "Questions that a record system did not answer")

_REASONS = {
    Difference.STALE: "the record holds an older version; filing it again",
    Difference.MISSING_FROM_RECORD: "it was found missing from the record; filing it again",
    Difference.ALTERED: "what the record holds is not what was filed; filing it again",
    Difference.SHOULD_HAVE_BEEN_WITHDRAWN: "the record shows it as if it had not ended; doing it again",
}


@dataclass(slots=True)
class Outcome:
    """What one reconciliation with the records came to."""

    checked: int = 0
    differences: Counter[Difference] = field(default_factory=Counter)
    not_asked: list[str] = field(default_factory=list)
    """Record systems that did not answer: what they hold is unknown."""


class RecordCheck:
    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        systems: Systems,
        receipts: Receipts,
        wake: Callable[[], None],
        every: float = 300.0,
        clock: Clock = utc_now,
    ) -> None:
        self._pool = pool
        self._systems = systems
        self._receipts = receipts
        self._wake = wake
        self._every = every
        self._clock = clock
        self._not_before: dict[str, float] = {}
        self._unread_until: dict[UUID, float] = {}
        """Copies that could not be read while others could: they stay due, and do not stand before the others for ever."""
        self._look_now = {lane: asyncio.Event() for lane in systems.lanes()}

    def look_now(self) -> None:
        """Something is due before its time: a look has found a difference."""
        for event in self._look_now.values():
            event.set()

    async def run(self) -> None:
        """Until cancelled; raises when the database fails, to be started again. Each record system at its own pace."""
        async with asyncio.TaskGroup() as group:
            for lane, event in self._look_now.items():
                group.create_task(self._run_lane(lane, event), name=f"check:{lane}")
            await asyncio.Event().wait()  # where people deliver there is nothing to ask, and a loop that ends ends the service

    async def _run_lane(self, lane: str, look_now: asyncio.Event) -> None:
        while True:
            look_now.clear()
            await self.once(lanes=[lane])
            await woken(look_now, self._every)

    async def once(self, *, full: bool = False, lanes: Sequence[str] | None = None) -> Outcome:
        """Look at what is due; ``full``: at everything, whenever it was looked at last."""
        outcome = Outcome()
        # Fixed at the beginning: what was looked at is due again only after this.
        until = None if full else self._clock()
        now = asyncio.get_running_loop().time()
        lanes = self._systems.lanes() if lanes is None else lanes
        lanes = [lane for lane in lanes if full or self._not_before.get(lane, 0.0) <= now]
        # All come to their end before a failure is told: nothing of this round goes on behind the next one.
        ended = await asyncio.gather(*(self._check_lane(lane, until, outcome) for lane in lanes), return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error
        CHECKED.inc(outcome.checked)
        if outcome.checked or outcome.not_asked:
            log.info(
                "reconciled_with_records", checked=outcome.checked, not_asked=outcome.not_asked,
                **{each.value: outcome.differences[each] for each in Difference if outcome.differences[each]},
            )  # fmt: skip
        return outcome

    async def _check_lane(self, lane: str, until: datetime | None, outcome: Outcome) -> None:
        """``until`` None: everything of this record system."""
        system, after = self._systems.system(lane), None
        while system is not None:
            async with self._pool.acquire() as connection:
                if until:
                    batch = await store_checks.due(connection, lane, until, AT_ONCE, self._unread())
                else:
                    batch = await store_checks.following(connection, lane, after, AT_ONCE)
            if not batch:
                return
            after = batch[-1].share_id
            loop = asyncio.get_running_loop()
            began = loop.time()
            try:
                await self._check(system, batch, outcome)
            except RecordAwayError as error:
                NOT_ASKED.inc()
                log.info("record_not_asked", lane=lane, reason=str(error))
                outcome.not_asked.append(lane)
                self._not_before[lane] = loop.time() + NOT_AGAIN_SECONDS
                return
            await asyncio.sleep(max(loop.time() - began, self._systems.seconds_each(lane) * len(batch)))

    async def _check(self, system: RecordSystem, batch: Sequence[Believed], outcome: Outcome) -> None:
        """Raises :class:`RecordAwayError`; what was answered before that is kept."""
        asked: dict[tuple[Recipient, bool], list[Believed]] = defaultdict(list)
        for each in batch:
            code = each.instruction["recipient"]
            asked[Recipient(code["kind"], code["scheme"], code["value"], ""), each.notice].append(each)
        answers: dict[Believed, Answer] = {}
        for (recipient, notices), copies in asked.items():
            told = await ask(system, recipient, list({each.thing for each in copies if each.thing}), notices=notices)
            answers |= {each: told.get(each.thing) if each.thing else None for each in copies}
        unknown = {each: answer for each, answer in answers.items() if isinstance(answer, Unknown)}
        await self._write(
            {each: compare(_expected(each), answer) for each, answer in answers.items() if not isinstance(answer, Unknown)},
            outcome,
        )
        away = [answer.reason for answer in unknown.values() if not answer.never]
        if away and len(away) == len(answers):
            raise RecordAwayError(away[0])
        later = asyncio.get_running_loop().time() + NOT_AGAIN_SECONDS
        self._unread_until |= {each.share_id: later for each, answer in unknown.items() if not answer.never}
        if never := [each for each, answer in unknown.items() if answer.never]:
            async with self._pool.acquire() as connection, connection.transaction():
                await store.lock_deliveries(connection, [each.share_id for each in never])
                await store_checks.ask_no_more(connection, never)

    def _unread(self) -> list[UUID]:
        now = asyncio.get_running_loop().time()
        self._unread_until = {share_id: until for share_id, until in self._unread_until.items() if until > now}
        return list(self._unread_until)

    async def _write(self, found: dict[Believed, Difference | None], outcome: Outcome) -> None:
        wrong = {each: difference for each, difference in found.items() if difference}
        async with self._pool.acquire() as connection, connection.transaction():
            # In order, as all who write several: so that nobody waits for somebody who waits for them.
            await store.lock_deliveries(connection, [each.share_id for each in found])
            await store_checks.save_checked(connection, [each for each in found if each not in wrong])
            again = await store_checks.put_to_work(connection, list(wrong)) if wrong else set()
            await store_checks.note_differences(
                connection, [(each.share_id, difference) for each, difference in wrong.items() if each.share_id in again]
            )
            now = self._clock()
            await self._receipts.write(
                connection,
                [
                    Draft(
                        each.share_id, each.seq, Status.FAILED, each.held_version_id,
                        reason=_REASONS[difference], next_try_at=now,
                    )
                    for each, difference in wrong.items() if each.share_id in again
                ],
            )  # fmt: skip
        outcome.checked += len(found)
        for each, difference in wrong.items():
            if each.share_id in again:
                outcome.differences[difference] += 1
                DIFFERENCES.labels(difference).inc()
                log.warning("record_differs", share_id=str(each.share_id), seq=each.seq, difference=difference)
        if again:
            self._wake()


def _expected(believed: Believed) -> Expected:
    """What the books say of a record that was proved once."""
    removed = [UUID(each) for each in believed.instruction.get("remove", ())]
    return Expected(
        believed.action, believed.held_version_id, believed.held_sha256, removed, shared_anew=believed.shared_anew
    )  # fmt: skip
