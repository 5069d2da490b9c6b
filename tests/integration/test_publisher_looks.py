"""Asking what the records hold: who is drawn, who is found, what is asked of whom, and how often until it is answered."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from services.ehcp_publisher.looking import Looking
from tests.support.publisher import PublisherAtHand, problem, publisher_at_hand, reference, submission, version
from tests.support.servers import RunningPostgres

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

OPERATOR = "operator"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def publisher(postgres_server: RunningPostgres) -> AsyncIterator[PublisherAtHand]:
    async with publisher_at_hand(postgres_server) as running:
        yield running


@pytest_asyncio.fixture(autouse=True)
async def plans(publisher: PublisherAtHand) -> dict[str, str]:
    """Ten plans of a council that has no others: plan id by case reference."""
    await publisher.owner.execute(
        "DELETE FROM publisher.look_share; DELETE FROM publisher.look_plan; DELETE FROM publisher.look"
    )
    await publisher.owner.execute("UPDATE publisher.plan SET state = 'ceased' WHERE state = 'live'")
    references = [reference() for _ in range(10)]
    return {each: (await publisher.issue(submission(each)))["plan_id"] for each in references}


def looking(publisher: PublisherAtHand) -> Looking:
    bound: Any = publisher.parts.work["looks"]
    found = bound.__self__
    assert isinstance(found, Looking)
    return found


async def ask(publisher: PublisherAtHand, **request: Any) -> dict[str, Any]:
    answer = await publisher.post("/v1/looks", {"la_code": "332"} | request, OPERATOR)
    assert answer.status_code == 202, answer.text
    assert answer.headers["cache-control"] == "no-store"
    body: dict[str, Any] = answer.json()
    return body


async def looked_at(publisher: PublisherAtHand, look: dict[str, Any]) -> list[str]:
    rows = await publisher.owner.fetch(
        "SELECT plan_id FROM publisher.look_plan WHERE look_id = $1 ORDER BY position", UUID(look["look_id"])
    )
    return [str(row["plan_id"]) for row in rows]


async def asked_of(publisher: PublisherAtHand, look: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """By topic the questions in the outbox."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in await publisher.outbox(look["look_id"]):
        assert row["type"] == "ehcp.holdings.requested.v1"
        found.setdefault(row["topic"], []).append(row["data"])
    return found


async def test_a_draw_is_repeated_by_anyone_with_the_seed_and_the_list(
    publisher: PublisherAtHand, plans: dict[str, str]
) -> None:
    look = await ask(publisher, draw={"n": 4, "seed": "2026-11-20"})
    by_hand = sorted(plans, key=lambda each: hashlib.sha256(f"2026-11-20:{each}".encode()).hexdigest())[:4]
    assert await looked_at(publisher, look) == [plans[each] for each in by_hand]
    assert (look["population"], look["children"], look["seed"]) == (10, 4, "2026-11-20")
    again = await ask(publisher, draw={"n": 4, "seed": "2026-11-20"})
    assert await looked_at(publisher, again) == await looked_at(publisher, look)


async def test_without_a_seed_one_is_made_and_said(publisher: PublisherAtHand, plans: dict[str, str]) -> None:
    look = await ask(publisher, draw={"n": 50})
    assert look["seed"]
    assert sorted(await looked_at(publisher, look)) == sorted(plans.values())


async def test_each_subscriber_is_asked_for_its_own_shares_and_nothing_personal_travels(
    publisher: PublisherAtHand, plans: dict[str, str]
) -> None:
    (case_reference,) = list(plans)[:1]
    look = await ask(publisher, children=[case_reference])
    shares = await publisher.owner.fetch(
        "SELECT share_id, subscriber FROM publisher.share WHERE plan_id = $1", UUID(plans[case_reference])
    )
    asked = await asked_of(publisher, look)
    told = {topic: {each["share_id"] for data in questions for each in data["shares"]} for topic, questions in asked.items()}
    wanted: dict[str, set[str]] = {}
    for row in shares:
        wanted.setdefault(f"ehcp.shares.{row['subscriber']}.v1", set()).add(str(row["share_id"]))
    assert told == wanted
    assert look["shares"] == len(shares)
    for word in ("Rowan", "Hartley", case_reference, "2014"):
        assert word not in str(asked)
    acts = [row["act"] for row in await publisher.owner.fetch(
        "SELECT act FROM audit.pending WHERE details->>'look_id' = $1 ORDER BY id", look["look_id"]
    )]  # fmt: skip
    assert acts == ["look_asked", "look_asked"]  # the look, and the plan looked at


