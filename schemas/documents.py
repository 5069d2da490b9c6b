"""The document API's answers: what a subscriber reads, with a token, when it delivers.

A read is by (share, ``seq``). A stale ``seq`` is answered with the current one, a withdrawn share with nothing. A subscriber
proves every hash before it files anything; unknown fields are kept where a hash covers them (sections, manifest) and
ignored elsewhere, so that a council with a newer contract is served by subscribers that do not know it yet.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import ConfigDict, Field, PlainSerializer, PlainValidator, ValidatorFunctionWrapHandler, WrapValidator

from schemas.base import ContractError, Open
from schemas.events import (
    RecipientCode,
    Seq,
    ShareRecalled,
    ShareReleased,
    ShareRequested,
    ShareWithdrawn,
    VersionNumber,
)
from schemas.manifest import Manifest, Sha256
from schemas.notices import Notice
from schemas.plan import Child, Item, Section, SectionLetter


class ReadOutcome(StrEnum):
    OK = "ok"
    STALE = "stale"
    WITHDRAWN = "withdrawn"
    UNKNOWN = "unknown"
    """No such share, or not this subscriber's: the two are not told apart."""
    LATER = "later"
    """The answer is full; ask again for the rest."""
    HELD = "held"
    """The plan is restricted: nothing of it leaves until a named person at the council lifts that. Try again later."""


class Wanted(Open):
    share_id: UUID
    seq: Seq


class ReadRequest(Open):
    reads: Annotated[tuple[Wanted, ...], Field(min_length=1, max_length=1_000)]


class File(Open):
    name: str
    media_type: str
    sha256: Sha256
    data: str
    """Base64."""


class RecipientDetail(RecipientCode):
    """The recipient as the council knows it; ``email`` and ``address`` only for people."""

    name: str
    email: str | None = None
    address: tuple[str, ...] = ()


class Council(Open):
    la_code: str
    name: str
    ods_code: str


class _ItemAsRead(Item):
    model_config = ConfigDict(extra="allow")


class _SectionAsRead(Section):
    model_config = ConfigDict(extra="allow")

    items: tuple[_ItemAsRead, ...] = ()


class _ChildAsRead(Child):
    model_config = ConfigDict(extra="ignore")


class Sections(Mapping[SectionLetter, Section]):
    """Sections as the JSON that came, since that is what their hashes are of; each is a model when it is looked at.

    A reader that proves a text and hands it on need not take it apart: what has the manifest's hash is what the council
    issued, byte for byte, and the council refuses what is no section. Looking at what is none raises ``ValidationError``.
    """

    __slots__ = ("json",)

    def __init__(self, sections: Mapping[SectionLetter, Section] | Mapping[str, Any]) -> None:
        self.json: dict[str, Any] = {}
        for letter, each in sections.items():
            text = each.model_dump(mode="json", exclude_defaults=True) if isinstance(each, Section) else each
            self.json[SectionLetter(letter).value] = text

    def __getitem__(self, letter: SectionLetter) -> Section:
        return _SectionAsRead.model_validate(self.json[letter.value])

    def __iter__(self) -> Iterator[SectionLetter]:
        return map(SectionLetter, self.json)

    def __len__(self) -> int:
        return len(self.json)


def _sections(value: object) -> Sections:
    if isinstance(value, Sections):
        return value
    if not isinstance(value, Mapping) or not all(isinstance(each, Mapping | Section) for each in value.values()):
        raise ContractError("sections is not an object of sections", "send each section under its letter")
    return Sections(value)


def _child(value: object, _: ValidatorFunctionWrapHandler) -> Child:
    return value if isinstance(value, Child) else _ChildAsRead.model_validate(value)


class Rendering(Open):
    """Everything one recipient gets of one version, or of one notice (then ``notice`` is set, and there are no sections)."""

    plan_id: UUID
    case_reference: str
    council: Council
    recipient: RecipientDetail
    version_id: UUID
    version: VersionNumber
    issued_on: date
    child: Annotated[Child, WrapValidator(_child)]
    """Names and date of birth, and of the identifiers those by which a recipient of this kind finds its record."""
    sections: Annotated[
        Sections,
        PlainValidator(_sections, json_schema_input_type=dict[SectionLetter, Section]),
        PlainSerializer(lambda sections: sections.json, return_type=dict[str, Any]),
    ]
    notice: Notice | None = None
    changed_sections: tuple[SectionLetter, ...] = ()
    manifest: Manifest
    sha256: Sha256
    document: File | None = None
    attachments: tuple[File, ...] = ()


class RenderingAgain(Open):
    """The rendering of an earlier line of the same answer, for another recipient: texts and files travel once."""

    share_id: UUID
    """Of that line."""
    recipient: RecipientDetail
    changed_sections: tuple[SectionLetter, ...] = ()


class ReadAnswer(Open):
    """One line of the NDJSON answer to ``POST /v1/documents/read``. Where it is ``ok``, ``rendering`` or ``again`` is there."""

    share_id: UUID
    seq: Seq
    outcome: ReadOutcome
    current_seq: Seq | None = None
    rendering: Rendering | None = None
    again: RenderingAgain | None = None


class ShareState(Open):
    """One row of a subscriber's own list, from which it can rebuild itself: the whole wish."""

    share_id: UUID
    seq: Seq
    type: str
    """The instruction's CloudEvents ``type``: one of those of the subscriber's own topic."""
    instruction: ShareRequested | ShareWithdrawn | ShareRecalled | ShareReleased
    """As it was or will be published."""


class SharesPage(Open):
    shares: tuple[ShareState, ...]
    next: UUID | None = None
    """Send it as ``after`` for the next page; null on the last."""
