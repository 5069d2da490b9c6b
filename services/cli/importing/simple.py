"""The simple layout: one CSV with a row for each version of a plan, and a folder of PDFs.

The rows of one case reference are one plan; the newest by ``issued_on`` comes first. Fields: ``simple_fields.py``; how other
systems' columns become these: ``profiles.py``. Next: ``sending.py``, ``comparing.py`` or ``readiness.py``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from schemas.base import ContractError
from schemas.identifiers import CodeScheme, OrganisationCode, check_la_code, check_nhs_number, check_uln, check_upn
from schemas.lifecycle import PastReview
from schemas.plan import PlanSubmission, SectionLetter
from services.cli.importing.cells import Cells
from services.cli.importing.documents import Documents
from services.cli.importing.faults import Fault
from services.cli.importing.plans import (
    Ceased,
    ExtractPlan,
    Lack,
    Version,
    as_json,
    cease_reason,
    organisations_of,
    past_review,
    submission_of,
)
from services.cli.importing.simple_fields import GROUPS, NUMBERS
from services.cli.importing.tables import Ref, Tables

TABLE = "plans"
_BETWEEN = "\x1f"
_SCHEMES = {"urn": CodeScheme.URN, "ukprn": CodeScheme.UKPRN, "laestab": CodeScheme.LAESTAB}


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for rows that do not say it."""

    today: date
    la_code: str | None
    commissioning_bodies: tuple[str, ...] = ()
    maintained: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Read:
    """One row as far as it could be read."""

    ref: Ref
    cells: Cells
    content: dict[str, Any]
    numbers: dict[str, list[int]]
    settings: frozenset[str]


