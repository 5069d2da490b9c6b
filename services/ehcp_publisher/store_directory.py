"""SQL of who takes part: councils, clients, subscribers, the directory of recipients and each council's sharing policy.

These rows belong to no one plan, so row-level security does not bind them; plans, shares and everything of a child are in
``store``. Read whole into memory (:class:`services.ehcp_publisher.registry.Directory`), since every decision needs them.
"""

from datetime import datetime
from typing import Any

from services.ehcp_publisher.registry import Registry
from services.shared.postgres.pool import Row


async def load_registry(connection: Any, registry: Registry, wrapped_keys: dict[str, bytes]) -> None:
    """Bring the tables to the registry; councils keep the key they have, clients that are not in it any more are disabled."""
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
    await connection.executemany(
        "INSERT INTO publisher.recipient (recipient_id, kind, name, subscriber, channel) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (recipient_id) DO UPDATE SET name = excluded.name, subscriber = excluded.subscriber,"
        " channel = excluded.channel",
        [(r.recipient_id, r.kind, r.name, r.subscriber, r.channel) for r in registry.recipients],
    )
    await connection.executemany(
        "INSERT INTO publisher.recipient_code (recipient_id, kind, scheme, value, valid_from, valid_until)"
        " VALUES ($1, $2, $3, $4, $5, $6)"
        " ON CONFLICT (kind, scheme, value, valid_from) DO UPDATE SET recipient_id = excluded.recipient_id,"
        " valid_until = excluded.valid_until",
        [(r.recipient_id, r.kind, c.scheme, c.value, c.from_, c.until) for r in registry.recipients for c in r.codes],
    )
    await connection.executemany(
        "INSERT INTO publisher.policy (la_code, approval, rules) VALUES ($1, $2, $3)"
        " ON CONFLICT (la_code) DO UPDATE SET approval = excluded.approval, rules = excluded.rules",
        [(p.la_code, str(p.approval or ""), [rule.model_dump(mode="json") for rule in p.rules]) for p in registry.policies],
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
