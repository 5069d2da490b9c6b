"""Migrations on real PostgreSQL: repeatable, whole or not at all, history never edited, safe when two start at once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from services.cli.machine.databases import DATABASES
from services.shared.postgres import migrate as module
from services.shared.postgres.migrate import MigrationError, migrate
from tests.support.servers import RunningPostgres

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

FIRST = "-- migrate:up\nCREATE TABLE public.sheep (name text);\nGRANT SELECT ON public.sheep TO :role;\n-- migrate:down\n"


@pytest_asyncio.fixture
async def owner(postgres_server: RunningPostgres) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(await postgres_server.create_database("migrated", DATABASES["council"]))
    yield connection
    await connection.close()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Migrations of a service that is there for the test only."""
    monkeypatch.setattr(module, "SERVICES", tmp_path)
    folder = tmp_path / "audit" / "migrations"
    folder.mkdir(parents=True)
    (folder / "001_sheep.sql").write_text(FIRST)
    return folder


async def database_of(owner: "asyncpg.Connection[asyncpg.Record]") -> str:
    name: str = await owner.fetchval("SELECT current_database()")
    return name


async def test_applied_once_in_order_and_granted_to_the_role(
    postgres_server: RunningPostgres, owner: "asyncpg.Connection[asyncpg.Record]", files: Path
) -> None:
    url = postgres_server.owner_dsn(await database_of(owner))
    assert await migrate(url, "audit") == ["001_sheep"]
    (files / "002_wool.sql").write_text("-- migrate:up\nALTER TABLE public.sheep ADD wool int;\n")
    assert await migrate(url, "audit") == ["002_wool"]
    assert await migrate(url, "audit") == []
    assert await owner.fetchval("SELECT has_table_privilege('audit', 'public.sheep', 'SELECT')")


async def test_a_file_that_changed_after_it_was_applied_is_refused(
    postgres_server: RunningPostgres, owner: "asyncpg.Connection[asyncpg.Record]", files: Path
) -> None:
    url = postgres_server.owner_dsn(await database_of(owner))
    await migrate(url, "audit")
    (files / "001_sheep.sql").write_text(FIRST.replace("name text", "name text, age int"))
    (files / "002_wool.sql").write_text("-- migrate:up\nALTER TABLE public.sheep ADD wool int;\n")
    with pytest.raises(MigrationError, match=r"001_sheep\.sql of audit changed after it was applied"):
        await migrate(url, "audit")
    columns = await owner.fetch("SELECT column_name FROM information_schema.columns WHERE table_name = 'sheep'")
    assert [row["column_name"] for row in columns] == ["name"], "nothing after it is applied either"


async def test_a_file_that_fails_leaves_nothing_behind(
    postgres_server: RunningPostgres, owner: "asyncpg.Connection[asyncpg.Record]", files: Path
) -> None:
    url = postgres_server.owner_dsn(await database_of(owner))
    broken = files / "002_broken.sql"
    broken.write_text("-- migrate:up\nCREATE TABLE public.goat (x int);\nSELECT nonsense;\n")
    with pytest.raises(MigrationError, match=r'002_broken\.sql of audit fails \(column "nonsense" does not exist\)'):
        await migrate(url, "audit")
    assert await owner.fetchval("SELECT to_regclass('public.goat')") is None
    broken.write_text("-- migrate:up\nCREATE TABLE public.goat (x int);\n")
    assert await migrate(url, "audit") == ["002_broken"]


async def test_two_at_once_apply_each_file_once(
    postgres_server: RunningPostgres, owner: "asyncpg.Connection[asyncpg.Record]", files: Path
) -> None:
    del files
    url = postgres_server.owner_dsn(await database_of(owner))
    applied = await asyncio.gather(*(migrate(url, "audit") for _ in range(5)))
    assert sorted(applied) == [[], [], [], [], ["001_sheep"]]


async def test_the_councils_own_files_apply_in_their_order_and_are_then_up_to_date(
    postgres_server: RunningPostgres, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    url = postgres_server.owner_dsn(await database_of(owner))
    for service in ("audit", "ehcp_publisher"):
        assert await migrate(url, service)
        assert await migrate(url, service) == []
