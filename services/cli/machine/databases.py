"""Databases and roles of the exchange on any PostgreSQL server: a database per owner, a login role per service.

Invariants: a role may connect only to the database of its owner and owns nothing; tables belong to `ehcp_owner`, which is
no superuser. `services.shared.postgres.migrate` then makes the tables, as the owner.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from services.cli.machine.errors import MachineError
from services.cli.machine.kafka_access import load_access
from services.shared.postgres.migrate import MigrationError, migrate

OWNER = "ehcp_owner"
# Which services log in to which database. The council's services share one, a schema each.
DATABASES: Mapping[str, tuple[str, ...]] = {
    "council": ("ehcp_publisher", "audit", "notifier"),
    **{each.name.replace("-", "_"): (each.service,) for each in load_access().subscribers},
}
ROLES: tuple[str, ...] = tuple(role for roles in DATABASES.values() for role in roles)
SAFE_PASSWORD = re.compile(r"[A-Za-z0-9_-]+")


def database_of(service: str) -> str:
    return next(database for database, roles in DATABASES.items() if service in roles)


def new_password() -> str:
    """Url-safe, so that it needs no quoting in an address or a statement."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, slots=True)
class Databases:
    """`admin_dsn` may create roles and databases; `passwords` has one for OWNER and one for every role."""

    admin_dsn: str = field(repr=False)
    passwords: Mapping[str, str] = field(repr=False)

    def dsn(self, database: str, role: str) -> str:
        return self._dsn(database, f"{role}:{self.passwords[role]}")

    def admin_dsn_of(self, database: str) -> str:
        return self._dsn(database, None)

    def _dsn(self, database: str, login: str | None) -> str:
        parts = urlsplit(self.admin_dsn)
        old_login, _, place = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login or old_login}@{place}", path=f"/{database}"))

    async def ensure(self) -> list[str]:
        """Roles, databases and tables as they should be; repeatable. Returns the migrations applied."""
        await self.ensure_roles()
        applied = []
        for database, roles in DATABASES.items():
            await self.ensure_database(database, roles)
            for service in roles:
                applied += await self.migrate(service, database)
        return applied

    async def ensure_roles(self) -> None:
        connection = await self._connect()
        try:
            # An administrator who is no superuser must be able to hand databases over to the owner.
            await connection.execute("SET createrole_self_grant = 'set, inherit'")
            for role in (OWNER, *ROLES):
                password = self.passwords[role]
                if not SAFE_PASSWORD.fullmatch(password):
                    raise MachineError(f"The password of {role} has characters that are not allowed (A-Z a-z 0-9 _ -).")
                exists = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
                verb = "ALTER" if exists else "CREATE"
                await connection.execute(f"{verb} ROLE {role} LOGIN PASSWORD '{password}'")
            # The owner makes further roles without login (policies, views) and may hand things over to them.
            await connection.execute(f"ALTER ROLE {OWNER} CREATEROLE")
            await connection.execute(f"ALTER ROLE {OWNER} SET createrole_self_grant = 'set, inherit'")
        finally:
            await connection.close()

    async def ensure_database(self, database: str, roles: tuple[str, ...]) -> None:
        """A database that OWNER owns and only these roles may connect to."""
        connection = await self._connect()
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
                await connection.execute(f'CREATE DATABASE "{database}" OWNER {OWNER}')
            await connection.execute(f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC')
            await connection.execute(f'GRANT CONNECT ON DATABASE "{database}" TO {", ".join(roles)}')
        finally:
            await connection.close()

    async def migrate(self, service: str, database: str) -> list[str]:
        try:
            return [f"{service} {name}" for name in await migrate(self.dsn(database, OWNER), service)]
        except MigrationError as error:
            raise MachineError(f"The tables of {service} cannot be brought up to date: {error}.") from error

    async def _connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        try:
            return await asyncpg.connect(self.admin_dsn, timeout=10)
        except (OSError, asyncpg.PostgresError) as error:
            place = urlsplit(self.admin_dsn).netloc.rpartition("@")[2]
            raise MachineError(f"PostgreSQL at {place} does not let us in: {error}") from error
