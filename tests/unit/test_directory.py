"""The directory in memory: codes and their dates, changes, and what is said of a code that leads to nobody."""

from datetime import date
from typing import Any

import pytest

from schemas.base import RecipientKind
from schemas.directory import DirectoryRecipient
from schemas.identifiers import CodeScheme, OrganisationCode
from services.ehcp_publisher.directory_changes import refusal
from services.ehcp_publisher.registry import Directory, Registry, listed

ON = date(2026, 2, 10)
SCHOOLS = frozenset({RecipientKind.SCHOOL})


def organisation(name: str, *codes: str, kind: str = "school", **more: Any) -> DirectoryRecipient:
    """Codes as ``scheme:value:from:until``."""
    split = [(code + "::").split(":") for code in codes]
    dated = [{"scheme": s, "value": v, "from": f or "2020-01-01", "until": u or None} for s, v, f, u, *_ in split]
    return DirectoryRecipient.model_validate({"kind": kind, "name": name, "codes": dated} | more)


def directory(*recipients: DirectoryRecipient) -> Directory:
    return Directory(Registry(councils=(), recipients=recipients))


def code(text: str) -> OrganisationCode:
    scheme, _, value = text.partition(":")
    return OrganisationCode(scheme=CodeScheme(scheme), value=value)


def found(made: Directory, text: str, on: date = ON, kinds: frozenset[RecipientKind] = SCHOOLS) -> str | None:
    known = made.find(code(text), kinds, on)
    return f"{known.name} by {known.scheme}:{known.value}" if known else None


def test_every_code_leads_to_the_organisation_by_its_first_valid_one() -> None:
    made = directory(organisation("Hill", "urn:100001::2025-08-31", "laestab:3320001", "ukprn:10000001"))
    assert found(made, "ukprn:10000001", date(2025, 8, 31)) == "Hill by urn:100001"
    assert found(made, "ukprn:10000001", date(2025, 9, 1)) == "Hill by laestab:3320001"
    assert found(made, "urn:100001", date(2025, 9, 1)) is None


@pytest.mark.parametrize(
    ("on", "who"),
    [("2019-12-31", None), ("2020-01-01", "Old by urn:100001"), ("2024-08-31", "Old by urn:100001"),
     ("2024-09-01", "New by urn:100002")],
)  # fmt: skip
def test_a_code_that_passes_to_another_organisation(on: str, who: str | None) -> None:
    made = directory(
        organisation("Old", "urn:100001::2024-08-31", "laestab:3320001::2024-08-31"),
        organisation("New", "urn:100002:2024-09-01", "laestab:3320001:2024-09-01"),
    )
    assert found(made, "laestab:3320001", date.fromisoformat(on)) == who


def test_two_kinds_with_one_code_are_two_organisations() -> None:
    made = directory(organisation("Care", "la:332", kind="social_care"), organisation("VS", "la:332", kind="virtual_school"))
    assert found(made, "la:332", kinds=frozenset({RecipientKind.VIRTUAL_SCHOOL})) == "VS by la:332"
    assert found(made, "la:332", kinds=frozenset({RecipientKind.SOCIAL_CARE})) == "Care by la:332"
    assert len(made) == 2


def test_what_is_put_again_replaces_what_was_known() -> None:
    made = directory(organisation("Hill", "urn:100001", "laestab:3320001"), organisation("Dale", "urn:100002"))
    made.put(listed(organisation("Hill Academy", "urn:100001", "ukprn:10000001")))
    assert found(made, "urn:100001") == "Hill Academy by urn:100001"
    assert found(made, "ukprn:10000001") == "Hill Academy by urn:100001"
    assert found(made, "laestab:3320001") is None
    assert found(made, "urn:100002") == "Dale by urn:100002"
    assert len(made) == 2


@pytest.mark.parametrize(
    ("text", "kinds", "why"),
    [
        ("urn:999999", SCHOOLS, "urn:999999 is not in the directory"),
        ("urn:100001", SCHOOLS, "urn:100001 was valid only until 2024-08-31; its successor is urn:100002"),
        ("urn:100003", SCHOOLS, "urn:100003 is valid only from 2026-09-01"),
        ("urn:100002", frozenset({RecipientKind.COLLEGE}), "urn:100002 is in the directory as school, not as college"),
    ],
)
def test_why_a_code_leads_to_nobody(text: str, kinds: frozenset[RecipientKind], why: str) -> None:
    made = directory(
        organisation("Old", "urn:100001::2024-08-31", successors=[{"scheme": "urn", "value": "100002"}]),
        organisation("New", "urn:100002:2024-09-01"),
        organisation("Next", "urn:100003:2026-09-01"),
    )
    assert made.find(code(text), kinds, ON) is None
    assert made.why_unknown(code(text), kinds, ON) == why


def problem(new: DirectoryRecipient, made: Directory) -> str | None:
    refused = refusal(listed(new), new, made, frozenset({"school"}))
    return f"{refused.errors[0].field}: {refused.errors[0].problem}" if refused else None


def test_one_code_is_one_organisations_at_a_time() -> None:
    made = directory(organisation("Old", "urn:100001", "laestab:3320001::2024-08-31"))
    assert problem(organisation("New", "urn:100002", "laestab:3320001:2024-09-01"), made) is None
    assert problem(organisation("New", "urn:100002", "laestab:3320001:2024-08-31"), made) == (
        "codes/1: laestab:3320001 is the code of Old (urn:100001) from 2020-01-01 to 2024-08-31"
    )
    assert problem(organisation("A college", "laestab:3320001", kind="college"), made) is None


def test_the_same_organisation_with_its_codes_in_another_order_is_pointed_to_its_first() -> None:
    made = directory(organisation("Hill", "urn:100001", "laestab:3320001"))
    other = organisation("Hill", "laestab:3320001", "urn:100001")
    refused = refusal(listed(other), other, made, frozenset())
    assert refused is not None
    assert refused.errors[0].instead.endswith("for the same organisation send urn:100001 as its first code")


def test_a_subscriber_that_nobody_registered() -> None:
    assert problem(organisation("Hill", "urn:100001", subscriber="nobody"), directory()) == (
        "subscriber: no subscriber of this name is registered"
    )
    assert problem(organisation("Hill", "urn:100001", subscriber="school"), directory()) is None
