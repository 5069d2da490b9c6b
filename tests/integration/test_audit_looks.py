"""Answers about records come in, signed, and a signed report goes out: on real PostgreSQL, through the interface."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx2
import orjson
import pytest
import pytest_asyncio
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import OKPKey

from schemas.events import EventType
from schemas.heartbeats import Heartbeat
from schemas.holdings import Found, Holding
from schemas.receipts import HostedBy
from services.audit.handlers import receipts_handler
from services.audit.looks_api import make_looks_router
from services.shared.identity.receipts import signer, verify_holding
from services.shared.identity.signed_documents import DocumentSigner, verify
from services.shared.identity.tokens import Verifier
from services.shared.kafka.consume import Handler, Record
from services.shared.postgres.pool import open_pool
from services.shared.runtime import make_app
from tests.support.council import CouncilDatabase, WrittenShare, council_database, event_headers, receipt_for
from tests.support.openapi import Documented
from tests.support.servers import RunningPostgres

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

ISSUER = "http://council.test"
TOKEN_KEY, DOCUMENT_KEY = OKPKey.generate_key("Ed25519"), OKPKey.generate_key("Ed25519")
_numbers = iter(range(1, 10**9))


@dataclass
class Audit:
    council: CouncilDatabase
    handle: Handler
    app: FastAPI
    http: httpx2.AsyncClient

    async def asked(self, *shares: WrittenShare, la_code: str = "332") -> UUID:
        """As the publisher writes it."""
        look_id = uuid4()
        asked = {"seed": "1", "population": 100, "n": len(shares), "agency": None, "kind": None, "not_looked_at": []}
        await self.council.owner.execute(
            "INSERT INTO publisher.look (look_id, la_code, asked_by, until, asked)"
            " VALUES ($1, $2, 'operator', now() + interval '1 hour', $3)",
            look_id, la_code, asked,
        )  # fmt: skip
        for position, share in enumerate(shares, 1):
            await self.council.owner.execute(
                "INSERT INTO publisher.look_plan (look_id, plan_id, la_code, position, version_id) VALUES ($1, $2, $3, $4, $5)",
                look_id, share.plan_id, la_code, position, share.version_id,
            )  # fmt: skip
            await self.council.owner.execute(
                "INSERT INTO publisher.look_share (look_id, share_id, la_code, plan_id, subscriber, seq, version_id, sha256)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                look_id, share.share_id, la_code, share.plan_id, share.subscriber, share.seq, share.version_id, share.sha256,
            )  # fmt: skip
        return look_id

    def answer(self, look_id: UUID, share: WrittenShare, found: Found = Found.HELD, **changes: Any) -> Record:
        values: dict[str, Any] = {
            "number": next(_numbers), "subscriber": share.subscriber, "hosted_by": HostedBy.AGENCY, "look_id": look_id,
            "share_id": share.share_id, "at": datetime.now(UTC), "found": found, "seq": share.seq,
        }  # fmt: skip
        if found is Found.HELD:
            values |= {"version_id": share.version_id, "sha256": share.sha256, "record": "DocumentReference/1"}
        holding = Holding(**values | changes)
        return Record(
            share.topic, 0, next(_numbers), str(share.share_id).encode(),
            signer(self.council.keys[holding.subscriber])(holding), tuple(event_headers(EventType.HOLDING)),
        )  # fmt: skip

    async def get(self, path: str, **claims: Any) -> httpx2.Response:
        now = int(datetime.now(UTC).timestamp())
        said = {"iss": ISSUER, "aud": ISSUER, "sub": "inspector-1", "kind": "operator", "la_codes": ["332"], "exp": now + 60}
        token = jwt.encode({"alg": "Ed25519", "typ": "at+jwt"}, said | claims, TOKEN_KEY, algorithms=["Ed25519"])
        return await self.http.get(path, headers={"Authorization": f"Bearer {token}"})

    async def report(self, look_id: UUID) -> dict[str, Any]:
        answer = await self.get(f"/v1/looks/{look_id}/report")
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        return verify(answer.content, DOCUMENT_KEY).document

    async def letters(self, record: Record) -> list[str]:
        rows = await self.council.owner.fetch('SELECT reason FROM audit.dead_letter WHERE "offset" = $1', record.offset)
        return [row["reason"] for row in rows]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def audit(postgres_server: RunningPostgres) -> AsyncIterator[Audit]:
    async with council_database(postgres_server) as council:
        pool = await open_pool(council.dsn("audit"))
        app = make_app("audit")
        app.include_router(make_looks_router(pool, Verifier(ISSUER, TOKEN_KEY), DocumentSigner(DOCUMENT_KEY)))
        try:
            async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=ISSUER) as http:
                http.event_hooks = {"request": [], "response": [Documented(app.openapi()).check]}
                yield Audit(council, receipts_handler(pool), app, http)
        finally:
            await pool.close()


async def test_answers_become_a_report_that_is_verified_offline(audit: Audit) -> None:
    here, gone, silent = [await audit.council.write_share() for _ in range(3)]
    await audit.handle([
        Record(here.topic, 0, next(_numbers), str(each.share_id).encode(), audit.council.sign(receipt_for(each)),
               tuple(event_headers())) for each in (here, gone)
    ])  # fmt: skip
    await audit.council.owner.execute(
        "INSERT INTO publisher.share_gap (plan_id, who, la_code, reason) VALUES ($1, 'therapies', '332', 'no share')",
        gone.plan_id,
    )
    look_id = await audit.asked(here, gone, silent)
    held, absent = audit.answer(look_id, here), audit.answer(look_id, gone, Found.ABSENT)
    assert await audit.handle([held, absent]) == []
    progress = (await audit.get(f"/v1/looks/{look_id}")).json()
    assert (progress["shares"], progress["answered"], progress["waiting_for"]) == (3, 2, {"health": 1})
    document = await audit.report(look_id)
    records = [each["records"][0] for each in document["children"]]
    assert [(each["verdict"], each["difference"]) for each in records] == [
        ("current", None), ("absent", "missing_from_record"), ("no_answer", None),
    ]  # fmt: skip
    assert records[0]["found_version"] == 1
    assert records[1]["last_proof"]["current"] is True  # the books said filed; the record says otherwise
    assert (document["complete"], document["with_gaps"]) == (False, 1)
    # Each answer is the subscriber's own word, byte for byte.
    key = OKPKey.import_key(document["keys"]["health"])
    assert verify_holding(records[1]["statement"].encode(), key).found is Found.ABSENT
    assert records[1]["statement"].encode() == absent.value
    rows = await audit.council.owner.fetch(
        "SELECT act, actor, plan_id FROM audit.pending WHERE details->>'look_id' = $1 ORDER BY id", str(look_id)
    )
    assert [row["act"] for row in rows] == ["record_looked_at"] * 2 + ["look_read"] * 3
    assert {row["actor"] for row in rows[2:]} == {"inspector-1"}
    assert {row["plan_id"] for row in rows[2:]} == {here.plan_id, gone.plan_id, silent.plan_id}


async def test_a_report_lists_every_draw_before_it_with_what_came_of_it(audit: Audit) -> None:
    good, bad = await audit.council.write_share(), await audit.council.write_share()
    first = await audit.asked(good, bad)
    await audit.handle([audit.answer(first, good), audit.answer(first, bad, Found.ABSENT)])
    second = await audit.asked(good)
    await audit.handle([audit.answer(second, good)])
    told = {each["look_id"]: each for each in (await audit.report(second))["earlier_draws"]}
    found = told[str(first)]
    assert (found["seed"], found["children"], found["looked_into"], found["current"]) == ("1", 2, 2, 1)
    assert str(second) not in told
    assert str(second) not in {each["look_id"] for each in (await audit.report(first))["earlier_draws"]}, "it came later"


async def test_an_answer_that_comes_twice_is_one_and_of_two_the_newer_counts(audit: Audit) -> None:
    share = await audit.council.write_share()
    look_id = await audit.asked(share)
    away = audit.answer(look_id, share, Found.NO_ANSWER, reason="the record is away")
    await audit.handle([away, away])
    later = audit.answer(look_id, share)
    await audit.handle([later])
    await audit.handle([replace(away, offset=next(_numbers))])
    count = await audit.council.owner.fetchval("SELECT count(*) FROM audit.holding WHERE look_id = $1", look_id)
    assert count == 2
    (child,) = (await audit.report(look_id))["children"]
    assert child["records"][0]["verdict"] == "current"
    acts = await audit.council.owner.fetchval(
        "SELECT count(*) FROM audit.pending WHERE act = 'record_looked_at' AND share_id = $1", share.share_id
    )
    assert acts == 2


async def test_a_recalled_version_in_the_record_is_never_current_though_it_is_the_newest(audit: Audit) -> None:
    share = await audit.council.write_share()
    newer = await audit.council.want_again(share)
    look_id = await audit.asked(share)
    await audit.handle([audit.answer(look_id, share, version_id=newer.version_id)])

    async def found() -> tuple[str, int, str | None]:
        ((record,),) = [child["records"] for child in (await audit.report(look_id))["children"]]
        return record["verdict"], record["found_version"], record["reason"]

    assert await found() == ("current", 2, None)  # it came after the question
    await audit.council.owner.execute(
        "UPDATE publisher.version SET recalled_at = now() WHERE version_id = $1", newer.version_id
    )
    assert await found() == ("older_version", 2, "it was recalled and is still there")


async def test_what_nobody_asked_or_another_answers_is_a_dead_letter(audit: Audit) -> None:
    share, other = await audit.council.write_share(), await audit.council.write_share(subscriber="school")
    look_id = await audit.asked(share)
    unasked = audit.answer(uuid4(), share)
    not_asked_for = audit.answer(look_id, other)
    meddling = replace(audit.answer(look_id, share, subscriber="school"), topic="ehcp.receipts.school.v1")
    forged = replace(audit.answer(look_id, share, subscriber="school"), topic=share.topic)
    as_receipt = replace(audit.answer(look_id, share), headers=tuple(event_headers(EventType.RECEIPT)))
    records = [unasked, not_asked_for, meddling, forged, as_receipt]
    refused = await audit.handle(records)
    assert len(refused) == 5
    asked = "the council has not asked this of this subscriber"
    assert [await audit.letters(each) for each in records] == [
        [asked], [asked], [asked], ["the signature is not this subscriber's"], ["the payload is not a receipt"],
    ]  # fmt: skip
    (child,) = (await audit.report(look_id))["children"]
    assert child["records"][0]["verdict"] == "no_answer"


async def test_a_report_is_for_operators_of_the_council_alone(audit: Audit) -> None:
    share = await audit.council.write_share()
    look_id = await audit.asked(share)
    for path in (f"/v1/looks/{look_id}", f"/v1/looks/{look_id}/report"):
        assert (await audit.http.get(path)).status_code == 401
        for kind in ("case_system", "subscriber", "recipient"):
            assert (await audit.get(path, kind=kind)).status_code == 403
        assert (await audit.get(path, la_codes=["333"])).status_code == 404
        assert (await audit.get(path)).status_code == 200
    assert (await audit.get(f"/v1/looks/{uuid4()}/report")).status_code == 404
    body = orjson.loads((await audit.get(f"/v1/looks/{uuid4()}")).content)
    assert body["type"] == "urn:ehcp:problem:no-such-look"


async def test_what_subscribers_say_of_their_records_is_shown_in_numbers(audit: Audit) -> None:
    since = datetime(2026, 11, 18, 3, tzinfo=UTC)
    beat = Heartbeat(
        subscriber="health", at=datetime.now(UTC), held=7, differences={"orphan": 2, "a_newer_kind": 1}, unasked=3,
        unasked_since=since,
    )  # fmt: skip
    headers = tuple(event_headers(EventType.HEARTBEAT))
    value = signer(audit.council.keys["health"])(beat)
    assert await audit.handle([Record("ehcp.receipts.health.v1", 0, next(_numbers), b"health", value, headers)]) == []
    answer = await audit.get("/v1/records")
    assert answer.status_code == 200
    told = {each["subscriber"]: each for each in answer.json()["subscribers"]}
    assert told["health"]["differences"] == {"orphan": 2}
    assert (told["health"]["held"], told["health"]["unasked"]) == (7, 3)
    assert datetime.fromisoformat(told["health"]["unasked_since"]) == since
    assert (told["school"]["last_seen"], told["school"]["differences"]) == (None, {})
    assert (await audit.get("/v1/records", kind="subscriber")).status_code == 403
