"""Manual delivery: an officer sends the plan (by post, by hand) and records how and when; that record is the evidence.

Nothing is sent by itself, so there is no adapter: parking leaves the share waiting, and this interface takes the officer's
record. *Sent* is what satisfies; coverage shows it as sent, never as filed. What was recalled waits in the same way until the
officer records that the family gave it back or destroyed it.
"""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends, Query, Response

from schemas.answers import ManualDeliveries, RemovedAnswer, SentAnswer
from schemas.evidence import RemovedRecord, SentRecord
from schemas.receipts import Status
from services.shared.clock import utc_now
from services.shared.delivery import evidence, store
from services.shared.delivery.receipts import Receipts
from services.shared.identity.tokens import Caller, CallerKind, Verifier
from services.shared.json import json_answer
from services.shared.record_systems.recalls_api import take_statement
from services.shared.web.openapi import refuses
from services.shared.web.problems import FieldError, Problem


def make_manual_router(pool: "asyncpg.Pool[asyncpg.Record]", receipts: Receipts, verifier: Verifier) -> APIRouter:
    router = APIRouter(prefix="/v1/deliveries")
    CallerOf = Annotated[Caller, Depends(verifier)]

    @router.get("", name="deliveries", response_model=ManualDeliveries, summary="Manual deliveries of the caller's councils")
    async def listed(
        caller: CallerOf,
        state: Literal["awaiting", "sent", "withdrawn", "recalled"] | None = None,
        after: UUID | None = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> Response:
        caller.must_be(CallerKind.OPERATOR)
        wanted = "waiting" if state == "awaiting" else state
        async with pool.acquire() as connection:
            rows = await store.list_deliveries(connection, wanted, after, limit)
        items = [_item(row) for row in rows if row["instruction"]["la_code"] in caller.la_codes]
        return json_answer({"deliveries": items, "next": rows[-1]["share_id"] if len(rows) == limit else None})

    not_now: dict[int | str, Any] = {409: refuses("`evidence-refused`: this is not what the share waits for.")}

    @router.post(
        "/{share_id}/sent", response_model=SentAnswer, responses=not_now, summary="Record that and how a plan was sent"
    )
    async def sent(share_id: UUID, record: SentRecord, caller: CallerOf) -> Response:
        caller.must_be(CallerKind.OPERATOR)
        async with pool.acquire() as connection, connection.transaction():
            row = await _delivery(connection, share_id, caller)
            # Of an older instruction the evidence itself is refused, with a better word.
            check_date(record, row["instruction"] if row["seq"] == record.seq else {}, utc_now().date())
            proof = f"sent by {record.how} on {record.sent_on}, recorded by {record.by}"
            if record.restricted:
                proof += "; the plan was restricted then"
            if record.note:
                proof += f"; note: {record.note}"
            try:
                new = await evidence.record(connection, receipts, share_id, record.seq, Status.SENT, proof=proof)
            except evidence.EvidenceRefusedError as error:
                raise Problem(409, "evidence-refused", "This cannot be recorded", str(error)) from None
        # What was recorded first stands; a second record changes nothing and is told what stands.
        stands = proof if new else row["held_record"]
        return json_answer({"share_id": share_id, "seq": record.seq, "status": "sent", "recorded": new, "record": stands})

    @router.post(
        "/{share_id}/removed",
        response_model=RemovedAnswer,
        responses=not_now,
        summary="Record that what was recalled is no longer with the family",
    )
    async def removed(share_id: UUID, record: RemovedRecord, caller: CallerOf) -> Response:
        caller.must_be(CallerKind.OPERATOR)
        async with pool.acquire() as connection, connection.transaction():
            await _delivery(connection, share_id, caller)
            answer = await take_statement(connection, receipts, share_id, record, by_hand=True)
        return json_answer(answer)

    return router


async def _delivery(connection: Any, share_id: UUID, caller: Caller) -> Any:
    row = await store.lock_for_evidence(connection, share_id)
    if row is None or row["instruction"]["la_code"] not in caller.la_codes:
        raise Problem(404, "no-delivery", "There is no such delivery", "No manual delivery of your councils has this id.")
    return row


def check_date(record: SentRecord, instruction: Mapping[str, Any], today: date) -> None:
    """Raises :class:`Problem`: what is counted as evidence was not sent before it was there, nor is it sent tomorrow."""
    if record.sent_on > today:
        raise Problem(
            422, "sent-in-future", "The date of sending is in the future", "Record it when it has been sent.",
            [FieldError("sent_on", "in the future", "the day on which it was sent, as YYYY-MM-DD")],
        )  # fmt: skip
    issued_on = instruction.get("issued_on")
    if issued_on and record.sent_on < date.fromisoformat(issued_on):
        raise Problem(
            422, "sent-before-issued", "The version was issued after this date of sending",
            f"It was issued on {issued_on}; record when this version was sent.",
            [FieldError("sent_on", "before the version was issued", "the day on which it was sent, as YYYY-MM-DD")],
        )  # fmt: skip


def _item(row: Any) -> dict[str, Any]:
    instruction = row["instruction"]
    return {
        "share_id": row["share_id"], "seq": row["seq"], "state": row["state"], "plan_id": instruction["plan_id"],
        "recipient_kind": instruction["recipient"]["kind"], "version": instruction.get("version"),
        "action": row["action"], "notice": instruction.get("notice"),
        "remove": [] if row["removed_seq"] == row["seq"] else instruction.get("remove", []),
        "due_at": instruction["due_at"], "parked_at": row["parked_at"], "record": row["held_record"],
    }  # fmt: skip
