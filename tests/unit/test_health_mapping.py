"""What a trust's record gets of a plan version, field by field; expectations written from R4 and UK Core, by hand."""

import base64
from datetime import UTC, date, datetime
from uuid import UUID, uuid5

from schemas.plan import SectionLetter
from services.health_subscriber import mapping
from services.health_subscriber.mapping import Coding
from services.shared.record_systems.port import Content
from tests.support.contents import content

PLAN = UUID("01900000-0000-7000-8000-000000000001")
SHARE = UUID("01900000-0000-7000-8000-000000000002")
VERSION = UUID("01900000-0000-7000-8000-000000000003")
FILED_AT = datetime(2026, 3, 12, 15, 30, tzinfo=UTC)
PDF = b"%PDF-1.7 plan"


def whole() -> Content:
    return content(
        plan_id=PLAN,
        share_id=SHARE,
        version_id=VERSION,
        seq=7,
        document=PDF,
        attachments=[("Speech therapy advice.pdf", b"%PDF-1.7 advice")],
        changed_sections=[SectionLetter.F, SectionLetter.G],
    )


def test_the_plan_becomes_a_uk_core_document_reference() -> None:
    plan, _ = mapping.parts(whole())

    made = mapping.document_reference(
        whole(),
        plan,
        patient="Patient/p1",
        binary_url="Binary/b1",
        filed_at=FILED_AT,
        relates_to=[{"code": "replaces", "target": {"reference": "DocumentReference/old"}}],
    )

    key = str(plan.key)
    dudley = {
        "type": "Organization",
        "identifier": {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "00CTW"},
        "display": "Dudley Metropolitan Borough Council",
    }
    care_plan = {"system": "http://snomed.info/sct", "code": "734163000", "display": "Care plan"}
    assert made == {
        "resourceType": "DocumentReference",
        "meta": {"profile": ["https://fhir.hl7.org.uk/StructureDefinition/UKCore-DocumentReference"]},
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{key}"},
        "identifier": [
            {"system": "urn:ehcp:document", "value": key},
            {"system": "urn:ehcp:share", "value": "01900000-0000-7000-8000-000000000002"},
            {"system": "urn:ehcp:instruction", "value": "01900000-0000-7000-8000-000000000002/7"},
            {"system": "urn:ehcp:plan", "value": "01900000-0000-7000-8000-000000000001"},
            {"system": "urn:ehcp:version", "value": "01900000-0000-7000-8000-000000000003"},
            {"system": "urn:ehcp:rendering", "value": whole().sha256},
            {"system": "urn:ehcp:recipient", "value": "ods:RNA"},
            {"system": "urn:ehcp:part", "value": "1/2"},
            {"system": "urn:ehcp:case-reference:332", "value": "EHC-2019-0042"},
        ],
        "status": "current",
        "docStatus": "final",
        "type": {
            "coding": [
                {"system": "urn:ehcp:document-type", "code": "ehc-plan", "display": "Education, Health and Care plan"},
                care_plan,
            ],
            "text": "Education, Health and Care plan",
        },
        "category": [{"coding": [care_plan]}],
        "subject": {"reference": "Patient/p1"},
        "date": "2026-03-12T15:30:00.000+00:00",
        "author": [dudley],
        "custodian": dudley,
        "relatesTo": [{"code": "replaces", "target": {"reference": "DocumentReference/old"}}],
        "description": "Education, Health and Care plan issued 12 March 2026 by Dudley Metropolitan Borough Council; "
        "changed since the version before: F, G",
        "content": [
            {
                "attachment": {
                    "contentType": "application/pdf",
                    "language": "en-GB",
                    "url": "Binary/b1",
                    "size": 13,
                    "hash": "95IK4NjpeIBegeiSW6cBnm8K7qA=",
                    "title": "Education, Health and Care plan, issued 12 March 2026",
                    "creation": "2026-03-12",
                }
            }
        ],
    }


