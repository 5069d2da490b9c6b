"""Children's social care: each plan is posted to the case system as a signed webhook, or put into its SFTP folder."""

from services.shared.delivery.subscriber import Parts, SubscriberSettings, build_subscriber
from services.shared.record_systems.sftp import SftpServer, build_sftp
from services.shared.record_systems.sftp_receipts import SftpReceipts
from services.shared.record_systems.systems import Builder, SystemSettings
from services.shared.record_systems.webhook import WebhookEndpoint, build_webhook
from services.shared.record_systems.webhook_fetch import make_fetch_router
from services.shared.runtime import Service, run

NAME = "social_care_subscriber"


async def build() -> Service:
    endpoints: dict[str, WebhookEndpoint] = {}
    receipts: list[SftpReceipts] = []

    def webhook(settings: SystemSettings) -> WebhookEndpoint:
        return endpoints.setdefault(settings.name, build_webhook(settings))

    def builders(parts: Parts) -> dict[str, Builder]:
        def sftp(settings: SystemSettings) -> SftpServer:
            server = build_sftp(settings)
            receipts.append(SftpReceipts(parts.pool, server, settings.name))
            return server

        return {"webhook": webhook, "sftp": sftp}

    service = await build_subscriber(
        NAME,
        SubscriberSettings(),
        builders,
        lambda parts: [make_fetch_router(parts.pool, parts.council, endpoints)],
    )
    service.work |= {f"receipts:{each.lane}": each.run for each in receipts}
    return service


def main() -> None:
    run(NAME, build)


if __name__ == "__main__":
    main()
