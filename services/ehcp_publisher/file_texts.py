"""Has files read by processes of their own (``file_reader``), beside the event loop, for a limited time.

Invariant: a file that cannot be read in time, in memory or at all is *unreadable*, which holds its version; it never stops the
publisher. A process that was killed for it is replaced; between two files a process keeps nothing.
"""

import asyncio
import contextlib
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import orjson
import structlog

from services.ehcp_publisher.documents import Received
from services.ehcp_publisher.identities import Seen

log = structlog.get_logger()
SECONDS = 30.0
"""For one file: a plan of 200 pages takes five; nobody waits longer for an answer."""
_LONGEST_LINE = 64 * 2**20


@dataclass(frozen=True, slots=True)
class FileText:
    """What a file says, as far as the guard must know."""

    seen: Seen
    own_names: frozenset[str] = frozenset()
    """Words of the child's own name that are in it."""
    letters: int = 0
    unread: tuple[int, ...] = ()
    """Pages, from 1, that show something and have no text."""
    unreadable: bool = False


class FileTexts:
    """``workers`` processes at most, started when they are needed."""

    def __init__(self, workers: int | None = None, seconds: float = SECONDS) -> None:
        self._free: list[asyncio.subprocess.Process] = []
        self._places = asyncio.Semaphore(workers or max(1, (os.cpu_count() or 2) - 1))
        self._seconds = seconds

    async def read(self, files: Sequence[Received], on: date, names: Sequence[str]) -> list[FileText]:
        """One for each. ``on``: the day of issue; ``names``: the words of the child's own name."""
        return [await self._read(file, on, names) for file in files]

    async def _read(self, file: Received, on: date, names: Sequence[str]) -> FileText:
        asked = {
            "kind": file.media_type, "name": file.name, "size": len(file.data), "on": str(on), "names": list(names),
            # Only where this publisher was killed meanwhile, and cannot end the process: it must not work on for good.
            "seconds": 2 * math.ceil(self._seconds),
        }  # fmt: skip
        async with self._places:
            process = await self._process()
            try:
                async with asyncio.timeout(self._seconds):
                    answer = await _ask(process, orjson.dumps(asked) + b"\n", file.data)
            except (
                TimeoutError, OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
            ) as error:  # fmt: skip
                log.warning(
                    "file_unreadable", media_type=file.media_type.name, size=len(file.data), reason=type(error).__name__
                )
                await _end(process)
                return UNREADABLE
            except BaseException:
                await _end(process)
                raise
            self._free.append(process)
        return text_of(answer)

    async def _process(self) -> asyncio.subprocess.Process:
        while self._free:
            process = self._free.pop()
            # The system may have ended it between two files, for memory: the next file is not to blame.
            if process.returncode is None:
                return process
        return await _start()

    async def close(self) -> None:
        while self._free:
            await _end(self._free.pop())


UNREADABLE = FileText(Seen(), unreadable=True)


async def _start() -> asyncio.subprocess.Process:
    # Only what Python needs: the publisher's own settings and secrets stay with the publisher.
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG", "SYSTEMROOT") if name in os.environ}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.ehcp_publisher.file_reader", stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, limit=_LONGEST_LINE, env=environment,
    )  # fmt: skip


async def _ask(process: asyncio.subprocess.Process, header: bytes, data: bytes) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(header)
    process.stdin.write(data)
    await process.stdin.drain()
    return orjson.loads(await process.stdout.readuntil(b"\n"))


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    # It is waited for until all it said is taken, and of a long answer some is still under way.
    await process.communicate()


def text_of(answer: Any) -> FileText:
    if "unreadable" in answer:
        return UNREADABLE
    names = {(one, other): pages for one, other, pages in answer["names"]}
    days = {date.fromisoformat(day) for day in answer["days"]}
    seen = Seen(answer["nhs_numbers"], answer["upns"], names, days, answer["too_many"])
    return FileText(seen, frozenset(answer["own_names"]), answer["letters"], tuple(answer["unread"]))
