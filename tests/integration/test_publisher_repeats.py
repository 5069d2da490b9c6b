"""Idempotency keys, batches, and many requests at once: nothing twice, nothing lost, nothing out of order."""

import asyncio
from copy import deepcopy
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import orjson
import pytest

from tests.support.publisher import (
    WRONG_NHS_NUMBER,
    Publisher,
    child_of,
    document_alone,
    part,
    pdf_document,
    problem,
    reference,
    submission,
    version,
)

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

SCHOOL_NAME, HIGH_NAME = "Saltwells Brook Primary School", "Earls Keep High School"
ICB_NAME, TRUST_NAME = "NHS Black Country Integrated Care Board", "The Dudley Group NHS Foundation Trust"


# --- idempotency keys ---


async def test_the_same_key_and_body_get_the_same_answer(publisher: Publisher) -> None:
    sent, key = submission(), {"idempotency-key": str(uuid4())}
    first = await publisher.post("/v1/plans", sent, headers=key)
    again = await publisher.post("/v1/plans", sent, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert (await publisher.acts(first.json()["plan_id"])).count("issued") == 1


async def test_the_same_key_with_another_body_is_refused(publisher: Publisher) -> None:
    key = {"idempotency-key": str(uuid4())}
    await publisher.post("/v1/plans", submission(), headers=key)
    other = submission()
    problem(await publisher.post("/v1/plans", other, headers=key), 409, "key-reused")
    assert await publisher.plans_of(other["case_reference"]) == 0


async def test_a_key_belongs_to_one_client_and_one_route(publisher: Publisher) -> None:
    key = {"idempotency-key": str(uuid4())}
    ours = await publisher.post("/v1/plans", submission(), headers=key)
    theirs = await publisher.post("/v1/plans", submission(la_code="333"), "case-system-333", headers=key)
    further = await publisher.post(
        f"/v1/plans/{ours.json()['plan_id']}/versions", {"version": version("2026-03-02", "Two.")}, headers=key
    )
    assert [answer.status_code for answer in (ours, theirs, further)] == [201, 201, 201]


async def test_a_refused_request_does_not_use_up_its_key(publisher: Publisher) -> None:
    key, sent = {"idempotency-key": str(uuid4())}, submission()
    wrong = deepcopy(sent)
    wrong["child"]["nhs_number"] = WRONG_NHS_NUMBER
    problem(await publisher.post("/v1/plans", wrong, headers=key), 422, "invalid")
    assert (await publisher.post("/v1/plans", sent, headers=key)).status_code == 201


async def test_parallel_requests_with_one_key_all_get_the_one_answer(publisher: Publisher) -> None:
    sent, key = submission(), {"idempotency-key": str(uuid4())}
    answers = await asyncio.gather(*(publisher.post("/v1/plans", sent, headers=key) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({orjson.dumps(answer.json(), option=orjson.OPT_SORT_KEYS) for answer in answers}) == 1
    assert await publisher.plans_of(sent["case_reference"]) == 1


async def test_files_count_as_part_of_the_body_and_the_boundary_does_not(publisher: Publisher) -> None:
    sent, key = part("submission", orjson.dumps(document_alone())), str(uuid4())
    one, two = part("document", pdf_document("one"), "plan.pdf"), part("document", pdf_document("two"), "plan.pdf")
    first = await publisher.upload(sent, one, **{"idempotency-key": key})
    again = await publisher.upload(sent, one, **{"idempotency-key": key})
    assert first.request.headers["content-type"] != again.request.headers["content-type"]
    assert (first.status_code, again.json()) == (201, first.json())
    problem(await publisher.upload(sent, two, **{"idempotency-key": key}), 409, "key-reused")


@pytest.mark.parametrize("key", ["x" * 201, "", "\xe9 \xff"])
async def test_odd_keys(publisher: Publisher, key: str) -> None:
    answer = await publisher.post("/v1/plans", submission(), headers={"idempotency-key": key.encode("latin-1")})
    assert answer.status_code == (422 if len(key) > 200 else 201)


# --- batches ---


async def test_one_bad_line_and_the_others_go_through(publisher: Publisher) -> None:
    theirs = await publisher.issue(submission(la_code="333"))
    known = await publisher.issue(submission())
    wrong = submission()
    wrong["child"]["nhs_number"] = WRONG_NHS_NUMBER
    textless = submission()
    del textless["version"]["sections"]
    good, twice = submission(), submission()
    answer, lines = await publisher.batch(
        [
            good,
            wrong,
            b"{ nonsense",
            b"\xff\xfe",
            submission(la_code="333"),
            {"plan_id": known["plan_id"], "version": version("2026-03-02", "Two.")},
            {"plan_id": theirs["plan_id"], "version": version("2026-03-02", "Two.")},
            {"plan_id": str(uuid4()), "version": version()},
            textless,
            b"[" * 100_000,
            {"plan_id": known["plan_id"], "version": version("2026-04-02", "Two.")},
            {"plan_id": known["plan_id"], "version": version("2020-01-01", "Old.")},
            b"x" * (20 * 2**20),
            twice,
            twice,
            {"version": version(), "plan_id": known["plan_id"]},
            b"",
            b"   ",
        ]
    )
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [line["line"] for line in lines] == list(range(1, 17)), "blank lines are none"
    assert [(line["status"], line.get("result") or line["problem"]["type"].rpartition(":")[2]) for line in lines] == [
        (201, "issued"), (422, "invalid"), (400, "malformed"), (400, "malformed"), (403, "wrong-council"), (201, "issued"),
        (404, "unknown-plan"), (404, "unknown-plan"), (422, "no-text"), (400, "malformed"), (409, "same-text"),
        (201, "kept_as_history"), (413, "too-large"), (201, "issued"), (200, "unchanged"), (200, "unchanged"),
    ]  # fmt: skip
    assert WRONG_NHS_NUMBER not in answer.text
    assert lines[1]["problem"]["errors"][0]["field"] == "child/nhs_number"
    assert [await publisher.plans_of(each["case_reference"]) for each in (good, wrong, twice)] == [1, 0, 1]
    assert await publisher.versions_of(known["plan_id"]) == [1, 2, 3]


async def test_three_hundred_lines_with_plans_that_come_again_and_again(publisher: Publisher) -> None:
    names = [reference() for _ in range(60)]
    firsts = [submission(name) for name in names]
    _, lines = await publisher.batch(firsts)
    plan_ids = [line["plan_id"] for line in lines]
    assert len(set(plan_ids)) == 60
    further = [
        {"plan_id": plan_id, "version": version(f"2026-03-{day:02d}", f"Text of day {day}.")}
        for day in range(1, 5)
        for plan_id in plan_ids
    ]
    answer, lines = await publisher.batch([*firsts, *further])
    assert answer.status_code == 200
    assert [line["line"] for line in lines] == list(range(1, 301))
    assert [line["result"] for line in lines] == ["unchanged"] * 60 + ["issued"] * 240
    for index, plan_id in enumerate(plan_ids):
        assert [lines[60 * day + index]["version"] for day in range(1, 5)] == [2, 3, 4, 5]
        assert {row["seq"] for row in (await publisher.shares(plan_id)).values()} == {5}
    share = (await publisher.shares(plan_ids[0]))[TRUST_NAME]
    assert [row["data"]["seq"] for row in await publisher.outbox(share["share_id"])] == [1, 2, 3, 4, 5]
    _, again = await publisher.batch([*firsts, *further])
    assert {line["result"] for line in again} == {"unchanged"}


async def test_a_batch_may_leave_the_document_out_or_have_it_rendered(publisher: Publisher) -> None:
    for render in (False, True):
        _, (line,) = await publisher.batch([submission()], render=render)
        trust = (await publisher.shares(line["plan_id"]))[TRUST_NAME]
        (read,) = await publisher.read("subscriber-health", (trust["share_id"], 1))
        assert (read["rendering"]["document"] is not None) == render


async def test_an_empty_batch_and_one_with_too_many_lines(publisher: Publisher) -> None:
    answer, lines = await publisher.batch([])
    assert (answer.status_code, lines) == (200, [])
    answer, _ = await publisher.batch([b"{}"] * 10_001)
    assert "Repeating them is harmless" in problem(answer, 413, "too-many-lines")["detail"]


# --- many at once ---


async def test_twenty_parallel_requests_for_one_case_reference_make_one_plan(publisher: Publisher) -> None:
    sent = submission()
    answers = await asyncio.gather(*(publisher.post("/v1/plans", sent) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({(answer.json()["plan_id"], answer.json()["version_id"]) for answer in answers}) == 1
    assert await publisher.plans_of(sent["case_reference"]) == 1
    children = await publisher.owner.fetchval(
        "SELECT count(*) FROM publisher.child c WHERE NOT EXISTS (SELECT FROM publisher.plan p WHERE p.child_id = c.child_id)"
    )
    assert children == 0, "nothing is left of those that came second"
    assert (await publisher.acts(answers[0].json()["plan_id"])).count("issued") == 1


async def test_twenty_parallel_first_versions_with_different_texts_make_one_plan(publisher: Publisher) -> None:
    name = reference()
    answers = await asyncio.gather(
        *(publisher.post("/v1/plans", submission(name, version=version(text=f"Text {n}"))) for n in range(20))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19
    assert {answer.json()["type"].rpartition(":")[2] for answer in answers if answer.status_code == 409} == {"plan-exists"}


async def test_parallel_versions_of_one_plan_are_numbered_in_a_row_and_their_instructions_are_in_order(
    publisher: Publisher,
) -> None:
    first = await publisher.issue(submission())
    plan_id, path = first["plan_id"], f"/v1/plans/{first['plan_id']}/versions"

    async def amend(n: int) -> httpx2.Response:
        while True:
            answer = await publisher.post(path, {"version": version("2026-03-02", f"Text {n}")})
            if answer.status_code != 409:
                return answer
            problem(answer, 409, "busy")

    answers = await asyncio.gather(*(amend(n) for n in range(19)))
    assert {answer.status_code for answer in answers} == {201}
    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, 21))
    assert await publisher.versions_of(plan_id) == list(range(1, 21))
    newest = max(answers, key=lambda answer: int(answer.json()["version"])).json()
    for share in (await publisher.shares(plan_id)).values():
        rows = await publisher.outbox(share["share_id"])
        assert [row["data"]["seq"] for row in rows] == list(range(1, 21)), "outbox ids rise with seq"
        assert (share["seq"], str(share["version_id"])) == (20, newest["version_id"])
        assert rows[-1]["data"]["version_id"] == newest["version_id"]
    amended = [row["data"] for row in await publisher.outbox(plan_id) if row["type"] == "ehcp.plan.amended.v1"]
    assert [row["version"] for row in amended] == list(range(2, 21))


async def test_parallel_batches_over_the_same_plans_neither_lock_each_other_out_nor_lose_a_line(publisher: Publisher) -> None:
    _, lines = await publisher.batch([submission() for _ in range(30)])
    plan_ids = [line["plan_id"] for line in lines]

    async def amend(n: int) -> list[dict[str, Any]]:
        ordered = plan_ids if n % 2 else plan_ids[::-1]
        new = [submission() for _ in range(5)]
        further = [{"plan_id": each, "version": version(f"2026-03-{n + 1:02d}", f"Text {n}")} for each in ordered]
        answer, lines = await publisher.batch([*further, *new])
        assert answer.status_code == 200, answer.text
        return lines

    answers = await asyncio.gather(*(amend(n) for n in range(6)))
    for lines in answers:
        assert {line["status"] for line in lines} == {201}
    for plan_id in plan_ids:
        assert await publisher.versions_of(plan_id) == list(range(1, 8))


async def test_another_child_under_a_known_case_reference_is_never_taken_for_a_further_version(publisher: Publisher) -> None:
    """A case system that reuses a reference would put one child's plan into another child's records."""
    sent = submission()
    await publisher.issue(sent)
    other = sent | {"child": child_of(reference()), "version": version("2026-03-10", "Another child's plan.")}
    problem(await publisher.post("/v1/plans", other), 409, "child-differs")


# --- a council that was restored from a backup ---


async def test_a_plan_that_is_made_once_more_has_the_ids_it_had(publisher: Publisher) -> None:
    """So recipients see one plan, and know their shares of it again."""
    sent = submission()
    first = await publisher.issue(sent)
    await forget(publisher, first["plan_id"])
    again = await publisher.issue(sent)
    assert again["plan_id"] == first["plan_id"]
    assert again["version_id"] != first["version_id"], "it was really made anew"
    ids = [[(each["recipient"], each["share_id"]) for each in body["shares"]] for body in (first, again)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 4


async def forget(publisher: Publisher, plan_id: str) -> None:
    """Every row of the plan, as if it had come after the backup."""
    shares = "SELECT share_id FROM publisher.share WHERE plan_id = $1"
    versions = "SELECT version_id FROM publisher.version WHERE plan_id = $1"
    statements = [
        *(
            f"DELETE FROM publisher.{table} WHERE share_id IN ({shares})"
            for table in ("unsatisfied", "instruction", "share_ground")
        ),
        *(f"DELETE FROM publisher.{table} WHERE plan_id = $1" for table in ("share", "recipient", "flag", "share_gap")),
        f"DELETE FROM publisher.rendering WHERE version_id IN ({versions})",
        "DELETE FROM publisher.version WHERE plan_id = $1",
        "WITH gone AS (DELETE FROM publisher.plan WHERE plan_id = $1 RETURNING child_id) "
        "UPDATE publisher.child SET findable = false, nhs_lookup = NULL, upn_lookup = NULL "
        "WHERE child_id IN (SELECT * FROM gone)",
    ]
    for statement in statements:
        await publisher.owner.execute(statement, plan_id)


# --- one case reference, however it is written ---


async def test_capital_letters_and_blanks_make_no_second_plan(publisher: Publisher) -> None:
    sent = submission(case_reference=f"Dud-{uuid4().hex[:8]}-aB")
    first = await publisher.issue(sent)
    for written in (sent["case_reference"].lower(), f"  {sent['case_reference'].upper()} "):
        again = await publisher.post("/v1/plans", sent | {"case_reference": written})
        assert (again.status_code, again.json()["status"], again.json()["plan_id"]) == (200, "unchanged", first["plan_id"])
        assert again.json()["case_reference"] == sent["case_reference"], "as it came first"
        other = sent | {"case_reference": written, "version": version("2026-09-01", "Another text.")}
        body = problem(await publisher.post("/v1/plans", other), 409, "plan-exists")
        assert body["plan_id"] == first["plan_id"]
        answer = await publisher.http.get("/v1/plans", params={"case_reference": written}, headers=await publisher.headers())
        assert [each["plan_id"] for each in answer.json()["plans"]] == [first["plan_id"]]
    with pytest.raises(asyncpg.UniqueViolationError):
        await publisher.owner.execute(
            "INSERT INTO publisher.plan (plan_id, la_code, case_reference, child_id) SELECT gen_random_uuid(), la_code,"
            " lower(case_reference), child_id FROM publisher.plan WHERE plan_id = $1", UUID(first["plan_id"]),
        )  # fmt: skip


async def test_two_writings_of_a_reference_in_one_batch_are_one_plan(publisher: Publisher) -> None:
    sent = submission(case_reference=f"dud-{uuid4().hex[:8]}-x")
    _, answers = await publisher.batch([sent, sent | {"case_reference": sent["case_reference"].upper()}])
    assert [each["result"] for each in answers] == ["issued", "unchanged"]
    assert len({each["plan_id"] for each in answers}) == 1
