"""Runs the machine's parts: one operating system process each, kept alive until told to stop.

Invariants: a part is started only when what it needs is ready; one that dies is started again, waiting longer each time it
dies young, and every such thing is told to the listener; stopping goes the other way round, politely first. Processes get
a session of their own, so that Ctrl-C reaches the supervisor alone, and are written to a run file, so that what a killed
supervisor leaves behind is found and stopped by the next one (`stop_leftovers`).
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import orjson
import psutil

from services.cli.machine.errors import MachineError
from services.cli.machine.folder import write_private

READY_WITHIN_SECONDS = 90.0
FIRST_BACK_OFF_SECONDS = 0.2
LONGEST_BACK_OFF_SECONDS = 10.0
LARGEST_LOG_BYTES = 50 * 2**20  # then one former log is kept beside the new one
# A part that lived this long is taken to have been healthy: its next death starts the back-off from the beginning.
HEALTHY_AFTER_SECONDS = 30.0


class PartState(StrEnum):
    WAITING = "waiting"  # for what it needs
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the machine.

    `prepare` runs before every start of the process, `settle` after it first answers `is_ready` and after every restart:
    both must be repeatable. `user_id` is set only where a program refuses to run as root.
    """

    name: str
    command: Sequence[str]
    log: Path
    is_ready: Callable[[], Awaitable[bool]]
    needs: frozenset[str] = frozenset()
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    prepare: Callable[[], Awaitable[None]] | None = None
    settle: Callable[[], Awaitable[object]] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within_seconds: float = 15.0
    user_id: int | None = None


