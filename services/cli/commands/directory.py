"""`ehcp directory`: the organisations that plans go to, and their import from the national registers."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn
from rich.progress import Progress as Bar

from schemas.base import Channel, RecipientKind
from services.cli.commands.import_ import found_errors
from services.cli.directories import gias, ods, sending
from services.cli.directories.entries import Delivery, Entries
from services.cli.exchange import Exchange, Reach, Row
from services.cli.importing.faults import NOT_SENT, Findings
from services.cli.machine.errors import UsageError
from services.cli.options import DEFAULT_HOME, AsJson, DryRun, Home
from services.cli.output import Exit, RefusedError, err, out, print_json, print_table, run

app = typer.Typer(no_args_is_help=True, help="The organisations that plans go to.")
FAULTS_SHOWN = 10
COLUMNS = {
    "code": "Code",
    "recipient": "Name",
    "kind": "Kind",
    "dates": "Valid",
    "subscriber": "Subscriber",
    "channel": "Channel",
    "areas": "Areas",
}


@app.command("list")
def list_(
    words: Annotated[str | None, typer.Argument(help="Words of the name, or a code without its scheme.")] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Organisations of the directory, in order of their names."""
    found = run(find(home, words=words))
    if as_json:
        print_json(found)
    else:
        print_table(
            COLUMNS, [row_of(each) for each in found], ("areas", "channel"), empty="No organisation of the directory fits."
        )


@app.command()
def show(
    code: Annotated[str, typer.Argument(help="scheme:value, such as urn:100001 or ods:RNA.")],
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Everything about the organisations that have this code, or once had it."""
    found = run(find(home, code=code))
    if as_json:
        print_json(found)
        return
    for each in found:
        out.print(f"{each['name']} ({each['kind']})", markup=False, style="bold", soft_wrap=True)
        for dated in each["codes"]:
            out.print(f"  {dated['scheme']}:{dated['value']}  {period(dated)}", markup=False)
        for name in ("subscriber", "channel", "contact", "areas", "successors"):
            value = each[name]
            if value:
                out.print(f"  {name}: {', '.join(value) if isinstance(value, list) else value}", markup=False, soft_wrap=True)
        if not each["subscriber"]:
            out.print("  nobody delivers to it: name its subscriber before a plan goes there", style="yellow")


async def find(home: Path, *, words: str | None = None, code: str | None = None) -> list[Row]:
    async with Exchange(Reach.of(home)) as exchange:
        found = [row async for row in exchange.directory(words=words, code=code)]
    if code and not found:
        raise RefusedError(f"{code} is not in the directory, and never was.")
    return found


def row_of(found: Row) -> Row:
    first = found["codes"][0]
    return {
        "code": f"{first['scheme']}:{first['value']}", "recipient": found["name"], "kind": found["kind"],
        "dates": period(first), "subscriber": found["subscriber"], "channel": found["channel"],
        "areas": ", ".join(found["areas"]),
    }  # fmt: skip


def period(dated: Row) -> str:
    from_ = "" if dated["from"] <= "1900-01-01" else f"from {dated['from']}"
    return " ".join(part for part in (from_, f"until {dated['until']}" if dated["until"] else "") if part)


@app.command("import")
def import_(
    gias_file: Annotated[
        Path | None,
        typer.Option("--gias", exists=True, dir_okay=False, help="The schools register's CSV of all establishments."),
    ] = None,
    ods_file: Annotated[
        Path | None, typer.Option("--ods", exists=True, dir_okay=False, help="A CSV of the NHS register: epraccur, etr, eccg …")
    ] = None,
    links: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The register's file of links or successions.")
    ] = None,
    kind: Annotated[RecipientKind | None, typer.Option(help="With --ods: what the file lists.")] = None,
    council: Annotated[
        list[str] | None, typer.Option(help="With --gias: only schools of this LA code. May be repeated.")
    ] = None,
    subscriber: Annotated[str | None, typer.Option(help="Who delivers to organisations that are new here.")] = None,
    channel: Annotated[Channel, typer.Option(help="How, for organisations that are new here.")] = Channel.INBOX,
    errors: Annotated[Path | None, typer.Option(help="Where rows that cannot be taken are written.")] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Take organisations in from a national register. May be repeated: what is known here of their delivery stays."""
    file = gias_file or ods_file
    delivery = Delivery(subscriber, channel)
    result = run(
        take_in(file, gias_file, ods_file, links, kind, frozenset(council or ()), delivery, errors, home, dry_run=dry_run)
    )
    if as_json:
        print_json(result)
    else:
        show_result(result)
    if result["refused"]:
        raise typer.Exit(Exit.CHECK_FAILED)


async def take_in(
    file: Path | None, gias_file: Path | None, ods_file: Path | None, links: Path | None, kind: RecipientKind | None,
    councils: frozenset[str], delivery: Delivery, errors: Path | None, home: Path, *, dry_run: bool,
) -> Row:  # fmt: skip
    if file is None or (gias_file and ods_file):
        raise UsageError("Name one register's file: --gias FILE or --ods FILE.")
    with found_errors(errors or file.with_name(f"{file.name}.import")) as findings:
        if gias_file:
            entries = gias.read(gias_file, gias.read_links(links) if links else {}, delivery, councils)
        else:
            entries = ods.read(file, ods.kind_of(file, kind), ods.read_links(links) if links else {}, delivery)
        totals = await count_or_send(file, entries, findings, home, dry_run=dry_run)
    return {
        "file": str(file), "dry_run": dry_run, "rows": totals.rows, "kinds": dict(sorted(totals.kinds.items())),
        "left_out": dict(sorted(totals.left_out.items())), "refused": totals.results.pop("refused", 0),
        "results": dict(sorted(totals.results.items())), "noted": findings.noted, "faults": findings.shown,
        "errors": str(findings.folder) if findings.folder and findings.folder.is_dir() else None,
    }  # fmt: skip


async def count_or_send(file: Path, entries: Entries, findings: Findings, home: Path, *, dry_run: bool) -> sending.Totals:
    with Bar("[progress.description]{task.description}", BarColumn(), console=err, transient=True) as bar:
        task = bar.add_task(file.name, total=None)

        def done(count: int) -> None:
            bar.advance(task, count)

        if dry_run:
            return sending.count_only(entries, findings, done)
        async with Exchange(Reach.of(home)) as exchange:
            return await sending.send(exchange, entries, findings, done)


def show_result(result: Row) -> None:
    rows = [{"what": f"{kind} in the file", "count": count} for kind, count in result["kinds"].items()]
    rows += [{"what": f"{name} here", "count": count} for name, count in result["results"].items()]
    rows += [{"what": f"left out: {why}", "count": count} for why, count in result["left_out"].items()]
    rows += [{"what": "refused", "count": result["refused"]}, {"what": "taken with a note", "count": result["noted"]}]
    print_table({"what": "What", "count": "Count"}, [row for row in rows if row["count"]])
    for fault in result["faults"][:FAULTS_SHOWN]:
        where = f"{fault['file']} line {fault['line']} {fault['column']}".rstrip()
        style = "red" if fault["effect"] == NOT_SENT else "yellow"
        err.print(f"{where}: {fault['problem']}; {fault['instead']}", style=style, markup=False, soft_wrap=True)
    if result["errors"]:
        err.print(f"All of them, with their rows: {result['errors']}", markup=False, soft_wrap=True)
    if result["dry_run"]:
        err.print("Nothing was sent.", style="dim")
