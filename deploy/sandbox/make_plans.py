"""Makes the sample plans from the texts in ``children/``: ``python -m deploy.sandbox.make_plans`` writes ``plans/``.

A person writes the prose of a child once (``children/<LA code>/<case reference>.yaml``); this adds what a machine can
make up: identifiers with right check digits, addresses, references of family members, who is involved, PDFs and the
Patients of the clinical records. All is synthetic. Random choices are seeded by the case reference alone, so the same
texts give the same bytes and a new child changes no other. ``plans/`` is what ``ehcp up`` publishes and
``patients.json`` seeds the FHIR server.
"""

import json
import random
import shutil
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from deploy.sandbox.plan_pdf import advice_pdf, plan_pdf
from schemas.identifiers import check_nhs_number, check_uln, check_upn
from schemas.manifest import without_empty
from schemas.plan import PlanSubmission

HERE = Path(__file__).parent
JSON = dict[str, Any]

TRUSTS = {"332": "RNA", "333": "RXK"}
TRUST_NAMES = {"332": "The Dudley Group NHS Foundation Trust", "333": "Sandwell and West Birmingham Hospitals NHS Trust"}
COMMISSIONER = {"scheme": "ods", "value": "QUA"}
_TODAY = date(2026, 11, 1)
"""The day on which the sample children have their ages; fixed, so that the files never change by themselves."""

_STREETS = (
    "Bellrope Lane", "Fuller's Wharf", "Ironmonger Row", "Larkfield Avenue", "Nailers Close", "Old Tramway",
    "Puddlers Walk", "Sandpiper Road", "Tansy Gardens", "Thistledown Way", "Towpath Rise", "Winding House Lane",
    "Yew Tree Crescent", "Anvil Street", "Bargeman's Row", "Coppice Side", "Heronmere", "Kingfisher Drive",
)  # fmt: skip
_TOWNS = {
    "332": (("Dudley", "DY1"), ("Dudley", "DY2"), ("Brierley Hill", "DY5"), ("Stourbridge", "DY8"),
            ("Halesowen", "B63")),
    "333": (("West Bromwich", "B70"), ("West Bromwich", "B71"), ("Smethwick", "B66"), ("Tipton", "DY4"),
            ("Oldbury", "B68"), ("Cradley Heath", "B64")),
}  # fmt: skip
_UPN_LETTERS = "ABCDEFGHJKLMNPQRTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Setting:
    kind: str
    name: str
    code: JSON
    laestab: str | None


def nhs_number(chance: random.Random) -> str:
    """From the range 999 000 0000 to 999 999 9999, which the NHS keeps for tests and never issues."""
    while True:
        nine = f"999{chance.randrange(10**6):06}"
        check = 11 - sum(int(d) * w for d, w in zip(nine, range(10, 1, -1), strict=True)) % 11
        if check != 10:
            return check_nhs_number(f"{nine}{check % 11}")


def upn(chance: random.Random, laestab: str, year: int) -> str:
    """Of the school where the child was first on roll, in the year of joining."""
    rest = f"{laestab}{year % 100:02}{chance.randrange(1, 999):03}"
    total = sum(int(d) * w for d, w in zip(rest, range(2, 14), strict=True))
    return check_upn(_UPN_LETTERS[total % 23] + rest)


def uln(chance: random.Random) -> str:
    while True:
        nine = f"{chance.randrange(10**8, 10**9)}"
        body = sum(int(d) * w for d, w in zip(nine, range(10, 1, -1), strict=True))
        last = (10 - body) % 11
        if body % 11 and last < 10:
            return check_uln(f"{nine}{last}")


def age(born: date, on: date) -> int:
    return on.year - born.year - ((on.month, on.day) < (born.month, born.day))


def load_settings() -> dict[str, Setting]:
    directory = json.loads((HERE / "directory.json").read_text("utf-8"))
    settings = {}
    for recipient in directory["recipients"]:
        if recipient["kind"] in ("school", "college", "early_years"):
            codes = {code["scheme"]: code["value"] for code in recipient["codes"]}
            scheme = "urn" if "urn" in codes else "ukprn"
            settings[codes[scheme]] = Setting(
                recipient["kind"], recipient["name"], {"scheme": scheme, "value": codes[scheme]}, codes.get("laestab")
            )
    return settings


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _item(ref: str, line: str, *, linked: bool) -> JSON:
    """A line of a story: ``text``, or ``B1 B2 | text | provider | frequency`` where it serves other items."""
    parts = [part.strip() for part in line.split(" | ")]
    if not linked or len(parts) == 1:
        return {"ref": ref, "text": line}
    serves, text, *rest = parts
    item: JSON = {"ref": ref, "text": text, "serves": serves.split()}
    return item | dict(zip(("provider", "frequency"), rest, strict=False))


