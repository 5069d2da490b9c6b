"""A subscriber proves what it read, part by part, before it files anything. Every tampering is refused.

The rendering goes through JSON, as it comes over the wire: what was changed there is what an attacker, a faulty proxy or a
faulty council could change.
"""

import base64
from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import pytest

from schemas.documents import ReadAnswer
from schemas.manifest import FileEntry, Manifest, section_hash, sha256
from services.shared.delivery.council import BadRenderingError, content_of
from services.shared.record_systems.port import Content
from tests.support.contents import DUDLEY, SECTIONS, child, pdf

PLAN, VERSION, SHARE, FORMER = (UUID(int=n) for n in (1, 2, 3, 4))
DOCUMENT, FIRST, SECOND = pdf("plan"), pdf("first"), pdf("second")
Wire = dict[str, Any]


def entry(name: str, data: bytes) -> FileEntry:
    return FileEntry(name=name, media_type="application/pdf", size=len(data), sha256=sha256(data))


def file(name: str, data: bytes) -> Wire:
    encoded = base64.b64encode(data).decode()
    return {"name": name, "media_type": "application/pdf", "sha256": sha256(data), "data": encoded}


def manifest(**changes: Any) -> Manifest:
    parts: dict[str, Any] = {
        "plan_id": PLAN, "version_id": VERSION, "issued_on": date(2026, 3, 12),
        "sections": {letter: section_hash(section) for letter, section in SECTIONS.items()},
        "document": entry("plan.pdf", DOCUMENT), "attachments": (entry("k1.pdf", FIRST), entry("k2.pdf", SECOND)),
    }  # fmt: skip
    return Manifest(**parts | changes)


def wire() -> Wire:
    """What the document API sends: everything in place."""
    return {
        "plan_id": str(PLAN), "case_reference": "EHC-2019-0042", "council": DUDLEY.model_dump(mode="json"),
        "recipient": {"kind": "trust", "scheme": "ods", "value": "RNA", "name": "Dudley Group"},
        "version_id": str(VERSION), "version": 2, "issued_on": "2026-03-12", "child": child().model_dump(mode="json"),
        "sections": {letter.value: section.model_dump(mode="json") for letter, section in SECTIONS.items()},
        "changed_sections": ["A"], "manifest": manifest().model_dump(mode="json"), "sha256": manifest().hash(),
        "document": file("plan.pdf", DOCUMENT), "attachments": [file("k1.pdf", FIRST), file("k2.pdf", SECOND)],
    }  # fmt: skip


def proved(rendering: Wire, expected: str | None = None) -> Content:
    answer = ReadAnswer.model_validate(
        {"share_id": str(SHARE), "seq": 5, "outcome": "ok", "current_seq": 5, "rendering": rendering}
    )
    assert answer.rendering is not None
    return content_of(answer.rendering, SHARE, 5, expected or manifest().hash(), FORMER)


def test_what_is_whole_is_handed_out_as_plain_bytes() -> None:
    content = proved(wire())
    assert (content.share_id, content.seq, content.plan_id, content.version_id) == (SHARE, 5, PLAN, VERSION)
    assert (content.version, content.issued_on, content.replaces) == (2, date(2026, 3, 12), FORMER)
    assert content.sha256 == content.manifest.hash() == manifest().hash()
    assert content.document is not None
    assert (content.document.name, content.document.data, content.document.sha256) == ("plan.pdf", DOCUMENT, sha256(DOCUMENT))
    assert [(each.name, each.data) for each in content.attachments] == [("k1.pdf", FIRST), ("k2.pdf", SECOND)]
    assert {letter: content.sections[letter].model_dump() for letter in content.sections} == {
        letter: section.model_dump() for letter, section in SECTIONS.items()
    }
    assert (content.recipient.scheme, content.recipient.value, content.recipient.name) == ("ods", "RNA", "Dudley Group")


def test_a_plan_without_files_and_one_without_sections() -> None:
    bare = manifest(document=None, attachments=())
    rendering = wire() | {"manifest": bare.model_dump(mode="json"), "sha256": bare.hash(), "document": None, "attachments": []}
    assert proved(rendering, bare.hash()).document is None
    paper = manifest(sections={}, attachments=())
    rendering = wire() | {
        "manifest": paper.model_dump(mode="json"), "sha256": paper.hash(), "sections": {}, "attachments": [],
    }  # fmt: skip
    assert dict(proved(rendering, paper.hash()).sections) == {}


# --- every single thing changed -----------------------------------------------------------------------------------------


def _text(rendering: Wire) -> None:
    rendering["sections"]["A"]["text"] += " "


def _item(rendering: Wire) -> None:
    rendering["sections"]["G"]["items"][0]["frequency"] = "never"


