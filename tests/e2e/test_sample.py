"""An inspector's sample, end to end: what was done to the records behind our back is found, counted and mended."""

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli.main import app
from tests.e2e.children import TestChild, new_child
from tests.e2e.exchange import Exchange
from tests.support.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

TRUST = "RXK"
TRUST_NAME = "Sandwell and West Birmingham Hospitals NHS Trust"
SEED = "2026-11-20"
Json = dict[str, Any]


def version(child: TestChild, number: int) -> Json:
    """Of a council that no other test has children of."""
    version = child.version(number)
    version["placements"] = [{"setting": {"scheme": "urn", "value": "993302"}, "from": "2025-09-01"}]
    version["involved"] = [{"role": "provision", "kind": "trust", "organisation": {"scheme": "ods", "value": TRUST}}]
    return version


async def ehcp(exchange: Exchange, *arguments: str) -> tuple[int, str]:
    home = {"EHCP_HOME": str(exchange.folder / "home"), "COLUMNS": "200"}
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=home)
    return result.exit_code, result.output


async def sampled(exchange: Exchange, file: Path, *arguments: str) -> tuple[int, Json]:
    code, said = await ehcp(exchange, "sample", "--council", "333", "--out", str(file), *arguments)
    verified, unverified = await ehcp(exchange, "verify", str(file))
    assert verified == 0, said + unverified
    document: Json = json.loads(await asyncio.to_thread(file.read_bytes))["document"]
    return code, document


def of_trust(document: Json) -> dict[str, Json]:
    """By case reference what was found in the trust's records."""
    return {
        child["case_reference"]: record
        for child in document["children"] for record in child["records"] if record["recipient"] == TRUST_NAME
    }  # fmt: skip


async def change(exchange: Exchange, method: str, reference: str, resource: Json | None = None) -> None:
    assert exchange.machine.places is not None
    answer = await exchange.http.request(
        method, f"{exchange.machine.places.fhir_url(TRUST)}/{reference}", json=resource,
        headers={"content-type": "application/fhir+json"},
    )  # fmt: skip
    assert answer.status_code in (200, 204), answer.text


