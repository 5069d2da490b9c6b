"""Children's social care: each plan is posted to the case system as a signed webhook, or put into its SFTP folder."""

from services.shared.delivery.subscriber import SubscriberSettings, build_subscriber
from services.shared.record_systems.sftp_receipts import SftpSystems
from services.shared.record_systems.systems import SystemSettings
from services.shared.record_systems.webhook import WebhookEndpoint, build_webhook
from services.shared.record_systems.webhook_fetch import make_fetch_router
from services.shared.runtime import Service, run

NAME = "social_care_subscriber"


async def build() -> Service:
    endpoints: dict[str, WebhookEndpoint] = {}
    sftp = SftpSystems()

    def webhook(settings: SystemSettings) -> WebhookEndpoint:
        return endpoints.setdefault(settings.name, build_webhook(settings))

    service = await build_subscriber(
        NAME,
        SubscriberSettings(),
        lambda parts: {"webhook": webhook, "sftp": sftp.builder(parts.pool)},
        lambda parts: [make_fetch_router(parts.pool, parts.council, endpoints)],
    )
    service.work |= sftp.work()
    return service


def main() -> None:
    run(NAME, build)


if __name__ == "__main__":
    main()
