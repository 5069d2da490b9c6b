"""`ehcp doctor`: looks at every part and says, one line each, whether it is well and what to do if not."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx2
import typer
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from services.cli.commands.migrate import databases_of
from services.cli.exchange import Exchange, Reach
from services.cli.machine import ports
from services.cli.machine.config import SERVICES, Overrides, env_file, read_environment
from services.cli.machine.errors import MachineError
from services.cli.machine.folder import DataFolder
from services.cli.machine.kafka_access import load_access
from services.cli.options import DEFAULT_HOME, AsJson, Home
from services.cli.output import Exit, RefusedError, out, print_json, run
from services.shared.postgres.migrate import folders

FREE_BYTES_NEEDED = 1024**3
RESTART = "see its log in the folder logs; `ehcp down` and then `ehcp up` start it again"


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy` says what to do; empty when all is well."""

    part: str
    well: bool
    text: str
    remedy: str = ""


class UnwellError(Exception):
    def __init__(self, text: str, remedy: str) -> None:
        super().__init__(text)
        self.remedy = remedy


def doctor(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Check every part; exit code 1 when something is not well."""
    findings = run(examine(home))
    if as_json:
        print_json([{"part": f.part, "well": f.well, "text": f.text, "remedy": f.remedy} for f in findings])
    else:
        for finding in findings:
            mark, style = ("ok ", "green") if finding.well else ("BAD", "red")
            remedy = f" → {finding.remedy}" if finding.remedy else ""
            out.print(f"{mark} {finding.part}: {finding.text}{remedy}", style=style, markup=False, soft_wrap=True)
    if not all(finding.well for finding in findings):
        raise typer.Exit(Exit.CHECK_FAILED)


async def examine(home: Path) -> list[Finding]:
    folder = DataFolder(home)
    return [finding async for finding in examinations(folder)]


async def examinations(folder: DataFolder) -> AsyncIterator[Finding]:
    yield await judged("python", lambda: python())
    opened = await judged("data folder", lambda: data_folder(folder))
    yield opened
    if not opened.well or not folder.exists():
        return
    yield await judged("disk", lambda: disk(folder))
    yield await judged("keys", lambda: keys(folder))
    yield await judged("supervisor", lambda: supervisor(folder))
    overrides = Overrides.of(os.environ)
    yield await judged("postgres", lambda: postgres(folder))
    yield await judged("kafka", lambda: kafka(folder, overrides))
    remembered = folder.remembered.ports
    if not overrides.fhir_url:
        yield await judged("fhir", lambda: answering("fhir", remembered, "/health"))
    yield await judged("social_care", lambda: answering("social_care", remembered, "/health"))
    for service in SERVICES:
        yield await judged(service, lambda service=service: ready(service, remembered, folder))  # type: ignore[misc]
    yield await judged("shares", lambda: shares(folder))


async def judged(part: str, check: Callable[[], Awaitable[str]]) -> Finding:
    try:
        async with asyncio.timeout(30):
            return Finding(part, well=True, text=await check())
    except UnwellError as error:
        return Finding(part, well=False, text=str(error), remedy=error.remedy)
    except (MachineError, RefusedError) as error:
        return Finding(part, well=False, text=str(error))
    except TimeoutError:
        return Finding(part, well=False, text="no answer within 30 s", remedy=RESTART)


async def python() -> str:
    return ".".join(map(str, sys.version_info[:3]))


async def data_folder(folder: DataFolder) -> str:
    folder.open()
    return str(folder.path)


async def disk(folder: DataFolder) -> str:
    free = shutil.disk_usage(folder.path).free
    if free < FREE_BYTES_NEEDED:
        raise UnwellError(f"{free / 1e9:.1f} GB free", "make room: PostgreSQL and Kafka stop when the disk is full")
    return f"{free / 1e9:.0f} GB free"


async def keys(folder: DataFolder) -> str:
    files = list(folder.keys.iterdir())
    readable = [file.name for file in files if file.stat().st_mode & 0o077]
    if readable:
        raise UnwellError(f"others may read {', '.join(readable)}", f"chmod 600 {folder.keys}/*")
    return f"{len(files)} files, readable by this user alone"


async def supervisor(folder: DataFolder) -> str:
    process = folder.supervisor()
    if process is None:
        raise UnwellError("not running", "start it with `ehcp up`")
    return f"process {process.pid}"


async def postgres(folder: DataFolder) -> str:
    databases = databases_of(folder.path)
    try:
        connection = await asyncpg.connect(databases.dsn("council", "ehcp_owner"), timeout=10)
    except (OSError, asyncpg.PostgresError) as error:
        raise UnwellError(f"does not let us in ({error})", RESTART) from error
    try:
        durable = all([await connection.fetchval(f"SHOW {name}") == "on" for name in ("fsync", "full_page_writes")])
        version = await connection.fetchval("SHOW server_version")
        rows = await connection.fetch("SELECT service, version FROM public.schema_migrations")
    finally:
        await connection.close()
    if not durable:
        raise UnwellError("fsync or full_page_writes is off", "switch both on: what is acknowledged must be kept")
    applied = {(row["service"], row["version"]) for row in rows}
    council = ("ehcp_publisher", "audit", "notifier")
    wanted = {(each, file.stem) for each in council for folder_ in folders(each) for file in folder_.glob("*.sql")}
    if wanted - applied:
        raise UnwellError(f"{len(wanted - applied)} migrations missing", "run `ehcp migrate`")
    return f"version {version}, tables up to date"


async def kafka(folder: DataFolder, overrides: Overrides) -> str:
    environment = overrides.kafka or read_environment(env_file(folder, "audit"))
    topics = await asyncio.to_thread(topics_seen_by, dict(environment))
    access = load_access()
    mine = set(access.topics if overrides.kafka else access.accounts["audit"].reads)
    missing = mine - topics
    if missing:
        raise UnwellError(f"topics missing: {', '.join(sorted(missing))}", "`ehcp down` and `ehcp up` put them back")
    return f"{environment['KAFKA_BOOTSTRAP_SERVERS']}, topics there"


def topics_seen_by(environment: dict[str, str]) -> set[str]:
    settings: dict[str, str | int | float | bool] = {
        "bootstrap.servers": environment["KAFKA_BOOTSTRAP_SERVERS"],
        "log_level": "0",
    }
    for name, option in (
        ("KAFKA_SECURITY_PROTOCOL", "security.protocol"),
        ("KAFKA_SASL_MECHANISM", "sasl.mechanism"),
        ("KAFKA_SASL_USERNAME", "sasl.username"),
        ("KAFKA_SASL_PASSWORD", "sasl.password"),
        ("KAFKA_SSL_CAFILE", "ssl.ca.location"),
    ):
        if name in environment:
            settings[option] = environment[name]
    try:
        with AdminClient(settings) as admin:
            return set(admin.list_topics(timeout=10).topics)
    except KafkaException as error:
        raise UnwellError(f"does not answer ({error.args[0].str()})", RESTART) from error


async def answering(part: str, remembered: dict[str, int], path: str) -> str:
    port = remembered.get(part)
    try:
        if port is not None and await ports.answers_http(port, path):
            return f"http://{ports.HOST}:{port}"
    except (OSError, TimeoutError):
        pass
    raise UnwellError(f"does not answer at port {port}", RESTART)


async def ready(service: str, remembered: dict[str, int], folder: DataFolder) -> str:
    log = folder.logs / f"{service}.log"
    url = f"http://{ports.HOST}:{remembered.get(service, 0)}"
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=10) as http:
            live = await http.get(f"{url}/health/live")
            able = await http.get(f"{url}/health/ready")
    except httpx2.TransportError as error:
        raise UnwellError(f"does not answer at {url} ({type(error).__name__})", f"see {log}") from error
    if live.is_error:
        raise UnwellError(f"stuck: {live.text[:200]}", f"it makes no progress; see {log}, then restart it")
    if able.is_error:
        raise UnwellError(f"not ready: {able.text[:200]}", f"see {log}")
    if trouble := able.text.partition("; ")[2]:
        raise UnwellError(f"runs, but {trouble[:400]}", f"see {log}; ask whoever runs it")
    return url


async def shares(folder: DataFolder) -> str:
    async with Exchange(Reach.of(folder.path)) as exchange:
        holders = [holder async for holder in exchange.holders()]
    missed = [holder for holder in holders if holder["status"] == "missed"]
    if missed:
        raise UnwellError(f"{len(missed)} of {len(holders)} missed", "`ehcp status --shares` shows them with reasons")
    return f"{len(holders)}, none missed"
