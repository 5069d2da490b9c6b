"""Our mailbox at MESH: send, track, list, fetch, acknowledge, by NHS England's own client.

The client blocks, so each call runs in a thread that has a client of its own. Invariants: a redirect is never followed (a
plan goes to MESH or nowhere), no proxy of the environment is used, nothing that MESH says in words is repeated, and nothing is
tried twice here: the dispatcher's back-off does that, and the books know what was sent. Used by ``mesh.py``.
"""

import asyncio
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from mesh_client import MeshClient
from urllib3.exceptions import ConnectTimeoutError

from services.health_subscriber.mesh_messages import CONTENT_TYPE, Message
from services.shared.clock import utc_now
from services.shared.record_systems.guarded_http import retry_after
from services.shared.record_systems.port import Refused, Retry

CHUNK_BYTES = 20 * 2**20
"""What one request carries; MESH takes up to 100 MB, slow lines take less."""
UNKNOWN_MAILBOX = "12"
_ERROR_CODE = re.compile(r"[A-Za-z0-9-]{1,30}")
_LARGEST_ANSWER = 4 * 2**20
"""Of what comes into our mailbox: receipts are some kilobytes."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Account:
    """Our mailbox. ``certificate`` and ``key`` are what MESH gave us for TLS; ``ca`` where it is not one of NHS England's."""

    url: str
    mailbox: str
    password: str
    shared_key: str
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None


class MeshError(Exception):
    """What came instead of an answer. ``for_all``: it is about MESH or our mailbox, so sending it more now would be useless.
    ``silent``: no answer came."""

    def __init__(self, outcome: Retry | Refused, *, for_all: bool = False, silent: bool = False) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome
        self.for_all = for_all
        self.silent = silent


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message, or one of MESH's own reports, in our mailbox."""

    message_id: str
    sender: str
    is_report: bool
    local_id: str
    linked_message_id: str
    status_code: str
    body: bytes


class _Client(MeshClient):
    def __init__(self, account: Account, timeout: float) -> None:
        super().__init__(
            account.url,
            account.mailbox,
            account.password,
            shared_key=account.shared_key.encode(),
            cert=(str(account.certificate), str(account.key)) if account.certificate else None,
            verify=str(account.ca) if account.ca else None,
            max_retries=0,
            timeout=timeout,
            application_name="ehcp-exchange",
        )
        self._session.max_redirects = 0
        self._session.trust_env = False


