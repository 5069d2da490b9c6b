"""The inbox as a record system, in a real database. How its readers see it: ``tests/integration/test_recall.py``."""

import base64
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest
import pytest_asyncio

from schemas.base import RecipientKind
from schemas.identifiers import CodeScheme
from services.shared.record_systems.inbox import Inbox, InboxKeys
from services.shared.record_systems.port import Content, Recipient, Sent
from services.shared.sealing.sealing import new_key
from tests.support.contents import content
from tests.support.record_system_suite import RecordSystemSuite, Says

pytestmark = [pytest.mark.contract, pytest.mark.asyncio]

SCHOOL = Recipient(RecipientKind.SCHOOL, CodeScheme.URN, "993207", "Ashwood")


class TestAsEveryRecordSystem(RecordSystemSuite):
    at_once = once_answered = Says(delivered=Sent)

    @pytest_asyncio.fixture
    async def adapter(self, pool: "asyncpg.Pool[asyncpg.Record]") -> Inbox:
        self.pool = pool
        # Its recipient's key is wrapped by another master key than another test's.
        self.recipient = Recipient(SCHOOL.kind, SCHOOL.scheme, new_key().bytes_.hex()[:12], SCHOOL.name)
        self.keys = InboxKeys(new_key())
        return Inbox(pool, self.keys)

    def version(self, **more: Any) -> Content:
        return content(**{"recipient": self.recipient} | more)

    async def bad(self) -> None:
        """It takes whatever is sent."""

    async def files(self, record: str) -> list[bytes]:
        share_id = UUID(record.removeprefix("inbox/"))
        row = await self.pool.fetchrow("SELECT seq, recipient, content FROM delivery.inbox WHERE share_id = $1", share_id)
        if row is None or row["content"] is None:
            return []
        async with self.pool.acquire() as connection:
            key = (await self.keys.of(connection, [row["recipient"]]))[row["recipient"]]
        opened = orjson.loads(key.open(row["content"], f"inbox:{share_id}:{row['seq']}"))
        return [base64.b64decode(each["data"]) for each in opened["files"]]
