"""HTTP out: how far a look into the records has come, its report, signed; and what subscribers say of their records.

Invariant: a report is read only by an operator of the council that asked, and each plan in it is an act in the ledger,
committed before a byte is sent.
"""

from collections import Counter
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from schemas.holdings import Found
from schemas.looks import LookProgress, RecordsOfSubscriber, RecordsShown, SignedLookReport
from services.audit import looks, store, store_looks
from services.shared.identity.signed_documents import DocumentSigner
from services.shared.identity.tokens import Caller, CallerKind, Verifier
from services.shared.json import json_answer
from services.shared.postgres.pool import council_transaction
from services.shared.web.openapi import refuses
from services.shared.web.problems import Problem

_NO_LOOK: dict[int | str, Any] = {404: refuses("`no-such-look`: no look of this id, or not of a council of this client.")}
_NO_KEY: dict[int | str, Any] = {503: refuses("`no-document-key`: this service has no key to sign documents with.")}


def make_looks_router(pool: store.Pool, verifier: Verifier, signer: DocumentSigner | None) -> APIRouter:
    api = APIRouter(prefix="/v1")

    async def operator(caller: Annotated[Caller, Depends(verifier)]) -> Caller:
        caller.must_be(CallerKind.OPERATOR)
        return caller

    CallerOf = Annotated[Caller, Depends(operator)]

    @api.get("/looks/{look_id}", name="look", responses=_NO_LOOK, summary="How many records have answered, and who has not")
    async def progress(look_id: UUID, caller: CallerOf) -> LookProgress:
        async with council_transaction(pool, caller.la_codes) as connection:
            look = await _look(connection, look_id)
            shares = await store_looks.read_progress(connection, look_id)
            plans = await store_looks.read_plans(connection, look_id)
        open_ = [row["subscriber"] for row in shares if row["subscriber"] and row["found"] in (None, Found.NO_ANSWER)]
        return LookProgress(
            look_id=look_id, la_code=look["la_code"], asked_at=look["asked_at"], until=look["until"], children=len(plans),
            shares=len(shares), answered=len(shares) - len(open_), waiting_for=dict(sorted(Counter(open_).items())),
        )  # fmt: skip

    @api.get(
        "/looks/{look_id}/report", name="look_report", response_model=SignedLookReport, responses=_NO_LOOK | _NO_KEY,
        summary="What was found in the records, signed by the council",
    )  # fmt: skip
    async def report(look_id: UUID, caller: CallerOf) -> Response:
        """Of what has answered so far; `complete` says whether that is all."""
        if signer is None:
            raise Problem(
                503, "no-document-key", "No report can be signed", "Set EHCP_DOCUMENT_KEY_FILE of the audit service."
            )  # fmt: skip
        async with council_transaction(pool, caller.la_codes) as connection:
            look = await _look(connection, look_id)
            plans = await store_looks.read_plans(connection, look_id)
            plan_ids = [row["plan_id"] for row in plans]
            shares = await store_looks.read_shares(connection, [look_id])
            draws = await store_looks.read_earlier_draws(connection, look_id)
            counted = [row["look_id"] for row in draws[: looks.DRAWS_COUNTED]]
            of_draws = await store_looks.read_shares(connection, counted) if counted else []
            gaps = await store_looks.read_gaps(connection, plan_ids)
            keys = await store_looks.read_keys(connection)
            await store_looks.write_read_acts(connection, caller.client_id, look["la_code"], look_id, plan_ids)
        earlier = looks.earlier_draws(draws, of_draws)
        found = looks.report(look, look["council"], plans, shares, gaps, keys, look["now"], earlier)
        return json_answer(signer.sign(looks.KIND, found.model_dump(mode="json")), private=True)

    @api.get("/records", name="records", summary="What each subscriber last said of its records, in numbers")
    async def records(caller: CallerOf) -> RecordsShown:  # noqa: ARG001 - whoever is one may see it; it is of no council
        async with pool.acquire() as connection:
            rows = await store_looks.read_records(connection)
        return RecordsShown(subscribers=tuple(RecordsOfSubscriber(**dict(row)) for row in rows))

    return api


async def _look(connection: store.Connection, look_id: UUID) -> Any:
    look = await store_looks.read_look(connection, look_id)
    if look is None:
        raise Problem(
            404, "no-such-look", "No such look", "Send the id that POST /v1/looks answered to a client of this council."
        )
    return look
