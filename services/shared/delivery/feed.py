"""Instructions in over HTTPS, where no Kafka reaches: asks the council's feed, parks, and answers each that was parked.

What Kafka's committed offset does is done by receipts here: an instruction comes again until a receipt for its ``seq`` has
reached audit. Hence the one thing that differs from the topic: what was parked and has no receipt yet is answered *waiting*, in
the transaction that parks it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import asyncpg
import httpx2
import structlog

from schemas.receipts import Status
from services.shared.delivery import store, store_feed
from services.shared.delivery.council import CouncilAwayError
from services.shared.delivery.handlers import Parking, read_records
from services.shared.delivery.receipts import Draft, Receipts
from services.shared.kafka.apart import apart
from services.shared.kafka.consume import Record
from services.shared.web import event_batch

log = structlog.get_logger()

WAIT_SECONDS = 25
"""How long the council may hold a question; the client's own time-out is longer."""
_ANSWER_WITHIN = 5.0
"""Seconds that receipts of one batch are waited for before the next is asked for, so that it is not the same again."""
_AGAIN_AFTER = 2.0


class Feed:
    """``headers`` gives those of a valid token."""

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        http: httpx2.AsyncClient,
        council_url: str,
        headers: Callable[[], Awaitable[dict[str, str]]],
        subscriber: str,
        parking: Parking,
        receipts: Receipts,
    ) -> None:
        self._pool = pool
        self._http = http
        self._url = f"{council_url.rstrip('/')}/v1/feed?wait={WAIT_SECONDS}"
        self._headers = headers
        self._topic = f"ehcp.shares.{subscriber}.v1"
        self._parking = parking
        self._receipts = receipts

    async def run(self) -> None:
        """Until cancelled; raises when the database fails, to be started again."""
        before: list[Record] = []
        while True:
            try:
                records = await self.ask()
            except CouncilAwayError as error:
                log.warning("feed_waits_for_council", reason=str(error))
                await asyncio.sleep(_AGAIN_AFTER)
                continue
            if records:
                if records == before:
                    # Audit is away, or has lost our receipts, or one cannot be answered: no reason to hurry.
                    await asyncio.sleep(_ANSWER_WITHIN)
                await self.park(records)
                await self._answered()
            before = records

    async def ask(self) -> list[Record]:
        """Raises :class:`CouncilAwayError`."""
        try:
            answer = await self._http.get(
                self._url, headers=await self._headers(), timeout=httpx2.Timeout(WAIT_SECONDS + 15, connect=5)
            )
        except httpx2.HTTPError as error:
            raise CouncilAwayError(f"the feed cannot be reached ({type(error).__name__})") from None
        except Exception as error:
            raise CouncilAwayError(f"no token for the feed ({type(error).__name__})") from None
        if answer.status_code != 200:
            raise CouncilAwayError(f"the feed answered {answer.status_code}")
        try:
            return event_batch.read(answer.content, self._topic)
        except event_batch.NoBatchError as error:
            raise CouncilAwayError(f"the feed's answer cannot be read: {error}") from None

    async def park(self, records: Sequence[Record]) -> None:
        """One transaction: the newest wish of each share, and a receipt for each instruction that has none."""
        await apart(self._park, self._set_aside)(records)

    async def _set_aside(self, record: Record, reason: str) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await store.insert_dead_letters(connection, [(record, reason)])
            if refusal := _refusal(record):
                await self._receipts.write(connection, [refusal])

    async def _park(self, records: Sequence[Record]) -> Sequence[tuple[Record, str]]:
        read = read_records(records)
        async with self._pool.acquire() as connection, connection.transaction():
            await self._parking.park_questions(connection, read.asked)
            # What still lies in the outbox was not lost: then a repeat needs no receipt sent again.
            on_their_way = not await store_feed.outbox_is_empty(connection)
            refused = await self._parking.take_in(connection, read, listed=on_their_way)
            parked = await store_feed.unanswered(connection, [each.share_id for each in read.instructions])
            drafts = [Draft(row["share_id"], row["seq"], Status.WAITING, row["version_id"]) for row in parked]
            refusals = [_refusal(record) for record, _ in read.unreadable]
            await self._receipts.write(connection, drafts + [draft for draft in refusals if draft])
        self._parking.woken()
        return refused

    async def _answered(self) -> None:
        """Wait until the receipts have gone out, but not for ever: instructions go on coming while audit is away."""
        deadline = asyncio.get_running_loop().time() + _ANSWER_WITHIN
        while asyncio.get_running_loop().time() < deadline:
            async with self._pool.acquire() as connection:
                if await store_feed.outbox_is_empty(connection):
                    return
            await asyncio.sleep(0.1)


def _refusal(record: Record) -> Draft | None:
    """Tell the council of an instruction that this version cannot read. After an upgrade the council's list brings it again."""
    share_id, _, seq = record.header("ce_id").rpartition("-")
    try:
        return Draft(UUID(share_id), int(seq), Status.REFUSED, reason="this subscriber cannot read the instruction")
    except ValueError:
        return None
