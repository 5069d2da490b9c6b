"""Who shares an organisation's code is a recipient of its own: in lanes, inboxes, pauses, statements, and after an upgrade."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import orjson
import pytest

from schemas.base import RecipientKind
from schemas.events import RecipientCode
from schemas.identifiers import CodeScheme, RecipientName, recipient_name
from schemas.receipts import HostedBy, Status
from services.shared.delivery.handlers import Parking
from services.shared.delivery.receipts import Receipts
from services.shared.identity.tokens import Caller, CallerKind
from services.shared.postgres import migrate as module
from services.shared.postgres.pool import open_pool
from services.shared.record_systems.inbox import Inbox, InboxKeys
from services.shared.record_systems.inbox_api import make_inbox_router
from services.shared.record_systems.port import Awaiting, RecordSystem, Removed
from services.shared.record_systems.recalls_api import make_recalls_router
from services.shared.record_systems.systems import Systems, SystemSettings
from services.shared.runtime import make_app
from services.shared.sealing.sealing import new_key, pack
from tests.support.servers import RunningPostgres
from tests.support.subscriber import SubscriberStub, Wanted, wanted

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

SOCIAL_CARE = RecipientCode(kind=RecipientKind.SOCIAL_CARE, scheme=CodeScheme.LA, value="332")
YOUTH_OFFENDING = RecipientCode(kind=RecipientKind.YOUTH_OFFENDING_SERVICE, scheme=CodeScheme.LA, value="332")
TRUST = RecipientName(scheme=CodeScheme.ODS, value="RNA")
CAMHS = RecipientCode(kind=RecipientKind.CAMHS, scheme=CodeScheme.ODS, value="RNA")
CAMHS_BY_NAME = RecipientName(kind=RecipientKind.CAMHS, scheme=CodeScheme.ODS, value="RNA")


def serve(subscriber: SubscriberStub, *entries: SystemSettings) -> SubscriberStub:
    """As after a restart with this record systems file: one ``fhir`` for each stub, and the inbox."""
    stubs: Mapping[str, RecordSystem] = subscriber.records
    inbox = Inbox(subscriber.pool, subscriber.inbox_keys)
    subscriber.systems = Systems(entries, {"fhir": lambda entry: stubs[entry.name], "inbox": lambda _: inbox})
    subscriber.parking = Parking(subscriber.pool, subscriber.systems, subscriber.receipts, lambda: None, subscriber.looks)
    return subscriber


def everyone_else() -> SystemSettings:
    return SystemSettings(name="inbox", kind="inbox", recipients="*")


def both(first: RecipientCode, second: RecipientCode) -> tuple[Wanted, Wanted]:
    """The same version of the same plan for both."""
    one = wanted(first)
    return one, replace(one, share_id=uuid4(), recipient=second)


def pages(pool: "asyncpg.Pool[asyncpg.Record]", keys: InboxKeys, receipts: Receipts, recipient: str) -> httpx2.AsyncClient:
    """A subscriber's pages, as a reader of this recipient asks for them."""

    async def verifier() -> Caller:
        return Caller(f"reader of {recipient}", CallerKind.RECIPIENT, recipient=recipient)

    app = make_app("A subscriber")
    app.include_router(make_inbox_router(pool, keys, receipts, verifier))  # type: ignore[arg-type]
    app.include_router(make_recalls_router(pool, receipts, verifier))  # type: ignore[arg-type]
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://subscriber.test")


def reader(subscriber: SubscriberStub, recipient: RecipientCode) -> httpx2.AsyncClient:
    return pages(subscriber.pool, subscriber.inbox_keys, subscriber.receipts, str(recipient))


async def listed(reader: httpx2.AsyncClient) -> list[str]:
    return [each["share_id"] for each in (await reader.get("/v1/inbox")).json()["items"]]


