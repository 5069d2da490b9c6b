"""Small PDF and Word files with a text that a test chooses."""

import io
import os
import zipfile
import zlib
from collections.abc import Sequence

from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject


def pdf_of(*pages: str, title: str | None = None, noise: int = 0) -> bytes:
    """A PDF with these texts, a page each; an empty one is a blank page. ``noise``: bytes that nobody sees."""
    writer = PdfWriter()
    for text in pages:
        page = writer.add_blank_page(595, 842)
        if text:
            font = DictionaryObject(
                {
                    NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1"),
                    NameObject("/BaseFont"): NameObject("/Helvetica"), NameObject("/Encoding"): NameObject("/WinAnsiEncoding"),
                }
            )  # fmt: skip
            fonts = DictionaryObject({NameObject("/F1"): font})
            page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
            content = DecodedStreamObject()
            content.set_data(_drawn(text.splitlines()))
            page[NameObject("/Contents")] = writer._add_object(content)
    if noise:
        unseen = DecodedStreamObject()
        unseen.set_data(os.urandom(noise))
        writer.root_object[NameObject("/Unseen")] = writer._add_object(unseen)
    if title:
        writer.add_metadata({"/Title": title})
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def _drawn(lines: Sequence[str]) -> bytes:
    escaped = [line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") for line in lines]
    shown = "\n".join(f"({line}) Tj T*" for line in escaped)
    return f"BT /F1 11 Tf 14 TL 50 800 Td\n{shown}\nET".encode("cp1252")


def word_of(text: str, **more: str) -> bytes:
    """A Word file; ``more`` are further parts, by the name of the XML file in ``word/``."""
    office = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr(
            "[Content_Types].xml", f'<Types><Override PartName="/word/document.xml" ContentType="{office}"/></Types>'
        )
        package.writestr("word/document.xml", _paragraphs(text))
        for name, each in more.items():
            package.writestr(f"word/{name}.xml", _paragraphs(each))
    return out.getvalue()


def _paragraphs(text: str) -> str:
    inside = "".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in text.split("\n"))
    return f'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">{inside}</w:document>'


def hostile_pdfs() -> dict[str, bytes]:
    """Small files that are made to take a reader's memory, time or stack."""
    return {
        "a stream that unpacks to 1 GiB": _pdf_with(_unpacks_to(2**30), b"/Filter [/FlateDecode /FlateDecode]"),
        "10,000 pages": _pdf_of_pages(10_000),
        "arrays within arrays": _pdf_with(b"", b"/Deep " + b"[" * 50_000 + b"]" * 50_000),
        "pages that are their own parents": _whole(
            [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Count 1 /Kids [2 0 R] /Parent 2 0 R >>"]
        ),
    }


def encrypted_pdf() -> bytes:
    writer = PdfWriter()
    writer.add_blank_page(595, 842)
    writer.encrypt("secret", algorithm="RC4-128")
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def _unpacks_to(size: int) -> bytes:
    """Packed twice: what is packed once from so many spaces is itself nearly all the same. After a full flush the packed block
    stands alone, so it is made once and repeated."""
    packer, block = zlib.compressobj(9, zlib.DEFLATED, -15), b" " * 2**24
    packed, check = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH), 1
    for _ in range(size // len(block)):
        check = zlib.adler32(block, check)
    once = b"\x78\x9c" + packed * (size // len(block)) + packer.flush() + check.to_bytes(4, "big")
    return zlib.compress(once, 9)


def _pdf_with(content: bytes, entries: bytes) -> bytes:
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R >>"
    stream = b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(content), entries, content)
    return _whole([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>", page, stream])


def _pdf_of_pages(number: int) -> bytes:
    kids = b" ".join(b"%d 0 R" % (place + 3) for place in range(number))
    pages = b"<< /Type /Pages /Count %d /Kids [%s] /MediaBox [0 0 595 842] >>" % (number, kids)
    return _whole([b"<< /Type /Catalog /Pages 2 0 R >>", pages, *[b"<< /Type /Page /Parent 2 0 R >>"] * number])


def _whole(objects: Sequence[bytes]) -> bytes:
    out, places = bytearray(b"%PDF-1.7\n"), []
    for number, each in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(out)
