"""An SFTP server as a recipient would run one: OpenSSH's own where the machine has it, else the one of asyncssh.

Both serve this machine's files, so that a test sees what a recipient's importer would see. ``Link`` stands between a client
and the server and breaks the connection in the ways that networks do.
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from services.cli.machine.ports import HOST, free_ports
from tests.support.waiting import until

SSHD_PLACES = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"])
USER = os.environ.get("USER") or "root"


@dataclass(slots=True)
class SftpServerRunning:
    """``folder`` is the base of what it serves; ``kind`` says which server it is."""

    kind: str
    port: int
    folder: Path
    user: str
    host_key: str
    client_key: asyncssh.SSHKey

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        return f"sftp://{self.user}@{HOST}:{port}{self.folder}"


@asynccontextmanager
async def running_sftp_server(
    *, read_only: bool = False, host_key: asyncssh.SSHKey | None = None
) -> AsyncIterator[SftpServerRunning]:
    """``read_only``: an account that may look and not write."""
    sshd = shutil.which("sshd", path=SSHD_PLACES)
    own = host_key or asyncssh.generate_private_key("ssh-ed25519")
    client = asyncssh.generate_private_key("ssh-ed25519")
    [port] = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="ehcp-sftp-") as name:
        home = Path(name)
        served = home / "from-council"
        served.mkdir()
        server = SftpServerRunning(
            "OpenSSH" if sshd else "asyncssh", port, served, _account() if sshd else "exchange",
            own.export_public_key().decode().strip(), client,
        )  # fmt: skip
        async with _openssh(sshd, home, own, server, read_only) if sshd else _asyncssh(own, server, read_only):
            yield server


def _account() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


@asynccontextmanager
async def _openssh(
    sshd: str, home: Path, own: asyncssh.SSHKey, server: SftpServerRunning, read_only: bool
) -> AsyncIterator[None]:
    """As the account that runs the tests; it takes keys and no passwords."""
    if os.getuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)  # noqa: PTH103 - where it parts with its privileges; it needs it to start
    (home / "host_key").write_bytes(own.export_private_key())
    (home / "host_key").chmod(0o600)
    (home / "authorized_keys").write_bytes(server.client_key.export_public_key())
    internal = "internal-sftp -R" if read_only else "internal-sftp"
    (home / "config").write_text(
        f"ListenAddress {HOST}:{server.port}\nHostKey {home}/host_key\nAuthorizedKeysFile {home}/authorized_keys\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"PermitRootLogin prohibit-password\nSubsystem sftp {internal}\nForceCommand {internal}\n"
    )
    with (home / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sshd, "-D", "-e", "-f", str(home / "config"), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        await until(lambda: _listens(process, server.port, home / "log"), within=15, what="sshd listens")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _listens(process: asyncio.subprocess.Process, port: int, log: Path) -> bool:
    assert process.returncode is None, f"sshd did not start, see {log}"
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def _asyncssh(own: asyncssh.SSHKey, server: SftpServerRunning, read_only: bool) -> AsyncIterator[None]:
    class Account(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            del username
            return True

        def public_key_auth_supported(self) -> bool:
            return True

        def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            return username == server.user and key.public_data == server.client_key.public_data

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == (server.user, PASSWORD)

    factory = _LookOnly if read_only else True
    listener = await asyncssh.create_server(Account, HOST, server.port, server_host_keys=[own], sftp_factory=factory)
    try:
        yield
    finally:
        listener.close()
        await listener.wait_closed()


PASSWORD = "correct horse battery staple"


class _LookOnly(asyncssh.SFTPServer):
    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if pflags & ~asyncssh.FXF_READ:
            raise asyncssh.SFTPPermissionDenied("read only")
        return super().open(path, pflags, attrs)

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:  # noqa: ARG002
        raise asyncssh.SFTPPermissionDenied("read only")


class Link:
    """A connection to ``port`` that can be reset, or go dead without a word."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self.port = 0
        self.passed = 0
        """Bytes that went to the server."""
        self.connections = 0
        self.cut_after: int | None = None
        """Reset the connection once so many bytes have gone to the server."""
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    def go_dead(self) -> None:
        """Both sides believe that they are connected, and nothing passes."""
        self._open.clear()

    def heal(self) -> None:
        self._open.set()
        self.cut_after = None

    def reset(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def __aenter__(self) -> "Link":
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        there_reader, there = await asyncio.open_connection(HOST, self._upstream)
        self._writers |= {writer, there}
        try:
            await asyncio.gather(self._pass(reader, there, counted=True), self._pass(there_reader, writer, counted=False))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for each in (writer, there):
                self._writers.discard(each)
                each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        while data := await reader.read(16 * 1024):
            await self._open.wait()
            if counted:
                self.passed += len(data)
                if self.cut_after is not None and self.passed > self.cut_after:
                    raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
