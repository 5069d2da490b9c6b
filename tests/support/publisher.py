"""The publisher as a process of its own on a database of its own, with the sandbox's directory and a client of each kind.

The process logs in with its own role, so that grants and row-level security are those of production; tests look at what it
wrote through the owner, whom row-level security does not bind. Without Kafka the outbox keeps its rows, for a test to read.
"""

import base64
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock
from uuid import UUID, uuid4

import asyncpg
import httpx2
import orjson
from joserfc import jwt
from joserfc.jwk import OKPKey

from schemas.base import ContractError
from schemas.identifiers import check_nhs_number, check_upn
from services.cli.machine.databases import DATABASES
from services.ehcp_publisher import app
from services.ehcp_publisher.redeciding import Redeciding
from services.ehcp_publisher.resend import Resend
from services.ehcp_publisher.sending_again import SendingAgains
from services.shared.identity.keys import ASSERTION_TYPE
from services.shared.postgres.migrate import migrate
from services.shared.postgres.pool import open_pool
from services.shared.runtime import Service
from tests.support.files import pdf_of
from tests.support.openapi import Documented
from tests.support.servers import RunningKafka, RunningPostgres
from tests.support.services import REPOSITORY, RunningService, running_service

ISSUER = "http://council.test"
DIRECTORY = REPOSITORY / "deploy" / "sandbox" / "directory.json"
NOWHERE = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
"""No broker: everything but the relay works."""

CLIENTS: dict[str, dict[str, Any]] = {
    "case-system-332": {"kind": "case_system", "la_codes": ["332"]},
    "case-system-333": {"kind": "case_system", "la_codes": ["333"]},
    "operator": {"kind": "operator", "la_codes": ["332", "333"]},
    "subscriber-health": {"kind": "subscriber", "subscriber": "health"},
    "subscriber-social-care": {"kind": "subscriber", "subscriber": "social-care"},
    "subscriber-school": {"kind": "subscriber", "subscriber": "school"},
    "subscriber-family": {"kind": "subscriber", "subscriber": "family"},
}
CASE_SYSTEM = "case-system-332"

PRIMARY, SECONDARY, NURSERY = "urn:993202", "urn:993206", "urn:993201"
ICB, TRUST, SOCIAL_CARE = "ods:QUA", "ods:RNA", "la:332"


Part = tuple[str, tuple[str | None, bytes, str]]


