"""The published OpenAPI documents: valid by OpenAPI's own schema, complete, and true of what services really answer."""

import copy
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator, ValidationError
from openapi_spec_validator import OpenAPIV31SpecValidator

from deploy import openapi
from schemas import generate
from services.ehcp_publisher.openapi import ROUTES
from services.shared.web.openapi import TOKEN_PATH
from tests.support.openapi import Documented
from tests.support.publisher import PublisherAtHand, pdf_document, publisher_at_hand, submission, version
from tests.support.servers import RunningPostgres

PUBLISHED: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text("utf-8")) for path in sorted(openapi.FOLDER.glob("*.json"))
}
EXAMPLES = Path(generate.__file__).parent / "examples"
OPERATIONS = [
    (service, method, path)
    for service, document in PUBLISHED.items()
    for path, item in document["paths"].items()
    for method in item
]


def operation(service: str, method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = PUBLISHED[service]["paths"][path][method]
    return found


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def test_they_are_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert openapi.main(["--check"]) == 0
    monkeypatch.setattr(openapi, "FOLDER", tmp_path)
    assert openapi.main([]) == 0
    assert openapi.main(["--check"]) == 0
    (tmp_path / "audit.json").write_text("{}")
    (tmp_path / "left-over.json").write_text("{}")
    assert openapi.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert "audit.json" in said
    assert "left-over.json" in said
    assert openapi.main(["--chekc"]) == 2


@pytest.mark.parametrize("service", PUBLISHED)
def test_it_is_valid_by_openapis_own_schema(service: str) -> None:
    assert PUBLISHED[service]["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(PUBLISHED[service]).iter_errors()] == []


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["paths"]["/v1/batch"]["post"].update(responses={"OK": {}}),
        lambda document: document["paths"]["/v1/batch"]["post"].update(requestBody={"contents": {}}),
        lambda document: document["components"].update(securitySchemes={"token": {"type": "oauth3"}}),
        lambda document: document["components"]["schemas"]["LineTaken"].update(type="objekt"),
    ],
)
def test_that_schema_would_find_an_error(change: Any) -> None:
    broken = copy.deepcopy(PUBLISHED["ehcp_publisher"])
    change(broken)
    assert list(OpenAPIV31SpecValidator(broken).iter_errors())


@pytest.mark.parametrize("service", PUBLISHED)
def test_every_reference_leads_somewhere(service: str) -> None:
    known = PUBLISHED[service]["components"]["schemas"]
    assert {each.removeprefix("#/components/schemas/") for each in references(PUBLISHED[service])} <= known.keys()


@pytest.mark.parametrize(("service", "method", "path"), OPERATIONS)
def test_every_route_says_what_it_takes_and_gives(service: str, method: str, path: str) -> None:
    described = operation(service, method, path)
    assert described["summary"]
    taken = [described["requestBody"]] if method in ("post", "put", "patch") else []
    given = [response for status, response in described["responses"].items() if status.startswith("2")]
    assert given
    for each in taken + given:
        assert each["content"]
        for media_type, content in each["content"].items():
            assert content["schema"], f"{media_type} without a schema: give the route a row in its service's openapi.py"


def test_no_row_describes_a_route_that_is_not_there() -> None:
    names = {operation["operationId"] for item in PUBLISHED["ehcp_publisher"]["paths"].values() for operation in item.values()}
    assert ROUTES.keys() <= names


@pytest.mark.parametrize(("service", "method", "path"), OPERATIONS)
def test_every_route_refuses_with_a_problem_and_all_but_one_need_a_token(service: str, method: str, path: str) -> None:
    described = operation(service, method, path)
    refusals = {status: each for status, each in described["responses"].items() if status[0] in "45"}
    assert {"401", "500", "503"} <= refusals.keys()
    for refusal in refusals.values():
        assert refusal["content"] == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        assert refusal["description"]
    assert described.get("security") == (None if path == TOKEN_PATH else [{"token": []}])
    scheme = PUBLISHED[service]["components"]["securitySchemes"]["token"]
    assert scheme["flows"] == {"clientCredentials": {"tokenUrl": TOKEN_PATH, "scopes": {}}}
    assert "private_key_jwt" in scheme["description"]


