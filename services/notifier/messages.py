"""Hand what channels are to tell to them, again and again until they take it.

Invariant: a message is claimed, sent and marked in three steps, with no transaction open while a channel is at work; a crash
between sending and marking sends it once more, under the same id. While a channel is away, what is to be told gathers.
"""

import structlog
from prometheus_client import Counter

from services.notifier import store
from services.notifier.alerts import AlertChannel, ChannelAwayError, digest_of
from services.shared.postgres.pool import council_transaction

log = structlog.get_logger()

AT_ONCE = 10_000
"""Told in one message. Most of them as a number; what a first comparison finds is to be a few mails, not a hundred."""
LEASE_SECONDS = 120.0
"""Well above what a channel may take."""
LONGEST_BACK_OFF_SECONDS = 300.0

SENT = Counter("ehcp_notifier_messages_sent", "Messages that a channel took", ["channel"])
FAILED = Counter("ehcp_notifier_messages_failed", "Attempts at which a channel did not take a message", ["channel"])


def back_off(attempts: int) -> float:
    """Seconds until the next attempt, after ``attempts`` that failed: 2, 4, 8 … up to five minutes, never given up."""
    return min(2.0 ** min(attempts, 16), LONGEST_BACK_OFF_SECONDS)


async def send_one(pool: store.Pool, channel: AlertChannel) -> bool:
    """The next message of this channel that is due, if there is one. False when there is none."""
    councils = await store.read_councils(pool)
    async with council_transaction(pool, councils) as connection:
        await store.gather(connection, channel.name, channel.gather_seconds, AT_ONCE)
        message = await store.claim_message(connection, channel.name, LEASE_SECONDS)
        if message is None:
            return False
        notices = await store.read_notices(connection, message.message_id)
    digest = digest_of(message.message_id, message.la_code, councils[message.la_code], message.made_at, notices)
    try:
        await channel.send(digest)
    except ChannelAwayError as error:
        again_in = back_off(message.attempts)
        log.warning("alert_channel_away", channel=channel.name, reason=str(error), seconds=again_in)
        FAILED.labels(channel.name).inc()
        async with council_transaction(pool, councils) as connection:
            await store.mark_failed(connection, message.message_id, str(error), again_in)
        return True
    SENT.labels(channel.name).inc()
    async with council_transaction(pool, councils) as connection:
        await store.mark_sent(connection, message.message_id)
    return True
