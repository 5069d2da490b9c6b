"""What a receiver of thin webhooks fetches: the message that it would have been sent in full, read from the council just now.

Invariant: nothing is given but to who signed the request with the key of the endpoint that the share is delivered to, and
nothing that the council no longer wants held: each fetch is a read at the council, authorised and written to its ledger there.
"""

from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Query, Request, Response

from schemas.documents import ReadOutcome
from services.shared.delivery.council import BadRenderingError, Council, CouncilAwayError, content_of
from services.shared.record_systems import webhook_messages as messages
from services.shared.record_systems.webhook import WebhookEndpoint
from services.shared.web.problems import Problem


def make_fetch_router(
    pool: "asyncpg.Pool[asyncpg.Record]", council: Council, endpoints: Mapping[str, WebhookEndpoint]
) -> APIRouter:
    """``endpoints`` by the name of their entry, which is the lane of their deliveries."""
    router = APIRouter(prefix="/v1/webhooks")

    @router.get("/{name}", summary="What a thin webhook speaks of, for its receiver; signed over the query as sent")
    async def fetch(name: str, request: Request, share: UUID, seq: Annotated[int, Query(ge=1, le=2**53 - 1)]) -> Response:
        endpoint = endpoints.get(name)
        if endpoint is None or not endpoint.is_theirs(request.headers, request.url.query.encode()):
            raise Problem(
                401, "not-signed", "Sign the request", "Sign the query as webhooks are signed, with the current time."
            )
        row = await pool.fetchrow(
            "SELECT instruction, held_version_id FROM delivery.delivery"
            " WHERE share_id = $1 AND seq = $2 AND lane = $3 AND action = 'hold'",
            share, seq, name,
        )  # fmt: skip
        if row is None:
            raise Problem(
                404, "no-delivery", "There is nothing to fetch", "A newer message says what is wanted now, if any is."
            )
        try:
            answer = (await council.read([(share, seq)])).get(share)
            if answer is None or answer.outcome is ReadOutcome.HELD:
                raise CouncilAwayError("the council gives nothing out just now")
            if answer.outcome is not ReadOutcome.OK or answer.rendering is None:
                raise Problem(404, "no-delivery", "There is nothing to fetch", "The council no longer wants this to be held.")
            replaces = None if row["instruction"].get("notice") else row["held_version_id"]
            content = content_of(answer.rendering, share, seq, row["instruction"]["sha256"], replaces)
        except (CouncilAwayError, BadRenderingError):
            raise Problem(
                503, "council-away", "The council does not answer just now", "Fetch it again.", headers={"Retry-After": "30"}
            ) from None
        return Response(
            messages.delivered(content).body, headers={"Cache-Control": "no-store"}, media_type=messages.CONTENT_TYPE
        )

    return router
