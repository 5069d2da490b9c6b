"""Delivers plans into folders of an SFTP server: the ``RecordSystem`` of ``kind: sftp``.

Invariants: nothing is said to a server whose host key is not one of those pinned in its settings; a file appears under its
name only whole (written aside, renamed), and the JSON that describes the others last; *filed* only on a receipt that the
recipient's own system wrote, until then *sent*. What the files hold and what a receipt proves: ``sftp_files.py``; who looks for
receipts: ``sftp_receipts.py``.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from uuid import UUID

import asyncssh
import structlog

from schemas.base import Closed
from services.shared.record_systems import sftp_files as files
from services.shared.record_systems.port import (
    Awaiting,
    Content,
    Held,
    Outcome,
    Recall,
    RecallOutcome,
    Recipient,
    RecordAwayError,
    Refused,
    Retry,
    Sent,
    Withdrawal,
    Withdrawn,
    WithdrawOutcome,
)
from services.shared.record_systems.systems import RecordSystemsFileError, SystemSettings, options_of

log = structlog.get_logger()

_TIMEOUT_SECONDS = 15.0
_BYTES_A_SECOND = 2 * 2**20
"""A large delivery gets more time than the 15 seconds, at this rate."""
_BUDGET_SECONDS = 45.0
"""No delivery begins later than this after its batch did: begun then, it still ends before the dispatcher's 90 seconds."""
_LONGEST_SECONDS = 30.0
_AT_A_TIME = 4
_LONGEST_RECEIPT = 256 * 1024
_LONGEST_DELIVERY = 64 * 1024 * 1024
_KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256")
_STILL_THERE = 30
"""Seconds between two signs of life that an idle connection is asked for."""

_Thing = TypeVar("_Thing", Content, Withdrawal, Recall)
_Result = TypeVar("_Result", Outcome, WithdrawOutcome, RecallOutcome)
_Value = TypeVar("_Value")


class Options(Closed):
    host_keys: tuple[str, ...] = ()
    """The server's public keys as ``ssh-keyscan`` shows them, without the host's name; two while a key is being changed."""
    key_file: Path | None = None
    """The account's private key; an account with a password has that as ``secret``."""


def build_sftp(settings: SystemSettings) -> "SftpServer":
    """From an entry of the record systems file: ``{"kind": "sftp", "url": "sftp://user@host/folder",
    "options": {"host_keys": […], "key_file": …}}``."""
    options = options_of(settings, Options)
    try:
        key = asyncssh.read_private_key(options.key_file) if options.key_file else None
        return SftpServer(settings.url or "", options.host_keys, key=key, password=settings.secret)
    except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        raise RecordSystemsFileError(f"{settings.name}: its key_file must name an unencrypted private SSH key") from None
    except ValueError as error:
        raise RecordSystemsFileError(f"{settings.name}: {error}") from None


class AwayError(Exception):
    """The server was not reached, or is not the one it should be, or does not let us in. One sentence, for all of a batch."""


