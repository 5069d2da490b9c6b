"""Who should hold a plan when nothing is sent: days that pass, people who confirm, registers and policies that change; and what
a council sees of it. Over HTTP on real PostgreSQL, with the publisher's loops run step by step and its clock in hand."""

import asyncio
import base64
import io
import itertools
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime
from typing import Any
from unittest import mock
from uuid import UUID

import orjson
import pytest
import pytest_asyncio
from pypdf import PdfReader

from schemas.base import RecipientKind
from schemas.identifiers import CodeScheme
from schemas.lifecycle import ChildCorrected
from schemas.plan import Child
from services.ehcp_publisher.deciding import Deciding
from services.ehcp_publisher.events import Events
from services.ehcp_publisher.file_texts import FileTexts
from services.ehcp_publisher.guarding import Guarding
from services.ehcp_publisher.nightly import Nightly
from services.ehcp_publisher.redeciding import BATCH, Redeciding
from services.ehcp_publisher.registry import organisation_id
from services.ehcp_publisher.rendering import Renderer, RenderingError
from services.shared.identity.tokens import Caller, CallerKind
from services.shared.postgres.pool import council_transaction
from tests.support.files import pdf_of
from tests.support.lives import (
    ANOTHER,
    ICB_NAME,
    OFFICER,
    PARENT,
    PRIMARY_NAME,
    SECONDARY_NAME,
    SOCIAL_CARE_NAME,
    TRUST_NAME,
    VIRTUAL_SCHOOL_NAME,
    Life,
    begin,
    begin_with,
    unique,
)
from tests.support.publisher import (
    PRIMARY,
    SECONDARY,
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
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

TODAY = date(2026, 11, 22)
VIRTUAL_SCHOOL = "la:332"
PART = {"A", "B"}
"""Of the sections A, B, E, F and I that a virtual school gets, those that the test's plans have."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def publisher(postgres_server: RunningPostgres) -> AsyncIterator[PublisherAtHand]:
    async with publisher_at_hand(postgres_server) as at_hand:
        yield at_hand


def loop_of(publisher: PublisherAtHand, name: str) -> Any:
    bound: Any = publisher.parts.work[name]
    return bound.__self__


def deciding_of(publisher: PublisherAtHand) -> Deciding:
    found = loop_of(publisher, "redeciding")._deciding
    assert isinstance(found, Deciding)
    return found


@pytest.fixture(autouse=True)
def clock(publisher: PublisherAtHand) -> Iterator[mock.Mock]:
    """Noon of a day that a test may set."""
    clock = mock.Mock(return_value=datetime(2026, 11, 22, 12, tzinfo=UTC))
    with mock.patch.object(deciding_of(publisher), "clock", clock):
        yield clock


async def on(publisher: PublisherAtHand, clock: mock.Mock, day: str) -> None:
    """That day comes: what is queued, and what the day queues, is decided."""
    clock.return_value = datetime.fromisoformat(f"{day}T12:00:00+00:00")
    await decide_queued(publisher)


async def decide_queued(publisher: PublisherAtHand) -> None:
    redeciding = loop_of(publisher, "redeciding")
    assert isinstance(redeciding, Redeciding)
    async with asyncio.timeout(120):  # of plans that other tests left, too
        while await redeciding.step():
            pass


async def put(publisher: PublisherAtHand, *recipients: dict[str, Any]) -> None:
    content = b"\n".join(orjson.dumps(each) for each in recipients)
    answer = await publisher.http.put("/v1/directory", content=content, headers=await publisher.headers("operator"))
    assert answer.status_code == 200, answer.text
    assert all(orjson.loads(line)["status"] in (200, 201) for line in answer.content.splitlines()), answer.text


async def get(publisher: PublisherAtHand, path: str, client: str = "case-system-332") -> dict[str, Any]:
    answer = await publisher.http.get(path, headers=await publisher.headers(client))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def school(urn: str, name: str, **changes: Any) -> dict[str, Any]:
    codes = [code(f"urn:{urn}") | {"from": "2020-01-01"}]
    return {"kind": "school", "name": name, "codes": codes, "subscriber": "school", "channel": "inbox"} | changes


# --- days ---


async def test_a_school_is_withdrawn_on_the_day_after_its_last(publisher: PublisherAtHand, clock: mock.Mock) -> None:
    life = await begin(publisher, placements=[placed(PRIMARY, "2020-09-01", "2027-07-21"), placed(SECONDARY, "2027-09-01")])
    assert (await life.held())[SECONDARY_NAME] == ("hold", 1)
    await on(publisher, clock, "2027-07-21")
    assert (await life.held())[PRIMARY_NAME] == ("hold", 1)
    await on(publisher, clock, "2027-07-22")
    assert await life.held() == {
        PRIMARY_NAME: ("withdraw", 2), SECONDARY_NAME: ("hold", 1), PARENT: ("hold", 1), ICB_NAME: ("hold", 1),
        TRUST_NAME: ("hold", 1),
    }  # fmt: skip
    assert (await publisher.acts(life.plan_id))[-1] == "withdrawn"
    await on(publisher, clock, "2027-07-23")
    assert (await life.held())[PRIMARY_NAME] == ("withdraw", 2), "it is decided once"


async def test_rights_pass_on_the_last_friday_in_june_not_on_the_birthday(publisher: PublisherAtHand, clock: mock.Mock) -> None:
    """Born on 20 April 2011, sixteen in April 2027; the last Friday in June 2027 is the 25th."""
    family = [
        {"reference": "M1", "role": "parent", "name": "Ann Hartley"},
        {"reference": "Y1", "role": "young_person", "name": "Rowan Hartley"},
    ]
    sent = submission(version=version(family=family))
    sent["child"]["date_of_birth"] = "2011-04-20"
    life = await begin_with(publisher, sent)
    await on(publisher, clock, "2027-04-21")
    assert "young person Y1" not in await life.held()
    await on(publisher, clock, "2027-06-24")
    assert (await life.held())[PARENT] == ("hold", 1)
    await on(publisher, clock, "2027-06-25")
    held = await life.held()
    assert (held[PARENT], held["young person Y1"]) == (("withdraw", 2), ("hold", 1))


async def test_a_corrected_birthday_moves_the_day(publisher: PublisherAtHand) -> None:
    family = [
        {"reference": "M1", "role": "parent", "name": "Ann Hartley"},
        {"reference": "Y1", "role": "young_person", "name": "Rowan Hartley"},
    ]
    life = await begin(publisher, family=family)
    await life.record("child_corrected", child=life.sent["child"] | {"date_of_birth": "2009-05-06"})
    held = await life.held()
    assert (held[PARENT], held["young person Y1"]) == (("withdraw", 2), ("hold", 1))
    await life.record("child_corrected", child=life.sent["child"])
    held = await life.held()
    assert (held[PARENT], held["young person Y1"]) == (("hold", 3), ("withdraw", 2))


async def test_a_decision_ends_on_its_day(publisher: PublisherAtHand, clock: mock.Mock) -> None:
    life = await begin(publisher)
    fields: dict[str, Any] = {
        "organisation": code("ods:TAJ"),
        "lawful_basis": "consent",
        "reason": "For one term.",
        "until": "2027-03-31",
    }
    await life.record("decide", share=True, **fields)
    name = "Black Country Healthcare child and adolescent mental health"
    await on(publisher, clock, "2027-03-31")
    assert (await life.held())[name] == ("hold", 1)
    await on(publisher, clock, "2027-04-01")
    assert (await life.held())[name] == ("withdraw", 2)


async def test_a_code_that_begins_on_a_day_brings_its_organisation_the_plan_on_that_day(
    publisher: PublisherAtHand, clock: mock.Mock
) -> None:
    opens = school("800001", "New Street School", codes=[code("urn:800001") | {"from": "2027-01-01"}])
    await put(publisher, opens)
    life = await begin(publisher, placements=[placed("urn:800001", "2027-01-11")])
    assert (await life.shares())["urn:800001 (not in the directory)"]["subscriber"] is None
    await on(publisher, clock, "2027-01-01")
    shares = await life.shares()
    assert shares["urn:800001 (not in the directory)"]["action"] == "withdraw"
    assert (shares["New Street School"]["subscriber"], shares["New Street School"]["action"]) == ("school", "hold")


async def test_whose_code_ends_is_withdrawn_where_it_has_the_plan_and_whom_it_means_now_is_asked(
    publisher: PublisherAtHand, clock: mock.Mock
) -> None:
    """An ICB that is merged away: its subscriber must hear that no more comes, and the duty does not lapse."""
    codes = [code("ods:QZZ") | {"from": "2022-07-01", "until": "2027-03-31"}]
    await put(publisher, school("", "Merged ICB", kind="commissioning_body", subscriber="health", codes=codes))
    life = await begin(publisher, commissioning_bodies=[code("ods:QZZ")])
    await on(publisher, clock, "2027-03-31")
    assert (await life.held())["Merged ICB"] == ("hold", 1)
    await on(publisher, clock, "2027-04-01")
    shares = await life.shares()
    assert (shares["Merged ICB"]["action"], shares["Merged ICB"]["subscriber"]) == ("withdraw", "health")
    unknown = shares["ods:QZZ (not in the directory)"]
    assert (unknown["action"], unknown["subscriber"]) == ("hold", None)


async def test_a_plan_that_is_restricted_on_the_day_is_decided_when_that_is_lifted(
    publisher: PublisherAtHand, clock: mock.Mock
) -> None:
    life = await begin(publisher, placements=[placed(PRIMARY, "2020-09-01", "2027-07-21")])
    await life.record("restrict", reason="safeguarding")
    await on(publisher, clock, "2027-08-01")
    assert (await life.held())[PRIMARY_NAME] == ("hold", 1)
    await life.record("lift")
    assert (await life.held())[PRIMARY_NAME] == ("withdraw", 2)


async def test_a_date_of_issue_that_is_ahead_is_said(publisher: PublisherAtHand) -> None:
    """With a typing error in it, every version until that day would be history, and shared with nobody."""
    life = await begin(publisher)
    ahead = await life.amend("2027-03-02")
    assert [each.partition(":")[0] for each in ahead["warnings"]] == ["The date of issue is ahead"]
    assert (await life.amend("2026-11-22", unique()))["status"] == "kept_as_history"
    assert {seq for _, seq in (await life.held()).values()} == {2}


# --- registers ---


async def test_a_code_that_is_registered_later_is_the_same_recipient(publisher: PublisherAtHand) -> None:
    life = await begin(publisher, placements=[placed("urn:800010")])
    unknown = "urn:800010 (not in the directory)"
    before = (await life.shares())[unknown]
    assert (before["subscriber"], before["seq"]) == (None, 1)
    await put(publisher, school("800010", "Elm Road School"))
    await decide_queued(publisher)
    share = (await life.shares())["Elm Road School"]
    assert (share["share_id"], share["subscriber"], share["seq"]) == (before["share_id"], "school", 2)
    assert (await life.instruction("Elm Road School"))["recipient"] == {"kind": "school", **code("urn:800010")}


@pytest.mark.parametrize(
    ("urn", "changes"),
    [("800021", {"kind": "early_years"}), ("800022", {"codes": [code("laestab:3328022") | {"from": "2020-01-01"}]})],
)
async def test_a_code_that_is_registered_as_another_recipient_leaves_nobody_with_a_dead_share(
    publisher: PublisherAtHand, urn: str, changes: dict[str, Any]
) -> None:
    """It was taken for a school's, and is a nursery's; or it is the second code of a school that has another first."""
    life = await begin(publisher, placements=[placed(f"urn:{urn}")])
    unknown = f"urn:{urn} (not in the directory)"
    dead = (await life.shares())[unknown]["share_id"]
    registered = school(urn, "Found House", **changes)
    if "codes" in changes:
        registered["codes"] = [*registered["codes"], code(f"urn:{urn}") | {"from": "2020-01-01"}]
    await put(publisher, registered)
    await decide_queued(publisher)
    held = await life.held()
    assert (held[unknown], held["Found House"]) == (("withdraw", 2), ("hold", 1))
    assert not await publisher.owner.fetchval("SELECT count(*) FROM publisher.unsatisfied WHERE share_id = $1", dead)


async def test_a_service_of_a_council_that_is_registered_later_under_another_first_code(publisher: PublisherAtHand) -> None:
    """The youth offending service is owed the plan by the council's code, which no plan names."""
    life = await begin(publisher, detained_at=code("urn:800030"), resident_in="340")
    unknown = "la:340 (not in the directory)"
    assert (await life.held())[unknown] == ("hold", 1)
    codes = [code("ods:YOS40") | {"from": "2020-01-01"}, code("la:340") | {"from": "2020-01-01"}]
    await put(publisher, school("", "Knowsley Youth Justice", kind="youth_offending_service", codes=codes))
    await decide_queued(publisher)
    held = await life.held()
    assert (held[unknown], held["Knowsley Youth Justice"]) == (("withdraw", 2), ("hold", 1))


async def test_a_recipient_that_moves_to_another_subscriber_is_wanted_from_that_one(publisher: PublisherAtHand) -> None:
    await put(publisher, school("800040", "Moving School"))
    life = await begin(publisher, placements=[placed("urn:800040")])
    await put(publisher, school("800040", "Moving School", subscriber="social-care"))
    await decide_queued(publisher)
    share = (await life.shares())["Moving School"]
    assert (share["subscriber"], share["action"], share["seq"]) == ("social-care", "hold", 2)
    (line,) = await life.read("subscriber-social-care", "Moving School")
    assert line["outcome"] == "ok"
    (line,) = await life.read("subscriber-school", "Moving School")
    assert line["outcome"] == "unknown"


# --- parts of a plan ---


async def put_policy(publisher: PublisherAtHand, policy: dict[str, Any]) -> None:
    answer = await publisher.http.put(
        f"/v1/policies/{policy['la_code']}", content=orjson.dumps(policy), headers=await publisher.headers("operator")
    )
    assert answer.status_code == 200, answer.text


def text_of(line: dict[str, Any]) -> str:
    document = base64.b64decode(line["rendering"]["document"]["data"])
    return "".join(page.extract_text() for page in PdfReader(io.BytesIO(document)).pages)


async def looked_after(publisher: PublisherAtHand, **changes: Any) -> Life:
    sections = version()["sections"] | {"C": {"text": "Epilepsy."}, "K": {"text": "Advice is attached."}}
    sent = submission(version=version(sections=sections, looked_after_by="332", **changes))
    advice = part("attachment", pdf_document("Advice"), "advice.pdf", "application/pdf")
    answer = await publisher.upload(part("submission", orjson.dumps(sent)), advice)
    assert answer.status_code == 201, answer.text
    body = answer.json()
    return Life(publisher, body["plan_id"], body["version_id"], sent)


async def test_a_part_is_a_rendering_of_its_own(publisher: PublisherAtHand) -> None:
    life = await looked_after(publisher)
    shares = await life.shares()
    part_, whole = shares[VIRTUAL_SCHOOL_NAME], shares[PRIMARY_NAME]
    assert (part_["sections"], whole["sections"]) == ("A B E F I", "*")
    said = await life.instruction(VIRTUAL_SCHOOL_NAME)
    assert (said["sections"], said["sha256"]) == (["A", "B"], part_["sha256"])
    assert part_["sha256"] != whole["sha256"]
    for names in ([VIRTUAL_SCHOOL_NAME, PRIMARY_NAME], [PRIMARY_NAME, VIRTUAL_SCHOOL_NAME], [VIRTUAL_SCHOOL_NAME]):
        lines = dict(zip(names, await life.read("subscriber-school", *names), strict=True))
        given = lines[VIRTUAL_SCHOOL_NAME]["rendering"]
        assert given["sections"].keys() == given["manifest"]["sections"].keys() == PART
        assert given["attachments"] == []
        text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(base64.b64decode(given["document"]["data"]))).pages)
        assert "Rowan likes trains." in text
        assert "Epilepsy" not in text
        if PRIMARY_NAME in lines:
            assert [each["name"] for each in lines[PRIMARY_NAME]["rendering"]["attachments"]] == ["advice.pdf"]
            assert lines[PRIMARY_NAME]["rendering"]["sections"].keys() == {"A", "B", "C", "K"}


