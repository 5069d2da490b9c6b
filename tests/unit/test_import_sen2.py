"""The SEN2 return: eight tables that hang together by ids, judged row by row."""

import csv
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.lifecycle import PastReview, ReviewOutcome
from services.cli.importing.faults import Findings, UnreadableError
from services.cli.importing.opening import Asked, opened
from services.cli.importing.plans import ExtractPlan, Lack
from services.cli.importing.profiles import Profile
from services.cli.importing.sending import remarks_of
from tests.support.publisher import pdf_document

TODAY = date(2026, 11, 22)
Rows = dict[str, list[dict[str, str]]]


def one_plan(n: int = 1) -> Rows:
    """The rows of one plan in force, named from February with a school."""
    return {
        "person": [{"persontableid": f"P{n}", "surname": "Hartley", "forename": "Rowan", "personbirthdate": "2014-05-06",
                    "postcode": "DY1 1AA", "upn": "P207000016049", "uniquelearnernumber": "9276308686",
                    "nativeid": f"EHC-{n}"}],
        "requests": [{"requeststableid": f"R{n}", "persontableid": f"P{n}", "receiveddate": "2025-09-22",
                      "requestoutcomedate": "2025-10-30"}],
        "assessment": [{"assessmenttableid": f"A{n}", "requeststableid": f"R{n}", "assessmentoutcomedate": "2026-01-20"}],
        "namedplan": [{"namedplantableid": f"N{n}", "assessmenttableid": f"A{n}", "startdate": "2026-02-09", "ceasedate": "",
                       "ceasereason": ""}],
        "plandetail": [{"plandetailtableid": f"D{n}", "namedplantableid": f"N{n}", "urn": "993202", "ukprn": "",
                        "sensetting": "", "placementrank": "1"}],
        "activeplans": [{"activeplanstableid": f"C{n}", "requeststableid": f"R{n}", "reviewmeeting": "", "reviewoutcome": "",
                         "lastreview": ""}],
        "placementdetail": [{"placementdetailtableid": f"L{n}", "activeplanstableid": f"C{n}", "urn": "993202", "ukprn": "",
                             "sensetting": "", "placementrank": "1", "entrydate": "2025-09-01", "leavingdate": ""}],
        "senneed": [{"senneedtableid": f"E{n}", "activeplanstableid": f"C{n}", "sentype": "ASD", "sentyperank": "1"}],
    }  # fmt: skip


def both(*sets: Rows) -> Rows:
    return {name: [row for each in sets for row in each[name]] for name in sets[0]}


def changed(module: str, **changes: str) -> Rows:
    rows = one_plan()
    rows[module][0] |= changes
    return rows


