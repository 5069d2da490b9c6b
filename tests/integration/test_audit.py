"""Audit on real PostgreSQL and Kafka: receipts in whatever comes, who holds what out, each council by itself."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import orjson
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from joserfc import jwt
from joserfc.jwk import OKPKey

from schemas.events import EventType
from schemas.heartbeats import Away, Heartbeat
from schemas.receipts import Receipt, Status
from schemas.recipients import Pause
from services.audit.handlers import receipts_handler
from services.shared.identity.receipts import signer
from services.shared.kafka.connection import make_producer
from services.shared.kafka.consume import Handler, Record
from services.shared.postgres.pool import council_transaction, open_pool
from services.shared.settings import KafkaSettings
from tests.support.council import CouncilDatabase, WrittenShare, council_database, event_headers, receipt_for
from tests.support.openapi import Documented
from tests.support.servers import RunningKafka, RunningPostgres
from tests.support.services import RunningService, running_service
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

ISSUER = "http://council.test"
_offsets = iter(range(10**9))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def council(postgres_server: RunningPostgres) -> AsyncIterator[CouncilDatabase]:
    async with council_database(postgres_server) as database:
        yield database


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def handle(council: CouncilDatabase) -> AsyncIterator[Handler]:
    """The handler itself, logged in as audit."""
    pool = await open_pool(council.dsn("audit"))
    try:
        yield receipts_handler(pool)
    finally:
        await pool.close()


def record_of(council: CouncilDatabase, receipt: Receipt, **changes: Any) -> Record:
    record = Record(
        topic=f"ehcp.receipts.{receipt.subscriber}.v1",
        partition=0,
        offset=next(_offsets),
        key=str(receipt.share_id).encode(),
        value=council.sign(receipt),
        headers=tuple(event_headers()),
    )
    return replace(record, **changes)


async def newest(council: CouncilDatabase, share: WrittenShare) -> Any:
    return await council.owner.fetchrow("SELECT * FROM audit.newest WHERE share_id = $1", share.share_id)


async def acts(council: CouncilDatabase, share: WrittenShare) -> list[str]:
    rows = await council.owner.fetch("SELECT act FROM audit.pending WHERE share_id = $1 ORDER BY id", share.share_id)
    return [row["act"] for row in rows]


async def dead_letters(council: CouncilDatabase, records: Iterable[Record]) -> dict[int, str]:
    """Reasons by offset."""
    rows = await council.owner.fetch(
        'SELECT "offset", reason FROM audit.dead_letter WHERE "offset" = ANY($1)', [record.offset for record in records]
    )
    return {row["offset"]: row["reason"] for row in rows}


# --- what the handler makes of records ----------------------------------------------------------------------------------


async def test_filed_receipt_satisfies_and_is_an_act(council: CouncilDatabase, handle: Handler) -> None:
    share = await council.write_share()
    receipt = receipt_for(share)
    await handle([record_of(council, receipt)])
    row = await newest(council, share)
    assert (row["seq"], row["number"], row["status"], row["satisfied_seq"]) == (1, receipt.number, "filed", 1)
    assert (row["held_version_id"], row["held_record"]) == (share.version_id, "DocumentReference/1")
    act = await council.owner.fetchrow("SELECT * FROM audit.pending WHERE share_id = $1", share.share_id)
    assert act is not None
    assert (act["act"], act["actor"], act["la_code"]) == ("filed", "health", "332")
    assert (act["plan_id"], act["version_id"], act["seq"]) == (share.plan_id, share.version_id, 1)
    assert act["details"]["hosted_by"] == "agency"
    stored = await council.owner.fetchval("SELECT signed FROM audit.receipt WHERE share_id = $1", share.share_id)
    assert stored == council.sign(receipt)


async def test_a_replay_changes_nothing(council: CouncilDatabase, handle: Handler) -> None:
    share = await council.write_share()
    record = record_of(council, receipt_for(share))
    await handle([record, record])
    before = await newest(council, share)
    await handle([replace(record, offset=next(_offsets))])
    assert await newest(council, share) == before
    assert await acts(council, share) == ["filed"]
    assert await council.owner.fetchval("SELECT count(*) FROM audit.receipt WHERE share_id = $1", share.share_id) == 1


async def test_out_of_order_the_newest_seq_and_number_count(council: CouncilDatabase, handle: Handler) -> None:
    first = await council.write_share()
    early = [receipt_for(first, Status.FAILED), receipt_for(first)]
    second = await council.want_again(first)
    third = await council.want_again(second)
    late = [receipt_for(second, Status.SUPERSEDED), receipt_for(third, Status.FAILED), receipt_for(third)]
    for receipt in [late[2], early[1], late[0], late[1], early[0]]:
        await handle([record_of(council, receipt)])
    row = await newest(council, third)
    assert (row["seq"], row["status"], row["satisfied_seq"], row["lost"]) == (3, "filed", 3, False)
    assert row["held_version_id"] == third.version_id
    assert sorted(await acts(council, third)) == ["failed", "failed", "filed", "filed", "superseded"]


async def test_a_receipt_for_an_instruction_that_was_not_given_is_a_conflict_and_its_own_act(
    council: CouncilDatabase, handle: Handler
) -> None:
    """The council was restored from a backup: what the recipient holds is in the ledger, and is to be wanted again."""
    share = await council.write_share()
    record = record_of(council, receipt_for(replace(share, seq=2)))
    await handle([record])
    row = await newest(council, share)
    assert (row["seq"], row["status"], row["satisfied_seq"], row["held_version_id"]) == (2, "conflict", 0, None)
    assert await acts(council, share) == ["filed"]
    # Also once the council has come to that seq itself: the same receipt does not count for it.
    await council.want_again(share)
    await handle([record])
    assert (await newest(council, share))["status"] == "conflict"


async def test_filed_then_found_missing(council: CouncilDatabase, handle: Handler) -> None:
    share = await council.write_share()
    receipts = [receipt_for(share), receipt_for(share, Status.FAILED, reason="the record was not found any more")]
    await handle([record_of(council, receipt) for receipt in receipts])
    row = await newest(council, share)
    assert (row["status"], row["satisfied_seq"], row["lost"], row["held_version_id"]) == ("failed", 0, True, None)
    await handle([record_of(council, receipt_for(share))])
    row = await newest(council, share)
    assert (row["status"], row["satisfied_seq"], row["lost"]) == ("filed", 1, False)


async def test_what_is_no_acceptable_receipt_is_a_dead_letter_and_the_rest_goes_through(
    council: CouncilDatabase, handle: Handler
) -> None:
    share, schools = await council.write_share(), await council.write_share(subscriber="school", channel="inbox")
    good = receipt_for(share)
    bad = {
        "the signature is not this subscriber's": record_of(council, good, value=council.sign(receipt_for(share), "school")),
        "the share belongs to another subscriber": record_of(council, receipt_for(schools, subscriber="health")),
        "the receipt names another subscriber than its topic": record_of(
            council, good, topic="ehcp.receipts.school.v1", value=council.sign(good, "school")
        ),
        "no subscriber in the directory has this topic": record_of(council, good, topic="ehcp.receipts.gp.v1"),
        "the council has no such share": record_of(council, receipt_for(replace(share, share_id=uuid4()))),
        "not a compact JWS": record_of(council, good, value=b"\xff\x00 garbage", key=b"\xfe"),
        "a header is not UTF-8": record_of(council, good, headers=(*event_headers(), ("x-\0", b"\xff\x00"))),
        "the header ce_type names neither a receipt nor a heartbeat": record_of(council, good, headers=()),
    }
    before: int = await council.owner.fetchval("SELECT count(*) FROM audit.dead_letter")
    await handle([*bad.values(), record_of(council, good)])
    assert (await newest(council, share))["satisfied_seq"] == 1
    assert await dead_letters(council, bad.values()) == {record.offset: reason for reason, record in bad.items()}
    await handle([*bad.values()])  # again, as after a crash before the commit of the offset
    assert await council.owner.fetchval("SELECT count(*) FROM audit.dead_letter") == before + len(bad)
    origin = await council.owner.fetchrow(
        'SELECT * FROM audit.dead_letter WHERE "offset" = $1', bad["a header is not UTF-8"].offset
    )
    assert origin is not None
    assert (origin["topic"], origin["partition"]) == ("ehcp.receipts.health.v1", 0)
    assert origin["value"] == council.sign(good)
    assert len(origin["headers"]) == len(event_headers()) + 1


async def test_a_wiped_broker_counts_from_zero_again_and_its_dead_letters_are_others(
    council: CouncilDatabase, handle: Handler
) -> None:
    garbage = record_of(council, receipt_for(await council.write_share()), value=b"first")
    await handle([garbage])
    await handle([replace(garbage, value=b"second")])
    rows = await council.owner.fetch('SELECT value FROM audit.dead_letter WHERE "offset" = $1', garbage.offset)
    assert sorted(row["value"] for row in rows) == [b"first", b"second"]


async def test_a_number_used_twice_with_other_words_is_kept_and_told(council: CouncilDatabase, handle: Handler) -> None:
    share = await council.write_share()
    said = receipt_for(share, Status.FAILED)
    other = said.model_copy(update={"reason": "another reason"})
    twice = record_of(council, other)
    await handle([record_of(council, said)])
    await handle([twice])
    assert await dead_letters(council, [twice]) == {twice.offset: "another receipt of this share has the same number"}
    assert (await newest(council, share))["reason"] == said.reason


async def test_a_receipt_beyond_the_wish_is_seen_but_satisfies_nothing(council: CouncilDatabase, handle: Handler) -> None:
    """As after the council's database was restored from a backup: the publisher must see it, to want again above it."""
    share = await council.write_share()
    await handle([record_of(council, receipt_for(share, seq=5))])
    row = await newest(council, share)
    assert (row["seq"], row["satisfied_seq"]) == (5, 0)