@pytest.mark.parametrize(
    ("path", "example"),
    [
        ("/v1/plans", "plan-submission"),
        ("/v1/plans/{plan_id}/versions", "version-submission"),
        ("/v1/batch", "version-line"),
        ("/v1/documents/read", "read-request"),
    ],
)
def test_what_councils_send_fits_the_route_and_a_misspelt_field_does_not(path: str, example: str) -> None:
    body = operation("ehcp_publisher", "post", path)["requestBody"]
    (media_type,) = body["content"].keys() - {"multipart/form-data"}
    validator = Draft202012Validator(
        {"allOf": [body["content"][media_type]["schema"]], "components": PUBLISHED["ehcp_publisher"]["components"]}
    )
    for file in (EXAMPLES / "good" / example).glob("*.json"):
        validator.validate(orjson.loads(file.read_bytes()))
        if example != "read-request":
            with pytest.raises(ValidationError):
                validator.validate(orjson.loads(file.read_bytes()) | {"misspelt": 1})
    with pytest.raises(ValidationError):
        validator.validate({})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def at_hand(postgres_server: RunningPostgres) -> AsyncIterator[PublisherAtHand]:
    async with publisher_at_hand(postgres_server) as publisher:
        yield publisher


@pytest.mark.integration
@pytest.mark.asyncio
async def test_the_publisher_serves_the_document_that_is_published(at_hand: PublisherAtHand) -> None:
    assert (await at_hand.http.get("/openapi.json")).json() == PUBLISHED["ehcp_publisher"]


@pytest.mark.integration
@pytest.mark.asyncio
async def test_every_answer_of_the_publisher_is_one_that_is_published(at_hand: PublisherAtHand) -> None:
    documented = Documented(PUBLISHED["ehcp_publisher"])
    hooks = at_hand.http.event_hooks
    at_hand.http.event_hooks = {"request": [], "response": [documented.check]}
    try:
        await _use_every_route(at_hand)
    finally:
        at_hand.http.event_hooks = hooks
    assert {
        ("post", "/oauth/token", "200"), ("post", "/oauth/token", "400"), ("post", "/oauth/token", "401"),
        ("post", "/v1/plans", "200"), ("post", "/v1/plans", "201"), ("post", "/v1/plans", "400"),
        ("post", "/v1/plans", "401"), ("post", "/v1/plans", "403"), ("post", "/v1/plans", "409"),
        ("post", "/v1/plans", "415"), ("post", "/v1/plans", "422"),
        ("post", "/v1/plans/{plan_id}/versions", "200"), ("post", "/v1/plans/{plan_id}/versions", "201"),
        ("post", "/v1/plans/{plan_id}/versions", "404"), ("post", "/v1/plans/{plan_id}/versions", "409"),
        ("post", "/v1/batch", "200"), ("post", "/v1/documents/read", "200"), ("post", "/v1/documents/read", "400"),
        ("get", "/v1/shares", "200"), ("get", "/v1/shares", "422"),
        *((("post", "/v1/plans/{plan_id}/events", status)) for status in ("200", "201", "404", "409", "422")),
        ("get", "/v1/plans", "200"), ("get", "/v1/plans/{plan_id}", "200"), ("get", "/v1/plans/{plan_id}", "404"),
        ("get", "/v1/gaps", "200"), ("get", "/v1/flags", "200"), ("get", "/v1/confirmations", "200"),
        ("get", "/v1/directory", "200"), ("put", "/v1/directory", "200"),
    } <= documented.seen  # fmt: skip


