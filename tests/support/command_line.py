"""The command line against a publisher as a process of its own, logged in as one of its clients."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
from joserfc.jwk import OKPKey
from typer.testing import CliRunner, Result

from services.cli.machine.ports import HOST, free_ports
from services.cli.main import app
from services.shared.postgres.pool import open_pool
from tests.support.publisher import CLIENTS, NOWHERE, Publisher, publisher_database, write_settings
from tests.support.servers import RunningPostgres
from tests.support.services import RunningService


@asynccontextmanager
async def publisher_for_commands(server: RunningPostgres, folder: Path) -> AsyncIterator[Publisher]:
    """Its issuer is its own address, as the command line expects; its clients' keys are files in ``folder``."""
    keys = {client_id: OKPKey.generate_key("Ed25519") for client_id in CLIENTS}
    for client_id, key in keys.items():
        (folder / f"{client_id}.jwk").write_bytes(orjson.dumps(key.as_dict(private=True)))
    issuer_key = OKPKey.generate_key("Ed25519")
    [port] = free_ports(1)
    url = f"http://{HOST}:{port}"
    async with publisher_database(server) as owner_dsn:
        dsn = server.dsn_as("ehcp_publisher", owner_dsn)
        settings = write_settings(folder, keys, issuer_key, dsn, NOWHERE) | {"EHCP_ISSUER": url}
        service = RunningService("ehcp_publisher", settings, port, folder / "log")
        owner = await open_pool(owner_dsn, max_size=3)
        try:
            await service.start()
            async with httpx2.AsyncClient(base_url=url, timeout=60) as http:
                running = Publisher(url, owner, http, service, issuer_key, server, owner_dsn, settings, keys, folder)
                for client in ("operator", "case-system-332", "case-system-333"):
                    answer = await running.request_token(client, aud=url)
                    running._tokens[client] = answer.json()["access_token"]
                yield running
        finally:
            await service.stop()
            await owner.close()


async def ehcp(publisher: Publisher, client_id: str, *arguments: str) -> Result:
    environment = {
        "EHCP_COUNCIL_URL": publisher.url, "EHCP_CLIENT_ID": client_id, "COLUMNS": "200",
        "EHCP_CLIENT_KEY_FILE": str(publisher.folder / f"{client_id}.jwk"),
    }  # fmt: skip
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=environment)


async def told(publisher: Publisher, client_id: str, *arguments: str) -> Any:
    """What the command prints as JSON."""
    result = await ehcp(publisher, client_id, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return orjson.loads(result.stdout)
