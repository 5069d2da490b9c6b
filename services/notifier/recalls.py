"""Recalls that somebody has not answered: told at once, and again at a higher level as the 72 hours run out. Pure.

Judged from the council's own list of copies that must go and from receipts, so that silence is noticed. One alert of a recall
is open at a time; it is cleared when every copy is proved to be gone, or when a higher one takes its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from schemas.alerts import ClearedBecause
from services.shared.law import clock
from services.shared.law.counting import london_date

CLOCK = "report_breach"
RISES_AFTER = tuple(timedelta(hours=hours) for hours in (24, 48, 66, 72))
"""Since the council became aware. The exchange's own choice, but for the last, at which the law's time has run out."""


@dataclass(frozen=True, slots=True)
class OpenRecall:
    recall_id: UUID
    plan_id: UUID
    la_code: str
    aware_at: datetime
    recorded_at: datetime
    outstanding: Mapping[str, int]
    """Copies by subscriber; none once all are proved to be gone."""

    @property
    def report_by(self) -> datetime:
        return clock(CLOCK, london_date(self.recorded_at)).ends(self.aware_at)

    @property
    def reference(self) -> str:
        return clock(CLOCK, london_date(self.recorded_at)).reference


def level(recall: OpenRecall, now: datetime) -> int:
    """1 from the start; a recall that was recorded late begins higher."""
    return 1 + sum(now >= recall.aware_at + after for after in RISES_AFTER)


def why_cleared(of_level: int, recall: OpenRecall | None, now: datetime) -> ClearedBecause | None:
    """None while an alert of this level holds. ``recall`` is None when the council has no such recall any more."""
    if recall is None:
        return ClearedBecause.GONE
    if not recall.outstanding:
        return ClearedBecause.SATISFIED
    return ClearedBecause.ESCALATED if level(recall, now) > of_level else None
