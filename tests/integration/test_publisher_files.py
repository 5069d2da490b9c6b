"""Documents and attachments that come with a version: by multipart, their type found in their bytes."""

import io
import zipfile

import orjson
import pytest

from tests.support.publisher import (
    Part,
    Publisher,
    document_alone,
    part,
    pdf_document,
    problem,
    submission,
)

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

SCHOOL_NAME, HIGH_NAME = "Saltwells Brook Primary School", "Earls Keep High School"
ICB_NAME, TRUST_NAME = "NHS Black Country Integrated Care Board", "The Dudley Group NHS Foundation Trust"


async def test_a_plan_that_is_a_document_alone_with_attachments(publisher: Publisher) -> None:
    sent, document, advice = document_alone(), pdf_document("plan"), pdf_document("advice")
    answer = await publisher.upload(
        part("submission", orjson.dumps(sent), None, "application/json"),
        part("document", document, "Rowan's plan.doc", "application/msword"),
        part("attachment", advice, "advice: speech & language.pdf"),
        part("attachment", advice + b"\n", "second.pdf"),
    )
    assert answer.status_code == 201, answer.text
    share = next(each for each in answer.json()["shares"] if each["recipient"] == TRUST_NAME)
    (read,) = await publisher.read("subscriber-health", (share["share_id"], 1))
    manifest = read["rendering"]["manifest"]
    assert manifest["document"]["name"] == f"{sent['case_reference']}.pdf", "not the name that somebody gave the file"
    assert [each["name"] for each in manifest["attachments"]] == ["advice- speech & language.pdf", "second.pdf"]
    assert read["rendering"]["sections"] == {}
    again = await publisher.upload(
        part("submission", orjson.dumps(sent), "plan.json"),
        part("document", document, "other name.pdf"),
        part("attachment", advice, "a.pdf"),
        part("attachment", advice + b"\n", "b.pdf"),
    )
    assert (again.status_code, again.json()["status"]) == (200, "unchanged")
    other = await publisher.upload(
        part("submission", orjson.dumps({"version": sent["version"] | {"issued_on": "2026-03-01"}})),
        part("document", pdf_document("amended"), "plan.pdf"), path=f"/v1/plans/{answer.json()['plan_id']}/versions",
    )  # fmt: skip
    assert (other.status_code, other.json()["version"]) == (201, 2)


def word_file() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as package:
        main = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
        package.writestr("[Content_Types].xml", f'<Types><Override ContentType="{main}"/></Types>')
        package.writestr("word/document.xml", "<document/>")
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "status", "slug"),
    [
        ("document", word_file(), 415, "media-type"),
        ("document", b"\x89PNG\r\n\x1a\n" + b"x" * 20 + b"IEND\xae\x42\x60\x82", 415, "media-type"),
        ("document", b"<html>not a plan</html>", 415, "media-type"),
        ("document", b"", 422, "unusable-file"),
        ("document", pdf_document("x")[:-40], 422, "unusable-file"),
        ("document", b"%PDF-1.7\n" + b"x" * (25 * 2**20), 413, "too-large"),
        ("attachment", b"MZ\x90\x00 a program", 415, "media-type"),
        ("attachment", b"%PDF-1.7\n" + b"x" * (25 * 2**20), 413, "too-large"),
    ],
)
async def test_a_file_of_another_type_or_too_large(
    publisher: Publisher, name: str, data: bytes, status: int, slug: str
) -> None:
    sent = submission()
    answer = await publisher.upload(part("submission", orjson.dumps(sent)), part(name, data, "plan.pdf", "application/pdf"))
    body = problem(answer, status, slug)
    assert body["errors"][0]["field"] == name
    assert await publisher.plans_of(sent["case_reference"]) == 0


SUBMISSION = part("submission", orjson.dumps(submission()))


@pytest.mark.parametrize(
    ("parts", "status", "slug"),
    [
        ([part("document", pdf_document("x"), "plan.pdf")], 422, "no-submission"),
        ([SUBMISSION, part("dokument", pdf_document("x"), "plan.pdf")], 422, "unknown-part"),
        ([SUBMISSION, *[part("document", pdf_document("x"), "plan.pdf")] * 2], 422, "document"),
        ([SUBMISSION, part("document", pdf_document("x"))], 422, "document"),
        ([SUBMISSION, part("attachment", pdf_document("x"))], 422, "attachment"),
        ([SUBMISSION, SUBMISSION, part("document", pdf_document("x"), "plan.pdf")], 422, "submission"),
        ([part("submission", b"{"), part("document", pdf_document("x"), "plan.pdf")], 400, "malformed"),
        ([part("submission", b"\xff\xfe"), part("document", pdf_document("x"), "plan.pdf")], 400, "malformed"),
        ([part("submission", b"x" * (9 * 2**20))], 413, "too-large"),
        ([part("submission", b"x" * (9 * 2**20), "plan.json")], 413, "too-large"),
        ([SUBMISSION, *[part("attachment", pdf_document("x"), "a.pdf")] * 61], 422, "too-many-parts"),
    ],
)
async def test_parts_that_are_missing_too_many_or_not_what_they_should_be(
    publisher: Publisher, parts: list[Part], status: int, slug: str
) -> None:
    assert problem(await publisher.upload(*parts), status, slug)["detail"]


@pytest.mark.parametrize(
    "body", [b"", b"--x", b"--x\r\n\r\nno end", b"nonsense", b"--x\r\ncontent-disposition: form-data\r\n\r\nx\r\n--x--\r\n"]
)
@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "multipart/form-data"])
async def test_broken_multipart(publisher: Publisher, kind: str, body: bytes) -> None:
    answer = await publisher.post("/v1/plans", body, headers={"content-type": kind})
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
