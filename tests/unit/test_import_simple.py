"""The simple CSV: what becomes of a row, what is wrong with one, and how a profile renames its columns."""

import csv
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from schemas.lifecycle import PastReview, ReviewOutcome
from schemas.plan import PlanSubmission
from services.cli.importing.faults import Findings, UnreadableError
from services.cli.importing.opening import Asked, opened
from services.cli.importing.plans import ExtractPlan, Lack
from services.cli.importing.profiles import Profile, load_profile
from services.cli.machine.errors import UsageError
from services.cli.main import app
from tests.support.publisher import pdf_document

TODAY = date(2026, 11, 22)
ROW = {
    "case_reference": "EHC-1", "family_name": "Hartley", "given_names": "Rowan James", "date_of_birth": "06/05/2014",
    "nhs_number": "943 476 5919", "upn": "P207000016049", "issued_on": "2026-02-10", "address_1": "1 Example Street",
    "address_2": "Dudley", "postcode": "DY1 1AA", "commissioning_bodies": "QUA", "setting_1_urn": "993202",
    "setting_1_from": "01/09/2025", "family_1_reference": "M1", "family_1_name": "Ann Hartley",
    "family_1_address": "1 Example Street | Dudley", "section_a": "Likes trains.",
}  # fmt: skip


def written(folder: Path, *rows: dict[str, str], name: str = "plans.csv") -> Path:
    path = folder / name
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(path: Path, profile: Profile | None = None, **asked: Any) -> tuple[list[ExtractPlan], Findings]:
    findings = Findings()
    with opened(Asked(path, profile or Profile(la_code="332"), TODAY, **asked), findings) as extract:
        return list(extract.plans()), findings


def faults(folder: Path, *rows: dict[str, str]) -> list[tuple[int, str, str]]:
    """Line, column and problem of each."""
    _, findings = read(written(folder, *rows))
    return [(fault["line"], fault["column"], fault["problem"]) for fault in findings.shown]


def submission(plan: ExtractPlan, number: int = 0) -> dict[str, Any]:
    return dict(PlanSubmission.model_validate_json(plan.versions[number].submission).model_dump(mode="json", by_alias=True))


def test_a_row_becomes_a_submission(tmp_path: Path) -> None:
    ((plan,), findings) = read(written(tmp_path, ROW))
    assert findings.rows == 0
    assert plan.case_reference == "EHC-1"
    assert plan.settings == {"urn:993202"}
    assert not plan.lacks
    assert orjson.loads(plan.versions[0].submission) == {
        "la_code": "332", "case_reference": "EHC-1",
        "child": {"family_name": "Hartley", "given_names": "Rowan James", "date_of_birth": "2014-05-06",
                  "nhs_number": "9434765919", "upn": "P207000016049", "address": ["1 Example Street", "Dudley"],
                  "postcode": "DY1 1AA"},
        "version": {"issued_on": "2026-02-10", "sections": {"A": {"text": "Likes trains."}},
                    "placements": [{"setting": {"scheme": "urn", "value": "993202"}, "from": "2025-09-01"}],
                    "commissioning_bodies": [{"scheme": "ods", "value": "QUA"}],
                    "family": [{"reference": "M1", "role": "parent", "name": "Ann Hartley",
                                "address": ["1 Example Street", "Dudley"]}]},
    }  # fmt: skip


def test_every_identifier_and_date_error_is_named_by_row_and_column(tmp_path: Path) -> None:
    bad = {"nhs_number": "9434765918", "upn": "Q207000016049", "uln": "9276308687", "date_of_birth": "31/02/2014",
           "issued_on": "2026-13-01", "setting_1_urn": "99320", "setting_1_from": "x", "family_name": ""}  # fmt: skip
    assert set(faults(tmp_path, ROW, ROW | {"case_reference": "EHC-2"} | bad)) == {
        (3, "nhs_number", "NHS number has a wrong check digit (modulus 11)"),
        (3, "upn", "UPN has a wrong check letter (modulus 23)"),
        (3, "uln", "ULN has a wrong check digit (modulus 11)"),
        (3, "date_of_birth", "there is no such day"),
        (3, "issued_on", "there is no such day"),
        (3, "setting_1_urn", "URN must be 6 digits"),
        (3, "setting_1_from", "it is not a date"),
        (3, "family_name", "it is empty"),
    }


