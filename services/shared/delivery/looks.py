"""Look into the real records when the council asks (``holdings.requested``), and answer with signed statements.

The question is parked as an instruction is; a lane at a time looks, fifty copies in one question, resting as long as the answer
took or as long as the recipient's rate says. The answer is what the record system said, never what the books say; where they
differ, the record check is told to compare them now, and mends. From here answers take the receipts' way to audit.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from schemas.base import RecipientKind
from schemas.events import EventType
from schemas.holdings import Found, Holding, HoldingsRequested
from schemas.identifiers import CodeScheme
from schemas.receipts import HostedBy
from services.shared.clock import Clock, utc_now
from services.shared.delivery import store, store_checks, store_looks
from services.shared.delivery.asking import Answer, Unknown, ask
from services.shared.delivery.store_looks import Answered, Books, Look
from services.shared.kafka import cloudevents
from services.shared.record_systems.port import Held, Recipient
from services.shared.record_systems.systems import Systems
from services.shared.waking import woken

log = structlog.get_logger()

AT_ONCE = 50
"""Copies in one question."""
LOOK_EVERY = 2.0


class Looks:
    """``check_now`` tells the record check that something it should compare is due."""

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        systems: Systems,
        subscriber: str,
        hosted_by: HostedBy,
        sign: Callable[[Holding], bytes],
        check_now: Callable[[], None] = lambda: None,
        clock: Clock = utc_now,
    ) -> None:
        self._pool = pool
        self._systems = systems
        self._subscriber = subscriber
        self._hosted_by = hosted_by
        self._sign = sign
        self._check_now = check_now
        self._clock = clock
        self._wake = asyncio.Event()

    def check_now(self) -> None:
        """Compare what is due with the records before its time."""
        self._check_now()

    async def park(self, connection: Any, requests: Sequence[HoldingsRequested]) -> None:
        """Within the caller's transaction. What was answered before is answered again, byte for byte."""
        looks = {
            (request.look_id, each.share_id): Look(
                request.look_id, each.share_id, each.plan_id, each.recipient.model_dump(mode="json"),
                self._systems.lane(each.recipient) or "", request.until,
            )
            for request in requests
            for each in request.shares
        }  # fmt: skip
        await self._send(connection, await store_looks.park(connection, list(looks.values())))

    def wake(self) -> None:
        """Something may have been asked."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled; raises when the database fails, to be started again."""
        busy: set[str] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                async with self._pool.acquire() as connection:
                    lanes = await store_looks.lanes(connection)
                for lane in lanes - busy:
                    busy.add(lane)
                    group.create_task(self._look_along(lane, busy), name=f"look:{lane}")
                await woken(self._wake, LOOK_EVERY)

    async def _look_along(self, lane: str, busy: set[str]) -> None:
        """All that is due in one record system."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                async with self._pool.acquire() as connection:
                    batch = await store_looks.due(connection, lane, AT_ONCE)
                if not batch:
                    return
                began = loop.time()
                await self._answer(await self._look(lane, batch))
                took = loop.time() - began
                await asyncio.sleep(max(took, self._systems.seconds_each(lane) * len(batch)))
        finally:
            busy.discard(lane)

    async def _look(self, lane: str, batch: Sequence[Look]) -> dict[Look, Answer | Found]:
        system = self._systems.system(lane)
        if system is None:
            return dict.fromkeys(batch, Found.BY_HAND if self._systems.is_manual(lane) else Found.NOT_SERVED)
        of: dict[tuple[str, str, str], list[Look]] = defaultdict(list)
        for each in batch:
            code = each.recipient
            of[code["kind"], code["scheme"], code["value"]].append(each)
        found: dict[Look, Answer | Found] = {}
        for (kind, scheme, value), looks in of.items():
            recipient = Recipient(RecipientKind(kind), CodeScheme(scheme), value, "")
            answers = await ask(system, recipient, list({each.plan_id for each in looks}))
            found |= {each: answers[each.plan_id] for each in looks}
        return found

    async def _answer(self, found: dict[Look, Answer | Found]) -> None:
        at = self._clock()
        by_place = {(each.look_id, each.share_id): answer for each, answer in found.items()}
        async with self._pool.acquire() as connection, connection.transaction():
            books = await store_looks.books(connection, [each.share_id for each in found])
            looks = await store_looks.lock_unanswered(connection, list(found))
            differ = [each.share_id for each in looks if _differs(books.get(each.share_id), by_place[_place(each)])]
            if differ:
                await store_checks.check_now(connection, differ)
            answered: list[Answered] = []
            for number, each in zip(await store.take_numbers(connection, len(looks)) if looks else (), looks, strict=True):
                known = books.get(each.share_id)
                said = statement(by_place[_place(each)])
                holding = Holding(
                    number=number, subscriber=self._subscriber, hosted_by=self._hosted_by, look_id=each.look_id,
                    share_id=each.share_id, at=at, seq=known.seq if known else None, **said,
                )  # fmt: skip
                answered.append(Answered(each, holding.found, self._sign(holding)))
            await store_looks.save_answers(connection, answered)
            await self._send(connection, [(each.look.share_id, each.signed) for each in answered])
        if answered:
            log.info("records_looked_at", shares=len(answered), differ=len(differ))
        if differ:
            self._check_now()

    async def _send(self, connection: Any, signed: Sequence[tuple[UUID, bytes]]) -> None:
        headers = cloudevents.headers(
            EventType.HOLDING, f"/subscribers/{self._subscriber}", self._clock(), content_type="application/jose"
        )
        topic = f"ehcp.receipts.{self._subscriber}.v1"
        await store.into_outbox(connection, topic, [(str(share_id), headers, value) for share_id, value in signed])


def _place(look: Look) -> tuple[UUID, UUID]:
    return look.look_id, look.share_id


def _differs(books: Books | None, answer: Answer | Found) -> bool:
    """Whether a record that was read is not as the books say; then what is wrong, the record check finds."""
    if books is None or isinstance(answer, Unknown | Found):
        return False
    if answer is None:
        return books.held_version_id is not None
    agrees = (answer.version_id, answer.sha256) == (books.held_version_id, books.held_sha256)
    return not agrees or not answer.intact or answer.withdrawn


def statement(answer: Answer | Found) -> dict[str, Any]:
    """What is said of it: the fields of a :class:`Holding`. Pure."""
    match answer:
        case Held():
            return {
                "found": Found.HELD, "version_id": answer.version_id, "sha256": answer.sha256, "record": answer.record,
                "withdrawn": answer.withdrawn, "intact": answer.intact,
            }  # fmt: skip
        case None:
            return {"found": Found.ABSENT}
        case Unknown(reason, never):
            return {"found": Found.CANNOT_BE_ASKED if never else Found.NO_ANSWER, "reason": reason}
        case Found():
            return {"found": answer}
