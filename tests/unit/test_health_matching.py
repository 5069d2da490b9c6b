"""A plan goes into one certain child's record, or nowhere."""

from datetime import date
from typing import Any

import pytest

from schemas.plan import Child
from services.health_subscriber.matching import NAME_DIFFERS, Doubt, Patient, match_patient

NHS = "https://fhir.nhs.uk/Id/nhs-number"
CHILD = Child(
    family_name="O'Neill-Hartley",
    given_names="Zoë Ann",
    preferred_name="Zed",
    date_of_birth=date(2014, 5, 6),
    nhs_number="9434765919",
)


def patient(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [{"system": NHS, "value": "9434765919"}],
        "birthDate": "2014-05-06",
        "name": [{"family": "O'Neill-Hartley", "given": ["Zoë", "Ann"]}],
        **more,
    }


def test_the_number_finds_and_the_date_of_birth_confirms() -> None:
    assert match_patient(CHILD, [patient()]) == Patient("p1", warning=None)


def test_a_child_without_a_number_is_looked_for_nowhere() -> None:
    without = CHILD.model_copy(update={"nhs_number": None})

    assert match_patient(without, [patient()]) is Doubt.NO_NHS_NUMBER


@pytest.mark.parametrize(
    "offered",
    [
        [],
        [patient(identifier=[{"system": NHS, "value": "9434765870"}])],
        [patient(identifier=[{"system": "https://hospital.example/number", "value": "9434765919"}])],
        [patient(identifier=[])],
        [{"resourceType": "Person", "id": "p1", "identifier": [{"system": NHS, "value": "9434765919"}]}],
    ],
)
def test_what_the_server_offers_beside_the_question_is_not_the_child(offered: list[dict[str, Any]]) -> None:
    assert match_patient(CHILD, offered) is Doubt.NOT_FOUND


def test_two_with_the_number_are_one_too_many() -> None:
    assert match_patient(CHILD, [patient(), patient(id="p2")]) is Doubt.SEVERAL_FOUND


def test_the_same_patient_on_two_pages_is_one() -> None:
    assert match_patient(CHILD, [patient(), patient()]) == Patient("p1")


def test_a_merged_record_gives_way_to_its_successor() -> None:
    merged = patient(id="old", active=False, link=[{"other": {"reference": "Patient/p1"}, "type": "replaced-by"}])

    assert match_patient(CHILD, [merged, patient()]) == Patient("p1", formerly=frozenset({"Patient/old"}))
    successor = patient(link=[{"other": {"reference": "Patient/older"}, "type": "replaces"}])
    assert match_patient(CHILD, [successor]) == Patient("p1", formerly=frozenset({"Patient/older"}))
    assert match_patient(CHILD, [merged]) is Doubt.NOT_ACTIVE


def test_an_inactive_patient_is_a_doubt() -> None:
    assert match_patient(CHILD, [patient(active=False)]) is Doubt.NOT_ACTIVE


@pytest.mark.parametrize(
    ("born", "doubt"),
    [
        ("2014-05-07", Doubt.OTHER_DATE_OF_BIRTH),
        ("2014-06-05", Doubt.OTHER_DATE_OF_BIRTH),
        ("2014-05", Doubt.NO_DATE_OF_BIRTH),
        ("2014", Doubt.NO_DATE_OF_BIRTH),
        (None, Doubt.NO_DATE_OF_BIRTH),
    ],
)
def test_a_date_of_birth_that_does_not_confirm_refuses(born: str | None, doubt: Doubt) -> None:
    assert match_patient(CHILD, [patient(birthDate=born)]) is doubt


@pytest.mark.parametrize(
    "name",
    [
        {"family": "ONEILL HARTLEY", "given": ["ZOE"]},
        {"family": "O’Neill-Hartley", "given": ["Zoë"]},
        {"family": "O'Neill-Hartley", "given": ["Zed"]},
        {"text": "Zoe Ann O'Neill-Hartley"},
    ],
)
def test_the_same_name_written_otherwise_is_no_warning(name: dict[str, Any]) -> None:
    assert match_patient(CHILD, [patient(name=[{"family": "Before"}, name])]) == Patient("p1", warning=None)


@pytest.mark.parametrize(
    "name",
    [{"family": "Hartley", "given": ["Zoë"]}, {"family": "O'Neill-Hartley", "given": ["Ann"]}, {"text": "Zoe"}, {}],
)
def test_another_name_is_filed_with_a_warning(name: dict[str, Any]) -> None:
    assert match_patient(CHILD, [patient(name=[name])]) == Patient("p1", warning=NAME_DIFFERS)


def test_no_doubt_and_no_warning_says_who_the_child_is() -> None:
    for text in [*Doubt, NAME_DIFFERS]:
        assert not any(word in text for word in ("9434765919", "Hartley", "2014"))
