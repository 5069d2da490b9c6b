"""Runs the sandbox's social care case system as its own process, as the machine does."""

import asyncio
import base64
import contextlib
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import orjson

from services.cli.machine.ports import HOST, free_ports
from services.shared.record_systems.port import Content
from tests.support.waiting import until

REPOSITORY = Path(__file__).resolve().parents[2]
SECRET = "whsec_" + base64.b64encode(b"thirty-two bytes of a secret ...").decode()


@dataclass(slots=True)
class CaseSystem:
    port: int
    folder: Path
    # Made once, since making one takes long; a connection for each request, since the system is killed in between.
    http: httpx2.AsyncClient = field(
        default_factory=lambda: httpx2.AsyncClient(limits=httpx2.Limits(max_keepalive_connections=0))
    )
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Of Dudley's case system."""
        return f"http://{HOST}:{self.port}/webhooks/332"

    async def start(self) -> None:
        secret = self.folder / "secret"
        secret.write_text(SECRET + "\n")
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "deploy.sandbox.social_care.receiver", "--port", str(self.port),
            "--data", str(self.folder / "data"), "--secret-file", str(secret),
            cwd=REPOSITORY, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await until(self._ready, within=60, what="the case system is ready")

    async def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, "the case system ended while it started"
        try:
            return (await self.http.get(f"http://{HOST}:{self.port}/health")).status_code == 200
        except httpx2.TransportError:
            return False

    async def kill(self) -> None:
        """As a power cut would."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def plans(self) -> dict[str, dict[str, Any]]:
        """What its users see, by plan id."""
        answer = await self.http.get(f"http://{HOST}:{self.port}/plans")
        return {plan["plan_id"]: plan for plan in answer.json()["plans"]}

    async def notices(self, of: Content) -> list[dict[str, Any]]:
        """The notices of this plan, in order of their coming."""
        answer = await self.http.get(f"http://{HOST}:{self.port}/notices")
        return [notice for notice in answer.json()["notices"] if notice["plan_id"] == str(of.plan_id)]

    async def files(self, record: str) -> list[bytes]:
        """Of one entry, in their order."""
        with contextlib.closing(sqlite3.connect(self.folder / "data" / "cases.sqlite3")) as database:
            number = int(record.removeprefix("SC-"))
            rows = database.execute("SELECT data FROM file WHERE record = ? ORDER BY position", (number,)).fetchall()
        return [bytes(row[0]) for row in rows]

    async def child_of(self, plan: Content) -> dict[str, Any]:
        """What it knows of the child of this version."""
        with contextlib.closing(sqlite3.connect(self.folder / "data" / "cases.sqlite3")) as database:
            [row] = database.execute("SELECT child FROM version WHERE version_id = ?", (str(plan.version_id),)).fetchall()
        child: dict[str, Any] = orjson.loads(row[0])
        return child


@asynccontextmanager
async def running_case_system() -> AsyncIterator[CaseSystem]:
    [port] = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="ehcp-case-system-") as folder:
        system = CaseSystem(port, Path(folder))
        try:
            await system.start()
            yield system
        finally:
            await system.kill()
            await system.http.aclose()
