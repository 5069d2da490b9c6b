"""The inbox: for organisations without a record system of their own. Delivered is *sent*; opened by a named reader satisfies.

Lives in the subscriber's database. What people read is sealed under a key per recipient. An item holds the newest version
only; a newer one takes its place and must be opened anew. A notice is an item of its own. A recalled item loses its content;
that it was there, and who had opened it, stays. Where somebody had, the recall waits for people to say that no print is left.
"""

import base64
import functools
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from services.shared.record_systems.port import (
    Awaiting,
    Content,
    Held,
    Outcome,
    Recall,
    RecallOutcome,
    Recipient,
    Removed,
    Sent,
    Withdrawal,
    Withdrawn,
    WithdrawOutcome,
)
from services.shared.sealing.sealing import Key, new_key, pack


class InboxKeys:
    """A key per recipient, made when first needed, wrapped by the subscriber's master key."""

    def __init__(self, master: Key) -> None:
        self._master = master
        self._keys: dict[str, Key] = {}

    async def of(self, connection: Any, recipients: Sequence[str]) -> dict[str, Key]:
        missing = sorted(set(recipients) - self._keys.keys())
        if missing:
            await connection.executemany(
                "INSERT INTO delivery.inbox_key (recipient, wrapped_key) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                [(each, self._master.wrap(new_key(), f"inbox:{each}")) for each in missing],
            )
            for row in await connection.fetch("SELECT * FROM delivery.inbox_key WHERE recipient = ANY($1)", missing):
                self._keys[row["recipient"]] = self._master.unwrap(row["wrapped_key"], f"inbox:{row['recipient']}")
        return {each: self._keys[each] for each in recipients}


