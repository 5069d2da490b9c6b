"""The webhook adapter against the sandbox's real case system, and against everything that a network and a server do wrong."""

import asyncio
import datetime as dt
import json
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from schemas.base import RecipientKind
from schemas.identifiers import CodeScheme
from schemas.plan import Section, SectionLetter
from services.cli.machine.ports import HOST
from services.shared.record_systems.port import (
    Content,
    Filed,
    Recall,
    Recipient,
    RecordAwayError,
    Refused,
    Removed,
    Retry,
    Withdrawal,
    Withdrawn,
)
from services.shared.record_systems.webhook import WebhookEndpoint
from services.shared.record_systems.webhook_keys import keys_of, signed
from services.shared.record_systems.webhook_messages import CONTENT_TYPE, delivered
from tests.support import fault_proxy
from tests.support.case_system import SECRET, CaseSystem, running_case_system
from tests.support.contents import child, content, decision, pdf
from tests.support.fault_proxy import FaultProxy
from tests.support.record_system_suite import HttpSuite

pytestmark = pytest.mark.contract

DUDLEY = Recipient(RecipientKind.SOCIAL_CARE, CodeScheme.LA, "332", "Dudley children's social care")
SANDWELL = Recipient(RecipientKind.SOCIAL_CARE, CodeScheme.LA, "333", "Sandwell children's social care")
WRONG_SECRET = "whsec_" + "A" * 43 + "="
JSON = "application/json"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def case_system() -> AsyncIterator[CaseSystem]:
    async with running_case_system() as system:
        yield system


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(case_system: CaseSystem) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(case_system.port) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def endpoint(proxy: FaultProxy) -> AsyncIterator[WebhookEndpoint]:
    async with an_endpoint(f"http://{HOST}:{proxy.port}/webhooks/332") as made:
        yield made


@asynccontextmanager
async def an_endpoint(
    url: str,
    secret: str = SECRET,
    *,
    allow_private: bool = True,
    timeout: float = 15,
    clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
) -> AsyncIterator[WebhookEndpoint]:
    made = WebhookEndpoint(url, secret, allow_private=allow_private, timeout=timeout, clock=clock)
    try:
        yield made
    finally:
        await made.close()


def a_version(**more: Any) -> Content:
    return content(**{"recipient": DUDLEY} | more)


async def one(endpoint: WebhookEndpoint, each: Content) -> object:
    [outcome] = await endpoint.deliver([each])
    return outcome


async def until_filed(endpoint: WebhookEndpoint, each: Content) -> Filed:
    outcome = await one(endpoint, each)
    assert isinstance(outcome, Filed)
    return outcome


# --- what every record system must do


class TestAsEveryRecordSystem(HttpSuite):
    pytestmark = pytest.mark.asyncio
    refuses = frozenset({"409", "413", "422"})

    @pytest.fixture(autouse=True)
    def _case_system(self, case_system: CaseSystem) -> None:
        self.case_system = case_system

    def port(self) -> int:
        return self.case_system.port

    def at(self, port: int, *, timeout: float = 15) -> WebhookEndpoint:
        return WebhookEndpoint(f"http://{HOST}:{port}/webhooks/332", SECRET, allow_private=True, timeout=timeout)

    def version(self, **more: Any) -> Content:
        return a_version(**more)

    async def bad(self) -> Content:
        return a_version(recipient=SANDWELL)

    async def files(self, record: str) -> list[bytes]:
        return await self.case_system.files(record)


# --- what it is for


@pytest.mark.asyncio
async def test_a_version_is_filed_and_shown_to_the_case_system_s_users(
    endpoint: WebhookEndpoint, case_system: CaseSystem
) -> None:
    each = a_version(document=pdf("plan"), attachments=[("advice 1.pdf", pdf("one")), ("advice 2.pdf", pdf("two"))])
    filed = await until_filed(endpoint, each)
    shown = (await case_system.plans())[str(each.plan_id)]
    assert filed.sha256 == each.sha256 == shown["sha256"]
    assert filed.record == shown["record"]
    assert (shown["version"], shown["issued_on"], shown["recipient"]) == (1, "2026-03-12", "la:332")
    assert (shown["sections"], shown["files"], shown["withdrawn"]) == (["A", "C", "G"], 3, False)


