"""The document API's answers: what a subscriber reads, with a token, when it delivers.

A read is by (share, ``seq``). A stale ``seq`` is answered with the current one, a withdrawn share with nothing. A subscriber
proves every hash before it files anything; unknown fields are kept where a hash covers them (sections, manifest) and
ignored elsewhere, so that a council with a newer contract is served by subscribers that do not know it yet.
"""

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, Field, SerializeAsAny, ValidatorFunctionWrapHandler, WrapValidator

from schemas.base import Open, RecipientKind
from schemas.events import RecipientCode, Seq, VersionNumber
from schemas.manifest import Manifest, Sha256
from schemas.plan import Child, Item, Section, SectionLetter


class ReadOutcome(StrEnum):
    OK = "ok"
    STALE = "stale"
    WITHDRAWN = "withdrawn"
    UNKNOWN = "unknown"
    """No such share, or not this subscriber's: the two are not told apart."""
    LATER = "later"
    """The answer is full; ask again for the rest."""


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


def _section(value: object, _: ValidatorFunctionWrapHandler) -> Section:
    return value if isinstance(value, Section) else _SectionAsRead.model_validate(value)


def _child(value: object, _: ValidatorFunctionWrapHandler) -> Child:
    return value if isinstance(value, Child) else _ChildAsRead.model_validate(value)


class Rendering(Open):
    """Everything one recipient gets of one version."""

    plan_id: UUID
    case_reference: str
    council: Council
    recipient: RecipientDetail
    version_id: UUID
    version: VersionNumber
    issued_on: date
    child: Annotated[Child, WrapValidator(_child)]
    sections: dict[SectionLetter, Annotated[SerializeAsAny[Section], WrapValidator(_section)]]
    changed_sections: tuple[SectionLetter, ...] = ()
    manifest: Manifest
    sha256: Sha256
    document: File | None = None
    attachments: tuple[File, ...] = ()


class ReadAnswer(Open):
    """One line of the NDJSON answer to ``POST /v1/documents/read``."""

    share_id: UUID
    seq: Seq
    outcome: ReadOutcome
    current_seq: Seq | None = None
    rendering: Rendering | None = None


class ShareState(Open):
    """One row of a subscriber's own list, from which it can rebuild itself: the whole wish."""

    share_id: UUID
    seq: Seq
    kind: RecipientKind
    instruction: dict[str, object]
    """The instruction exactly as it was or will be published, with its CloudEvents ``type`` under ``type``."""
