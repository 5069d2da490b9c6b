"""When something of the publisher's own fails: one line of a batch alone, nothing half written, and one clear answer."""

import asyncio
import base64
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest import mock

import asyncpg
import orjson
import pytest
import pytest_asyncio
from joserfc.jwk import OKPKey

from services.ehcp_publisher.registry import RegistryError
from services.ehcp_publisher.rendering import Renderer, RenderingError
from services.shared.identity.keys import KeyFileError
from services.shared.sealing.sealing import SealError
from tests.support.publisher import (
    Publisher,
    PublisherAtHand,
    built,
    document_alone,
    part,
    pdf_document,
    problem,
    publisher_at_hand,
    started_again,
    submission,
    version,
)
from tests.support.servers import RunningPostgres
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

TRUST_NAME = "The Dudley Group NHS Foundation Trust"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def at_hand(postgres_server: RunningPostgres) -> AsyncIterator[PublisherAtHand]:
    async with publisher_at_hand(postgres_server) as publisher:
        yield publisher


# --- one line alone ---


def failing(bad: str, error: Exception) -> Callable[..., Any]:
    render = Renderer.render

    async def render_or_fail(self: Renderer, child: Any, council: str, case_reference: str, *more: Any) -> bytes:
        if case_reference == bad:
            raise error
        return await render(self, child, council, case_reference, *more)

    return render_or_fail


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [(RenderingError("the plan could not be typeset as PDF/UA-1"), 422, "not-typeset"), (KeyError("?"), 500, "internal")],
)
async def test_a_plan_that_cannot_be_typeset_is_one_bad_line(
    at_hand: PublisherAtHand, error: Exception, status: int, slug: str
) -> None:
    good, bad = [submission() for _ in range(3)], submission()
    with mock.patch.object(Renderer, "render", failing(bad["case_reference"], error)):
        answer, lines = await at_hand.batch([*good[:2], bad, good[2]], render=True)
        assert answer.status_code == 200, answer.text
        assert [line["status"] for line in lines] == [201, 201, status, 201]
        assert lines[2]["problem"]["type"].endswith(slug)
        problem(await at_hand.post("/v1/plans", bad), status, slug)
    assert [await at_hand.plans_of(each["case_reference"]) for each in (*good, bad)] == [1, 1, 1, 0]


async def test_a_text_too_long_to_be_typeset_is_refused_and_taken_with_its_own_document(
    at_hand: PublisherAtHand,
) -> None:
    """Typeset, it would hold up everybody else's for minutes."""
    items = [{"ref": f"B{n}", "text": "Autism. " * 20_000} for n in range(7)]
    sent = submission()
    sent["version"]["sections"]["B"] = {"items": items}
    refused = problem(await at_hand.post("/v1/plans", sent), 422, "not-typeset")
    assert "More than 1000 KB of text are not typeset here." in refused["detail"]
    answer = await at_hand.upload(
        part("submission", orjson.dumps(sent)), part("document", pdf_document("long"), "plan.pdf", "application/pdf")
    )
    assert answer.status_code == 201, answer.text


async def test_a_line_that_the_database_refuses_is_one_bad_line(at_hand: PublisherAtHand) -> None:
    good, bad = [submission() for _ in range(3)], submission()
    await at_hand.owner.execute(
        "CREATE FUNCTION publisher.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF NEW.case_reference = '{bad['case_reference']}' THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END $$"
    )
    await at_hand.owner.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON publisher.plan FOR EACH ROW EXECUTE FUNCTION publisher.refuse()"
    )
    try:
        _, lines = await at_hand.batch([*good[:2], bad, good[2]])
        problem(await at_hand.post("/v1/plans", bad, headers={"idempotency-key": "x"}), 500, "internal")
    finally:
        await at_hand.owner.execute("DROP TRIGGER refuse ON publisher.plan")
    assert [line["status"] for line in lines] == [201, 201, 500, 201]
    assert [await at_hand.plans_of(each["case_reference"]) for each in (*good, bad)] == [1, 1, 1, 0]
    assert (await at_hand.post("/v1/plans", bad, headers={"idempotency-key": "x"})).status_code == 201