async def test_the_right_version_satisfies_only_once_what_was_recalled_is_proved_to_be_gone(
    council: CouncilDatabase, handle: Handler
) -> None:
    wrong = uuid4()
    share = await council.write_share()
    await handle([record_of(council, receipt_for(share, remaining=(wrong,)))])
    row = await newest(council, share)
    assert (row["status"], row["satisfied_seq"], row["held_version_id"]) == ("filed", 0, share.version_id)
    assert row["reason"] == "what was recalled is not proved to be gone yet"
    await handle([record_of(council, receipt_for(share, removed=(wrong,), removal="destroyed"))])
    row = await newest(council, share)
    assert (row["status"], row["satisfied_seq"], row["lost"]) == ("filed", 1, False)


async def test_withdrawn(council: CouncilDatabase, handle: Handler) -> None:
    share = await council.write_share()
    await handle([record_of(council, receipt_for(share))])
    ended = await council.want_again(share, action="withdraw")
    await handle([record_of(council, receipt_for(ended, Status.WITHDRAWN))])
    row = await newest(council, ended)
    assert (row["status"], row["satisfied_seq"], row["held_version_id"]) == ("withdrawn", 2, share.version_id)


async def test_heartbeat(council: CouncilDatabase, handle: Handler) -> None:
    now = datetime.now(UTC)
    early = Heartbeat(subscriber="family", at=now - timedelta(minutes=1), waiting=70, lag_seconds=9)
    late = Heartbeat(
        subscriber="family", at=now, waiting=3, lag_seconds=2, unsent=1, dead_letters=4, stopped_topics=("a", "b"), held=12,
        holdings_digest="c" * 64, paused=(Pause(recipient="ods:RNA", reason="a move", paused_by="Ann", paused_at=now),),
        away=(Away(record_system="rna", since=now, reason="nobody listens"), Away(since=now, reason="503")),
    )  # fmt: skip
    await handle([beat_of(council, early), beat_of(council, late), beat_of(council, late)])
    row = await heartbeat(council, "family")
    assert (row["last_seen"] > now - timedelta(minutes=1), row["at"], row["waiting"], row["lag_seconds"]) == (True, now, 3, 2)
    assert (row["unsent"], row["dead_letters"], row["stopped_topics"]) == (1, 4, ["a", "b"])
    assert (row["held"], row["holdings_digest"], row["checkpoint"]) == (12, "c" * 64, None)
    paused = await council.owner.fetchrow("SELECT * FROM audit.v_paused WHERE subscriber = 'family'")
    assert tuple(paused or ()) == ("family", "ods:RNA", "a move", "Ann", now)
    away = await council.owner.fetch("SELECT * FROM audit.v_away ORDER BY record_system")
    assert [tuple(each) for each in away] == [("family", "rna", now, "nobody listens"), ("family", None, now, "503")]
    # What was overtaken, or is put in again out of the dead letters, is no new sign of life.
    await handle([beat_of(council, early)])
    assert await heartbeat(council, "family") == row
    await handle([beat_of(council, Heartbeat(subscriber="family", at=now + timedelta(seconds=1)))])
    after = await heartbeat(council, "family")
    assert (after["waiting"], after["last_seen"] > row["last_seen"]) == (None, True)


