"""Children's social care: each plan is posted to the case system as a signed webhook, or put into its SFTP folder."""

from services.shared.delivery.subscriber import SubscriberSettings, build_subscriber
from services.shared.record_systems.sftp import build_sftp
from services.shared.record_systems.systems import SystemSettings
from services.shared.record_systems.webhook import WebhookEndpoint, build_webhook
from services.shared.record_systems.webhook_fetch import make_fetch_router
from services.shared.runtime import Service, run

NAME = "social_care_subscriber"


async def build() -> Service:
    endpoints: dict[str, WebhookEndpoint] = {}

    def webhook(settings: SystemSettings) -> WebhookEndpoint:
        return endpoints.setdefault(settings.name, build_webhook(settings))

    return await build_subscriber(
        NAME,
        SubscriberSettings(),
        lambda _: {"webhook": webhook, "sftp": build_sftp},
        lambda parts: [make_fetch_router(parts.pool, parts.council, endpoints)],
    )


def main() -> None:
    run(NAME, build)


if __name__ == "__main__":
    main()
