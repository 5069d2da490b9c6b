"""The SFTP adapter against a real server, and against everything that a network and a server do wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncssh
import pytest
import pytest_asyncio

from schemas.base import RecipientKind
from schemas.identifiers import CodeScheme, RecipientName
from schemas.manifest import sha256
from schemas.notices import Notice, NoticeKind
from services.cli.machine.ports import HOST
from services.shared.record_systems import sftp_files
from services.shared.record_systems.port import (
    Awaiting,
    Content,
    Filed,
    Held,
    Recall,
    Recipient,
    RecordAwayError,
    Refused,
    Removed,
    Retry,
    Sent,
    Withdrawal,
    Withdrawn,
)
from services.shared.record_systems.sftp import SftpServer, build_sftp
from services.shared.record_systems.systems import RecordSystemsFileError, SystemSettings
from tests.support.contents import content, pdf
from tests.support.line import Line
from tests.support.record_system_suite import Says, ServerSuite
from tests.support.sftp_server import PASSWORD, SftpServerRunning, running_sftp_server

pytestmark = [pytest.mark.contract, pytest.mark.asyncio]

COLLEGE = Recipient(RecipientKind.SCHOOL, CodeScheme.URN, "993202", "Oakfield")
ACADEMY = Recipient(RecipientKind.SCHOOL, CodeScheme.URN, "993207", "Ashwood")
SHARING = Recipient(RecipientKind.KEY_WORKER_SERVICE, CodeScheme.URN, "993202", "Key workers at Oakfield")
OTHER = Recipient(RecipientKind.SCHOOL, CodeScheme.URN, "993206", "Elmwood")
HEX = set("0123456789abcdef")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server() -> AsyncIterator[SftpServerRunning]:
    async with running_sftp_server() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def adapter(server: SftpServerRunning) -> AsyncIterator[SftpServer]:
    async with an_adapter(server) as made:
        yield made


@asynccontextmanager
async def an_adapter(server: SftpServerRunning, **changes: Any) -> AsyncIterator[SftpServer]:
    given: dict[str, Any] = {
        "url": server.url,
        "host_keys": [server.host_key],
        "key": server.client_key,
        "timeout": 5,
    } | changes
    made = SftpServer(given.pop("url"), given.pop("host_keys"), **given)
    try:
        yield made
    finally:
        await made.close()


def a_version(**more: Any) -> Content:
    given: dict[str, Any] = {"recipient": COLLEGE, "document": pdf("plan"), "attachments": [("Advice.pdf", pdf("one"))]}
    return content(**given | more)


async def one(adapter: SftpServer, each: Content) -> object:
    [outcome] = await adapter.deliver([each])
    return outcome


def folder_of(server: SftpServerRunning, recipient: Recipient = COLLEGE) -> Path:
    sharing = "" if recipient.kind is RecipientKind.SCHOOL else f"{recipient.kind.value}-"
    return server.folder / f"{sharing}{recipient.scheme.value}-{recipient.value}"


def lying_there(server: SftpServerRunning, each: Content) -> dict[str, Any]:
    """The JSON of a delivery, as an importer finds it."""
    [found] = folder_of(server, each.recipient).glob(f"*-{each.version_id}-*.json")
    described: dict[str, Any] = json.loads(found.read_bytes())
    return described


def full_disk(server: SftpServerRunning, each: Content) -> Path:
    """Writing this one fails as on a full disk, and nothing else."""
    folder_of(server, each.recipient).mkdir(exist_ok=True)
    aside = folder_of(server, each.recipient) / f"{sftp_files.delivery_name(each)}.pdf.part"
    aside.symlink_to("/dev/full")
    return aside


def write_receipt(server: SftpServerRunning, each: Content, **changes: Any) -> Path:
    """As the recipient's own system does once it has filed what lay there: hashes taken of what it stored."""
    folder, described = folder_of(server, each.recipient), lying_there(server, each)
    files = [described["document"], *described["attachments"]] if described["document"] else described["attachments"]
    receipt = {
        "outcome": "filed", "record": "EDM-4711", "share_id": described["share_id"], "manifest": described["manifest"],
        "files": {file["file"]: sha256((folder / file["file"]).read_bytes()) for file in files},
    } | changes  # fmt: skip
    path: Path = folder / described["receipt"]
    path.write_text(json.dumps(receipt))
    return path


