"""Check digits catch what they are for: one wrong digit, two neighbours swapped, and garbage of any kind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.base import ContractError
from schemas.identifiers import check_nhs_number, check_uln, check_upn

LETTERS = "ABCDEFGHJKLMNPQRTUVWXYZ"


def is_valid(check: object, value: str) -> bool:
    assert callable(check)
    try:
        check(value)
    except ContractError:
        return False
    return True


def completed(check: object, body: str, alphabet: str, *, first: bool = False) -> list[str]:
    """All values with this body that are valid."""
    return [value for c in alphabet if is_valid(check, value := c + body if first else body + c)]


nine = st.text("0123456789", min_size=9, max_size=9)
twelve = st.tuples(st.text("0123456789", min_size=11, max_size=11), st.sampled_from("0123456789" + LETTERS)).map("".join)


@given(nine)
def test_nine_digits_have_at_most_one_nhs_number(body: str) -> None:
    assert len(completed(check_nhs_number, body, "0123456789")) <= 1


@given(nine)
def test_nine_digits_have_at_most_one_uln(body: str) -> None:
    assert len(completed(check_uln, body, "0123456789")) <= 1


@given(twelve)
def test_every_body_has_exactly_one_check_letter(body: str) -> None:
    assert len(completed(check_upn, body, LETTERS, first=True)) == 1


@given(nine)
def test_no_number_is_both_uln_and_nhs_number(body: str) -> None:
    for value in completed(check_uln, body, "0123456789"):
        assert not is_valid(check_nhs_number, value)


@given(nine, st.integers(0, 9), st.integers(1, 9))
def test_one_wrong_digit_is_noticed(body: str, at: int, by: int) -> None:
    for check in (check_nhs_number, check_uln):
        for value in completed(check, body, "0123456789"):
            wrong = value[:at] + str((int(value[at]) + by) % 10) + value[at + 1 :]
            assert not is_valid(check, wrong)


@given(nine, st.integers(0, 8))
def test_two_neighbours_swapped_are_noticed(body: str, at: int) -> None:
    for check in (check_nhs_number, check_uln):
        for value in completed(check, body, "0123456789"):
            swapped = value[:at] + value[at + 1] + value[at] + value[at + 2 :]
            assert swapped == value or not is_valid(check, swapped)


@given(twelve, st.integers(1, 11), st.integers(1, 9))
def test_one_wrong_digit_of_a_upn_is_noticed(body: str, at: int, by: int) -> None:
    for value in completed(check_upn, body, LETTERS, first=True):
        wrong = value[:at] + str((int(value[at]) + by) % 10) + value[at + 1 :]
        assert not is_valid(check_upn, wrong)


@given(st.text(max_size=20))
def test_garbage_is_refused_by_a_sentence_and_never_repeated(text: str) -> None:
    for check in (check_nhs_number, check_upn, check_uln):
        try:
            assert check(text) == text
        except ContractError as refused:
            assert len(text) < 8 or text not in str(refused)  # noqa: PT017 - both ways out are right


def test_both_letters_of_a_temporary_upn_count_by_the_same_table() -> None:
    with pytest.raises(ContractError):
        check_upn("D33299992500C")
