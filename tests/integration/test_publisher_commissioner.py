"""Reg 16 binds the commissioning body: it tells the exchange that another body is responsible now."""

from typing import Any

import pytest

from tests.support.publisher import ICB, Publisher, code, problem, submission

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]


def changed(*bodies: str, type_: str = "commissioner_changed") -> dict[str, Any]:
    return {"type": type_, "by": "ICB-7", "changed_on": "2026-11-02", "commissioning_bodies": [code(body) for body in bodies]}


async def test_a_commissioning_body_tells_of_its_successor(publisher: Publisher) -> None:
    plan_id = (await publisher.issue(submission()))["plan_id"]
    answer = await publisher.post(f"/v1/plans/{plan_id}/events", changed("ods:QHL"), "subscriber-health")
    assert answer.status_code == 201, answer.text
    bodies = {
        name: share["action"] for name, share in (await publisher.shares(plan_id)).items() if "ods:" in name or "NHS Bl" in name
    }
    assert bodies == {"NHS Black Country Integrated Care Board": "withdraw", "ods:QHL (not in the directory)": "hold"}
    # It is that plan's commissioner no more.
    problem(await publisher.post(f"/v1/plans/{plan_id}/events", changed(ICB), "subscriber-health"), 403, "not-allowed")


async def test_nobody_else_and_nothing_else(publisher: Publisher) -> None:
    plan_id = (await publisher.issue(submission()))["plan_id"]
    problem(await publisher.post(f"/v1/plans/{plan_id}/events", changed("ods:QHL"), "subscriber-school"), 403, "not-allowed")
    lift = {"type": "restrict", "by": "ICB-7", "reason": "court_order"}
    problem(await publisher.post(f"/v1/plans/{plan_id}/events", lift, "subscriber-health"), 403, "not-allowed")
    without = submission()
    without["version"]["commissioning_bodies"] = []
    plan_id = (await publisher.issue(without))["plan_id"]
    problem(await publisher.post(f"/v1/plans/{plan_id}/events", changed("ods:QHL"), "subscriber-health"), 403, "not-allowed")
