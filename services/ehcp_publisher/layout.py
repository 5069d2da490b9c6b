"""What a rendered plan says, in order: a plan version as the data that ``plan.typ`` lays out. Pure.

Invariant: only what the sections of this rendering hold is in the data. A rendering of some sections only (data
minimisation) names no setting when section I is left out, and no adviser when K is.

Left out of every rendering on purpose: addresses, e-mail addresses and the members of the family (parents who live apart
each get a copy), NHS number and UPN (a school has no use for one, a trust none for the other); they travel as data to
those who need them. Next: ``rendering.py``.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from schemas.identifiers import CodeScheme, OrganisationCode
from schemas.plan import Child, Involved, Item, Placement, PlanVersion, Role, Section, SectionLetter
from services.ehcp_publisher.printable import printable

Data = dict[str, Any]
"""JSON values only."""

# A title for each section, and its words in the Special Educational Needs and Disability Regulations 2014, reg 12(1), (4).
TITLES: Mapping[SectionLetter, tuple[str, str]] = {
    SectionLetter.A: (
        "Views, interests and aspirations",
        "The views, interests and aspirations of the child and his parents or the young person",
    ),
    SectionLetter.B: ("Special educational needs", "The child or young person’s special educational needs"),
    SectionLetter.C: (
        "Health care needs",
        "The child or young person’s health care needs which relate to their special educational needs",
    ),
    SectionLetter.D: (
        "Social care needs",
        "The child or young person’s social care needs which relate to their special educational needs or to a disability",
    ),
    SectionLetter.E: ("Outcomes", "The outcomes sought for him or her"),
    SectionLetter.F: (
        "Special educational provision",
        "The special educational provision required by the child or young person",
    ),
    SectionLetter.G: (
        "Health care provision",
        "Any health care provision reasonably required by the learning difficulties or disabilities which result in the "
        "child or young person having special educational needs",
    ),
    SectionLetter.H1: (
        "Social care provision (1970 Act, section 2)",
        "Any social care provision which must be made for the child or young person as a result of section 2 of the "
        "Chronically Sick and Disabled Persons Act 1970",
    ),
    SectionLetter.H2: (
        "Other social care provision",
        "Any other social care provision reasonably required by the learning difficulties or disabilities which result "
        "in the child or young person having special educational needs",
    ),
    SectionLetter.I: (
        "Placement",
        "The name of the school, maintained nursery school, post-16 institution or other institution to be attended by "
        "the child or young person and the type of that institution or, where the name of a school or other institution "
        "is not specified in the EHC plan, the type of school or other institution to be attended by the child or young "
        "person",
    ),
    SectionLetter.J: (
        "Personal budget",
        "Where any special educational provision is to be secured by a direct payment, the special educational needs "
        "and outcomes to be met by the direct payment",
    ),
    SectionLetter.K: (
        "Advice and information",
        "The advice and information obtained in accordance with regulation 6(1), set out in appendices to the EHC plan",
    ),
}

_NEEDS = (SectionLetter.B, SectionLetter.C, SectionLetter.D)
_PROVISION = (SectionLetter.F, SectionLetter.G, SectionLetter.H1, SectionLetter.H2)
_ITEM_WORD = (
    {SectionLetter.E: "Outcome", SectionLetter.K: "Advice"}
    | dict.fromkeys(_NEEDS, "Need")
    | dict.fromkeys(_PROVISION, "Provision")
)
_SERVES_WORD = {SectionLetter.E: "For need"} | dict.fromkeys(_PROVISION, "For outcome")
_SCHEME_WORD = {
    CodeScheme.URN: "URN",
    CodeScheme.UKPRN: "UKPRN",
    CodeScheme.LAESTAB: "LAESTAB",
    CodeScheme.ODS: "ODS code",
    CodeScheme.LA: "LA code",
    CodeScheme.RECIPIENT: "recipient",
}
# Not strftime's month names: those follow the process's locale.
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip

_BREAK, _HYPHEN = "\u200b", "\u00ad"
"""Places where a word may break, shown only where it does."""
_WIDE, _COLUMN, _NARROW = 60, 28, 16
"""Longest word, in characters, that fits the page, a table's text column and its narrow columns."""
_PAGE_WIDTH = 16.6
"""Of the text, in cm."""
_RUNNING = 90
"""Characters of a name that repeat on every page; all of it is on the first."""
_SHORT = 400
"""Characters that fit a page even in a narrow column."""
_GIST = 140
"""Characters of a need that the table of links repeats."""


