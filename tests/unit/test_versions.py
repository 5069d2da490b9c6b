"""What a newly received version is: first, next, history, a repeat, or the same text; and which sections changed."""

from collections.abc import Mapping
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import pytest

from schemas.plan import Item, PlanVersion, Section, SectionLetter
from services.ehcp_publisher import versions
from services.ehcp_publisher.versions import First, History, Issued, Next, Repeat, SameText, Text

JANUARY, MARCH, JUNE = date(2026, 1, 12), date(2026, 3, 2), date(2026, 6, 30)


def version(issued_on: date, **texts: str) -> PlanVersion:
    return PlanVersion(issued_on=issued_on, sections={SectionLetter(k): Section(text=v) for k, v in texts.items()} or None)


def text(**texts: str) -> Text:
    return versions.text_of(version(JANUARY, **texts), None, [])


def issued(number: int, on: date, text: Text, version_id: UUID | None = None) -> Issued:
    hashes = {letter.value: value for letter, value in text.section_hashes.items()}
    return Issued(version_id or uuid4(), number, on, text.text_hash, hashes)


V1 = issued(1, JANUARY, text(A="likes trains", B="autism"))
V2 = issued(2, MARCH, text(A="likes trains", B="autism and anxiety"))


def test_the_first() -> None:
    assert versions.decide([], JANUARY, text(A="likes trains")) == First(number=1)


def test_a_later_date_is_next_and_says_what_changed() -> None:
    decision = versions.decide([V1], MARCH, text(A="likes trains", B="autism and anxiety"))
    assert decision == Next(number=2, replaces=V1, changed=(SectionLetter.B,))


def test_another_text_on_the_same_day_is_next() -> None:
    decision = versions.decide([V1, V2], MARCH, text(A="likes buses", B="autism and anxiety"))
    assert decision == Next(number=3, replaces=V2, changed=(SectionLetter.A,))


def test_an_older_date_is_history_however_late_it_comes() -> None:
    february = date(2026, 2, 1)
    assert versions.decide([V2, V1], february, text(A="something else")) == History(number=3, current=V2)


def test_the_current_one_is_the_greatest_by_date_then_number_not_the_last_received() -> None:
    late_history = issued(3, date(2026, 2, 1), text(A="history"))
    corrected_same_day = issued(4, MARCH, text(A="corrected"))
    assert versions.current([V2, late_history, V1]) == V2
    assert versions.current([corrected_same_day, V2, late_history]) == corrected_same_day
    assert versions.current([]) is None
    after = versions.decide([V1, V2, late_history], JUNE, text(A="likes trains", B="anxiety"))
    assert after == Next(number=4, replaces=V2, changed=(SectionLetter.B,))


@pytest.mark.parametrize("known", [V1, V2])
def test_same_text_same_day_is_a_repeat_of_whichever_it_was(known: Issued) -> None:
    same = Text({SectionLetter(k): v for k, v in known.section_hashes.items()}, known.text_hash)
    assert versions.decide([V1, V2], known.issued_on, same) == Repeat(known)


def test_the_current_text_under_a_later_date_is_the_same_text() -> None:
    assert versions.decide([V1, V2], JUNE, text(A="likes trains", B="autism and anxiety")) == SameText(V2)


def test_going_back_to_a_former_text_is_a_new_version() -> None:
    decision = versions.decide([V1, V2], JUNE, text(A="likes trains", B="autism"))
    assert decision == Next(number=3, replaces=V2, changed=(SectionLetter.B,))


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ({"A": "1"}, {"A": "1"}, ""),
        ({"A": "1"}, {"A": "2"}, "A"),
        ({"A": "1"}, {"A": "1", "K": "9"}, "K"),
        ({"A": "1", "J": "3"}, {"A": "1"}, "J"),
        ({}, {"K": "1", "B": "1", "H2": "1", "H1": "1"}, "B H1 H2 K"),
        ({"A": "1", "B": "1"}, {}, "A B"),
    ],
)
def test_changed_sections(before: Mapping[str, str], after: Mapping[str, str], changed: str) -> None:
    """Changed, new or gone; in the order of reg 12, whatever the order in which they came."""
    found = versions.changed_sections(before, {SectionLetter(letter): value for letter, value in after.items()})
    assert " ".join(found) == changed


def test_the_text_is_the_sections_and_the_files_not_the_date() -> None:
    one, two = version(JANUARY, A="likes trains"), version(MARCH, A="likes trains")
    assert versions.text_of(one, None, []) == versions.text_of(two, None, [])
    hashes = {
        versions.text_of(one, document, attachments).text_hash
        for document, attachments in [
            (None, []),
            ("aa", []),
            (None, ["aa"]),
            ("aa", ["bb"]),
            ("bb", ["aa"]),
            ("aa", ["bb", "cc"]),
        ]
    }
    assert len(hashes) == 6


@pytest.mark.parametrize(
    "changes",
    [
        {"placements": [{"setting": {"scheme": "urn", "value": "100002"}, "from": "2026-09-01"}]},
        {"commissioning_bodies": [{"scheme": "ods", "value": "QUA"}]},
        {"family": [{"reference": "M1", "role": "parent", "name": "Ann Example", "address": ["2 New Street"]}]},
        {"involved": [{"role": "advice", "organisation": {"scheme": "ods", "value": "RNA"}}]},
        {"views_recorded_on": "2026-01-10"},
    ],
)
def test_who_should_hold_it_and_where_they_live_is_part_of_a_version_too(changes: dict[str, Any]) -> None:
    """A corrected code or a parent's new address that counted as a repeat would be lost without a word."""
    before = {
        "issued_on": "2026-01-12",
        "sections": {"A": {"text": "likes trains"}},
        "family": [{"reference": "M1", "role": "parent", "name": "Ann Example", "address": ["1 Old Street"]}],
    }
    was, now = (versions.text_of(PlanVersion.model_validate(each), None, []) for each in (before, before | changes))
    decision = versions.decide([issued(1, JANUARY, was)], JANUARY, now)
    assert isinstance(decision, Next)
    assert (decision.number, decision.changed) == (2, ())


def test_a_document_alone_has_a_text_too() -> None:
    alone = versions.text_of(PlanVersion(issued_on=JANUARY), "ab" * 32, [])
    assert alone.section_hashes == {}
    assert alone.text_hash != versions.text_of(PlanVersion(issued_on=JANUARY), "cd" * 32, []).text_hash


def test_the_order_in_which_sections_are_sent_does_not_matter_but_that_of_items_does() -> None:
    assert text(A="1", B="2").text_hash == text(B="2", A="1").text_hash
    items = (Item(ref="B1", text="one"), Item(ref="B2", text="two"))
    ordered, turned = (
        versions.text_of(PlanVersion(issued_on=JANUARY, sections={SectionLetter.B: Section(items=each)}), None, [])
        for each in (items, items[::-1])
    )
    assert ordered.text_hash != turned.text_hash
