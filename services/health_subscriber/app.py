"""Health: each plan is filed in the trust's clinical record; a commissioning body's copy goes to its inbox."""

from services.health_subscriber.fhir import build_fhir
from services.shared.delivery.subscriber import build_subscriber
from services.shared.record_systems.inbox_readers import InboxSettings, inbox_routers
from services.shared.runtime import Service, run

NAME = "health_subscriber"


async def build() -> Service:
    settings = InboxSettings()
    return await build_subscriber(NAME, settings, lambda _: {"fhir": build_fhir}, lambda parts: inbox_routers(settings, parts))


def main() -> None:
    run(NAME, build)


if __name__ == "__main__":
    main()
