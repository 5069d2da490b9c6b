"""By what name a recipient is addressed, and which record system a name leads to: one kind's plan never goes into another's."""

import pytest

from schemas.base import RecipientKind
from schemas.events import RecipientCode
from schemas.identifiers import CodeScheme, RecipientName, recipient_name
from services.shared.record_systems.systems import RecordSystemsFileError, Systems, SystemSettings

LA_332 = {"scheme": "la", "value": "332"}


def systems(*entries: tuple[str, object]) -> Systems:
    settings = [{"name": name, "kind": "manual", "recipients": recipients} for name, recipients in entries]
    return Systems(tuple(SystemSettings.model_validate(each, strict=False) for each in settings), {})


def lane(of: Systems, kind: RecipientKind, scheme: str = "la", value: str = "332") -> str | None:
    return of.lane(RecipientCode(kind=kind, scheme=CodeScheme(scheme), value=value))


@pytest.mark.parametrize(
    ("kind", "scheme", "name"),
    [
        ("trust", "ods", "ods:X1"),
        ("commissioning_body", "ods", "ods:X1"),
        ("gp", "ods", "ods:X1"),
        ("camhs", "ods", "camhs/ods:X1"),
        ("therapies", "ods", "therapies/ods:X1"),
        ("social_care", "la", "la:X1"),
        ("youth_offending_service", "la", "youth_offending_service/la:X1"),
        ("virtual_school", "la", "virtual_school/la:X1"),
        ("disability_service", "la", "disability_service/la:X1"),
        ("school", "la", "school/la:X1"),
        ("school", "urn", "urn:X1"),
        ("college", "ukprn", "ukprn:X1"),
        ("early_years", "laestab", "laestab:X1"),
        ("early_help", "urn", "urn:X1"),
        ("early_help", "la", "early_help/la:X1"),
        ("custodial_establishment", "urn", "custodial_establishment/urn:X1"),
        ("parent", "recipient", "recipient:X1"),
    ],
)
def test_a_code_alone_is_the_organisation_that_its_scheme_numbers(kind: str, scheme: str, name: str) -> None:
    assert recipient_name(kind, scheme, "X1") == name


def test_a_code_without_a_kind_serves_nobody_who_shares_it() -> None:
    served = systems(("case-system", [LA_332]))
    assert lane(served, RecipientKind.SOCIAL_CARE) == "case-system"
    for kind in set(RecipientKind) - {RecipientKind.SOCIAL_CARE}:
        assert lane(served, kind) is None


def test_each_kind_goes_where_it_is_named_and_to_everyone_else_s_otherwise() -> None:
    youths = {"kind": "youth_offending_service", **LA_332}
    served = systems(("case-system", [{"kind": "social_care", **LA_332}]), ("youths", [youths]), ("inbox", "*"))
    assert lane(served, RecipientKind.SOCIAL_CARE) == "case-system"
    assert lane(served, RecipientKind.YOUTH_OFFENDING_SERVICE) == "youths"
    assert lane(served, RecipientKind.VIRTUAL_SCHOOL) == "inbox"
    assert served.names("la:332")
    assert served.names("youth_offending_service/la:332")
    assert not served.names("virtual_school/la:332")


def test_with_its_kind_or_without_it_the_same_one_is_not_served_twice() -> None:
    with pytest.raises(RecordSystemsFileError, match="la:332 is named by one and by two"):
        systems(("one", [LA_332]), ("two", [{"kind": "social_care", **LA_332}]))
    assert str(RecipientName(kind=RecipientKind.SOCIAL_CARE, scheme=CodeScheme.LA, value="332")) == "la:332"
