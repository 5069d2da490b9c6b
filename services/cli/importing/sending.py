"""Hands the versions of an extract to the publisher: a batch for those without files, one request each for those with.

Of one plan the newest version goes first, so that what everyone gets is the plan in force; the older ones then go straight into
history. Then the plan's last review, from before the exchange, so that nobody is reminded of one that was held. Invariant:
every version and review ends in a count, and one that was refused, or has a code that leads to nobody, also in the errors
folder with the row that it came from. Sending again is harmless: the publisher knows a text by case reference, date and
content, and an event by what it says. So reviews are not noted as answered, and a run that goes on where one was killed sends
them all.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import orjson

from schemas.lifecycle import ReviewsBefore
from services.cli.exchange import Content, Exchange, ProblemError, Row
from services.cli.importing.faults import Fault
from services.cli.importing.known import KnownPlans
from services.cli.importing.plans import Extract, ExtractPlan, Lack, Version
from services.cli.importing.progress import Progress
from services.cli.importing.tables import Ref
from services.cli.machine.errors import MachineError, UsageError
from services.cli.output import err
from services.cli.publishing import ALREADY_THERE, PLAN_EXISTS, VersionFile, further, in_name_of, publish_version

Result = TypeVar("Result")

CHUNK = 200
"""Versions handed over together."""
CHUNK_BYTES = 8 * 2**20
UPLOADS = 4
"""Plans with files that go side by side."""
PATIENCE = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0)
"""Seconds between tries while the publisher does not answer."""
TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
GONE = frozenset({"ceased", "transferred"})
OVER_HERE = frozenset({"not-in-this-state", "transferred"})
"""A plan that is over here has no reviews due; that it is in force there is for ``ehcp reconcile extract`` to tell."""


@dataclass(slots=True)
class Totals:
    """``versions`` counts results, from issued to refused; ``plans`` what became of plans besides."""

    plans: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)

    def take(self, plan: ExtractPlan) -> None:
        self.plans["read"] += 1
        self.plans["to_correct"] += Lack.CORRECTION in plan.lacks
        self.plans["without_content"] += Lack.DOCUMENT in plan.lacks and not plan.over


def count_only(extract: Extract, advance: Callable[[], None]) -> Totals:
    """What would be sent."""
    totals = Totals()
    for plan in extract.plans():
        totals.take(plan)
        totals.plans["ceased"] += plan.over
        totals.plans["reviews"] += can_be_reviewed(plan)
        totals.versions["valid"] += 0 if plan.over else len(plan.versions)
        advance()
    return totals


def can_be_reviewed(plan: ExtractPlan) -> bool:
    """Also a plan that the extract has no text of: the exchange may have it. Not one whose rows are refused: they may be of
    another child."""
    return plan.review is not None and not plan.over and bool(plan.versions or Lack.CORRECTION not in plan.lacks)


class Sender:
    def __init__(
        self, exchange: Exchange, extract: Extract, progress: Progress, by: str | None, events_by: str, *, render: bool = True
    ) -> None:
        """The officers in whose names versions are issued, if one is said, and events recorded, by the council's own ids."""
        self._exchange = exchange
        self._extract = extract
        self._progress = progress
        self._by = by
        self._events_by = events_by
        self._render = render
        self._known: dict[str, KnownPlans] = {}
        self._waiting: list[tuple[ExtractPlan, list[Version]]] = []
        self._bytes = 0
        self.totals = Totals()

    async def send(self, advance: Callable[[], None]) -> Totals:
        for plan in self._extract.plans():
            self.totals.take(plan)
            if plan.ceased is not None:
                await self._cease(plan)
            elif not plan.over:
                await self._take(plan)
            advance()
        await self._flush()
        return self.totals

    async def _take(self, plan: ExtractPlan) -> None:
        versions = []
        for version in plan.versions:
            if self._progress.answered(version):
                self.totals.versions["answered_before"] += 1
            else:
                versions.append(version)
                self._bytes += len(version.submission)
        if versions or can_be_reviewed(plan):
            self._waiting.append((plan, versions))
        if self._bytes > CHUNK_BYTES or sum(max(len(each), 1) for _, each in self._waiting) >= CHUNK:
            await self._flush()

    async def _flush(self) -> None:
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        uploads: list[tuple[str, list[Version]]] = []
        lines: dict[str, list[Version]] = {}
        for plan, versions in waiting:
            if any(version.document or version.attachments for version in versions):
                uploads.append((plan.la_code, versions))
            else:
                lines.setdefault(plan.la_code, []).extend(versions)
        places = asyncio.Semaphore(UPLOADS)
        plan_ids: dict[Ref, str] = {}

        async def upload(la_code: str, versions: Sequence[Version]) -> None:
            async with places:
                for version in versions:
                    plan_ids.update(self._answered([(version, await patiently(self._publish, la_code, version))]))

        await asyncio.gather(*(upload(la_code, versions) for la_code, versions in uploads))
        for la_code, versions in lines.items():
            rows = await patiently(self._batch, la_code, [in_name_of(version.submission, self._by) for version in versions])
            plan_ids.update(self._answered(list(zip(versions, rows, strict=True))))
        await self._review(waiting, plan_ids)

    async def _publish(self, la_code: str, version: Version) -> Row:
        content = Content(version.submission, version.document, version.attachments)
        row = await publish_version(self._exchange, VersionFile(version.document or Path(), 0, content), la_code, self._by)
        if "answer" in row and row["answer"].get("status") in TRY_AGAIN:
            raise MachineError(row["problem"])
        return row

    async def _batch(self, la_code: str, submissions: Sequence[bytes]) -> list[Row]:
        """An answer for each, where a plan is there already as that to a further version of it."""
        client = f"case-system-{la_code}"
        rows = await self._send_lines(client, submissions)
        again: dict[int, bytes] = {}
        for place, (row, submission) in enumerate(zip(rows, submissions, strict=True)):
            problem = row.get("problem", {})
            if _kind(problem) == PLAN_EXISTS and "plan_id" in problem:
                only_version = further(Content(submission), orjson.loads(submission)).submission
                again[place] = b'{"plan_id":' + orjson.dumps(problem["plan_id"]) + b"," + only_version[1:]
        if again:
            for place, row in zip(again, await self._send_lines(client, list(again.values())), strict=True):
                rows[place] = row
        return rows

    async def _send_lines(self, client: str, lines: Sequence[bytes]) -> list[Row]:
        try:
            rows = await self._exchange.issue_batch(client, b"\n".join(lines), render=self._render)
        except ProblemError as problem:
            if problem.status in TRY_AGAIN:
                raise MachineError(str(problem)) from None
            raise
        if any(row["status"] in TRY_AGAIN for row in rows):
            raise MachineError("The publisher could not take in all of a batch.")
        return rows

    def _answered(self, answers: Sequence[tuple[Version, Row]]) -> dict[Ref, str]:
        """The ids of the plans whose versions are there, by the rows that these came from."""
        noted, plan_ids = [], {}
        for version, row in answers:
            result, problem = outcome_of(row)
            self.totals.versions[result] += 1
            if problem is None:
                noted.append((version, result))
                self._extract.refuse(version.source, remarks_of(row))
                if plan_id := row.get("plan_id") or row.get("problem", {}).get("plan_id"):
                    plan_ids[version.source] = str(plan_id)
            else:
                self._extract.refuse(version.source, faults_of(problem))
        self._progress.note(noted)
        return plan_ids

    async def _review(self, waiting: Sequence[tuple[ExtractPlan, list[Version]]], plan_ids: Mapping[Ref, str]) -> None:
        """Records the last review of each plan that the exchange has."""
        lines: dict[str, list[tuple[ExtractPlan, bytes]]] = {}
        for plan, versions in waiting:
            if not can_be_reviewed(plan):
                continue
            plan_id = next((plan_ids[version.source] for version in versions if version.source in plan_ids), None)
            if plan_id is None and versions and len(versions) == len(plan.versions):
                continue  # every version of it was refused, and so may be whose it is
            if plan_id is None:
                here = await self._here(plan)
                if here is None or here["state"] in GONE:
                    self.totals.plans["reviews_never_here"] += here is None
                    continue
                plan_id = here["plan_id"]
            assert plan.review is not None
            event = ReviewsBefore(by=self._events_by, reviews=(plan.review,)).model_dump(mode="json", exclude_none=True)
            lines.setdefault(plan.la_code, []).append((plan, orjson.dumps({"plan_id": plan_id, "event": event})))
        for la_code, each in lines.items():
            rows = await patiently(self._send_lines, f"case-system-{la_code}", [line for _, line in each])
            for (plan, _), row in zip(each, rows, strict=True):
                if "problem" not in row:
                    result = "unchanged" if row["result"] == "unchanged" else "recorded"
                    self.totals.plans[f"reviews_{result}"] += 1
                elif _kind(row["problem"]) not in OVER_HERE:
                    self.totals.plans["reviews_refused"] += 1
                    self._extract.refuse(plan.source, faults_of(row["problem"]))

    async def _here(self, plan: ExtractPlan) -> Row | None:
        """The plan as the exchange has it. What this run issued may not be in it."""
        if plan.la_code not in self._known:
            read = self._exchange.plans
            self._known[plan.la_code] = await patiently(lambda: KnownPlans.read(read(f"case-system-{plan.la_code}")))
        return self._known[plan.la_code].find(plan.la_code, plan.case_reference)

    async def _cease(self, plan: ExtractPlan) -> None:
        """A plan that ceased there ceases here; one that never was here is nobody's to hold, and is not issued."""
        assert plan.ceased is not None
        here = await self._here(plan)
        if here is None:
            self.totals.plans["ceased_never_here"] += 1
            return
        if here["state"] in GONE:
            self.totals.plans["ceased_before"] += 1
            return
        event = {"type": "cease", "by": self._events_by, "ceased_on": str(plan.ceased.on), "reason": plan.ceased.reason}
        if plan.ceased.notified_on is not None:
            event["notified_on"] = str(plan.ceased.notified_on)
        line = orjson.dumps({"plan_id": here["plan_id"], "event": event})
        (row,) = await patiently(self._send_lines, f"case-system-{plan.la_code}", [line])
        if "problem" in row:
            self.totals.plans["cease_refused"] += 1
            self._extract.refuse(plan.source, faults_of(row["problem"]))
        else:
            self.totals.plans["ceased_now"] += 1


