"""What a sharing policy means for plans, before it applies: explained for one plan, counted for all of a council.

Reads and decides nothing that lasts; both go by the judgement that deciding itself uses (``policy``, ``shares``).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any
from uuid import UUID

import asyncpg

from schemas.base import Grounds
from schemas.plan import Child, Circumstances, SectionLetter
from schemas.policy import SharingPolicy
from services.ehcp_publisher import policy as policies
from services.ehcp_publisher import shares, store, store_events, versions
from services.ehcp_publisher.deciding import Deciding, People
from services.ehcp_publisher.registry import Directory
from services.ehcp_publisher.store import KnownPlan
from services.shared.postgres.pool import council_transaction
from services.shared.web.problems import Problem

PAGE = 100
"""Plans opened at a time."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a policy is judged by. ``letters`` is None for a version that is a document alone."""

    circumstances: Circumstances
    born: date | None
    letters: frozenset[SectionLetter] | None


@dataclass(frozen=True, slots=True)
class Opened:
    plan: KnownPlan
    child: Child
    circumstances: Circumstances
    now: versions.Issued
    people: People


def explained(policy: SharingPolicy, facts: Facts, directory: Directory, on: date) -> dict[str, Any]:
    """For every rule whether it applies and why not, then what comes of it all."""
    rules = policies.explain(policy, facts.circumstances, facts.born, facts.letters, directory, on)
    given: dict[UUID, dict[str, Any]] = {}
    for share in policies.evaluate(policy, facts.circumstances, facts.born, facts.letters, directory, on):
        known = share.recipient
        each = given.setdefault(
            known.recipient_id,
            {
                "recipient_id": known.recipient_id, "recipient": known.name, "kind": known.kind,
                "code": f"{known.scheme}:{known.value}", "sections": share.sections, "rules": [], "until": share.until,
            },
        )  # fmt: skip
        each["rules"].append(share.rule)
        each["until"] = None if each["until"] is None or share.until is None else max(each["until"], share.until)
    return {
        "la_code": policy.la_code, "on": on, "off": policy.off(on), "rules": [asdict(rule) for rule in rules],
        "shares": list(given.values()),
    }  # fmt: skip


class PolicyEffects:
    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", deciding: Deciding) -> None:
        self._pool = pool
        self._deciding = deciding

    async def explain_plan(self, policy: SharingPolicy, plan_id: UUID, on: date) -> dict[str, Any]:
        """Raises :class:`Problem` when the council has no such plan, or nothing of it is current."""
        async with council_transaction(self._pool, [policy.la_code]) as connection:
            opened = await self._open(connection, [plan_id])
        if not opened:
            raise Problem(
                404,
                "unknown-plan",
                "There is no such plan",
                "No plan of this council has this id, or nothing of it is current.",
            )
        (only,) = opened
        letters = frozenset(map(SectionLetter, only.now.section_hashes)) or None
        facts = Facts(only.circumstances, only.child.date_of_birth, letters)
        answer = explained(policy, facts, self._deciding.directory, on)
        decided = await self._decided(only, self._deciding.directory, on)
        by_law = {
            wanted.recipient.recipient_id
            for wanted in decided.wanted
            if any(ground.grounds is Grounds.STATUTORY for ground in wanted.grounds)
        }
        for share in answer["shares"]:
            share["by_law"] = share["recipient_id"] in by_law
        return answer | {"plan_id": plan_id}

    async def count(self, policy: SharingPolicy) -> dict[str, int]:
        """How many shares the policy would begin, end and change to other sections, were it applied now."""
        directory = self._deciding.directory
        then, on = directory.with_policy(policy), self._deciding.today()
        counted = {"plans": 0, "shares_added": 0, "shares_withdrawn": 0, "shares_changed": 0}
        after: UUID | None = None
        while True:
            async with council_transaction(self._pool, [policy.la_code]) as connection:
                plan_ids = await store_events.page_of_plans(connection, after, PAGE)
                opened = await self._open(connection, plan_ids)
            for each in opened:
                if each.plan.restricted is not None:
                    continue  # nothing of it is shared under any policy
                before = {w.recipient.recipient_id: w.sections for w in (await self._decided(each, directory, on)).wanted}
                later = {w.recipient.recipient_id: w.sections for w in (await self._decided(each, then, on)).wanted}
                counted["plans"] += 1
                counted["shares_added"] += len(later.keys() - before.keys())
                counted["shares_withdrawn"] += len(before.keys() - later.keys())
                counted["shares_changed"] += sum(later[key] != before[key] for key in later.keys() & before.keys())
            if len(plan_ids) < PAGE:
                return counted
            after = plan_ids[-1]

    async def _decided(self, opened: Opened, directory: Directory, on: date) -> shares.Decided:
        await asyncio.sleep(0)  # others' requests go between two plans
        facts = shares.Facts(
            opened.plan.plan_id, opened.plan.la_code, opened.circumstances, opened.child.date_of_birth, opened.now.issued_on,
            opened.now.number == 1, tuple(map(SectionLetter, opened.now.section_hashes)),
            opened.people.decisions.get(opened.plan.plan_id, ()), opened.people.confirmed.get(opened.plan.plan_id, {}),
        )  # fmt: skip
        return shares.decide(facts, directory, on)

    async def _open(self, connection: Any, plan_ids: Sequence[UUID]) -> list[Opened]:
        """Plans of the transaction's council with a current version."""
        opened, people = [], await self._deciding.read_people(connection, plan_ids)
        for plan in await store.find_plans(connection, plan_ids, ()):
            if (now := versions.current(plan.versions)) is None:
                continue
            version = None
            if plan.circumstances is None:
                version = self._deciding.version_of(plan, now.version_id, await store.read_body(connection, now.version_id))
            circumstances = self._deciding.circumstances_of(plan, version)
            opened.append(Opened(plan, self._deciding.child_of(plan), circumstances, now, people))
        return opened
