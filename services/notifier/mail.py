"""Alerts by mail (SMTP): one message a council, many alerts in it."""

import re
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Literal

import aiosmtplib
import structlog

from services.notifier.alerts import ChannelAwayError, Digest, subject, text

log = structlog.get_logger()

TIMEOUT_SECONDS = 15.0
Security = Literal["auto", "none", "starttls", "tls"]


class AddressesError(ValueError):
    """EHCP_ALERT_TO is no list of addresses."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """``auto``: STARTTLS where the server offers it; with a user name, always, since a password must not go in clear."""

    host: str
    port: int
    security: Security = "auto"
    username: str | None = None
    password: str | None = None

    @property
    def start_tls(self) -> bool | None:
        if self.security == "auto":
            return True if self.username else None
        return self.security == "starttls"


class MailChannel:
    name = "smtp"

    def __init__(
        self, server: MailServer, sender: str, recipients: dict[str | None, list[str]], dashboard_url: str | None,
        gather_seconds: float,
    ) -> None:  # fmt: skip
        """``recipients`` by la_code; under None those of every council that has none of its own."""
        self.gather_seconds = gather_seconds
        self._server = server
        self._sender = sender
        self._recipients = recipients
        self._dashboard_url = dashboard_url

    async def send(self, digest: Digest) -> None:
        recipients = self._recipients.get(digest.la_code) or self._recipients.get(None)
        if not recipients:
            raise ChannelAwayError("EHCP_ALERT_TO has no address for this council")
        try:
            refused, _ = await aiosmtplib.send(
                self._message(digest, recipients), sender=parseaddr(self._sender)[1], recipients=recipients,
                hostname=self._server.host, port=self._server.port, username=self._server.username,
                password=self._server.password, use_tls=self._server.security == "tls",
                start_tls=self._server.start_tls, timeout=TIMEOUT_SECONDS,
            )  # fmt: skip
        except aiosmtplib.SMTPResponseException as error:
            raise ChannelAwayError(f"the mail server answered {error.code}") from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise ChannelAwayError(f"the mail server cannot be used ({type(error).__name__})") from error
        if refused:
            # The others have it; sending again would reach them twice.
            log.error("alert_recipients_refused", la_code=digest.la_code, recipients=len(refused))

    def _message(self, digest: Digest, recipients: list[str]) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = ", ".join(recipients)
        message["Subject"] = subject(digest)
        message["Date"] = format_datetime(digest.made_at)
        # The same for every attempt, so that a mail sent twice around a crash is recognised as one.
        message["Message-ID"] = f"<{digest.message_id}@{parseaddr(self._sender)[1].rpartition('@')[2] or 'ehcp.invalid'}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text(digest, self._dashboard_url))
        return message


_ENTRY = re.compile(r"(?:(?P<la_code>[0-9]{3})=)?(?P<address>[^@\s=,]+@[^@\s=,]+)")


def read_addresses(setting: str) -> dict[str | None, list[str]]:
    """``a@x, b@x`` for every council, or ``332=a@x, 333=b@y`` for one council each; both may stand together."""
    recipients: dict[str | None, list[str]] = {}
    for entry in filter(None, (part.strip() for part in setting.split(","))):
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise AddressesError(
                "EHCP_ALERT_TO must be addresses separated by commas, each with or without a council (332=name@example)"
            )
        recipients.setdefault(match["la_code"], []).append(match["address"])
    return recipients
