"""What happens to a plan besides its versions, over HTTP on real PostgreSQL: what each event changes, and every refusal."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from tests.support.lives import (
    ANOTHER,
    ICB_NAME,
    NURSERY_NAME,
    OFFICER,
    PARENT,
    PRIMARY_NAME,
    SECONDARY_NAME,
    SOCIAL_CARE_NAME,
    TRUST_NAME,
    VIRTUAL_SCHOOL_NAME,
    begin,
    happened,
    unique,
    yesterday,
)
from tests.support.publisher import (
    ICB,
    NURSERY,
    PRIMARY,
    SECONDARY,
    SOCIAL_CARE,
    TRUST,
    Publisher,
    code,
    part,
    pdf_document,
    placed,
    problem,
    submission,
    version,
)

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

EVERYONE = {PARENT, PRIMARY_NAME, ICB_NAME, TRUST_NAME}
NOTICE: dict[str, Any] = {"notified_on": "2026-05-01", "ceases_on": "2026-07-20", "reason": "needs_met"}
CEASED: dict[str, Any] = {"ceased_on": "2026-07-21", "reason": "needs_met"}
REPORT = part("document", pdf_document("Report"), "report.pdf", "application/pdf")
MOTHER = {"reference": "M1", "role": "parent", "name": "Anna Hartley"}
ADULT = {"reference": "F1", "role": "parent", "name": "Ben Hartley"}


def all_of(action: str, seq: int, *names: str) -> dict[str, tuple[str, int]]:
    return dict.fromkeys(names or EVERYONE, (action, seq))


# --- the plan's end, and its way back ---


async def test_a_cease_notice_is_told_and_changes_no_copy(publisher: Publisher) -> None:
    life = await begin(publisher)
    body = await life.record("cease_notice", **NOTICE, appeal_until="2026-07-01")
    assert (body["state"], body["shares_changed"], body["told"], body["warnings"]) == ("ceasing", 0, 3, [])
    assert await life.held() == all_of("hold", 1)
    assert await life.told() == {"cease_notice": {PARENT, PRIMARY_NAME, ICB_NAME}}
    assert await life.domain_events() == ["plan.finalised", "plan.ceasing"]
    assert (await publisher.acts(life.plan_id))[-4:] == ["cease_notice", "shared", "shared", "shared"]
    notice = await publisher.owner.fetchval(
        "SELECT share_id FROM publisher.share WHERE notice_id = $1 AND subscriber = 'school'", UUID(body["notice_id"])
    )
    (line,) = await publisher.read("subscriber-school", (notice, 1))
    told = line["rendering"]["notice"]
    assert (told["kind"], told["ceases_on"], told["appeal_until"]) == ("cease_notice", "2026-07-20", "2026-07-01")
    assert told["text"].startswith("The council has decided to cease the plan on 20 July 2026. It stays in force until then")
    shown = await life.shown()
    assert (shown["state"], shown["ceases_on"], shown["appeal_until"]) == ("ceasing", "2026-07-20", "2026-07-01")
    assert [(each["type"], each["by"], each["happened_on"]) for each in shown["events"]] == [
        ("cease_notice", OFFICER, "2026-05-01")
    ]


async def test_a_plan_ceases_after_its_notice_and_everyone_is_withdrawn(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("cease_notice", **NOTICE, appeal_until="2026-07-20")
    body = await life.refused(409, "appeal-time", "cease", ceased_on="2026-07-20", reason="needs_met")
    assert body["errors"][0]["field"] == "event/ceased_on"
    body = await life.record("cease", **CEASED)
    assert (body["state"], body["shares_changed"]) == ("ceased", 4)
    assert await life.held() == all_of("withdraw", 2)
    said = await life.instruction(PRIMARY_NAME)
    assert (said["type"], said["seq"], said["remove"]) == ("withdrawn", 2, [])
    assert (await life.domain_events())[-1] == "plan.ceased"
    shown = await life.shown()
    assert (shown["cease_reason"], shown["shares"], shown["gaps"], shown["flags"]) == ("needs_met", 0, 0, [])


async def test_a_plan_ceases_only_when_the_family_was_told(publisher: Publisher) -> None:
    life = await begin(publisher)
    body = await life.refused(409, "no-cease-notice", "cease", **CEASED)
    assert body["errors"][0]["field"] == "event/notified_on"
    assert (await life.record("cease", **CEASED, notified_on="2026-05-01"))["state"] == "ceased"


async def test_an_appeal_that_is_decided_ends_the_plan_before_the_appeal_time(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("cease_notice", **NOTICE, appeal_until="2026-08-31")
    assert (await life.record("cease", **CEASED, appeal_decided=True))["state"] == "ceased"


async def test_reopened_everyone_is_to_hold_it_again(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("cease", **CEASED, notified_on="2026-05-01")
    body = await life.record("reopen", reopened_on="2026-09-01", reason="appeal_succeeded")
    assert (body["state"], body["shares_changed"]) == ("live", 4)
    assert await life.held() == all_of("hold", 3)
    said = await life.instruction(TRUST_NAME)
    assert (said["version_id"], said["changed_sections"]) == (life.version_id, ["A", "B"]), "it may have been filed away"
    shown = await life.shown()
    assert (shown["state"], shown["ceases_on"], shown["cease_reason"]) == ("live", None, None)


async def test_a_notice_withdrawn_leaves_every_copy_as_it_was(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("cease_notice", **NOTICE)
    body = await life.record("reopen", reopened_on="2026-06-01", reason="notice_withdrawn")
    assert (body["state"], body["shares_changed"]) == ("live", 3), "the notice, which nobody has yet, is taken back"
    assert await life.held() == all_of("hold", 1)


async def test_a_cease_notice_that_has_not_arrived_is_taken_back_when_the_plan_is_not_to_cease(publisher: Publisher) -> None:
    """A parent must not find a letter of the end of a plan that goes on."""
    life = await begin(publisher)
    await life.record("review_scheduled", review="R1", meeting_on="2099-02-01")
    await life.record("cease_notice", **NOTICE)
    await life.record("family_changed", family=[MOTHER | {"name": "Ann Hartley"}], changed_on="2026-05-02")
    assert (await life.told())["cease_notice"] == {PARENT, PRIMARY_NAME, ICB_NAME}
    share = await publisher.owner.fetchrow(
        "SELECT s.* FROM publisher.share s JOIN publisher.recipient r USING (recipient_id) JOIN publisher.notice n"
        " USING (notice_id) WHERE s.plan_id = $1 AND n.kind = 'cease_notice' AND r.name = $2",
        UUID(life.plan_id), PRIMARY_NAME,
    )  # fmt: skip
    await life.satisfied(share)
    body = await life.record("reopen", reopened_on="2026-06-01", reason="notice_withdrawn")
    told = await life.told()
    assert (body["shares_changed"], told["cease_notice"]) == (2, {PRIMARY_NAME})
    assert told["review_invitation"] >= {PARENT, PRIMARY_NAME, ICB_NAME}, "the review goes on"


async def test_a_ceasing_plan_is_still_amended_and_shared(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("cease_notice", **NOTICE)
    await life.amend()
    assert await life.held() == all_of("hold", 2)


async def test_death_ends_the_plan_and_takes_back_what_the_family_was_still_to_be_told(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("review_scheduled", review="R1", meeting_on="2099-02-01")
    assert PARENT in (await life.told())["review_invitation"]
    body = await life.record("death", died_on="2026-11-01")
    assert body["state"] == "ceased"
    assert await life.held() == all_of("withdraw", 2)
    assert await life.told() == {"review_invitation": {PRIMARY_NAME, ICB_NAME, SOCIAL_CARE_NAME}}
    async with publisher.owner.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config('ehcp.councils', '332', true)")
        silent = await connection.fetch(
            "SELECT DISTINCT recipient_name FROM publisher.v_share WHERE plan_id = $1 AND silent", UUID(life.plan_id)
        )
    assert [row["recipient_name"] for row in silent] == [PARENT]


ALLOWED_WHEN_OVER = ["lift", "recall", "restrict"]
LATER: dict[str, dict[str, Any]] = {
    "cease_notice": NOTICE, "cease": CEASED, "death": {"died_on": "2026-11-01"}, "adoption": {"adopted_on": "2026-11-01"},
    "placement_changed": {"placements": [], "changed_on": "2026-11-01"},
    "commissioner_changed": {"commissioning_bodies": [], "changed_on": "2026-11-01"},
    "family_changed": {"family": [], "changed_on": "2026-11-01"},
    "involved_changed": {"involved": [], "changed_on": "2026-11-01"}, "care_changed": {"changed_on": "2026-11-01"},
    "transfer": {"to_la_code": "333", "moved_on": "2026-11-01", "aware_on": "2026-11-01"},
    "review_scheduled": {"review": "R1", "meeting_on": "2099-02-01"}, "review_held": {"review": "R1", "held_on": "2026-11-01"},
    "review_decided": {"review": "R1", "decision": "amend", "decided_on": "2026-11-01"},
    "objection": {"from_reference": "M1", "received_on": "2026-11-01"},
    "decide": {"organisation": code(TRUST), "share": False, "lawful_basis": "consent", "reason": "asked"},
    "confirm": {"recipient_id": str(uuid4()), "share": True},
}  # fmt: skip


async def test_what_a_ceased_plan_refuses_names_the_state_and_what_is_possible(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("cease", **CEASED, notified_on="2026-05-01")
    child = {"child": life.sent["child"]}
    for type_, fields in (LATER | {"child_corrected": child}).items():
        body = await life.refused(409, "not-in-this-state", type_, **fields)
        assert (body["state"], body["allowed"]) == ("ceased", sorted([*ALLOWED_WHEN_OVER, "reopen"])), type_
        assert body["detail"] == f"The event {type_} is not possible now. From ceased: lift, recall, reopen, restrict."
    answer = await publisher.post(f"/v1/plans/{life.plan_id}/versions", {"version": version("2026-10-01", unique())})
    body = problem(answer, 409, "not-in-this-state")
    assert body["detail"] == "A new version is not possible now. From ceased: lift, recall, reopen, restrict."


async def test_what_a_plan_that_went_elsewhere_refuses(publisher: Publisher) -> None:
    life = await begin(publisher)
    body = await life.record("transfer", to_la_code="301", moved_on=yesterday(), aware_on=yesterday())
    assert (body["state"], body["shares_changed"]) == ("transferred", 4)
    assert body["warnings"] == ["The new council is not in this exchange: export the plan and send it there."]
    assert await life.held() == all_of("withdraw", 2)
    for type_, fields in (LATER | {"reopen": {"reopened_on": "2026-11-21", "reason": "ceased_by_mistake"}}).items():
        body = await life.refused(409, "not-in-this-state", type_, **fields)
        assert (body["state"], body["allowed"]) == ("transferred", ALLOWED_WHEN_OVER), type_
    assert (await life.shown())["cease_reason"] == "transfer"


async def test_a_live_plan_is_not_reopened(publisher: Publisher) -> None:
    life = await begin(publisher)
    body = await life.refused(409, "not-in-this-state", "reopen", reopened_on="2026-06-01", reason="appeal_succeeded")
    assert body["state"] == "live"
    assert "reopen" not in body["allowed"]


# --- who is around the child ---


async def test_a_school_move_withdraws_the_one_and_gives_to_the_other(publisher: Publisher) -> None:
    life = await begin(publisher)
    body = await life.record("placement_changed", placements=[placed(SECONDARY, "2026-09-01")], changed_on="2026-09-01")
    assert body["shares_changed"] == 2
    assert await life.held() == all_of("hold", 1) | {PRIMARY_NAME: ("withdraw", 2), SECONDARY_NAME: ("hold", 1)}
    assert (await life.domain_events())[-1] == "placement.changed"
    shown = await life.shown()
    assert shown["settings"] == [{**code(SECONDARY), "from": "2026-09-01", "until": None}]


async def test_both_schools_of_a_phase_transfer_hold_the_plan(publisher: Publisher) -> None:
    life = await begin(publisher)
    both = [placed(PRIMARY, "2020-09-01", "2098-07-21"), placed(SECONDARY, "2098-09-01")]
    await life.record("placement_changed", placements=both, changed_on="2026-11-01")
    assert await life.held() == all_of("hold", 1) | {SECONDARY_NAME: ("hold", 1)}
    decide_on = await publisher.owner.fetchval("SELECT decide_on FROM publisher.plan WHERE plan_id = $1", UUID(life.plan_id))
    assert decide_on.isoformat() == "2098-07-22"


async def test_another_commissioning_body(publisher: Publisher) -> None:
    life = await begin(publisher)
    body = await life.record("commissioner_changed", commissioning_bodies=[code("ods:QHL")], changed_on="2026-10-01")
    unknown = "ods:QHL (not in the directory)"
    assert body["warnings"] == [
        "ods:QHL is not in the directory: the share is kept and shown as undeliverable. Register the organisation, or correct "
        "the code in the next version."
    ]
    assert await life.held() == all_of("hold", 1) | {ICB_NAME: ("withdraw", 2), unknown: ("hold", 1)}
    assert (await life.domain_events())[-1] == "commissioner.changed"


@pytest.mark.parametrize(
    ("type_", "fields"),
    [
        ("commissioner_changed", {"commissioning_bodies": []}), ("family_changed", {"family": []}),
        ("involved_changed", {"involved": []}), ("care_changed", {}),
    ],
)  # fmt: skip
async def test_a_change_of_tomorrow_is_sent_tomorrow(publisher: Publisher, type_: str, fields: dict[str, Any]) -> None:
    """It would hold from now on: the commissioning body of March would lose the plan in February."""
    life = await begin(publisher)
    body = await life.refused(422, "in-future", type_, changed_on="2099-04-01", **fields)
    assert [each["field"] for each in body["errors"]] == ["event/changed_on"]


async def test_a_parent_comes_and_another_goes_and_neither_is_told_of_the_other(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("family_changed", family=[ADULT], changed_on="2026-10-01")
    assert await life.held() == all_of("hold", 1) | {PARENT: ("withdraw", 2), "parent F1": ("hold", 1)}
    assert "family.changed" not in await life.domain_events()
    (line,) = await life.read("subscriber-family", "parent F1")
    assert line["rendering"]["recipient"]["name"] == "Ben Hartley"
    assert "Ann Hartley" not in orjson.dumps(line).decode()


async def test_a_notice_that_has_not_arrived_is_taken_back_from_who_is_no_longer_of_the_family(publisher: Publisher) -> None:
    life = await begin(publisher, family=[MOTHER, ADULT])
    everyone = {PARENT, "parent F1", PRIMARY_NAME, ICB_NAME, SOCIAL_CARE_NAME}
    await life.record("review_scheduled", review="R1", meeting_on="2099-02-01")
    assert await life.told() == {"review_invitation": everyone}
    body = await life.record("family_changed", family=[MOTHER], changed_on="2026-03-01")
    assert (body["shares_changed"], await life.told()) == (2, {"review_invitation": everyone - {"parent F1"}})
    assert (await life.pending("parent F1"))["outcome"] == "withdrawn"
    await life.amend(family=[])
    assert await life.told() == {"review_invitation": everyone - {"parent F1", PARENT}}


async def test_who_was_taken_out_of_the_family_gets_nothing_by_a_version_before_a_second_person_says_so(
    publisher: Publisher,
) -> None:
    """The case system may know nothing of what was recorded here: of a court order, say."""
    life = await begin(publisher, family=[MOTHER, ADULT])
    await life.record("family_changed", family=[MOTHER], changed_on="2026-03-01")
    (warning,) = (await life.amend(family=[MOTHER, ADULT]))["warnings"]
    assert warning.startswith("parent F1 (")
    assert "waits for a second person's confirmation: an event took them out" in warning
    assert (await life.held())["parent F1"] == ("withdraw", 2)
    (asked,) = (await life.shown())["confirmations"]
    assert (asked["name"], asked["asked_by"]) == ("parent F1", "case-system-332")
    await life.record("review_scheduled", review="R1", meeting_on="2099-02-01")
    assert "parent F1" not in (await life.told())["review_invitation"]
    assert (await life.amend("2026-04-01", unique(), family=[MOTHER]))["warnings"] == []
    (warning,) = (await life.amend("2026-05-01", unique(), family=[MOTHER, ADULT]))["warnings"]
    assert warning.startswith("parent F1 ("), "it is still what an event said"
    await life.record("confirm", recipient_id=asked["recipient_id"], share=True)
    assert (await life.held())["parent F1"] == ("hold", 3)
    assert (await life.amend("2026-06-01", unique(), family=[MOTHER, ADULT]))["warnings"] == []
    await life.record("family_changed", family=[MOTHER], changed_on="2026-06-02")
    (warning,) = (await life.amend("2026-06-03", unique(), family=[MOTHER, ADULT]))["warnings"]
    assert warning.startswith("parent F1 ("), "it was another time that was confirmed"


async def test_an_event_brings_back_whom_it_names(publisher: Publisher) -> None:
    life = await begin(publisher, family=[MOTHER, ADULT])
    await life.record("family_changed", family=[MOTHER], changed_on="2026-03-01")
    await life.record("family_changed", family=[MOTHER, ADULT], changed_on="2026-03-02")
    assert (await life.held())["parent F1"] == ("hold", 3)
    assert (await life.amend(family=[MOTHER, ADULT]))["warnings"] == []


@pytest.mark.parametrize("by_event", [True, False])
async def test_another_name_under_a_known_reference_is_not_taken_for_the_same_person(
    publisher: Publisher, by_event: bool
) -> None:
    life = await begin(publisher, family=[MOTHER])
    await life.record("review_scheduled", review="R1", meeting_on="2099-02-01")
    other = MOTHER | {"name": "Zoe Unrelated"}
    if by_event:
        body = await life.record("family_changed", family=[other], changed_on="2026-03-01")
    else:
        body = await life.amend(family=[other])
    (warning,) = body["warnings"]
    assert "the reference was another name's before; another person has a reference of their own" in warning
    assert (await life.held())[PARENT] == ("withdraw", 2)
    assert PARENT not in (await life.told())["review_invitation"], "what has not arrived must not be posted to her either"
    (asked,) = (await life.shown())["confirmations"]
    await life.record("confirm", recipient_id=asked["recipient_id"], share=True, by=ANOTHER)
    assert (await life.held())[PARENT] == ("hold", 3)
    (line,) = await life.read("subscriber-family", PARENT)
    assert line["rendering"]["recipient"]["name"] == "Zoe Unrelated"
    assert (await life.amend("2026-05-01", unique(), family=[other | {"name": "Mrs Zoe UNRELATED"}]))["warnings"] == []


async def test_a_notice_that_arrived_stays_with_who_was_told(publisher: Publisher) -> None:
    life = await begin(publisher, family=[MOTHER, ADULT])
    await life.record("review_scheduled", review="R1", meeting_on="2099-02-01")
    share = await publisher.owner.fetchrow(
        "SELECT s.* FROM publisher.share s JOIN publisher.recipient r USING (recipient_id)"
        " WHERE s.plan_id = $1 AND s.notice_id IS NOT NULL AND r.name = 'parent F1'", UUID(life.plan_id),
    )  # fmt: skip
    assert share
    await life.satisfied(share)
    await life.record("family_changed", family=[MOTHER], changed_on="2026-03-01")
    assert "parent F1" in (await life.told())["review_invitation"]


async def test_somebody_involved_gets_a_share_by_policy_or_is_a_gap(publisher: Publisher) -> None:
    life = await begin(publisher)
    involved = [
        {"role": "provision", "kind": "social_care", "organisation": code(SOCIAL_CARE), "sections": ["H1"]},
        {"role": "advice", "organisation": code("ods:ZZ9"), "sections": ["K"]},
        {"role": "named_professional", "name": "Dr Example"},
    ]
    await life.record("involved_changed", involved=involved, changed_on="2026-10-01")
    assert await life.held() == all_of("hold", 1) | {TRUST_NAME: ("withdraw", 2), SOCIAL_CARE_NAME: ("hold", 1)}
    gaps = [(each["who"], each["reason"]) for each in (await life.shown())["share_gaps"]]
    assert gaps == [
        ("advice: ods:ZZ9", "it is not in the directory"),
        ("named professional 1", "no organisation is recorded"),
    ]


async def test_a_new_version_says_who_is_around_the_child(publisher: Publisher) -> None:
    """And the same change said again after it is no repeat of the change before it."""
    life = await begin(publisher)
    moved: dict[str, Any] = {"placements": [placed(SECONDARY, "2026-03-01")], "changed_on": "2026-03-01"}
    await life.record("placement_changed", **moved)
    assert (await life.post("placement_changed", **moved)).json()["status"] == "unchanged"
    await life.amend()
    assert (await life.held())[PRIMARY_NAME] == ("hold", 3)
    await life.record("placement_changed", **moved)
    assert (await life.held())[PRIMARY_NAME] == ("withdraw", 4)


# --- reviews ---


async def test_a_review_from_invitation_to_decision(publisher: Publisher) -> None:
    """The nursery of next year is named in the plan, and is not where the child goes now."""
    life = await begin(publisher, placements=[placed(PRIMARY), placed(NURSERY, "2099-09-01")])
    body = await life.record("review_scheduled", review="R1", meeting_on="2099-02-01")
    assert (body["told"], body["warnings"]) == (4, [])
    invited = {PARENT, PRIMARY_NAME, ICB_NAME, SOCIAL_CARE_NAME}
    assert await life.told() == {"review_invitation": invited}
    body = await life.record("review_held", review="R1", held_on="2026-11-02")
    assert (body["told"], body["notice_id"]) == (0, None)
    answer = await life.upload("review_held", REPORT, review="R1", held_on="2026-11-02")
    assert (answer.status_code, answer.json()["told"]) == (201, 4)
    assert (await life.record("review_decided", review="R1", decision="amend", decided_on="2026-11-20"))["told"] == 2
    assert await life.told() == {
        "review_invitation": invited, "review_report": invited, "review_decision": {PARENT, PRIMARY_NAME},
    }  # fmt: skip
    assert await life.held() == all_of("hold", 1) | {NURSERY_NAME: ("hold", 1)}
    assert (await life.domain_events())[1:] == ["review.scheduled", "review.held", "review.held", "review.decided"]
    (review,) = (await life.shown())["reviews"]
    assert (review["held_on"], review["decision"], review["decided_on"]) == ("2026-11-02", "amend", "2026-11-20")


async def test_a_report_is_read_with_its_document_and_its_attachment(publisher: Publisher) -> None:
    life = await begin(publisher)
    advice = part("attachment", pdf_document("Advice"), "advice.pdf", "application/pdf")
    answer = await life.upload("review_held", REPORT, advice, review="R1", held_on="2026-11-02")
    share_id = await publisher.owner.fetchval(
        "SELECT share_id FROM publisher.share WHERE notice_id = $1 AND subscriber = 'school'", UUID(answer.json()["notice_id"])
    )
    (line,) = await publisher.read("subscriber-school", (share_id, 1))
    rendering = line["rendering"]
    assert rendering["notice"]["text"] == "The plan was reviewed on 2 November 2026. The report is attached."
    assert rendering["document"]["name"] == f"{life.sent['case_reference']}-review_report.pdf"
    assert [each["name"] for each in rendering["attachments"]] == ["advice.pdf"]
    assert rendering["sections"] == {}


async def test_a_report_with_one_parents_details_does_not_reach_the_other(publisher: Publisher) -> None:
    life = await begin(publisher, family=[MOTHER, ADULT])
    out = {"not_to": [{"member": "F1"}, {"organisation": code(ICB)}], "not_to_reason": "It gives the mother's new address."}
    answer = await life.upload("review_held", REPORT, review="R1", held_on="2026-11-02", **out)
    body = answer.json()
    assert (answer.status_code, body["told"], body["left_out"]) == (201, 3, ["parent F1", ICB_NAME]), answer.text
    assert await life.told() == {"review_report": {PARENT, PRIMARY_NAME, SOCIAL_CARE_NAME}}
    (notice,) = (await life.shown())["notices"]
    reason = "It gives the mother's new address."
    assert [(each["who"], each["reason"]) for each in notice["left_out"]] == [("parent F1", reason), (ICB_NAME, reason)]
    act = await publisher.owner.fetchval(
        "SELECT details FROM audit.pending WHERE act = 'review_held' AND plan_id = $1", UUID(life.plan_id)
    )
    shares = await life.shares()
    assert act["left_out"] == [str(shares[name]["recipient_id"]) for name in ("parent F1", ICB_NAME)]


async def test_whoever_is_left_out_must_be_somebody_who_would_be_told(publisher: Publisher) -> None:
    """A mistyped reference must not send the report to the very parent who must not have it."""
    life = await begin(publisher, family=[MOTHER, ADULT])
    reason = {"not_to_reason": "It gives an address."}
    meeting = {"review": "R1", "meeting_on": "2099-02-01"}
    for slip in ({"member": "F2"}, {"organisation": code("urn:100999")}):
        body = await life.refused(422, "not-told", "review_scheduled", **meeting, not_to=[{"member": "F1"}, slip], **reason)
        assert body["errors"][0]["field"] == "event/not_to/1"
        assert body["errors"][0]["instead"] == f"one of: M1, F1, {PRIMARY}, {ICB}, {SOCIAL_CARE}"
    body = await life.refused(422, "nobody-told", "review_held", review="R1", held_on="2026-11-02",
                              not_to=[{"member": "F1"}], **reason)  # fmt: skip
    assert body["errors"][0]["field"] == "event/not_to"
    for wrong in ({"not_to": [{"member": "F1"}]}, reason, {"not_to": [{}], **reason}):
        await life.refused(422, "invalid", "review_scheduled", **meeting, **wrong)


async def test_impossible_orders_of_a_review(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.refused(409, "order", "review_scheduled", review="R1", meeting_on="2026-06-01")
    await life.refused(409, "not-held", "review_decided", review="R1", decision="maintain", decided_on="2026-11-01")
    await life.refused(422, "in-future", "review_held", review="R1", held_on="2099-01-01")
    await life.record("review_held", review="R1", held_on="2026-11-02")
    body = await life.refused(409, "order", "review_decided", review="R1", decision="maintain", decided_on="2026-11-01")
    assert body["title"] == "The decision would be before the meeting"
    await life.refused(409, "order", "review_scheduled", review="R1", meeting_on="2099-06-01")
    await life.record("review_decided", review="R1", decision="maintain", decided_on="2026-11-10")
    body = await life.refused(409, "order", "review_held", review="R1", held_on="2026-11-11")
    assert body["errors"][0]["field"] == "event/held_on"


async def test_an_invitation_of_less_than_two_weeks_is_sent_and_said_to_be_late(publisher: Publisher) -> None:
    life = await begin(publisher)
    today = await publisher.owner.fetchval("SELECT current_date + 5")
    body = await life.record("review_scheduled", review="R1", meeting_on=str(today))
    assert body["warnings"] == ["The meeting is in less than two weeks: reg 20(3) asks for two weeks' notice."]


async def test_a_file_that_nobody_would_get_is_refused(publisher: Publisher) -> None:
    life = await begin(publisher)
    before = await life.revision()
    answer = await life.upload("placement_changed", REPORT, placements=[], changed_on="2026-10-01")
    problem(answer, 422, "no-document")
    advice = part("attachment", pdf_document("Advice"), "advice.pdf", "application/pdf")
    problem(await life.upload("review_held", advice, review="R1", held_on="2026-11-02"), 422, "no-document")
    assert await life.revision() == before


# --- recall ---


async def test_a_version_of_the_wrong_child_goes_and_the_one_before_comes_back(publisher: Publisher) -> None:
    life = await begin(publisher)
    wrong = await life.amend()
    body = await life.record(
        "recall", version_id=wrong["version_id"], reason="wrong_child", aware_at="2026-11-02T09:00:00Z"
    )  # fmt: skip
    assert body["shares_changed"] == 4
    for name in EVERYONE:
        said = await life.instruction(name)
        assert (said["type"], said["seq"], said["version_id"], said["remove"]) == (
            "requested", 3, life.version_id, [wrong["version_id"]],
        ), name  # fmt: skip
    shown = await life.shown()
    assert shown["current"]["version_id"] == life.version_id
    assert [each["recalled_at"] is not None for each in shown["versions"]] == [False, True]
    again = await publisher.post(f"/v1/plans/{life.plan_id}/versions", {"version": version("2026-03-02", "Rowan likes buses.")})
    problem(again, 409, "recalled")


async def test_the_other_childs_family_and_school_go_with_the_recalled_version(publisher: Publisher) -> None:
    """The parents of the child whose plan was sent by mistake must not get this child's plan in its place."""
    life = await begin(publisher)
    await life.record("commissioner_changed", commissioning_bodies=[], changed_on="2026-02-20")
    other = {"reference": "OTHER", "role": "parent", "name": "Of another child"}
    wrong = await life.amend(family=[other], placements=[placed(SECONDARY)])
    await life.record("involved_changed", involved=[], changed_on="2026-03-10")
    assert await life.held() == {
        PARENT: ("withdraw", 2), PRIMARY_NAME: ("withdraw", 2), ICB_NAME: ("hold", 3), TRUST_NAME: ("withdraw", 3),
        "parent OTHER": ("hold", 1), SECONDARY_NAME: ("hold", 1),
    }  # fmt: skip
    await life.record("recall", version_id=wrong["version_id"], reason="wrong_child", aware_at="2026-11-02T09:00:00Z")
    said = {name: await life.instruction(name) for name in await life.held()}
    assert {name: (each["type"], each["remove"]) for name, each in said.items()} == {
        PARENT: ("requested", []), PRIMARY_NAME: ("requested", []),
        ICB_NAME: ("recalled", [wrong["version_id"]]),  # an event since the first version says that it is not involved
        TRUST_NAME: ("recalled", [wrong["version_id"]]),
        "parent OTHER": ("recalled", [wrong["version_id"]]), SECONDARY_NAME: ("recalled", [wrong["version_id"]]),
    }  # fmt: skip
    shown = await life.shown()
    assert shown["settings"] == [{**code(PRIMARY), "from": "2026-02-10", "until": None}]