def day(value: date) -> str:
    """For example ``3 March 2026``."""
    return f"{value.day} {_MONTHS[value.month - 1]} {value.year}"


def listing(words: Sequence[str]) -> str:
    """``A``, ``A and B``, ``A, B and C``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


@dataclass(slots=True)
class _Printer:
    """Makes every text printable, and remembers whether any character had to be replaced."""

    plain: bool
    replaced: bool = field(default=False)

    def line(self, text: str, longest: int = _WIDE) -> str:
        """One line. A word too long for its place (a web address, a reference) may break anywhere."""
        return _breakable(self._shown(text), longest)

    def prose(self, text: str, longest: int = _WIDE) -> list[Data]:
        """Paragraphs of lines: an empty line parts paragraphs, as people type them."""
        paragraphs: list[list[str]] = [[]]
        for line in _breakable(self._shown(text), longest).split("\n"):
            if line.strip():
                paragraphs[-1].append(line)
            elif paragraphs[-1]:
                paragraphs.append([])
        return [{"lines": lines, "rtl": _from_right(lines[0])} for lines in paragraphs if lines]

    def _shown(self, text: str) -> str:
        shown = printable(text, plain=self.plain)
        self.replaced |= shown.count("[U+") > text.count("[U+")
        return shown


def _from_right(text: str) -> bool:
    """Whether a paragraph is written from right to left: its first letter says so, as browsers judge it (UAX 9, P2)."""
    kinds = (unicodedata.bidirectional(character) for character in text)
    return next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L"


def _short(*texts: str | None) -> bool:
    """Whether a table's row fits a page even when these are in narrow columns."""
    return all(len(text or "") + 40 * (text or "").count("\n") <= _SHORT for text in texts)


def _breakable(text: str, longest: int) -> str:
    size = longest * 2 // 3

    def pieces(found: re.Match[str]) -> str:
        word = found[0]
        return (_HYPHEN if word.isalpha() else _BREAK).join(word[start : start + size] for start in range(0, len(word), size))

    return re.sub(rf"\S{{{longest + 1},}}", pieces, text)


@dataclass(frozen=True, slots=True)
class _Links:
    """Who answers whom, within the sections of this rendering."""

    anchors: Mapping[str, str]
    """Item reference → the place in the document that it links to."""
    answered_by: Mapping[str, tuple[str, ...]]
    """Item reference → references of the items that serve it, in the plan's order."""

    def targets(self, references: Iterable[str], printer: _Printer) -> list[Data]:
        return [{"ref": printer.line(ref, _NARROW), "anchor": self.anchors.get(ref)} for ref in references]


def _links(sections: Mapping[SectionLetter, Section]) -> _Links:
    anchors: dict[str, str] = {}
    answered_by: dict[str, list[str]] = {}
    for letter, section in sections.items():
        for place, item in enumerate(section.items):
            anchors.setdefault(item.ref, _anchor(letter, place))
            for served in item.serves:
                answered_by.setdefault(served, []).append(item.ref)
    return _Links(anchors, {ref: tuple(dict.fromkeys(by)) for ref, by in answered_by.items()})


def _anchor(letter: SectionLetter, place: int) -> str:
    # From the item's place, never from its reference: references are the council's own words and may occur twice.
    return f"item-{letter}-{place}"


def _column(kind: str, title: str, width: float = 0) -> Data:
    """A column of a table; ``width`` in cm, 0 takes what is left."""
    return {"kind": kind, "title": title, "width": width}


def _columns(letter: SectionLetter, items: Sequence[Item], links: _Links) -> list[Data]:
    longest = max((len(item.ref) for item in items), default=0)
    columns = [_column("ref", "Ref.", 1.3 + 0.2 * max(0, longest - 4)), _column("text", _ITEM_WORD.get(letter, "Text"))]
    if any(item.serves for item in items):
        columns.append(_column("serves", _SERVES_WORD.get(letter, "Answers"), 2.2))
    if any(item.ref in links.answered_by for item in items):
        columns.append(_column("answered_by", "Answered by", 3.0))
    if any(item.provider for item in items):
        columns.append(_column("provider", "Who provides it", 3.7))
    if any(item.frequency for item in items):
        columns.append(_column("frequency", "How often", 3.2))
    return columns


