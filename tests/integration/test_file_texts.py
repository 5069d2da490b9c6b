"""Files made to hurt whoever reads them, by the real reading process: unreadable within its limits, and nothing else hurt."""

import asyncio
import signal
from collections.abc import AsyncIterator
from datetime import date

import orjson
import pytest
import pytest_asyncio

from services.ehcp_publisher import file_texts
from services.ehcp_publisher.documents import MediaType, Received
from services.ehcp_publisher.file_texts import FileText, FileTexts
from tests.support.files import encrypted_pdf, hostile_pdfs, pdf_of

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]
FINE = pdf_of("The plan of Amira Khan")


@pytest_asyncio.fixture
async def texts() -> AsyncIterator[FileTexts]:
    made = FileTexts(workers=1, seconds=30)
    yield made
    await made.close()


async def read(texts: FileTexts, data: bytes) -> FileText:
    (text,) = await texts.read([Received("plan.pdf", MediaType.PDF, "", data)], date(2026, 11, 2), ["amira", "khan"])
    return text


async def is_read(texts: FileTexts) -> None:
    assert (await read(texts, FINE)).own_names == {"amira", "khan"}


async def test_hostile_files_are_unreadable_while_all_else_goes_on_and_the_next_file_is_read(texts: FileTexts) -> None:
    for what, data in {**hostile_pdfs(), "a password": encrypted_pdf()}.items():
        assert len(data) < 2**20, what
        reading, turns = asyncio.create_task(read(texts, data)), 0
        while not reading.done():
            await asyncio.sleep(0.005)
            turns += 1
        assert (await reading).unreadable, what
        assert turns > 0, what
        await is_read(texts)


async def test_a_process_that_ended_between_two_files_is_replaced(texts: FileTexts) -> None:
    """As the system does when memory is short: no good file is held for it."""
    await is_read(texts)
    (process,) = texts._free
    process.kill()
    await process.wait()
    await is_read(texts)


async def test_an_answer_that_is_too_long_is_none(texts: FileTexts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_texts, "_LONGEST_LINE", 10)
    assert (await read(texts, FINE)).unreadable
    monkeypatch.undo()
    await is_read(texts)


async def test_a_reader_whose_publisher_was_killed_ends_by_itself() -> None:
    """As ``FileTexts`` would ask it, with nobody there to end it."""
    file = pdf_of("a\n" * 200_000)
    asked = {"kind": MediaType.PDF, "name": "a.pdf", "size": len(file), "on": "2026-11-02", "names": [], "seconds": 1}
    process = await file_texts._start()
    try:
        async with asyncio.timeout(120):
            with pytest.raises(asyncio.IncompleteReadError):
                await file_texts._ask(process, orjson.dumps(asked) + b"\n", file)
            assert await process.wait() == -signal.SIGALRM
    finally:
        await file_texts._end(process)


async def test_a_process_that_dies_of_a_file_takes_only_that_file_with_it(texts: FileTexts) -> None:
    await is_read(texts)
    (process,) = texts._free
    reading = asyncio.create_task(read(texts, hostile_pdfs()["10,000 pages"]))
    while texts._free:
        await asyncio.sleep(0)
    process.kill()
    assert (await reading).unreadable
    await is_read(texts)
