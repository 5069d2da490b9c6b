"""``make bench``: the product beside the bare loop, turn about, on one PostgreSQL and one Kafka; figures as ratios.

Both are disturbed alike by whatever else the machine does, so their ratio holds where a rate alone would not. Nothing here
fails because it is slow.
"""

import argparse
import asyncio
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from schemas.plan import PlanSubmission
from services.ehcp_publisher.rendering import render
from tests.bench.bare import RECIPIENTS, Measured, run_bare
from tests.bench.cpu import used
from tests.bench.plans import TEXT_BYTES, Plans
from tests.bench.product import Product, running_product
from tests.support.servers import RunningKafka, RunningPostgres, running_kafka, running_postgres, server_folder

WARM_UP = 200
SINGLE_PLANS = 100
SINGLE_PLANS_PER_SECOND = 5.0
GROWN = 10
RENDERED = 30


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement. ``cpu``: milliseconds of processor time for each plan, by part."""

    plans: int
    seconds: float
    cpu: dict[str, float]

    @property
    def plans_per_second(self) -> float:
        return self.plans / self.seconds

    @property
    def cpu_of_plan(self) -> float:
        return sum(self.cpu.values())


@dataclass(frozen=True, slots=True)
class Pair:
    bare: Run
    product: Run

    @property
    def ratio(self) -> float:
        return self.product.plans_per_second / self.bare.plans_per_second


@dataclass(slots=True)
class Report:
    machine: dict[str, Any]
    pairs: list[Pair] = field(default_factory=list)
    single: list[float] = field(default_factory=list)
    """Seconds from each share's wish to the end of its delivery, one plan at a time."""
    plans_before: int = 0
    """In the exchange before the measurements below."""
    grown: list[Pair] = field(default_factory=list)
    grown_single: list[float] = field(default_factory=list)
    renderings_per_second: float = 0.0


class Bench:
    def __init__(self, postgres: RunningPostgres, kafka: RunningKafka, product: Product, plans: Plans) -> None:
        self._postgres = postgres
        self._kafka = kafka
        self._product = product
        self._plans = plans
        self._pids = {name: service.process.pid for name, service in product.services.items() if service.process}
        self.issued = 0

    async def product(self, plans: int) -> Run:
        lines = self._plans.draw(plans)
        before = used(self._pids)
        seconds = await self._product.run(lines)
        cpu = _of_each_plan(before, used(self._pids), plans, [*self._pids, "postgres", "kafka"])
        self.issued += plans
        return Run(plans, seconds, cpu)

    async def bare(self, plans: int) -> Run:
        council, school = await self._product.databases()
        before = used(self._pids)
        measured: Measured = await run_bare(self._postgres, self._kafka, council, school, plans)
        servers = _of_each_plan(before, used(self._pids), plans + measured.warm_up_plans, ["postgres", "kafka"])
        return Run(plans, measured.seconds, {"bare loop": measured.cpu / plans * 1000} | servers)

    async def pair(self, plans: int, *, bare_first: bool) -> Pair:
        if bare_first:
            bare = await self.bare(plans)
            return Pair(bare, await self.product(plans))
        product = await self.product(plans)
        return Pair(await self.bare(plans), product)

    async def single(self) -> list[float]:
        self.issued += SINGLE_PLANS
        return await self._product.run_slowly(self._plans.draw(SINGLE_PLANS), SINGLE_PLANS_PER_SECOND)


def _of_each_plan(before: dict[str, float], after: dict[str, float], plans: int, parts: Sequence[str]) -> dict[str, float]:
    return {part: (after[part] - before[part]) / plans * 1000 for part in parts}


async def measure(plans: int, rounds: int, console: Console) -> Report:
    report = Report(
        {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "load_at_start": os.getloadavg()[0],
            "recipients": RECIPIENTS,
            "text_bytes": TEXT_BYTES,
            "plans": plans,
        }
    )

    def say(text: str) -> None:
        console.print(f"[dim]{time.strftime('%H:%M:%S')}  {text}[/]")

    say("starting PostgreSQL, Kafka and the services")
    async with (
        running_postgres() as postgres,
        running_kafka() as kafka,
        server_folder("bench") as folder,
        running_product(postgres, kafka, folder) as product,
    ):
        bench = Bench(postgres, kafka, product, Plans())
        await bench.product(WARM_UP)
        say(f"{SINGLE_PLANS} plans one by one")
        report.single = await bench.single()
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}: {plans} plans through the bare loop and through the product")
            report.pairs.append(await bench.pair(plans, bare_first=number % 2 == 0))
        if (missing := GROWN * plans - bench.issued) > 0:
            say(f"{missing} more plans, so that there are {GROWN} times as many")
            await bench.product(missing)
        report.plans_before = bench.issued
        say("the same once more")
        report.grown.append(await bench.pair(plans, bare_first=True))
        report.grown_single = await bench.single()
    say("rendering")
    await asyncio.to_thread(_render, report)
    report.machine["load_at_end"] = os.getloadavg()[0]
    return report


def _render(report: Report) -> None:
    """On all cores but one, as the publisher does; the compilers' start is not counted."""
    submissions = [PlanSubmission.model_validate_json(line) for line in Plans(seed=2).draw(RENDERED)]
    work = [
        partial(render, each.child, "Dudley Metropolitan Borough Council", each.case_reference, each.version)
        for each in submissions
    ]
    workers = max(1, (os.cpu_count() or 2) - 1)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda call: call(), work[: 2 * workers]))
        started = time.perf_counter()
        list(pool.map(lambda call: call(), work))
        report.renderings_per_second = RENDERED / (time.perf_counter() - started)


# --- what a person reads ---


