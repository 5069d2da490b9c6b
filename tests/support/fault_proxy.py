"""Stands between a client and a real HTTP server and spoils chosen answers, the way networks and servers do.

One request per connection; what is not spoilt passes through untouched. Every request line is kept, so that a test can see
what an address gave away.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def is_transaction(self) -> bool:
        return self.method == "POST" and b'"transaction"' in self.body


Forward = Callable[[], Awaitable[bytes]]
Fault = Callable[[Request, Forward], Awaitable[bytes | None]]
"""Answers instead of the server: the bytes of an HTTP response, or None to cut the connection. ``Forward`` asks the server."""


def answer(status: int, body: bytes = b"", content_type: str = "application/fhir+json", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def status(code: int, body: bytes = b"", content_type: str = "application/fhir+json", **headers: str) -> Fault:
    async def fault(_request: Request, _forward: Forward) -> bytes:
        return answer(code, body, content_type, **headers)

    return fault


async def reset(_request: Request, _forward: Forward) -> None:
    """The server never saw it."""


async def lost_answer(_request: Request, forward: Forward) -> None:
    """The server did it, but its answer never came."""
    await forward()


async def truncated(_request: Request, forward: Forward) -> bytes:
    """The server did it; half of its answer came, with a length that fits the half."""
    head, _, body = (await forward()).partition(b"\r\n\r\n")
    return answer(int(head.split()[1]), body[: len(body) // 2])


async def silent(_request: Request, _forward: Forward) -> bytes:
    """Takes the request and says nothing until the client gives up."""
    await asyncio.Event().wait()
    return b""


def held_until(release: asyncio.Event, reached: asyncio.Event) -> Fault:
    """Passes the request on only when ``release`` is set; ``reached`` says that it has come."""

    async def fault(_request: Request, forward: Forward) -> bytes:
        reached.set()
        await release.wait()
        return await forward()

    return fault


@dataclass
class FaultProxy:
    upstream_port: int
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    _rules: list[tuple[Callable[[Request], bool], Fault, int]] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    def spoil(self, fault: Fault, when: Callable[[Request], bool] = lambda _: True, times: int = 1_000_000) -> None:
        """The next ``times`` requests that fit ``when`` meet ``fault``."""
        self._rules.append((when, fault, times))

    def heal(self) -> None:
        self._rules.clear()

    async def __aenter__(self) -> "FaultProxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.go_down()

    async def go_down(self) -> None:
        """Nobody listens any more."""
        if self._server is not None:
            self._server.close()
            for task in self._open:
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            self._open.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await _read_request(reader)
            self.requests.append(request)
            response = await self._answer(request)
            if response is None:
                # Linger 0: the client sees a reset, not an orderly end.
                transport_socket = writer.get_extra_info("socket")
                transport_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return
            writer.write(response)
            await writer.drain()

    async def _answer(self, request: Request) -> bytes | None:
        async def forward() -> bytes:
            return await self._forward(request)

        for index, (when, fault, times) in enumerate(self._rules):
            if times > 0 and when(request):
                self._rules[index] = (when, fault, times - 1)
                return await fault(request, forward)
        return await forward()

    async def _forward(self, request: Request) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream_port)
        try:
            headers = request.headers | {"host": f"127.0.0.1:{self.upstream_port}", "connection": "close"}
            head = [f"{request.method} {request.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
            writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + request.body)
            await writer.drain()
            return await reader.read(-1)
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body)
