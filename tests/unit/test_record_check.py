"""What is different between the books and a record. Pure; expectations by hand."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from services.shared.delivery.record_check import Difference, compare
from services.shared.delivery.store_checks import Believed
from services.shared.record_systems.port import Held

SHARE, FIRST, SECOND = UUID(int=1), UUID(int=2), UUID(int=3)
ONE, TWO = "1" * 64, "2" * 64
HELD = Held(SECOND, TWO, "DocumentReference/1")


def believed(action: str = "hold", **changes: Any) -> Believed:
    given: dict[str, Any] = {
        "share_id": SHARE, "seq": 2, "action": action, "state": "filed", "instruction": {"remove": [str(SECOND)]},
        "held_version_id": SECOND, "held_sha256": TWO, "notice": False, "shared_anew": False,
    }  # fmt: skip
    return Believed(**given | changes)


@pytest.mark.parametrize(
    ("believes", "held", "difference"),
    [
        (believed(), HELD, None),
        (believed(), None, Difference.MISSING_FROM_RECORD),
        (believed(), replace(HELD, version_id=FIRST, sha256=ONE), Difference.STALE),
        (believed(), replace(HELD, sha256=ONE), Difference.ALTERED),
        (believed(), replace(HELD, intact=False), Difference.ALTERED),
        (believed(), replace(HELD, withdrawn=True), Difference.ALTERED),
        (believed("withdraw"), replace(HELD, withdrawn=True), None),
        (believed("withdraw"), None, None),
        (believed("withdraw"), HELD, Difference.SHOULD_HAVE_BEEN_WITHDRAWN),
        (believed("withdraw", shared_anew=True), HELD, None),
        (believed("recall", held_version_id=None), None, None),
        (believed("recall", held_version_id=None), replace(HELD, version_id=FIRST), None),
        (believed("recall", held_version_id=None), HELD, Difference.SHOULD_HAVE_BEEN_WITHDRAWN),
        (believed("recall", held_version_id=None), replace(HELD, withdrawn=True), Difference.SHOULD_HAVE_BEEN_WITHDRAWN),
    ],
)
def test_each_difference_has_its_name(believes: Believed, held: Held | None, difference: Difference | None) -> None:
    assert compare(believes, held) is difference
