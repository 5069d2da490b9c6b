"""Plan versions as an adapter gets them, for tests of record systems: valid in every field, each field to be overridden."""

import itertools
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any
from uuid import UUID, uuid4

from schemas.base import RecipientKind
from schemas.documents import Council, Sections
from schemas.identifiers import CodeScheme, check_nhs_number
from schemas.lifecycle import ReviewOutcome
from schemas.manifest import FileEntry, Manifest, section_hash, sha256
from schemas.notices import Notice, NoticeKind
from schemas.plan import Child, Item, Section, SectionLetter
from services.shared.record_systems.port import Content, File, Recipient

DUDLEY = Council(la_code="332", name="Dudley Metropolitan Borough Council", ods_code="00CTW")
RNA = Recipient(RecipientKind.TRUST, CodeScheme.ODS, "RNA", "The Dudley Group NHS Foundation Trust")

SECTIONS = {
    SectionLetter.A: Section(text="Rowan likes trains and wants to travel to school alone."),
    SectionLetter.C: Section(items=(Item(ref="C1", text="Epilepsy, well controlled."),)),
    SectionLetter.G: Section(
        items=(
            Item(
                ref="G1",
                text="Epilepsy care plan reviewed with the school.",
                serves=("C1",),
                provider="The Dudley Group",
                frequency="every six months",
            ),
        )
    ),
}


def child(**more: Any) -> Child:
    given = {
        "family_name": "Hartley",
        "given_names": "Rowan James",
        "date_of_birth": date(2014, 5, 6),
        "nhs_number": "9434765919",
    }
    return Child(**given | more)


def pdf(text: str = "plan", size: int = 2_000) -> bytes:
    return b"%PDF-1.7\n" + text.encode() + b"\n" + b"x" * size + b"\n%%EOF\n"


def invitation(**more: Any) -> Notice:
    given = {
        "kind": NoticeKind.REVIEW_INVITATION, "happened_on": date(2026, 9, 1), "review": "R-2026-1",
        "meeting_on": date(2026, 9, 21), "text": "You are invited to the annual review meeting on 21 September 2026.",
    }  # fmt: skip
    return Notice(**given | more)


def decision(**more: Any) -> Notice:
    given = {
        "kind": NoticeKind.REVIEW_DECISION, "happened_on": date(2026, 10, 5), "review": "R-2026-1",
        "decision": ReviewOutcome.AMEND, "text": "The council has decided to amend the plan.",
    }  # fmt: skip
    return Notice(**given | more)


def content(
    *,
    seq: int = 1,
    plan_id: UUID | None = None,
    share_id: UUID | None = None,
    version_id: UUID | None = None,
    version: int = 1,
    issued_on: date = date(2026, 3, 12),
    recipient: Recipient = RNA,
    whose: Child | None = None,
    sections: dict[SectionLetter, Section] | None = None,
    changed_sections: Sequence[SectionLetter] = (),
    document: bytes | None = None,
    attachments: Sequence[tuple[str, bytes]] = (),
    replaces: UUID | None = None,
    notice: Notice | None = None,
) -> Content:
    plan_id, share_id, version_id = plan_id or uuid4(), share_id or uuid4(), version_id or uuid4()
    sections = {} if notice else SECTIONS if sections is None else sections
    file = File("plan.pdf", "application/pdf", sha256(document), document) if document is not None else None
    appended = tuple(File(name, "application/pdf", sha256(data), data) for name, data in attachments)
    manifest = Manifest(
        plan_id=plan_id,
        version_id=version_id,
        issued_on=issued_on,
        sections={letter: section_hash(section) for letter, section in sections.items()},
        notice=notice.hash() if notice else None,
        document=_entry(file) if file else None,
        attachments=tuple(_entry(each) for each in appended),
    )
    return Content(
        share_id=share_id,
        seq=seq,
        plan_id=plan_id,
        case_reference="EHC-2019-0042",
        council=DUDLEY,
        recipient=recipient,
        version_id=version_id,
        version=version,
        issued_on=issued_on,
        child=whose or child(),
        sections=Sections(sections),
        changed_sections=tuple(changed_sections),
        manifest=manifest,
        sha256=manifest.hash(),
        document=file,
        attachments=appended,
        replaces=replaces,
        notice=notice,
    )


def _entry(file: File) -> FileEntry:
    return FileEntry(name=file.name, media_type=file.media_type, size=len(file.data), sha256=file.sha256)


def nhs_numbers() -> Iterator[str]:
    """Valid ones, in order."""
    for body in itertools.count(943476000):
        for digit in "0123456789":
            try:
                yield check_nhs_number(f"{body}{digit}")
            except ValueError:
                continue
