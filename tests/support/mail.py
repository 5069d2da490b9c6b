"""A real SMTP server on loopback that keeps what it is given; can be stopped and started again on the same port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP

from services.cli.machine.ports import HOST, free_ports


@dataclass(slots=True)
class MailServerForTests:
    port: int
    mails: list[EmailMessage] = field(default_factory=list)
    answer: str = "250 OK"
    """What it says to the mail itself; a 4xx or 5xx is a refusal and keeps nothing."""
    _server: asyncio.Server | None = None

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 — aiosmtpd's name
        if self.answer.startswith("250"):
            mail = message_from_bytes(envelope.original_content or envelope.content, policy=policy.default)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
        return self.answer

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: SMTP(self, loop=loop), HOST, self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None


@asynccontextmanager
async def mail_server() -> AsyncIterator[MailServerForTests]:
    """Not started yet: nobody listens on its port."""
    [port] = free_ports(1)
    server = MailServerForTests(port)
    try:
        yield server
    finally:
        await server.stop()
