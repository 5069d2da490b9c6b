"""The audit service: takes in receipts and answers who holds which version. Wires, holds no rules."""

import asyncio
from pathlib import Path

import structlog

from services.audit import api, store
from services.audit.handlers import receipts_handler
from services.audit.looks_api import make_looks_router
from services.audit.openapi import ROUTES
from services.audit.store_stopped import write_stopped
from services.shared import logging
from services.shared.dead_letters.api import make_dead_letters_router
from services.shared.identity.keys import read_key
from services.shared.identity.signed_documents import read_signer
from services.shared.identity.tokens import Verifier
from services.shared.ids import new_id
from services.shared.kafka.consume import consume, make_broker, stopped_topics
from services.shared.postgres.pool import open_pool
from services.shared.runtime import Service, make_app, run
from services.shared.settings import KafkaSettings, ServiceSettings
from services.shared.web.openapi import describe

log = structlog.get_logger()

NAME = "audit"
GROUP = "ehcp.audit"
LOOK_EVERY_SECONDS = 5.0


class Settings(ServiceSettings):
    token_public_key_file: Path
    issuer: str
    """The publisher's public base URL, as it stands in the tokens."""
    document_key_file: Path | None = None
    """The council's private key for documents that leave the exchange; without it none is made."""


class SubscribersChangedError(Exception):
    """The directory names other subscribers than those listened to; a fresh start listens to all."""


async def build() -> Service:
    settings = Settings()
    logging.configure(NAME, settings.log_format, settings.log_level)
    key = read_key(settings.token_public_key_file, "EHCP_TOKEN_PUBLIC_KEY_FILE")
    signer = read_signer(settings.document_key_file, "EHCP_DOCUMENT_KEY_FILE") if settings.document_key_file else None
    pool = await open_pool(settings.database_url)
    topics = await _topics(pool)
    while not topics:  # the publisher fills the directory at its own first start
        log.info("waiting_for_directory")
        await asyncio.sleep(0.5)
        topics = await _topics(pool)
    broker = make_broker(KafkaSettings(), NAME)
    progress = consume(broker, topics, GROUP, receipts_handler(pool))
    app = make_app("EHC Plan Exchange: audit")
    app.include_router(describe(api.router(pool, Verifier(settings.issuer, key), signer), ROUTES))

    app.include_router(make_looks_router(pool, Verifier(settings.issuer, key), signer))
    stopped, resume = stopped_topics([progress])
    app.include_router(
        make_dead_letters_router(
            pool, "audit.dead_letter", receipts_handler(pool), api.operator(Verifier(settings.issuer, key)), stopped, resume
        )
    )

    async def watch_directory() -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            if await _topics(pool) != topics:
                raise SubscribersChangedError("starting again to listen to all subscribers of the directory")

    process = new_id()

    async def tell_stopped() -> None:
        """Known in this process alone; the notifier raises an alert from what it says here."""
        while True:
            known = (await store.read_directory(pool)).subscribers
            await write_stopped(pool, process, {topic: known[topic].name for topic in stopped() if topic in known})
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    return Service(NAME, settings, app, pool, broker, [progress], {"directory": watch_directory, "stopped": tell_stopped})


async def _topics(pool: store.Pool) -> list[str]:
    return sorted((await store.read_directory(pool)).subscribers)


def main() -> None:
    run(NAME, build)


if __name__ == "__main__":
    main()
