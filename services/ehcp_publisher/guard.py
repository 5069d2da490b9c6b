"""Is this text this child's, and no other child's? Judged before anything of a version or a notice leaves. Pure.

Every piece (each section, the document, each attachment) is compared with the child whose plan it is to be, and with every
child of the exchange, other councils' too, through keyed hashes. A finding says what kind of thing was found and where, never
whose it is. Another child is in it: a valid NHS number or UPN that is not this child's and is another's, or the name of another
child with that child's day of birth in the same piece. Nothing of this child is in it: a file with text that has neither its
NHS number nor its UPN nor its name. What cannot be read is a finding too, unless the council's policy lets such files leave.

Next: ``issuing`` and ``events`` keep what is held from leaving until a second person has looked.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import date
from uuid import UUID

from schemas.guard import Finding, FindingKind
from schemas.plan import PlanVersion
from schemas.policy import Unread
from services.ehcp_publisher import identities
from services.ehcp_publisher.documents import MediaType, Received
from services.ehcp_publisher.file_texts import FileText
from services.ehcp_publisher.identities import Identity, Seen
from services.ehcp_publisher.keys import ChildKeys

DOCUMENT = "document"
FEWEST_LETTERS = 10
"""In a whole file, with digits: with fewer it has no text that could be judged."""
_PICTURES = frozenset({MediaType.PNG, MediaType.JPEG})


@dataclass(frozen=True, slots=True)
class Piece:
    """Something that would leave, and what could be about children in it. ``where`` is for people: section B, attachment 2."""

    where: str
    seen: Seen
    file: FileText | None = None
    picture: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """The keyed hashes of what was seen in a batch, to be looked up at once."""

    nhs_numbers: set[bytes] = field(default_factory=set)
    upns: set[bytes] = field(default_factory=set)
    names: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Known:
    """What of :class:`Asked` is some child's: names with the hashes of the name and day of birth of all who bear it."""

    nhs_numbers: AbstractSet[bytes] = frozenset()
    upns: AbstractSet[bytes] = frozenset()
    names: Mapping[int, Mapping[int, UUID]] = field(default_factory=dict)
    """By name, then by name and day of birth, one child that has both."""


def names_of(child: Identity, keys: ChildKeys) -> list[tuple[int, int]]:
    """Under what a child is found in texts: for each way to say its name, the hash of the name, and with the day of birth."""
    return [(keys.name_key(pair), keys.born_key(pair, child.born)) for pair in sorted(child.pairs)]


def sections_of(version: PlanVersion) -> dict[str, str]:
    """The text of each section, items and all, by letter."""
    texts = {}
    for letter, section in (version.sections or {}).items():
        parts = [section.text]
        for item in section.items:
            parts += item.text, item.provider or "", item.frequency or ""
        texts[letter.value] = "\n".join(filter(None, parts))
    return texts


def pieces_of_sections(sections: Mapping[str, str], on: date) -> list[Piece]:
    found = identities.look_apart([*sections.values()], on)
    return [Piece(f"section {letter}", seen) for letter, seen in zip(sections, found, strict=True) if seen]


def pieces_of_files(files: Sequence[Received], texts: Sequence[FileText], *, document: bool) -> list[Piece]:
    """``files`` with their ``texts``, the document first if there is one."""
    found = []
    for place, (file, text) in enumerate(zip(files, texts, strict=True)):
        where = DOCUMENT if document and place == 0 else f"attachment {place + 1 - document}"
        found.append(Piece(where, text.seen, text, file.media_type in _PICTURES))
    return found


def both(one: Known, other: Known) -> Known:
    names = {key: {**one.names.get(key, {}), **other.names.get(key, {})} for key in one.names.keys() | other.names.keys()}
    return Known(one.nhs_numbers | other.nhs_numbers, one.upns | other.upns, names)


