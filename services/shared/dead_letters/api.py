"""Dead letters over HTTP, for the operator of the service that keeps them: see, own, put in again, dismiss.

A letter that is put in again goes the way that it would have gone off the topic, so that it is as safe to repeat: what was
mended since (a key, a share that is back, a newer version of ours) now takes it, anything else leaves it where it is.
"""

import base64
from collections.abc import Awaitable, Callable, Collection
from typing import Annotated, Any, Self

import asyncpg
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field, model_validator

from schemas.base import Closed, ContractError
from schemas.dead_letters import (
    DeadLetter,
    DeadLetterRecord,
    DeadLettersPage,
    DismissAnswer,
    RefusedLetter,
    ReplayAnswer,
    ResumeAnswer,
)
from services.shared.dead_letters import store
from services.shared.kafka.consume import Handler, Record
from services.shared.web.problems import Problem

AT_ONCE = 200
"""Put in again in one transaction of the handler."""
LARGEST = 2**63 - 1
Operator = Callable[[Request], Awaitable[str]]
"""Who asks, by name. Raises :class:`Problem` for anybody but an operator of this service."""
_Ids = Annotated[tuple[Annotated[int, Field(ge=1, le=LARGEST)], ...], Field(min_length=1, max_length=1000)]


class Chosen(Closed):
    ids: _Ids | None = None
    topic: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """All that are open, of one topic."""

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if self.ids is None and self.topic is None:
            raise ContractError("it is not said which dead letters are meant", "send ids, or a topic")
        return self


class Dismissed(Closed):
    ids: _Ids


class Resumed(Closed):
    topic: Annotated[str, Field(min_length=1, max_length=255)]


class Owner(Closed):
    owner: Annotated[str, Field(min_length=1, max_length=100)] | None
    """A name or a team; null when nobody looks after it any more."""


def make_dead_letters_router(
    pool: "asyncpg.Pool[asyncpg.Record]",
    table: str,
    handler: Handler,
    operator: Operator,
    stopped: Callable[[], Collection[str]] = lambda: (),
    resume: Callable[[str], None] = lambda _: None,
) -> APIRouter:
    """``handler`` is the consumer's own. ``stopped``: topics that are not read because too much of them was garbage."""
    router = APIRouter(prefix="/v1/dead-letters")
    OperatorOf = Annotated[str, Depends(operator)]
    LetterId = Annotated[int, Path(ge=1, le=LARGEST)]

    @router.get("", summary="Records that nobody could take in, the oldest first")
    async def dead_letters(
        _: OperatorOf,
        after: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        everything: Annotated[bool, Query(description="Those too that were put in again or dismissed.")] = False,
    ) -> DeadLettersPage:
        rows = await store.page(pool, table, after, limit, still_open=not everything)
        letters = tuple(_letter(row) for row in rows)
        following = letters[-1].id if len(letters) == limit else None
        return DeadLettersPage(dead_letters=letters, next=following, stopped_topics=tuple(sorted(stopped())))

    @router.get("/{letter}", summary="One dead letter with its record, byte for byte")
    async def dead_letter(letter: LetterId, _: OperatorOf) -> DeadLetterRecord:
        row = await store.one(pool, table, letter)
        if row is None:
            raise _no_letter()
        return DeadLetterRecord(
            **_letter(row).model_dump(), headers=tuple((name, text) for name, text in row["headers"]),
            key=base64.b64encode(row["key"]).decode(), value=base64.b64encode(row["value"]).decode(),
        )  # fmt: skip

    @router.put("/{letter}/owner", summary="Who looks after it")
    async def dead_letter_owner(letter: LetterId, owner: Owner, _: OperatorOf) -> DeadLetter:
        row = await store.set_owner(pool, table, letter, owner.owner)
        if row is None:
            raise _no_letter()
        return _letter(row)

    @router.post("/replay", summary="Put open dead letters in again: some, or all of a topic")
    async def replay_dead_letters(chosen: Chosen, by: OperatorOf) -> ReplayAnswer:
        replayed, refused, after = 0, list[RefusedLetter](), 0
        while rows := await store.open_letters(pool, table, chosen.ids, chosen.topic, after, AT_ONCE):
            after = rows[-1]["id"]
            by_record = {_record(row): row["id"] for row in rows}
            reasons = {by_record[record]: reason for record, reason in await handler(list(by_record))}
            taken = [letter for letter in by_record.values() if letter not in reasons]
            replayed += len(await store.close(pool, table, taken, "replayed", by))
            refused += [RefusedLetter(id=letter, reason=reason) for letter, reason in sorted(reasons.items())]
        return ReplayAnswer(replayed=replayed, refused=tuple(refused))

    @router.post("/dismiss", summary="Close dead letters that need nothing more")
    async def dismiss_dead_letters(chosen: Dismissed, by: OperatorOf) -> DismissAnswer:
        return DismissAnswer(dismissed=tuple(await store.close(pool, table, chosen.ids, "dismissed", by)))

    @router.post("/resume", summary="Read a topic again that was stopped for too much garbage")
    async def resume_topic(chosen: Resumed, _: OperatorOf) -> ResumeAnswer:
        resume(chosen.topic)
        return ResumeAnswer(stopped_topics=tuple(sorted(stopped())))

    return router


def _letter(row: Any) -> DeadLetter:
    type_ = next((text for name, text in row["headers"] if name == "ce_type"), None)
    return DeadLetter(
        id=row["id"], topic=row["topic"], partition=row["partition"], offset=row["offset"], type=type_, reason=row["reason"],
        at=row["at"], owner=row["owner"], closed_at=row["closed_at"], closed_by=row["closed_by"], closed_as=row["closed_as"],
    )  # fmt: skip


def _record(row: Any) -> Record:
    headers = tuple((name, text.encode()) for name, text in row["headers"])
    return Record(row["topic"], row["partition"], row["offset"], row["key"], row["value"], headers)


def _no_letter() -> Problem:
    return Problem(404, "no-dead-letter", "There is no such dead letter", "Take an id from the list.")
