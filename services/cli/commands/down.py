"""`ehcp down`: stops everything that `ehcp up` started; `--wipe` removes its data too."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import psutil
import typer

from services.cli.machine.errors import MachineError
from services.cli.machine.folder import DataFolder
from services.cli.machine.supervisor import stop_leftovers
from services.cli.options import DEFAULT_HOME, AsJson, DryRun, Home
from services.cli.output import err, out, print_json, run

STOP_WITHIN_SECONDS = 90


def down(
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove the data folder too: plans, records, keys.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Stop the machine. Harmless when it does not run."""
    done = run(stop(home, wipe=wipe, dry_run=dry_run))
    if as_json:
        print_json(done)
    else:
        out.print("\n".join(done["done"]), markup=False)


async def stop(home: Path, *, wipe: bool, dry_run: bool) -> dict[str, list[str]]:
    folder = DataFolder(home)
    if not folder.exists():
        return {"done": [f"there is no machine in {folder.path}"]}
    try:
        folder.open()
    except MachineError:
        if not wipe:
            raise
    supervisor = folder.supervisor()
    done = []
    if dry_run:
        done.append(f"would stop process {supervisor.pid}" if supervisor else "nothing runs")
        return {"done": [*done, f"would remove {folder.path}"] if wipe else done}
    if supervisor is not None:
        err.print("stopping …")
        await asyncio.to_thread(end, supervisor)
        done.append("stopped")
    left = await asyncio.to_thread(stop_leftovers, folder.run_file)
    done += [f"{name} was left over from a run that was killed; stopped" for name in left]
    if wipe:
        await asyncio.to_thread(folder.wipe)
        done.append(f"removed {folder.path}")
    return {"done": done or ["nothing runs"]}


def end(supervisor: psutil.Process) -> None:
    try:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait(STOP_WITHIN_SECONDS)
    except psutil.NoSuchProcess:
        pass
    except psutil.TimeoutExpired:
        raise MachineError(
            f"It did not stop within {STOP_WITHIN_SECONDS} s; process {supervisor.pid} may be killed, and `ehcp down` "
            "then stops what it leaves."
        ) from None
