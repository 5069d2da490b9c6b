"""What an inspector reads: the figures in words, every finding by name, and each answer checked against its signature."""

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from joserfc.jwk import OKPKey
from typer.testing import CliRunner

from schemas.holdings import Found, Holding
from schemas.receipts import HostedBy
from services.audit import looks
from services.cli import inspection
from services.cli.commands import sample
from services.cli.main import app
from services.shared.identity.receipts import signer
from services.shared.identity.signed_documents import DocumentSigner, SignedDocumentError

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
KEY, COUNCIL = OKPKey.generate_key("Ed25519"), OKPKey.generate_key("Ed25519")
VERSION, LOOK = UUID(int=2), UUID(int=9)


def share(number: int, name: str, found: Found, **changes: Any) -> dict[str, Any]:
    said = {"version_id": changes.get("found_version_id", VERSION), "sha256": changes.get("found_sha256", "ab" * 32)}
    held = said | {"record": "DocumentReference/1"} if found is Found.HELD else {}
    holding = Holding(
        number=number, subscriber="health", hosted_by=HostedBy.AGENCY, look_id=LOOK, share_id=UUID(int=number), at=NOW,
        found=found, reason=changes.get("reason"), withdrawn=changes.get("withdrawn", False),
        intact=changes.get("intact", True), **held,
    )  # fmt: skip
    return {
        "share_id": UUID(int=number), "plan_id": UUID(int=500), "subscriber": "health", "seq": 3, "version_id": VERSION,
        "sha256": "ab" * 32, "recipient_id": UUID(int=number), "recipient_kind": "trust", "recipient_name": name,
        "person": False, "channel": "fhir", "grounds": ["decision"], "hosted_by": "agency", "found": found,
        "found_version_id": held.get("version_id"), "found_sha256": held.get("sha256"), "record": held.get("record"),
        "withdrawn": False, "intact": True, "reason": None, "at": NOW, "signed": signer(KEY)(holding),
        "found_version": 2 if held else None, "newer": False, "recalled": False, "satisfied_seq": 3,
        "proved_version_id": VERSION, "proved_status": "filed", "proved_record": "DocumentReference/1", "proved_at": NOW,
        "proved_version": 2, "told_status": "filed", "told_reason": None,
    } | changes  # fmt: skip


def document(shares: list[dict[str, Any]] | None = None, *, population: int | None = 100) -> dict[str, Any]:
    shares = shares or [
        share(1, "Dudley Group", Found.HELD),
        share(2, "Russells Hall", Found.ABSENT),
        share(3, "Mailbox Trust", Found.CANNOT_BE_ASKED, reason="what lies behind a MESH mailbox cannot be asked"),
        share(4, "F1", Found.BY_HAND, recipient_kind="parent", person=True, proved_status=None, proved_version_id=None),
        share(6, "Galton Wharf", Found.HELD, recipient_kind="school", channel="inbox", proved_status="sent"),
        share(7, "Beacon Row", Found.HELD, recipient_kind="school", channel="inbox", proved_status="opened"),
        share(5, "Slow Trust", Found.NO_ANSWER, reason="the record is away"),
    ]
    asked = {"seed": "7" if population else None, "population": population, "agency": None, "kind": None,
             "not_looked_at": [{"position": 2, "reason": "unknown"}]}  # fmt: skip
    look = {"look_id": LOOK, "la_code": "332", "asked_at": NOW, "asked_by": "inspector", "asked": asked}
    plan = {"plan_id": UUID(int=500), "case_reference": "EHC-1", "version": 2, "issued_on": date(2026, 9, 1)}
    gap = {"plan_id": UUID(int=500), "who": "therapies: speech", "reason": "no rule covers it", "since": NOW}
    made = looks.report(look, "Dudley", [plan], shares, [gap], {"health": dict(KEY.as_dict(private=False))}, NOW)
    found: dict[str, Any] = made.model_dump(mode="json")
    return found


def test_the_text_says_each_finding_in_words() -> None:
    said = inspection.text(document(), {2: 5})
    for sentence in (
        "1 of 100 children in force, drawn at random with the seed 7",
        "Of 1 children, 0 have the current version in every record that was looked into: 0.0 % (of all children, with 95 % "
        "confidence, 0.0 to 79.3 %).",
        "1 of the current copies lie in an inbox where nobody has opened them yet.",
        "In 1 children's plans somebody is involved who gets nothing (share gap).",
        "EHC-1, Russells Hall: version 2 should be there, found nothing; last receipt: filed, version 2, 2026-11-20 12:00:00",
        "EHC-1, Slow Trust: did not answer (the record is away); last receipt: filed, version 2, 2026-11-20 12:00:00",
        "Mailbox Trust: 1 cannot be asked (what lies behind a MESH mailbox cannot be asked); for 1 of them the last receipt is "
        "for the current version",
        "parent: 1 sent by an officer, whose word is all there is; for 0 of them an officer has recorded sending the current "
        "version",
        "EHC-1: therapies: speech (no rule covers it)",
        "line 5: the exchange has no such child",
    ):
        assert sentence in said, said
    assert "number 2 of the choice: the exchange has no such child" in inspection.text(document()), "whose file is not at hand"
    assert "Dudley Group" in said


def test_a_draw_names_those_before_it_and_a_choice_has_none() -> None:
    one = document()
    draw = {
        "look_id": "L-1", "asked_at": "2026-11-19T08:30:00Z", "asked_by": "operator", "seed": "8", "population": 100,
        "agency": None, "kind": "trust", "children": 50, "looked_into": 48, "current": 31,
    }  # fmt: skip
    said = inspection.text(one | {"earlier_draws": [draw, draw | {"seed": "9", "kind": None, "current": None}]})
    assert "2 other draws were made here in the twelve months before: see the end." in said
    line = "2026-11-19 08:30:00 by operator, seed 8: 50 of 100 children, only trust: 31 of 48 current (look L-1)"
    assert line in said
    assert "seed 9: 50 of 100 children: not counted here (look L-1)" in said
    assert "No other draw was made here in the twelve months before." in inspection.text(one)
    assert "other draw" not in inspection.text(document(population=None))


