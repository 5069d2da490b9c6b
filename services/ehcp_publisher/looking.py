"""Ask the subscribers what the records really hold: draw or find the plans, write down the wish of the moment, ask, ask again.

Invariant: a look, its questions in the outbox and its acts are one transaction, so that nothing is looked at without being in
the ledger; what was not answered is asked again, ever less often, until the look's time is over. Answers come to audit, which
makes the report. Who may look: an operator of the council.
"""

import asyncio
import re
import secrets
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Literal, TypeAlias
from uuid import UUID

import asyncpg
import structlog

from schemas.base import ContractError
from schemas.events import EventType
from schemas.holdings import MAX_LOOKS, HoldingsRequested, LookAt
from schemas.identifiers import check_nhs_number
from schemas.looks import Draw, LookAsked, LookRequest, NotLookedAt
from schemas.manifest import canonical
from services.ehcp_publisher import instructions, store, store_looks
from services.ehcp_publisher.instructions import OutboxRow
from services.ehcp_publisher.keys import ChildKeys
from services.ehcp_publisher.store import Act
from services.ehcp_publisher.store_looks import AskedShare, Candidate
from services.shared.identity.tokens import Caller
from services.shared.ids import new_id
from services.shared.kafka import cloudevents
from services.shared.postgres.pool import council_transaction
from services.shared.web.problems import Problem

log = structlog.get_logger()

MINUTES = 60.0
"""How long answers are waited for."""
AGAIN_SECONDS = 30.0
BATCH = 1000
_Meaning: TypeAlias = str | UUID | bytes | None


class Looking:
    def __init__(
        self, pool: "asyncpg.Pool[asyncpg.Record]", keys: ChildKeys, councils: Sequence[str], every: float = 5.0
    ) -> None:
        self._pool = pool
        self._keys = keys
        self._councils = list(councils)
        self._every = every

    async def ask(self, caller: Caller, la_code: str, request: LookRequest) -> LookAsked:
        """Raises :class:`Problem` where there is nothing to look at."""
        look_id = new_id()
        async with council_transaction(self._pool, [la_code]) as connection:
            if request.draw is not None:
                seed: str | None = request.draw.seed or f"{secrets.randbelow(10**8):08}"
                plans, population = await self._drawn(connection, la_code, request, request.draw, seed or "")
                refused: list[NotLookedAt] = []
            else:
                seed, population = None, None
                plans, refused = await self._chosen(connection, la_code, request, request.children or ())
            asked = {
                "seed": seed, "population": population, "n": request.draw.n if request.draw else len(request.children or ()),
                "agency": str(request.agency) if request.agency else None, "kind": request.kind,
                "not_looked_at": [each.model_dump(mode="json") for each in refused],
            }  # fmt: skip
            at, until = await store_looks.insert_look(
                connection, look_id, la_code, caller.client_id, MINUTES, asked
            )  # fmt: skip
            await store_looks.insert_plans(connection, look_id, la_code, plans)
            shares = await store_looks.insert_shares(connection, look_id, request.agency, request.kind, AGAIN_SECONDS)
            await store.insert_outbox(connection, questions(shares))
            details = {"look_id": look_id}
            await store.insert_acts(
                connection,
                [Act("look_asked", caller.client_id, la_code, details=details | {"plans": len(plans), "seed": seed})]
                + [Act("look_asked", caller.client_id, la_code, each.plan_id, details=details) for each in plans],
            )
        log.info("look_asked", look_id=str(look_id), plans=len(plans), shares=len(shares))
        return LookAsked(
            look_id=look_id, asked_at=at, until=until, seed=seed, population=population, children=len(plans),
            shares=len(shares), not_looked_at=tuple(refused),
        )  # fmt: skip

    async def _drawn(
        self, connection: Any, la_code: str, request: LookRequest, draw: Draw, seed: str
    ) -> tuple[list[Candidate], int]:
        plans, population = await store_looks.draw(
            connection, la_code, draw.n, seed, request.agency, request.kind
        )  # fmt: skip
        if not plans:
            raise Problem(
                409, "nobody-to-draw", "There is no plan to draw from",
                "No plan of this council is in force" + (" and to be held there." if request.agency or request.kind else "."),
            )  # fmt: skip
        return plans, population

    async def _chosen(
        self, connection: Any, la_code: str, request: LookRequest, children: Sequence[str]
    ) -> tuple[list[Candidate], list[NotLookedAt]]:
        """In the order of the choice; what leads to no plan, with its reason."""
        meanings = [self._meanings(each) for each in children]
        said = set().union(*meanings)
        found: dict[_Meaning, list[Candidate]] = defaultdict(list)
        for plan in await store_looks.find(
            connection, la_code, [each for each in said if isinstance(each, str)],
            [each for each in said if isinstance(each, UUID)], [each for each in said if isinstance(each, bytes)],
            request.agency, request.kind,
        ):  # fmt: skip
            for meaning in (plan.case_reference.upper(), plan.plan_id, plan.nhs_lookup):
                found[meaning].append(plan)
        plans: dict[UUID, Candidate] = {}
        refused: list[NotLookedAt] = []
        for position, meant in enumerate(meanings, 1):
            # Of several plans of one child the one in force.
            best = max(
                (plan for each in meant for plan in found.get(each, ())),
                key=lambda each: (each.in_force, each.version_id is not None, each.shared), default=None,
            )  # fmt: skip
            reason = _why_not(best, plans)
            if best is not None and reason is None:
                plans[best.plan_id] = best
            elif reason is not None:
                refused.append(NotLookedAt(position=position, reason=reason))
        return list(plans.values()), refused

    def _meanings(self, given: str) -> set[_Meaning]:
        """What it could be: a case reference, a plan's id, the hash of an NHS number."""
        return {given.strip().upper(), _uuid(given), self._keys.lookup("nhs", _nhs_number(given))} - {None}

    async def sweep(self) -> int:
        """One batch of what is to be asked again; returns how many shares were looked at."""
        async with council_transaction(self._pool, self._councils) as connection:
            over, again = await store_looks.lock_due(connection, BATCH)
            if over:
                await store_looks.settle(connection, over)
            if again:
                await store.insert_outbox(connection, questions(await store_looks.ask_again(connection, again)))
        if again:
            log.info("records_asked_again", shares=len(again))
        return len(over) + len(again)

    async def run(self) -> None:
        """Until cancelled; raises when the database fails, to be started again."""
        while True:
            if await self.sweep() < BATCH:
                await asyncio.sleep(self._every)


