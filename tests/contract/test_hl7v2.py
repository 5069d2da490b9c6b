"""The HL7 v2 adapter against a real MLLP server, and against everything that an integration engine does wrong.

What a user would miss: two current plans, a plan that nobody took and is said to be collected, a name in an error.
"""

import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hl7.mllp import open_hl7_connection  # type: ignore[import-untyped]

from schemas.base import Channel
from schemas.identifiers import CodeScheme, RecipientName
from schemas.notices import Notice, NoticeKind
from schemas.plan import SectionLetter
from schemas.receipts import Status, satisfies
from services.cli.machine.ports import HOST
from services.health_subscriber.filing import Stop
from services.health_subscriber.hl7v2 import NOTHING_TO_SEND, Hl7v2Receiver, build_hl7v2
from services.health_subscriber.hl7v2_messages import Names, read_answer
from services.health_subscriber.matching import Doubt
from services.health_subscriber.store import Document, save_documents
from services.shared.delivery.handlers import Parking
from services.shared.record_systems.port import (
    Awaiting,
    Collected,
    Content,
    Recall,
    Refused,
    Retry,
    Withdrawal,
    Withdrawn,
)
from services.shared.record_systems.systems import RecordSystemsFileError, Systems, SystemSettings
from tests.support.contents import RNA, child, content, decision, pdf
from tests.support.hapi_server import running_hapi
from tests.support.mllp_receiver import CLOSE, Answers, Engine, Received, running_engine
from tests.support.record_system_suite import Says, ServerSuite
from tests.support.servers import RunningPostgres
from tests.support.subscriber import books, subscriber_on, wanted

pytestmark = [pytest.mark.contract, pytest.mark.asyncio]


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[Engine]:
    async with running_engine() as running:
        yield running


@pytest.fixture
def receiver(pool: "asyncpg.Pool[asyncpg.Record]", engine: Engine) -> Hl7v2Receiver:
    return a_receiver(pool, engine)


def a_receiver(pool: "asyncpg.Pool[asyncpg.Record]", engine: Engine, **more: Any) -> Hl7v2Receiver:
    given: dict[str, Any] = {"timeout": 1.0, "allow_private": True}
    return Hl7v2Receiver(pool, "engine", f"mllp://{HOST}:{engine.port}", Names(), **given | more)


def next_version(before: Content, **more: Any) -> Content:
    given: dict[str, Any] = {
        "share_id": before.share_id, "plan_id": before.plan_id, "seq": before.seq + 1, "version": before.version + 1,
        "document": pdf(f"version {before.version + 1}"), "replaces": before.version_id,
    }  # fmt: skip
    return content(**given | more)


def withdrawal_of(plan: Content) -> Withdrawal:
    return Withdrawal(plan.share_id, plan.seq + 1, plan.plan_id, plan.recipient)


async def deliver(receiver: Hl7v2Receiver, each: Content) -> object:
    [outcome] = await receiver.deliver([each])
    return outcome


