"""`ehcp sample`: what an inspector would find in the real records of some children, as a signed report."""

import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer

from schemas.base import RecipientKind
from services.cli import inspection
from services.cli.exchange import Exchange, ProblemError, Reach, Row
from services.cli.machine.errors import UsageError
from services.cli.machine.folder import write_private
from services.cli.options import DEFAULT_HOME, AsJson, Home
from services.cli.output import Exit, csv_of, err, out, print_json, print_table, run

LOOK_EVERY = 1.0
SPARE_COLUMNS = ("not_seen", "altered", "older_version", "absent")


def sample(
    n: Annotated[int, typer.Option("--n", min=1, max=1000, help="How many children to draw.")] = 50,
    children: Annotated[
        Path | None,
        typer.Option("--children", help="The inspector's own choice: a file of case references or NHS numbers, one a line."),
    ] = None,
    agency: Annotated[
        str | None, typer.Option("--agency", help="Only one agency: a code such as ods:RNA, or a kind such as trust.")
    ] = None,
    seed: Annotated[str | None, typer.Option("--seed", help="Of the draw, best given by the inspector.")] = None,
    council: Annotated[str | None, typer.Option("--council", help="LA code, where the client acts for several.")] = None,
    look: Annotated[str | None, typer.Option("--look", help="Make the report of an earlier look anew.")] = None,
    wait: Annotated[int, typer.Option("--wait", min=0, help="Seconds to wait for the records.")] = 300,
    file: Annotated[
        Path | None, typer.Option("--out", help="The report's file; its text and CSV are written beside it.")
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Look into the real records of children drawn at random, or chosen, and say what an inspector would find.

    Exit code 1 when a record that was looked into does not hold the current version.
    """
    if children is not None and (seed is not None or look is not None):
        raise typer.BadParameter("--children is a choice; --seed and --look go with a draw and an earlier look.")
    chosen = read_children(children) if children else None
    signed = run(_ask(home, request_of(n, chosen, agency, seed, council), look, wait))
    document = signed["document"]
    lines = dict(enumerate(chosen, 1)) if chosen else {}
    files = save(signed, file or Path(name_of(document)), lines)
    if as_json:
        print_json(signed)
    else:
        show(document, lines)
        err.print(f"Signed report: {files[0]} (`ehcp verify` checks it); as text {files[1]}, as CSV {files[2]}", soft_wrap=True)
    if not inspection.is_right(document):
        raise typer.Exit(Exit.CHECK_FAILED)


def request_of(n: int, chosen: dict[int, str] | None, agency: str | None, seed: str | None, council: str | None) -> Row:
    request: Row = {"la_code": council} if council else {}
    if chosen is not None:
        request["children"] = list(chosen.values())
    else:
        request["draw"] = {"n": n} | ({"seed": seed} if seed else {})
    if agency:
        scheme, colon, value = agency.partition(":")
        if colon:
            request["agency"] = {"scheme": scheme, "value": value}
        elif agency in set(RecipientKind):
            request["kind"] = agency
        else:
            raise typer.BadParameter(f"--agency is a code such as ods:RNA, or one of {', '.join(RecipientKind)}.")
    return request


def read_children(file: Path) -> dict[int, str]:
    """Case references and NHS numbers by line; empty lines and those that begin with # are none."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8-sig")
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{file} is no text in UTF-8.") from None
    lines = {number: line.strip() for number, line in enumerate(text.splitlines(), 1)}
    found = {number: line for number, line in lines.items() if line and not line.startswith("#")}
    if not found:
        raise typer.BadParameter(f"{file} names no child: one case reference or NHS number on each line.")
    return found


async def _ask(home: Path, request: Row, look: str | None, wait: int) -> Row:
    async with Exchange(Reach.of(home)) as exchange:
        if look is None:
            try:
                asked = await exchange.ask_look(request)
            except ProblemError as error:
                if error.kind != "which-council":
                    raise
                raise UsageError(f"--council says whose children: {error.problem['errors'][0]['instead']}.") from None
            look = asked["look_id"]
            err.print(f"Looking into {asked['shares']} records of {asked['children']} children (look {look}) …", soft_wrap=True)
        until = time.monotonic() + wait
        while True:
            progress = await exchange.look(str(look))
            if not progress["waiting_for"] or time.monotonic() >= until:
                break
            await asyncio.sleep(LOOK_EVERY)
        if progress["waiting_for"]:
            silent = ", ".join(f"{name}: {count}" for name, count in progress["waiting_for"].items())
            err.print(f"Not answered within {wait} s: {silent}", style="yellow", soft_wrap=True)
        return await exchange.look_report(str(look))


def name_of(document: Row) -> str:
    on = datetime.fromisoformat(document["asked_at"]).astimezone(UTC).date()
    return f"sample-{document['la_code']}-{on}-{document['look_id'][-8:]}.json"


def save(signed: Row, file: Path, lines: dict[int, int]) -> tuple[Path, Path, Path]:
    """Readable by this user alone: it names children's plans."""
    rows = csv_of(inspection.ROW_COLUMNS, inspection.rows(signed["document"]))
    files = file, file.with_suffix(".txt"), file.with_suffix(".csv")
    contents = (
        orjson.dumps(signed, option=orjson.OPT_INDENT_2), inspection.text(signed["document"], lines).encode(),
        rows.encode("utf-8-sig"),
    )  # fmt: skip
    try:
        for each, content in zip(files, contents, strict=True):
            write_private(each, content)
    except OSError as error:
        raise UsageError(f"{file} cannot be written ({error.strerror}).") from None
    return files


def show(document: Row, lines: dict[int, int]) -> None:
    for line in inspection.head(document):
        out.print(line, markup=False, soft_wrap=True)
    out.print()
    print_table(inspection.TOTALS, inspection.totals(document), SPARE_COLUMNS)
    for line in inspection.rest(document, lines):
        out.print(line, markup=False, soft_wrap=True)
