"""Schools, colleges and early years providers: each plan arrives in the setting's inbox; its own readers sign in here."""

from pathlib import Path

from joserfc.jwk import OKPKey
from pydantic import TypeAdapter

from services.school_subscriber.readers import Reader, Readers
from services.shared.delivery.subscriber import SubscriberSettings, build_subscriber
from services.shared.identity.keys import read_key
from services.shared.identity.tokens import Issuer, Verifier
from services.shared.record_systems.inbox_api import make_inbox_router
from services.shared.runtime import Service, run

NAME = "school_subscriber"


class Settings(SubscriberSettings):
    token_key_file: Path
    issuer: str
    inbox_clients_file: Path


async def build() -> Service:
    settings = Settings()
    token_key: OKPKey = read_key(settings.token_key_file, "EHCP_TOKEN_KEY_FILE")
    readers = Readers(TypeAdapter(tuple[Reader, ...]).validate_json(settings.inbox_clients_file.read_bytes()))
    issuer = Issuer(settings.issuer, token_key, readers.find, readers.first_use)
    verifier = Verifier(settings.issuer, token_key)
    return await build_subscriber(
        NAME,
        settings,
        lambda _: {},
        lambda parts: (issuer.router(), make_inbox_router(parts.pool, parts.inbox_keys, parts.receipts, verifier)),
    )


def main() -> None:
    run(NAME, build)


if __name__ == "__main__":
    main()