class TestAsEveryRecordSystem(ServerSuite):
    at_once = Says(delivered=Sent, recalled=Awaiting)

    @pytest.fixture(autouse=True)
    def _server(self, server: SftpServerRunning) -> None:
        self.server = server

    def port(self) -> int:
        return self.server.port

    def at(self, port: int, *, timeout: float = 15) -> SftpServer:
        given: dict[str, Any] = {"key": self.server.client_key, "timeout": timeout}
        return SftpServer(self.server.url_at(port), [self.server.host_key], **given)

    def version(self, **more: Any) -> Content:
        return content(**{"recipient": ACADEMY} | more)

    async def bad(self) -> Content:
        full = self.version(document=pdf())
        full_disk(self.server, full)
        return full

    async def files(self, record: str) -> list[bytes]:
        path = self.server.folder / f"{record.removeprefix(FILED)}.json"
        if not path.exists():
            return []
        described = json.loads(path.read_bytes())
        listed = [described["document"], *described["attachments"]]
        return [(path.parent / each["file"]).read_bytes() for each in listed if each]

    async def answers(self, *came: Content | Withdrawal | Recall) -> None:
        for each in came:
            match each:
                case Content():
                    name = f"{folder_of(self.server, each.recipient).name}/{sftp_files.delivery_name(each)}"
                    write_receipt(self.server, each, record=FILED + name)
                case Recall():
                    folder = folder_of(self.server, each.recipient)
                    demand = json.loads((folder / f"{sftp_files.recalled_name(each)}.json").read_bytes())
                    (folder / demand["receipt"]).write_text(json.dumps({"outcome": "removed", "record": "all of it"}))


FILED = "taken over from "


# --- what it is for


async def test_which_server_this_run_is_against(server: SftpServerRunning, record_property: Any) -> None:
    record_property("sftp server", server.kind)
    assert server.kind in ("OpenSSH", "asyncssh")


async def test_who_shares_a_code_has_a_folder_and_receipts_of_its_own(server: SftpServerRunning, adapter: SftpServer) -> None:
    own = a_version()
    other = a_version(recipient=SHARING, plan_id=own.plan_id, version_id=own.version_id, document=pdf("other's"))
    await adapter.deliver([own, other])
    theirs = server.folder / "key_worker_service-urn-993202"
    [described] = theirs.glob(f"*-{own.version_id}-*.json")
    assert json.loads(described.read_bytes())["share_id"] == str(other.share_id)
    write_receipt(server, own)
    assert isinstance(await one(adapter, own), Filed)
    assert await one(adapter, other) == Sent(f"{theirs.name}/{described.stem}")
    assert await adapter.holds(SHARING, [own.plan_id]) == {}


async def test_what_was_put_into_the_other_s_folder_before_is_found_by_its_share(
    server: SftpServerRunning, adapter: SftpServer
) -> None:
    """Version 0.1 knew a recipient by its code alone, so both lay in one folder."""
    own = a_version()
    other = a_version(recipient=SHARING, plan_id=own.plan_id, version_id=own.version_id, document=pdf("other's"))
    formerly = replace(other, recipient=COLLEGE)
    await adapter.deliver([own, formerly])
    [receipt] = list(folder_of(server).glob(f"*-{own.version_id}-{other.sha256[:8]}.json"))
    filed = json.loads(receipt.read_bytes())
    (folder_of(server) / filed["receipt"]).write_text(
        json.dumps(
            {
                "outcome": "filed", "record": "EDM-1", "share_id": filed["share_id"], "manifest": filed["manifest"],
                "files": {each["file"]: each["sha256"] for each in (filed["document"], *filed["attachments"])},
            }
        )
    )  # fmt: skip
    assert await one(adapter, other) == Filed("EDM-1", other.sha256)
    assert not isinstance(await one(adapter, replace(other, share_id=uuid4())), Filed), "another share's receipt"

    [gone] = await adapter.recall([Recall(other.share_id, 2, own.plan_id, SHARING, (own.version_id,))])
    assert isinstance(gone, Awaiting)
    left = {each.name for each in folder_of(server).glob(f"*-{own.version_id}-*")}
    assert len(left) == 3
    assert all(f"-{own.sha256[:8]}" in name for name in left), "the other's own copy of that version stays"


