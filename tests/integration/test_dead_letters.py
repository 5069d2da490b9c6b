"""Dead letters of a subscriber and of audit: seen by their operator, put in again when it is mended, closed once."""

import base64
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from fastapi import Request

from schemas.heartbeats import Heartbeat
from schemas.receipts import Status
from services.audit.handlers import receipts_handler
from services.shared.dead_letters.api import make_dead_letters_router
from services.shared.delivery.heartbeats import Heartbeats
from services.shared.identity.operator_token import OperatorToken, OperatorTokenError
from services.shared.identity.receipts import signer, verify_heartbeat
from services.shared.kafka.consume import Record
from services.shared.postgres.pool import open_pool
from services.shared.runtime import make_app
from tests.support.council import CouncilDatabase, council_database, event_headers, receipt_for
from tests.support.publisher import problem
from tests.support.servers import RunningPostgres
from tests.support.subscriber import RNA, SubscriberStub, record_of, wanted

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

TOKEN = "a-token-of-thirty-two-characters-or-more"


@dataclass
class Letters:
    """The routes of one service; ``stopped`` are topics that it does not read."""

    http: httpx2.AsyncClient
    stopped: set[str] = field(default_factory=set)

    async def listed(self, **query: Any) -> list[dict[str, Any]]:
        answer = await self.http.get("/v1/dead-letters", params=query)
        assert answer.status_code == 200, answer.text
        letters: list[dict[str, Any]] = answer.json()["dead_letters"]
        return letters

    async def replay(self, **chosen: Any) -> dict[str, Any]:
        answer = await self.http.post("/v1/dead-letters/replay", json=chosen)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body


@asynccontextmanager
async def letters_of(pool: Any, table: str, handler: Any, operator: Any) -> AsyncIterator[Letters]:
    app = make_app("test")
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app), base_url="http://service.test", headers={"Authorization": f"Bearer {TOKEN}"}
    ) as http:
        letters = Letters(http)
        app.include_router(
            make_dead_letters_router(pool, table, handler, operator, lambda: letters.stopped, letters.stopped.discard)
        )
        yield letters


@pytest_asyncio.fixture
async def letters(subscriber: SubscriberStub, tmp_path: Path) -> AsyncIterator[Letters]:
    (tmp_path / "token").write_text(TOKEN + "\n")
    operator = OperatorToken(tmp_path / "token")
    async with letters_of(subscriber.pool, "delivery.dead_letter", subscriber.parking.handle, operator) as made:
        yield made


def unreadable(*values: bytes) -> Iterable[Record]:
    return [record_of(wanted(RNA), value=value) for value in values]


async def test_what_nobody_could_read_is_listed_with_reason_and_origin(subscriber: SubscriberStub, letters: Letters) -> None:
    records = list(unreadable(b"{", b"\xff"))
    set_aside = await subscriber.parking.handle(records)
    assert [record for record, _ in set_aside] == records
    first, second = await letters.listed()
    assert (first["topic"], first["partition"], first["offset"]) == ("ehcp.shares.health.v1", 0, records[0].offset)
    assert (first["type"], first["reason"]) == ("ehcp.share.requested.v1", "the value is not JSON")
    assert (first["owner"], first["closed_at"]) == (None, None)
    assert "value" not in first
    whole = (await letters.http.get(f"/v1/dead-letters/{second['id']}")).json()
    assert base64.b64decode(whole["value"]) == b"\xff"
    assert base64.b64decode(whole["key"]) == records[1].key
    assert ["ce_type", "ehcp.share.requested.v1"] in whole["headers"]
    assert await letters.listed(limit=1, after=first["id"]) == [second]


