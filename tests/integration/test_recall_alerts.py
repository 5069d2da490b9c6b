"""A recall from first to last: one recipient answers, another does not, alerts escalate by the clock, the pack shows both."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
import pytest_asyncio
from joserfc.jwk import OKPKey

from schemas.receipts import Status
from services.notifier.store import Pool
from services.notifier.sweep import Sweep
from services.shared.identity.signed_documents import verify
from services.shared.postgres.migrate import migrate
from services.shared.postgres.pool import open_pool
from tests.integration.test_breach_pack import filed, from_, removed
from tests.support.audit import AuditAtHand, audit_at_hand
from tests.support.lives import PRIMARY_NAME, TRUST_NAME, Life, begin
from tests.support.publisher import publisher_at_hand
from tests.support.servers import RunningPostgres

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]


@pytest_asyncio.fixture(loop_scope="session")
async def audit(postgres_server: RunningPostgres) -> AsyncIterator[AuditAtHand]:
    async with publisher_at_hand(postgres_server) as publisher, audit_at_hand(publisher) as at_hand:
        await migrate(publisher.owner_dsn, "notifier")
        yield at_hand


@pytest_asyncio.fixture(loop_scope="session")
async def notifier(audit: AuditAtHand) -> AsyncIterator[Pool]:
    pool = await open_pool(audit.publisher.dsn("notifier"), max_size=2)
    try:
        yield pool
    finally:
        await pool.close()


async def sweep(notifier: Pool) -> None:
    await Sweep(notifier, ["log"]).run_once()


async def alerts(audit: AuditAtHand, plan_id: str) -> list[tuple[int, dict[str, int], str | None]]:
    """Level, who is outstanding, and why it was cleared."""
    rows = await audit.publisher.owner.fetch(
        "SELECT level, outstanding, cleared_because FROM notifier.alert WHERE kind = 'recall' AND plan_id = $1"
        " ORDER BY raised_at, level", UUID(plan_id),
    )  # fmt: skip
    return [tuple(row) for row in rows]


async def hours_pass(audit: AuditAtHand, hours: int) -> None:
    await audit.publisher.owner.execute(
        "UPDATE publisher.recall SET aware_at = aware_at - $1::interval", timedelta(hours=hours)
    )


async def recalled_from(audit: AuditAtHand, *names: str) -> Life:
    """A plan that went to the wrong recipients, and they have it."""
    life = await begin(audit.publisher)
    shares = await life.shares()
    for name in names:
        await life.read(f"subscriber-{shares[name]['subscriber']}", name)
        await filed(audit, life, name)
    now = await audit.publisher.owner.fetchval("SELECT now()")
    await life.record(
        "recall", version_id=life.version_id, reason="wrong_recipient", aware_at=now.isoformat(),
        shares=[str(shares[name]["share_id"]) for name in names],
    )  # fmt: skip
    return life


async def test_it_escalates_until_everybody_has_answered_and_the_pack_shows_who_did(audit: AuditAtHand, notifier: Pool) -> None:
    life = await recalled_from(audit, TRUST_NAME, PRIMARY_NAME)
    await sweep(notifier)
    await sweep(notifier)
    both: dict[str, int] = {"health": 1, "school": 1}
    assert await alerts(audit, life.plan_id) == [(1, both, None)]

    await removed(audit, life, TRUST_NAME)
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    file = orjson.dumps(await audit.breach_pack(listed["recall_id"]))
    pack: dict[str, Any] = verify(file, OKPKey.import_key(audit.document_key.as_dict(private=False))).document
    assert {name: each["removal"]["state"] for name, each in from_(pack).items()} == {
        TRUST_NAME: "removed", PRIMARY_NAME: "outstanding",
    }  # fmt: skip

    await hours_pass(audit, 25)
    await sweep(notifier)
    one = {"school": 1}
    assert await alerts(audit, life.plan_id) == [(1, both, "escalated"), (2, one, None)]
    await hours_pass(audit, 48)
    await sweep(notifier)
    assert (await alerts(audit, life.plan_id))[1:] == [(2, one, "escalated"), (5, one, None)]

    await removed(audit, life, PRIMARY_NAME)
    await sweep(notifier)
    assert (await alerts(audit, life.plan_id))[2:] == [(5, one, "satisfied")]
    await sweep(notifier)
    assert len(await alerts(audit, life.plan_id)) == 3
    said = [
        orjson.loads(row["value"])
        for row in await audit.publisher.owner.fetch(
            "SELECT value FROM notifier.outbox WHERE key = $1 ORDER BY id", life.plan_id
        )
    ]
    assert [(each["level"], each.get("because")) for each in said if each["kind"] == "recall"] == [
        (1, None), (2, None), (1, "escalated"), (5, None), (2, "escalated"), (5, "satisfied"),
    ]  # fmt: skip
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    assert (listed["outstanding"], listed["hours_since_aware"]) == (0, 73)


async def test_two_recalls_of_one_plan_each_have_their_alert(audit: AuditAtHand, notifier: Pool) -> None:
    life = await recalled_from(audit, TRUST_NAME)
    await life.record("recall", version_id=life.version_id, reason="wrong_child", aware_at="2026-11-02T09:00:00Z")
    await sweep(notifier)
    assert sorted(level for level, _, because in await alerts(audit, life.plan_id) if because is None) == [1, 5]


async def test_a_second_officer_who_was_aware_earlier_raises_the_alert_of_the_one_recall(
    audit: AuditAtHand, notifier: Pool
) -> None:
    life = await recalled_from(audit, TRUST_NAME)
    await sweep(notifier)
    assert await alerts(audit, life.plan_id) == [(1, {"health": 1}, None)]
    share_id = str((await life.shares())[TRUST_NAME]["share_id"])
    earlier = await audit.publisher.owner.fetchval("SELECT now() - interval '30 hours'")
    await life.record(
        "recall", version_id=life.version_id, reason="wrong_recipient", aware_at=earlier.isoformat(), shares=[share_id],
        by="officer-2",
    )  # fmt: skip
    await sweep(notifier)
    assert await alerts(audit, life.plan_id) == [(1, {"health": 1}, "escalated"), (2, {"health": 1}, None)]


async def test_a_refusal_is_no_answer_and_a_copy_that_is_wanted_after_all_needs_none(
    audit: AuditAtHand, notifier: Pool
) -> None:
    life = await recalled_from(audit, TRUST_NAME)
    share = (await life.shares())[TRUST_NAME]
    await audit.said("health", share["share_id"], 2, Status.REFUSED, reason="newer entries are there")
    await sweep(notifier)
    assert await alerts(audit, life.plan_id) == [(1, {"health": 1}, None)]
    await life.record(
        "decide", share=True, organisation={"scheme": "ods", "value": "RNA"}, lawful_basis="direct care", reason="It treats."
    )
    await sweep(notifier)
    assert await alerts(audit, life.plan_id) == [(1, {"health": 1}, "satisfied")]
    [listed] = await audit.recalls(f"?plan_id={life.plan_id}")
    pack = (await audit.breach_pack(listed["recall_id"]))["document"]
    assert (listed["outstanding"], from_(pack)[TRUST_NAME]["removal"]["state"]) == (0, "wanted_again")