@dataclass(slots=True)
class Publisher:
    """``headers(client)`` are those of a valid token; ``owner`` sees every row."""

    url: str
    owner: "asyncpg.Pool[asyncpg.Record]"
    http: httpx2.AsyncClient
    service: RunningService | None
    issuer_key: OKPKey
    server: RunningPostgres
    owner_dsn: str
    environment: dict[str, str]
    keys: dict[str, OKPKey]
    folder: Path
    _tokens: dict[str, str] = field(default_factory=dict)
    _asked_at: dict[str, float] = field(default_factory=dict)

    def dsn(self, role: str) -> str:
        return self.server.dsn_as(role, self.owner_dsn)

    async def request_token(self, client: str, key: OKPKey | None = None, **changes: Any) -> httpx2.Response:
        now = int(time.time())
        claims = {"iss": client, "sub": client, "aud": ISSUER, "jti": str(uuid4()), "iat": now, "exp": now + 60} | changes
        assertion = jwt.encode({"alg": "Ed25519"}, claims, key or self.keys[client], algorithms=["Ed25519"])
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion,
        }
        return await self.http.post("/oauth/token", data=form)

    async def headers(self, client: str = CASE_SYSTEM) -> dict[str, str]:
        # A token is good for ten minutes, and a publisher for all tests is there for longer.
        if client not in self._tokens or time.monotonic() - self._asked_at.get(client, time.monotonic()) > 300:
            self._asked_at[client] = time.monotonic()
            answer = await self.request_token(client)
            assert answer.status_code == 200, answer.text
            self._tokens[client] = answer.json()["access_token"]
        return {"Authorization": f"Bearer {self._tokens[client]}"}

    def mint(self, key: OKPKey | None = None, **changes: Any) -> dict[str, str]:
        """A token as the issuer would write it, but for ``changes``; by another ``key`` it is a forgery."""
        now = int(time.time())
        claims = {
            "iss": ISSUER, "aud": ISSUER, "sub": CASE_SYSTEM, "kind": "case_system", "la_codes": ["332"], "iat": now,
            "exp": now + 600, "jti": str(uuid4()),
        }  # fmt: skip
        token = jwt.encode({"alg": "Ed25519"}, claims | changes, key or self.issuer_key, algorithms=["Ed25519"])
        return {"Authorization": f"Bearer {token}"}

    async def post(
        self, path: str, body: Any, client: str = CASE_SYSTEM, headers: Mapping[str, str | bytes] | None = None
    ) -> httpx2.Response:
        """``body`` as JSON, or as it is when it is bytes."""
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        named = {**await self.headers(client), "content-type": "application/json", **(headers or {})}
        known = [(k.encode(), v if isinstance(v, bytes) else v.encode()) for k, v in named.items()]
        return await self.http.post(path, content=content, headers=known)

    async def issue(self, submission: Mapping[str, Any], client: str | None = None) -> dict[str, Any]:
        """The first version of a plan; the answer's body. Fails on anything but 201."""
        answer = await self.post("/v1/plans", submission, client or f"case-system-{submission['la_code']}")
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def amend(self, plan_id: str, version: Mapping[str, Any], client: str = CASE_SYSTEM) -> dict[str, Any]:
        answer = await self.post(f"/v1/plans/{plan_id}/versions", {"version": version}, client)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def upload(self, *parts: Part, path: str = "/v1/plans", **headers: str) -> httpx2.Response:
        """As multipart/form-data."""
        return await self.http.post(path, files=list(parts), headers=await self.headers() | headers)

    async def batch(
        self, lines: Sequence[Any], client: str = CASE_SYSTEM, *, render: bool = False
    ) -> tuple[httpx2.Response, list[dict[str, Any]]]:
        """``lines`` as JSON, or as they are when they are bytes; the answer and its lines."""
        content = b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in lines)
        answer = await self.http.post(
            f"/v1/batch?render={str(render).lower()}", content=content,
            headers=await self.headers(client) | {"content-type": "application/x-ndjson"},
        )  # fmt: skip
        return answer, [orjson.loads(line) for line in answer.content.splitlines()] if answer.status_code == 200 else []

    async def read(self, client: str, *wanted: tuple[Any, int]) -> list[dict[str, Any]]:
        reads = [{"share_id": str(share_id), "seq": seq} for share_id, seq in wanted]
        answer = await self.post("/v1/documents/read", {"reads": reads}, client)
        assert answer.status_code == 200, answer.text
        return [orjson.loads(line) for line in answer.content.splitlines()]

    async def list_all(self, client: str, limit: int = 1000, *, unanswered: bool = False) -> list[dict[str, Any]]:
        """Every page of a subscriber's own list."""
        rows: list[dict[str, Any]] = []
        after = ""
        while True:
            query = f"?limit={limit}&unanswered={str(unanswered).lower()}{after}"
            answer = await self.http.get(f"/v1/shares{query}", headers=await self.headers(client))
            assert answer.status_code == 200, answer.text
            page = answer.json()
            rows += page["shares"]
            if page["next"] is None:
                return rows
            after = f"&after={page['next']}"

    # --- what it wrote ---

    async def shares(self, plan_id: Any) -> dict[str, asyncpg.Record]:
        """By the recipient's name."""
        rows = await self.owner.fetch(
            "SELECT s.*, r.name, r.kind FROM publisher.share s JOIN publisher.recipient r USING (recipient_id)"
            " WHERE s.plan_id = $1", UUID(str(plan_id)),
        )  # fmt: skip
        return {row["name"]: row for row in rows}

    async def outbox(self, *keys: Any) -> list[dict[str, Any]]:
        """Rows of these shares or plans in order of id, with the type and the JSON of the value."""
        rows = await self.owner.fetch(
            "SELECT id, topic, key, headers, value FROM publisher.outbox WHERE key = ANY($1) ORDER BY id",
            [str(k) for k in keys],
        )
        return [
            {"id": r["id"], "topic": r["topic"], "key": r["key"], "type": r["headers"]["ce_type"],
             "data": orjson.loads(r["value"])}
            for r in rows
        ]  # fmt: skip

    async def plans_of(self, case_reference: str) -> int:
        count: int = await self.owner.fetchval("SELECT count(*) FROM publisher.plan WHERE case_reference = $1", case_reference)
        return count

    async def versions_of(self, plan_id: Any) -> list[int]:
        rows = await self.owner.fetch(
            "SELECT number FROM publisher.version WHERE plan_id = $1 ORDER BY number", UUID(str(plan_id))
        )
        return [row["number"] for row in rows]

    async def acts(self, plan_id: Any) -> list[str]:
        rows = await self.owner.fetch("SELECT act FROM audit.pending WHERE plan_id = $1 ORDER BY id", UUID(str(plan_id)))
        return [row["act"] for row in rows]


