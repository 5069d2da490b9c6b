"""A subscriber that no Kafka reaches, on a real publisher and audit: instructions by long poll, receipts by post.

Between them stand proxies that lose answers; the subscriber's environment names no Kafka at all.
"""

import asyncio
import base64
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import orjson
import pytest
import pytest_asyncio
from joserfc.jwk import OKPKey

from schemas.events import EventType
from schemas.heartbeats import Heartbeat
from schemas.receipts import HostedBy, Receipt, Status
from services.cli.machine.ports import HOST, free_ports
from services.shared.identity.receipts import signer
from services.shared.kafka.cloudevents import headers as event_headers
from services.shared.postgres.migrate import migrate
from services.shared.postgres.pool import open_pool
from services.shared.web import event_batch
from tests.support import fault_proxy
from tests.support.case_system import SECRET, CaseSystem, running_case_system
from tests.support.fault_proxy import FaultProxy, Request
from tests.support.publisher import (
    CASE_SYSTEM,
    SOCIAL_CARE,
    TRUST,
    Publisher,
    code,
    problem,
    running_publisher,
    submission,
    version,
)
from tests.support.servers import RunningKafka, RunningPostgres
from tests.support.services import RunningService, running_service
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

CLIENT = "subscriber-social-care"
SUBSCRIBER = "social-care"


def a_version(issued_on: str) -> dict[str, Any]:
    """One that social care should hold."""
    involved = [{"role": "advice", "organisation": code(SOCIAL_CARE)}, {"role": "advice", "organisation": code(TRUST)}]
    return version(issued_on, f"Text of {issued_on}.", involved=involved)


@dataclass(slots=True)
class Away:
    """An exchange with a subscriber that has HTTPS and no Kafka."""

    publisher: Publisher
    audit: RunningService
    to_publisher: FaultProxy
    to_audit: FaultProxy
    receipt_key: OKPKey
    books: "asyncpg.Pool[asyncpg.Record]"
    case_system: CaseSystem
    http: httpx2.AsyncClient

    async def issue(self) -> UUID:
        return UUID((await self.publisher.issue(submission(version=a_version("2026-02-10"))))["plan_id"])

    async def amend(self, plan_id: UUID) -> None:
        await self.publisher.amend(str(plan_id), a_version("2026-03-10"))

    async def share(self, plan_id: UUID) -> asyncpg.Record:
        """The social care share of a plan, as the council sees it."""
        row = await self.publisher.owner.fetchrow(
            "SELECT s.share_id, s.seq, s.version_id, s.action, coalesce(n.satisfied_seq, 0) AS satisfied_seq, n.status"
            " FROM publisher.share s LEFT JOIN audit.newest n USING (share_id) WHERE s.plan_id = $1 AND s.subscriber = $2",
            plan_id, SUBSCRIBER,
        )  # fmt: skip
        assert row is not None
        return row

    async def until_satisfied(self, plan_id: UUID) -> asyncpg.Record:
        async def satisfied() -> asyncpg.Record | None:
            share = await self.share(plan_id)
            return share if share["satisfied_seq"] == share["seq"] else None

        share = await until(satisfied, within=60, what="the council knows that social care holds the plan")
        assert share is not None
        return share

    async def said(self, share_id: UUID) -> list[tuple[int, str]]:
        """(``seq``, status) of every receipt that audit stored, in order of their numbers."""
        rows = await self.publisher.owner.fetch(
            "SELECT seq, status FROM audit.receipt WHERE share_id = $1 ORDER BY number", share_id
        )
        return [(row["seq"], row["status"]) for row in rows]

    async def feed(self, client: str = CLIENT, **query: int) -> httpx2.Response:
        return await self.publisher.http.get("/v1/feed", params=query, headers=await self.publisher.headers(client))

    async def post(self, body: Any, client: str = CLIENT) -> httpx2.Response:
        content = body if isinstance(body, bytes) else event_batch.write(body)
        headers = await self.publisher.headers(client) | {"content-type": event_batch.CONTENT_TYPE}
        return await self.http.post(f"{self.audit.url}/v1/receipts", content=content, headers=headers)

    async def taken(self, *events: dict[str, Any], client: str = CLIENT) -> dict[str, Any]:
        answer = await self.post(list(events), client)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body