async def test_a_choice_by_reference_nhs_number_or_id_and_what_leads_to_no_plan(
    publisher: PublisherAtHand, plans: dict[str, str]
) -> None:
    first, second, third, gone = list(plans)[:4]
    number = submission(second)["child"]["nhs_number"]
    spaced = f"{number[:3]} {number[3:6]} {number[6:]}"
    await publisher.owner.execute("UPDATE publisher.plan SET state = 'ceased' WHERE plan_id = $1", UUID(plans[gone]))
    chosen = [first, spaced, plans[third], gone, "9434765870", first.lower(), "EHC-NONE", "9434765918"]
    look = await ask(publisher, children=chosen)
    assert await looked_at(publisher, look) == [plans[first], plans[second], plans[third]]
    assert look["not_looked_at"] == [
        {"position": 4, "reason": "not_in_force"},
        {"position": 5, "reason": "unknown"},
        {"position": 6, "reason": "repeated"},
        {"position": 7, "reason": "unknown"},
        {"position": 8, "reason": "unknown"},
    ]
    assert (look["seed"], look["population"]) == (None, None)


async def test_what_was_typed_is_kept_nowhere(publisher: PublisherAtHand, plans: dict[str, str]) -> None:
    """However a number is written, it finds its child; a name or a UPN that somebody pastes finds none, and stays with them."""
    numbers = [submission(each)["child"]["nhs_number"] for each in list(plans)[:3]]
    apart = [(number[:3], number[3:6], number[6:]) for number in numbers]
    ways = ["NHS " + " ".join(apart[0]), ".".join(apart[1]), "\u00a0".join(apart[2])]
    strange = ["NHS 943 476 5918", "943.476.5918", "943\u00a0476\u00a05918", "T332999925001", "Amira Khan"]
    look = await ask(publisher, children=[*ways, *strange])
    assert await looked_at(publisher, look) == list(plans.values())[:3]
    assert look["not_looked_at"] == [{"position": place, "reason": "unknown"} for place in range(4, 9)]
    kept = str(await publisher.owner.fetch("SELECT asked::text FROM publisher.look"))
    kept += str(await publisher.owner.fetch("SELECT details::text FROM audit.pending"))
    for word in (*numbers, *ways, *strange, "5918"):
        assert word not in kept


async def test_a_version_that_is_held_is_not_the_one_that_should_be_there(
    publisher: PublisherAtHand, plans: dict[str, str]
) -> None:
    amended, other = list(plans)[:2]
    strange = version("2026-03-02", f"Number {submission(other)['child']['nhs_number']}")
    answer = await publisher.post(f"/v1/plans/{plans[amended]}/versions", {"version": strange})
    assert answer.status_code == 202, answer.text
    first = submission(version=strange)
    assert (await publisher.post("/v1/plans", first)).status_code == 202
    look = await ask(publisher, children=[amended, first["case_reference"]])
    assert [each["reason"] for each in look["not_looked_at"]] == ["no_version"]
    wanted = await publisher.owner.fetch(
        "SELECT v.number FROM publisher.look_plan JOIN publisher.version v USING (version_id) WHERE look_id = $1",
        UUID(look["look_id"]),
    )
    assert [row["number"] for row in wanted] == [1]
    assert (await ask(publisher, draw={"n": 100, "seed": "1"}))["population"] == 10


async def test_one_agency_or_one_kind_alone(publisher: PublisherAtHand, plans: dict[str, str]) -> None:
    by_code = await ask(publisher, draw={"n": 3, "seed": "1"}, agency={"scheme": "ods", "value": "RNA"})
    assert (by_code["population"], by_code["children"], by_code["shares"]) == (10, 3, 3)
    assert list(await asked_of(publisher, by_code)) == ["ehcp.shares.health.v1"]
    by_kind = await ask(publisher, children=[next(iter(plans))], kind="parent")
    assert list(await asked_of(publisher, by_kind)) == ["ehcp.shares.family.v1"]
    nobody = await publisher.post(
        "/v1/looks", {"la_code": "332", "draw": {"n": 3}, "agency": {"scheme": "ods", "value": "RZZ"}}, OPERATOR
    )
    assert "to be held there" in problem(nobody, 409, "nobody-to-draw")["detail"]
    none = await ask(publisher, children=[next(iter(plans))], agency={"scheme": "ods", "value": "RZZ"})
    assert [each["reason"] for each in none["not_looked_at"]] == ["not_shared_with_agency"]