@pytest.mark.asyncio
async def test_what_comes_as_2_1_3_3_ends_with_3(endpoint: WebhookEndpoint, case_system: CaseSystem) -> None:
    share, plan = uuid4(), uuid4()
    versions = {seq: a_version(share_id=share, plan_id=plan, seq=seq, version=seq) for seq in (1, 2, 3)}
    outcomes = [await one(endpoint, versions[seq]) for seq in (2, 1, 3, 3)]
    assert [type(outcome) for outcome in outcomes] == [Filed, Refused, Filed, Filed]
    assert outcomes[2] == outcomes[3]
    shown = (await case_system.plans())[str(plan)]
    assert (shown["version"], shown["seq"], shown["versions_kept"]) == (3, 3, 3)


@pytest.mark.asyncio
async def test_every_order_of_delivery_ends_with_the_newest(endpoint: WebhookEndpoint, case_system: CaseSystem) -> None:
    order = random.Random(20261120)
    for _ in range(5):
        share, plan = uuid4(), uuid4()
        versions = [a_version(share_id=share, plan_id=plan, seq=seq, version=seq) for seq in range(1, 7)]
        sent = versions + order.choices(versions, k=6)
        order.shuffle(sent)
        await endpoint.deliver(sent)
        shown = (await case_system.plans())[str(plan)]
        assert (shown["version"], shown["versions_kept"]) == (6, 6)


@pytest.mark.asyncio
async def test_the_same_content_under_a_later_turn_is_the_same_record(
    endpoint: WebhookEndpoint, case_system: CaseSystem
) -> None:
    first = a_version()
    filed = await until_filed(endpoint, first)
    assert await one(endpoint, replace(first, seq=5)) == filed
    assert (await case_system.plans())[str(first.plan_id)]["versions_kept"] == 1


@pytest.mark.asyncio
async def test_other_sections_of_the_same_version_are_another_record(
    endpoint: WebhookEndpoint, case_system: CaseSystem
) -> None:
    first = a_version()
    fewer = {SectionLetter.C: first.sections[SectionLetter.C]}
    second = a_version(share_id=first.share_id, plan_id=first.plan_id, version_id=first.version_id, seq=2, sections=fewer)
    assert (await until_filed(endpoint, first)).record != (await until_filed(endpoint, second)).record
    assert (await case_system.plans())[str(first.plan_id)]["sections"] == ["C"]


@pytest.mark.asyncio
async def test_a_share_that_is_made_anew_counts_again_from_one(endpoint: WebhookEndpoint, case_system: CaseSystem) -> None:
    old = a_version(seq=9)
    new = a_version(plan_id=old.plan_id, seq=1, version=2)
    late = replace(a_version(plan_id=old.plan_id, seq=8), share_id=old.share_id)
    assert [type(await one(endpoint, each)) for each in (old, new, late)] == [Filed, Filed, Refused]
    assert (await case_system.plans())[str(old.plan_id)]["version"] == 2


@pytest.mark.asyncio
async def test_a_large_document_is_filed(endpoint: WebhookEndpoint) -> None:
    each = a_version(document=pdf("large", 20 * 2**20), attachments=[("a.pdf", pdf("a", 2**20))])
    assert (await until_filed(endpoint, each)).sha256 == each.sha256


@pytest.mark.asyncio
async def test_text_of_any_language_keeps_its_hash(endpoint: WebhookEndpoint) -> None:
    text = 'Zażółć, Llŷn, مرحبا, ਪੰਜਾਬੀ 😀 \u2028 \\ " </script>'
    each = a_version(sections={SectionLetter.A: Section(text=text)})
    assert (await until_filed(endpoint, each)).sha256 == each.sha256


