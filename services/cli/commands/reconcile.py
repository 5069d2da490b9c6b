"""`ehcp reconcile`: compares what others say with what the exchange says."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from schemas.comparison import DifferenceKind
from services.cli.commands.import_ import Corrections, Council, Extracted, ProfileOption, bar_for, london_today, profile_of
from services.cli.exchange import Exchange, Reach, Row
from services.cli.importing.comparing import Difference, compare, only_here, told
from services.cli.importing.faults import Findings
from services.cli.importing.known import KnownPlans
from services.cli.importing.opening import Asked, opened
from services.cli.options import DEFAULT_HOME, AsJson, DryRun, Home
from services.cli.output import Exit, csv_of, err, out, print_json, print_table, run, to_the_second

app = typer.Typer(no_args_is_help=True, help="Compare what others say with what the exchange says.")

COLUMNS = {"case_reference": "Plan", "kind": "Difference", "there": "Case system", "here": "Exchange", "plan_id": "Plan id"}
SPARE_COLUMNS = ("plan_id",)
FEW = 20
"""Plans that may be missing from an extract of any size."""
CSV_COLUMNS = ("kind", "la_code", "case_reference", "plan_id", "there", "here")


RECORD_COLUMNS = {
    "subscriber": "Subscriber",
    "held": "Held",
    "never_arrived": "Never arrived",
    "stale": "Stale",
    "missing_from_record": "Missing",
    "altered": "Altered",
    "should_have_been_withdrawn": "Not ended",
    "orphan": "Orphans",
    "unasked": "Not asked",
    "unasked_since": "Since (UTC)",
    "last_seen": "Heard of (UTC)",
}
FOR_A_PERSON = ("orphan", "unasked")
"""What does not mend itself."""


@app.command("records")
def records(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """What the nightly look into the records found within a day, by subscriber. Exit code 1 when a person must act."""
    found = run(_records(home))
    needed = any(row[name] for row in found for name in FOR_A_PERSON)
    if as_json:
        print_json({"subscribers": found, "person_needed": needed})
    else:
        print_table(RECORD_COLUMNS, [row | {"held": counted(row["held"])} for row in found])
        err.print(
            "Differences are delivered again by themselves, but for orphans (held, and the council knows no such share) and "
            "copies that could not be asked after for more than a day: those need a person." if needed else
            "Nothing needs a person; what differs is delivered again by itself.", soft_wrap=True,
        )  # fmt: skip
    if needed:
        raise typer.Exit(Exit.CHECK_FAILED)


def counted(held: int | None) -> int | str:
    """A subscriber counts what it holds now and then: before that it knows nothing."""
    return "not counted yet" if held is None else held or "none yet"


async def _records(home: Path) -> list[Row]:
    async with Exchange(Reach.of(home)) as exchange:
        found = await exchange.records()
    return [
        {name: each["differences"].get(name, 0) for name in RECORD_COLUMNS}
        | {name: each[name] for name in ("subscriber", "held", "unasked")}
        | {name: to_the_second(each[name]) for name in ("unasked_since", "last_seen")}
        for each in found
    ]


@app.command("extract")
def extract(
    path: Extracted,
    profile: ProfileOption = None,
    council: Council = None,
    corrections: Corrections = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write the differences to this file too.")] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help="Tell the exchange also of an extract that seems to be cut off.")] = False,
) -> None:
    """Compare a case system's plans with the exchange's, both ways. Exit code 1 when they differ.

    What differs raises an alert, and what does not any more clears it; with --dry-run the exchange is told nothing.
    """
    asked = Asked(path, profile_of(profile, home), london_today(), council, None, tuple(corrections or ()))
    result = run(differences_of(asked, home, dry_run=dry_run, yes=yes))
    if csv_file is not None:
        write_csv(csv_file, result["differences"])
    if as_json:
        print_json(result)
    elif result["differences"]:
        print_table(COLUMNS, result["differences"], SPARE_COLUMNS)
        counts = ", ".join(f"{count} {kind}" for kind, count in result["counts"].items())
        err.print(f"{len(result['differences'])} differences in {result['plans']} plans: {counts}", soft_wrap=True)
    else:
        out.print(f"No difference in {result['plans']} plans.")
    for la_code, missing in result["not_told"].items():
        err.print(
            f"Council {la_code}: {missing} plans that are live here are not in the extract, a fifth or more. It may be cut "
            "off, so no alert is raised or cleared. Check it; then run this again, with --yes if it is whole.",
            style="red", markup=False, soft_wrap=True,
        )  # fmt: skip
    if not (as_json or dry_run or result["not_told"]) and result["plans"]:
        err.print("Alerts follow: raised for what is new, cleared for what is gone.")
    if result["rows_refused"]:
        err.print(
            f"{result['rows_refused']} rows of the extract could not be used; `ehcp import --dry-run` says which.",
            style="yellow",
        )
    if result["differences"] or result["rows_refused"]:
        raise typer.Exit(Exit.CHECK_FAILED)


async def differences_of(asked: Asked, home: Path, *, dry_run: bool, yes: bool) -> Row:
    """Tells the exchange, council by council, once the whole extract is read: half of one would clear what still differs."""
    findings = Findings()
    differences: list[Difference] = []
    plans: Counter[str] = Counter()
    async with Exchange(Reach.of(home)) as exchange:
        with opened(asked, findings) as source:
            known = KnownPlans()
            async for plan in exchange.plans(transferred=known.add_transferred):
                known.add(plan)
            with bar_for(source) as advance:
                for there in source.plans():
                    advance()
                    plans[there.la_code] += 1
                    place = there.la_code, there.case_reference
                    differences += compare(there, known.find(*place), asked.today, known.transferred_on(*place))
                    await asyncio.sleep(0)
        # The exchange may serve councils whose extract this is not.
        others = (only_here(here) for here in known.unseen() if here["la_code"] in plans)
        differences += [each for each in others if each is not None]
        missing = Counter(each.la_code for each in differences if each.kind is DifferenceKind.UNKNOWN_THERE)
        cut_off = {la_code: missing[la_code] for la_code in plans if seems_cut_off(missing[la_code], plans[la_code])}
        not_told = {} if yes else cut_off
        for la_code, count in plans.items() if not dry_run else ():
            if la_code not in not_told:
                of_council = (each for each in differences if each.la_code == la_code)
                await exchange.put_comparison(la_code, told(of_council, count, findings.refused))
    counts = Counter(each.kind.value for each in differences)
    return {
        "extract": str(asked.path),
        "dry_run": dry_run,
        "plans": plans.total(),
        "rows_refused": findings.refused,
        "not_told": not_told,
        "counts": dict(counts),
        "differences": [each.as_row() for each in differences],
    }


def seems_cut_off(missing: int, there: int) -> bool:
    """Of the plans of one council, ``there`` are in the extract and ``missing`` live here only. Half an extract would raise an
    alert for every plan of the other half."""
    return missing > FEW and missing * 5 >= missing + there


def write_csv(file: Path, differences: list[Row]) -> None:
    file.write_bytes(csv_of(CSV_COLUMNS, differences).encode("utf-8-sig"))