async def test_of_a_detained_child_each_service_gets_its_own_copy_in_its_own_place(subscriber: SubscriberStub) -> None:
    case_system = SystemSettings(name="rna", kind="fhir", recipients=(RecipientName(scheme=CodeScheme.LA, value="332"),))
    serve(subscriber, case_system, everyone_else())
    theirs, youths = both(SOCIAL_CARE, YOUTH_OFFENDING)
    subscriber.council.wants(theirs, youths)
    await subscriber.park(theirs, youths)
    async with subscriber.dispatching():
        await subscriber.until_said(theirs, Status.FILED)
        await subscriber.until_said(youths, Status.SENT)
    assert subscriber.rna.delivered == [(theirs.share_id, 1)]

    social_care, youth_offending = reader(subscriber, SOCIAL_CARE), reader(subscriber, YOUTH_OFFENDING)
    assert (await listed(social_care), await listed(youth_offending)) == ([], [str(youths.share_id)])
    assert (await social_care.get(f"/v1/inbox/{youths.share_id}")).status_code == 404
    assert (await youth_offending.get(f"/v1/inbox/{youths.share_id}")).json()["version"] == 1
    assert (await subscriber.signed(youths))[-1].status is Status.OPENED

    # Only people can take it out of the case system: those of social care, and nobody else.
    subscriber.rna.decide_recall = lambda _: Awaiting("case 7")
    recall = theirs.recall()
    subscriber.council.wants(recall)
    await subscriber.park(recall)
    async with subscriber.dispatching():
        await subscriber.until_said(recall, Status.WAITING)
    statement = {"seq": 2, "how": "deleted", "removed_on": "2026-09-03", "by": "Ms Day"}
    path = f"/v1/recalls/{theirs.share_id}/removed"
    assert (await youth_offending.get("/v1/recalls")).json()["recalls"] == []
    assert (await youth_offending.post(path, json=statement)).status_code == 404
    [asked] = (await social_care.get("/v1/recalls")).json()["recalls"]
    assert asked["share_id"] == str(theirs.share_id)
    assert (await social_care.post(path, json=statement)).json()["status"] == "recalled"
    assert await listed(youth_offending) == [str(youths.share_id)]


async def test_what_an_earlier_rule_put_elsewhere_moves_on_and_a_recall_ends_in_both_places(
    subscriber: SubscriberStub,
) -> None:
    rna = SystemSettings(name="rna", kind="fhir", recipients=(TRUST, CAMHS_BY_NAME))
    serve(subscriber, rna)
    first, waits = wanted(CAMHS), wanted(CAMHS)
    subscriber.council.wants(first, waits)
    await subscriber.park(first)
    async with subscriber.dispatching():
        await subscriber.until_said(first, Status.FILED)
    await subscriber.park(waits)

    serve(subscriber, rna.model_copy(update={"recipients": (TRUST,)}), everyone_else())
    newer = first.next()
    subscriber.council.wants(newer)
    await subscriber.park(newer)
    async with subscriber.dispatching():
        await subscriber.until_said(waits, Status.SENT)
        await subscriber.until_said(newer, Status.SENT)
    assert subscriber.rna.delivered == [(first.share_id, 1)], "nothing new of CAMHS goes into the trust's own record"
    assert sorted(await listed(reader(subscriber, CAMHS))) == sorted([str(waits.share_id), str(newer.share_id)])

    subscriber.rna.decide_recall = lambda _: Awaiting("a ward has a print")
    recall = replace(newer.recall(), remove=(first.version_id, newer.version_id))
    subscriber.council.wants(recall)
    await subscriber.park(recall)
    async with subscriber.dispatching():
        await subscriber.until_said(recall, Status.WAITING)
        subscriber.rna.decide_recall = lambda _: Removed("entry 7")
        await subscriber.make_due(recall)
        gone = await subscriber.until_said(recall, Status.RECALLED)
    assert gone.record == "removed from the inbox; was never opened; rna: entry 7"


async def test_what_lies_where_it_was_served_before_goes_though_people_must_answer_where_it_is_served_now(
    subscriber: SubscriberStub,
) -> None:
    rna = SystemSettings(name="rna", kind="fhir", recipients=(TRUST, CAMHS_BY_NAME))
    serve(subscriber, rna)
    first = wanted(CAMHS)
    subscriber.council.wants(first)
    await subscriber.park(first)
    async with subscriber.dispatching():
        await subscriber.until_said(first, Status.FILED)
    serve(subscriber, rna.model_copy(update={"recipients": (TRUST,)}), everyone_else())
    newer = first.next()
    subscriber.council.wants(newer)
    await subscriber.park(newer)
    async with subscriber.dispatching():
        await subscriber.until_said(newer, Status.SENT)
    camhs = reader(subscriber, CAMHS)
    assert (await camhs.get(f"/v1/inbox/{newer.share_id}")).status_code == 200
    recall = replace(newer.recall(), remove=(first.version_id, newer.version_id))
    subscriber.council.wants(recall)
    await subscriber.park(recall)
    async with subscriber.dispatching():
        waits = await subscriber.until_said(recall, Status.WAITING)
    assert "may have been printed" in str(waits.reason)
    assert [each.versions for each in subscriber.rna.recalls] == [(first.version_id, newer.version_id)]


