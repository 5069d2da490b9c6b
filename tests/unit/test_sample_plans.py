"""The sample plans: synthetic, complete, linked, and exactly what the script makes of the texts."""

import json
from collections import defaultdict
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from deploy.sandbox.make_plans import HERE, age, make_all
from schemas.identifiers import check_nhs_number, check_uln, check_upn
from schemas.manifest import section_hash
from schemas.plan import FamilyRole, PlanSubmission, SectionLetter

PLANS = HERE / "plans"
PDF_ONLY = {"DUD-2019-0091", "SW-09422"}


@cache
def plans() -> dict[str, list[PlanSubmission]]:
    """By case reference, its versions in order."""
    found: dict[str, list[PlanSubmission]] = defaultdict(list)
    for path in sorted(PLANS.glob("*/*/v*.json")):
        submission = PlanSubmission.model_validate_json(path.read_bytes())
        assert (submission.la_code, submission.case_reference) == (path.parts[-3], path.parts[-2])
        found[submission.case_reference].append(submission)
    return dict(found)


def directory() -> dict[str, Any]:
    return dict(json.loads((HERE / "directory.json").read_bytes()))


def test_the_script_makes_the_same_bytes_again() -> None:
    kept = {path.relative_to(PLANS): path.read_bytes() for path in PLANS.rglob("*") if path.is_file()}
    made = make_all()
    assert sorted(kept) == sorted(made), "run: python -m deploy.sandbox.make_plans"
    changed = [str(path) for path, data in made.items() if kept[path] != data]
    assert not changed, "run: python -m deploy.sandbox.make_plans"


def test_thirty_children_of_two_councils_from_birth_to_25() -> None:
    assert len(plans()) == 30
    assert {versions[0].la_code for versions in plans().values()} == {"332", "333"}
    ages = {age(versions[0].child.date_of_birth, date(2026, 11, 1)) for versions in plans().values()}
    assert {min(ages), max(ages)} == {0, 25}
    assert sum(len(versions) > 1 for versions in plans().values()) >= 10
    assert sum(len(versions) > 2 for versions in plans().values()) >= 2


@pytest.mark.parametrize("case", sorted(path.name for path in PLANS.glob("*/*") if path.is_dir()))
def test_plan_reads_like_one(case: str) -> None:
    for before, submission in zip([None, *plans()[case]], plans()[case], strict=False):
        version = submission.version
        assert version.family
        assert version.placements
        assert version.commissioning_bodies
        assert version.views_recorded_on is not None
        assert version.views_recorded_on <= version.issued_on
        if case in PDF_ONLY:
            assert version.sections is None
            continue
        sections = version.sections
        assert sections is not None
        assert set(sections) == set(SectionLetter), "all sections A to K"
        for letter, serving in (("E", "BCD"), ("F", "E"), ("G", "E"), ("H1", "E"), ("H2", "E")):
            served = {item.ref for of in serving for item in sections[SectionLetter(of)].items}
            for item in sections[SectionLetter(letter)].items:
                assert item.serves, f"{item.ref} serves nothing"
                assert set(item.serves) <= served, f"{item.ref} serves what is not there"
                assert letter == "E" or (item.provider and item.frequency), f"{item.ref}: who, and how often?"
        needs = {item.ref for item in sections[SectionLetter.B].items}
        outcomes = {item.ref for item in sections[SectionLetter.E].items}
        assert needs == {ref for item in sections[SectionLetter.E].items for ref in item.serves}
        assert outcomes == {ref for item in sections[SectionLetter.F].items for ref in item.serves}
        if before is not None:
            former = before.version.sections
            assert former is not None
            assert version.issued_on > before.version.issued_on
            changed = {letter for letter in sections if section_hash(sections[letter]) != section_hash(former[letter])}
            assert SectionLetter.A in changed
            assert 3 <= len(changed) < len(sections)
            assert submission.child == before.child