def receipt_event(receipt: Receipt, key: OKPKey, **changes: str) -> dict[str, Any]:
    headers = event_headers(EventType.RECEIPT, "/subscribers/x", datetime.now(UTC), content_type="application/jose")
    return event_batch.event(str(receipt.share_id), headers, signer(key)(receipt)) | changes


def filed(share: asyncpg.Record, **changes: Any) -> Receipt:
    given: dict[str, Any] = {
        "number": time.time_ns() // 1000, "subscriber": SUBSCRIBER, "hosted_by": HostedBy.AGENCY,
        "share_id": share["share_id"], "seq": share["seq"], "status": Status.FAILED, "reason": "asleep",
        "at": datetime.now(UTC),
    }  # fmt: skip
    return Receipt(**given | changes)


@asynccontextmanager
async def subscribing(environment: Mapping[str, str]) -> AsyncIterator[RunningService]:
    named = [name for name in os.environ if "KAFKA" in name]
    assert not named, f"the test's own environment names Kafka: {named}"
    assert not [name for name in environment if "KAFKA" in name]
    async with running_service("social_care_subscriber", environment) as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def environment_and_exchange(
    postgres_server: RunningPostgres, kafka_server: RunningKafka, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[dict[str, str], Away]]:
    folder: Path = tmp_path_factory.mktemp("https-feed")
    publisher_port, audit_port = free_ports(2)
    issuer = f"http://{HOST}:{publisher_port}"
    books = await postgres_server.create_database("books", ("social_care_subscriber",))
    await migrate(books, "social_care_subscriber")
    pool = await open_pool(books, max_size=2)
    receipt_key = OKPKey.generate_key("Ed25519")
    async with (
        running_case_system() as case_system,
        running_publisher(postgres_server, kafka_server, EHCP_ISSUER=issuer) as publisher,
        httpx2.AsyncClient() as http,
    ):
        await publisher.owner.execute(
            "UPDATE publisher.subscriber SET receipt_key = $2 WHERE subscriber = $1",
            SUBSCRIBER, receipt_key.as_dict(private=False),
        )  # fmt: skip
        for client in ("operator", CASE_SYSTEM, CLIENT, "subscriber-health"):
            publisher._tokens[client] = (await publisher.request_token(client, aud=issuer)).json()["access_token"]
        files = {
            "EHCP_TOKEN_PUBLIC_KEY_FILE": orjson.dumps(publisher.issuer_key.as_dict(private=False)),
            "EHCP_CLIENT_KEY_FILE": orjson.dumps(publisher.keys[CLIENT].as_dict(private=True)),
            "EHCP_RECEIPT_KEY_FILE": orjson.dumps(receipt_key.as_dict(private=True)),
            "EHCP_MASTER_KEY_FILE": base64.b64encode(os.urandom(32)),
            "EHCP_RECORD_SYSTEMS_FILE": orjson.dumps(
                {"record_systems": [
                    {"name": "cases", "kind": "webhook", "recipients": "*", "url": case_system.url, "secret": SECRET,
                     "allow_private": True},
                ]}
            ),
        }  # fmt: skip
        for name, content in files.items():
            (folder / name).write_bytes(content)
        audit_environment = {
            "DATABASE_URL": publisher.dsn("audit"), "EHCP_ISSUER": issuer,
            "EHCP_TOKEN_PUBLIC_KEY_FILE": str(folder / "EHCP_TOKEN_PUBLIC_KEY_FILE"),
            **kafka_server.login("audit").environment(),
        }  # fmt: skip
        assert publisher.service is not None
        async with (
            running_service("audit", audit_environment) as audit,
            FaultProxy(publisher.service.port, publisher_port) as to_publisher,
            FaultProxy(audit.port, audit_port) as to_audit,
        ):
            environment = {
                "DATABASE_URL": postgres_server.dsn_as("social_care_subscriber", books), "EHCP_FEED": "https",
                "EHCP_SUBSCRIBER": SUBSCRIBER, "EHCP_COUNCIL_URL": issuer, "EHCP_CLIENT_ID": CLIENT,
                "EHCP_AUDIT_URL": f"http://{HOST}:{audit_port}", "EHCP_RECONCILE_SECONDS": "3600",
                **{name: str(folder / name) for name in files if name != "EHCP_TOKEN_PUBLIC_KEY_FILE"},
            }  # fmt: skip
            yield environment, Away(publisher, audit, to_publisher, to_audit, receipt_key, pool, case_system, http)
    await pool.close()