def _unknown_field(rendering: Wire) -> None:
    rendering["sections"]["A"]["note"] = "added on the way"


def _section_gone(rendering: Wire) -> None:
    del rendering["sections"]["C"]


def _section_more(rendering: Wire) -> None:
    rendering["sections"]["B"] = {"text": "Not of this rendering."}


def _sections_swapped(rendering: Wire) -> None:
    sections = rendering["sections"]
    sections["A"], sections["C"] = sections["C"], sections["A"]


def _sections_gone(rendering: Wire) -> None:
    rendering["sections"] = {}


def _document(rendering: Wire) -> None:
    rendering["document"] = file("plan.pdf", pdf("another plan"))


def _document_bit(rendering: Wire) -> None:
    damaged = bytearray(DOCUMENT)
    damaged[100] ^= 1
    rendering["document"]["data"] = base64.b64encode(bytes(damaged)).decode()


def _document_cut(rendering: Wire) -> None:
    rendering["document"]["data"] = base64.b64encode(DOCUMENT[:-1]).decode()


def _document_empty(rendering: Wire) -> None:
    rendering["document"]["data"] = ""


def _document_no_base64(rendering: Wire) -> None:
    rendering["document"]["data"] = "*" + rendering["document"]["data"][1:]


def _document_gone(rendering: Wire) -> None:
    rendering["document"] = None


def _attachment_gone(rendering: Wire) -> None:
    rendering["attachments"].pop()


def _attachment_more(rendering: Wire) -> None:
    rendering["attachments"].append(file("k3.pdf", pdf("third")))


def _attachment_twice(rendering: Wire) -> None:
    rendering["attachments"][1] = rendering["attachments"][0]


def _attachments_swapped(rendering: Wire) -> None:
    rendering["attachments"].reverse()


def _other_plan(rendering: Wire) -> None:
    rendering["plan_id"] = str(uuid4())


def _other_version(rendering: Wire) -> None:
    rendering["version_id"] = str(uuid4())


def _manifest_date(rendering: Wire) -> None:
    rendering["manifest"]["issued_on"] = "2026-03-13"


def _manifest_name(rendering: Wire) -> None:
    rendering["manifest"]["document"]["name"] = "other.pdf"


def _manifest_size(rendering: Wire) -> None:
    rendering["manifest"]["document"]["size"] += 1


def _manifest_type(rendering: Wire) -> None:
    rendering["manifest"]["document"]["media_type"] = "text/html"


def _manifest_field(rendering: Wire) -> None:
    rendering["manifest"]["note"] = "added on the way"


def _manifest_not_canonical(rendering: Wire) -> None:
    rendering["manifest"]["weight"] = 0.1


def _section_not_canonical(rendering: Wire) -> None:
    rendering["sections"]["A"]["weight"] = 0.1


def _all_of_it(rendering: Wire) -> None:
    """Consistent in itself, but not what the instruction names."""
    section = {"text": "Another text."}
    other = manifest(sections={"A": section_hash(section)}, document=None, attachments=())
    rendering |= {
        "sections": {"A": section}, "manifest": other.model_dump(mode="json"), "sha256": other.hash(), "document": None,
        "attachments": [],
    }  # fmt: skip


TAMPERINGS: list[Callable[[Wire], None]] = [
    _text, _item, _unknown_field, _section_gone, _section_more, _sections_swapped, _sections_gone, _document,
    _document_bit, _document_cut, _document_empty, _document_no_base64, _document_gone, _attachment_gone, _attachment_more,
    _attachment_twice, _attachments_swapped, _other_plan, _other_version, _manifest_date, _manifest_name, _manifest_size,
    _manifest_type, _manifest_field, _manifest_not_canonical, _section_not_canonical, _all_of_it,
]  # fmt: skip


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda each: each.__name__.strip("_"))
def test_every_tampering_is_refused(tamper: Callable[[Wire], None]) -> None:
    rendering = wire()
    tamper(rendering)
    with pytest.raises(BadRenderingError) as refused:
        proved(rendering)
    # The reason goes into a receipt: it must say something, and nothing of the plan.
    assert str(refused.value)
    assert "Rowan" not in str(refused.value)


def test_a_document_that_the_manifest_does_not_name_is_refused() -> None:
    bare = manifest(document=None)
    rendering = wire() | {"manifest": bare.model_dump(mode="json"), "sha256": bare.hash()}
    with pytest.raises(BadRenderingError):
        proved(rendering, bare.hash())


def test_whole_but_not_what_the_instruction_names() -> None:
    with pytest.raises(BadRenderingError, match="the rendering's hash is not the instruction's"):
        proved(wire(), "0" * 64)
