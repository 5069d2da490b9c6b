"""Runs one service of ours as its own process, as the machine does, for one test or module."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from services.cli.machine.ports import HOST, free_ports
from tests.support.waiting import until

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class RunningService:
    """``url`` answers once :meth:`start` has returned; ``log`` is what the process wrote."""

    name: str
    environment: Mapping[str, str]
    port: int
    log: Path
    folder: Path = REPOSITORY
    """The source tree that it runs from."""
    process: asyncio.subprocess.Process | None = field(default=None)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def start(self, within: float = 60) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"services.{self.name}.app",
                cwd=self.folder, stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, "EHCP_HTTP_PORT": str(self.port), **self.environment},
            )  # fmt: skip
        async with httpx2.AsyncClient() as http:
            await until(lambda: self._ready(http), within=within, what=f"{self.name} is ready")

    async def _ready(self, http: httpx2.AsyncClient) -> bool:
        assert self.process is not None
        if self.process.returncode is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}")
        try:
            return (await http.get(f"{self.url}/health/ready")).status_code == 200
        except httpx2.TransportError:
            return False

    async def kill(self) -> None:
        """As a power cut would: no goodbye."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        if self.process is None or self.process.returncode is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(15):
                await self.process.wait()
        except TimeoutError:
            await self.kill()


@asynccontextmanager
async def running_service(name: str, environment: Mapping[str, str]) -> AsyncIterator[RunningService]:
    """``name`` is the service's folder; ``environment`` its settings but for the port."""
    [port] = free_ports(1)
    with tempfile.TemporaryDirectory(prefix=f"ehcp-{name}-") as folder:
        service = RunningService(name, environment, port, Path(folder) / "log")
        try:
            await service.start()
            yield service
        finally:
            await service.stop()
