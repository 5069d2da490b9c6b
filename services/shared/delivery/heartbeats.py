"""Tell the council every minute that this subscriber is alive and how it fares, the way its receipts go, signed as they are.

Silence is the alarm: a subscriber that is dead, cut off or stuck cannot say so. What a recipient holds is said by receipts
alone; the digest over all of it lets the council see that its picture and this one are not the same.
"""

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime

import asyncpg

from schemas.events import EventType
from schemas.heartbeats import Away, Heartbeat
from schemas.recipients import Pause
from services.shared.clock import Clock, utc_now
from services.shared.delivery import store_heartbeat, store_pauses, store_unanswered
from services.shared.kafka import cloudevents

HOLDINGS_EVERY = 3600.0
"""Seconds between two readings of all that is held, at most."""
IDLE_FOR_EACH = 1000.0
"""Seconds before the next reading, for each that one took: few shares are counted with every heartbeat."""


class Heartbeats:
    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        subscriber: str,
        sign: Callable[[Heartbeat], bytes],
        stopped: Callable[[], Collection[str]],
        every: float = 60.0,
        away_after: float = 900.0,
        clock: Clock = utc_now,
    ) -> None:
        """``stopped``: topics that are not read because too much of them was garbage. ``away_after``: seconds without an
        answer of a record system, before the council hears of it."""
        self._pool = pool
        self._subscriber = subscriber
        self._sign = sign
        self._stopped = stopped
        self._every = every
        self._away_after = away_after
        self._clock = clock
        self._holdings: tuple[int, str] | None = None
        self._unasked: tuple[int, datetime | None] = (0, None)
        self._holdings_at, self._count_every = 0.0, 0.0

    async def run(self) -> None:
        """Until cancelled; raises when the database fails, to be started again."""
        while True:
            await self.beat()
            await asyncio.sleep(self._every)

    async def beat(self) -> Heartbeat:
        now = asyncio.get_running_loop().time()
        async with self._pool.acquire() as connection, connection.transaction():
            if self._holdings is None or now - self._holdings_at >= self._count_every:
                self._holdings, self._holdings_at = await store_heartbeat.holdings(connection), now
                took = asyncio.get_running_loop().time() - now
                self._count_every = min(HOLDINGS_EVERY, took * IDLE_FOR_EACH)
                self._unasked = await store_heartbeat.unasked(connection)
            fares = await store_heartbeat.how_it_fares(connection, self._subscriber)
            held, digest = self._holdings
            paused = tuple(Pause(**dict(row)) for row in await store_pauses.paused(connection))
            away = tuple(
                Away(record_system=row["place"] or None, since=row["since"], reason=row["reason"])
                for row in await store_unanswered.for_long(connection, self._away_after)
            )
            beat = Heartbeat(
                subscriber=self._subscriber, at=self._clock(), waiting=fares["waiting"], lag_seconds=fares["lag_seconds"],
                unsent=fares["unsent"], dead_letters=fares["dead_letters"], stopped_topics=tuple(sorted(self._stopped())),
                held=held, holdings_digest=digest, differences=fares["differences"], unasked=self._unasked[0],
                unasked_since=self._unasked[1], paused=paused, away=away,
            )  # fmt: skip
            headers = cloudevents.headers(
                EventType.HEARTBEAT, f"/subscribers/{self._subscriber}", beat.at, content_type="application/jose"
            )
            topic = f"ehcp.receipts.{self._subscriber}.v1"
            await store_heartbeat.put_heartbeat(connection, topic, self._subscriber, headers, self._sign(beat))
        return beat