class SimpleExtract:
    def __init__(self, tables: Tables, documents: Documents, defaults: Defaults) -> None:
        self._tables = tables
        self._documents = documents
        self._defaults = defaults
        tables.index(TABLE, self._key_of)

    def _key_of(self, cells: Cells) -> tuple[str, str]:
        id_, reference = key_of(cells)
        if reference and cells.has("document"):
            self._documents.claim(cells.text("document"), reference)
        return id_, reference

    def count(self) -> int:
        return self._tables.count_parents(TABLE)

    @property
    def duplicates(self) -> int:
        return self._tables.duplicates

    def unused_documents(self) -> Iterator[str]:
        return self._documents.unused()

    def notes(self) -> list[str]:
        return self._tables.notes()

    def refuse(self, source: Ref, refusals: Sequence[Fault]) -> None:
        cells = self._tables.cells(source)
        numbers = {group: [n for n in NUMBERS if _has_group(cells, group, n)] for group in GROUPS}
        faults = [replace(fault, column=cells.column(column_of(fault.column, numbers, cells))) for fault in refusals]
        ours = [fault for fault in faults if fault.column == "commissioning_bodies" and not cells.has(fault.column)]
        self._tables.blame_profile(ours)
        self._tables.report(source, [fault for fault in faults if fault not in ours], again=True)

    def plans(self) -> Iterator[ExtractPlan]:
        for reference in self._tables.parents(TABLE):
            yield self._plan(list(reversed(self._tables.children(TABLE, reference))))

    def _plan(self, refs: list[Ref]) -> ExtractPlan:
        reference = self._tables.cells(refs[0]).text("case_reference")
        dated = self._documents.of(reference)
        versions: list[Version] = []
        newest: _Read | None = None
        lacks: set[Lack] = set()
        named: frozenset[str] = frozenset()
        ceased, review, last_review, amended = None, None, None, False
        for ref in refs:
            read = self._read(ref)
            document = self._document_of(read, dated, is_newest=newest is None)
            if newest is None:
                newest = read
                ceased = self._ceased_of(read.cells)
                review, last_review, amended = self._review_of(read.cells)
                named = organisations_of(read.content["version"], self._defaults.today)
                lacks = _lacks_of(read, document, named)
            submission = submission_of(read.content, _origin(read))
            attachments = self._attachments_of(read.cells)
            if read.cells.faults:
                self._tables.report(ref, read.cells.faults)
            if any(fault.refuses for fault in read.cells.faults):
                lacks.add(Lack.CORRECTION)
            elif submission is not None and (document is not None or submission.version.sections):
                versions.append(_version(submission, document, attachments, ref))
        assert newest is not None, "a plan has a row"
        return ExtractPlan(
            str(newest.content.get("la_code", "")), reference, refs[0], tuple(versions), ceased, newest.settings, last_review,
            amended, review, frozenset(lacks), named, bool(newest.content["version"]["family"]), over=ceased is not None,
        )  # fmt: skip

    def _read(self, ref: Ref) -> _Read:
        cells = self._tables.cells(ref)
        numbers = {group: [n for n in NUMBERS if _has_group(cells, group, n)] for group in GROUPS}
        placements, settings = self._placements_of(cells, numbers["setting"])
        issued_on = cells.day("issued_on")
        content = {
            "la_code": cells.number("la_code", check_la_code) or self._defaults.la_code or "",
            "case_reference": cells.text("case_reference"),
            "child": self._child_of(cells),
            "different_child_from": cells.text("different_child_from").split(),
            "version": {
                "issued_on": str(issued_on) if issued_on else None,
                "views_recorded_on": _text(cells.day("views_recorded_on", self._defaults.today)),
                "sections": _sections_of(cells),
                "placements": placements,
                "commissioning_bodies": self._commissioners_of(cells),
                "family": [_member_of(cells, n) for n in numbers["family"]],
                "involved": [_involved_of(cells, n) for n in numbers["involved"]],
                "looked_after_by": cells.number("looked_after_by", check_la_code),
                "resident_in": cells.number("resident_in", check_la_code),
            },
        }
        if not content["la_code"] and not cells.has("la_code"):
            cells.wrong("la_code", "nothing says whose plan it is", "fill it in, or name the council with --council")
        return _Read(ref, cells, content, numbers, settings)

    def _child_of(self, cells: Cells) -> dict[str, Any]:
        address = [line for n in range(1, 5) if (line := cells.text(f"address_{n}"))]
        return {
            "family_name": cells.needed("family_name"),
            "given_names": cells.needed("given_names"),
            "preferred_name": cells.text("preferred_name") or None,
            "date_of_birth": _text(cells.day("date_of_birth", self._defaults.today)) if cells.needed("date_of_birth") else None,
            "nhs_number": cells.number("nhs_number", check_nhs_number),
            "upn": cells.number("upn", check_upn),
            "uln": cells.number("uln", check_uln),
            "address": address,
            "postcode": cells.text("postcode") or None,
        }

    def _commissioners_of(self, cells: Cells) -> list[dict[str, str]]:
        if cells.has("commissioning_bodies"):
            return [_code(each) for each in cells.organisations("commissioning_bodies", CodeScheme.ODS)]
        return [{"scheme": "ods", "value": value} for value in self._defaults.commissioning_bodies]

    def _placements_of(self, cells: Cells, numbers: list[int]) -> tuple[list[dict[str, Any]], frozenset[str]]:
        placements: list[dict[str, Any]] = []
        spans: list[tuple[str, date, date, int]] = []
        now: set[str] = set()
        for n in numbers:
            before = len(cells.faults)
            codes = [cells.organisation(f"setting_{n}_{name}", scheme) for name, scheme in _SCHEMES.items()]
            code = next((code for code in codes if code is not None), None)
            begins, ends = cells.day(f"setting_{n}_from"), cells.day(f"setting_{n}_until")
            if not cells.has(f"setting_{n}_from"):
                cells.wrong(f"setting_{n}_from", "it is empty", "send the first day at this setting")
            if begins is not None and ends is not None and ends < begins:
                cells.wrong(f"setting_{n}_until", "the last day is before the first", "check which of the two is wrong")
            if len(cells.faults) > before:
                # A place in the list all the same, so that what the contract says of the next one finds its columns.
                placements.append({"setting_type": "-", "from": "2000-01-01"})
                continue
            placements.append(
                {"setting": _code(code) if code else None, "setting_type": cells.text(f"setting_{n}_type") or None,
                 "name": cells.text(f"setting_{n}_name") or None, "from": _text(begins), "until": _text(ends)}
            )  # fmt: skip
            if code is None or begins is None:
                continue
            last_day = ends or date.max
            for other, first, last, m in spans:
                if other == str(code) and begins <= last and first <= last_day:
                    cells.wrong(
                        f"setting_{n}_from", f"it overlaps setting_{m}, the same setting",
                        "send one, with its first and its last day",
                    )  # fmt: skip
            spans.append((str(code), begins, last_day, n))
            if begins <= self._defaults.today <= last_day:
                now.add(str(code))
        return placements, frozenset(now)

    def _document_of(self, read: _Read, dated: dict[date | None, Path], *, is_newest: bool) -> Path | None:
        cells = read.cells
        try:
            if cells.has("document"):
                path: Path | None = self._documents.named(cells.text("document"))
            else:
                issued_on = read.content["version"]["issued_on"]
                path = dated.get(date.fromisoformat(issued_on)) if issued_on else None
                path = path or (dated.get(None) if is_newest else None)
            if path is not None:
                self._documents.check(path, cells.text("case_reference"))
        except ContractError as error:
            cells.wrong("document", error.problem, error.instead)
            return None
        return path

    def _attachments_of(self, cells: Cells) -> tuple[Path, ...]:
        found = []
        for name in cells.text("attachments").split("|"):
            try:
                if name.strip():
                    found.append(self._documents.named(name.strip()))
            except ContractError as error:
                cells.wrong("attachments", error.problem, error.instead)
        return tuple(found)

    def _ceased_of(self, cells: Cells) -> Ceased | None:
        today = self._defaults.today
        ceased_on = cells.day("ceased_on")
        ceased = None
        if ceased_on is not None:
            reason = cease_reason(cells, "cease_reason")
            notified_on = cells.day("cease_notified_on", today)
            if notified_on is not None and notified_on > ceased_on:
                cells.wrong(
                    "cease_notified_on", "the plan ceased before the family was told", "check which of the two is wrong"
                )
            if (issued := _silently(cells, "issued_on")) and ceased_on < issued:
                cells.wrong("ceased_on", "the plan ceased before it was issued", "check which of the two dates is wrong")
            elif reason and ceased_on <= today:
                ceased = Ceased(ceased_on, reason, notified_on)
        return ceased

    def _review_of(self, cells: Cells) -> tuple[PastReview | None, date | None, bool]:
        """The last one, its day, and whether it should have led to a new version.

        The first day of a plan is not in its rows, whose versions may all be younger than the review: the birth has to do."""
        decided, born = cells.day("last_review", self._defaults.today, refuses=False), _silently(cells, "date_of_birth")
        if decided is not None and born is not None and decided < born:
            cells.wrong("last_review", "the child was not born", "check which of the two dates is wrong", refuses=False)
            decided = None
        outcome, maintained = cells.text("review_outcome"), self._defaults.maintained
        review = past_review(cells, "last_review", decided, outcome, maintained)
        return review, decided, outcome.casefold() not in maintained