@pytest.mark.parametrize(
    ("changes", "column", "problem"),
    [
        ({"date_of_birth": "2026-03-01"}, "", "date_of_birth is after issued_on"),
        ({"date_of_birth": "2027-03-01"}, "date_of_birth", "the date is in the future"),
        ({"setting_1_until": "2025-08-31"}, "setting_1_until", "the last day is before the first"),
        (
            {"setting_2_urn": "993202", "setting_2_from": "2026-01-05"},
            "setting_2_from",
            "it overlaps setting_1, the same setting",
        ),
        ({"ceased_on": "2026-02-01", "cease_reason": "1"}, "ceased_on", "the plan ceased before it was issued"),
        ({"ceased_on": "2026-03-01", "cease_reason": "10"}, "cease_reason", "it is not a reason that SEN2 knows"),
        ({"case_reference": "EHC 1"}, "case_reference", "it holds a character that is not allowed here"),
        ({"family_1_role": "uncle"}, "family_1_role", "it is none of the values known here"),
        ({"document": "../plan.pdf"}, "document", "there is no such file in the folder of documents"),
        ({"la_code": "33"}, "la_code", "LA code must be 3 digits"),
    ],
)
def test_impossible_rows(tmp_path: Path, changes: dict[str, str], column: str, problem: str) -> None:
    found = faults(tmp_path, ROW | changes)
    assert (2, problem) in [(line, said) for line, _, said in found], found
    assert not column or column in [name for _, name, _ in found]


def test_whose_plans_they_are_is_asked_once_and_not_for_every_row(tmp_path: Path) -> None:
    path = written(tmp_path, ROW, ROW | {"case_reference": "EHC-2"})
    with pytest.raises(UnreadableError, match="Nothing says whose plans these are: name the council with --council"):
        read(path, Profile())
    assert len(read(path, Profile(), council="332")[0]) == 2
    assert len(read(written(tmp_path, ROW | {"la_code": "332"}), Profile())[0]) == 1


def test_two_schools_of_a_phase_transfer_overlap_with_nobody(tmp_path: Path) -> None:
    moves = {"setting_1_until": "2027-07-16", "setting_2_urn": "993206", "setting_2_from": "2027-09-01"}
    ((plan,), findings) = read(written(tmp_path, ROW | moves))
    assert findings.rows == 0
    assert [p["setting"]["value"] for p in submission(plan)["version"]["placements"]] == ["993202", "993206"]
    assert plan.settings == {"urn:993202"}, "the second is not named for today"


def test_the_newest_version_comes_first_and_a_repeated_row_counts_once(tmp_path: Path) -> None:
    rows = [ROW, ROW | {"issued_on": "2026-09-01", "section_a": "Likes trams."}, ROW | {"issued_on": "2025-01-31"}, ROW]
    ((plan,), findings) = read(written(tmp_path, *rows))
    assert [str(version.issued_on) for version in plan.versions] == ["2026-09-01", "2026-02-10", "2025-01-31"]
    assert findings.rows == 0
    changed = written(tmp_path, ROW, ROW | {"section_a": "Something else."})
    assert read(changed)[1].shown[0]["problem"] == "line 2 has the same id with other content"


def test_capital_letters_in_a_case_reference_make_no_second_plan(tmp_path: Path) -> None:
    rows = [ROW | {"case_reference": "ehc-1"}, ROW | {"issued_on": "2026-09-01", "section_a": "Likes trams."}]
    (plan,), _ = read(written(tmp_path, *rows))
    assert plan.case_reference == "EHC-1", "as the newest version has it"
    assert [str(version.issued_on) for version in plan.versions] == ["2026-09-01", "2026-02-10"]


def test_documents_are_found_by_name_or_by_reference_and_day(tmp_path: Path) -> None:
    for name in ("EHC-1_2026-02-10.pdf", "EHC-2.pdf", "Any name.pdf", "nobody.pdf"):
        (tmp_path / name).write_bytes(pdf_document(name))
    (tmp_path / "not.pdf").write_bytes(b"no PDF")
    no_text = {"section_a": ""}
    path = written(
        tmp_path, ROW | no_text, ROW | no_text | {"case_reference": "EHC-2"},
        ROW | no_text | {"case_reference": "EHC-3", "document": "Any name.pdf"},
        ROW | no_text | {"case_reference": "EHC-4", "document": "not.pdf"}, ROW | no_text | {"case_reference": "EHC-5"},
    )  # fmt: skip
    findings = Findings()
    with opened(Asked(path, Profile(la_code="332"), TODAY), findings) as extract:
        plans = list(extract.plans())
        assert list(extract.unused_documents()) == ["nobody.pdf"]
    names = [[version.document.name for version in plan.versions if version.document] for plan in plans]
    assert names == [["EHC-1_2026-02-10.pdf"], ["EHC-2.pdf"], ["Any name.pdf"], [], []]
    assert [fault["problem"] for fault in findings.shown] == ["the document is not a PDF"]
    assert plans[4].lacks == {Lack.DOCUMENT}


