"""`ehcp directory` and `ehcp policy` against a running publisher."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from services.cli.directories import gias, sending
from services.cli.directories.entries import Delivery
from services.cli.exchange import Exchange, Reach
from services.cli.importing.faults import Findings
from services.cli.main import app
from tests.support.command_line import publisher_for_commands
from tests.support.publisher import (
    PRIMARY,
    Publisher,
    placed,
    submission,
    version,
)
from tests.support.servers import RunningPostgres
from tests.support.services import REPOSITORY

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]
REGISTERS = REPOSITORY / "deploy" / "sandbox" / "registers"
SCHOOLS = str(REGISTERS / "schools.csv")
Ehcp = Callable[..., Any]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def publisher(postgres_server: RunningPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Publisher]:
    """Its issuer is its own address, as the command line expects."""
    async with publisher_for_commands(postgres_server, tmp_path_factory.mktemp("publisher")) as running:
        yield running


@pytest.fixture
def key_file(publisher: Publisher, tmp_path: Path) -> Path:
    """The operator's."""
    path = tmp_path / "operator.jwk"
    path.write_bytes(orjson.dumps(publisher.keys["operator"].as_dict(private=True)))
    return path


@pytest.fixture
def ehcp(publisher: Publisher, key_file: Path) -> Ehcp:
    """Runs the command as the operator."""
    environment = {
        "EHCP_COUNCIL_URL": publisher.url, "EHCP_CLIENT_ID": "operator", "EHCP_CLIENT_KEY_FILE": str(key_file),
        "COLUMNS": "200",
    }  # fmt: skip

    async def run(*arguments: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=environment)

    return run


async def told(ehcp: Ehcp, *arguments: str, code: int = 0) -> Any:
    result = await ehcp(*arguments, "--json")
    assert result.exit_code == code, result.output
    return orjson.loads(result.stdout)


async def test_a_register_is_taken_in_and_repeating_it_changes_nothing(ehcp: Ehcp, tmp_path: Path) -> None:
    arguments = (
        "directory", "import", "--gias", SCHOOLS, "--links", str(REGISTERS / "school_links.csv"), "--subscriber", "school",
        "--errors", str(tmp_path / "errors"),
    )  # fmt: skip
    first = await told(ehcp, *arguments)
    assert (first["rows"], first["results"], first["refused"], first["noted"]) == (12, {"created": 10}, 0, 0)
    assert first["kinds"] == {"alternative_provision": 1, "college": 2, "early_help": 1, "early_years": 1, "school": 5}
    assert sum(first["left_out"].values()) == 2
    assert (await told(ehcp, *arguments))["results"] == {"unchanged": 10}
    (closed,) = await told(ehcp, "directory", "show", "urn:993402")
    assert (closed["codes"][0]["until"], closed["successors"]) == ("2024-08-31", ["urn:993403"])
    shown = await ehcp("directory", "show", "laestab:3329942")
    assert shown.stdout.splitlines()[:2] == [
        "St Zoë’s Catholic Primary Academy (school)", "  urn:993403  from 2024-09-01",
    ]  # fmt: skip
    listed = await told(ehcp, "directory", "list", "zoë")
    assert [each["name"] for each in listed] == ["St Zoë’s Catholic Primary Academy", "St Zoë’s Catholic Primary School"]
    missing = await ehcp("directory", "show", "urn:123456")
    assert (missing.exit_code, missing.stderr.strip()) == (1, "urn:123456 is not in the directory, and never was.")


async def test_a_dry_run_sends_nothing(ehcp: Ehcp, publisher: Publisher) -> None:
    before = await publisher.owner.fetchval("SELECT count(*) FROM publisher.recipient")
    result = await told(ehcp, "directory", "import", "--ods", str(REGISTERS / "epraccur.csv"), "--dry-run")
    assert (result["kinds"], result["results"], result["dry_run"]) == ({"gp": 3}, {}, True)
    assert await publisher.owner.fetchval("SELECT count(*) FROM publisher.recipient") == before


async def test_what_a_register_does_not_know_stays(ehcp: Ehcp, publisher: Publisher, tmp_path: Path) -> None:
    """An operator has named who delivers; next month's register must not undo that, and a new name is taken."""
    path = tmp_path / "schools.csv"
    row = "700101,332,7101,{},Community school,Open,01-09-2010,,Primary,"
    for name, results in (("Old Name", {"created": 1}), ("New Name", {"changed": 1})):
        path.write_text("\n".join([",".join(gias.NEEDED), row.format(name), ""]))
        answer = await told(ehcp, "directory", "import", "--gias", str(path))
        assert answer["results"] == results
        if name == "Old Name":
            (found,) = await told(ehcp, "directory", "show", "urn:700101")
            assert found["subscriber"] is None
            line = {key: value for key, value in found.items() if key != "recipient_id"}
            line |= {"subscriber": "school", "areas": ["332", "333"], "contact": "office@school.example.org"}
            headers = await publisher.headers("operator")
            put = await publisher.http.put("/v1/directory", content=orjson.dumps(line), headers=headers)
            assert put.status_code == 200, put.text
    (found,) = await told(ehcp, "directory", "show", "urn:700101")
    assert (found["name"], found["subscriber"], found["areas"]) == ("New Name", "school", ["332", "333"])
    assert found["contact"] == "office@school.example.org"