async def test_a_change_outside_its_part_is_no_change_to_it(publisher: PublisherAtHand) -> None:
    life = await looked_after(publisher)
    sections = life.sent["version"]["sections"] | {"C": {"text": "No epilepsy."}}
    await life.publisher.amend(life.plan_id, version("2026-03-02", sections=sections, looked_after_by="332"))
    changed = {name: (await life.instruction(name))["changed_sections"] for name in (VIRTUAL_SCHOOL_NAME, PRIMARY_NAME)}
    assert changed == {VIRTUAL_SCHOOL_NAME: [], PRIMARY_NAME: ["C"]}


async def test_a_part_that_is_first_wanted_later_is_rendered_then(publisher: PublisherAtHand) -> None:
    life = await begin(publisher)
    await life.record("care_changed", looked_after_by="332", changed_on="2026-11-01")
    assert (await life.shares())[VIRTUAL_SCHOOL_NAME]["sections"] == "A B E F I"
    (line,) = await life.read("subscriber-school", VIRTUAL_SCHOOL_NAME)
    assert line["rendering"]["sections"].keys() == PART
    await life.record("care_changed", changed_on="2026-11-10")
    assert (await life.held())[VIRTUAL_SCHOOL_NAME] == ("withdraw", 2)


async def test_a_correction_reaches_the_part_too(publisher: PublisherAtHand) -> None:
    life = await looked_after(publisher)
    await life.record("child_corrected", child=life.sent["child"] | {"given_names": "Robin Alex"})
    (line,) = await life.read("subscriber-school", VIRTUAL_SCHOOL_NAME)
    assert "Robin Alex" in text_of(line)
    assert "Rowan James" not in text_of(line)


