"""SQL of sending again: which shares are chosen, and how far each sending is."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from schemas.sending_again import SendAgain

_CHOSEN = """
    FROM publisher.share s
    JOIN publisher.instruction i ON i.share_id = s.share_id AND i.seq = s.seq
    JOIN publisher.recipient r USING (recipient_id)
    LEFT JOIN audit.v_newest n ON n.share_id = s.share_id
    WHERE s.la_code = ANY($1) AND s.subscriber IS NOT NULL
    AND ($2::uuid IS NULL OR s.share_id = $2) AND ($3::uuid IS NULL OR s.plan_id = $3)
    AND ($4::text IS NULL OR s.plan_id IN (
        SELECT plan_id FROM publisher.plan p WHERE p.la_code = ANY($1) AND upper(p.case_reference) = upper(btrim($4))))
    AND ($5::text IS NULL OR s.recipient_id IN (
        SELECT recipient_id FROM publisher.recipient_code WHERE scheme = $5 AND value = $6))
    AND ($7::text IS NULL OR s.subscriber = $7) AND ($8::timestamptz IS NULL OR i.requested_at >= $8)
    AND ($9 OR coalesce(n.satisfied_seq, 0) < s.seq)
"""


def _values(la_codes: Collection[str], choice: SendAgain) -> list[Any]:
    code = choice.recipient
    return [
        sorted(la_codes), choice.share_id, choice.plan_id, choice.case_reference, code and code.scheme, code and code.value,
        choice.subscriber, choice.since, choice.satisfied_too,
    ]  # fmt: skip


async def count(connection: Any, la_codes: Collection[str], choice: SendAgain, limit: int) -> list[Any]:
    """(recipient, subscriber, shares) of the ``limit`` with the most; each row has ``total`` and ``recipients`` of all."""
    return list(
        await connection.fetch(
            f"SELECT r.name AS recipient, s.subscriber, count(*) AS shares, (sum(count(*)) OVER ())::bigint AS total,"
            f" count(*) OVER () AS recipients {_CHOSEN}"
            " GROUP BY r.recipient_id, r.name, s.subscriber ORDER BY count(*) DESC, r.name, s.subscriber LIMIT $10",
            *_values(la_codes, choice), limit,
        )
    )  # fmt: skip


async def plans_meant(connection: Any, la_codes: Collection[str], choice: SendAgain) -> list[Any]:
    """(la_code, plan_id) of the plan that the choice names, by itself, by its share or by its case reference."""
    return list(
        await connection.fetch(
            "SELECT la_code, plan_id FROM publisher.plan WHERE la_code = ANY($1) AND (plan_id = $2"
            " OR plan_id = (SELECT plan_id FROM publisher.share WHERE share_id = $3)"
            " OR upper(case_reference) = upper(btrim($4)))",
            sorted(la_codes), choice.plan_id, choice.share_id, choice.case_reference,
        )
    )  # fmt: skip


async def page(connection: Any, la_codes: Collection[str], choice: SendAgain, after: UUID | None, limit: int) -> list[Any]:
    """The next shares with their newest instruction, which stays the newest until this transaction ends."""
    return list(
        await connection.fetch(
            f"SELECT s.share_id, s.seq, s.la_code, s.plan_id, s.subscriber, i.type, i.data {_CHOSEN}"
            " AND ($10::uuid IS NULL OR s.share_id > $10) ORDER BY s.share_id LIMIT $11 FOR SHARE OF s",
            *_values(la_codes, choice), after, limit,
        )
    )  # fmt: skip


async def begin(connection: Any, job_id: UUID, la_codes: Collection[str], asked_by: str, choice: SendAgain, total: int) -> Any:
    return await connection.fetchrow(
        "INSERT INTO publisher.sending_again (job_id, la_codes, asked_by, by, choice, total) VALUES ($1, $2, $3, $4, $5, $6)"
        " RETURNING *",
        job_id, sorted(la_codes), asked_by, choice.by, choice.model_dump(mode="json"), total,
    )  # fmt: skip


async def jobs(connection: Any, job_id: UUID | None = None) -> list[Any]:
    """Of the transaction's councils, the newest first."""
    return list(
        await connection.fetch(
            "SELECT * FROM publisher.sending_again WHERE ($1::uuid IS NULL OR job_id = $1) ORDER BY begun_at DESC LIMIT 100",
            job_id,
        )
    )


async def cancel(connection: Any, job_id: UUID, by: str) -> list[str]:
    """A batch that is under way ends first. One that is done stays done. Returns the councils of the one that ends now."""
    councils: list[str] | None = await connection.fetchval(
        "UPDATE publisher.sending_again SET ended_at = now(), cancelled_by = $2 WHERE job_id = $1 AND ended_at IS NULL"
        " RETURNING la_codes",
        job_id, by,
    )  # fmt: skip
    return councils or []


async def lock_next(connection: Any) -> Any:
    """The oldest that is not done; another process may be at work on others."""
    return await connection.fetchrow(
        "SELECT * FROM publisher.sending_again WHERE ended_at IS NULL ORDER BY begun_at LIMIT 1 FOR UPDATE SKIP LOCKED"
    )


async def save_progress(connection: Any, job_id: UUID, sent: int, after: UUID | None, *, done: bool) -> None:
    await connection.execute(
        "UPDATE publisher.sending_again SET sent = sent + $2, after = coalesce($3, after),"
        " ended_at = CASE WHEN $4 THEN now() END WHERE job_id = $1",
        job_id, sent, after, done,
    )  # fmt: skip


async def tell_again(connection: Any, job_id: UUID, rows: Sequence[Any]) -> None:
    """For the HTTPS feed. Who asks on Kafka has it from there: what nobody took in an hour is taken out."""
    await connection.execute("DELETE FROM publisher.told_again WHERE at < now() - interval '1 hour'")
    await connection.execute(
        "INSERT INTO publisher.told_again (share_id, la_code, subscriber, job_id)"
        " SELECT *, $4 FROM unnest($1::uuid[], $2::text[], $3::text[])"
        " ON CONFLICT (share_id) DO UPDATE SET la_code = excluded.la_code, subscriber = excluded.subscriber,"
        " job_id = excluded.job_id, at = now()",
        [row["share_id"] for row in rows], [row["la_code"] for row in rows], [row["subscriber"] for row in rows], job_id,
    )  # fmt: skip
