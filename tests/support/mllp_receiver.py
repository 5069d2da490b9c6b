"""A trust's integration engine as far as HL7 v2 goes: a real MLLP server that keeps documents, with answers that can be spoilt.

Reads and acknowledges by the `hl7` library alone; none of the adapter's code.
"""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import hl7  # type: ignore[import-untyped]
from hl7.mllp import HL7StreamReader, HL7StreamWriter, start_hl7_server  # type: ignore[import-untyped]

from services.cli.machine.ports import HOST

Answers = Callable[["Received"], list[bytes | str] | None]
"""What to answer instead: acknowledgements (str), bytes that go out as they are, :data:`CLOSE`; None to say nothing."""
CLOSE = b""
UNKNOWN = "204"
"""HL7 table 0357: unknown key identifier."""


@dataclass(frozen=True, slots=True)
class Received:
    """One message, by the positions that HL7 gives its fields."""

    message: Any

    def field(self, position: str) -> str:
        """``TXA.12`` or, with a component, ``TXA.12.1``; empty when it is not there. Escapes are undone in components."""
        segment, *numbers = position.split(".")
        try:
            if len(numbers) == 1:
                return str(self.message.segment(segment)[int(numbers[0])])
            return str(self.message[f"{segment}.F{numbers[0]}.R1.C{numbers[1]}"])
        except (LookupError, hl7.HL7Exception):
            return ""

    @property
    def trigger(self) -> str:
        return self.field("MSH.9.2")

    @property
    def control_id(self) -> str:
        return self.field("MSH.10")

    @property
    def segments(self) -> list[str]:
        return [str(segment[0]) for segment in self.message]

    def files(self) -> list[bytes]:
        """OBX-5 of each OBX, decoded."""
        return [base64.b64decode(str(segment[5][0][4][0])) for segment in self.message.segments("OBX")]

    def acknowledgement(self, code: str = "AA", *, error: str | None = None, control_id: str | None = None) -> str:
        """MSH and MSA, and an ERR as 2.4 has it."""
        lines = [
            "MSH|^~\\&|TIE|RNA|EHCP|EHCP|20261122||ACK|A1|P|2.4",
            f"MSA|{code}|{control_id or self.control_id}|Rowan Hartley is not known here",
        ]
        if error:
            lines.append(f"ERR|PID^1^3^{error}&Patient Rowan Hartley not found&HL70357")
        return "\r".join(lines) + "\r"


@dataclass
class Engine:
    """``received`` has every message that came; ``documents`` what its users see, by number, with its availability."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    documents: dict[str, tuple[str, list[bytes]]] = field(default_factory=dict)
    connections: int = 0
    _answers: list[tuple[Answers, int]] = field(default_factory=list)

    def answer(self, answers: Answers, times: int = 1_000_000) -> None:
        """The next ``times`` messages are answered like this; they are not kept as documents."""
        self._answers.append((answers, times))

    def current(self) -> list[list[bytes]]:
        """The files of each document that is available."""
        return [files for availability, files in self.documents.values() if availability == "AV"]

    async def serve(self, reader: HL7StreamReader, writer: HL7StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                received = Received(await reader.readmessage())
                self.received.append(received)
                answers = self._next(received)
                if answers is None:
                    await asyncio.Event().wait()
                for each in answers or []:
                    if isinstance(each, str):
                        writer.writeblock(each.encode())
                    else:
                        writer.write(each)
                await writer.drain()
                if CLOSE in (answers or []):
                    break
        writer.close()

    def _next(self, received: Received) -> list[bytes | str] | None:
        if self._answers:
            answers, times = self._answers.pop(0)
            if times > 1:
                self._answers.insert(0, (answers, times - 1))
            return answers(received)
        known = self._keep(received)
        return [received.acknowledgement() if known else received.acknowledgement("AE", error=UNKNOWN)]

    def _keep(self, received: Received) -> bool:
        """As an engine that knows documents by their numbers. False for a change of one that it does not know."""
        number, parent = received.field("TXA.12.1"), received.field("TXA.13.1")
        match received.trigger:
            case "T02" | "T10":
                if parent:
                    self.documents[parent] = ("OB", self.documents[parent][1])
                self.documents[number] = (received.field("TXA.19"), received.files())
            case _ if number in self.documents:
                self.documents[number] = (received.field("TXA.19"), self.documents[number][1])
            case _:
                return False
        return True


@asynccontextmanager
async def running_engine(tls: ssl.SSLContext | None = None) -> AsyncIterator[Engine]:
    engine = Engine()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: HL7StreamReader, writer: HL7StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await engine.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            tasks.discard(task)

    server = await start_hl7_server(serve, HOST, 0, limit=64 * 2**20, encoding="utf-8", ssl=tls)
    engine.port = server.sockets[0].getsockname()[1]
    try:
        yield engine
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
