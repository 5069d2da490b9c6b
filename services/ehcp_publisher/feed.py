"""The HTTPS feed: a subscriber that no Kafka reaches asks for the instructions that it has not answered yet.

Invariant: there is no cursor. An instruction is in every answer until a receipt for its ``seq`` has come to audit, and a
question what a record holds until its answer has, so that none can be skipped; a lost answer, a restart or a lost database of
the subscriber costs another question. All of it goes to the subscriber's topic all the same: who listens where is the
subscriber's own setting.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from schemas.manifest import canonical
from services.ehcp_publisher import instructions, looking, store_feed, store_handover, store_looks
from services.shared.identity.tokens import Caller, CallerKind, Verifier
from services.shared.kafka import cloudevents
from services.shared.kafka.cloudevents import SENT_AGAIN
from services.shared.postgres.pool import council_transaction
from services.shared.web import event_batch

LONGEST_WAIT = 60
"""Seconds; what stands between the two may cut a connection on which nothing comes for longer."""
LOOK_EVERY = 0.5
"""Seconds between two looks while a request waits."""
LOOKS = 500
"""Questions about a record in one answer."""
SHARE_OF_TIME = 20
"""A look that takes long is repeated less often: at most a twentieth of the time goes into looking."""


def make_feed_router(pool: Any, councils: Sequence[str], verifier: Verifier) -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.get("/feed", summary="The calling subscriber's instructions and questions that are not answered yet; waits for one")
    async def feed(
        request: Request,
        caller: Annotated[Caller, Depends(verifier)],
        wait: Annotated[int, Query(ge=0, le=LONGEST_WAIT)] = 0,
        limit: Annotated[int, Query(ge=1, le=event_batch.MAX_EVENTS)] = event_batch.MAX_EVENTS,
    ) -> Response:
        caller.must_be(CallerKind.SUBSCRIBER)
        until = time.monotonic() + wait
        while True:
            began = time.monotonic()
            # No connection is held while a request waits.
            async with council_transaction(pool, councils) as connection:
                subscriber = caller.subscriber or ""
                rows = [
                    *await store_feed.take_told_again(connection, subscriber, limit),
                    *await store_feed.unanswered(connection, subscriber, limit),
                    *await store_handover.list_told(connection, subscriber, None, limit, unanswered=True),
                ][:limit]
                asked = await store_looks.of_subscriber(connection, subscriber, LOOKS)
            questions = list(looking.batches(asked))[: limit - len(rows)]
            now = time.monotonic()
            if rows or questions or now >= until or await request.is_disconnected():
                break
            await asyncio.sleep(min(until - now, max(LOOK_EVERY, SHARE_OF_TIME * (now - began))))
        body = event_batch.write([*map(_event, rows), *map(_question, questions)])
        return Response(body, headers={"Cache-Control": "no-store"}, media_type=event_batch.CONTENT_TYPE)

    return router


def _event(row: Any) -> dict[str, Any]:
    headers = cloudevents.headers(row["type"], instructions.source(row["la_code"]), row["requested_at"])
    # The same instruction has the same id, however often it is told.
    headers["ce_id"] = f"{row['share_id']}-{row['seq']}"
    if job_id := row.get("job_id"):
        headers[SENT_AGAIN] = str(job_id)
    return event_batch.event(str(row["share_id"]), headers, row["data"])


def _question(batch: Sequence[store_looks.AskedShare]) -> dict[str, Any]:
    headers = looking.question_headers(batch[0])
    # Of what is not answered yet, so what is asked under one id may become less.
    headers["ce_id"] = f"look:{batch[0].look_id}"
    return event_batch.event(str(batch[0].look_id), headers, canonical(looking.question(batch).model_dump(mode="json")))
