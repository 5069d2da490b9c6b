"""How an unanswered recall escalates."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from schemas.alerts import ClearedBecause
from services.notifier.recalls import OpenRecall, level, why_cleared

AWARE = datetime(2026, 11, 20, 13, 40, tzinfo=UTC)
RECALL = OpenRecall(UUID(int=1), UUID(int=2), "332", AWARE, AWARE + timedelta(hours=2), {"health": 2})
OVER = OpenRecall(UUID(int=1), UUID(int=2), "332", AWARE, AWARE + timedelta(hours=2), {})


@pytest.mark.parametrize(
    ("hours", "rises_to"),
    [(0, 1), (2, 1), (23.9, 1), (24, 2), (47.9, 2), (48, 3), (66, 4), (71.9, 4), (72, 5), (1000, 5)],
)
def test_it_rises_as_the_hours_run_out(hours: float, rises_to: int) -> None:
    assert level(RECALL, AWARE + timedelta(hours=hours)) == rises_to


def test_the_time_to_report_is_three_days_to_the_minute_and_the_law_says_so() -> None:
    assert RECALL.report_by == datetime(2026, 11, 23, 13, 40, tzinfo=UTC)
    assert RECALL.reference == "UK GDPR art. 33(1), (5)"


def test_why_it_is_cleared() -> None:
    early, later = AWARE + timedelta(hours=3), AWARE + timedelta(hours=25)
    assert why_cleared(1, RECALL, early) is None
    assert why_cleared(1, RECALL, later) is ClearedBecause.ESCALATED
    assert why_cleared(2, RECALL, later) is None
    assert why_cleared(2, OVER, later) is ClearedBecause.SATISFIED
    assert why_cleared(2, None, later) is ClearedBecause.GONE