async def test_a_version_lies_in_the_recipient_s_folder_whole_and_described(
    adapter: SftpServer, server: SftpServerRunning
) -> None:
    each = a_version(version=3)
    outcome = await one(adapter, each)
    assert isinstance(outcome, Sent)
    described = lying_there(server, each)
    folder = folder_of(server)
    assert (folder / described["document"]["file"]).read_bytes() == pdf("plan")
    [advice] = described["attachments"]
    assert (folder / advice["file"]).read_bytes() == pdf("one")
    assert advice["name"] == "Advice.pdf"
    assert described["sha256"] == each.sha256
    assert described["child"]["nhs_number"] == "9434765919"
    assert described["sections"]["A"]["text"] == "Rowan likes trains and wants to travel to school alone."
    assert described["seq"] == 1
    assert not list(folder.glob("*.part"))
    # Names say which plan and version, and nothing of the child.
    assert {described["document"]["file"], advice["file"]} == {
        f"plan-{each.plan_id}-v3-{each.version_id}-{each.sha256[:8]}.pdf",
        f"plan-{each.plan_id}-v3-{each.version_id}-{each.sha256[:8]}-1.pdf",
    }


async def test_each_recipient_has_a_folder_of_its_own(adapter: SftpServer, server: SftpServerRunning) -> None:
    mine, theirs = a_version(), a_version(recipient=OTHER)
    assert all(isinstance(outcome, Sent) for outcome in await adapter.deliver([mine, theirs]))
    assert lying_there(server, mine)["recipient"]["value"] == "993202"
    assert lying_there(server, theirs)["recipient"]["value"] == "993206"
    assert not list(folder_of(server).glob(f"*{theirs.plan_id}*"))


async def test_the_first_deliveries_of_a_recipient_make_its_folder_together(adapter: SftpServer) -> None:
    newcomer = replace(COLLEGE, value="993297")
    outcomes = await adapter.deliver([a_version(recipient=newcomer) for _ in range(4)])
    assert [type(outcome) for outcome in outcomes] == [Sent] * 4


async def test_a_plan_without_a_document_is_its_description(adapter: SftpServer, server: SftpServerRunning) -> None:
    each = a_version(document=None, attachments=[])
    assert isinstance(await one(adapter, each), Sent)
    assert lying_there(server, each)["document"] is None
    write_receipt(server, each)
    assert await one(adapter, each) == Filed("EDM-4711", each.sha256)


# --- receipts


async def test_a_file_stored_with_another_hash_is_not_filed(adapter: SftpServer, server: SftpServerRunning) -> None:
    each = a_version()
    await one(adapter, each)
    path = write_receipt(server, each)
    receipt = json.loads(path.read_bytes())
    path.write_text(json.dumps(receipt | {"files": dict.fromkeys(receipt["files"], "0" * 64)}))
    outcome = await one(adapter, each)
    assert isinstance(outcome, Refused)
    assert "another hash" in outcome.reason
    assert await adapter.holds(COLLEGE, [each.plan_id]) == {
        each.plan_id: Held(each.version_id, each.sha256, "EDM-4711", intact=False)
    }


async def test_a_refusal_is_told_without_the_recipient_s_own_words(adapter: SftpServer, server: SftpServerRunning) -> None:
    each = a_version()
    await one(adapter, each)
    write_receipt(server, each, outcome="refused", reason="Rowan Hartley left in May")
    outcome = await one(adapter, each)
    assert isinstance(outcome, Refused)
    assert "Rowan" not in outcome.reason