def ask(pieces_: Iterable[Piece], own: Identity, keys: ChildKeys, asked: Asked) -> None:
    """Adds to ``asked`` what of these pieces could be another child's."""
    for piece in pieces_:
        seen = piece.seen
        asked.nhs_numbers.update(_hash(keys, "nhs", each) for each in seen.nhs_numbers if each != own.nhs_number)
        asked.upns.update(_hash(keys, "upn", each) for each in seen.upns if each != own.upn)
        if seen.days:  # a name alone is nobody's
            asked.names.update(keys.name_keys(seen.names))


def judge(
    pieces_: Iterable[Piece], own: Identity, known: Known, keys: ChildKeys, may_leave: AbstractSet[Unread] = frozenset()
) -> tuple[Finding, ...]:
    """``may_leave``: files without text that the council's policy lets out; a finding of theirs says so and does not hold."""
    return tuple(finding for piece in pieces_ for finding in _judge(piece, own, known, keys, may_leave))


def holds(findings: Iterable[Finding]) -> bool:
    return any(not finding.waived for finding in findings)


def _judge(
    piece: Piece, own: Identity, known: Known, keys: ChildKeys, may_leave: AbstractSet[Unread]
) -> Iterator[Finding]:  # fmt: skip
    seen, file = piece.seen, piece.file
    others = [
        (FindingKind.OTHER_NHS_NUMBER, _of_others(seen.nhs_numbers, own.nhs_number, "nhs", known.nhs_numbers, keys)),
        (FindingKind.OTHER_UPN, _of_others(seen.upns, own.upn, "upn", known.upns, keys)),
        (FindingKind.OTHER_NAME, _others_named(seen, own, known, keys)),
    ]
    for kind, places in others:
        if places:
            yield Finding(kind=kind, where=piece.where, pages=_pages(piece, places), count=len(places))
    if seen.too_many or (file is not None and file.unreadable):
        yield Finding(kind=FindingKind.UNREADABLE, where=piece.where)
    if file is None or file.unreadable:
        return
    if piece.picture:
        yield Finding(kind=FindingKind.PICTURE, where=piece.where, waived=Unread.PICTURES in may_leave)
        return
    if file.unread or file.letters < FEWEST_LETTERS:
        waived = Unread.SCANS in may_leave
        yield Finding(kind=FindingKind.SCAN, where=piece.where, pages=file.unread[:20], waived=waived)
    # An attachment may call the child by the given name alone; the plan itself says whose it is.
    if file.letters >= FEWEST_LETTERS and not own.is_named_by(seen, file.own_names, surname=piece.where == DOCUMENT):
        yield Finding(kind=FindingKind.NOTHING_OF_CHILD, where=piece.where)


def _of_others(
    seen: Mapping[str, list[int]], own: str | None, purpose: str, known: AbstractSet[bytes], keys: ChildKeys
) -> list[list[int]]:
    return [pages for each, pages in seen.items() if known and each != own and _hash(keys, purpose, each) in known]


def _others_named(seen: Seen, own: Identity, known: Known, keys: ChildKeys) -> list[list[int]]:
    if known.names.keys().isdisjoint(keys.name_keys(seen.names)):
        return []
    found: dict[UUID, list[int]] = {}
    for (pair, pages), name_key in zip(seen.names.items(), keys.name_keys(seen.names), strict=True):
        born = known.names.get(name_key)
        if not born:
            continue
        for day in seen.days:
            if pair in own.pairs and day == own.born:
                continue
            if (child_id := born.get(keys.born_key(pair, day))) is not None:
                found.setdefault(child_id, pages)
    return list(found.values())


def _pages(piece: Piece, places: Iterable[Sequence[int]]) -> tuple[int, ...]:
    return tuple(sorted({page for pages in places for page in pages})[:20]) if piece.file is not None else ()


def _hash(keys: ChildKeys, purpose: str, value: str) -> bytes:
    found = keys.lookup(purpose, value)
    assert found is not None
    return found
