"""Check digits and formats: vectors copied from the issuers' own documents and from printed examples, none computed here."""

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from schemas.base import ContractError
from schemas.identifiers import (
    CodeScheme,
    OrganisationCode,
    check_la_code,
    check_laestab,
    check_nhs_number,
    check_ods_code,
    check_ukprn,
    check_uln,
    check_upn,
    check_urn,
)

Check = Callable[[str], str]


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (check_nhs_number, "9434765919"),
        (check_nhs_number, "9434765870"),  # check digit 11 is written 0
        (check_nhs_number, "9990000018"),
        (check_upn, "P207000016049"),
        (check_upn, "T332999925001"),
        (check_upn, "X00180001701A"),  # temporary
        (check_upn, "D33299992500A"),  # temporary
        (check_uln, "9276308686"),
        (check_uln, "1000000043"),
        (check_urn, "993202"),
        (check_ukprn, "10993201"),
        (check_laestab, "3329902"),
        (check_la_code, "332"),
        (check_ods_code, "RNA"),
        (check_ods_code, "QUA"),
        (check_ods_code, "D2P2L"),
    ],
)
def test_valid(check: Check, value: str) -> None:
    assert check(value) == value


@pytest.mark.parametrize(
    ("check", "value", "problem"),
    [
        (check_nhs_number, "9434765918", "NHS number has a wrong check digit (modulus 11)"),
        (check_nhs_number, "1234567890", "NHS number has nine digits that never begin one (modulus 11 gives 10)"),
        (check_nhs_number, "0000000000", "NHS number must not be ten equal digits"),
        (check_nhs_number, "1111111111", "NHS number must not be ten equal digits"),
        (check_nhs_number, "943 476 5919", "NHS number must be 10 digits"),
        (check_nhs_number, "943476591", "NHS number must be 10 digits"),
        (check_nhs_number, "94347659190", "NHS number must be 10 digits"),
        (check_nhs_number, "", "NHS number must be 10 digits"),
        # Arabic-Indic digits satisfy str.isdigit, and no clinical record would match them.
        (check_nhs_number, "\u0669\u0664\u0663\u0664\u0667\u0666\u0665\u0669\u0661\u0669", "NHS number must be 10 digits"),
        (check_nhs_number, "9434765919\n", "NHS number must be 10 digits"),
        (check_upn, "Q207000016049", "UPN has a wrong check letter (modulus 23)"),  # printed as correct on a help page
        (check_upn, "T332999925002", "UPN has a wrong check letter (modulus 23)"),
        (check_upn, "D33299992500B", "UPN has a wrong check letter (modulus 23)"),
        (check_upn, "t332999925001", "UPN must be a check letter, 11 digits and a last digit (a letter when temporary)"),
        (check_upn, "T33299992500", "UPN must be a check letter, 11 digits and a last digit (a letter when temporary)"),
        (check_upn, "I332999925001", "UPN must be a check letter, 11 digits and a last digit (a letter when temporary)"),
        (check_upn, "T33299992500O", "UPN must be a check letter, 11 digits and a last digit (a letter when temporary)"),
        (check_uln, "9276308687", "ULN has a wrong check digit (modulus 11)"),
        (check_uln, "0276308686", "ULN must not begin with 0"),
        (check_uln, "927630868", "ULN must be 10 digits"),
        (check_urn, "99320", "URN must be 6 digits"),
        (check_urn, "EY1234", "URN must be 6 digits"),
        (check_ukprn, "1099320", "UKPRN must be 8 digits"),
        (check_laestab, "332/9902", "LAESTAB must be 7 digits"),
        (check_la_code, "E08000027", "LA code must be 3 digits"),
        (check_ods_code, "rna", "ODS code must be 3 to 8 upper-case letters and digits"),
        (check_ods_code, "X2", "ODS code must be 3 to 8 upper-case letters and digits"),
        (check_ods_code, "RNA-01", "ODS code must be 3 to 8 upper-case letters and digits"),
        (check_ods_code, "ABCDEFGHI", "ODS code must be 3 to 8 upper-case letters and digits"),
    ],
)
def test_invalid_says_which_identifier_and_which_rule(check: Check, value: str, problem: str) -> None:
    with pytest.raises(ContractError) as caught:
        check(value)
    assert caught.value.problem == problem
    assert caught.value.instead
    assert not value or value not in str(caught.value)


def test_no_uln_is_a_valid_nhs_number() -> None:
    """Both are ten digits with weights 10 to 2, so one in the other's place would be taken; the rules exclude it."""
    for uln in ("9276308686", "1000000043"):
        with pytest.raises(ContractError):
            check_nhs_number(uln)


@pytest.mark.parametrize(
    ("scheme", "value"), [("urn", "9932020"), ("ukprn", "993202"), ("ods", "993"), ("la", "33"), ("laestab", "993202")]
)
def test_a_code_is_checked_by_its_scheme(scheme: str, value: str) -> None:
    if scheme == "ods":  # three digits are a well-formed ODS code (councils have them): schemes overlap
        assert str(OrganisationCode(scheme=CodeScheme.ODS, value=value)) == "ods:993"
        return
    with pytest.raises(ValidationError):
        OrganisationCode.model_validate({"scheme": scheme, "value": value})


def test_equal_numbers_of_two_schemes_are_two_codes() -> None:
    assert OrganisationCode(scheme=CodeScheme.LA, value="332") != OrganisationCode(scheme=CodeScheme.ODS, value="332")


def test_a_recipient_id_is_opaque() -> None:
    assert OrganisationCode(scheme=CodeScheme.RECIPIENT, value="019c5a10-7b22-7e66-b2c3-d4e5f6071829")