@pytest.mark.parametrize(
    "written",
    [
        b"", b"{", b"[]", b"null", b'{"outcome": "filed"}', b'{"outcome": "lost", "record": "1"}',
        b'{"outcome": "filed", "record": "1", "manifest": {}, "files": {}}', b"\xff\xfe", b"x" * 300_000,
    ],
)  # fmt: skip
async def test_a_receipt_that_proves_nothing_is_none(adapter: SftpServer, server: SftpServerRunning, written: bytes) -> None:
    each = a_version()
    await one(adapter, each)
    write_receipt(server, each).write_bytes(written)
    assert isinstance(await one(adapter, each), Sent)
    assert await adapter.holds(COLLEGE, [each.plan_id]) == {}


async def test_a_receipt_of_another_version_under_this_one_s_name_is_none(
    adapter: SftpServer, server: SftpServerRunning
) -> None:
    first = a_version()
    second = a_version(plan_id=first.plan_id, share_id=first.share_id, version=2, seq=2, document=pdf("second"))
    await adapter.deliver([first, second])
    lying_there(server, second)
    of_first = write_receipt(server, first).read_bytes()
    write_receipt(server, second).write_bytes(of_first)
    assert isinstance(await one(adapter, second), Sent)
    assert await adapter.holds(COLLEGE, [first.plan_id]) == {first.plan_id: Held(first.version_id, first.sha256, "EDM-4711")}


async def test_of_two_versions_held_the_newest_counts(adapter: SftpServer, server: SftpServerRunning) -> None:
    versions = [a_version(version=9)]
    versions.append(a_version(plan_id=versions[0].plan_id, version=10, document=pdf("ten")))
    await adapter.deliver(versions)
    for each in versions:
        write_receipt(server, each, record=f"EDM-{each.version}")
    assert (await adapter.holds(COLLEGE, [versions[0].plan_id]))[versions[0].plan_id].record == "EDM-10"


async def test_nothing_is_held_where_no_receipt_was_ever_written(adapter: SftpServer) -> None:
    nobody = replace(COLLEGE, value="993299")
    assert await adapter.holds(nobody, [uuid4()]) == {}


# --- withdrawal


async def test_a_withdrawal_marks_and_leaves_the_copy(adapter: SftpServer, server: SftpServerRunning) -> None:
    each = a_version()
    await one(adapter, each)
    [outcome] = await adapter.withdraw([Withdrawal(each.share_id, 2, each.plan_id, COLLEGE)])
    assert isinstance(outcome, Withdrawn)
    mark = json.loads((server.folder / outcome.record).read_bytes())
    assert (mark["type"], mark["plan_id"], mark["seq"]) == ("ehcp.plan.withdrawn.v1", str(each.plan_id), 2)
    assert lying_there(server, each)["plan_id"] == str(each.plan_id)


async def test_what_was_withdrawn_is_held_as_such_until_it_is_wanted_again(
    adapter: SftpServer, server: SftpServerRunning
) -> None:
    each = a_version()
    await one(adapter, each)
    write_receipt(server, each)
    await adapter.withdraw([Withdrawal(each.share_id, 2, each.plan_id, COLLEGE)])
    assert (await adapter.holds(COLLEGE, [each.plan_id]))[each.plan_id].withdrawn
    # Their system takes the mark away, and says so.
    [mark] = folder_of(server).glob(f"plan-{each.plan_id}-withdrawn-*.json")
    (folder_of(server) / "receipts" / mark.name).write_text("{}")
    mark.unlink()
    assert (await adapter.holds(COLLEGE, [each.plan_id]))[each.plan_id].withdrawn
    again = a_version(plan_id=each.plan_id, share_id=each.share_id, seq=3, version=2)
    await one(adapter, again)
    write_receipt(server, again)
    assert await adapter.holds(COLLEGE, [each.plan_id]) == {
        each.plan_id: Held(again.version_id, again.sha256, "EDM-4711", withdrawn=False)
    }


# --- recall


