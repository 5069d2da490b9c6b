"""HTTP in: what a council's comparison of its case system with the exchange found, for the notifier to tell of.

The whole of it in one request, kept in one transaction: whoever looks finds the comparison before or this one, never half.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from schemas.comparison import Comparison, ComparisonShown, ComparisonsPage
from schemas.identifiers import LaCode
from services.ehcp_publisher import store, store_comparison
from services.ehcp_publisher.api import parse
from services.ehcp_publisher.store import Act
from services.shared.identity.tokens import Caller, CallerKind, Verifier
from services.shared.json import json_answer
from services.shared.postgres.pool import council_transaction
from services.shared.web.openapi import Described, gives_json, takes_json

MAX_BODY = 8 * 2**20
"""Bytes; twice what the most differences take."""

ROUTES = {
    "put_comparison": Described(
        takes_json(Comparison),
        {200: ("Kept; what is over is over.", gives_json(ComparisonShown))},
        {400: "The body is not JSON.", 413: "The body is too large."},
    ),
    "get_comparisons": Described(gives={200: ("Of each council that ever compared, its last.", gives_json(ComparisonsPage))}),
}


def make_comparison_router(verifier: Verifier, pool: Any) -> APIRouter:
    router = APIRouter(prefix="/v1")
    CallerOf = Annotated[Caller, Depends(verifier)]

    @router.put("/comparisons/{la_code}", summary="Replace what the council's case system and the exchange differ in")
    async def put_comparison(la_code: LaCode, request: Request, caller: CallerOf) -> Response:
        """An alert is raised for what is new in it, and cleared for what is gone. Plans of other councils are left out."""
        caller.must_be(CallerKind.CASE_SYSTEM, CallerKind.OPERATOR)
        caller.must_act_for(la_code)
        told = parse(Comparison, await request.body())
        async with council_transaction(pool, [la_code]) as connection:
            await store_comparison.write_comparison(
                connection, la_code, caller.client_id, told.plans, told.rows_refused, told.not_here
            )
            await store_comparison.replace_differences(connection, la_code, told.differences)
            (shown,) = await store_comparison.read_comparisons(connection)
            details = {"plans": told.plans, "not_here": told.not_here, "differences": shown["differences"]}
            await store.insert_acts(connection, [Act("case_system_compared", caller.client_id, la_code, details=details)])
        return json_answer(shown)

    @router.get("/comparisons", summary="When each council last compared its case system with the exchange")
    async def get_comparisons(caller: CallerOf) -> Response:
        caller.must_be(CallerKind.CASE_SYSTEM, CallerKind.OPERATOR)
        async with council_transaction(pool, caller.la_codes) as connection:
            return json_answer({"comparisons": await store_comparison.read_comparisons(connection)})

    return router
