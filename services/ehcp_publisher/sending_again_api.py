"""Sending again over HTTP, for a council's own people and case system: what it would come to, begin, follow, cancel."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from schemas.sending_again import SendAgain, SendingAgain, SendingsAgain, WouldSend
from services.ehcp_publisher.api import parse
from services.ehcp_publisher.sending_again import SendingAgains
from services.shared.identity.tokens import Caller, CallerKind, Verifier
from services.shared.json import json_answer
from services.shared.web.openapi import Described, gives_json, refuses, takes_json

ROUTES = {
    "send_again": Described(
        takes_json(SendAgain),
        {
            200: ("With `dry_run`: how many shares, and to whom.", gives_json(WouldSend)),
            202: ("Begun: it goes on by itself, to be followed by its id.", gives_json(SendingAgain)),
        },
        {
            400: "The body is not JSON.",
            404: "`nothing-to-send`: no share of this client's councils fits.",
            422: "It does not fit the contract, or does not say which shares are meant.",
        },
    ),
}


def make_sending_again_router(sending: SendingAgains, verifier: Verifier) -> APIRouter:
    router = APIRouter(prefix="/v1/send-again")

    async def council_caller(caller: Annotated[Caller, Depends(verifier)]) -> Caller:
        caller.must_be(CallerKind.OPERATOR, CallerKind.CASE_SYSTEM)
        return caller

    CallerOf = Annotated[Caller, Depends(council_caller)]
    no_job: dict[int | str, Any] = {404: refuses("`no-job`: no sending of this id, or not of this client's councils.")}

    @router.post("", summary="Send instructions again, under the same seq: those of a share, a plan, a recipient …")
    async def send_again(
        request: Request,
        caller: CallerOf,
        dry_run: Annotated[bool, Query(description="Say what it would come to, and send nothing.")] = False,
    ) -> Response:
        choice = parse(SendAgain, await request.body())
        if dry_run:
            return json_answer((await sending.would_send(caller, choice)).model_dump(mode="json"))
        return json_answer((await sending.begin(caller, choice)).model_dump(mode="json"), 202)

    @router.get("", summary="What was sent again, and how far it is")
    async def sendings_again(caller: CallerOf) -> SendingsAgain:
        return SendingsAgain(jobs=tuple(await sending.jobs(caller)))

    @router.get("/{job_id}", responses=no_job, summary="How far one sending is")
    async def sending_again(job_id: UUID, caller: CallerOf) -> SendingAgain:
        return await sending.job(caller, job_id)

    @router.delete("/{job_id}", responses=no_job, summary="Cancel one: what has not gone out stays where it is")
    async def cancel_sending(job_id: UUID, caller: CallerOf) -> SendingAgain:
        return await sending.job(caller, job_id, cancel=True)

    return router
