"""Health: each plan is filed in the trust's clinical record; a commissioning body's copy goes to its inbox."""

from services.health_subscriber.fhir import build_fhir
from services.shared.delivery.subscriber import SubscriberSettings, build_subscriber
from services.shared.runtime import Service, run

NAME = "health_subscriber"


async def build() -> Service:
    return await build_subscriber(NAME, SubscriberSettings(), lambda _: {"fhir": build_fhir})


def main() -> None:
    run(NAME, build)


if __name__ == "__main__":
    main()
