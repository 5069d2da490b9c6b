"""One plan from the council's finalise to every recipient's own record, and its next version."""

import hashlib
import json
from typing import Any

import pytest

from tests.e2e.children import new_child
from tests.e2e.exchange import Exchange
from tests.support.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


async def test_every_recipient_gets_the_first_version_and_then_the_second(exchange: Exchange) -> None:
    child = new_child()
    patient = await exchange.add_patient(child.patient)

    [first] = await exchange.issue([child.first()], render=True)
    assert first["status"] == 201
    assert first["version"] == 1
    assert {share["recipient_kind"] for share in first["shares"]} == {
        "parent", "school", "commissioning_body", "trust", "social_care",
    }  # fmt: skip
    await until(lambda: settled(exchange, first["plan_id"], 1), within=60, what="version 1 is everywhere")

    [document] = [each for each in await exchange.documents(patient) if each["status"] == "current"]
    held = (await exchange.holders(first["plan_id"]))["trust"]
    assert held["held_record"] == f"DocumentReference/{document['id']}"
    assert (await exchange.file_of(document)).startswith(b"%PDF-")

    [second] = await exchange.issue([{"plan_id": first["plan_id"], "version": child.version(2)}], render=True)
    assert second["version"] == 2
    await until(lambda: settled(exchange, first["plan_id"], 2), within=60, what="version 2 is everywhere")
    documents = await exchange.documents(patient)
    assert sorted(each["status"] for each in documents) == ["current", "superseded"]


async def test_a_person_opens_and_an_officer_sends_and_both_become_receipts(exchange: Exchange) -> None:
    child = new_child()
    await exchange.add_patient(child.patient)
    [issued] = await exchange.issue([child.first()], render=True)
    plan = issued["plan_id"]
    await until(lambda: settled(exchange, plan, 1), within=60, what="version 1 is everywhere")
    before = await exchange.holders(plan)
    assert before["school"]["satisfied"] is False  # sent is not enough: nobody has opened it

    reader = await exchange.headers("inbox-urn-993204", issuer="school_subscriber")
    share = before["school"]["share_id"]
    item = await exchange.http.get(f"{exchange.url('school_subscriber')}/v1/inbox/{share}", headers=reader)
    assert item.status_code == 200
    assert item.json()["child"]["family_name"] == "Okonjo-Testley"
    file = await exchange.http.get(f"{exchange.url('school_subscriber')}/v1/inbox/{share}/files/0", headers=reader)
    assert file.content.startswith(b"%PDF-")
    assert await until(lambda: holder(exchange, plan, "school", "opened"), within=60, what="the opening is known")

    other_school = await exchange.headers("inbox-urn-993203", issuer="school_subscriber")
    refused = await exchange.http.get(f"{exchange.url('school_subscriber')}/v1/inbox/{share}", headers=other_school)
    assert refused.status_code == 404

    parent = before["parent"]
    body = {"seq": parent["seq"], "sent_on": "2026-01-16", "how": "post", "by": "J. Officer"}
    address = f"{exchange.url('family_subscriber')}/v1/deliveries/{parent['share_id']}/sent"
    sent = await exchange.http.post(address, json=body, headers=await exchange.headers())
    assert sent.status_code == 200, sent.text
    again = await exchange.http.post(address, json=body, headers=await exchange.headers())
    assert again.json()["recorded"] is False
    assert await until(lambda: holder(exchange, plan, "parent", "sent"), within=60, what="the sending is known")


async def test_of_a_detained_child_two_services_of_one_council_have_each_its_own_copy(exchange: Exchange) -> None:
    child = new_child()
    await exchange.add_patient(child.patient)
    line = child.first()
    line["version"]["detained_at"] = {"scheme": "urn", "value": "993299"}
    [issued] = await exchange.issue([line])
    plan = issued["plan_id"]
    social_care = await until(lambda: holder(exchange, plan, "social_care", "filed"), within=60, what="filed by social care")
    youths = await until(lambda: holder(exchange, plan, "youth_offending_service", "sent"), within=60, what="in the inbox")

    reader = await exchange.headers("inbox-youth_offending_service-la-332", issuer="social_care_subscriber")
    pages = exchange.url("social_care_subscriber")
    listed = await exchange.http.get(f"{pages}/v1/inbox", headers=reader)
    assert youths["share_id"] in {each["share_id"] for each in listed.json()["items"]}
    item = await exchange.http.get(f"{pages}/v1/inbox/{youths['share_id']}", headers=reader)
    assert item.json()["child"]["family_name"] == "Okonjo-Testley"
    assert await until(lambda: holder(exchange, plan, "youth_offending_service", "opened"), within=60, what="opened")
    stated = await exchange.http.post(
        f"{pages}/v1/recalls/{social_care['share_id']}/removed", headers=reader,
        json={"seq": social_care["seq"], "how": "deleted", "removed_on": "2026-01-16", "by": "J. Worker"},
    )  # fmt: skip
    assert stated.status_code == 404


async def test_the_trusts_copy_is_the_bytes_that_the_council_issued(exchange: Exchange) -> None:
    child = new_child()
    patient = await exchange.add_patient(child.patient)
    [issued] = await exchange.issue([child.first()], render=True)
    await until(lambda: settled(exchange, issued["plan_id"], 1), within=60, what="version 1 is everywhere")
    [row] = await exchange.query(
        "ehcp_publisher",
        "SELECT g.manifest::text FROM publisher.rendering g WHERE g.version_id = $1::text::uuid",
        issued["version_id"],
    )
    [document] = await exchange.documents(patient)
    expected = json.loads(row["manifest"])["document"]["sha256"]
    assert hashlib.sha256(await exchange.file_of(document)).hexdigest() == expected


async def test_doubt_about_the_child_is_refused_with_a_reason_that_names_nobody(exchange: Exchange) -> None:
    unknown = new_child()
    [issued] = await exchange.issue([unknown.first()])
    trust = await until(lambda: holder(exchange, issued["plan_id"], "trust", "refused"), within=60, what="refused")
    assert unknown.nhs_number not in trust["reason"]
    assert "Okonjo" not in trust["reason"]
    others = await until(lambda: holder(exchange, issued["plan_id"], "social_care", "filed"), within=60)
    assert others["held_version"] == 1


async def settled(exchange: Exchange, plan_id: str, version: int) -> bool:
    """Whether every recipient has this version as far as machines can bring it there."""
    expected = {
        "parent": "waiting", "school": "sent", "commissioning_body": "sent", "trust": "filed", "social_care": "filed",
    }  # fmt: skip
    holders = await exchange.holders(plan_id)
    statuses = {kind: (each["status"], each["version"]) for kind, each in holders.items()}
    machines = all(holders[kind]["held_version"] == version for kind in holders if kind != "parent")
    return machines and statuses == {kind: (status, version) for kind, status in expected.items()}


async def holder(exchange: Exchange, plan_id: str, kind: str, status: str) -> dict[str, Any]:
    found = (await exchange.holders(plan_id)).get(kind, {})
    return found if found.get("status") == status else {}