async def test_a_recall_of_what_lies_where_it_is_served_no_more_is_asked_for_there(subscriber: SubscriberStub) -> None:
    rna = SystemSettings(name="rna", kind="fhir", recipients=(TRUST, CAMHS_BY_NAME))
    serve(subscriber, rna)
    wish = wanted(CAMHS)
    subscriber.council.wants(wish)
    await subscriber.park(wish)
    async with subscriber.dispatching():
        await subscriber.until_said(wish, Status.FILED)
    serve(subscriber, rna.model_copy(update={"recipients": (TRUST,)}), everyone_else())
    recall = wish.recall()
    subscriber.council.wants(recall)
    await subscriber.park(recall)
    async with subscriber.dispatching():
        assert (await subscriber.until_said(recall, Status.RECALLED)).record == "1 entry removed"
    assert [each.versions for each in subscriber.rna.recalls] == [(wish.version_id,)]


async def test_an_answer_for_another_kind_of_the_code_is_not_believed(subscriber: SubscriberStub) -> None:
    trust = wanted()
    camhs = replace(trust, recipient=CAMHS)
    subscriber.council.answers = lambda _, seq: orjson.loads(camhs.answer(seq).model_dump_json())
    await subscriber.park(trust)
    async with subscriber.dispatching():
        await subscriber.until_said(trust, Status.CONFLICT)
    assert subscriber.rna.batches == []


async def test_the_database_names_recipients_by_the_same_rule(subscriber: SubscriberStub) -> None:
    for scheme in CodeScheme:
        for kind in RecipientKind:
            who = {"kind": kind, "scheme": scheme, "value": "X1"}
            named = await subscriber.pool.fetchval("SELECT delivery.recipient_name($1)", who)
            assert named == recipient_name(kind, scheme, "X1")


async def test_what_was_kept_under_the_code_alone_is_found_after_the_upgrade(
    postgres_server: RunningPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inbox items and a pause as version 0.1 wrote them: the trust's and its CAMHS's under one code, sealed with one key."""
    owner_dsn = await postgres_server.create_database("upgraded", ("health_subscriber",))
    before = tmp_path / "shared" / "delivery" / "migrations"
    before.mkdir(parents=True)
    for file in (module.SERVICES / "shared" / "delivery" / "migrations").glob("*.sql"):
        if file.stem < "018_kinds":
            shutil.copy(file, before)
    with monkeypatch.context() as patched:
        patched.setattr(module, "SERVICES", tmp_path)
        await module.migrate(owner_dsn, "health_subscriber")
    pool = await open_pool(owner_dsn)
    try:
        keys = InboxKeys(new_key())
        trust, camhs = both(RecipientCode(kind=RecipientKind.TRUST, scheme=CodeScheme.ODS, value="RNA"), CAMHS)
        for each in (trust, camhs):
            await _as_it_was(pool, keys, each)
        await pool.execute("INSERT INTO delivery.pause (recipient, reason, paused_by) VALUES ('ods:RNA', 'a move', 'Ann')")

        await module.migrate(owner_dsn, "health_subscriber")
        receipts = Receipts("health", HostedBy.AGENCY, lambda _: b"signed")
        for name, own, other in (("ods:RNA", trust, camhs), ("camhs/ods:RNA", camhs, trust)):
            here = pages(pool, keys, receipts, name)
            assert await listed(here) == [str(own.share_id)]
            assert (await here.get(f"/v1/inbox/{own.share_id}")).json()["case_reference"] == str(own.share_id)
            assert (await here.get(f"/v1/inbox/{other.share_id}")).status_code == 404
        assert [row["recipient"] for row in await pool.fetch("SELECT recipient FROM delivery.pause ORDER BY 1")] == [
            "camhs/ods:RNA", "ods:RNA",
        ]  # fmt: skip
    finally:
        await pool.close()


async def _as_it_was(pool: "asyncpg.Pool[asyncpg.Record]", keys: InboxKeys, each: Wanted) -> None:
    instruction: dict[str, Any] = orjson.loads(each.instruction)
    async with pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO delivery.delivery (share_id, seq, action, instruction, sha256, plan_id, lane, state, held_seq)"
            " VALUES ($1, 1, 'hold', $2, $3, $4, 'inbox', 'sent', 1)",
            each.share_id, instruction, each.sha256, each.plan_id,
        )  # fmt: skip
        key = (await keys.of(connection, ["ods:RNA"]))["ods:RNA"]
        shown = pack(orjson.dumps({"case_reference": str(each.share_id), "files": []} | _SHOWN))
        await connection.execute(
            "INSERT INTO delivery.inbox (share_id, seq, recipient, plan_id, version_id, sha256, content)"
            " VALUES ($1, 1, 'ods:RNA', $2, $3, $4, $5)",
            each.share_id, each.plan_id, each.version_id, each.sha256, key.seal_packed(shown, f"inbox:{each.share_id}:1"),
        )  # fmt: skip


_SHOWN = {
    "council": "Dudley", "version": 1, "issued_on": "2026-09-01", "child": {}, "sections": {}, "notice": None,
    "changed_sections": [], "has_document": False,
}  # fmt: skip
