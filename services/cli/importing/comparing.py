"""What the case system says of a plan beside what the exchange says of it. Pure.

Both ways: a plan in force there that was never shared here, and one shared here that is over there, each is a child whose
agencies hold the wrong thing. Invariant: a difference names the plan by its case reference and the two sides by codes, dates
and states, so that it can go into an alert.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

from schemas.comparison import DifferenceKind
from services.cli.exchange import Row
from services.cli.importing.plans import ExtractPlan, Lack


@dataclass(frozen=True, slots=True)
class Difference:
    kind: DifferenceKind
    la_code: str
    case_reference: str
    plan_id: str | None
    there: str
    here: str

    def as_row(self) -> Row:
        return {
            "kind": self.kind.value, "la_code": self.la_code, "case_reference": self.case_reference, "plan_id": self.plan_id,
            "there": self.there, "here": self.here,
        }  # fmt: skip


def told(differences: Iterable[Difference], plans: int, rows_refused: int) -> Row:
    """What the exchange is told of one council's (PUT /v1/comparisons): ids and kinds; what has no id there is counted."""
    plan_ids: dict[str, list[str]] = {}
    not_here = 0
    for each in differences:
        if each.plan_id is None:
            # What went to another council is no plan of this one: it is known here, and nothing is missing.
            not_here += each.kind is DifferenceKind.NEVER_SHARED
        else:
            plan_ids.setdefault(each.kind.value, []).append(each.plan_id)
    return {"plans": plans, "rows_refused": rows_refused, "not_here": not_here, "differences": plan_ids}


LIVE = frozenset({"live", "ceasing"})
"""A plan whose family has notice of its end is in force until it has ended."""


def compare(there: ExtractPlan, here: Row | None, today: date, transferred_on: str | None = None) -> Iterator[Difference]:
    """``here`` is the plan as GET /v1/plans gives it, or None; ``transferred_on`` since when another council has it."""

    def differs(kind: DifferenceKind, says_there: str, says_here: str) -> Difference:
        plan_id = str(here["plan_id"]) if here else None
        return Difference(kind, there.la_code, there.case_reference, plan_id, says_there, says_here)

    if here is None:
        if there.over:
            return
        if transferred_on:
            yield differs(DifferenceKind.CEASED_HERE, "in force", f"with another council since {transferred_on}")
        else:
            yield differs(DifferenceKind.NEVER_SHARED, "in force", "not known")
        return
    state = here["state"]
    if there.over:
        if state in LIVE:
            ceased = there.ceased
            yield differs(DifferenceKind.CEASED_THERE, f"ceased {ceased.on} ({ceased.reason})" if ceased else "over", state)
        return
    if state not in LIVE:
        yield differs(DifferenceKind.CEASED_HERE, "in force", state)
        return
    if not here["shares"]:
        yield differs(DifferenceKind.NEVER_SHARED, "in force", "nobody should hold it")
    named_here = settings_on(here, today)
    if named_here != there.settings and Lack.CORRECTION not in there.lacks:
        yield differs(
            DifferenceKind.SETTING_DIFFERS, " ".join(sorted(there.settings)) or "none", " ".join(sorted(named_here)) or "none"
        )
    current = here.get("current")
    issued_on = date.fromisoformat(current["issued_on"]) if current else None
    if there.last_review is not None and there.amended and (issued_on is None or there.last_review > issued_on):
        yield differs(
            DifferenceKind.REVIEW_NEWER, f"decided {there.last_review}", f"issued {issued_on}" if issued_on else "no version"
        )


def only_here(here: Row) -> Difference | None:
    """For a plan that the extract did not have."""
    if here["state"] not in LIVE:
        return None
    return Difference(
        DifferenceKind.UNKNOWN_THERE,
        here["la_code"],
        here["case_reference"],
        str(here["plan_id"]),
        "not in the extract",
        here["state"],
    )


def settings_on(here: Row, day: date) -> frozenset[str]:
    """Codes of the settings that the exchange has as named on a day."""
    return frozenset(
        f"{each['scheme']}:{each['value']}"
        for each in here.get("settings", ())
        if (each.get("from") or "") <= str(day) <= (each.get("until") or "9999")
    )