async def test_what_is_no_heartbeat_of_that_subscriber_is_a_dead_letter(council: CouncilDatabase, handle: Handler) -> None:
    beat = Heartbeat(subscriber="school", at=datetime.now(UTC))
    good = beat_of(council, beat)
    wrong = {
        "the signature is not this subscriber's": beat_of(council, beat, value=signer(council.keys["family"])(beat)),
        "the heartbeat names another subscriber than its topic": beat_of(
            council, beat, value=signer(council.keys["school"])(beat.model_copy(update={"subscriber": "family"}))
        ),
        "not a compact JWS": beat_of(council, beat, value=b"{}"),
        "the payload is not a heartbeat": beat_of(
            council, beat,
            value=council.sign(receipt_for(await council.write_share(subscriber="school", channel="inbox"))),
        ),
        "a time of the heartbeat is out of range": beat_of(
            council, beat,
            value=signer(council.keys["school"])(
                beat.model_copy(update={"at": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5)))})
            ),
        ),
    }  # fmt: skip
    await handle(list(wrong.values()))
    assert await dead_letters(council, wrong.values()) == {record.offset: reason for reason, record in wrong.items()}
    assert await heartbeat(council, "school") is None
    for name in ("rna\n\nCleared\n- all is well", "rna\u202e", "x" * 256):
        for told in ({"away": (Away(record_system=name, since=beat.at, reason="-"),)}, {"stopped_topics": (name,)}):
            [(_, reason)] = await handle([beat_of(council, beat.model_copy(update=told))])
            assert reason == "a name in the heartbeat is no short line of text"
    assert await heartbeat(council, "school") is None
    # One from the future would be the newest for ever.
    await handle([beat_of(council, beat.model_copy(update={"at": datetime.now(UTC) + timedelta(days=2)}))])
    assert await heartbeat(council, "school") is None
    await handle([good])
    assert await heartbeat(council, "school") is not None


