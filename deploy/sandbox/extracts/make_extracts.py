"""Makes the sample extracts of a council: ``python -m deploy.sandbox.extracts.make_extracts`` writes ``sen2/`` and ``simple/``.

``sen2/`` is a SEN2 person-level return of council 332 with the sample children of ``../plans``, changed where ``_CHANGES`` says
so: then ``ehcp reconcile extract`` has something to find. ``simple/`` has four more children with their PDFs. All is synthetic
and seeded: the same program gives the same bytes.

``--plans 100000 --into FOLDER`` makes a large extract of both layouts there, without documents, to measure with.
"""

import argparse
import csv
import json
import random
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from deploy.sandbox.make_plans import nhs_number, uln, upn
from deploy.sandbox.plan_pdf import plan_pdf

HERE = Path(__file__).parent
PLANS = HERE.parent / "plans" / "332"
JSON = dict[str, Any]
Rows = Iterator[tuple[str, JSON]]

COLUMNS = {
    "sen2": "sen2tableid NativeId collection year referencedate lea",
    "person": "persontableid NativeId sen2tableid surname forename personbirthdate sex ethnicity postcode upn"
              " uniquelearnernumber upnunknown nhsnumber",
    "requests": "requeststableid NativeId persontableid receiveddate requestsource rya requestoutcomedate requestoutcome"
                " requestmediation requesttribunal exported",
    "assessment": "assessmenttableid NativeId requeststableid assessmentoutcome assessmentoutcomedate assessmentmediation"
                  " assessmenttribunal othermediation othertribunal week20",
    "namedplan": "namedplantableid NativeId assessmenttableid startdate planres planwbp pb oa dp ceasedate ceasereason",
    "plandetail": "plandetailtableid NativeId namedplantableid urn ukprn sensetting sensettingother placementrank"
                  " senunitindicator resourcedprovisionindicator",
    "activeplans": "activeplanstableid NativeId requeststableid transferla reviewmeeting reviewoutcome reviewdraft"
                   " phasetransferduedate phasetransferfinaldate lastreview",
    "placementdetail": "placementdetailtableid NativeId activeplanstableid urn ukprn sensetting sensettingother placementrank"
                       " entrydate leavingdate res wbp senunitindicator resourcedprovisionindicator",
    "senneed": "senneedtableid NativeId activeplanstableid sentype sentyperank",
    "family": "familytableid persontableid reference role name email address1 address2 postcode",
}  # fmt: skip
_CHANGES: dict[str, JSON] = {
    "DUD-2018-0066": {"ceased": ("2026-10-30", "1")},
    "DUD-2022-0047": {"setting": "993208"},
    "DUD-2023-0128": {"review": ("2026-10-01", "A", "2026-10-20")},
    "DUD-2026-0071": {"left_out": True},
}
_SURNAMES = (
    "Ashby", "Bowater", "Cartwright", "Danks", "Elcock", "Fellows", "Grainger", "Hingley", "Jukes", "Kendrick", "Lavender",
    "Millward", "Nock", "Oakley", "Parkes", "Round", "Shakespeare", "Tibbetts", "Udall", "Whitehouse",
)  # fmt: skip
_FORENAMES = (
    "Aisha", "Ben", "Callum", "Daisy", "Elif", "Freya", "George", "Harpreet", "Isla", "Joshua", "Kezia", "Liam", "Maya", "Noah",
    "Olivia", "Priya", "Reuben", "Siân", "Tomasz", "Zoë",
)  # fmt: skip
_SCHOOLS = tuple(f"9932{n:02}" for n in range(2, 9))


def dfe_date(day: str | None) -> str:
    """As the Department's own export writes it: ``2024-Feb-09 00:00:00``."""
    return f"{date.fromisoformat(day):%Y-%b-%d} 00:00:00" if day else ""


def code_columns(placement: JSON) -> JSON:
    setting = placement.get("setting") or {}
    return {setting["scheme"]: setting["value"]} if setting else {"sensetting": "OLA"}


