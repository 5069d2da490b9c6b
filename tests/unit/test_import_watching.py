"""The folder that is watched: what is complete, what is done, and what is never touched."""

import json
import os
from pathlib import Path

import pytest

from services.cli.commands.watch import summary, with_held
from services.cli.watching_folder import Kind, WatchedFolder, kind_of


class Seconds:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


def names(watched: WatchedFolder) -> list[str]:
    return [dropped.path.name for dropped in watched.look()]


def test_a_file_is_taken_once_it_has_not_changed_for_the_settling_time(tmp_path: Path, clock: Seconds) -> None:
    watched = WatchedFolder(tmp_path, 10, clock)
    file = tmp_path / "plan.json"
    file.write_text("{")
    assert names(watched) == []
    clock.now = 9
    file.write_text('{"half": ')
    assert names(watched) == [], "it grew: the time begins anew"
    clock.now = 18
    assert names(watched) == []
    clock.now = 19
    assert names(watched) == ["plan.json"]


def test_a_file_that_appears_between_two_looks_waits_however_old_it_says_it_is(tmp_path: Path, clock: Seconds) -> None:
    watched = WatchedFolder(tmp_path, 10, clock)
    file = tmp_path / "plan.json"
    file.write_text("{}")
    os.utime(file, (0, 0))
    clock.now = 100
    assert names(watched) == []


def test_what_has_a_result_is_done_until_it_is_replaced(tmp_path: Path, clock: Seconds) -> None:
    (tmp_path / "plan.json").write_text("{}")
    watched = WatchedFolder(tmp_path, 0, clock)
    watched.look()
    (dropped,) = watched.look()
    dropped.write_result({"outcome": "taken"})
    result = json.loads((tmp_path / "plan.json.result.json").read_text())
    assert result["outcome"] == "taken"
    assert names(watched) == []
    again = WatchedFolder(tmp_path, 0, clock)
    again.look()
    assert names(again) == [], "after a restart too"
    (tmp_path / "plan.json").write_text('{"other": 1}')
    again.look()
    assert names(again) == ["plan.json"]


def test_a_document_beside_belongs_to_its_submission(tmp_path: Path, clock: Seconds) -> None:
    watched = WatchedFolder(tmp_path, 0, clock)
    (tmp_path / "plan.json").write_text("{}")
    watched.look()
    (dropped,) = watched.look()
    dropped.write_result({"outcome": "waiting"})
    assert names(watched) == ["plan.json"], "what waits is looked at again"
    dropped.write_result({"outcome": "taken"})
    (tmp_path / "plan.pdf").write_bytes(b"%PDF-1.7")
    watched.look()
    assert names(watched) == ["plan.json"], "a document that came later is part of it"


def test_a_folder_is_complete_when_nothing_in_it_changes(tmp_path: Path, clock: Seconds) -> None:
    watched = WatchedFolder(tmp_path, 0, clock)
    plan = tmp_path / "EHC-1"
    plan.mkdir()
    (plan / "v1.json").write_text("{}")
    watched.look()
    (plan / "v2.json").write_text("{}")
    assert names(watched) == []
    assert names(watched) == ["EHC-1"]


@pytest.mark.parametrize(
    "name",
    ["plan.json.part", "plan.tmp", ".plan.json.aX3f", "~plan.csv", "plan.json.result.json", "plan.pdf", "plan.filepart",
     "plans.csv.import"],
)  # fmt: skip
def test_what_is_never_taken_by_itself(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    assert kind_of(tmp_path / name) is None


def test_kinds(tmp_path: Path) -> None:
    found = {}
    for name in ("a.json", "b.NDJSON", "c.csv", "d.zip"):
        (tmp_path / name).write_text("x")
        found[name] = kind_of(tmp_path / name)
    assert found == {"a.json": Kind.SUBMISSION, "b.NDJSON": Kind.BATCH, "c.csv": Kind.CSV, "d.zip": Kind.OTHER}
    (tmp_path / "e").mkdir()
    assert kind_of(tmp_path / "e") is Kind.FOLDER
    (tmp_path / "link.json").symlink_to(tmp_path / "a.json")
    assert kind_of(tmp_path / "link.json") is None


def test_what_is_held_is_said_like_what_was_refused() -> None:
    rows = [{"result": "issued"}, {"result": "held"}, {"result": "refused", "problem": "line 3: no"}]
    said = "held until a second person has looked, see `ehcp confirmations`: 1 of the versions"
    assert with_held(summary(rows))["problem"] == f"line 3: no; {said}"
    assert with_held(summary(rows[:2]))["problem"] == said
    assert with_held(summary(rows[:1]))["problem"] is None
