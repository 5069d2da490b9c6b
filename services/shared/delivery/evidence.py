"""Evidence that comes later than the delivery: a person opened it, an officer sent it. It becomes a receipt of that ``seq``."""

from typing import Any
from uuid import UUID

from schemas.receipts import Status
from services.shared.delivery import states, store
from services.shared.delivery.receipts import Draft, Receipts
from services.shared.delivery.states import Action


class EvidenceRefusedError(Exception):
    """One sentence: why this evidence does not fit what is there."""


async def record(
    connection: Any,
    receipts: Receipts,
    share_id: UUID,
    seq: int,
    status: Status,
    *,
    proof: str | None = None,
    opened_by: str | None = None,
) -> bool:
    """Within the caller's transaction. False when the same was recorded before; raises :class:`EvidenceRefusedError`."""
    row = await _row(connection, share_id, seq)
    if row["state"] == status:
        return False
    if not states.accepts(Action(row["action"]), Status(row["state"]), status):
        raise EvidenceRefusedError(f"A delivery that is {row['state']} cannot become {status}.")
    instruction = row["instruction"]
    # Until this instruction was delivered, what the books say is held is an earlier version.
    held_record, held_sha256 = (row["held_record"], row["held_sha256"]) if row["held_seq"] == seq else (None, None)
    proof = proof or held_record
    await store.save_evidence(connection, share_id, status, proof, held=status is not Status.REFUSED)
    draft = Draft(
        share_id, seq, status, UUID(instruction["version_id"]), held_sha256 or instruction["sha256"], proof,
        opened_by=opened_by,
    )  # fmt: skip
    await receipts.write(connection, [draft])
    return True


async def record_removal(connection: Any, receipts: Receipts, share_id: UUID, seq: int, proof: str, *, by_hand: bool) -> bool:
    """A person states that what this instruction names to remove is gone; within the caller's transaction.

    ``by_hand``: what is still to be held waits for a person too. False when it was stated before; raises
    :class:`EvidenceRefusedError`.
    """
    row = await _row(connection, share_id, seq)
    if row["removed_seq"] == seq:
        return False
    if not row["instruction"].get("remove"):
        raise EvidenceRefusedError("This instruction names nothing to remove.")
    if row["action"] == Action.RECALL:
        if not states.accepts(Action.RECALL, Status(row["state"]), Status.RECALLED):
            raise EvidenceRefusedError(f"A recall that is {row['state']} needs no statement of removal.")
        await store.save_removal(connection, share_id, Status.RECALLED, proof, due=False)
        version = UUID(row["instruction"]["remove"][0])
        await receipts.write(connection, [Draft(share_id, seq, Status.RECALLED, version, record=proof)])
    elif states.holds_now(Status(row["state"]), row["held_seq"], seq):  # the right version came first
        await store.save_removal(connection, share_id, row["state"], proof, due=False)
        await receipts.say_removed(connection, [share_id])
    else:
        await store.save_removal(connection, share_id, Status.WAITING, proof, due=not by_hand)
        await receipts.write(connection, [Draft(share_id, seq, Status.WAITING)])
    return True


async def _row(connection: Any, share_id: UUID, seq: int) -> Any:
    row = await store.lock_for_evidence(connection, share_id)
    if row is None:
        raise EvidenceRefusedError("There is no such delivery here.")
    if row["seq"] != seq:
        raise EvidenceRefusedError(
            f"A newer instruction (seq {row['seq']}) has come for this share: look at it and use the version it names."
        )
    return row