def test_no_document_goes_out_as_the_plan_of_two_children(tmp_path: Path) -> None:
    same = pdf_document("the same")
    for name, content in (
        ("EHC-1.pdf", same), ("EHC-2.pdf", same), ("EHC-3.pdf", pdf_document("3")), ("Shared.pdf", pdf_document("4")),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
    row = ROW | {"section_a": "", "document": ""}
    path = written(
        tmp_path, row, row | {"case_reference": "EHC-2"}, row | {"case_reference": "EHC-3"},
        row | {"case_reference": "EHC-4", "document": "Shared.pdf"},
        row | {"case_reference": "EHC-5", "document": "Shared.pdf"},
    )  # fmt: skip
    plans, findings = read(path)
    assert [plan.case_reference for plan in plans if plan.versions] == ["EHC-3"]
    assert [(fault["line"], fault["problem"]) for fault in findings.shown] == [
        (2, "the folder has the same document under another plan's name"),
        (3, "the folder has the same document under another plan's name"),
        (5, "two plans have this document"),
        (6, "two plans have this document"),
    ]


def test_how_a_file_was_read_and_what_was_not_used_of_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "plans.csv"
    header = "case_reference,family_name,given_names,date_of_birth,issued_on,setting_1_unr\n"
    path.write_bytes((header + "EHC-1,Brontë,Zoë,2014-05-06,2026-02-10,993202\n").encode("cp1252"))
    with opened(Asked(path, Profile(la_code="332"), TODAY), Findings()) as extract:
        assert extract.notes() == [
            "plans.csv was read as Windows-1252", "plans.csv has columns that are not used: setting_1_unr",
        ]  # fmt: skip


def test_a_document_outside_the_folder_is_never_read(tmp_path: Path) -> None:
    (tmp_path / "secret.pdf").write_bytes(pdf_document("secret"))
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "EHC-1.pdf").symlink_to(tmp_path / "secret.pdf")
    ((plan,), _) = read(written(tmp_path, ROW | {"section_a": ""}))
    assert plan.versions == ()


def test_what_a_plan_lacks(tmp_path: Path) -> None:
    nobody = {"setting_1_urn": "", "setting_1_type": "Special school", "commissioning_bodies": "", "family_1_name": "",
              "family_1_reference": "", "family_1_address": "", "nhs_number": "", "section_a": ""}  # fmt: skip
    ((plan,), findings) = read(written(tmp_path, ROW | nobody))
    assert plan.lacks == {Lack.DOCUMENT, Lack.NHS_NUMBER, Lack.RECIPIENT}
    assert findings.rows == 0, "what is lacking is no error"


def test_ceased_plans(tmp_path: Path) -> None:
    ceased = ROW | {"ceased_on": "2026-08-31", "cease_reason": "2"}
    later = ROW | {"case_reference": "EHC-2", "ceased_on": "2026-12-31", "cease_reason": "needs met"}
    (first, second), _ = read(written(tmp_path, ceased, later))
    assert first.ceased is not None
    assert (str(first.ceased.on), first.ceased.reason) == ("2026-08-31", "needs_met")
    assert second.ceased is None, "it is still in force"


def test_a_profile_renames_columns_and_says_what_the_file_does_not(tmp_path: Path) -> None:
    profile = tmp_path / "profile.yaml"
    profile.write_text(
        "format: simple\nla_code: '332'\ncommissioning_bodies: [QUA]\n"
        "columns: {case_reference: Case No., family_name: Surname, given_names: Forenames, date_of_birth: DOB,\n"
        "          issued_on: Final}\n"
    )
    path = tmp_path / "export.csv"
    path.write_bytes(
        "CASE NO;Surname;Forenames;DOB;Final;Section A;Colour\nE/7;Brontë;Zoë;6/5/2014;10/2/2026;x;red\n".encode("cp1252")
    )
    ((plan,), findings) = read(path, load_profile(str(profile), tmp_path))
    assert findings.rows == 0
    assert submission(plan)["child"]["family_name"] == "Brontë"
    assert submission(plan)["version"]["commissioning_bodies"] == [{"scheme": "ods", "value": "QUA"}]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("columns: {surname: X}", "a field that the simple CSV does not have"),
        ("colums: {}", "Extra inputs"),
        ("modules: {persons: {}}", "a module that SEN2 does not have"),
        ("case_reference: nativeid", "not a module and its column"),
        ("la_code: '33'", "LA code must be 3 digits"),
        ("{", "cannot be read as YAML"),
    ],
)
def test_a_profile_with_a_typing_error_is_refused(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(UsageError, match=what):
        load_profile(str(tmp_path / "p.yaml"), tmp_path)


def test_missing_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="has no column family_name, issued_on"):
        read(written(tmp_path, {"case_reference": "1", "given_names": "2", "date_of_birth": "3"}))


