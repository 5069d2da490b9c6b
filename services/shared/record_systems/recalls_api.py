"""Recalls that only people can end: an organisation sees what it was asked to remove, and states that it is gone.

For record systems that take a plan and cannot take it back by themselves (a mailbox, an integration engine). The statement is
evidence as an officer's is, and becomes the signed receipt that ends the recall. An organisation speaks for itself only.
"""

from typing import Annotated, Any
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends, Query, Response

from schemas.answers import RecallsPage, RemovedAnswer
from schemas.evidence import RemovedRecord
from schemas.identifiers import recipient_name
from services.shared.clock import utc_now
from services.shared.delivery import evidence, store
from services.shared.delivery.receipts import Receipts
from services.shared.identity.tokens import Caller, CallerKind, Verifier
from services.shared.json import json_answer
from services.shared.web.problems import FieldError, Problem


def make_recalls_router(pool: "asyncpg.Pool[asyncpg.Record]", receipts: Receipts, verifier: Verifier) -> APIRouter:
    router = APIRouter(prefix="/v1/recalls")
    CallerOf = Annotated[Caller, Depends(verifier)]

    @router.get("", response_model=RecallsPage, summary="What the calling organisation has still to remove")
    async def open_recalls(
        caller: CallerOf, after: UUID | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 100
    ) -> Response:
        caller.must_be(CallerKind.RECIPIENT)
        async with pool.acquire() as connection:
            rows = await store.list_recalls(connection, str(caller.recipient), after, limit)
        items = [
            {
                "share_id": row["share_id"], "seq": row["seq"], "state": row["state"], "plan_id": row["plan_id"],
                "remove": row["instruction"]["remove"], "asked_at": row["instruction"]["requested_at"],
                "due_at": row["instruction"]["due_at"],
            }
            for row in rows
        ]  # fmt: skip
        return json_answer({"recalls": items, "next": rows[-1]["share_id"] if len(rows) == limit else None}, private=True)

    @router.post("/{share_id}/removed", response_model=RemovedAnswer, summary="State that what was recalled is gone")
    async def stated(share_id: UUID, record: RemovedRecord, caller: CallerOf) -> Response:
        caller.must_be(CallerKind.RECIPIENT)
        async with pool.acquire() as connection, connection.transaction():
            row = await store.lock_for_evidence(connection, share_id)
            if row is None or _name(row) != caller.recipient:
                raise Problem(
                    404, "no-recall", "There is no such recall", "Nothing of this id was recalled from your organisation."
                )
            answer = await take_statement(connection, receipts, share_id, record, by_hand=False)
        return json_answer(answer)

    return router


async def take_statement(
    connection: Any, receipts: Receipts, share_id: UUID, record: RemovedRecord, *, by_hand: bool
) -> dict[str, Any]:
    """Record what a person states of a recalled copy; the answer to give. Raises :class:`Problem`."""
    if record.removed_on > utc_now().date():
        raise Problem(
            422, "removed-in-future", "The date of removal is in the future", "Record it when it has happened.",
            [FieldError("removed_on", "in the future", "the day on which it was removed, as YYYY-MM-DD")],
        )  # fmt: skip
    proof = f"{record.how.replace('_', ' ')} on {record.removed_on}, recorded by {record.by}"
    try:
        new = await evidence.record_removal(connection, receipts, share_id, record.seq, proof, by_hand=by_hand)
    except evidence.EvidenceRefusedError as error:
        raise Problem(409, "evidence-refused", "This cannot be recorded", str(error)) from None
    after = await store.lock_for_evidence(connection, share_id)
    held = after["action"] == "hold" and after["held_seq"] == after["seq"]
    return {"share_id": share_id, "seq": record.seq, "status": "held" if held else after["state"], "recorded": new}


def _name(row: Any) -> str:
    recipient = row["instruction"]["recipient"]
    return recipient_name(recipient["kind"], recipient["scheme"], recipient["value"])