def outcome_of(row: Row) -> tuple[str, Row | str | None]:
    """Of an answer, to one request or to a line of a batch: the result, and the problem where it was refused."""
    result = row.get("result")
    if result and result != "refused":
        return str(result), None
    problem = row.get("answer") or row["problem"]
    return ("unchanged", None) if _kind(problem) == ALREADY_THERE else ("refused", problem)


def remarks_of(row: Row) -> list[Fault]:
    """What the publisher noted of a version that it took in: somebody does not get it for a code that leads to nobody."""
    return [Fault(each["field"], each["problem"], each.get("instead") or "", refuses=False) for each in row.get("noted", ())]


def faults_of(problem: Row | str) -> list[Fault]:
    """A refusal of the publisher; the columns are still fields of the submission."""
    if isinstance(problem, str):
        return [Fault("", problem, "")]
    if errors := problem.get("errors"):
        return [Fault(each["field"], each["problem"], each.get("instead") or problem.get("detail", "")) for each in errors]
    return [Fault("", problem.get("title", "it was refused"), problem.get("detail", ""))]


def _kind(problem: Row | str | None) -> str:
    return str(problem.get("type", "")).rpartition(":")[2] if isinstance(problem, dict) else ""


async def patiently(work: Callable[..., Awaitable[Result]], *values: Any) -> Result:
    """Tries again while the publisher is away; everything sent twice is answered as unchanged."""
    for pause in PATIENCE:
        try:
            return await work(*values)
        except UsageError:
            raise
        except MachineError as error:
            err.print(f"{error} Trying again in {pause:.0f} s.", style="dim", markup=False, soft_wrap=True)
            await asyncio.sleep(pause)
    return await work(*values)