def sections_of(story: Mapping[str, Any]) -> JSON:
    """The sections from the story's texts; a section of one line without links is plain text."""
    made: JSON = {"A": {"text": "\n\n".join(lines(story["A"]))}}
    made["B"] = {
        "text": f"Primary area of need: {story['primary_need']}.",
        "items": [_item(f"B{n}", line, linked=False) for n, line in enumerate(lines(story["B"]), 1)],
    }
    for letter in ("C", "D", "E", "F", "G", "H1", "H2"):
        found = lines(story[letter])
        linked = letter not in ("C", "D")
        if len(found) == 1 and not (linked and " | " in found[0]):
            made[letter] = {"text": found[0]}
        else:
            made[letter] = {"items": [_item(_numbered(letter, n), line, linked=linked) for n, line in enumerate(found, 1)]}
    made["I"] = {"text": "\n\n".join(lines(story["I"]))}
    made["J"] = {"text": "\n\n".join(lines(story["J"]))}
    made["K"] = {
        "text": "Advice and information gathered for this plan. Each report is appended and is part of the plan.",
        "items": [
            {"ref": f"K{n}", "text": f"{_advice_text(advice)}{_attached(story, f'K{n}')}"}
            for n, advice in enumerate(advice_of(story), 1)
        ],
    }
    return made


def _numbered(letter: str, n: int) -> str:
    # "H11" would read as the eleventh item of a section H.
    return f"{letter}.{n}" if letter in ("H1", "H2") else f"{letter}{n}"


def _attached(story: Mapping[str, Any], ref: str) -> str:
    names = [a["file"] for a in story.get("attachments", ()) if a["file"].startswith(f"{ref}-")]
    return f" Attached: {names[0]}." if names else ""


@dataclass(frozen=True, slots=True)
class Advice:
    profession: str
    name: str
    service: str
    dated: date
    source: str
    """trust, social-care, school (the first that is named), the code of another setting, council, family, or nobody: a
    professional whose organisation is not recorded."""


def advice_of(story: Mapping[str, Any]) -> list[Advice]:
    made = []
    for line in lines(story["K"]):
        profession, name, service, dated, source = (part.strip() for part in line.split(" | "))
        made.append(Advice(profession, name, service, date.fromisoformat(dated), source))
    return made


def _advice_text(advice: Advice) -> str:
    who = ", ".join(part for part in (advice.name, advice.service) if part != "-")
    return f"{advice.profession}: {who}, dated {advice.dated.day} {advice.dated:%B %Y}."


def involved_of(
    story: Mapping[str, Any], sections: JSON, la_code: str, settings: Mapping[str, Setting], setting: Setting | None
) -> list[JSON]:
    """Those outside the council's own SEND service who gave advice or give provision."""
    organisations: dict[str, tuple[str, JSON]] = {
        "trust": ("trust", {"scheme": "ods", "value": TRUSTS[la_code]}),
        "social-care": ("social_care", {"scheme": "la", "value": la_code}),
    }
    organisations |= {code: (one.kind, one.code) for code, one in settings.items()}
    if setting:
        organisations["school"] = (setting.kind, setting.code)
    made: list[JSON] = []
    for advice in advice_of(story):
        if advice.source in ("council", "family"):
            continue
        one: JSON = {"role": "advice", "profession": advice.profession, "sections": ["K"]}
        one["advice_dated"] = advice.dated.isoformat()
        if advice.name != "-":
            one["name"] = advice.name
        if advice.source in organisations:
            one["kind"], one["organisation"] = organisations[advice.source]
        made.append(one)
    # The words by which the stories name a provider: "Regional NHS ..." or adult social care are somebody else.
    signs = {
        "trust": {"F": "NHS", "G": TRUST_NAMES[la_code]},
        "social-care": dict.fromkeys(("H1", "H2"), "Children's Social Care"),
    }
    for source, by_letter in signs.items():
        if given := [letter for letter, sign in by_letter.items() if sign in _providers(sections[letter])]:
            kind, code = organisations[source]
            made.append({"role": "provision", "kind": kind, "organisation": code, "sections": given})
    for line in lines(story.get("named", "")):
        profession, name = (part.strip() for part in line.split(" | "))
        made.append({"role": "named_professional", "profession": profession, "name": name})
    return made


def _providers(section: JSON) -> str:
    return "; ".join(item.get("provider", "") for item in section.get("items", ()))


def family_of(story: Mapping[str, Any], case: str, address: list[str], chance: random.Random) -> list[JSON]:
    made = []
    for n, line in enumerate(lines(story["family"]), 1):
        role, name, *rest = (part.strip() for part in line.split(" | "))
        lives = f"{chance.randrange(2, 140)} {chance.choice(_STREETS)}, {address[1]}" if "apart" in rest else None
        member: JSON = {"reference": f"{case}-F{n}", "role": role, "name": name}
        member["address"] = lives.split(", ") if lives else address
        if "no email" not in rest:
            first, *_, last = name.lower().replace("'", "").split()
            member["email"] = f"{first}.{last}@example.org"
        made.append(member)
    return made


def placements_of(story: Mapping[str, Any], settings: Mapping[str, Setting]) -> list[JSON]:
    """Lines of ``code from until``; a type of setting in words where there is no code."""
    made: list[JSON] = []
    for line in lines(story["placements"]):
        what, begins, ends = (part.strip() for part in line.split(" | "))
        one: JSON = {"from": begins} | ({} if ends == "-" else {"until": ends})
        if what in settings:
            one |= {"setting": settings[what].code, "name": settings[what].name}
        else:
            one["setting_type"] = what
        made.append(one)
    return made


