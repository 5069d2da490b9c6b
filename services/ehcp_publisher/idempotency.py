"""One request under its idempotency key: a repeat gets the first one's answer, and changes nothing.

Invariant: the answer is kept in the transaction of what the request did. Where two come at once, one commits and its answer is
the other's too.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from services.ehcp_publisher import store
from services.shared.web.problems import Problem

_KEY_IN_USE = "key-in-use"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Once:
    client_id: str
    route: str
    key: str
    body_hash: str

    async def answer(self, pool: Any, do: Callable[[], Awaitable[Answer]]) -> Answer:
        """What was answered before, else what ``do`` answers; it calls :meth:`keep`. Raises :class:`Problem`."""
        if before := await self._before(pool):
            return before
        try:
            return await do()
        except Problem as problem:
            if problem.slug == _KEY_IN_USE and (before := await self._before(pool)):
                return before
            raise

    async def keep(self, connection: Any, answer: Answer) -> None:
        """In the transaction of what was done. Raises :class:`Problem` where the same request was faster."""
        if not await store.keep_answer(
            connection, self.client_id, self.route, self.key, self.body_hash, answer.status, answer.body
        ):
            raise Problem(
                409, _KEY_IN_USE, "This idempotency key is being used by another request",
                "Send the request again to get its answer.",
            )  # fmt: skip

    async def _before(self, pool: Any) -> Answer | None:
        async with pool.acquire() as connection:
            before = await store.find_answer(connection, self.client_id, self.route, self.key)
        if before is None:
            return None
        if before["body_hash"] != self.body_hash:
            raise Problem(
                409, "key-reused", "This idempotency key was used with another body",
                "Send the first body again to get its answer, or use a new key for a new request.",
            )  # fmt: skip
        return Answer(before["status"], before["answer"])
