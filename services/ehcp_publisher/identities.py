"""What in a text could say who a child is: NHS numbers, UPNs, full names, days of birth. Pure, and linear in the text's length.

Texts are written by people or come out of a PDF: numbers have spaces, hyphens and line breaks in them, names come in either
order, with accents or without, days in every way that is written in England. Found here is all that *could* be about a child;
whose it is, is found by keyed hashes (``guard``).
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from datetime import date
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
_DIGITS_MARKED = bytes(ord("0") if 48 <= byte <= 57 else 32 for byte in range(256))
_NAME = re.compile(r"[A-Z\u0100-\uffff][^\W\d_]+")
_GAP = re.compile(
    r"(?:[\s,:;|/()\"-]|(?:names?|of|and|known|as|called|de|da|do|dos|del|di|du|la|le|van|von|der|den|ter|bin|bint|ibn|al|el|ap|ab)"
    r"(?=\W)|[A-Z](?=\W)\.?)*"
)
_WIDEST_GAP = 40
_FARTHEST = 4
"""Names between the two of a pair: middle names, or a label such as *Forename*."""

_NAMES_OF_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: n for n, name in enumerate(_NAMES_OF_MONTHS, 1)}
_MONTH = f"((?i:{'|'.join(_MONTHS)}))[A-Za-z]{{0,6}}\\.?"
_DAY = re.compile(
    r"([0-9][0-9]?)(?:"
    rf"(?:st|nd|rd|th)?[\s,.\-/]{{0,3}}(?:(?:day )?of\s{{1,3}})?{_MONTH}[\s,.\-/]{{0,3}}([0-9]{{4}}|[0-9]{{2}})"
    r"|\s?[./\-]\s?([0-9][0-9]?)\s?[./\-]\s?([0-9]{4}|[0-9]{2})"
    r"|\s{1,3}([0-9][0-9])\s{1,3}((?:19|20)[0-9]{2})"
    r"|([0-9]{2})[-/.]([0-9][0-9]?)[-/.]([0-9][0-9]?)"
    r"|(?:st|nd|rd|th)?,?\s{1,3}((?:19|20)[0-9]{2})"
    r")(?![0-9])"
)
_MONTH_BEFORE = re.compile(rf"(?<![A-Za-z]){_MONTH}\s{{1,3}}$")
_CALLED = re.compile(r"(?i:born|birth|d\.?\s?o\.?\s?b)")


@dataclass(slots=True)
class Seen:
    """What one text could be saying about children: each thing with the pages, from 1, that it stands on."""

    nhs_numbers: dict[str, list[int]] = field(default_factory=dict)
    upns: dict[str, list[int]] = field(default_factory=dict)
    names: dict[Pair, list[int]] = field(default_factory=dict)
    days: set[date] = field(default_factory=set)
    too_many: bool = False
    """More than anybody writes: what is beyond was not looked at."""

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


def look(pages: Sequence[str], on: date, *, near: bool = False, seen: Seen | None = None) -> Seen:
    """``on`` is the day on which the text was issued. ``near``: names only where a day of birth is near."""
    seen = seen or Seen()
    for number, page in enumerate(pages, 1):
        groups = _groups_of_digits(page)
        _look_for_numbers(page, groups, number, seen)
        births = [(day, at, called) for day, at in _days(page, groups) if (called := _birth(page, day, at, on)) is not None]
        seen.days.update(day for day, _, _ in births)
        for part in _around(page, births) if near else (page,):
            for name in _names(folded(part)):
                seen.note(seen.names, name, number)
    return seen


def folded(text: str) -> str:
    """Without accents, apostrophes and invisible characters; letters keep their case."""
    if not text.isascii():
        text = _MARKS.sub("", unicodedata.normalize("NFKD", _INVISIBLE.sub("", text)))
        text = _OTHER.sub(lambda match: _FOLDED.get(match[0], match[0]), text)
    return text.replace("'", "")


def words(text: str) -> list[str]:
    """In lower case; a hyphen divides, an apostrophe does not."""
    return re.findall(r"[^\W\d_]+", folded(text).lower())


# --- numbers ---


def _groups_of_digits(text: str) -> list[tuple[int, int]]:
    """Where each begins and ends. By marking bytes: three times as fast as a pattern, and this is on every plan's way."""
    marked = text.encode("latin-1", "replace").translate(_DIGITS_MARKED) + b" "
    groups = []
    start = marked.find(b"0")
    while start >= 0:
        end = marked.find(b" ", start)
        groups.append((start, end))
        start = marked.find(b"0", end)
    return groups


def _look_for_numbers(text: str, groups: Sequence[tuple[int, int]], page: int, seen: Seen) -> None:
    """Groups of digits side by side are read together where they make up the length of a number."""
    chain: list[tuple[int, int]] = []
    length = 0
    for start, end in groups:
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


def _names(text: str) -> Iterator[Pair]:
    run: list[str] = []
    end = -1
    for match in _NAME.finditer(text):
        if run:
            gap = text[end : match.start()]
            if gap != " " and (len(gap) > _WIDEST_GAP or not _GAP.fullmatch(gap)):
                run.clear()
        name = match[0].lower()
        for other in run[-_FARTHEST:]:
            yield (other, name) if other <= name else (name, other)
        run.append(name)
        end = match.end()


# --- days ---


def _days(text: str, groups: Sequence[tuple[int, int]]) -> Iterator[tuple[date, int]]:
    """Each day with its place, in the order of the text."""
    for at, end in groups:
        match = _DAY.match(text, at) if end - at in (1, 2, 4, 8) else None
        if match is None:
            continue
        first, month, year, of_numbers, its_year, in_box, box_year, iso_year, iso_month, iso_day, after_month = match.groups()
        if year:
            yield from _day(year, _MONTHS[month.lower()], first, at)
        elif its_year:
            yield from _day(its_year, of_numbers, first, at)
        elif box_year:
            yield from _day(box_year, in_box, first, at)
        elif iso_year:
            yield from _day(first + iso_year, iso_month, iso_day, at)
        elif before := _MONTH_BEFORE.search(text, max(0, at - 14), at):
            yield from _day(after_month, _MONTHS[before[1].lower()], first, at)


def _day(year: str, month: str | int, day: str, at: int) -> Iterator[tuple[date, int]]:
    # Two digits of a year: nobody with a plan was born before 1990, nor is anybody before 2090.
    full = int(year) if len(year) == 4 else 2000 + int(year) if int(year) < 90 else 1900 + int(year)
    try:
        yield date(full, int(month), int(day)), at
    except ValueError:
        return


def _birth(text: str, day: date, at: int, on: date) -> bool | None:
    """Whether the day is called one of birth; None where it can be none."""
    age = (on - day).days
    if not 0 <= age < OLDEST:
        return None
    called = _CALLED.search(text, max(0, at - 60), at) is not None
    return called if called or age >= GROWN else None
