"""SQL of the topics that this audit process does not read, because too much of them was garbage."""

from collections.abc import Mapping
from uuid import UUID

from services.audit.store import Pool


async def write_stopped(pool: Pool, process: UUID, topics: Mapping[str, str]) -> None:
    """``topics``: all that this process has stopped, with the subscriber of each. To be said again within a minute."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "DELETE FROM audit.stopped_topic WHERE process = $1 AND topic <> ALL($2) OR said_at < now() - interval '1 hour'",
            process, list(topics),
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO audit.stopped_topic (topic, process, subscriber, since, said_at)"
            " SELECT t.topic, $1, t.subscriber, now(), now() FROM unnest($2::text[], $3::text[]) AS t (topic, subscriber)"
            " ON CONFLICT (topic, process) DO UPDATE SET said_at = excluded.said_at",
            process, list(topics), list(topics.values()),
        )  # fmt: skip
