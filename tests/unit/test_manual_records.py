"""What an officer may state of a plan that was sent by hand or by post: it becomes signed evidence."""

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.evidence import SentRecord
from services.shared.record_systems.manual import check_date
from services.shared.web.problems import Problem

TODAY = date(2026, 11, 2)
ISSUED = {"issued_on": "2026-10-30"}


def record(**changes: Any) -> SentRecord:
    return SentRecord.model_validate({"seq": 1, "sent_on": "2026-10-31", "how": "post", "by": "T. Okafor"} | changes)


@pytest.mark.parametrize(
    "wrong",
    [
        {"note": ""},
        {"note": "x" * 201},
        {"note": "left\nat home"},
        {"sent_on": 0},
        {"sent_on": "0001-01-01"},
        {"by": "a\0b"},
        {"by": "T. Okafor\nfiled"},
        {"by": ""},
        {"how": "pigeon"},
    ],
)
def test_what_no_evidence_can_be_made_of_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        record(**wrong)


@pytest.mark.parametrize(
    "note",
    ["for 9434765919", "for 943 476-5919.", "ULN 9276308686", "UPN p207000016049", "UPN X0018000 1701A", "12 943 476 5919"],
)
def test_a_note_has_no_identifier_of_anybody(note: str) -> None:
    with pytest.raises(ValidationError, match="may be an NHS number"):
        record(note=note)


@pytest.mark.parametrize("note", ["Signed for at the door", "Tracked: AB 123 456 785 GB", "Second try, 2 November 2026, 14:30"])
def test_a_note_says_how_it_went(note: str) -> None:
    assert record(note=note).note == note


@pytest.mark.parametrize("sent_on", ["2026-10-30", "2026-11-02"])
def test_between_the_issue_and_today(sent_on: str) -> None:
    check_date(record(sent_on=sent_on), ISSUED, TODAY)


@pytest.mark.parametrize(("sent_on", "slug"), [("2026-10-29", "sent-before-issued"), ("2026-11-03", "sent-in-future")])
def test_not_before_it_was_issued_nor_after_today(sent_on: str, slug: str) -> None:
    with pytest.raises(Problem) as refused:
        check_date(record(sent_on=sent_on), ISSUED, TODAY)
    assert refused.value.slug == slug
