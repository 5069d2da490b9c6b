"""What has another child in it, or nothing of this one, leaves only after a second person has looked. Breaches among them."""

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import orjson
import pytest

from services.ehcp_publisher import store_guard
from tests.support.files import pdf_of, word_of
from tests.support.lives import (
    ANOTHER,
    ICB_NAME,
    OFFICER,
    PARENT,
    PRIMARY_NAME,
    SOCIAL_CARE_NAME,
    TRUST_NAME,
    Life,
    begin,
    begin_with,
    unique,
    yesterday,
)  # fmt: skip
from tests.support.publisher import (
    ICB,
    Publisher,
    child_of,
    code,
    part,
    problem,
    publisher_at_hand,
    reference,
    running_publisher,
    submission,
    version,
)  # fmt: skip
from tests.support.servers import RunningPostgres
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]
OWN = "Rowan James Hartley"


def other_child(la_code: str = "333", **changes: Any) -> dict[str, Any]:
    """A plan of somebody else, at another council."""
    case_reference = reference()
    return submission(case_reference, la_code, child=child_of(case_reference) | changes)


def spaced(nhs_number: str) -> str:
    return f"{nhs_number[:3]} {nhs_number[3:6]} {nhs_number[6:]}"


async def amended(life: Life, text: str, issued_on: str = "2026-03-02", **more: Any) -> dict[str, Any]:
    answer = await life.publisher.post(
        f"/v1/plans/{life.plan_id}/versions", {"version": version(issued_on, text), **more}, life.client
    )
    return {**answer.json(), "http": answer.status_code}


async def uploaded(life: Life, document: bytes | None = None, *attachments: bytes, issued_on: str = "2026-03-02") -> Any:
    sent = {"version": version(issued_on, unique())}
    parts = [part("submission", orjson.dumps(sent))]
    parts += [part("document", document, "plan.pdf")] if document else []
    parts += [part("attachment", each, "file") for each in attachments]
    answer = await life.publisher.upload(*parts, path=f"/v1/plans/{life.plan_id}/versions")
    return {**answer.json(), "http": answer.status_code}


def found(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["kind"], each["where"]) for each in answer.get("findings", ())]


async def listed(publisher: Publisher, what: str, plan_id: str) -> list[dict[str, Any]]:
    answer = await publisher.http.get(f"/v1/{what}", headers=await publisher.headers())
    return [row for row in answer.json()[what] if row["plan_id"] == plan_id]


async def test_a_pasted_section_of_another_councils_child_holds_the_version(publisher: Publisher) -> None:
    other = other_child()
    strange = await publisher.issue(other, "case-system-333")
    life = await begin(publisher)
    before, outbox = await life.held(), await publisher.outbox(life.plan_id)
    held = await amended(life, f"He reads. NHS number {spaced(other['child']['nhs_number'])}.")
    assert (held["http"], held["status"], held["version"]) == (202, "held", 2)
    assert held["findings"] == [{"kind": "other_nhs_number", "where": "section A", "pages": [], "count": 1, "waived": False}]
    assert "an NHS number of another child (section A)" in held["warnings"][0]
    # Nothing of whose it is, and nothing to anybody.
    assert all(
        str(secret) not in str(held) for secret in (strange["plan_id"], other["case_reference"], other["child"]["nhs_number"])
    )
    assert await life.held() == before
    assert await publisher.outbox(life.plan_id) == outbox
    (line,) = await life.read("subscriber-health", TRUST_NAME)
    assert (line["outcome"], line["rendering"]["version"]) == ("ok", 1)
    # It is seen: by everyone who looks at the plan.
    shown = await life.shown()
    assert (shown["current"]["version"], shown["to_confirm"], shown["held"]) == (1, True, 1)
    assert [(each["version_id"], each["asked_by"], each["released"]) for each in shown["holds"]] == [
        (held["version_id"], "case-system-332", None)
    ]
    assert "held" in [each["code"] for each in shown["flags"]]
    (row,) = await listed(publisher, "confirmations", life.plan_id)
    assert (row["name"], row["recipient"], row["reason"]) == (
        held["version_id"], "held version", "an NHS number of another child (section A)"
    )  # fmt: skip
    assert "held" in [row["name"] for row in await listed(publisher, "flags", life.plan_id)]
    # Sent again: the same answer.
    again = await amended(life, f"He reads. NHS number {spaced(other['child']['nhs_number'])}.")
    assert again == held
    assert await publisher.versions_of(life.plan_id) == [1, 2]


