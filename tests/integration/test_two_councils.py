"""One child with plans in force in two councils of the exchange: each is told by a flag, and no more than that."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.integration.test_publisher_deciding import night
from tests.support.lives import Life, begin_with, unique, yesterday
from tests.support.publisher import (
    PublisherAtHand,
    child_of,
    publisher_at_hand,
    reference,
    submission,
    version,
)
from tests.support.servers import RunningPostgres

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]
CODE = "plan_elsewhere"
DUDLEY, SANDWELL = "Dudley Metropolitan Borough Council (332)", "Sandwell Metropolitan Borough Council (333)"
CEASED: dict[str, Any] = {"ceased_on": "2026-07-21", "reason": "needs_met", "notified_on": "2026-05-01"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def publisher(postgres_server: RunningPostgres) -> AsyncIterator[PublisherAtHand]:
    async with publisher_at_hand(postgres_server) as at_hand:
        yield at_hand


async def both(publisher: PublisherAtHand, **second: Any) -> tuple[Life, Life]:
    """One child's plan in Dudley, then in Sandwell."""
    child = child_of(reference())
    return (
        await begin_with(publisher, submission(child=child)),
        await begin_with(publisher, submission(la_code="333", child=child | second)),
    )


async def said(life: Life) -> list[str]:
    return [each["detail"] for each in (await life.shown())["flags"] if each["code"] == CODE]


async def test_each_council_is_told_which_other_one_has_a_plan_and_nothing_of_it(publisher: PublisherAtHand) -> None:
    child = child_of(reference())
    first = await begin_with(publisher, submission(child=child))
    assert await said(first) == []
    answer = await publisher.issue(submission("SAND-77", "333", child=child, version=version(text=unique())))
    (flag,) = [each for each in answer["flags"] if each["code"] == CODE]
    assert DUDLEY in flag["detail"]
    (detail,) = await said(first)
    assert SANDWELL in detail
    given_away = orjson.dumps(await first.shown()).decode() + flag["detail"]
    assert "SAND-77" not in given_away
    assert answer["plan_id"] not in given_away
    listed = await publisher.http.get("/v1/flags", headers=await publisher.headers())
    assert (first.plan_id, CODE) in [(each["plan_id"], each["name"]) for each in listed.json()["flags"]]
    (entry,) = [
        each
        for each in (await publisher.http.get("/v1/plans", headers=await publisher.headers())).json()["plans"]
        if each["plan_id"] == first.plan_id
    ]
    assert entry["flag_count"] == len((await first.shown())["flags"])


async def test_it_is_over_when_one_of_the_two_ends_and_comes_again_with_it(publisher: PublisherAtHand) -> None:
    first, second = await both(publisher)
    await second.record("cease", **CEASED)
    assert (await said(first), await said(second)) == ([], [])
    await second.record("reopen", reason="ceased_by_mistake", reopened_on="2026-07-28")
    assert SANDWELL in (await said(first))[0]


async def test_it_is_over_when_the_number_was_a_mistake(publisher: PublisherAtHand) -> None:
    first, second = await both(publisher)
    other = child_of(reference()) | {"given_names": "Robin"}
    await second.record("child_corrected", child=other)
    assert (await said(first), await said(second)) == ([], [])
    await second.record("child_corrected", child=other | {"upn": first.sent["child"]["upn"]})
    assert await said(first) == [], "an NHS number of its own: another child, whose UPN was mistyped"
    await second.record("child_corrected", child=other | {"nhs_number": None, "upn": first.sent["child"]["upn"]})
    assert DUDLEY in (await said(second))[0]


async def test_a_plan_that_moved_on_takes_it_along(publisher: PublisherAtHand) -> None:
    first, second = await both(publisher)
    await second.record("cease", **CEASED)
    await first.record("transfer", to_la_code="333", moved_on=yesterday(), aware_on=yesterday())
    first.client = "case-system-333"
    assert await said(first) == []


async def test_what_is_held_is_no_plan_in_force_until_it_is_released(publisher: PublisherAtHand) -> None:
    child, another = child_of(reference()), await begin_with(publisher, submission())
    first = await begin_with(publisher, submission(child=child))
    sent = submission(la_code="333", child=child, version=version(text=another.sent["child"]["nhs_number"]))
    answer = await publisher.post("/v1/plans", sent, "case-system-333")
    assert answer.json()["status"] == "held", answer.text
    assert await said(first) == []
    held = Life(publisher, answer.json()["plan_id"], answer.json()["version_id"], sent, "case-system-333")
    await held.record("confirm", version_id=held.version_id, share=True)
    assert SANDWELL in (await said(first))[0]


async def test_where_a_restricted_plan_is_kept_is_not_said(publisher: PublisherAtHand) -> None:
    first, second = await both(publisher)
    await second.record("restrict", reason="hidden_address")
    (detail,) = await said(first)
    assert "Sandwell" not in detail
    assert "333" not in detail
    assert DUDLEY in (await said(second))[0]


async def test_two_that_came_at_once_are_seen_at_night(publisher: PublisherAtHand) -> None:
    first, second = await both(publisher)
    await publisher.owner.execute("DELETE FROM publisher.same_child")  # as if neither had seen the other
    assert (await said(first), await said(second)) == ([], [])
    await publisher.owner.execute("DELETE FROM publisher.night")
    await night(publisher)
    assert SANDWELL in (await said(first))[0]
    assert DUDLEY in (await said(second))[0]
