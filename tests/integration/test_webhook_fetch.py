"""Thin webhooks: the message says that there is something, its receiver fetches it with a signature, files it and answers."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

import httpx2
import orjson
import pytest
import pytest_asyncio
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI, Request, Response

from schemas.receipts import Status
from services.cli.machine.ports import HOST, free_ports
from services.shared.clock import utc_now
from services.shared.delivery import store_pauses
from services.shared.delivery.handlers import Parking
from services.shared.record_systems.port import RecordSystem
from services.shared.record_systems.systems import Systems, SystemSettings
from services.shared.record_systems.webhook import WebhookEndpoint, build_webhook
from services.shared.record_systems.webhook_fetch import make_fetch_router
from services.shared.record_systems.webhook_keys import is_signed, keys_of, signed
from services.shared.runtime import make_app
from tests.support.publisher import problem
from tests.support.servers import RunningPostgres
from tests.support.subscriber import RNA, RXK, SETTINGS, SubscriberStub, Wanted, books, subscriber_on, wanted
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

OURS, THEIRS, STRANGER = (Ed25519PrivateKey.generate() for _ in range(3))
LANE = "rna"


def private(key: Ed25519PrivateKey) -> str:
    return "whsk_" + base64.b64encode(key.private_bytes_raw()).decode()


def public(key: Ed25519PrivateKey) -> str:
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return "whpk_" + base64.b64encode(raw).decode()


@dataclass
class Receiver:
    """A case system that shares no secret with us: it has our public key, we have its own."""

    http: httpx2.AsyncClient
    messages: list[dict[str, Any]] = field(default_factory=list)
    fetched: list[dict[str, Any]] = field(default_factory=list)
    answer: Callable[[str], Response] | None = None

    async def fetch(self, dataref: str, key: Ed25519PrivateKey = THEIRS, **changes: str) -> httpx2.Response:
        query = dataref.partition("?")[2]
        return await self.http.get(dataref, headers=signed(str(uuid4()), query, keys_of(private(key)), utc_now()) | changes)

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/hook")
        async def hook(request: Request) -> Response:
            body = await request.body()
            assert is_signed(request.headers, body, keys_of(private(THEIRS), [public(OURS)]), utc_now())
            event = orjson.loads(body)
            self.messages.append(event)
            if self.answer is not None:
                return self.answer(event["type"])
            answer = await self.fetch(event["dataref"])
            if answer.status_code != 200:
                return Response(status_code=503)
            self.fetched.append(orjson.loads(answer.content))
            return Response(
                orjson.dumps({"record": "case/7", "sha256": self.fetched[-1]["data"]["sha256"]}), media_type="application/json"
            )

        return app


@asynccontextmanager
async def served(app: FastAPI, port: int) -> AsyncIterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=port, log_config=None, access_log=False))
    task = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    await until(started, what="the server listens")
    try:
        yield
    finally:
        server.should_exit = True
        await task


@dataclass
class Thin:
    subscriber: SubscriberStub
    receiver: Receiver
    endpoint: WebhookEndpoint
    fetch_url: str

    @asynccontextmanager
    async def dispatching(self) -> AsyncIterator[None]:
        async with self.subscriber.dispatching():
            yield

    def dataref(self, wish: Wanted, *, seq: int | None = None, lane: str = LANE) -> str:
        return f"{self.fetch_url.rsplit('/', 1)[0]}/{lane}?share={wish.share_id}&seq={seq or wish.seq}"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_server: RunningPostgres) -> str:
    return await books(postgres_server)


@pytest_asyncio.fixture
async def thin(postgres_server: RunningPostgres, database: str) -> AsyncIterator[Thin]:
    hook_port, fetch_port = free_ports(2)
    fetch_url = f"http://{HOST}:{fetch_port}/v1/webhooks/{LANE}"
    entry = SystemSettings(
        name=LANE, kind="webhook", recipients="*", url=f"http://{HOST}:{hook_port}/hook", secret=private(OURS),
        allow_private=True, options={"payload": "thin", "fetch_url": fetch_url, "public_keys": [public(THEIRS)]},
    )  # fmt: skip
    endpoint = build_webhook(entry)
    async with subscriber_on(postgres_server, database) as subscriber, httpx2.AsyncClient() as http:
        by_name: dict[str, RecordSystem] = {LANE: endpoint}
        systems = Systems(
            SETTINGS,
            {"fhir": lambda each: by_name.get(each.name, subscriber.rxk), "inbox": lambda _: subscriber.rxk},
        )
        subscriber.systems = systems
        subscriber.parking = Parking(subscriber.pool, systems, subscriber.receipts, lambda: None, subscriber.looks)
        receiver = Receiver(http)
        app = make_app("test")
        app.include_router(make_fetch_router(subscriber.pool, subscriber.council.client, {LANE: endpoint}))
        try:
            async with served(receiver.app(), hook_port), served(app, fetch_port):
                yield Thin(subscriber, receiver, endpoint, fetch_url)
        finally:
            await endpoint.close()


async def test_what_is_fetched_is_filed_and_the_message_held_nothing_of_it(thin: Thin) -> None:
    wish = wanted(RNA)
    thin.subscriber.council.wants(wish)
    await thin.subscriber.park(wish)
    async with thin.dispatching():
        receipt = await thin.subscriber.until_said(wish, Status.FILED)
    assert (receipt.record, receipt.sha256) == ("case/7", wish.sha256)
    [message] = thin.receiver.messages
    assert message["type"] == "ehcp.delivery.available.v1"
    assert message["data"]["version_id"] == str(wish.version_id)
    text = orjson.dumps(message).decode()
    assert all(word not in text for word in ("Hartley", "Rowan", "9434765919", "EHC-2026-0001", "Text of version"))
    [fetched] = thin.receiver.fetched
    assert (fetched["type"], fetched["id"]) == ("ehcp.plan.delivered.v1", message["id"])
    assert fetched["data"]["child"]["family_name"] == "Hartley"
    assert fetched["data"]["sections"]["A"]["text"] == "Text of version 1."
    # Delivering read it, and fetching read it: each is the council's to allow, and to know of.
    assert thin.subscriber.council.reads == [[(wish.share_id, 1)], [(wish.share_id, 1)]]


async def test_only_the_endpoint_s_own_signature_fetches(thin: Thin) -> None:
    wish = wanted(RNA)
    thin.subscriber.council.wants(wish)
    await thin.subscriber.park(wish)
    dataref = thin.dataref(wish)
    assert (await thin.receiver.fetch(dataref)).status_code == 200
    reads = len(thin.subscriber.council.reads)
    problem(await thin.receiver.http.get(dataref), 401, "not-signed")
    problem(await thin.receiver.fetch(dataref, STRANGER), 401, "not-signed")
    problem(await thin.receiver.fetch(dataref, OURS), 401, "not-signed")
    problem(await thin.receiver.fetch(dataref, THEIRS, **{"webhook-timestamp": "1"}), 401, "not-signed")
    problem(await thin.receiver.fetch(thin.dataref(wish, lane="nobody")), 401, "not-signed")
    # A signature over one query opens no other.
    other = signed("x", dataref.partition("?")[2], keys_of(private(THEIRS)), utc_now())
    problem(await thin.receiver.http.get(thin.dataref(wanted(RNA)), headers=other), 401, "not-signed")
    assert len(thin.subscriber.council.reads) == reads


async def test_nothing_of_another_recipient_is_fetched(thin: Thin) -> None:
    theirs = wanted(RXK)
    thin.subscriber.council.wants(theirs)
    await thin.subscriber.park(theirs)
    problem(await thin.receiver.fetch(thin.dataref(theirs)), 404, "no-delivery")
    problem(await thin.receiver.fetch(thin.dataref(wanted(RNA))), 404, "no-delivery")


async def test_what_is_no_longer_wanted_is_not_fetched(thin: Thin) -> None:
    wish = wanted(RNA)
    thin.subscriber.council.wants(wish)
    await thin.subscriber.park(wish)
    # The council has withdrawn it, and the instruction is still on its way.
    thin.subscriber.council.wants(wish.next(withdrawn=True))
    problem(await thin.receiver.fetch(thin.dataref(wish)), 404, "no-delivery")
    newer = wish.next(seq=3)
    thin.subscriber.council.wants(newer)
    await thin.subscriber.park(newer)
    problem(await thin.receiver.fetch(thin.dataref(wish)), 404, "no-delivery")
    assert (await thin.receiver.fetch(thin.dataref(newer))).status_code == 200


async def test_a_council_that_is_away_or_answers_another_thing(thin: Thin) -> None:
    wish = wanted(RNA)
    await thin.subscriber.park(wish)
    thin.subscriber.council.down = lambda _: httpx2.Response(500)
    answer = await thin.receiver.fetch(thin.dataref(wish))
    problem(answer, 503, "council-away")
    assert answer.headers["retry-after"] == "30"
    thin.subscriber.council.down = None
    thin.subscriber.council.wants(replace(wish, version_id=uuid4()))
    problem(await thin.receiver.fetch(thin.dataref(wish)), 503, "council-away")


@pytest.mark.parametrize(
    "query", ["", "?share=x&seq=1", f"?share={UUID(int=1)}&seq=0", f"?share={UUID(int=1)}&seq=99999999999999999999"]
)
async def test_a_question_that_is_none(thin: Thin, query: str) -> None:
    problem(await thin.receiver.fetch(thin.fetch_url + query), 422, "invalid")


async def test_an_endpoint_that_is_gone_is_sent_nothing_more_until_a_person_resumes_it(thin: Thin) -> None:
    thin.receiver.answer = lambda _: Response(status_code=410)
    wishes = [wanted(RNA) for _ in range(3)]
    thin.subscriber.council.wants(*wishes)
    # The second process knows of it too: it is written down.
    for part, said in (
        (wishes[:1], "paused by the subscriber itself: "),
        (wishes[1:], "paused by the subscriber itself since "),
    ):
        async with thin.dispatching():
            for wish in part:
                await thin.subscriber.park(wish)
                receipt = await thin.subscriber.until_said(wish, Status.WAITING)
                assert receipt.reason is not None
                assert receipt.reason.startswith(said)
                assert receipt.reason.endswith("the endpoint is gone (410)")
    assert len(thin.receiver.messages) == 1
    thin.receiver.answer = None
    async with thin.subscriber.pool.acquire() as connection, connection.transaction():
        [paused] = await store_pauses.paused(connection)
        assert (paused["recipient"], paused["reason"]) == ("ods:RNA", "the endpoint is gone (410)")
        assert await store_pauses.resume(connection, "ods:RNA") == 3
    async with thin.dispatching():
        for wish in wishes:
            await thin.subscriber.until_said(wish, Status.FILED)


async def test_a_thin_endpoint_needs_to_know_who_fetches() -> None:
    from services.shared.record_systems.systems import RecordSystemsFileError

    def entry(secret: str, **options: Any) -> SystemSettings:
        return SystemSettings(
            name="cases", kind="webhook", recipients="*", url="https://case.example/", secret=secret, options=options
        )

    shared = "whsec_" + base64.b64encode(b"a" * 32).decode()
    for wrong in (
        entry(private(OURS), payload="thin", fetch_url="https://us.example/v1/webhooks/cases"),
        entry(shared, payload="thin"),
        entry(shared, fetch_url="https://us.example/"),
        entry(shared, payload="slim"),
        entry(shared, public_keys=["x"]),
    ):
        with pytest.raises(RecordSystemsFileError, match=r"^cases: "):
            build_webhook(wrong)
    made = build_webhook(entry(shared, payload="thin", fetch_url="https://us.example/v1/webhooks/cases"))
    await made.close()