def problem(answer: httpx2.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem document, which every refusal is."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["type"], body["status"]) == (f"urn:ehcp:problem:{slug}", status), body
    assert body["title"]
    return body


# --- what a council sends ---------------------------------------------------------------------------------------------


def code(text: str) -> dict[str, str]:
    scheme, _, value = text.partition(":")
    return {"scheme": scheme, "value": value}


def placed(setting: str, from_: str = "2026-02-10", until: str | None = None) -> dict[str, Any]:
    return {"setting": code(setting), "from": from_, "until": until}


def version(issued_on: str = "2026-02-10", text: str = "Rowan likes trains.", **changes: Any) -> dict[str, Any]:
    """For a parent, a primary school, the commissioning body, and the trust by policy."""
    return {
        "issued_on": issued_on,
        "sections": {"A": {"text": text}, "B": {"items": [{"ref": "B1", "text": "Autism."}]}},
        "placements": [placed(PRIMARY)],
        "commissioning_bodies": [code(ICB)],
        "family": [{"reference": "M1", "role": "parent", "name": "Ann Hartley", "email": "ann.hartley@example.org"}],
        "involved": [{"role": "provision", "organisation": code(TRUST), "sections": ["G"]}],
    } | changes


WRONG_NHS_NUMBER = "9434765918"
CHILD = {
    "family_name": "Hartley", "given_names": "Rowan James", "date_of_birth": "2014-05-06", "nhs_number": "9434765919",
    "upn": "P207000016049", "uln": "9276308686", "postcode": "DY1 1AA", "address": ["1 Example Street", "Dudley"],
}  # fmt: skip


UPN_LETTERS = "ABCDEFGHJKLMNPQRTUVWXYZ"


def reference() -> str:
    return f"EHC-{uuid4().hex[:12]}"


def submission(case_reference: str | None = None, la_code: str = "332", **changes: Any) -> dict[str, Any]:
    case_reference = case_reference or reference()
    return {
        "la_code": la_code, "case_reference": case_reference, "child": child_of(case_reference), "version": version(),
    } | changes  # fmt: skip


def child_of(case_reference: str) -> dict[str, Any]:
    """Another child for every case: of one name and date of birth, told apart by valid NHS number and UPN."""
    chance = random.Random(case_reference)
    numbers = (f"9{chance.randrange(10**9):09}" for _ in count())
    upns = (f"{chance.choice(UPN_LETTERS)}{chance.randrange(10**12):012}" for _ in count())
    return CHILD | {
        "nhs_number": next(number for number in numbers if fits(check_nhs_number, number)),
        "upn": next(upn for upn in upns if fits(check_upn, upn)),
        "address": list(CHILD["address"]),
    }


def fits(check: Callable[[str], str], value: str) -> bool:
    try:
        check(value)
    except ContractError:
        return False
    return True


def part(name: str, data: bytes, filename: str | None = None, kind: str = "application/octet-stream") -> Part:
    """One part of multipart/form-data; a field when it has no filename."""
    return name, (filename, data, kind)


def document_alone() -> dict[str, Any]:
    """A submission without sections, as most plans are that exist already."""
    sent = submission()
    del sent["version"]["sections"]
    return sent


def pdf_document(title: str) -> bytes:
    """A small PDF about the child of every test, that is like no other with another title."""
    return pdf_of(f"{CHILD['given_names']} {CHILD['family_name']}", title=title)


# --- starting it --------------------------------------------------------------------------------------------------------


def registry_with(keys: Mapping[str, OKPKey]) -> dict[str, Any]:
    registry: dict[str, Any] = orjson.loads(DIRECTORY.read_bytes())
    registry["clients"] = [
        {"client_id": client_id, "public_key": keys[client_id].as_dict(private=False)} | client
        for client_id, client in CLIENTS.items()
    ]
    subscribers = {entry["subscriber"] for entry in registry["recipients"]} | {"family"}
    registry["subscribers"] = [
        {"subscriber": name, "name": name, "hosted_by": "council" if name == "family" else "agency",
         "receipt_key": OKPKey.generate_key("Ed25519").as_dict(private=False)}
        for name in sorted(subscribers)
    ]  # fmt: skip
    return registry


def write_settings(
    folder: Path, keys: Mapping[str, OKPKey], issuer_key: OKPKey, database_url: str, kafka: Mapping[str, str]
) -> dict[str, str]:
    """The files that the publisher is started with, and its environment."""
    files = {
        "EHCP_REGISTRY_FILE": orjson.dumps(registry_with(keys)),
        "EHCP_MASTER_KEY_FILE": base64.b64encode(os.urandom(32)),
        "EHCP_TOKEN_KEY_FILE": orjson.dumps(issuer_key.as_dict(private=True)),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {
        "DATABASE_URL": database_url, "EHCP_ISSUER": ISSUER, "EHCP_RESEND_AFTER_SECONDS": "3600",
        **{name: str(folder / name) for name in files}, **kafka,
    }  # fmt: skip


@asynccontextmanager
async def publisher_database(server: RunningPostgres) -> AsyncIterator[str]:
    """A council database with its tables and nothing in them; the owner's DSN."""
    owner_dsn = await server.create_database("publisher", DATABASES["council"])
    for service in ("audit", "ehcp_publisher"):
        await migrate(owner_dsn, service)
    yield owner_dsn


@dataclass(slots=True)
class PublisherAtHand(Publisher):
    """In this process, through ASGI, its loops not running: a test lets them do one step at a time."""

    parts: Service = field(kw_only=True)

    @property
    def pool(self) -> "asyncpg.Pool[asyncpg.Record]":
        """Logged in as the publisher."""
        return self.parts.pool

    @property
    def resend(self) -> Resend:
        bound: Any = self.parts.work["resend"]
        found = bound.__self__
        assert isinstance(found, Resend)
        return found

    @property
    def sending_again(self) -> SendingAgains:
        bound: Any = self.parts.work["sending_again"]
        found = bound.__self__
        assert isinstance(found, SendingAgains)
        return found

    @property
    def redeciding(self) -> Redeciding:
        bound: Any = self.parts.work["redeciding"]
        found = bound.__self__
        assert isinstance(found, Redeciding)
        return found


@asynccontextmanager
async def publisher_at_hand(server: RunningPostgres, **environment: str) -> AsyncIterator[PublisherAtHand]:
    keys = {client_id: OKPKey.generate_key("Ed25519") for client_id in CLIENTS}
    issuer_key = OKPKey.generate_key("Ed25519")
    with TemporaryDirectory(prefix="ehcp-publisher-") as folder:
        async with publisher_database(server) as owner_dsn:
            settings = write_settings(Path(folder), keys, issuer_key, server.dsn_as("ehcp_publisher", owner_dsn), NOWHERE)
            owner = await open_pool(owner_dsn, max_size=3)
            try:
                async with built(settings | environment) as (parts, http):
                    yield PublisherAtHand(
                        ISSUER, owner, http, None, issuer_key, server, owner_dsn, settings | environment, keys,
                        Path(folder), parts=parts,
                    )  # fmt: skip
            finally:
                await owner.close()


@asynccontextmanager
async def built(environment: Mapping[str, str]) -> AsyncIterator[tuple[Service, httpx2.AsyncClient]]:
    """As a start of the process builds it, and a client of its interface."""
    with mock.patch.dict(os.environ, environment), mock.patch("services.shared.logging.configure"):
        parts = await app.build()
    try:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=parts.app), base_url=ISSUER) as http:
            http.event_hooks = {"request": [], "response": [Documented(parts.app.openapi()).check]}
            yield parts, http
    finally:
        await parts.pool.close()