def written(folder: Path, rows: Rows, prefix: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    for name, each in rows.items():
        with (folder / f"{prefix}{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(column for row in each for column in row)), restval="")
            writer.writeheader()
            writer.writerows(each)
    return folder


def read(folder: Path, **asked: Any) -> tuple[list[ExtractPlan], Findings]:
    findings = Findings()
    profile = asked.pop("profile", Profile(la_code="332"))
    with opened(Asked(folder, profile, TODAY, **asked), findings) as extract:
        return list(extract.plans()), findings


def said(findings: Findings) -> set[tuple[str, int, str, str]]:
    return {(fault["file"], fault["line"], fault["column"], fault["effect"]) for fault in findings.shown}


def test_a_plan_with_its_document_becomes_a_submission(tmp_path: Path) -> None:
    folder = written(tmp_path / "set", one_plan(), prefix="Blade-Export_15-01-2026_")
    (folder / "R1.pdf").write_bytes(pdf_document("plan"))
    ((plan,), findings) = read(folder, profile=Profile(la_code="332", commissioning_bodies=("QUA",)))
    assert findings.rows == 0
    assert plan.case_reference == "R1"
    assert plan.settings == {"urn:993202"}
    assert plan.lacks == {Lack.NHS_NUMBER}
    assert orjson.loads(plan.versions[0].submission) == {
        "la_code": "332", "case_reference": "R1",
        "child": {"family_name": "Hartley", "given_names": "Rowan", "date_of_birth": "2014-05-06", "upn": "P207000016049",
                  "uln": "9276308686", "postcode": "DY1 1AA"},
        "version": {"issued_on": "2026-02-09", "commissioning_bodies": [{"scheme": "ods", "value": "QUA"}],
                    "placements": [{"setting": {"scheme": "urn", "value": "993202"}, "from": "2025-09-01"}]},
    }  # fmt: skip


def test_without_a_document_there_is_nothing_to_send(tmp_path: Path) -> None:
    ((plan,), findings) = read(written(tmp_path / "set", one_plan()))
    assert plan.versions == ()
    assert Lack.DOCUMENT in plan.lacks
    assert findings.rows == 0, "and that is no error"


def test_the_council_comes_from_the_set_and_what_it_adds_to_it(tmp_path: Path) -> None:
    rows = changed("person", nhsnumber="943 476 5919", address1="1 Example Street") | {
        "sen2": [{"sen2tableid": "S1", "lea": "332"}],
        "family": [{"familytableid": "F1", "persontableid": "P1", "reference": "M1", "role": "parent", "name": "Ann Hartley",
                    "email": "ann@example.org", "address1": "1 Example Street"}],
    }  # fmt: skip
    folder = written(tmp_path / "set", rows)
    (folder / "documents").mkdir()
    (folder / "documents" / "EHC-1_2026-09-30.pdf").write_bytes(pdf_document("amended"))
    (folder / "documents" / "EHC-1.pdf").write_bytes(pdf_document("first"))
    ((plan,), _) = read(folder, profile=Profile(case_reference="person.nativeid"))
    assert (plan.la_code, plan.case_reference, plan.lacks) == ("332", "EHC-1", frozenset())
    assert [str(version.issued_on) for version in plan.versions] == ["2026-09-30", "2026-02-09"], "the newest first"
    content = orjson.loads(plan.versions[0].submission)
    assert content["child"]["nhs_number"] == "9434765919"
    assert content["version"]["family"] == [
        {
            "reference": "M1",
            "role": "parent",
            "name": "Ann Hartley",
            "email": "ann@example.org",
            "address": ["1 Example Street"],
        }
    ]


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    rows = one_plan()
    del rows["namedplan"], rows["placementdetail"], rows["senneed"]
    with pytest.raises(UnreadableError) as caught:
        read(written(tmp_path / "set", rows))
    assert "lacks: 4a named plan (a file whose name ends in namedplan); 5b placement" in str(caught.value)
    assert "5c need" not in str(caught.value), "nothing of a plan is lost without it"


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    rows = one_plan()
    del rows["person"][0]["personbirthdate"]
    with pytest.raises(UnreadableError, match=r"person.csv has no column personbirthdate"):
        read(written(tmp_path / "set", rows))


def test_two_files_for_one_module(tmp_path: Path) -> None:
    folder = written(tmp_path / "set", one_plan())
    (folder / "old_person.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UnreadableError, match="could both be 1 person"):
        read(folder)


def test_orphan_rows_are_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    rows = both(one_plan(1), one_plan(2))
    rows["placementdetail"][1]["activeplanstableid"] = "C9"
    rows["assessment"][0]["requeststableid"] = "R9"
    rows["plandetail"].append(rows["plandetail"][0] | {"plandetailtableid": "D3", "namedplantableid": ""})
    plans, findings = read(written(tmp_path / "set", rows))
    assert said(findings) == {
        ("assessment", 2, "requeststableid", "not sent"), ("placementdetail", 3, "activeplanstableid", "not sent"),
        ("plandetail", 4, "namedplantableid", "not sent"),
    }  # fmt: skip
    assert "there is no such row in 2 requests" in [fault["problem"] for fault in findings.shown]
    assert [plan.case_reference for plan in plans] == ["R1", "R2"], "the first is still an active plan"


def test_a_row_id_that_is_there_twice(tmp_path: Path) -> None:
    rows = one_plan()
    rows["person"].append(dict(rows["person"][0]))
    rows["placementdetail"].append(rows["placementdetail"][0] | {"urn": "993206"})
    findings = Findings()
    with opened(Asked(written(tmp_path / "set", rows), Profile(la_code="332"), TODAY), findings) as extract:
        assert len(list(extract.plans())) == 1
        assert extract.duplicates == 1, "the same row again is the same row"
    assert [(fault["file"], fault["line"], fault["problem"]) for fault in findings.shown] == [
        ("placementdetail", 3, "line 2 has the same id with other content")
    ]


@pytest.mark.parametrize(
    ("module", "changes", "column"),
    [
        ("person", {"upn": "Q207000016049"}, "upn"),
        ("person", {"uniquelearnernumber": "9276308687"}, "uniquelearnernumber"),
        ("person", {"personbirthdate": "2014-02-30"}, "personbirthdate"),
        ("person", {"personbirthdate": "2027-02-01"}, "personbirthdate"),
        ("person", {"surname": ""}, "surname"),
        ("namedplan", {"startdate": "09.02.26"}, "startdate"),
        ("namedplan", {"startdate": "2027-02-09"}, "startdate"),
        ("namedplan", {"startdate": "2014-01-01"}, "startdate"),
        ("namedplan", {"ceasedate": "2026-02-08", "ceasereason": "1"}, "ceasedate"),
        ("namedplan", {"ceasedate": "2026-10-08", "ceasereason": "10"}, "ceasereason"),
        ("namedplan", {"ceasedate": "2026-10-08"}, "ceasereason"),
        ("plandetail", {"urn": "12345"}, "urn"),
        ("placementdetail", {"ukprn": "1234567"}, "ukprn"),
        ("placementdetail", {"urn": "", "sensetting": "XYZ"}, "sensetting"),
        ("placementdetail", {"urn": ""}, "urn"),
        ("placementdetail", {"leavingdate": "2025-08-31"}, "leavingdate"),
        ("placementdetail", {"entrydate": "1.9.2025x"}, "entrydate"),
    ],
)
def test_an_error_in_what_is_sent_keeps_the_plan_back(
    tmp_path: Path, module: str, changes: Mapping[str, str], column: str
) -> None:
    folder = written(tmp_path / "set", changed(module, **changes))
    (folder / "R1.pdf").write_bytes(pdf_document("plan"))
    ((plan,), findings) = read(folder)
    assert (module, 2, column, "not sent") in said(findings)
    assert plan.versions == ()
    assert Lack.CORRECTION in plan.lacks
    for value in changes.values():
        assert (
            not value or len(value) < 3 or value not in repr([fault["problem"] + fault["instead"] for fault in findings.shown])
        )


@pytest.mark.parametrize(
    ("module", "changes", "column", "problem"),
    [
        ("activeplans", {"reviewmeeting": "2026-10-01", "reviewoutcome": "A", "lastreview": "2026-09-30"}, "lastreview",
         "the decision is before the meeting"),
        ("activeplans", {"reviewmeeting": "2026-10-01", "reviewdraft": "2026-09-30"}, "reviewdraft",
         "the draft is before the meeting"),
        ("activeplans", {"lastreview": "2026-11-23"}, "lastreview", "the date is in the future"),
        ("activeplans", {"lastreview": "2026-02-08"}, "lastreview", "the plan was reviewed before it began"),
        ("requests", {"requestoutcomedate": "2025-09-21"}, "requestoutcomedate", "the outcome is before the request"),
        ("requests", {"receiveddate": "2026-02-10", "requestoutcomedate": ""}, "startdate",
         "the plan begins before it was requested"),
        ("assessment", {"assessmentoutcomedate": "2025-10-29"}, "assessmentoutcomedate", "the outcome is before the request's"),
        ("senneed", {"sentype": "ADHD"}, "sentype", "it is not a type of need that SEN2 knows"),
    ],
)  # fmt: skip
def test_an_impossible_order_elsewhere_is_noted_and_the_plan_is_sent(
    tmp_path: Path, module: str, changes: Mapping[str, str], column: str, problem: str
) -> None:
    folder = written(tmp_path / "set", changed(module, **changes))
    (folder / "R1.pdf").write_bytes(pdf_document("plan"))
    ((plan,), findings) = read(folder)
    assert (column, problem, "sent all the same") in [
        (fault["column"], fault["problem"], fault["effect"]) for fault in findings.shown
    ]
    assert len(plan.versions) == 1


def test_a_decision_before_its_meeting_is_that_of_an_earlier_review_while_there_is_no_outcome(tmp_path: Path) -> None:
    rows = changed("activeplans", reviewmeeting="2026-11-01", lastreview="2026-03-30")
    ((plan,), findings) = read(written(tmp_path / "set", rows))
    assert findings.rows == 0
    assert plan.last_review == date(2026, 3, 30)
    assert plan.review is not None
    assert (plan.review.held_on, plan.review.decision) == (date(2026, 3, 30), None), "its own meeting is not known"


def test_a_review_has_its_meeting_and_its_decision(tmp_path: Path) -> None:
    rows = changed("activeplans", reviewmeeting="2026-10-01", reviewoutcome="M", lastreview="2026-10-20")
    ((plan,), findings) = read(written(tmp_path / "set", rows))
    assert findings.rows == 0
    assert plan.review == PastReview(
        review="decided-2026-10-20", held_on=date(2026, 10, 1), decided_on=date(2026, 10, 20), decision=ReviewOutcome.MAINTAIN
    )


def test_a_meeting_without_a_decision_is_no_review_yet(tmp_path: Path) -> None:
    ((plan,), _) = read(written(tmp_path / "set", changed("activeplans", reviewmeeting="2026-10-01")))
    assert plan.review is None


@pytest.mark.parametrize(
    ("second", "overlaps"),
    [
        ({"urn": "993206", "placementrank": "1", "entrydate": "2026-09-01"}, "of the same rank"),
        ({"urn": "993202", "placementrank": "2", "entrydate": "2026-09-01"}, "at the same setting"),
        ({"urn": "993206", "placementrank": "2", "entrydate": "2026-09-01"}, None),
    ],
)
def test_overlapping_placements(tmp_path: Path, second: dict[str, str], overlaps: str | None) -> None:
    rows = one_plan()
    rows["placementdetail"].append(rows["placementdetail"][0] | {"placementdetailtableid": "L2"} | second)
    ((plan,), findings) = read(written(tmp_path / "set", rows))
    if overlaps is None:
        assert findings.rows == 0
        assert plan.settings == {"urn:993202", "urn:993206"}, "two at once are lawful"
    else:
        (fault,) = findings.shown
        assert (fault["line"], fault["column"]) == (3, "entrydate")
        assert fault["problem"] == f"it overlaps the placement {overlaps} in line 2"


def test_a_placement_that_ended_before_the_next_began(tmp_path: Path) -> None:
    rows = one_plan()
    rows["placementdetail"][0]["leavingdate"] = "2026-07-17"
    rows["placementdetail"].append(
        rows["placementdetail"][0]
        | {"placementdetailtableid": "L2", "urn": "", "ukprn": "10993201", "entrydate": "2026-09-01", "leavingdate": ""}
    )
    ((plan,), findings) = read(written(tmp_path / "set", rows))
    assert findings.rows == 0
    assert plan.settings == {"ukprn:10993201"}


def test_ceased_plans(tmp_path: Path) -> None:
    ended = changed("namedplan", ceasedate="2026-08-31", ceasereason="2")
    moved = changed("namedplan", ceasedate="2026-08-31", ceasereason="5")
    later = changed("namedplan", ceasedate="2026-12-31", ceasereason="1")
    ((plan,), findings) = read(written(tmp_path / "ended", ended))
    assert plan.ceased is not None
    assert (plan.ceased.on, plan.ceased.reason, plan.over) == (date(2026, 8, 31), "needs_met", True)
    ((plan,), findings) = read(written(tmp_path / "moved", moved))
    assert (plan.ceased, plan.over) == (None, True), "a plan that another council has goes on"
    assert findings.shown[0]["instead"] == "record the transfer: ehcp record transfer"
    ((plan,), findings) = read(written(tmp_path / "later", later))
    assert (plan.ceased, plan.over) == (None, False)
    assert findings.rows == 0


def test_requests_that_came_to_no_plan_are_no_plans(tmp_path: Path) -> None:
    rows = one_plan()
    rows["requests"].append({"requeststableid": "R2", "persontableid": "P1", "receiveddate": "2026-09-22"})
    plans, findings = read(written(tmp_path / "set", rows))
    assert [plan.case_reference for plan in plans] == ["R1"]
    assert findings.rows == 0


def test_two_plans_with_one_case_reference(tmp_path: Path) -> None:
    rows = one_plan()
    for name, id_, parent in (("requests", "R2", "P1"), ("activeplans", "C2", "R2")):
        own, above = list(rows[name][0])[:2]
        rows[name].append({own: id_, above: parent})
    profile = Profile(la_code="332", case_reference="person.nativeid")
    _, findings = read(written(tmp_path / "set", rows), profile=profile)
    assert [(fault["file"], fault["line"], fault["problem"]) for fault in findings.shown] == [
        ("activeplans", 3, "another plan in force (namedplan line 2) has the same case reference")
    ]
    rows["namedplan"][0] |= {"ceasedate": "2026-08-31", "ceasereason": "2"}
    plans, findings = read(written(tmp_path / "set", rows), profile=profile)
    assert findings.rows == 0
    assert [(plan.case_reference, plan.over) for plan in plans] == [("EHC-1", False)], "the successor's, not the ceased one's"


def test_corrections_take_the_place_of_the_rows_that_were_wrong(tmp_path: Path) -> None:
    rows = both(one_plan(1), one_plan(2))
    rows["placementdetail"][1]["activeplanstableid"] = "C9"
    rows["person"][0]["upn"] = "Q207000016049"
    folder = written(tmp_path / "set", rows)
    findings = Findings(tmp_path / "errors")
    with opened(Asked(folder, Profile(la_code="332"), TODAY), findings) as extract:
        list(extract.plans())
    findings.close()
    for name, wrong, right in (("placementdetail", "C9", "C2"), ("person", "Q207000016049", "P207000016049")):
        file = tmp_path / "errors" / f"{name}.csv"
        text = file.read_text("utf-8-sig")
        assert wrong in text
        file.write_text(text.replace(wrong, right))
    plans, found = read(folder, corrections=(tmp_path / "errors",))
    assert found.rows == 0
    assert [plan.settings for plan in plans] == [{"urn:993202"}, {"urn:993202"}]


def test_the_sample_return_of_the_sandbox_is_right() -> None:
    folder = Path(__file__).parents[2] / "deploy" / "sandbox" / "extracts"
    profile = Profile(case_reference="person.nativeid", commissioning_bodies=("QUA",))
    plans, findings = read(folder / "sen2", profile=profile)
    assert findings.shown == []
    assert len(plans) == 17
    assert [plan.case_reference for plan in plans if plan.over] == ["DUD-2018-0066"]
    assert [plan.case_reference for plan in plans if plan.versions] == ["DUD-2026-0101"]


def test_what_the_publisher_noted_of_a_code_stands_with_the_row_that_has_it(tmp_path: Path) -> None:
    rows = one_plan()
    second = {"placementdetailtableid": "L2", "urn": "", "ukprn": "10001234", "placementrank": "2"}
    rows["placementdetail"].append(rows["placementdetail"][0] | second)
    folder = written(tmp_path / "set", rows)
    (folder / "R1.pdf").write_bytes(pdf_document("plan"))
    findings = Findings()
    with opened(Asked(folder, Profile(la_code="332", commissioning_bodies=("QUA",)), TODAY), findings) as extract:
        (plan,) = extract.plans()
        noted = [
            {
                "field": "version/placements/1/setting",
                "problem": "ukprn:10001234 is not in the directory",
                "instead": "send it",
            },
            {
                "field": "version/commissioning_bodies/0",
                "problem": "ods:QUA was valid only until 2026-03-31",
                "instead": "send it",
            },
        ]
        extract.refuse(plan.versions[0].source, remarks_of({"noted": noted}))
        assert extract.notes() == ["the profile's commissioning_bodies: ods:QUA was valid only until 2026-03-31; send it"]
    assert [(each["file"], each["line"], each["column"], each["effect"]) for each in findings.shown] == [
        ("placementdetail", 3, "ukprn", "sent all the same")
    ]
    assert (findings.refused, findings.noted) == (0, 1)