def questions(shares: Sequence[AskedShare]) -> list[OutboxRow]:
    """For the topic of each subscriber, in batches. Shares that nobody delivers to are asked of nobody."""
    return [
        OutboxRow(
            instructions.shares_topic(batch[0].subscriber or ""), str(batch[0].look_id), question_headers(batch[0]),
            canonical(question(batch).model_dump(mode="json")),
        )
        for batch in batches([each for each in shares if each.subscriber])
    ]  # fmt: skip


def batches(shares: Sequence[AskedShare]) -> Iterator[list[AskedShare]]:
    """Of one look and subscriber each, as they come in that order."""
    for _, together in groupby(shares, key=lambda each: (each.look_id, each.subscriber)):
        of_one = list(together)
        for start in range(0, len(of_one), MAX_LOOKS):
            yield of_one[start : start + MAX_LOOKS]


def question(batch: Sequence[AskedShare]) -> HoldingsRequested:
    first = batch[0]
    return HoldingsRequested(
        look_id=first.look_id, la_code=first.la_code, asked_at=first.asked_at, until=first.until,
        shares=tuple(LookAt(share_id=each.share_id, plan_id=each.plan_id, recipient=each.recipient) for each in batch),
    )  # fmt: skip


def question_headers(first: AskedShare) -> dict[str, str]:
    return cloudevents.headers(EventType.HOLDINGS_REQUESTED, instructions.source(first.la_code), first.asked_at)


_Why = Literal["unknown", "not_in_force", "no_version", "not_shared_with_agency", "repeated"]


def _why_not(plan: Candidate | None, taken: dict[UUID, Candidate]) -> _Why | None:
    if plan is None:
        return "unknown"
    if plan.plan_id in taken:
        return "repeated"
    if not plan.in_force:
        return "not_in_force"
    if plan.version_id is None:
        return "no_version"
    return None if plan.shared else "not_shared_with_agency"


_AROUND_DIGITS = re.compile(r"^\s*nhs(?:\s*(?:number|no))?|[\W_]", re.IGNORECASE)


def _nhs_number(given: str) -> str | None:
    try:
        return check_nhs_number(_AROUND_DIGITS.sub("", given))
    except ContractError:
        return None


def _uuid(given: str) -> UUID | None:
    try:
        return UUID(given)
    except ValueError:
        return None
