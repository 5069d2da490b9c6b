"""`ehcp migrate`: brings roles, databases and tables of the data folder's PostgreSQL (or DATABASE_URL's) up to date."""

import os
from pathlib import Path

from services.cli.machine.config import Overrides
from services.cli.machine.databases import OWNER, ROLES, Databases
from services.cli.machine.errors import MachineError
from services.cli.machine.folder import DataFolder
from services.cli.machine.keys import KeyRing
from services.cli.machine.postgres import SUPERUSER, PostgresServer
from services.cli.options import DEFAULT_HOME, AsJson, Home
from services.cli.output import out, print_json, run


def migrate(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Make databases, roles and tables that are missing. Repeatable; `ehcp up` does it too."""
    applied = run(bring_up_to_date(home))
    if as_json:
        print_json({"applied": applied})
    else:
        out.print("\n".join(applied) or "up to date", markup=False)


async def bring_up_to_date(home: Path) -> list[str]:
    return await databases_of(home).ensure()


def databases_of(home: Path) -> Databases:
    folder = DataFolder(home)
    folder.open()
    keys = KeyRing(folder.keys)
    admin_dsn = Overrides.of(os.environ).database_url
    if admin_dsn is None:
        port = folder.remembered.ports.get("postgres")
        if port is None:
            raise MachineError(f"{folder.path} has no PostgreSQL of its own: set DATABASE_URL, as `ehcp up` was given it.")
        admin_dsn = PostgresServer(folder.path / "postgres", port, keys.password(f"postgres-{SUPERUSER}")).admin_dsn
    return Databases(admin_dsn, {role: keys.password(f"postgres-{role}") for role in (OWNER, *ROLES)})