async def test_a_recall_takes_back_what_lies_there_and_waits_for_the_statement(
    adapter: SftpServer, server: SftpServerRunning
) -> None:
    wrong, right = a_version(), a_version()
    await adapter.deliver([wrong, right])
    write_receipt(server, wrong)
    recall = Recall(wrong.share_id, 2, wrong.plan_id, COLLEGE, (wrong.version_id,))
    [outcome] = await adapter.recall([recall])
    assert isinstance(outcome, Awaiting)
    assert not list(folder_of(server).glob(f"*{wrong.version_id}*"))
    assert lying_there(server, right)["plan_id"] == str(right.plan_id)
    demand = json.loads((server.folder / f"{outcome.record}.json").read_bytes())
    assert (demand["type"], demand["versions"], demand["seq"]) == ("ehcp.recall.requested.v1", [str(wrong.version_id)], 2)
    # Their system still says that it holds it.
    assert (await adapter.holds(COLLEGE, [wrong.plan_id]))[wrong.plan_id].version_id == wrong.version_id
    (folder_of(server) / demand["receipt"]).write_text(json.dumps({"outcome": "removed", "record": "EDM-4711 deleted"}))
    assert await adapter.recall([recall]) == [Removed("EDM-4711 deleted")]
    assert await adapter.holds(COLLEGE, [wrong.plan_id]) == {}


@pytest.mark.parametrize("written", [b"{}", b'{"outcome": "filed", "record": "1"}', b'{"outcome": "removed"}', b"removed"])
async def test_what_is_no_statement_of_removal_proves_none(
    adapter: SftpServer, server: SftpServerRunning, written: bytes
) -> None:
    recall = Recall(uuid4(), 2, uuid4(), COLLEGE, (uuid4(),))
    [outcome] = await adapter.recall([recall])
    assert isinstance(outcome, Awaiting)
    demand = json.loads((server.folder / f"{outcome.record}.json").read_bytes())
    (folder_of(server) / demand["receipt"]).write_bytes(written)
    assert isinstance((await adapter.recall([recall]))[0], Awaiting)


# --- notices


async def test_a_notice_lies_beside_the_plan_and_is_no_version_of_it(adapter: SftpServer, server: SftpServerRunning) -> None:
    notice = Notice(kind=NoticeKind.CEASE_NOTICE, happened_on=date(2026, 11, 2), text="The council means to cease the plan.")
    plan = a_version()
    each = replace(a_version(plan_id=plan.plan_id, sections={}), notice=notice)
    assert all(isinstance(outcome, Sent) for outcome in await adapter.deliver([plan, each]))
    described = lying_there(server, each)
    assert (described["type"], described["notice"]["kind"]) == ("ehcp.notice.delivered.v1", "cease_notice")
    write_receipt(server, each)
    assert await adapter.holds(COLLEGE, [plan.plan_id]) == {}
    await adapter.withdraw([Withdrawal(each.share_id, 2, each.plan_id, COLLEGE)])
    assert await adapter.holds_notices(COLLEGE, [each.version_id]) == {
        each.version_id: Held(each.version_id, each.sha256, "EDM-4711", withdrawn=True)
    }


# --- names


async def test_a_code_cannot_lead_out_of_its_folder(adapter: SftpServer, server: SftpServerRunning) -> None:
    odd = Recipient(RecipientKind.PARENT, CodeScheme.RECIPIENT, "../../etc/x y", "Somebody")
    assert isinstance(await one(adapter, a_version(recipient=odd)), Sent)
    assert (server.folder / "recipient-..%2F..%2Fetc%2Fx%20y").is_dir()


@pytest.mark.parametrize("name", ["x.part", "x.json", "../x", "x", "x.", "x.p/df", "x.longest-suffix", "x.p\ndf"])
async def test_an_attachment_s_name_decides_no_path_and_no_meaning(
    adapter: SftpServer, server: SftpServerRunning, name: str
) -> None:
    each = a_version(attachments=[(name, pdf("odd"))])
    assert isinstance(await one(adapter, each), Sent)
    [listed] = lying_there(server, each)["attachments"]
    assert listed["file"] == f"plan-{each.plan_id}-v1-{each.version_id}-{each.sha256[:8]}-1.bin"
    assert listed["name"] == name


