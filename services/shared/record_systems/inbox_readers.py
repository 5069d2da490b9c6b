"""Who may read an organisation's inbox: its own clients, listed in ``EHCP_INBOX_CLIENTS_FILE``, who sign in here.

A subscriber issues its own tokens: an inbox is the organisation's, and the council has no say in who reads it.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from joserfc.jwk import OKPKey
from pydantic import TypeAdapter

from schemas.base import Closed
from schemas.identifiers import RecipientName
from services.shared.clock import Clock, utc_now
from services.shared.delivery.subscriber import Parts, SubscriberSettings
from services.shared.identity.keys import read_key
from services.shared.identity.tokens import LEEWAY, Caller, CallerKind, Client, Issuer, Verifier
from services.shared.record_systems.inbox_api import make_inbox_router
from services.shared.record_systems.recalls_api import make_recalls_router


class InboxSettings(SubscriberSettings):
    """Of a subscriber whose organisations read their inbox here."""

    token_key_file: Path
    issuer: str
    inbox_clients_file: Path


class Reader(Closed):
    client_id: str
    recipient: RecipientName
    public_key: dict[str, Any]


class Readers:
    """Known assertions are kept in memory as long as they are taken; a restart forgets them, at most ten minutes' worth."""

    def __init__(self, readers: tuple[Reader, ...], clock: Clock = utc_now) -> None:
        self._clients = {
            each.client_id: Client(
                Caller(each.client_id, CallerKind.RECIPIENT, recipient=str(each.recipient)),
                OKPKey.import_key(each.public_key),
            )
            for each in readers
        }
        self._used: dict[tuple[str, str], datetime] = {}
        self._clock = clock

    async def find(self, client_id: str) -> Client | None:
        return self._clients.get(client_id)

    async def first_use(self, client_id: str, jti: str, expires_at: datetime) -> bool:
        now = self._clock()
        self._used = {key: until for key, until in self._used.items() if until > now}
        if (client_id, jti) in self._used:
            return False
        # An assertion is still taken for a while after it has expired, since two clocks may differ.
        self._used[client_id, jti] = expires_at + timedelta(seconds=LEEWAY + 1)
        return True


def inbox_routers(settings: InboxSettings, parts: Parts) -> tuple[APIRouter, ...]:
    """The token endpoint, the inbox, and what people must remove.

    Raises ``OSError`` or ``ValidationError`` when the clients' file is wrong.
    """
    token_key = read_key(settings.token_key_file, "EHCP_TOKEN_KEY_FILE")
    readers = Readers(TypeAdapter(tuple[Reader, ...]).validate_json(settings.inbox_clients_file.read_bytes()))
    issuer = Issuer(settings.issuer, token_key, readers.find, readers.first_use)
    verifier = Verifier(settings.issuer, token_key)
    return (
        issuer.router(),
        make_inbox_router(parts.pool, parts.inbox_keys, parts.receipts, verifier),
        make_recalls_router(parts.pool, parts.receipts, verifier),
    )