def beat_of(council: CouncilDatabase, beat: Heartbeat, **changes: Any) -> Record:
    record = Record(
        f"ehcp.receipts.{beat.subscriber}.v1", 0, next(_offsets), beat.subscriber.encode(),
        signer(council.keys[beat.subscriber])(beat), tuple(event_headers(EventType.HEARTBEAT)),
    )  # fmt: skip
    return replace(record, **changes)


async def heartbeat(council: CouncilDatabase, subscriber: str) -> Any:
    """As the notifier sees it."""
    connection = await asyncpg.connect(council.dsn("notifier"))
    try:
        return await connection.fetchrow("SELECT * FROM audit.v_heartbeat WHERE subscriber = $1", subscriber)
    finally:
        await connection.close()


async def test_two_processes_on_one_share_lose_no_word(council: CouncilDatabase, handle: Handler) -> None:
    """During a rebalance two consumers may hold records of the same share."""
    for _ in range(20):
        share = await council.write_share()
        receipts = [receipt_for(share), receipt_for(share, Status.FAILED), receipt_for(share)]
        await asyncio.gather(*(handle([record_of(council, receipt)]) for receipt in reversed(receipts)))
        row = await newest(council, share)
        assert (row["number"], row["status"], row["satisfied_seq"]) == (receipts[2].number, "filed", 1)