@pytest_asyncio.fixture(loop_scope="session")
async def exchange(environment_and_exchange: tuple[dict[str, str], Away]) -> AsyncIterator[Away]:
    """The council side alone: no subscriber runs."""
    _, exchange = environment_and_exchange
    yield exchange
    exchange.to_publisher.heal()
    exchange.to_audit.heal()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def subscriber(environment_and_exchange: tuple[dict[str, str], Away]) -> AsyncIterator[RunningService]:
    environment, _ = environment_and_exchange
    async with subscribing(environment) as running:
        yield running


def is_feed(request: Request) -> bool:
    return request.path.startswith("/v1/feed")


def is_post(request: Request) -> bool:
    return request.method == "POST" and request.path == "/v1/receipts"


# --- the council's side, before any subscriber runs -----------------------------------------------------------------------


async def test_an_instruction_is_told_until_it_is_answered(exchange: Away) -> None:
    plan_id = await exchange.issue()
    share = await exchange.share(plan_id)
    for _ in range(2):
        answer = await exchange.feed()
        assert answer.status_code == 200
        assert answer.headers["content-type"] == event_batch.CONTENT_TYPE
        [told] = [each for each in answer.json() if each["partitionkey"] == str(share["share_id"])]
        assert told["type"] == "ehcp.share.requested.v1"
        assert told["id"] == f"{share['share_id']}-1"
        assert told["data"]["version_id"] == str(share["version_id"])
    body = await exchange.taken(receipt_event(filed(share), exchange.receipt_key))
    assert body == {"taken": 1, "refused": []}
    assert str(share["share_id"]) not in [each["partitionkey"] for each in (await exchange.feed()).json()]


async def test_a_new_wish_is_told_again_after_the_old_one_was_answered(exchange: Away) -> None:
    plan_id = await exchange.issue()
    await exchange.taken(receipt_event(filed(await exchange.share(plan_id)), exchange.receipt_key))
    await exchange.amend(plan_id)
    share = await exchange.share(plan_id)
    assert share["seq"] == 2
    [told] = [each for each in (await exchange.feed()).json() if each["partitionkey"] == str(share["share_id"])]
    assert told["data"]["seq"] == 2


async def test_nobody_is_told_of_another_s_shares(exchange: Away) -> None:
    share = await exchange.share(await exchange.issue())
    others = (await exchange.feed("subscriber-health")).json()
    assert others
    assert str(share["share_id"]) not in [each["partitionkey"] for each in others]


async def test_a_page_holds_so_many_and_what_is_answered_makes_room(exchange: Away) -> None:
    shares = {(await exchange.share(await exchange.issue()))["share_id"] for _ in range(3)}
    seen = set[UUID]()

    async def all_seen() -> bool:
        page = (await exchange.feed(limit=2)).json()
        assert len(page) <= 2
        for each in page:
            share = {"share_id": UUID(each["partitionkey"]), "seq": each["data"]["seq"]}
            seen.add(UUID(each["partitionkey"]))
            await exchange.taken(receipt_event(filed(share), exchange.receipt_key))  # type: ignore[arg-type]
        return shares <= seen

    await until(all_seen, what="every instruction was told")