def test_errors_are_kept_with_their_rows_corrected_and_fed_back(tmp_path: Path) -> None:
    path = written(
        tmp_path, ROW, ROW | {"case_reference": "EHC-2", "nhs_number": "9434765918"}, ROW | {"case_reference": "EHC-3"}
    )
    findings = Findings(tmp_path / "errors")
    with opened(Asked(path, Profile(la_code="332"), TODAY), findings) as extract:
        assert [len(plan.versions) for plan in extract.plans()] == [1, 0, 1]
    findings.close()
    kept = tmp_path / "errors" / "plans.csv"
    assert kept.stat().st_mode & 0o777 == 0o600
    rows = list(csv.DictReader(kept.read_text("utf-8-sig").splitlines()))
    assert [(row["case_reference"], row["error_line"], row["error_column"]) for row in rows] == [("EHC-2", "3", "nhs_number")]
    assert rows[0]["error_instead"] == "check it against the record it was copied from"
    written(tmp_path / "errors", rows[0] | {"nhs_number": "9434765870"}, name="plans.csv")
    for asked in ({"path": path, "corrections": (tmp_path / "errors",)}, {"path": kept}):
        plans, found = read(**asked)
        assert found.rows == 0
        by_reference = {plan.case_reference: plan for plan in plans}
        assert submission(by_reference["EHC-2"])["child"]["nhs_number"] == "9434765870"
    assert len(read(path, corrections=(tmp_path / "errors",))[0]) == 3


def reviewed(folder: Path, **changes: str) -> tuple[ExtractPlan, list[tuple[str, str, str]]]:
    ((plan,), findings) = read(written(folder, ROW | changes))
    return plan, [(each["column"], each["problem"], each["effect"]) for each in findings.shown]


@pytest.mark.parametrize(
    ("said", "decision"),
    [("M", "maintain"), ("maintain", "maintain"), ("Amend", "amend"), ("cease", "cease"), ("X", None), ("", None)],
)
def test_the_last_review_of_a_row_is_one_from_before_the_exchange(tmp_path: Path, said: str, decision: str | None) -> None:
    plan, found = reviewed(tmp_path, last_review="2026-09-21", review_outcome=said)
    assert (plan.review, found) == (
        PastReview(
            review="decided-2026-09-21", held_on=date(2026, 9, 21), decided_on=date(2026, 9, 21),
            decision=decision and ReviewOutcome(decision),
        ),
        [],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"last_review": "2026-11-23"}, "the date is in the future"),
        ({"last_review": "2014-08-31", "date_of_birth": "2010-01-01"}, "there were no EHC plans on this day"),
        ({"last_review": "2014-10-01", "date_of_birth": "2014-10-02"}, "the child was not born"),
    ],
)
def test_a_review_that_cannot_be_is_noted_and_the_plan_goes_without_it(
    tmp_path: Path, changes: dict[str, str], problem: str
) -> None:
    plan, found = reviewed(tmp_path, **changes)
    assert found == [("last_review", problem, "sent all the same")]
    assert (plan.review, len(plan.versions)) == (None, 1)


def test_a_row_without_a_review_has_none(tmp_path: Path) -> None:
    plan, found = reviewed(tmp_path, review_outcome="M")
    assert (plan.review, found) == (None, [])


def test_an_exchange_that_does_not_run_is_said_at_once_and_nothing_is_left(tmp_path: Path) -> None:
    file, key = tmp_path / "plans.csv", tmp_path / "key.jwk"
    file.write_text("case_reference,family_name,given_names,date_of_birth,issued_on\n")
    environment = {
        "EHCP_COUNCIL_URL": "http://127.0.0.1:1",
        "EHCP_CLIENT_ID": "case-system-332",
        "EHCP_CLIENT_KEY_FILE": str(key),
    }
    done = CliRunner().invoke(app, ["import", str(file), "--council", "332"], env=environment)
    assert (done.exit_code, "does not answer" in done.output, "Trying again" in done.output) == (4, True, False)
    assert list(tmp_path.iterdir()) == [file]
