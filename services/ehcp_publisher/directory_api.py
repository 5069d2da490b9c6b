"""HTTP in: the directory of organisations, and each council's sharing policy. No rules here; see ``directory_changes``."""

from typing import Annotated, Any, Self
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import model_validator

from schemas.answers import LineRefused
from schemas.base import Closed, ContractError
from schemas.directory import DirectoryRecipient
from schemas.directory_answers import (
    DirectoryLineTaken,
    DirectoryPage,
    PolicyApplied,
    PolicyExplained,
    PolicyShown,
    PolicyTried,
)
from schemas.identifiers import CodeScheme, LaCode, OrganisationCode
from schemas.plan import Circumstances, IsoDate, SectionLetter
from schemas.policy import SharingPolicy
from services.ehcp_publisher import policy_effects, store, store_directory
from services.ehcp_publisher.api import parse
from services.ehcp_publisher.directory_changes import DirectoryChanges
from services.ehcp_publisher.policy_effects import Facts, PolicyEffects
from services.ehcp_publisher.registry import Directory
from services.ehcp_publisher.store import Act
from services.shared.identity.tokens import Caller, CallerKind, Verifier
from services.shared.json import dumps, json_answer
from services.shared.postgres.pool import council_transaction
from services.shared.web.openapi import Described, gives_json, gives_lines, takes_json, takes_lines
from services.shared.web.problems import FieldError, Problem

MAX_LINES = 2000
"""Organisations in one request; a register is sent in several."""


class ExplainRequest(Closed):
    """Of a plan, or of circumstances that somebody thought up; by the policy that holds, or by a draft of one."""

    plan_id: UUID | None = None
    circumstances: Circumstances | None = None
    date_of_birth: IsoDate | None = None
    sections: tuple[SectionLetter, ...] | None = None
    """With ``circumstances``: the sections that have content; left out, the version is a document alone."""
    on: IsoDate | None = None
    """The day; left out, today."""
    policy: SharingPolicy | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.plan_id is None) == (self.circumstances is None):
            raise ContractError("there is not exactly one of plan_id and circumstances", "send one of the two")
        return self


ROUTES = {
    "put_directory": Described(
        takes_lines(DirectoryRecipient),
        {200: ("One answer for each line, in order.", gives_lines(DirectoryLineTaken, LineRefused))},
    ),
    "get_directory": Described(gives={200: ("A page of organisations.", gives_json(DirectoryPage))}),
    "put_policy": Described(
        takes_json(SharingPolicy),
        {200: ("Applied, or what it would do.", gives_json(PolicyApplied, PolicyTried))},
        {400: "The body is not JSON."},
    ),
    "get_policy": Described(gives={200: ("The policy that holds.", gives_json(PolicyShown))}),
    "explain_policy": Described(
        takes_json(ExplainRequest),
        {200: ("Every rule, and what comes of them.", gives_json(PolicyExplained))},
        {400: "The body is not JSON."},
    ),
}