# --- who is spoken to


async def test_another_host_key_than_the_pinned_one_and_nothing_is_said(server: SftpServerRunning) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    async with an_adapter(server, host_keys=[other]) as adapter:
        each = a_version()
        outcome = await one(adapter, each)
        assert isinstance(outcome, Retry)
        assert "host key is not one of those pinned" in outcome.reason
        assert not list(folder_of(server).glob(f"*{each.plan_id}*"))
        with pytest.raises(RecordAwayError, match="host key"):
            await adapter.holds(COLLEGE, [each.plan_id])


async def test_a_pinned_key_of_another_kind_only(server: SftpServerRunning) -> None:
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()
    async with an_adapter(server, host_keys=[other]) as adapter:
        outcome = await one(adapter, a_version())
        assert isinstance(outcome, Retry)
        assert "host key" in outcome.reason


async def test_while_a_host_key_is_changed_two_are_pinned(server: SftpServerRunning) -> None:
    coming = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    async with an_adapter(server, host_keys=[coming, server.host_key]) as adapter:
        assert isinstance(await one(adapter, a_version()), Sent)


async def test_a_host_that_was_set_up_anew_is_not_trusted_until_its_key_is_pinned() -> None:
    first, anew = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    pinned = first.export_public_key().decode()
    async with running_sftp_server(host_key=anew) as server:
        async with an_adapter(server, host_keys=[pinned]) as adapter:
            assert isinstance(await one(adapter, a_version()), Retry)
        assert not list(server.folder.iterdir())
        async with an_adapter(server, host_keys=[anew.export_public_key().decode()]) as adapter:
            assert isinstance(await one(adapter, a_version()), Sent)


async def test_a_wrong_key_is_tried_again_and_told(server: SftpServerRunning) -> None:
    async with an_adapter(server, key=asyncssh.generate_private_key("ssh-ed25519")) as adapter:
        outcomes = await adapter.deliver([a_version(), a_version()])
        assert outcomes == [Retry("the SFTP server: it does not accept this account's key or password")] * 2


async def test_a_password_right_or_wrong(server: SftpServerRunning) -> None:
    async with an_adapter(server, key=None, password="wrong") as adapter:
        outcome = await one(adapter, a_version())
        assert isinstance(outcome, Retry)
        assert "wrong" not in outcome.reason
    if server.kind == "asyncssh":  # OpenSSH takes the machine's own passwords, which a test does not know
        async with an_adapter(server, key=None, password=PASSWORD) as adapter:
            assert isinstance(await one(adapter, a_version()), Sent)


# --- what goes wrong


async def test_the_folder_of_the_url_is_not_there(server: SftpServerRunning) -> None:
    async with an_adapter(server, url=server.url + "/elsewhere") as adapter:
        outcome = await one(adapter, a_version())
        assert isinstance(outcome, Retry)
        assert "folder in its url" in outcome.reason
    assert not (server.folder / "elsewhere").exists()


async def test_an_account_that_may_not_write() -> None:
    async with running_sftp_server(read_only=True) as server, an_adapter(server) as adapter:
        outcome = await one(adapter, a_version())
        assert isinstance(outcome, Retry)
        assert "may not write" in outcome.reason


async def test_a_full_disk_leaves_nothing_that_looks_whole(adapter: SftpServer, server: SftpServerRunning) -> None:
    full, fits = a_version(), a_version()
    aside = full_disk(server, full)
    [first, second] = await adapter.deliver([full, fits])
    assert isinstance(first, Retry)
    assert "store the file" in first.reason
    assert isinstance(second, Sent)
    assert [path.name for path in folder_of(server).glob(f"*{full.plan_id}*")] == [aside.name]
    aside.unlink()
    assert isinstance(await one(adapter, full), Sent)


async def test_a_connection_reset_between_batches_is_made_anew(server: SftpServerRunning) -> None:
    async with Line(server.port) as link, an_adapter(server, url=server.url_at(link.port)) as adapter:
        assert isinstance(await one(adapter, a_version()), Sent)
        link.reset()
        each = a_version()
        outcome = await one(adapter, each)
        if isinstance(outcome, Retry):
            assert "broke off" in outcome.reason
            outcome = await one(adapter, each)
        assert isinstance(outcome, Sent)
        assert link.connections == 2