def _longest(columns: Sequence[Data]) -> int:
    """Longest word, in characters of usual width, that fits the text column beside the others."""
    room = _PAGE_WIDTH - sum(column["width"] for column in columns) - 0.4
    return max(_NARROW, int(room / 0.21))


def _item(letter: SectionLetter, place: int, item: Item, longest: int, links: _Links, printer: _Printer) -> Data:
    return {
        "short": _short(item.provider, item.frequency) and len(item.text) <= 2 * _SHORT and item.text.count("\n") < 10,
        "ref": printer.line(item.ref, _NARROW),
        "anchor": _anchor(letter, place),
        "text": printer.prose(item.text, longest),
        "serves": links.targets(item.serves, printer),
        "answered_by": links.targets(links.answered_by.get(item.ref, ()), printer),
        "provider": printer.prose(item.provider or "", _NARROW),
        "frequency": printer.prose(item.frequency or "", _NARROW),
    }


def _code(code: OrganisationCode | None) -> str:
    return f"{_SCHEME_WORD[code.scheme]} {code.value}" if code else ""


def _setting(placement: Placement) -> str:
    return placement.name or _code(placement.setting) or placement.setting_type or ""


def _list(title: str, columns: list[Data], rows: list[Data]) -> Data:
    """A table without the columns that would be empty."""
    return {"title": title, "columns": [each for each in columns if any(row[each["kind"]] for row in rows)], "rows": rows}


def _placements(placements: Sequence[Placement], printer: _Printer) -> Data:
    return _list(
        "Settings and dates",
        [
            _column("setting", "Setting"),
            _column("type", "Type of setting", 4.2),
            _column("from", "From", 3.8),
            _column("until", "Until", 3.8),
        ],
        [
            {
                "short": _short(each.name, each.setting_type),
                "setting": printer.prose("\n".join(filter(None, [each.name, _code(each.setting)])), _COLUMN),
                "type": printer.prose(each.setting_type or "", _NARROW),
                "from": printer.prose(day(each.from_)),
                "until": printer.prose(day(each.until) if each.until else ""),
            }
            for each in placements
        ],
    )


def _advice(involved: Sequence[Involved], printer: _Printer) -> Data:
    return _list(
        "Advice obtained",
        [
            _column("by", "From"),
            _column("organisation", "Organisation", 4.0),
            _column("dated", "Dated", 4.0),
        ],
        [
            {
                "short": _short(each.name, each.profession),
                "by": printer.prose("\n".join(filter(None, [each.name, each.profession])), _COLUMN),
                "organisation": printer.prose(_code(each.organisation), _NARROW),
                "dated": printer.prose(day(each.advice_dated) if each.advice_dated else ""),
            }
            for each in involved
        ],
    )


def _section(letter: SectionLetter, section: Section | None, lists: list[Data], links: _Links, printer: _Printer) -> Data:
    title, law = TITLES[letter]
    items = section.items if section else ()
    columns = _columns(letter, items, links)
    return {
        "title": f"Section {letter}: {title}",
        "law": law,
        "text": printer.prose(section.text) if section else [],
        "columns": columns,
        "items": [_item(letter, place, item, _longest(columns), links, printer) for place, item in enumerate(items)],
        "lists": lists,
        "empty": section is None and not lists,
    }


def _thread(sections: Mapping[SectionLetter, Section], links: _Links, printer: _Printer) -> Data:
    """Each need with the outcomes and the provision that answer it, directly or through an outcome."""
    letters = {item.ref: letter for letter, section in sections.items() for item in section.items}
    rows: list[Data] = []
    for letter in _NEEDS:
        for item in sections[letter].items if letter in sections else ():
            direct = links.answered_by.get(item.ref, ())
            outcomes = [ref for ref in direct if letters.get(ref) is SectionLetter.E]
            through = [ref for outcome in outcomes for ref in links.answered_by.get(outcome, ())]
            provision = [ref for ref in dict.fromkeys([*direct, *through]) if letters.get(ref) in _PROVISION]
            rows.append(
                {
                    "short": True,
                    "ref": links.targets([item.ref], printer),
                    "gist": printer.prose(_gist(item.text), _COLUMN),
                    "outcomes": links.targets(outcomes, printer),
                    "provision": links.targets(provision, printer),
                }
            )
    columns = [_column("ref", "Ref.", 1.3), _column("gist", "Need"), _column("outcomes", "Outcomes sought", 3.9)]
    columns.append(_column("provision", "Provision", 3.9))
    return {"columns": columns, "rows": rows if any(row["outcomes"] or row["provision"] for row in rows) else []}


