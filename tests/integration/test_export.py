"""A plan leaves one exchange as an archive and is taken in by another: same texts, same documents, nothing old is shared."""

import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.support.command_line import ehcp, publisher_for_commands, told
from tests.support.publisher import (
    CASE_SYSTEM,
    PRIMARY,
    SECONDARY,
    Publisher,
    part,
    pdf_document,
    placed,
    problem,
    reference,
    submission,
    version,
)
from tests.support.servers import RunningPostgres

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]
HERE, ELSEWHERE = "case-system-332", "case-system-333"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def here(postgres_server: RunningPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Publisher]:
    async with publisher_for_commands(postgres_server, tmp_path_factory.mktemp("here")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def elsewhere(postgres_server: RunningPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Publisher]:
    async with publisher_for_commands(postgres_server, tmp_path_factory.mktemp("elsewhere")) as running:
        yield running


async def event(publisher: Publisher, plan_id: str, type_: str, client: str = CASE_SYSTEM, **fields: Any) -> dict[str, Any]:
    answer = await publisher.post(f"/v1/plans/{plan_id}/events", {"type": type_, "by": "officer-7", **fields}, client)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def lived(publisher: Publisher, case_reference: str) -> str:
    """A plan of three versions, the third recalled, whose child went to another school after the second."""
    first = submission(case_reference, version=version("2025-02-10", "Rowan likes trains."))
    plan_id = str((await publisher.issue(first))["plan_id"])
    second = {"version": version("2026-02-10", "Rowan likes stations.")}
    answer = await publisher.upload(
        part("submission", orjson.dumps(second)),
        part("document", pdf_document("the council's own"), "plan.pdf", "application/pdf"),
        part("attachment", pdf_document("therapist"), "advice.pdf", "application/pdf"),
        part("attachment", pdf_document("doctor"), "advice.pdf", "application/pdf"),
        path=f"/v1/plans/{plan_id}/versions",
    )
    assert answer.status_code == 201, answer.text
    wrong = await publisher.amend(plan_id, version("2026-03-10", "This is about another child."))
    await event(
        publisher, plan_id, "recall", version_id=wrong["version_id"], reason="wrong_child", aware_at="2026-03-11T09:00:00Z"
    )
    await event(
        publisher, plan_id, "placement_changed", changed_on="2026-09-01",
        placements=[placed(PRIMARY, "2025-02-10", "2026-07-20"), placed(SECONDARY, "2026-09-01")],
    )  # fmt: skip
    return plan_id


async def kept(publisher: Publisher, plan_id: str) -> list[tuple[Any, ...]]:
    """Of every version that was not recalled: its day, and the hashes of sections, document and attachments."""
    rows = await publisher.owner.fetch(
        "SELECT v.issued_on, v.section_hashes, g.manifest FROM publisher.version v JOIN publisher.rendering g"
        " USING (version_id) WHERE v.plan_id = $1::text::uuid AND g.sections = '*' AND v.recalled_at IS NULL"
        " ORDER BY v.issued_on",
        plan_id,
    )
    return [
        (
            str(row["issued_on"]), row["section_hashes"], row["manifest"]["document"]["sha256"],
            [each["sha256"] for each in row["manifest"].get("attachments", ())],
        )
        for row in rows
    ]  # fmt: skip


async def test_a_plan_goes_to_a_council_elsewhere_with_its_history(
    here: Publisher, elsewhere: Publisher, tmp_path: Path
) -> None:
    case_reference = reference()
    plan_id = await lived(here, case_reference)
    await event(here, plan_id, "review_held", review="R-1", held_on="2026-09-14")
    await event(here, plan_id, "review_decided", review="R-1", decision="maintain", decided_on="2026-10-01")
    await event(here, plan_id, "review_scheduled", review="R-2", meeting_on="2030-09-14")
    await event(here, plan_id, "transfer", to_la_code="334", moved_on="2026-10-05", aware_on="2026-10-05")
    archive = tmp_path / "plan.zip"

    written = await told(here, HERE, "export", case_reference, "-o", str(archive))
    assert written["plan_id"] == plan_id
    assert archive.stat().st_mode & 0o077 == 0
    assert "exported" in await here.acts(plan_id)
    with zipfile.ZipFile(archive) as opened:
        assert sorted(name.partition("/")[2] for name in opened.namelist()) == [
            "plan.json", "v1.json", "v1.pdf", "v2.attachments/01/advice.pdf", "v2.attachments/02/advice.pdf", "v2.json",
            "v2.pdf",
        ]  # fmt: skip
        described = orjson.loads(opened.read(f"{case_reference}/plan.json"))
    assert described["state"] == "transferred"
    assert [each["event"]["type"] for each in described["events"]] == [
        "recall", "placement_changed", "review_held", "review_decided", "review_scheduled", "transfer",
    ]  # fmt: skip
    assert [(each["version"], each["recalled"]) for each in described["versions"]] == [(1, False), (2, False), (3, True)]

    taken = await told(elsewhere, ELSEWHERE, "publish", str(archive), "--council", "333", "--case-reference", "SW-99001")
    assert [(row["case_reference"], row["result"]) for row in taken] == [
        ("SW-99001", "issued"),
        ("SW-99001", "kept_as_history"),
        ("SW-99001", "recorded"),
    ]
    assert taken[2]["reviews"] == 1, "a meeting that lies ahead is the new council's to arrange"
    new_id = taken[0]["plan_id"]
    assert await kept(elsewhere, new_id) == await kept(here, plan_id)
    [found] = await told(elsewhere, ELSEWHERE, "plans")
    assert found["current"]["issued_on"] == "2026-02-10"
    assert found["la_code"] == "333"

    again = await told(elsewhere, ELSEWHERE, "publish", str(archive), "--council", "333", "--case-reference", "SW-99001")
    assert {row["result"] for row in again} == {"unchanged"}
    shown = (await elsewhere.http.get(f"/v1/plans/{new_id}", headers=await elsewhere.headers("operator"))).json()
    assert [(each["review"], each["held_on"], each["decision"], each["decided_on"]) for each in shown["reviews"]] == [
        ("R-1", "2026-09-14", "maintain", "2026-10-01")
    ]
    assert shown["notices"] == [], "nobody is told again of what another council decided"
    assert [each["type"] for each in shown["events"]] == ["taken_over"]
    await event(elsewhere, new_id, "transfer_told", client="case-system-333", told_on="2026-11-20")
    # What was recorded here stands, whatever the archive says when it is sent once more.
    late = {"review": "R-1", "held_on": "2026-09-15"}
    await event(
        elsewhere, new_id, "taken_over", client="case-system-333", from_la_code="334", transferred_on="2026-10-06",
        reviews=[late],
    )  # fmt: skip
    shown = (await elsewhere.http.get(f"/v1/plans/{new_id}", headers=await elsewhere.headers("operator"))).json()
    assert [each["held_on"] for each in shown["reviews"]] == ["2026-09-14"]


async def test_a_plan_that_was_not_transferred_says_so_wherever_it_goes(
    here: Publisher, elsewhere: Publisher, tmp_path: Path
) -> None:
    """Two councils that both think the plan theirs: nobody would notice before the child is harmed by it."""
    case_reference = reference()
    await lived(here, case_reference)
    archive = tmp_path / "plan.zip"
    warning = (
        "The plan was not transferred: it is still in force at council 332, which goes on sharing it. Before another council "
        "takes it in, 332 records the transfer (ehcp record transfer)."
    )
    assert (await told(here, HERE, "export", case_reference, "-o", str(archive)))["warning"] == warning
    with zipfile.ZipFile(archive) as opened:
        assert orjson.loads(opened.read(f"{case_reference}/plan.json"))["warning"] == warning
    taken = await told(elsewhere, ELSEWHERE, "publish", str(archive), "--council", "333", "--case-reference", reference())
    assert warning in taken[0]["warnings"]


async def test_only_who_is_around_the_child_now_hears_of_it(here: Publisher, elsewhere: Publisher, tmp_path: Path) -> None:
    case_reference = reference()
    await lived(here, case_reference)
    archive = tmp_path / "plan.zip"
    await told(here, HERE, "export", case_reference, "-o", str(archive))
    taken = await told(elsewhere, ELSEWHERE, "publish", str(archive), "--council", "333")
    assert taken[0]["case_reference"] == case_reference
    rows = await elsewhere.owner.fetch(
        "SELECT c.scheme || ':' || c.value AS code, s.seq FROM publisher.share s JOIN publisher.recipient_code c"
        " USING (recipient_id) WHERE s.plan_id = $1::text::uuid",
        taken[0]["plan_id"],
    )
    codes = {row["code"] for row in rows}
    assert SECONDARY in codes
    assert PRIMARY not in codes
    assert {row["seq"] for row in rows} == {1}


async def test_an_archive_that_was_changed_is_refused_before_anything_is_sent(
    here: Publisher, elsewhere: Publisher, tmp_path: Path
) -> None:
    case_reference = reference()
    await lived(here, case_reference)
    whole, changed = tmp_path / "plan.zip", tmp_path / "changed.zip"
    await told(here, HERE, "export", case_reference, "-o", str(whole))
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, data.replace(b"stations", b"airports") if name.endswith("v2.json") else data)
    refused = await ehcp(elsewhere, ELSEWHERE, "publish", str(changed), "--council", "333")
    assert refused.exit_code == 2
    assert "v2.json or a file beside it is not as it was exported" in refused.stderr
    assert await elsewhere.plans_of(case_reference) == 0


