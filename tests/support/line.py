"""Stands between a client and a server on this machine and breaks the connection in the ways that networks do."""

import asyncio

from services.cli.machine.ports import HOST


class Line:
    """Connections to ``port`` that can be reset, or go dead without a word."""

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

    async def __aenter__(self) -> "Line":
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
