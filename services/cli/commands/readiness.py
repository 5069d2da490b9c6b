"""`ehcp readiness`: how many plans could be delivered today, and what the others lack."""

from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from services.cli.commands.import_ import (
    Corrections,
    Council,
    DocumentsOption,
    ProfileOption,
    bar_for,
    london_today,
    profile_of,
)
from services.cli.exchange import Exchange, Reach, Row
from services.cli.importing.comparing import LIVE
from services.cli.importing.faults import Findings
from services.cli.importing.opening import Asked, opened
from services.cli.importing.readiness import Listed, Readiness, lacks_here
from services.cli.machine.errors import MachineError
from services.cli.options import DEFAULT_HOME, AsJson, Home
from services.cli.output import err, out, plain_errors, print_json, print_table, run
from services.shared.law.counting import london_date

WORDS = {
    "document": "neither a document nor a text",
    "nhs_number": "no NHS number: no clinical record can be found",
    "recipient": "nobody to send it to",
    "held": "something that waits for a second person: `ehcp confirmations`",
    "correction": "a row that is refused: `ehcp import --dry-run` says which",
}
SHOWN = 20


def readiness(
    path: Annotated[Path | None, typer.Argument(help="A council's extract; without one, the plans of the exchange.")] = None,
    profile: ProfileOption = None,
    council: Council = None,
    documents: DocumentsOption = None,
    corrections: Corrections = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Say how many plans could be delivered today and what the others lack."""
    if path is None:
        found = run(of_exchange(home, council))
    else:
        asked = Asked(path, profile_of(profile, home), london_today(), council, documents, tuple(corrections or ()))
        with plain_errors():
            found = run(of_extract(asked, home))
    if as_json:
        print_json(found)
        return
    share = f" ({found['share_ready']:.1%})" if found["plans"] else ""
    out.print(f"{found['ready']} of {found['plans']} plans in force could be delivered today{share}.")
    if why_not := found.get("directory_not_asked"):
        out.print("The directory was not asked, so whoever is named counts as somebody to send it to.")
        err.print(why_not, style="dim", markup=False, soft_wrap=True)
    if found["with_share_gaps"]:
        out.print(f"In {found['with_share_gaps']} plans somebody is involved who has no share: `ehcp gaps` lists them.")
    for each in found.get("compared", ()):
        print_compared(each)
    if found["lacking"]:
        rows = [{"what": WORDS[name], "count": count} for name, count in found["lacking"].items()]
        print_table({"what": "The others have", "count": "Plans"}, rows)
        lines = [{"case_reference": each["case_reference"], "lacks": ", ".join(each["lacks"])} for each in found["not_ready"]]
        print_table({"case_reference": "Plan", "lacks": "Lacks"}, lines[:SHOWN])
        if len(lines) > SHOWN:
            out.print("… --json lists more.")


def print_compared(comparison: Row) -> None:
    """So that a council which has stopped comparing is seen to have."""
    on = london_date(datetime.fromisoformat(comparison["compared_at"]))
    differing = comparison["not_here"] + sum(comparison["differences"].values())
    out.print(
        f"Council {comparison['la_code']} last compared its case system on {on}: {differing} differences."
        " `ehcp reconcile extract` compares anew."
    )


async def of_exchange(home: Path, council: str | None) -> Row:
    counted = Readiness()
    async with Exchange(Reach.of(home)) as exchange:
        async for plan in exchange.plans():
            if plan["state"] in LIVE and council in (None, plan["la_code"]):
                counted.take(plan["case_reference"], lacks_here(plan), plan["gaps"])
        compared = [each for each in await exchange.comparisons() if council in (None, each["la_code"])]
    return {"of": "exchange", **counted.as_row(), "compared": compared}


async def of_extract(asked: Asked, home: Path) -> Row:
    """Whether its codes lead to somebody is looked up in the directory, while the exchange answers."""
    counted = Readiness()
    async with AsyncExitStack() as stack:
        try:
            exchange = await stack.enter_async_context(Exchange(Reach.of(home)))
            listed = Listed(lambda code: exchange.directory(code=code), asked.today)
        except MachineError as error:
            listed = Listed(None, asked.today, str(error))
        with opened(asked, Findings()) as extract, bar_for(extract) as advance:
            for plan in extract.plans():
                if not plan.over:
                    counted.take(plan.case_reference, await listed.lacks(plan))
                advance()
    return {"of": str(asked.path), **counted.as_row(), "directory_not_asked": listed.why_not}