async def _use_every_route(publisher: PublisherAtHand) -> None:
    await publisher.http.post("/oauth/token", data={"grant_type": "password"})
    await publisher.request_token("nobody", publisher.keys["operator"])
    sent = submission()
    first = await publisher.issue(sent)
    path = f"/v1/plans/{first['plan_id']}/versions"
    await publisher.post("/v1/plans", sent)
    await publisher.post("/v1/plans", b"{")
    await publisher.post("/v1/plans", sent | {"misspelt": 1, "child": {}})
    await publisher.post("/v1/plans", sent, client="case-system-333")
    await publisher.post("/v1/plans", sent, client="subscriber-health")
    await publisher.post("/v1/plans", b"", headers={"content-type": "text/plain"})
    await publisher.http.post("/v1/plans", json=sent)
    await publisher.post("/v1/plans", sent | {"child": sent["child"] | {"given_names": "Another"}})
    await publisher.upload(
        ("submission", (None, orjson.dumps(submission()), "application/json")),
        ("document", ("plan.pdf", pdf_document("Plan"), "application/pdf")),
    )
    await publisher.amend(first["plan_id"], version("2026-03-02", "Rowan likes buses."))
    await publisher.post(path, {"version": version("2026-04-02", "Rowan likes buses.")})
    await publisher.post(path, {"version": version("2026-03-02", "Rowan likes buses.")})
    await publisher.post(path, {"version": version("2025-01-02", "Rowan likes trains and trams.")})
    await publisher.post(f"/v1/plans/{uuid4()}/versions", {"version": version()})
    answer, lines = await publisher.batch([submission(), b"{", {"plan_id": first["plan_id"], "version": version()}])
    assert answer.status_code == 200
    assert len(lines) == 3
    page = (await publisher.http.get("/v1/shares", headers=await publisher.headers("subscriber-health"))).json()
    assert page["shares"]
    await publisher.http.get("/v1/shares?limit=0", headers=await publisher.headers("subscriber-health"))
    wanted = [(each["share_id"], seq) for each in page["shares"] for seq in (each["seq"], each["seq"] + 1)]
    outcomes = {line["outcome"] for line in await publisher.read("subscriber-health", *wanted, (uuid4(), 1))}
    assert outcomes >= {"ok", "stale", "unknown"}
    await publisher.post("/v1/documents/read", b"{", client="subscriber-health")
    await _live_a_life(publisher)
    operator = await publisher.headers("operator")
    for path in ("/v1/plans", "/v1/gaps?limit=1", "/v1/flags?limit=1", "/v1/confirmations", "/v1/directory?limit=5"):
        await publisher.http.get(path, headers=operator)
    await publisher.http.get(f"/v1/plans/{uuid4()}", headers=operator)
    organisation = {"kind": "trust", "name": "A trust", "codes": [{"scheme": "ods", "value": "R99"}]}
    listed = [orjson.dumps(each) for each in (organisation, organisation | {"codes": []})]
    await publisher.http.put("/v1/directory", content=b"\n".join(listed), headers=operator)


async def _live_a_life(publisher: PublisherAtHand) -> None:
    """One plan through many events, and what is refused on the way."""
    someone = {"role": "provision", "profession": "Physiotherapist"}
    plan_id = (await publisher.issue(submission(version=version(involved=[someone]))))["plan_id"]
    path, by = f"/v1/plans/{plan_id}/events", {"by": "officer-7"}
    review = by | {"review": "R1"}
    scheduled = review | {"type": "review_scheduled", "meeting_on": "2026-12-14"}
    report = ("document", ("report.pdf", pdf_document("Report"), "application/pdf"))
    held = review | {"type": "review_held", "held_on": "2026-11-02"}
    answers = [
        await publisher.post(path, scheduled),
        await publisher.post(path, scheduled),
        await publisher.upload(("event", (None, orjson.dumps(held), "application/json")), report, path=path),
        await publisher.post(path, review | {"type": "review_decided", "decision": "maintain", "decided_on": "2026-11-20"}),
        await publisher.post(path, by | {"type": "restrict", "reason": "court_order"}),
        await publisher.post(path, by | {"type": "lift"}),
        await publisher.post(path, by | {"type": "reopen", "reopened_on": "2026-11-20", "reason": "appeal_succeeded"}),
        await publisher.post(path, by | {"type": "cease"}),
        await publisher.post(f"/v1/plans/{uuid4()}/events", scheduled),
    ]
    assert [answer.status_code for answer in answers] == [201, 200, 201, 201, 201, 201, 409, 422, 404]
    answer, _ = await publisher.batch([{"plan_id": plan_id, "event": scheduled}, {"plan_id": plan_id, "event": {}}])
    assert answer.status_code == 200
    shown = await publisher.http.get(f"/v1/plans/{plan_id}", headers=await publisher.headers())
    assert [each["type"] for each in shown.json()["events"]][:2] == ["review_scheduled", "review_held"]
    assert shown.json()["share_gaps"]