async def test_another_councils_children_are_unknown(publisher: PublisherAtHand, plans: dict[str, str]) -> None:
    other = await ask(publisher, la_code="333", children=[next(iter(plans)), next(iter(plans.values()))])
    assert [each["reason"] for each in other["not_looked_at"]] == ["unknown", "unknown"]
    answer = await publisher.http.post(
        "/v1/looks", json={"la_code": "333", "draw": {"n": 1}}, headers=publisher.mint(kind="operator", la_codes=["332"])
    )
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "request_",
    [
        {}, {"draw": {"n": 1}, "children": ["a"]}, {"draw": {"n": 0}}, {"draw": {"n": 1001}}, {"children": []},
        {"draw": {"n": 1, "seed": "a b"}}, {"children": ["a\0b"]}, {"children": ["a" * 101]},
        {"draw": {"n": 1}, "kind": "dentist"},
        {"draw": {"n": 1}, "kind": "trust", "agency": {"scheme": "ods", "value": "RNA"}},
    ],
)  # fmt: skip
async def test_what_does_not_fit_is_refused_with_what_to_send(publisher: PublisherAtHand, request_: dict[str, Any]) -> None:
    answer = await publisher.post("/v1/looks", {"la_code": "332"} | request_, OPERATOR)
    assert answer.status_code == 422, answer.text


async def answered(publisher: PublisherAtHand, look: dict[str, Any], found: str, share_id: UUID | None = None) -> None:
    """As audit stores it."""
    await publisher.owner.execute(
        "INSERT INTO audit.holding (share_id, number, look_id, la_code, subscriber, hosted_by, found, withdrawn, intact, at,"
        " signed) SELECT share_id, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, look_id, la_code, subscriber,"
        " 'agency', $2, false, true, now(), '' FROM publisher.look_share"
        " WHERE look_id = $1 AND subscriber IS NOT NULL AND ($3::uuid IS NULL OR share_id = $3)",
        UUID(look["look_id"]), found, share_id,
    )  # fmt: skip


async def test_what_is_not_answered_is_asked_again_ever_less_often_and_then_no_more(publisher: PublisherAtHand) -> None:
    look = await ask(publisher, draw={"n": 2, "seed": "1"}, agency={"scheme": "ods", "value": "RNA"})
    sweep = looking(publisher).sweep
    assert await sweep() == 0

    async def due() -> list[float]:
        rows = await publisher.owner.fetch(
            "SELECT extract(epoch FROM ask_at - now())::float AS seconds FROM publisher.look_share WHERE ask_at IS NOT NULL"
        )
        await publisher.owner.execute("UPDATE publisher.look_share SET ask_at = now() WHERE ask_at IS NOT NULL")
        return [row["seconds"] for row in rows]

    waits = []
    for _ in range(7):
        (seconds, _) = await due()
        waits.append(round(seconds / 30))
        assert await sweep() == 2
    assert waits == [1, 2, 4, 8, 16, 20, 20]
    assert len((await asked_of(publisher, look))["ehcp.shares.health.v1"]) == 8
    first = await publisher.owner.fetchval("SELECT share_id FROM publisher.look_share ORDER BY share_id LIMIT 1")
    await answered(publisher, look, "held", first)
    await due()
    await sweep()
    assert len(await due()) == 1  # the other one
    await answered(publisher, look, "no_answer")
    await due()
    await sweep()
    assert len(await due()) == 1  # a record that did not answer is asked again
    await publisher.owner.execute("UPDATE publisher.look SET until = now() - interval '1 second'")
    before = len((await asked_of(publisher, look))["ehcp.shares.health.v1"])
    await sweep()
    assert await due() == []
    assert len((await asked_of(publisher, look))["ehcp.shares.health.v1"]) == before


async def test_questions_come_over_https_too_until_they_are_answered(publisher: PublisherAtHand) -> None:
    look = await ask(publisher, draw={"n": 2, "seed": "1"})

    async def fed() -> list[dict[str, Any]]:
        answer = await publisher.http.get("/v1/feed?limit=500", headers=await publisher.headers("subscriber-health"))
        return [each["data"] for each in answer.json() if each["type"] == "ehcp.holdings.requested.v1"]

    (question,) = await fed()
    assert question["look_id"] == look["look_id"]
    assert await fed() == [question]
    one = UUID(question["shares"][0]["share_id"])
    await answered(publisher, look, "absent", one)
    (rest,) = await fed()
    assert str(one) not in str(rest)
    await answered(publisher, look, "no_answer")
    assert await fed() == []  # until it is asked again
    await publisher.owner.execute("UPDATE publisher.look_share SET ask_at = now() WHERE ask_at IS NOT NULL")
    await looking(publisher).sweep()
    (again,) = await fed()
    assert again == question


async def test_more_shares_than_fit_into_one_question(publisher: PublisherAtHand, plans: dict[str, str]) -> None:
    for _ in range(101 - len(plans)):
        await publisher.issue(submission(), "operator")
    look = await ask(publisher, draw={"n": 101, "seed": str(uuid4())}, agency={"scheme": "ods", "value": "RNA"})
    assert [len(each["shares"]) for each in (await asked_of(publisher, look))["ehcp.shares.health.v1"]] == [100, 1]