class Inbox:
    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", keys: InboxKeys) -> None:
        self._pool = pool
        self._keys = keys

    async def deliver(self, batch: Sequence[Content]) -> list[Outcome]:
        if not batch:
            return []
        async with self._pool.acquire() as connection:
            keys = await self._keys.of(connection, [str(each.recipient) for each in batch])
            # A plan goes to several inboxes mostly in one batch, and what their readers see is the same.
            packed = functools.cache(pack)
            rows = [
                (
                    each.share_id, each.seq, str(each.recipient), each.plan_id, each.version_id, each.sha256,
                    keys[str(each.recipient)].seal_packed(packed(_shown(each)), f"inbox:{each.share_id}:{each.seq}"),
                    each.notice.kind if each.notice else None,
                )
                for each in batch
            ]  # fmt: skip
            # The same seq again (after a crash) keeps the item, and that it was opened; an older one changes nothing.
            await connection.execute(
                """
                INSERT INTO delivery.inbox AS i (share_id, seq, recipient, plan_id, version_id, sha256, content, notice)
                SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::uuid[], $5::uuid[], $6::text[], $7::bytea[],
                                     $8::text[])
                ON CONFLICT (share_id) DO UPDATE SET seq = excluded.seq, version_id = excluded.version_id,
                    sha256 = excluded.sha256, content = excluded.content, arrived_at = now(), opened_at = NULL,
                    opened_by = NULL, acknowledged_at = NULL, acknowledged_by = NULL, withdrawn_at = NULL, removed_at = NULL,
                    recipient = excluded.recipient, sealed_for = NULL
                WHERE i.seq < excluded.seq
                """,
                *map(list, zip(*rows, strict=True)),
            )
        return [Sent(f"inbox/{each.share_id}") for each in batch]

    async def withdraw(self, batch: Sequence[Withdrawal]) -> list[WithdrawOutcome]:
        async with self._pool.acquire() as connection:
            await connection.execute(
                "UPDATE delivery.inbox SET withdrawn_at = coalesce(withdrawn_at, now()) WHERE share_id = ANY($1)",
                [each.share_id for each in batch],
            )
        return [Withdrawn(f"inbox/{each.share_id}") for each in batch]

    async def recall(self, batch: Sequence[Recall]) -> list[RecallOutcome]:
        async with self._pool.acquire() as connection, connection.transaction():
            return [await self._remove(connection, each) for each in batch]

    async def _remove(self, connection: Any, recall: Recall) -> RecallOutcome:
        """What of it lay in this recipient's inbox loses its content. Who had opened it is told by account, never by name: they
        may have printed or kept it, so that only people can say that nothing is left."""
        # The seq rises to just below the recall's: what was on its way before comes too late, what the same instruction
        # wants held instead does not.
        await connection.execute(
            "UPDATE delivery.inbox SET content = NULL, removed_at = now(), seq = greatest(seq, $4)"
            " WHERE recipient = $1 AND plan_id = $2 AND version_id = ANY($3) AND content IS NOT NULL",
            str(recall.recipient), recall.plan_id, list(recall.versions), recall.seq - 1,
        )  # fmt: skip
        shares = await connection.fetch(
            "SELECT share_id FROM delivery.inbox WHERE recipient = $1 AND plan_id = $2 AND version_id = ANY($3)",
            str(recall.recipient), recall.plan_id, list(recall.versions),
        )  # fmt: skip
        readers = await connection.fetch(
            "SELECT reader, min(opened_at) AS at FROM delivery.inbox_opening WHERE version_id = ANY($1)"
            " AND share_id IN (SELECT share_id FROM delivery.inbox WHERE recipient = $2 AND plan_id = $3)"
            " GROUP BY reader ORDER BY 2, 1",
            list(recall.versions), str(recall.recipient), recall.plan_id,
        )  # fmt: skip
        there = "removed from the inbox" if shares else "not in the inbox"
        opened = ", ".join(f"{row['reader']} at {row['at'].isoformat(timespec='seconds')}" for row in readers)
        if opened:
            return Awaiting(f"{there}, but had been opened by {opened}, and may have been printed or kept")
        return Removed(f"{there}; was never opened")

    async def holds(self, recipient: Recipient, plans: Sequence[UUID]) -> dict[UUID, Held]:
        rows = await self._pool.fetch(
            "SELECT DISTINCT ON (plan_id) plan_id, version_id, sha256, share_id, withdrawn_at FROM delivery.inbox"
            " WHERE recipient = $1 AND plan_id = ANY($2) AND content IS NOT NULL AND notice IS NULL"
            " ORDER BY plan_id, withdrawn_at NULLS FIRST, arrived_at DESC",
            str(recipient), list(plans),
        )  # fmt: skip
        return {
            row["plan_id"]: Held(
                row["version_id"], row["sha256"], f"inbox/{row['share_id']}", withdrawn=row["withdrawn_at"] is not None
            )
            for row in rows
        }

    async def holds_notices(self, recipient: Recipient, notices: Sequence[UUID]) -> dict[UUID, Held]:
        rows = await self._pool.fetch(
            "SELECT version_id, sha256, share_id, withdrawn_at FROM delivery.inbox"
            " WHERE recipient = $1 AND version_id = ANY($2) AND content IS NOT NULL AND notice IS NOT NULL",
            str(recipient), list(notices),
        )  # fmt: skip
        return {
            row["version_id"]: Held(
                row["version_id"], row["sha256"], f"inbox/{row['share_id']}", withdrawn=row["withdrawn_at"] is not None
            )
            for row in rows
        }

    async def close(self) -> None:
        """Nothing of its own to close: the pool is the service's."""


def _shown(each: Content) -> bytes:
    """What a reader sees, as JSON; files as base64."""
    files = [each.document, *each.attachments] if each.document else list(each.attachments)
    return orjson.dumps(
        {
            "case_reference": each.case_reference, "council": each.council.name, "version": each.version,
            "issued_on": each.issued_on, "child": each.child.model_dump(mode="json"),
            "sections": each.sections.json,
            "notice": each.notice.model_dump(mode="json", exclude_none=True) if each.notice else None,
            "changed_sections": each.changed_sections, "has_document": each.document is not None,
            "files": [
                {"name": f.name, "media_type": f.media_type, "data": base64.b64encode(f.data).decode()} for f in files
            ],
        }
    )  # fmt: skip
