"""Audit in this process beside a publisher at hand, on its database: a test hands it receipts and asks it as a council does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

import httpx2
import orjson
from joserfc.jwk import OKPKey

from schemas.receipts import HostedBy, Receipt, Status
from services.audit import api, store
from services.audit.handlers import take_in
from services.shared.identity.receipts import signer
from services.shared.identity.signed_documents import DocumentSigner
from services.shared.identity.tokens import Verifier
from services.shared.kafka.consume import Record
from services.shared.postgres.pool import open_pool
from services.shared.runtime import make_app
from tests.support.council import event_headers
from tests.support.openapi import Documented
from tests.support.publisher import ISSUER, PublisherAtHand

_numbers = count(1)


@dataclass(slots=True)
class AuditAtHand:
    publisher: PublisherAtHand
    pool: store.Pool
    http: httpx2.AsyncClient
    keys: dict[str, OKPKey]
    """Of the subscribers, for their receipts."""
    document_key: OKPKey

    async def said(self, subscriber: str, share_id: UUID, seq: int, status: Status, **more: Any) -> Receipt:
        """A receipt comes in; fails where it is refused."""
        receipt = Receipt(
            number=next(_numbers), subscriber=subscriber, hosted_by=HostedBy.AGENCY, share_id=share_id, seq=seq, status=status,
            at=datetime.now(UTC), **more,
        )  # fmt: skip
        value = signer(self.keys[subscriber])(receipt)
        topic = f"ehcp.receipts.{subscriber}.v1"
        record = Record(topic, 0, receipt.number, str(share_id).encode(), value, tuple(event_headers()))
        taken = await take_in(self.pool, [record])
        assert taken.refused == [], taken.refused[0].reason
        return receipt

    async def get(self, path: str, client: str = "operator") -> httpx2.Response:
        return await self.http.get(path, headers=await self.publisher.headers(client))

    async def recalls(self, query: str = "", client: str = "operator") -> list[dict[str, Any]]:
        answer = await self.get(f"/v1/recalls{query}", client)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["recalls"])

    async def breach_pack(self, recall_id: str, client: str = "operator") -> dict[str, Any]:
        answer = await self.get(f"/v1/recalls/{recall_id}", client)
        assert answer.status_code == 200, answer.text
        return dict(orjson.loads(answer.content))


@asynccontextmanager
async def audit_at_hand(publisher: PublisherAtHand) -> AsyncIterator[AuditAtHand]:
    subscribers = await publisher.owner.fetch("SELECT subscriber FROM publisher.subscriber")
    keys = {row["subscriber"]: OKPKey.generate_key("Ed25519") for row in subscribers}
    for name, key in keys.items():
        await publisher.owner.execute(
            "UPDATE publisher.subscriber SET receipt_key = $2 WHERE subscriber = $1", name, key.as_dict(private=False)
        )
    document_key = OKPKey.generate_key("Ed25519")
    pool = await open_pool(publisher.dsn("audit"), max_size=3)
    app = make_app("Audit")
    app.include_router(api.router(pool, Verifier(ISSUER, publisher.issuer_key), DocumentSigner(document_key)))
    try:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://audit.test") as http:
            http.event_hooks = {"request": [], "response": [Documented(app.openapi()).check]}
            yield AuditAtHand(publisher, pool, http, keys, document_key)
    finally:
        await pool.close()