async def test_what_happened_to_the_records_is_found_and_mended(exchange: Exchange, tmp_path: Path) -> None:
    children = [new_child() for _ in range(30)]
    patients = {each.case_reference: await exchange.add_patient(each.patient, TRUST) for each in children}
    firsts = [child.first() | {"la_code": "333", "version": version(child, 1)} for child in children]
    plans = {each["case_reference"]: each["plan_id"] for each in await exchange.issue(firsts)}
    drawn = sorted(plans, key=lambda each: hashlib.sha256(f"{SEED}:{each}".encode()).hexdigest())[:20]
    deleted, altered, older = drawn[3], drawn[11], drawn[17]
    (child,) = [each for each in children if each.case_reference == older]
    undrawn = next(each for each in plans if each not in drawn)

    async def filed() -> bool:
        rows = [each for each in await exchange.all_holders() if each["la_code"] == "333" and each["recipient_kind"] == "trust"]
        return len(rows) == 30 and all(each["satisfied"] for each in rows)

    await until(filed, within=180, what="the trust has all 30 plans")
    await exchange.issue([{"plan_id": plans[older], "version": version(child, 2)}])
    await until(filed, within=60, what="and the second version of one")
    await behind_our_back(exchange, patients, deleted=[deleted, undrawn], altered=altered, older=older)

    code, found = await sampled(exchange, tmp_path / "before.json", "--n", "20", "--seed", SEED)
    assert (code, found["complete"], found["population"]) == (1, True, 30)
    assert [each["case_reference"] for each in found["children"]] == drawn
    records = of_trust(found)
    wrong = {reference: (each["verdict"], each["difference"]) for reference, each in records.items() if each["difference"]}
    assert wrong == {
        deleted: ("absent", "missing_from_record"),
        altered: ("altered", "altered"),
        older: ("older_version", "stale"),
    }
    assert records[older]["found_version"] == 1
    assert all(each["last_proof"]["current"] for each in records.values())  # receipts alone would have said that all is well
    (total,) = [each for each in found["totals"] if each["agency"] == TRUST_NAME]
    assert (total["wanted"], total["looked_into"], total["current"], total["per_cent"]) == (20, 20, 17, "85.0")
    # By hand: (0.85 + 3.8415/40 ± 1.95996·√(0.85·0.15/20 + 3.8415/1600)) / (1 + 3.8415/20) = 0.6396 and 0.9476
    assert total["interval"] == {"low": "64.0", "high": "94.8"}
    assert found["with_all_current"] == {
        "looked_into": 20, "current": 17, "per_cent": "85.0", "interval": {"low": "64.0", "high": "94.8"}
    }  # fmt: skip
    by_hand = [each for each in found["totals"] if each["kind"] == "parent"]
    assert [(each["by_hand"], each["looked_into"]) for each in by_hand] == [(20, 0)]

    async def mended() -> bool:
        return [len(await current(exchange, patients[each])) for each in (deleted, altered, older)] == [1, 1, 1]

    await until(mended, within=120, what="the records are filled again")

    async def right_again() -> bool:
        code, found = await sampled(exchange, tmp_path / f"after-{os.urandom(4).hex()}.json", "--n", "20", "--seed", SEED)
        return code == 0 and found["with_all_current"]["interval"] == {"low": "83.9", "high": "100.0"}

    await until(right_again, within=120, what="a second sample finds all 20 right")
    # Nobody looked at the one that was not drawn: the inspector's own choice finds it.
    chosen = tmp_path / "chosen.txt"
    number = next(each.nhs_number for each in children if each.case_reference == undrawn)
    chosen.write_text(f"{drawn[0]}\n{number[:3]} {number[3:6]} {number[6:]}\n\nEHC-NOBODY\n")
    code, found = await sampled(exchange, tmp_path / "chosen.json", "--children", str(chosen))
    assert code == 1
    assert [each["verdict"] for each in of_trust(found).values()] == ["current", "absent"]
    assert [each["position"] for each in found["not_looked_at"]] == [3]
    assert found["with_all_current"]["interval"] is None
    written = "".join(exchange.logs().values()) + (tmp_path / "chosen.json").read_text()
    assert number not in written


async def current(exchange: Exchange, patient: str) -> list[Json]:
    """What a clinician would see: the plan's current documents whose files are as they were filed."""
    found = [each for each in await exchange.documents(patient, TRUST) if each["status"] == "current"]
    whole = []
    for each in found:
        attachment = each["content"][0]["attachment"]
        data = await exchange.file_of(each, TRUST)
        if base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode() == attachment["hash"]:
            whole.append(each)
    return whole


async def behind_our_back(
    exchange: Exchange, patients: dict[str, str], *, deleted: Sequence[str], altered: str, older: str
) -> None:
    for each in deleted:
        for document in await current(exchange, patients[each]):
            await change(exchange, "DELETE", f"DocumentReference/{document['id']}")
    (document,) = await current(exchange, patients[altered])
    url: str = document["content"][0]["attachment"]["url"]
    binary = url[url.index("Binary/") :]
    changed = {
        "resourceType": "Binary", "id": binary.removeprefix("Binary/"),
        "contentType": document["content"][0]["attachment"]["contentType"], "data": base64.b64encode(b"Another text").decode(),
    }  # fmt: skip
    await change(exchange, "PUT", binary, changed)
    # As a backup of last month would put it.
    (new,) = [each for each in await exchange.documents(patients[older], TRUST) if each["status"] == "current"]
    (old,) = [each for each in await exchange.documents(patients[older], TRUST) if each["status"] == "superseded"]
    await change(exchange, "DELETE", f"DocumentReference/{new['id']}")
    await change(exchange, "PUT", f"DocumentReference/{old['id']}", old | {"status": "current"})
