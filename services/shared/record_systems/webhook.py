"""Delivers plans to a case system as signed webhooks: the ``RecordSystem`` of ``kind: webhook``.

Invariants: a message keeps its id over every attempt, so that the receiver can file it once; a version counts as filed only
when the receiver answers with its own hash of what it stored; nothing is sent to a private address unless the operator
allows it for this endpoint. What is said and what answers mean: ``webhook_messages.py``; how it is sent: ``guarded_http.py``;
what is fetched where messages are thin: ``webhook_fetch.py``.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar
from urllib.parse import urlencode
from uuid import UUID

import structlog

from schemas.base import Closed
from services.shared.clock import Clock, utc_now
from services.shared.ids import new_id
from services.shared.record_systems import webhook_messages as messages
from services.shared.record_systems.guarded_http import Answer, GuardedHttp, PrivateAddressError, UnreachableError
from services.shared.record_systems.port import (
    Content,
    Held,
    Outcome,
    Recall,
    RecallOutcome,
    Recipient,
    RecordAwayError,
    Refused,
    Retry,
    Withdrawal,
    WithdrawOutcome,
)
from services.shared.record_systems.systems import RecordSystemsFileError, SystemSettings, options_of
from services.shared.record_systems.webhook_keys import is_signed, keys_of, signed

log = structlog.get_logger()

_TIMEOUT_SECONDS = 15.0
_BYTES_A_SECOND = 2 * 2**20
"""A large message gets more time than the 15 seconds, at this rate: 25 MiB must pass a slow line too."""
_LONGEST_SECONDS = 60.0
_BUDGET_SECONDS = 25.0
"""No request begins later than this after its batch did: begun then, it still ends before the dispatcher's 90 seconds."""
_SILENT = 3
"""Requests in a row without an answer, after which the rest of a batch waits for its next turn."""
_PLANS_IN_A_QUERY = 50
_LARGE = 256 * 1024

_Thing = TypeVar("_Thing", Content, Withdrawal, Recall)
_Result = TypeVar("_Result", Outcome, WithdrawOutcome, RecallOutcome)


class Options(Closed):
    payload: Literal["full", "thin"] = "full"
    """``thin``: the message says only that there is something to fetch at ``fetch_url``, with the receiver's signature."""
    fetch_url: str | None = None
    """Where the receiver reaches this subscriber's ``/v1/webhooks/{name of this entry}``."""
    public_keys: tuple[str, ...] = ()
    """``whpk_…`` of the receiver, for what it signs, where no secret is shared."""


def build_webhook(settings: SystemSettings) -> "WebhookEndpoint":
    """From an entry of the record systems file: ``{"kind": "webhook", "url": …, "secret": "whsec_…", "options": …}``."""
    options = options_of(settings, Options)
    if not settings.url:
        raise RecordSystemsFileError(f"{settings.name}: a webhook needs its url")
    if (options.payload == "thin") != (options.fetch_url is not None):
        raise RecordSystemsFileError(f"{settings.name}: payload 'thin' needs a fetch_url, and only that does")
    try:
        return WebhookEndpoint(
            settings.url, settings.secret or "", their_keys=options.public_keys, allow_private=settings.allow_private,
            fetch_url=options.fetch_url,
        )  # fmt: skip
    except ValueError as error:
        raise RecordSystemsFileError(f"{settings.name}: {error}") from None


@dataclass(slots=True)
class _Batch:
    """What the requests of one batch learn from each other."""

    until: float
    verdict: Retry | Refused | None = None
    """Set once the endpoint has said, or shown, that further requests are useless now."""
    silent: int = 0


