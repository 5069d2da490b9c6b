"""`ehcp export PLAN`: one plan as an archive, for a council that is not in this exchange."""

import os
from pathlib import Path
from typing import Annotated

import typer

from schemas.export import still_in_force
from schemas.lifecycle import PlanState
from services.cli.commands.plans import one_plan
from services.cli.exchange import Exchange, Reach, Row
from services.cli.machine.errors import UsageError
from services.cli.options import DEFAULT_HOME, AsJson, Home
from services.cli.output import err, out, plain_errors, print_json, run


def export(
    plan: Annotated[str, typer.Argument(help="Plan id, or the council's case reference.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The archive to write (.zip).", dir_okay=False)],
    council: Annotated[str | None, typer.Option(help="LA code to act for; else the one whose plan it is.")] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Write one plan with all its versions, files and history into an archive; `ehcp publish` takes it in elsewhere."""
    with plain_errors():
        if output.exists():
            raise UsageError(f"{output} exists already: give another name.")
    found = run(write(home, plan, output, council))
    written = {
        "plan_id": found["plan_id"], "case_reference": found["case_reference"], "file": str(output),
        "bytes": output.stat().st_size, "warning": still_in_force(found["la_code"], PlanState(found["state"])),
    }  # fmt: skip
    if as_json:
        print_json(written)
        return
    out.print(f"{written['case_reference']}: {written['file']}, {written['bytes']} bytes", markup=False, soft_wrap=True)
    err.print("It is not sealed: whoever has the file can read the plan.", style="yellow")
    if written["warning"]:
        err.print(written["warning"], style="yellow", markup=False, soft_wrap=True)


async def write(home: Path, plan: str, output: Path, council: str | None) -> Row:
    unfinished = output.with_name(f"{output.name}.part")
    async with Exchange(Reach.of(home)) as exchange:
        found = await one_plan(exchange, plan, council)
        try:
            # For this user alone: it is the plan as it can be read.
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                await exchange.export(f"case-system-{council or found['la_code']}", found["plan_id"], file)
            unfinished.rename(output)
        except OSError as error:
            raise UsageError(f"{output} cannot be written ({error.strerror}).") from error
        finally:
            unfinished.unlink(missing_ok=True)
    return found
