"""Whose record a plan belongs into: the NHS number finds, the date of birth confirms, doubt refuses.

Pure. A plan in the wrong child's record is a breach, one that is not filed is a missed share that somebody sees; so
everything that is not certain is a :class:`Doubt` for the matching worklist, never a guess. A name alone decides nothing:
children's names differ between agencies every day, so a differing one is filed with a warning. The answer goes to
:mod:`services.health_subscriber.filing`.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas.plan import Child

NHS_NUMBER = "https://fhir.nhs.uk/Id/nhs-number"

NAME_DIFFERS = "the name in the record differs from the name in the plan"


class Doubt(StrEnum):
    """Why a plan is not filed until a person has looked. Sentences for the worklist, without personal data."""

    NO_NHS_NUMBER = "the plan has no NHS number, so its patient cannot be found; trace the number and issue it"
    NOT_FOUND = "no patient in this record has the plan's NHS number"
    SEVERAL_FOUND = "more than one patient in this record has the plan's NHS number"
    NOT_ACTIVE = "the patient with the plan's NHS number is marked inactive or replaced by another"
    NO_DATE_OF_BIRTH = "the patient in this record has no full date of birth to compare with the plan's"
    OTHER_DATE_OF_BIRTH = "the date of birth in this record is not the one in the plan"


@dataclass(frozen=True, slots=True)
class Patient:
    """The one patient a plan belongs to; ``warning`` is what a person should look at though it was filed."""

    id: str
    warning: str | None = None
    formerly: frozenset[str] = frozenset()
    """References of records that the trust merged into this one: ``Patient/…``."""


def match_patient(child: Child, found: Sequence[dict[str, Any]]) -> Patient | Doubt:
    """``found`` are the Patient resources that the record offered for the NHS number.

    A server may ignore a search parameter that it does not know and offer everybody, so each one is checked here again.
    """
    if child.nhs_number is None:
        return Doubt.NO_NHS_NUMBER
    having = [patient for patient in found if _has_nhs_number(patient, child.nhs_number)]
    if not having:
        return Doubt.NOT_FOUND
    # A merged record that points to its successor is no second person.
    patients = {patient["id"]: patient for patient in having if not _is_replaced(patient)}
    if not patients:
        return Doubt.NOT_ACTIVE
    if len(patients) > 1:
        return Doubt.SEVERAL_FOUND
    (patient,) = patients.values()
    formerly = {f"Patient/{each['id']}" for each in having if _is_replaced(each)} | _replaced_by(patient)
    if patient.get("active") is False:
        return Doubt.NOT_ACTIVE
    born = patient.get("birthDate")
    # R4 allows a year, or a year and a month: too little to tell two children apart.
    if not isinstance(born, str) or len(born) != len("2014-05-06"):
        return Doubt.NO_DATE_OF_BIRTH
    if born != child.date_of_birth.isoformat():
        return Doubt.OTHER_DATE_OF_BIRTH
    warning = None if _same_name(child, patient.get("name") or []) else NAME_DIFFERS
    return Patient(patient["id"], warning, frozenset(formerly))


def _has_nhs_number(patient: dict[str, Any], number: str) -> bool:
    if patient.get("resourceType") != "Patient" or not isinstance(patient.get("id"), str):
        return False
    return any(
        each.get("system") == NHS_NUMBER and str(each.get("value", "")).replace(" ", "") == number
        for each in patient.get("identifier") or []
    )


def _is_replaced(patient: dict[str, Any]) -> bool:
    return any(link.get("type") == "replaced-by" for link in patient.get("link") or [])


def _replaced_by(patient: dict[str, Any]) -> set[str]:
    links = [each for each in patient.get("link") or [] if each.get("type") == "replaces"]
    return {str((each.get("other") or {}).get("reference") or "") for each in links}


def _same_name(child: Child, names: Sequence[dict[str, Any]]) -> bool:
    """Whether any name in the record has the same family name and the same first given (or preferred) name."""
    family = _letters(child.family_name)
    given = {_first(child.given_names)} | ({_first(child.preferred_name)} if child.preferred_name else set())
    for name in names:
        if "family" in name:
            if _letters(name["family"]) == family and given & {_first(each) for each in name.get("given") or []}:
                return True
        elif "text" in name:
            words = {_letters(word) for word in name["text"].split()}
            if given & words and family in _letters(name["text"]):
                return True
    return False


def _letters(text: str) -> str:
    """Without case, accents, hyphens and spaces: O'Neill and ONEILL, Zoë and Zoe are no difference worth a warning."""
    return "".join(c for c in unicodedata.normalize("NFKD", text).casefold() if c.isalpha())


def _first(given: str) -> str:
    return _letters(given.split()[0]) if given.split() else ""