@pytest.mark.asyncio
async def test_what_was_answered_survives_a_power_cut(case_system: CaseSystem) -> None:
    async with an_endpoint(case_system.url) as endpoint:
        batch = [a_version() for _ in range(20)]
        outcomes = await endpoint.deliver(batch)
        await case_system.kill()
        assert all(isinstance(outcome, Filed) for outcome in outcomes)
        [away] = await endpoint.deliver([a_version()])
        assert isinstance(away, Retry)
        await case_system.start()
        held = await endpoint.holds(DUDLEY, [each.plan_id for each in batch])
        assert {plan: one.sha256 for plan, one in held.items()} == {each.plan_id: each.sha256 for each in batch}
        assert await endpoint.deliver(batch) == outcomes


# --- withdrawals and holdings


@pytest.mark.asyncio
async def test_what_comes_late_after_a_withdrawal_stays_withdrawn(endpoint: WebhookEndpoint, case_system: CaseSystem) -> None:
    each = a_version()
    assert await endpoint.withdraw([Withdrawal(each.share_id, 2, each.plan_id, DUDLEY)]) == [Withdrawn("")]
    assert isinstance(await one(endpoint, each), Refused)
    assert (await case_system.plans())[str(each.plan_id)]["withdrawn"] is True


# --- notices, recall, the child corrected


def a_notice(plan: Content, **more: Any) -> Content:
    return a_version(**{"plan_id": plan.plan_id, "notice": decision()} | more)


def recall_of(*wrong: Content, seq: int) -> Recall:
    return Recall(wrong[0].share_id, seq, wrong[0].plan_id, DUDLEY, tuple(each.version_id for each in wrong))


@pytest.mark.asyncio
async def test_a_notice_is_shown_to_the_case_system_s_users(endpoint: WebhookEndpoint, case_system: CaseSystem) -> None:
    told = a_notice(a_version())
    await until_filed(endpoint, told)
    [shown] = await case_system.notices(told)
    assert (shown["kind"], shown["text"]) == ("review_decision", "The council has decided to amend the plan.")
    assert shown["notice_id"] == str(told.version_id)


@pytest.mark.asyncio
async def test_a_notice_with_another_text_is_not_believed(endpoint: WebhookEndpoint, case_system: CaseSystem) -> None:
    told = a_notice(a_version())
    changed = replace(told, notice=decision(text="The council has decided to cease the plan."))
    assert isinstance(await one(endpoint, changed), Refused)
    assert await case_system.notices(told) == []


@pytest.mark.asyncio
async def test_what_was_recalled_is_gone_by_the_receiver_s_own_signed_word(
    endpoint: WebhookEndpoint, case_system: CaseSystem
) -> None:
    wrong = a_version(document=pdf("another child's"))
    filed = await until_filed(endpoint, wrong)
    [outcome] = await endpoint.recall([recall_of(wrong, seq=2)])
    assert isinstance(outcome, Removed)
    assert outcome.record.startswith(f"signed statement of removal ({filed.record}) at ")
    assert await endpoint.recall([recall_of(wrong, seq=2)]) == [outcome]
    assert str(wrong.plan_id) not in await case_system.plans()
    assert await endpoint.holds(DUDLEY, [wrong.plan_id]) == {}
    # The old message, late: neither the one that came before nor one that had been lost on its way.
    assert isinstance(await one(endpoint, replace(wrong, seq=2)), Refused)
    assert await endpoint.holds(DUDLEY, [wrong.plan_id]) == {}


@pytest.mark.asyncio
async def test_a_version_that_comes_only_after_its_recall_is_refused(endpoint: WebhookEndpoint) -> None:
    wrong = a_version()
    assert isinstance((await endpoint.recall([recall_of(wrong, seq=2)]))[0], Removed)
    assert isinstance(await one(endpoint, wrong), Refused)
    assert await endpoint.holds(DUDLEY, [wrong.plan_id]) == {}


