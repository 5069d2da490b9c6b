"""What in a text could say who a child is: NHS numbers, UPNs, full names, days of birth. Pure, and linear in the text's length.

Texts are written by people or come out of a PDF: numbers have spaces, hyphens and line breaks in them, names come in either
order, with accents or without, days in every way that is written in England. Found here is all that *could* be about a child;
whose it is, is found by keyed hashes (``guard``).
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from itertools import islice, product
from typing import TypeVar

from schemas.base import ContractError
from schemas.identifiers import check_nhs_number, check_upn
from schemas.plan import Child

Pair = tuple[str, str]
"""A given and a family name, folded, in alphabetical order: whichever comes first in a text, it is the same pair."""
What = TypeVar("What")
MOST = 5_000
"""Candidates of one kind in one text; a real plan has some dozens."""
REACH, SHORT_REACH = 200, 60
"""Characters around a day in which its name is looked for, in a plan's own section: a day called one of birth, or not."""
GROWN = 730
"""Days: a younger child is told only by a day that is called one of birth; else every meeting of last year would be one."""

OLDEST = 27 * 366

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015"
_FOLDED = dict(zip(f"ŁłØøĐđıŒœÆæÐðÞþß{_DASHES}", "LlOoDdiOoAaDdTts------", strict=True))
_OTHER = re.compile(r"[^\x00-\x7f]")
_INVISIBLE = re.compile("[’‘ʼ`´\u00ad\u200b-\u200d\u2060\ufeff]")
_MARKS = re.compile("[\u0300-\u036f]+")
"""Accents, once they are apart from their letters."""
_BETWEEN = frozenset(f" \t\r\n\u00a0\u202f.-{_DASHES}")
_A_NAME = r"[A-Z\u0100-\uffff][^\W\d_]++"
_A_GAP = (
    r"(?:[\s,:;|/()\"-]|(?:names?|of|and|known|as|called|de|da|do|dos|del|di|du|la|le|van|von|der|den|ter|bin|bint|ibn|al|el|ap|ab)"
    r"(?=\W)|[A-Z](?=\W)\.?)*+"
)
_NAME = re.compile(_A_NAME)
_RUN = re.compile(f"{_A_NAME}(?:{_A_GAP}{_A_NAME})*+")
"""As far as what is between two names is a gap. A single name is one too: were it none, each of its letters would be tried."""
_WIDEST_GAP = 40
_FARTHEST = 4
"""Names between the two of a pair: middle names, or a label such as *Forename*."""

_NAMES_OF_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: n for n, name in enumerate(_NAMES_OF_MONTHS, 1)}
_DAY = re.compile(
    r"([0-9][0-9]?)(?:"
    r"(?:st|nd|rd|th)?[\s,.\-/]{0,3}(?:(?:day )?of\s{1,3})?([A-Za-z]{3})[A-Za-z]{0,6}\.?[\s,.\-/]{0,3}([0-9]{4}|[0-9]{2})"
    r"|\s?[./\-]\s?([0-9][0-9]?)\s?[./\-]\s?([0-9]{4}|[0-9]{2})"
    r"|\s{1,3}([0-9][0-9])\s{1,3}((?:19|20)[0-9]{2})"
    r"|([0-9]{2})[-/.]([0-9][0-9]?)[-/.]([0-9][0-9]?)"
    r"|(?:st|nd|rd|th)?,?\s{1,3}((?:19|20)[0-9]{2})"
    r")(?![0-9])"
)
_MONTH_BEFORE = re.compile(r"(?<![A-Za-z])([A-Za-z]{3})[A-Za-z]{0,6}\.?\s{1,3}$")
_SIGNS = bytes(ord("0") if 48 <= byte <= 57 else byte + 32 if 65 <= byte <= 90 else byte for byte in range(256))
_DIGITS = re.compile(rb"0+")
_MAYBE_NUMBER = re.compile(rb"0(?<!00)(?:[ \t\r\n\xa0.?-]{0,3}0){9}")
_MAYBE_DAY = re.compile(
    rb"0(?<!00)(?=0?(?:[^0a-z]{0,4}(?:[jfmasond][aepuco][nbrylgptvc]|(?:day )?of|0(?:000|0?[^0a-z]{1,3}00))"
    rb"|[snrt][tdh][^0a-z]{0,4}(?:[jfmasond][aepuco][nbrylgptvc]|(?:day )?of|0000))|000[-/.]00?[-/.]0)"
)
"""In a text of signs, wherever a number or a day could begin: these leave out almost all of a text at little cost."""
_SHORT = 120
"""Characters: longer ones of names are no organisation's."""
_APART = "\0" * 60
"""Between two texts: no number, no day and nothing that calls a day one of birth goes across."""
_FIRST_PAGE = [1]
_CALLED = re.compile(rb"b(?:orn|irth)|d\.?[\s\xa0?]?o\.?[\s\xa0?]?b")


