"""The council's own extract and a real publisher, by the command itself: taken in, broken off, repeated, compared, watched."""

import asyncio
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from joserfc.jwk import OKPKey

from services.cli.machine.ports import HOST, free_ports
from services.shared.postgres.pool import open_pool
from tests.support.publisher import (
    CASE_SYSTEM,
    CLIENTS,
    NOWHERE,
    document_alone,
    pdf_document,
    publisher_database,
    submission,
    write_settings,
)
from tests.support.servers import RunningPostgres
from tests.support.services import REPOSITORY, RunningService
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

SAMPLES = REPOSITORY / "deploy" / "sandbox" / "extracts"


@dataclass(slots=True)
class Council:
    """A publisher whose issuer is its own address, as the command line expects, and the key of one case system."""

    environment: dict[str, str]
    owner: Any

    async def run(self, *arguments: str | Path) -> tuple[int, Any]:
        """Exit code, and what it said as JSON."""
        process = await self.start(*arguments, "--json")
        output, said = await process.communicate()
        assert output, said.decode()
        return process.returncode or 0, json.loads(output)

    async def start(self, *arguments: str | Path) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.cli.main", *map(str, arguments), cwd=REPOSITORY, env=os.environ | self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    async def versions(self, prefix: str) -> dict[str, list[str]]:
        """Days of issue by case reference, in order of the versions' numbers."""
        rows = await self.owner.fetch(
            "SELECT case_reference, issued_on FROM publisher.plan p JOIN publisher.version v USING (plan_id)"
            " WHERE case_reference LIKE $1 ORDER BY case_reference, number", f"{prefix}%",
        )  # fmt: skip
        found: dict[str, list[str]] = {}
        for row in rows:
            found.setdefault(row["case_reference"], []).append(str(row["issued_on"]))
        return found

    async def state(self, case_reference: str) -> str:
        return str(await self.owner.fetchval("SELECT state FROM publisher.plan WHERE case_reference = $1", case_reference))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def council(postgres_server: RunningPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Council]:
    folder = tmp_path_factory.mktemp("council")
    keys = {client_id: OKPKey.generate_key("Ed25519") for client_id in CLIENTS}
    key_file = folder / "client.jwk"
    key_file.write_bytes(orjson.dumps(keys[CASE_SYSTEM].as_dict(private=True)))
    [port] = free_ports(1)
    url = f"http://{HOST}:{port}"
    async with publisher_database(postgres_server) as owner_dsn:
        dsn = postgres_server.dsn_as("ehcp_publisher", owner_dsn)
        settings = write_settings(folder, keys, OKPKey.generate_key("Ed25519"), dsn, NOWHERE) | {"EHCP_ISSUER": url}
        with_a_closed_school(Path(settings["EHCP_REGISTRY_FILE"]))
        owner = await open_pool(owner_dsn, max_size=2)
        service = RunningService("ehcp_publisher", settings, port, folder / "log")
        try:
            await service.start()
            environment = {"EHCP_COUNCIL_URL": url, "EHCP_CLIENT_ID": CASE_SYSTEM, "EHCP_CLIENT_KEY_FILE": str(key_file)}
            yield Council(environment, owner)
        finally:
            await service.stop()
            await owner.close()


def with_a_closed_school(registry_file: Path) -> None:
    registry = orjson.loads(registry_file.read_bytes())
    registry["recipients"].append(
        {"kind": "school", "name": "Old Mill School", "subscriber": "school", "channel": "inbox", "areas": ["332"],
         "codes": [{"scheme": "urn", "value": "993990", "from": "2010-09-01", "until": "2025-08-31"}],
         "successors": [{"scheme": "urn", "value": "993202"}]}
    )  # fmt: skip
    registry_file.write_bytes(orjson.dumps(registry))


def row(reference: str, **changes: str) -> dict[str, str]:
    return {
        "case_reference": reference, "family_name": "Hartley", "given_names": f"Rowan {reference}",
        "date_of_birth": "2014-05-06", "issued_on": "2026-02-10", "commissioning_bodies": "QUA", "setting_1_urn": "993202",
        "setting_1_from": "2025-09-01", "family_1_reference": f"{reference}-F1", "family_1_name": "Ann Hartley",
        "section_a": "Likes trains.",
    } | changes  # fmt: skip


def written(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(column for each in rows for column in each)), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