@pytest.mark.asyncio
async def test_a_version_recalled_by_mistake_may_be_wanted_again(endpoint: WebhookEndpoint, case_system: CaseSystem) -> None:
    plan = a_version(document=pdf("plan"))
    await until_filed(endpoint, plan)
    await endpoint.recall([recall_of(plan, seq=2)])
    await until_filed(endpoint, replace(plan, seq=3))
    assert (await case_system.plans())[str(plan.plan_id)]["files"] == 1


async def _unsigned(_request: fault_proxy.Request, forward: fault_proxy.Forward) -> bytes:
    body = (await forward()).partition(b"\r\n\r\n")[2]
    return fault_proxy.answer(200, body, JSON)


async def _changed(_request: fault_proxy.Request, forward: fault_proxy.Forward) -> bytes:
    return (await forward()).replace(b'"record":"SC-', b'"record":"XX-')


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (_unsigned, "the endpoint's statement of removal is not signed with our key"),
        (_changed, "the endpoint's statement of removal is not signed with our key"),
        (fault_proxy.status(200, b'{"record": "SC-1"}', JSON), "the endpoint answered 200 without stating the removal"),
        (fault_proxy.status(200, b'{"removed": []}', JSON), "the endpoint answered 200 without stating the removal"),
        (fault_proxy.status(202, b"{}", JSON, Retry_After="600"), "the endpoint answered 202 without stating the removal"),
    ],
    ids=["unsigned", "changed", "no statement", "nothing removed", "later"],
)
async def test_without_a_signed_statement_a_recall_goes_on(
    endpoint: WebhookEndpoint, proxy: FaultProxy, fault: fault_proxy.Fault, reason: str
) -> None:
    wrong = a_version()
    await until_filed(endpoint, wrong)
    proxy.spoil(fault, times=1)
    [outcome] = await endpoint.recall([recall_of(wrong, seq=2)])
    assert isinstance(outcome, Retry)
    assert outcome.reason.startswith(reason)
    assert outcome.after == (600.0 if "202" in reason else None)
    proxy.heal()
    assert isinstance((await endpoint.recall([recall_of(wrong, seq=2)]))[0], Removed)


@pytest.mark.asyncio
async def test_a_corrected_child_is_seen_in_the_same_record(endpoint: WebhookEndpoint, case_system: CaseSystem) -> None:
    each = a_version()
    filed = await until_filed(endpoint, each)
    corrected = replace(each, seq=2, child=child(family_name="Hartley-Reed"))
    assert await until_filed(endpoint, corrected) == filed
    assert (await case_system.child_of(each))["family_name"] == "Hartley-Reed"
    # The first message once more: it changes nothing.
    await until_filed(endpoint, each)
    assert (await case_system.child_of(each))["family_name"] == "Hartley-Reed"


@pytest.mark.asyncio
async def test_who_may_not_ask_learns_of_no_absence(endpoint: WebhookEndpoint, case_system: CaseSystem) -> None:
    async with an_endpoint(case_system.url, WRONG_SECRET) as stranger:
        with pytest.raises(RecordAwayError):
            await stranger.holds(DUDLEY, [uuid4()])
    with pytest.raises(RecordAwayError):
        await endpoint.holds(SANDWELL, [uuid4()])


# --- signatures


@pytest.mark.asyncio
async def test_another_s_signature_files_nothing(case_system: CaseSystem) -> None:
    each = a_version()
    async with an_endpoint(case_system.url, WRONG_SECRET) as stranger:
        assert await one(stranger, each) == Retry("the endpoint does not accept our signature (401)")
    assert str(each.plan_id) not in await case_system.plans()


@pytest.mark.asyncio
async def test_while_a_secret_is_changed_nothing_stops(case_system: CaseSystem) -> None:
    async with an_endpoint(case_system.url, f"{WRONG_SECRET} {SECRET}") as endpoint:
        await until_filed(endpoint, a_version())