async def test_the_only_version_is_recalled_and_nobody_holds_anything(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("recall", version_id=life.version_id, reason="wrong_child", aware_at="2026-11-02T09:00:00Z")
    assert await life.held() == all_of("recall", 2)
    said = await life.instruction(TRUST_NAME)
    assert (said["type"], said["remove"]) == ("recalled", [life.version_id])
    assert {each["outcome"] for each in await life.read("subscriber-health", TRUST_NAME, ICB_NAME)} == {"withdrawn"}
    shown = await life.shown()
    assert (shown["current"], shown["settings"], shown["flags"]) == (None, [], [])
    new = await life.amend()
    assert (new["version"], new["status"]) == (2, "issued")
    said = await life.instruction(TRUST_NAME)
    assert (said["type"], said["version_id"], said["remove"]) == ("requested", new["version_id"], [life.version_id])


async def test_a_removal_is_asked_for_until_it_is_proved(publisher: Publisher) -> None:
    life = await begin(publisher)
    wrong = await life.amend()
    await life.record("recall", version_id=wrong["version_id"], reason="wrong_child", aware_at="2026-11-02T09:00:00Z")
    await life.satisfy(TRUST_NAME)
    right = await life.amend("2026-04-01", unique())
    asked = {name: (await life.instruction(name))["remove"] for name in EVERYONE}
    assert asked == {name: [] if name == TRUST_NAME else [wrong["version_id"]] for name in EVERYONE}
    assert (await life.instruction(TRUST_NAME))["version_id"] == right["version_id"]


async def test_a_former_version_is_recalled_from_everyone_who_ever_had_it(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("placement_changed", placements=[placed(SECONDARY)], changed_on="2026-02-20")
    new = await life.amend(placements=[placed(SECONDARY)])
    await life.record("recall", version_id=life.version_id, reason="wrong_child", aware_at="2026-11-02T09:00:00Z")
    said = {name: await life.instruction(name) for name in (PRIMARY_NAME, SECONDARY_NAME)}
    assert {name: (each["type"], each["remove"]) for name, each in said.items()} == {
        PRIMARY_NAME: ("recalled", [life.version_id]), SECONDARY_NAME: ("requested", [life.version_id]),
    }  # fmt: skip
    assert said[SECONDARY_NAME]["version_id"] == new["version_id"]


async def test_a_wrong_recipient_loses_every_copy_and_gets_none_again(publisher: Publisher) -> None:
    life = await begin(publisher)
    second = await life.amend()
    share_id = str((await life.shares())[TRUST_NAME]["share_id"])
    body = await life.record(
        "recall", version_id=second["version_id"], reason="wrong_recipient", shares=[share_id], aware_at="2026-11-02T09:00:00Z"
    )
    assert body["shares_changed"] == 1
    said = await life.instruction(TRUST_NAME)
    assert (said["type"], set(said["remove"])) == ("recalled", {life.version_id, second["version_id"]})
    await life.amend("2026-04-01", unique())
    assert await life.held() == all_of("hold", 3) | {TRUST_NAME: ("recall", 3)}
    await life.record("review_scheduled", review="R1", meeting_on="2099-02-01")
    assert TRUST_NAME not in (await life.told())["review_invitation"]


async def test_a_recall_that_was_wrong_is_decided_otherwise_and_asks_for_no_removal_of_what_it_wants(
    publisher: Publisher,
) -> None:
    life = await begin(publisher)
    recall = {"version_id": life.version_id, "reason": "wrong_recipient", "aware_at": "2026-11-02T09:00:00Z"}
    await life.record("recall", shares=[str((await life.shares())[TRUST_NAME]["share_id"])], **recall)
    again: dict[str, Any] = {
        "organisation": code(TRUST),
        "lawful_basis": "direct care",
        "reason": "It treats the child after all.",
    }
    await life.record("decide", share=True, **again)
    said = await life.instruction(TRUST_NAME)
    assert (said["type"], said["version_id"], said["remove"]) == ("requested", life.version_id, [])


async def test_who_was_recalled_from_is_told_nothing_either(publisher: Publisher) -> None:
    life = await begin(publisher)
    recall = {"version_id": life.version_id, "reason": "wrong_recipient", "aware_at": "2026-11-02T09:00:00Z"}
    await life.record("review_scheduled", review="R0", meeting_on="2099-02-01")
    await life.record("recall", shares=[str((await life.shares())[PRIMARY_NAME]["share_id"])], **recall)
    others = {PARENT, ICB_NAME, SOCIAL_CARE_NAME}
    assert await life.told() == {"review_invitation": others}, "what had not arrived is taken back"
    await life.record("review_scheduled", review="R1", meeting_on="2099-02-01")
    assert await life.told() == {"review_invitation": others}


async def test_recalls_that_are_refused(publisher: Publisher) -> None:
    life = await begin(publisher)
    aware = {"aware_at": "2026-11-02T09:00:00Z"}
    await life.refused(422, "unknown-version", "recall", version_id=str(uuid4()), reason="wrong_child", **aware)
    wrong = {"version_id": life.version_id, "reason": "wrong_recipient"}
    await life.refused(422, "unknown-share", "recall", shares=[str(uuid4())], **wrong, **aware)
    body = await life.refused(422, "invalid", "recall", **wrong, **aware)
    assert "name the shares" in orjson.dumps(body).decode()
    await life.refused(
        422, "in-future", "recall", version_id=life.version_id, reason="wrong_child", aware_at="2099-01-01T00:00:00Z"
    )


# --- restricted ---


async def test_a_restricted_plan_lets_nothing_out_until_it_is_lifted(publisher: Publisher) -> None:
    life = await begin(publisher)
    body = await life.record("restrict", reason="hidden_address")
    assert (body["restricted"], body["shares_changed"]) == (True, 0)
    assert {each["outcome"] for each in await life.read("subscriber-health", TRUST_NAME)} == {"held"}
    amended = await life.amend(placements=[placed(SECONDARY)])
    assert (amended["shares"], len(amended["warnings"])) == ([], 1)
    assert await life.held() == all_of("hold", 1)
    assert (await life.record("lift"))["restricted"] is False
    assert await life.held() == all_of("hold", 2) | {PRIMARY_NAME: ("withdraw", 2), SECONDARY_NAME: ("hold", 1)}
    assert (await life.instruction(TRUST_NAME))["version_id"] == amended["version_id"]
    await life.refused(409, "not-restricted", "lift", by=ANOTHER)


async def test_a_plan_that_is_restricted_twice_is_held_until_both_are_lifted(publisher: Publisher) -> None:
    life = await begin(publisher)
    for reason in ("hidden_address", "wrong_child_suspected", "hidden_address"):
        await life.record("restrict", reason=reason)
    assert (await life.shown())["restrictions"] == ["hidden_address", "wrong_child_suspected"]
    body = await life.refused(409, "several-restrictions", "lift")
    assert body["detail"] == "It is held for hidden address and wrong child suspected; each is lifted by itself."
    await life.refused(409, "not-restricted", "lift", reason="court_order")
    assert (await life.record("lift", reason="wrong_child_suspected"))["restricted"] is True
    assert {each["outcome"] for each in await life.read("subscriber-health", TRUST_NAME)} == {"held"}
    shown = await life.shown()
    assert (shown["restricted"], shown["restrictions"]) == ("hidden_address", ["hidden_address"])
    assert (await life.record("lift", reason="hidden_address"))["restricted"] is False
    assert {each["outcome"] for each in await life.read("subscriber-health", TRUST_NAME)} == {"ok"}


async def test_a_restricted_plans_wrong_copies_go_all_the_same(publisher: Publisher) -> None:
    life = await begin(publisher)
    wrong = await life.amend()
    await life.record("restrict", reason="wrong_child_suspected")
    await life.record("recall", version_id=wrong["version_id"], reason="wrong_child", aware_at="2026-11-02T09:00:00Z")
    assert await life.held() == all_of("recall", 3)
    await life.record("lift")
    said = await life.instruction(TRUST_NAME)
    assert (said["type"], said["version_id"], said["remove"]) == ("requested", life.version_id, [wrong["version_id"]])


async def test_a_plan_that_ceases_while_it_is_restricted_is_withdrawn_when_that_is_lifted(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("review_scheduled", review="R1", meeting_on="2099-02-01")
    await life.record("restrict", reason="court_order")
    await life.record("family_changed", family=[ADULT], changed_on="2026-03-01")
    assert PARENT in (await life.told())["review_invitation"]
    await life.record("cease", **CEASED, notified_on="2026-05-01")
    assert await life.held() == all_of("hold", 1)
    await life.record("lift")
    assert await life.held() == all_of("withdraw", 2)
    assert PARENT not in (await life.told())["review_invitation"]


# --- what people decide ---


async def test_a_decision_to_share_and_not_to(publisher: Publisher) -> None:
    life = await begin(publisher)
    camhs: dict[str, Any] = {"organisation": code("ods:TAJ"), "lawful_basis": "consent", "reason": "The family asked for it."}
    await life.record("decide", share=True, **camhs)
    name = "Black Country Healthcare child and adolescent mental health"
    assert (await life.held())[name] == ("hold", 1)
    await life.record("decide", share=False, **camhs)
    assert (await life.held())[name] == ("withdraw", 2)
    (decision,) = (await life.shown())["decisions"]
    assert (decision["share"], decision["lawful_basis"], decision["by"]) == (False, "consent", OFFICER)


async def test_a_decision_says_which_it_means_where_a_code_is_registered_as_several(publisher: Publisher) -> None:
    """The council's LA code is that of its social care, its virtual school and its youth justice service."""
    life = await begin(publisher)
    fields: dict[str, Any] = {"organisation": code(SOCIAL_CARE), "lawful_basis": "consent", "reason": "asked"}
    body = await life.refused(422, "several-organisations", "decide", share=True, **fields)
    assert body["title"] == "la:332 is registered as social_care and virtual_school and youth_offending_service"
    assert [each["field"] for each in body["errors"]] == ["event/kind"]
    body = await life.refused(422, "unknown-organisation", "decide", share=True, kind="trust", **fields)
    assert body["errors"][0]["problem"].startswith("la:332 is in the directory as social_care and")
    await life.record("decide", share=True, kind="youth_offending_service", **fields)
    name = "Dudley Youth Justice Service"
    (waits,) = (await life.shown())["confirmations"]
    await life.record("confirm", recipient_id=waits["recipient_id"], share=False, by=ANOTHER)
    assert name not in await life.held()
    await life.record("decide", share=True, kind="youth_offending_service", **fields | {"reason": "There is a court order."})
    await life.record("confirm", recipient_id=waits["recipient_id"], share=True, by=ANOTHER)
    held = await life.held()
    assert held[name] == ("hold", 1)
    assert {SOCIAL_CARE_NAME, VIRTUAL_SCHOOL_NAME}.isdisjoint(held)
    (decision,) = (await life.shown())["decisions"]
    assert (decision["kind"], decision["name"], decision["share"]) == ("youth_offending_service", name, True)
    await life.record("decide", share=False, kind="youth_offending_service", **fields)
    assert (await life.held())[name] == ("withdraw", 2)


async def test_a_parent_who_was_recalled_from_by_mistake_is_let_back_in(publisher: Publisher) -> None:
    life = await begin(publisher)
    share_id = str((await life.shares())[PARENT]["share_id"])
    recall = {"version_id": life.version_id, "reason": "wrong_recipient", "aware_at": "2026-11-02T09:00:00Z"}
    await life.record("recall", shares=[share_id], **recall)
    assert (await life.held())[PARENT] == ("recall", 2)
    await life.amend()
    assert (await life.held())[PARENT] == ("recall", 2)
    fields: dict[str, Any] = {"lawful_basis": "s.40(5)", "reason": "It was the right address after all."}
    await life.refused(422, "unknown-family", "decide", member="F9", share=True, **fields)
    await life.record("decide", member="M1", share=True, **fields)
    assert (await life.held())[PARENT] == ("hold", 3)
    await life.refused(409, "statutory", "decide", member="M1", share=False, **fields)
    path = f"/v1/plans/{life.plan_id}/events"
    for wrong in ({}, {"member": "M1", "organisation": code(TRUST)}, {"member": "M1", "kind": "trust"}):
        event = {"type": "decide", "by": OFFICER, "share": True, **fields, **wrong}
        problem(await publisher.post(path, event), 422, "invalid")


async def test_what_the_law_owes_is_not_decided_away(publisher: Publisher) -> None:
    life = await begin(publisher)
    fields: dict[str, Any]
    for owed in (PRIMARY, ICB):
        fields = {"organisation": code(owed), "share": False, "lawful_basis": "none", "reason": "not wanted"}
        await life.refused(409, "statutory", "decide", **fields)
    fields = {"organisation": code("ods:ZZZ"), "share": True, "lawful_basis": "consent", "reason": "asked"}
    body = await life.refused(422, "unknown-organisation", "decide", **fields)
    assert body["errors"][0]["field"] == "event/organisation"


async def test_an_objection_is_recorded_and_changes_nothing_by_itself(publisher: Publisher) -> None:
    life = await begin(publisher)
    fields: dict[str, Any] = {"about": code(TRUST), "received_on": "2026-11-01", "text": "We do not want this."}
    assert (await life.record("objection", from_reference="M1", **fields))["shares_changed"] == 0
    await life.refused(422, "unknown-family", "objection", from_reference="F9", **fields)
    assert [each["type"] for each in (await life.shown())["events"]] == ["objection"]
    sealed = await publisher.owner.fetchval("SELECT data FROM publisher.plan_event WHERE plan_id = $1", UUID(life.plan_id))
    assert b"do not want" not in sealed
    about = {**code(TRUST), "received_on": "2026-11-01", "text": "We do not want this."}
    assert (await life.shown())["objections"] == [{"from_reference": "M1", "by": OFFICER, **about}]


# --- how it is sent ---


async def test_the_same_event_twice_is_recorded_once(publisher: Publisher) -> None:
    life = await begin(publisher)
    fields: dict[str, Any] = {"family": [ADULT], "changed_on": "2026-10-01"}
    await life.record("family_changed", **fields)
    before = await life.revision()
    again = await life.post("family_changed", **fields)
    assert (again.status_code, again.json()["status"]) == (200, "unchanged")
    assert await life.revision() == before


async def test_an_idempotency_key_gives_the_first_answer_again(publisher: Publisher) -> None:
    life = await begin(publisher)
    key = {"idempotency-key": str(uuid4())}
    first = await life.post("restrict", headers=key, reason="court_order")
    await life.record("lift")
    again = await life.post("restrict", headers=key, reason="court_order")
    assert (again.status_code, again.json()) == (201, first.json())
    assert (await life.shown())["restricted"] is None
    problem(await life.post("restrict", headers=key, reason="safeguarding"), 409, "key-reused")


async def test_one_key_sent_at_once_records_one_event(publisher: Publisher) -> None:
    life = await begin(publisher)
    key = {"idempotency-key": str(uuid4())}
    answers = await asyncio.gather(*(life.post("review_scheduled", headers=key, review="R1", meeting_on="2099-02-01")
                                     for _ in range(5)))  # fmt: skip
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert len({answer.json()["notice_id"] for answer in answers if answer.status_code == 201}) == 1
    assert len((await life.shown())["events"]) == 1


async def test_many_events_at_once_all_happen_one_after_another(publisher: Publisher) -> None:
    life = await begin(publisher)
    posts = [
        life.post("placement_changed", placements=[placed(SECONDARY)], changed_on="2026-10-01"),
        life.post("family_changed", family=[ADULT], changed_on="2026-10-01"),
        life.post("involved_changed", involved=[], changed_on="2026-10-01"),
        life.post("review_scheduled", review="R1", meeting_on="2099-02-01"),
    ]
    assert [answer.status_code for answer in await asyncio.gather(*posts)] == [201] * 4
    assert await life.held() == {
        PARENT: ("withdraw", 2), PRIMARY_NAME: ("withdraw", 2), ICB_NAME: ("hold", 1), TRUST_NAME: ("withdraw", 2),
        "parent F1": ("hold", 1), SECONDARY_NAME: ("hold", 1),
    }  # fmt: skip
    assert len((await life.shown())["events"]) == 4


async def test_events_and_versions_at_once(publisher: Publisher) -> None:
    """Whichever is first: the newest version is held by whom it or a later event names, once."""
    life = await begin(publisher)
    one, ceased, other = await asyncio.gather(
        publisher.post(f"/v1/plans/{life.plan_id}/versions", {"version": version("2026-03-02", unique())}),
        life.post("cease", **CEASED, notified_on="2026-05-01"),
        publisher.post(f"/v1/plans/{life.plan_id}/versions", {"version": version("2026-03-03", unique())}),
    )
    assert ceased.status_code == 201
    assert {one.status_code, other.status_code} <= {201, 409}
    assert {action for action, _ in (await life.held()).values()} == {"withdraw"}
    rows = await publisher.outbox(*(row["share_id"] for row in (await life.shares()).values()))
    for row in (await life.shares()).values():
        seqs = [each["data"]["seq"] for each in rows if each["key"] == str(row["share_id"])]
        assert seqs == list(range(1, row["seq"] + 1))


async def test_events_in_a_batch_concern_what_was_sent_before_them(publisher: Publisher) -> None:
    life = await begin(publisher)
    gone = {"plan_id": life.plan_id, "event": happened("cease", **CEASED, notified_on="2026-05-01")}
    _, answers = await publisher.batch(
        [
            {"plan_id": life.plan_id, "version": version("2026-03-02", unique())},
            {"plan_id": life.plan_id, "event": happened("cease_notice", **NOTICE)},
            gone,
            {"plan_id": life.plan_id, "version": version("2026-04-02", unique())},
            {"plan_id": str(uuid4()), "event": happened("lift")},
            {"plan_id": life.plan_id, "event": {"type": "explode", "by": OFFICER}},
            {"plan_id": life.plan_id, "event": happened("cease", ceased_on="2026-02-30", reason="needs_met")},
            gone,
            submission(),
        ]
    )
    assert [(each["line"], each["status"]) for each in answers] == [
        (1, 201), (2, 201), (3, 201), (4, 409), (5, 404), (6, 422), (7, 422), (8, 200), (9, 201),
    ]  # fmt: skip
    assert [each.get("result") for each in answers][:3] == ["issued", "recorded", "recorded"]
    assert (answers[2]["state"], answers[7]["result"]) == ("ceased", "unchanged")
    assert await life.held() == all_of("withdraw", 3)


CEASES_BEFORE_IT_IS_NOTIFIED = NOTICE | {"ceases_on": "2026-04-30"}
NO_SETTING = {"changed_on": "2026-05-01", "placements": [{"from": "2026-05-01"}]}


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        (b"{", "malformed"),
        (b"[]", "invalid"),
        (b'{"type": "lift"}', "invalid"),
        (orjson.dumps(happened("explode")), "invalid"),
        (orjson.dumps(happened("lift", also=1)), "invalid"),
        (orjson.dumps(happened("lift") | {"by": "two\nlines"}), "invalid"),
        (orjson.dumps(happened("cease_notice", **CEASES_BEFORE_IT_IS_NOTIFIED)), "invalid"),
        (orjson.dumps(happened("cease", ceased_on=1780000000, reason="other")), "invalid"),
        (orjson.dumps(happened("placement_changed", **NO_SETTING)), "invalid"),
    ],
)
async def test_an_event_that_cannot_be_read(publisher: Publisher, body: bytes, slug: str) -> None:
    life = await begin(publisher)
    before = await life.revision()
    answer = await publisher.post(f"/v1/plans/{life.plan_id}/events", body)
    problem(answer, 400 if slug == "malformed" else 422, slug)
    assert await life.revision() == before


async def test_parts_that_do_not_fit(publisher: Publisher) -> None:
    life = await begin(publisher)
    path = f"/v1/plans/{life.plan_id}/events"
    problem(await publisher.upload(REPORT, path=path), 422, "no-event")
    problem(await publisher.upload(part("submission", b"{}"), REPORT, path=path), 422, "unknown-part")
    bad = part("document", b"not a PDF", "report.pdf", "application/pdf")
    answer = await life.upload("review_held", bad, review="R1", held_on="2026-11-02")
    problem(answer, 415, "media-type")
    assert (await life.shown())["events"] == []


async def test_another_councils_plan_is_none(publisher: Publisher) -> None:
    life = await begin(publisher)
    body = await life.refused(404, "unknown-plan", "lift", client="case-system-333")
    assert life.sent["case_reference"] not in orjson.dumps(body).decode()
    answer = await publisher.http.get(f"/v1/plans/{life.plan_id}", headers=await publisher.headers("case-system-333"))
    problem(answer, 404, "unknown-plan")
    answer = await publisher.http.get("/v1/plans?limit=500", headers=await publisher.headers("case-system-333"))
    assert life.plan_id not in answer.text


async def test_nothing_of_the_child_is_in_what_is_put_out(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("review_scheduled", review="R1", meeting_on="2099-02-01")
    await life.record("cease_notice", **NOTICE)
    rows = await publisher.owner.fetch(
        "SELECT convert_from(value, 'UTF8') || headers::text AS said FROM publisher.outbox WHERE convert_from(value, 'UTF8')"
        " LIKE '%' || $1 || '%'", life.plan_id,
    )  # fmt: skip
    assert len(rows) >= 10
    for secret in ("Hartley", "Rowan", life.sent["child"]["nhs_number"], "2014-05-06", "trains"):
        assert not any(secret in row["said"] for row in rows)


# --- what the database itself refuses ---


async def test_the_database_knows_the_states_too(publisher: Publisher) -> None:
    life = await begin(publisher)
    plan = UUID(life.plan_id)
    set_state = "UPDATE publisher.plan SET state = $2 WHERE plan_id = $1"
    await publisher.owner.execute(set_state, plan, "ceasing")
    await publisher.owner.execute(set_state, plan, "ceased")
    for state in ("ceasing", "transferred"):
        with pytest.raises(asyncpg.RaiseError, match=f"a plan does not go from ceased to {state}"):
            await publisher.owner.execute(set_state, plan, state)
    await publisher.owner.execute(set_state, plan, "live")
    await publisher.owner.execute(set_state, plan, "transferred")
    for state in ("live", "ceasing", "ceased"):
        with pytest.raises(asyncpg.RaiseError, match=f"a plan does not go from transferred to {state}"):
            await publisher.owner.execute(set_state, plan, state)


async def test_one_share_of_a_plan_and_one_of_a_notice_for_each_recipient(publisher: Publisher) -> None:
    life = await begin(publisher)
    await life.record("cease_notice", **NOTICE)
    copied = (
        "INSERT INTO publisher.share SELECT (jsonb_populate_record(s, jsonb_build_object('share_id', gen_random_uuid()))).*"
        " FROM publisher.share s WHERE plan_id = $1 AND (notice_id IS NULL) = $2 LIMIT 1"
    )
    for of_plan in (True, False):
        with pytest.raises(asyncpg.UniqueViolationError):
            await publisher.owner.execute(copied, UUID(life.plan_id), of_plan)


async def test_a_changed_wish_needs_a_higher_seq(publisher: Publisher) -> None:
    life = await begin(publisher)
    share_id = (await life.shares())[TRUST_NAME]["share_id"]
    for change in (
        "removing = ARRAY[version_id]", "action = 'recall'", "identity_revision = 2", "subscriber = 'school'", "seq = 0",
    ):  # fmt: skip
        with pytest.raises((asyncpg.RaiseError, asyncpg.CheckViolationError)):
            await publisher.owner.execute(f"UPDATE publisher.share SET {change} WHERE share_id = $1", share_id)


async def test_nobody_confirms_what_they_asked_for_in_the_database_either(publisher: Publisher) -> None:
    life = await begin(publisher)
    with pytest.raises(asyncpg.CheckViolationError):
        await publisher.owner.execute(
            "INSERT INTO publisher.confirmation (plan_id, recipient_id, la_code, kind, name, reason, asked_by, decided_by)"
            " VALUES ($1, $2, '332', 'school', 'x', 'x', 'same', 'same')", UUID(life.plan_id), uuid4(),
        )  # fmt: skip


PAST = {"review": "decided-2026-05-20", "held_on": "2026-05-20", "decision": "amend", "decided_on": "2026-05-20"}
"""As an extract tells of it, which knows the day of the decision alone."""


@pytest.mark.parametrize("extract_first", [True, False], ids=["extract-first", "events-first"])
async def test_a_review_that_arrives_by_two_ways_stands_once(publisher: Publisher, *, extract_first: bool) -> None:
    life = await begin(publisher)
    earlier = PAST | {"review": "decided-2025-05-19", "held_on": "2025-05-19", "decided_on": "2025-05-19"}
    if extract_first:
        await life.record("reviews_before", reviews=[earlier, PAST])
    await life.record("review_held", review="R-7", held_on="2026-05-06")
    await life.record("review_decided", review="R-7", decision="amend", decided_on="2026-05-20")
    if not extract_first:
        await life.record("reviews_before", reviews=[earlier, PAST])
    reviews = [(each["review"], str(each["held_on"]), each["decision"]) for each in (await life.shown())["reviews"]]
    assert reviews == [("decided-2025-05-19", "2025-05-19", "amend"), ("R-7", "2026-05-06", "amend")]


async def test_a_meeting_that_was_recorded_here_waits_for_its_decision_here(publisher: Publisher) -> None:
    """The extract knows of the decision before its people are told of it."""
    life = await begin(publisher)
    await life.record("review_held", review="R-8", held_on="2026-05-06")
    await life.record("reviews_before", reviews=[PAST])
    assert [(each["review"], each["decided_on"]) for each in (await life.shown())["reviews"]] == [("R-8", None)]
