"""The document API and the list of shares: what a subscriber reads, when it may not, and what is written of it."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx2
import orjson
import pytest

from schemas.documents import ReadAnswer
from services.shared.delivery.council import BadRenderingError, Council, Proofs, content_of
from services.shared.identity.client import TokenClient
from tests.support.files import pdf_of
from tests.support.publisher import (
    ISSUER,
    PRIMARY,
    Publisher,
    document_alone,
    part,
    pdf_document,
    placed,
    problem,
    submission,
    version,
)
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

TRUST_NAME, SCHOOL_NAME, PARENT_NAME = "The Dudley Group NHS Foundation Trust", "Saltwells Brook Primary School", "parent M1"
ICB_NAME = "NHS Black Country Integrated Care Board"


async def reads(publisher: Publisher, share_id: UUID) -> list[tuple[str, int]]:
    """Who read which seq, as the ledger has it."""
    rows = await publisher.owner.fetch(
        "SELECT actor, seq FROM audit.pending WHERE share_id = $1 AND act = 'read' ORDER BY id", share_id
    )
    return [(row["actor"], row["seq"]) for row in rows]


async def issued(publisher: Publisher, name: str = TRUST_NAME, **changes: Any) -> tuple[str, UUID]:
    """A new plan, and the share of one of its recipients."""
    body = await publisher.issue(submission(version=version(**changes)))
    return body["plan_id"], (await publisher.shares(body["plan_id"]))[name]["share_id"]


async def instruction_of(publisher: Publisher, share_id: UUID) -> dict[str, Any]:
    data: dict[str, Any] = (await publisher.outbox(share_id))[-1]["data"]
    return data


# --- reading ---


async def test_what_is_read_is_what_the_instruction_names(publisher: Publisher) -> None:
    plan_id, share_id = await issued(publisher)
    expected = (await instruction_of(publisher, share_id))["sha256"]
    (line,) = await publisher.read("subscriber-health", (share_id, 1))
    assert (line["outcome"], line["current_seq"]) == ("ok", 1)
    answer = ReadAnswer.model_validate(line)
    assert answer.rendering is not None
    content = content_of(answer.rendering, share_id, 1, expected, None)
    assert (str(content.plan_id), content.version, str(content.issued_on)) == (plan_id, 1, "2026-02-10")
    assert (content.child.family_name, content.child.given_names) == ("Hartley", "Rowan James")
    assert (content.council.name, content.council.ods_code) == ("Dudley Metropolitan Borough Council", "408")
    assert (content.recipient.scheme, content.recipient.value, content.recipient.name) == ("ods", "RNA", TRUST_NAME)
    assert line["rendering"]["sections"]["A"]["text"] == "Rowan likes trains."
    assert line["rendering"]["changed_sections"] == ["A", "B"]
    assert content.document is not None
    assert content.document.data.startswith(b"%PDF-")
    with pytest.raises(BadRenderingError):
        content_of(answer.rendering, share_id, 1, "ab" * 32, None)


async def test_documents_and_attachments_come_as_they_were_sent(publisher: Publisher) -> None:
    document, advice = pdf_document("plan"), [pdf_document("one"), pdf_document("two")]
    answer = await publisher.upload(
        part("submission", orjson.dumps(document_alone())), part("document", document, "plan.pdf"),
        *(part("attachment", data, f"advice {n}.pdf") for n, data in enumerate(advice)),
    )  # fmt: skip
    share_id = (await publisher.shares(answer.json()["plan_id"]))[TRUST_NAME]["share_id"]
    expected = (await instruction_of(publisher, share_id))["sha256"]
    (line,) = await publisher.read("subscriber-health", (share_id, 1))
    read = ReadAnswer.model_validate(line)
    assert read.rendering is not None
    content = content_of(read.rendering, share_id, 1, expected, None)
    assert content.document is not None
    assert content.document.data == document
    assert [(each.name, each.data) for each in content.attachments] == [
        ("advice 0.pdf", advice[0]),
        ("advice 1.pdf", advice[1]),
    ]


async def test_everyone_gets_the_same_rendering_under_one_hash(publisher: Publisher) -> None:
    body = await publisher.issue(submission())
    shares = await publisher.shares(body["plan_id"])
    clients = {"subscriber-health": TRUST_NAME, "subscriber-school": SCHOOL_NAME, "subscriber-family": PARENT_NAME}
    lines = [(await publisher.read(client, (shares[name]["share_id"], 1)))[0] for client, name in clients.items()]
    assert len({line["rendering"]["sha256"] for line in lines}) == 1
    assert len({line["rendering"]["document"]["data"] for line in lines}) == 1


async def test_only_the_familys_subscriber_sees_who_a_parent_is(publisher: Publisher) -> None:
    body = await publisher.issue(submission())
    shares = await publisher.shares(body["plan_id"])
    (line,) = await publisher.read("subscriber-family", (shares[PARENT_NAME]["share_id"], 1))
    recipient = line["rendering"]["recipient"]
    assert (recipient["name"], recipient["email"], recipient["kind"]) == ("Ann Hartley", "ann.hartley@example.org", "parent")
    (line,) = await publisher.read("subscriber-school", (shares[SCHOOL_NAME]["share_id"], 1))
    assert "ann.hartley" not in orjson.dumps(line).decode()


async def test_each_read_is_an_act_in_the_ledger_and_nothing_else_is(publisher: Publisher) -> None:
    plan_id, share_id = await issued(publisher)
    await publisher.read("subscriber-health", (share_id, 1))
    await publisher.read("subscriber-health", (share_id, 9), (uuid4(), 1))
    await publisher.read("subscriber-school", (share_id, 1))
    assert await reads(publisher, share_id) == [("subscriber-health", 1)]
    act = await publisher.owner.fetchrow("SELECT * FROM audit.pending WHERE share_id = $1 AND act = 'read'", share_id)
    assert act is not None
    assert (str(act["plan_id"]), act["la_code"]) == (plan_id, "332")
    assert act["version_id"] == (await publisher.shares(plan_id))[TRUST_NAME]["version_id"]


async def test_anothers_share_and_none_at_all_are_not_told_apart(publisher: Publisher) -> None:
    _, share_id = await issued(publisher)
    lines = await publisher.read("subscriber-school", (share_id, 1), (uuid4(), 1))
    assert [{k: v for k, v in line.items() if k != "share_id"} for line in lines] == [
        {"seq": 1, "outcome": "unknown", "current_seq": None}
    ] * 2


async def test_a_seq_that_is_not_the_current_one_is_answered_with_that(publisher: Publisher) -> None:
    plan_id, share_id = await issued(publisher)
    await publisher.amend(plan_id, version("2026-03-02", "Two."))
    lines = await publisher.read("subscriber-health", (share_id, 1), (share_id, 3), (share_id, 2))
    assert [(line["outcome"], line["current_seq"]) for line in lines] == [("stale", 2), ("stale", 2), ("ok", 2)]
    assert ["rendering" in line for line in lines] == [False, False, True]


async def test_a_withdrawn_share_gives_nothing(publisher: Publisher) -> None:
    plan_id, share_id = await issued(publisher, SCHOOL_NAME, placements=[placed(PRIMARY)])
    await publisher.amend(plan_id, version("2026-03-02", "Two.", placements=[]))
    (line,) = await publisher.read("subscriber-school", (share_id, 2))
    assert (line["outcome"], line["current_seq"]) == ("withdrawn", 2)
    assert "rendering" not in line
    assert await reads(publisher, share_id) == []


async def test_a_batch_is_answered_in_order_one_line_each(publisher: Publisher) -> None:
    plans = [await issued(publisher) for _ in range(5)]
    wanted = [(share_id, 1) for _, share_id in plans] + [(uuid4(), 1), (plans[0][1], 1)]
    lines = await publisher.read("subscriber-health", *wanted)
    assert [line["share_id"] for line in lines] == [str(share_id) for share_id, _ in wanted]
    assert [line["outcome"] for line in lines] == ["ok"] * 5 + ["unknown", "ok"]
    assert [line["rendering"]["plan_id"] for line in lines[:5]] == [plan_id for plan_id, _ in plans]


def large_document(megabytes: int) -> bytes:
    return pdf_of("Rowan James Hartley", noise=megabytes * 2**20)


async def test_what_does_not_fit_into_one_answer_is_for_later_and_one_always_fits(publisher: Publisher) -> None:
    shares = []
    for _ in range(2):
        answer = await publisher.upload(
            part("submission", orjson.dumps(document_alone())), part("document", large_document(18), "plan.pdf"),
            part("attachment", large_document(20), "advice.pdf"),
        )  # fmt: skip
        assert answer.status_code == 201, answer.text
        shares.append((await publisher.shares(answer.json()["plan_id"]))[TRUST_NAME]["share_id"])
    _, small = await issued(publisher)
    lines = await publisher.read("subscriber-health", (small, 1), (shares[0], 1), (shares[1], 1))
    assert [line["outcome"] for line in lines] == ["ok", "later", "later"]
    lines = await publisher.read("subscriber-health", (shares[0], 1), (small, 1), (shares[1], 1))
    assert [line["outcome"] for line in lines] == ["ok", "later", "later"]
    assert await reads(publisher, shares[1]) == [], "what was not handed out was not read"
    rendering = lines[0]["rendering"]
    assert rendering["attachments"][0]["sha256"] == rendering["manifest"]["attachments"][0]["sha256"]


@pytest.mark.parametrize(
    ("count", "status", "slug"), [(0, 422, "invalid"), (201, 413, "too-many-reads"), (1001, 422, "invalid")]
)
async def test_none_or_too_many_at_once(publisher: Publisher, count: int, status: int, slug: str) -> None:
    wanted = [{"share_id": str(uuid4()), "seq": 1}] * count
    problem(await publisher.post("/v1/documents/read", {"reads": wanted}, "subscriber-health"), status, slug)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
async def test_what_is_no_json(publisher: Publisher, body: bytes) -> None:
    problem(await publisher.post("/v1/documents/read", body, "subscriber-health"), 400, "malformed")


@pytest.mark.parametrize(
    "body", [{}, {"reads": [{"share_id": "x", "seq": 1}]}, {"reads": [{"share_id": str(uuid4()), "seq": 0}]}]
)
async def test_what_is_no_request(publisher: Publisher, body: Any) -> None:
    problem(await publisher.post("/v1/documents/read", body, "subscriber-health"), 422, "invalid")


# --- a read and a withdrawal ---


async def test_a_read_that_meets_a_withdrawal_waits_for_it_and_gets_nothing(publisher: Publisher) -> None:
    _, share_id = await issued(publisher)
    async with publisher.owner.acquire() as connection:
        withdrawal = connection.transaction()
        await withdrawal.start()
        await connection.execute("SELECT FROM publisher.share WHERE share_id = $1 FOR UPDATE", share_id)
        reading = asyncio.create_task(publisher.read("subscriber-health", (share_id, 1)))

        async def waits() -> bool:
            return bool(await publisher.owner.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        await until(waits)
        await connection.execute("UPDATE publisher.share SET action = 'withdraw', seq = 2 WHERE share_id = $1", share_id)
        await withdrawal.commit()
    (line,) = await reading
    assert (line["outcome"], line["current_seq"]) == ("stale", 2)
    assert await reads(publisher, share_id) == []


async def test_reads_of_one_share_do_not_wait_for_each_other(publisher: Publisher) -> None:
    _, share_id = await issued(publisher)
    async with publisher.owner.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM publisher.share WHERE share_id = $1 FOR SHARE", share_id)
        (line,) = await asyncio.wait_for(publisher.read("subscriber-health", (share_id, 1)), 10)
    assert line["outcome"] == "ok"


# --- the list ---


async def test_the_list_has_every_share_of_the_subscriber_once_however_it_is_paged(publisher: Publisher) -> None:
    plan_id, school = await issued(publisher, SCHOOL_NAME, placements=[placed(PRIMARY)])
    mine = (await publisher.shares(plan_id))[TRUST_NAME]["share_id"]
    await publisher.amend(plan_id, version("2026-03-02", "Two.", placements=[]))
    whole = await publisher.list_all("subscriber-school")
    ids = [row["share_id"] for row in whole]
    assert ids == sorted(set(ids))
    assert str(school) in ids
    assert str(mine) not in ids
    for limit in (1, 7, len(ids)):
        if len(ids) / limit < 200:
            assert [row["share_id"] for row in await publisher.list_all("subscriber-school", limit)] == ids
    row = next(row for row in whole if row["share_id"] == str(school))
    assert (row["seq"], row["type"]) == (2, "ehcp.share.withdrawn.v1"), "a withdrawal is to be rebuilt too"
    count: int = await publisher.owner.fetchval("SELECT count(*) FROM publisher.share WHERE subscriber = 'school'")
    assert count == len(ids)


async def test_a_row_of_the_list_is_the_instruction_as_it_was_published(publisher: Publisher) -> None:
    _, share_id = await issued(publisher)
    row = next(row for row in await publisher.list_all("subscriber-health") if row["share_id"] == str(share_id))
    (published,) = await publisher.outbox(share_id)
    assert (row["type"], row["instruction"]) == (published["type"], published["data"])


async def test_the_unanswered_are_those_that_no_receipt_has_satisfied(publisher: Publisher) -> None:
    (_, answered), (_, unanswered) = await issued(publisher), await issued(publisher)
    await publisher.owner.execute("DELETE FROM publisher.unsatisfied WHERE share_id = $1", answered)
    ids = {row["share_id"] for row in await publisher.list_all("subscriber-health", unanswered=True)}
    assert str(unanswered) in ids
    assert str(answered) not in ids


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=x", "unanswered=perhaps"])
async def test_odd_queries(publisher: Publisher, query: str) -> None:
    answer = await publisher.http.get(f"/v1/shares?{query}", headers=await publisher.headers("subscriber-health"))
    problem(answer, 422, "invalid")


# --- as a subscriber does it ---


async def test_the_subscribers_own_client_reads_and_lists(publisher: Publisher) -> None:
    plan_id, share_id = await issued(publisher)
    # The issuer's name is not where this test reaches it.
    async with httpx2.AsyncClient(transport=_Redirected(publisher.url), timeout=60) as http:
        tokens = TokenClient(http, ISSUER, "subscriber-health", publisher.keys["subscriber-health"])
        council = Council(http, ISSUER, tokens)
        answers = await council.read([(share_id, 1), (uuid4(), 1)])
        assert answers[share_id].rendering is not None
        assert str(answers[share_id].rendering.plan_id) == plan_id  # type: ignore[union-attr]
        page, _ = await council.shares(None, unanswered=True)
        assert page


async def test_two_recipients_of_one_plan_get_its_text_once_and_each_their_own_content(publisher: Publisher) -> None:
    plan_id, trust = await issued(publisher)
    icb = (await publisher.shares(plan_id))[ICB_NAME]["share_id"]
    first, second = await publisher.read("subscriber-health", (trust, 1), (icb, 1))
    assert first["rendering"]["recipient"]["name"] == TRUST_NAME
    assert "rendering" not in second
    assert (second["again"]["share_id"], second["again"]["recipient"]["name"]) == (str(trust), ICB_NAME)
    async with httpx2.AsyncClient(transport=_Redirected(publisher.url), timeout=60) as http:
        tokens = TokenClient(http, ISSUER, "subscriber-health", publisher.keys["subscriber-health"])
        answers = await Council(http, ISSUER, tokens).read([(icb, 1), (trust, 1)])
    proofs = Proofs()
    contents = []
    for share_id in (icb, trust):
        rendering, expected = answers[share_id].rendering, (await instruction_of(publisher, share_id))["sha256"]
        assert rendering is not None
        contents.append(content_of(rendering, share_id, 1, expected, None, proofs))
        with pytest.raises(BadRenderingError):
            content_of(rendering, share_id, 1, "ab" * 32, None, proofs)
    assert [content.recipient.name for content in contents] == [ICB_NAME, TRUST_NAME]
    assert contents[0].sections == contents[1].sections
    assert contents[0].document == contents[1].document


class _Redirected(httpx2.AsyncHTTPTransport):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = httpx2.URL(url)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.url = request.url.copy_with(host=self._url.host, port=self._url.port)
        return await super().handle_async_request(request)
