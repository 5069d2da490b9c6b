"""Schools, colleges and early years providers: each plan arrives in the setting's inbox; its own readers sign in here."""

from services.shared.delivery.subscriber import build_subscriber
from services.shared.record_systems.inbox_readers import InboxSettings, inbox_routers
from services.shared.runtime import Service, run

NAME = "school_subscriber"


async def build() -> Service:
    settings = InboxSettings()
    return await build_subscriber(NAME, settings, lambda _: {}, lambda parts: inbox_routers(settings, parts))


def main() -> None:
    run(NAME, build)


if __name__ == "__main__":
    main()