async def test_another_name_under_a_known_reference_is_asked_about_when_the_version_is_released(publisher: Publisher) -> None:
    """Who looked at the text has said nothing about who gets it."""
    other = other_child()
    await publisher.issue(other, "case-system-333")
    life = await begin(publisher)
    before = await life.held()
    stranger = [{"reference": "M1", "role": "parent", "name": "Zoe Unrelated"}]
    path = f"/v1/plans/{life.plan_id}/versions"
    sent = {"version": version("2026-03-02", f"UPN {other['child']['upn']}", family=stranger)}
    held = (await publisher.post(path, sent)).json()
    assert held["status"] == "held"
    body = await life.record("confirm", version_id=held["version_id"], share=True, by=ANOTHER)
    (warning,) = body["warnings"]
    assert "the reference was another name's before" in warning
    assert await life.held() == dict.fromkeys(before, ("hold", 2)) | {PARENT: ("withdraw", 2)}
    (asked,) = [each for each in (await life.shown())["confirmations"] if each["name"] == PARENT]
    await life.record("confirm", recipient_id=asked["recipient_id"], share=True, by=ANOTHER)
    (line,) = await life.read("subscriber-family", PARENT)
    assert (line["rendering"]["version"], line["rendering"]["recipient"]["name"]) == (2, "Zoe Unrelated")


async def test_a_second_person_releases_it_and_it_is_shared_as_if_it_had_come_now(publisher: Publisher) -> None:
    other = other_child()
    await publisher.issue(other, "case-system-333")
    life = await begin(publisher)
    before = await life.held()
    held = await amended(life, f"UPN {other['child']['upn']}", by=OFFICER)
    assert found(held) == [("other_upn", "section A")]
    asked = {"version_id": held["version_id"], "share": True}
    assert (await life.refused(409, "same-person", "confirm", **asked))["errors"][0]["field"] == "event/by"
    body = await life.record("confirm", **asked, by=ANOTHER)
    assert body["shares_changed"] == len(before)
    assert {name: seq for name, (_, seq) in (await life.held()).items()} == dict.fromkeys(before, 2)
    instruction = await life.instruction(TRUST_NAME)
    assert (instruction["version"], instruction["changed_sections"]) == (2, ["A"])
    assert (await life.domain_events())[-1] == "plan.amended"
    (line,) = await life.read("subscriber-health", TRUST_NAME)
    assert line["rendering"]["version"] == 2
    assert await listed(publisher, "confirmations", life.plan_id) == []
    await life.refused(409, "confirmed", "confirm", **asked, by="officer-3")
    assert (await amended(life, f"UPN {other['child']['upn']}"))["status"] == "unchanged"
    assert {"held", "released"} <= set(await publisher.acts(life.plan_id))


async def test_rejected_it_never_leaves_and_the_right_one_is_taken(publisher: Publisher) -> None:
    other = other_child()
    await publisher.issue(other, "case-system-333")
    life = await begin(publisher)
    before = await life.held()
    wrong = f"Number {other['child']['nhs_number']}"
    held = await amended(life, wrong)
    body = await life.record("confirm", version_id=held["version_id"], share=False, by=ANOTHER)
    assert body["shares_changed"] == 0
    assert await life.held() == before
    assert (await life.shown())["holds"][0]["released"] is False
    refused = await publisher.post(f"/v1/plans/{life.plan_id}/versions", {"version": version("2026-03-02", wrong)})
    problem(refused, 409, "rejected")
    right = await life.amend("2026-03-02", unique())
    assert (right["status"], right["version"]) == ("issued", 3)
    await life.refused(
        409, "held", "recall", version_id=held["version_id"], reason="wrong_child", aware_at="2026-11-20T10:00:00+00:00"
    )
    export = await publisher.http.get(f"/v1/plans/{life.plan_id}/export", headers=await publisher.headers())
    assert b"v3.json" in export.content
    assert b"v2.json" not in export.content


