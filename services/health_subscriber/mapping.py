"""A plan version as FHIR R4 resources: the files to keep, and a DocumentReference (UK Core) for each.

Pure: the same content gives the same resources, but for when it was filed and where. Each resource carries identifiers
that say which document, share, plan, version, rendering and instruction it is, so that a record can be read back and
compared without any memory of our own. :mod:`services.health_subscriber.filing` puts them into a transaction.

Sources: R4 DocumentReference (https://hl7.org/fhir/R4/documentreference.html), UK Core DocumentReference 2.2.0.
"""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid5

from schemas.base import Closed
from schemas.plan import Section, SectionLetter
from services.shared.record_systems.port import Content, File

Resource = dict[str, Any]

PROFILE = "https://fhir.hl7.org.uk/StructureDefinition/UKCore-DocumentReference"
ODS_CODE = "https://fhir.nhs.uk/Id/ods-organization-code"

# Systems of the identifiers that we give. All are opaque outside the exchange.
DOCUMENT = "urn:ehcp:document"
"""One file of one rendering of one version for one recipient; the identifier that makes filing idempotent."""
SHARE = "urn:ehcp:share"
INSTRUCTION = "urn:ehcp:instruction"
"""``<share_id>/<seq>``: which instruction put the document into its present state."""
PLAN = "urn:ehcp:plan"
VERSION = "urn:ehcp:version"
RENDERING = "urn:ehcp:rendering"
"""SHA-256 of the rendering's manifest."""
RECIPIENT = "urn:ehcp:recipient"
PART = "urn:ehcp:part"
"""``1/3`` for the plan itself, ``2/3`` and ``3/3`` for the two files appended to it."""
WITHDRAWN = "urn:ehcp:withdrawn"
"""Extension: the council shares this plan no longer; the copy stays but gets no more updates."""
RECALLED = "urn:ehcp:recalled"
"""Extension: the council recalled it; it should never have been in this record."""
MISFILED = "urn:ehcp:misfiled"
"""Extension: it lay under the wrong patient, since the child was known by another's NHS number."""
MARKS = frozenset({WITHDRAWN, RECALLED, MISFILED})

# Fixes the identifiers of documents for ever; another value here would file every plan a second time.
_NAMESPACE = UUID("6f1d6f3e-6b0e-5f0c-9a52-8f2c9b6d1e77")

_SECTION_TITLES = {
    SectionLetter.A: "Views, interests and aspirations of the child or young person and their parents",
    SectionLetter.B: "Special educational needs",
    SectionLetter.C: "Health needs related to special educational needs",
    SectionLetter.D: "Social care needs related to special educational needs",
    SectionLetter.E: "Outcomes",
    SectionLetter.F: "Special educational provision",
    SectionLetter.G: "Health provision",
    SectionLetter.H1: "Social care provision under section 2 of the Chronically Sick and Disabled Persons Act 1970",
    SectionLetter.H2: "Other social care provision",
    SectionLetter.I: "Placement",
    SectionLetter.J: "Personal budget",
    SectionLetter.K: "Advice and information",
}


class Coding(Closed):
    system: str
    code: str
    display: str

    def as_json(self) -> Resource:
        return {"system": self.system, "code": self.code, "display": self.display}


# No SNOMED CT code for "has an EHC plan" has been verified, so the first coding is our own and a setting; the second is
# what UK Core's example of a care plan document carries, so that a viewer shows the plan where clinicians look.
PLAN_TYPE = Coding(system="urn:ehcp:document-type", code="ehc-plan", display="Education, Health and Care plan")
ATTACHMENT_TYPE = Coding(system="urn:ehcp:document-type", code="ehc-plan-attachment", display="Advice appended to an EHC plan")
CARE_PLAN = Coding(system="http://snomed.info/sct", code="734163000", display="Care plan")


@dataclass(frozen=True, slots=True)
class Part:
    """One file to keep: the plan (number 1) or an attachment. ``key`` identifies it in the record, for ever."""

    number: int
    count: int
    key: UUID
    title: str
    media_type: str
    data: bytes

    @property
    def is_plan(self) -> bool:
        return self.number == 1

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def document_key(content: Content) -> UUID:
    return uuid5(_NAMESPACE, f"{content.version_id} {content.recipient} {content.sha256}")


def parts(content: Content) -> tuple[Part, ...]:
    """The files to keep, the plan first. Empty when there is neither a document nor a section."""
    document = content.document
    if document is None:
        if not content.sections:
            return ()
        document = File("plan.txt", "text/plain; charset=utf-8", "", plain_text(content))
    key = document_key(content)
    title = f"Education, Health and Care plan, issued {day_in_words(content.issued_on)}"
    count = 1 + len(content.attachments)
    return Part(1, count, key, title, document.media_type, document.data), *(
        Part(number, count, uuid5(key, f"{number} {file.sha256}"), file.name, file.media_type, file.data)
        for number, file in enumerate(content.attachments, 2)
    )


def instruction(share_id: UUID, seq: int) -> Resource:
    return {"system": INSTRUCTION, "value": f"{share_id}/{seq}"}


def binary(part: Part, patient: str, binary_id: str | None) -> Resource:
    """``patient`` is the reference by which a server decides who may read the file."""
    return {
        "resourceType": "Binary",
        **({"id": binary_id} if binary_id else {}),
        "contentType": part.media_type,
        "securityContext": {"reference": patient},
        "data": base64.b64encode(part.data).decode("ascii"),
    }


