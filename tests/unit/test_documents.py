"""The type of a file is found in its bytes; what a recipient could not open is refused, in one sentence each."""

import io
import random
import zipfile
from datetime import date

import pytest
from pypdf import PdfReader, PdfWriter

from schemas.manifest import sha256
from schemas.plan import Child, PlanVersion, Section, SectionLetter
from services.ehcp_publisher.documents import (
    MAX_BYTES,
    Fault,
    MediaType,
    Unfit,
    receive_attachment,
    receive_document,
    safe_name,
    sniff,
)
from services.ehcp_publisher.rendering import render
from services.shared.web.problems import Problem

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000a49444154789c63000100000500010d0a2db4"
    "0000000049454e44ae426082"
)
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00" + b"\x12" * 4000 + b"\xff\xd9"
OLD_WORD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600


@pytest.fixture(scope="module")
def pdf() -> bytes:
    whose = Child(family_name="Hartley", given_names="Rowan", date_of_birth=date(2014, 5, 6))
    version = PlanVersion(issued_on=date(2026, 3, 3), sections={SectionLetter.A: Section(text="Rowan likes trains.")})
    return render(whose, "Dudley", "EHC/1", version)


def locked(pdf: bytes, user: str, owner: str) -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf)))
    writer.encrypt(user, owner, algorithm="AES-256")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def word(kind: str = "wordprocessingml.document.main+xml", **more: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        office = "application/vnd.openxmlformats-officedocument."
        types = f'<Types><Override PartName="/word/document.xml" ContentType="{office}{kind}"/></Types>'
        package.writestr("[Content_Types].xml", types)
        package.writestr("word/document.xml", "<w:document/>")
        for name, data in more.items():
            package.writestr(f"word/{name}.bin", data)
    return out.getvalue()


def test_each_type_is_known_by_its_bytes(pdf: bytes) -> None:
    assert sniff(pdf) is MediaType.PDF
    assert sniff(word()) is MediaType.DOCX
    assert sniff(PNG) is MediaType.PNG
    assert sniff(JPEG) is MediaType.JPEG


def test_a_file_is_received_with_its_hash_and_a_safe_name(pdf: bytes) -> None:
    received = receive_document("C:\\Users\\me\\Plan of Rowan.PDF", pdf)
    assert (received.name, received.media_type, received.sha256, received.data) == (
        "Plan of Rowan.pdf", "application/pdf", sha256(pdf), pdf,
    )  # fmt: skip


@pytest.mark.parametrize("password", [("secret", "secret"), ("", "owner")])
def test_a_protected_pdf_is_refused(pdf: bytes, password: tuple[str, str]) -> None:
    found = sniff(locked(pdf, *password))
    assert isinstance(found, Unfit)
    assert (found.fault, found.problem) == (Fault.UNUSABLE, "it is protected by a password")


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.99])
def test_a_cut_off_file_is_refused_whatever_its_type(pdf: bytes, kept: float) -> None:
    for whole in (pdf, word(media=random.Random(1).randbytes(5000)), PNG, JPEG):
        found = sniff(whole[: int(len(whole) * kept)])
        assert isinstance(found, Unfit)
        assert (found.fault, found.problem) == (Fault.UNUSABLE, "it is cut off")


@pytest.mark.parametrize(
    "data",
    [
        b"%PDF-1.7\n" + b"rubbish " * 50 + b"\n%%EOF\n",
        b"%PDF-1.7\nxref\n0 1\n0000000000 65535 f\ntrailer\n<</Root 1 0 R>>\nstartxref\n9\n%%EOF\n",
        b"%PDF-1.7\n1 0 obj\n<</Type/Catalog/Pages 1 0 R>>\nendobj\ntrailer\n<</Root 1 0 R>>\n%%EOF",
        b"%PDF-1.7\n" + b"[" * 20_000 + b"\n%%EOF",
        b"%PDF-%%EOF",
    ],
)
def test_a_damaged_pdf_is_refused(data: bytes) -> None:
    found = sniff(data)
    assert isinstance(found, Unfit)
    assert found.fault is Fault.UNUSABLE


@pytest.mark.parametrize(
    "data",
    [
        b"<html><body>%PDF-1.7</body></html>",
        b"\x00\x00\x00\x18ftypheic",
        b"GIF89a" + b"\0" * 50,
        b"MZ" + b"\0" * 500,
        b"{\\rtf1 }",
        b"plain text",
        OLD_WORD,
        word("spreadsheetml.sheet.main+xml"),
        word(vbaProject=b"x"),
        word("wordprocessingml.document.macroEnabled.main+xml"),
    ],
)
def test_another_type_is_refused_as_such(data: bytes) -> None:
    with pytest.raises(Problem) as refused:
        receive_attachment("plan.pdf", data)
    assert (refused.value.status, refused.value.slug) == (415, "media-type")
    assert refused.value.errors[0].field == "attachment"
    assert refused.value.errors[0].instead


def test_a_zip_that_is_no_word_file_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as package:
        package.writestr("a.txt", "x")
    assert isinstance(found := sniff(out.getvalue()), Unfit)
    assert found.fault is Fault.OTHER_TYPE


def test_a_zip_bomb_is_not_unpacked() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("[Content_Types].xml", b"\0" * (64 * 2**20))
        package.writestr("word/document.xml", "x")
    assert isinstance(sniff(out.getvalue()), Unfit)


def test_only_a_pdf_is_taken_as_the_document(pdf: bytes) -> None:
    assert receive_document("x", pdf).name == "x.pdf"
    for other in (word(), PNG, JPEG):
        with pytest.raises(Problem) as refused:
            receive_document("plan.pdf", other)
        assert (refused.value.status, refused.value.errors[0].instead) == (415, "send a PDF")


def test_size_counts_first() -> None:
    assert isinstance(sniff(b"%PDF-1.7" + b"x" * MAX_BYTES), Unfit)
    with pytest.raises(Problem) as refused:
        receive_document("plan.pdf", b"x" * (MAX_BYTES + 1))
    assert refused.value.status == 413
    assert "25 MiB" in refused.value.detail


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(Problem) as refused:
        receive_attachment("plan.pdf", b"")
    assert (refused.value.status, refused.value.detail) == (422, "It is empty; send the file again.")


@pytest.mark.parametrize(
    ("name", "media_type", "safe"),
    [
        ("report.pdf", MediaType.PDF, "report.pdf"),
        ("Advice (EP) 2026.DOCX", MediaType.DOCX, "Advice (EP) 2026.docx"),
        ("photo.jpeg", MediaType.JPEG, "photo.jpg"),
        ("../../etc/passwd", MediaType.PDF, "passwd.pdf"),
        ("C:\\temp\\x.pdf", MediaType.PDF, "x.pdf"),
        ("invoice.pdf.exe", MediaType.PDF, "invoice.pdf.exe.pdf"),
        ("gpj.\u202efdp.exe", MediaType.PDF, "gpj.fdp.exe.pdf"),
        ('a\r\nb"c<d>\x00.png', MediaType.PNG, "ab-c-d.png"),
        ("", MediaType.PDF, "document.pdf"),
        ("...", MediaType.PDF, "document.pdf"),
        (".pdf", MediaType.PDF, "document.pdf"),
        ("Sprawozdanie Łucji.pdf", MediaType.PDF, "Sprawozdanie Łucji.pdf"),
        ("x" * 500 + ".pdf", MediaType.PDF, "x" * 120 + ".pdf"),
    ],
)
def test_names_are_made_safe(name: str, media_type: MediaType, safe: str) -> None:
    assert safe_name(name, media_type) == safe
