"""The document API's answers: what a subscriber reads, with a token, when it delivers.

A read is by (share, ``seq``). A stale ``seq`` is answered with the current one, a withdrawn share with nothing. A
subscriber takes an answer through :func:`read_answer`, which proves that texts, files and manifest fit the hash.
"""

import base64
import binascii
from datetime import date
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import orjson
from pydantic import Field

from schemas.base import Open, RecipientKind
from schemas.events import RecipientCode, Seq, VersionNumber
from schemas.manifest import FileEntry, Manifest, NotCanonicalError, Sha256, section_hash, sha256
from schemas.plan import Child, Section, SectionLetter


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


class Rendering(Open):
    """Everything one recipient gets of one version."""

    plan_id: UUID
    case_reference: str
    council: Council
    recipient: RecipientDetail
    version_id: UUID
    version: VersionNumber
    issued_on: date
    child: Child
    sections: dict[SectionLetter, Section]
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


class DamagedError(ValueError):
    """What was read is not what its hash says. Never filed; read again, and if it stays so it is an alarm."""


def read_answer(line: bytes) -> ReadAnswer:
    """Parse one line of the document API's answer and prove it: sections, files and manifest against ``sha256``.

    Hashes are taken of what came, not of what this model knows of it, so a newer council may add fields and an older
    subscriber still proves and files the text. Raises :class:`DamagedError`, or ``ValueError`` when it is no answer
    at all.
    """
    raw = orjson.loads(line)
    # ``extra``: a subscriber is not the one to refuse a field that the council's newer contract has.
    answer = ReadAnswer.model_validate(raw, extra="ignore")
    if answer.rendering is None:
        return answer
    # The manifest keeps what it does not know: whoever proves a copy later takes its hash again.
    manifest = Manifest.model_validate(raw["rendering"]["manifest"])
    rendering = answer.rendering.model_copy(update={"manifest": manifest})
    _prove(rendering, raw["rendering"])
    return answer.model_copy(update={"rendering": rendering})


def _prove(rendering: Rendering, raw: dict[str, Any]) -> None:
    manifest = rendering.manifest
    try:
        if manifest.hash() != rendering.sha256:
            raise DamagedError("the manifest does not have the rendering's hash")
        if {letter: section_hash(text) for letter, text in raw["sections"].items()} != manifest.sections:
            raise DamagedError("the sections are not those of the manifest")
    except NotCanonicalError as error:
        raise DamagedError("the rendering holds a value that no hash can cover") from error
    if (manifest.plan_id, manifest.version_id) != (rendering.plan_id, rendering.version_id):
        raise DamagedError("the manifest is of another version")
    listed = ((manifest.document,) if manifest.document else ()) + manifest.attachments
    sent = ((rendering.document,) if rendering.document else ()) + rendering.attachments
    if len(listed) != len(sent) or not all(_is(entry, file) for entry, file in zip(listed, sent, strict=True)):
        raise DamagedError("a document or an attachment is not the one in the manifest")


def _is(entry: FileEntry, file: File) -> bool:
    try:
        data = base64.b64decode(file.data, validate=True)
    except binascii.Error:
        return False
    return (entry.sha256, entry.size) == (sha256(data), len(data))
