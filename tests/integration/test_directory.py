"""The directory and the policies over HTTP on real PostgreSQL: refusals, what a change does to plans, and who learns of it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx2
import orjson
import pytest
import pytest_asyncio

from schemas.base import RecipientKind
from schemas.identifiers import CodeScheme, OrganisationCode
from services.ehcp_publisher.directory_changes import DirectoryChanges
from services.ehcp_publisher.registry import Directory, organisation_id
from services.shared.clock import utc_now
from tests.support.publisher import (
    ICB,
    TRUST,
    PublisherAtHand,
    built,
    code,
    placed,
    problem,
    publisher_at_hand,
    started_again,
    submission,
    version,
)
from tests.support.servers import RunningPostgres

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def publisher(postgres_server: RunningPostgres) -> AsyncIterator[PublisherAtHand]:
    async with publisher_at_hand(postgres_server) as at_hand:
        yield at_hand


def school(urn: str, name: str = "Bridge School", *more: dict[str, Any], **changes: Any) -> dict[str, Any]:
    codes = [code(f"urn:{urn}") | {"from": "2020-01-01"}, *more]
    return {"kind": "school", "name": name, "codes": codes, "subscriber": "school", "channel": "inbox"} | changes


async def put(publisher: PublisherAtHand, *lines: Any, client: str = "operator") -> list[dict[str, Any]]:
    content = b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in lines)
    answer = await publisher.http.put("/v1/directory", content=content, headers=await publisher.headers(client))
    assert answer.status_code == 200, answer.text
    return [orjson.loads(line) for line in answer.content.splitlines()]


async def get(publisher: PublisherAtHand, path: str, client: str = "operator") -> httpx2.Response:
    return await publisher.http.get(path, headers=await publisher.headers(client))


def told(answer: dict[str, Any]) -> tuple[str, str]:
    (error,) = answer["problem"]["errors"]
    return error["field"], error["problem"]


def changes_of(publisher: PublisherAtHand) -> DirectoryChanges:
    bound: Any = publisher.parts.work["directory"]
    found = bound.__self__
    assert isinstance(found, DirectoryChanges)
    return found


def directory_of(publisher: PublisherAtHand) -> Directory:
    return changes_of(publisher)._directory


def knows(publisher: PublisherAtHand, urn: str) -> str | None:
    wanted = OrganisationCode(scheme=CodeScheme.URN, value=urn)
    found = directory_of(publisher).find(wanted, frozenset({RecipientKind.SCHOOL}), utc_now().date())
    return found.name if found else None


async def queued(publisher: PublisherAtHand, plan_id: str) -> str | None:
    reason: str | None = await publisher.owner.fetchval(
        "SELECT reason FROM publisher.decision_queue WHERE plan_id = $1", UUID(plan_id)
    )
    return reason


async def test_an_organisation_is_added_changed_and_found(publisher: PublisherAtHand) -> None:
    line = school("700001", "Alder Road School", contact="office@alder.example.org", areas=["332"])
    assert [(a["line"], a["status"], a["result"]) for a in await put(publisher, line)] == [(1, 201, "created")]
    assert [(a["status"], a["result"]) for a in await put(publisher, line)] == [(200, "unchanged")]
    renamed = line | {"name": "Alder Road Academy"}
    assert [(a["status"], a["result"]) for a in await put(publisher, renamed)] == [(200, "changed")]
    for path in ("/v1/directory?q=alder%20road", "/v1/directory?q=700001", "/v1/directory?code=urn:700001"):
        (found,) = (await get(publisher, path, "case-system-332")).json()["recipients"]
        assert found == renamed | {
            "recipient_id": str(organisation_id(RecipientKind.SCHOOL, CodeScheme.URN, "700001")),
            "codes": [{"scheme": "urn", "value": "700001", "from": "2020-01-01", "until": None}],
            "public_key": None, "successors": [],
        }  # fmt: skip
    assert knows(publisher, "700001") == "Alder Road Academy"


async def test_every_change_is_an_act(publisher: PublisherAtHand) -> None:
    line = school("700002", "Birch School")
    await put(publisher, line)
    await put(publisher, line)
    await put(publisher, line | {"channel": "manual"})
    rows = await publisher.owner.fetch(
        "SELECT actor, details FROM audit.pending WHERE act = 'directory_changed' AND details->'codes' ? 'urn:700002'"
        " ORDER BY id"
    )
    assert [(row["actor"], row["details"]["result"], row["details"]["what"]) for row in rows] == [
        ("operator", "created", ["name", "codes", "subscriber", "channel", "areas", "successors"]),
        ("operator", "changed", ["channel"]),
    ]


async def test_each_line_is_refused_with_what_is_wrong_and_the_others_go_through(publisher: PublisherAtHand) -> None:
    await put(
        publisher, school("700010", "Cedar School", code("laestab:3327010") | {"from": "2020-01-01", "until": "2025-08-31"})
    )
    answers = await put(
        publisher,
        school("700011", "Cedar Academy", code("laestab:3327010") | {"from": "2025-08-31"}),
        school("700012", "Cedar Academy", code("laestab:3327010") | {"from": "2025-09-01"}),
        school("700013", subscriber="nobody"),
        school("70001"),
        {"kind": "school", "name": "No code", "codes": []},
        school("700014", "Twice", code("urn:700014") | {"from": "2024-01-01"}),
        school("700015", "Backwards") | {"codes": [code("urn:700015") | {"from": "2025-01-01", "until": "2024-12-31"}]},
        school("700016", kind="parent"),
        school("700017", contact="not an address"),
        school("700018", public_key={"kty": "OKP", "crv": "Ed25519", "x": "AA", "d": "AA"}),
        b'{"kind": "school", ',
        school("700019"),
    )
    assert [answer["status"] for answer in answers] == [409, 201, 409, 422, 422, 422, 422, 422, 422, 422, 400, 201]
    assert told(answers[0]) == (
        "codes/1", "laestab:3327010 is the code of Cedar School (urn:700010) from 2020-01-01 to 2025-08-31",
    )  # fmt: skip
    assert told(answers[2]) == ("subscriber", "no subscriber of this name is registered")
    assert told(answers[3]) == ("codes/0", "URN must be 6 digits")
    assert told(answers[4]) == ("codes", "there is no code")
    assert told(answers[5]) == ("codes", "the same code is listed twice for the same days")
    assert told(answers[6]) == ("codes/0", "a code ends (until) before it begins (from)")
    assert told(answers[7]) == ("(document)", "a person is not listed in the directory")
    assert told(answers[8]) == ("contact", "it is not one e-mail address")
    assert told(answers[9]) == ("public_key", "it is a private key")
    assert knows(publisher, "700012") == "Cedar Academy"
    assert knows(publisher, "700013") is None


async def test_two_lines_of_one_request_about_one_code_are_judged_one_after_the_other(publisher: PublisherAtHand) -> None:
    answers = await put(
        publisher, school("700020", "Elm School"), school("700020", "Elm Academy"),
        school("700021", "Elm Annexe", code("urn:700020") | {"from": "2024-01-01"}),
    )  # fmt: skip
    assert [answer.get("result") for answer in answers] == ["created", "changed", None]
    assert told(answers[2]) == ("codes/1", "urn:700020 is the code of Elm Academy (urn:700020) from 2020-01-01")
    assert knows(publisher, "700020") == "Elm Academy"


async def test_only_an_operator_changes_it(publisher: PublisherAtHand) -> None:
    for client in ("case-system-332", "subscriber-school"):
        answer = await publisher.http.put("/v1/directory", content=b"{}", headers=await publisher.headers(client))
        problem(answer, 403, "not-allowed")
    problem(await get(publisher, "/v1/directory", "subscriber-school"), 403, "not-allowed")


async def test_a_long_list_is_paged_in_order_of_names(publisher: PublisherAtHand) -> None:
    await put(publisher, *(school(f"7001{n:02}", f"Paged {n % 5}") for n in range(12)))
    names, after = [], ""
    while True:
        page = (await get(publisher, f"/v1/directory?q=paged&limit=5{after}")).json()
        names += [each["name"] for each in page["recipients"]]
        if page["next"] is None:
            break
        after = f"&after={httpx2.QueryParams({'a': page['next']})}".replace("after=a=", "after=")
    assert names == sorted(f"Paged {n % 5}" for n in range(12))
    assert (await get(publisher, "/v1/directory?q=%25")).status_code == 422
    assert (await get(publisher, "/v1/directory?q=a%25b_")).json()["recipients"] == []
    answer = problem(await get(publisher, "/v1/directory?code=700001"), 422, "invalid")
    assert answer["errors"][0]["problem"] == "it is not scheme:value"
    answer = problem(await get(publisher, "/v1/directory?code=urn:1"), 422, "invalid")
    assert answer["errors"][0]["field"] == "code"
    problem(await get(publisher, "/v1/directory?after=x"), 422, "invalid")


async def test_an_organisation_that_a_plan_named_before_it_was_registered(publisher: PublisherAtHand) -> None:
    """Its share is there already; registering it makes the plan be decided again."""
    issued = await publisher.issue(submission(version=version(placements=[placed("urn:700030")])))
    assert (await publisher.shares(issued["plan_id"]))["urn:700030 (not in the directory)"]["subscriber"] is None
    assert (await get(publisher, "/v1/directory?code=urn:700030")).json()["recipients"] == []
    await put(publisher, school("700030", "Fir School"))
    assert await queued(publisher, issued["plan_id"]) == "directory"
    again = await publisher.amend(issued["plan_id"], version("2026-03-01", "New text.", placements=[placed("urn:700030")]))
    assert {each["recipient"] for each in again["shares"]} >= {"Fir School"}
    assert (await publisher.shares(issued["plan_id"]))["Fir School"]["subscriber"] == "school"


async def test_only_plans_that_a_change_touches_are_queued(publisher: PublisherAtHand) -> None:
    await put(publisher, school("700031", "Gorse School"))
    touched = await publisher.issue(submission(version=version(placements=[placed("urn:700031")])))
    other = await publisher.issue(submission())
    await put(publisher, school("700031", "Gorse School", contact="office@gorse.example.org"))
    assert await queued(publisher, touched["plan_id"]) is None  # nobody gets anything else by it
    await put(publisher, school("700031", "Gorse School", subscriber="social-care"))
    assert await queued(publisher, touched["plan_id"]) == "directory"
    assert await queued(publisher, other["plan_id"]) is None


async def test_another_process_learns_of_it_before_it_decides(publisher: PublisherAtHand) -> None:
    async with started_again(publisher) as second:
        assert knows(second, "700040") is None
        await put(publisher, school("700040", "Hazel School"))
        await changes_of(second).refresh()
        assert knows(second, "700040") == "Hazel School"
        await put(second, school("700040", "Hazel Academy"))
        await changes_of(publisher).refresh()
        assert knows(publisher, "700040") == "Hazel Academy"
        assert len(directory_of(publisher)) == len(directory_of(second))


async def test_a_start_with_the_same_file_does_not_undo_what_was_changed_since(publisher: PublisherAtHand) -> None:
    trust = next(r for r in registry(publisher)["recipients"] if r["codes"][0]["value"] == "RXK")
    await put(publisher, trust | {"channel": "inbox"})
    async with started_again(publisher) as again:
        (found,) = (await get(again, "/v1/directory?code=ods:RXK")).json()["recipients"]
        assert found["channel"] == "inbox"
    async with started_again(publisher, renamed("RXK", "Sandwell Hospitals")) as again:
        (found,) = (await get(again, "/v1/directory?code=ods:RXK")).json()["recipients"]
        assert (found["name"], found["channel"]) == ("Sandwell Hospitals", "fhir")


def registry(publisher: PublisherAtHand) -> dict[str, Any]:
    content: dict[str, Any] = orjson.loads((publisher.folder / "EHCP_REGISTRY_FILE").read_bytes())
    return content


def renamed(value: str, name: str) -> Any:
    def change(content: dict[str, Any]) -> None:
        next(r for r in content["recipients"] if r["codes"][0]["value"] == value)["name"] = name

    return change


# --- policies ---

APPROVAL = {"data_sharing_agreement": "DSA-9", "dpia": "DPIA-9", "from": "2020-01-01"}


def policy(*rules: dict[str, Any], la_code: str = "333", approval: Any = APPROVAL) -> dict[str, Any]:
    return {"la_code": la_code, "approval": approval, "rules": list(rules)}


def rule(name: str = "trusts", **changes: Any) -> dict[str, Any]:
    base = {"rule": name, "share_with": {"involved": {"kinds": ["trust"]}}, "lawful_basis": "health care", "reason": "cares"}
    return base | changes


async def apply(publisher: PublisherAtHand, content: dict[str, Any], query: str = "") -> httpx2.Response:
    return await publisher.http.put(
        f"/v1/policies/{content['la_code']}{query}", content=orjson.dumps(content), headers=await publisher.headers("operator")
    )


@pytest_asyncio.fixture(loop_scope="session")
async def sandwell(publisher: PublisherAtHand) -> AsyncIterator[None]:
    """Council 333 has, before and after, the policy of the registry file."""
    before = (await get(publisher, "/v1/policies/333")).json()["policy"]
    yield
    await apply(publisher, before)


@pytest.mark.usefixtures("sandwell")
async def test_a_policy_is_applied_and_every_plan_of_its_council_decided_again(publisher: PublisherAtHand) -> None:
    of_333 = await publisher.issue(submission(la_code="333"))
    of_332 = await publisher.issue(submission())
    made = policy(rule(sections=["A", "G"]))
    answer = (await apply(publisher, made)).json()
    assert (answer["result"], answer["off"], answer["plans_to_decide"] >= 1) == ("applied", None, True)
    assert await queued(publisher, of_333["plan_id"]) == "policy"
    assert await queued(publisher, of_332["plan_id"]) is None
    assert (await apply(publisher, made)).json()["result"] == "unchanged"
    shown = (await get(publisher, "/v1/policies/333", "case-system-333")).json()
    assert (shown["applied_by"], shown["sha256"]) == ("operator", answer["sha256"])
    assert shown["policy"]["rules"][0]["sections"] == ["A", "G"]
    rows = await publisher.owner.fetch(
        "SELECT la_code, details FROM audit.pending WHERE act = 'policy_applied' AND actor = 'operator'"
        " ORDER BY id DESC LIMIT 1"
    )
    assert [(row["la_code"], row["details"]["approval"], row["details"]["rules"]) for row in rows] == [
        ("333", "DSA-9; DPIA-9", ["trusts"])
    ]


@pytest.mark.usefixtures("sandwell")
async def test_a_policy_without_approval_is_taken_and_says_that_it_is_off(publisher: PublisherAtHand) -> None:
    answer = (await apply(publisher, policy(rule(), approval=None))).json()
    assert (answer["result"], answer["off"]) == ("applied", "the policy names no approval")
    issued = await publisher.issue(submission(la_code="333"))
    assert "policy" not in {ground for each in issued["shares"] for ground in each["grounds"]}


async def test_a_policy_that_names_nobody_known_is_refused(publisher: PublisherAtHand) -> None:
    named = rule(share_with={"organisation": {"kind": "gp", "scheme": "ods", "value": "M87999"}})
    answer = problem(await apply(publisher, policy(rule("first"), named)), 422, "unknown-organisation")
    assert [(e["field"], e["problem"]) for e in answer["errors"]] == [
        ("rules/1/share_with/organisation", "ods:M87999 is not in the directory")
    ]


async def test_a_policy_with_a_contradiction_is_refused(publisher: PublisherAtHand) -> None:
    content = policy(rule("a"), rule("b", exclude=True, lawful_basis=None))
    answer = problem(await apply(publisher, content), 422, "invalid")
    assert answer["errors"][0]["problem"] == "rules a and b contradict each other: what one shares, the other excludes"


async def test_a_council_has_its_own_policy_only(publisher: PublisherAtHand) -> None:
    headers = await publisher.headers("operator")
    answer = await publisher.http.put("/v1/policies/332", content=orjson.dumps(policy(rule())), headers=headers)
    assert problem(answer, 422, "invalid")["errors"][0]["problem"] == "it is another council's policy"
    problem(await get(publisher, "/v1/policies/333", "case-system-332"), 403, "wrong-council")
    problem(await get(publisher, "/v1/policies/999"), 403, "wrong-council")
    answer = await publisher.http.put(
        "/v1/policies/332", content=orjson.dumps(policy(rule(), la_code="332")),
        headers=await publisher.headers("case-system-332"),
    )  # fmt: skip
    problem(answer, 403, "not-allowed")


async def explain(publisher: PublisherAtHand, la_code: str, asked: dict[str, Any], client: str = "operator") -> httpx2.Response:
    return await publisher.post(f"/v1/policies/{la_code}/explain", asked, client)


async def test_a_plan_is_explained_by_the_policy_that_holds(publisher: PublisherAtHand) -> None:
    issued = await publisher.issue(submission())
    answer = (await explain(publisher, "332", {"plan_id": issued["plan_id"]}, "case-system-332")).json()
    assert (answer["off"], answer["draft"]) == (None, False)
    by_name = {each["rule"]: each for each in answer["rules"]}
    assert by_name["involved-trusts"]["applies"]
    assert [each["name"] for each in by_name["involved-trusts"]["recipients"]] == ["The Dudley Group NHS Foundation Trust"]
    assert by_name["virtual-school-of-carer"]["why_not"] == ["no council looks after the child"]
    assert [(s["recipient"], s["rules"], s["by_law"]) for s in answer["shares"]] == [
        ("The Dudley Group NHS Foundation Trust", ["involved-trusts"], False)
    ]
    assert await publisher.acts(issued["plan_id"]) == [
        "issued", *["shared"] * len(issued["shares"]), "policy_explained",
    ]  # fmt: skip


async def test_a_draft_is_explained_before_it_applies(publisher: PublisherAtHand) -> None:
    issued = await publisher.issue(submission())
    draft = policy(rule("icb", share_with={"organisation": {"kind": "commissioning_body", **code(ICB)}}), la_code="332")
    answer = (await explain(publisher, "332", {"plan_id": issued["plan_id"], "policy": draft})).json()
    assert [(s["recipient"], s["by_law"]) for s in answer["shares"]] == [("NHS Black Country Integrated Care Board", True)]
    assert answer["draft"]
    still = (await get(publisher, "/v1/policies/332")).json()["policy"]
    assert "icb" not in {each["rule"] for each in still["rules"]}


async def test_circumstances_that_somebody_thought_up_are_explained(publisher: PublisherAtHand) -> None:
    around = {
        "looked_after_by": "332", "resident_in": "333",
        "involved": [{"role": "provision", "organisation": code(TRUST), "sections": ["G"]}],
    }  # fmt: skip
    asked = {"circumstances": around, "date_of_birth": "2014-05-06", "sections": ["A", "B", "F", "G"]}
    answer = (await explain(publisher, "332", asked)).json()
    assert [(s["recipient"], s["sections"]) for s in answer["shares"]] == [
        ("The Dudley Group NHS Foundation Trust", None),
        ("Dudley Virtual School", ["A", "B", "E", "F", "I"]),
        ("Sandwell Virtual School", ["A", "B", "E", "F", "I"]),
    ]


async def test_what_cannot_be_explained_is_refused(publisher: PublisherAtHand) -> None:
    problem(await explain(publisher, "332", {}), 422, "invalid")
    problem(await explain(publisher, "332", {"plan_id": str(UUID(int=1))}), 404, "unknown-plan")
    of_333 = await publisher.issue(submission(la_code="333"))
    problem(await explain(publisher, "332", {"plan_id": of_333["plan_id"]}), 404, "unknown-plan")
    problem(await explain(publisher, "333", {"circumstances": {}}, "case-system-332"), 403, "wrong-council")


async def test_a_dry_run_counts_what_would_change_and_changes_nothing(postgres_server: RunningPostgres) -> None:
    async with publisher_at_hand(postgres_server) as publisher:
        for _ in range(3):
            await publisher.issue(submission())  # each shared with the trust by policy
        social_care = {"organisation": {"kind": "social_care", **code("la:332")}}
        for content, counted in (
            (policy(rule(), la_code="332", approval=None), (0, 3, 0)),
            (policy(rule(sections=["A"]), la_code="332"), (0, 0, 3)),
            (policy(rule(), rule("social", share_with=social_care), la_code="332"), (3, 0, 0)),
        ):
            answer = (await apply(publisher, content, "?dry_run=true")).json()
            told_ = (answer["shares_added"], answer["shares_withdrawn"], answer["shares_changed"])
            assert (answer["result"], answer["plans"], told_) == ("dry_run", 3, counted)
        assert await publisher.owner.fetchval("SELECT count(*) FROM publisher.sharing_policy") == 2  # those of the file
        assert await publisher.owner.fetchval("SELECT count(*) FROM publisher.decision_queue") == 0


async def test_a_decision_and_a_change_of_the_directory_do_not_cross(publisher: PublisherAtHand) -> None:
    """Whoever decides holds the directory; a change waits, and then finds the plan."""
    async with publisher.owner.acquire() as deciding:
        transaction = deciding.transaction()
        await transaction.start()
        await deciding.execute("SELECT publisher.hold_directory()")
        async with publisher.owner.acquire() as changing:
            free = await changing.fetchval("SELECT pg_try_advisory_lock(hashtext('ehcp.directory'))")
        await transaction.rollback()
    assert free is False


async def test_a_registry_file_with_two_organisations_of_one_code_stops_the_start(publisher: PublisherAtHand) -> None:
    def change(content: dict[str, Any]) -> None:
        content["recipients"].append(school("700050", "Twin School", code("urn:993202") | {"from": "2020-01-01"}))

    with pytest.raises(Exception, match=r"recipients/.*urn:993202 is the code of Saltwells Brook Primary School"):
        async with started_again(publisher, change):
            pass
    async with built(publisher.environment):
        pass


async def test_plans_of_a_new_policy_are_decided_again_by_the_queue(postgres_server: RunningPostgres) -> None:
    """From the whole plan to one section, to nothing, and to one who was not involved: each with a higher ``seq``."""
    async with publisher_at_hand(postgres_server) as publisher:
        plan_id = (await publisher.issue(submission()))["plan_id"]
        trust, social_care = "The Dudley Group NHS Foundation Trust", "Dudley Children's Social Care"

        async def decided() -> dict[str, tuple[str, int]]:
            await empty_the_queue(publisher)
            shares = await publisher.shares(plan_id)
            return {name: (row["action"], row["seq"]) for name, row in shares.items() if name in (trust, social_care)}

        assert await decided() == {trust: ("hold", 1)}
        await apply(publisher, policy(rule(sections=["A"]), la_code="332"))
        assert await decided() == {trust: ("hold", 2)}
        named = {"organisation": {"kind": "social_care", **code("la:332")}}
        await apply(publisher, policy(rule("social-care", share_with=named), la_code="332"))
        assert await decided() == {trust: ("withdraw", 3), social_care: ("hold", 1)}
        await apply(publisher, policy(rule("social-care", share_with=named), la_code="332", approval=None))
        assert await decided() == {trust: ("withdraw", 3), social_care: ("withdraw", 2)}


async def test_a_school_that_is_registered_gets_the_plan_that_names_it(postgres_server: RunningPostgres) -> None:
    async with publisher_at_hand(postgres_server) as publisher:
        plan_id = (await publisher.issue(submission(version=version(placements=[placed("urn:700060")]))))["plan_id"]
        await put(publisher, school("700060", "Ivy School"))
        await empty_the_queue(publisher)
        shares = await publisher.shares(plan_id)
        assert (shares["Ivy School"]["action"], shares["Ivy School"]["subscriber"]) == ("hold", "school")


async def test_an_organisation_that_moves_to_another_subscriber_is_handed_over(postgres_server: RunningPostgres) -> None:
    async with publisher_at_hand(postgres_server) as publisher:
        await put(publisher, school("700070", "Juniper School"))
        plan_id = (await publisher.issue(submission(version=version(placements=[placed("urn:700070")]))))["plan_id"]
        await put(publisher, school("700070", "Juniper School", subscriber="social-care", channel="webhook"))
        await empty_the_queue(publisher)
        share = (await publisher.shares(plan_id))["Juniper School"]
        assert (share["subscriber"], share["action"], share["seq"]) == ("social-care", "hold", 2)
        told_ = [(row["topic"], row["type"]) for row in await publisher.outbox(share["share_id"])]
        assert told_[-1] == ("ehcp.shares.social-care.v1", "ehcp.share.requested.v1")


async def test_a_service_of_a_council_that_a_plan_does_not_name_is_found_when_it_is_registered(
    postgres_server: RunningPostgres,
) -> None:
    """The virtual school of the council that looks after the child follows from the policy, not from a code in the plan."""
    async with publisher_at_hand(postgres_server) as publisher:
        plan_id = (await publisher.issue(submission(version=version(looked_after_by="335"))))["plan_id"]
        virtual_school = {
            "kind": "virtual_school", "name": "Walsall Virtual School", "codes": [code("la:335")], "subscriber": "school",
        }  # fmt: skip
        await put(publisher, virtual_school)
        await empty_the_queue(publisher)
        assert (await publisher.shares(plan_id))["Walsall Virtual School"]["action"] == "hold"


async def empty_the_queue(publisher: PublisherAtHand) -> None:
    bound: Any = publisher.parts.work["redeciding"]
    async with asyncio.timeout(120):  # of plans that other tests left, too
        while await bound.__self__.step():
            pass
