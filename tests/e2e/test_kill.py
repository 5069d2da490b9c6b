"""kill -9 of each part while 200 versions are in flight: every plan's newest version is filed once, and none is lost."""

import asyncio
import random
from collections import Counter

import pytest

from tests.e2e.children import TestChild, new_child
from tests.e2e.exchange import Exchange, Json
from tests.support.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]
PLANS = 100
PARTS = (
    "ehcp_publisher", "health_subscriber", "social_care_subscriber", "school_subscriber", "family_subscriber", "audit",
    "notifier", "kafka", "postgres", "fhir", "social_care",
)  # fmt: skip


async def first_versions(exchange: Exchange) -> tuple[list[TestChild], dict[str, str], list[str]]:
    """Children known to the trust's record, their patients, and their plans with version 1 issued."""
    children = [new_child() for _ in range(PLANS)]
    patients = dict(
        zip(
            [child.nhs_number for child in children],
            await asyncio.gather(*(exchange.add_patient(child.patient) for child in children)),
            strict=True,
        )
    )
    answers = await exchange.issue([child.first() for child in children])
    assert Counter(each["status"] for each in answers) <= Counter({201: PLANS, 200: PLANS})
    return children, patients, [each["plan_id"] for each in answers]


async def everywhere(exchange: Exchange, plans: list[str], version: int) -> bool:
    """Whether each of these plans is, in this version, as far as machines can bring it."""
    rows = [row for row in await exchange.all_holders() if row["plan_id"] in set(plans)]
    return len(rows) == 5 * len(plans) and all(arrived(row, version) for row in rows)


def arrived(row: Json, version: int) -> bool:
    if row["recipient_kind"] == "parent":
        return bool(row["status"] == "waiting" and row["at"] and row["version"] == version)
    expected = "sent" if row["channel"] == "inbox" else "filed"
    return bool(row["status"] == expected and row["held_version"] == version)


async def filed_once(exchange: Exchange, patients: dict[str, str]) -> None:
    """In the trust's record and in the case system: one current document of each plan, and no version twice."""
    for patient in patients.values():
        documents = await exchange.documents(patient)
        identifiers = [each["identifier"][0]["value"] for each in documents]
        assert len(set(identifiers)) == len(identifiers)
        assert sum(each["status"] == "current" for each in documents) == 1
        assert len(documents) <= 2
    twice = await exchange.query(
        "school_subscriber", "SELECT share_id FROM delivery.inbox GROUP BY share_id HAVING count(*) > 1"
    )
    assert not twice
    unsent = await exchange.query("ehcp_publisher", "SELECT count(*) AS rows FROM publisher.outbox WHERE refused IS NOT NULL")
    assert unsent[0]["rows"] == 0


@pytest.mark.parametrize("part", PARTS)
async def test_killed_while_two_hundred_versions_are_in_flight(exchange: Exchange, part: str) -> None:
    seed = random.Random(part)
    children, patients, plans = await first_versions(exchange)
    amendments = [{"plan_id": plan, "version": child.version(2)} for child, plan in zip(children, plans, strict=True)]
    second = asyncio.create_task(exchange.issue(amendments))
    await asyncio.wait([second], timeout=seed.uniform(0.05, 0.6))
    await exchange.killed(part)
    answers = await second
    assert all(each["status"] in (200, 201) and each["version"] == 2 for each in answers)
    await exchange.ready(part)
    await until(lambda: everywhere(exchange, plans, 2), within=120, what=f"all is everywhere after {part} was killed")
    await filed_once(exchange, patients)