async def test_who_waits_is_told_as_soon_as_there_is_something(exchange: Away) -> None:
    for each in (await exchange.feed()).json():
        share = {"share_id": UUID(each["partitionkey"]), "seq": each["data"]["seq"]}
        await exchange.taken(receipt_event(filed(share), exchange.receipt_key))  # type: ignore[arg-type]
    started = time.monotonic()
    assert (await exchange.feed(wait=1)).json() == []
    assert time.monotonic() - started >= 1
    waiting = asyncio.create_task(exchange.feed(wait=50))
    plan_id = await exchange.issue()
    started = time.monotonic()
    [told] = (await waiting).json()
    assert told["data"]["plan_id"] == str(plan_id)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("query", [{"wait": 61}, {"wait": -1}, {"limit": 0}, {"limit": 501}])
async def test_a_question_out_of_bounds_is_refused(exchange: Away, query: dict[str, int]) -> None:
    problem(await exchange.feed(CLIENT, **query), 422, "invalid")


async def test_only_subscribers_are_answered(exchange: Away) -> None:
    problem(await exchange.feed(CASE_SYSTEM), 403, "not-allowed")
    problem(await exchange.publisher.http.get("/v1/feed"), 401, "unauthorised")
    problem(await exchange.post([], CASE_SYSTEM), 403, "not-allowed")
    problem(await exchange.http.post(f"{exchange.audit.url}/v1/receipts", content=b"[]"), 401, "unauthorised")


# --- receipts over HTTP ---------------------------------------------------------------------------------------------------


async def test_a_receipt_that_comes_twice_is_stored_once(exchange: Away) -> None:
    share = await exchange.share(await exchange.issue())
    event = receipt_event(filed(share), exchange.receipt_key)
    assert await exchange.taken(event, event) == {"taken": 2, "refused": []}
    assert await exchange.taken(event) == {"taken": 1, "refused": []}
    assert await exchange.said(share["share_id"]) == [(1, "failed")]


async def test_forged_receipts_are_refused_and_kept_as_dead_letters(exchange: Away) -> None:
    share = await exchange.share(await exchange.issue())
    good, other = filed(share), OKPKey.generate_key("Ed25519")
    health = await exchange.publisher.owner.fetchrow(
        "SELECT share_id, seq FROM publisher.share WHERE subscriber = 'health' LIMIT 1"
    )
    assert health is not None
    forged = {
        "signed by another": receipt_event(good, other),
        "another's share": receipt_event(filed(health), exchange.receipt_key),
        "under another key": receipt_event(good, exchange.receipt_key, partitionkey=str(uuid4())),
        "no type": receipt_event(good, exchange.receipt_key, type="something"),
        "another subscriber's name": receipt_event(good.model_copy(update={"subscriber": "health"}), exchange.receipt_key),
        "no receipt": receipt_event(good, exchange.receipt_key, data="abc"),
        "nothing": {},
        "a share that is not": receipt_event(replace_share(good), exchange.receipt_key),
    }
    body = await exchange.taken(*forged.values(), receipt_event(good, exchange.receipt_key))
    assert body["taken"] == 1
    reasons = {list(forged)[each["position"]]: each["reason"] for each in body["refused"]}
    assert reasons == {
        "signed by another": "the signature is not this subscriber's",
        "another's share": "the share belongs to another subscriber",
        "under another key": "the record's key is not the receipt's share",
        "no type": "the header ce_type names neither a receipt nor a heartbeat",
        "another subscriber's name": "the receipt names another subscriber than its topic",
        "no receipt": "not a compact JWS",
        "nothing": "the header ce_type names neither a receipt nor a heartbeat",
        "a share that is not": "the council has no such share",
    }
    assert await exchange.said(share["share_id"]) == [(1, "failed")]
    kept = await exchange.publisher.owner.fetchval(
        "SELECT count(*) FROM audit.dead_letter WHERE topic = 'ehcp.receipts.social-care.v1' AND partition = -1"
    )
    assert kept == len(forged)