@asynccontextmanager
async def started_again(
    publisher: PublisherAtHand, change: Callable[[dict[str, Any]], object] = lambda _: None
) -> AsyncIterator[PublisherAtHand]:
    """On the same database, with ``change`` made to the registry."""
    registry = orjson.loads((publisher.folder / "EHCP_REGISTRY_FILE").read_bytes())
    change(registry)
    file = publisher.folder / f"registry-{uuid4()}.json"
    file.write_bytes(orjson.dumps(registry))
    async with built(publisher.environment | {"EHCP_REGISTRY_FILE": str(file)}) as (parts, http):
        yield replace(publisher, http=http, parts=parts, _tokens={}, _asked_at={})


@asynccontextmanager
async def running_publisher(
    server: RunningPostgres, kafka: RunningKafka | None = None, **environment: str
) -> AsyncIterator[Publisher]:
    """A real process on a real port. ``environment`` overrides its settings."""
    keys = {client_id: OKPKey.generate_key("Ed25519") for client_id in CLIENTS}
    issuer_key = OKPKey.generate_key("Ed25519")
    with TemporaryDirectory(prefix="ehcp-publisher-") as folder:
        async with publisher_database(server) as owner_dsn:
            settings = write_settings(
                Path(folder), keys, issuer_key, server.dsn_as("ehcp_publisher", owner_dsn),
                kafka.login("ehcp_publisher").environment() if kafka else NOWHERE,
            ) | environment  # fmt: skip
            owner = await open_pool(owner_dsn, max_size=3)
            try:
                async with (
                    running_service("ehcp_publisher", settings) as service,
                    httpx2.AsyncClient(base_url=service.url, timeout=60) as http,
                ):
                    documented = Documented((await http.get("/openapi.json")).json())
                    http.event_hooks = {"request": [], "response": [documented.check]}
                    yield Publisher(
                        service.url, owner, http, service, issuer_key, server, owner_dsn, settings, keys, Path(folder)
                    )
            finally:
                await owner.close()
