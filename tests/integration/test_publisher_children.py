"""The child behind the plan: known twice, corrected, adopted, moved to another council. Over HTTP on real PostgreSQL."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import orjson
import pytest
import pytest_asyncio
from pypdf import PdfReader

from tests.support.lives import (
    ICB_NAME,
    PARENT,
    PRIMARY_NAME,
    SECONDARY_NAME,
    TRUST_NAME,
    Life,
    begin,
    begin_with,
    unique,
    yesterday,
)
from tests.support.publisher import (
    SECONDARY,
    TRUST,
    Publisher,
    PublisherAtHand,
    child_of,
    code,
    document_alone,
    part,
    pdf_document,
    placed,
    problem,
    publisher_at_hand,
    reference,
    started_again,
    submission,
    version,
)
from tests.support.servers import RunningPostgres

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

MOVED: dict[str, Any] = {"moved_on": yesterday(), "aware_on": yesterday()}
CEASED: dict[str, Any] = {"ceased_on": "2026-07-21", "reason": "needs_met", "notified_on": "2026-05-01"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def at_hand(postgres_server: RunningPostgres) -> AsyncIterator[PublisherAtHand]:
    async with publisher_at_hand(postgres_server) as publisher:
        yield publisher


def nameless(**changes: Any) -> dict[str, Any]:
    """A child like no other by name, without any number."""
    child = child_of(reference()) | {"given_names": unique(), "nhs_number": None, "upn": None}
    return child | changes


def sent_for(child: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return submission(child=child, version=version(text=unique())) | changes


async def known(publisher: Publisher, sent: dict[str, Any], life: Life) -> None:
    """Refused as the child of that plan."""
    body = problem(await publisher.post("/v1/plans", sent), 409, "same-child")
    assert (body["plan_id"], body["case_reference"]) == (life.plan_id, life.sent["case_reference"])
    assert await publisher.plans_of(sent["case_reference"]) == 0


# --- the same child twice ---


@pytest.mark.parametrize("number", ["nhs_number", "upn"])
async def test_a_child_is_known_by_either_number_whatever_else_is_said_of_it(publisher: Publisher, number: str) -> None:
    life = await begin(publisher)
    other = nameless(date_of_birth="2011-01-01") | {number: life.sent["child"][number]}
    await known(publisher, sent_for(other), life)


@pytest.mark.parametrize(
    ("given", "family"),
    [("ZOË JANE", "o'brien-smythe"), ("Zoe  Jane", "OBrien Smythe"), ("Zoë Jane", "O’Brien‑Smythe")],
)
async def test_a_child_is_known_by_name_and_birthday_however_it_is_written(
    publisher: Publisher, given: str, family: str
) -> None:
    mark = reference().removeprefix("EHC-")
    child = nameless(given_names=f"Zoë Jane {mark}", family_name="O'Brien-Smythe")
    life = await begin_with(publisher, sent_for(child))
    again = nameless(given_names=f"{given} {mark}", family_name=family)
    await known(publisher, sent_for(again), life)
    assert (await publisher.post("/v1/plans", sent_for(again | {"date_of_birth": "2014-05-07"}))).status_code == 201


async def test_two_children_of_one_name_and_birthday_are_told_apart_by_numbers_or_by_a_person(publisher: Publisher) -> None:
    child = nameless()
    life = await begin_with(publisher, sent_for(child))
    other = sent_for(child)
    await known(publisher, other, life)
    answer = await publisher.post("/v1/plans", other | {"different_child_from": [life.plan_id]})
    assert answer.status_code == 201
    with_number = await begin(publisher)
    namesake = child_of(reference()) | {"upn": None}
    assert namesake["given_names"] == with_number.sent["child"]["given_names"]
    assert (await publisher.post("/v1/plans", sent_for(namesake))).status_code == 201, "each has an NHS number of its own"


async def test_a_person_may_not_tell_one_nhs_number_apart(publisher: Publisher) -> None:
    life = await begin(publisher)
    again = sent_for(life.sent["child"] | {"given_names": "Other"}, different_child_from=[life.plan_id])
    await known(publisher, again, life)


async def test_one_child_sent_many_times_at_once_has_one_plan(publisher: Publisher) -> None:
    for child in (nameless(), child_of(reference())):
        answers = await asyncio.gather(*(publisher.post("/v1/plans", sent_for(child)) for _ in range(6)))
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 5
        (issued,) = [answer.json() for answer in answers if answer.status_code == 201]
        assert {answer.json()["plan_id"] for answer in answers} == {issued["plan_id"]}


async def test_one_child_twice_in_a_batch(publisher: Publisher) -> None:
    child = nameless()
    first, second = sent_for(child), sent_for(child)
    _, answers = await publisher.batch([first, second])
    assert [answer["status"] for answer in answers] == [201, 409]
    assert answers[1]["problem"]["plan_id"] == answers[0]["plan_id"]


async def test_another_councils_child_is_not_given_away(publisher: Publisher) -> None:
    life = await begin(publisher)
    there = sent_for(life.sent["child"]) | {"la_code": "333"}
    assert (await publisher.post("/v1/plans", there, "case-system-333")).status_code == 201


async def test_a_child_whose_plan_ceased_gets_a_new_one(publisher: Publisher) -> None:
    """And the old one is not reopened beside it."""
    life = await begin(publisher)
    await life.record("cease", **CEASED)
    again = await begin_with(publisher, sent_for(life.sent["child"]))
    assert again.plan_id != life.plan_id
    await life.refused(409, "same-child", "reopen", reopened_on="2026-09-01", reason="appeal_succeeded")
    await again.record("cease", **CEASED)
    assert (await life.record("reopen", reopened_on="2026-09-01", reason="appeal_succeeded"))["state"] == "live"
    await known(publisher, sent_for(life.sent["child"]), life)


async def test_reopened_beside_a_plan_of_a_child_of_the_same_name_a_person_is_told(publisher: Publisher) -> None:
    life = await begin_with(publisher, sent_for(nameless()))
    await life.record("cease", **CEASED)
    again = await begin_with(publisher, sent_for(life.sent["child"]))
    body = await life.record("reopen", reopened_on="2026-09-01", reason="appeal_succeeded")
    assert body["warnings"] == [
        f"The child of {again.sent['case_reference']} has the same name and date of birth: check that it is another child."
    ]


# --- adoption ---


async def test_adoption_ends_the_plan_and_the_new_one_knows_nothing_of_it(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("review_scheduled", review="R1", meeting_on="2099-02-01")
    assert (await life.record("adoption", adopted_on="2026-11-01"))["state"] == "ceased"
    assert PARENT not in (await life.told())["review_invitation"], "the family of then is the child's no more"
    assert {action for action, _ in (await life.held()).values()} == {"withdraw"}
    new = await begin_with(publisher, sent_for(life.sent["child"]))
    old, now = [
        await publisher.owner.fetchrow(
            "SELECT p.plan_id, p.child_id, c.wrapped_key FROM publisher.plan p JOIN publisher.child c USING (child_id)"
            " WHERE plan_id = $1", UUID(plan_id),
        )
        for plan_id in (life.plan_id, new.plan_id)
    ]  # fmt: skip
    assert set(old or ()).isdisjoint(now or ())
    shown = orjson.dumps(await new.shown()).decode()
    assert life.plan_id not in shown
    assert life.sent["case_reference"] not in shown
    acts = await publisher.owner.fetch("SELECT details::text AS said FROM audit.pending WHERE plan_id = $1", UUID(new.plan_id))
    assert not any(life.plan_id in row["said"] for row in acts)


async def test_an_adoption_that_was_recorded_of_the_wrong_plan_is_taken_back_and_looked_at_first(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("adoption", adopted_on="2026-11-01")
    await life.refused(409, "order", "reopen", reopened_on="2026-11-02", reason="appeal_succeeded")
    body = await life.record("reopen", reopened_on="2026-11-02", reason="ceased_by_mistake")
    assert (body["state"], body["restricted"], body["shares_changed"], len(body["warnings"])) == ("live", True, 0, 1)
    assert {action for action, _ in (await life.held()).values()} == {"withdraw"}
    assert (await life.shown())["restrictions"] == ["safeguarding"]
    await life.record("lift")
    assert {action for action, _ in (await life.held()).values()} == {"hold"}


async def test_a_death_is_taken_back_only_as_a_mistake(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("death", died_on="2026-11-01")
    await life.refused(409, "order", "reopen", reopened_on="2026-11-02", reason="notice_withdrawn")
    assert (await life.record("reopen", reopened_on="2026-11-02", reason="ceased_by_mistake"))["restricted"] is False


# --- corrections ---


def text_of(rendering: dict[str, Any]) -> str:
    document = base64.b64decode(rendering["document"]["data"])
    return "".join(page.extract_text() for page in PdfReader(io.BytesIO(document)).pages)


async def test_a_correction_reaches_every_holder_in_the_document_too(publisher: Publisher) -> None:
    life = await begin(publisher)
    (before,) = await life.read("subscriber-health", TRUST_NAME)
    assert "Rowan James" in text_of(before["rendering"])
    child = life.sent["child"] | {"given_names": "Robin Alex", "preferred_name": "Rob"}
    assert (await life.record("child_corrected", child=child))["shares_changed"] == 4
    assert {seq for _, seq in (await life.held()).values()} == {2}
    (after,) = await life.read("subscriber-health", TRUST_NAME)
    assert after["rendering"]["child"]["given_names"] == "Robin Alex"
    assert "Robin Alex" in text_of(after["rendering"])
    assert "Rowan James" not in text_of(after["rendering"])
    assert after["rendering"]["version_id"] == before["rendering"]["version_id"]
    assert after["rendering"]["sha256"] != before["rendering"]["sha256"], "it is another rendering"
    said = await life.instruction(TRUST_NAME)
    assert (said["seq"], said["changed_sections"], said["sha256"]) == (2, [], after["rendering"]["sha256"])
    assert (await life.domain_events())[-1] == "child.corrected"


async def test_the_councils_own_document_stays_as_it_is_and_is_said_again(publisher: Publisher) -> None:
    sent = document_alone()
    answer = await publisher.upload(
        part("submission", orjson.dumps(sent)), part("document", pdf_document("Own"), "plan.pdf", "application/pdf")
    )
    assert answer.status_code == 201, answer.text
    life = Life(publisher, answer.json()["plan_id"], answer.json()["version_id"], sent)
    before = (await life.instruction(TRUST_NAME))["sha256"]
    await life.record("child_corrected", child=sent["child"] | {"given_names": "Robin"})
    said = await life.instruction(TRUST_NAME)
    assert (said["seq"], said["sha256"]) == (2, before)
    (line,) = await life.read("subscriber-health", TRUST_NAME)
    assert line["rendering"]["child"]["given_names"] == "Robin"


async def test_a_version_that_comes_back_by_a_recall_names_the_child_as_it_is_known_now(publisher: Publisher) -> None:
    life = await begin(publisher)
    wrong = await life.amend()
    await life.record("child_corrected", child=life.sent["child"] | {"given_names": "Robin Alex"})
    await life.record("recall", version_id=wrong["version_id"], reason="wrong_child", aware_at="2026-11-02T09:00:00Z")
    (line,) = await life.read("subscriber-health", TRUST_NAME)
    assert line["rendering"]["version_id"] == life.version_id
    assert "Robin Alex" in text_of(line["rendering"])
    assert "Rowan James" not in text_of(line["rendering"])


async def test_a_number_that_was_found_is_kept_and_known(publisher: Publisher) -> None:
    found = child_of(reference())
    life = await begin_with(publisher, sent_for(found | {"nhs_number": None, "upn": None, "given_names": unique()}))
    assert (await life.shown())["has_nhs_number"] is False
    await life.record("child_corrected", child=life.sent["child"] | {"nhs_number": found["nhs_number"]})
    assert (await life.shown())["has_nhs_number"] is True
    await known(publisher, sent_for(nameless(nhs_number=found["nhs_number"])), life)


async def test_a_changed_upn_and_a_replaced_nhs_number_reach_every_holder(publisher: Publisher) -> None:
    life = await begin(publisher)
    holders = (
        ("subscriber-health", TRUST_NAME, "nhs_number"), ("subscriber-health", ICB_NAME, "nhs_number"),
        ("subscriber-school", PRIMARY_NAME, "upn"), ("subscriber-family", PARENT, None),
    )  # fmt: skip
    child, another = life.sent["child"], child_of(reference())
    for seq, number in ((2, "upn"), (3, "nhs_number")):
        child = child | {number: another[number]}
        body = await life.record("child_corrected", child=child)
        assert body["shares_changed"] == len(holders)
        assert await life.held() == {who: ("hold", seq) for _, who, _ in holders}
        for client, who, own in holders:
            assert (await life.instruction(who))["seq"] == seq
            (line,) = await life.read(client, who)
            numbers = {name: line["rendering"]["child"].get(name) for name in ("nhs_number", "upn")}
            assert numbers == {name: child[name] if name == own else None for name in numbers}
    # The child is found by its new numbers, and no more by the old ones.
    await known(publisher, sent_for(nameless(nhs_number=another["nhs_number"])), life)
    await known(publisher, sent_for(nameless(upn=another["upn"])), life)
    stranger = nameless(nhs_number=life.sent["child"]["nhs_number"], upn=life.sent["child"]["upn"])
    assert (await begin_with(publisher, sent_for(stranger))).plan_id != life.plan_id


async def test_corrections_that_cannot_be(publisher: Publisher) -> None:
    one, two = await begin(publisher), await begin(publisher)
    taken = two.sent["child"] | {"nhs_number": one.sent["child"]["nhs_number"]}
    body = await two.refused(409, "same-child", "child_corrected", child=taken)
    assert one.sent["child"]["nhs_number"] not in orjson.dumps(body).decode()
    unborn = two.sent["child"] | {"date_of_birth": "2026-02-11"}
    body = await two.refused(422, "dates", "child_corrected", child=unborn)
    assert body["errors"][0]["field"] == "event/child/date_of_birth"
    body = await two.refused(422, "invalid", "child_corrected", child=two.sent["child"] | {"nhs_number": "9434765918"})
    assert "9434765918" not in orjson.dumps(body).decode()


async def test_a_repeat_of_the_first_version_is_judged_by_the_child_as_corrected(publisher: Publisher) -> None:
    life = await begin(publisher)
    right = life.sent["child"] | {"given_names": "Robin"}
    await life.record("child_corrected", child=right)
    problem(await publisher.post("/v1/plans", life.sent), 409, "child-differs")
    assert (await publisher.post("/v1/plans", life.sent | {"child": right})).status_code == 200


# --- to another council ---


async def test_a_plan_moves_to_another_council_with_its_history(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.amend()
    await life.satisfy(PRIMARY_NAME)
    new_reference = reference()
    body = await life.record("transfer", to_la_code="333", case_reference=new_reference, **MOVED)
    assert (body["state"], body["shares_changed"], body["case_reference"]) == ("live", 4, new_reference)
    assert {name: seq for name, (_, seq) in (await life.held()).items()} == dict.fromkeys(
        (PARENT, PRIMARY_NAME, ICB_NAME, TRUST_NAME), 3
    )
    for name in (PARENT, PRIMARY_NAME, ICB_NAME, TRUST_NAME):
        said = await life.instruction(name)
        assert (said["la_code"], said["seq"], said["changed_sections"]) == ("333", 3, []), name
    councils = await publisher.owner.fetch(
        "SELECT la_code FROM audit.newest WHERE share_id = ANY($1)",
        [row["share_id"] for row in (await life.shares()).values()],
    )
    assert [row["la_code"] for row in councils] == ["333"]
    shown = await life.shown("case-system-333")
    assert (shown["la_code"], shown["case_reference"], len(shown["versions"])) == ("333", new_reference, 2)
    assert [(each["la_code"], each["case_reference"], each["from_date"], each["until_date"]) for each in shown["custody"]] == [
        ("332", life.sent["case_reference"], "2026-02-10", yesterday())
    ]
    (line,) = await life.read("subscriber-health", TRUST_NAME)
    assert line["rendering"]["council"]["la_code"] == "333"
    # Whoever compares the former council's case system hears that it is not unknown.
    gone = {"la_code": "332", "case_reference": life.sent["case_reference"], "until": yesterday()}
    for client, told in (("case-system-332", True), ("case-system-333", False)):
        page = await publisher.http.get("/v1/plans?limit=1", headers=await publisher.headers(client))
        assert (gone in page.json()["transferred"]) is told, client


async def test_a_notice_under_way_goes_on_in_the_new_councils_name(publisher: Publisher) -> None:
    """Its receipts say whose share they are of; one that has arrived stays as it was said."""
    life = await begin(publisher)
    await life.record("review_scheduled", review="AR-1", meeting_on="2099-02-01")

    async def said() -> dict[str, tuple[str, int]]:
        rows = await publisher.owner.fetch(
            "SELECT r.name, s.share_id, s.seq, i.la_code, i.data FROM publisher.share s JOIN publisher.recipient r"
            " USING (recipient_id) JOIN publisher.instruction i USING (share_id, seq) WHERE s.plan_id = $1"
            " AND s.notice_id IS NOT NULL", UUID(life.plan_id),
        )  # fmt: skip
        assert all(row["la_code"] in ("332", "333") for row in rows)
        return {row["name"]: (orjson.loads(row["data"])["la_code"], row["seq"]) for row in rows}

    before = await said()
    assert set(before.values()) == {("332", 1)}
    arrived = await publisher.owner.fetchval(
        "DELETE FROM publisher.unsatisfied u USING publisher.share s JOIN publisher.recipient r USING (recipient_id)"
        " WHERE s.share_id = u.share_id AND s.notice_id IS NOT NULL AND s.plan_id = $1 AND r.name = $2 RETURNING r.name",
        UUID(life.plan_id), PRIMARY_NAME,
    )  # fmt: skip
    assert arrived == PRIMARY_NAME
    await life.record("transfer", to_la_code="333", **MOVED)
    after = await said()
    assert after.pop(PRIMARY_NAME) == ("332", 1)
    assert set(after.values()) == {("333", 2)}


async def test_the_old_council_may_not_act_or_look_any_more_and_the_new_one_may(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("transfer", to_la_code="333", **MOVED)
    body = await life.refused(409, "transferred", "restrict", reason="court_order")
    assert body["detail"] == f"Another council has had it since {yesterday()}; only that one may act for it."
    headers = await publisher.headers()
    problem(await publisher.http.get(f"/v1/plans/{life.plan_id}", headers=headers), 409, "transferred")
    assert life.plan_id not in (await publisher.http.get("/v1/plans?limit=500", headers=headers)).text
    answer = await publisher.post(f"/v1/plans/{life.plan_id}/versions", {"version": version("2026-11-21", unique())})
    problem(answer, 404, "unknown-plan")
    life.client = "case-system-333"
    new = await life.amend("2026-11-21", unique(), placements=[placed(SECONDARY)])
    assert new["version"] == 2
    assert (await life.held())[SECONDARY_NAME] == ("hold", 1)
    assert (await life.record("restrict", reason="court_order"))["restricted"] is True


async def test_the_old_councils_child_may_have_a_plan_there_again(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("transfer", to_la_code="333", **MOVED)
    assert (await publisher.post("/v1/plans", sent_for(life.sent["child"]))).status_code == 201
    there = sent_for(life.sent["child"]) | {"la_code": "333"}
    problem(await publisher.post("/v1/plans", there, "case-system-333"), 409, "same-child")


async def test_what_the_old_council_sends_again_makes_no_second_plan(publisher: Publisher) -> None:
    """Its case system's next extract still has it."""
    life = await begin(publisher)
    await life.record("transfer", to_la_code="333", **MOVED)
    amended = life.sent | {"version": version("2026-11-21", unique())}
    other = sent_for(nameless())
    _, lines = await publisher.batch([life.sent, other, amended])
    assert [line["status"] for line in lines] == [409, 201, 409]
    assert lines[0]["problem"]["type"].endswith(":transferred")
    assert f"since {yesterday()}" in lines[0]["problem"]["detail"]
    assert await publisher.plans_of(life.sent["case_reference"]) == 1


