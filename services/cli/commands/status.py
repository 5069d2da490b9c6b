"""`ehcp status`: what runs, and how many shares are in which state."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from services.cli.exchange import Exchange, Reach
from services.cli.machine.errors import MachineError
from services.cli.machine.folder import DataFolder
from services.cli.options import DEFAULT_HOME, AsJson, Home
from services.cli.output import Exit, RefusedError, err, out, print_json, print_table, run
from services.cli.shares import in_order, print_shares, row_of

PART_COLUMNS = {"name": "Part", "state": "State", "pid": "Process", "restarts": "Restarts", "last_exit": "Last end"}


def status(
    shares: Annotated[bool, typer.Option("--shares", help="List every share.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show what runs and how the shares stand."""
    found = run(look(home))
    if as_json:
        print_json(found)
    else:
        out.print(f"{found['phase']}", style="bold")
        if found["parts"]:
            print_table(PART_COLUMNS, found["parts"])
        if found["counts"]:
            out.print()
            print_table({"status": "Shares", "count": "Count"}, found["counts"])
        if shares:
            out.print()
            print_shares(found["shares"])
        if found["addresses"]:
            out.print()
            for name, address in found["addresses"].items():
                out.print(f"{name}: {address}", markup=False, soft_wrap=True)
        if found["trouble"]:
            err.print(found["trouble"], style="red", markup=False)
    if found["phase"] == "not running":
        raise typer.Exit(Exit.UNREACHABLE)


async def look(home: Path) -> dict[str, Any]:
    folder = DataFolder(home)
    folder.open()
    found: dict[str, Any] = {"home": str(folder.path), "phase": "not running", "parts": [], "addresses": {}}
    if folder.supervisor() is not None:
        found |= read_status(folder)
    found |= {"counts": [], "shares": [], "trouble": None}
    try:
        async with Exchange(Reach.of(home)) as exchange:
            holders = [holder async for holder in exchange.holders()]
    except (MachineError, RefusedError) as error:
        found["trouble"] = str(error)
    else:
        counts = Counter(holder["status"] for holder in holders)
        found["counts"] = [{"status": name, "count": count} for name, count in counts.most_common()]
        found["shares"] = [row_of(holder) for holder in in_order(holders)]
    return found


def read_status(folder: DataFolder) -> dict[str, Any]:
    """What the supervisor last wrote down; it writes at every change."""
    try:
        status: dict[str, Any] = orjson.loads(folder.status_file.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return {"phase": "starting", "parts": []}
    return status
