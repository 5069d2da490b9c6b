"""The product as it runs: publisher, audit and the school subscriber, each its own process, fed over HTTP.

The school subscriber has one record system, its inboxes, so that what is measured is the exchange and not a record system
that answers slowly.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import orjson
from joserfc.jwk import OKPKey

from services.cli.machine.keys import KeyRing
from services.cli.machine.ports import HOST, free_ports
from services.shared.identity.client import TokenClient
from services.shared.postgres.migrate import migrate
from tests.support.servers import RunningKafka, RunningPostgres
from tests.support.services import REPOSITORY, RunningService

SERVICES = ("ehcp_publisher", "audit", "school_subscriber")
SUBSCRIBERS = ("family", "health", "school", "social-care")
RECIPIENTS = 4
CONNECTIONS = 2
"""Requests at once, while one of them waits for its commit the next is prepared."""


@dataclass(slots=True)
class Product:
    """``council`` and ``school`` are the owner's connections; ``services`` by name."""

    http: httpx2.AsyncClient
    url: str
    tokens: TokenClient
    council: "asyncpg.Connection[Any]"
    school: "asyncpg.Connection[Any]"
    services: dict[str, RunningService]

    async def issue(self, lines: Sequence[bytes]) -> None:
        answer = await self.http.post(
            f"{self.url}/v1/batch?render=false", content=b"\n".join(lines), headers=await self.tokens.headers()
        )
        refused = [line for line in answer.content.splitlines() if orjson.loads(line)["status"] != 201]
        if answer.status_code != 200 or refused:
            raise AssertionError(f"the publisher answered {answer.status_code}: {(refused or [answer.content])[0][:500]!r}")

    async def shares_sent(self) -> int:
        """By audit's own count of the receipts that it has committed: to ask the tables would cost what is measured."""
        answer = await self.http.get(f"{self.services['audit'].url}/metrics")
        counts = re.findall(r'^ehcp_audit_receipts_total\{status="sent",.*\} (.+)$', answer.text, re.MULTILINE)
        return int(sum(map(float, counts)))

    async def databases(self) -> tuple[str, str]:
        """Names of the council's and the school subscriber's."""
        names = [await each.fetchval("SELECT current_database()") for each in (self.council, self.school)]
        return names[0], names[1]

    async def run(self, lines: Sequence[bytes]) -> float:
        """Issue all, wait until the council knows each share as sent; the seconds it took."""
        before = await self.shares_sent()
        loop = asyncio.get_running_loop()
        started = loop.time()
        await asyncio.gather(*(self.issue(lines[part::CONNECTIONS]) for part in range(CONNECTIONS)))
        wanted = before + len(lines) * RECIPIENTS

        await self._until_sent(wanted)
        return loop.time() - started

    async def _until_sent(self, wanted: int, within: float = 600) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while (sent := await self.shares_sent()) < wanted:
            if loop.time() > deadline:
                raise AssertionError(f"only {sent} of {wanted} shares were sent within {within:.0f} s")
            await asyncio.sleep(0.05)
        known = await self.council.fetchval("SELECT count(*) FROM audit.newest WHERE status = 'sent'")
        if known != wanted:
            raise AssertionError(f"{wanted} shares should be sent, the council knows of {known}")

    async def run_slowly(self, lines: Sequence[bytes], per_second: float) -> list[float]:
        """One plan at a time, evenly spaced; for each share the seconds from its wish to the end of its delivery.

        Both times are of the one PostgreSQL server's clock. The wish is stamped before its transaction commits, so the
        figure holds a little more than commit to filed.
        """
        began = await self.council.fetchval("SELECT clock_timestamp()")
        before = await self.shares_sent()
        loop = asyncio.get_running_loop()
        first = loop.time()
        for number, line in enumerate(lines):
            await asyncio.sleep(first + number / per_second - loop.time())
            await self.issue([line])

        await self._until_sent(before + len(lines) * RECIPIENTS)
        wished = await self.council.fetch(
            "SELECT share_id, requested_at FROM publisher.instruction WHERE requested_at >= $1", began
        )
        ended = {
            row["share_id"]: row["ended_at"]
            for row in await self.school.fetch(
                "SELECT share_id, max(ended_at) AS ended_at FROM delivery.attempt WHERE ended_at >= $1 GROUP BY 1", began
            )
        }
        return [(ended[row["share_id"]] - row["requested_at"]).total_seconds() for row in wished]


