"""What is different between what is expected of a record and what it holds. Pure; expectations by hand."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from services.shared.delivery.differences import Difference, Expected, compare
from services.shared.record_systems.port import Held

FIRST, SECOND = UUID(int=2), UUID(int=3)
ONE, TWO = "1" * 64, "2" * 64
HELD = Held(SECOND, TWO, "DocumentReference/1")


def expected(action: str = "hold", **changes: Any) -> Expected:
    given: dict[str, Any] = {"action": action, "version_id": SECOND, "sha256": TWO, "removed": [SECOND]}
    return Expected(**given | changes)


RECALLED = expected("recall", version_id=None)


@pytest.mark.parametrize(
    ("wish", "held", "difference"),
    [
        (expected(), HELD, None),
        (expected(), None, Difference.MISSING_FROM_RECORD),
        (expected(arrived=False), None, Difference.NEVER_ARRIVED),
        (expected(arrived=False), HELD, None),  # whoever filed it: it is there
        (expected(), replace(HELD, version_id=FIRST, sha256=ONE), Difference.STALE),
        (expected(), replace(HELD, sha256=ONE), Difference.ALTERED),
        (expected(), replace(HELD, intact=False), Difference.ALTERED),
        (expected(), replace(HELD, withdrawn=True), Difference.ALTERED),
        (expected("withdraw"), replace(HELD, withdrawn=True), None),
        (expected("withdraw"), None, None),
        (expected("withdraw"), HELD, Difference.SHOULD_HAVE_BEEN_WITHDRAWN),
        (expected("withdraw", shared_anew=True), HELD, None),
        (RECALLED, None, None),
        (RECALLED, replace(HELD, version_id=FIRST), None),
        (RECALLED, HELD, Difference.SHOULD_HAVE_BEEN_WITHDRAWN),
        (RECALLED, replace(HELD, withdrawn=True), Difference.SHOULD_HAVE_BEEN_WITHDRAWN),
        (None, HELD, Difference.ORPHAN),
        (None, replace(HELD, withdrawn=True), None),
        (None, None, None),
    ],
)
def test_each_difference_has_its_name(wish: Expected | None, held: Held | None, difference: Difference | None) -> None:
    assert compare(wish, held) is difference
