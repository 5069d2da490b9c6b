"""The notifier service: notices what did not arrive and tells of it. Wires, holds no rules."""

import asyncio
from datetime import timedelta

from services.notifier import messages
from services.notifier.alerts import AlertChannel, LogChannel
from services.notifier.mail import MailChannel, MailServer, Security, read_addresses
from services.notifier.sweep import Sweep
from services.shared import logging
from services.shared.outbox.relay import Relay
from services.shared.postgres.pool import open_pool
from services.shared.runtime import Service, Work, make_app, run
from services.shared.settings import KafkaSettings, ServiceSettings

NAME = "notifier"
LOOK_EVERY_SECONDS = 1.0


class Settings(ServiceSettings):
    sweep_seconds: float = 5.0
    silent_after_seconds: float = 300.0
    """Without a heartbeat of a subscriber: five of them, which come every minute."""
    smtp_host: str | None = None
    """Without it, alerts go to the log alone."""
    smtp_port: int = 25
    smtp_security: Security = "auto"
    smtp_username: str | None = None
    smtp_password: str | None = None
    alert_from: str = "ehcp@localhost"
    alert_to: str = ""
    """``a@x, b@x`` for every council, or ``332=a@x, 333=b@y`` for one council each."""
    alert_gather_seconds: float = 60.0
    """How long a first alert waits for others to go into the same mail."""
    dashboard_url: str | None = None


def channels(settings: Settings) -> list[AlertChannel]:
    found: list[AlertChannel] = [LogChannel()]
    if settings.smtp_host:
        server = MailServer(
            settings.smtp_host, settings.smtp_port, settings.smtp_security, settings.smtp_username,
            settings.smtp_password,
        )  # fmt: skip
        recipients = read_addresses(settings.alert_to)
        found.append(
            MailChannel(server, settings.alert_from, recipients, settings.dashboard_url, settings.alert_gather_seconds)
        )
    return found


async def build() -> Service:
    settings = Settings()
    logging.configure(NAME, settings.log_format, settings.log_level)
    pool = await open_pool(settings.database_url)
    told = channels(settings)
    sweep = Sweep(pool, [channel.name for channel in told], timedelta(seconds=settings.silent_after_seconds))
    relay = Relay(settings.database_url, "notifier.outbox", KafkaSettings(), NAME)

    async def sweeping() -> None:
        while True:
            if not await sweep.run_once():
                await asyncio.sleep(settings.sweep_seconds)

    def sending(channel: AlertChannel) -> Work:
        async def work() -> None:
            while True:
                if not await messages.send_one(pool, channel):
                    await asyncio.sleep(LOOK_EVERY_SECONDS)

        return work

    # One loop for each channel: one that hangs until its time-out holds up no other.
    work: dict[str, Work] = {"sweep": sweeping, "relay": relay.run}
    work |= {f"channel-{channel.name}": sending(channel) for channel in told}
    return Service(NAME, settings, make_app("EHC Plan Exchange: notifier"), pool, work=work)


def main() -> None:
    run(NAME, build)


if __name__ == "__main__":
    main()
