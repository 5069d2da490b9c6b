"""A process of its own that reads files: the text of PDF and Word files from councils, and what in it could name a child.

Invariant: whatever a file does to its reader, it does it here. Memory is limited by the system, time by ``file_texts``, which
kills this process and starts another; should that be gone, the system ends it. In: a line of JSON and the file's bytes. Out: a
line of JSON. Nothing is kept or logged.
"""

import io
import itertools
import logging
import resource
import signal
import sys
import zipfile
from collections.abc import Iterator
from datetime import date
from typing import Any, BinaryIO
from xml.parsers import expat

import orjson
from pypdf import PageObject, PdfReader
from pypdf.generic import DictionaryObject, IndirectObject

from services.ehcp_publisher import identities
from services.ehcp_publisher.documents import MediaType
from services.ehcp_publisher.identities import Seen

MAX_MEMORY = 1536 * 2**20
"""Of address space: a file of 25 MiB may be unpacked, a bomb may not."""
MAX_TEXT = 20_000_000
"""Characters of one file; the longest plan seen has half a million."""
MOST_PAGES = 5_000
FEWEST_LETTERS = 20
"""A page with fewer and a picture is a scan, whatever page number was printed on it."""
SHORTEST_PAIR = 8
"""Letters of two names together: shorter ones are found within other words."""
MAX_DRAWN = 2_000
"""Bytes of a page without text: more draws something, such as letters as curves."""


class UnreadableError(Exception):
    """No text can be had of the file."""


def read(kind: MediaType, data: bytes) -> tuple[list[str], list[int]]:
    """The text of each page, and the pages, from 1, that have something on them that is no text."""
    match kind:
        case MediaType.PDF:
            return _pdf(data)
        case MediaType.DOCX:
            return [_docx(data)], []
        case MediaType.PNG | MediaType.JPEG:
            return [], [1]


def _pdf(data: bytes) -> tuple[list[str], list[int]]:
    reader = PdfReader(io.BytesIO(data))
    if len(reader.pages) > MOST_PAGES or _has_names_of_files(reader) or _goes_with_files(reader.root_object):
        raise UnreadableError
    pages, unread, length = [], [], 0
    for number, page in enumerate(reader.pages, 1):
        if _goes_with_files(page):
            raise UnreadableError
        text = page.extract_text()
        if sum(map(str.isalnum, text)) < FEWEST_LETTERS and _shows_something(page):
            unread.append(number)
        text = "\n".join([text, *_notes(page)])
        length += len(text)
        if length > MAX_TEXT:
            raise UnreadableError
        pages.append(text)
    # What stands in fields of a form, and in the file's own title, leaves with it.
    beside = [str(value) for value in (reader.metadata or {}).values()]
    beside += [str(field.get("/V", "")) for field in (reader.get_fields() or {}).values()]
    pages[0] = "\n".join([pages[0], *beside])
    return pages, unread


# Other files within it would leave with it: in the file's list of them, beside a page or a note, or as a note.
def _has_names_of_files(reader: PdfReader) -> bool:
    names = reader.root_object.get("/Names")
    found = names.get_object() if names is not None else None
    return isinstance(found, DictionaryObject) and "/EmbeddedFiles" in found


def _goes_with_files(holder: DictionaryObject) -> bool:
    found = holder.get("/AF")
    return found is not None and bool(found.get_object())


def _shows_something(page: PageObject) -> bool:
    resources = page.get("/Resources")
    found = resources.get_object() if resources is not None else None
    drawn = found.get("/XObject") if isinstance(found, DictionaryObject) else None
    if isinstance(drawn, IndirectObject):
        drawn = drawn.get_object()
    if drawn:
        return True
    contents = page.get_contents()
    return contents is not None and len(contents.get_data()) > MAX_DRAWN


def _notes(page: PageObject) -> Iterator[str]:
    """Comments and form fields that are drawn on the page."""
    for each in page.get("/Annots") or ():
        note = each.get_object()
        if isinstance(note, DictionaryObject):
            if "/FS" in note or note.get("/Subtype") in _NOTES_OF_FILES or _goes_with_files(note):
                raise UnreadableError
            yield from (str(note[name]) for name in ("/Contents", "/RC", "/V") if name in note)


