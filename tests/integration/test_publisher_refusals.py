"""Input that the publisher does not take: each with one clear answer, as a problem document, and nothing kept of it."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import orjson
import pytest

from tests.support.publisher import (
    WRONG_NHS_NUMBER,
    Publisher,
    problem,
    reference,
    submission,
    version,
)

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

SCHOOL_NAME, HIGH_NAME = "Saltwells Brook Primary School", "Earls Keep High School"
ICB_NAME, TRUST_NAME = "NHS Black Country Integrated Care Board", "The Dudley Group NHS Foundation Trust"


def changed(*path: str | int, to: Any) -> dict[str, Any]:
    """A good submission but for one value."""
    sent = submission()
    place: Any = sent
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return sent


@pytest.mark.parametrize(
    ("sent", "field", "says"),
    [
        (
            changed("child", "nhs_number", to=WRONG_NHS_NUMBER),
            "child/nhs_number",
            "NHS number has a wrong check digit (modulus 11)",
        ),
        (changed("child", "nhs_number", to="943476591"), "child/nhs_number", "NHS number must be 10 digits"),
        (changed("child", "nhs_number", to="1111111111"), "child/nhs_number", "NHS number must not be ten equal digits"),
        (changed("child", "upn", to="Q207000016049"), "child/upn", "UPN has a wrong check letter (modulus 23)"),
        (changed("child", "uln", to="9276308687"), "child/uln", "ULN has a wrong check digit (modulus 11)"),
        (changed("la_code", to="33A"), "la_code", "LA code must be 3 digits"),
        (
            changed("version", "placements", 0, "setting", "value", to="99320"),
            "version/placements/0/setting",
            "URN must be 6 digits",
        ),
        (
            changed("version", "commissioning_bodies", 0, "value", to="qua"),
            "version/commissioning_bodies/0",
            "ODS code must be 3 to 8 upper-case letters and digits",
        ),
    ],
)
async def test_a_wrong_identifier_is_named_with_its_rule_and_never_repeated(
    publisher: Publisher, sent: dict[str, Any], field: str, says: str
) -> None:
    answer = await publisher.post("/v1/plans", sent)
    body = problem(answer, 422, "invalid")
    assert [(each["field"], each["problem"]) for each in body["errors"]] == [(field, says)]
    assert body["errors"][0]["instead"]
    for value in (WRONG_NHS_NUMBER, "943476591", "Q207000016049", "9276308687", '99320"', "Rowan", "Hartley"):
        assert value not in answer.text
    assert await publisher.plans_of(sent["case_reference"]) == 0


def unknown_key() -> dict[str, Any]:
    return changed("child", WRONG_NHS_NUMBER, to="x")


@pytest.mark.parametrize(
    ("sent", "field", "instead"),
    [
        (unknown_key(), "child", "correct its name"),
        (changed("version", "comissioning_bodies", to=[]), "version", "did you mean commissioning_bodies?"),
        (changed("child", "date_of_birth", to="6.5.2014"), "child/date_of_birth", "YYYY-MM-DD"),
        (changed("child", "date_of_birth", to="2026-02-11"), "(document)", "typing error"),
        (changed("version", "issued_on", to=20260210), "version/issued_on", "YYYY-MM-DD"),
        (changed("version", "sections", to={}), "version", "leave it out"),
        (changed("version", "sections", "B", to={}), "version/sections/B", "leave an empty section out"),
        (changed("version", "sections", "A", "text", to="a\0b"), "version/sections/A/text", "remove it"),
        (changed("version", "sections", "Z", to={"text": "?"}), "version/sections", "use only"),
        (changed("version", "placements", to=[{"from": "2026-02-10"}]), "version/placements/0", "setting"),
        (changed("case_reference", to="two words"), "case_reference", "text that fits"),
        (changed("child", to=[]), "child", "JSON object"),
        (changed("version", to=None), "version", "JSON object"),
    ],
)
async def test_what_does_not_fit_says_where_and_what_to_send_instead(
    publisher: Publisher, sent: dict[str, Any], field: str, instead: str
) -> None:
    answer = await publisher.post("/v1/plans", sent)
    body = problem(answer, 422, "invalid")
    assert body["errors"][0]["field"] == field
    assert instead in body["errors"][0]["instead"]
    assert WRONG_NHS_NUMBER not in answer.text


async def test_all_that_is_wrong_is_said_at_once(publisher: Publisher) -> None:
    sent = submission()
    sent["child"] |= {"nhs_number": WRONG_NHS_NUMBER, "upn": "Q207000016049", "date_of_birth": "yesterday"}
    del sent["version"]["issued_on"]
    errors = problem(await publisher.post("/v1/plans", sent), 422, "invalid")["errors"]
    assert {each["field"] for each in errors} == {"child/nhs_number", "child/upn", "child/date_of_birth", "version/issued_on"}


async def test_a_version_with_neither_sections_nor_document(publisher: Publisher) -> None:
    sent = submission()
    del sent["version"]["sections"]
    body = problem(await publisher.post("/v1/plans", sent), 422, "no-text")
    assert body["errors"] == [
        {
            "field": "version/sections",
            "problem": "neither sections nor a document",
            "instead": "send sections, a document part, or both",
        }
    ]
    assert await publisher.plans_of(sent["case_reference"]) == 0


async def test_a_date_of_issue_that_would_make_all_later_versions_history(publisher: Publisher) -> None:
    sent = changed("version", "issued_on", to="2099-02-10")
    body = problem(await publisher.post("/v1/plans", sent), 422, "issued-in-future")
    assert [each["field"] for each in body["errors"]] == ["version/issued_on"]
    assert await publisher.plans_of(sent["case_reference"]) == 0


DEEP = 100_000


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"nonsense", b'{"la_code": "332",}', b"\xff\xfe\x00", b'{"la_code": "\xff"}', b'{"la_code": "\\ud800"}',
        b'{"la_code": NaN', b"[" * DEEP, b'{"version":' * DEEP, b"\0", b'{"la_code": "332"} {}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/plans", f"/v1/plans/{uuid4()}/versions"], ids=["plan", "version"])
async def test_what_is_no_json(publisher: Publisher, path: str, body: bytes) -> None:
    problem(await publisher.post(path, body), 400, "malformed")


@pytest.mark.parametrize("body", [b"null", b"[]", b'"text"', b"7", b"{}", b"[" * 50 + b"]" * 50])
async def test_json_of_another_shape(publisher: Publisher, body: bytes) -> None:
    assert problem(await publisher.post("/v1/plans", body), 422, "invalid")["errors"]


async def test_other_content_types(publisher: Publisher) -> None:
    for kind in ("text/plain", "application/xml", "", "multipart/mixed; boundary=x"):
        answer = await publisher.post("/v1/plans", submission(), headers={"content-type": kind})
        assert "multipart/form-data" in problem(answer, 415, "media-type")["detail"]


async def test_paths_that_do_not_exist_and_ids_that_are_none(publisher: Publisher) -> None:
    assert (await publisher.post("/v1/nothing", {})).headers["content-type"] == "application/problem+json"
    problem(await publisher.post("/v1/plans/no-id/versions", {"version": version()}), 422, "invalid")
    answer = await publisher.http.delete("/v1/plans", headers=await publisher.headers())
    assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")


async def test_another_councils_plan_looks_like_none(publisher: Publisher) -> None:
    theirs = await publisher.issue(submission(la_code="333"))
    answers = [
        await publisher.post(f"/v1/plans/{plan_id}/versions", {"version": version("2026-03-02", "Other.")})
        for plan_id in (theirs["plan_id"], uuid4())
    ]
    bodies = [problem(answer, 404, "unknown-plan") for answer in answers]
    assert bodies[0] == bodies[1]
    assert await publisher.versions_of(theirs["plan_id"]) == [1]
    problem(await publisher.post("/v1/plans", submission(la_code="333")), 403, "wrong-council")


async def test_the_same_case_reference_in_two_councils_is_two_plans(publisher: Publisher) -> None:
    name = reference()
    ours, theirs = await publisher.issue(submission(name)), await publisher.issue(submission(name, "333"))
    assert ours["plan_id"] != theirs["plan_id"]
    assert await publisher.plans_of(name) == 2


# --- sizes ---


async def raw(publisher: Publisher, head: str, body: bytes = b"") -> tuple[int, str, bytes]:
    """Sends bytes as they are; the answer's status, content type and body."""
    assert publisher.service is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", publisher.service.port)
    try:
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        await writer.drain()
        async with asyncio.timeout(20):
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"content-length: (\d+)", answer)[1])  # type: ignore[index]
            content = await reader.readexactly(length)
        kind = re.search(rb"content-type: (\S+)", answer)
        return int(answer.split()[1]), kind[1].decode() if kind else "", content
    finally:
        writer.close()


