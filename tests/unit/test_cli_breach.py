"""`ehcp recalls` and `ehcp breach`: which recall is meant."""

from typing import Any

import pytest

from services.cli.commands.breach import is_of, officers, the_one
from services.cli.output import RefusedError

THIRD, REPORT = "01a20286-a384-754f-b07e-007580c60087", "01a20286-a384-754f-b07e-0000000000aa"


def recalled(recall_id: str, version_id: str, version: int = 1, notice: str | None = None, *by: str) -> dict[str, Any]:
    return {
        "recall_id": recall_id, "version_id": version_id, "version": version, "notice": notice, "reason": "wrong_child",
        "recorded_by": "officer-17", "words": [{"by": each} for each in by],
    }  # fmt: skip


OF_A_VERSION = recalled("r-1", THIRD, 3, None, "officer-17", "officer-2", "officer-17")
OF_A_REPORT = recalled("r-2", REPORT, 1, "review_report")


@pytest.mark.parametrize(
    ("version", "found"),
    [
        (None, ["r-1", "r-2"]),
        ("3", ["r-1"]),
        ("03", ["r-1"]),
        ("1", []),  # a notice has no number
        (THIRD, ["r-1"]),
        (THIRD.upper(), ["r-1"]),
        (REPORT, ["r-2"]),
    ],
)
def test_a_version_is_named_by_its_number_or_id_and_a_notice_by_its_id(version: str | None, found: list[str]) -> None:
    assert [row["recall_id"] for row in (OF_A_VERSION, OF_A_REPORT) if is_of(row, version)] == found


def test_every_officer_is_named_once_and_by_a_council_of_before_the_one_that_it_tells() -> None:
    assert officers(OF_A_VERSION) == "officer-17, officer-2"
    assert officers(OF_A_REPORT) == "officer-17"


def test_what_is_not_clear_is_said_with_what_to_name() -> None:
    assert the_one("SW-1", [OF_A_VERSION], "3") is OF_A_VERSION
    for version, said in ((None, "Nothing of SW-1"), ("7", "Version 7 of SW-1"), (REPORT, f"What has the id {REPORT} of SW-1")):
        with pytest.raises(RefusedError, match=said):
            the_one("SW-1", [], version)
    with pytest.raises(RefusedError) as refused:
        the_one("SW-1", [OF_A_VERSION, OF_A_REPORT], None)
    assert str(refused.value) == (
        "SW-1 has 2 recalls, each a breach of its own. Name one: "
        "r-1 (version 3 recalled, wrong child, by officer-17, officer-2); "
        "r-2 (review report recalled, wrong child, by officer-17)."
    )