async def test_a_newer_version_goes_out_and_what_is_released_then_is_history(publisher: Publisher) -> None:
    other = other_child()
    await publisher.issue(other, "case-system-333")
    life = await begin(publisher)
    held = await amended(life, f"Number {other['child']['nhs_number']}")
    problem(
        await publisher.http.get(f"/v1/plans/{life.plan_id}/export", headers=await publisher.headers()), 409, "version-held"
    )
    newer = await life.amend("2026-04-01", unique())
    assert (newer["status"], newer["version"]) == ("issued", 3)
    shares = await life.held()
    body = await life.record("confirm", version_id=held["version_id"], share=True, by=ANOTHER)
    assert body["shares_changed"] == 0
    assert await life.held() == shares
    assert (await life.shown())["current"]["version"] == 3


async def test_what_happened_while_it_was_held_still_holds_when_it_is_released(publisher: Publisher) -> None:
    other = other_child()
    await publisher.issue(other, "case-system-333")
    life = await begin(publisher)
    held = await amended(life, f"Number {other['child']['nhs_number']}")
    await life.record("placement_changed", placements=[], changed_on="2026-11-01")
    await life.record("confirm", version_id=held["version_id"], share=True, by=ANOTHER)
    wanted = await life.held()
    assert wanted["Saltwells Brook Primary School"][0] == "withdraw"
    assert wanted[TRUST_NAME][0] == "hold"
    assert (await life.instruction(TRUST_NAME))["version"] == 2


async def test_a_held_first_version_and_an_older_one_behind_it(publisher: Publisher) -> None:
    other = other_child()
    await publisher.issue(other, "case-system-333")
    sent = submission(version=version("2026-02-10", f"Number {other['child']['nhs_number']}"))
    answer = await publisher.post("/v1/plans", sent)
    assert (answer.status_code, answer.json()["status"]) == (202, "held")
    assert (await publisher.post("/v1/plans", sent)).json() == answer.json()
    life = Life(publisher, answer.json()["plan_id"], answer.json()["version_id"], sent)
    assert await life.held() == {}
    assert (await life.shown())["current"] is None
    older = await publisher.post(f"/v1/plans/{life.plan_id}/versions", {"version": version("2025-02-10", unique())})
    problem(older, 409, "version-held")
    await life.record("confirm", version_id=life.version_id, share=True, by=ANOTHER)
    assert {action for action, _ in (await life.held()).values()} == {"hold"}
    assert (await life.domain_events())[0] == "plan.finalised"
    assert (await life.amend("2025-02-10", unique()))["status"] == "kept_as_history"


async def test_another_familys_plan_as_the_document(publisher: Publisher) -> None:
    """The breach: a 20-page plan attached to another family's email."""
    other = other_child(family_name="O'Brien-Łuczak", given_names="Zoë May", date_of_birth="2012-09-14")
    await publisher.issue(other, "case-system-333")
    life = await begin(publisher)
    plan = pdf_of(*[f"Education, Health and Care Plan of {OWN}\nPage {n}" for n in range(1, 20)],
                  "Name: OBRIEN LUCZAK, Zoe\nDate of birth: 14th Sept 2012")  # fmt: skip
    held = await uploaded(life, plan)
    assert held["status"] == "held"
    assert [(each["kind"], each["where"], each["pages"]) for each in held["findings"]] == [("other_name", "document", [20])]


async def test_a_document_that_is_nobodys_here_a_scan_and_a_picture(publisher: Publisher) -> None:
    life = await begin(publisher)
    stranger = await uploaded(life, pdf_of("Education, Health and Care Plan\nTomas Novak, born 3 March 2013"))
    assert found(stranger) == [("nothing_of_child", "document")]
    scan = await uploaded(life, pdf_of(""), issued_on="2026-03-03")
    assert found(scan) == [("scan", "document")]
    png = bytes.fromhex("89504e470d0a1a0a") + b"\0" * 40 + b"IEND\xae\x42\x60\x82"
    picture = await uploaded(life, None, png, issued_on="2026-03-04")
    assert found(picture) == [("picture", "attachment 1")]
    fine = await uploaded(life, pdf_of(OWN + "\nThe whole plan of this child."), word_of("Rowan walks with a frame."),
                          issued_on="2026-03-05")  # fmt: skip
    assert (fine["http"], fine["status"], found(fine)) == (201, "issued", [])


