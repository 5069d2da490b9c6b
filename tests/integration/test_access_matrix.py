"""Every kind of caller against every route of the publisher, on its own and on another council's plans.

The expectations are written by hand; a route that is new and has none fails. Which Kafka account may use which topic and group:
``test_machine_servers.py``.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx2
import orjson
import pytest
from joserfc.jwk import OKPKey

from tests.support.publisher import Publisher, submission, version

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

TRUST_NAME = "The Dudley Group NHS Foundation Trust"

NOBODY = ["no token", "nonsense", "expired", "forged", "of another service", "of another issuer"]
CALLERS = [*NOBODY, "case system", "case system of another council", "operator", "subscriber", "another subscriber", "school"]


async def headers_of(publisher: Publisher, caller: str) -> dict[str, str]:
    match caller:
        case "no token":
            return {}
        case "nonsense":
            return {"Authorization": "Bearer nonsense"}
        case "expired":
            return publisher.mint(exp=int(time.time()) - 60)
        case "forged":
            return publisher.mint(OKPKey.generate_key("Ed25519"))
        case "of another service":
            return publisher.mint(aud="http://school.test")
        case "of another issuer":
            return publisher.mint(iss="http://school.test")
        case "school":
            # Schools have tokens of their own service only; were one ever signed here, it must open nothing.
            return publisher.mint(kind="recipient", la_codes=[], sub="school-993202", recipient="urn:993202")
    clients = {
        "case system": "case-system-332",
        "case system of another council": "case-system-333",
        "operator": "operator",
        "subscriber": "subscriber-health",
        "another subscriber": "subscriber-school",
    }
    return await publisher.headers(clients[caller])


@dataclass(frozen=True, slots=True)
class Plan:
    """One of council 332, with the share of its trust."""

    plan_id: str
    share_id: str


async def make_plan(publisher: Publisher) -> Plan:
    body = await publisher.issue(submission())
    return Plan(body["plan_id"], str((await publisher.shares(body["plan_id"]))[TRUST_NAME]["share_id"]))


async def call(publisher: Publisher, route: str, plan: Plan, headers: Mapping[str, str]) -> httpx2.Response:
    """A request that is good but for who sends it."""
    bodies: dict[str, Any] = {
        "POST /v1/plans": submission(),
        "POST /v1/plans/{plan_id}/versions": {"version": version("2026-03-02", f"Text {uuid4()}")},
        "POST /v1/batch": submission(),
        "POST /v1/documents/read": {"reads": [{"share_id": plan.share_id, "seq": 1}]},
        "POST /v1/plans/{plan_id}/events": {
            "type": "review_scheduled", "by": "officer-1", "review": f"R-{uuid4()}", "meeting_on": "2030-03-02",
        },
        "PUT /v1/directory": {
            "kind": "gp", "name": "Hill Surgery", "codes": [{"scheme": "ods", "value": uuid4().hex[:8].upper()}],
        },
        "PUT /v1/policies/{la_code}": {"la_code": "332", "rules": []},
        "POST /v1/looks": {"la_code": "332", "children": [plan.plan_id]},
        "POST /v1/policies/{la_code}/explain": {"circumstances": {}},
        "PUT /v1/comparisons/{la_code}": {"plans": 1, "differences": {"ceased_there": [plan.plan_id]}},
        "POST /v1/send-again": {"by": "officer-1", "share_id": plan.share_id},
    }  # fmt: skip
    method, _, path = route.partition(" ")
    kinds = {"POST /v1/batch": "application/x-ndjson", "PUT /v1/directory": "application/x-ndjson"}
    query = "?dry_run=true" if route.startswith("PUT /v1/policies") else ""
    return await publisher.http.request(
        method, path.format(plan_id=plan.plan_id, la_code="332", job_id=uuid4()) + query,
        content=orjson.dumps(bodies[route]) if route in bodies else b"",
        headers={"content-type": kinds.get(route, "application/json"), **headers},
    )  # fmt: skip


def outcome(answer: httpx2.Response, plan: Plan) -> str:
    """What the caller got: a status, or what the one line of an answer says."""
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        return str(answer.status_code)
    if answer.headers["content-type"] == "application/x-ndjson":
        (line,) = [orjson.loads(line) for line in answer.content.splitlines()]
        return str(line.get("outcome") or line["status"])
    if answer.content.startswith(b"PK"):
        return "exported"
    body = answer.json()
    for what, listed in (("shares", plan.share_id), ("plans", plan.plan_id)):
        if "next" in body and what in body:
            return "listed" if listed in answer.text else "not listed"
    return str(answer.status_code)


ALLOWED: dict[str, dict[str, str]] = {
    "POST /v1/plans": {
        "case system": "201", "case system of another council": "403", "operator": "201", "subscriber": "403",
        "another subscriber": "403", "school": "403",
    },
    "POST /v1/plans/{plan_id}/versions": {
        "case system": "201", "case system of another council": "404", "operator": "201", "subscriber": "403",
        "another subscriber": "403", "school": "403",
    },
    "POST /v1/batch": {
        "case system": "201", "case system of another council": "403", "operator": "201", "subscriber": "403",
        "another subscriber": "403", "school": "403",
    },
    "POST /v1/documents/read": {
        "case system": "403", "case system of another council": "403", "operator": "403", "subscriber": "ok",
        "another subscriber": "unknown", "school": "403",
    },
    "GET /v1/shares": {
        "case system": "403", "case system of another council": "403", "operator": "403", "subscriber": "listed",
        "another subscriber": "not listed", "school": "403",
    },
    "GET /v1/feed": {
        "case system": "403", "case system of another council": "403", "operator": "403", "subscriber": "200",
        "another subscriber": "200", "school": "403",
    },
    "POST /v1/plans/{plan_id}/events": {
        "case system": "201", "case system of another council": "404", "operator": "201", "subscriber": "403",
        "another subscriber": "403", "school": "403",
    },
    "GET /v1/plans": {
        "case system": "listed", "case system of another council": "not listed", "operator": "listed", "subscriber": "403",
        "another subscriber": "403", "school": "403",
    },
    "GET /v1/plans/{plan_id}": {
        "case system": "200", "case system of another council": "404", "operator": "200", "subscriber": "403",
        "another subscriber": "403", "school": "403",
    },
    "GET /v1/plans/{plan_id}/export": {
        "case system": "exported", "case system of another council": "404", "operator": "exported", "subscriber": "403",
        "another subscriber": "403", "school": "403",
    },
    **{
        route: {
            "case system": "200", "case system of another council": "200", "operator": "200", "subscriber": "403",
            "another subscriber": "403", "school": "403",
        }
        for route in ("GET /v1/gaps", "GET /v1/flags", "GET /v1/confirmations", "GET /v1/directory", "GET /v1/comparisons")
    },
    "POST /v1/send-again": {
        "case system": "202", "case system of another council": "404", "operator": "202", "subscriber": "403",
        "another subscriber": "403", "school": "403",
    },
    "GET /v1/send-again": {
        "case system": "200", "case system of another council": "200", "operator": "200", "subscriber": "403",
        "another subscriber": "403", "school": "403",
    },
    **{
        # A job that does not exist; another council's looks the same.
        route: {
            "case system": "404", "case system of another council": "404", "operator": "404", "subscriber": "403",
            "another subscriber": "403", "school": "403",
        }
        for route in ("GET /v1/send-again/{job_id}", "DELETE /v1/send-again/{job_id}")
    },
    "PUT /v1/directory": {
        "case system": "403", "case system of another council": "403", "operator": "201", "subscriber": "403",
        "another subscriber": "403", "school": "403",
    },
    "POST /v1/looks": {
        "case system": "403", "case system of another council": "403", "operator": "202", "subscriber": "403",
        "another subscriber": "403", "school": "403",
    },
    "PUT /v1/policies/{la_code}": {
        "case system": "403", "case system of another council": "403", "operator": "200", "subscriber": "403",
        "another subscriber": "403", "school": "403",
    },
    **{
        route: {
            "case system": "200", "case system of another council": "403", "operator": "200", "subscriber": "403",
            "another subscriber": "403", "school": "403",
        }
        for route in (
            "GET /v1/policies/{la_code}", "POST /v1/policies/{la_code}/explain", "PUT /v1/comparisons/{la_code}",
        )
    },
}  # fmt: skip
OPEN = {"POST /oauth/token"}
"""Where a token comes from. Health and metrics are for the machine's own network and not part of the interface."""


