"""`ehcp up`: everything on one machine, from nothing to filed sample plans, and a table that says so."""

import asyncio
import contextlib
import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from services.cli.commands.status import read_status
from services.cli.exchange import Exchange, Reach, Row
from services.cli.machine.config import Overrides
from services.cli.machine.errors import MachineError, UsageError
from services.cli.machine.folder import DataFolder
from services.cli.machine.machine import READY_WITHIN_SECONDS, Machine, Wishes
from services.cli.machine.sandbox import PLANS
from services.cli.machine.supervisor import last_line
from services.cli.options import DEFAULT_HOME, AsJson, Home
from services.cli.output import Exit, err, print_json, run
from services.cli.publishing import collect, publish_all
from services.cli.shares import in_order, is_settled, print_shares, row_of
from services.cli.watching import Watch

DEADLINE_SECONDS = 600.0
# Without --once nobody waits for a verdict: what is not filed by then is shown as it stands.
TABLE_WITHIN_SECONDS = 60.0
LOOK_EVERY_SECONDS = 0.5
READY = "ready"
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Asked:
    home: Path
    wishes: Wishes
    once: bool
    as_json: bool
    deadline_seconds: float
    samples: bool
    detached: bool = False
    """Nobody sees what is printed: it goes into a log, where no plan belongs. Who started it reads the status file."""


