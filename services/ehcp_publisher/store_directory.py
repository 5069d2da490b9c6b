"""SQL of who takes part: councils, clients, subscribers, the directory of recipients and each council's sharing policy.

These rows belong to no one plan, so row-level security does not bind them; plans, shares and everything of a child are in
``store``. All of the directory is kept in memory too (:class:`services.ehcp_publisher.registry.Directory`).

Invariant: whoever decides shares calls :func:`refresh` first in its transaction, which holds the directory shared to the end of
it; whoever changes the directory holds it alone. So no decision by an older directory commits after a change has queued the
plans that it touches.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.base import Channel, RecipientKind
from schemas.directory import DirectoryRecipient
from schemas.identifiers import CodeScheme
from schemas.policy import SharingPolicy
from services.ehcp_publisher.registry import Directory, Listed, ListedCode, Registry
from services.shared.postgres.pool import Row

# --- councils, clients and subscribers ---


async def load_registry(connection: Any, registry: Registry, wrapped_keys: dict[str, bytes]) -> None:
    """Bring councils, clients and subscribers to the registry; councils keep the key they have, clients that are not in it any
    more are disabled. Its recipients and policies: ``directory_changes``."""
    await connection.executemany(
        "INSERT INTO publisher.council (la_code, name, ods_code, wrapped_key) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (la_code) DO UPDATE SET name = excluded.name, ods_code = excluded.ods_code",
        [(c.la_code, c.name, c.ods_code, wrapped_keys[c.la_code]) for c in registry.councils],
    )
    await connection.executemany(
        "INSERT INTO publisher.client (client_id, kind, la_codes, subscriber, public_key) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (client_id) DO UPDATE SET kind = excluded.kind, la_codes = excluded.la_codes,"
        " subscriber = excluded.subscriber, public_key = excluded.public_key, disabled_at = NULL",
        [(c.client_id, c.kind, list(c.la_codes), c.subscriber, c.public_key) for c in registry.clients],
    )
    await connection.execute(
        "UPDATE publisher.client SET disabled_at = now() WHERE disabled_at IS NULL AND client_id <> ALL($1)",
        [c.client_id for c in registry.clients],
    )
    await connection.executemany(
        "INSERT INTO publisher.subscriber (subscriber, name, hosted_by, receipt_key) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (subscriber) DO UPDATE SET name = excluded.name, hosted_by = excluded.hosted_by,"
        " receipt_key = excluded.receipt_key",
        [(s.subscriber, s.name, s.hosted_by, s.receipt_key) for s in registry.subscribers],
    )


async def council_keys(connection: Any) -> dict[str, bytes]:
    return {row["la_code"]: row["wrapped_key"] for row in await connection.fetch("SELECT * FROM publisher.council")}


async def find_client(connection: Any, client_id: str) -> Row | None:
    row = await connection.fetchrow(
        "SELECT kind, la_codes, subscriber, public_key FROM publisher.client WHERE client_id = $1 AND disabled_at IS NULL",
        client_id,
    )
    return dict(row) if row else None


async def first_use(connection: Any, client_id: str, jti: str, expires_at: datetime) -> bool:
    """Remember an assertion until it has expired; False when it was used before."""
    await connection.execute("DELETE FROM publisher.assertion WHERE expires_at < now() - interval '5 minutes'")
    return bool(
        await connection.fetchval(
            "INSERT INTO publisher.assertion (client_id, jti, expires_at) VALUES ($1, $2, $3)"
            " ON CONFLICT DO NOTHING RETURNING true",
            client_id, jti, expires_at,
        )
    )  # fmt: skip


async def subscribers(connection: Any) -> frozenset[str]:
    return frozenset(row["subscriber"] for row in await connection.fetch("SELECT subscriber FROM publisher.subscriber"))


# --- the directory ---

_LISTED = """
    SELECT r.recipient_id, r.kind, r.name, r.subscriber, r.channel, r.areas, r.successors, r.hash,
           array_agg(c.scheme ORDER BY c.position) AS schemes, array_agg(c.value ORDER BY c.position) AS values,
           array_agg(c.valid_from ORDER BY c.position) AS froms, array_agg(c.valid_until ORDER BY c.position) AS untils
    FROM publisher.recipient r JOIN publisher.recipient_code c USING (recipient_id)