@pytest.mark.parametrize("table", ["publisher.outbox", "audit.pending", "publisher.instruction", "publisher.unsatisfied"])
async def test_a_version_is_written_with_all_that_belongs_to_it_or_not_at_all(at_hand: PublisherAtHand, table: str) -> None:
    first = await at_hand.issue(submission())
    shares = {row["share_id"]: row["seq"] for row in (await at_hand.shares(first["plan_id"])).values()}
    await at_hand.owner.execute(f"REVOKE INSERT ON {table} FROM ehcp_publisher")
    try:
        new = submission()
        problem(await at_hand.post("/v1/plans", new), 500, "internal")
        again = await at_hand.post(f"/v1/plans/{first['plan_id']}/versions", {"version": version("2026-03-02", "Two.")})
        problem(again, 500, "internal")
    finally:
        await at_hand.owner.execute(f"GRANT INSERT ON {table} TO ehcp_publisher")
    assert await at_hand.plans_of(new["case_reference"]) == 0
    assert await at_hand.versions_of(first["plan_id"]) == [1]
    assert {row["share_id"]: row["seq"] for row in (await at_hand.shares(first["plan_id"])).values()} == shares
    assert (await at_hand.acts(first["plan_id"])).count("issued") == 1


async def test_a_read_whose_act_cannot_be_written_hands_out_nothing(at_hand: PublisherAtHand) -> None:
    body = await at_hand.issue(submission())
    share_id = (await at_hand.shares(body["plan_id"]))[TRUST_NAME]["share_id"]
    await at_hand.headers("subscriber-health")
    await at_hand.owner.execute("REVOKE INSERT ON audit.pending FROM ehcp_publisher")
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):  # in a process of its own: answered 500
            await at_hand.read("subscriber-health", (share_id, 1))
    finally:
        await at_hand.owner.execute("GRANT INSERT ON audit.pending TO ehcp_publisher")


# --- files ---


async def test_files_that_are_uploaded_never_touch_the_disk(at_hand: PublisherAtHand) -> None:
    """There they would be the one copy of a plan that is not sealed."""
    written: list[object] = []
    with mock.patch("tempfile.SpooledTemporaryFile.rollover", lambda file: written.append(file)):
        document = b"%PDF-1.7\n" + os.urandom(5 * 2**20) + b"\n%%EOF"
        await at_hand.upload(part("submission", orjson.dumps(document_alone())), part("document", document, "plan.pdf"))
    assert written == []


# --- the database goes away ---


async def test_while_the_database_is_away_the_answer_is_503_and_afterwards_it_works(publisher: Publisher) -> None:
    admin = await asyncpg.connect(publisher.server.admin_dsn())
    database = publisher.owner_dsn.rsplit("/", 1)[1]
    try:
        for _ in range(12):
            requests = [asyncio.create_task(publisher.post("/v1/plans", submission())) for _ in range(10)]
            await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND usename = 'ehcp_publisher'",
                database,
            )
            for answer in await asyncio.gather(*requests):
                if answer.status_code != 201:
                    assert "Retry-After".lower() in {name.lower() for name in answer.headers}
                    problem(answer, 503, "away")
    finally:
        await admin.close()

    async def works() -> bool:
        return (await publisher.post("/v1/plans", submission())).status_code == 201

    await until(works)


# --- who takes part ---


def without(client_id: str) -> Callable[[dict[str, Any]], None]:
    def change(registry: dict[str, Any]) -> None:
        registry["clients"] = [client for client in registry["clients"] if client["client_id"] != client_id]

    return change