@dataclass(slots=True)
class PartStatus:
    """What is known of a part now; the live table and `ehcp status` read it."""

    name: str
    state: PartState = PartState.WAITING
    pid: int | None = None
    restarts: int = 0
    last_exit: str | None = None
    trouble: str | None = None  # why it is not ready although it answers


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person watching should read."""

    part: str
    text: str
    trouble: bool = False


class Supervisor:
    def __init__(self, parts: Sequence[Part], *, run_file: Path, tell: Callable[[Event], None] = lambda _event: None) -> None:
        self.parts = {part.name: part for part in parts}
        self.status = {part.name: PartStatus(part.name) for part in parts}
        self._ready = {part.name: asyncio.Event() for part in parts}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._run_file = run_file
        self._tell = _harmless(tell)
        self._stopping = False
        for part in parts:
            unknown = part.needs - self.parts.keys()
            if unknown:
                raise ValueError(f"{part.name} needs parts that do not exist: {sorted(unknown)}")

    async def start(self, within_seconds: float = READY_WITHIN_SECONDS) -> None:
        """Starts everything; returns when all parts are ready.

        Raises MachineError with the reason when a part is not ready in time; what was started keeps running, so that
        the caller decides (`stop`).
        """
        for name in self.parts:
            self._keepers[name] = asyncio.create_task(self._keep(name), name=f"keep {name}")
        ready = asyncio.create_task(self._wait_all_ready())
        try:
            # A keeper ends by itself only with an error that no restart can mend.
            done, _ = await asyncio.wait(
                {ready, *self._keepers.values()}, timeout=within_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ready.cancel()
        if not done:
            late = [name for name, event in self._ready.items() if not event.is_set()]
            raise MachineError(f"Not ready after {within_seconds:.0f} s: {', '.join(late)}. {self._last_words(late)}".strip())
        for task in done - {ready}:
            task.result()

    async def _wait_all_ready(self) -> None:
        for event in self._ready.values():
            await event.wait()

    async def stop(self) -> None:
        """Stops every part, those first that others do not need; returns when all are gone."""
        self._stopping = True
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        left = {name for name, process in self._processes.items() if process.returncode is None}
        while left:
            free = {name for name in left if not any(name in self.parts[other].needs for other in left)} or left
            await asyncio.gather(*(self._stop_one(name) for name in free))
            left -= free
        for status in self.status.values():
            status.state, status.pid = PartState.STOPPED, None
        self._run_file.unlink(missing_ok=True)

    def pid(self, name: str) -> int | None:
        return self.status[name].pid

    async def wait_ready(self, name: str) -> None:
        await self._ready[name].wait()

    async def _keep(self, name: str) -> None:
        """Keeps one part alive: start, wait for its end, start again."""
        part, status = self.parts[name], self.status[name]
        await asyncio.gather(*(self._ready[needed].wait() for needed in part.needs))
        back_off = FIRST_BACK_OFF_SECONDS
        while True:
            status.state = PartState.RESTARTING if status.restarts else PartState.STARTING
            started = time.monotonic()
            try:
                if part.prepare is not None:
                    await part.prepare()
                process = await self._spawn(part)
            except (MachineError, OSError) as error:
                if not status.restarts:
                    raise
                # What worked at the start may fail once (disk full, memory short): a later try may work again.
                self._tell(Event(name, f"could not be started again: {error}", trouble=True))
                await asyncio.sleep(LONGEST_BACK_OFF_SECONDS)
                continue
            status.pid = process.pid
            ending = asyncio.create_task(process.wait())
            readying = asyncio.create_task(self._become_ready(part, status))
            try:
                await asyncio.wait({ending, readying}, return_when=asyncio.FIRST_COMPLETED)
                if readying.done() and not ending.done():
                    readying.result()
                    await ending
            finally:
                readying.cancel()
                ending.cancel()
            self._ready[name].clear()
            lived = time.monotonic() - started
            if lived > HEALTHY_AFTER_SECONDS:
                back_off = FIRST_BACK_OFF_SECONDS
            status.restarts += 1
            status.state, status.pid = PartState.RESTARTING, None
            status.last_exit = describe_exit(process.returncode)
            self._tell(
                Event(name, f"ended ({status.last_exit}); starting it again in {back_off:.1f} s, log {part.log}", trouble=True)
            )
            await asyncio.sleep(back_off)
            back_off = min(back_off * 2, LONGEST_BACK_OFF_SECONDS)

    async def _spawn(self, part: Part) -> asyncio.subprocess.Process:
        part.log.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if part.log.stat().st_size > LARGEST_LOG_BYTES:
                part.log.replace(part.log.with_suffix(".log.old"))
        with part.log.open("ab") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *part.command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=part.folder,
                    env={**os.environ, **part.environment},
                    start_new_session=True,
                    umask=0o077,  # what parts keep are plans and records: for this user alone
                    user=part.user_id,
                    group=part.user_id,
                    extra_groups=None if part.user_id is None else [],
                )
            except OSError as error:
                raise MachineError(f"{part.name} could not be started: {error}") from error
        self._processes[part.name] = process
        self._write_run_file()
        return process

    async def _become_ready(self, part: Part, status: PartStatus) -> None:
        while not await answers(part.is_ready):
            await asyncio.sleep(0.05)
        # What settles a part talks to it over the network like any client: a first failure may be one of the last pains
        # of starting, so it is tried again; a lasting one is named when the time is up.
        while part.settle is not None:
            try:
                await part.settle()
                break
            except Exception as error:
                if isinstance(error, MachineError) and not status.restarts:
                    raise  # says what a person has to do; trying again would only hide it
                status.trouble = f"{type(error).__name__}: {error}"
                await asyncio.sleep(0.2)
        status.trouble = None
        status.state = PartState.READY
        self._ready[part.name].set()
        self._tell(Event(part.name, "ready again" if status.restarts else "ready"))

    async def _stop_one(self, name: str) -> None:
        process, part = self._processes[name], self.parts[name]
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(part.stop_signal)
        try:
            async with asyncio.timeout(part.stop_within_seconds):
                await process.wait()
        except TimeoutError:
            self._tell(Event(name, f"did not stop within {part.stop_within_seconds:.0f} s and was killed", trouble=True))
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _write_run_file(self) -> None:
        processes = []
        for name, process in self._processes.items():
            with contextlib.suppress(psutil.Error):
                if process.returncode is None:
                    created = psutil.Process(process.pid).create_time()
                    stop_signal = int(self.parts[name].stop_signal)
                    processes.append({"name": name, "pid": process.pid, "created": created, "signal": stop_signal})
        try:
            write_private(self._run_file, orjson.dumps(processes, option=orjson.OPT_INDENT_2))
        except OSError as error:
            # The process runs all the same; only a run after this one, should it be killed, would not know of it.
            self._tell(Event("supervisor", f"{self._run_file} cannot be written: {error.strerror}", trouble=True))

    def _last_words(self, names: Sequence[str]) -> str:
        words = []
        for name in names:
            part, status = self.parts[name], self.status[name]
            missing = [needed for needed in part.needs if not self._ready[needed].is_set()]
            if missing:
                continue
            ended = f" ended {status.restarts} times ({status.last_exit})," if status.restarts else ""
            if status.trouble:
                words.append(f"{name}: {status.trouble}")
            words.append(f"{name}:{ended} last words: {last_line(part.log)} (log {part.log})")
        return " ".join(words)


def _harmless(tell: Callable[[Event], None]) -> Callable[[Event], None]:
    """Who is told may fail (a full disk, a closed terminal); what is kept alive must not end with it."""

    def told(event: Event) -> None:
        with contextlib.suppress(OSError):
            tell(event)

    return told


async def answers(is_ready: Callable[[], Awaitable[bool]]) -> bool:
    """False while a part does not answer: any error of a ready check means *not yet*."""
    try:
        return await is_ready()
    except Exception:
        return False


def describe_exit(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-returncode).name}"
    return f"exit code {returncode}"


def last_line(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = log.read_bytes()[-4000:].decode(errors="replace").strip().splitlines()
        if lines:
            return lines[-1]
    return "none"


def stop_leftovers(run_file: Path, *, within_seconds: float = 20.0) -> list[str]:
    """Stops processes of an earlier run that nobody looks after any more; returns their names.

    A process is only touched when its id *and* its start time are those that were written down.
    """
    try:
        entries = orjson.loads(run_file.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return []
    found: list[tuple[str, psutil.Process, int]] = []
    for entry in entries:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(entry["pid"])
            if abs(process.create_time() - entry["created"]) < 0.05:
                found.append((entry["name"], process, entry["signal"]))
    # Services first, engines last: the run file is in order of starting.
    for _, process, stop_signal in reversed(found):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(stop_signal)
    _, alive = psutil.wait_procs([process for _, process, _ in found], timeout=within_seconds)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
    run_file.unlink(missing_ok=True)
    return [name for name, _, _ in found]
