"""`ehcp record` and the lists of plans against a running publisher."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.command_line import ehcp, publisher_for_commands, told
from tests.support.publisher import Publisher, code, pdf_document, reference, submission, version
from tests.support.servers import RunningPostgres

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]
COUNCIL, OTHER, OPERATOR = "case-system-332", "case-system-333", "operator"
BY = ("--by", "officer-7")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def publisher(postgres_server: RunningPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Publisher]:
    async with publisher_for_commands(postgres_server, tmp_path_factory.mktemp("publisher")) as running:
        yield running


async def test_an_event_is_recorded_by_case_reference_and_shown_with_the_plan(publisher: Publisher) -> None:
    case_reference = reference()
    plan_id = (await publisher.issue(submission(case_reference)))["plan_id"]
    notice = ("record", "cease_notice", case_reference, "--notified-on", "2026-06-01", "--ceases-on", "2026-09-01")
    recorded = await told(publisher, COUNCIL, *notice, "--reason", "needs_met", *BY)
    assert (recorded["plan_id"], recorded["state"], recorded["status"]) == (plan_id, "ceasing", "recorded")
    again = await ehcp(publisher, COUNCIL, *notice, "--reason", "needs_met", *BY)
    assert again.stdout == f"{case_reference}: cease_notice was recorded before; nothing was changed.\n"

    shown = await told(publisher, COUNCIL, "plan", case_reference)
    assert (shown["state"], shown["ceases_on"]) == ("ceasing", "2026-09-01")
    assert [(event["type"], event["by"]) for event in shown["events"]] == [("cease_notice", "officer-7")]
    read = (await ehcp(publisher, COUNCIL, "plan", plan_id)).stdout
    assert f"{case_reference}: ceasing, ceases on 2026-09-01 (needs_met)" in read
    [listed] = [row for row in await told(publisher, COUNCIL, "plans") if row["case_reference"] == case_reference]
    assert (listed["state"], listed["current"]["version"]) == ("ceasing", 1)


async def test_a_document_goes_with_the_event(publisher: Publisher, tmp_path_factory: pytest.TempPathFactory) -> None:
    case_reference = reference()
    await publisher.issue(submission(case_reference))
    report = tmp_path_factory.mktemp("files") / "report.pdf"
    report.write_bytes(pdf_document("annual review"))
    recorded = await told(
        publisher, COUNCIL, "record", "review_held", case_reference, "--review", "AR-1", "--held-on", "2026-06-01",
        "--document", str(report), *BY,
    )  # fmt: skip
    assert recorded["told"] > 0
    [review] = (await told(publisher, COUNCIL, "plan", case_reference))["reviews"]
    assert review["held_on"] == "2026-06-01"
    assert review["reported_on"] is not None


async def test_a_version_is_recalled_by_its_number(publisher: Publisher) -> None:
    case_reference = reference()
    plan_id = (await publisher.issue(submission(case_reference)))["plan_id"]
    wrong = await publisher.amend(plan_id, version("2026-03-02", "Another child's."))
    recall = ("record", "recall", case_reference, "--reason", "wrong_child", "--aware-at", "2026-11-02T09:00+00:00", *BY)
    unknown = await ehcp(publisher, COUNCIL, *recall, "--version-id", "7")
    assert (unknown.exit_code, unknown.stderr) == (1, f"{case_reference} has no version 7; it has 1, 2.\n")
    would = await told(publisher, COUNCIL, *recall, "--version-id", "2", "--dry-run")
    assert would["version_id"] == wrong["version_id"]
    assert (await told(publisher, COUNCIL, *recall, "--version-id", "2"))["status"] == "recorded"
    shown = await told(publisher, COUNCIL, "plan", case_reference)
    assert [each["version"] for each in shown["versions"] if each["recalled_at"]] == [2]


async def test_a_dry_run_sends_nothing(publisher: Publisher) -> None:
    case_reference = reference()
    await publisher.issue(submission(case_reference))
    answer = await ehcp(publisher, COUNCIL, "record", "restrict", case_reference, "--reason", "court_order", *BY, "--dry-run")
    assert answer.stdout == "restrict fits the contract; nothing was sent.\n"
    assert (await told(publisher, COUNCIL, "plan", case_reference))["restricted"] is None


async def test_a_reference_that_two_councils_use_must_be_told_apart(publisher: Publisher) -> None:
    case_reference = reference()
    for la_code in ("332", "333"):
        await publisher.issue(submission(case_reference, la_code))
    refused = await ehcp(publisher, OPERATOR, "plan", case_reference)
    assert refused.exit_code == 1
    assert f"The councils 332, 333 each have a plan {case_reference}" in refused.stderr
    assert (await told(publisher, OTHER, "plan", case_reference))["la_code"] == "333"


async def test_a_plan_that_is_not_there_and_a_refusal_are_said_in_a_sentence(publisher: Publisher) -> None:
    unknown = await ehcp(publisher, COUNCIL, "record", "lift", "NO-SUCH-PLAN", *BY)
    assert (unknown.exit_code, unknown.stderr) == (1, "No plan of your councils has the case reference NO-SUCH-PLAN.\n")
    case_reference = reference()
    await publisher.issue(submission(case_reference))
    refused = await ehcp(publisher, COUNCIL, "record", "lift", case_reference, *BY)
    assert (refused.exit_code, refused.stderr) == (
        1, "The plan is not restricted. There is nothing to lift.\n",
    )  # fmt: skip


async def test_share_gaps_and_flags_are_listed(publisher: Publisher) -> None:
    case_reference = reference()
    gap = {"role": "advice", "profession": "Educational psychologist", "sections": ["K"]}
    involved = [{"role": "provision", "organisation": code("ods:RNA")}, gap]
    await publisher.issue(submission(case_reference, version=version(views_recorded_on="2020-01-01", involved=involved)))
    gaps = [row for row in await told(publisher, COUNCIL, "gaps") if row["case_reference"] == case_reference]
    assert [(row["name"], row["reason"]) for row in gaps] == [("advice 1", "no organisation is recorded")]
    flags = await told(publisher, COUNCIL, "flags")
    assert "views" in " ".join(row["name"] for row in flags if row["case_reference"] == case_reference)
    assert await told(publisher, COUNCIL, "confirmations") == []
    assert await told(publisher, OTHER, "gaps") == []
