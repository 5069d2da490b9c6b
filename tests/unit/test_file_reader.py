"""What is read of a PDF or Word file: whatever leaves with it. Where another file is in it, nothing is."""

import io
import zipfile
from datetime import date
from typing import Any

import pytest
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DecodedStreamObject, DictionaryObject, NameObject, TextStringObject

from services.ehcp_publisher.documents import MediaType
from services.ehcp_publisher.file_reader import UnreadableError, read, read_through
from tests.support.files import pdf_of, word_of

CHART = (
    '<c:chartSpace xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart"><c:cat><c:strCache>'
    "<c:pt><c:v>Oliver Smith</c:v></c:pt><c:pt><c:v>9434765870</c:v></c:pt></c:strCache></c:cat></c:chartSpace>"
)
DIAGRAM = (
    '<dgm:dataModel xmlns:dgm="http://schemas.openxmlformats.org/drawingml/2006/diagram"'
    ' xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"><a:p><a:r><a:t>NHS 943 476 5870</a:t></a:r></a:p>'
    "</dgm:dataModel>"
)


def pdf_with(where: str, entry: DictionaryObject) -> bytes:
    """A PDF with text and this entry: a note of its page, or what the page or the whole file is said to go with."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf_of("The plan of Amira Khan, who likes trains"))))
    holder = writer.root_object if where == "file" else writer.pages[0]
    name = "/Annots" if where == "note" else "/AF"
    # As most programs write them: the list by itself.
    holder[NameObject(name)] = writer._add_object(ArrayObject([writer._add_object(entry)]))
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def note(subtype: str, **entries: Any) -> DictionaryObject:
    found = {NameObject("/Type"): NameObject("/Annot"), NameObject("/Subtype"): NameObject(subtype)}
    return DictionaryObject(found | {NameObject(f"/{name}"): each for name, each in entries.items()})


def another_file() -> DictionaryObject:
    stream = DecodedStreamObject()
    stream.set_data(b"Oliver Smith, NHS 943 476 5870")
    return DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Filespec"), NameObject("/F"): TextStringObject("list.txt"),
            NameObject("/EF"): DictionaryObject({NameObject("/F"): stream}),
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("where", "entry"),
    [
        ("note", note("/FileAttachment", FS=another_file())),
        ("note", note("/Text", AF=ArrayObject([another_file()]))),
        ("note", note("/RichMedia")),
        ("note", note("/Sound")),
        ("page", another_file()),
        ("file", another_file()),
    ],
)
def test_a_pdf_with_another_file_in_it_is_not_read(where: str, entry: DictionaryObject) -> None:
    with pytest.raises(UnreadableError):
        read(MediaType.PDF, pdf_with(where, entry))


def test_comments_on_a_page_are_read() -> None:
    said = note("/Text", Contents=TextStringObject("See also 943 476 5870"), T=TextStringObject("Officer One"))
    assert "9434765870" in read_through(MediaType.PDF, "a.pdf", pdf_with("note", said), date(2026, 11, 2), [])["nhs_numbers"]


@pytest.mark.parametrize(
    ("part", "xml"),
    [
        ("word/charts/chart1.xml", CHART),
        ("word/diagrams/data1.xml", DIAGRAM),
        ("word/glossary/document.xml", DIAGRAM),
        ("Word/Glossary/Document.XML", DIAGRAM),
        ("custom/parts/of/its/own.xml", DIAGRAM),
    ],
)
def test_every_part_of_a_word_file_is_read(part: str, xml: str) -> None:
    said = read_through(MediaType.DOCX, "a.docx", word_with(part, xml.encode()), date(2026, 11, 2), [])
    assert list(said["nhs_numbers"]) == ["9434765870"]


@pytest.mark.parametrize(
    "part", ["word/embeddings/sheet1.xlsx", "Word/Embeddings/item.xml", "word/chunk1.html", "word/list.rtf"]
)
def test_a_word_file_with_another_file_in_it_is_not_read(part: str) -> None:
    with pytest.raises(UnreadableError):
        read(MediaType.DOCX, word_with(part, b"<p>Oliver Smith</p>"))


@pytest.mark.parametrize(
    "part", ["word/media/image1.PNG", "word/_rels/document.xml.rels", "word/fonts/font1.odttf", "word/media/"]
)
def test_what_every_word_file_may_have_is_no_other_file(part: str) -> None:
    (text,) = read(MediaType.DOCX, word_with(part, b""))[0]
    assert text.strip() == "Amira"


def word_with(part: str, data: bytes) -> bytes:
    out = io.BytesIO(word_of("Amira"))
    with zipfile.ZipFile(out, "a") as package:
        package.writestr(part, data)
    return out.getvalue()
