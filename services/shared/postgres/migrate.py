"""Apply a service's migrations: dbmate-format SQL files, in order, each in a transaction, under an advisory lock.

``python -m services.shared.postgres.migrate SERVICE`` with ``EHCP_MIGRATE_DATABASE_URL`` (the owner's account) applies
``services/SERVICE/migrations/*.sql``; for a subscriber, those of ``services/shared/delivery`` first. A file that changed
after it was applied is refused: history is added to, never edited.
"""

import asyncio
import hashlib
import os
import re
import sys
from pathlib import Path

import asyncpg

SERVICES = Path(__file__).resolve().parents[2]


class MigrationError(Exception):
    """One sentence that says which file is wrong and what to do."""


_PASSING = (
    asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError, asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError, asyncpg.LockNotAvailableError,
)  # fmt: skip
"""What says nothing of the file, and may be over when it is tried again."""


def folders(service: str) -> list[Path]:
    own = SERVICES / service / "migrations"
    shared = [SERVICES / "shared" / "delivery" / "migrations"] if service.endswith("_subscriber") else []
    return [*shared, *([own] if own.is_dir() else [])]


def up_part(text: str) -> str:
    """The statements between ``-- migrate:up`` and ``-- migrate:down``."""
    match = re.search(r"^-- migrate:up\b.*?$(.*?)(?=^-- migrate:down\b|\Z)", text, re.DOTALL | re.MULTILINE)
    if match is None:
        raise MigrationError("a migration has no line '-- migrate:up'")
    return match.group(1)


async def migrate(database_url: str, service: str, role: str | None = None) -> list[str]:
    """Apply what is missing; returns the names applied. ``role`` replaces ``:role`` (the account that gets the grants)."""
    applied: list[str] = []
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("SELECT pg_advisory_lock(hashtext('ehcp.migrations'))")
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS public.schema_migrations"
            " (service text, version text, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now(),"
            " PRIMARY KEY (service, version))"
        )
        for folder in folders(service):
            for file in sorted(folder.glob("*.sql")):
                text = file.read_text()
                checksum = hashlib.sha256(text.encode()).hexdigest()
                known = await connection.fetchval(
                    "SELECT checksum FROM public.schema_migrations WHERE service = $1 AND version = $2",
                    service,
                    file.stem,
                )
                if known == checksum:
                    continue
                if known is not None:
                    raise MigrationError(
                        f"{file.name} of {service} changed after it was applied; put the change into a new file instead"
                    )
                try:
                    async with connection.transaction():
                        await connection.execute(up_part(text).replace(":role", role or service))
                        await connection.execute(
                            "INSERT INTO public.schema_migrations (service, version, checksum) VALUES ($1, $2, $3)",
                            service, file.stem, checksum,
                        )  # fmt: skip
                except _PASSING:
                    raise
                except asyncpg.PostgresError as error:
                    # Its message alone: the detail may hold what lies in a row.
                    raise MigrationError(
                        f"{file.name} of {service} fails ({error.args[0]}); nothing of it was applied"
                    ) from error
                applied.append(file.stem)
    finally:
        await connection.close()
    return applied


def main() -> None:
    url = os.environ.get("EHCP_MIGRATE_DATABASE_URL") or os.environ.get("DATABASE_URL")
    if not url or len(sys.argv) < 2:
        sys.exit("usage: EHCP_MIGRATE_DATABASE_URL=… python -m services.shared.postgres.migrate SERVICE …")
    for service in sys.argv[1:]:
        try:
            for name in asyncio.run(migrate(url, service)):
                sys.stdout.write(f"{service}: applied {name}\n")
        except (MigrationError, asyncpg.PostgresError) as error:
            sys.exit(f"{service}: {error}")


if __name__ == "__main__":
    main()
