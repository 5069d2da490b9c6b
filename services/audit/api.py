"""HTTP in: who holds which version, for a council's own people and case system, of their own councils only; and receipts of
subscribers that no Kafka reaches.

Invariant: every read of who holds what is an act in ``audit.pending``, committed before a byte of the answer is sent.
Another council's plan looks like no plan at all. A receipt is judged as if it had come over its subscriber's topic.
"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from schemas.base import RecipientKind
from schemas.breach import RecallList, SignedBreachPack
from schemas.identifiers import LaCode
from services.audit import breach, store, store_coverage, store_recalls
from services.audit.coverage import Coverage, coverage
from services.audit.handlers import receipts_handler
from services.audit.holders import Holder, holder
from services.audit.receipts import receipts_topic
from services.shared.dead_letters.api import Operator
from services.shared.identity.signed_documents import DocumentSigner
from services.shared.identity.tokens import Caller, CallerKind, Verifier
from services.shared.json import json_answer
from services.shared.postgres.pool import council_transaction
from services.shared.web import event_batch
from services.shared.web.openapi import refuses
from services.shared.web.problems import Problem

FIRST = UUID(int=0)


class PlanHolders(BaseModel):
    plan_id: UUID
    la_code: str
    holders: list[Holder]


class HoldersPage(BaseModel):
    holders: list[Holder]
    next: UUID | None
    """Send it as ``after`` for the next page; None on the last."""


class RefusedReceipt(BaseModel):
    position: int
    """In the batch, from 0."""
    reason: str


class ReceiptsTaken(BaseModel):
    taken: int
    """Stored now, or before; a receipt that comes twice is stored once."""
    refused: list[RefusedReceipt]
    """Kept as dead letters; sending them again changes nothing."""


def operator(verifier: Verifier) -> Operator:
    """Dead letters belong to no council: what came could not be read, or was no share's. An operator of any may look."""

    async def by_name(request: Request) -> str:
        caller = await verifier(request)
        caller.must_be(CallerKind.OPERATOR)
        return caller.client_id

    return by_name