async def test_every_route_has_its_line_in_the_matrix(publisher: Publisher) -> None:
    paths = (await publisher.http.get("/openapi.json")).json()["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert routes == ALLOWED.keys() | OPEN


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("route", sorted(ALLOWED))
async def test_matrix(publisher: Publisher, route: str, caller: str) -> None:
    plan = await make_plan(publisher)
    headers = await headers_of(publisher, caller)
    answer = await call(publisher, route, plan, headers)
    assert outcome(answer, plan) == ("401" if caller in NOBODY else ALLOWED[route][caller])
    if caller in NOBODY:
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("route", sorted(ALLOWED))
async def test_who_is_nobody_learns_nothing_from_what_is_wrong_with_the_request(publisher: Publisher, route: str) -> None:
    method, _, path = route.partition(" ")
    answers = [
        await publisher.http.request(
            method, path.format(plan_id=plan_id, la_code="332", job_id=uuid4()), content=body, headers={"content-type": kind}
        )
        for plan_id, body, kind in [
            ((await make_plan(publisher)).plan_id, b"", "application/json"),
            (str(uuid4()), b"{", "application/json"),
            (str(uuid4()), b"\xff", "text/plain"),
        ]
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1


async def test_an_operator_acts_for_the_councils_it_is_registered_for_only(publisher: Publisher) -> None:
    for la_code in ("332", "333"):
        answer = await publisher.post("/v1/plans", submission(la_code=la_code), "operator")
        assert answer.status_code == 201
    answer = await publisher.http.post(
        "/v1/plans", content=orjson.dumps(submission(la_code="333")),
        headers=publisher.mint(kind="operator", la_codes=["332"]) | {"content-type": "application/json"},
    )  # fmt: skip
    assert answer.status_code == 403


async def test_what_needs_no_token_shows_nothing_of_any_plan(publisher: Publisher) -> None:
    plan = await make_plan(publisher)
    for path in ("/health/live", "/health/ready", "/metrics", "/openapi.json"):
        answer = await publisher.http.get(path)
        assert answer.status_code == 200
        assert plan.plan_id not in answer.text
        assert plan.share_id not in answer.text
    for path in ("/docs", "/redoc"):
        assert (await publisher.http.get(path)).status_code == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": int(time.time()) - 120},
        {"aud": "http://school.test"},
        {"sub": "nobody", "iss": "nobody"},
        {"sub": "subscriber-health"},
        {"sub": "nul\0", "iss": "nul\0"},
        {"sub": "x" * 10_000, "iss": "x" * 10_000},
        {"jti": "x" * 10_000},
    ],
)
async def test_no_token_for_a_wrong_assertion(publisher: Publisher, changes: dict[str, Any]) -> None:
    answer = await publisher.request_token("case-system-332", **changes)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_no_token_with_anothers_key_or_a_used_assertion(publisher: Publisher) -> None:
    answer = await publisher.request_token("case-system-332", publisher.keys["case-system-333"])
    assert answer.status_code == 401
    jti = str(uuid4())
    assert (await publisher.request_token("case-system-332", jti=jti)).status_code == 200
    assert (await publisher.request_token("case-system-332", jti=jti)).status_code == 401
    assert (await publisher.request_token("case-system-333", jti=jti)).status_code == 200, "another client's jti is its own"


@pytest.mark.parametrize(
    "form", [{}, {"grant_type": "password"}, {"grant_type": "client_credentials", "client_assertion_type": "x"}]
)
async def test_other_grants(publisher: Publisher, form: dict[str, str]) -> None:
    answer = await publisher.http.post("/oauth/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")
