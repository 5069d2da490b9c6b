"""When an extract is taken for one that was cut off."""

import pytest

from services.cli.commands.reconcile import seems_cut_off


@pytest.mark.parametrize(
    ("missing", "there", "cut_off"),
    [
        (20, 0, False),  # few plans may all be gone
        (21, 0, True),
        (21, 84, True),  # a fifth of 105
        (21, 85, False),
        (500, 500, True),
        (900, 4_000, False),
    ],
)
def test_a_fifth_of_more_than_a_few(missing: int, there: int, cut_off: bool) -> None:
    assert seems_cut_off(missing, there) is cut_off
