"""Write signed receipts in the transaction that makes them true; the relay takes them to the council."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.events import EventType
from schemas.receipts import HostedBy, Receipt, Status
from services.shared.clock import Clock, utc_now
from services.shared.delivery import store
from services.shared.identity.receipts import words
from services.shared.kafka import cloudevents


@dataclass(frozen=True, slots=True)
class Draft:
    """A receipt before it has its number."""

    share_id: UUID
    seq: int
    status: Status
    version_id: UUID | None = None
    sha256: str | None = None
    record: str | None = None
    reason: str | None = None
    next_try_at: datetime | None = None
    attempt: int = 0
    opened_by: str | None = None


class Receipts:
    """One subscriber's receipts. ``sign`` gives the bytes that go to the council."""

    def __init__(self, subscriber: str, hosted_by: HostedBy, sign: Callable[[Receipt], bytes], clock: Clock = utc_now) -> None:
        self._subscriber = subscriber
        self._hosted_by = hosted_by
        self._sign = sign
        self._clock = clock
        self.topic = f"ehcp.receipts.{subscriber}.v1"

    def _headers(self) -> dict[str, str]:
        return cloudevents.headers(
            EventType.RECEIPT, f"/subscribers/{self._subscriber}", self._clock(), content_type="application/jose"
        )

    async def write(self, connection: Any, drafts: Sequence[Draft]) -> None:
        """Number, sign, keep, and put into the outbox. Call last in a transaction: the numbers' row lock is short then."""
        if not drafts:
            return
        removals = await store.read_removals(connection, [draft.share_id for draft in drafts])
        numbers = await store.take_numbers(connection, len(drafts))
        signed = []
        for number, draft in zip(numbers, drafts, strict=True):
            receipt = Receipt(
                number=number, subscriber=self._subscriber, hosted_by=self._hosted_by, share_id=draft.share_id,
                seq=draft.seq, status=draft.status, version_id=draft.version_id, sha256=draft.sha256,
                record=draft.record, reason=draft.reason, next_try_at=draft.next_try_at, attempt=draft.attempt,
                opened_by=draft.opened_by, at=self._clock(), **_removal(draft, removals.get(draft.share_id)),
            )  # fmt: skip
            signed.append(self._signed(receipt))
        await store.save_receipts(connection, self.topic, signed)

    async def say_removed(self, connection: Any, share_ids: Sequence[UUID]) -> None:
        """Once more what is held, now that what had to go is proved to be gone."""
        if not share_ids:
            return
        rows = await store.read_removals(connection, share_ids)
        await self.write(
            connection,
            [
                Draft(
                    share_id, row["seq"], Status(row["state"]), row["held_version_id"], row["held_sha256"], row["held_record"]
                )
                for share_id, row in rows.items()
                if row["action"] == "hold" and row["held"] and row["proved"]
            ],
        )

    async def send_again(self, connection: Any, share_ids: Sequence[UUID]) -> None:
        """The newest receipt of each share once more, byte for byte. One that was signed with a former key proves nothing any
        more: it is said anew, under a number of its own. Call last, as :meth:`write`."""
        if not share_ids:
            return
        own, former = [], []
        for share_id, signed in await store.newest_receipts(connection, share_ids):
            said = words(signed)
            if self._sign(said) == signed:
                own.append((str(share_id), self._headers(), signed))
            else:
                former.append(said)
        await store.into_outbox(connection, self.topic, own)
        if not former:
            return
        numbers = await store.take_numbers(connection, len(former))
        anew = [said.model_copy(update={"number": number}) for number, said in zip(numbers, former, strict=True)]
        await store.save_receipts(connection, self.topic, [self._signed(each) for each in anew])

    def _signed(self, receipt: Receipt) -> store.SignedReceipt:
        return store.SignedReceipt(
            receipt.number, receipt.share_id, receipt.seq, receipt.status, self._sign(receipt), self._headers()
        )


def _removal(draft: Draft, row: Any) -> dict[str, Any]:
    """What a receipt of the newest instruction says of what it names to remove. Whoever writes a receipt, it says so."""
    if row is None or row["seq"] != draft.seq:
        return {}
    things = tuple(UUID(each) for each in row["remove"])
    return {"removed": things, "removal": row["removal"]} if row["proved"] else {"remaining": things}
