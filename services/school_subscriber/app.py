"""Schools, colleges and early years providers: each plan arrives in the setting's inbox, where its own readers sign in, or in
its SFTP folder."""

from services.shared.delivery.subscriber import build_subscriber
from services.shared.record_systems.inbox_readers import InboxSettings, inbox_routers
from services.shared.record_systems.sftp_receipts import SftpSystems
from services.shared.runtime import Service, run

NAME = "school_subscriber"


async def build() -> Service:
    settings = InboxSettings()
    sftp = SftpSystems()
    service = await build_subscriber(
        NAME, settings, lambda parts: {"sftp": sftp.builder(parts.pool)}, lambda parts: inbox_routers(settings, parts)
    )
    service.work |= sftp.work()
    return service


def main() -> None:
    run(NAME, build)


if __name__ == "__main__":
    main()
