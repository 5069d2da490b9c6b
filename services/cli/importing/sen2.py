"""The SEN2 person-level return as a source of plans: what every council extracts each January already.

A request and everything below it (assessment, named plan, plan detail; active plan, placements, needs) is one plan. SEN2 has
no text of a plan, no NHS number and no family: the text is the PDF in the folder of documents, the others come from columns
and a file that a council adds (``docs/import.md``). Where the plan is active, its placements say which settings it names, else
the plan detail. Next: ``sending.py``, ``comparing.py`` or ``readiness.py``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from schemas.base import ContractError
from schemas.identifiers import CodeScheme, OrganisationCode, check_la_code, check_nhs_number, check_uln, check_upn
from schemas.lifecycle import CeaseReason, PastReview
from services.cli.importing.cells import Cells
from services.cli.importing.documents import Documents
from services.cli.importing.faults import NOBODYS, Fault, UnreadableError
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
from services.cli.importing.profiles import Profile
from services.cli.importing.sen2_modules import MODULES, NEEDS, SETTINGS
from services.cli.importing.tables import Key, Ref, Tables

_SCHEMES = {"urn": CodeScheme.URN, "ukprn": CodeScheme.UKPRN}
_CHECK_DATES = "check which of the two dates is wrong"
# A plan that moved to another council goes on there: it is handed over by a transfer, which needs to know to whom.
HANDED_OVER = CeaseReason.TRANSFER


@dataclass(slots=True)
class _Case:
    """The rows of one plan."""

    request: Ref
    person: Ref
    assessment: Ref | None
    named: Ref | None
    active: Ref | None
    cells: dict[Ref, Cells]
    placed: list[Ref] = field(default_factory=list)
    """The row of each placement, in the order of the submission."""

    def of(self, ref: Ref | None) -> Cells:
        return self.cells[ref] if ref else Cells((), {}, ())

    def row(self, module: str) -> Ref | None:
        known = {"person": self.person, "requests": self.request, "assessment": self.assessment, "namedplan": self.named}
        return known.get(module, self.active if module == "activeplans" else None)

    @property
    def main(self) -> Ref:
        """The row that answers for the plan."""
        return self.named or self.active or self.request


class Sen2Extract:
    def __init__(self, tables: Tables, documents: Documents, profile: Profile, la_code: str | None, today: date) -> None:
        """Raises UnreadableError where nothing says whose plans these are."""
        self._tables = tables
        self._documents = documents
        self._profile = profile
        self._today = today
        self._maintained = frozenset(word.casefold() for word in profile.maintained)
        for name, module in MODULES.items():
            tables.index(name, _key_of(name))
            if module.parent is not None:
                for ref in tables.orphans(name, module.parent):
                    column = tables.cells(ref).column(module.parent_id)
                    tables.report(ref, [Fault(column, f"there is no such row in {MODULES[module.parent].title}",
                                              "send the id of a row that is there, or the missing row")])  # fmt: skip
        self._la_code = la_code or self._council_of_the_set()
        tables.db.execute("CREATE TABLE reference (reference TEXT COLLATE NOCASE PRIMARY KEY, place TEXT) WITHOUT ROWID")
        tables.db.execute("CREATE TABLE over (request TEXT)")

    def count(self) -> int:
        return self._tables.count("requests")

    @property
    def duplicates(self) -> int:
        return self._tables.duplicates

    def unused_documents(self) -> Iterator[str]:
        return self._documents.unused()

    def notes(self) -> list[str]:
        return self._tables.notes()

    def refuse(self, source: Ref, refusals: Sequence[Fault]) -> None:
        case = self._case(source)
        assert case is not None, "a version was made of it"
        self._placements_of(case, _silently(case.of(case.named), "startdate"))
        by_row: dict[Ref, list[Fault]] = {}
        for fault in refusals:
            if fault.column.startswith("version/commissioning_bodies"):
                self._tables.blame_profile([replace(fault, column="commissioning_bodies")])
                continue
            row, column = self._place_of(case, fault.column)
            by_row.setdefault(row, []).append(replace(fault, column=case.cells[row].column(column)))
        for row, faults in by_row.items():
            self._tables.report(row, faults, again=True)

    def _place_of(self, case: _Case, field: str) -> tuple[Ref, str]:
        """The row and the column behind a field of a submission."""
        match field.split("/"):
            case ["child", *_]:
                return case.person, _column_of(field)
            case ["version", "placements", place, name] if place.isdigit() and int(place) < len(case.placed):
                row = case.placed[int(place)]
                codes = (scheme for scheme in _SCHEMES if case.cells[row].has(scheme))
                return row, {"from": "entrydate", "until": "leavingdate"}.get(name) or next(codes, "sensetting")
        return case.main, _column_of(field)

    def plans(self) -> Iterator[ExtractPlan]:
        """Those in force first: a reference that a child's earlier plan had, too, is the current one's."""
        for request in self._tables.refs("requests"):
            if (case := self._case(request)) is None:
                continue
            plan = self._plan(case)
            for ref, cells in case.cells.items():
                self._tables.report(ref, cells.faults)
            if plan.over:
                self._tables.db.execute("INSERT INTO over VALUES (?)", (request.id,))
            elif self._claim(case, plan):
                yield plan
            else:
                yield replace(plan, versions=(), lacks=plan.lacks | {Lack.CORRECTION})
        for (id_,) in self._tables.db.execute("SELECT request FROM over"):
            request_over = self._tables.get("requests", id_)
            assert request_over is not None
            case = self._case(request_over)
            assert case is not None
            plan = self._plan(case)
            if self._claim(case, plan):
                yield plan

    def _council_of_the_set(self) -> str:
        for ref in self._tables.refs("sen2"):
            cells = self._tables.cells(ref)
            if la_code := cells.number("lea", check_la_code):
                return la_code
        raise UnreadableError(NOBODYS)

    def _case(self, request: Ref) -> _Case | None:
        """None where the request came to no plan, or belongs to nobody."""
        tables = self._tables
        person = tables.get("person", request.parent)
        assessments = tables.children("assessment", request.id)
        named = [ref for assessment in assessments for ref in tables.children("namedplan", assessment.id)]
        active = tables.children("activeplans", request.id)
        if person is None or not (named or active):
            return None
        cells = {ref: tables.cells(ref) for ref in (person, request, *assessments, *named, *active)}
        newest = max(named, key=lambda ref: (_silently(cells[ref], "startdate") or date.min, ref.line), default=None)
        for ref in named:
            if ref != newest and not cells[ref].has("ceasedate"):
                cells[ref].wrong("ceasedate", "the request has a newer plan, and this one has not ceased",
                                 "send the day on which it ceased", refuses=False)  # fmt: skip
        assessment = next((ref for ref in assessments if newest and ref.id == newest.parent), None)
        return _Case(request, person, assessment, newest, active[-1] if active else None, cells)

    def _plan(self, case: _Case) -> ExtractPlan:
        person, named, active = case.of(case.person), case.of(case.named), case.of(case.active)
        child = self._child_of(person)
        start = named.day("startdate", self._today) if case.named and named.needed("startdate") else None
        self._check_order(case, start)
        ceased = self._ceased_of(named, start)
        review, last_review, amended = self._review_of(active, start)
        self._check_needs(case)
        placements, settings = self._placements_of(case, start)
        family = self._family_of(case)
        reference = self._reference_of(case)
        commissioners = [{"scheme": "ods", "value": value} for value in self._profile.commissioning_bodies]
        found: list[Version] = []
        documents = self._documents_of(case, reference, start)
        for issued_on, path in sorted(documents.items(), reverse=True):
            content = {
                "la_code": self._la_code,
                "case_reference": reference,
                "child": child,
                "version": {"issued_on": str(issued_on), "placements": placements, "family": family,
                            "commissioning_bodies": commissioners},
            }  # fmt: skip
            if (submission := submission_of(content, self._origin(case))) is not None:
                found.append(Version(issued_on, as_json(submission), path, (), case.request))
        codes = organisations_of({"placements": placements, "commissioning_bodies": commissioners}, self._today)
        refused = any(fault.refuses for cells in case.cells.values() for fault in cells.faults)
        lacking = {
            Lack.DOCUMENT: not documents, Lack.NHS_NUMBER: not child["nhs_number"], Lack.RECIPIENT: not family and not codes,
            Lack.CORRECTION: refused,
        }  # fmt: skip
        return ExtractPlan(
            self._la_code, reference, case.request, () if refused else tuple(found), None if refused else ceased, settings,
            last_review, amended, review, frozenset(lack for lack, true in lacking.items() if true), codes, bool(family),
            over=named.has("ceasedate") and not _is_after(named, "ceasedate", self._today),
        )  # fmt: skip

    def _origin(self, case: _Case) -> Callable[[str], tuple[Cells, str]]:
        def origin(field: str) -> tuple[Cells, str]:
            module, _, column = self._profile.case_reference.partition(".")
            if field == "case_reference":
                return case.of(case.row(module)), column
            cells = case.of(case.person if field.startswith("child") else case.main)
            return cells, cells.column(_column_of(field))

        return origin

    def _reference_of(self, case: _Case) -> str:
        module, _, column = self._profile.case_reference.partition(".")
        ref = case.row(module)
        cells = case.of(ref)
        reference = cells.text(column)
        if ref is None or not reference:
            case.of(case.main).wrong(self._profile.case_reference, "the plan has no case reference", "fill the column in")
            return ""
        return reference

    def _claim(self, case: _Case, plan: ExtractPlan) -> bool:
        """Whether no other plan has this case reference already. A plan that is over may share it with its successor."""
        db, place = self._tables.db, f"{case.main.name} line {case.main.line}"
        if not plan.case_reference:  # that it has none is said already
            return True
        if db.execute("INSERT OR IGNORE INTO reference VALUES (?, ?)", (plan.case_reference, place)).rowcount:
            return True
        if not plan.over:
            (other,) = db.execute("SELECT place FROM reference WHERE reference = ?", (plan.case_reference,)).fetchone()
            fault = Fault(self._profile.case_reference, f"another plan in force ({other}) has the same case reference",
                          "name a column in the profile (case_reference) that is different for every plan")  # fmt: skip
            self._tables.report(case.main, [fault], again=True)
        return False

    def _child_of(self, cells: Cells) -> dict[str, Any]:
        born = cells.day("personbirthdate", self._today) if cells.needed("personbirthdate") else None
        return {
            "family_name": cells.needed("surname"),
            "given_names": cells.needed("forename"),
            "date_of_birth": str(born) if born else None,
            "nhs_number": cells.number("nhsnumber", check_nhs_number),
            "upn": cells.number("upn", check_upn),
            "uln": cells.number("uniquelearnernumber", check_uln),
            "address": _address_of(cells),
            "postcode": cells.text("postcode") or None,
        }

    def _check_order(self, case: _Case, start: date | None) -> None:
        """What cannot have happened in that order. Only what the exchange itself uses keeps a plan from being sent."""
        request, assessment, named = case.of(case.request), case.of(case.assessment), case.of(case.named)
        received = request.day("receiveddate", self._today, refuses=False)
        decided = request.day("requestoutcomedate", refuses=False)
        assessed = assessment.day("assessmentoutcomedate", refuses=False)
        born = _silently(case.of(case.person), "personbirthdate")
        orders = (
            (request, "requestoutcomedate", decided, received, "the outcome is before the request", False),
            (assessment, "assessmentoutcomedate", assessed, decided or received, "the outcome is before the request's", False),
            (named, "startdate", start, received, "the plan begins before it was requested", False),
            (named, "startdate", start, born, "the plan begins before the child was born", True),
        )
        for cells, name, later, earlier, problem, refuses in orders:
            if later is not None and earlier is not None and later < earlier:
                cells.wrong(name, problem, _CHECK_DATES, refuses=refuses)

    def _ceased_of(self, named: Cells, start: date | None) -> Ceased | None:
        on = named.day("ceasedate")
        if on is None:
            if named.has("ceasereason") and not named.has("ceasedate"):
                named.wrong(
                    "ceasedate", "there is a reason and no date", "send the day on which the plan ceased", refuses=False
                )
            return None
        if start is not None and on < start:
            named.wrong("ceasedate", "the plan ceased before it began", _CHECK_DATES)
            return None
        reason, notified_on = cease_reason(named, "ceasereason"), named.day("notifiedon", self._today)
        if notified_on is not None and notified_on > on:
            named.wrong("notifiedon", "the plan ceased before the family was told", _CHECK_DATES)
        if reason is HANDED_OVER:
            named.wrong("ceasereason", "the plan went to another council, and SEN2 does not say to which",
                        "record the transfer: ehcp record transfer", refuses=False)  # fmt: skip
            return None
        return Ceased(on, reason, notified_on) if reason and on <= self._today else None

    def _review_of(self, active: Cells, start: date | None) -> tuple[PastReview | None, date | None, bool]:
        """The last review with a decision, its day, and whether it should have led to a new version."""
        held = active.day("reviewmeeting", self._today, refuses=False)
        decided = active.day("lastreview", self._today, refuses=False)
        drafted = active.day("reviewdraft", refuses=False)
        outcome = active.text("reviewoutcome")
        # Without an outcome the decision is that of an earlier review.
        if held is not None and decided is not None and outcome and decided < held:
            active.wrong("lastreview", "the decision is before the meeting", _CHECK_DATES, refuses=False)
            decided = None
        if start is not None and decided is not None and decided < start:
            active.wrong("lastreview", "the plan was reviewed before it began", _CHECK_DATES, refuses=False)
            decided = None
        if held is not None and drafted is not None and drafted < held:
            active.wrong("reviewdraft", "the draft is before the meeting", _CHECK_DATES, refuses=False)
        for name in ("phasetransferduedate", "phasetransferfinaldate"):
            active.day(name, refuses=False)
        review = past_review(active, "lastreview", decided, outcome, self._maintained, held)
        return review, decided, outcome.casefold() not in self._maintained

    def _check_needs(self, case: _Case) -> None:
        if case.active is None:
            return
        for ref in self._tables.children("senneed", case.active.id):
            cells = case.cells[ref] = self._tables.cells(ref)
            if cells.text("sentype").upper() not in NEEDS:
                cells.wrong(
                    "sentype", "it is not a type of need that SEN2 knows", f"send one of {', '.join(NEEDS)}", refuses=False
                )

    def _placements_of(self, case: _Case, start: date | None) -> tuple[list[dict[str, Any]], frozenset[str]]:
        details = self._tables.children("plandetail", case.named.id) if case.named else []
        rows = self._tables.children("placementdetail", case.active.id) if case.active else []
        case.cells |= {ref: self._tables.cells(ref) for ref in (*details, *rows)}
        placements: list[dict[str, Any]] = []
        now: set[str] = set()
        spans: list[tuple[Ref, str, str, date, date]] = []
        for ref in rows or details:
            cells = case.cells[ref]
            code, words = self._setting_of(cells)
            begins = cells.day("entrydate") or (None if cells.has("entrydate") else start)
            ends = cells.day("leavingdate")
            if code is None and words is None:
                continue
            if begins is None:
                if not cells.has("entrydate"):
                    cells.wrong("entrydate", "it is empty", "send the first day at this setting")
                continue
            if ends is not None and ends < begins:
                cells.wrong("leavingdate", "the last day is before the first", _CHECK_DATES)
                continue
            self._check_overlap(cells, spans, code, begins, ends or date.max)
            spans.append((ref, str(code or ""), cells.text("placementrank"), begins, ends or date.max))
            setting = {"scheme": code.scheme.value, "value": code.value} if code else None
            case.placed.append(ref)
            placements.append(
                {"setting": setting, "setting_type": words, "from": str(begins), "until": str(ends) if ends else None}
            )
            if code and begins <= self._today <= (ends or date.max):
                now.add(str(code))
        for ref in details if rows else ():
            self._setting_of(case.cells[ref])
        return placements, frozenset(now)

    def _setting_of(self, cells: Cells) -> tuple[OrganisationCode | None, str | None]:
        codes = [cells.organisation(name, scheme) for name, scheme in _SCHEMES.items()]
        words = cells.text("sensetting").upper()
        if words and words not in SETTINGS:
            cells.wrong("sensetting", "it is not a setting that SEN2 knows", f"send one of {', '.join(SETTINGS)}")
            return None, None
        code = next((code for code in codes if code is not None), None)
        if code is None and not words and not any(cells.has(name) for name in _SCHEMES):
            cells.wrong("urn", "the row names no setting", "send urn, ukprn or sensetting")
        return code, None if code else SETTINGS.get(words)

    def _check_overlap(
        self,
        cells: Cells,
        spans: list[tuple[Ref, str, str, date, date]],
        code: OrganisationCode | None,
        begins: date,
        ends: date,
    ) -> None:
        rank = cells.text("placementrank")
        for ref, other, other_rank, first, last in spans:
            same = (code is not None and str(code) == other) or (rank and rank == other_rank)
            if same and begins <= last and first <= ends:
                what = "at the same setting" if code is not None and str(code) == other else "of the same rank"
                cells.wrong("entrydate", f"it overlaps the placement {what} in line {ref.line}",
                            "send the leaving date of the earlier one, or another rank")  # fmt: skip
                return

    def _family_of(self, case: _Case) -> list[dict[str, Any]]:
        made = []
        for ref in self._tables.children("family", case.person.id):
            cells = case.cells[ref] = self._tables.cells(ref)
            made.append(
                {"reference": cells.text("reference") or ref.id, "role": cells.text("role").casefold() or "parent",
                 "name": cells.needed("name"), "email": cells.text("email") or None,
                 "address": [*_address_of(cells), *([cells.text("postcode")] if cells.has("postcode") else [])]}
            )  # fmt: skip
        return made

    def _documents_of(self, case: _Case, reference: str, start: date | None) -> dict[date, Path]:
        """The plan's PDFs by the day of issue."""
        found: dict[date, Path] = {}
        for day, path in self._documents.of(reference).items() if reference else ():
            module, _, column = self._profile.issued_on.partition(".")
            cells = case.of(case.row(module))
            issued_on = day or cells.day(column, self._today) or start
            main = case.of(case.main)
            try:
                self._documents.check(path, reference)
            except ContractError as error:
                main.wrong("document", error.problem, error.instead)
                continue
            if issued_on is None:
                main.wrong(
                    "document",
                    "nothing says when this document was issued",
                    "write the day in its name: REFERENCE_2026-02-13.pdf",
                )
            elif day is not None or issued_on not in found:
                found[issued_on] = path
        return found


