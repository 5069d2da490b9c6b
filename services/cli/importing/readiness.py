"""How many plans could be delivered today, and what the others lack.

A plan is ready when there is something to send, somebody whom a subscriber delivers to, and the NHS number by which clinical
records are found.
Somebody involved who has no share (a share gap) is counted beside: the plan reaches the others.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import date

from services.cli.exchange import Row
from services.cli.importing.plans import ExtractPlan, Lack
from services.cli.machine.errors import MachineError
from services.cli.output import RefusedError

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


class Listed:
    """Which codes lead, on one day, to somebody whom a subscriber delivers to. Each is asked after once; when the directory
    does not answer, ``why_not`` says so, and every code counts."""

    def __init__(self, ask: Callable[[str], AsyncIterator[Row]] | None, on: date, why_not: str | None = None) -> None:
        self._ask = ask
        self._on = str(on)
        self.why_not = why_not
        self._known: dict[str, bool] = {}

    async def lacks(self, plan: ExtractPlan) -> frozenset[Lack]:
        """What the extract says that it lacks, and somebody who could get it, where every code leads to nobody."""
        if plan.family or Lack.RECIPIENT in plan.lacks:
            return plan.lacks
        return plan.lacks if any([await self._leads(code) for code in plan.named]) else plan.lacks | {Lack.RECIPIENT}

    async def _leads(self, code: str) -> bool:
        if code not in self._known and self._ask and not self.why_not:
            try:
                self._known[code] = any([self._holds(code, row) async for row in self._ask(code)])
            except (MachineError, RefusedError) as error:
                self.why_not = str(error)
        return self._known.get(code, True)

    def _holds(self, code: str, row: Row) -> bool:
        codes = (each for each in row["codes"] or () if f"{each['scheme']}:{each['value']}" == code)
        days = [(each["from"], each["until"] or "9999") for each in codes]
        return bool(row["subscriber"]) and any(first <= self._on <= last for first, last in days)


def lacks_here(plan: Row) -> frozenset[Lack]:
    """Of a plan as GET /v1/plans gives it. What is in the exchange has a text; without a current version it was recalled."""
    found = {
        Lack.DOCUMENT: not plan.get("current") and not plan.get("held"),
        Lack.HELD: bool(plan.get("held")),
        Lack.NHS_NUMBER: not plan["has_nhs_number"],
        Lack.RECIPIENT: not plan["deliverable"],
    }
    return frozenset(lack for lack, true in found.items() if true)