def sample_rows() -> Rows:
    yield (
        "sen2",
        {"sen2tableid": "S1", "collection": "SEN2", "year": "2026", "referencedate": dfe_date("2026-01-15"), "lea": "332"},
    )
    number = 0
    for folder in sorted(PLANS.iterdir()):
        changes = _CHANGES.get(folder.name, {})
        if changes.get("left_out"):
            continue
        number += 1
        files = sorted(folder.glob("v*.json"), key=lambda file: int(file.stem[1:]))
        versions = [json.loads(file.read_bytes()) for file in files]
        yield from rows_of(number, versions, changes)
    for reference, child in new_children():
        number += 1
        yield from rows_of(number, [submission_of(reference, child, "2026-10-05")], {})


def rows_of(number: int, versions: Sequence[JSON], changes: JSON) -> Rows:
    first, last = versions[0], versions[-1]
    child, start = first["child"], date.fromisoformat(first["version"]["issued_on"])
    received = start - timedelta(days=133)
    person, request, plan = f"P{number:05}", f"R{number:05}", f"N{number:05}"
    yield "person", {
        "persontableid": person, "NativeId": first["case_reference"], "sen2tableid": "S1", "surname": child["family_name"],
        "forename": child["given_names"], "personbirthdate": dfe_date(child["date_of_birth"]), "postcode": child["postcode"],
        "upn": child.get("upn", ""), "uniquelearnernumber": child.get("uln", ""), "nhsnumber": child.get("nhs_number", ""),
    }  # fmt: skip
    yield "requests", {
        "requeststableid": request, "persontableid": person, "receiveddate": dfe_date(str(received)), "rya": "false",
        "requestoutcomedate": dfe_date(str(received + timedelta(days=40))), "requestoutcome": "Y",
    }  # fmt: skip
    yield "assessment", {
        "assessmenttableid": f"A{number:05}", "requeststableid": request, "assessmentoutcome": "Y",
        "assessmentoutcomedate": dfe_date(str(start - timedelta(days=20))), "week20": "false",
    }  # fmt: skip
    ceased_on, reason = changes.get("ceased", (None, ""))
    yield "namedplan", {
        "namedplantableid": plan, "assessmenttableid": f"A{number:05}", "startdate": dfe_date(str(start)), "pb": "false",
        "ceasedate": dfe_date(ceased_on), "ceasereason": reason,
    }  # fmt: skip
    for rank, placement in enumerate(first["version"]["placements"][:1], 1):
        yield "plandetail", {
            "plandetailtableid": f"D{number:05}{rank}", "namedplantableid": plan, "placementrank": rank,
            **code_columns(placement),
        }  # fmt: skip
    if not ceased_on:
        yield from active_rows(number, request, last, len(versions) > 1, changes)
    for rank, member in enumerate(last["version"].get("family", ()), 1):
        address = member.get("address", [])
        yield "family", {
            "familytableid": f"F{number:05}{rank}", "persontableid": person, "reference": member["reference"],
            "role": member["role"], "name": member["name"], "email": member.get("email", ""),
            "address1": address[0] if address else "", "address2": address[1] if len(address) > 1 else "",
        }  # fmt: skip


def active_rows(number: int, request: str, last: JSON, amended: bool, changes: JSON) -> Rows:
    active, issued_on = f"C{number:05}", date.fromisoformat(last["version"]["issued_on"])
    review = (str(issued_on - timedelta(days=70)), "A", str(issued_on - timedelta(days=45))) if amended else (None, "", None)
    meeting, outcome, decided = changes.get("review", review)
    yield "activeplans", {
        "activeplanstableid": active, "requeststableid": request, "reviewmeeting": dfe_date(meeting), "reviewoutcome": outcome,
        "lastreview": dfe_date(decided),
    }  # fmt: skip
    placements = last["version"]["placements"]
    if "setting" in changes:
        placements = [placements[-1] | {"setting": {"scheme": "urn", "value": changes["setting"]}}]
    for rank, placement in enumerate(placements, 1):
        yield "placementdetail", {
            "placementdetailtableid": f"L{number:05}{rank}", "activeplanstableid": active, "placementrank": rank,
            "entrydate": dfe_date(placement["from"]), "leavingdate": dfe_date(placement.get("until")),
            **code_columns(placement),
        }  # fmt: skip
    yield "senneed", {"senneedtableid": f"E{number:05}", "activeplanstableid": active, "sentype": "ASD", "sentyperank": "1"}