@dataclass(slots=True)
class Seen:
    """What one text could be saying about children: each thing with the pages, from 1, that it stands on."""

    nhs_numbers: dict[str, list[int]] = field(default_factory=dict)
    upns: dict[str, list[int]] = field(default_factory=dict)
    names: dict[Pair, list[int]] = field(default_factory=dict)
    days: set[date] = field(default_factory=set)
    too_many: bool = False
    """More than anybody writes: what is beyond was not looked at."""

    def __bool__(self) -> bool:
        return bool(self.nhs_numbers or self.upns or self.names or self.days or self.too_many)

    def note(self, found: dict[What, list[int]], what: What, page: int) -> None:
        if (pages := found.get(what)) is None:
            if len(found) >= MOST:
                self.too_many = True
                return
            found[what] = [page]
        elif pages[-1] != page and len(pages) < 20:
            pages.append(page)


@dataclass(frozen=True, slots=True)
class Identity:
    """One child, as texts name it."""

    nhs_number: str | None
    upn: str | None
    born: date
    given: frozenset[str]
    """With the preferred name."""
    family: frozenset[str]

    def is_named_by(self, seen: "Seen", own_names: Set[str], *, surname: bool) -> bool:
        """Whether the text is this child's by an identifier or by name. ``own_names``: what it has of the words of the name.
        ``surname``: the given name alone will not do."""
        if self.nhs_number in seen.nhs_numbers or self.upn in seen.upns:
            return True
        return bool(self.given & own_names) and (not surname or bool(self.family & own_names))

    @property
    def pairs(self) -> frozenset[Pair]:
        return frozenset((min(both), max(both)) for both in product(self.given, self.family))


def identity(child: Child) -> Identity:
    given = frozenset(words(f"{child.given_names} {child.preferred_name or ''}"))
    family = frozenset(words(child.family_name))
    # "de", "al": too many share them, and nobody writes them alone.
    telling = frozenset(word for word in family if len(word) > 2)
    return Identity(child.nhs_number, child.upn, child.date_of_birth, given, telling or family)


def look(pages: Sequence[str], on: date, seen: Seen | None = None) -> Seen:
    """``on`` is the day on which the text was issued."""
    seen = Seen() if seen is None else seen
    for number, page in enumerate(pages, 1):
        signs = _signs(page)
        _look_for_numbers(page, signs, number, seen)
        seen.days.update(day for day, _, _ in _births(page, signs, on))
        for pairs in _pairs(folded(page)):
            for pair in pairs:
                seen.note(seen.names, pair, number)
    return seen


def look_apart(texts: Sequence[str], on: date) -> list[Seen]:
    """What each says by itself, names only where a day of birth is near. In one go over all: every plan waits for it."""
    found = [Seen() for _ in texts]
    joined = _APART.join(texts)
    signs = _signs(joined)
    if _MAYBE_NUMBER.search(signs):
        for text, seen in zip(texts, found, strict=True):
            _look_for_numbers(text, _signs(text), 1, seen)
    near: dict[int, list[tuple[date, int, bool]]] = {}
    number, begins, ends = -1, 0, -len(_APART)
    for day, at, called in _births(joined, signs, on):
        while at >= ends:
            number, begins = number + 1, ends + len(_APART)
            ends = begins + len(texts[number])
        near.setdefault(number, []).append((day, at - begins, called))
    for number, births in near.items():
        seen = found[number]
        seen.days.update(day for day, _, _ in births)
        for part in _around(texts[number], births):
            for pairs in _pairs(folded(part)):
                seen.names.update(dict.fromkeys(pairs, _FIRST_PAGE))
        seen.too_many = seen.too_many or len(seen.names) > MOST
    return found


def folded(text: str) -> str:
    """Without accents, apostrophes and invisible characters; letters keep their case."""
    if not text.isascii():
        text = _MARKS.sub("", unicodedata.normalize("NFKD", _INVISIBLE.sub("", text)))
        text = _OTHER.sub(lambda match: _FOLDED.get(match[0], match[0]), text)
    return text.replace("'", "")


def words(text: str) -> list[str]:
    """In lower case; a hyphen divides, an apostrophe does not."""
    return re.findall(r"[^\W\d_]+", folded(text).lower())


def _signs(text: str) -> bytes:
    """A byte for each character: a digit as 0, a letter as a small one. What is searched this way is found far faster."""
    return text.encode("latin-1", "replace").translate(_SIGNS)


# --- numbers ---