async def test_roles_may_do_no_more_than_they_must(council: CouncilDatabase, handle: Handler) -> None:
    share = await council.write_share()
    await handle([record_of(council, receipt_for(share))])
    refused = [
        ("audit", "UPDATE audit.receipt SET status = 'filed'"),
        ("audit", "DELETE FROM audit.receipt"),
        ("audit", "UPDATE audit.pending SET act = 'x'"),
        ("audit", "UPDATE publisher.share SET seq = 9"),
        ("audit", "SELECT * FROM publisher.share"),
        ("audit", "SELECT * FROM publisher.child"),
        ("ehcp_publisher", "INSERT INTO audit.newest DEFAULT VALUES"),
        ("ehcp_publisher", "SELECT * FROM audit.pending"),
        ("notifier", "SELECT * FROM audit.receipt"),
    ]
    for role, statement in refused:
        connection = await asyncpg.connect(council.dsn(role))
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        finally:
            await connection.close()


@pytest.mark.parametrize("role", ["audit", "ehcp_publisher", "notifier"])
async def test_views_show_only_the_councils_of_the_transaction(council: CouncilDatabase, handle: Handler, role: str) -> None:
    ours, theirs = await council.write_share(la_code="332"), await council.write_share(la_code="333")
    await handle([record_of(council, receipt_for(share)) for share in (ours, theirs)])
    pool = await open_pool(council.dsn(role), max_size=1)
    try:
        for la_codes, seen in [({"332"}, {ours.share_id}), ({"333"}, {theirs.share_id}), (set(), set())]:
            async with council_transaction(pool, la_codes) as connection:
                for view in ("audit.v_newest", "publisher.v_share", "publisher.v_unsatisfied"):
                    if (role, view) == ("audit", "audit.v_newest"):
                        view = "audit.newest"
                    if role == "ehcp_publisher" and view.startswith("publisher"):
                        view = view.replace("v_", "")
                    rows = await connection.fetch(
                        f"SELECT share_id FROM {view} WHERE share_id = ANY($1)", [ours.share_id, theirs.share_id]
                    )
                    assert {row["share_id"] for row in rows} == seen, view
    finally:
        await pool.close()


# --- the whole service --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def token_key() -> OKPKey:
    return OKPKey.generate_key("Ed25519")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def service(
    council: CouncilDatabase, kafka_server: RunningKafka, token_key: OKPKey, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningService]:
    environment = service_environment(council, kafka_server, token_key, tmp_path_factory.mktemp("keys"))
    async with running_service("audit", environment) as running:
        yield running


def service_environment(
    council: CouncilDatabase, kafka_server: RunningKafka, token_key: OKPKey, folder: Path
) -> dict[str, str]:
    file = folder / "token.jwk"
    file.write_bytes(orjson.dumps(token_key.as_dict(private=False)))
    return {
        "DATABASE_URL": council.dsn("audit"), "EHCP_TOKEN_PUBLIC_KEY_FILE": str(file), "EHCP_ISSUER": ISSUER,
        **kafka_server.login("audit").environment(),
    }  # fmt: skip


def producer_of(kafka_server: RunningKafka, account: str) -> AIOKafkaProducer:
    return make_producer(KafkaSettings.model_validate(kafka_server.login(account).environment()), account)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def health(kafka_server: RunningKafka) -> AsyncIterator[AIOKafkaProducer]:
    async with producer_of(kafka_server, "health_subscriber") as producer:
        yield producer


@pytest_asyncio.fixture
async def http(service: RunningService) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=service.url) as client:
        documented = Documented((await client.get("/openapi.json")).json())
        client.event_hooks = {"request": [], "response": [documented.check]}
        yield client


def bearer(key: OKPKey, *la_codes: str, kind: str = "case_system", **claims: Any) -> dict[str, str]:
    now = int(time.time())
    values = {
        "iss": ISSUER, "aud": ISSUER, "sub": f"{kind}-test", "kind": kind, "la_codes": list(la_codes), "iat": now,
        "exp": now + 600,
    }  # fmt: skip
    return {"Authorization": "Bearer " + jwt.encode({"alg": "Ed25519"}, values | claims, key, algorithms=["Ed25519"])}


async def send(producer: AIOKafkaProducer, council: CouncilDatabase, receipts: Sequence[Receipt]) -> None:
    for receipt in receipts:
        await producer.send(
            f"ehcp.receipts.{receipt.subscriber}.v1",
            council.sign(receipt),
            key=str(receipt.share_id).encode(),
            headers=event_headers(),
        )
    await producer.flush()