def router(pool: store.Pool, verifier: Verifier, signer: DocumentSigner | None = None) -> APIRouter:
    api = APIRouter(prefix="/v1")

    async def council_caller(caller: Annotated[Caller, Depends(verifier)]) -> Caller:
        caller.must_be(CallerKind.OPERATOR, CallerKind.CASE_SYSTEM)
        return caller

    @api.get("/plans/{plan_id}/holders", summary="Who should hold this plan, and who holds which version of it")
    async def holders_of_plan(plan_id: UUID, caller: Annotated[Caller, Depends(council_caller)]) -> PlanHolders:
        async with council_transaction(pool, caller.la_codes) as connection:
            la_code = await store.read_plan_council(connection, plan_id)
            if la_code is None:
                raise Problem(
                    404, "no-such-plan", "No such plan", "Send the id of a plan of a council that this client acts for."
                )
            holders = [holder(dict(row)) for row in await store.read_holders_of_plan(connection, plan_id)]
            await store.write_read_acts(connection, caller.client_id, {la_code}, plan_id, {"shares": len(holders)})
        return PlanHolders(plan_id=plan_id, la_code=la_code, holders=holders)

    @api.get("/holders", summary="All shares of the caller's councils, page by page")
    async def all_holders(
        caller: Annotated[Caller, Depends(council_caller)],
        after: UUID = FIRST,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    ) -> HoldersPage:
        async with council_transaction(pool, caller.la_codes) as connection:
            holders = [holder(dict(row)) for row in await store.read_holders(connection, after, limit)]
            await store.write_read_acts(
                connection, caller.client_id, caller.la_codes, None, {"after": str(after), "shares": len(holders)}
            )
        return HoldersPage(holders=holders, next=holders[-1].share_id if len(holders) == limit else None)

    @api.get("/coverage", summary="Satisfied shares by kind of recipient and strength of proof, beside the share gaps")
    async def coverage_of_councils(
        caller: Annotated[Caller, Depends(council_caller)],
        la_code: Annotated[LaCode | None, Query(description="One of the caller's councils; else all of them.")] = None,
        recipient_kind: RecipientKind | None = None,
    ) -> Coverage:
        """Share gaps are of every kind: who has no share has none of any."""
        if la_code is not None:
            caller.must_act_for(la_code)
        la_codes = caller.la_codes if la_code is None else frozenset({la_code})
        async with council_transaction(pool, la_codes) as connection:
            rows = await store_coverage.count_shares(connection, recipient_kind)
            beside = await store_coverage.count_beside(connection)
            details = {"recipient_kind": recipient_kind} if recipient_kind else {}
            await store.write_read_acts(connection, caller.client_id, la_codes, None, details, act="coverage_read")
        return coverage(la_codes, map(dict, rows), beside)

    @api.get("/recalls", summary="Recalls of the caller's councils, and how many copies are still outstanding")
    async def recalls(
        caller: Annotated[Caller, Depends(council_caller)],
        after: UUID = FIRST,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
        plan_id: UUID | None = None,
        outstanding: Annotated[bool, Query(description="Only those with copies that are outstanding.")] = False,
    ) -> RecallList:
        async with council_transaction(pool, caller.la_codes) as connection:
            rows = await store_recalls.list_recalls(connection, after, limit, plan_id, open_only=outstanding)
            for la_code in sorted({row["la_code"] for row in rows}):
                seen = sum(row["la_code"] == la_code for row in rows)
                await store_recalls.write_act(connection, "recalls_read", caller.client_id, la_code, plan_id, {"recalls": seen})
        entries = tuple(breach.entry(row) for row in rows)
        return RecallList(recalls=entries, next=entries[-1].recall_id if len(entries) == limit else None)

    @api.get(
        "/recalls/{recall_id}", response_model=SignedBreachPack, summary="The breach pack of one recall, signed by the council",
        responses={404: refuses("No recall of this id, or not of a council that this client acts for."),
                   503: refuses("This audit service has no key to sign documents with.")},
    )  # fmt: skip
    async def breach_pack(recall_id: UUID, caller: Annotated[Caller, Depends(council_caller)]) -> Response:
        if signer is None:
            raise Problem(503, "no-document-key", "No pack can be signed", "Set EHCP_DOCUMENT_KEY_FILE of the audit service.")
        async with council_transaction(pool, caller.la_codes) as connection:
            recall = await store_recalls.read_recall(connection, recall_id)
            if recall is None:
                raise Problem(404, "no-such-recall", "No such recall", "GET /v1/recalls lists those of your councils.")
            copies = await store_recalls.read_copies(connection, recall_id)
            share_ids = [row["share_id"] for row in copies]
            things = sorted({thing for row in copies for thing in row["things"]})
            told = await store_recalls.read_told(connection, share_ids, things)
            fetched = await store_recalls.read_fetched(connection, share_ids, things)
            keys = await store_recalls.read_keys(connection, sorted({row["subscriber"] for row in copies}))
            custody = await store_recalls.read_custody(connection, recall["plan_id"])
            moves = await store_recalls.read_moves(connection, recall["plan_id"])
            await store_recalls.write_act(
                connection, "breach_pack_read", caller.client_id, recall["la_code"], recall["plan_id"],
                {"recall_id": recall_id},
            )  # fmt: skip
        earlier = {row["la_code"] for row in custody} - {recall["la_code"]}
        async with council_transaction(pool, {recall["la_code"], *earlier}) as connection:
            receipts = await store_recalls.read_receipts(connection, recall_id)
            # What came in another council's time is shown for this recall alone, and that one's ledger says so.
            for la_code in sorted(earlier & {row["la_code"] for row in receipts}):
                shown = sum(row["la_code"] == la_code for row in receipts)
                await store_recalls.write_act(
                    connection, "breach_pack_read", caller.client_id, la_code, recall["plan_id"],
                    {"recall_id": recall_id, "for": recall["la_code"], "receipts": shown},
                )  # fmt: skip
        found = breach.Found(recall, copies, told, fetched, receipts, keys, custody, moves)
        pack = breach.pack(found, caller.client_id)
        return json_answer(signer.sign(breach.KIND, pack.model_dump(mode="json")), private=True)

    @api.post("/receipts", summary="Signed receipts and heartbeats of the calling subscriber, as a batch of CloudEvents")
    async def receipts(request: Request, caller: Annotated[Caller, Depends(verifier)]) -> ReceiptsTaken:
        caller.must_be(CallerKind.SUBSCRIBER)
        try:
            records = event_batch.read(await request.body(), receipts_topic(caller.subscriber or ""))
        except event_batch.NoBatchError as error:
            raise Problem(422, "no-batch", "This is no batch of events", str(error)) from None
        refused = {record.offset: reason for record, reason in await receipts_handler(pool)(records)}
        return ReceiptsTaken(
            taken=len(records) - len(refused),
            refused=[RefusedReceipt(position=position, reason=refused[position]) for position in sorted(refused)],
        )

    return api
