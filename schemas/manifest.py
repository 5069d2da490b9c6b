"""One hash for one rendering: the canonical manifest (RFC 8785) and its SHA-256.

The hash covers plan, version, the sections included, each section's hash, the document's and each attachment's. A
rendering of some sections only is another rendering with its own hash. Hashes are taken of what has content: members
that are null, an empty text, list or object are left out first, so a field that a later minor version adds changes no
existing hash.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any
from uuid import UUID

import orjson
from pydantic import Field, StringConstraints

from schemas.base import Kept
from schemas.plan import Section, SectionLetter

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""64 lower-case hexadecimal digits."""

_LARGEST = 2**53 - 1
_EMPTY_MEMBER = re.compile(rb':(?:""|\[\]|\{\}|null)')
"""In JSON of orjson: a member that is empty, or text that looks like one (a quote within text has a backslash before it)."""


class NotCanonicalError(ValueError):
    """A value that has no agreed canonical bytes here."""


def _check(value: Any) -> None:
    """Refuse everything for which orjson and RFC 8785 could differ, wherever it hides."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return
    if kind is int:
        if not -_LARGEST <= value <= _LARGEST:
            raise NotCanonicalError("an integer beyond 2^53 - 1 has no canonical form; send it as a string")
    elif kind is dict:
        for key, member in value.items():
            if type(key) is not str or not key.isascii():
                raise NotCanonicalError("a key that is not ASCII text has no canonical form here")
            if type(member) is not str:
                _check(member)
    elif kind is list or kind is tuple:
        for member in value:
            if type(member) is not str:
                _check(member)
    else:
        raise NotCanonicalError(f"a {kind.__name__} has no canonical form here; use strings and integers")


def canonical(value: Any) -> bytes:
    """RFC 8785 bytes of a JSON value: strings, integers to 2^53 - 1, booleans, null, lists and ASCII-keyed objects.

    orjson with sorted keys gives the same bytes as RFC 8785 for these types at a fraction of the cost; a property test
    holds it against the reference library. Everything else (floats above all, where the two differ) raises
    :class:`NotCanonicalError`. A lone surrogate raises it too.
    """
    _check(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise NotCanonicalError("the value holds text that is not Unicode, or is nested too deeply") from error


def without_empty(value: Any) -> Any:
    """``value`` without the members of objects that are null or an empty text, list or object."""
    # Written for speed: every section of every plan goes through here once per recipient.
    if isinstance(value, dict):
        kept = {}
        for key, member in value.items():
            lean = member if isinstance(member, str) else without_empty(member)
            if lean or isinstance(lean, int | float):  # false and 0 are content (0.0 too, for `canonical` to refuse)
                kept[key] = lean
        return kept
    if isinstance(value, list | tuple):
        return [member if isinstance(member, str) else without_empty(member) for member in value]
    return value


def sha256(data: bytes) -> Sha256:
    return hashlib.sha256(data).hexdigest()


def section_bytes(section: Section | Mapping[str, Any]) -> bytes:
    """What a section's hash is of: its canonical JSON, as a model or as the JSON that came."""
    if type(section) is Section:  # only text and lists of text: nothing to refuse, and mostly nothing empty to leave out
        data = orjson.dumps(section.model_dump(mode="json", exclude_defaults=True), option=orjson.OPT_SORT_KEYS)
        if not _EMPTY_MEMBER.search(data):
            return data
    content = section.model_dump(mode="json", exclude_defaults=True) if isinstance(section, Section) else dict(section)
    return canonical(without_empty(content))


def section_hash(section: Section | Mapping[str, Any]) -> Sha256:
    """SHA-256 of a section, as a model or as the JSON that came (a reader hashes what it received)."""
    return sha256(section_bytes(section))


def has_section_hash(section: Mapping[str, Any], expected: Sha256) -> bool:
    """Whether ``section_hash(section)`` is ``expected``, for JSON that was read; raises :class:`NotCanonicalError`.

    What the council sends has no empty members, so that one pass of orjson mostly proves it: bytes that have the hash are
    the bytes that were hashed. Anything else is looked at with care.
    """
    return sha256(orjson.dumps(section, option=orjson.OPT_SORT_KEYS)) == expected or section_hash(section) == expected


class FileEntry(Kept):
    name: str
    media_type: str
    size: int
    """Bytes."""
    sha256: Sha256


class Manifest(Kept):
    """What one rendering is made of; the title page of everything that is shared."""

    plan_id: UUID
    version_id: UUID
    issued_on: date
    sections: dict[SectionLetter, Sha256] = Field(default_factory=dict)
    notice: Sha256 | None = None
    """For a notice in place of sections: the hash of its facts and its text; ``version_id`` is the notice's id."""
    document: FileEntry | None = None
    attachments: tuple[FileEntry, ...] = ()

    def canonical(self) -> bytes:
        return canonical(without_empty(self.model_dump(mode="json")))

    def hash(self) -> Sha256:
        """The rendering's SHA-256: what instructions, receipts and record systems carry."""
        return sha256(self.canonical())
