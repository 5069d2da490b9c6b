"""Evidence that comes later than the delivery: a person opened it, an officer sent it. It becomes a receipt of that ``seq``."""

from typing import Any
from uuid import UUID

from schemas.receipts import Status
from services.shared.delivery import states, store
from services.shared.delivery.receipts import Draft, Receipts


class EvidenceRefusedError(Exception):
    """One sentence: why this evidence does not fit what is there."""


async def record(
    connection: Any, receipts: Receipts, share_id: UUID, seq: int, status: Status, *, proof: str | None = None
) -> bool:
    """Within the caller's transaction. False when the same was recorded before; raises :class:`EvidenceRefusedError`."""
    row = await store.lock_for_evidence(connection, share_id)
    if row is None:
        raise EvidenceRefusedError("There is no such delivery here.")
    if row["seq"] != seq:
        raise EvidenceRefusedError(
            f"A newer instruction (seq {row['seq']}) has come for this share: look at it and use the version it names."
        )
    if row["state"] == status:
        return False
    if not states.accepts(Status(row["state"]), status):
        raise EvidenceRefusedError(f"A delivery that is {row['state']} cannot become {status}.")
    instruction = row["instruction"]
    proof = proof or row["held_record"]
    await store.save_evidence(connection, share_id, status, proof, held=status is not Status.REFUSED)
    draft = Draft(share_id, seq, status, UUID(instruction["version_id"]), row["held_sha256"] or instruction["sha256"], proof)
    await receipts.write(connection, [draft])
    return True