async def test_a_list_of_34_children_sent_along(publisher: Publisher) -> None:
    """The breach: a list of 34 children emailed to a parent."""
    names = [f"{chr(65 + n % 26)}{'abcdefghij'[n // 26]}rin" for n in range(34)]
    named = [{"given_names": name, "family_name": "Listed", "date_of_birth": f"2013-0{1 + n % 9}-1{n % 10}"}
             for n, name in enumerate(names)]  # fmt: skip
    lines = [submission(child=child_of(reference()) | each) for each in named]
    _, answers = await publisher.batch(lines)
    assert {answer["result"] for answer in answers} == {"issued"}
    life = await begin(publisher)
    table = "\n".join(f"{n}  LISTED {name.upper()}  1{n % 10}/0{1 + n % 9}/13" for n, name in enumerate(names))
    held = await uploaded(life, None, word_of(f"For {OWN}\n{table}"))
    assert held["findings"] == [{"kind": "other_name", "where": "attachment 1", "pages": [1], "count": 34, "waived": False}]


async def test_meeting_papers_of_which_one_page_is_another_childs(publisher: Publisher) -> None:
    """The breach: a plan published with meeting papers."""
    other = other_child()
    await publisher.issue(other, "case-system-333")
    life = await begin(publisher)
    before = await life.held()
    pages = [f"Panel of 2 March 2026, item {n}\nPapers on {OWN}" for n in range(1, 61)]
    pages[39] = f"Panel of 2 March 2026, item 40\nNHS number {spaced(other['child']['nhs_number'])}"
    held = await uploaded(life, pdf_of(OWN), pdf_of(*pages))
    assert (held["http"], held["status"]) == (202, "held")
    assert [(each["kind"], each["where"], each["pages"]) for each in held["findings"]] == [
        ("other_nhs_number", "attachment 1", [40])
    ]
    assert await life.held() == before
    (line,) = await life.read("subscriber-school", PRIMARY_NAME)
    assert line["rendering"]["version"] == 1


async def test_another_family_typed_into_a_plan_is_posted_nothing(publisher: Publisher) -> None:
    """The breach: a plan posted to the wrong family."""
    life = await begin(publisher)
    wrong = {"reference": "M1", "role": "parent", "name": "Zoe Unrelated", "address": ["9 Wrong Street", "DY9 9ZZ"]}
    answer = await publisher.post(
        f"/v1/plans/{life.plan_id}/versions", {"version": version("2026-03-02", unique(), family=[wrong])}, life.client
    )
    (warning,) = answer.json()["warnings"]
    assert warning.startswith(f"{PARENT} (recipient:")
    assert "waits for a second person's confirmation: the reference was another name's before" in warning
    assert (await life.held())[PARENT] == ("withdraw", 2), "there is nothing to put into an envelope"
    (line,) = await life.read("subscriber-family", PARENT)
    assert (line["outcome"], line.get("rendering")) == ("withdrawn", None)
    assert "Wrong Street" not in str(line)
    (asked,) = (await life.shown())["confirmations"]
    await life.record("confirm", recipient_id=asked["recipient_id"], share=False, by=ANOTHER)
    assert (await life.held())[PARENT][0] == "withdraw"


async def test_each_line_of_a_batch_is_looked_at_those_beside_it_too(publisher: Publisher) -> None:
    one, other = submission(), submission()
    one["version"] = version(text=f"See also {other['child']['nhs_number']}")
    _, (first, second) = await publisher.batch([one, other])
    assert (first["status"], first["result"], found(first)) == (202, "held", [("other_nhs_number", "section A")])
    assert second["result"] == "issued"
    assert await publisher.outbox(first["plan_id"]) == []