def _look_for_numbers(text: str, signs: bytes, page: int, seen: Seen) -> None:
    """Groups of digits side by side are read together where they make up the length of a number."""
    if not _MAYBE_NUMBER.search(signs):
        return
    chain: list[tuple[int, int]] = []
    length = 0
    for start, end in (match.span() for match in _DIGITS.finditer(signs)):
        if chain and not (start - chain[-1][1] <= 3 and _BETWEEN.issuperset(text[chain[-1][1] : start])):
            if length >= 10:
                _read_together(text, chain, page, seen)
            chain, length = [], 0
        chain.append((start, end))
        length += end - start
    if length >= 10:
        _read_together(text, chain, page, seen)


def _read_together(text: str, chain: Sequence[tuple[int, int]], page: int, seen: Seen) -> None:
    for first, (start, _) in enumerate(chain):
        digits = ""
        for group, end in islice(chain, first, first + 12):
            digits += text[group:end]
            if len(digits) > 12:
                break
            # Most are none, and a refusal in words is dear: so a look at the check digit goes first.
            if len(digits) == 10 and _checks(digits) and _fits(check_nhs_number, digits):
                seen.note(seen.nhs_numbers, digits, page)
            elif len(digits) >= 11 and (upn := _upn(text, start, end, digits)):
                seen.note(seen.upns, upn, page)


def _upn(text: str, start: int, end: int, digits: str) -> str | None:
    first = text[max(0, start - 2) : start].rstrip(" -")[-1:]
    if not first.isalpha():
        return None
    last = text[end : end + 2].lstrip(" -")[:1] if len(digits) == 11 else ""
    upn = f"{first}{digits}{last}".upper()
    return upn if _fits(check_upn, upn) else None


def _checks(digits: str) -> bool:
    return sum(int(digit) * (10 - place) for place, digit in enumerate(digits)) % 11 == 0


def _fits(check: Callable[[str], str], value: str) -> bool:
    try:
        check(value)
    except ContractError:
        return False
    return True


# --- names ---


def _around(text: str, births: Sequence[tuple[date, int, bool]]) -> Iterator[str]:
    """The parts of a text around these places, which rise; what overlaps is one part."""
    start = end = 0
    for _, at, called in births:
        reach = REACH if called else SHORT_REACH
        if at - reach > end:
            if end:
                yield text[start:end]
            start = max(0, at - reach)
        end = max(end, at + reach)
    if end:
        yield text[start:end]


def _pairs(text: str) -> Iterator[Iterable[Pair]]:
    """Of names that follow one another with gaps between them, each with those that are near enough."""
    for match in _RUN.finditer(text):
        run = match[0]
        if run.isalpha():  # one name
            continue
        yield _pairs_of_short(run) if len(run) < _SHORT else _pairs_of(run)


@lru_cache(10_000)
def _pairs_of_short(run: str) -> tuple[Pair, ...]:
    """Kept: most are the organisations of the area, again and again."""
    return tuple(_pairs_of(run))


def _pairs_of(run: str) -> Iterator[Pair]:
    names: list[str] = []
    end = 0
    for match in _NAME.finditer(run):
        if match.start() - end > _WIDEST_GAP:
            names.clear()
        name = match[0].lower()
        for other in names[-_FARTHEST:]:
            yield (other, name) if other <= name else (name, other)
        names.append(name)
        end = match.end()


# --- days ---


def _births(text: str, signs: bytes, on: date) -> Iterator[tuple[date, int, bool]]:
    """Each day that can be one of birth with its place, in the order of the text, and whether it is called one."""
    oldest, grown = on - timedelta(days=OLDEST), on - timedelta(days=GROWN)
    for maybe in _MAYBE_DAY.finditer(signs):
        at = maybe.start()
        if (match := _DAY.match(text, at)) is None:
            continue
        match match.lastindex:
            case 3:
                first, month, year = match.group(1, 2, 3)
                day = _day(year, _MONTHS.get(month.lower()), first)
            case 5:
                first, month, year = match.group(1, 4, 5)
                day = _day(year, month, first)
            case 7:
                first, month, year = match.group(1, 6, 7)
                day = _day(year, month, first)
            case 10:
                century, rest, month, first = match.group(1, 8, 9, 10)
                day = _day(century + rest, month, first)
            case _:
                before = _MONTH_BEFORE.search(text, max(0, at - 14), at)
                day = _day(match[11], _MONTHS.get(before[1].lower()), match[1]) if before else None
        if day is not None and oldest < day <= on:
            called = _CALLED.search(signs, max(0, at - 60), at) is not None
            if called or day <= grown:
                yield day, at, called


def _day(year: str, month: str | int | None, day: str) -> date | None:
    if month is None:
        return None
    # Two digits of a year: nobody with a plan was born before 1990, nor is anybody before 2090.
    full = int(year)
    if len(year) == 2:
        full += 2000 if full < 90 else 1900
    try:
        return date(full, int(month), int(day))
    except ValueError:
        return None
