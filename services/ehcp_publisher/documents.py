"""Files that a council sends with a version: their type is found in their bytes, never believed from a name or a header.

Invariant: what is accepted can be opened by a recipient. A file that is cut off, or asks for a password, is refused while
the person who sent it can still mend it, not weeks later by the one who was to read it. Next: ``issuing.py`` hashes and
seals what is received here.
"""

import io
import logging
import re
import unicodedata
import zipfile
from dataclasses import dataclass
from enum import Enum, StrEnum

from pypdf import PdfReader

from schemas.manifest import FileEntry, sha256
from services.shared.web.problems import FieldError, Problem

# Its warnings quote the file.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)

MAX_BYTES = 25 * 2**20


class MediaType(StrEnum):
    PDF = "application/pdf"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    PNG = "image/png"
    JPEG = "image/jpeg"


_SUFFIXES = {
    MediaType.PDF: (".pdf",),
    MediaType.DOCX: (".docx",),
    MediaType.PNG: (".png",),
    MediaType.JPEG: (".jpg", ".jpeg"),
}
_DOCUMENT = frozenset({MediaType.PDF})
_ATTACHMENT = frozenset(MediaType)


class Fault(Enum):
    """Why a file is refused: the HTTP status, the problem's slug and its title."""

    TOO_LARGE = (413, "too-large", "The file is too large")
    OTHER_TYPE = (415, "media-type", "The file is of another type")
    UNUSABLE = (422, "unusable-file", "The file cannot be used")


@dataclass(frozen=True, slots=True)
class Unfit:
    """A file that is refused: what is wrong with it, and what to send instead."""

    fault: Fault
    problem: str
    instead: str


@dataclass(frozen=True, slots=True)
class Received:
    """A file that was accepted; ``name`` is safe to show and to store under."""

    name: str
    media_type: MediaType
    sha256: str
    data: bytes

    def entry(self, name: str | None = None) -> FileEntry:
        """As a manifest lists it."""
        return FileEntry(name=name or self.name, media_type=self.media_type, size=len(self.data), sha256=self.sha256)


def receive_document(name: str, data: bytes) -> Received:
    """The plan itself, a PDF. Raises :class:`Problem`."""
    return _receive("document", name, data, _DOCUMENT, "a PDF")


def receive_attachment(name: str, data: bytes) -> Received:
    """Advice in an appendix: PDF, Word (DOCX), PNG or JPEG. Raises :class:`Problem`."""
    return _receive("attachment", name, data, _ATTACHMENT, "a PDF, DOCX, PNG or JPEG file")


def _receive(field: str, name: str, data: bytes, allowed: frozenset[MediaType], instead: str) -> Received:
    found = sniff(data)
    if isinstance(found, MediaType) and found not in allowed:
        found = Unfit(Fault.OTHER_TYPE, f"it is a {found.name} file", f"send {instead}")
    if isinstance(found, Unfit):
        status, slug, title = found.fault.value
        detail = f"{found.problem[0].upper()}{found.problem[1:]}; {found.instead}."
        raise Problem(status, slug, title, detail, [FieldError(field, found.problem, found.instead)])
    return Received(safe_name(name, found), found, sha256(data), data)


def sniff(data: bytes) -> MediaType | Unfit:
    """What the bytes are. Looks no further into a file than to see that it is whole and open.

    Takes 1 ms for a plan; a file of 25 MiB made to be slow can take 2 s, so large ones are judged beside the event loop.
    """
    if len(data) > MAX_BYTES:
        return Unfit(Fault.TOO_LARGE, f"it is larger than {MAX_BYTES // 2**20} MiB", "send a smaller file, or split it")
    if not data:
        return Unfit(Fault.UNUSABLE, "it is empty", "send the file again")
    if data.startswith(b"%PDF-"):
        return _pdf(data)
    if data.startswith(b"PK\x03\x04"):
        return _docx(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return MediaType.PNG if b"IEND\xae\x42\x60\x82" in data[-1024:] else _CUT_OFF
    if data.startswith(b"\xff\xd8\xff"):
        return MediaType.JPEG if b"\xff\xd9" in data[-1024:] else _CUT_OFF
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        # The container both of Word before 2007 and of a newer file under a password.
        return Unfit(
            Fault.OTHER_TYPE,
            "it is an Office file of the old kind, or under a password",
            "save it as PDF, or as DOCX without a password",
        )
    return _UNKNOWN


_CUT_OFF = Unfit(Fault.UNUSABLE, "it is cut off", "send the whole file again")
_UNKNOWN = Unfit(Fault.OTHER_TYPE, "its type is none that is taken here", "send a PDF, DOCX, PNG or JPEG file")
_BROKEN = Unfit(Fault.UNUSABLE, "it is damaged", "open it to check it, save it again and send that")
_PROTECTED = Unfit(Fault.UNUSABLE, "it is protected by a password", "save it without protection and send that")


def _pdf(data: bytes) -> MediaType | Unfit:
    # pypdf mends a file whose end is missing by guessing, so the end is looked for first.
    if b"%%EOF" not in data[-2048:]:
        return _CUT_OFF
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted:
            return _PROTECTED
        pages = reader.root_object["/Pages"]["/Count"]  # type: ignore[index]
    except Exception:  # pypdf raises whatever its own assumptions break on; all of it means one thing
        return _BROKEN
    return MediaType.PDF if isinstance(pages, int) and pages > 0 else _BROKEN


_CONTENT_TYPES = "[Content_Types].xml"
_MOST_CONTENT_TYPES = 2**20
_WORD = "wordprocessingml.document.main+xml"


def _docx(data: bytes) -> MediaType | Unfit:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            entries = {entry.filename: entry for entry in package.infolist()}
            types = entries.get(_CONTENT_TYPES)
            if types is None or "word/document.xml" not in entries:
                return _UNKNOWN
            if any(entry.flag_bits & 1 for entry in entries.values()):
                return _PROTECTED
            if types.file_size > _MOST_CONTENT_TYPES:
                return _BROKEN
            with package.open(types) as member:
                declared = member.read(_MOST_CONTENT_TYPES)
    except Exception:  # zipfile too raises many things for one: this is no whole package
        return _CUT_OFF if b"PK\x05\x06" not in data[-65_557:] else _BROKEN
    if b"macroEnabled" in declared or "word/vbaProject.bin" in entries:
        return Unfit(Fault.OTHER_TYPE, "it is a Word file with macros", "save it as PDF, or as DOCX without macros")
    return MediaType.DOCX if _WORD.encode() in declared else _UNKNOWN


_LONGEST_NAME = 120
_HARMFUL = re.compile(r'[\\/:*?"<>|]')


def safe_name(name: str, media_type: MediaType) -> str:
    """The file's own name as it can be shown and stored anywhere, ending as its type demands.

    No folder, no character that a file system or a terminal acts on, no change of writing direction (which makes
    ``fdp.exe`` look like ``exe.pdf``), and never an ending that promises another type.
    """
    name = unicodedata.normalize("NFC", re.split(r"[\\/]", name)[-1])
    name = "".join(c for c in name if unicodedata.category(c)[0] != "C")
    name = _HARMFUL.sub("-", name).strip()
    suffixes = _SUFFIXES[media_type]
    stem = next((name[: -len(suffix)] for suffix in suffixes if name.lower().endswith(suffix)), name)
    return (stem.strip(" .-")[:_LONGEST_NAME] or "document") + suffixes[0]
