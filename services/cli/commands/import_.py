"""`ehcp import`: takes a council's own extract into the exchange."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from itertools import count
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from services.cli.exchange import Exchange, Reach, Row
from services.cli.importing.faults import NOT_SENT, Findings
from services.cli.importing.opening import Asked, opened
from services.cli.importing.plans import Extract
from services.cli.importing.profiles import Profile, load_profile
from services.cli.importing.progress import Progress
from services.cli.importing.sending import Sender, Totals, count_only
from services.cli.options import DEFAULT_HOME, AsJson, By, DryRun, Home
from services.cli.output import Exit, err, plain_errors, print_json, print_table, run

Extracted = Annotated[Path, typer.Argument(help="A folder with the CSVs of a SEN2 return, or one CSV.")]
ProfileOption = Annotated[str | None, typer.Option("--profile", help="A column-mapping profile: a file, or its name.")]
Council = Annotated[str | None, typer.Option("--council", help="LA code, for an extract that does not say it.")]
DocumentsOption = Annotated[
    Path | None, typer.Option("--documents", help="Folder of the PDFs; else the folder `documents`, or the extract's own.")
]
Corrections = Annotated[
    list[Path] | None, typer.Option("--corrections", help="Folder of errors of an earlier run, corrected. May be repeated.")
]

LABELS = {
    "read": "Plans read", "to_correct": "of these to correct",
    "without_content": "without a document or text", "ceased": "ceased",
    "ceased_now": "ceased now", "ceased_before": "ceased before", "ceased_never_here": "ceased, and never here",
    "cease_refused": "whose end was refused",
    "reviews": "Last reviews that can be recorded",
    "reviews_recorded": "Last reviews recorded", "reviews_unchanged": "Last reviews that were here already",
    "reviews_never_here": "Last reviews of plans that are not here", "reviews_refused": "Last reviews refused",
    "valid": "Versions that can be sent", "issued": "Versions issued", "unchanged": "Versions that were here already",
    "held": "Versions held until a second person has looked: `ehcp confirmations`",
    "kept_as_history": "Versions older than the current one, kept", "refused": "Versions refused",
    "answered_before": "Versions answered in a run that was broken off",
}  # fmt: skip
OTHER_LABELS = {
    "rows_refused": "Rows refused", "rows_noted": "Rows with a remark, sent all the same",
    "repeated_rows": "Rows that repeat another", "documents_not_used": "PDFs that belong to no plan",
}  # fmt: skip
FAULTS_SHOWN = 20


def import_(
    path: Extracted,
    profile: ProfileOption = None,
    council: Council = None,
    documents: DocumentsOption = None,
    corrections: Corrections = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder for errors and progress; else PATH.import beside the extract.")
    ] = None,
    by: By = None,
    render: Annotated[bool, typer.Option(help="Make a PDF of versions that have sections and no document.")] = True,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Take in a council's extract: a SEN2 return, or a CSV with PDFs. May be repeated, and broken off at any time."""
    asked = Asked(path, profile_of(profile, home), london_today(), council, documents, tuple(corrections or ()))
    folder = work or path.resolve().with_name(f"{path.resolve().name}.import")
    result = run(preview(asked, folder) if dry_run else take_in(asked, folder, home, by, render=render))
    if as_json:
        print_json(result)
    else:
        show(result)
    plans = result["plans"]
    refused = plans.get("cease_refused") or plans.get("reviews_refused") or result["versions"].get("refused")
    if result["rows_refused"] or refused or result["versions"].get("held"):
        raise typer.Exit(Exit.CHECK_FAILED)


def profile_of(name: str | None, home: Path) -> Profile:
    with plain_errors():
        return load_profile(name, home)


def london_today() -> date:
    """Dates of plans are days in England."""
    return datetime.now(ZoneInfo("Europe/London")).date()


async def preview(asked: Asked, folder: Path) -> Row:
    """Everything but the sending."""
    with found_errors(folder) as findings, opened(asked, findings) as extract, bar_for(extract) as advance:
        totals = count_only(extract, advance)
        result = result_of(asked, extract, totals, findings, dry_run=True)
    return with_errors(result, findings)


async def take_in(asked: Asked, folder: Path, home: Path, by: str | None, *, render: bool, unnamed: str = "import") -> Row:
    """``unnamed``: in whose name plans cease and reviews are recorded where no officer is said, since an event needs one."""
    reach = Reach.of(home)
    async with Exchange(reach) as exchange:
        await exchange.knock()  # one that goes away later is waited for
    progress = Progress(folder / "progress.sqlite", reach.council_url)
    ended = False
    try:
        with found_errors(folder) as findings, opened(asked, findings) as extract, bar_for(extract) as advance:
            async with Exchange(reach) as exchange:
                totals = await Sender(exchange, extract, progress, by, by or unnamed, render=render).send(advance)
            result = result_of(asked, extract, totals, findings, dry_run=False)
        ended = True
    finally:
        progress.close(ended=ended)
    return with_errors(result, findings)


@contextmanager
def found_errors(folder: Path) -> Iterator[Findings]:
    """Errors in a new folder below ``folder``: earlier ones may hold somebody's corrections. None where there are none."""
    for left in folder.glob("errors*.part"):
        shutil.rmtree(left)  # of a run that was killed
    taken = {each.name for each in folder.glob("errors*")}
    name = next(name for n in count(1) if (name := f"errors-{n}") not in taken)
    findings = Findings(folder / f"{name}.part")
    try:
        yield findings
    finally:
        findings.close()
        if findings.folder is not None and findings.folder.is_dir():
            findings.folder = findings.folder.replace(folder / name)


@contextmanager
def bar_for(extract: Extract) -> Iterator[Callable[[], None]]:
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=err, transient=True) as bar:
        task = bar.add_task("plans", total=extract.count())
        yield lambda: bar.advance(task)


def result_of(asked: Asked, extract: Extract, totals: Totals, findings: Findings, *, dry_run: bool) -> Row:
    return {
        "extract": str(asked.path),
        "dry_run": dry_run,
        "plans": dict(totals.plans),
        "versions": dict(totals.versions),
        "rows_refused": findings.refused,
        "rows_noted": findings.noted,
        "repeated_rows": extract.duplicates,
        "documents_not_used": findings.list_unused(extract.unused_documents()),
        "notes": extract.notes(),
        "faults": findings.shown,
    }


def with_errors(result: Row, findings: Findings) -> Row:
    folder = findings.folder
    return result | {"errors": str(folder) if folder is not None and folder.is_dir() else None}


def show(result: Row) -> None:
    counts = {**result["plans"], **result["versions"]}
    rows = [{"what": label, "count": counts[name]} for name, label in LABELS.items() if counts.get(name)]
    for name, label in OTHER_LABELS.items():
        if result[name]:
            rows.append({"what": label, "count": result[name]})
    print_table({"what": "What", "count": "Count"}, rows)
    for note in result["notes"]:
        err.print(note, style="dim", markup=False, soft_wrap=True)
    for fault in result["faults"][:FAULTS_SHOWN]:
        where = f"{fault['file']} line {fault['line']} {fault['column']}".rstrip()
        style = "red" if fault["effect"] == NOT_SENT else "yellow"
        err.print(
            f"{where}: {fault['problem']}; {fault['instead']} ({fault['effect']})", style=style, markup=False, soft_wrap=True
        )
    if result["errors"]:
        err.print(
            f"All of them, with their rows: {result['errors']}. Correct them there, and add --corrections {result['errors']}",
            markup=False, soft_wrap=True,
        )  # fmt: skip