async def test_what_is_held_or_over_does_not_leave(here: Publisher, tmp_path: Path) -> None:
    restricted, ceased = str((await here.issue(submission()))["plan_id"]), str((await here.issue(submission()))["plan_id"])
    await event(here, restricted, "restrict", reason="hidden_address")
    await event(here, ceased, "cease", ceased_on="2026-06-01", notified_on="2026-04-01", reason="left_england")
    for plan_id, slug in ((restricted, "restricted"), (ceased, "not-in-this-state")):
        problem(await here.http.get(f"/v1/plans/{plan_id}/export", headers=await here.headers()), 409, slug)
        assert "exported" not in await here.acts(plan_id)
    result = await ehcp(here, HERE, "export", restricted, "-o", str(tmp_path / "plan.zip"))
    assert result.exit_code == 1
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240 - a look at one local folder


async def test_another_council_does_not_get_it(here: Publisher) -> None:
    plan_id = (await here.issue(submission()))["plan_id"]
    answer = await here.http.get(f"/v1/plans/{plan_id}/export", headers=await here.headers("case-system-333"))
    problem(answer, 404, "unknown-plan")
    own = await here.http.get(f"/v1/plans/{plan_id}/export", headers=await here.headers())
    assert own.headers["cache-control"] == "no-store"
    assert zipfile.ZipFile(io.BytesIO(own.content)).testzip() is None
