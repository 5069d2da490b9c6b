"""The publisher over HTTP on real PostgreSQL: first and further versions, and what is written for them."""

import orjson
import pytest

from tests.support.publisher import (
    NURSERY,
    PRIMARY,
    SECONDARY,
    SOCIAL_CARE,
    Publisher,
    code,
    placed,
    problem,
    submission,
    version,
)

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

SCHOOL_NAME, HIGH_NAME = "Saltwells Brook Primary School", "Earls Keep High School"
ICB_NAME, TRUST_NAME = "NHS Black Country Integrated Care Board", "The Dudley Group NHS Foundation Trust"


async def test_a_first_version_is_stored_shared_and_told(publisher: Publisher) -> None:
    sent = submission()
    body = await publisher.issue(sent)
    assert (body["version"], body["status"], body["case_reference"]) == (1, "issued", sent["case_reference"])
    assert body["warnings"] == []
    told = {
        each["recipient"]: (each["recipient_kind"], each["seq"], each["channel"], each["grounds"]) for each in body["shares"]
    }
    assert told == {
        "parent M1": ("parent", 1, "manual", ["statutory"]),
        SCHOOL_NAME: ("school", 1, "inbox", ["statutory"]),
        ICB_NAME: ("commissioning_body", 1, "inbox", ["statutory"]),
        TRUST_NAME: ("trust", 1, "fhir", ["policy"]),
    }
    written = await publisher.shares(body["plan_id"])
    assert {name: row["subscriber"] for name, row in written.items()} == {
        "parent M1": "family", SCHOOL_NAME: "school", ICB_NAME: "health", TRUST_NAME: "health",
    }  # fmt: skip
    share_ids = [row["share_id"] for row in written.values()]
    assert (
        await publisher.owner.fetchval(
            "SELECT count(*) FROM publisher.unsatisfied WHERE share_id = ANY($1) AND seq = 1", share_ids
        )
        == 4
    )
    outbox = await publisher.outbox(body["plan_id"], *share_ids)
    assert sorted((row["topic"], row["type"]) for row in outbox) == [
        ("ehcp.events.v1", "ehcp.plan.finalised.v1"),
        ("ehcp.shares.family.v1", "ehcp.share.requested.v1"),
        ("ehcp.shares.health.v1", "ehcp.share.requested.v1"),
        ("ehcp.shares.health.v1", "ehcp.share.requested.v1"),
        ("ehcp.shares.school.v1", "ehcp.share.requested.v1"),
    ]
    assert await publisher.acts(body["plan_id"]) == ["issued", "shared", "shared", "shared", "shared"]
    instructions = await publisher.owner.fetch("SELECT * FROM publisher.instruction WHERE share_id = ANY($1)", share_ids)
    by_share = {row["key"]: row["data"] for row in outbox}
    assert {str(row["share_id"]): orjson.loads(row["data"]) for row in instructions} == {
        str(share_id): by_share[str(share_id)] for share_id in share_ids
    }
    of_trust = by_share[str(written[TRUST_NAME]["share_id"])]
    assert of_trust["recipient"] == {"kind": "trust", "scheme": "ods", "value": "RNA"}
    assert (of_trust["sections"], of_trust["changed_sections"]) == (["A", "B"], ["A", "B"])


async def test_a_further_version_replaces_it_under_a_higher_seq_and_says_what_changed(publisher: Publisher) -> None:
    first = await publisher.issue(submission())
    second = await publisher.amend(first["plan_id"], version("2026-03-02", "Rowan likes buses."))
    assert (second["version"], second["status"]) == (2, "issued")
    assert [each["seq"] for each in second["shares"]] == [2, 2, 2, 2]
    assert {each["share_id"] for each in second["shares"]} == {each["share_id"] for each in first["shares"]}
    rows = await publisher.outbox(first["plan_id"], *(each["share_id"] for each in first["shares"]))
    amended = [row["data"] for row in rows if row["type"] == "ehcp.plan.amended.v1"]
    assert [(each["replaces"], each["changed_sections"]) for each in amended] == [(first["version_id"], ["A"])]
    requested = [row["data"] for row in rows if row["type"] == "ehcp.share.requested.v1"]
    assert [(each["seq"], each["changed_sections"]) for each in requested] == [(1, ["A", "B"])] * 4 + [(2, ["A"])] * 4
    assert await publisher.acts(first["plan_id"]) == ["issued", *["shared"] * 4] * 2