def make_child(story: Mapping[str, Any], settings: Mapping[str, Setting]) -> Iterator[tuple[Path, bytes]]:
    """Every file of one child, below ``plans/``, and its submissions checked against the contract."""
    case, la_code = story["case_reference"], str(story["la_code"])
    chance = random.Random(case)
    born: date = story["born"]
    town, outward = chance.choice(_TOWNS[la_code])
    address = [f"{chance.randrange(2, 140)} {chance.choice(_STREETS)}", town]
    child: JSON = {
        "family_name": story["family_name"],
        "given_names": story["given_names"],
        "preferred_name": story.get("preferred_name"),
        "date_of_birth": born.isoformat(),
        "address": address,
        "postcode": f"{outward} {chance.randrange(1, 9)}{chance.choice('ABDEF')}{chance.choice('GHJLN')}",
    }
    number = nhs_number(chance)
    if story.get("nhs_number", True):
        child["nhs_number"] = number
    if first_school := story.get("first_school"):
        laestab = settings[str(first_school)].laestab
        assert laestab is not None, f"{case}: a UPN begins with the code of a school"
        child["upn"] = upn(chance, laestab, born.year + 4)
    if age(born, _TODAY) >= 14:
        child["uln"] = uln(chance)

    current: dict[str, Any] = {key: value for key, value in story.items() if key != "versions"}
    for n, changes in enumerate(story["versions"], 1):
        current = {**current, "attachments": (), **changes}
        placements = placements_of(current, settings)
        named = [p for p in placements if "setting" in p]
        setting = settings[named[0]["setting"]["value"]] if named else None
        sections = sections_of(current)
        version: JSON = {
            "issued_on": current["issued_on"].isoformat(),
            "sections": None if story.get("document_only") else sections,
            "placements": placements,
            "commissioning_bodies": [COMMISSIONER],
            "family": family_of(current, case, address, random.Random(f"{case} family")),
            "involved": involved_of(current, sections, la_code, settings, setting),
            "views_recorded_on": current["views_recorded_on"].isoformat(),
        }
        submission = PlanSubmission.model_validate_json(
            json.dumps({"la_code": la_code, "case_reference": case, "child": child, "version": version})
        )
        folder = Path(la_code) / case
        kept = without_empty(submission.model_dump(mode="json", by_alias=True, exclude_defaults=True))
        yield folder / f"v{n}.json", (json.dumps(kept, indent=2, ensure_ascii=False) + "\n").encode()
        if story.get("document_only"):
            yield folder / f"v{n}.pdf", plan_pdf(kept, sections)
        for attachment in current["attachments"]:
            yield folder / f"v{n}.attachments" / attachment["file"], advice_pdf(kept, attachment)


def make_patient(story: Mapping[str, Any], submission: JSON) -> JSON | None:
    """The child as the trust's record has it, with the differences that the story asks for; None: not known."""
    record = story.get("record", {})
    if record == "unknown":
        return None
    child, trust = submission["child"], TRUSTS[submission["la_code"]]
    # Not the built-in hash of strings: that differs in every run.
    local = f"{trust}{zlib.crc32(submission['case_reference'].encode()) % 10**7:07}"
    identifiers = [{"use": "usual", "system": f"https://ehcp.example/Id/{trust.lower()}-hospital-number", "value": local}]
    if number := child.get("nhs_number"):
        identifiers.insert(0, {"use": "official", "system": "https://fhir.nhs.uk/Id/nhs-number", "value": number})
    address, postcode = child["address"], child["postcode"]
    resource = {
        "resourceType": "Patient",
        "identifier": identifiers,
        "active": True,
        "name": [
            {
                "use": "official",
                "family": record.get("family_name", child["family_name"]),
                "given": record.get("given_names", child["given_names"]).split(),
            }
        ],
        "gender": story["sex"],
        "birthDate": str(record.get("born", child["date_of_birth"])),
        "address": [{"use": "home", "line": address[:-1], "city": address[-1], "postalCode": postcode}],
        "managingOrganization": {"identifier": {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": trust}},
    }
    return {"tenant": trust, "resource": resource}


def make_all() -> dict[Path, bytes]:
    """Every file of ``plans/`` by its path below it."""
    settings = load_settings()
    files: dict[Path, bytes] = {}
    patients = []
    for path in sorted((HERE / "children").glob("*/*.yaml")):
        story = yaml.safe_load(path.read_text("utf-8"))
        made = dict(make_child(story, settings))
        if patient := make_patient(story, json.loads(made[Path(str(story["la_code"])) / path.stem / "v1.json"])):
            patients.append(patient)
        files |= made
    files[Path("patients.json")] = (json.dumps(patients, indent=2, ensure_ascii=False) + "\n").encode()
    return files


def main() -> int:
    target = HERE / "plans"
    if target.exists():
        shutil.rmtree(target)
    files = make_all()
    for path, data in files.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(data)
    print(f"{len(files)} files in {target}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
