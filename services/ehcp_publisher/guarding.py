"""Has everything that is to leave compared with every child of the exchange: files read, one look-up for a whole batch.

Invariant: done before the transaction that stores what was looked at, so that no file is waited for in one. What is judged, and
how: ``guard``. Next: ``issuing`` and ``events`` store what is held, ``consequences`` says what a second person may do with it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from schemas.guard import Finding
from schemas.plan import Child, PlanVersion
from schemas.policy import Unread
from services.ehcp_publisher import guard, identities, store_guard
from services.ehcp_publisher.deciding import Deciding
from services.ehcp_publisher.documents import Received
from services.ehcp_publisher.file_texts import FileTexts
from services.ehcp_publisher.guard import Asked, Known, Piece
from services.ehcp_publisher.identities import Identity
from services.ehcp_publisher.store import NewPlan
from services.shared.postgres.pool import council_transaction
from services.shared.sealing.sealing import SealError

log = structlog.get_logger()
UNNAMED_AT_ONCE = 500
LONG = 200_000
"""Characters: ten times the usual. Longer sections are read beside the event loop."""


@dataclass(frozen=True, slots=True)
class Looked:
    """A version or a notice, taken apart and read, and whose it is said to be."""

    la_code: str
    own: Identity
    pieces: Sequence[Piece]


class Guarding:
    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", deciding: Deciding, texts: FileTexts) -> None:
        self._pool = pool
        self._deciding = deciding
        self._texts = texts
        self._naming = asyncio.Lock()

    async def read(
        self, la_code: str, child: Child, on: date, version: PlanVersion | None, document: Received | None,
        attachments: Sequence[Received],
    ) -> Looked:  # fmt: skip
        own = identities.identity(child)
        files = [document, *attachments] if document else [*attachments]
        texts = await self._texts.read(files, on, sorted(own.given | own.family)) if files else []
        sections = guard.sections_of(version) if version else {}
        if sum(map(len, sections.values())) > LONG:
            found = await asyncio.to_thread(guard.pieces_of_sections, sections, on)
        else:
            found = guard.pieces_of_sections(sections, on)
        return Looked(la_code, own, found + guard.pieces_of_files(files, texts, document=document is not None))

    async def judge(self, looked: Sequence[Looked], new: Sequence[NewPlan] = ()) -> list[tuple[Finding, ...]]:
        """One look-up for all of them; the findings of each. ``new``: children who come in with them."""
        keys, asked = self._deciding.keys, Asked()
        for each in looked:
            guard.ask(each.pieces, each.own, keys, asked)
        known = _coming(new)
        if asked.nhs_numbers or asked.upns or asked.names:
            known = guard.both(known, await self._find_known(asked))
        return [guard.judge(each.pieces, each.own, known, keys, self._may_leave(each.la_code)) for each in looked]

    async def _find_known(self, asked: Asked) -> Known:
        """Every council's children, for a question that is answered by yes or no."""
        while True:
            async with council_transaction(self._pool, self._deciding.directory.councils) as connection:
                # A child without names yet would be found by nobody: after an upgrade the first answers wait for them.
                if not asked.names or not await store_guard.has_unnamed(connection):
                    return await store_guard.find_known(connection, asked)
            await self.name_some()

    def _may_leave(self, la_code: str) -> frozenset[Unread]:
        policy = self._deciding.directory.policies.get(la_code)
        files = policy and policy.unread_files
        return frozenset(files.may_leave) if files and files.holds(self._deciding.today()) else frozenset()

    async def keep_naming(self) -> None:
        """Work out the names of children that came before there was a guard, or from a publisher that has none yet."""
        while True:
            while await self.name_some():
                await asyncio.sleep(0.01)
            await asyncio.sleep(60)

    async def name_some(self) -> int:
        """Returns of how many children. Worked out beside the event loop and under no lock; who changed meanwhile is left for
        the next time."""
        async with self._naming:  # whoever waits here takes others
            async with council_transaction(self._pool, self._deciding.directory.councils) as connection:
                rows = await store_guard.read_unnamed(connection, UNNAMED_AT_ONCE)
            if not rows:
                return 0
            children = await asyncio.to_thread(lambda: [_named(self._deciding, row) for row in rows])
            async with council_transaction(self._pool, self._deciding.directory.councils) as connection:
                same = await store_guard.lock_unchanged(connection, rows)
                children = [each for each in children if each.child_id in same]
                await store_guard.insert_names(connection, children)
                await store_guard.mark_named(connection, same)
        log.info("children_named", children=len(children))
        return len(rows)


def _coming(new: Sequence[NewPlan]) -> Known:
    names: dict[int, dict[int, UUID]] = {}
    for each in new:
        for name_key, born_key in each.names:
            names.setdefault(name_key, {})[born_key] = each.child_id
    nhs = frozenset(each.nhs_lookup for each in new if each.nhs_lookup)
    return Known(nhs, frozenset(each.upn_lookup for each in new if each.upn_lookup), names)


def _named(deciding: Deciding, row: Any) -> store_guard.NamedChild:
    try:
        key = deciding.keys.child_key(row["la_code"], row["child_id"], row["wrapped_key"])
        child = Child.model_validate_json(key.open(row["identity"], f"child:{row['child_id']}"))
    except (SealError, ValueError):
        # Found by its identifiers alone from now on: one child that cannot be read must not hold up all others.
        log.error("child_not_named", child_id=str(row["child_id"]), reason="its details cannot be opened")
        return store_guard.NamedChild(row["child_id"], row["la_code"], [])
    names = guard.names_of(identities.identity(child), deciding.keys)
    return store_guard.NamedChild(row["child_id"], row["la_code"], names)