async def test_a_repeat_is_harmless(publisher: Publisher) -> None:
    sent = submission()
    first = await publisher.issue(sent)
    again = await publisher.post("/v1/plans", sent)
    assert again.status_code == 200
    assert (again.json()["status"], again.json()["plan_id"]) == ("unchanged", first["plan_id"])
    assert again.json()["version_id"] == first["version_id"]
    by_id = await publisher.post(f"/v1/plans/{first['plan_id']}/versions", {"version": sent["version"]})
    assert (by_id.status_code, by_id.json()["version_id"]) == (200, first["version_id"])
    assert await publisher.versions_of(first["plan_id"]) == [1]
    assert await publisher.acts(first["plan_id"]) == ["issued", "shared", "shared", "shared", "shared"]


async def test_a_corrected_code_or_address_is_no_repeat(publisher: Publisher) -> None:
    """The same text on the same day, but for another school and from another house."""
    sent = submission(version=version(placements=[placed("urn:100007")]))
    first = await publisher.issue(sent)
    family = [{"reference": "M1", "role": "parent", "name": "Ann Hartley", "address": ["2 New Street"]}]
    second = await publisher.amend(first["plan_id"], version(placements=[placed(PRIMARY)], family=family))
    assert (second["status"], second["version"], second["warnings"]) == ("issued", 2, [])
    shares = await publisher.shares(first["plan_id"])
    assert {name: (row["seq"], row["action"]) for name, row in shares.items()} == {
        "urn:100007 (not in the directory)": (2, "withdraw"), SCHOOL_NAME: (1, "hold"), "parent M1": (2, "hold"),
        ICB_NAME: (2, "hold"), TRUST_NAME: (2, "hold"),
    }  # fmt: skip
    unknown = shares["urn:100007 (not in the directory)"]["share_id"]
    assert not await publisher.owner.fetchval("SELECT count(*) FROM publisher.unsatisfied WHERE share_id = $1", unknown), (
        "nobody will ever answer for a withdrawal that nobody gets"
    )
    (line,) = await publisher.read("subscriber-family", (shares["parent M1"]["share_id"], 2))
    assert line["rendering"]["recipient"]["address"] == ["2 New Street"]
    assert line["rendering"]["changed_sections"] == []


@pytest.mark.parametrize("changes", [{"nhs_number": "9434765870"}, {"date_of_birth": "2014-06-05"}, {"given_names": "Rowan"}])
async def test_a_repeat_with_other_details_of_the_child_is_not_taken_for_one(
    publisher: Publisher, changes: dict[str, str]
) -> None:
    sent = submission()
    first = await publisher.issue(sent)
    body = problem(await publisher.post("/v1/plans", sent | {"child": sent["child"] | changes}), 409, "child-differs")
    assert body["plan_id"] == first["plan_id"]
    assert [each["field"] for each in body["errors"]] == [f"child/{name}" for name in changes]
    for value in changes.values():
        assert value not in orjson.dumps(body["errors"]).decode()
    assert (await publisher.post("/v1/plans", sent)).status_code == 200


async def test_identical_text_under_another_date_is_refused_and_nothing_kept(publisher: Publisher) -> None:
    first = await publisher.issue(submission())
    answer = await publisher.post(f"/v1/plans/{first['plan_id']}/versions", {"version": version("2026-06-01")})
    body = problem(answer, 409, "same-text")
    assert "Version 1, issued on 2026-02-10" in body["detail"]
    assert (body["plan_id"], body["version_id"]) == (first["plan_id"], first["version_id"])
    assert await publisher.versions_of(first["plan_id"]) == [1]
    assert {row["seq"] for row in (await publisher.shares(first["plan_id"])).values()} == {1}


async def test_an_older_version_that_comes_late_is_kept_as_history_and_not_shared(publisher: Publisher) -> None:
    first = await publisher.issue(submission())
    answer = await publisher.post(f"/v1/plans/{first['plan_id']}/versions", {"version": version("2025-02-10", "Older.")})
    assert answer.status_code == 201
    body = answer.json()
    assert (body["status"], body["version"]) == ("kept_as_history", 2)
    assert body["warnings"] == ["Issued before the current version (2026-02-10); kept as history and not shared."]
    assert await publisher.versions_of(first["plan_id"]) == [1, 2]
    shares = await publisher.shares(first["plan_id"])
    assert {(row["seq"], str(row["version_id"])) for row in shares.values()} == {(1, first["version_id"])}
    assert [row["type"] for row in await publisher.outbox(first["plan_id"])] == ["ehcp.plan.finalised.v1"]
    assert (await publisher.acts(first["plan_id"]))[-1] == "issued"
    third = await publisher.amend(first["plan_id"], version("2026-03-02", "Newer."))
    assert (third["version"], third["shares"][0]["seq"]) == (3, 2)


async def test_another_first_version_for_a_case_reference_in_use_is_told_where_to_go(publisher: Publisher) -> None:
    sent = submission()
    first = await publisher.issue(sent)
    answer = await publisher.post("/v1/plans", sent | {"version": version("2026-03-02", "Another text.")})
    body = problem(answer, 409, "plan-exists")
    assert f"/v1/plans/{first['plan_id']}/versions" in body["detail"]
    assert body["plan_id"] == first["plan_id"]


