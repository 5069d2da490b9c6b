"""The data folder of the embedded machine: everything it keeps, and how a later start finds it again.

Invariants: one supervisor at a time; a folder of another format is refused, never guessed at; ports are remembered, so
that addresses stay the same over restarts. Nothing outside the folder is written, and only a folder that has our
`machine.json` is ever removed.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psutil

from services.cli.machine import ports
from services.cli.machine.errors import MachineError, UsageError

FORMAT = 1
# Below the range from which systems hand out ports to outgoing connections, which could take them between two starts.
PORT_RANGE = range(18_100, 30_000)


@dataclass(slots=True)
class Remembered:
    """What `machine.json` holds."""

    ports: dict[str, int] = field(default_factory=dict)
    brokers: int = 1
    cluster_id: str = ""
    was_ready: bool = False  # all parts, at least once
    samples: str = ""  # what of the sample plans was published, so that a restart does not ask again
    supervisor_pid: int | None = None
    supervisor_created: float | None = None


class DataFolder:
    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.remembered = Remembered()

    @property
    def machine_file(self) -> Path:
        return self.path / "machine.json"

    @property
    def run_file(self) -> Path:
        return self.path / "run.json"

    @property
    def status_file(self) -> Path:
        return self.path / "status.json"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def config(self) -> Path:
        return self.path / "config"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def exists(self) -> bool:
        return self.machine_file.exists()

    def create(self) -> None:
        """Makes the folder, or opens the one that is there. Raises MachineError when it is none of ours."""
        if self.exists():
            self.open()
            return
        if self.path.is_dir() and any(self.path.iterdir()):
            raise UsageError(f"{self.path} holds other things and no machine.json: name an empty or new folder with --home.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o711)  # PostgreSQL may run as another user: it may pass, not look
            for folder in (self.keys, self.config, self.logs):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise MachineError(f"The data folder {self.path} cannot be made: {error.strerror}.") from error
        self.save()

    def open(self) -> None:
        """Reads `machine.json`. Raises MachineError when it is missing, broken or of another format."""
        try:
            content: dict[str, Any] = orjson.loads(self.machine_file.read_bytes())
            found = content.pop("format")
        except FileNotFoundError:
            raise MachineError(f"There is no machine in {self.path}: start one with `ehcp up`.") from None
        except OSError as error:
            raise UsageError(
                f"{self.machine_file} cannot be read ({error.strerror}): name the data folder with --home."
            ) from error
        except (orjson.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
            raise MachineError(
                f"{self.machine_file} cannot be read as ours. If nothing in it is needed: `ehcp down --wipe`."
            ) from error
        if not isinstance(found, int) or found != FORMAT:
            older = isinstance(found, int) and found < FORMAT
            age = "an older" if older else "a newer"
            remedy = "" if older else ", start it with the version that made it"
            raise MachineError(
                f"{self.path} was made by {age} version (format {found}, this one reads {FORMAT}): start with another "
                f"--home{remedy}, or remove it with `ehcp down --wipe`."
            )
        self.remembered = Remembered(**{key: value for key, value in content.items() if key in Remembered.__slots__})

    def save(self) -> None:
        kept = {name: getattr(self.remembered, name) for name in Remembered.__slots__}
        write_private(self.machine_file, orjson.dumps({"format": FORMAT, **kept}, option=orjson.OPT_INDENT_2))

    def supervisor(self) -> psutil.Process | None:
        """The supervisor that runs this folder now, if any."""
        pid, created = self.remembered.supervisor_pid, self.remembered.supervisor_created
        if pid is None or created is None:
            return None
        try:
            process = psutil.Process(pid)
            return process if abs(process.create_time() - created) < 0.05 and process.is_running() else None
        except psutil.NoSuchProcess:
            return None

    def take(self) -> None:
        """Writes down that this process supervises the folder. Raises MachineError when another one does."""
        other = self.supervisor()
        if other is not None and other.pid != os.getpid():
            raise UsageError(f"It is already running (process {other.pid}): `ehcp status` shows it, `ehcp down` stops it.")
        self.remembered.supervisor_pid = os.getpid()
        self.remembered.supervisor_created = psutil.Process().create_time()
        self.save()

    def release(self) -> None:
        self.remembered.supervisor_pid = self.remembered.supervisor_created = None
        self.save()
        self.status_file.unlink(missing_ok=True)

    def choose_ports(self, names: Iterable[str], explicit: Mapping[str, int], say: Callable[[str], None]) -> dict[str, int]:
        """A port for each name: the one asked for, else the one remembered, else a free one.

        Raises UsageError when one that was asked for is taken; one that was only remembered is replaced, and said.
        """
        wanted = list(names)
        unknown = explicit.keys() - set(wanted)
        if unknown:
            raise UsageError(f"There is no port named {', '.join(sorted(unknown))}; there are {', '.join(wanted)}.")
        chosen: dict[str, int] = {}
        for name, port in explicit.items():
            if not ports.is_free(port):
                raise UsageError(f"Port {port}, asked for {name}, is in use: stop what uses it, or ask for another.")
            chosen[name] = port
        if len(set(chosen.values())) < len(chosen):
            raise UsageError("The same port was asked for twice.")
        for name in wanted:
            if name in chosen:
                continue
            before = self.remembered.ports.get(name)
            if before is not None and before not in chosen.values() and ports.is_free(before):
                chosen[name] = before
                continue
            chosen[name] = self._free_port(chosen)
            if before is not None:
                say(f"port {before} of {name} is in use by something else: taking {chosen[name]} instead")
        self.remembered.ports = {**self.remembered.ports, **chosen}
        self.save()
        return chosen

    def _free_port(self, chosen: Mapping[str, int]) -> int:
        taken = {*chosen.values(), *self.remembered.ports.values()}
        for _ in range(10_000):
            # Random, so that machines started at the same moment do not choose the same.
            port = random.choice(PORT_RANGE)
            if port not in taken and ports.is_free(port):
                return port
        raise MachineError(f"No free port between {PORT_RANGE.start} and {PORT_RANGE.stop} on {ports.HOST}.")

    def wipe(self) -> None:
        """Removes the folder with everything in it. Only a folder of ours: one with a `machine.json`."""
        if self.exists():
            shutil.rmtree(self.path)


def write_private(file: Path, content: bytes) -> None:
    """Whole or not at all, and for this user alone from its first byte."""
    partial = file.with_name(f"{file.name}.part")
    partial.unlink(missing_ok=True)
    partial.touch(0o600)
    partial.write_bytes(content)
    partial.replace(file)