_NOTES_OF_FILES = ("/FileAttachment", "/Sound", "/Movie", "/Screen", "/RichMedia", "/3D")
_XML = (".xml", ".psmdcp")
"""Every part in XML is read, wherever it is: charts, diagrams and building blocks are in folders of their own."""
_BESIDE = (
    ".rels", ".sigs", ".png", ".jpg", ".jpeg", ".jfif", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".emf", ".wmf", ".svg",
    ".wdp", ".odttf", ".ttf",
)  # fmt: skip
"""Pictures, fonts, and what holds the parts together. Anything else is another file: Word shows HTML or RTF as its own text."""
_TEXTS = ("t", "v", "delText", "instrText", "title", "subject", "creator", "description", "keywords", "lpwstr")
"""Elements that hold text, by their local names: what was deleted under tracked changes is still in the file."""
_BREAKS = ("p", "br", "cr", "tab", "tc", "v", "title", "subject", "creator", "description", "keywords", "lpwstr")


def _docx(data: bytes) -> str:
    out: list[str] = []
    room = MAX_TEXT
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        for entry in package.infolist():
            name = entry.filename.lower()  # Word does not mind capital letters
            if name.startswith("word/embeddings/") or not name.endswith((*_XML, *_BESIDE, "/")):
                raise UnreadableError
            if not name.endswith(_XML):
                continue
            with package.open(entry) as member:
                xml = member.read(10 * MAX_TEXT + 1)
            if len(xml) > 10 * MAX_TEXT:
                raise UnreadableError
            text = _text_of(xml)
            room -= len(text)
            if room < 0:
                raise UnreadableError
            out.append(text)
    return "\n".join(out)


def _text_of(xml: bytes) -> str:
    out: list[str] = []
    inside = 0

    def start(name: str, _: dict[str, str]) -> None:
        nonlocal inside
        inside += name.rpartition(":")[2] in _TEXTS

    def end(name: str) -> None:
        nonlocal inside
        local = name.rpartition(":")[2]
        inside -= local in _TEXTS
        if local in _BREAKS:
            out.append("\n" if local != "tab" else " ")

    def characters(text: str) -> None:
        if inside:
            out.append(text)

    def refuse(*_: Any) -> None:
        raise UnreadableError  # an entity of its own could grow without end

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, characters
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(xml, True)  # noqa: FBT003 - the C function has no name for it
    return "".join(out)


def read_through(kind: MediaType, name: str, data: bytes, on: date, names: list[str]) -> dict[str, Any]:
    """As :class:`services.ehcp_publisher.file_texts.FileText`. ``names``: the words of the child's own name."""
    pages, unread = read(kind, data)
    seen = identities.look(pages, on) if pages else Seen()
    identities.look([name], on, seen)
    words = [word for page in pages for word in identities.words(page)]
    there = set(names) & set(words)
    # A PDF may part a name in the middle, or letter by letter: then two of it are found side by side without the spaces.
    run_together = "".join(words) if len(there) < 2 else ""
    for pair in itertools.permutations(names, 2) if run_together else ():
        if len("".join(pair)) >= SHORTEST_PAIR and "".join(pair) in run_together:
            there.update(pair)
    return {
        "letters": sum(sum(map(str.isalnum, page)) for page in pages), "unread": unread, "own_names": sorted(there),
        "too_many": seen.too_many, "nhs_numbers": seen.nhs_numbers, "upns": seen.upns, "days": sorted(map(str, seen.days)),
        "names": [[one, other, pages] for (one, other), pages in seen.names.items()],
    }  # fmt: skip


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    while line := source.readline():
        asked = orjson.loads(line)
        data = source.read(asked["size"])
        answer: dict[str, Any]
        signal.alarm(asked["seconds"])
        try:
            on = date.fromisoformat(asked["on"])
            answer = read_through(MediaType(asked["kind"]), asked["name"], data, on, asked["names"])
        except MemoryError:
            raise
        except Exception:  # pypdf raises whatever its own assumptions break on; all of it means one thing
            answer = {"unreadable": True}
        signal.alarm(0)
        del data
        sink.write(orjson.dumps(answer) + b"\n")
        sink.flush()


def main() -> None:
    logging.disable(logging.CRITICAL)  # its warnings quote the file
    sys.setrecursionlimit(2_000)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