async def test_a_second_code_of_another_school_is_left_out_and_noted(ehcp: Ehcp, tmp_path: Path) -> None:
    path = tmp_path / "schools.csv"
    rows = [
        "700201,332,7201,Old School,Community school,Open,01-09-2010,,Primary,10700201",
        "700202,332,7202,New School,Academy converter,Open,01-09-2020,,Primary,10700201",
        "7002030,332,7203,Wrong School,Community school,Open,01-09-2020,,Primary,",
    ]
    path.write_text("\n".join([",".join(gias.NEEDED), *rows, ""]))
    result = await told(ehcp, "directory", "import", "--gias", str(path), "--errors", str(tmp_path / "errors"), code=1)
    assert (result["results"], result["refused"], result["noted"]) == ({"created": 2}, 1, 1)
    assert [(fault["line"], fault["column"]) for fault in result["faults"]] == [(4, "URN"), (3, "codes/2")]
    (written,) = read_all(tmp_path, "errors/*/*.csv")
    assert len(written.splitlines()) == 3
    assert "Wrong School" in written.splitlines()[1]
    (found,) = await told(ehcp, "directory", "show", "urn:700202")
    assert [each["scheme"] for each in found["codes"]] == ["urn", "laestab"]


async def test_a_register_is_read_as_a_stream(publisher: Publisher, key_file: Path, tmp_path: Path) -> None:
    """Three thousand schools in a few requests; nothing of the file is held."""
    path = tmp_path / "schools.csv"
    rows = (f"{800000 + number},333,,Zoë School {number},Community school,Open,,,Primary," for number in range(3000))
    path.write_bytes("\n".join([",".join(gias.NEEDED), *rows, ""]).encode("cp1252"))
    done: list[int] = []
    async with Exchange(Reach(publisher.url, "", "", None, "operator", key_file)) as exchange:
        entries = gias.read(path, {}, Delivery("school"))
        totals = await sending.send(exchange, entries, Findings(), done.append)
    assert (totals.results["created"], sum(done), max(done)) == (3000, 3000, sending.LINES)


def read_all(folder: Path, pattern: str) -> list[str]:
    return [path.read_text("utf-8-sig") for path in folder.glob(pattern)]


# --- policies ---

POLICY = """
la_code: "332"
approval: {data_sharing_agreement: DSA-1, dpia: DPIA-1, from: 2020-01-01}
rules:
  - rule: trusts
    share_with: {involved: {kinds: [trust]}}
    sections: [A]
    lawful_basis: health care
    reason: cares
"""


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def write(path: Path, text: str) -> None:
    path.write_text(text)


async def test_a_policy_file_is_judged_without_the_exchange(draft: Path) -> None:
    def check() -> Result:
        return CliRunner().invoke(app, ["policy", "check", str(draft)], env={"EHCP_HOME": str(draft.parent / "none")})

    good = check()
    assert (good.exit_code, good.stdout.splitlines()[1]) == (0, "  trusts: section A to every involved trust")
    write(draft, POLICY.replace("[trust]", "[hospital]").replace("[A]", "[L]"))
    bad = check()
    assert bad.exit_code == 1
    assert [line.partition("yaml: ")[2].partition(";")[0] for line in bad.stderr.splitlines()] == [
        "rules/0/share_with/involved/kinds/0: it is none of the values known here",
        "rules/0/sections/0: it is none of the values known here",
    ]
    write(draft, POLICY.replace("approval:", "# approval:"))
    off = check()
    assert (off.exit_code, off.stderr.strip()) == (0, "Every rule that shares is off: the policy names no approval.")


async def test_a_policy_is_explained_counted_and_applied(ehcp: Ehcp, publisher: Publisher, draft: Path) -> None:
    sent = submission(version=version(placements=[placed(PRIMARY)]))
    await publisher.issue(sent)
    shown = await ehcp("policy", "explain", sent["case_reference"])
    assert shown.exit_code == 0, shown.output
    assert "involved-trusts applies" in shown.stdout
    assert "virtual-school-of-carer does not apply: no council looks after the child" in shown.stdout
    assert "→ The Dudley Group NHS Foundation Trust (ods:RNA) gets the whole plan by involved-trusts" in shown.stdout
    drafted = await ehcp("policy", "explain", sent["case_reference"], "--file", str(draft))
    assert "→ The Dudley Group NHS Foundation Trust (ods:RNA) gets section A by trusts" in drafted.stdout
    counted = await ehcp("policy", "apply", str(draft), "--dry-run")
    assert counted.stdout.splitlines() == [
        "Of 1 plans' shares 0 begin, 0 end, 1 change to other sections. Nothing was changed."
    ]
    assert (await told(ehcp, "policy", "apply", str(draft)))["result"] == "applied"
    assert (await ehcp("policy", "apply", str(draft))).stdout.strip() == "This policy holds already: nothing was changed."
    shown = await ehcp("policy", "show", "332")
    assert "Approval: DSA-1; DPIA-1" in shown.stdout
    unknown = await ehcp("policy", "explain", "NO-SUCH-PLAN")
    assert (unknown.exit_code, unknown.stderr.strip()) == (1, "No plan of your councils has the case reference NO-SUCH-PLAN.")


async def test_an_expired_code_in_a_policy_is_refused_with_its_successor(ehcp: Ehcp, draft: Path) -> None:
    await told(
        ehcp, "directory", "import", "--ods", str(REGISTERS / "epraccur.csv"), "--links", str(REGISTERS / "succ.csv"),
        "--subscriber", "health",
    )  # fmt: skip
    named = "share_with: {organisation: {kind: gp, scheme: ods, value: M99902}}"
    write(draft, POLICY.replace("share_with: {involved: {kinds: [trust]}}", named))
    refused = await ehcp("policy", "apply", str(draft))
    assert refused.exit_code == 1
    assert "ods:M99902 was valid only until 2025-03-31; its successor is ods:M99903" in refused.stderr