def replace_share(receipt: Receipt) -> Receipt:
    return receipt.model_copy(update={"share_id": uuid4()})


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"null", b'["x"]', b"[" + b",".join([b"{}"] * 501) + b"]"])
async def test_what_is_no_batch_is_refused_whole(exchange: Away, body: bytes) -> None:
    problem(await exchange.post(body), 422, "no-batch")


async def test_a_heartbeat_comes_over_http_too(exchange: Away) -> None:
    headers = event_headers(EventType.HEARTBEAT, "/subscribers/social-care", datetime.now(UTC), content_type="application/jose")
    beat = signer(exchange.receipt_key)(Heartbeat(subscriber=SUBSCRIBER, at=datetime.now(UTC)))
    assert (await exchange.taken(event_batch.event(SUBSCRIBER, headers, beat)))["refused"] == []
    assert await exchange.publisher.owner.fetchval(
        "SELECT last_seen > now() - interval '1 minute' FROM audit.heartbeat WHERE subscriber = $1", SUBSCRIBER
    )


# --- the whole way, without Kafka -----------------------------------------------------------------------------------------


async def test_a_plan_is_filed_and_the_council_knows(exchange: Away, subscriber: RunningService) -> None:
    plan_id = await exchange.issue()
    share = await exchange.until_satisfied(plan_id)
    assert (await exchange.case_system.plans())[str(plan_id)]["version_id"] == str(share["version_id"])
    # Parking is answered too: without a committed offset that is how the council knows that it need not tell it again.
    assert await exchange.said(share["share_id"]) == [(1, "waiting"), (1, "filed")]
    assert subscriber.process is not None
    assert subscriber.process.returncode is None


@pytest.mark.usefixtures("subscriber")
async def test_the_subscriber_says_how_it_fares(exchange: Away) -> None:
    await exchange.until_satisfied(await exchange.issue())

    async def told() -> asyncpg.Record | None:
        return await exchange.publisher.owner.fetchrow(
            "SELECT * FROM audit.v_heartbeat WHERE subscriber = $1 AND holdings_digest IS NOT NULL", SUBSCRIBER
        )

    beat = await until(told, what="the subscriber says how it fares")
    assert beat is not None
    assert (beat["dead_letters"], beat["stopped_topics"]) == (0, [])


@pytest.mark.usefixtures("subscriber")
async def test_an_amendment_follows(exchange: Away) -> None:
    plan_id = await exchange.issue()
    await exchange.until_satisfied(plan_id)
    await exchange.amend(plan_id)
    share = await exchange.until_satisfied(plan_id)
    assert share["seq"] == 2
    assert (await exchange.case_system.plans())[str(plan_id)]["version_id"] == str(share["version_id"])


@pytest.mark.usefixtures("subscriber")
async def test_lost_answers_cost_time_and_nothing_else(exchange: Away) -> None:
    # Each side did its part, and neither heard of it.
    exchange.to_publisher.spoil(fault_proxy.lost_answer, is_feed, times=2)
    exchange.to_audit.spoil(fault_proxy.lost_answer, is_post, times=2)
    exchange.to_publisher.spoil(fault_proxy.truncated, is_feed, times=1)
    exchange.to_audit.spoil(fault_proxy.status(500, b"<html>", "text/html"), is_post, times=1)
    plans = [await exchange.issue() for _ in range(5)]
    for plan_id in plans:
        share = await exchange.until_satisfied(plan_id)
        said = await exchange.said(share["share_id"])
        assert said == [(1, "waiting"), (1, "filed")]
    held = await exchange.case_system.plans()
    assert all(str(plan_id) in held for plan_id in plans)


@pytest.mark.usefixtures("subscriber")
async def test_while_audit_is_away_plans_are_filed_and_told_of_later(exchange: Away) -> None:
    exchange.to_audit.spoil(fault_proxy.reset, is_post)
    plan_id = await exchange.issue()

    async def held() -> bool:
        return str(plan_id) in await exchange.case_system.plans()

    await until(held, within=60, what="the case system holds the plan")
    assert (await exchange.share(plan_id))["satisfied_seq"] == 0
    exchange.to_audit.heal()
    await exchange.until_satisfied(plan_id)

    async def empty() -> bool:
        return bool(await exchange.books.fetchval("SELECT count(*) = 0 FROM delivery.outbox"))

    await until(empty, what="every receipt was taken")