async def test_what_can_be_read_by_now_is_put_in_again_and_closed(subscriber: SubscriberStub, letters: Letters) -> None:
    wish, other = wanted(RNA), wanted(RNA)
    # As an older version of this service would have set it aside, which did not know the type.
    await subscriber.owner.executemany(
        'INSERT INTO delivery.dead_letter (topic, partition, "offset", key, value, headers, reason)'
        " VALUES ($1, $2, $3, $4, $5, $6, 'the header ce_type names no instruction that this version knows')",
        [(r.topic, r.partition, r.offset, r.key, r.value, r.header_text()) for r in map(record_of, (wish, other))],
    )
    await subscriber.parking.handle(list(unreadable(b"{")))
    first, second, third = [each["id"] for each in await letters.listed()]
    assert await letters.replay(ids=[first, third]) == {
        "replayed": 1, "refused": [{"id": third, "reason": "the value is not JSON"}],
    }  # fmt: skip
    assert (await subscriber.row(wish))["seq"] == 1
    assert await subscriber.row(other) is None
    assert [each["id"] for each in await letters.listed()] == [second, third]
    [closed] = [each for each in await letters.listed(everything=True) if each["id"] == first]
    assert (closed["closed_as"], closed["closed_by"]) == ("replayed", "operator")
    # All of a topic; what is closed is not put in again.
    assert (await letters.replay(topic="ehcp.shares.health.v1"))["replayed"] == 1
    assert (await subscriber.row(other))["seq"] == 1
    assert (await letters.replay(ids=[first, second]))["replayed"] == 0
    assert (await letters.replay(topic="another")) == {"replayed": 0, "refused": []}


async def test_somebody_owns_and_dismisses_it(subscriber: SubscriberStub, letters: Letters) -> None:
    await subscriber.parking.handle(list(unreadable(b"{", b"[")))
    first, second = [each["id"] for each in await letters.listed()]
    answer = await letters.http.put(f"/v1/dead-letters/{first}/owner", json={"owner": "Ann, integration"})
    assert (answer.json()["id"], answer.json()["owner"]) == (first, "Ann, integration")
    assert (await letters.listed())[0]["owner"] == "Ann, integration"
    answer = await letters.http.post("/v1/dead-letters/dismiss", json={"ids": [first]})
    assert answer.json() == {"dismissed": [first]}
    assert (await letters.http.post("/v1/dead-letters/dismiss", json={"ids": [first]})).json() == {"dismissed": []}
    assert [each["id"] for each in await letters.listed()] == [second]
    problem(await letters.http.put("/v1/dead-letters/999999/owner", json={"owner": "x"}), 404, "no-dead-letter")
    problem(await letters.http.get("/v1/dead-letters/999999"), 404, "no-dead-letter")


async def test_stopped_topics_are_shown_and_resumed(letters: Letters) -> None:
    letters.stopped |= {"ehcp.shares.health.v1", "another"}
    assert (await letters.http.get("/v1/dead-letters")).json()["stopped_topics"] == ["another", "ehcp.shares.health.v1"]
    answer = await letters.http.post("/v1/dead-letters/resume", json={"topic": "ehcp.shares.health.v1"})
    assert answer.json() == {"stopped_topics": ["another"]}
    assert letters.stopped == {"another"}


@pytest.mark.parametrize("sent", [{}, {"ids": []}, {"ids": [0]}, {"ids": [2**63]}, {"topic": ""}, {"everything": True}])
async def test_what_names_none_is_refused(letters: Letters, sent: dict[str, Any]) -> None:
    problem(await letters.http.post("/v1/dead-letters/replay", json=sent), 422, "invalid")


@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"])
async def test_nobody_but_the_operator_looks(letters: Letters, shown: str) -> None:
    for method, path in (("GET", ""), ("POST", "/replay"), ("POST", "/dismiss"), ("POST", "/resume"), ("GET", "/1")):
        headers = [(b"authorization", shown.encode())]
        answer = await letters.http.request(method, f"/v1/dead-letters{path}", headers=headers, json={"ids": [1]})
        problem(answer, 401, "unauthorised")


