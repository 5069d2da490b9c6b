"""The whole way over SFTP on a real server and real books: sent, then filed on a receipt; recalled, then removed."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from schemas.receipts import Status
from services.shared.delivery.handlers import Parking
from services.shared.record_systems.sftp import SftpServer
from services.shared.record_systems.sftp_receipts import SftpReceipts
from services.shared.record_systems.systems import Systems
from tests.support.servers import RunningPostgres
from tests.support.sftp_server import SftpServerRunning, running_sftp_server
from tests.support.subscriber import RNA, SETTINGS, SubscriberStub, Wanted, books, subscriber_on, wanted
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

LANE = "rna"


@dataclass
class OverSftp:
    subscriber: SubscriberStub
    server: SftpServerRunning
    receipts: SftpReceipts

    @property
    def folder(self) -> Path:
        return self.server.folder / "ods-RNA"

    def delivery(self, wish: Wanted) -> dict[str, Any]:
        [found] = self.folder.glob(f"plan-*-{wish.version_id}-*.json")
        described: dict[str, Any] = json.loads(found.read_bytes())
        return described

    def file(self, wish: Wanted, **changes: Any) -> None:
        """As the recipient's own system does."""
        described = self.delivery(wish)
        receipt = {
            "outcome": "filed", "record": "EDM-1", "share_id": described["share_id"], "manifest": described["manifest"],
            "files": {},
        }  # fmt: skip
        (self.folder / described["receipt"]).write_text(json.dumps(receipt | changes))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_server: RunningPostgres) -> str:
    return await books(postgres_server)


@pytest_asyncio.fixture
async def sftp(postgres_server: RunningPostgres, database: str) -> AsyncIterator[OverSftp]:
    async with running_sftp_server() as server, subscriber_on(postgres_server, database) as subscriber:
        adapter = SftpServer(server.url, [server.host_key], key=server.client_key)
        subscriber.systems = Systems(
            SETTINGS,
            {"fhir": lambda entry: adapter if entry.name == LANE else subscriber.rxk, "inbox": lambda _: subscriber.rxk},
        )
        subscriber.parking = Parking(subscriber.pool, subscriber.systems, subscriber.receipts, lambda: None, subscriber.looks)
        try:
            yield OverSftp(subscriber, server, SftpReceipts(subscriber.pool, adapter, LANE))
        finally:
            await adapter.close()


async def sent(sftp: OverSftp) -> Wanted:
    """A version that lies in the folder; the dispatcher has stopped."""
    wish = wanted(RNA)
    sftp.subscriber.council.wants(wish)
    await sftp.subscriber.park(wish)
    async with sftp.subscriber.dispatching():
        await sftp.subscriber.until_said(wish, Status.SENT)
    return wish


async def test_sent_becomes_filed_on_the_recipient_s_receipt(sftp: OverSftp) -> None:
    wish = await sent(sftp)
    assert await sftp.receipts.once() == 0
    sftp.file(wish)
    assert await sftp.receipts.once() == 1
    async with sftp.subscriber.dispatching():
        receipt = await sftp.subscriber.until_said(wish, Status.FILED)
    assert (receipt.record, receipt.sha256) == ("EDM-1", wish.sha256)
    assert await sftp.subscriber.said(wish) == [(1, Status.SENT), (1, Status.FILED)]
    assert await sftp.receipts.once() == 0


async def test_a_refusal_is_told(sftp: OverSftp) -> None:
    wish = await sent(sftp)
    sftp.file(wish, outcome="refused")
    assert await sftp.receipts.once() == 1
    async with sftp.subscriber.dispatching():
        receipt = await sftp.subscriber.until_said(wish, Status.REFUSED)
    assert receipt.reason == "the recipient's receipt says that it was refused"


async def test_a_receipt_that_proves_nothing_is_read_once_and_again_when_it_changed(sftp: OverSftp) -> None:
    wish = await sent(sftp)
    sftp.file(wish, manifest=None)
    assert await sftp.receipts.once() == 1
    async with sftp.subscriber.dispatching():

        async def asked_again() -> bool:
            return len(await sftp.subscriber.said(wish)) == 2

        await until(asked_again, what="the delivery was asked for again")
    assert await sftp.subscriber.said(wish) == [(1, Status.SENT), (1, Status.SENT)]
    assert await sftp.receipts.once() == 0
    sftp.file(wish)
    assert await sftp.receipts.once() == 1
    async with sftp.subscriber.dispatching():
        await sftp.subscriber.until_said(wish, Status.FILED)


async def test_of_many_only_those_with_a_receipt_are_asked_for_again(sftp: OverSftp) -> None:
    wishes = [await sent(sftp) for _ in range(3)]
    sftp.file(wishes[1])
    (sftp.folder / "receipts" / "somebody-else's.json").write_text("{}")
    assert await sftp.receipts.once() == 1
    due = [(await sftp.subscriber.row(wish))["next_attempt_at"] is not None for wish in wishes]
    assert due == [False, True, False]


async def test_a_server_that_is_away_is_asked_later(sftp: OverSftp) -> None:
    wish = await sent(sftp)
    away = SftpServer(sftp.server.url_at(1), [sftp.server.host_key], key=sftp.server.client_key)
    assert await SftpReceipts(sftp.subscriber.pool, away, LANE).once() == 0
    assert (await sftp.subscriber.row(wish))["state"] == "sent"


async def test_a_recall_is_proved_by_the_recipient_s_statement(sftp: OverSftp) -> None:
    wish = await sent(sftp)
    sftp.file(wish)
    recall = wish.recall()
    sftp.subscriber.council.wants(recall)
    await sftp.subscriber.park(recall)
    async with sftp.subscriber.dispatching():
        await sftp.subscriber.until_said(recall, Status.WAITING)
    assert not list(sftp.folder.glob(f"*{wish.version_id}*"))
    assert await sftp.receipts.once() == 0
    [demand] = [json.loads(path.read_bytes()) for path in sftp.folder.glob("*-recalled-*.json")]
    (sftp.folder / demand["receipt"]).write_text(json.dumps({"outcome": "removed", "record": "EDM-1 deleted"}))
    assert await sftp.receipts.once() == 1
    async with sftp.subscriber.dispatching():
        receipt = await sftp.subscriber.until_said(recall, Status.RECALLED)
    assert receipt.record == "EDM-1 deleted"