@pytest.mark.usefixtures("subscriber")
async def test_a_refused_receipt_stops_no_other(exchange: Away) -> None:
    await exchange.books.execute(
        "INSERT INTO delivery.outbox (topic, key, headers, value) VALUES ($1, 'x', $2, 'nonsense')",
        "ehcp.receipts.social-care.v1", {"ce_type": EventType.RECEIPT, "content-type": "application/jose"},
    )  # fmt: skip
    await exchange.until_satisfied(await exchange.issue())

    async def set_aside() -> str | None:
        reason: str | None = await exchange.books.fetchval("SELECT refused FROM delivery.outbox WHERE key = 'x'")
        return reason

    assert await until(set_aside, what="the refused row was set aside") == "not a compact JWS"
    await exchange.books.execute("DELETE FROM delivery.outbox WHERE key = 'x'")


@pytest.mark.usefixtures("subscriber")
async def test_a_council_that_lost_its_receipts_hears_them_again(exchange: Away) -> None:
    plan_id = await exchange.issue()
    share = await exchange.until_satisfied(plan_id)
    # As after a restore of audit's tables from before: the publisher wants to know again.
    async with exchange.publisher.owner.acquire() as connection, connection.transaction():
        await connection.execute("DELETE FROM audit.receipt WHERE share_id = $1", share["share_id"])
        await connection.execute("DELETE FROM audit.newest WHERE share_id = $1", share["share_id"])
        await connection.execute(
            "INSERT INTO publisher.unsatisfied (share_id, la_code, seq, due_at, check_at)"
            " VALUES ($1, '332', 1, now(), now() + interval '1 day') ON CONFLICT DO NOTHING",
            share["share_id"],
        )
    await exchange.until_satisfied(plan_id)
    assert await exchange.said(share["share_id"]) == [(1, "filed")]


@pytest.mark.usefixtures("subscriber")
async def test_an_instruction_that_cannot_be_read_is_refused_and_holds_up_no_other(exchange: Away) -> None:
    plan_id = await exchange.issue()
    share = await exchange.until_satisfied(plan_id)
    async with exchange.publisher.owner.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO publisher.instruction (share_id, seq, la_code, type, data, version_id, requested_at, due_at)"
            " SELECT share_id, 2, la_code, 'ehcp.share.unheard-of.v9', '{}', version_id, now(), now()"
            " FROM publisher.instruction WHERE share_id = $1 AND seq = 1",
            share["share_id"],
        )
        await connection.execute("UPDATE publisher.share SET seq = 2 WHERE share_id = $1", share["share_id"])
        await connection.execute(
            "INSERT INTO publisher.unsatisfied (share_id, la_code, seq, due_at, check_at)"
            " VALUES ($1, '332', 2, now() + interval '1 day', now() + interval '1 day')"
            " ON CONFLICT (share_id) DO UPDATE SET seq = 2",
            share["share_id"],
        )

    async def refused() -> bool:
        return (2, "refused") in await exchange.said(share["share_id"])

    await until(refused, within=60, what="the council was told that it could not be read")
    await exchange.until_satisfied(await exchange.issue())


@pytest.mark.usefixtures("subscriber")
async def test_a_question_about_the_records_comes_over_https_and_its_answer_too(exchange: Away) -> None:
    plan_id = await exchange.issue()
    await exchange.until_satisfied(plan_id)
    request = {"la_code": "332", "children": [str(plan_id)], "agency": code(SOCIAL_CARE)}
    look = (await exchange.publisher.post("/v1/looks", request, "operator")).json()

    async def found() -> str | None:
        answer: str | None = await exchange.publisher.owner.fetchval(
            "SELECT found FROM audit.holding WHERE look_id = $1 ORDER BY number DESC LIMIT 1", UUID(look["look_id"])
        )
        return answer

    assert await until(found, within=60, what="the record was looked into") == "held"
