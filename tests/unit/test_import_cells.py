"""Dates, identifiers and codes as cells hold them; nothing is guessed, and nothing is repeated in a fault."""

from datetime import date

import pytest

from schemas.base import ContractError
from schemas.identifiers import CodeScheme, check_nhs_number, check_upn
from services.cli.importing.cells import Cells, parse_date, parse_organisation


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-13",
        "13/02/2026",
        "13.2.2026",
        "2026-02-13 00:00:00",
        "2026-02-13T00:00:00",
        "2026-Feb-13 00:00:00",
        "2026-feb-13",
    ],
)
def test_dates_that_councils_export(text: str) -> None:
    assert parse_date(text) == date(2026, 2, 13)


def test_the_day_comes_first() -> None:
    assert parse_date("03/04/2026") == date(2026, 4, 3)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("31/02/2026", "there is no such day"),
        ("02/13/2026", "there is no such day"),
        ("2026-02-29", "there is no such day"),
        ("13/02/26", "it is not a date"),
        ("45336", "it is not a date"),
        ("2026-02-13 09:30", "it is not a date"),
        ("1899-12-31", "the date is before 1900"),
        ("2026-Foo-13", "it is not a date"),
    ],
)
def test_dates_that_are_none(text: str, problem: str) -> None:
    with pytest.raises(ContractError) as caught:
        parse_date(text)
    assert caught.value.problem == problem


def cells(**values: str) -> Cells:
    return Cells(tuple(values.values()), {name: place for place, name in enumerate(values)}, [f"The {name}" for name in values])


def test_identifiers_may_be_grouped_and_are_checked() -> None:
    row = cells(nhs="943 476 5919", upn="p207000016049", wrong="9434765918", rounded="9.43477E+09")
    assert row.number("nhs", check_nhs_number) == "9434765919"
    assert row.number("upn", check_upn) == "P207000016049"
    assert row.number("wrong", check_nhs_number) is None
    assert row.number("rounded", check_nhs_number) is None
    assert row.number("missing", check_nhs_number) is None
    assert [(fault.column, fault.problem) for fault in row.faults] == [
        ("The wrong", "NHS number has a wrong check digit (modulus 11)"),
        ("The rounded", "a spreadsheet rounded the number"),
    ]


def test_codes_with_their_scheme_or_of_a_column_that_has_one() -> None:
    row = cells(code="ODS: QUA", bare="993202", several="QUA urn:993202, XYZ!", none="QUA")
    assert str(row.organisation("code")) == "ods:QUA"
    assert str(row.organisation("bare", CodeScheme.URN)) == "urn:993202"
    assert [str(code) for code in row.organisations("several", CodeScheme.ODS)] == ["ods:QUA", "urn:993202"]
    assert row.organisation("none") is None
    assert [fault.column for fault in row.faults] == ["The several", "The none"]


def test_a_person_is_no_organisation() -> None:
    with pytest.raises(ContractError):
        parse_organisation("recipient:abc")


def test_a_day_that_cannot_be_in_the_future() -> None:
    row = cells(born="2027-01-01")
    assert row.day("born", date(2026, 11, 22)) is None
    assert row.faults[0].problem == "the date is in the future"


def test_no_fault_repeats_what_the_cell_holds() -> None:
    row = cells(nhs="9434765918", day="30/02/2014", upn="Q207000016049", code="Hartley")
    row.number("nhs", check_nhs_number)
    row.day("day")
    row.number("upn", check_upn)
    row.organisation("code")
    assert len(row.faults) == 4
    said = repr(row.faults)
    for secret in ("9434765918", "30/02", "Q207000016049", "Hartley"):
        assert secret not in said