async def test_a_part_that_a_correction_needs_names_the_child_as_the_correction_that_stands_has_it(
    publisher: PublisherAtHand,
) -> None:
    """From ten on the virtual school gets a part; the first correction to that age breaks off before it is written."""
    rule = {
        "rule": "from-ten", "when": {"age": {"from": 10}}, "sections": ["A"], "lawful_basis": "UK GDPR Article 6(1)(e)",
        "reason": "test", "share_with": {"of_council": {"kind": "virtual_school", "council": "plan"}},
    }  # fmt: skip
    approval = {"data_sharing_agreement": "D", "dpia": "P", "from": "2020-01-01"}
    before = (await get(publisher, "/v1/policies/332", "operator"))["policy"]
    await put_policy(publisher, {"la_code": "332", "approval": approval, "rules": [rule]})
    sent = submission()
    sent["child"] = child_of(sent["case_reference"]) | {"date_of_birth": "2020-05-06"}
    life = await begin_with(publisher, sent)
    older = sent["child"] | {"date_of_birth": "2012-05-06"}
    events = Events(publisher.pool, deciding_of(publisher), Guarding(publisher.pool, deciding_of(publisher), FileTexts()))
    apply, tries = events._apply, itertools.count()

    async def breaks_off(*arguments: Any) -> Any:
        if next(tries):
            raise ConnectionError
        return await apply(*arguments)

    caller = Caller("case-system-332", CallerKind.CASE_SYSTEM, frozenset({"332"}))
    first = ChildCorrected(by=OFFICER, child=Child.model_validate(older | {"given_names": "Mistyped"}))
    with mock.patch.object(events, "_apply", breaks_off), pytest.raises(ConnectionError):
        await events.record(caller, UUID(life.plan_id), first)
    await life.record("child_corrected", child=older | {"given_names": "Robin Alex"})
    (line,) = await life.read("subscriber-school", VIRTUAL_SCHOOL_NAME)
    assert "Robin Alex" in text_of(line)
    assert "Mistyped" not in text_of(line)
    await put_policy(publisher, before)