async def test_a_review_report_of_another_child_is_told_to_nobody(publisher: Publisher) -> None:
    """The breach: a report that went to the wrong people."""
    other = other_child()
    await publisher.issue(other, "case-system-333")
    life = await begin(publisher)
    meeting = yesterday(3)
    report = part("document", pdf_of(f"Review of {OWN}", f"NHS {other['child']['nhs_number']}"), "report.pdf")
    answer = await life.upload("review_held", report, review="R1", held_on=meeting)
    body = answer.json()
    assert (answer.status_code, body["told"], found(body)) == (201, 0, [("other_nhs_number", "document")])
    assert "held" in body["warnings"][0]
    assert await life.told() == {}
    assert (await life.shown())["reviews"][0]["reported_on"] is None
    now = {"reason": "wrong_child", "aware_at": "2026-11-20T10:00:00+00:00"}
    await life.refused(409, "held", "recall", version_id=body["notice_id"], **now)
    await life.refused(409, "same-person", "confirm", version_id=body["notice_id"], share=True)
    released = await life.record("confirm", version_id=body["notice_id"], share=True, by=ANOTHER)
    assert released["told"] > 0
    assert PARENT in (await life.told())["review_report"]
    assert (await life.shown())["reviews"][0]["reported_on"] is not None


async def test_nobody_is_told_of_a_notice_once_the_plan_has_ended(publisher: Publisher) -> None:
    life = await begin(publisher)
    answer = await life.upload("review_held", part("document", pdf_of(""), "scan.pdf"), review="R1", held_on=yesterday(3))
    notice_id = answer.json()["notice_id"]
    await life.record("death", died_on=yesterday())
    await life.refused(409, "not-in-this-state", "confirm", version_id=notice_id, share=True, by=ANOTHER)
    await life.record("confirm", version_id=notice_id, share=False, by=ANOTHER)
    assert await life.told() == {}


async def test_a_corrected_child_is_found_by_its_new_name(publisher: Publisher) -> None:
    case_reference = reference()
    sent = submission(case_reference, child=child_of(case_reference) | {"family_name": "Mistyped"})
    other = await begin_with(publisher, sent)
    right = sent["child"] | {"family_name": "Corrected", "given_names": "Imogen", "date_of_birth": "2011-04-09"}
    await other.record("child_corrected", child=right)
    life = await begin(publisher)
    held = await amended(life, "Imogen Corrected (09/04/2011) sits beside him.")
    assert found(held) == [("other_name", "section A")]


async def test_the_child_itself_under_a_second_reference_is_no_other_child(publisher: Publisher) -> None:
    case_reference = reference()
    sent = submission(case_reference)
    ceased = await begin_with(publisher, sent)
    await ceased.record("cease", ceased_on="2026-06-01", notified_on="2026-05-01", reason="needs_met")
    text = f"{OWN}, born 6 May 2014, NHS {spaced(sent['child']['nhs_number'])}, UPN {sent['child']['upn']}."
    again = await begin_with(publisher, submission(child=sent["child"], version=version(text=text)))
    assert {action for action, _ in (await again.held()).values()} == {"hold"}


async def test_the_policy_lets_scans_leave_and_says_so(publisher: Publisher) -> None:
    headers = await publisher.headers("operator")
    before = (await publisher.http.get("/v1/policies/333", headers=headers)).json()["policy"]
    lets = before | {"unread_files": {"may_leave": ["scans"], "reason": "First load of paper."}}
    try:
        assert (await publisher.http.put("/v1/policies/333", json=lets, headers=headers)).status_code == 200
        sent = submission(la_code="333")
        answer = await publisher.http.post(
            "/v1/plans", headers=await publisher.headers("case-system-333"),
            files=[part("submission", orjson.dumps(sent)), part("document", pdf_of(""), "plan.pdf")],
        )  # fmt: skip
        body = answer.json()
        assert (answer.status_code, body["status"], body["findings"][0]["waived"]) == (201, "issued", True)
        life = Life(publisher, body["plan_id"], body["version_id"], sent, "case-system-333")
        assert {action for action, _ in (await life.held()).values()} == {"hold"}
        shown = await life.shown()
        assert (shown["held"], [each["decided_by"] for each in shown["holds"]]) == (0, ["policy"])
        assert "files_not_read" in [each["code"] for each in shown["flags"]]
        await life.refused(404, "no-confirmation", "confirm", version_id=life.version_id, share=False, by=ANOTHER)
    finally:
        assert (await publisher.http.put("/v1/policies/333", json=before, headers=headers)).status_code == 200


