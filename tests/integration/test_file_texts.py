"""Files made to hurt whoever reads them, by the real reading process: unreadable within its limits, and nothing else hurt."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date

import pytest
import pytest_asyncio

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


async def test_a_process_that_dies_of_a_file_takes_only_that_file_with_it(texts: FileTexts) -> None:
    await is_read(texts)
    (process,) = texts._free
    reading = asyncio.create_task(read(texts, hostile_pdfs()["10,000 pages"]))
    while texts._free:
        await asyncio.sleep(0)
    process.kill()
    assert (await reading).unreadable
    await is_read(texts)