def test_no_two_children_share_prose_or_identifiers() -> None:
    seen: dict[str, str] = {}
    for case, versions in plans().items():
        child = versions[0].child
        values = [child.nhs_number, child.upn, child.uln, f"{child.given_names} {child.family_name}"]
        for version in versions:
            texts = version.version.sections or {}
            values += [texts[SectionLetter.A].text] if texts else []
            values += [item.text for letter in "BE" if texts for item in texts[SectionLetter(letter)].items]
        for value in values:
            assert value is None or seen.setdefault(value, case) == case, f"in {case} as in {seen[value]}"


def test_identifiers_are_valid_and_can_be_of_no_real_child() -> None:
    for case, versions in plans().items():
        child, la_code = versions[0].child, versions[0].la_code
        assert (child.nhs_number is None) == (case == "DUD-2026-0033")
        if child.nhs_number:
            assert check_nhs_number(child.nhs_number).startswith("999")
        if child.upn:
            assert check_upn(child.upn)[1:6] == f"{la_code}99"
        assert (child.uln is not None) == (age(child.date_of_birth, date(2026, 11, 1)) >= 14)
        if child.uln:
            check_uln(child.uln)
        emails = [member.email for member in versions[-1].version.family if member.email]
        assert all(email.endswith("@example.org") for email in emails)
        if any(member.role is FamilyRole.YOUNG_PERSON for member in versions[0].version.family):
            assert age(child.date_of_birth, versions[0].version.issued_on) >= 15


def test_every_organisation_is_in_the_directory() -> None:
    known = {
        (code["scheme"], code["value"], recipient["kind"])
        for recipient in directory()["recipients"]
        for code in recipient["codes"]
    }
    settings = {(scheme, value) for scheme, value, kind in known if kind in ("school", "college", "early_years")}
    trusts = {"332": "RNA", "333": "RXK"}
    without_social_care, gaps = 0, 0
    for versions in plans().values():
        for submission in versions:
            version = submission.version
            for placement in version.placements:
                if placement.setting:
                    assert (placement.setting.scheme, placement.setting.value) in settings
            for body in version.commissioning_bodies:
                assert (body.scheme, body.value, "commissioning_body") in known
            for one in version.involved:
                if one.organisation:
                    assert (one.organisation.scheme, one.organisation.value, one.kind) in known
                else:
                    gaps += 1
            named = {one.organisation.value for one in version.involved if one.organisation}
            assert trusts[submission.la_code] in named
            without_social_care += submission.la_code not in named
    assert without_social_care < 10
    assert gaps >= 10


def test_documents_alone_have_their_pdf_and_attachments_are_named_in_section_k() -> None:
    for case in PDF_ONLY:
        (path,) = PLANS.glob(f"*/{case}/v1.pdf")
        assert path.read_bytes().startswith(b"%PDF-")
    attachments = sorted(PLANS.glob("*/*/v*.attachments/*.pdf"))
    assert len(attachments) >= 3
    for path in attachments:
        submission = json.loads(Path(str(path.parent).replace(".attachments", ".json")).read_bytes())
        listed = [item["text"] for item in submission["version"]["sections"]["K"]["items"]]
        assert sum(path.name in text for text in listed) == 1


def test_clinical_records_differ_in_just_the_ways_that_the_sandbox_is_for() -> None:
    patients = json.loads((PLANS / "patients.json").read_bytes())
    by_number = {}
    for patient in patients:
        for identifier in patient["resource"]["identifier"]:
            if identifier["system"] == "https://fhir.nhs.uk/Id/nhs-number":
                by_number[identifier["value"]] = patient
    different: dict[str, set[str]] = defaultdict(set)
    for case, versions in plans().items():
        child = versions[0].child
        patient = by_number.get(child.nhs_number or "")
        if patient is None:
            different["unknown"].add(case)
            continue
        assert patient["tenant"] == {"332": "RNA", "333": "RXK"}[versions[0].la_code]
        if patient["resource"]["birthDate"] != child.date_of_birth.isoformat():
            different["born"].add(case)
        (name,) = patient["resource"]["name"]
        if (name["family"], " ".join(name["given"])) != (child.family_name, child.given_names):
            different["name"].add(case)
    assert different == {
        "unknown": {"SW-10888", "DUD-2026-0033"},
        "born": {"DUD-2023-0357"},
        "name": {"SW-10691"},
    }
    assert len(patients) == 29