def test_children_of_whom_nothing_was_seen_are_said_beside_the_figure() -> None:
    one = document()
    unseen = one["children"][0] | {"all_current": None, "records": [one["children"][0]["records"][0]]}
    said = inspection.text(one | {"children": [*one["children"], unseen, unseen]})
    assert "Of the other 2 no record could be looked into: the figure says nothing of them." in said
    assert "Of the other" not in inspection.text(one)


def test_a_choice_says_that_it_stands_for_nobody_else() -> None:
    said = inspection.text(document(population=None))
    assert "chosen and not drawn: the figures say nothing of other children" in said
    assert "confidence" not in said


def test_the_csv_has_a_line_for_each_record_and_each_gap() -> None:
    rows = list(inspection.rows(document()))
    assert [row["verdict"] for row in rows] == [
        "by_hand",
        "current",
        "current",
        "current",
        "cannot_be_asked",
        "absent",
        "no_answer",
        "share_gap",
    ]
    assert all(row.keys() <= set(inspection.ROW_COLUMNS) for row in rows)


def test_every_answer_in_it_is_checked() -> None:
    good = document()
    assert inspection.check_statements(good) == 7
    records = good["children"][0]["records"]
    changes: tuple[Callable[[dict[str, Any]], object], ...] = (
        lambda made: made["children"][0]["records"][3].update(verdict="absent"),
        lambda made: made["children"][0]["records"][5].update(verdict="current"),
        lambda made: made["children"][0]["records"][1].update(statement=records[5]["statement"]),
        lambda made: made["children"][0]["records"][1].update(statement="a.b.c"),
        lambda made: made["keys"].update(health=dict(COUNCIL.as_dict(private=False))),
        lambda made: made["keys"].clear(),
        # Said without anybody having said so; another version, or another text, than the one that should be there.
        lambda made: made["children"][0]["records"][1].update(statement=None),
        lambda made: made["children"][0]["records"][5].update(statement=None, verdict="current"),
        lambda made: made["children"][0]["records"][1].update(version_id=str(UUID(int=3))),
        lambda made: made["children"][0]["records"][1].update(sha256="cd" * 32),
        # Figures that are not those of the records.
        lambda made: made["children"][0].update(all_current=True),
        lambda made: made["with_all_current"].update(current=1, per_cent="100.0"),
        lambda made: made["with_all_current"].update(per_cent="100.0"),
        lambda made: made["totals"][0].update(absent=made["totals"][0]["absent"] + 1),
        lambda made: made["totals"][0].update(per_cent="99.9"),
        lambda made: made["children"].pop(),
        lambda made: made.update(with_gaps=0),
    )
    for change in changes:
        changed = deepcopy(good)
        change(changed)
        with pytest.raises(SignedDocumentError):
            inspection.check_statements(changed)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"found_version_id": UUID(int=1), "found_version": 1}, "older_version"),
        ({"found_version_id": UUID(int=3), "found_version": 3, "newer": True}, "current"),
        ({"found_version_id": UUID(int=3), "found_version": 3, "recalled": True}, "older_version"),
        ({"found_sha256": "cd" * 32}, "altered"),
        ({"intact": False}, "altered"),
        ({"withdrawn": True}, "altered"),
    ],
)
def test_every_verdict_is_borne_out_by_what_was_said_and_by_nothing_else(changes: dict[str, Any], verdict: str) -> None:
    made = document([share(1, "Dudley Group", Found.HELD, **changes)])
    record = made["children"][0]["records"][0]
    assert record["verdict"] == verdict
    assert inspection.check_statements(made) == 1
    for other in {"older_version", "altered", "absent", "current"} - {verdict}:
        record["verdict"] = other
        if (other, record["found_version"]) != ("older_version", 3):  # whether it was recalled, only the council knows
            with pytest.raises(SignedDocumentError):
                inspection.check_statements(made)


def test_the_files_are_for_this_user_alone_and_the_signed_one_is_verified(tmp_path: Path) -> None:
    signed = DocumentSigner(COUNCIL).sign(inspection.KIND, document())
    files = sample.save(signed, tmp_path / "sample.json", {})
    assert [oct(file.stat().st_mode & 0o777) for file in files] == ["0o600"] * 3
    key = tmp_path / "council.jwk"
    key.write_bytes(orjson.dumps(COUNCIL.as_dict(private=False)))
    result = CliRunner().invoke(app, ["verify", str(files[0]), "--key", str(key), "--json"])
    assert result.exit_code == 0, result.output
    assert orjson.loads(result.stdout)["statements"] == 7


@pytest.mark.parametrize(
    "arguments",
    [
        ["--children", "missing.txt"], ["--agency", "dentist"], ["--n", "0"], ["--n", "1001"],
        ["--children", "missing.txt", "--seed", "1"],
    ],
)  # fmt: skip
def test_wrong_use_is_said_before_anything_is_asked(tmp_path: Path, arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["sample", "--home", str(tmp_path), *arguments])
    assert result.exit_code == 2, result.output


def test_a_file_of_children_has_one_on_each_line(tmp_path: Path) -> None:
    file = tmp_path / "children.txt"
    file.write_text("\ufeffEHC-1\n\n# chosen by the inspector\n 943 476 5919 \n")
    assert sample.read_children(file) == {1: "EHC-1", 4: "943 476 5919"}