async def test_a_version_that_comes_back_by_a_recall_is_given_in_parts_that_it_never_had(publisher: PublisherAtHand) -> None:
    life = await begin(publisher)
    await life.record("care_changed", looked_after_by="332", changed_on="2026-02-20")
    wrong = await life.amend(looked_after_by="332")
    recall = {"reason": "wrong_child", "aware_at": "2026-11-02T09:00:00Z"}
    await life.record("recall", version_id=wrong["version_id"], **recall)
    said = await life.instruction(VIRTUAL_SCHOOL_NAME)
    assert (said["version_id"], said["sections"], said["remove"]) == (life.version_id, ["A", "B"], [wrong["version_id"]])


async def test_a_handover_moves_with_its_plan(publisher: PublisherAtHand) -> None:
    await put(publisher, school("800060", "Between School"))
    life = await begin(publisher, placements=[placed("urn:800060")])
    await put(publisher, school("800060", "Between School", subscriber="social-care"))
    await decide_queued(publisher)
    await life.record("transfer", to_la_code="333", moved_on="2026-11-20", aware_on="2026-11-20")
    await life.satisfy("Between School")
    await publisher.resend.sweep()
    released = (await publisher.outbox((await life.shares())["Between School"]["share_id"]))[-1]
    assert (released["topic"], released["type"]) == ("ehcp.shares.school.v1", "ehcp.share.released.v1")
    assert released["data"]["la_code"] == "333"


async def test_nobody_gets_a_part_of_a_document_that_has_no_parts(publisher: PublisherAtHand) -> None:
    sent = document_alone()
    sent["version"]["looked_after_by"] = "332"
    document = part("document", pdf_document("Plan"), "plan.pdf", "application/pdf")
    body = (await publisher.upload(part("submission", orjson.dumps(sent)), document)).json()
    life = Life(publisher, body["plan_id"], body["version_id"], sent)
    assert VIRTUAL_SCHOOL_NAME not in await life.held()
    assert [each["who"] for each in (await life.shown())["share_gaps"]] == ["virtual school of 332"]


async def test_a_plan_that_cannot_be_typeset_holds_up_no_other(publisher: PublisherAtHand) -> None:
    """Both were issued before the policy gave the college a part of them."""
    bad, good = await begin(publisher), await begin(publisher)
    render = Renderer.render

    async def fails_for_one(self: Renderer, child: Any, council: str, case_reference: str, *more: Any) -> bytes:
        if case_reference == bad.sent["case_reference"]:
            raise RenderingError("cannot")
        return await render(self, child, council, case_reference, *more)

    before = (await get(publisher, "/v1/policies/332"))["policy"]
    rule = {
        "rule": "college-part", "share_with": {"organisation": {"kind": "college", **code("ukprn:10993201")}},
        "sections": ["B"], "lawful_basis": "consent", "reason": "It asked for it.",
    }  # fmt: skip
    headers = await publisher.headers("operator")
    policy = before | {"rules": [*before["rules"], rule]}
    waits = "SELECT failures, try_at - now() > interval '5 seconds' AS later FROM publisher.decision_queue WHERE plan_id = $1"
    with mock.patch.object(Renderer, "render", fails_for_one):
        answer = await publisher.http.put("/v1/policies/332", content=orjson.dumps(policy), headers=headers)
        assert answer.status_code == 200, answer.text
        await decide_queued(publisher)  # it is not tried every moment
        assert (await good.held())["Castle Hill College"] == ("hold", 1)
        assert "Castle Hill College" not in await bad.held()
        assert tuple(await publisher.owner.fetchrow(waits, UUID(bad.plan_id)) or ()) == (1, True)
        assert "not_decided" not in [each["code"] for each in (await bad.shown())["flags"]], "once may be a mishap"
        await publisher.owner.execute(
            "UPDATE publisher.decision_queue SET try_at = now() WHERE plan_id = $1", UUID(bad.plan_id)
        )
        await decide_queued(publisher)
    shown = await bad.shown()
    (flag,) = [each for each in shown["flags"] if each["code"] == "not_decided"]
    assert flag["detail"].startswith("Some recipients do not get what they should: no document can be made")
    listed = (await get(publisher, f"/v1/plans?case_reference={bad.sent['case_reference']}"))["plans"]
    count = len(shown["flags"])
    assert [(each["flags"], each["flag_count"], shown["flag_count"]) for each in listed] == [(count, count, count)]
    assert (bad.plan_id, "not_decided") in [
        (each["plan_id"], each["name"]) for each in (await get(publisher, "/v1/flags"))["flags"]
    ]
    answer = await publisher.http.put("/v1/policies/332", content=orjson.dumps(before), headers=headers)
    assert answer.status_code == 200, answer.text
    await decide_queued(publisher)  # what changes for it is tried at once
    assert (await good.held())["Castle Hill College"] == ("withdraw", 2)
    assert "not_decided" not in [each["code"] for each in (await bad.shown())["flags"]]


