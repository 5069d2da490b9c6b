"""All SQL of the health subscriber's own books: what was sent where no record can be asked (MESH, HL7 v2).

Invariants: a MESH message has its row before it is sent, and its row says what is known of it only ever more; nothing of a
plan's text and nobody's name is here. Written by ``mesh.py`` and ``hl7v2.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Document:
    """A row of ``health.hl7v2_document``."""

    share_id: UUID
    seq: int
    version_id: UUID
    accepted: bool


async def documents(connection: Any, system: str, share_ids: Sequence[UUID]) -> dict[UUID, list[Document]]:
    """What was ever sent to this HL7 v2 receiver for these shares, by ``seq``."""
    rows = await connection.fetch(
        "SELECT share_id, seq, version_id, accepted FROM health.hl7v2_document"
        " WHERE system = $1 AND share_id = ANY($2) ORDER BY seq",
        system, list(share_ids),
    )  # fmt: skip
    sent: dict[UUID, list[Document]] = {}
    for row in rows:
        sent.setdefault(row["share_id"], []).append(Document(**dict(row)))
    return sent


async def save_documents(connection: Any, system: str, sent: Sequence[Document]) -> None:
    """Before they are sent, and again when they are accepted. Accepted stays accepted."""
    await connection.execute(
        "INSERT INTO health.hl7v2_document AS d (system, share_id, seq, version_id, accepted)"
        " SELECT $1, * FROM unnest($2::uuid[], $3::bigint[], $4::uuid[], $5::bool[])"
        " ON CONFLICT (system, share_id, seq) DO UPDATE SET accepted = d.accepted OR excluded.accepted",
        system, *([getattr(each, name) for each in sent] for name in ("share_id", "seq", "version_id", "accepted")),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Message:
    """A row of ``health.mesh_message``."""

    local_id: UUID
    mailbox: str
    share_id: UUID
    seq: int
    about: str
    version_id: UUID | None
    replaces: UUID | None
    sha256: str | None
    proofs: str
    state: str
    message_id: str | None
    record: str | None
    reason: str | None
    known_at: datetime | None
    """When it was sent, or when something became known of it."""


_MESSAGE = (
    "local_id, mailbox, share_id, seq, about, version_id, replaces, sha256, proofs, state, message_id, record, reason, known_at"
)


async def messages(connection: Any, local_ids: Sequence[UUID]) -> dict[UUID, Message]:
    rows = await connection.fetch(f"SELECT {_MESSAGE} FROM health.mesh_message WHERE local_id = ANY($1)", list(local_ids))
    return {row["local_id"]: Message(**dict(row)) for row in rows}


async def begin_messages(connection: Any, system: str, begun: Sequence[Message]) -> None:
    """Before they are sent, or sent again: nothing of an earlier sending counts any more."""
    await connection.execute(
        """
        INSERT INTO health.mesh_message AS m
            (system, local_id, mailbox, share_id, seq, about, version_id, replaces, sha256, proofs, state)
        SELECT $1, *, 'sending' FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::bigint[], $6::text[], $7::uuid[],
                                            $8::uuid[], $9::text[], $10::text[])
        ON CONFLICT (local_id) DO UPDATE SET system = excluded.system, mailbox = excluded.mailbox,
            proofs = excluded.proofs, state = 'sending', message_id = NULL, record = NULL, reason = NULL, look_at = NULL
        """,
        system,
        *([getattr(each, name) for each in begun] for name in _BEGUN.split()),
    )


_BEGUN = "local_id mailbox share_id seq about version_id replaces sha256 proofs"


async def message_sent(connection: Any, local_id: UUID, message_id: str, look_at: datetime) -> None:
    """MESH has taken it. Its receipt may have come already; then that stands."""
    await connection.execute(
        "UPDATE health.mesh_message SET message_id = $2, known_at = now(),"
        " state = CASE WHEN state = 'sending' THEN 'sent' ELSE state END,"
        " look_at = CASE WHEN state = 'sending' THEN $3::timestamptz END WHERE local_id = $1",
        local_id, message_id, look_at,
    )  # fmt: skip


async def message_told(
    connection: Any, local_id: UUID, state: str, *, record: str | None = None, reason: str | None = None
) -> None:
    """What became known of it. Nothing is weaker than ``sent``, and ``collected`` says less than all that follows."""
    await connection.execute(
        "UPDATE health.mesh_message SET state = $2, record = coalesce($3, record), reason = $4,"
        " known_at = now(), look_at = NULL"
        " WHERE local_id = $1 AND (state IN ('sending', 'sent') OR $2 <> 'collected')",
        local_id, state, record, reason,
    )  # fmt: skip


async def look_later(connection: Any, local_id: UUID, look_at: datetime | None) -> None:
    await connection.execute("UPDATE health.mesh_message SET look_at = $2 WHERE local_id = $1", local_id, look_at)


async def due_messages(connection: Any, system: str, limit: int) -> list[Message]:
    """Those to ask MESH about now."""
    rows = await connection.fetch(
        f"SELECT {_MESSAGE} FROM health.mesh_message WHERE system = $1 AND look_at <= now() ORDER BY look_at LIMIT $2",
        system, limit,
    )  # fmt: skip
    return [Message(**dict(row)) for row in rows]


async def try_again(connection: Any, share_id: UUID, seq: int) -> None:
    """What the dispatcher is to ask the record system about once more, if it is still the newest wish.

    Waiting again, since what was said of it so far (that it was sent) counts no more, and must not stand against what comes.
    """
    await connection.execute(
        "UPDATE delivery.delivery SET next_attempt_at = now(), state = 'waiting' WHERE share_id = $1 AND seq = $2",
        share_id, seq,
    )  # fmt: skip
