"""A share that does not arrive: noticed at its due time, alerted, cleared by the receipt, and every step in the ledger."""

from typing import Any

import pytest

from tests.e2e.children import new_child
from tests.e2e.exchange import Exchange
from tests.e2e.test_one_plan import holder
from tests.support.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


async def test_silence_becomes_an_alert_that_the_receipt_clears(exchange: Exchange) -> None:
    child = new_child()
    await exchange.add_patient(child.patient)
    exchange.stop_for_now("health_subscriber")
    try:
        [issued] = await exchange.issue([child.first()])
        share = (await exchange.holders(issued["plan_id"]))["trust"]["share_id"]
        await exchange.query(
            "ehcp_publisher",
            "UPDATE publisher.unsatisfied SET due_at = now() - interval '1 hour' WHERE share_id = $1::text::uuid",
            share,
        )
        raised = await until(lambda: alerts(exchange, share, cleared=False), within=60, what="the alert is raised")
        assert len(raised) == 1
        missed = await until(lambda: holder(exchange, issued["plan_id"], "trust", "missed"), within=60, what="shown as missed")
        assert missed["satisfied"] is False
    finally:
        exchange.go_on("health_subscriber")
    await until(lambda: holder(exchange, issued["plan_id"], "trust", "filed"), within=60, what="filed after all")
    cleared = await until(lambda: alerts(exchange, share, cleared=True), within=60, what="the alert is cleared")
    assert len(cleared) == 1
    acts = await exchange.query("audit", "SELECT act FROM audit.pending WHERE share_id = $1::text::uuid ORDER BY id", share)
    named = [row["act"] for row in acts]
    for act in ("shared", "read", "filed"):
        assert act in named
    assert named.index("shared") < named.index("read") < named.index("filed")


async def alerts(exchange: Exchange, share_id: str, *, cleared: bool) -> list[Any]:
    return await exchange.query(
        "notifier",
        "SELECT kind FROM notifier.alert WHERE share_id = $1::text::uuid AND (cleared_at IS NOT NULL) = $2",
        share_id,
        cleared,
    )