async def test_a_part_for_every_plan_takes_two_looks_at_each(publisher: PublisherAtHand) -> None:
    """One to see which documents are missing, one when they are there; not one more for each document."""
    lives = [await begin(publisher) for _ in range(4)]
    before = (await get(publisher, "/v1/policies/332"))["policy"]
    rule = {
        "rule": "college-hopes", "share_with": {"organisation": {"kind": "college", **code("ukprn:10993201")}},
        "sections": ["A"], "lawful_basis": "consent", "reason": "It asked for it.",
    }  # fmt: skip
    await decide_queued(publisher)
    headers = await publisher.headers("operator")
    answer = await publisher.http.put(
        "/v1/policies/332", content=orjson.dumps(before | {"rules": [*before["rules"], rule]}), headers=headers
    )
    assert answer.status_code == 200, answer.text
    try:
        queued = await publisher.owner.fetchval("SELECT count(*) FROM publisher.decision_queue WHERE try_at <= now()")
        deciding = deciding_of(publisher)
        with mock.patch.object(deciding, "again", wraps=deciding.again) as looks:
            await decide_queued(publisher)
        assert queued >= 4
        assert looks.call_count <= 2 * -(-queued // BATCH)
        for life in lives:
            assert (await life.held())["Castle Hill College"] == ("hold", 1)
    finally:
        answer = await publisher.http.put("/v1/policies/332", content=orjson.dumps(before), headers=headers)
        assert answer.status_code == 200, answer.text
        await decide_queued(publisher)


# --- unusual recipients ---


async def test_a_school_outside_the_area_waits_for_a_second_person(publisher: PublisherAtHand) -> None:
    await put(publisher, school("800050", "Far Away School", areas=["931"]))
    life = await begin(publisher)
    body = await life.record("placement_changed", placements=[placed("urn:800050")], changed_on="2026-11-01")
    assert body["shares_changed"] == 1, "the former school is withdrawn"
    assert "Far Away School" not in await life.held()
    (waits,) = (await life.shown())["confirmations"]
    assert (waits["asked_by"], waits["name"], waits["share"]) == (OFFICER, "Far Away School", None)
    listed = (await get(publisher, "/v1/confirmations"))["confirmations"]
    assert [each["case_reference"] for each in listed if each["plan_id"] == life.plan_id] == [life.sent["case_reference"]]
    await life.record("review_scheduled", review="R1", meeting_on="2027-02-01")
    assert "Far Away School" not in (await life.told())["review_invitation"], "it is told nothing of the child either"
    recipient = str(organisation_id(RecipientKind.SCHOOL, CodeScheme.URN, "800050"))
    body = await life.refused(409, "same-person", "confirm", recipient_id=recipient, share=True)
    assert body["errors"][0]["field"] == "event/by"
    await life.record("confirm", recipient_id=recipient, share=True, by=ANOTHER)
    assert (await life.held())["Far Away School"] == ("hold", 1)
    await life.refused(409, "confirmed", "confirm", recipient_id=recipient, share=False, by="officer-3")
    await life.record("cease_notice", notified_on="2026-11-01", ceases_on="2027-07-20", reason="needs_met")
    assert "Far Away School" in (await life.told())["cease_notice"]


async def test_who_is_confirmed_is_told_what_it_missed_while_it_waited(publisher: PublisherAtHand) -> None:
    """A school far away must know that the plan is to cease; of a meeting that was held, an invitation tells it nothing."""
    await put(publisher, school("800055", "Remote School", areas=["931"]))
    life = await begin(publisher, placements=[placed("urn:800055")])
    await life.record("cease_notice", notified_on="2026-10-01", ceases_on="2027-06-20", reason="needs_met")
    out: dict[str, Any] = {"not_to": [{"organisation": code("urn:800055")}], "not_to_reason": "It is for the family alone."}
    await life.record("review_scheduled", review="R1", meeting_on="2099-02-01", **out)
    await life.record("cease_notice", notified_on="2026-11-01", ceases_on="2027-07-20", reason="needs_met")
    assert "Remote School" not in (await life.told())["cease_notice"]
    recipient = str(organisation_id(RecipientKind.SCHOOL, CodeScheme.URN, "800055"))
    body = await life.record("confirm", recipient_id=recipient, share=True, by=ANOTHER)
    assert body["shares_changed"] == 2, "the plan, and the newer of the two cease notices"
    told = await life.told()
    assert "Remote School" in told["cease_notice"]
    assert "Remote School" not in told["review_invitation"], "it was left out of that one"
    body = await life.record("placement_changed", placements=[placed("urn:800055"), placed(PRIMARY)], changed_on="2026-11-01")
    assert body["shares_changed"] == 1, "nobody is told twice"


async def test_what_is_held_or_recalled_is_told_to_nobody_who_is_confirmed_meanwhile(publisher: PublisherAtHand) -> None:
    await put(publisher, school("800056", "Distant School", areas=["931"]))
    life = await begin(publisher, placements=[placed("urn:800056")])
    scan = part("document", pdf_of(""), "report.pdf")
    held = (await life.upload("review_held", scan, review="R1", held_on="2026-11-19")).json()
    recall: dict[str, Any] = {"reason": "wrong_child", "aware_at": "2026-11-20T10:00:00+00:00"}
    await life.refused(409, "held", "recall", version_id=held["notice_id"], **recall)
    notice = await life.record("cease_notice", notified_on="2026-11-01", ceases_on="2027-07-20", reason="needs_met")
    await life.record("recall", version_id=notice["notice_id"], **recall)
    recipient = str(organisation_id(RecipientKind.SCHOOL, CodeScheme.URN, "800056"))
    body = await life.record("confirm", recipient_id=recipient, share=True, by=ANOTHER)
    assert body["shares_changed"] == 1, "the plan alone"
    assert await life.told() == {}
    await life.record("confirm", version_id=held["notice_id"], share=True, by=ANOTHER)
    assert await life.told() == {"review_report": {"Distant School", PARENT, ICB_NAME, SOCIAL_CARE_NAME}}
    body = await life.record("placement_changed", placements=[placed("urn:800056"), placed(PRIMARY)], changed_on="2026-11-01")
    assert body["shares_changed"] == 1, "nobody is told twice, nor of what was recalled"


async def test_who_is_confirmed_while_a_version_is_prepared_is_known_to_it(publisher: PublisherAtHand) -> None:
    """The version was compared with the family as it was: under the plan's lock it is another."""
    first = {"reference": "M1", "role": "parent", "name": "Ann Hartley", "email": "ann@example.org"}
    life = await begin(publisher, family=[first])
    await life.record("family_changed", family=[first | {"name": "Zoe Unrelated"}], changed_on="2026-03-01")
    (asked,) = (await life.shown())["confirmations"]
    waits = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND datname = $1"
    database = await publisher.owner.fetchval("SELECT current_database()")

    async def waiting(number: int) -> bool:
        return bool(await publisher.owner.fetchval(waits, database) == number)

    async with publisher.owner.acquire() as another:
        work = another.transaction()
        await work.start()
        await another.execute("SELECT FROM publisher.plan WHERE plan_id = $1 FOR UPDATE", UUID(life.plan_id))
        confirmed = asyncio.create_task(life.record("confirm", recipient_id=asked["recipient_id"], share=True, by=ANOTHER))
        await until(lambda: waiting(1), what="the confirmation waits for the plan", within=60)
        amended = asyncio.create_task(life.amend(family=[first]))
        await until(lambda: waiting(2), what="the version waits for it too", within=60)
        await work.rollback()
    await confirmed
    (warning,) = (await amended)["warnings"]
    assert "the reference was another name's before" in warning


async def test_what_a_second_person_refused_stays_refused_by_the_next_version(publisher: PublisherAtHand) -> None:
    await put(publisher, school("800051", "Mistyped School", areas=["931"]))
    sent = submission(version=version(placements=[placed("urn:800051")]))
    answer = await publisher.post("/v1/plans", sent)
    assert answer.json()["warnings"] == [
        "Mistyped School (urn:800051) waits for a second person's confirmation: it serves other areas than 332: 931."
    ]
    life = Life(publisher, answer.json()["plan_id"], answer.json()["version_id"], sent)
    recipient = str(organisation_id(RecipientKind.SCHOOL, CodeScheme.URN, "800051"))
    await life.record("confirm", recipient_id=recipient, share=False, by=ANOTHER)
    await life.amend(placements=[placed("urn:800051")])
    assert "Mistyped School" not in await life.held()
    assert (await life.shown())["to_confirm"] is False
    notice = await life.record("review_scheduled", review="R1", meeting_on="2027-02-01")
    waiting = "SELECT waiting FROM publisher.notice WHERE notice_id = $1"
    assert await publisher.owner.fetchval(waiting, UUID(notice["notice_id"])) == [], "nobody waits for what was refused"


async def test_whoever_issued_the_version_is_no_second_person(publisher: PublisherAtHand) -> None:
    await put(publisher, school("800053", "Distant School", areas=["931"]))
    life = await begin_with(publisher, submission(version=version(placements=[placed("urn:800053")])) | {"by": OFFICER})
    shown = await life.shown()
    assert [(each["version"], each["by"]) for each in shown["versions"]] == [(1, OFFICER)]
    assert [each["asked_by"] for each in shown["confirmations"]] == [OFFICER]
    acts = await publisher.owner.fetch(
        "SELECT details FROM audit.pending WHERE act = 'issued' AND plan_id = $1", UUID(life.plan_id)
    )
    assert [each["details"]["by"] for each in acts] == [OFFICER]
    recipient = str(organisation_id(RecipientKind.SCHOOL, CodeScheme.URN, "800053"))
    for by in (OFFICER, OFFICER.upper()):
        body = await life.refused(409, "same-person", "confirm", recipient_id=recipient, share=True, by=by)
        assert body["detail"] == f"{by} brought the recipient in, so another officer confirms or refuses it."
    path = f"/v1/plans/{life.plan_id}/versions"
    further = {"version": version("2026-03-02", unique(), placements=[placed("urn:800053")]), "by": ANOTHER}
    assert (await publisher.post(path, further)).status_code == 201
    await life.refused(409, "same-person", "confirm", recipient_id=recipient, share=True, by=ANOTHER)
    await life.record("confirm", recipient_id=recipient, share=True, by=OFFICER)
    assert (await life.held())["Distant School"] == ("hold", 1)
    assert [each["by"] for each in (await life.shown())["versions"]] == [OFFICER, ANOTHER]


async def test_who_becomes_unusual_later_is_confirmed_by_another_than_who_named_it(publisher: PublisherAtHand) -> None:
    """Nobody asks then but the directory; the one who named it has looked already."""
    await put(publisher, school("800054", "Border School"))
    by_version = await begin_with(publisher, submission(version=version(placements=[placed("urn:800054")])) | {"by": OFFICER})
    by_event = await begin_with(publisher, submission() | {"by": ANOTHER})
    await by_event.record("placement_changed", placements=[placed("urn:800054")], changed_on="2026-11-01")
    by_client = await begin(publisher, placements=[placed("urn:800054")])
    await put(publisher, school("800054", "Border School", areas=["931"]))
    await decide_queued(publisher)
    for life, asked_by in ((by_version, OFFICER), (by_event, OFFICER), (by_client, "case-system-332")):
        assert (await life.held())["Border School"][0] == "withdraw"
        assert [each["asked_by"] for each in (await life.shown())["confirmations"]] == [asked_by]


async def test_lines_of_a_batch_name_their_officers(publisher: PublisherAtHand) -> None:
    (answer,) = (await publisher.batch([submission() | {"by": OFFICER}]))[1]
    further = {"plan_id": answer["plan_id"], "version": version("2026-03-02", unique()), "by": ANOTHER}
    assert (await publisher.batch([further]))[1][0]["result"] == "issued"
    shown = await get(publisher, f"/v1/plans/{answer['plan_id']}")
    assert [each["by"] for each in shown["versions"]] == [OFFICER, ANOTHER]
    named = problem(await publisher.post("/v1/plans", submission() | {"by": "Jo Hart"}), 422, "invalid")
    assert [each["field"] for each in named["errors"]] == ["by"]


async def test_nothing_waits_for_who_is_not_named_any_more(publisher: PublisherAtHand) -> None:
    await put(publisher, school("800052", "Slip School", areas=["931"]))
    life = await begin(publisher, placements=[placed("urn:800052")])
    assert (await life.shown())["to_confirm"] is True
    await life.record("placement_changed", placements=[placed(PRIMARY)], changed_on="2026-11-01")
    assert (await life.shown())["to_confirm"] is False
    recipient = str(organisation_id(RecipientKind.SCHOOL, CodeScheme.URN, "800052"))
    await life.refused(404, "no-confirmation", "confirm", recipient_id=recipient, share=True, by=ANOTHER)


async def test_a_confirmed_recipient_of_a_part_gets_the_next_version_too(publisher: PublisherAtHand) -> None:
    """Its part is rendered before the transaction, for which the confirmation has to be known there."""
    await put(publisher, school("", "Virtual School Far", kind="virtual_school", areas=["931"],
                                codes=[code("la:931") | {"from": "2020-01-01"}]))  # fmt: skip
    life = await begin(publisher, looked_after_by="931")
    recipient = str(organisation_id(RecipientKind.VIRTUAL_SCHOOL, CodeScheme.LA, "931"))
    await life.record("confirm", recipient_id=recipient, share=True, by=ANOTHER)
    await life.amend(looked_after_by="931")
    assert (await life.held())["Virtual School Far"] == ("hold", 2)


async def test_an_organisation_that_is_new_to_the_council_is_confirmed_once_for_all_plans(publisher: PublisherAtHand) -> None:
    """A first load of many plans asks one question about each such organisation, and every plan that waits says so."""
    fields: dict[str, Any] = {"kind": "trust", "codes": [code("ods:NEW01") | {"from": "2020-01-01"}]}
    await put(publisher, school("", "New Trust", **fields))
    involved = [{"role": "advice", "kind": "trust", "organisation": code("ods:NEW01")}]
    sent = [submission(version=version(involved=involved)) | {"by": OFFICER} for _ in range(3)]
    _, answers = await publisher.batch(sent)
    reason = "council 332 has not shared with it before, and no law names it"
    assert [each["warnings"] for each in answers] == [
        [f"New Trust (ods:NEW01) waits for a second person's confirmation: {reason}."]
    ] * 3
    lives = [Life(publisher, each["plan_id"], each["version_id"], sent[0]) for each in answers]
    for life in lives:
        assert "New Trust" not in await life.held()
        assert (await life.shown())["to_confirm"] is True
    listed = [each for each in (await get(publisher, "/v1/confirmations"))["confirmations"] if each["recipient"] == "New Trust"]
    assert [(each["plans"], each["plan_id"]) for each in listed] == [(3, min(each["plan_id"] for each in answers))]
    async with council_transaction(publisher.owner, {"332"}) as connection:
        seen = await connection.fetch("SELECT plan_id FROM publisher.v_confirmation WHERE name = 'New Trust'")
    assert len(seen) == 1, "one alert"
    recipient = str(organisation_id(RecipientKind.TRUST, CodeScheme.ODS, "NEW01"))
    await lives[0].refused(409, "same-person", "confirm", recipient_id=recipient, share=True)
    await lives[2].record("confirm", recipient_id=recipient, share=False, by=ANOTHER)
    await lives[1].record("confirm", recipient_id=recipient, share=True, by=ANOTHER)
    assert (await lives[1].held())["New Trust"] == ("hold", 1)
    await decide_queued(publisher)
    assert (await lives[0].held())["New Trust"] == ("hold", 1)
    assert (await lives[0].shown())["to_confirm"] is False
    assert "New Trust" not in await lives[2].held(), "for that plan it was refused"
    after = await begin(publisher, involved=involved)
    assert (await after.held())["New Trust"] == ("hold", 1)
    other = await begin_with(publisher, submission(la_code="333", version=version(involved=involved)))
    assert "New Trust" not in await other.held(), "another council has a question of its own"
    async with started_again(publisher) as again:
        life = await begin(again, involved=involved)
        assert (await life.held())["New Trust"] == ("hold", 1), "it is known after a restart"


async def test_whoever_a_person_decides_to_share_with_waits_where_the_council_never_did(publisher: PublisherAtHand) -> None:
    fields: dict[str, Any] = {"kind": "gp", "codes": [code("ods:M87001") | {"from": "2020-01-01"}]}
    await put(publisher, school("", "Village Surgery", **fields))
    life = await begin(publisher)
    decision: dict[str, Any] = {"organisation": code("ods:M87001"), "lawful_basis": "consent", "reason": "The family asked."}
    body = await life.record("decide", share=True, **decision)
    assert body["shares_changed"] == 0
    assert body["warnings"] == [
        "Village Surgery (ods:M87001) waits for a second person's confirmation: council 332 has not shared with it before, "
        "and no law names it."
    ]
    recipient = str(organisation_id(RecipientKind.GP, CodeScheme.ODS, "M87001"))
    await life.refused(409, "same-person", "confirm", recipient_id=recipient, share=True)
    await life.record("confirm", recipient_id=recipient, share=True, by=ANOTHER)
    assert (await life.held())["Village Surgery"] == ("hold", 1)
    second = await begin(publisher)
    await second.record("decide", share=True, **decision)
    assert (await second.held())["Village Surgery"] == ("hold", 1)


async def test_why_a_share_stands_is_kept_up_where_the_wish_stays(publisher: PublisherAtHand) -> None:
    """A school that is named until July and then for another year holds the same version, and stands on another day."""
    life = await begin(publisher, placements=[placed(PRIMARY, "2020-09-01", "2027-07-21")])

    async def stands() -> list[tuple[str, Any]]:
        rows = await publisher.owner.fetch(
            "SELECT g.reason, g.until_date FROM publisher.share_ground g WHERE g.share_id = $1 ORDER BY g.reference",
            (await life.shares())[PRIMARY_NAME]["share_id"],
        )
        return [(row["reason"], row["until_date"]) for row in rows]

    assert await stands() == [("named in section I", date(2027, 7, 21))]
    body = await life.record("placement_changed", placements=[placed(PRIMARY, "2020-09-01")], changed_on="2026-11-01")
    assert body["shares_changed"] == 0
    assert await stands() == [("named in section I", None)]
    decision: dict[str, Any] = {"organisation": code(PRIMARY), "lawful_basis": "consent", "reason": "It asked."}
    await life.record("decide", share=True, **decision)
    await life.record("decide", share=True, **decision | {"reason": "The family asked too."})
    assert (await life.held())[PRIMARY_NAME] == ("hold", 1)
    assert set(await stands()) == {("named in section I", None), ("The family asked too.", None)}


# --- what a council sees ---


async def test_share_gaps_are_listed_by_page_and_only_to_their_council(publisher: PublisherAtHand) -> None:
    involved = [{"role": "advice", "organisation": code(f"ods:GAP0{place}"), "sections": ["K"]} for place in range(5)]
    life = await begin(publisher, involved=involved)
    expected = [f"advice: ods:GAP0{place}" for place in range(5)]
    found: list[str] = []
    query = "?limit=2"
    while True:
        page = await get(publisher, f"/v1/gaps{query}")
        found += [each["name"] for each in page["gaps"] if each["plan_id"] == life.plan_id]
        assert len(page["gaps"]) <= 2
        if page["next"] is None:
            break
        after = page["next"]
        query = f"?limit=2&after_plan={after['after_plan']}&after_name={after['after_name'].replace(' ', '%20')}"
    assert found == expected
    assert life.plan_id not in orjson.dumps(await get(publisher, "/v1/gaps", "case-system-333")).decode()
    await life.record("involved_changed", involved=[], changed_on="2026-11-01")
    assert life.plan_id not in orjson.dumps(await get(publisher, "/v1/gaps")).decode()


async def test_social_care_and_virtual_school_of_one_code_are_not_taken_for_each_other(publisher: PublisherAtHand) -> None:
    involved = [{"role": "advice", "kind": "virtual_school", "organisation": code(VIRTUAL_SCHOOL)}]
    life = await begin(publisher, involved=involved, looked_after_by="332")
    assert VIRTUAL_SCHOOL_NAME in await life.held()
    assert (await life.shown())["share_gaps"] == []


async def test_plans_are_listed_by_page(publisher: PublisherAtHand) -> None:
    lives = [await begin(publisher) for _ in range(3)]
    found: list[str] = []
    after = ""
    while True:
        page = await get(publisher, f"/v1/plans?limit=2{after}")
        found += [each["plan_id"] for each in page["plans"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert len(found) == len(set(found))
    assert found == sorted(found)
    assert {life.plan_id for life in lives} <= set(found)
    (entry,) = [each for each in (await get(publisher, "/v1/plans"))["plans"] if each["plan_id"] == lives[0].plan_id]
    assert (entry["state"], entry["shares"], entry["gaps"], entry["has_nhs_number"]) == ("live", 4, 0, True)
    assert entry["current"]["version_id"] == lives[0].version_id
    assert "Hartley" not in orjson.dumps(entry).decode()
    looks = await publisher.owner.fetchval("SELECT count(*) FROM audit.pending WHERE act = 'plans_read' AND la_code = '332'")
    assert looks >= 3


async def test_flags_come_with_time_and_go_with_the_next_version(publisher: PublisherAtHand, clock: mock.Mock) -> None:
    recent = {"views_recorded_on": "2026-02-01"}
    sent = sent_at_ten(version(**recent, placements=[placed(PRIMARY)]))
    life = await begin_with(publisher, sent)
    codes = {each["code"] for each in (await life.shown())["flags"]}
    assert "views_not_current" not in codes
    clock.return_value = datetime(2027, 2, 2, 12, tzinfo=UTC)
    await night(publisher)
    flags = {each["code"]: each["detail"] for each in (await life.shown())["flags"]}
    assert flags["views_not_current"] == "The views in section A are of 1 February 2026, more than twelve months ago."
    listed = (await get(publisher, "/v1/flags"))["flags"]
    assert {"views_not_current"} <= {each["name"] for each in listed if each["plan_id"] == life.plan_id}
    await publisher.amend(life.plan_id, version("2027-02-02", unique(), views_recorded_on="2027-01-20"))
    assert "views_not_current" not in {each["code"] for each in (await life.shown())["flags"]}


def sent_at_ten(sent: dict[str, Any]) -> dict[str, Any]:
    """Of a child of ten, whom no change of phase is near."""
    return submission(child=child_of(reference()) | {"date_of_birth": "2017-01-10"}, version=sent)


async def test_a_ceased_plan_has_no_flags_even_at_night(publisher: PublisherAtHand) -> None:
    life = await begin(publisher)
    await life.record("cease", ceased_on="2026-07-21", reason="needs_met", notified_on="2026-05-01")
    await night(publisher)
    assert (await life.shown())["flags"] == []


async def test_a_plan_that_cannot_be_opened_keeps_nobody_elses_from_being_judged(
    publisher: PublisherAtHand, clock: mock.Mock
) -> None:
    lives = [await begin_with(publisher, sent_at_ten(version(views_recorded_on="2026-02-01"))) for _ in range(2)]
    spoilt = UUID(lives[0].plan_id)
    sealed = await publisher.owner.fetchval("SELECT identity FROM publisher.child JOIN publisher.plan USING (child_id)"
                                            " WHERE plan_id = $1", spoilt)  # fmt: skip
    change = (
        "UPDATE publisher.child SET identity = $2 WHERE child_id = (SELECT child_id FROM publisher.plan WHERE plan_id = $1)"
    )
    clock.return_value = datetime(2027, 2, 3, 12, tzinfo=UTC)
    await publisher.owner.execute(change, spoilt, b"spoilt")
    try:
        await night(publisher)
    finally:
        await publisher.owner.execute(change, spoilt, sealed)
    flagged = [{each["code"] for each in (await life.shown())["flags"]} for life in lives]
    assert ["views_not_current" in codes for codes in flagged] == [False, True]


async def test_a_plan_that_cannot_be_opened_is_listed_without_its_settings(publisher: PublisherAtHand) -> None:
    life = await begin(publisher)
    listed = f"/v1/plans?case_reference={life.sent['case_reference']}"
    [before] = (await get(publisher, listed))["plans"]
    change = "UPDATE publisher.plan SET circumstances = $2 WHERE plan_id = $1"
    await publisher.owner.execute(change, UUID(life.plan_id), b"spoilt")
    try:
        [found] = (await get(publisher, listed))["plans"]
    finally:
        await publisher.owner.execute(change, UUID(life.plan_id), None)
    assert before["settings"] != []
    assert found == before | {"settings": []}


async def test_a_night_goes_on_where_it_was_interrupted(publisher: PublisherAtHand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ehcp_publisher.nightly.PAGE", 1)
    for _ in range(2):
        await begin(publisher)
    await publisher.owner.execute("DELETE FROM publisher.night")
    assert await loop_of(publisher, "nightly").step()
    lowest = await publisher.owner.fetchval(
        "SELECT plan_id FROM publisher.plan WHERE state IN ('live', 'ceasing') ORDER BY plan_id LIMIT 1"
    )
    assert await publisher.owner.fetchval("SELECT after FROM publisher.night WHERE NOT done") == lowest
    assert await loop_of(publisher, "nightly").step()
    assert await publisher.owner.fetchval("SELECT after > $1 FROM publisher.night", lowest)
    await night(publisher)
    assert await publisher.owner.fetchval("SELECT done FROM publisher.night")
    assert not await loop_of(publisher, "nightly").step(), "the day is done"


async def test_what_changed_a_plan_during_the_night_is_not_overwritten(
    publisher: PublisherAtHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = await begin_with(publisher, sent_at_ten(version(views_recorded_on="2024-02-01", placements=[placed(PRIMARY)])))
    nightly = loop_of(publisher, "nightly")
    write, judged = nightly._write, []

    async def ceased_meanwhile(plans: Any, flags: Any, *rest: Any) -> None:
        if UUID(life.plan_id) in flags:
            judged.append(flags[UUID(life.plan_id)])
            await life.record("cease", ceased_on="2026-07-21", reason="needs_met", notified_on="2026-05-01")
        await write(plans, flags, *rest)

    monkeypatch.setattr(nightly, "_write", ceased_meanwhile)
    await publisher.owner.execute("DELETE FROM publisher.night")
    await night(publisher)
    assert [flag.code for flag in judged[0][1]].count("views_not_current") == 1
    assert (await life.shown())["flags"] == []


async def night(publisher: PublisherAtHand) -> None:
    nightly = loop_of(publisher, "nightly")
    assert isinstance(nightly, Nightly)
    while await nightly.step():
        pass


async def test_nobody_looks_at_what_is_not_theirs(publisher: PublisherAtHand) -> None:
    life = await begin(publisher)
    for what in ("plans", "gaps", "flags", "confirmations"):
        headers = await publisher.headers("subscriber-health")
        assert (await publisher.http.get(f"/v1/{what}", headers=headers)).status_code == 403
    answer = await publisher.http.get(f"/v1/plans/{life.plan_id}", headers=await publisher.headers("case-system-333"))
    problem(answer, 404, "unknown-plan")


async def test_deciding_what_is_decided_changes_nothing(publisher: PublisherAtHand) -> None:
    life = await looked_after(publisher)
    before = await life.held()
    for _ in range(3):
        await publisher.owner.execute(
            "INSERT INTO publisher.decision_queue (plan_id, la_code, reason) VALUES ($1, '332', 'test')", UUID(life.plan_id)
        )
        await decide_queued(publisher)
    assert await life.held() == before