@pytest.mark.parametrize("written", [None, "", "short", "with a space, though it is long enough for one", "é" * 40])
async def test_a_token_that_can_be_guessed_is_refused_at_the_start(tmp_path: Path, written: str | None) -> None:
    if written is not None:
        (tmp_path / "token").write_text(written)
    with pytest.raises(OperatorTokenError, match="EHCP_OPERATOR_TOKEN_FILE"):
        OperatorToken(tmp_path / "token")


# --- audit


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def council(postgres_server: RunningPostgres) -> AsyncIterator[CouncilDatabase]:
    async with council_database(postgres_server) as database:
        yield database


async def test_a_receipt_that_was_refused_counts_once_what_was_wrong_is_mended(council: CouncilDatabase) -> None:
    """As after a restore: the share of a genuine receipt was not there, and is back."""

    async def somebody(_: Request) -> str:
        return "operator-332"

    share = await council.write_share()
    receipt = receipt_for(share)
    topic = f"ehcp.receipts.{share.subscriber}.v1"
    record = Record(topic, 0, 7, str(share.share_id).encode(), council.sign(receipt), tuple(event_headers()))
    lost = receipt.model_copy(update={"share_id": uuid4()})
    unknown = Record(topic, 0, 8, str(lost.share_id).encode(), council.sign(lost), tuple(event_headers()))
    pool = await open_pool(council.dsn("audit"))
    try:
        handle = receipts_handler(pool)
        key = council.keys["health"]
        await council.owner.execute("UPDATE publisher.subscriber SET receipt_key = '{}' WHERE subscriber = 'health'")
        assert {reason for _, reason in await handle([record, unknown])} == {
            "the directory holds no usable key of this subscriber"
        }
        await council.owner.execute(
            "UPDATE publisher.subscriber SET receipt_key = $1 WHERE subscriber = 'health'", key.as_dict(private=False)
        )
        async with letters_of(pool, "audit.dead_letter", handle, somebody) as letters:
            first, second = [each["id"] for each in await letters.listed()]
            answer = await letters.replay(topic=topic)
            assert answer == {"replayed": 1, "refused": [{"id": second, "reason": "the council has no such share"}]}
            assert (await letters.listed(everything=True))[0]["closed_by"] == "operator-332"
            assert [each["id"] for each in await letters.listed()] == [second]
            assert first != second
    finally:
        await pool.close()
    status = await council.owner.fetchval("SELECT status FROM audit.newest WHERE share_id = $1", share.share_id)
    assert status == Status.FILED


# --- heartbeats


async def test_a_heartbeat_says_how_a_subscriber_fares(subscriber: SubscriberStub) -> None:
    waiting, held = wanted(RNA), wanted(RNA)
    subscriber.council.wants(held)
    await subscriber.park(held)
    async with subscriber.dispatching():
        await subscriber.until_said(held, Status.FILED)
    await subscriber.park(waiting)
    await subscriber.parking.handle(list(unreadable(b"{")))
    await subscriber.owner.execute(
        "UPDATE delivery.delivery SET next_attempt_at = now() - interval '90 seconds' WHERE share_id = $1", waiting.share_id
    )
    beats = Heartbeats(subscriber.pool, "health", signer(subscriber.key), lambda: {"ehcp.shares.health.v1"})
    for _ in range(3):
        beat = await beats.beat()
    assert (beat.waiting, beat.dead_letters, beat.held) == (1, 1, 1)
    assert 90 <= (beat.lag_seconds or 0) < 120
    assert (beat.unsent, beat.stopped_topics) == (1, ("ehcp.shares.health.v1",))
    assert beat.holdings_digest == hashlib.sha256(f"{held.share_id}:1".encode()).hexdigest()
    # One that has not gone out is not kept beside the next.
    rows = await subscriber.owner.fetch("SELECT topic, headers, value FROM delivery.outbox WHERE key = 'health'")
    assert [row["topic"] for row in rows] == ["ehcp.receipts.health.v1"]
    assert rows[0]["headers"]["ce_type"] == "ehcp.heartbeat.v1"
    told: Heartbeat = verify_heartbeat(rows[0]["value"], subscriber.key)
    assert told == beat