async def test_the_new_council_needs_no_key_of_the_old_one(at_hand: PublisherAtHand) -> None:
    """In a process that has never opened anything of the plan."""
    life = await begin(at_hand)
    await life.record("review_scheduled", review="R1", meeting_on="2099-02-01")
    await life.record("family_changed", family=[{"reference": "F1", "role": "parent", "name": "Ben"}], changed_on="2026-03-01")
    await life.record("transfer", to_la_code="333", **MOVED)
    before, after = [
        await at_hand.owner.fetchval("SELECT wrapped_key FROM publisher.council WHERE la_code = $1", la_code)
        for la_code in ("332", "333")
    ]
    assert before != after
    async with started_again(at_hand) as later:
        there = Life(later, life.plan_id, life.version_id, life.sent, "case-system-333")
        lines = await there.read("subscriber-health", TRUST_NAME, ICB_NAME)
        assert [line["outcome"] for line in lines] == ["ok", "ok"]
        assert lines[0]["rendering"]["child"]["family_name"] == "Hartley"
        (line,) = await there.read("subscriber-family", "parent F1")
        assert line["rendering"]["recipient"]["name"] == "Ben"
        assert (await there.amend("2026-11-21", unique()))["version"] == 2
        wrong = (await there.amend("2026-11-22", unique()))["version_id"]
        await there.record("recall", version_id=wrong, reason="wrong_child", aware_at="2026-11-22T00:00:00Z")


