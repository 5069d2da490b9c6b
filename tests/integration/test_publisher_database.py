"""What the database itself guards: councils apart, services to their views, a seq that only rises, nothing personal read."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from schemas.plan import PlanSubmission
from services.shared.postgres.pool import council_transaction, open_pool
from tests.support.publisher import Publisher, part, submission, version
from tests.support.services import REPOSITORY

pytestmark = pytest.mark.integration

SAMPLES = REPOSITORY / "deploy" / "sandbox" / "plans"
TRUST_NAME = "The Dudley Group NHS Foundation Trust"


@asynccontextmanager
async def pool_of(publisher: Publisher, role: str) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    pool = await open_pool(publisher.dsn(role), max_size=1)
    try:
        yield pool
    finally:
        await pool.close()


# --- councils apart ---


async def tables_with_la_code(publisher: Publisher) -> list[str]:
    rows = await publisher.owner.fetch(
        "SELECT table_name FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)"
        " WHERE table_schema = 'publisher' AND column_name = 'la_code' AND table_type = 'BASE TABLE' ORDER BY 1"
    )
    return [row["table_name"] for row in rows]


KNOWN_TO_ALL = {"familiar", "council", "sharing_policy"}
"""The directory: who takes part is no secret between councils of one exchange."""


@pytest.mark.asyncio
async def test_every_table_that_belongs_to_a_council_has_row_level_security(publisher: Publisher) -> None:
    secured = {
        row["relname"]
        for row in await publisher.owner.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'publisher'::regnamespace AND relkind = 'r' AND relrowsecurity"
        )
    }
    tables = set(await tables_with_la_code(publisher))
    assert tables >= {"plan", "child", "version", "share", "instruction", "unsatisfied", "recipient"}
    assert tables - secured == KNOWN_TO_ALL


@pytest.mark.asyncio
async def test_a_transaction_sees_only_the_councils_it_was_opened_for(publisher: Publisher) -> None:
    for la_code in ("332", "333"):
        await publisher.issue(submission(la_code=la_code))
    tables = {
        table: {row["la_code"] for row in await publisher.owner.fetch(f"SELECT DISTINCT la_code FROM publisher.{table}")}
        for table in await tables_with_la_code(publisher)
        if table not in KNOWN_TO_ALL | {"custody"}  # who has a plan now also sees where it was before
    }
    async with pool_of(publisher, "ehcp_publisher") as pool:
        for councils in ({"332"}, {"333"}, {"332", "333"}, set(), {"33"}):
            async with council_transaction(pool, councils) as connection:
                for table, there in tables.items():
                    rows = await connection.fetch(f"SELECT DISTINCT la_code FROM publisher.{table} WHERE la_code IS NOT NULL")
                    seen = {row["la_code"] for row in rows}
                    assert seen == councils & there, table
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT count(*) FROM publisher.plan") == 0, "none without saying for whom"


@pytest.mark.asyncio
async def test_a_transaction_cannot_write_for_another_council(publisher: Publisher) -> None:
    body = await publisher.issue(submission(la_code="333"))
    plan_id = UUID(body["plan_id"])
    async with pool_of(publisher, "ehcp_publisher") as pool:
        for statement, arguments in [
            ("INSERT INTO publisher.child (child_id, la_code, wrapped_key, identity) VALUES ($1, '333', '', '')", (uuid4(),)),
            (
                "INSERT INTO publisher.plan (plan_id, la_code, case_reference, child_id)"
                " SELECT $1, '333', 'X', child_id FROM publisher.child LIMIT 1",
                (uuid4(),),
            ),
        ]:
            await publisher.issue(submission())
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                async with council_transaction(pool, {"332"}) as connection:
                    await connection.execute(statement, *arguments)
        async with council_transaction(pool, {"332"}) as connection:
            tag = await connection.execute("UPDATE publisher.share SET seq = seq + 1 WHERE plan_id = $1", plan_id)
            assert tag == "UPDATE 0"
            assert await connection.execute("DELETE FROM publisher.unsatisfied WHERE la_code = '333'") == "DELETE 0"
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            async with council_transaction(pool, {"332"}) as connection:
                await connection.execute("UPDATE publisher.plan SET la_code = '333'")


# --- services to their views ---


@pytest.mark.parametrize("role", ["audit", "notifier"])
@pytest.mark.asyncio
async def test_other_services_read_the_views_and_no_table(publisher: Publisher, role: str) -> None:
    for la_code in ("332", "333"):
        await publisher.issue(submission(la_code=la_code))
    relations = await publisher.owner.fetch(
        "SELECT relname, relkind::text FROM pg_class WHERE relnamespace = 'publisher'::regnamespace AND relkind IN ('r', 'v')"
    )
    views = {row["relname"] for row in relations if row["relkind"] == "v"}
    assert views == {
        "v_share", "v_plan", "v_version", "v_unsatisfied", "v_subscriber", "v_council", "v_review", "v_event", "v_gap",
        "v_flag", "v_confirmation", "v_handover", "v_look", "v_look_plan", "v_look_share", "v_comparison", "v_difference",
        "v_served", "v_recall", "v_recalled_copy", "v_told", "v_hold", "may_leave",
        "v_receipt_key", "v_custody",
    }  # fmt: skip
    async with pool_of(publisher, role) as pool:
        for row in relations:
            if row["relkind"] == "r" or row["relname"] == "may_leave":
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await pool.execute(f"SELECT FROM publisher.{row['relname']}")
        for view in ("v_share", "v_plan", "v_version", "v_unsatisfied"):
            async with council_transaction(pool, {"332"}) as connection:
                seen = {row["la_code"] for row in await connection.fetch(f"SELECT la_code FROM publisher.{view}")}
                assert seen == {"332"}, view
            assert await pool.fetch(f"SELECT FROM publisher.{view}") == []
        for statement in ("UPDATE publisher.v_council SET name = 'x'", "DELETE FROM publisher.v_plan"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pool.execute(statement)


@pytest.mark.asyncio
async def test_nobody_is_exempt_from_row_level_security(publisher: Publisher) -> None:
    rows = await publisher.owner.fetch(
        "SELECT rolname, rolsuper, rolbypassrls, rolcanlogin FROM pg_roles"
        " WHERE rolname IN ('ehcp_publisher', 'audit', 'notifier', 'publisher_views', 'audit_views')"
    )
    assert len(rows) == 5
    for row in rows:
        assert not row["rolsuper"]
        assert not row["rolbypassrls"]
        assert row["rolcanlogin"] != row["rolname"].endswith("_views")
    owners = await publisher.owner.fetch(
        "SELECT DISTINCT pg_get_userbyid(relowner) AS owner FROM pg_class"
        " WHERE relnamespace = 'publisher'::regnamespace AND relkind = 'r'"
    )
    assert [row["owner"] for row in owners] == ["ehcp_owner"], "a service owns no table: it could switch the policies off"


# --- what must never be ---


async def refused(publisher: Publisher, statement: str, *arguments: Any) -> str:
    with pytest.raises(asyncpg.PostgresError) as error:
        await publisher.owner.execute(statement, *arguments)
    return type(error.value).__name__


@pytest.mark.asyncio
async def test_a_seq_only_rises_and_a_changed_wish_needs_a_higher_one(publisher: Publisher) -> None:
    body = await publisher.issue(submission())
    second = await publisher.amend(body["plan_id"], version("2026-03-02", "Two."))
    share_id = (await publisher.shares(body["plan_id"]))[TRUST_NAME]["share_id"]
    first, row = UUID(body["version_id"]), "UPDATE publisher.share SET {} WHERE share_id = $1"
    assert str((await publisher.shares(body["plan_id"]))[TRUST_NAME]["version_id"]) == second["version_id"]
    for change in (
        "seq = 1",
        "action = 'withdraw'",
        "subscriber = 'school'",
        f"version_id = '{first}'",
        "seq = 1, action = 'withdraw'",
    ):
        assert await refused(publisher, row.format(change), share_id) == "RaiseError", change
    await publisher.owner.execute(row.format("seq = seq"), share_id)
    await publisher.owner.execute(row.format("seq = 3, action = 'withdraw'"), share_id)
    assert (await publisher.shares(body["plan_id"]))[TRUST_NAME]["seq"] == 3


@pytest.mark.asyncio
async def test_what_must_be_one_is_one(publisher: Publisher) -> None:
    body = await publisher.issue(submission())
    plan_id, version_id = UUID(body["plan_id"]), UUID(body["version_id"])
    for statement in (
        "INSERT INTO publisher.version SELECT gen_random_uuid(), plan_id, la_code, number, issued_on, text_hash,"
        " section_hashes, body, issued_by FROM publisher.version WHERE plan_id = $1",
        "INSERT INTO publisher.share SELECT gen_random_uuid(), la_code, plan_id, recipient_id, subscriber, seq, action,"
        " version_id, rendering_id FROM publisher.share WHERE plan_id = $1",
        "INSERT INTO publisher.plan SELECT gen_random_uuid(), la_code, case_reference, child_id FROM publisher.plan"
        " WHERE plan_id = $1",
    ):
        assert await refused(publisher, statement, plan_id) == "UniqueViolationError", statement
    gone = await refused(publisher, "DELETE FROM publisher.version WHERE version_id = $1", version_id)
    zero = await refused(publisher, "UPDATE publisher.version SET number = 0 WHERE version_id = $1", version_id)
    assert (gone, zero) == ("ForeignKeyViolationError", "CheckViolationError")


# --- nothing personal in the clear ---


async def issue_all_samples(publisher: Publisher) -> list[PlanSubmission]:
    """Every sample plan with its versions, documents and attachments, as a council sends them."""
    sent: list[PlanSubmission] = []
    plan_ids: dict[str, str] = {}
    for file in sorted(SAMPLES.glob("*/*/v*.json")):
        text = file.read_bytes()
        parsed = PlanSubmission.model_validate_json(text)
        sent.append(parsed)
        path, body = "/v1/plans", orjson.loads(text)
        if known := plan_ids.get(parsed.case_reference):
            path, body = f"/v1/plans/{known}/versions", {"version": body["version"]}
        parts = [part("submission", orjson.dumps(body), None, "application/json")]
        if (document := file.with_suffix(".pdf")).exists():
            parts.append(part("document", document.read_bytes(), document.name))
        parts += [
            part("attachment", advice.read_bytes(), advice.name)
            for advice in sorted(file.with_suffix(".attachments").glob("*"))
        ]
        answer = await publisher.http.post(
            path, files=parts,
            headers=await publisher.headers(f"case-system-{parsed.la_code}") | {"idempotency-key": str(uuid4())},
        )  # fmt: skip
        assert answer.status_code == 201, (file.name, answer.text)
        plan_ids[parsed.case_reference] = answer.json()["plan_id"]
    return sent


SEALED = {
    "publisher.child.identity", "publisher.child.wrapped_key", "publisher.council.wrapped_key", "publisher.version.body",
    "publisher.rendering.document", "publisher.attachment.data", "publisher.recipient.person",
}  # fmt: skip


def personal(sent: PlanSubmission) -> set[str]:
    """What must not be found: names in full and family names, dates, numbers, addresses, and some words of the plan."""
    child = sent.child
    words = {
        f"{child.given_names} {child.family_name}", child.given_names, child.family_name, child.date_of_birth.isoformat(),
        child.date_of_birth.strftime("%d/%m/%Y"), child.nhs_number, child.upn, child.uln, child.postcode, *child.address[:1],
    }  # fmt: skip
    for member in sent.version.family:
        words |= {member.name, member.email, *member.address[:1]}
    words |= {involved.name for involved in sent.version.involved}
    for section in (sent.version.sections or {}).values():
        words |= {text[:30] for text in (section.text, *(item.text for item in section.items))}
    return {word for word in words if word}


async def every_value(publisher: Publisher) -> AsyncIterator[tuple[str, bytes]]:
    """Each value of each text, jsonb and bytea column of the council's database, by the name of the column."""
    columns = await publisher.owner.fetch(
        "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns"
        " JOIN information_schema.tables USING (table_schema, table_name)"
        " WHERE table_schema IN ('publisher', 'audit', 'public') AND table_type = 'BASE TABLE'"
        " AND data_type IN ('text', 'jsonb', 'bytea', 'ARRAY', 'character varying')"
    )
    assert len(columns) > 40
    for column in columns:
        schema, table, name, kind = column
        expression = f'"{name}"' if kind == "bytea" else f"convert_to(\"{name}\"::text, 'UTF8')"
        for row in await publisher.owner.fetch(f'SELECT {expression} AS value FROM "{schema}"."{table}"'):
            if row["value"]:
                yield f"{schema}.{table}.{name}", row["value"]