async def test_the_database_shares_nothing_that_is_held(publisher: Publisher) -> None:
    life = await begin(publisher)
    scan = await uploaded(life, pdf_of(""))
    share = (await life.shares())[TRUST_NAME]
    with pytest.raises(asyncpg.RaiseError, match="shared with nobody"):
        await publisher.owner.execute(
            "UPDATE publisher.share SET seq = seq + 1, version_id = $2 WHERE share_id = $1", share["share_id"],
            UUID(scan["version_id"]),
        )  # fmt: skip


async def test_whoever_a_held_notice_leaves_out_is_left_out_when_it_is_released(publisher: Publisher) -> None:
    family = [
        {"reference": "M1", "role": "parent", "name": "Ann Hartley", "email": "ann@example.org"},
        {"reference": "F1", "role": "parent", "name": "Tom Hartley", "email": "tom@example.org"},
    ]
    life = await begin(publisher, family=family)
    out = {"not_to": [{"member": "F1"}, {"organisation": code(ICB)}], "not_to_reason": "It gives the mother's new address."}
    scan = part("document", pdf_of(""), "report.pdf")
    answer = await life.upload("review_held", scan, review="R1", held_on=yesterday(3), **out)
    body = answer.json()
    assert (answer.status_code, body["told"], body["left_out"]) == (201, 0, ["parent F1", ICB_NAME]), answer.text
    # Whatever comes between: the plan goes on.
    await life.amend("2026-03-02", unique(), family=family)
    await life.record("confirm", version_id=body["notice_id"], share=True, by=ANOTHER)
    assert await life.told() == {"review_report": {PARENT, PRIMARY_NAME, SOCIAL_CARE_NAME}}
    (notice,) = (await life.shown())["notices"]
    assert [each["who"] for each in notice["left_out"]] == ["parent F1", ICB_NAME]