def new_children() -> list[tuple[str, JSON]]:
    """In the return, and never issued to the exchange: the first has a document beside it, the second has none."""
    chance = random.Random("new children")
    return [(f"DUD-2026-01{n:02}", child_of(chance, n)) for n in (1, 2)]


def child_of(chance: random.Random, n: int) -> JSON:
    born = date(2008, 9, 1) + timedelta(days=chance.randrange(4700))
    child = {
        "family_name": _SURNAMES[chance.randrange(len(_SURNAMES))], "given_names": _FORENAMES[n % len(_FORENAMES)],
        "date_of_birth": str(born), "nhs_number": nhs_number(chance), "upn": upn(chance, "3329902", born.year + 4),
        "address": [f"{chance.randrange(2, 140)} Larkfield Avenue", "Dudley"], "postcode": f"DY1 {chance.randrange(1, 9)}AB",
    }  # fmt: skip
    return child | ({"uln": uln(chance)} if born.year < 2012 else {})


def submission_of(reference: str, child: JSON, issued_on: str, setting: str = "993202", **version: Any) -> JSON:
    family = [{"reference": f"{reference}-F1", "role": "parent", "name": f"Sam {child['family_name']}",
               "email": f"sam.{child['family_name'].lower()}@example.org", "address": child["address"]}]  # fmt: skip
    placement = {"setting": {"scheme": "urn", "value": setting}, "from": "2025-09-01"}
    content = {"issued_on": issued_on, "placements": [placement], "family": family} | version
    return {"la_code": "332", "case_reference": reference, "child": child, "version": content}


def sections_of(name: str, words: str) -> JSON:
    return {
        "A": {"text": f"{name} likes drawing maps and going out in the rain. {words}"},
        "B": {"text": "Needs time to process spoken language, and help to stay with a task."},
        "E": {"text": "By July 2027 follows a task of three steps with a picture plan."},
        "F": {"text": "A picture plan for every lesson, and ten hours a week with a teaching assistant."},
        "I": {"text": "Mainstream primary school."},
    }


def simple_rows() -> list[tuple[JSON, bytes | None]]:
    """Rows of the simple CSV, each with its PDF."""
    chance = random.Random("simple")
    made: list[tuple[JSON, bytes | None]] = []
    for n in range(1, 5):
        reference, child = f"DUD-2026-02{n:02}", child_of(chance, n + 4)
        days = ("2025-09-19", "2026-09-25") if n == 2 else ("2026-10-09",)
        for day in days:
            submission = submission_of(reference, child, day)
            text = sections_of(child["given_names"], f"Written on {day}.")
            row = simple_row(submission)
            if n == 3:  # named in October for September of next year: both schools hold the plan
                row |= {"setting_1_until": "2027-07-16", "setting_2_urn": "993206", "setting_2_from": "2027-09-01"}
            if n == 4:
                row |= {f"section_{letter.lower()}": part["text"] for letter, part in text.items()} | {"nhs_number": ""}
            made.append((row, None if n == 4 else plan_pdf(submission, text)))
    return made