def up(
    detach: Annotated[bool, typer.Option("--detach", help="Return when all is ready and leave it running.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Stop when all that can be filed is filed.")] = False,
    deadline: Annotated[float, typer.Option(help="With --once: seconds to get there, set-up included.")] = DEADLINE_SECONDS,
    brokers: Annotated[int | None, typer.Option(help="Kafka brokers: 1 or 3. As before, else 1.")] = None,
    port: Annotated[list[str] | None, typer.Option(help="NAME=NUMBER: this port and no other.")] = None,
    samples: Annotated[bool, typer.Option("--samples/--no-samples", help="Publish the sample plans.")] = True,
    detached: Annotated[bool, typer.Option("--detached", hidden=True)] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Start everything on this machine and get the sample plans filed. Ctrl-C stops it cleanly."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a broker that is still starting is no news
    if detach and once:
        err.print("--detach and --once exclude each other.", style="red")
        raise typer.Exit(Exit.USAGE)
    asked = run(understood(home, brokers, port or [], once=once, as_json=as_json, deadline=deadline, samples=samples))
    asked = replace(asked, detached=detached)
    if detach:
        run(start_detached(home, sys.argv[1:], as_json=as_json))
        return
    raise typer.Exit(run(bring_up(asked)))


async def understood(
    home: Path, brokers: int | None, ports: list[str], *, once: bool, as_json: bool, deadline: float, samples: bool
) -> Asked:
    chosen = {}
    for text in ports:
        name, _, number = text.partition("=")
        if not number.isdecimal() or not 0 < int(number) < 65536:
            raise UsageError(f"--port {text}: write it as NAME=NUMBER, for example ehcp_publisher=8101.")
        chosen[name] = int(number)
    return Asked(home, Wishes(brokers, chosen, Overrides.of(os.environ)), once, as_json, deadline, samples)


async def bring_up(asked: Asked) -> Exit:
    folder = DataFolder(asked.home)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    started = time.monotonic()
    with Watch(folder) as watch:
        machine = watch.machine = Machine(folder, asked.wishes, watch.tell)
        try:
            watch.enter("setting up")
            await unless_stopped(stop, machine.start(asked.deadline_seconds if asked.once else READY_WITHIN_SECONDS))
            refusals = await unless_stopped(stop, publish_samples(folder, watch)) if asked.samples else []
            watch.enter("waiting for the plans to be filed")
            within = asked.deadline_seconds - (time.monotonic() - started) if asked.once else TABLE_WITHIN_SECONDS
            holders = await unless_stopped(stop, follow(asked.home, watch, within))
            watch.pause()
            if not asked.detached:
                show(holders, refusals, as_json=asked.as_json)
            if asked.once:
                return verdict(holders, refusals, asked)
            if not asked.detached:
                for name, address in machine.addresses().items():
                    err.print(f"{name}: {address}", markup=False, soft_wrap=True)
                err.print("Ready. Ctrl-C stops it; `ehcp status` and `ehcp who PLAN` show more.")
            watch.phase = READY
            watch.write_status(
                addresses=machine.addresses(), refused=[{name: row[name] for name in ("file", "problem")} for row in refusals]
            )
            with watch:
                await stop.wait()
        except StoppedError:
            pass
        finally:
            watch.pause()
            if machine.supervises:
                watch.enter("stopping")
            await machine.stop()
    return Exit.CHECK_FAILED if asked.once else Exit.OK


class StoppedError(Exception):
    """The person pressed Ctrl-C, or `ehcp down` was called."""


async def unless_stopped(stop: asyncio.Event, work: Coroutine[None, None, Result]) -> Result:
    """The work's result; raises StoppedError as soon as somebody wants to stop."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise StoppedError
    finally:
        for task in (working, stopping):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


async def publish_samples(folder: DataFolder, watch: Watch) -> list[Row]:
    """Hands the sample plans to the publisher, once for each data folder; returns what was refused."""
    plans = await asyncio.to_thread(collect, PLANS)
    fingerprint = hashlib.sha256(b"".join(version.content.submission for plan in plans for version in plan)).hexdigest()
    if folder.remembered.samples == fingerprint:
        return []
    watch.enter("publishing the sample plans")
    total, done = sum(map(len, plans)), 0

    def count(_row: Row) -> None:
        nonlocal done
        done += 1
        watch.progress(f"{done} of {total}")

    async with Exchange(Reach.of(folder.path)) as exchange:
        rows = await publish_all(exchange, plans, None, count)
    refused = [row for row in rows if row["result"] == "refused"]
    if not refused:
        folder.remembered.samples = fingerprint
        folder.save()
    return refused


async def follow(home: Path, watch: Watch, within_seconds: float) -> list[Row]:
    """Looks until machines have done what they can, or the time is up; returns all shares as they then stand."""
    until = time.monotonic() + within_seconds
    async with Exchange(Reach.of(home)) as exchange:
        while True:
            holders: list[Row] = []
            # A service that is being restarted is asked again.
            with contextlib.suppress(MachineError):
                holders = [holder async for holder in exchange.holders()]
                settled = sum(map(is_settled, holders))
                watch.progress(f"{settled} of {len(holders)} shares")
                if settled == len(holders):
                    return in_order(holders)
            if time.monotonic() >= until:
                return in_order(holders)
            await asyncio.sleep(LOOK_EVERY_SECONDS)


def show(holders: list[Row], refusals: list[Row], *, as_json: bool) -> None:
    if as_json:
        print_json([row_of(holder) for holder in holders])
    else:
        print_shares([row_of(holder) for holder in holders])
    for row in refusals:
        err.print(f"{row['file']}: {row['problem']}", style="red", markup=False, soft_wrap=True)


def verdict(holders: list[Row], refusals: list[Row], asked: Asked) -> Exit:
    """For --once: whether all that could be filed is filed; says what is not."""
    open_shares = [holder for holder in holders if not is_settled(holder)]
    for holder in open_shares:
        reason = holder["reason"] or "no receipt yet"
        text = f"{holder['case_reference']} → {holder['recipient']}: {holder['status']}, {reason}"
        err.print(text, style="red", markup=False, soft_wrap=True)
    if open_shares or refusals or (asked.samples and not holders):
        err.print(
            f"{len(open_shares)} of {len(holders)} shares not done within {asked.deadline_seconds:.0f} s, "
            f"{len(refusals)} versions refused.",
            style="red",
        )
        return Exit.CHECK_FAILED
    return Exit.OK


async def start_detached(home: Path, arguments: list[str], *, as_json: bool) -> None:
    """Starts the same command in a process of its own and returns when that is ready."""
    folder = DataFolder(home)
    folder.create()
    supervisor = folder.supervisor()
    if supervisor is not None:
        raise UsageError(f"It is already running (process {supervisor.pid}): `ehcp status` shows it, `ehcp down` stops it.")
    folder.status_file.unlink(missing_ok=True)
    log = folder.logs / "supervisor.log"
    words = ["--detached" if word == "--detach" else word for word in arguments if word != "--json"]
    process = spawn_detached(log, words)
    status: Row = {}
    shown = ""
    while status.get("phase") != READY:
        if process.poll() is not None:
            raise MachineError(f"It ended while starting: {last_line(log)} (all of it in {log})")
        await asyncio.sleep(0.2)
        status = read_status(folder)
        if status["phase"] != shown:
            shown = status["phase"]
            err.print(shown)
    async with Exchange(Reach.of(home)) as exchange:
        holders = in_order([holder async for holder in exchange.holders()])
    show(holders, status["refused"], as_json=as_json)
    for name, address in status["addresses"].items():
        err.print(f"{name}: {address}", markup=False, soft_wrap=True)
    err.print(f"Running as process {process.pid}; `ehcp down` stops it.")


def spawn_detached(log: Path, arguments: list[str]) -> "subprocess.Popen[bytes]":
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "services.cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