class Mailbox:
    """At most ``concurrency`` calls at a time. ``timeout``: seconds that MESH may be silent within one."""

    def __init__(
        self, account: Account, *, allow_private: bool, timeout: float, concurrency: int, chunk_bytes: int = CHUNK_BYTES
    ) -> None:
        parsed = urlsplit(account.url)
        if parsed.scheme not in ("https", "http") or not parsed.hostname:
            raise ValueError("its url must begin with https:// and name a host")
        if parsed.scheme == "http" and not allow_private:
            raise ValueError("its url must begin with https:// (http:// only with allow_private, for a sandbox)")
        self.id = account.mailbox
        self._account = account
        self._timeout = timeout
        self._chunk_bytes = chunk_bytes
        self._own = threading.local()
        self._clients: list[_Client] = []
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="mesh")

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        for client in self._clients:
            client.close()  # type: ignore[no-untyped-call]

    async def send(self, message: Message, to: str, workflow_id: str) -> str:
        """MESH's id of the message, once it has taken all of it. Raises :class:`MeshError`."""
        return await self._run(lambda client: self._send(client, message, to, workflow_id))

    async def track(self, message_id: str) -> str | None:
        """MESH's word for where it is (``accepted``, ``acknowledged``, …); None when MESH knows it no more."""

        def track(client: _Client) -> str | None:
            try:
                return str(client.track_message(message_id).get("status", "")).lower()
            except requests.HTTPError as error:
                if error.response is not None and error.response.status_code == 404:
                    return None
                raise

        return await self._run(track)

    async def list(self, workflow_id: str) -> list[str]:
        """Ids of what lies in our mailbox under this workflow; what other systems use the mailbox for is not looked at."""
        return await self._run(lambda client: [str(each) for each in client.iterate_message_ids(workflow_filter=workflow_id)])

    async def fetch(self, message_id: str) -> Incoming:
        return await self._run(lambda client: _fetch(client, message_id))

    async def acknowledge(self, message_id: str) -> None:
        """MESH deletes it."""
        await self._run(lambda client: client.acknowledge_message(message_id))

    def _send(self, client: _Client, message: Message, to: str, workflow_id: str) -> str:
        size = self._chunk_bytes
        chunks = [message.body[at : at + size] for at in range(0, len(message.body), size)]
        response = client.send_chunk(
            recipient=to,
            chunk=chunks[0],
            chunk_num=1,
            total_chunks=len(chunks),
            workflow_id=workflow_id,
            local_id=str(message.local_id),
            filename=f"{message.local_id}.json",
            content_type=CONTENT_TYPE,
        )
        if response.status_code not in (200, 202):
            raise _judged(response)
        message_id = str(response.json()["message_id"])
        for number, chunk in enumerate(chunks[1:], 2):
            client.send_chunk("", chunk, number, len(chunks), message_id=message_id)
        return message_id

    async def _run(self, call: Callable[[_Client], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: call(self._client()))
        except requests.HTTPError as error:
            raise (_judged(error.response) if error.response is not None else _away(error)) from None
        except (requests.JSONDecodeError, LookupError, TypeError):
            raise MeshError(Retry("MESH answered something else than its API promises")) from None
        except requests.RequestException as error:
            raise _away(error) from None

    def _client(self) -> _Client:
        if not hasattr(self._own, "client"):
            self._own.client = _Client(self._account, self._timeout)
            self._clients.append(self._own.client)
        client: _Client = self._own.client
        return client


def _fetch(client: _Client, message_id: str) -> Incoming:
    message = client.retrieve_message(message_id)
    with closing(message):
        body = message.read(_LARGEST_ANSWER)
    return Incoming(
        message_id=message_id,
        sender=message.sender or "",
        is_report=(message.message_type or "").upper() == "REPORT",
        local_id=message.local_id or "",
        linked_message_id=message.mex_header("linkedmsgid", "") or "",
        status_code=message.mex_header("statuscode", "") or "",
        body=body,
    )


def _judged(response: requests.Response) -> MeshError:
    """What a refusal of MESH means."""
    status, code = response.status_code, _error_code(response)
    because = f"error {code}" if code else str(status)
    match status:
        case 401 | 403:
            # An operator must look, and then what waits shall go: nothing is wrong with the plans.
            return MeshError(Retry(f"MESH does not take our mailbox's credentials ({status})", away=True), for_all=True)
        case 429 | 503:
            asked = retry_after(response.headers.get("Retry-After", ""), utc_now())
            return MeshError(Retry(f"MESH asks to wait ({status})", asked, away=True), for_all=True)
        case 417 if code == UNKNOWN_MAILBOX:
            return MeshError(Refused("MESH knows no mailbox of this recipient's name"))
        case 400 | 413 | 417 | 422:
            return MeshError(Refused(f"MESH refused the message ({because})"))
        case _:
            return MeshError(Retry(f"MESH answered {status}"))


def _away(error: Exception) -> MeshError:
    cause = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(cause, ConnectTimeoutError):  # refused, not resolved or not in time: not even a connection was made
        return MeshError(Retry("MESH cannot be reached", away=True), for_all=True, silent=True)
    return MeshError(Retry(f"MESH gave no answer ({type(error).__name__})", away=True), silent=True)


def _error_code(response: requests.Response) -> str:
    try:
        answer = response.json()
        code = answer["detail"][0]["code"] if "detail" in answer else answer.get("errorCode")
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    return code if isinstance(code, str) and _ERROR_CODE.fullmatch(code) else ""