@asynccontextmanager
async def running_product(postgres: RunningPostgres, kafka: RunningKafka, folder: Path) -> AsyncIterator[Product]:
    council_dsn = await postgres.create_database("council", ("ehcp_publisher", "audit", "notifier"))
    school_dsn = await postgres.create_database("school", ("school_subscriber",))
    for service, dsn in (("audit", council_dsn), ("ehcp_publisher", council_dsn), ("school_subscriber", school_dsn)):
        await migrate(dsn, service)
    ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
    url = f"http://{HOST}:{ports['ehcp_publisher']}"
    keys = KeyRing(folder)
    settings = _settings(folder, keys, url, f"http://{HOST}:{ports['school_subscriber']}")
    databases = {"ehcp_publisher": council_dsn, "audit": council_dsn, "school_subscriber": school_dsn}
    services: dict[str, RunningService] = {}
    async with AsyncExitStack() as stack:
        for name in SERVICES:
            environment = {
                "DATABASE_URL": postgres.dsn_as(name, databases[name]), "EHCP_LOG_LEVEL": "WARNING",
                **kafka.login(name).environment(), **settings[name],
            }  # fmt: skip
            services[name] = RunningService(name, environment, ports[name], folder / f"{name}.log")
            stack.push_async_callback(services[name].stop)
            await services[name].start()
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=600, trust_env=False))
        key = OKPKey.import_key(orjson.loads(keys.signing_key("client-operator").read_bytes()))
        council, school = await asyncpg.connect(council_dsn), await asyncpg.connect(school_dsn)
        stack.push_async_callback(council.close)
        stack.push_async_callback(school.close)
        yield Product(http, url, TokenClient(http, url, "operator", key), council, school, services)


def _settings(folder: Path, keys: KeyRing, url: str, school_url: str) -> dict[str, dict[str, str]]:
    """What each service's environment holds beside its database, its broker and its port."""
    registry = orjson.loads((REPOSITORY / "deploy" / "sandbox" / "directory.json").read_bytes()) | {
        "clients": [
            {"client_id": "operator", "kind": "operator", "la_codes": ["332"],
             "public_key": keys.public_key("client-operator")},
            {"client_id": "subscriber-school", "kind": "subscriber", "subscriber": "school",
             "public_key": keys.public_key("client-school")},
        ],
        "subscribers": [
            {"subscriber": name, "name": name, "hosted_by": "agency", "receipt_key": keys.public_key(f"receipt-{name}")}
            for name in SUBSCRIBERS
        ],
    }  # fmt: skip
    inboxes = {"record_systems": [{"name": "inbox", "kind": "inbox", "recipients": "*"}]}
    for name, content in (("registry", registry), ("record_systems", inboxes), ("readers", [])):
        (folder / f"{name}.json").write_bytes(orjson.dumps(content))
    return {
        "ehcp_publisher": {
            "EHCP_REGISTRY_FILE": str(folder / "registry.json"),
            "EHCP_MASTER_KEY_FILE": str(keys.master_key("council")),
            "EHCP_TOKEN_KEY_FILE": str(keys.signing_key("token")),
            "EHCP_ISSUER": url,
        },
        "audit": {"EHCP_TOKEN_PUBLIC_KEY_FILE": str(keys.public_key_file("token")), "EHCP_ISSUER": url},
        "school_subscriber": {
            "EHCP_SUBSCRIBER": "school",
            "EHCP_COUNCIL_URL": url,
            "EHCP_CLIENT_ID": "subscriber-school",
            "EHCP_CLIENT_KEY_FILE": str(keys.signing_key("client-school")),
            "EHCP_RECEIPT_KEY_FILE": str(keys.signing_key("receipt-school")),
            "EHCP_RECORD_SYSTEMS_FILE": str(folder / "record_systems.json"),
            "EHCP_MASTER_KEY_FILE": str(keys.master_key("school")),
            "EHCP_TOKEN_KEY_FILE": str(keys.signing_key("school-token")),
            "EHCP_ISSUER": school_url,
            "EHCP_INBOX_CLIENTS_FILE": str(folder / "readers.json"),
        },
    }