"""


async def refresh(connection: Any, directory: Directory) -> bool:
    """Bring ``directory`` to what is committed, and keep it so to the end of the transaction. True when something was new.

    Call it before any lock on plans: a change of the directory waits for this transaction, and must not be waited for by it.
    """
    return await _read_new(connection, directory, await connection.fetchval("SELECT publisher.hold_directory()"))


async def hold_alone(connection: Any, directory: Directory) -> int:
    """As :func:`refresh`, and nobody decides until the transaction ends. Returns the number that the change will have."""
    revision: int = await connection.fetchval("SELECT publisher.change_directory()")
    await _read_new(connection, directory, revision)
    return revision + 1


async def _read_new(connection: Any, directory: Directory, revision: int) -> bool:
    if revision == directory.revision:
        return False
    # Through a cursor: a first load is tens of thousands, and others' requests go on in between.
    async for row in connection.cursor(
        _LISTED + " WHERE r.registered AND r.revision > $1 GROUP BY r.recipient_id", directory.revision, prefetch=1000
    ):
        directory.put(_listed(row))
    for row in await connection.fetch(
        "SELECT DISTINCT ON (la_code) la_code, content FROM publisher.sharing_policy WHERE revision > $1"
        " ORDER BY la_code, revision DESC",
        directory.revision,
    ):
        directory.policies[row["la_code"]] = SharingPolicy.model_validate(row["content"])
    for row in await connection.fetch(
        "SELECT la_code, recipient_id FROM publisher.familiar WHERE revision > $1", directory.revision
    ):
        directory.familiar.setdefault(row["la_code"], set()).add(row["recipient_id"])
    directory.revision = revision
    return True


def _listed(row: Mapping[str, Any]) -> Listed:
    codes = zip(row["schemes"], row["values"], row["froms"], row["untils"], strict=True)
    return Listed(
        row["recipient_id"], RecipientKind(row["kind"]), row["name"],
        tuple(ListedCode(CodeScheme(scheme), value, from_, until) for scheme, value, from_, until in codes),
        row["subscriber"], Channel(row["channel"]), tuple(row["areas"]), tuple(row["successors"]), row["hash"],
    )  # fmt: skip


async def write_revision(connection: Any, revision: int) -> None:
    await connection.execute("UPDATE publisher.directory_revision SET revision = $1", revision)


async def write_recipients(
    connection: Any, revision: int, recipients: Mapping[UUID, DirectoryRecipient], hashes: Mapping[UUID, str], *, file: bool
) -> None:
    """New and changed organisations with exactly these codes. A code that stood for an organisation nobody had registered is
    theirs now. ``file``: they come from the registry file."""
    rows = [
        recipient.model_dump(mode="json", include=_COLUMNS)
        | {"recipient_id": str(recipient_id), "successors": [str(code) for code in recipient.successors],
           "hash": hashes[recipient_id], "file_hash": hashes[recipient_id] if file else None}
        for recipient_id, recipient in recipients.items()
    ]  # fmt: skip
    await connection.execute(
        """
        INSERT INTO publisher.recipient AS r
            (recipient_id, kind, name, subscriber, channel, contact, public_key, areas, successors, hash, file_hash, registered,
             revision)
        SELECT t.*, true, $2 FROM jsonb_to_recordset($1) AS t
            (recipient_id uuid, kind text, name text, subscriber text, channel text, contact text, public_key jsonb,
             areas text[], successors text[], hash text, file_hash text)
        ON CONFLICT (recipient_id) DO UPDATE SET name = excluded.name, subscriber = excluded.subscriber,
            channel = excluded.channel, contact = excluded.contact, public_key = excluded.public_key, areas = excluded.areas,
            successors = excluded.successors, hash = excluded.hash, file_hash = coalesce(excluded.file_hash, r.file_hash),
            registered = true, revision = excluded.revision
        """,
        rows, revision,
    )  # fmt: skip
    codes = [
        (recipient_id, recipient.kind, code, position)
        for recipient_id, recipient in recipients.items()
        for position, code in enumerate(recipient.codes)
    ]
    columns = (
        [each[0] for each in codes], [each[1] for each in codes], [each[2].scheme for each in codes],
        [each[2].value for each in codes], [each[2].from_ for each in codes], [each[2].until for each in codes],
        [each[3] for each in codes],
    )  # fmt: skip
    await connection.execute("DELETE FROM publisher.recipient_code WHERE recipient_id = ANY($1)", list(recipients))
    await connection.execute(
        """
        DELETE FROM publisher.recipient_code c
        USING publisher.recipient r, unnest($1::text[], $2::text[], $3::text[]) AS t (kind, scheme, value)
        WHERE r.recipient_id = c.recipient_id AND NOT r.registered AND c.kind = t.kind AND c.scheme = t.scheme
        AND c.value = t.value
        """,
        columns[1], columns[2], columns[3],
    )  # fmt: skip
    await connection.execute(
        """
        INSERT INTO publisher.recipient_code (recipient_id, kind, scheme, value, valid_from, valid_until, position)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::date[], $6::date[], $7::int[])
        """,
        *columns,
    )


_COLUMNS = {"kind", "name", "subscriber", "channel", "contact", "public_key", "areas"}


async def make_familiar(connection: Any, revision: int, la_code: str, recipient_id: UUID, by: str) -> list[str]:
    """A second person has confirmed the organisation for all plans of the council. Returns its codes, as plans name it."""
    await connection.execute(
        "INSERT INTO publisher.familiar (la_code, recipient_id, revision, by) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        la_code, recipient_id, revision, by,
    )  # fmt: skip
    rows = await connection.fetch(
        "SELECT scheme || ':' || value AS code FROM publisher.recipient_code WHERE recipient_id = $1", recipient_id
    )
    return [row["code"] for row in rows]


async def keep_familiar(connection: Any, revision: int, la_code: str | None, recipient_ids: Sequence[UUID] | None) -> None:
    """Whoever has a council's plans already, beyond the law, does not become new to it by a change of its entry, or of the
    policy of ``la_code``."""
    await connection.execute(
        """
        INSERT INTO publisher.familiar (la_code, recipient_id, revision)
        SELECT DISTINCT s.la_code, s.recipient_id, $1::bigint
        FROM publisher.share s JOIN publisher.recipient r USING (recipient_id)
        WHERE r.registered AND s.notice_id IS NULL AND s.action = 'hold'
        AND ($2::text IS NULL OR s.la_code = $2) AND ($3::uuid[] IS NULL OR s.recipient_id = ANY($3))
        AND EXISTS (SELECT FROM publisher.share_ground g WHERE g.share_id = s.share_id AND g.grounds <> 'statutory')
        ON CONFLICT DO NOTHING
        """,
        revision, la_code, recipient_ids,
    )  # fmt: skip


async def delivery_of(connection: Any, recipient_ids: Sequence[UUID]) -> dict[UUID, Row]:
    """What a register does not know of organisations that are listed: how they are reached, and whom they serve."""
    rows = await connection.fetch(
        "SELECT recipient_id, subscriber, channel, contact, public_key, areas FROM publisher.recipient"
        " WHERE registered AND recipient_id = ANY($1)",
        list(recipient_ids),
    )
    return {row["recipient_id"]: {key: value for key, value in row.items() if key != "recipient_id"} for row in rows}


async def file_hashes(connection: Any) -> dict[UUID, str]:
    """Of the recipients that the registry file brought, as it had them last."""
    rows = await connection.fetch("SELECT recipient_id, file_hash FROM publisher.recipient WHERE file_hash IS NOT NULL")
    return {row["recipient_id"]: row["file_hash"] for row in rows}


async def search(
    connection: Any, words: str | None, code: tuple[str, str] | None, after: tuple[str, UUID] | None, limit: int
) -> list[Row]:
    """A page of organisations in order of their names: with ``words`` in the name or as a code of whatever scheme, or with
    exactly this (scheme, value), now or once."""
    pattern = None if words is None else "%" + words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    found = await connection.fetch(
        """
        SELECT r.recipient_id, r.kind, r.name, r.subscriber, r.channel, r.contact, r.public_key, r.areas, r.successors,
               (SELECT jsonb_agg(jsonb_build_object('scheme', c.scheme, 'value', c.value, 'from', c.valid_from,
                                                    'until', c.valid_until) ORDER BY c.position)
                FROM publisher.recipient_code c WHERE c.recipient_id = r.recipient_id) AS codes
        FROM publisher.recipient r
        WHERE r.registered AND ($4::text IS NULL OR (r.name, r.recipient_id) > ($4, $5::uuid))
        AND ($1::text IS NULL OR r.name ILIKE $1 OR EXISTS (
            SELECT FROM publisher.recipient_code c WHERE c.recipient_id = r.recipient_id AND c.value = $7))
        AND ($2::text IS NULL OR EXISTS (
            SELECT FROM publisher.recipient_code c
            WHERE c.recipient_id = r.recipient_id AND c.scheme = $2 AND c.value = $3))
        ORDER BY r.name, r.recipient_id LIMIT $6
        """,
        pattern, *(code or (None, None)), *(after or (None, None)), limit, words and words.upper(),
    )  # fmt: skip
    return [dict(row) for row in found]


# --- policies ---


async def write_policy(
    connection: Any, revision: int, policy: SharingPolicy, sha256: str, actor: str, *, file: bool
) -> None:  # fmt: skip
    await connection.execute(
        "INSERT INTO publisher.sharing_policy (la_code, revision, content, sha256, applied_by, from_file)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        policy.la_code, revision, policy.model_dump(mode="json", by_alias=True, exclude_defaults=True), sha256, actor, file,
    )  # fmt: skip


async def find_policy(connection: Any, la_code: str, *, from_file: bool = False) -> Row | None:
    """The policy that holds, or the one that the registry file brought last."""
    row = await connection.fetchrow(
        "SELECT la_code, revision, content, sha256, applied_by, applied_at FROM publisher.sharing_policy"
        " WHERE la_code = $1 AND (from_file OR NOT $2) ORDER BY revision DESC LIMIT 1",
        la_code, from_file,
    )  # fmt: skip
    return dict(row) if row else None
