"""The inbox: for organisations without a record system of their own. Delivered is *sent*; opened by a named reader satisfies.

Lives in the subscriber's database. What people read is sealed under a key per recipient. An item holds the newest version
only; a newer one takes its place and must be opened anew.
"""

import base64
import functools
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from services.shared.record_systems.port import (
    Content,
    Held,
    Outcome,
    Recipient,
    Sent,
    Withdrawal,
    Withdrawn,
    WithdrawOutcome,
)
from services.shared.sealing.sealing import Key, new_key, pack


def address(recipient: Recipient) -> str:
    """How an inbox is named: ``urn:123456``."""
    return f"{recipient.scheme}:{recipient.value}"


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
        async with self._pool.acquire() as connection:
            keys = await self._keys.of(connection, [address(each.recipient) for each in batch])
            # A plan goes to several inboxes mostly in one batch, and what their readers see is the same.
            packed = functools.cache(pack)
            rows = [
                (
                    each.share_id, each.seq, address(each.recipient), each.plan_id, each.version_id, each.sha256,
                    keys[address(each.recipient)].seal_packed(packed(_shown(each)), f"inbox:{each.share_id}:{each.seq}"),
                )
                for each in batch
            ]  # fmt: skip
            # The same seq again (after a crash) keeps the item, and that it was opened; an older one changes nothing.
            await connection.execute(
                """
                INSERT INTO delivery.inbox AS i (share_id, seq, recipient, plan_id, version_id, sha256, content)
                SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::uuid[], $5::uuid[], $6::text[], $7::bytea[])
                ON CONFLICT (share_id) DO UPDATE SET seq = excluded.seq, version_id = excluded.version_id,
                    sha256 = excluded.sha256, content = excluded.content, arrived_at = now(), opened_at = NULL,
                    opened_by = NULL, withdrawn_at = NULL
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

    async def holds(self, recipient: Recipient, plans: Sequence[UUID]) -> dict[UUID, Held]:
        rows = await self._pool.fetch(
            "SELECT plan_id, version_id, sha256, share_id FROM delivery.inbox WHERE recipient = $1 AND plan_id = ANY($2)",
            address(recipient), list(plans),
        )  # fmt: skip
        return {row["plan_id"]: Held(row["version_id"], row["sha256"], f"inbox/{row['share_id']}") for row in rows}

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
            "changed_sections": each.changed_sections, "has_document": each.document is not None,
            "files": [
                {"name": f.name, "media_type": f.media_type, "data": base64.b64encode(f.data).decode()} for f in files
            ],
        }
    )  # fmt: skip