async def test_back_and_forth(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("transfer", to_la_code="333", moved_on=yesterday(2), aware_on=yesterday(2))
    life.client = "case-system-333"
    await life.record("transfer", to_la_code="332", **MOVED)
    life.client = "case-system-332"
    await life.amend("2026-11-21", unique())
    assert {seq for _, seq in (await life.held()).values()} == {4}
    custody = [(each["la_code"], each["until_date"]) for each in (await life.shown())["custody"]]
    assert custody == [("332", yesterday(2)), ("333", yesterday())]
    await life.refused(409, "transferred", "restrict", client="case-system-333", reason="court_order")


async def test_every_council_that_had_the_plan_is_kept_in_the_order_of_the_days(publisher: Publisher) -> None:
    """Through two councils on one day; and never away from a council before it came there."""
    life = await begin(publisher)
    on = {"moved_on": yesterday(2), "aware_on": yesterday(2)}
    await life.record("transfer", to_la_code="333", **on)
    life.client = "case-system-333"
    before = {"moved_on": yesterday(3), "aware_on": yesterday(2)}
    body = await life.refused(409, "order", "transfer", to_la_code="332", **before)
    assert body["errors"][0]["field"] == "event/moved_on"
    await life.record("transfer", to_la_code="332", **on)
    life.client = "case-system-332"
    await life.record("transfer", to_la_code="333", **MOVED)
    shown = await life.shown("case-system-333")
    day, now = yesterday(2), yesterday()
    assert [(each["la_code"], each["from_date"], each["until_date"]) for each in shown["custody"]] == [
        ("332", "2026-02-10", day), ("333", day, day), ("332", day, now),
    ]  # fmt: skip


async def test_transfers_that_cannot_be(publisher: Publisher) -> None:
    life = await begin(publisher)
    body = await life.refused(422, "same-council", "transfer", to_la_code="332", **MOVED)
    assert body["errors"][0]["field"] == "event/to_la_code"
    ahead = {"moved_on": "2099-01-01", "aware_on": yesterday()}
    await life.refused(422, "in-future", "transfer", to_la_code="333", **ahead)
    there = submission(life.sent["case_reference"], "333")
    await publisher.issue(there | {"child": nameless()})
    await life.refused(409, "reference-taken", "transfer", to_la_code="333", **MOVED)
    child = await begin(publisher)
    await publisher.issue(sent_for(child.sent["child"]) | {"la_code": "333"})
    await child.refused(409, "same-child", "transfer", to_la_code="333", case_reference=reference(), **MOVED)


async def test_a_late_transfer_is_said_to_be_late(publisher: Publisher) -> None:
    """Aware on Monday 1 June 2026: day one; fifteen working days end on Friday 19 June."""
    life = await begin(publisher)
    body = await life.record("transfer", to_la_code="333", moved_on="2026-06-01", aware_on="2026-06-01")
    assert body["warnings"] == ["It was due by 19 June 2026 (15 working days, reg 15)."]


async def test_a_plan_that_moves_while_it_is_restricted_is_said_by_the_new_council_when_that_is_lifted(
    publisher: Publisher,
) -> None:
    life = await begin(publisher)
    await life.record("restrict", reason="hidden_address")
    assert (await life.record("transfer", to_la_code="333", **MOVED))["shares_changed"] == 0
    assert {each["outcome"] for each in await life.read("subscriber-health", TRUST_NAME)} == {"held"}
    life.client = "case-system-333"
    await life.record("lift")
    assert {seq for _, seq in (await life.held()).values()} == {2}
    assert (await life.instruction(TRUST_NAME))["la_code"] == "333"


async def test_a_removal_that_is_asked_for_goes_on_after_a_move(publisher: Publisher) -> None:
    life = await begin(publisher)
    share_id = str((await life.shares())[TRUST_NAME]["share_id"])
    recall = {"version_id": life.version_id, "reason": "wrong_recipient", "aware_at": "2026-11-02T09:00:00Z"}
    await life.record("recall", shares=[share_id], **recall)
    await life.record("transfer", to_la_code="333", **MOVED)
    said = await life.instruction(TRUST_NAME)
    assert (said["type"], said["la_code"], said["seq"], said["remove"]) == ("recalled", "333", 3, [life.version_id])


async def test_the_new_councils_own_policy_holds_from_the_move_on(at_hand: PublisherAtHand) -> None:
    life = await begin(at_hand)
    policy = {
        "approval": {"data_sharing_agreement": "D", "dpia": "P", "from": "2020-01-01"}, "rules": [], "la_code": "333",
    }  # fmt: skip
    answer = await at_hand.http.put("/v1/policies/333", content=orjson.dumps(policy), headers=await at_hand.headers("operator"))
    assert answer.status_code == 200, answer.text
    body = await life.record("transfer", to_la_code="333", **MOVED)
    assert body["shares_changed"] == 4
    assert (await life.held())[TRUST_NAME] == ("withdraw", 2)
    gaps = (await life.shown("case-system-333"))["share_gaps"]
    assert [each["who"] for each in gaps] == [f"provision: trust {code(TRUST)['scheme']}:{code(TRUST)['value']}"]


async def test_each_recipient_reads_the_identifiers_of_its_own_records_and_nobody_the_address(publisher: Publisher) -> None:
    life = await begin(publisher)
    sent = life.sent["child"]
    names = {name: sent[name] for name in ("family_name", "given_names", "date_of_birth")}
    for client, who, identifiers in (
        ("subscriber-health", TRUST_NAME, ("nhs_number",)),
        ("subscriber-health", ICB_NAME, ("nhs_number",)),
        ("subscriber-school", PRIMARY_NAME, ("upn", "uln")),
        ("subscriber-family", PARENT, ()),
    ):
        (line,) = await life.read(client, who)
        assert line["rendering"]["child"] == names | {name: sent[name] for name in identifiers}