@pytest.mark.asyncio
@pytest.mark.parametrize("minutes", [-6, 6])
async def test_a_signature_of_another_time_files_nothing(case_system: CaseSystem, minutes: int) -> None:
    each = a_version()
    shifted = dt.timedelta(minutes=minutes)
    async with an_endpoint(case_system.url, clock=lambda: dt.datetime.now(dt.UTC) + shifted) as endpoint:
        assert isinstance(await one(endpoint, each), Retry)
    assert str(each.plan_id) not in await case_system.plans()


async def post(case_system: CaseSystem, message_id: str, body: bytes, **headers: str) -> httpx2.Response:
    sent = signed(message_id, body.decode("utf-8", "replace"), keys_of(SECRET), dt.datetime.now(dt.UTC))
    return await case_system.http.post(case_system.url, content=body, headers={**sent, "content-type": CONTENT_TYPE, **headers})


@pytest.mark.asyncio
async def test_a_message_changed_on_its_way_files_nothing(case_system: CaseSystem) -> None:
    each = a_version()
    message = delivered(each)
    headers = signed(message.id, message.body.decode(), keys_of(SECRET), dt.datetime.now(dt.UTC))
    for body in (message.body.replace(b"trains", b"planes"), b"", message.body + b" ", b"\xff\xfe"):
        assert (await case_system.http.post(case_system.url, content=body, headers=headers)).status_code == 401
    for missing in headers:
        rest = {name: value for name, value in headers.items() if name != missing}
        assert (await case_system.http.post(case_system.url, content=message.body, headers=rest)).status_code == 401
    for nonsense in ("v1", "v1,***", ",", "v1a,AAAA", "v1,"):
        sent = headers | {"webhook-signature": nonsense}
        assert (await case_system.http.post(case_system.url, content=message.body, headers=sent)).status_code == 401
    assert str(each.plan_id) not in await case_system.plans()


def _damage(data: dict[str, Any], how: str) -> None:
    match how:
        case "section":
            data["sections"]["A"]["text"] = "Another child's text."
        case "section missing":
            del data["sections"]["A"]
        case "file":
            data["document"]["data"] = data["document"]["data"][:-8] + "AAAAAAA="
        case "file missing":
            data["document"] = None
        case "attachment missing":
            data["attachments"] = []
        case "plan":
            data["plan_id"] = str(uuid4())
        case "date":
            data["issued_on"] = "2026-03-13"
        case "hash":
            data["sha256"] = "0" * 64
        case "manifest":
            data["manifest"]["sections"] = {}
            data["sha256"] = "0" * 64
        case "not base64":
            data["document"]["data"] = "***"
        case "seq":
            data["seq"] = "1"
        case "no child":
            del data["child"]
        case _:
            raise AssertionError(how)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "how",
    [
        "section", "section missing", "file", "file missing", "attachment missing", "plan", "date", "hash", "manifest",
        "not base64", "seq", "no child",
    ],
)  # fmt: skip
async def test_the_receiver_believes_no_hash_but_its_own(case_system: CaseSystem, how: str) -> None:
    each = a_version(document=pdf(), attachments=[("a.pdf", pdf("a"))])
    event = json.loads(delivered(each).body)
    _damage(event["data"], how)
    before = await case_system.plans()
    answer = await post(case_system, f"damaged-{uuid4()}", json.dumps(event).encode())
    assert answer.status_code == 422
    assert await case_system.plans() == before


@pytest.mark.asyncio
async def test_what_the_receiver_does_not_know_is_refused(case_system: CaseSystem) -> None:
    event = json.loads(delivered(a_version()).body)
    bodies = [b"{", b"[" * 5000, b'"x"', b"{}", json.dumps(event | {"type": "ehcp.plan.delivered.v2"}).encode(),
              json.dumps(event | {"specversion": "0.3"}).encode(), json.dumps(event | {"data": None}).encode()]  # fmt: skip
    for body in bodies:
        assert (await post(case_system, f"odd-{uuid4()}", body)).status_code in (400, 422)


