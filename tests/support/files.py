"""Small PDF and Word files with a text that a test chooses."""

import io
import os
import zipfile
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