def key_of(cells: Cells) -> tuple[str, str]:
    """A version by its plan and its day; the plan by its case reference, in which capital letters do not count."""
    reference = cells.needed("case_reference").upper()
    if not reference:
        return "", ""
    day = _silently(cells, "issued_on")
    return f"{reference}{_BETWEEN}{day or '?' + cells.text('issued_on')}", reference


def column_of(field: str, numbers: dict[str, list[int]], cells: Cells | None = None) -> str:
    """The simple CSV's field that became ``child/upn`` or ``version/placements/0/from`` of a submission. Of a setting, the
    column that has its code in these ``cells``."""
    match field.split("/"):
        case ["child", "address", line, *_] if line.isdigit():
            return f"address_{int(line) + 1}"
        case ["child", "address"]:
            return "address_1"
        case ["child", name]:
            return name
        case ["version", "sections", letter, *_]:
            return f"section_{letter.lower()}"
        case ["version", ("placements" | "family" | "involved") as part, place, *rest] if place.isdigit():
            group = "setting" if part == "placements" else part
            known = numbers.get(group, [])
            name = {"setting": "type", "": "name"}.get(rest[0] if rest else "", rest[0] if rest else "name")
            number = known[int(place)] if int(place) < len(known) else int(place) + 1
            if cells and name == "type":
                name = next((scheme for scheme in _SCHEMES if cells.has(f"setting_{number}_{scheme}")), name)
            return f"{group}_{number}_{name if name in GROUPS[group] else GROUPS[group][0]}"
        case ["version", ("placements" | "family" | "involved") as part, *_]:
            group = "setting" if part == "placements" else part
            return f"{group}_1_{GROUPS[group][0]}"
        case ["event", "reviews", *_]:
            return "last_review"
        case ["event", "reason"]:
            return "cease_reason"
        case ["event", "notified_on"]:
            return "cease_notified_on"
        case ["version" | "event", name, *_]:
            return name
        case [name, *_]:
            return name
    return field