@pytest.mark.asyncio
async def test_the_same_message_gets_the_same_answer_and_the_same_id_nothing_else(case_system: CaseSystem) -> None:
    message = delivered(a_version())
    answers = await asyncio.gather(*(post(case_system, message.id, message.body) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    other = delivered(a_version())
    assert (await post(case_system, message.id, other.body)).status_code == 409


@pytest.mark.asyncio
async def test_its_pages_are_for_this_machine_only(case_system: CaseSystem) -> None:
    for path in ("/plans", "/"):
        address = f"http://{HOST}:{case_system.port}{path}"
        assert (await case_system.http.get(address)).status_code == 200
        assert (await case_system.http.get(address, headers={"Host": "evil.example.org"})).status_code == 403


# --- what goes wrong on the way, and heals


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "fault",
    [
        fault_proxy.status(200, b'{"record": "SC-1", "sha256": "' + b"0" * 64 + b'"}', JSON), fault_proxy.lost_answer,
        fault_proxy.status(200, b"x" * 300_000, JSON), fault_proxy.status(200, b"{}", JSON, Content_Encoding="gzip"),
    ],
    ids=["another hash", "lost", "endless", "not compressed"],
)  # fmt: skip
async def test_an_answer_that_proves_nothing_is_asked_for_again_and_then_it_is_filed_once(
    endpoint: WebhookEndpoint, proxy: FaultProxy, case_system: CaseSystem, fault: fault_proxy.Fault
) -> None:
    each = a_version()
    proxy.spoil(fault, times=1)
    outcome = await one(endpoint, each)
    assert isinstance(outcome, Retry)
    assert "Hartley" not in outcome.reason
    filed = await until_filed(endpoint, each)
    shown = (await case_system.plans())[str(each.plan_id)]
    assert (shown["record"], shown["versions_kept"]) == (filed.record, 1)


@pytest.mark.asyncio
async def test_a_wrong_hash_says_so(endpoint: WebhookEndpoint, proxy: FaultProxy) -> None:
    proxy.spoil(fault_proxy.status(200, json.dumps({"record": "SC-1", "sha256": "0" * 64}).encode(), JSON))
    outcome = await one(endpoint, a_version())
    assert outcome == Retry("the hash of what the endpoint stored is not the hash of what was sent")


@pytest.mark.asyncio
async def test_gone_stops_and_the_rest_of_the_batch_is_not_sent(endpoint: WebhookEndpoint, proxy: FaultProxy) -> None:
    proxy.spoil(fault_proxy.status(410))
    outcomes = await endpoint.deliver([a_version() for _ in range(50)])
    assert outcomes == [Refused("the endpoint is gone (410)", disabled=True)] * 50
    assert len(proxy.requests) <= 8


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_endpoint_is_left_alone_for_as_long_as_it_asks(
    endpoint: WebhookEndpoint, proxy: FaultProxy, status: int
) -> None:
    proxy.spoil(fault_proxy.status(status, Retry_After="120"))
    outcomes = await endpoint.deliver([a_version() for _ in range(50)])
    assert outcomes == [Retry(f"the endpoint asked to be sent less ({status})", 120.0)] * 50
    assert len(proxy.requests) <= 8


@pytest.mark.asyncio
async def test_a_silent_endpoint_is_given_up_and_the_batch_ends_soon(proxy: FaultProxy) -> None:
    proxy.spoil(fault_proxy.silent)
    async with an_endpoint(f"http://{HOST}:{proxy.port}/webhooks/332", timeout=0.4) as endpoint:
        outcomes = await endpoint.deliver([a_version() for _ in range(100)])
    assert outcomes == [Retry("the endpoint: it did not answer within 0.4 seconds")] * 100
    assert len(proxy.requests) <= 16


@asynccontextmanager
async def a_server(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Any bytes that a test wants, from a port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.asyncio
async def test_an_answer_that_drips_does_not_hold_a_delivery_for_ever() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)  # the fault itself: always another byte, never the end

    async with a_server(drip) as port, an_endpoint(f"http://{HOST}:{port}/", timeout=0.5) as endpoint:
        assert isinstance(await one(endpoint, a_version()), Retry)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "said", [b"", b"rubbish\r\n\r\n", b"HTTP/1.1 \r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"\x00" * 100]
)
async def test_what_is_no_http_is_tried_again(said: bytes) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()

    async with a_server(say) as port, an_endpoint(f"http://{HOST}:{port}/", timeout=5) as endpoint:
        assert isinstance(await one(endpoint, a_version()), Retry)


# --- where it may go


@pytest.mark.asyncio
async def test_a_name_that_leads_inside_our_network_is_sent_nothing() -> None:
    reached: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        reached.append(await reader.read(1))

    async with a_server(listen) as port, an_endpoint(f"https://localhost:{port}/hook", allow_private=False) as endpoint:
        outcomes = await endpoint.deliver([a_version() for _ in range(3)])
        with pytest.raises(RecordAwayError):
            await endpoint.holds(DUDLEY, [uuid4()])
    assert {type(outcome) for outcome in outcomes} == {Retry}
    assert all("private network" in outcome.reason for outcome in outcomes if isinstance(outcome, Retry))
    assert reached == []


def resolve_as(monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[list[str]]]) -> None:
    """Each look-up of a name gives its next list of addresses; the last one stays."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in answers:
            return real(host, port, *rest, **more)
        addresses = answers[name].pop(0) if len(answers[name]) > 1 else answers[name][0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.asyncio
async def test_the_address_that_was_judged_is_the_one_that_is_reached(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second look-up, which a connection of its own would make, leads nowhere.
    resolve_as(monkeypatch, {"case.example": [["127.0.0.1"], ["192.0.2.1"]]})
    async with an_endpoint(f"http://case.example:{proxy.port}/webhooks/332", timeout=5) as endpoint:
        await until_filed(endpoint, a_version())
    assert [request.headers["host"] for request in proxy.requests] == [f"case.example:{proxy.port}"]


@pytest.mark.asyncio
async def test_the_next_address_is_tried_when_the_first_is_dead(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_as(monkeypatch, {"case.example": [["127.0.0.9", "127.0.0.1"]]})
    async with an_endpoint(f"http://case.example:{proxy.port}/webhooks/332", timeout=5) as endpoint:
        await until_filed(endpoint, a_version())


@pytest.mark.asyncio
async def test_a_name_that_does_not_exist_is_tried_again() -> None:
    async with an_endpoint("https://case-system.invalid/hook", allow_private=False) as endpoint:
        assert isinstance(await one(endpoint, a_version()), Retry)


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for ``name``: the file to trust, and the file with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    trusted, private = folder / f"{name}.crt", folder / f"{name}.key"
    trusted.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return trusted, private


@pytest.mark.asyncio
@pytest.mark.parametrize("presented", ["case.example", "other.example"])
async def test_the_certificate_must_be_for_the_name_not_for_the_address(
    presented: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted, private = certificate(tmp_path, presented)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(trusted, private)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    resolve_as(monkeypatch, {"case.example": [["127.0.0.1"]]})
    each = a_version()
    reached: list[bytes] = []

    async def file(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        reached.append(head)
        await reader.readexactly(len(delivered(each).body))
        answer = json.dumps({"record": "X-1", "sha256": each.sha256}).encode()
        writer.write(fault_proxy.answer(200, answer, JSON))
        await writer.drain()

    async with a_server(file, tls) as port, an_endpoint(f"https://case.example:{port}/hook", timeout=5) as endpoint:
        outcome = await one(endpoint, each)
    if presented == "case.example":
        assert outcome == Filed("X-1", each.sha256)
        assert b"POST /hook HTTP/1.1" in reached[0]
        assert f"Host: case.example:{port}".encode() in reached[0]
    else:
        assert isinstance(outcome, Retry)
        assert reached == []
