"""A recipient that moves to another subscriber: the new one gets the plan, then the former one is told to let go."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import orjson
import pytest
import pytest_asyncio

from tests.support.publisher import PublisherAtHand, publisher_at_hand, submission
from tests.support.servers import RunningPostgres

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

TRUST_NAME = "The Dudley Group NHS Foundation Trust"
TRUST = {"kind": "trust", "name": TRUST_NAME, "codes": [{"scheme": "ods", "value": "RNA", "from": "2020-01-01"}]}
BY_HEALTH = TRUST | {"subscriber": "health", "channel": "fhir"}
BY_SCHOOL = TRUST | {"subscriber": "school", "channel": "inbox"}


@pytest_asyncio.fixture(loop_scope="session")
async def publisher(postgres_server: RunningPostgres) -> AsyncIterator[PublisherAtHand]:
    async with publisher_at_hand(postgres_server) as at_hand:
        yield at_hand


async def register(publisher: PublisherAtHand, recipient: dict[str, Any]) -> None:
    answer = await publisher.http.put(
        "/v1/directory", content=orjson.dumps(recipient) + b"\n", headers=await publisher.headers("operator")
    )
    assert answer.status_code == 200, answer.text
    while await publisher.redeciding.step():
        pass


async def satisfied(publisher: PublisherAtHand, share_id: UUID, seq: int) -> None:
    """As audit does when the receipt came."""
    await publisher.owner.execute(
        "INSERT INTO audit.newest (share_id, la_code, seq, number, status, at, satisfied_seq, lost)"
        " VALUES ($1, '332', $2, 1, 'filed', now(), $2, false)"
        " ON CONFLICT (share_id) DO UPDATE SET seq = $2, satisfied_seq = $2",
        share_id, seq,
    )  # fmt: skip


async def put_out(publisher: PublisherAtHand, share_id: UUID) -> list[tuple[str, str, int]]:
    rows = await publisher.outbox(share_id)
    return [(row["topic"], row["type"].removeprefix("ehcp.share.").removesuffix(".v1"), row["data"]["seq"]) for row in rows]


async def test_the_former_subscriber_is_told_to_let_go_once_the_new_one_has_the_plan(publisher: PublisherAtHand) -> None:
    body = await publisher.issue(submission())
    share_id: UUID = (await publisher.shares(body["plan_id"]))[TRUST_NAME]["share_id"]
    await satisfied(publisher, share_id, 1)
    await register(publisher, BY_SCHOOL)
    to_health, to_school = ("ehcp.shares.health.v1", "requested", 1), ("ehcp.shares.school.v1", "requested", 2)
    assert await put_out(publisher, share_id) == [to_health, to_school]
    await publisher.resend.sweep()
    assert await put_out(publisher, share_id) == [to_health, to_school], "the new one has not answered yet"

    await satisfied(publisher, share_id, 2)
    await publisher.resend.sweep()
    assert await put_out(publisher, share_id) == [to_health, to_school, ("ehcp.shares.health.v1", "released", 2)]
    await publisher.resend.sweep()
    assert len(await put_out(publisher, share_id)) == 3, "told once; a lost message heals by the list"
    (listed,) = [row for row in await publisher.list_all("subscriber-health") if row["share_id"] == str(share_id)]
    assert (listed["type"], listed["seq"]) == ("ehcp.share.released.v1", 2)
    assert (await publisher.read("subscriber-health", (share_id, 2)))[0]["outcome"] == "unknown"


async def test_a_recipient_that_comes_back_before_the_new_subscriber_answered_is_not_let_go(publisher: PublisherAtHand) -> None:
    body = await publisher.issue(submission())
    share_id: UUID = (await publisher.shares(body["plan_id"]))[TRUST_NAME]["share_id"]
    await register(publisher, BY_SCHOOL)
    await register(publisher, BY_HEALTH)
    await satisfied(publisher, share_id, 3)
    await publisher.resend.sweep()
    assert (await put_out(publisher, share_id))[-1] == ("ehcp.shares.school.v1", "released", 3)
    assert [row["type"] for row in await publisher.list_all("subscriber-health") if row["share_id"] == str(share_id)] == [
        "ehcp.share.requested.v1"
    ]