@pytest.mark.asyncio
async def test_nothing_personal_is_in_the_database_or_the_log_in_the_clear(publisher: Publisher) -> None:
    sent = await issue_all_samples(publisher)
    assert len({each.case_reference for each in sent}) == 30
    words = set().union(*(personal(each) for each in sent))
    assert len(words) > 500
    columns: dict[str, bytes] = {}
    async for column, value in every_value(publisher):
        columns[column] = columns.get(column, b"") + b"\0" + value
    assert publisher.service is not None
    columns["the log"] = publisher.service.log.read_bytes()
    found = {column: seen for column, text in columns.items() if (seen := seen_in(text, words, sealed=column in SEALED))}
    assert found == {}
    assert sum(map(len, columns.values())) > 2**20


def seen_in(text: bytes, words: set[str], *, sealed: bool) -> list[str]:
    """As whole words; a short one turns up in megabytes of cipher text by chance, so there only longer ones are looked for."""
    assert text
    return [
        word
        for word in words
        if (not sealed or len(word.encode()) >= 7)
        and word.encode() in text
        and (sealed or re.search(rb"\b" + re.escape(word.encode()) + rb"\b", text))
    ]


def test_the_search_finds_what_is_there() -> None:
    assert sorted(seen_in(b"\0 of Rowan James\0", {"Rowan James", "Rowan", "Row"}, sealed=False)) == ["Rowan", "Rowan James"]
    assert seen_in(b"\x80Rowan James\x81", {"Rowan James", "Rowan"}, sealed=True) == ["Rowan James"]
