"""What in a text could say who a child is, as people and PDFs write it."""

from datetime import date

import pytest

from schemas.plan import Child
from services.ehcp_publisher.identities import Seen, folded, identity, look, look_apart

ON = date(2026, 11, 2)
THIRD_OF_MARCH = date(2014, 3, 3)


def seen(text: str, *, near: bool = False) -> Seen:
    return look_apart([text], ON)[0] if near else look([text], ON)


@pytest.mark.parametrize(
    "text",
    [
        "9434765919", "NHS number: 943 476 5919.", "943-476-5919", "943\u00a0476\u00a05919", "943\n476 5919", "943 476-\n5919",
        "NHS9434765919", "9 4 3 4 7 6 5 9 1 9", "NHS No 943 476 5919 12/03/2014", "1. 943 476 5919", "943–476–5919",
        "tel 0121 555 0123, 943 476 5919", "9434765919/9434765870",
    ],
)  # fmt: skip
def test_an_nhs_number_however_it_is_written(text: str) -> None:
    assert "9434765919" in seen(text).nhs_numbers


@pytest.mark.parametrize("text", ["9434765918", "94347659191", "07700 900123", "1111111111", "943 476 59", "R332990314873"])
def test_what_is_no_nhs_number(text: str) -> None:
    assert seen(text).nhs_numbers == {}


@pytest.mark.parametrize(
    ("text", "upn"),
    [
        ("UPN P207000016049", "P207000016049"), ("p207000016049", "P207000016049"), ("P 207 0000 16049", "P207000016049"),
        ("X00180001701A", "X00180001701A"), ("UPN:T332999925001.", "T332999925001"), ("T-332-9999-25001", "T332999925001"),
        ("Q207000016049", None), ("207000016049", None),
    ],
)  # fmt: skip
def test_a_upn(text: str, upn: str | None) -> None:
    assert list(seen(text).upns) == ([upn] if upn else [])


@pytest.mark.parametrize(
    "text",
    [
        "3 March 2014", "03 March 2014", "3rd March 2014", "3rd Mar 2014", "3rd of March 2014", "3rd day of March, 2014",
        "Monday 3 March 2014", "3 MARCH 2014", "3-Mar-2014", "3 Mar. 14", "03/03/2014", "3/3/2014", "3/3/14", "03.03.2014",
        "03-03-2014", "03 / 03 / 2014", "03 03 2014", "2014-03-03", "2014-03-03T00:00:00", "2014/03/03", "March 3, 2014",
        "March 3rd 2014", "3\nMarch 2014", "born:3/3/2014)", "2 June 3 March 2014", "D.O.B.03/03/2014",
    ],
)  # fmt: skip
def test_a_day_of_birth_however_it_is_written(text: str) -> None:
    assert THIRD_OF_MARCH in seen(text).days


def test_days_that_are_nobodys_birth() -> None:
    assert seen("31/02/2014 3 Frimaire 2014 33/03/2014 3 March 1944 3 March 2027").days == set()


def test_a_young_childs_day_counts_only_where_it_is_called_one_of_birth() -> None:
    assert seen("The meeting was on 12 November 2025.").days == set()
    assert seen("Date of birth 12 November 2025.").days == {date(2025, 11, 12)}
    assert seen("She was born in Dudley on 12 November 2025.").days == {date(2025, 11, 12)}


@pytest.mark.parametrize(
    "text",
    [
        "Amira Khan", "Khan, Amira", "KHAN Amira", "AMIRA KHAN", "Amira Leila Khan", "Amira L. Khan", "Amira L Khan",
        "Khan Amira Leila", "Surname: Khan Forename: Amira", "Family name Khan\nGiven names Amira",
        "Amira (known as Mimi) Khan", "Adam and Amira Khan", "Miss Amira\nKhan", "Ámira Khân", "Name | Amira | Khan",
    ],
)  # fmt: skip
def test_a_full_name_in_either_order(text: str) -> None:
    assert ("amira", "khan") in seen(text).names


@pytest.mark.parametrize(
    ("text", "child"),
    [
        ("Zoë O’Brien", ("O'Brien", "Zoe")), ("ZOE OBRIEN", ("O'Brien", "Zoë")), ("Zoe O'Brien", ("O’Brien", "Zoë")),
        ("Amy Smith-Jones", ("Smith-Jones", "Amy")), ("Amy Smith Jones", ("Smith-Jones", "Amy")),
        ("Amy Jones", ("Smith-Jones", "Amy")),
        ("Maria de la Cruz", ("de la Cruz", "Maria")), ("Łukasz Żółć", ("Zolc", "Lukasz")),
        ("Mary-Jane Lee", ("Lee", "Mary Jane")),
        ("Ali Khan", ("Khan", "Muhammad Ali")), ("Sean McDonald", ("McDonald", "Seán")),
        ("Eva van den Berg", ("van den Berg", "Éva")),
    ],
)  # fmt: skip
def test_one_name_written_in_two_ways_is_one(text: str, child: tuple[str, str]) -> None:
    known = identity(Child(family_name=child[0], given_names=child[1], date_of_birth=THIRD_OF_MARCH))
    assert known.pairs & seen(text).names.keys()


def test_a_preferred_name_is_a_name() -> None:
    child = Child(family_name="Khan", given_names="Muhammad", preferred_name="Mo", date_of_birth=THIRD_OF_MARCH)
    assert ("khan", "mo") in identity(child).pairs


def test_words_that_only_stand_in_one_sentence_are_no_name() -> None:
    names = seen("Amira went to see her aunt. Her teacher, Mrs Khan, agrees with what Dr Lee wrote.").names
    assert ("amira", "khan") not in names
    assert ("khan", "mrs") in names


def test_pages_are_counted_from_one_and_each_named_once() -> None:
    found = look(["nothing", "943 476 5919 and 9434765919", "", "9434765919"], ON)
    assert found.nhs_numbers == {"9434765919": [2, 4]}


def test_in_a_section_a_name_counts_near_a_day_of_birth() -> None:
    filler = "She reads. " * 60
    assert ("amira", "khan") in seen(f"{filler}Amira Khan (date of birth 3 March 2014). {filler}", near=True).names
    assert ("amira", "khan") in seen(f"{filler}Amira Khan, 03/03/2014 {filler}", near=True).names
    assert seen(f"Amira Khan. {filler} Date of birth 3 March 2014. {filler}", near=True).names == {}


def test_a_text_made_to_be_slow_is_cut_short() -> None:
    found = seen("".join(f"Aa{chr(97 + n % 26)} Bb{chr(97 + n // 26 % 26)}{chr(97 + n // 676 % 26)} " for n in range(6_000)))
    assert found.too_many
    assert look(["1 " * 20_000, "1234567890 " * 2_000, "A" * 50_000, "3 March " * 5_000], ON).names is not None


def test_folding_keeps_case_and_drops_what_is_not_seen() -> None:
    assert folded("O\u2019Brien\u00ad Zo\u00eb \ufb01ne") == "OBrien Zoe fine"