def _gist(text: str) -> str:
    return _shortened(" ".join(text[: 4 * _GIST].split()), _GIST)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length].rsplit(" ", 1)[0] + " …"


def _cover(
    child: Child,
    council_name: str,
    case_reference: str,
    version: PlanVersion,
    shown: frozenset[SectionLetter],
    printer: _Printer,
) -> list[Data]:
    name = f"{child.given_names} {child.family_name}"
    known_as = f"\nknown as {child.preferred_name}" if child.preferred_name else ""
    settings = [
        _setting(each) + f" (from {day(each.from_)}" + (f" until {day(each.until)})" if each.until else ")")
        for each in version.placements
        if SectionLetter.I in shown
    ]
    lines = [
        ("Child or young person", name + known_as),
        ("Date of birth", day(child.date_of_birth)),
        ("Council", council_name),
        ("Date of issue", day(version.issued_on)),
        ("Setting", "\n".join(settings)),
        ("Views recorded on", day(version.views_recorded_on) if version.views_recorded_on and SectionLetter.A in shown else ""),
        ("Council’s reference", case_reference),
    ]
    return [{"label": label, "value": printer.prose(value, _COLUMN)} for label, value in lines if value]


def _notes(shown: frozenset[SectionLetter], printer: _Printer) -> list[str]:
    notes: list[str] = []
    if len(shown) < len(SectionLetter):
        letters = [letter.value for letter in SectionLetter if letter in shown]
        word = "section" if len(letters) == 1 else "sections"
        notes.append(f"This copy holds {word} {listing(letters)} only. The other sections are not shared with its recipient.")
    if printer.replaced:
        notes.append(
            "A character that this document cannot show is printed as its Unicode number in square brackets. "
            "The plan as issued has the character itself."
        )
    return notes


def lay_out(
    child: Child,
    council_name: str,
    case_reference: str,
    version: PlanVersion,
    included: frozenset[SectionLetter] | None = None,
    *,
    plain: bool = False,
) -> Data:
    """The data of ``plan.typ``. ``included`` None means every section; ``plain`` as in :func:`printable`.

    A section that the version does not have is shown as empty, so that every one is separately identified (reg 12(1)).
    """
    shown = frozenset(SectionLetter) if included is None else included
    printer = _Printer(plain)
    sections = {letter: (version.sections or {})[letter] for letter in SectionLetter if letter in (version.sections or {})}
    sections = {letter: section for letter, section in sections.items() if letter in shown}
    links = _links(sections)
    lists: dict[SectionLetter, list[Data]] = {}
    if version.placements:
        lists[SectionLetter.I] = [_placements(version.placements, printer)]
    if advice := [each for each in version.involved if each.role is Role.ADVICE]:
        lists[SectionLetter.K] = [_advice(advice, printer)]
    name = printer.line(f"{child.given_names} {child.family_name}")
    return {
        "title": "Education, Health and Care plan",
        "document_title": f"Education, Health and Care plan: {name}",
        "council": printer.line(council_name),
        "issued_on": day(version.issued_on),
        "running_title": f"Education, Health and Care plan: {_shortened(name, _RUNNING)}",
        "running_foot": _shortened(printer.line(f"{council_name} · {case_reference}"), _RUNNING),
        "cover": _cover(child, council_name, case_reference, version, shown, printer),
        "sections": [
            _section(letter, sections.get(letter), lists.get(letter, []), links, printer)
            for letter in SectionLetter
            if letter in shown
        ],
        "thread": _thread(sections, links, printer),
        "notes": [paragraph for note in _notes(shown, printer) for paragraph in printer.prose(note)],
    }