class TestAsEveryRecordSystem(ServerSuite):
    at_once = once_answered = Says(delivered=Collected, recalled=Awaiting)
    can_be_asked = False

    @pytest.fixture(autouse=True)
    def _engine(self, engine: Engine, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self.engine, self.pool = engine, pool

    def port(self) -> int:
        return self.engine.port

    def at(self, port: int, *, timeout: float = 15) -> Hl7v2Receiver:
        return a_receiver(self.pool, Engine(port=port), timeout=timeout)

    async def files(self, record: str) -> list[bytes]:
        availability, files = self.engine.documents[record]
        return files if availability != "CA" else []


class TestDocuments:
    async def test_the_plan_is_taken_byte_for_byte_and_is_collected_not_filed(
        self, receiver: Hl7v2Receiver, engine: Engine
    ) -> None:
        outcome = await deliver(receiver, content(document=pdf("plan")))

        [(number, (availability, files))] = engine.documents.items()
        assert outcome == Collected(number)
        assert (availability, files) == ("AV", [pdf("plan")])

    async def test_it_is_an_original_document_of_this_child(self, receiver: Hl7v2Receiver, engine: Engine) -> None:
        await deliver(receiver, content(document=pdf("plan")))

        [message] = engine.received
        assert message.segments == ["MSH", "EVN", "PID", "PV1", "TXA", "OBX"]
        assert message.field("MSH.9") == "MDM^T02^MDM_T02"
        assert [message.field(at) for at in ("MSH.3", "MSH.11", "MSH.12", "MSH.18")] == ["EHCP", "P", "2.4", "UNICODE UTF-8"]
        assert [message.field(f"PID.3.{n}") for n in (1, 4, 5)] == ["9434765919", "NHS", "NH"]
        assert [message.field(f"PID.5.{n}") for n in (1, 2, 3)] == ["Hartley", "Rowan", "James"]
        assert message.field("PID.7") == "20140506"
        assert [message.field(f"TXA.{n}") for n in (3, 6, 17, 19)] == ["AP", "20260312", "AU", "AV"]
        assert message.field("TXA.13") == ""
        assert [message.field(f"OBX.{n}") for n in (2, 11)] == ["ED", "F"]
        assert [message.field(f"OBX.5.{n}") for n in (2, 3, 4)] == ["application", "pdf", "Base64"]
        assert [message.field(f"OBX.3.{n}") for n in (1, 4, 6)] == ["ehc-plan", "734163000", "SCT"]

    async def test_the_control_id_is_of_twenty_characters_at_most_and_the_same_every_time(
        self, receiver: Hl7v2Receiver, engine: Engine
    ) -> None:
        each = content(document=pdf("plan"))
        first = await deliver(receiver, each)
        assert await deliver(receiver, each) == first
        assert await deliver(receiver, next_version(each)) != first

        ids = [message.control_id for message in engine.received]
        assert ids[0] == ids[1] != ids[2]
        assert {len(each) for each in ids} == {20}
        assert [message.trigger for message in engine.received] == ["T02", "T02", "T10"]

    async def test_the_next_version_replaces_the_one_before(self, receiver: Hl7v2Receiver, engine: Engine) -> None:
        first = content(document=pdf("first"))
        await deliver(receiver, first)
        second = next_version(first, changed_sections=(SectionLetter.C, SectionLetter.G))
        assert isinstance(await deliver(receiver, second), Collected)

        original, replacement = engine.received
        assert replacement.trigger == "T10"
        assert replacement.field("TXA.13.1") == original.field("TXA.12.1")
        assert replacement.field("TXA.14") == original.field("TXA.14")
        assert "C, G" in replacement.field("TXA.21")
        assert engine.current() == [[pdf("version 2")]]

    async def test_a_version_without_a_document_goes_as_text(self, receiver: Hl7v2Receiver, engine: Engine) -> None:
        assert isinstance(await deliver(receiver, content()), Collected)

        [[text]] = engine.current()
        assert b"G1  Epilepsy care plan reviewed with the school." in text
        assert [engine.received[0].field(f"OBX.5.{n}") for n in (2, 3)] == ["text", "plain"]

    async def test_a_large_document_goes_through(self, pool: "asyncpg.Pool[asyncpg.Record]", engine: Engine) -> None:
        large = pdf("large", 25 * 2**20)
        assert isinstance(await deliver(a_receiver(pool, engine, timeout=15), content(document=large)), Collected)
        assert engine.current() == [[large]]

    async def test_names_of_any_language_and_delimiters_arrive_as_they_are(
        self, receiver: Hl7v2Receiver, engine: Engine
    ) -> None:
        whose = child(family_name="Żółć-O'Brien^Smith|x", given_names="Llŷr\\ &Zoë")
        await deliver(receiver, content(whose=whose, document=pdf("plan")))

        assert [engine.received[0].field(f"PID.5.{n}") for n in (1, 2, 3)] == ["Żółć-O'Brien^Smith|x", "Llŷr\\", "&Zoë"]

    async def test_a_notice_is_a_document_of_its_own(self, receiver: Hl7v2Receiver, engine: Engine) -> None:
        plan = content(document=pdf("plan"))
        notice = Notice(
            kind=NoticeKind.REVIEW_REPORT, happened_on=dt.date(2026, 9, 1), text="The review was held.",
        )  # fmt: skip
        await deliver(receiver, plan)
        await deliver(receiver, content(plan_id=plan.plan_id, notice=notice, document=pdf("report")))

        told = engine.received[1]
        assert (told.trigger, told.field("OBX.3.1")) == ("T02", "review-report")
        assert told.files() == [b"The review was held.", pdf("report")]
        assert [pdf("plan")] in engine.current()

    async def test_a_batch_goes_over_one_connection_each_with_its_own_answer(
        self, receiver: Hl7v2Receiver, engine: Engine
    ) -> None:
        batch = [content(document=pdf(str(n))) for n in range(50)]
        batch[7] = content(whose=child(nhs_number=None))
        batch[8] = content(sections={})

        outcomes = await receiver.deliver(batch)

        assert outcomes[7] == Refused(Doubt.NO_NHS_NUMBER.value)
        assert outcomes[8] == Refused(NOTHING_TO_SEND)
        assert {type(outcome) for n, outcome in enumerate(outcomes) if n not in (7, 8)} == {Collected}
        assert (engine.connections, len(engine.documents)) == (1, 48)

    async def test_an_earlier_instruction_that_comes_late_is_not_sent(self, receiver: Hl7v2Receiver, engine: Engine) -> None:
        first = content(document=pdf("first"))
        await deliver(receiver, next_version(first))

        assert await deliver(receiver, first) == Refused(Stop.NEWER_HELD.value)
        assert len(engine.received) == 1

    async def test_the_books_outlive_the_process(self, pool: "asyncpg.Pool[asyncpg.Record]", engine: Engine) -> None:
        first = content(document=pdf("first"))
        await deliver(a_receiver(pool, engine), first)
        await deliver(a_receiver(pool, engine), next_version(first))
        assert engine.current() == [[pdf("version 2")]]


def says(*codes: str) -> Answers:
    """The same answers to whatever comes: a code each, with an error's number after a space."""

    def answer(received: Received) -> list[str | bytes]:
        return [received.acknowledgement(each[:2], error=each[3:] or None) for each in codes]

    return answer


NOT_IN_TIME = "the receiver did not answer in time"
ANSWERS: dict[str, tuple[Answers, object]] = {
    "AE": (says("AE"), Retry("the receiver answered with an error")),
    "AE, a passing one": (says("AE 207"), Retry("the receiver answered with an error (207: an internal error)")),
    "AE, never": (
        says("AE 101"), Refused("the receiver answered with an error (101: a required field is missing)"),
    ),
    "AR": (says("AR"), Refused("the receiver rejected it")),
    "AR, unknown patient": (
        says("AR 204"),
        Refused("the receiver rejected it (204: it does not know a number of the patient or of the document)"),
    ),
    "AR, a passing one": (says("AR 206"), Retry("the receiver rejected it for now (206: the record is locked just now)")),
    "AR, an invented code": (says("AR 999"), Refused("the receiver rejected it")),
    "nonsense": (says("XX"), Retry("the receiver's acknowledgement has a code that HL7 does not know")),
    "nothing": (lambda _: None, Retry(NOT_IN_TIME)),
    "closed": (lambda _: [CLOSE], Retry("the connection to the receiver broke off (IncompleteReadError)")),
    "half of an answer": (
        lambda _: [b"\x0bMSH|^~\\&|TIE", CLOSE], Retry("the connection to the receiver broke off (IncompleteReadError)"),
    ),
    "never ends": (lambda _: [b"\x0b" + b"x" * 400_000], Retry("what the receiver answered is not MLLP")),
    "not MLLP": (lambda _: [b"HTTP/1.1 400 Bad Request\r\n\x1c\r"], Retry("what the receiver answered is not MLLP")),
    "no acknowledgement": (
        lambda _: ["MSH|^~\\&|TIE|RNA|EHCP|EHCP|20261122||ADT^A01|A1|P|2.4\rPID|1\r"],
        Retry("the receiver answered something else than an acknowledgement"),
    ),
    "not HL7": (lambda _: ["Hello"], Retry("the receiver's acknowledgement cannot be read")),
    "empty": (lambda _: [b"\x0b\x1c\r"], Retry("the receiver's acknowledgement cannot be read")),
    "another's control id": (
        lambda received: [received.acknowledgement(control_id="SOMEBODYELSES0000000")],
        Retry("the receiver answered another message than the one that was sent"),
    ),
    "yes and no": (says("AA", "AE"), Retry("the receiver gave two answers that differ")),
}  # fmt: skip


class TestAnswers:
    @pytest.mark.parametrize("name", ANSWERS)
    async def test_one_that_is_not_a_plain_yes(self, receiver: Hl7v2Receiver, engine: Engine, name: str) -> None:
        answers, expected = ANSWERS[name]
        engine.answer(answers, times=1)
        each = content(document=pdf("plan"))

        assert await deliver(receiver, each) == expected
        assert isinstance(await deliver(receiver, each), Collected)

    async def test_yes_twice_is_yes(self, receiver: Hl7v2Receiver, engine: Engine) -> None:
        engine.answer(says("AA", "AA"))
        outcomes = await receiver.deliver([content(document=pdf(str(n))) for n in range(10)])
        assert [type(outcome) for outcome in outcomes] == [Collected] * 10
        assert engine.connections == 1

    async def test_a_second_answer_that_differs_is_met_between_others(self, receiver: Hl7v2Receiver, engine: Engine) -> None:
        engine.answer(says("AA"), times=2)
        engine.answer(says("AA", "AR"), times=1)
        outcomes = await receiver.deliver([content(document=pdf(str(n))) for n in range(6)])
        differing = Retry("the receiver gave two answers that differ")
        assert [outcome if outcome == differing else type(outcome) for outcome in outcomes] == [
            Collected, Collected, differing, Collected, Collected, Collected,
        ]  # fmt: skip

    async def test_that_it_has_it_already_is_the_answer_to_a_repeat(self, receiver: Hl7v2Receiver, engine: Engine) -> None:
        engine.answer(says("AE 205"), times=1)
        assert isinstance(await deliver(receiver, content(document=pdf("plan"))), Collected)

    async def test_accepted_in_the_enhanced_mode_is_taken_too(self, receiver: Hl7v2Receiver, engine: Engine) -> None:
        engine.answer(says("CA"), times=1)
        assert isinstance(await deliver(receiver, content(document=pdf("plan"))), Collected)

    async def test_one_without_an_answer_does_not_hold_up_the_others(self, receiver: Hl7v2Receiver, engine: Engine) -> None:
        engine.answer(lambda _: None, times=1)
        outcomes = await receiver.deliver([content(document=pdf(str(n))) for n in range(10)])
        assert outcomes[0] == Retry(NOT_IN_TIME)
        assert [type(outcome) for outcome in outcomes[1:]] == [Collected] * 9

    async def test_a_receiver_that_says_nothing_gives_the_batch_back_soon(
        self, pool: "asyncpg.Pool[asyncpg.Record]", engine: Engine
    ) -> None:
        engine.answer(lambda _: None)
        receiver = a_receiver(pool, engine, timeout=0.3)
        assert await receiver.deliver([content(document=pdf(str(n))) for n in range(100)]) == [Retry(NOT_IN_TIME)] * 100
        assert len(engine.received) == 2


class TestNeverTwoCurrent:
    async def test_a_version_whose_answer_was_lost_is_obsolete_before_the_next_comes(
        self, receiver: Hl7v2Receiver, engine: Engine
    ) -> None:
        first = content(document=pdf("first"))
        second = next_version(first)
        third = next_version(second, replaces=first.version_id)
        await deliver(receiver, first)
        # Kept by the engine, whose answer never comes.
        engine.answer(lambda received: [CLOSE] if engine._keep(received) else [], times=1)
        assert isinstance(await deliver(receiver, second), Retry)

        assert isinstance(await deliver(receiver, third), Collected)

        assert [message.trigger for message in engine.received] == ["T02", "T10", "T03", "T10"]
        assert engine.current() == [[pdf("version 3")]]

    async def test_one_that_never_arrived_is_no_obstacle(self, receiver: Hl7v2Receiver, engine: Engine) -> None:
        first = content(document=pdf("first"))
        engine.answer(lambda _: [CLOSE], times=1)
        assert isinstance(await deliver(receiver, first), Retry)

        assert isinstance(await deliver(receiver, next_version(first)), Collected)
        assert [message.trigger for message in engine.received] == ["T02", "T03", "T02"]
        assert engine.current() == [[pdf("version 2")]]

    async def test_wanted_again_after_it_was_withdrawn(self, receiver: Hl7v2Receiver, engine: Engine) -> None:
        first = content(document=pdf("first"))
        await deliver(receiver, first)
        await receiver.withdraw([withdrawal_of(first)])
        again = replace(first, seq=3, replaces=first.version_id)
        assert isinstance(await deliver(receiver, again), Collected)
        assert engine.current() == [[pdf("first")]]


class TestWithdrawAndRecall:
    async def test_a_withdrawn_plan_is_marked_obsolete_and_stays(self, receiver: Hl7v2Receiver, engine: Engine) -> None:
        first = content(document=pdf("first"))
        await deliver(receiver, first)
        second = next_version(first)
        await deliver(receiver, second)
        [number] = [number for number, (availability, _) in engine.documents.items() if availability == "AV"]

        assert await receiver.withdraw([withdrawal_of(second)]) == [Withdrawn(number)]

        assert engine.documents[number] == ("OB", [pdf("version 2")])
        status = engine.received[-1]
        assert (status.field("MSH.9"), status.segments) == ("MDM^T03^MDM_T01", ["MSH", "EVN", "PID", "PV1", "TXA"])
        assert status.field("PID.3.1") == str(first.plan_id)
        assert "Hartley" not in str(status.message)

    async def test_a_recalled_version_is_cancelled_and_its_removal_waits_for_a_person(
        self, receiver: Hl7v2Receiver, engine: Engine
    ) -> None:
        first = content(document=pdf("first"))
        second = next_version(first)
        for each in (first, second):
            await deliver(receiver, each)
        wrong = Recall(first.share_id, 3, first.plan_id, RNA, (second.version_id,))

        [outcome] = await receiver.recall([wrong])

        assert isinstance(outcome, Awaiting)
        assert engine.received[-1].field("MSH.9") == "MDM^T11^MDM_T01"
        assert sorted(availability for availability, _ in engine.documents.values()) == ["CA", "OB"]
        assert engine.documents[outcome.record][0] == "CA"


class TestHapi:
    """Another's parser, with its validation, reads every kind of message; nobody behind it takes them."""

    PARSED = Retry("the receiver rejected it for now (207: an internal error)")

    async def test_every_message_is_parsed(self, pool: "asyncpg.Pool[asyncpg.Record]", tmp_path: Path) -> None:
        with running_hapi(tmp_path / "hapi.log") as port:
            receiver = a_receiver(pool, Engine(port=port), timeout=15)
            plan = content(
                document=pdf("plan"), attachments=[("Advice.pdf", pdf("advice"))], whose=child(family_name="O^N|l~é")
            )
            async with pool.acquire() as connection:
                held = Document(plan.share_id, 1, plan.version_id, accepted=True)
                await save_documents(connection, "engine", [held])
            outcomes: list[object] = [
                *await receiver.deliver([content(document=pdf("first")), content(), replace(plan, seq=2), told()]),
                *await receiver.withdraw([Withdrawal(plan.share_id, 3, plan.plan_id, RNA)]),
                *await receiver.recall([Recall(plan.share_id, 4, plan.plan_id, RNA, (plan.version_id,))]),
            ]
            triggers = [line for line in (tmp_path / "hapi.log").read_text().splitlines() if "MDM" in line]
        assert outcomes == [self.PARSED] * 6, triggers

    async def test_a_message_that_breaks_the_standard_is_not(self, tmp_path: Path) -> None:
        with running_hapi(tmp_path / "hapi.log") as port:
            reader, writer = await open_hl7_connection(HOST, port)
            writer.writeblock(b"MSH|^~\\&|a|b|c|d|2026||MDM^T02^MDM_T02|1|P|2.4\rEVN|T02|yesterday\r")
            answer = read_answer(await reader.readblock())
            writer.close()
        assert (answer.code, answer.error) == ("AE", "207")


def told() -> Content:
    return content(notice=decision(), document=pdf("letter"))


class TestSubscriber:
    async def test_collected_satisfies_the_channel_and_one_that_failed_is_tried_again(
        self, postgres_server: RunningPostgres, engine: Engine
    ) -> None:
        async with subscriber_on(postgres_server, await books(postgres_server)) as base:
            recipients = (RecipientName(scheme=CodeScheme.ODS, value="RNA"),)
            settings = SystemSettings(name="engine", kind="hl7v2", recipients=recipients)
            systems = Systems((settings,), {"hl7v2": lambda _: a_receiver(base.pool, engine)})
            parking = Parking(base.pool, systems, base.receipts, lambda: None, base.looks)
            subscriber = replace(base, systems=systems, parking=parking)
            first, second = wanted(), wanted()
            engine.answer(says("AE"), times=1)
            async with subscriber.dispatching():
                for wish in (first, second):
                    subscriber.council.wants(wish)
                    await subscriber.park(wish)
                    await subscriber.until_said(wish, Status.FAILED if wish is first else Status.COLLECTED)
                await subscriber.make_due(first)
                collected = await subscriber.until_said(first, Status.COLLECTED)
        assert satisfies(Channel.HL7V2, collected.status)
        assert collected.record in engine.documents


# --- TLS and settings


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine's own address, which vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an engine")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = (folder / "certificate.pem", folder / "key.pem")
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


@asynccontextmanager
async def an_engine_with_tls(folder: Path) -> AsyncIterator[tuple[Engine, Path]]:
    certificate, key = make_certificate(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with running_engine(context) as engine:
        yield engine, certificate


def entry(**more: Any) -> SystemSettings:
    given = {"name": "engine", "kind": "hl7v2", "recipients": [{"scheme": "ods", "value": "RNA"}], "allow_private": True}
    return SystemSettings.model_validate(given | more)


class TestSettings:
    async def test_over_tls_the_receiver_must_be_who_the_settings_say(
        self, pool: "asyncpg.Pool[asyncpg.Record]", tmp_path: Path
    ) -> None:
        async with an_engine_with_tls(tmp_path) as (engine, certificate):
            url = f"mllps://{HOST}:{engine.port}"
            trusting = build_hl7v2(pool)(entry(url=url, options={"ca_file": str(certificate)}))
            assert [type(outcome) for outcome in await trusting.deliver([content(document=pdf("plan"))])] == [Collected]

            stranger = build_hl7v2(pool)(entry(url=url))
            assert await stranger.deliver([content(document=pdf("plan"))]) == [
                Retry("the receiver cannot be reached (SSLCertVerificationError)")
            ]
            assert len(engine.received) == 1

    async def test_how_the_two_ends_are_called_is_set(self, pool: "asyncpg.Pool[asyncpg.Record]", engine: Engine) -> None:
        options = {"receiving_application": "TIE", "receiving_facility": "RNA", "processing_id": "T", "document_type": "CP"}
        built = build_hl7v2(pool)(entry(url=f"mllp://{HOST}:{engine.port}", options=options))
        await built.deliver([content(document=pdf("plan"))])
        [message] = engine.received
        assert [message.field(at) for at in ("MSH.5", "MSH.6", "MSH.11", "TXA.2")] == ["TIE", "RNA", "T", "CP"]

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            ({}, "its url must be mllps://host:port"),
            ({"url": "https://engine.example"}, "its url must be mllps://host:port"),
            ({"url": "mllp://engine.example:2575", "allow_private": False}, "only with allow_private"),
            ({"url": "mllps://engine.example:2575", "options": {"ca_file": "/nowhere"}}, "No such file"),
            ({"url": "mllps://engine.example:2575", "options": {"processing": "P"}}, "wrong at options/processing"),
        ],
    )
    async def test_what_is_wrong_is_said_in_one_sentence(
        self, pool: "asyncpg.Pool[asyncpg.Record]", more: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(RecordSystemsFileError, match=says):
            build_hl7v2(pool)(entry(**more))

    async def test_without_tls_nothing_goes_to_the_public_internet(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        receiver = Hl7v2Receiver(pool, "engine", "mllp://8.8.8.8:2575", Names(), allow_private=True, timeout=1)
        [outcome] = await receiver.deliver([content(document=pdf("plan"))])
        assert outcome == Retry(
            "nothing was sent: the receiver's address is public, which takes mllps://, or private without being allowed"
        )
