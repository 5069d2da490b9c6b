"""The report of a look into the records: what an inspector would find, counted, with what may be said of all. Pure.

A record counts only where it was really looked into; what cannot be asked or did not answer is said beside it and never counted
as present. From here the report is signed and leaves.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.holdings import Found
from schemas.looks import (
    DRAWN_BY,
    SEEN,
    AgencyTotal,
    ChildLookedAt,
    Counted,
    EarlierDraw,
    GapFound,
    Interval,
    LastProof,
    LookReport,
    NotLookedAt,
    RecordLookedInto,
    Verdict,
)
from services.shared.delivery.differences import Difference, Expected, compare
from services.shared.record_systems.port import Held

Row = Mapping[str, Any]
KIND = "inspection-sample"
Z = 1.959963984540054
"""Of the normal distribution, for 95 %."""
_VERDICTS = {
    None: Verdict.CURRENT, Difference.STALE: Verdict.OLDER_VERSION, Difference.ALTERED: Verdict.ALTERED,
    Difference.MISSING_FROM_RECORD: Verdict.ABSENT, Difference.NEVER_ARRIVED: Verdict.ABSENT,
}  # fmt: skip
_NOT_SEEN = {
    Found.NO_ANSWER: Verdict.NO_ANSWER, Found.CANNOT_BE_ASKED: Verdict.CANNOT_BE_ASKED, Found.BY_HAND: Verdict.BY_HAND,
}  # fmt: skip
NOBODY_DELIVERS = "no subscriber delivers to this recipient"
NOT_SERVED = "its subscriber has no record system for this recipient"
NOT_ANSWERED = "its subscriber has not answered"
DRAWS_COUNTED = 100
"""Earlier draws whose result a report says: a report of thousands must not read every answer that ever came."""
RECALLED = "it was recalled and is still there"


def report(
    look: Row,
    council: str,
    plans: Sequence[Row],
    shares: Sequence[Row],
    gaps: Sequence[Row],
    keys: dict[str, Any],
    now: datetime,
    earlier: Sequence[EarlierDraw] = (),
) -> LookReport:
    """From rows of ``store_looks``. ``keys``: public keys by subscriber."""
    records: dict[UUID, list[RecordLookedInto]] = defaultdict(list)
    for row in shares:
        records[row["plan_id"]].append(record(row))
    open_gaps: dict[UUID, list[GapFound]] = defaultdict(list)
    for row in gaps:
        open_gaps[row["plan_id"]].append(GapFound(who=row["who"], reason=row["reason"], since=row["since"]))
    children = tuple(_child(row, records[row["plan_id"]], open_gaps[row["plan_id"]]) for row in plans)
    asked = look["asked"]
    population: int | None = asked["population"]
    estimates = population is not None and len(children) < population
    judged = [child.all_current for child in children if child.all_current is not None]
    everyone = [each for child in children for each in child.records]
    return LookReport(
        council=council, la_code=look["la_code"], look_id=look["look_id"], asked_at=look["asked_at"], asked_by=look["asked_by"],
        made_at=now, complete=all(each.verdict is not Verdict.NO_ANSWER for each in everyone),
        drawn_by=DRAWN_BY if population is not None else None, seed=asked["seed"], population=population,
        agency=asked["agency"], kind=asked["kind"], earlier_draws=tuple(earlier), children=children,
        not_looked_at=tuple(NotLookedAt.model_validate(each) for each in asked["not_looked_at"]),
        with_all_current=Counted(**counted(sum(judged), len(judged), estimates=estimates)),
        with_gaps=sum(bool(child.gaps) for child in children), totals=tuple(_totals(shares, everyone, estimates=estimates)),
        keys={name: keys[name] for name in sorted(keys.keys() & {each.subscriber for each in everyone if each.statement})},
    )  # fmt: skip


def earlier_draws(draws: Sequence[Row], shares: Iterable[Row]) -> list[EarlierDraw]:
    """``shares``: of the newest :data:`DRAWS_COUNTED` of ``draws``, which are the newest first."""
    seen: dict[UUID, dict[UUID, list[bool]]] = {row["look_id"]: defaultdict(list) for row in draws[:DRAWS_COUNTED]}
    for row in shares:
        verdict = judge(row)[0]
        if verdict in SEEN:
            seen[row["look_id"]][row["plan_id"]].append(verdict is Verdict.CURRENT)
    found = []
    for row in draws:
        asked, children = row["asked"], seen.get(row["look_id"])
        found.append(
            EarlierDraw(
                look_id=row["look_id"], asked_at=row["asked_at"], asked_by=row["asked_by"], seed=asked["seed"],
                population=asked["population"], agency=asked["agency"], kind=asked["kind"], children=row["children"],
                looked_into=None if children is None else len(children),
                current=None if children is None else sum(all(each) for each in children.values()),
            )
        )  # fmt: skip
    return found


def record(row: Row) -> RecordLookedInto:
    verdict, difference, reason = judge(row)
    held = row["found"] == Found.HELD
    return RecordLookedInto(
        share_id=row["share_id"], recipient=row["recipient_name"], recipient_kind=row["recipient_kind"], channel=row["channel"],
        grounds=tuple(row["grounds"]), subscriber=row["subscriber"], hosted_by=row["hosted_by"],
        version_id=row["version_id"], sha256=row["sha256"], verdict=verdict,
        difference=difference, found_version=row["found_version"] if held else None, record=row["record"],
        looked_at=row["at"] if row["found"] else None, reason=reason, last_proof=_last_proof(row),
        statement=row["signed"].decode() if row["signed"] else None,
    )  # fmt: skip


def judge(row: Row) -> tuple[Verdict, Difference | None, str | None]:
    """What is found in one record, how that differs from the wish, and why where nothing can be seen."""
    arrived = row["satisfied_seq"] >= row["seq"] or row["proved_version_id"] == row["version_id"]
    if row["subscriber"] is None:
        return Verdict.ABSENT, Difference.NEVER_ARRIVED, NOBODY_DELIVERS
    if row["found"] is None:
        return Verdict.NO_ANSWER, None, NOT_ANSWERED
    found = Found(row["found"])
    if found is Found.NOT_SERVED:
        return Verdict.ABSENT, Difference.NEVER_ARRIVED, NOT_SERVED
    if found in _NOT_SEEN:
        return _NOT_SEEN[found], None, row["reason"]
    expected = Expected("hold", row["version_id"], row["sha256"], arrived=arrived)
    held = None
    if found is Found.HELD:
        held = Held(row["found_version_id"], row["found_sha256"], row["record"], row["withdrawn"], row["intact"])
    difference = compare(expected, held)
    # A version that was issued and filed after the question: nobody would call that out of date. One that was recalled is newer
    # than the wish too, and the very thing that must not be there.
    came_since = row["newer"] and not row["recalled"]
    if difference is Difference.STALE and came_since and row["intact"] and not row["withdrawn"]:
        difference = None
    return _VERDICTS[difference], difference, _why(row, difference)


def _why(row: Row, difference: Difference | None) -> str | None:
    if difference is Difference.ALTERED:
        return _altered(row)
    if difference is Difference.STALE and row["recalled"]:
        return RECALLED
    if difference is not None and row["told_status"] in ("refused", "failed", "waiting") and row["told_reason"]:
        return f"{row['told_status']}: {row['told_reason']}"
    return None


def _altered(row: Row) -> str:
    if row["withdrawn"]:
        return "it is marked as no longer updated"
    return "what is there is not what was filed" if row["intact"] else "a file of it is missing or changed"


def _last_proof(row: Row) -> LastProof | None:
    if row["proved_status"] is None:
        return None
    return LastProof(
        status=row["proved_status"], version=row["proved_version"], at=row["proved_at"], record=row["proved_record"],
        current=row["proved_version_id"] == row["version_id"],
    )  # fmt: skip


def _child(row: Row, records: Sequence[RecordLookedInto], gaps: Sequence[GapFound]) -> ChildLookedAt:
    seen = [each.verdict for each in records if each.verdict in SEEN]
    return ChildLookedAt(
        case_reference=row["case_reference"], plan_id=row["plan_id"], version=row["version"], issued_on=row["issued_on"],
        records=tuple(sorted(records, key=lambda each: (each.recipient_kind, each.recipient))), gaps=tuple(gaps),
        all_current=all(each is Verdict.CURRENT for each in seen) if seen else None,
    )  # fmt: skip


def _totals(shares: Iterable[Row], records: Sequence[RecordLookedInto], *, estimates: bool) -> Iterable[AgencyTotal]:
    """By organisation; parents and young people together by what they are."""
    verdict_of = {each.share_id: each.verdict for each in records}
    by_agency: dict[tuple[str, str], Counter[Verdict]] = defaultdict(Counter)
    ids: dict[tuple[str, str], tuple[str, str]] = {}
    for row in shares:
        kind = row["recipient_kind"]
        key = (kind, "" if row["person"] else str(row["recipient_id"]))
        ids[key] = kind, kind.replace("_", " ") if row["person"] else row["recipient_name"]
        by_agency[key][verdict_of[row["share_id"]]] += 1
    for key in sorted(by_agency, key=lambda each: ids[each]):
        counts, (kind, agency) = by_agency[key], ids[key]
        looked_into = sum(counts[each] for each in SEEN)
        yield AgencyTotal(
            agency=agency, kind=kind, wanted=counts.total(),
            **counted(counts[Verdict.CURRENT], looked_into, estimates=estimates),
            **{each.value: counts[each] for each in Verdict if each is not Verdict.CURRENT},
        )  # fmt: skip


def counted(current: int, looked_into: int, *, estimates: bool) -> dict[str, Any]:
    """``estimates``: they are some at random of more, so that something may be said of all."""
    return {
        "looked_into": looked_into, "current": current,
        "per_cent": per_cent(current / looked_into) if looked_into else None,
        "interval": interval(current, looked_into) if looked_into and estimates else None,
    }  # fmt: skip


def interval(current: int, of: int) -> Interval:
    """Wilson's score interval (E. B. Wilson, 1927) for 95 %.

    It holds for small samples and for shares near 0 and 1. Without finite population correction: where much of the population
    was drawn it is wider than it need be, never narrower.
    """
    p = current / of
    middle = p + Z**2 / (2 * of)
    half = Z * math.sqrt(p * (1 - p) / of + Z**2 / (4 * of**2))
    scale = 1 + Z**2 / of
    return Interval(low=per_cent(max(0.0, (middle - half) / scale)), high=per_cent(min(1.0, (middle + half) / scale)))


def per_cent(share: float) -> str:
    return f"{100 * share:.1f}"