@pytest.mark.usefixtures("service")
async def test_from_kafka_to_the_answer(
    council: CouncilDatabase, health: AIOKafkaProducer, http: httpx2.AsyncClient,
    token_key: OKPKey,
) -> None:  # fmt: skip
    share = await council.write_share()
    parents = await council.write_share(
        plan_id=share.plan_id, subscriber=None, channel="manual", kind="parent", name="Parent or carer 1"
    )
    await send(health, council, [receipt_for(share)])
    caller = bearer(token_key, "332")

    async def filed() -> Any:
        answer = await http.get(f"/v1/plans/{share.plan_id}/holders", headers=caller)
        rows = {UUID(row["share_id"]): row for row in answer.json()["holders"]}
        return rows if rows[share.share_id]["status"] == "filed" else None

    rows = await until(filed)
    row = rows[share.share_id]
    assert (row["version"], row["held_version"], row["satisfied"], row["evidence"]) == (1, 1, True, "filed")
    assert (row["recipient"], row["subscriber"], row["hosted_by"]) == ("Dudley Group", "health", "agency")
    assert (row["record"], row["la_code"]) == ("DocumentReference/1", "332")
    assert row["seconds"] >= 60
    other = rows[parents.share_id]
    assert (other["status"], other["reason"]) == ("waiting", "no subscriber delivers to this recipient")
    reads = await council.owner.fetch(
        "SELECT actor, la_code FROM audit.pending WHERE act = 'holders_read' AND plan_id = $1", share.plan_id
    )
    assert {tuple(read) for read in reads} == {("case_system-test", "332")}


@pytest.mark.usefixtures("service")
async def test_garbage_on_the_topic_stops_nothing(council: CouncilDatabase, health: AIOKafkaProducer) -> None:
    share = await council.write_share()
    topic, key, forged = share.topic, str(share.share_id).encode(), council.sign(receipt_for(share), "school")
    before: int = await council.owner.fetchval("SELECT count(*) FROM audit.dead_letter")
    await health.send_and_wait(topic, b"\xff\xfe\x00garbage", key=b"\xff\x00", headers=[("ce_type", b"\xff\xfe")])
    await health.send_and_wait(topic, None, key=key)
    await health.send_and_wait(topic, b"", key=None)
    await health.send_and_wait(topic, forged, key=key, headers=event_headers())
    await health.send_and_wait(topic, forged, key=key, headers=[*event_headers(), ("x-note", b"\xff")])
    await send(health, council, [receipt_for(share)])
    await until(lambda: newest(council, share))

    async def all_kept() -> bool:
        count: int = await council.owner.fetchval("SELECT count(*) FROM audit.dead_letter")
        return count >= before + 5

    await until(all_kept)


async def test_killed_in_the_middle_nothing_is_lost_and_nothing_counted_twice(
    council: CouncilDatabase, service: RunningService, health: AIOKafkaProducer
) -> None:
    shares = [await council.write_share() for _ in range(200)]
    receipts = [receipt_for(share, status) for status in (Status.FAILED, Status.FILED) for share in shares]
    ids = [share.share_id for share in shares]

    async def stored() -> int:
        count: int = await council.owner.fetchval("SELECT count(*) FROM audit.receipt WHERE share_id = ANY($1)", ids)
        return count

    for each in range(0, 400, 100):
        await send(health, council, receipts[each : each + 100])
        if each in (100, 200):
            await until(stored)
            await service.kill()
            await service.start()

    async def all_there() -> bool:
        return await stored() == 400

    await until(all_there, within=60)
    satisfied = "SELECT count(*) FROM audit.newest WHERE satisfied_seq = 1 AND share_id = ANY($1)"
    assert await council.owner.fetchval(satisfied, ids) == 200
    assert await council.owner.fetchval("SELECT count(*) FROM audit.pending WHERE share_id = ANY($1)", ids) == 400


