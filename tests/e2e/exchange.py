"""The whole exchange as `ehcp up` starts it, in a folder of its own, and what the outside can see of it."""

import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx2

from services.cli.machine.databases import database_of
from services.cli.machine.folder import DataFolder
from services.cli.machine.machine import Machine, Wishes
from services.shared.identity.client import TokenClient
from services.shared.identity.keys import read_key
from tests.support.servers import server_folder
from tests.support.waiting import until

QUICK = {"EHCP_RESEND_AFTER_SECONDS": "3", "EHCP_RECONCILE_SECONDS": "5", "EHCP_SWEEP_SECONDS": "1"}
"""Shorter waits than in production, so that what heals by itself heals within a test's patience."""
Json = dict[str, Any]


@dataclass
class Exchange:
    machine: Machine
    folder: Path
    http: httpx2.AsyncClient
    _tokens: dict[str, TokenClient] = field(default_factory=dict)

    def url(self, service: str) -> str:
        assert self.machine.places is not None
        return self.machine.places.url(service)

    async def headers(self, client_id: str = "operator", issuer: str = "ehcp_publisher") -> dict[str, str]:
        key = f"{issuer}:{client_id}"
        if key not in self._tokens:
            private = read_key(self.machine.keys.signing_key(f"client-{client_id}"), client_id)
            self._tokens[key] = TokenClient(self.http, self.url(issuer), client_id, private)
        return await self._tokens[key].headers()

    async def issue(self, lines: Sequence[Json], *, render: bool = False) -> list[Json]:
        """Send a batch until it is answered, as a case system would: repeating it is harmless."""
        body = "\n".join(json.dumps(line) for line in lines)

        async def answered() -> list[Json]:
            try:
                answer = await self.http.post(
                    f"{self.url('ehcp_publisher')}/v1/batch?render={str(render).lower()}",
                    content=body, headers=await self.headers(), timeout=120,
                )  # fmt: skip
            except (httpx2.TransportError, ValueError):
                return []
            if answer.status_code >= 500:
                return []
            assert answer.status_code == 200, answer.text
            answers = [json.loads(line) for line in answer.text.splitlines()]
            return answers if all(each["status"] < 500 for each in answers) else []

        return await until(answered, within=120, what="the batch is answered")

    async def holders(self, plan_id: str) -> dict[str, Json]:
        """Who holds what of a plan, by kind of recipient."""
        answer = await self.http.get(f"{self.url('audit')}/v1/plans/{plan_id}/holders", headers=await self.headers())
        assert answer.status_code == 200, answer.text
        return {each["recipient_kind"]: each for each in answer.json()["holders"]}

    async def all_holders(self) -> list[Json]:
        rows: list[Json] = []
        after: str | None = None
        while True:
            query = "?limit=500" + (f"&after={after}" if after else "")
            answer = await self.http.get(f"{self.url('audit')}/v1/holders{query}", headers=await self.headers())
            assert answer.status_code == 200, answer.text
            page = answer.json()
            rows += page["holders"]
            after = page.get("next")
            if after is None:
                return rows

    async def fhir(self, path: str, tenant: str = "RNA") -> Json:
        assert self.machine.places is not None
        answer = await self.http.get(f"{self.machine.places.fhir_url(tenant)}/{path}", headers={"Cache-Control": "no-cache"})
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    async def file_of(self, document: Json, tenant: str = "RNA") -> bytes:
        """The bytes of a DocumentReference's attachment, as the record hands them out."""
        assert self.machine.places is not None
        url = document["content"][0]["attachment"]["url"]
        answer = await self.http.get(f"{self.machine.places.fhir_url(tenant)}/{url[url.index('Binary/') :]}")
        assert answer.status_code == 200, answer.text
        return answer.content

    async def add_patient(self, patient: Json, tenant: str = "RNA") -> str:
        assert self.machine.places is not None
        answer = await self.http.post(
            f"{self.machine.places.fhir_url(tenant)}/Patient", json=patient, headers={"content-type": "application/fhir+json"}
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def documents(self, patient: str, tenant: str = "RNA") -> list[Json]:
        bundle = await self.fhir(f"DocumentReference?subject=Patient/{patient}&_count=100", tenant)
        return [entry["resource"] for entry in bundle.get("entry", [])]

    async def query(self, service: str, statement: str, *values: object) -> list[Any]:
        """As the administrator, past row-level security."""
        assert self.machine.places is not None
        connection = await asyncpg.connect(self.machine.places.databases.admin_dsn_of(database_of(service)))
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    def signal(self, part: str, number: int = signal.SIGKILL) -> None:
        assert self.machine.supervisor is not None
        pid = self.machine.supervisor.pid(part)
        assert pid is not None, f"{part} is not running"
        os.kill(pid, number)

    def stop_for_now(self, part: str) -> None:
        """Frozen, as a process on a machine that hangs: it keeps its place and does nothing."""
        self.signal(part, signal.SIGSTOP)

    def go_on(self, part: str) -> None:
        self.signal(part, signal.SIGCONT)

    async def killed(self, part: str) -> None:
        """kill -9; returns when the supervisor has seen it, so that :meth:`ready` waits for its successor."""
        assert self.machine.supervisor is not None
        supervisor = self.machine.supervisor
        before = supervisor.status[part].restarts
        self.signal(part)

        async def seen() -> bool:
            return supervisor.status[part].restarts > before

        await until(seen, within=60, what=f"the death of {part} is seen")

    async def ready(self, part: str) -> None:
        assert self.machine.supervisor is not None
        await self.machine.supervisor.wait_ready(part)

    def logs(self) -> dict[str, str]:
        return {file.name: file.read_text(errors="replace") for file in self.machine.folder.logs.iterdir()}


@asynccontextmanager
async def running_exchange(brokers: int = 1, environment: dict[str, str] | None = None) -> AsyncIterator[Exchange]:
    """Started and stopped; ``environment`` reaches every service."""
    before = dict(os.environ)
    os.environ.update(QUICK | (environment or {}))
    async with server_folder("exchange") as folder, httpx2.AsyncClient(timeout=30, trust_env=False) as http:
        machine = Machine(DataFolder(folder / "home"), Wishes(brokers=brokers), lambda _event: None)
        try:
            await machine.start()
            yield Exchange(machine, folder, http)
        finally:
            await machine.stop()
            os.environ.clear()
            os.environ.update(before)
