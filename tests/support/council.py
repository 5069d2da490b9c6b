"""A council database with plans and shares written straight into its tables, for tests of what reads them.

Migrations are applied as in production, by the owner in their order; services under test log in with their own roles, so
grants and row-level security hold. Rows are written by the owner, whom row-level security does not bind.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from joserfc.jwk import OKPKey

from schemas.events import EventType
from schemas.receipts import HostedBy, Receipt, Status
from services.shared.identity.receipts import signer
from services.shared.ids import new_id
from services.shared.kafka.cloudevents import headers
from services.shared.postgres.migrate import migrate
from services.shared.postgres.pool import open_pool
from tests.support.servers import RunningPostgres

COUNCILS = {"332": "Dudley Metropolitan Borough Council", "333": "Sandwell Metropolitan Borough Council"}
SUBSCRIBERS = ("family", "health", "school", "social-care")
SHA256 = "ab" * 32


@dataclass(frozen=True, slots=True)
class WrittenShare:
    """What a test needs to know of a share to send receipts for it."""

    share_id: UUID
    plan_id: UUID
    la_code: str
    version_id: UUID
    subscriber: str | None
    seq: int = 1
    sha256: str = SHA256

    @property
    def topic(self) -> str:
        return f"ehcp.receipts.{self.subscriber}.v1"


@dataclass(slots=True)
class CouncilDatabase:
    """``dsn(role)`` logs in as a service; ``owner`` is a pool of the owner's; ``keys`` sign a subscriber's receipts."""

    server: RunningPostgres
    owner_dsn: str
    owner: "asyncpg.Pool[asyncpg.Record]"
    keys: dict[str, OKPKey] = field(default_factory=dict)

    def dsn(self, role: str) -> str:
        return self.server.dsn_as(role, self.owner_dsn)

    async def write_directory(self) -> None:
        for la_code, name in COUNCILS.items():
            await self.owner.execute(
                "INSERT INTO publisher.council (la_code, name, ods_code, wrapped_key) VALUES ($1, $2, '10000', '')",
                la_code, name,
            )  # fmt: skip
        for subscriber in SUBSCRIBERS:
            await self.write_subscriber(subscriber)

    async def write_subscriber(self, subscriber: str, hosted_by: HostedBy = HostedBy.AGENCY) -> None:
        self.keys[subscriber] = OKPKey.generate_key("Ed25519")
        await self.owner.execute(
            "INSERT INTO publisher.subscriber (subscriber, name, hosted_by, receipt_key) VALUES ($1, $1, $2, $3)",
            subscriber, hosted_by, self.keys[subscriber].as_dict(private=False),
        )  # fmt: skip

    async def write_share(
        self, *, la_code: str = "332", subscriber: str | None = "health", channel: str = "fhir", kind: str = "trust",
        plan_id: UUID | None = None, due_in: timedelta = timedelta(days=1), name: str = "Dudley Group",
    ) -> WrittenShare:  # fmt: skip
        """A first version wanted for one recipient, a minute ago; of a plan of its own unless ``plan_id`` is given."""
        share_id, version_id, recipient_id, rendering_id = new_id(), new_id(), uuid4(), uuid4()
        async with self.owner.acquire() as connection, connection.transaction():
            if plan_id is None:
                plan_id = new_id()
                child_id = await connection.fetchval(
                    "INSERT INTO publisher.child (child_id, la_code, wrapped_key, identity) VALUES ($1, $2, '', '')"
                    " RETURNING child_id",
                    uuid4(), la_code,
                )  # fmt: skip
                await connection.execute(
                    "INSERT INTO publisher.plan (plan_id, la_code, case_reference, child_id) VALUES ($1, $2, $3, $4)",
                    plan_id, la_code, f"EHCP-{plan_id}", child_id,
                )  # fmt: skip
            await connection.execute(
                "INSERT INTO publisher.recipient (recipient_id, kind, name, subscriber, channel) VALUES ($1, $2, $3, $4, $5)",
                recipient_id, kind, name, subscriber, channel,
            )  # fmt: skip
            number = await _write_version(connection, plan_id, la_code, version_id, rendering_id, SHA256)
            assert number >= 1
            await connection.execute(
                "INSERT INTO publisher.share (share_id, la_code, plan_id, recipient_id, subscriber, seq, action, version_id,"
                " rendering_id) VALUES ($1, $2, $3, $4, $5, 1, 'hold', $6, $7)",
                share_id, la_code, plan_id, recipient_id, subscriber, version_id, rendering_id,
            )  # fmt: skip
            await _write_instruction(connection, share_id, 1, la_code, version_id, due_in)
            await connection.execute(
                "INSERT INTO publisher.unsatisfied (share_id, la_code, seq, due_at, check_at)"
                " VALUES ($1, $2, 1, now() + $3, now())",
                share_id, la_code, due_in,
            )  # fmt: skip
        return WrittenShare(share_id, plan_id, la_code, version_id, subscriber)

    async def want_again(self, share: WrittenShare, *, action: str = "hold") -> WrittenShare:
        """The next ``seq``: another version, or a withdrawal."""
        seq, version_id, rendering_id, sha256 = share.seq + 1, share.version_id, None, share.sha256
        async with self.owner.acquire() as connection, connection.transaction():
            if action == "hold":
                version_id, rendering_id, sha256 = new_id(), uuid4(), uuid4().hex * 2
                await _write_version(connection, share.plan_id, share.la_code, version_id, rendering_id, sha256)
            await connection.execute(
                "UPDATE publisher.share SET seq = $2, action = $3, version_id = $4,"
                " rendering_id = coalesce($5, rendering_id) WHERE share_id = $1",
                share.share_id, seq, action, version_id, rendering_id,
            )  # fmt: skip
            await _write_instruction(connection, share.share_id, seq, share.la_code, version_id, timedelta(days=1))
            await connection.execute(
                "INSERT INTO publisher.unsatisfied (share_id, la_code, seq, due_at, check_at)"
                " VALUES ($1, $2, $3, now() + interval '1 day', now())"
                " ON CONFLICT (share_id) DO UPDATE SET seq = excluded.seq",
                share.share_id, share.la_code, seq,
            )  # fmt: skip
        return replace(share, seq=seq, version_id=version_id, sha256=sha256)

    async def forget_unsatisfied(self, share: WrittenShare) -> None:
        """As the publisher does once it has seen that a share is satisfied."""
        await self.owner.execute("DELETE FROM publisher.unsatisfied WHERE share_id = $1", share.share_id)

    async def make_overdue(self, share: WrittenShare, by: timedelta = timedelta(seconds=1)) -> None:
        await self.owner.execute(
            "UPDATE publisher.unsatisfied SET due_at = now() - $2::interval WHERE share_id = $1", share.share_id, by
        )
        await self.owner.execute(
            "UPDATE publisher.instruction SET due_at = now() - $2::interval WHERE share_id = $1", share.share_id, by
        )

    def sign(self, receipt: Receipt, subscriber: str | None = None) -> bytes:
        """Signed by its own subscriber, or by another one (a forgery)."""
        return signer(self.keys[subscriber or receipt.subscriber])(receipt)


async def _write_version(
    connection: Any, plan_id: UUID, la_code: str, version_id: UUID, rendering_id: UUID, sha256: str
) -> int:
    number: int = await connection.fetchval(
        "INSERT INTO publisher.version (version_id, plan_id, la_code, number, issued_on, text_hash, section_hashes, body,"
        " issued_by) SELECT $1, $2, $3, 1 + count(*), current_date - 20, '', '{}', '', 'test' FROM publisher.version"
        " WHERE plan_id = $2 RETURNING number",
        version_id, plan_id, la_code,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO publisher.rendering (rendering_id, version_id, la_code, sections, sha256, manifest, size)"
        " VALUES ($1, $2, $3, '', $4, '{}', 0)",
        rendering_id, version_id, la_code, sha256,
    )  # fmt: skip
    return number


async def _write_instruction(
    connection: Any, share_id: UUID, seq: int, la_code: str, version_id: UUID, due_in: timedelta
) -> None:
    await connection.execute(
        "INSERT INTO publisher.instruction (share_id, seq, la_code, type, data, version_id, requested_at, due_at)"
        " VALUES ($1, $2, $3, 'test', '', $4, now() - interval '1 minute', now() + $5)",
        share_id, seq, la_code, version_id, due_in,
    )  # fmt: skip


@asynccontextmanager
async def council_database(server: RunningPostgres) -> AsyncIterator[CouncilDatabase]:
    """A database of its own with the directory written and no plans."""
    owner_dsn = await server.create_database("council", ("ehcp_publisher", "audit", "notifier"))
    for service in ("audit", "ehcp_publisher", "notifier"):
        await migrate(owner_dsn, service)
    owner = await open_pool(owner_dsn, max_size=2)
    try:
        council = CouncilDatabase(server, owner_dsn, owner)
        await council.write_directory()
        yield council
    finally:
        await owner.close()


_numbers = iter(range(1, 2**31))


def receipt_for(share: WrittenShare, status: Status = Status.FILED, **changes: Any) -> Receipt:
    """A receipt of the share's own subscriber for its newest instruction, with a number greater than those before."""
    values: dict[str, Any] = {
        "number": next(_numbers), "subscriber": share.subscriber, "hosted_by": HostedBy.AGENCY,
        "share_id": share.share_id, "seq": share.seq, "status": status, "at": datetime.now(UTC),
    }  # fmt: skip
    if status in (Status.SENT, Status.COLLECTED, Status.FILED, Status.OPENED):
        values |= {"version_id": share.version_id, "sha256": share.sha256, "record": "DocumentReference/1"}
    if status in (Status.REFUSED, Status.FAILED):
        values["reason"] = "the record system answered 500"
    return Receipt(**(values | changes))


def event_headers(type_: str = EventType.RECEIPT) -> list[tuple[str, bytes]]:
    """Kafka headers of one event of a subscriber."""
    written = headers(type_, "/subscribers/test", datetime.now(UTC), content_type="application/jose")
    return [(name, value.encode()) for name, value in written.items()]
