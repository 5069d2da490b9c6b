"""How many plans could be delivered today, and what the others lack. Pure.

A plan is ready when there is something to send, somebody to send it to, and the NHS number by which clinical records are found.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from services.cli.exchange import Row
from services.cli.importing.plans import ExtractPlan, Lack

LISTED = 1_000
"""Plans that are listed with what they lack; the counts are of all."""


@dataclass(slots=True)
class Readiness:
    plans: int = 0
    ready: int = 0
    lacking: Counter[str] = field(default_factory=Counter)
    listed: list[Row] = field(default_factory=list)

    def take(self, case_reference: str, lacks: Iterable[str]) -> None:
        names = sorted(lacks)
        self.plans += 1
        self.ready += not names
        self.lacking.update(names)
        if names and len(self.listed) < LISTED:
            self.listed.append({"case_reference": case_reference, "lacks": names})

    def as_row(self) -> Row:
        return {
            "plans": self.plans,
            "ready": self.ready,
            "share_ready": round(self.ready / self.plans, 4) if self.plans else None,
            "lacking": {name: self.lacking[name] for name in (*(lack.value for lack in Lack), GAP) if self.lacking[name]},
            "not_ready": self.listed,
        }


GAP = "share_gap"
"""Somebody is involved in the plan and has no share; the plan is deliverable to the others."""


def lacks_of(plan: ExtractPlan) -> frozenset[str]:
    return frozenset(lack.value for lack in plan.lacks)


def lacks_here(plan: Row) -> frozenset[str]:
    """Of a plan as GET /v1/plans gives it. What is in the exchange has a text; without a current version it was recalled."""
    found = {
        Lack.DOCUMENT: not plan.get("current"),
        Lack.NHS_NUMBER: not plan["has_nhs_number"],
        Lack.RECIPIENT: not plan["shares"],
        GAP: bool(plan.get("gaps")),
    }
    return frozenset(str(lack) for lack, true in found.items() if true)