class WebhookEndpoint:
    """One case system. At most ``concurrency`` requests at a time."""

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        their_keys: Sequence[str] = (),
        allow_private: bool = False,
        fetch_url: str | None = None,
        timeout: float = _TIMEOUT_SECONDS,
        concurrency: int = 8,
        clock: Clock = utc_now,
    ) -> None:
        """``secret`` and ``their_keys`` as for :func:`keys_of`. Raises ``ValueError``."""
        self._keys = keys_of(secret, their_keys)
        if fetch_url is not None and not self._keys.theirs:
            raise ValueError("payload 'thin' needs a whsec_ secret or the receiver's public_keys, to know who fetches")
        self._fetch_url = fetch_url
        self._http = GuardedHttp(url, allow_private=allow_private, concurrency=concurrency)
        self._timeout = timeout
        self._slots = asyncio.Semaphore(concurrency)
        self._clock = clock

    async def close(self) -> None:
        await self._http.close()

    async def deliver(self, batch: Sequence[Content]) -> list[Outcome]:
        return await self._all(batch, self._deliver)

    async def withdraw(self, batch: Sequence[Withdrawal]) -> list[WithdrawOutcome]:
        return await self._all(batch, self._withdraw)

    async def recall(self, batch: Sequence[Recall]) -> list[RecallOutcome]:
        return await self._all(batch, self._recall)

    async def holds(self, recipient: Recipient, plans: Sequence[UUID]) -> dict[UUID, Held]:
        """Asks ``{url}/holdings``, signed over the query. Raises :class:`RecordAwayError`."""
        found: dict[UUID, Held] = {}
        for start in range(0, len(plans), _PLANS_IN_A_QUERY):
            found |= await self._holds(recipient, plans[start : start + _PLANS_IN_A_QUERY])
        return found

    async def _holds(self, recipient: Recipient, plans: Sequence[UUID]) -> dict[UUID, Held]:
        query = urlencode([("recipient", str(recipient)), *(("plan", plan) for plan in plans)])
        headers = signed(str(new_id()), query, self._keys, self._clock())
        try:
            async with self._slots:
                answer = await self._http.request("GET", path="/holdings", query=query, headers=headers, timeout=self._timeout)
        except (UnreachableError, PrivateAddressError) as error:
            raise RecordAwayError(f"the endpoint was not asked: {error}") from None
        held = messages.held(answer.headers, answer.body) if answer.status == 200 else None
        if held is None:
            raise RecordAwayError(f"the endpoint answered {answer.status} without its holdings")
        return {plan: held[plan] for plan in plans if plan in held}

    async def _deliver(self, content: Content, batch: _Batch) -> Outcome:
        size = sum(len(file.data) for file in (content.document, *content.attachments) if file)
        # Encoding and signing megabytes takes long enough to hold up the event loop.
        if self._fetch_url is not None:
            message = messages.available(content, self._fetch_url)
        else:
            message = await asyncio.to_thread(messages.delivered, content) if size > _LARGE else messages.delivered(content)
        answer = await self._post(message, batch)
        if not isinstance(answer, Answer):
            return answer
        verdict = messages.filed(answer.status, answer.headers, answer.body, content.sha256, self._clock())
        return self._learnt(verdict, batch) if isinstance(verdict, messages.Verdict) else verdict

    async def _withdraw(self, withdrawal: Withdrawal, batch: _Batch) -> WithdrawOutcome:
        answer = await self._post(messages.withdrawn(withdrawal), batch)
        if not isinstance(answer, Answer):
            return answer
        verdict = messages.marked(answer.status, answer.headers, answer.body, self._clock())
        return self._learnt(verdict, batch) if isinstance(verdict, messages.Verdict) else verdict

    async def _recall(self, recall: Recall, batch: _Batch) -> RecallOutcome:
        answer = await self._post(messages.recalled(recall), batch)
        if not isinstance(answer, Answer):
            return answer
        verdict = messages.removed(answer.status, answer.headers, answer.body, recall.versions, self._keys, self._clock())
        return self._learnt(verdict, batch) if isinstance(verdict, messages.Verdict) else verdict

    async def _post(self, message: messages.Message, batch: _Batch) -> Answer | Retry:
        timeout = min(self._timeout + len(message.body) / _BYTES_A_SECOND, max(self._timeout, _LONGEST_SECONDS))
        text = message.body.decode()
        if len(text) > _LARGE:
            headers = await asyncio.to_thread(signed, message.id, text, self._keys, self._clock())
        else:
            headers = signed(message.id, text, self._keys, self._clock())
        headers["Content-Type"] = messages.CONTENT_TYPE
        try:
            answer = await self._http.request("POST", content=message.body, headers=headers, timeout=timeout)
        except PrivateAddressError as error:
            # Not refused: a name that points inside for an hour must not stop its plans for good. Nothing is sent meanwhile.
            return self._stop(Retry(f"nothing was sent to the endpoint: {error}", away=True), batch)
        except UnreachableError as error:
            failed = Retry(f"the endpoint: {error}", away=True)
            batch.silent += 1
            if not error.connected or batch.silent >= _SILENT:
                return self._stop(failed, batch)
            return failed
        batch.silent = 0
        return answer

    def _learnt(self, verdict: messages.Verdict, batch: _Batch) -> Retry | Refused:
        if verdict.for_all:
            batch.verdict = verdict.outcome
        return verdict.outcome

    def is_theirs(self, headers: Mapping[str, str], signed_part: bytes) -> bool:
        """Whether this endpoint's owner signed a request, just now."""
        return is_signed(headers, signed_part, self._keys, self._clock())

    def _stop(self, outcome: Retry, batch: _Batch) -> Retry:
        batch.verdict = outcome
        return outcome

    async def _all(self, things: Sequence[_Thing], one: Callable[[_Thing, _Batch], Awaitable[_Result]]) -> list[_Result]:
        batch = _Batch(until=time.monotonic() + _BUDGET_SECONDS)

        async def in_turn(thing: _Thing) -> _Result:
            async with self._slots:
                if batch.verdict is not None:
                    return batch.verdict
                if time.monotonic() > batch.until:
                    return Retry("the endpoint is slow; this one's turn did not come")
                return await one(thing, batch)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(in_turn(thing)) for thing in things]
        return [task.result() for task in tasks]
