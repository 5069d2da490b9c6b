"""`ehcp publish`: hands plan versions from files to the publisher, or a plan that another exchange exported."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from schemas.export import still_in_force
from services.cli.exchange import Exchange, Reach, Row, sentence
from services.cli.exported import ARCHIVE, TakenOut, take_over, unpacked
from services.cli.machine.errors import UsageError
from services.cli.options import DEFAULT_HOME, AsJson, By, DryRun, Home
from services.cli.output import Exit, err, plain_errors, print_json, print_table
from services.cli.publishing import VersionFile, check, collect, in_name_of, publish_all

COLUMNS = {
    "case_reference": "Plan",
    "result": "Result",
    "version": "Version",
    "plan_id": "Plan id",
    "recipients": "Goes to",
    "problem": "Remark",
}
BATCH = ".ndjson"


def publish(
    path: Annotated[
        Path, typer.Argument(help="A submission (JSON), a batch (.ndjson), a folder of plans, or an exported plan (.zip).")
    ],
    document: Annotated[Path | None, typer.Option(help="The PDF that goes with the file.", dir_okay=False)] = None,
    council: Annotated[str | None, typer.Option(help="LA code to act for; else the one in the file.")] = None,
    case_reference: Annotated[
        str | None, typer.Option(help="Of an exported plan: your own reference; else it keeps the one it had.")
    ] = None,
    by: By = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Issue plan versions. Sending the same again is harmless."""
    with plain_errors():
        rows = publish_path(path, document, council, case_reference, by, home, dry_run=dry_run)
    if as_json:
        print_json(rows)
    else:
        print_table(COLUMNS, [{**row, "recipients": recipients_of(row), "problem": remark_on(row)} for row in rows])
    if any(row["result"] in ("refused", "held") for row in rows):
        raise typer.Exit(Exit.CHECK_FAILED)


def publish_path(
    path: Path, document: Path | None, council: str | None, case_reference: str | None, by: str | None, home: Path, *,
    dry_run: bool,
) -> list[Row]:  # fmt: skip
    if path.suffix == ARCHIVE:
        if council is None or document is not None:
            raise UsageError("An exported plan needs --council, the LA code that it goes to, and has its documents in it.")
        with unpacked(path, council, case_reference) as taken:
            if warning := still_in_force(taken.described.la_code, taken.described.state):
                err.print(warning, style="yellow", markup=False, soft_wrap=True)
            if dry_run:
                return [check(version) for version in taken.versions]
            return asyncio.run(take_over_plan(home, taken, council, by))
    if case_reference is not None:
        raise UsageError("--case-reference belongs to an exported plan (.zip).")
    if document is not None and not document.is_file():
        raise UsageError(f"There is no {document}.")
    if path.suffix != BATCH:
        plans = collect(path, document)
        if dry_run:
            return [check(version) for plan in plans for version in plan]
        return asyncio.run(publish_files(home, plans, council, by))
    if not path.is_file():
        raise UsageError(f"There is no {path}.")
    if council is None:
        raise UsageError("A batch needs --council, the LA code whose case system sends it.")
    if dry_run:
        raise UsageError("--dry-run judges files and folders, not batches.")
    return asyncio.run(publish_batch(home, path.read_bytes(), council, by))


async def publish_files(home: Path, plans: list[list[VersionFile]], council: str | None, by: str | None) -> list[Row]:
    async with Exchange(Reach.of(home)) as exchange:
        with Progress(console=err, transient=True) as progress:
            task = progress.add_task("publishing", total=sum(map(len, plans)))
            return await publish_all(exchange, plans, council, lambda _row: progress.advance(task), by)


async def take_over_plan(home: Path, taken: TakenOut, council: str, by: str | None) -> list[Row]:
    async with Exchange(Reach.of(home)) as exchange:
        return await take_over(exchange, taken, council, by)


async def publish_batch(home: Path, lines: bytes, council: str, by: str | None) -> list[Row]:
    if by:
        lines = b"\n".join(in_name_of(line, by) for line in lines.split(b"\n"))
    async with Exchange(Reach.of(home)) as exchange:
        answers = await exchange.issue_batch(f"case-system-{council}", lines)
    for answer in answers:
        if "problem" in answer:
            problem = answer["problem"]
            answer |= {"result": "refused", "answer": problem}
            answer["problem"] = f"line {answer['line']}: {sentence(problem, answer['status'])}"
    return answers


def remark_on(row: Row) -> str | None:
    """Why a version was refused, or why it goes to nobody."""
    if "reviews" in row:
        return f"where the plan came from, and {row['reviews']} reviews that were held there"
    if row["result"] == "held":
        return " ".join(row["warnings"])
    if row["result"] == "kept_as_history":
        return "older than the current version: kept, and goes to nobody"
    remark: str | None = row.get("problem") or row.get("detail")
    return remark


def recipients_of(row: Row) -> str:
    shares = row.get("shares") or ()
    return ", ".join(str(share["recipient"]) for share in shares)