def _key_of(name: str) -> Key:
    module = MODULES[name]

    def key(cells: Cells) -> tuple[str, str]:
        own = cells.needed(module.id)
        parent = cells.needed(module.parent_id) if module.parent else ""
        return (own, parent) if own and (parent or not module.parent) else ("", "")

    return key


def _column_of(field: str) -> str:
    """The SEN2 column behind a field of a submission; the field itself where it has none."""
    known = {
        "child/family_name": "surname", "child/given_names": "forename", "child/date_of_birth": "personbirthdate",
        "child/upn": "upn", "child/uln": "uniquelearnernumber", "child/nhs_number": "nhsnumber", "child/postcode": "postcode",
        "version/issued_on": "startdate", "event/ceased_on": "ceasedate", "event/reason": "ceasereason",
        "event/notified_on": "notifiedon", "event/reviews/0/held_on": "reviewmeeting",
        "event/reviews/0/decided_on": "lastreview",
    }  # fmt: skip
    return known.get(field, field)


def _address_of(cells: Cells) -> list[str]:
    return [line for n in range(1, 5) if (line := cells.text(f"address{n}"))]


def _silently(cells: Cells, name: str) -> date | None:
    before = len(cells.faults)
    found = cells.day(name)
    del cells.faults[before:]
    return found


def _is_after(cells: Cells, name: str, today: date) -> bool:
    found = _silently(cells, name)
    return found is not None and found > today