def show(report: Report, console: Console) -> None:
    machine = report.machine
    table = Table(
        title=f"{machine['plans']:,} plans × {RECIPIENTS} recipients, {TEXT_BYTES // 1000} KB of text, no PDF",
        caption=f"{machine['cores']} cores, Python {machine['python']}, load average {machine['load_at_start']:.1f} before"
        f" and {machine['load_at_end']:.1f} after",
        caption_justify="left",
    )
    for heading in ("", "bare loop", "product", "product ÷ bare loop"):
        table.add_column(heading, justify="left" if not heading else "right")
    pairs = report.pairs
    for number, pair in enumerate(pairs, 1):
        table.add_row(f"round {number}: plans/s", *_rates(pair))
    table.add_section()
    bare, product = ([getattr(pair, name).plans_per_second for pair in pairs] for name in ("bare", "product"))
    table.add_row("plans/s, median (least–most)", _spread(bare), _spread(product), _spread([p.ratio for p in pairs], 2))
    table.add_row(
        "filed/s, median (least–most)",
        _spread([rate * RECIPIENTS for rate in bare]),
        _spread([rate * RECIPIENTS for rate in product]),
        "aim: ≥ 0.50",
    )
    for pair in report.grown:
        table.add_row(f"plans/s, {report.plans_before:,} plans in the exchange", *_rates(pair))
    table.add_section()
    table.add_row("processor time of a plan, ms", *_cpu_row(pairs))
    for pair in report.grown:
        table.add_row(f"… {report.plans_before:,} plans in the exchange", *_cpu_row([pair]))
    console.print(table)

    parts = Table(title="Where the processor time of a plan goes, ms")
    for heading in ("", "bare loop", "product"):
        parts.add_column(heading, justify="left" if not heading else "right")
    bare_parts, product_parts = (_mean_cpu([getattr(pair, name) for pair in pairs]) for name in ("bare", "product"))
    for part in dict.fromkeys([*bare_parts, *product_parts]):
        parts.add_row(part, *(f"{by[part]:.2f}" if part in by else "" for by in (bare_parts, product_parts)))
    console.print(parts)

    single = Table(title=f"One plan at a time, {SINGLE_PLANS_PER_SECOND:.0f} a second: wanted to filed")
    for heading in ("", "p50", "p99"):
        single.add_column(heading, justify="left" if not heading else "right")
    single.add_row("in an empty exchange (aim: p50 ≤ 50 ms)", *_percentiles(report.single))
    single.add_row(f"{report.plans_before:,} plans in the exchange", *_percentiles(report.grown_single))
    console.print(single)
    console.print(f"Rendering, on its own: {report.renderings_per_second:.1f} PDFs/s of {TEXT_BYTES // 1000} KB of text")


def _rates(pair: Pair) -> tuple[str, str, str]:
    return f"{pair.bare.plans_per_second:.0f}", f"{pair.product.plans_per_second:.0f}", f"{pair.ratio:.2f}"


def _cpu_row(pairs: Sequence[Pair]) -> tuple[str, str, str]:
    bare = statistics.median(pair.bare.cpu_of_plan for pair in pairs)
    product = statistics.median(pair.product.cpu_of_plan for pair in pairs)
    return f"{bare:.1f}", f"{product:.1f}", f"{bare / product:.2f} (bare loop ÷ product)"


def _mean_cpu(runs: Sequence[Run]) -> dict[str, float]:
    return {part: statistics.mean(run.cpu[part] for run in runs) for part in runs[0].cpu}


def _spread(figures: Sequence[float], digits: int = 0) -> str:
    least, middle, most = min(figures), statistics.median(figures), max(figures)
    return f"{middle:,.{digits}f} ({least:,.{digits}f}–{most:,.{digits}f})"


def percentile(figures: Sequence[float], share: float) -> float:
    """The smallest figure that at least ``share`` of all do not exceed."""
    ordered = sorted(figures)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def _percentiles(seconds: Sequence[float]) -> tuple[str, str]:
    return f"{percentile(seconds, 0.5) * 1000:.0f} ms", f"{percentile(seconds, 0.99) * 1000:.0f} ms"


# --- what a program reads ---


def as_json(report: Report) -> bytes:
    """Rates per second, ratios, processor time in milliseconds for each plan, waiting times in milliseconds."""

    def pair(each: Pair) -> dict[str, Any]:
        sides = {
            name: {"plans_per_second": run.plans_per_second, "filed_per_second": run.plans_per_second * RECIPIENTS,
                   "cpu_ms_of_plan": run.cpu}
            for name, run in (("bare", each.bare), ("product", each.product))
        }  # fmt: skip
        return sides | {"ratio": each.ratio}

    def single(seconds: Sequence[float]) -> dict[str, float]:
        return {f"p{share}": percentile(seconds, share / 100) * 1000 for share in (50, 99)}

    ratios = [each.ratio for each in report.pairs]
    content = {
        "machine": report.machine,
        "ratio": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
        "rounds": [pair(each) for each in report.pairs],
        "single_plan_ms": single(report.single),
        "grown": {
            "plans_before": report.plans_before,
            "rounds": [pair(each) for each in report.grown],
            "single_plan_ms": single(report.grown_single),
        },
        "renderings_per_second": report.renderings_per_second,
    }
    return orjson.dumps(content, option=orjson.OPT_INDENT_2)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--plans", type=int, default=1000, help="plans of one measurement (default: 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="bare loop and product, turn about (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    console = Console()
    report = asyncio.run(measure(arguments.plans, arguments.rounds, Console(file=sys.stderr)))
    show(report, console)
    if arguments.json:
        arguments.json.write_bytes(as_json(report))


if __name__ == "__main__":
    main()