def client_with(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """Changes ``case-system-332``."""

    def change(registry: dict[str, Any]) -> None:
        next(client for client in registry["clients"] if client["client_id"] == "case-system-332").update(changes)

    return change


async def test_a_client_that_is_taken_out_of_the_registry_gets_no_token(at_hand: PublisherAtHand) -> None:
    async with started_again(at_hand, without("case-system-332")) as publisher:
        answer = await publisher.request_token("case-system-332")
        assert answer.status_code == 401, answer.text
        assert "disabled" in answer.json()["detail"]
        assert (await publisher.request_token("case-system-333")).status_code == 200
    async with started_again(at_hand) as publisher:
        assert (await publisher.request_token("case-system-332")).status_code == 200


async def test_a_key_that_was_changed_counts_and_the_old_one_no_longer(at_hand: PublisherAtHand) -> None:
    new = OKPKey.generate_key("Ed25519")
    async with started_again(at_hand, client_with(public_key=new.as_dict(private=False))) as publisher:
        assert (await publisher.request_token("case-system-332")).status_code == 401
        assert (await publisher.request_token("case-system-332", new)).status_code == 200
    async with started_again(at_hand) as publisher:
        assert (await publisher.request_token("case-system-332")).status_code == 200


async def test_started_again_it_reads_what_it_sealed_and_knows_what_was_added(at_hand: PublisherAtHand) -> None:
    body = await at_hand.issue(submission())
    share_id = (await at_hand.shares(body["plan_id"]))[TRUST_NAME]["share_id"]

    def add(registry: dict[str, Any]) -> None:
        registry["councils"].append({"la_code": "335", "name": "Walsall Council", "ods_code": "411"})
        next(client for client in registry["clients"] if client["client_id"] == "operator")["la_codes"].append("335")

    async with started_again(at_hand, add) as publisher:
        (line,) = await publisher.read("subscriber-health", (share_id, 1))
        assert line["rendering"]["child"]["family_name"] == "Hartley"
        assert (await publisher.issue(submission(la_code="335"), "operator"))["status"] == "issued"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("EHCP_MASTER_KEY_FILE", base64.b64encode(b"another key, of thirty-two bytes"), "is this the right master key?"),
        ("EHCP_MASTER_KEY_FILE", b"short", "EHCP_MASTER_KEY_FILE"),
        ("EHCP_MASTER_KEY_FILE", base64.b64encode(b"short"), "32 bytes"),
        ("EHCP_REGISTRY_FILE", b"{", "the registry file is wrong at"),
        ("EHCP_REGISTRY_FILE", b'{"councils": [{"la_code": "33"}]}', "the registry file is wrong at councils/0/"),
        ("EHCP_TOKEN_KEY_FILE", b"{}", "EHCP_TOKEN_KEY_FILE"),
    ],
)
async def test_with_a_wrong_file_it_does_not_start_and_says_which(
    at_hand: PublisherAtHand, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    file = tmp_path / "wrong"
    file.write_bytes(content)
    with pytest.raises((SealError, RegistryError, KeyFileError), match=re.escape(says)):
        async with built(at_hand.environment | {name: str(file)}):
            pass


def unknown_subscriber(registry: dict[str, Any]) -> None:
    registry["recipients"][0]["subscriber"] = "gp"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (client_with(la_codes=["332", "999"]), "case-system-332 names councils that are not registered: ['999']"),
        (client_with(subscriber="gp"), "case-system-332 names a subscriber that is not registered: gp"),
        (client_with(public_key={}), "it is not an Ed25519 JSON Web Key"),
        (client_with(public_key=OKPKey.generate_key("X25519").as_dict(private=False)), "it is not an Ed25519 JSON Web Key"),
        (client_with(public_key=OKPKey.generate_key("Ed25519").as_dict(private=True)), "register the public one"),
        (unknown_subscriber, "has a subscriber that is not registered: gp"),
    ],
)
async def test_a_registry_that_points_to_nothing_is_said_at_the_start(
    at_hand: PublisherAtHand, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    with pytest.raises(RegistryError, match=re.escape(says)):
        async with started_again(at_hand, change):
            pass