def _origin(read: _Read) -> Callable[[str], tuple[Cells, str]]:
    return lambda field: (read.cells, read.cells.column(column_of(field, read.numbers, read.cells)))


def _has_group(cells: Cells, group: str, n: int) -> bool:
    return any(cells.has(f"{group}_{n}_{name}") for name in GROUPS[group])


def _member_of(cells: Cells, n: int) -> dict[str, Any]:
    reference = cells.text(f"family_{n}_reference") or f"{cells.text('case_reference')}-F{n}"
    return {
        "reference": reference,
        "role": cells.text(f"family_{n}_role").casefold().replace(" ", "_") or "parent",
        "name": cells.needed(f"family_{n}_name"),
        "email": cells.text(f"family_{n}_email") or None,
        "address": lines_of(cells.text(f"family_{n}_address")),
    }


def lines_of(text: str) -> list[str]:
    """An address in one cell: its lines have a line break or ``|`` between them."""
    return [line.strip() for line in text.replace("\n", "|").split("|") if line.strip()]


def _involved_of(cells: Cells, n: int) -> dict[str, Any]:
    organisation = cells.organisation(f"involved_{n}_organisation")
    return {
        "role": cells.text(f"involved_{n}_role").casefold().replace(" ", "_") or None,
        "kind": cells.text(f"involved_{n}_kind").casefold().replace(" ", "_") or None,
        "organisation": _code(organisation) if organisation else None,
        "name": cells.text(f"involved_{n}_name") or None,
        "profession": cells.text(f"involved_{n}_profession") or None,
        "sections": cells.text(f"involved_{n}_sections").upper().replace(",", " ").split(),
        "advice_dated": _text(cells.day(f"involved_{n}_advice_dated")),
    }


def _sections_of(cells: Cells) -> dict[str, Any] | None:
    texts = {letter.value: cells.text(f"section_{letter.value.lower()}") for letter in SectionLetter}
    return {letter: {"text": text} for letter, text in texts.items() if text} or None


def _lacks_of(read: _Read, document: Path | None, named: frozenset[str]) -> set[Lack]:
    version = read.content["version"]
    found = {
        Lack.DOCUMENT: document is None and not version["sections"],
        Lack.NHS_NUMBER: not read.content["child"]["nhs_number"],
        Lack.RECIPIENT: not version["family"] and not named,
    }
    return {lack for lack, true in found.items() if true}


def _version(submission: PlanSubmission, document: Path | None, attachments: tuple[Path, ...], source: Ref) -> Version:
    return Version(submission.version.issued_on, as_json(submission), document, attachments, source)


def _code(code: OrganisationCode) -> dict[str, str]:
    return {"scheme": code.scheme.value, "value": code.value}


def _text(day: date | None) -> str | None:
    return str(day) if day else None


def _silently(cells: Cells, name: str) -> date | None:
    """A date whose faults are said elsewhere."""
    before = len(cells.faults)
    found = cells.day(name)
    del cells.faults[before:]
    return found