async def test_a_csv_with_documents_is_taken_in_repeated_and_corrected(council: Council, tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "CSV-1.pdf").write_bytes(pdf_document("CSV-1"))
    (documents / "CSV-2_2026-09-30.pdf").write_bytes(pdf_document("CSV-2 amended"))
    path = written(
        tmp_path / "plans.csv", row("CSV-1", section_a=""), row("CSV-2"), row("CSV-2", issued_on="2026-09-30", section_a=""),
        row("CSV-3", nhs_number="9434765918"), row("CSV-4", section_a=""), row("CSV-5"),
    )  # fmt: skip
    code, result = await council.run("import", path, "--council", "332", "--no-render", "--by", "officer-7")
    assert code == 1, "a row is refused"
    assert result["versions"] == {"issued": 3, "kept_as_history": 1}
    assert (result["plans"]["read"], result["plans"]["without_content"], result["plans"]["to_correct"]) == (5, 1, 1)
    assert [(fault["line"], fault["column"]) for fault in result["faults"]] == [(5, "nhs_number")]
    assert await council.versions("CSV-") == {
        "CSV-1": ["2026-02-10"], "CSV-2": ["2026-09-30", "2026-02-10"], "CSV-5": ["2026-02-10"],
    }  # fmt: skip
    officers = await council.owner.fetch(
        "SELECT DISTINCT by FROM publisher.version JOIN publisher.plan USING (plan_id) WHERE case_reference LIKE 'CSV-%'"
    )
    assert [each["by"] for each in officers] == ["officer-7"]

    errors = Path(result["errors"]) / "plans.csv"
    errors.write_text(errors.read_text("utf-8-sig").replace("9434765918", "9434765870"))
    code, result = await council.run("import", path, "--council", "332", "--no-render", "--corrections", errors.parent)
    assert (code, result["versions"]) == (0, {"issued": 1, "unchanged": 4})
    assert await council.versions("CSV-3") == {"CSV-3": ["2026-02-10"]}


async def test_what_the_publisher_refuses_comes_back_with_its_row(council: Council, tmp_path: Path) -> None:
    path = written(tmp_path / "plans.csv", row("REF-1"))
    assert (await council.run("import", path, "--council", "332", "--no-render"))[0] == 0
    written(path, row("REF-1", family_name="Hartly"), row("REF-2"))
    code, result = await council.run("import", path, "--council", "332", "--no-render")
    assert code == 1
    assert result["versions"] == {"refused": 1, "issued": 1}
    assert [(fault["line"], fault["column"]) for fault in result["faults"]] == [(2, "family_name")]
    assert "Hartly" not in json.dumps(result)


async def test_a_code_that_leads_to_nobody_is_noted_with_its_row_and_the_plan_goes_out(
    council: Council, tmp_path: Path
) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "OLD-2.pdf").write_bytes(pdf_document("OLD-2"))
    gone = {"setting_2_urn": "993990", "setting_2_from": "2024-09-01"}
    path = written(tmp_path / "plans.csv", row("OLD-1", **gone), row("OLD-2", section_a="", **gone), row("OLD-3"))
    code, result = await council.run("import", path, "--council", "332", "--no-render")
    assert (code, result["versions"], result["rows_noted"]) == (0, {"issued": 3}, 2)
    assert sorted((each["line"], each["column"], each["effect"]) for each in result["faults"]) == [
        (2, "setting_2_urn", "sent all the same"), (3, "setting_2_urn", "sent all the same"),
    ]  # fmt: skip
    assert {each["problem"] for each in result["faults"]} == {
        "urn:993990 was valid only until 2025-08-31; its successor is urn:993202"
    }
    with (Path(result["errors"]) / "plans.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(each["case_reference"], each["error_column"], each["error_effect"]) for each in rows} == {
        ("OLD-1", "setting_2_urn", "sent all the same"), ("OLD-2", "setting_2_urn", "sent all the same"),
    }  # fmt: skip
    nobody = {"setting_1_urn": "993990", "commissioning_bodies": "XYZ", "family_1_reference": "", "family_1_name": ""}
    path = written(tmp_path / "more.csv", row("OLD-4", **nobody), row("OLD-5"))
    assert (await council.run("import", path, "--council", "332", "--no-render"))[0] == 0
    for arguments in ((path, "--council", "332"), ()):
        _, result = await council.run("readiness", *arguments)
        lacking = {each["case_reference"]: each["lacks"] for each in result["not_ready"]}
        assert (lacking["OLD-4"], lacking["OLD-5"]) == (["nhs_number", "recipient"], ["nhs_number"])