def simple_row(submission: JSON) -> JSON:
    child, version = submission["child"], submission["version"]
    member = version["family"][0]
    return {
        "case_reference": submission["case_reference"], "issued_on": version["issued_on"], "family_name": child["family_name"],
        "given_names": child["given_names"], "date_of_birth": child["date_of_birth"], "nhs_number": child.get("nhs_number", ""),
        "upn": child.get("upn", ""), "uln": child.get("uln", ""), "address_1": child["address"][0],
        "address_2": child["address"][1], "postcode": child["postcode"], "commissioning_bodies": "QUA",
        "setting_1_urn": version["placements"][0]["setting"]["value"], "setting_1_from": version["placements"][0]["from"],
        "family_1_reference": member["reference"], "family_1_name": member["name"], "family_1_email": member["email"],
        "family_1_address": " | ".join(member["address"]), "involved_1_role": "provision", "involved_1_kind": "trust",
        "involved_1_organisation": "ods:RNA", "involved_1_sections": "G",
    }  # fmt: skip


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def write_set(folder: Path, rows: Rows) -> None:
    """One CSV for each module."""
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        writers = {}
        for name, columns in COLUMNS.items():
            file = stack.enter_context((folder / f"{name}.csv").open("w", encoding="utf-8", newline=""))
            writers[name] = csv.DictWriter(file, columns.split(), restval="")
            writers[name].writeheader()
        for name, row in rows:
            writers[name].writerow(row)


def write_samples() -> None:
    for name in ("sen2", "simple"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    write_set(HERE / "sen2", sample_rows())
    documents = HERE / "sen2" / "documents"
    documents.mkdir()
    reference, child = new_children()[0]
    submission = submission_of(reference, child, "2026-10-05")
    (documents / f"{reference}.pdf").write_bytes(plan_pdf(submission, sections_of(child["given_names"], "")))
    made = simple_rows()
    documents = HERE / "simple" / "documents"
    documents.mkdir(parents=True)
    columns = list(dict.fromkeys(name for row, _ in made for name in row))
    write_csv(HERE / "simple" / "plans.csv", [row for row, _ in made], columns)
    for row, document in made:
        if document is not None:
            (documents / f"{row['case_reference']}_{row['issued_on']}.pdf").write_bytes(document)


def write_many(folder: Path, plans: int) -> None:
    """Both layouts with so many plans; the simple one has texts of sections, since it has no documents."""

    def submissions() -> Iterator[JSON]:
        chance = random.Random("many")
        taken: set[str] = set()
        for n in range(1, plans + 1):
            child = child_of(chance, n)
            while not taken.isdisjoint(ids := {child["nhs_number"], child["upn"]}):  # two children with one number are one
                child = child_of(chance, n) | {"upn": upn(chance, f"332{chance.randrange(1000, 9999)}", 2018)}
            taken |= ids
            yield submission_of(f"BIG-{n:06}", child, f"2026-0{1 + n % 9}-15", _SCHOOLS[n % len(_SCHOOLS)])

    def sen2_rows() -> Rows:
        yield "sen2", {"sen2tableid": "S1", "lea": "332"}
        for n, submission in enumerate(submissions(), 1):
            yield from rows_of(n, [submission], {})

    write_set(folder / "sen2", sen2_rows())
    (folder / "simple").mkdir()
    with (folder / "simple" / "plans.csv").open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] | None = None
        for submission in submissions():
            row = simple_row(submission)
            row |= {f"section_{letter.lower()}": part["text"] for letter, part in sections_of("The child", "").items()}
            if writer is None:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
            writer.writerow(row)


def main() -> int:
    parser = argparse.ArgumentParser(description="Makes the sample extracts.")
    parser.add_argument("--plans", type=int, help="make a large extract of so many plans instead")
    parser.add_argument("--into", type=Path, help="a folder that is not there yet, for --plans")
    asked = parser.parse_args()
    if (asked.plans is None) != (asked.into is None):
        parser.error("--plans and --into belong together")
    if asked.into:
        write_many(asked.into, asked.plans)
    else:
        write_samples()
    print(f"written to {asked.into or HERE}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
