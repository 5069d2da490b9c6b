"""The sandbox's clinical record keeps what R4 promises: records survive a crash, transactions are whole.

The health subscriber's proof of filing rests on these promises; a sandbox that broke one would hide a fault of ours.
"""

import base64
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.support.fhir_server import FhirServer

NHS = "https://fhir.nhs.uk/Id/nhs-number"

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FhirServer, Iterator[str]]]:
    """One server for all tests that do not stop it, and the names of its record stores, one for each test."""
    tenants = [f"T{n}" for n in range(60)]
    with FhirServer(tmp_path_factory.mktemp("fhir"), tenants) as started:
        yield started, iter(tenants)


@pytest.fixture
def record(shared: tuple[FhirServer, Iterator[str]]) -> Iterator[httpx2.Client]:
    """An empty record store."""
    server, tenants = shared
    with httpx2.Client(base_url=server.base(next(tenants)), timeout=15) as client:
        yield client


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FhirServer]:
    """A server of the test's own, to stop and start."""
    with FhirServer(tmp_path / "fhir") as started:
        yield started


def patient(number: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "identifier": [{"system": NHS, "value": number}],
        "name": [{"family": "Hartley", "given": ["Rowan"]}],
        "birthDate": "2014-05-06",
        **more,
    }


def document(identifier: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "status": "current",
        "identifier": [{"system": "urn:test", "value": identifier}],
        "content": [{"attachment": {"contentType": "text/plain", "title": "Plan"}}],
        **more,
    }


def transaction(*entries: tuple[str, str, dict[str, Any] | None, dict[str, str]]) -> dict[str, Any]:
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "request": {"method": method, "url": url, **more},
                **({"resource": resource, "fullUrl": f"urn:uuid:{uuid4()}"} if resource else {}),
            }
            for method, url, resource, more in entries
        ],
    }


def create_patient(client: httpx2.Client, number: str) -> str:
    answer = client.post("/Patient", json=patient(number))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def find(client: httpx2.Client, type_: str, identifier: str) -> list[dict[str, Any]]:
    answer = client.post(f"/{type_}/_search", data={"identifier": identifier})
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in answer.json().get("entry", [])]


def test_it_says_what_it_can_do(record: httpx2.Client) -> None:
    statement = record.get("/metadata").json()

    assert statement["resourceType"] == "CapabilityStatement"
    assert statement["fhirVersion"] == "4.0.1"
    rest = statement["rest"][0]
    assert {"code": "transaction"} in rest["interaction"]
    types = {resource["type"]: resource for resource in rest["resource"]}
    assert types["DocumentReference"]["conditionalUpdate"] is True
    assert types["Binary"]["updateCreate"] is True


def test_each_trust_has_a_record_of_its_own(shared: tuple[FhirServer, Iterator[str]], record: httpx2.Client) -> None:
    patient_id = create_patient(record, "9434765919")

    with httpx2.Client(base_url=shared[0].base(next(shared[1]))) as other:
        assert other.get(f"/Patient/{patient_id}").status_code == 404
        assert find(other, "Patient", f"{NHS}|9434765919") == []


def test_a_search_finds_by_system_and_value_only(record: httpx2.Client) -> None:
    first = create_patient(record, "9434765919")
    create_patient(record, "9434765870")

    assert [found["id"] for found in find(record, "Patient", f"{NHS}|9434765919")] == [first]
    assert find(record, "Patient", "https://another.example|9434765919") == []
    assert len(find(record, "Patient", f"{NHS}|9434765919,{NHS}|9434765870")) == 2


def test_a_search_by_what_it_does_not_know_is_refused_rather_than_answered_with_everyone(record: httpx2.Client) -> None:
    create_patient(record, "9434765919")

    assert record.get("/Patient?shoe-size=4").status_code == 400


def test_a_long_result_comes_in_pages(record: httpx2.Client) -> None:
    for n in range(5):
        record.post("/DocumentReference", json=document(f"d{n}", subject={"reference": "Patient/1"}))

    seen = []
    page = record.get("/DocumentReference?patient=1&_count=2").json()
    while True:
        seen += [entry["resource"]["id"] for entry in page["entry"]]
        following = [link["url"] for link in page["link"] if link["relation"] == "next"]
        if not following:
            break
        page = record.get(following[0]).json()

    assert page["total"] == 5
    assert len(set(seen)) == len(seen) == 5