def document_reference(
    content: Content,
    part: Part,
    *,
    patient: str,
    binary_url: str,
    filed_at: datetime,
    relates_to: Iterable[Resource] = (),
    plan_type: Coding = PLAN_TYPE,
) -> Resource:
    """The entry in the patient's record. ``relates_to`` is what it replaces or is appended to."""
    council = council_of(content)
    codings = (plan_type, CARE_PLAN) if part.is_plan else (ATTACHMENT_TYPE,)
    related = list(relates_to)
    return {
        "resourceType": "DocumentReference",
        "meta": {"profile": [PROFILE]},
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{part.key}"},
        "identifier": [
            {"system": DOCUMENT, "value": str(part.key)},
            {"system": SHARE, "value": str(content.share_id)},
            instruction(content.share_id, content.seq),
            {"system": PLAN, "value": str(content.plan_id)},
            {"system": VERSION, "value": str(content.version_id)},
            {"system": RENDERING, "value": content.sha256},
            {"system": RECIPIENT, "value": str(content.recipient)},
            {"system": PART, "value": f"{part.number}/{part.count}"},
            # What a clinician quotes when ringing the council; meaningful within that council alone.
            {"system": f"urn:ehcp:case-reference:{content.council.la_code}", "value": content.case_reference},
        ],
        "status": "current",
        "docStatus": "final",
        "type": {"coding": [coding.as_json() for coding in codings], "text": codings[0].display},
        "category": [{"coding": [CARE_PLAN.as_json()]}],
        "subject": {"reference": patient},
        "date": filed_at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "author": [council],
        "custodian": council,
        **({"relatesTo": related} if related else {}),
        "description": _description(content, part),
        "content": [
            {
                "attachment": {
                    "contentType": part.media_type,
                    "language": "en-GB",
                    "url": binary_url,
                    "size": len(part.data),
                    # R4 defines this hash as SHA-1; ours is proved by reading the Binary back.
                    "hash": sha1_base64(part.data),
                    "title": part.title,
                    "creation": content.issued_on.isoformat(),
                }
            }
        ],
    }


def council_of(content: Content) -> Resource:
    return {
        "type": "Organization",
        "identifier": {"system": ODS_CODE, "value": content.council.ods_code},
        "display": content.council.name,
    }


def flag_key(content: Content) -> str:
    return str(uuid5(_NAMESPACE, f"flag {content.plan_id} {content.recipient}"))


def flag(content: Content, patient: str) -> Resource:
    """What a clinician sees on the patient's banner (https://hl7.org/fhir/R4/flag.html)."""
    display = "Has an Education, Health and Care plan"
    return {
        "resourceType": "Flag",
        "identifier": [
            {"system": DOCUMENT, "value": flag_key(content)},
            {"system": SHARE, "value": str(content.share_id)},
            instruction(content.share_id, content.seq),
            {"system": PLAN, "value": str(content.plan_id)},
            {"system": RECIPIENT, "value": str(content.recipient)},
        ],
        "status": "active",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/flag-category",
                        "code": "admin",
                        "display": "Administrative",
                    }
                ]
            }
        ],
        "code": {
            "coding": [{"system": "urn:ehcp:flag", "code": "has-ehc-plan", "display": display}],
            "text": f"{display} (version {content.version}, issued {day_in_words(content.issued_on)})",
        },
        "subject": {"reference": patient},
        "period": {"start": content.issued_on.isoformat()},
        "author": council_of(content),
    }


def sha1_base64(data: bytes) -> str:
    """``Attachment.hash`` of R4."""
    return base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode("ascii")


def plain_text(content: Content) -> bytes:
    """The sections as one readable text, for a version that has no document."""
    lines = [
        "EDUCATION, HEALTH AND CARE PLAN",
        "",
        f"Child or young person: {content.child.given_names} {content.child.family_name}",
        f"Date of birth: {day_in_words(content.child.date_of_birth)}",
    ]
    if content.child.nhs_number:
        lines.append(f"NHS number: {content.child.nhs_number}")
    lines += [
        f"Issued: {day_in_words(content.issued_on)}, by {content.council.name}",
        f"Council's reference: {content.case_reference}",
    ]
    for letter in SectionLetter:
        if letter in content.sections:
            lines += ["", "", f"{letter}. {_SECTION_TITLES[letter]}", "", *_section_lines(content.sections[letter])]
    return ("\n".join(lines) + "\n").encode()


def _section_lines(section: Section) -> list[str]:
    lines = [section.text] if section.text else []
    for item in section.items:
        lines.append(f"{item.ref}  {item.text}")
        if item.serves:
            lines.append(f"    For: {', '.join(item.serves)}")
        if item.provider:
            lines.append(f"    Provided by: {item.provider}")
        if item.frequency:
            lines.append(f"    How often: {item.frequency}")
    return lines


def _description(content: Content, part: Part) -> str:
    text = f"Education, Health and Care plan issued {day_in_words(content.issued_on)} by {content.council.name}"
    if not part.is_plan:
        return f"{part.title}: appended to the {text}"
    if content.changed_sections:
        text += f"; changed since the version before: {', '.join(content.changed_sections)}"
    return text


def day_in_words(day: date) -> str:
    return f"{day.day} {day:%B %Y}"