@pytest.mark.parametrize("path", ["/v1/plans", "/v1/batch", "/v1/documents/read", "/oauth/token", "/v1/nothing"])
@pytest.mark.parametrize("with_token", [True, False])
async def test_a_body_that_says_it_is_huge_is_refused_before_it_is_read(
    publisher: Publisher, path: str, *, with_token: bool
) -> None:
    token = (await publisher.headers())["Authorization"] if with_token else "none"
    head = f"POST {path} HTTP/1.1\nhost: x\nauthorization: {token}\ncontent-type: application/json\ncontent-length: {10**12}"
    status, kind, body = await raw(publisher, head)
    assert (status, kind) == (413, "application/problem+json")
    assert orjson.loads(body)["type"] == "urn:ehcp:problem:too-large"


@pytest.mark.parametrize(
    ("path", "kind", "size"),
    [
        ("/oauth/token", "application/x-www-form-urlencoded", 2 * 2**20),
        ("/v1/documents/read", "application/json", 2 * 2**20),
        ("/v1/plans", "application/json", 9 * 2**20),
    ],
)
async def test_a_body_that_turns_out_huge_is_refused(publisher: Publisher, path: str, kind: str, size: int) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(size // 2**16 + 1):
            yield b"x" * 2**16

    client = "subscriber-health" if "documents" in path else "case-system-332"
    headers = await publisher.headers(client) | {"content-type": kind}
    answer = await publisher.http.post(path, content=pieces(), headers=headers)
    problem(answer, 413, "too-large")
