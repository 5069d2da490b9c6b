"""Social care and the services beside it: each plan is posted to the case system as a signed webhook, put into its SFTP folder,
or arrives in an inbox, where the service's own readers sign in."""

from pathlib import Path

from services.shared.delivery.subscriber import SubscriberSettings, build_subscriber
from services.shared.record_systems.inbox_readers import InboxSettings, inbox_routers
from services.shared.record_systems.sftp_receipts import SftpSystems
from services.shared.record_systems.systems import SystemSettings
from services.shared.record_systems.webhook import WebhookEndpoint, build_webhook
from services.shared.record_systems.webhook_fetch import make_fetch_router
from services.shared.runtime import Service, run

NAME = "social_care_subscriber"


class Settings(SubscriberSettings):
    inbox_clients_file: Path | None = None
    """Where it is given, inboxes are read here, and what :class:`InboxSettings` needs beside it is needed."""


async def build() -> Service:
    settings = Settings()
    inbox = InboxSettings() if settings.inbox_clients_file else None
    endpoints: dict[str, WebhookEndpoint] = {}
    sftp = SftpSystems()

    def webhook(entry: SystemSettings) -> WebhookEndpoint:
        return endpoints.setdefault(entry.name, build_webhook(entry))

    service = await build_subscriber(
        NAME,
        settings,
        lambda parts: {"webhook": webhook, "sftp": sftp.builder(parts.pool)},
        lambda parts: (
            make_fetch_router(parts.pool, parts.council, endpoints),
            *(inbox_routers(inbox, parts) if inbox else ()),
        ),
    )
    service.work |= sftp.work()
    return service


def main() -> None:
    run(NAME, build)


if __name__ == "__main__":
    main()