@pytest.mark.usefixtures("service")
async def test_after_an_orderly_restart_nothing_is_read_again(
    council: CouncilDatabase, service: RunningService, health: AIOKafkaProducer
) -> None:
    async def satisfied(share: WrittenShare) -> bool:
        row = await newest(council, share)
        return row is not None and row["satisfied_seq"] == 1

    before = await council.write_share()
    await send(health, council, [receipt_for(before)])
    await until(lambda: satisfied(before), what="the receipt is stored")
    await service.stop()
    await service.start()
    after = await council.write_share()
    await send(health, council, [receipt_for(after)])
    await until(lambda: satisfied(after), what="the receipt after the restart is stored")
    async with httpx2.AsyncClient() as http:
        metrics = (await http.get(f"{service.url}/metrics")).text
    # What was read before the restart had its offset committed.
    assert "ehcp_audit_receipts_repeated_total 0.0" in metrics.splitlines()
    assert "offset_not_committed" not in service.log.read_text()


async def test_another_councils_plan_looks_like_none(
    council: CouncilDatabase, http: httpx2.AsyncClient, token_key: OKPKey
) -> None:
    share = await council.write_share(la_code="333")
    for plan_id in (share.plan_id, uuid4()):
        answer = await http.get(f"/v1/plans/{plan_id}/holders", headers=bearer(token_key, "332"))
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
        assert answer.json()["type"] == "urn:ehcp:problem:no-such-plan"
    assert (await http.get(f"/v1/plans/{share.plan_id}/holders", headers=bearer(token_key, "333"))).status_code == 200
    assert not await council.owner.fetchval(
        "SELECT count(*) FROM audit.pending WHERE act = 'holders_read' AND plan_id = $1 AND la_code = '332'", share.plan_id
    )


@pytest.mark.usefixtures("service")
async def test_who_may_ask(http: httpx2.AsyncClient, token_key: OKPKey) -> None:
    foreign = OKPKey.generate_key("Ed25519")
    for path in (f"/v1/plans/{uuid4()}/holders", "/v1/holders", "/v1/coverage"):
        for headers, status in [
            ({}, 401),
            ({"Authorization": "Bearer nonsense"}, 401),
            (bearer(foreign, "332"), 401),
            (bearer(token_key, "332", exp=int(time.time()) - 60), 401),
            (bearer(token_key, "332", aud="http://another.test"), 401),
            (bearer(token_key, kind="subscriber", subscriber="health"), 403),
            (bearer(token_key, kind="recipient", recipient="urn:123456"), 403),
        ]:
            answer = await http.get(path, headers=headers)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), path