class SftpServer:
    """One account on one server. The connection is kept; after any trouble with it the next batch makes a new one."""

    silent_on_absence = True
    """Its ``receipts/`` folders hold what the recipients said, and they may tidy up."""

    def __init__(
        self,
        url: str,
        host_keys: Sequence[str],
        *,
        key: asyncssh.SSHKey | None = None,
        password: str | None = None,
        timeout: float = _TIMEOUT_SECONDS,
    ) -> None:
        """Raises ``ValueError``."""
        parts = urlsplit(url)
        if (
            parts.scheme != "sftp"
            or not parts.hostname
            or not parts.username
            or parts.password
            or parts.query
            or parts.fragment
        ):
            raise ValueError("its url must be sftp://user@host:port/folder, without a password")
        self._host, self._port, self._user = parts.hostname, parts.port or 22, unquote(parts.username)
        self._base = unquote(parts.path).rstrip("/") or "/"
        self._trusted = [_public_key(each) for each in host_keys]
        if not self._trusted:
            raise ValueError("it needs the server's public key in host_keys; nothing is trusted at first sight")
        # The pinned kinds first. The others are asked for too, so that a server which has only those is told apart from one
        # that is away; it is not believed.
        pinned = [name.decode() for each in self._trusted for name in each.sig_algorithms]
        self._kinds = list(dict.fromkeys([*pinned, *_KINDS]))
        if (key is None) == (password is None):
            raise ValueError("it needs a key_file or a secret (the account's password), and not both")
        self._key = key
        self._password = password
        self._timeout = timeout
        self._connecting = asyncio.Lock()
        self._slots = asyncio.Semaphore(_AT_A_TIME)
        self._connection: asyncssh.SSHClientConnection | None = None
        self._sftp: asyncssh.SFTPClient | None = None

    async def close(self) -> None:
        self._drop(self._sftp)

    async def deliver(self, batch: Sequence[Content]) -> list[Outcome]:
        return await self._all(batch, self._deliver)

    async def withdraw(self, batch: Sequence[Withdrawal]) -> list[WithdrawOutcome]:
        return await self._all(batch, self._withdraw)

    async def recall(self, batch: Sequence[Recall]) -> list[RecallOutcome]:
        return await self._all(batch, self._recall)

    async def holds(self, recipient: Recipient, plans: Sequence[UUID]) -> dict[UUID, Held]:
        """What the receipts in the recipient's folder say: of each plan the newest version. Raises :class:`RecordAwayError`."""
        wanted = set(plans)
        newest: dict[UUID, tuple[int, str]] = {}

        def is_wanted(name: str) -> bool:
            named = files.plan_and_version(name)
            return named is not None and named[0] in wanted

        found: dict[UUID, Held] = {}
        for name, held in (await self._receipts_held(recipient, is_wanted)).items():
            named = files.plan_and_version(name)
            assert named is not None
            if (named[1], name) > newest.get(named[0], (0, "")):
                newest[named[0]] = named[1], name
                found[named[0]] = held
        return found

    async def holds_notices(self, recipient: Recipient, notices: Sequence[UUID]) -> dict[UUID, Held]:
        """As :meth:`holds`, by the notice's id."""
        wanted = set(notices)
        found = await self._receipts_held(recipient, lambda name: files.notice(name) in wanted)
        return {held.version_id: held for held in found.values()}

    async def _receipts_held(self, recipient: Recipient, wanted: Callable[[str], bool]) -> dict[str, Held]:
        """What the receipts of a recipient that are ``wanted`` say, by their names. Raises :class:`RecordAwayError`."""
        folder = self._path(files.folder(recipient))
        found: dict[str, Held] = {}
        try:
            sftp = await self._connected()
            receipts = await self._within(self._timeout, sftp, self._listed(sftp, f"{folder}/{files.RECEIPTS}"))
            # A mark that was taken away counts where there is a receipt of its name.
            present = {*receipts, *await self._within(self._timeout, sftp, self._listed(sftp, folder))}
            for name in receipts:
                if wanted(name):
                    receipt = await self._within(self._timeout, sftp, self._read(sftp, f"{folder}/{files.RECEIPTS}/{name}"))
                    if receipt is not None and (held := files.held(receipt, name, present)) is not None:
                        found[name] = held
        except (AwayError, asyncssh.SFTPError) as error:
            raise RecordAwayError(f"the SFTP server was not asked: {_words(error)}") from None
        return found

    async def receipts(self, recipient: Recipient) -> dict[str, tuple[int, int]]:
        """The names in a recipient's ``receipts/``, with when and how large. Raises :class:`RecordAwayError`."""
        folders = [each for each in (files.former_folder(recipient), files.folder(recipient)) if each]
        found: list[asyncssh.SFTPName] = []
        try:
            sftp = await self._connected()
            for folder in folders:
                path = self._path(f"{folder}/{files.RECEIPTS}")
                found += await self._within(self._timeout, sftp, self._read_folder(sftp, path))
        except (AwayError, asyncssh.SFTPError) as error:
            raise RecordAwayError(f"the SFTP server was not asked: {_words(error)}") from None
        return {str(each.filename): (each.attrs.mtime or 0, each.attrs.size or 0) for each in found}

    async def _deliver(self, content: Content, sftp: asyncssh.SFTPClient) -> Outcome:
        name, folder = files.delivery_name(content), files.folder(content.recipient)
        # Of an end of this share: an earlier one is over; after a later one this is an old message.
        mark = files.withdrawn_name(content.plan_id, content.share_id)
        marks = [self._path(f"{folder}/{mark}.json"), self._path(files.receipt_path(content.recipient, mark))]
        ended, taken_away = [await self._read(sftp, path) for path in marks]
        if ended is not None and files.seq_of(ended) > content.seq:
            return Refused("the recipient's folder already holds a newer instruction than this one")
        receipt = await self._read(sftp, self._path(files.receipt_path(content.recipient, name)))
        told = files.proved(receipt, name, content.sha256) if receipt is not None else None
        if told is not None and ended is None and taken_away is None:
            return told
        if told is None and (before := await self._told_before(content, name, sftp)) is not None:
            return before
        for each in files.uploads(content):
            await self._put(sftp, content.recipient, each)
        for path in marks:
            await self._remove(sftp, path)
        return told or Sent(f"{folder}/{name}")

    async def _told_before(self, content: Content, name: str, sftp: asyncssh.SFTPClient) -> Outcome | None:
        """By a receipt in the folder that was shared once."""
        folder = files.former_folder(content.recipient)
        receipt = await self._read(sftp, self._path(f"{folder}/{files.RECEIPTS}/{name}.json")) if folder else None
        if receipt is None or not files.names_share(receipt, content.share_id):
            return None
        return files.proved(receipt, name, content.sha256)

    async def _withdraw(self, withdrawal: Withdrawal, sftp: asyncssh.SFTPClient) -> WithdrawOutcome:
        upload = files.withdrawn(withdrawal)
        await self._put(sftp, withdrawal.recipient, upload)
        return Withdrawn(f"{files.folder(withdrawal.recipient)}/{upload.name}")

    async def _recall(self, recall: Recall, sftp: asyncssh.SFTPClient) -> RecallOutcome:
        """What still lies there goes; whether it was taken before, and is gone from where it was taken to, only they know."""
        folder, name = self._path(files.folder(recall.recipient)), files.recalled_name(recall)
        for each in await self._listed(sftp, folder):
            if files.is_of(each, recall.versions):
                await self._remove(sftp, f"{folder}/{each}")
        if (before := files.former_folder(recall.recipient)) is not None:
            await self._remove_of_share(sftp, self._path(before), recall)
        receipt = await self._read(sftp, self._path(files.receipt_path(recall.recipient, name)))
        if receipt is not None and (told := files.removed(receipt)) is not None:
            for each in await self._listed(sftp, f"{folder}/{files.RECEIPTS}"):
                if files.is_of(each, recall.versions):
                    await self._remove(sftp, f"{folder}/{files.RECEIPTS}/{each}")  # they say that it is held
            return told
        await self._put(sftp, recall.recipient, files.recalled(recall))
        return Awaiting(f"{files.folder(recall.recipient)}/{name}")

    async def _remove_of_share(self, sftp: asyncssh.SFTPClient, folder: str, recall: Recall) -> None:
        """From a folder that is another's: what its own JSON says to be of this share, the JSON last."""
        there = await self._listed(sftp, folder)
        for described in (each for each in there if each.endswith(".json") and files.is_of(each, recall.versions)):
            if files.names_share(await self._read(sftp, f"{folder}/{described}", _LONGEST_DELIVERY) or b"", recall.share_id):
                name = described.removesuffix(".json")
                parts = [each for each in there if re.fullmatch(rf"{re.escape(name)}(-[0-9]+)?\.[a-z0-9]+", each)]
                for each in (*(part for part in parts if part != described), described):
                    await self._remove(sftp, f"{folder}/{each}")

    async def _put(self, sftp: asyncssh.SFTPClient, recipient: Recipient, upload: files.Upload) -> None:
        """Write aside, look whether all of it is there, rename. Repeatable: the same name gets the same bytes."""
        path = self._path(f"{files.folder(recipient)}/{upload.name}")
        aside = path + files.ASIDE
        try:
            await self._write(sftp, aside, upload.data)
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            await self._make_folder(sftp, recipient)
            await self._write(sftp, aside, upload.data)
        if await sftp.getsize(aside) != len(upload.data):
            raise asyncssh.SFTPFailure("it is not all there")
        try:
            await sftp.posix_rename(aside, path)
        except asyncssh.SFTPOpUnsupported:
            # Without that extension a rename does not replace. What is there has the same name, so the same content.
            await self._remove(sftp, path)
            await sftp.rename(aside, path)

    async def _write(self, sftp: asyncssh.SFTPClient, path: str, data: bytes) -> None:
        async with sftp.open(path, "wb") as file:
            await file.write(data)

    async def _remove(self, sftp: asyncssh.SFTPClient, path: str) -> None:
        with contextlib.suppress(asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            await sftp.remove(path)

    async def _make_folder(self, sftp: asyncssh.SFTPClient, recipient: Recipient) -> None:
        """The recipient's, and the one for its receipts. The base is the operator's to make: a wrong one is not made up."""
        for folder in (files.folder(recipient), f"{files.folder(recipient)}/{files.RECEIPTS}"):
            try:
                await sftp.mkdir(self._path(folder))
            except asyncssh.SFTPError:
                # There already, or made by another delivery of this batch meanwhile. The protocol says "failure" for either.
                if not await sftp.isdir(self._path(folder)):
                    raise

    async def _read(self, sftp: asyncssh.SFTPClient, path: str, longest: int = _LONGEST_RECEIPT) -> bytes | None:
        """None where there is no such file, or none of a receipt's size."""
        try:
            async with sftp.open(path, "rb") as file:
                data: Any = await file.read(longest + 1)
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            return None
        return bytes(data) if len(data) <= longest else None

    async def _read_folder(self, sftp: asyncssh.SFTPClient, folder: str) -> Sequence[asyncssh.SFTPName]:
        try:
            return await sftp.readdir(folder)
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            return []

    async def _listed(self, sftp: asyncssh.SFTPClient, folder: str) -> list[str]:
        try:
            return [str(name) for name in await sftp.listdir(folder)]
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            return []

    def _path(self, path: str) -> str:
        return f"{self._base.rstrip('/')}/{path}"

    async def _all(
        self, things: Sequence[_Thing], one: Callable[[_Thing, asyncssh.SFTPClient], Awaitable[_Result]]
    ) -> list[_Result | Retry]:
        if not things:
            return []
        until = time.monotonic() + _BUDGET_SECONDS
        away: list[Retry] = []
        try:
            await self._connected()  # once for all: a server that says nothing costs a batch one time-out
        except AwayError as error:
            return [Retry(f"the SFTP server: {error}", away=True)] * len(things)

        async def in_turn(thing: _Thing) -> _Result | Retry:
            async with self._slots:
                if away:
                    return away[0]
                if time.monotonic() > until:
                    return Retry("the SFTP server is slow; this one's turn did not come")
                try:
                    sftp = await self._connected()
                    return await self._within(self._patience(thing), sftp, one(thing, sftp))
                except AwayError as error:
                    away.append(Retry(f"the SFTP server: {error}", away=True))
                    return away[0]
                except asyncssh.SFTPError as error:
                    return Retry(f"the SFTP server: {_words(error)}")

        return list(await asyncio.gather(*(in_turn(thing) for thing in things)))

    def _patience(self, thing: Content | Withdrawal | Recall) -> float:
        sent = [each for each in (thing.document, *thing.attachments) if each] if isinstance(thing, Content) else []
        longer = self._timeout + sum(len(each.data) for each in sent) / _BYTES_A_SECOND
        return min(longer, max(self._timeout, _LONGEST_SECONDS))

    async def _within(self, seconds: float, sftp: asyncssh.SFTPClient, work: Awaitable[_Value]) -> _Value:
        """Raises :class:`AwayError` when the connection did not last, or nothing came over it for too long."""
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError:
            self._drop(sftp)
            raise AwayError(f"it did not answer within {seconds:.2g} seconds") from None
        except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection):
            self._drop(sftp)
            raise AwayError("the connection broke off") from None
        except asyncssh.SFTPError:
            raise  # an answer, about this one file
        except (asyncssh.Error, OSError):
            self._drop(sftp)
            raise AwayError("the connection broke off") from None

    async def _connected(self) -> asyncssh.SFTPClient:
        """Raises :class:`AwayError`."""
        async with self._connecting:
            if self._sftp is None:
                try:
                    async with asyncio.timeout(self._timeout):
                        self._sftp = await self._connect()
                except (TimeoutError, OSError, asyncssh.Error) as error:
                    self._drop(self._sftp)
                    raise AwayError(_why_not_connected(error)) from None
            return self._sftp

    async def _connect(self) -> asyncssh.SFTPClient:
        self._connection = await asyncssh.connect(
            self._host,
            self._port,
            username=self._user,
            # Exactly these keys; no file of the machine's user, no authority, no first sight.
            known_hosts=(self._trusted, [], []),
            server_host_key_algs=self._kinds,
            x509_trusted_certs=None,
            client_keys=[self._key] if self._key else None,
            password=self._password,
            preferred_auth="publickey" if self._key else "password,keyboard-interactive",
            # Nothing of the account that runs the service: no configuration file, agent or Kerberos ticket.
            config=None,
            agent_path=None,
            gss_host=None,
            keepalive_interval=_STILL_THERE,
        )
        return await self._connection.start_sftp_client()

    def _drop(self, sftp: asyncssh.SFTPClient | None) -> None:
        """Give the connection up, unless somebody has already and there is another."""
        if sftp is self._sftp:
            if self._connection is not None:
                self._connection.abort()
            self._connection = self._sftp = None