def make_directory_router(
    changes: DirectoryChanges, effects: PolicyEffects, directory: Directory, verifier: Verifier, pool: Any
) -> APIRouter:
    router = APIRouter(prefix="/v1")
    CallerOf = Annotated[Caller, Depends(verifier)]

    @router.put("/directory", summary="Add or replace organisations: NDJSON in, one answer per line out")
    async def put_directory(request: Request, caller: CallerOf, keep_delivery: bool = False) -> Response:
        """Each line is one organisation, whole; the same line again changes nothing. Plans it touches are decided again.

        ``keep_delivery`` is for lines from a register: of organisations that are listed already, subscriber, channel, contact,
        key and areas stay.
        """
        caller.must_be(CallerKind.OPERATOR)
        lines = [line for line in (await request.body()).split(b"\n") if line.strip()]
        if len(lines) > MAX_LINES:
            raise Problem(413, "too-many-lines", "Too many lines in one request", f"At most {MAX_LINES}; nothing was taken in.")
        results = await changes.put(caller, [_recipient(line) for line in lines], keep_delivery=keep_delivery)
        answers = [_answer(place, result) for place, result in enumerate(results, 1)]
        return Response(b"".join(answers), media_type="application/x-ndjson")

    @router.get("/directory", summary="Organisations by words of their name, or by code")
    async def get_directory(
        caller: CallerOf,
        q: Annotated[str | None, Query(min_length=2, max_length=200)] = None,
        code: Annotated[str | None, Query(max_length=80)] = None,
        after: Annotated[str | None, Query(max_length=400)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> Response:
        """``code`` is ``scheme:value``. Codes of the past find their organisation too."""
        caller.must_be(CallerKind.OPERATOR, CallerKind.CASE_SYSTEM)
        wanted = _code(code) if code else None
        async with pool.acquire() as connection:
            rows = await store_directory.search(
                connection, q, (wanted.scheme, wanted.value) if wanted else None, _place(after), limit
            )
        last = rows[-1] if len(rows) == limit else None
        following = f"{last['recipient_id']} {last['name']}" if last else None
        return json_answer({"recipients": rows, "next": following, "listed": len(directory)})

    @router.put("/policies/{la_code}", summary="Apply a council's sharing policy")
    async def put_policy(la_code: LaCode, request: Request, caller: CallerOf, dry_run: bool = False) -> Response:
        """``dry_run`` applies nothing and says how many shares would begin, end and change."""
        caller.must_be(CallerKind.OPERATOR)
        caller.must_act_for(la_code)
        policy = parse(SharingPolicy, await request.body())
        _same_council(la_code, policy)
        if not dry_run:
            return json_answer(await changes.put_policy(caller, policy))
        await changes.refresh()
        if problem := changes.refusal_of_policy(policy):
            raise problem
        counted = await effects.count(policy)
        return json_answer({"la_code": la_code, "result": "dry_run", "off": policy.off(changes.today())} | counted)

    @router.get("/policies/{la_code}", summary="The sharing policy of a council that holds")
    async def get_policy(la_code: LaCode, caller: CallerOf) -> Response:
        caller.must_be(CallerKind.OPERATOR, CallerKind.CASE_SYSTEM)
        caller.must_act_for(la_code)
        async with pool.acquire() as connection:
            row = await store_directory.find_policy(connection, la_code)
        if row is None:
            raise _no_policy(la_code)
        policy = SharingPolicy.model_validate(row.pop("content"))
        return json_answer(
            row
            | {"off": policy.off(changes.today()), "policy": policy.model_dump(mode="json", by_alias=True, exclude_none=True)}
        )

    @router.post("/policies/{la_code}/explain", summary="What the policy, or a draft of one, means for a plan")
    async def explain_policy(la_code: LaCode, request: Request, caller: CallerOf) -> Response:
        """For every rule whether it applies, why not, and to whom it leads. Changes nothing."""
        caller.must_be(CallerKind.OPERATOR, CallerKind.CASE_SYSTEM)
        caller.must_act_for(la_code)
        asked = parse(ExplainRequest, await request.body())
        await changes.refresh()
        policy = asked.policy or directory.policies.get(la_code)
        if policy is None:
            raise _no_policy(la_code)
        _same_council(la_code, policy)
        on = asked.on or changes.today()
        if asked.plan_id:
            answer = await effects.explain_plan(policy, asked.plan_id, on)
            async with council_transaction(pool, [la_code]) as connection:
                act = Act("policy_explained", caller.client_id, la_code, asked.plan_id, details={"draft": bool(asked.policy)})
                await store.insert_acts(connection, [act])
        else:
            assert asked.circumstances is not None
            letters = None if asked.sections is None else frozenset(asked.sections)
            facts = Facts(asked.circumstances, asked.date_of_birth, letters)
            answer = policy_effects.explained(policy, facts, directory, on)
        return json_answer(answer | {"draft": asked.policy is not None}, private=True)

    return router


def _recipient(line: bytes) -> DirectoryRecipient | Problem:
    try:
        return parse(DirectoryRecipient, line)
    except Problem as problem:
        return problem


def _answer(number: int, result: dict[str, Any] | Problem) -> bytes:
    if isinstance(result, Problem):
        return dumps({"line": number, "status": result.status, "problem": result.as_json()}) + b"\n"
    status = 201 if result["result"] == "created" else 200
    return dumps({"line": number, "status": status} | result) + b"\n"


def _code(text: str) -> OrganisationCode:
    scheme, _, value = text.partition(":")
    if scheme not in set(CodeScheme) or not value:
        raise Problem(
            422, "invalid", "The request does not fit the contract", "code: it is not scheme:value",
            [FieldError("code", "it is not scheme:value", "send for example urn:100001, ods:RNA or la:332")],
        )  # fmt: skip
    return parse(OrganisationCode, orjson.dumps({"scheme": scheme, "value": value}), "code")


def _place(after: str | None) -> tuple[str, UUID] | None:
    if after is None:
        return None
    recipient_id, _, name = after.partition(" ")
    try:
        return name, UUID(recipient_id)
    except ValueError:
        raise Problem(
            422, "invalid", "The request does not fit the contract", "after: it is not the next of a page",
            [FieldError("after", "it is not the next of a page", "send next of the page before, as it was")],
        ) from None  # fmt: skip


def _same_council(la_code: str, policy: SharingPolicy) -> None:
    if policy.la_code != la_code:
        raise Problem(
            422, "invalid", "The request does not fit the contract", "la_code: it is another council's policy",
            [FieldError("la_code", "it is another council's policy", f"send a policy of {la_code}, or use its own address")],
        )  # fmt: skip


def _no_policy(la_code: str) -> Problem:
    return Problem(
        404, "no-policy", "This council has no sharing policy",
        f"Only what the law says is shared. Apply a policy with PUT /v1/policies/{la_code}.",
    )  # fmt: skip