def test_records_survive_a_restart_and_a_kill(server: FhirServer) -> None:
    with httpx2.Client(base_url=server.base("RNA")) as client:
        create_patient(client, "9434765919")
    server.stop()
    server.start()
    with httpx2.Client(base_url=server.base("RNA")) as client:
        create_patient(client, "9434765870")
    server.kill()
    server.start()

    with httpx2.Client(base_url=server.base("RNA")) as client:
        assert len(find(client, "Patient", f"{NHS}|9434765919")) == 1
        assert len(find(client, "Patient", f"{NHS}|9434765870")) == 1


def test_everything_acknowledged_before_a_kill_is_there_after_it_and_nothing_is_there_by_halves(
    server: FhirServer,
) -> None:
    acknowledged: list[int] = []
    enough = threading.Event()

    def write(worker: int) -> None:
        with httpx2.Client(base_url=server.base("RNA"), timeout=10) as client:
            for n in range(worker, 100_000, 4):
                bundle = transaction(
                    ("PUT", f"Binary/b{n}", {"resourceType": "Binary", "id": f"b{n}", "contentType": "text/plain"}, {}),
                    ("PUT", f"DocumentReference?identifier=urn:test|d{n}", document(f"d{n}"), {}),
                )
                try:
                    if client.post("", json=bundle).status_code != 200:
                        return
                except httpx2.TransportError:
                    return
                acknowledged.append(n)
                if len(acknowledged) > 100:
                    enough.set()

    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for writer in writers:
        writer.start()
    assert enough.wait(timeout=30)
    server.kill()
    for writer in writers:
        writer.join()
    server.start()

    with httpx2.Client(base_url=server.base("RNA")) as client:
        for n in acknowledged:
            assert len(find(client, "DocumentReference", f"urn:test|d{n}")) == 1
        in_flight = range(max(acknowledged) - 8, max(acknowledged) + 9)
        for n in in_flight:
            binary = client.get(f"/Binary/b{n}").status_code == 200
            assert binary == bool(find(client, "DocumentReference", f"urn:test|d{n}"))


def test_a_transaction_that_fails_at_its_end_leaves_nothing_of_its_beginning(record: httpx2.Client) -> None:
    existing = record.post("/DocumentReference", json=document("old")).json()
    changed = existing | {"status": "superseded"}

    answer = record.post(
        "",
        json=transaction(
            ("POST", "Binary", {"resourceType": "Binary", "contentType": "text/plain"}, {}),
            ("POST", "DocumentReference", document("new"), {}),
            ("PUT", f"DocumentReference/{existing['id']}", changed, {"ifMatch": 'W/"99"'}),
        ),
    )

    assert answer.status_code == 412
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert find(record, "DocumentReference", "urn:test|new") == []
    assert record.get("/Binary?_summary=count").json()["total"] == 0
    assert record.get(f"/DocumentReference/{existing['id']}").json()["status"] == "current"


def test_a_stale_if_match_is_refused_and_the_right_one_taken(record: httpx2.Client) -> None:
    stored = record.post("/DocumentReference", json=document("d"))
    url = f"/DocumentReference/{stored.json()['id']}"
    changed = stored.json() | {"status": "superseded"}

    assert stored.headers["ETag"] == 'W/"1"'
    assert record.put(url, json=changed, headers={"If-Match": 'W/"2"'}).status_code == 412
    assert record.put(url, json=changed, headers={"If-Match": 'W/"1"'}).headers["ETag"] == 'W/"2"'
    assert record.get(f"{url}/_history/1").json()["status"] == "current"
    assert record.get(f"{url}/_history").json()["total"] == 2


def test_a_conditional_update_creates_once_and_then_updates_the_same(record: httpx2.Client) -> None:
    url = "/DocumentReference?identifier=urn:test|d"

    first = record.put(url, json=document("d"))
    second = record.put(url, json=document("d", description="amended"))

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    assert second.json()["meta"]["versionId"] == "2"