async def test_a_connection_reset_in_the_middle_of_a_file_leaves_nothing_that_looks_whole(server: SftpServerRunning) -> None:
    async with Line(server.port) as link, an_adapter(server, url=server.url_at(link.port)) as adapter:
        large = a_version(document=pdf(size=4_000_000), attachments=[])
        link.cut_after = 1_000_000
        outcome = await one(adapter, large)
        assert isinstance(outcome, Retry)
        assert "broke off" in outcome.reason
        assert all(path.name.endswith(".part") for path in folder_of(server).glob(f"*{large.plan_id}*"))
        link.heal()
        assert isinstance(await one(adapter, large), Sent)
        described = lying_there(server, large)
        assert (folder_of(server) / described["document"]["file"]).stat().st_size == len(pdf(size=4_000_000))
        assert not list(folder_of(server).glob(f"*{large.plan_id}*.part"))


async def test_a_half_open_connection_costs_one_time_out_for_the_batch(server: SftpServerRunning) -> None:
    async with Line(server.port) as link, an_adapter(server, url=server.url_at(link.port), timeout=0.5) as adapter:
        assert isinstance(await one(adapter, a_version()), Sent)
        link.go_dead()
        started = asyncio.get_running_loop().time()
        outcomes = await adapter.deliver([a_version() for _ in range(20)])
        assert all(isinstance(outcome, Retry) for outcome in outcomes)
        assert asyncio.get_running_loop().time() - started < 10
        link.heal()
        assert isinstance(await one(adapter, a_version()), Sent)


async def test_something_that_speaks_no_ssh() -> None:
    async def http(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)
        writer.close()

    listener = await asyncio.start_server(http, HOST, 0)
    key = asyncssh.generate_private_key("ssh-ed25519")
    port = listener.sockets[0].getsockname()[1]
    made = SftpServer(f"sftp://u@{HOST}:{port}/x", [key.export_public_key().decode()], key=key, timeout=5)
    try:
        assert isinstance(await one(made, a_version()), Retry)
    finally:
        await made.close()
        listener.close()


# --- settings

RECIPIENTS = (RecipientName(scheme=CodeScheme.URN, value="993202"),)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "https://host/folder"}, "sftp://user@host"),
        ({"url": "sftp://host/folder"}, "sftp://user@host"),
        ({"url": "sftp://user:secret@host/folder"}, "without a password"),
        ({"url": None}, "sftp://user@host"),
        ({"host_keys": ()}, "nothing is trusted at first sight"),
        ({"host_keys": ("nonsense",)}, "host_keys must hold public keys"),
        ({"secret": None}, "key_file or a secret"),
        ({"secret": None, "key_file": "/nowhere"}, "key_file must name"),
        ({"host_key": "x"}, "wrong at options/host_key"),
    ],
)
async def test_settings_that_cannot_work_are_refused_at_the_start(changes: dict[str, Any], said: str) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    given: dict[str, Any] = {"url": "sftp://user@host/folder", "host_keys": (key,), "secret": PASSWORD} | changes
    url, secret = given.pop("url"), given.pop("secret")
    settings = SystemSettings(name="files", kind="sftp", recipients=RECIPIENTS, url=url, secret=secret, options=given)
    with pytest.raises(RecordSystemsFileError, match=f"files: .*{said}") as raised:
        build_sftp(settings)
    assert PASSWORD not in str(raised.value)


async def test_a_key_from_a_file_serves(server: SftpServerRunning, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(server.client_key.export_private_key())
    made = build_sftp(
        SystemSettings(
            name="files", kind="sftp", recipients=RECIPIENTS, url=server.url,
            options={"host_keys": [server.host_key], "key_file": str(tmp_path / "key")},
        )
    )  # fmt: skip
    try:
        assert isinstance((await made.deliver([a_version()]))[0], Sent)
    finally:
        await made.close()
