"""The council's publisher: wires settings, keys, API, relay and resend sweep into one process. No rules here."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from joserfc.jwk import OKPKey

from services.ehcp_publisher import keys, store_directory
from services.ehcp_publisher.api import MAX_BODY, make_router
from services.ehcp_publisher.comparison_api import MAX_BODY as MAX_COMPARISON
from services.ehcp_publisher.comparison_api import ROUTES as COMPARISON_ROUTES
from services.ehcp_publisher.comparison_api import make_comparison_router
from services.ehcp_publisher.deciding import Deciding
from services.ehcp_publisher.directory_api import ROUTES as DIRECTORY_ROUTES
from services.ehcp_publisher.directory_api import make_directory_router
from services.ehcp_publisher.directory_changes import DirectoryChanges
from services.ehcp_publisher.events import Events
from services.ehcp_publisher.export import Export
from services.ehcp_publisher.feed import make_feed_router
from services.ehcp_publisher.file_texts import FileTexts
from services.ehcp_publisher.guarding import Guarding
from services.ehcp_publisher.issuing import Issuing
from services.ehcp_publisher.looking import Looking
from services.ehcp_publisher.looks_api import ROUTES as LOOKS_ROUTES
from services.ehcp_publisher.looks_api import make_looks_router
from services.ehcp_publisher.nightly import Nightly
from services.ehcp_publisher.openapi import ROUTES
from services.ehcp_publisher.overview import Overview
from services.ehcp_publisher.policy_effects import PolicyEffects
from services.ehcp_publisher.reads import Reads
from services.ehcp_publisher.redeciding import Redeciding
from services.ehcp_publisher.registry import Directory, Registry, read_registry
from services.ehcp_publisher.rendering import Renderer
from services.ehcp_publisher.resend import Resend
from services.ehcp_publisher.sending_again import SendingAgains
from services.ehcp_publisher.sending_again_api import ROUTES as SENDING_AGAIN_ROUTES
from services.ehcp_publisher.sending_again_api import make_sending_again_router
from services.shared import logging
from services.shared.identity.keys import read_key
from services.shared.identity.tokens import Caller, CallerKind, Client, Issuer, Verifier
from services.shared.outbox.relay import Relay
from services.shared.postgres.pool import open_pool
from services.shared.runtime import Service, make_app, run
from services.shared.sealing.sealing import read_master_key
from services.shared.settings import KafkaSettings, ServiceSettings
from services.shared.web.openapi import describe

NAME = "ehcp_publisher"


class Settings(ServiceSettings):
    registry_file: Path
    master_key_file: Path
    token_key_file: Path
    issuer: str
    resend_after_seconds: float = 60


async def build() -> Service:
    settings = Settings()
    kafka = KafkaSettings()
    logging.configure(NAME, settings.log_format, settings.log_level)
    registry = read_registry(settings.registry_file)
    master = read_master_key(settings.master_key_file)
    token_key = read_key(settings.token_key_file, "EHCP_TOKEN_KEY_FILE")
    pool = await open_pool(settings.database_url)
    async with pool.acquire() as connection, connection.transaction():
        new_keys = {c.la_code: keys.wrap_new_council_key(master, c.la_code) for c in registry.councils}
        await store_directory.load_registry(connection, registry, new_keys)
        child_keys = keys.ChildKeys(master, await store_directory.council_keys(connection))
    councils = [council.la_code for council in registry.councils]
    resend_after = timedelta(seconds=settings.resend_after_seconds)

    async def find_client(client_id: str) -> Client | None:
        async with pool.acquire() as connection:
            row = await store_directory.find_client(connection, client_id)
        if row is None:
            return None
        caller = Caller(client_id, CallerKind(row["kind"]), frozenset(row["la_codes"]), row["subscriber"])
        return Client(caller, OKPKey.import_key(row["public_key"]))

    async def first_use(client_id: str, jti: str, expires_at: Any) -> bool:
        async with pool.acquire() as connection:
            return await store_directory.first_use(connection, client_id, jti, expires_at)

    directory = Directory(Registry(councils=registry.councils))
    changes = DirectoryChanges(pool, councils, directory)
    await changes.load_file(registry)
    deciding = Deciding(directory, child_keys, Renderer(), resend_after)
    texts = FileTexts()
    guarding = Guarding(pool, deciding, texts)
    issuing = Issuing(pool, deciding, guarding)
    reads = Reads(pool, child_keys, councils)
    larger = {"/v1/plans": MAX_BODY, "/v1/batch": MAX_BODY, "/v1/comparisons": MAX_COMPARISON}
    app = make_app("EHC Plan Exchange: publisher", larger=larger)
    app.include_router(Issuer(settings.issuer, token_key, find_client, first_use).router())
    verifier = Verifier(settings.issuer, token_key)
    overview = Overview(pool, deciding)
    exporting = Export(pool, deciding, overview)
    router = make_router(issuing, Events(pool, deciding, guarding), overview, exporting, reads, verifier, pool)
    app.include_router(describe(router, ROUTES))
    app.include_router(describe(make_feed_router(pool, councils, verifier), ROUTES))
    directory_router = make_directory_router(changes, PolicyEffects(pool, deciding), directory, verifier, pool)
    app.include_router(describe(directory_router, DIRECTORY_ROUTES))
    looking = Looking(pool, child_keys, councils)
    app.include_router(describe(make_looks_router(looking, verifier), LOOKS_ROUTES))
    app.include_router(describe(make_comparison_router(verifier, pool), COMPARISON_ROUTES))
    sending = SendingAgains(pool, councils)
    app.include_router(describe(make_sending_again_router(sending, verifier), SENDING_AGAIN_ROUTES))
    relay = Relay(settings.database_url, "publisher.outbox", kafka, NAME)
    resend = Resend(pool, councils, resend_after)
    work: dict[str, Callable[[], Awaitable[None]]] = {
        "relay": relay.run, "resend": resend.run, "sending_again": sending.run, "directory": changes.keep_up,
        "redeciding": Redeciding(pool, deciding, councils).run, "nightly": Nightly(pool, deciding, councils).run,
        "looks": looking.run,
        "names": guarding.keep_naming,
    }  # fmt: skip
    return Service(NAME, settings, app, pool, work=work, close=[texts.close])


def main() -> None:
    run(NAME, build)


if __name__ == "__main__":
    main()
