"""An SFTP server as a recipient would run one: OpenSSH's own where the machine has it, else the one of asyncssh.

Both serve this machine's files, so that a test sees what a recipient's importer would see.
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
        await until(lambda: _listens(process, server.port, home / "log"), within=60, what="sshd listens")
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