async def test_who_is_no_longer_named_is_withdrawn_and_may_come_back(publisher: Publisher) -> None:
    first = await publisher.issue(submission())
    plan_id, school = first["plan_id"], (await publisher.shares(first["plan_id"]))[SCHOOL_NAME]
    second = await publisher.amend(plan_id, version("2026-03-02", "Moves.", placements=[placed(SECONDARY, "2026-03-02")]))
    assert {each["recipient"] for each in second["shares"]} == {"parent M1", HIGH_NAME, ICB_NAME, TRUST_NAME}
    gone = (await publisher.shares(plan_id))[SCHOOL_NAME]
    assert (gone["share_id"], gone["seq"], gone["action"]) == (school["share_id"], 2, "withdraw")
    told = (await publisher.outbox(school["share_id"]))[-1]
    assert (told["topic"], told["type"]) == ("ehcp.shares.school.v1", "ehcp.share.withdrawn.v1")
    assert told["data"]["recipient"] == {"kind": "school", "scheme": "urn", "value": "993202"}
    open_grounds = "SELECT count(*) FROM publisher.share_ground WHERE share_id = $1 AND until_date IS NULL"
    assert await publisher.owner.fetchval(open_grounds, school["share_id"]) == 0
    assert "withdrawn" in await publisher.acts(plan_id)

    third = await publisher.amend(
        plan_id, version("2026-04-01", "Moves again.", placements=[placed(SECONDARY), placed(PRIMARY)])
    )
    assert {each["recipient"]: each["seq"] for each in third["shares"]}[SCHOOL_NAME] == 3
    assert (await publisher.shares(plan_id))[SCHOOL_NAME]["action"] == "hold"
    assert await publisher.owner.fetchval(open_grounds, school["share_id"]) == 1
    await publisher.amend(plan_id, version("2026-05-01", "Once more.", placements=[]))
    fifth = await publisher.amend(plan_id, version("2026-06-01", "And after.", placements=[]))
    assert SCHOOL_NAME not in {each["recipient"] for each in fifth["shares"]}
    assert (await publisher.shares(plan_id))[SCHOOL_NAME]["seq"] == 4, "withdrawn once, and then left alone"


@pytest.mark.parametrize("named_by", ["laestab:3329902", "urn:993202"])
async def test_every_instruction_names_a_school_by_the_same_code(publisher: Publisher, named_by: str) -> None:
    """An inbox is opened under one code: a withdrawal under another would be addressed to nobody."""
    first = await publisher.issue(submission(version=version(placements=[placed(named_by)])))
    await publisher.amend(first["plan_id"], version("2026-03-02", "Two.", placements=[placed("urn:993202")]))
    await publisher.amend(first["plan_id"], version("2026-04-02", "Three.", placements=[]))
    school = (await publisher.shares(first["plan_id"]))[SCHOOL_NAME]
    rows = await publisher.outbox(school["share_id"])
    assert [row["data"]["recipient"] for row in rows] == [{"kind": "school", "scheme": "urn", "value": "993202"}] * 3


async def test_an_unknown_recipient_is_a_share_that_is_seen_to_be_undeliverable(publisher: Publisher) -> None:
    sent = submission(version=version(placements=[placed("urn:100007")], commissioning_bodies=[code("ods:XYZ")]))
    body = await publisher.issue(sent)
    assert len(body["warnings"]) == 2
    assert all("not in the directory" in warning for warning in body["warnings"])
    shares = await publisher.shares(body["plan_id"])
    for name, kind in [
        ("urn:100007 (not in the directory)", "school"),
        ("ods:XYZ (not in the directory)", "commissioning_body"),
    ]:
        row = shares[name]
        assert (row["kind"], row["subscriber"], row["action"]) == (kind, None, "hold")
        assert await publisher.outbox(row["share_id"]) == []
        assert await publisher.owner.fetchval("SELECT count(*) FROM publisher.unsatisfied WHERE share_id = $1", row["share_id"])
    again = await publisher.issue(submission(version=version(placements=[placed("urn:100007")])))
    assert (await publisher.shares(again["plan_id"])).keys() >= {"urn:100007 (not in the directory)"}


async def test_early_years_and_social_care(publisher: Publisher) -> None:
    involved = [{"role": "advice", "organisation": code(SOCIAL_CARE)}]
    body = await publisher.issue(submission(version=version(placements=[placed(NURSERY)], involved=involved)))
    assert {each["recipient_kind"]: each["channel"] for each in body["shares"]} == {
        "parent": "manual", "early_years": "inbox", "commissioning_body": "inbox", "social_care": "webhook",
    }  # fmt: skip
