"""What a person sees while the machine works: a live table on a terminal, plain lines elsewhere, a status file for others.

Everything here goes to standard error or the status file; data goes to standard output elsewhere.
"""

import time
from typing import Any

import orjson
from rich.console import Group
from rich.live import Live
from rich.text import Text

from services.cli.machine.folder import DataFolder, write_private
from services.cli.machine.machine import Machine
from services.cli.machine.ports import HOST
from services.cli.machine.supervisor import Event, PartState
from services.cli.output import err, table_of

PART_COLUMNS = {"name": "Part", "state": "State", "note": "", "address": "Address"}
STYLES = {PartState.READY: "green", PartState.RESTARTING: "red", PartState.STARTING: "yellow"}


class Watch:
    def __init__(self, folder: DataFolder) -> None:
        self.folder = folder
        self.machine: Machine | None = None
        self.phase = "setting up"
        self._notes: dict[str, str] = {}
        self._started = time.monotonic()
        self._live: Live | None = None
        self._kept: dict[str, Any] = {}

    def __enter__(self) -> "Watch":
        if err.is_terminal:
            self._live = Live(console=err, get_renderable=self._picture, refresh_per_second=4, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, *_error: object) -> None:
        self.pause()

    def pause(self) -> None:
        """Takes the live table away, so that something can be printed below."""
        if self._live is not None:
            self._live.__exit__(None, None, None)
            self._live = None

    def tell(self, event: Event) -> None:
        self._notes[event.part] = event.text
        if self._live is None or event.trouble:
            self._say(f"{event.part}: {event.text}", style="red" if event.trouble else "")
        self.write_status()

    def enter(self, phase: str) -> None:
        """A new phase of the whole: setting up, publishing, waiting, ready, stopping."""
        self.phase = phase
        if self._live is None:
            self._say(phase)
        self.write_status()

    def progress(self, text: str) -> None:
        """How far the phase is; changes often, so only the live table shows it."""
        self._notes[""] = text

    def write_status(self, **more: Any) -> None:
        """Only for the folder that this process supervises: another one's words are not overwritten."""
        machine = self.machine
        if machine is None or not machine.supervises or not self.folder.exists():
            return
        statuses = machine.supervisor.status.values() if machine.supervisor is not None else ()
        parts = [
            {name: getattr(status, name) for name in ("name", "state", "pid", "restarts", "last_exit")} for status in statuses
        ]
        content = {"phase": self.phase, "notes": self._notes, "parts": parts, **self._kept, **more}
        self._kept |= more
        write_private(self.folder.status_file, orjson.dumps(content, option=orjson.OPT_INDENT_2))

    def _say(self, text: str, style: str = "") -> None:
        seconds = time.monotonic() - self._started
        err.print(f"{seconds:6.1f} s  {text}", style=style, markup=False, soft_wrap=True)

    def _picture(self) -> Group:
        seconds = int(time.monotonic() - self._started)
        head = Text(f"{self.phase} · {seconds} s  {self._notes.get('', '')}", style="bold")
        rows = []
        if self.machine is not None and self.machine.supervisor is not None:
            ports = self.machine.places.ports if self.machine.places else {}
            for name, status in self.machine.supervisor.status.items():
                note = self._notes.get(name, "") if status.state is not PartState.READY else ""
                if status.restarts:
                    note = f"restarted {status.restarts} times {note}"
                port = ports.get(name) or ports.get(f"{name}-1")
                address = f"{HOST}:{port}" if port else ""
                rows.append({"name": name, "state": status.state, "note": note, "address": address})
        else:
            rows = [{"name": name, "state": "", "note": note} for name, note in self._notes.items() if name]
        return Group(head, table_of(PART_COLUMNS, rows))