@pytest.mark.usefixtures("service")
async def test_pages_of_all_holders(council: CouncilDatabase, http: httpx2.AsyncClient, token_key: OKPKey) -> None:
    await council.owner.execute("INSERT INTO publisher.council VALUES ('999', 'Test council', '10000', '')")
    shares = [await council.write_share(la_code="999", due_in=timedelta(days=-1)) for _ in range(5)]
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        answer = await http.get(
            "/v1/holders", params={"limit": "2", **after}, headers=bearer(token_key, "999", kind="operator")
        )
        page = answer.json()
        assert len(page["holders"]) <= 2
        assert {row["status"] for row in page["holders"]} <= {"missed"}
        seen += [row["share_id"] for row in page["holders"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert seen == sorted(str(share.share_id) for share in shares)
    answer = await http.get("/v1/holders", params={"limit": "0", "after": "x"}, headers=bearer(token_key, "999"))
    assert (answer.status_code, len(answer.json()["errors"])) == (422, 2)


@pytest.mark.usefixtures("service")
async def test_coverage_by_kind_and_strength_of_proof(
    council: CouncilDatabase, handle: Handler, http: httpx2.AsyncClient, token_key: OKPKey
) -> None:
    await council.owner.execute("INSERT INTO publisher.council VALUES ('998', 'Test council', '10000', '')")

    async def told(kind: str, channel: str, *statuses: Status, subscriber: str | None = "health") -> WrittenShare:
        share = await council.write_share(la_code="998", kind=kind, channel=channel, subscriber=subscriber)
        await handle([record_of(council, receipt_for(share, status)) for status in statuses])
        return share

    trust = await told("trust", "fhir", Status.FILED)
    await told("trust", "fhir", Status.FILED, Status.SUPERSEDED)
    await told("trust", "mesh", Status.COLLECTED)
    await told("trust", "fhir", Status.FAILED)
    await told("trust", "fhir", Status.SUPERSEDED)
    await council.want_again(await told("trust", "fhir", Status.FILED))
    await council.want_again(await told("trust", "fhir", Status.FILED), action="withdraw")
    await told("school", "inbox", Status.SENT, Status.OPENED)
    await told("school", "inbox", Status.SENT)
    await told("school", "inbox", Status.REFUSED)
    await told("school", "inbox", subscriber=None)
    await told("parent", "manual", Status.SENT)
    await council.owner.execute(
        "INSERT INTO publisher.share_gap (plan_id, who, la_code, reason) VALUES ($1, 'advice 1', '998', 'none'),"
        " ($1, 'advice 2', '998', 'none')", trust.plan_id,
    )  # fmt: skip
    caller = bearer(token_key, "998", "332", kind="operator")
    answer = await http.get("/v1/coverage", params={"la_code": "998"}, headers=caller)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert {each["recipient_kind"]: proofs(each) for each in body["kinds"]} == {
        "parent": (1, 1, 1.0, {"sent": 1}),
        "school": (4, 1, 0.25, {"opened": 1, "sent": 1, "refused": 1, "undeliverable": 1}),
        "trust": (6, 2, 0.3333, {"filed": 2, "collected": 1, "failed": 1, "superseded": 1, "waiting": 1}),
    }
    assert (body["active"], body["satisfied"], body["coverage"]) == (11, 4, 0.3636)
    assert (body["la_codes"], body["plans"], body["share_gaps"], body["plans_with_gaps"]) == (["998"], 12, 2, 1)
    answer = await http.get("/v1/coverage", params={"la_code": "998", "recipient_kind": "parent"}, headers=caller)
    assert proofs(answer.json()) == (1, 1, 1.0, {"sent": 1})
    assert (await http.get("/v1/coverage", params={"la_code": "333"}, headers=caller)).status_code == 403
    assert (await http.get("/v1/coverage", params={"recipient_kind": "owl"}, headers=caller)).status_code == 422
    reads = await council.owner.fetch("SELECT la_code, details FROM audit.pending WHERE act = 'coverage_read' ORDER BY id")
    assert [tuple(read) for read in reads] == [("998", {}), ("998", {"recipient_kind": "parent"})]


def proofs(counted: dict[str, Any]) -> tuple[int, int, float, dict[str, int]]:
    proved = {name: count for name, count in counted["proof"].items() if count}
    return counted["active"], counted["satisfied"], counted["coverage"], proved


async def test_a_new_subscriber_makes_it_start_again(
    kafka_server: RunningKafka, postgres_server: RunningPostgres, token_key: OKPKey, tmp_path: Path
) -> None:
    async with council_database(postgres_server) as other:
        environment = service_environment(other, kafka_server, token_key, tmp_path)
        async with running_service("audit", environment | {"EHCP_GROUP_INSTANCE_ID": "other"}) as running:
            await other.write_subscriber("gp")
            assert running.process is not None
            assert await asyncio.wait_for(running.process.wait(), 30) == 1
            assert "SubscribersChangedError" in running.log.read_text()


async def test_a_topic_of_garbage_is_named_for_the_notifier_until_it_is_read_again(
    council: CouncilDatabase, service: RunningService, kafka_server: RunningKafka, token_key: OKPKey
) -> None:
    topic = "ehcp.receipts.school.v1"
    async with producer_of(kafka_server, "school_subscriber") as school:
        for n in range(150):
            await school.send(topic, b"garbage %d" % n, key=b"\xff")
        await school.flush()

    async def named() -> list[tuple[str, str]]:
        return [tuple(row) for row in await council.owner.fetch("SELECT subscriber, topic FROM audit.v_stopped_topic")]

    assert await until(named, within=60) == [("school", topic)]
    headers = bearer(token_key, "332", kind="operator")
    async with httpx2.AsyncClient(base_url=service.url) as http:
        answer = await http.post("/v1/dead-letters/resume", json={"topic": topic}, headers=headers)
    assert answer.status_code == 200, answer.text

    async def over() -> bool:
        return await named() == []

    await until(over, within=60)
