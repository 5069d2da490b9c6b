"""HTTP in: look into the records. No rules here; see ``looking``."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from schemas.looks import LookAsked, LookRequest
from services.ehcp_publisher.api import parse
from services.ehcp_publisher.looking import Looking
from services.shared.identity.tokens import Caller, CallerKind, Verifier
from services.shared.json import json_answer
from services.shared.web.openapi import Described, gives_json, takes_json
from services.shared.web.problems import FieldError, Problem

ROUTES = {
    "ask_look": Described(
        takes_json(LookRequest),
        {202: ("Asked; the answers and the report are audit's to give.", gives_json(LookAsked))},
        {
            400: "The body is not JSON.", 409: "`nobody-to-draw`: no plan that could be drawn.",
            422: "It does not fit the contract: every field that is wrong, and what to send instead.",
        },
    ),
}  # fmt: skip


def make_looks_router(looking: Looking, verifier: Verifier) -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.post("/looks", status_code=202, name="ask_look", summary="Ask what the records of some children really hold")
    async def ask_look(request: Request, caller: Annotated[Caller, Depends(verifier)]) -> Response:
        """Drawn at random, or the asker's own choice. Each subscriber looks into its records and answers, signed."""
        caller.must_be(CallerKind.OPERATOR)
        asked = parse(LookRequest, await request.body())
        la_code = asked.la_code or _only(caller)
        caller.must_act_for(la_code)
        return json_answer((await looking.ask(caller, la_code, asked)).model_dump(mode="json"), 202, private=True)

    return router


def _only(caller: Caller) -> str:
    if len(caller.la_codes) != 1:
        known = ", ".join(sorted(caller.la_codes))
        raise Problem(
            422, "which-council", "It is not said which council's children",
            f"This client acts for {known}: name one of them.", [FieldError("la_code", "missing", f"one of {known}")],
        )  # fmt: skip
    (la_code,) = caller.la_codes
    return la_code
