"""Versions from files: in whose name they are sent."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
from typer.testing import CliRunner

from services.cli.exchange import Content, Exchange, Reach
from services.cli.main import app
from services.cli.options import officer
from services.cli.publishing import VersionFile, further, in_name_of, publish_version

SUBMISSION = {"la_code": "332", "case_reference": "DUD-1", "version": {"issued_on": "2026-02-10"}}


@pytest.mark.parametrize("content", [SUBMISSION, SUBMISSION | {"by": "officer-1"}, {"plan_id": "x", "version": {}}])
def test_a_version_gets_the_officer(content: dict[str, Any]) -> None:
    assert orjson.loads(in_name_of(orjson.dumps(content), "officer-7")) == content | {"by": "officer-7"}
    assert in_name_of(orjson.dumps(content), None) == orjson.dumps(content), "the file's own stays"


@pytest.mark.parametrize("line", [b'{"plan_id": "x", "event": {"type": "lift", "by": "officer-1"}}', b"not json", b"[1]", b""])
def test_what_is_no_version_stays_as_it_is(line: bytes) -> None:
    assert in_name_of(line, "officer-7") == line


def test_a_further_version_keeps_its_officer() -> None:
    sent = SUBMISSION | {"by": "officer-1"}
    only = further(Content(orjson.dumps(sent)), sent).submission
    assert orjson.loads(only) == {"version": {"issued_on": "2026-02-10"}, "by": "officer-1"}
    assert orjson.loads(further(Content(b""), SUBMISSION).submission) == {"version": {"issued_on": "2026-02-10"}}


def test_a_name_is_no_officer() -> None:
    assert officer("jh42") == "jh42"
    assert officer(None) is None
    with pytest.raises(typer.BadParameter, match="council's own id"):
        officer("Jo Hart")


def test_a_dry_run_says_what_is_wrong_in_the_words_of_the_publisher(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_bytes(b'{"la_code": "332", "case_reference": "BAD REF!"}')
    judged = CliRunner().invoke(app, ["publish", str(file), "--dry-run"], env={"COLUMNS": "300"})
    assert judged.exit_code == 1
    said = " ".join(judged.output.split())
    assert "plan.json: " in said
    assert "case_reference: it holds a character that is not allowed here" in said
    assert "child: this field is missing; send it" in said


def test_a_file_that_does_not_say_whose_plan_it_is_is_refused() -> None:
    version = VersionFile(Path("plan.json"), 1, Content(b"{}"))
    row = asyncio.run(publish_version(Exchange(Reach("", "", "", None)), version, None))
    assert row["result"] == "refused"
    assert row["problem"] == "plan.json does not say whose plan it is: write la_code, or name the council with --council."