async def test_an_import_that_was_killed_goes_on_where_it_was(council: Council, tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    rows = [row(f"KILL-{n:03}", section_a="", last_review="2026-09-21", review_outcome="M") for n in range(300)]
    for each in rows:
        (documents / f"{each['case_reference']}.pdf").write_bytes(pdf_document(each["case_reference"]))
    path = written(tmp_path / "plans.csv", *rows)
    process = await council.start("import", path, "--council", "332")

    async def some() -> bool:
        return len(await council.versions("KILL-")) >= 210  # the first 200 are noted by then

    await until(some, within=120, what="some plans are there")
    process.send_signal(signal.SIGKILL)
    await process.wait()
    before = await council.versions("KILL-")
    code, result = await council.run("import", path, "--council", "332")
    assert code == 0
    assert result["versions"]["answered_before"] >= 200
    assert sum(result["versions"].values()) == 300
    after = await council.versions("KILL-")
    assert after == {each["case_reference"]: ["2026-02-10"] for each in rows}
    assert len(before) < 300, "it was killed before its end"
    reviewed = await _reviews(council, "KILL-")
    assert [each[0] for each in reviewed] == [each["case_reference"] for each in rows], "each once, those answered before too"
    assert not (tmp_path / "plans.csv.import").exists()


async def test_reviews_from_before_the_exchange_come_with_the_plan_once(council: Council, tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "REV-2.pdf").write_bytes(pdf_document("REV-2"))
    reviewed = {"last_review": "2026-09-21", "review_outcome": "M"}
    rows = [
        row("REV-1", **reviewed), row("REV-2", section_a="", last_review="2026-09-22"), row("REV-3"),
        row("REV-4", last_review="2031-09-21"), row("REV-5", **reviewed, nhs_number="9434765918"),
    ]  # fmt: skip
    path = written(tmp_path / "plans.csv", *rows)
    load = ("import", path, "--council", "332", "--no-render")
    code, result = await council.run(*load, "--dry-run")
    assert (code, result["plans"]["reviews"]) == (1, 2)
    code, result = await council.run(*load)
    assert (code, result["plans"]["reviews_recorded"]) == (1, 2)
    assert [(each["line"], each["column"], each["effect"]) for each in result["faults"]] == [
        (5, "last_review", "sent all the same"), (6, "nhs_number", "not sent"),
    ]  # fmt: skip
    once = [
        ("REV-1", "decided-2026-09-21", "2026-09-21", "maintain", "2026-09-21", "import"),
        ("REV-2", "decided-2026-09-22", "2026-09-22", None, "2026-09-22", "import"),
    ]
    assert await _reviews(council, "REV-") == once
    code, result = await council.run(*load)
    assert result["plans"]["reviews_unchanged"] == 2
    assert "reviews_recorded" not in result["plans"]
    assert await _reviews(council, "REV-") == once, "one event for each plan, not for each run"

    # What the extract has no text of, and the exchange knows, is reviewed all the same; the unknown is nobody's to review.
    written(path, row("REV-3", section_a="", **reviewed), row("REV-6", section_a="", **reviewed))
    code, result = await council.run(*load)
    assert (code, result["plans"]["reviews_recorded"], result["plans"]["reviews_never_here"]) == (0, 1, 1)
    assert [each[0] for each in await _reviews(council, "REV-")] == ["REV-1", "REV-2", "REV-3"]


async def _reviews(council: Council, prefix: str) -> list[tuple[str | None, ...]]:
    """With the officer of each event: a plan with two events is there twice."""
    rows = await council.owner.fetch(
        "SELECT case_reference, review, held_on::text, decision, decided_on::text, by FROM publisher.plan"
        " JOIN publisher.review USING (plan_id) JOIN publisher.plan_event e USING (plan_id)"
        " WHERE case_reference LIKE $1 AND e.type = 'reviews_before' ORDER BY case_reference", f"{prefix}%",
    )  # fmt: skip
    return [tuple(each) for each in rows]


async def test_the_sample_return_is_taken_in_compared_and_counted(council: Council, tmp_path: Path) -> None:
    folder = shutil.copytree(SAMPLES / "sen2", tmp_path / "sen2")
    profile = SAMPLES / "profile.yaml"
    arguments = (folder, "--profile", profile)
    code, result = await council.run("import", *arguments)
    assert (code, result["versions"], result["plans"]["without_content"]) == (0, {"issued": 1}, 15)
    code, result = await council.run("reconcile", "extract", *arguments, "--dry-run")
    assert (code, result["dry_run"]) == (1, True)
    assert await council.owner.fetch("SELECT FROM publisher.comparison") == [], "with --dry-run the exchange is told nothing"
    code, result = await council.run("reconcile", "extract", *arguments, "--yes", "--csv", tmp_path / "differences.csv")
    assert code == 1
    without_id = sum(each["plan_id"] is None for each in result["differences"])
    told = await council.owner.fetchrow("SELECT la_code, plans, not_here FROM publisher.comparison")
    assert tuple(told) == ("332", result["plans"], without_id)
    count = await council.owner.fetchval("SELECT count(*) FROM publisher.difference")
    assert count == len(result["differences"]) - without_id
    kinds = {
        each["case_reference"]: each["kind"] for each in result["differences"] if each["case_reference"].startswith("DUD-")
    }
    assert kinds["DUD-2024-0193"] == "never_shared"
    assert "DUD-2026-0101" not in kinds, "that is the one with a document"
    assert "DUD-2018-0066" not in kinds, "ceased there, and never here"
    with (tmp_path / "differences.csv").open(encoding="utf-8-sig") as file:
        assert len(list(csv.DictReader(file))) == len(result["differences"])
    code, result = await council.run("readiness", *arguments)
    assert (result["plans"], result["ready"], result["lacking"]) == (16, 1, {"document": 15, "nhs_number": 1})
    code, result = await council.run("readiness")
    assert result["of"] == "exchange"
    assert [(each["la_code"], each["not_here"]) for each in result["compared"]] == [("332", without_id)]
    assert result["plans"] == len([state for state in await _states(council) if state in ("live", "ceasing")])


async def _states(council: Council) -> list[str]:
    return [row["state"] for row in await council.owner.fetch("SELECT state FROM publisher.plan")]


async def test_an_extract_that_is_cut_off_is_told_to_nobody(council: Council, tmp_path: Path) -> None:
    rows = [row(f"CUT-{n}") for n in range(1, 26)]
    arguments = (written(tmp_path / "plans.csv", *rows), "--council", "332")
    assert (await council.run("import", *arguments, "--no-render"))[1]["versions"] == {"issued": 25}
    await council.owner.execute("DELETE FROM publisher.comparison")
    written(tmp_path / "plans.csv", *rows[:2])
    code, result = await council.run("reconcile", "extract", *arguments)
    assert (code, result["not_told"]) == (1, {"332": result["counts"]["unknown_there"]})
    assert await council.owner.fetch("SELECT FROM publisher.comparison") == []
    code, result = await council.run("reconcile", "extract", *arguments, "--yes")
    assert (code, result["not_told"]) == (1, {})
    assert await council.owner.fetchval("SELECT plans FROM publisher.comparison") == 2


async def test_a_plan_that_ceased_there_ceases_here_once_it_is_known_when_the_family_was_told(
    council: Council, tmp_path: Path
) -> None:
    path = written(tmp_path / "plans.csv", row("END-1"), row("END-2"))
    assert (await council.run("import", path, "--council", "332", "--no-render"))[0] == 0
    ended = {"ceased_on": "2026-09-30", "cease_reason": "2", "cease_notified_on": ""}
    written(path, row("END-1", **ended), row("END-2"), row("END-3", **ended))
    code, result = await council.run("reconcile", "extract", path, "--council", "332")
    found = {
        each["case_reference"]: each["kind"] for each in result["differences"] if each["case_reference"].startswith("END-")
    }
    assert found == {"END-1": "ceased_there"}
    code, result = await council.run("import", path, "--council", "332", "--no-render")
    assert (code, result["plans"]["cease_refused"], result["plans"]["ceased_never_here"]) == (1, 1, 1)
    assert [(fault["line"], fault["column"]) for fault in result["faults"]] == [(2, "cease_notified_on")]
    written(path, row("END-1", **ended | {"cease_notified_on": "2026-07-01"}), row("END-2"))
    code, result = await council.run("import", path, "--council", "332", "--no-render")
    assert (code, result["plans"]["ceased_now"]) == (0, 1)
    assert [await council.state("END-1"), await council.state("END-2")] == ["ceased", "live"]
    code, result = await council.run("import", path, "--council", "332", "--no-render")
    assert (code, result["plans"]["ceased_before"]) == (0, 1)


async def test_a_watched_folder(council: Council, tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    first = document_alone() | {"case_reference": "DROP-1", "child": submission()["child"] | {"nhs_number": None}}
    (drop / "first.json").write_bytes(orjson.dumps(first))
    (drop / "half.json.part").write_bytes(b'{"la_code"')
    (drop / "broken.json").write_bytes(b'{"la_code": "332"')
    lines = [submission(f"DROP-{n}", child=submission()["child"] | {"family_name": f"Number {n}"}) for n in (2, 3)]
    (drop / "batch.ndjson").write_bytes(b"\n".join(map(orjson.dumps, lines)))
    (drop / "old.zip").write_bytes(b"PK")
    written(drop / "plans.csv", row("DROP-4"))
    folder = drop / "DROP-5"
    folder.mkdir()
    fifth = submission("DROP-5", child=submission()["child"] | {"family_name": "Number 5"})
    (folder / "v1.json").write_bytes(orjson.dumps(fifth))
    watch = ("watch", drop, "--once", "--settle", "0", "--council", "332")
    code, results = await council.run(*watch)
    assert code == 1
    assert {each["name"]: (each["outcome"], each["versions"]) for each in results} == {
        "first.json": ("waiting", {}), "broken.json": ("refused", {"refused": 1}), "batch.ndjson": ("taken", {"issued": 2}),
        "old.zip": ("refused", {}), "plans.csv": ("taken", {"issued": 1}), "DROP-5": ("taken", {"issued": 1}),
    }  # fmt: skip
    result = json.loads((drop / "batch.ndjson.result.json").read_text())
    assert [(each["case_reference"], each["version"]) for each in result["answers"]] == [("DROP-2", 1), ("DROP-3", 1)]
    assert "Ann Hartley" not in json.dumps(result), "a recipient may be a person"
    assert not (drop / "half.json.part.result.json").exists()

    (drop / "first.pdf").write_bytes(pdf_document("first"))
    (drop / "half.json.part").rename(drop / "whole.json")
    whole = submission("DROP-6", child=submission()["child"] | {"family_name": "Number 6"})
    (drop / "whole.json").write_bytes(orjson.dumps(whole))
    code, results = await council.run(*watch)
    assert (code, {each["name"]: each["outcome"] for each in results}) == (0, {"first.json": "taken", "whole.json": "taken"})
    assert await council.run(*watch) == (0, []), "nothing is taken twice"
    assert sorted(await council.versions("DROP-")) == [f"DROP-{n}" for n in range(1, 7)]

    plan_id = await council.owner.fetchval("SELECT plan_id::text FROM publisher.plan WHERE case_reference = 'DROP-6'")
    event = {"type": "cease", "by": "officer-1", "ceased_on": "2026-09-30", "notified_on": "2026-07-01", "reason": "employed"}
    (drop / "ended.json").write_bytes(orjson.dumps({"plan_id": plan_id, "event": event}, option=orjson.OPT_INDENT_2))
    code, results = await council.run(*watch)
    assert (code, results[0]["outcome"]) == (0, "taken"), results
    assert await council.state("DROP-6") == "ceased"


async def test_a_watch_that_is_killed_takes_up_where_it_was(council: Council, tmp_path: Path) -> None:
    def drop(number: int) -> Path:
        child = submission()["child"] | {"family_name": f"Watched {number}", "nhs_number": None, "upn": None, "uln": None}
        path = tmp_path / f"{number}.json"
        path.with_suffix(".part").write_bytes(orjson.dumps(submission(f"WATCH-{number}", child=child)))
        return path.with_suffix(".part").rename(path)

    def outcome(path: Path) -> str | None:
        result = path.with_name(f"{path.name}.result.json")
        return str(json.loads(result.read_text())["outcome"]) if result.exists() else None

    async def watched(path: Path) -> None:
        async def answered() -> bool:
            return outcome(path) is not None

        process = await council.start("watch", tmp_path, "--settle", "0.2", "--every", "0.1")
        try:
            await until(answered, within=60, what="the result is there")
        finally:
            process.kill()
            await process.wait()
        assert outcome(path) == "taken"

    for number in (1, 2):
        await watched(drop(number))
    assert await council.versions("WATCH-") == {"WATCH-1": ["2026-02-10"], "WATCH-2": ["2026-02-10"]}
