"""Children's social care: each plan is posted to the case system as a signed webhook."""

from services.shared.delivery.subscriber import SubscriberSettings, build_subscriber
from services.shared.record_systems.webhook import build_webhook
from services.shared.runtime import Service, run

NAME = "social_care_subscriber"


async def build() -> Service:
    return await build_subscriber(NAME, SubscriberSettings(), lambda _: {"webhook": build_webhook})


def main() -> None:
    run(NAME, build)


if __name__ == "__main__":
    main()
