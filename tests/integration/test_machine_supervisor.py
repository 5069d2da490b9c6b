"""The supervisor on real processes: starts in order, starts again what dies, stops everything, finds what was left."""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from services.cli.machine import ports
from services.cli.machine.errors import MachineError
from services.cli.machine.supervisor import Event, Part, PartState, Supervisor, stop_leftovers

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

# A server that answers GET with 200, and says in its log when it begins and that it was asked to end.
SERVER = """
import http.server, signal, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *a): pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer)
def end(*a):
    print("asked to end", flush=True); sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("begins", flush=True)
server.serve_forever()
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def server_part(name: str, folder: Path, port: int, **more: object) -> Part:
    return Part(
        name=name,
        command=[sys.executable, "-c", SERVER, str(port)],
        log=folder / f"{name}.log",
        is_ready=lambda: ports.answers_http(port, "/"),
        **more,  # type: ignore[arg-type]
    )


async def at_once() -> bool:
    return True


async def until(condition: Callable[[], bool], within: float = 60) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.02)


Start = Callable[..., Awaitable[tuple[Supervisor, list[Event]]]]


@pytest_asyncio.fixture(loop_scope="session")
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    running: list[Supervisor] = []

    async def begin(*parts: Part, within: float = 60) -> tuple[Supervisor, list[Event]]:
        events: list[Event] = []
        supervisor = Supervisor(parts, run_file=tmp_path / "run.json", tell=events.append)
        running.append(supervisor)
        await supervisor.start(within)
        return supervisor, events

    yield begin
    for supervisor in running:
        await supervisor.stop()


async def test_a_killed_part_is_started_again_and_said(start: Start, tmp_path: Path) -> None:
    supervisor, events = await start(server_part("one", tmp_path, ports.free_ports(1)[0]))
    pid = supervisor.pid("one")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: supervisor.status["one"].restarts == 1 and supervisor.status["one"].state is PartState.READY)
    assert supervisor.pid("one") != pid
    [said] = [event.text for event in events if event.trouble]
    assert "killed by SIGKILL" in said
    assert "starting it again in 0.2 s" in said
    assert events[-1].text == "ready again"


async def test_a_part_is_started_again_although_nothing_can_be_written(tmp_path: Path) -> None:
    """As on a full disk: neither the run file nor what is told to people can be kept."""
    full = False

    def tell(_: Event) -> None:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")

    part = server_part("one", tmp_path, ports.free_ports(1)[0])
    supervisor = Supervisor([part], run_file=tmp_path / "run.json", tell=tell)
    await supervisor.start()
    try:
        first = supervisor.pid("one")
        assert first is not None
        full = True
        (tmp_path / "run.json").unlink()
        (tmp_path / "run.json").mkdir()
        os.kill(first, signal.SIGKILL)
        await until(lambda: supervisor.status["one"].restarts == 1 and supervisor.status["one"].state is PartState.READY)
    finally:
        (tmp_path / "run.json").rmdir()
        await supervisor.stop()


async def test_a_part_that_keeps_dying_is_started_ever_more_slowly(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    events: list[Event] = []
    dying = Part("dying", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "dying.log", never)
    supervisor = Supervisor([dying], run_file=tmp_path / "run.json", tell=events.append)
    try:
        with pytest.raises(MachineError, match=r"dying.*exit code 3"):
            await supervisor.start(4)
    finally:
        await supervisor.stop()
    waits = [event.text.split("again in ")[1].split(" s")[0] for event in events]
    assert waits[:3] == ["0.2", "0.4", "0.8"]


async def test_a_part_waits_for_what_it_needs(start: Start, tmp_path: Path) -> None:
    first, second = ports.free_ports(2)
    seen: list[bool] = []

    async def settle() -> None:
        # While the first is still settling, the second has not begun.
        seen.append((tmp_path / "second.log").exists())

    await start(
        server_part("second", tmp_path, second, needs=frozenset({"first"})),
        server_part("first", tmp_path, first, settle=settle),
    )
    assert seen == [False]
    assert (tmp_path / "second.log").exists()


async def test_settling_is_tried_again_and_done_after_every_restart(start: Start, tmp_path: Path) -> None:
    calls: list[int] = []

    async def settle() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionResetError("a last pain of starting")

    supervisor, _ = await start(server_part("one", tmp_path, ports.free_ports(1)[0], settle=settle))
    assert len(calls) == 2
    pid = supervisor.pid("one")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: supervisor.status["one"].restarts == 1 and supervisor.status["one"].state is PartState.READY)
    assert len(calls) == 3


async def test_stopping_is_polite_first_and_leaves_nothing(tmp_path: Path) -> None:
    [port] = ports.free_ports(1)
    polite = server_part("polite", tmp_path, port)
    stubborn = Part("stubborn", [sys.executable, "-c", STUBBORN], tmp_path / "stubborn.log", at_once, stop_within_seconds=0.5)
    events: list[Event] = []
    supervisor = Supervisor([polite, stubborn], run_file=tmp_path / "run.json", tell=events.append)
    await supervisor.start()
    pids = [supervisor.pid(name) for name in ("polite", "stubborn")]
    await supervisor.stop()
    assert not any(pid is not None and psutil.pid_exists(pid) for pid in pids)
    assert "asked to end" in (tmp_path / "polite.log").read_text()
    assert any("did not stop" in event.text for event in events if event.part == "stubborn")
    assert not (tmp_path / "run.json").exists()


async def test_what_a_killed_supervisor_leaves_is_stopped_by_the_next(tmp_path: Path) -> None:
    [port] = ports.free_ports(1)
    supervisor = Supervisor([server_part("left", tmp_path, port)], run_file=tmp_path / "run.json")
    await supervisor.start()
    pid = supervisor.pid("left")
    assert pid is not None
    for keeper in supervisor._keepers.values():  # as if the supervisor itself had been killed
        keeper.cancel()
    assert await asyncio.to_thread(stop_leftovers, tmp_path / "run.json") == ["left"]
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    await supervisor.stop()


async def test_a_process_that_only_has_the_same_id_is_not_touched(tmp_path: Path) -> None:
    run_file = tmp_path / "run.json"
    run_file.write_text(f'[{{"name": "mine", "pid": {os.getpid()}, "created": 1.0, "signal": 9}}]')
    assert stop_leftovers(run_file) == []


async def test_a_program_that_does_not_exist_is_one_sentence(start: Start, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="missing could not be started"):
        await start(Part("missing", [str(tmp_path / "nothing")], tmp_path / "missing.log", at_once))
