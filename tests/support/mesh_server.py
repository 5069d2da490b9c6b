"""Starts NHS England's MESH sandbox for a test, on a free port, with a data folder of its own.

It pins an older FastAPI than the services use, so it runs in an environment of its own: made from
``deploy/sandbox/mesh/requirements.lock`` (versions and hashes) the first time, and kept in the user's cache folder like Kafka's
jars. Workers of a parallel test run wait for the one that installs.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2
import pytest
from mesh_client import MeshClient

from services.cli.machine.ports import HOST, free_ports

LOCK = Path(__file__).resolve().parents[2] / "deploy" / "sandbox" / "mesh" / "requirements.lock"
SHARED_KEY = "a key of this test"
PASSWORD = "password"
"""The sandbox gives it to every mailbox that is made by a folder's name."""
OURS, TRUST, OTHER = "EHCPHLT001", "RNAHEALTH01", "RXKHEALTH01"


def environment() -> Path:
    """The folder of the sandbox's own Python environment; made where it is missing or of another lock."""
    wanted = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ehcp"
    cache.mkdir(parents=True, exist_ok=True)
    made = cache / f"mesh-sandbox-{wanted[:16]}"
    with (cache / "mesh-sandbox.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (made / "ready").exists():
            return made
        shutil.rmtree(made, ignore_errors=True)
        pip = [str(made / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        for command in ([sys.executable, "-m", "venv", str(made)], [*pip, "--require-hashes", "-r", str(LOCK)]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode != 0:
                last = next((line for line in reversed((done.stdout + done.stderr).splitlines()) if line.strip()), "nothing")
                pytest.fail(f"The MESH sandbox's packages could not be installed from {LOCK}; pip's last words: {last}")
        (made / "ready").touch()
    return made


@dataclass
class MeshServer:
    """One sandbox. Stopped and started again it keeps its port and what lies in its mailboxes."""

    data: Path
    mailboxes: Sequence[str] = (OURS, TRUST, OTHER)
    port: int = 0
    # Made once, since making one takes long; a connection for each request, since the server is killed in between.
    _http: httpx2.Client = field(default_factory=lambda: httpx2.Client(limits=httpx2.Limits(max_keepalive_connections=0)))
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self) -> "MeshServer":
        uvicorn = environment() / "bin" / "uvicorn"
        [self.port] = [self.port] if self.port else free_ports(1)
        for mailbox in self.mailboxes:
            (self.data / mailbox / "in").mkdir(parents=True, exist_ok=True)
        settings = {"AUTH_MODE": "full", "SHARED_KEY": SHARED_KEY, "STORE_MODE": "file", "MAILBOXES_DATA_DIR": str(self.data)}
        log = self.data.with_suffix(".log")
        command = [str(uvicorn), "mesh_sandbox.api:app", "--host", HOST, "--port", str(self.port), "--log-level", "warning"]
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **settings})
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if self._http.get(f"{self.url}/health", timeout=1).status_code == 200:
                    return self
            except httpx2.TransportError:
                time.sleep(0.05)
        pytest.fail(f"The MESH sandbox did not start: {log.read_text()[-500:]}")

    def kill(self) -> None:
        """As a power cut would, as far as the process is concerned."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(timeout=20)
            self._process = None

    def empty(self) -> None:
        """Nothing lies in any mailbox any more."""
        for mailbox in self.mailboxes:
            assert self._http.delete(f"{self.url}/messageexchange/admin/reset/{mailbox}").status_code == 200

    def report(self, to: str, local_id: str, message_id: str, workflow_id: str) -> None:
        """MESH's own report that nobody collected a message (error 14), as it comes after five days."""
        report = {
            "mailbox_id": to, "code": "14", "description": "not collected", "workflow_id": workflow_id,
            "local_id": local_id, "linked_message_id": message_id, "status": "undeliverable",
        }  # fmt: skip
        answer = self._http.post(f"{self.url}/messageexchange/admin/report", json=report)
        assert answer.status_code == 200, answer.text

    def __enter__(self) -> "MeshServer":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()
        self._http.close()


@dataclass(frozen=True, slots=True)
class Collected:
    message_id: str
    local_id: str
    workflow_id: str
    headers: dict[str, Any]
    body: bytes


class Desk:
    """Another organisation at its own mailbox, with NHS England's client and none of our code."""

    def __init__(self, server: MeshServer, mailbox: str) -> None:
        self.mailbox = mailbox
        self._client = MeshClient(server.url, mailbox, PASSWORD, shared_key=SHARED_KEY.encode(), max_retries=0)

    def ids(self) -> list[str]:
        return list(self._client.iterate_message_ids())

    def look(self) -> list[Collected]:
        """What lies in the mailbox; stays there."""
        found = []
        for message_id in self.ids():
            message = self._client.retrieve_message(message_id)
            found.append(
                Collected(
                    message_id,
                    message.local_id or "",
                    message.workflow_id or "",
                    dict(message.mex_headers()),  # type: ignore[no-untyped-call]
                    message.read(),
                )
            )
            message.close()  # type: ignore[no-untyped-call]
        return found

    def collect(self) -> list[Collected]:
        """Everything in the mailbox, acknowledged."""
        found = self.look()
        for each in found:
            self._client.acknowledge_message(each.message_id)
        return found

    def send(self, to: str, body: bytes, workflow_id: str) -> str:
        return str(self._client.send_message(to, body, workflow_id=workflow_id, content_type="application/fhir+json"))

    def close(self) -> None:
        self._client.close()  # type: ignore[no-untyped-call]
