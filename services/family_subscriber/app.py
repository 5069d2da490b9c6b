"""Parents and young people, hosted by the council: every share waits until an officer records how and when it was sent."""

from pathlib import Path

from schemas.receipts import HostedBy
from services.shared.delivery.subscriber import SubscriberSettings, build_subscriber
from services.shared.identity.keys import read_key
from services.shared.identity.tokens import Verifier
from services.shared.record_systems.manual import make_manual_router
from services.shared.runtime import Service, run

NAME = "family_subscriber"


class Settings(SubscriberSettings):
    hosted_by: HostedBy = HostedBy.COUNCIL
    token_public_key_file: Path
    issuer: str


async def build() -> Service:
    settings = Settings()
    verifier = Verifier(settings.issuer, read_key(settings.token_public_key_file, "EHCP_TOKEN_PUBLIC_KEY_FILE"))
    return await build_subscriber(
        NAME, settings, lambda _: {}, lambda parts: (make_manual_router(parts.pool, parts.receipts, verifier),)
    )


def main() -> None:
    run(NAME, build)


if __name__ == "__main__":
    main()