def _public_key(text: str) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_public_key(text)
    except asyncssh.KeyImportError:
        raise ValueError("host_keys must hold public keys such as 'ssh-ed25519 AAAA…'") from None


def _why_not_connected(error: BaseException) -> str:
    """One sentence of ours; a server's own words could hold anything."""
    match error:
        case asyncssh.HostKeyNotVerifiable():
            # Another server, or one that was set up anew. Nothing was said to it, not even the account's password.
            return "its host key is not one of those pinned in host_keys; compare it with its operator's before changing them"
        case asyncssh.PermissionDenied():
            return "it does not accept this account's key or password"
        case asyncssh.KeyExchangeFailed():
            return "it offers no host key of a kind that is pinned, or no cipher that is safe"
        case asyncssh.ChannelOpenError():
            return "this account may not use SFTP"
        case TimeoutError():
            return "it did not answer in time"
        case OSError():
            return f"it cannot be reached ({type(error).__name__})"
        case _:
            return f"the connection broke off ({type(error).__name__})"


def _words(error: Exception) -> str:
    match error:
        case AwayError():
            return str(error)
        case asyncssh.SFTPPermissionDenied() | asyncssh.SFTPWriteProtect():
            return "this account may not write into the recipient's folder"
        case asyncssh.SFTPNoSuchFile() | asyncssh.SFTPNoSuchPath():
            return "the folder in its url is not there"
        case asyncssh.SFTPNoSpaceOnFilesystem() | asyncssh.SFTPQuotaExceeded():
            return "its disk is full, or the account's quota used up"
        case asyncssh.SFTPFailure():
            # All that version 3 of the protocol can say of a full disk.
            return "it could not store the file (its disk may be full)"
        case _:
            return f"it answered {type(error).__name__}"