def test_conditional_updates_that_race_create_one(record: httpx2.Client) -> None:
    statuses: list[int] = []

    def race() -> None:
        with httpx2.Client(base_url=record.base_url, timeout=15) as client:
            bundle = transaction(("PUT", "DocumentReference?identifier=urn:test|same", document("same"), {}))
            statuses.append(client.post("", json=bundle).status_code)

    racers = [threading.Thread(target=race) for _ in range(12)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    assert statuses == [200] * 12
    assert len(find(record, "DocumentReference", "urn:test|same")) == 1


def test_a_conditional_create_leaves_what_is_there(record: httpx2.Client) -> None:
    header = {"If-None-Exist": "identifier=urn:test|d"}

    first = record.post("/DocumentReference", json=document("d"), headers=header)
    second = record.post("/DocumentReference", json=document("d", description="other"), headers=header)

    assert (first.status_code, second.status_code) == (201, 200)
    assert "description" not in second.json()


def test_the_same_again_makes_no_new_version(record: httpx2.Client) -> None:
    url = "/DocumentReference?identifier=urn:test|d"
    record.put(url, json=document("d"))

    assert record.put(url, json=document("d")).json()["meta"]["versionId"] == "1"


def test_a_transaction_refers_to_what_it_creates(record: httpx2.Client) -> None:
    binary = {"resourceType": "Binary", "contentType": "text/plain", "data": base64.b64encode(b"plan").decode()}
    bundle = transaction(("POST", "Binary", binary, {}))
    pointer = bundle["entry"][0]["fullUrl"]
    reference = document("d", content=[{"attachment": {"contentType": "text/plain", "url": pointer}}])
    bundle["entry"] += transaction(("POST", "DocumentReference", reference, {}))["entry"]

    entries = record.post("", json=bundle).json()["entry"]

    assert [entry["response"]["status"] for entry in entries] == ["201", "201"]
    assert entries[1]["response"]["etag"] == 'W/"1"'
    url = entries[1]["resource"]["content"][0]["attachment"]["url"]
    assert record.get(f"/{url}").content == b"plan"


def test_a_binary_comes_back_byte_for_byte_with_its_type(record: httpx2.Client) -> None:
    data = os.urandom(3_000_000)

    stored = record.post("/Binary", content=data, headers={"Content-Type": "application/pdf"})
    read = record.get(f"/Binary/{stored.json()['id']}", headers={"Accept": "application/pdf"})
    as_resource = record.get(f"/Binary/{stored.json()['id']}", headers={"Accept": "application/fhir+json"}).json()

    assert stored.status_code == 201
    assert read.headers["Content-Type"] == "application/pdf"
    assert hashlib.sha256(read.content).digest() == hashlib.sha256(data).digest()
    assert base64.b64decode(as_resource["data"]) == data
    assert as_resource["contentType"] == "application/pdf"


def test_what_is_deleted_is_gone_and_says_so(record: httpx2.Client) -> None:
    stored = record.post("/Binary", content=b"x", headers={"Content-Type": "text/plain"}).json()

    assert record.delete(f"/Binary/{stored['id']}").status_code == 200
    assert record.get(f"/Binary/{stored['id']}").status_code == 410
    assert record.get("/Binary/never").status_code == 404


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[1]", {}, 400),
        (b'{"resourceType":"Patient","name":"\xff"}', {}, 400),
        (b'{"resourceType":"Observation"}', {}, 400),
        (b'{"resourceType":"Patient","shoeSize":4}', {}, 400),
        (b'{"resourceType":"Patient","birthDate":"yesterday"}', {}, 400),
        (b"<Patient/>", {"Content-Type": "application/fhir+xml"}, 415),
        (b"", {}, 400),
    ],
)
def test_bad_input_is_refused_with_an_outcome(record: httpx2.Client, body: bytes, headers: dict[str, str], status: int) -> None:
    answer = record.post("/Patient", content=body, headers={"Content-Type": "application/fhir+json", **headers})

    assert answer.status_code == status
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert record.get("/Patient?_summary=count").json()["total"] == 0


def test_it_answers_to_this_machine_only(record: httpx2.Client) -> None:
    assert record.get("/metadata", headers={"Host": "records.example"}).status_code == 421


def test_a_second_server_cannot_open_the_same_records(server: FhirServer) -> None:
    second = FhirServer(server.data)
    with pytest.raises(pytest.fail.Exception, match="database is locked"):
        second.start()
