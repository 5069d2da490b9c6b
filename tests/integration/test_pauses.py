"""A recipient that its operator pauses: nothing is delivered, everybody sees who said so and why, removals go on."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from schemas.base import RecipientKind
from schemas.events import RecipientCode
from schemas.identifiers import CodeScheme
from schemas.receipts import Status
from services.cli.main import app
from services.shared.delivery import store_pauses
from services.shared.delivery.heartbeats import Heartbeats
from services.shared.delivery.recipients_api import make_recipients_router
from services.shared.identity.operator_token import OperatorToken
from services.shared.record_systems.port import Retry
from services.shared.runtime import make_app
from tests.support.serving import serving
from tests.support.subscriber import RXK, SubscriberStub, wanted
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]


@pytest_asyncio.fixture
async def address(subscriber: SubscriberStub, token_file: Path) -> AsyncIterator[str]:
    service = make_app("test")
    service.include_router(make_recipients_router(subscriber.pool, subscriber.systems, lambda: None, OperatorToken(token_file)))
    async with serving(service) as url:
        yield url


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("a-token-of-thirty-two-characters-or-more\n")
    return file


@pytest.fixture
def ehcp(address: str, token_file: Path) -> Callable[..., Awaitable[Result]]:
    async def ask(*words: str) -> Result:
        arguments = ["recipient", *words, "--url", address, "--token-file", str(token_file)]
        with capture_logs():  # the service's, which runs in this process
            return await asyncio.to_thread(CliRunner().invoke, app, arguments, env={"EHCP_HOME": "/nowhere", "COLUMNS": "240"})

    return ask


async def pause(subscriber: SubscriberStub, recipient: str = "ods:RNA") -> None:
    async with subscriber.pool.acquire() as connection, connection.transaction():
        await store_pauses.pause(connection, recipient, "their server moves", "Ann", subscriber.systems.lanes())


async def resume(subscriber: SubscriberStub, recipient: str = "ods:RNA") -> int | None:
    async with subscriber.pool.acquire() as connection, connection.transaction():
        return await store_pauses.resume(connection, recipient)


async def test_nothing_is_delivered_until_it_is_resumed_and_the_council_is_told_why(subscriber: SubscriberStub) -> None:
    wish, other = wanted(), wanted(RXK)
    subscriber.council.wants(wish, other)
    await pause(subscriber)
    await subscriber.park(wish, other)
    async with subscriber.dispatching() as dispatcher:
        told = await subscriber.until_said(wish, Status.WAITING)
        await subscriber.until_said(other, Status.FILED)
        newer = wish.next()
        subscriber.council.wants(newer)
        await subscriber.park(newer)
        dispatcher.wake()
        await subscriber.until_said(newer, Status.WAITING)
        assert subscriber.rna.batches == []
        assert await resume(subscriber) == 1
        dispatcher.wake()
        await subscriber.until_said(newer, Status.FILED)
    assert told.reason is not None
    assert told.reason.startswith("paused by Ann since ")
    assert told.reason.endswith(" UTC: their server moves")
    assert (told.next_try_at, told.attempt) == (None, 0)
    assert subscriber.rna.delivered == [(wish.share_id, 2)]
    assert (await subscriber.row(wish))["paused"] is False


async def test_its_heartbeat_tells_the_council_who_is_paused(subscriber: SubscriberStub) -> None:
    heartbeats = Heartbeats(subscriber.pool, "health", lambda _: b"", lambda: ())
    assert (await heartbeats.beat()).paused == ()
    await pause(subscriber)
    [told] = (await heartbeats.beat()).paused
    assert (told.recipient, told.paused_by, told.reason) == ("ods:RNA", "Ann", "their server moves")


async def test_what_waits_for_its_next_try_shows_the_pause_at_once(subscriber: SubscriberStub) -> None:
    wish = wanted()
    subscriber.council.wants(wish)
    subscriber.rna.decide = lambda _: Retry("the record answered 500")
    await subscriber.park(wish)
    async with subscriber.dispatching() as dispatcher:
        await subscriber.until_said(wish, Status.FAILED)
        subscriber.rna.decide = None
        await pause(subscriber)
        dispatcher.wake()
        await subscriber.until_said(wish, Status.WAITING)
        assert len(subscriber.rna.batches) == 1
        await resume(subscriber)
        dispatcher.wake()
        await subscriber.until_said(wish, Status.FILED)


async def test_what_is_put_off_uses_up_none_of_what_the_record_system_takes(
    subscriber: SubscriberStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber.systems, "per_minute", lambda lane: 1 if lane == "rna" else None)
    monkeypatch.setattr(subscriber.systems, "at_once", lambda _: {"rna": 5})
    wishes = [wanted() for _ in range(20)]
    subscriber.council.wants(*wishes)
    await pause(subscriber)
    await subscriber.park(*wishes)
    async with subscriber.dispatching() as dispatcher:
        for wish in wishes:
            await subscriber.until_said(wish, Status.WAITING, within=60)
        assert await resume(subscriber) == 20
        dispatcher.wake()

        async def delivered() -> bool:
            return bool(subscriber.rna.delivered)

        await until(delivered, within=60)
    assert len(subscriber.rna.delivered) == 5, "no storm: what it takes at once, then the rate"


async def test_what_must_be_removed_is_removed_all_the_same(subscriber: SubscriberStub) -> None:
    wrong, renewed = wanted(), wanted()
    subscriber.council.wants(wrong, renewed)
    await subscriber.park(wrong, renewed)
    async with subscriber.dispatching() as dispatcher:
        for wish in (wrong, renewed):
            await subscriber.until_said(wish, Status.FILED)
        await pause(subscriber)
        recall, instead = wrong.recall(), renewed.next(remove=(renewed.version_id,))
        subscriber.council.wants(recall, instead)
        await subscriber.park(recall, instead)
        dispatcher.wake()
        await subscriber.until_said(recall, Status.RECALLED)
        # The wrong version is gone; the right one waits.
        await subscriber.until_said(instead, Status.WAITING)
        assert {each.share_id for each in subscriber.rna.recalls} == {wrong.share_id, renewed.share_id}
        assert (instead.share_id, instead.seq) not in subscriber.rna.delivered
        await resume(subscriber)
        dispatcher.wake()
        await subscriber.until_said(instead, Status.FILED)
    assert len(subscriber.rna.recalls) == 2


async def test_one_that_is_put_off_while_somebody_resumes_is_not_left_lying(
    subscriber: SubscriberStub,
) -> None:
    wish = wanted()
    subscriber.council.wants(wish)
    await pause(subscriber)
    await subscriber.park(wish)

    async def waits() -> bool:
        found: int = await subscriber.owner.fetchval(
            "SELECT count(*) FROM pg_locks WHERE NOT granted"
            " AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
        )
        return found > 0

    async with AsyncExitStack() as stack:
        async with subscriber.owner.acquire() as connection, connection.transaction():
            # It sees no delivery that is put off: there is none yet. The dispatcher still reads that the recipient is paused.
            assert await store_pauses.resume(connection, "ods:RNA") == 0
            await stack.enter_async_context(subscriber.dispatching())
            await until(waits, within=60, what="the dispatcher waits for the pause's row")
        await subscriber.until_said(wish, Status.FILED)
    assert [status for _, status in await subscriber.said(wish)] == [Status.FILED]


async def test_a_pause_says_nothing_of_whether_the_record_answers(subscriber: SubscriberStub) -> None:
    """Else a record system that is away would be hurried by every delivery that is put off."""
    wish, later = wanted(), wanted()
    subscriber.council.wants(wish, later)
    subscriber.rna.decide = lambda _: Retry("the record is not reachable", away=True)
    await subscriber.park(wish)
    async with subscriber.dispatching() as dispatcher:
        await subscriber.until_said(wish, Status.FAILED)
        breaker = dispatcher._breakers["rna"]
        await pause(subscriber)

        async def rested() -> bool:
            return not breaker.rests(asyncio.get_running_loop().time())

        await until(rested, within=60, what="the record system has been left alone long enough")
        await subscriber.park(later)
        dispatcher.wake()
        await subscriber.until_said(later, Status.WAITING)
        assert breaker.away == 1


async def test_the_operator_pauses_sees_and_resumes(subscriber: SubscriberStub, ehcp: Callable[..., Awaitable[Result]]) -> None:
    wish = wanted()
    subscriber.council.wants(wish)
    await subscriber.park(wish)
    done = await ehcp("pause", "ods:RNA", "--reason", "their server moves", "--by", "Ann")
    assert done.exit_code == 0, done.output
    assert re.fullmatch(r"ods:RNA is paused by Ann since \S+ \S+ UTC: their server moves\n", done.stdout)
    # The first word stands: a second person's does not hide who it was.
    second = json.loads((await ehcp("pause", "ods:RNA", "--reason", "again", "--by", "Bob", "--json")).stdout)
    assert (second["paused_by"], second["reason"], second["was_paused"]) == ("Ann", "their server moves", True)
    told = await ehcp("pause", "ods:RNA", "--reason", "again", "--by", "Bob")
    assert re.fullmatch(r"ods:RNA was already paused by Ann since \S+ \S+ UTC: their server moves\n", told.stdout)
    assert "the first pause stands" in told.stderr
    [row] = json.loads((await ehcp("list", "--json")).stdout)["recipients"]
    assert (row["recipient"], row["record_system"], row["waiting"], row["pause"]["paused_by"]) == ("ods:RNA", "rna", 1, "Ann")
    assert "paused by Ann since" in (await ehcp("list")).stdout
    async with subscriber.dispatching():
        await subscriber.until_said(wish, Status.WAITING)
    assert (await ehcp("resume", "ods:RNA")).stdout == "ods:RNA is delivered to again: 1 go on now\n"
    assert (await ehcp("resume", "ods:RNA")).stdout == "ods:RNA was not paused\n"


async def test_who_shares_a_code_is_paused_by_its_own_name(
    subscriber: SubscriberStub, ehcp: Callable[..., Awaitable[Result]]
) -> None:
    trust, camhs = wanted(), wanted(RecipientCode(kind=RecipientKind.CAMHS, scheme=CodeScheme.ODS, value="RNA"))
    subscriber.council.wants(trust)
    await subscriber.park(camhs)
    done = await ehcp("pause", "camhs/ods:RNA", "--reason", "their server moves", "--by", "Ann")
    assert (done.exit_code, done.stdout[:26]) == (0, "camhs/ods:RNA is paused by")
    await subscriber.park(trust)
    async with subscriber.dispatching():
        await subscriber.until_said(trust, Status.FILED)
    rows = json.loads((await ehcp("list", "--json")).stdout)["recipients"]
    assert {row["recipient"]: row["pause"] is not None for row in rows} == {"camhs/ods:RNA": True, "ods:RNA": False}
    assert (await ehcp("resume", "camhs/ods:RNA")).stdout == "camhs/ods:RNA is delivered to again: 0 go on now\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ods:RZZ", "--reason", "x", "--by", "Ann"], "does not deliver to such a recipient"),
        (["recipient:parent-1", "--reason", "x", "--by", "Ann"], "People deliver to it"),
        (["ods:RNA", "--reason", " ", "--by", "Ann"], "one line of text"),
        (["ods:RNA", "--reason", "x\0", "--by", "Ann"], "one line of text"),
        (["RNA", "--reason", "x", "--by", "Ann"], "code"),
    ],
)
async def test_what_cannot_be_paused_is_said(ehcp: Callable[..., Awaitable[Result]], words: list[str], says: str) -> None:
    done = await ehcp("pause", *words)
    assert done.exit_code == 1
    assert says in done.output


async def test_nobody_but_the_operator_sees_or_pauses(address: str) -> None:
    async with httpx2.AsyncClient(base_url=address, headers={"Authorization": "Bearer another"}) as http:
        words = {"reason": "x", "by": "Mallory"}
        assert (await http.get("/v1/recipients")).status_code == 401
        assert (await http.put("/v1/recipients/ods:RNA/pause", json=words)).status_code == 401
        assert (await http.delete("/v1/recipients/ods:RNA/pause")).status_code == 401