async def test_children_that_came_before_the_guard_are_found_from_the_first_answer(
    postgres_server: RunningPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an upgrade: of the children who are there, no names are kept yet."""
    async with publisher_at_hand(postgres_server) as publisher:
        others = [other_child(given_names=name, family_name="Before") for name in ("Ada", "Bea", "Cleo")]
        for other in others:
            await publisher.issue(other)
        life = await begin(publisher)
        await publisher.owner.execute("DELETE FROM publisher.child_known_as")
        await publisher.owner.execute("UPDATE publisher.child SET named = false")
        # A look at names waits until all have theirs, with another process at it or not.
        async with publisher.owner.acquire() as another:
            work = another.transaction()
            await work.start()
            await another.execute("SELECT FROM publisher.child ORDER BY child_id LIMIT 1 FOR UPDATE")
            asked = asyncio.create_task(amended(life, "Bea Before (born 6 May 2014) sits beside him."))
            await until(lambda: waits_for_a_lock(publisher), what="the guard waits for the names")
            await work.rollback()
        held = await asked
        assert found(held) == [("other_name", "section A")]
        assert await publisher.owner.fetchval("SELECT count(*) FROM publisher.child WHERE NOT named") == 0
        # In the background, with nothing to look at.
        await publisher.owner.execute("DELETE FROM publisher.child_known_as")
        await publisher.owner.execute("UPDATE publisher.child SET named = false")
        naming = asyncio.ensure_future(publisher.parts.work["names"]())
        await until(lambda: all_named(publisher), what="all children have names")
        naming.cancel()
        held = await amended(life, "Cleo Before, born 06/05/2014.", "2026-03-03")
        assert found(held) == [("other_name", "section A")]
        # Who is corrected while its names are worked out has those of the correction.
        corrected = await begin_with(publisher, submission(child=child_of(reference()) | {"family_name": "Mistyped"}))
        right = corrected.sent["child"] | {"family_name": "Corrected", "given_names": "Imogen", "date_of_birth": "2011-04-09"}
        await publisher.owner.execute(
            "UPDATE publisher.child c SET named = false FROM publisher.plan p WHERE p.child_id = c.child_id AND p.plan_id = $1",
            UUID(corrected.plan_id),
        )
        lock_unchanged = store_guard.lock_unchanged

        async def after_a_correction(connection: Any, rows: Any) -> set[UUID]:
            monkeypatch.undo()
            await corrected.record("child_corrected", child=right)
            return await lock_unchanged(connection, rows)

        monkeypatch.setattr(store_guard, "lock_unchanged", after_a_correction)
        answer = await amended(life, "Rowan James Mistyped, 6 May 2014, and Imogen Corrected (09/04/2011).", "2026-03-04")
        assert [(each["kind"], each["count"]) for each in answer["findings"]] == [("other_name", 1)]
        # A child whose details cannot be opened holds up nobody's plan.
        await publisher.owner.execute("UPDATE publisher.child SET named = false, identity = 'spoilt' WHERE child_id = ANY("
                                      "SELECT child_id FROM publisher.plan WHERE plan_id <> $1)", life.plan_id)  # fmt: skip
        answer = await amended(life, "Cleo Before, born 06/05/2014, again.", "2026-03-05")
        assert found(answer) == [("other_name", "section A")], "her name is still known"
        assert await publisher.owner.fetchval("SELECT count(*) FROM publisher.child WHERE NOT named") == 0


async def test_killed_while_something_is_held_and_in_the_middle_of_its_release(postgres_server: RunningPostgres) -> None:
    async with running_publisher(postgres_server) as publisher:
        service = publisher.service
        assert service is not None
        other = other_child()
        await publisher.issue(other, "case-system-333")
        life = await begin(publisher)
        before, outbox = await life.held(), len(await everything_sent(publisher))
        held = await amended(life, f"UPN {other['child']['upn']}")
        await service.kill()
        await service.start()
        release = {"version_id": held["version_id"], "share": True, "by": ANOTHER}

        async def is_held() -> None:
            (row,) = await listed(publisher, "confirmations", life.plan_id)
            assert row["name"] == held["version_id"]
            assert (await life.held(), len(await everything_sent(publisher))) == (before, outbox)

        await is_held()
        # The outbox lets nobody write: the release stands still after its shares were decided.
        async with publisher.owner.acquire() as another:
            stop = another.transaction()
            await stop.start()
            await another.execute("LOCK TABLE publisher.outbox IN SHARE MODE")
            asked = asyncio.create_task(life.post("confirm", **release))
            await until(lambda: waits_for_a_lock(publisher), what="the release waits for the outbox")
            await service.kill()
            with pytest.raises(httpx2.TransportError):
                await asked
            await stop.rollback()
        await service.start()
        await is_held()
        assert (await life.record("confirm", **release))["shares_changed"] == len(before)
        sent = len(await everything_sent(publisher))
        assert sent == outbox + len(before) + 1  # and the plan's own event
        await service.kill()
        await service.start()
        # The answer may have been lost: asked again, it is said and nothing is sent twice.
        again = await life.post("confirm", **release)
        assert (again.status_code, again.json()["status"]) == (200, "unchanged")
        assert len(await everything_sent(publisher)) == sent
        assert await listed(publisher, "confirmations", life.plan_id) == []


async def everything_sent(publisher: Publisher) -> list[Any]:
    return list(await publisher.owner.fetch("SELECT id FROM publisher.outbox"))


async def waits_for_a_lock(publisher: Publisher) -> bool:
    """``pg_stat_activity`` hides from the owner what another role's session waits for."""
    waits: bool = await publisher.owner.fetchval(
        "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE NOT l.granted AND a.datname = current_database())"
    )
    return waits


async def all_named(publisher: Publisher) -> bool:
    named: bool = await publisher.owner.fetchval("SELECT bool_and(named) FROM publisher.child")
    return named
