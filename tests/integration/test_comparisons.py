"""A council tells in what its case system and the exchange differ, and the notifier raises and clears alerts from that."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
import pytest_asyncio

from schemas.alerts import AlertRaised, CouncilAlertCleared, CouncilAlertRaised
from schemas.comparison import MAX_DIFFERENCES, DifferenceKind
from services.ehcp_publisher import store_comparison
from services.notifier import sweep as module
from services.notifier.alerts import Digest, text
from services.notifier.messages import send_one
from services.notifier.store import Pool
from services.notifier.sweep import Sweep
from services.shared.postgres.pool import council_transaction, open_pool
from tests.support.council import CouncilDatabase, council_database
from tests.support.publisher import Publisher, problem, submission
from tests.support.servers import RunningPostgres

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]


@pytest_asyncio.fixture(loop_scope="session")
async def council(postgres_server: RunningPostgres) -> AsyncIterator[CouncilDatabase]:
    async with council_database(postgres_server) as database:
        yield database


@pytest_asyncio.fixture(loop_scope="session")
async def pool(council: CouncilDatabase) -> AsyncIterator[Pool]:
    """Logged in as the notifier."""
    pool = await open_pool(council.dsn("notifier"))
    try:
        yield pool
    finally:
        await pool.close()


@pytest_asyncio.fixture(loop_scope="session")
async def publisher_pool(council: CouncilDatabase) -> AsyncIterator[Pool]:
    pool = await open_pool(council.dsn("ehcp_publisher"), max_size=2)
    try:
        yield pool
    finally:
        await pool.close()


async def tell(pool: Pool, differences: dict[DifferenceKind, list[UUID]], not_here: int = 0, la_code: str = "332") -> None:
    """As PUT /v1/comparisons does."""
    async with council_transaction(pool, [la_code]) as connection:
        await store_comparison.write_comparison(connection, la_code, "case-system-332", 9, 0, not_here)
        await store_comparison.replace_differences(connection, la_code, differences)


async def alerts(council: CouncilDatabase) -> list[tuple[UUID | None, str, str | None]]:
    """(plan, kind of difference or number of plans, why cleared or None while open)."""
    rows = await council.owner.fetch(
        "SELECT plan_id, coalesce(about, count::text) AS what, cleared_because FROM notifier.alert"
        " WHERE kind IN ('differs', 'not_here') ORDER BY raised_at, plan_id, what"
    )
    return [(row["plan_id"], row["what"], row["cleared_because"]) for row in rows]


async def test_a_difference_is_one_alert_until_a_comparison_does_not_find_it(
    council: CouncilDatabase, pool: Pool, publisher_pool: Pool
) -> None:
    one, two = sorted([(await council.write_share()).plan_id for _ in range(2)])
    sweep = Sweep(pool, ["heard"])
    await tell(publisher_pool, {DifferenceKind.CEASED_THERE: [one], DifferenceKind.SETTING_DIFFERS: [two, two]})
    await sweep.run_once()
    await tell(publisher_pool, {DifferenceKind.CEASED_THERE: [one], DifferenceKind.SETTING_DIFFERS: [one, two]})
    for _ in range(2):
        await sweep.run_once()
    assert await alerts(council) == [
        (one, "ceased_there", None), (two, "setting_differs", None), (one, "setting_differs", None),
    ]  # fmt: skip
    await tell(publisher_pool, {DifferenceKind.SETTING_DIFFERS: [two]})
    for _ in range(2):
        await sweep.run_once()
    assert await alerts(council) == [
        (one, "ceased_there", "agreed"), (two, "setting_differs", None), (one, "setting_differs", "agreed"),
    ]  # fmt: skip
    first = await council.owner.fetchrow("SELECT key, value FROM notifier.outbox ORDER BY id LIMIT 1")
    assert first is not None
    event = AlertRaised.model_validate_json(first["value"])
    assert (first["key"], event.kind, event.difference, event.clock) == (str(one), "differs", "ceased_there", None)


async def test_a_plan_that_is_over_here_and_in_force_there(council: CouncilDatabase, pool: Pool, publisher_pool: Pool) -> None:
    plan_id = (await council.write_share()).plan_id
    await council.owner.execute("UPDATE publisher.plan SET state = 'ceased' WHERE plan_id = $1", plan_id)
    await tell(publisher_pool, {DifferenceKind.CEASED_HERE: [plan_id]})
    for _ in range(2):
        await Sweep(pool, ["heard"]).run_once()
    assert await alerts(council) == [(plan_id, "ceased_here", None)]


async def test_plans_without_an_id_here_are_one_alert_that_is_told_anew_when_they_are_more(
    council: CouncilDatabase, pool: Pool, publisher_pool: Pool
) -> None:
    sweep = Sweep(pool, ["heard"])
    for not_here in (3120, 3100, 3121, 0):
        await tell(publisher_pool, {}, not_here)
        for _ in range(2):  # what is cleared in one round is raised anew in the next
            await sweep.run_once()
    assert await alerts(council) == [(None, "3120", "more"), (None, "3121", "agreed")]
    rows = await council.owner.fetch("SELECT key, headers, value FROM notifier.outbox ORDER BY id")
    assert [(row["key"], row["headers"]["ce_type"]) for row in rows] == [
        ("332", "ehcp.council.alert.raised.v1"), ("332", "ehcp.council.alert.cleared.v1"),
        ("332", "ehcp.council.alert.raised.v1"), ("332", "ehcp.council.alert.cleared.v1"),
    ]  # fmt: skip
    assert CouncilAlertRaised.model_validate_json(rows[0]["value"]).count == 3120
    assert CouncilAlertCleared.model_validate_json(rows[3]["value"]).because == "agreed"


async def test_each_council_compares_for_itself(council: CouncilDatabase, pool: Pool, publisher_pool: Pool) -> None:
    ours, theirs = [(await council.write_share(la_code=code)).plan_id for code in ("332", "333")]
    await tell(publisher_pool, {DifferenceKind.CEASED_THERE: [ours, theirs, uuid4()]}, 1)
    await tell(publisher_pool, {DifferenceKind.UNKNOWN_THERE: [theirs]}, 2, "333")
    await Sweep(pool, ["heard"]).run_once()
    await tell(publisher_pool, {})
    for _ in range(2):
        await Sweep(pool, ["heard"]).run_once()
    found = await alerts(council)
    assert sorted(found, key=str) == sorted(
        [(ours, "ceased_there", "agreed"), (theirs, "unknown_there", None), (None, "1", "agreed"), (None, "2", None)], key=str
    )


async def test_twenty_thousand_differences_are_a_few_mails(
    council: CouncilDatabase, pool: Pool, publisher_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RAISE_AT_ONCE", 10_000)
    monkeypatch.setattr(module, "CHECK_AT_ONCE", 20_000)
    child_id = await council.owner.fetchval(
        "INSERT INTO publisher.child (child_id, la_code, wrapped_key, identity) VALUES ($1, '332', '', '') RETURNING child_id",
        uuid4(),
    )
    rows = await council.owner.fetch(
        "INSERT INTO publisher.plan (plan_id, la_code, case_reference, child_id)"
        " SELECT gen_random_uuid(), '332', 'MANY-' || n, $1 FROM generate_series(1, 20000) AS n RETURNING plan_id",
        child_id,
    )
    plans = [row["plan_id"] for row in rows]
    await tell(publisher_pool, {DifferenceKind.UNKNOWN_THERE: plans}, 3120)
    sweep = Sweep(pool, ["heard"])
    for _ in range(4):
        await sweep.run_once()
    digests: list[Digest] = []

    class Heard:
        name, gather_seconds = "heard", 0.0

        async def send(self, digest: Digest) -> None:
            digests.append(digest)

    while await send_one(pool, Heard()):
        pass
    assert len(digests) <= 3
    assert sum(len(digest.raised) for digest in digests) == 20_001
    body = text(digests[0], None)
    assert len(body.splitlines()) < 120
    assert "- and 9900 more" in body or "- and 9899 more" in body
    await tell(publisher_pool, {DifferenceKind.UNKNOWN_THERE: plans[:1]})
    for _ in range(3):
        await sweep.run_once()
    assert [row for row in await alerts(council) if row[2] is None] == [(plans[0], "unknown_there", None)]


async def test_a_plan_that_goes_to_another_council_takes_no_difference_along(publisher: Publisher) -> None:
    plan_id = (await publisher.issue(submission()))["plan_id"]
    headers = await publisher.headers("operator") | {"content-type": "application/json"}
    told = orjson.dumps({"plans": 1, "differences": {"setting_differs": [plan_id]}})
    assert (await publisher.http.put("/v1/comparisons/332", content=told, headers=headers)).status_code == 200
    event = {"type": "transfer", "by": "officer-1", "to_la_code": "333", "case_reference": "SAN-1", "moved_on": "2026-06-01",
        "aware_on": "2026-06-01",
    }  # fmt: skip
    answer = await publisher.post(f"/v1/plans/{plan_id}/events", event)
    assert answer.status_code == 201, answer.text
    assert await publisher.owner.fetch("SELECT FROM publisher.difference WHERE plan_id = $1", UUID(plan_id)) == []


async def test_over_http(publisher: Publisher) -> None:
    plan_id = (await publisher.issue(submission()))["plan_id"]
    theirs = (await publisher.issue(submission(la_code="333")))["plan_id"]

    async def put(body: Any, client: str = "case-system-332") -> Any:
        headers = await publisher.headers(client) | {"content-type": "application/json"}
        return await publisher.http.put("/v1/comparisons/332", content=orjson.dumps(body), headers=headers)

    told = {"plans": 2, "not_here": 1, "differences": {"ceased_there": [plan_id, theirs], "setting_differs": [plan_id]}}
    answer = await put(told)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["la_code"], shown["not_here"]) == ("332", 1)
    assert shown["differences"] == {"ceased_there": 1, "setting_differs": 1}
    listed = await publisher.http.get("/v1/comparisons", headers=await publisher.headers("operator"))
    assert listed.json()["comparisons"] == [shown]
    assert (await put({"plans": 2})).json()["differences"] == {}
    act = await publisher.owner.fetchrow(
        "SELECT la_code, details FROM audit.pending WHERE act = 'case_system_compared' AND details @> '{\"not_here\": 1}'"
    )
    assert act is not None
    assert (act["la_code"], act["details"]["differences"]) == ("332", {"ceased_there": 1, "setting_differs": 1})
    refused = problem(await put({"plans": 1, "differences": {"ceased_there": ["EHC-1"]}}), 422, "invalid")
    assert "EHC-1" not in str(refused)
    problem(await put({"plans": 1, "differences": {"lost": [plan_id]}}), 422, "invalid")
    many = {"unknown_there": [str(UUID(int=n)) for n in range(MAX_DIFFERENCES + 1)]}
    assert "at most 100000" in str(problem(await put({"plans": 1, "differences": many}), 422, "invalid"))
    many["unknown_there"].pop()
    assert (await put({"plans": 1, "differences": many})).status_code == 200
