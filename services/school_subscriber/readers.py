"""Who may read a setting's inbox: clients of the settings themselves, listed in ``EHCP_INBOX_CLIENTS_FILE``."""

from datetime import datetime
from typing import Any

from joserfc.jwk import OKPKey

from schemas.base import Closed
from schemas.identifiers import OrganisationCode
from services.shared.clock import Clock, utc_now
from services.shared.identity.tokens import Caller, CallerKind, Client


class Reader(Closed):
    client_id: str
    recipient: OrganisationCode
    public_key: dict[str, Any]


class Readers:
    """Known assertions are kept in memory until they expire; a restart forgets at most a minute of them."""

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
        self._used[client_id, jti] = expires_at
        return True
