"""Which version is current, and what a newly received one is: the new current one, history, a repeat, or the same text.

Pure. The current version is the greatest by (``issued_on``, number) that may leave: that is neither recalled, nor held, nor
rejected. An older one that comes in late is history: kept, and never shared as new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from uuid import UUID

import orjson

from schemas.guard import Finding
from schemas.manifest import canonical, section_bytes, sha256
from schemas.plan import PlanVersion, SectionLetter
from services.shared.json import dumps


@dataclass(frozen=True, slots=True)
class Hold:
    """The guard found something; a second person releases the version, or rejects it."""

    findings: tuple[Finding, ...] = ()
    released: bool | None = None


@dataclass(frozen=True, slots=True)
class Issued:
    """A version that the exchange has."""

    version_id: UUID
    number: int
    issued_on: date
    text_hash: str
    section_hashes: Mapping[str, str]
    recalled: bool = False
    hold: Hold | None = None

    @property
    def may_leave(self) -> bool:
        return not self.recalled and (self.hold is None or self.hold.released is True)

    @property
    def waits(self) -> bool:
        return self.hold is not None and self.hold.released is None and not self.recalled

    @property
    def rejected(self) -> bool:
        return self.hold is not None and self.hold.released is False


@dataclass(frozen=True, slots=True)
class Text:
    """The hashes of each section, and of all that was sent but the date. ``sections`` are what was hashed."""

    section_hashes: dict[SectionLetter, str]
    text_hash: str
    sections: dict[SectionLetter, bytes] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class First:
    number: int = 1


@dataclass(frozen=True, slots=True)
class Next:
    number: int
    replaces: Issued
    changed: tuple[SectionLetter, ...]


@dataclass(frozen=True, slots=True)
class History:
    number: int
    current: Issued


@dataclass(frozen=True, slots=True)
class Repeat:
    """Same text, same day: the answer is the one given before."""

    issued: Issued


@dataclass(frozen=True, slots=True)
class SameText:
    """Same text as the current version under another date: nothing new to share."""

    current: Issued


@dataclass(frozen=True, slots=True)
class Recalled:
    """The very version that was recalled: it must not come back by a repeated message."""

    issued: Issued


@dataclass(frozen=True, slots=True)
class Held:
    """The very version that waits for a second person."""

    issued: Issued
    hold: Hold


@dataclass(frozen=True, slots=True)
class Rejected:
    """The very version that a second person rejected."""

    issued: Issued


@dataclass(frozen=True, slots=True)
class Behind:
    """Older than one that waits, while none may leave yet: were it shared, an old version would go out as the newest."""

    waiting: Issued


Decision = First | Next | History | Repeat | SameText | Recalled | Held | Rejected | Behind


def text_of(version: PlanVersion, document: str | None, attachments: Sequence[str]) -> Text:
    """``document`` and ``attachments`` are SHA-256 of the files that came with the version."""
    sections = {letter: section_bytes(section) for letter, section in sorted((version.sections or {}).items())}
    hashes = {letter: sha256(section) for letter, section in sections.items()}
    by_letter = {letter.value: value for letter, value in hashes.items()}
    # Who should hold it belongs to a version too: were it left out, a corrected code or a parent's new address would look like
    # a repeat and be lost without a word.
    rest = version.model_dump(mode="json", by_alias=True, exclude={"issued_on", "sections"})
    whole = sha256(canonical({"sections": by_letter, "document": document, "attachments": list(attachments), "rest": rest}))
    return Text(hashes, whole, sections)


def stored(version: PlanVersion, text: Text) -> bytes:
    """What is kept of a version, before it is sealed: two lines of JSON, all but the sections, then the sections by letter.

    Apart, and the sections as the bytes that were hashed: so a reader of all of them gets the line as it is.
    """
    rest = version.model_dump_json(by_alias=True, exclude={"sections"}).encode()
    return rest + b"\n" + dumps({letter.value: orjson.Fragment(section) for letter, section in text.sections.items()})


def stored_sections(body: bytes) -> bytes:
    """The line of the sections, of what :func:`stored` gave."""
    return body.partition(b"\n")[2]


def hashes_by_letter(version: Issued) -> dict[SectionLetter, str]:
    """The hash of each section, in the order of the regulations."""
    return {letter: version.section_hashes[letter.value] for letter in SectionLetter if letter.value in version.section_hashes}


def current(known: Sequence[Issued]) -> Issued | None:
    valid = (each for each in known if each.may_leave)
    return max(valid, key=lambda each: (each.issued_on, each.number), default=None)


def changed_sections(before: Mapping[str, str], after: Mapping[SectionLetter, str]) -> tuple[SectionLetter, ...]:
    """Letters whose text differs, appeared or went; in the order of the regulations."""
    return tuple(letter for letter in SectionLetter if before.get(letter.value) != after.get(letter))


def decide(known: Sequence[Issued], issued_on: date, text: Text) -> Decision:
    for each in known:
        if each.text_hash == text.text_hash and each.issued_on == issued_on:
            if each.recalled:
                return Recalled(each)
            if each.rejected:
                return Rejected(each)
            return Held(each, each.hold) if each.hold and each.waits else Repeat(each)
    number = max((each.number for each in known), default=0) + 1
    now = current(known)
    if now is None:
        newer = [each for each in known if each.waits and each.issued_on > issued_on]
        return Behind(newer[0]) if newer else First(number)
    if issued_on < now.issued_on:
        return History(number, now)
    if now.text_hash == text.text_hash:
        return SameText(now)
    return Next(number, now, changed_sections(now.section_hashes, text.section_hashes))
