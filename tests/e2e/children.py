"""Children made for one test: valid identifiers, a patient to go with each, and short plans."""

import itertools
import secrets
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
_COUNTER = itertools.count(secrets.randbelow(10**6) * 100)


def nhs_number() -> str:
    """A new number of the 999 test range with a right check digit."""
    while True:
        nine = f"999{next(_COUNTER) % 10**6:06d}"
        check = 11 - sum(int(d) * w for d, w in zip(nine, range(10, 1, -1), strict=True)) % 11
        if check != 10:
            return f"{nine}{0 if check == 11 else check}"


@dataclass(frozen=True, slots=True)
class TestChild:
    __test__ = False
    nhs_number: str
    case_reference: str

    @property
    def identity(self) -> Json:
        return {
            "family_name": "Okonjo-Testley", "given_names": "Maribel", "date_of_birth": "2015-04-17",
            "nhs_number": self.nhs_number,
        }  # fmt: skip

    @property
    def patient(self) -> Json:
        return {
            "resourceType": "Patient",
            "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": self.nhs_number}],
            "name": [{"family": "Okonjo-Testley", "given": ["Maribel"]}],
            "birthDate": "2015-04-17",
        }

    def version(self, number: int, issued_on: str | None = None) -> Json:
        """For a parent, a school, the commissioning body, the trust's record and social care."""
        return {
            "issued_on": issued_on or f"2026-{number:02d}-15",
            "sections": {
                "A": {"text": "Maribel likes drumming and wants to walk to school with her cousin."},
                "B": {"items": [{"ref": "B1", "text": f"Needs help to follow spoken instructions ({number})."}]},
                "F": {"items": [{"ref": "F1", "text": "A visual timetable, every day.", "serves": ["B1"]}]},
            },
            "placements": [{"setting": {"scheme": "urn", "value": "993204"}, "from": "2025-09-01"}],
            "commissioning_bodies": [{"scheme": "ods", "value": "QUA"}],
            "family": [{"reference": "P1", "role": "parent", "name": "Adaeze Okonjo-Testley"}],
            "involved": [
                {"role": "provision", "kind": "trust", "organisation": {"scheme": "ods", "value": "RNA"}},
                {"role": "advice", "kind": "social_care", "organisation": {"scheme": "la", "value": "332"}},
            ],
        }

    def first(self, number: int = 1, issued_on: str | None = None) -> Json:
        return {
            "la_code": "332", "case_reference": self.case_reference, "child": self.identity,
            "version": self.version(number, issued_on),
        }  # fmt: skip


def new_child() -> TestChild:
    return TestChild(nhs_number(), f"E2E-{secrets.token_hex(5)}")
