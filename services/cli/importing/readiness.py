"""How many plans could be delivered today, and what the others lack. Pure.

A plan is ready when there is something to send, somebody to send it to, and the NHS number by which clinical records are found.
Somebody involved who has no share (a share gap) is counted beside: the plan reaches the others.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from services.cli.exchange import Row
from services.cli.importing.plans import Lack

LISTED = 1_000
"""Plans that are listed with what they lack; the counts are of all."""


@dataclass(slots=True)
class Readiness:
    plans: int = 0
    ready: int = 0
    with_gaps: int = 0
    lacking: Counter[str] = field(default_factory=Counter)
    listed: list[Row] = field(default_factory=list)

    def take(self, case_reference: str, lacks: Iterable[Lack], gaps: int = 0) -> None:
        names = sorted(lack.value for lack in lacks)
        self.plans += 1
        self.with_gaps += bool(gaps)
        self.ready += not names
        self.lacking.update(names)
        if names and len(self.listed) < LISTED:
            self.listed.append({"case_reference": case_reference, "lacks": names})

    def as_row(self) -> Row:
        return {
            "plans": self.plans,
            "ready": self.ready,
            "share_ready": round(self.ready / self.plans, 4) if self.plans else None,
            "lacking": {lack.value: self.lacking[lack] for lack in Lack if self.lacking[lack]},
            "with_share_gaps": self.with_gaps,
            "not_ready": self.listed,
        }


def lacks_here(plan: Row) -> frozenset[Lack]:
    """Of a plan as GET /v1/plans gives it. What is in the exchange has a text; without a current version it was recalled."""
    found = {
        Lack.DOCUMENT: not plan.get("current") and not plan.get("held"),
        Lack.HELD: bool(plan.get("held")),
        Lack.NHS_NUMBER: not plan["has_nhs_number"],
        Lack.RECIPIENT: not plan["shares"],
    }
    return frozenset(lack for lack, true in found.items() if true)