def test_the_type_is_a_setting() -> None:
    plan, _ = mapping.parts(whole())
    local = Coding(system="https://trust.example/types", code="EHCP", display="EHC plan")

    made = mapping.document_reference(
        whole(), plan, patient="Patient/p1", binary_url="Binary/b1", filed_at=FILED_AT, plan_type=local
    )

    assert made["type"]["coding"][0] == {
        "system": "https://trust.example/types",
        "code": "EHCP",
        "display": "EHC plan",
    }
    assert made["type"]["coding"][1]["code"] == "734163000"


def test_an_attachment_says_what_it_is_appended_to() -> None:
    _, advice = mapping.parts(whole())

    made = mapping.document_reference(whole(), advice, patient="Patient/p1", binary_url="Binary/b2", filed_at=FILED_AT)

    assert made["type"]["text"] == "Advice appended to an EHC plan"
    assert made["description"] == (
        "Speech therapy advice.pdf: appended to the Education, Health and Care plan issued 12 March 2026 "
        "by Dudley Metropolitan Borough Council"
    )
    assert made["content"][0]["attachment"]["title"] == "Speech therapy advice.pdf"
    assert {"system": "urn:ehcp:part", "value": "2/2"} in made["identifier"]


def test_the_identifier_depends_on_version_recipient_and_rendering_and_on_nothing_else() -> None:
    first = mapping.parts(whole())[0].key

    same = content(plan_id=PLAN, version_id=VERSION, seq=99, document=PDF, attachments=[("x.pdf", b"%PDF-1.7 x")])
    again = content(
        plan_id=PLAN,
        version_id=VERSION,
        seq=8,
        document=PDF,
        attachments=[("Speech therapy advice.pdf", b"%PDF-1.7 advice")],
    )
    other_version = content(plan_id=PLAN, document=PDF)

    # For ever: a release that computed it otherwise would file every plan a second time.
    assert first == uuid5(UUID("6f1d6f3e-6b0e-5f0c-9a52-8f2c9b6d1e77"), f"{VERSION} ods:RNA {whole().sha256}")
    assert mapping.parts(again)[0].key == first
    assert mapping.parts(same)[0].key != first  # another rendering
    assert mapping.parts(other_version)[0].key != first


def test_two_attachments_with_the_same_bytes_stay_two() -> None:
    twice = content(document=PDF, attachments=[("a.pdf", b"same"), ("b.pdf", b"same")])

    assert len({part.key for part in mapping.parts(twice)}) == 3


def test_a_file_is_a_binary_that_belongs_to_the_patient() -> None:
    plan, _ = mapping.parts(whole())

    assert mapping.binary(plan, "Patient/p1", "b1") == {
        "resourceType": "Binary",
        "id": "b1",
        "contentType": "application/pdf",
        "securityContext": {"reference": "Patient/p1"},
        "data": base64.b64encode(PDF).decode(),
    }


def test_without_a_document_the_sections_are_the_text() -> None:
    [part] = mapping.parts(content(version_id=VERSION, issued_on=date(2026, 9, 1)))

    assert part.media_type == "text/plain; charset=utf-8"
    assert part.data.decode() == (
        "EDUCATION, HEALTH AND CARE PLAN\n"
        "\n"
        "Child or young person: Rowan James Hartley\n"
        "Date of birth: 6 May 2014\n"
        "NHS number: 9434765919\n"
        "Issued: 1 September 2026, by Dudley Metropolitan Borough Council\n"
        "Council's reference: EHC-2019-0042\n"
        "\n"
        "\n"
        "A. Views, interests and aspirations of the child or young person and their parents\n"
        "\n"
        "Rowan likes trains and wants to travel to school alone.\n"
        "\n"
        "\n"
        "C. Health needs related to special educational needs\n"
        "\n"
        "C1  Epilepsy, well controlled.\n"
        "\n"
        "\n"
        "G. Health provision\n"
        "\n"
        "G1  Epilepsy care plan reviewed with the school.\n"
        "    For: C1\n"
        "    Provided by: The Dudley Group\n"
        "    How often: every six months\n"
    )


def test_with_neither_document_nor_sections_there_is_nothing_to_file() -> None:
    assert mapping.parts(content(sections={})) == ()
