"""What a cell says: dates in the forms that councils export, identifiers with their check digits, codes of organisations.

Invariant: a value is taken or refused, never guessed: 3/4 is the third of April as everywhere in England, and a number that a
spreadsheet rounded is refused. Faults say which rule, never the value.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

from pydantic import ValidationError

from schemas.base import ContractError
from schemas.identifiers import CodeScheme, OrganisationCode
from schemas.refusals import explain
from services.cli.importing.faults import Fault

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MIDNIGHT = r"(?:[ T]00:00(?::00(?:\.0+)?)?Z?)?"
_ISO = re.compile(rf"([0-9]{{4}})-([0-9]{{1,2}})-([0-9]{{1,2}}){_MIDNIGHT}")
_NAMED_MONTH = re.compile(rf"([0-9]{{4}})-([A-Za-z]{{3}})-([0-9]{{1,2}}){_MIDNIGHT}")
_DAY_FIRST = re.compile(rf"([0-9]{{1,2}})[/.]([0-9]{{1,2}})[/.]([0-9]{{4}}){_MIDNIGHT}")
_ROUNDED = re.compile(r"[0-9]\.[0-9]+[eE]\+?[0-9]+")
_EARLIEST = date(1900, 1, 1)


def parse_date(text: str) -> date:
    """``2026-02-13``, ``13/02/2026`` or the DfE's ``2026-Feb-13``, each with a midnight behind it. Raises ContractError."""
    try:
        if match := _ISO.fullmatch(text):
            day = date(int(match[1]), int(match[2]), int(match[3]))
        elif match := _DAY_FIRST.fullmatch(text):
            day = date(int(match[3]), int(match[2]), int(match[1]))
        elif (match := _NAMED_MONTH.fullmatch(text)) and match[2].lower() in _MONTHS:
            day = date(int(match[1]), _MONTHS.index(match[2].lower()) + 1, int(match[3]))
        else:
            raise ContractError("it is not a date", "send the date as YYYY-MM-DD or DD/MM/YYYY")
    except ContractError:
        raise
    except ValueError:
        raise ContractError("there is no such day", "check day and month; the day comes first in DD/MM/YYYY") from None
    if day < _EARLIEST:
        raise ContractError("the date is before 1900", "leave the cell empty when the date is not known")
    return day


def parse_organisation(text: str) -> OrganisationCode:
    """``urn:993202``, ``ods:QUA``. Raises ContractError."""
    scheme, colon, value = (part.strip() for part in text.partition(":"))
    known = [each.value for each in CodeScheme if each is not CodeScheme.RECIPIENT]
    if not colon or scheme.lower() not in known:
        raise ContractError("it is not a code with its scheme", f"send it as scheme:code, with one of {', '.join(known)}")
    return organisation(CodeScheme(scheme.lower()), value)


def organisation(scheme: CodeScheme, value: str) -> OrganisationCode:
    """Raises ContractError where the code breaks its scheme's rule."""
    try:
        return OrganisationCode(scheme=scheme, value=value)
    except ValidationError as error:
        first = explain(error.errors(include_input=False, include_url=False))[0]
        raise ContractError(first.problem, first.instead) from None


class Cells:
    """One row under the extract's own names. Reading a cell that is wrong adds a fault and gives nothing."""

    def __init__(self, values: Sequence[str], place_of: Mapping[str, int], header: Sequence[str]) -> None:
        """``place_of`` gives the place in ``values`` of each field; ``header`` names the columns as the file does."""
        self._values = values
        self._place_of = place_of
        self._header = header
        self.faults: list[Fault] = []

    def text(self, name: str) -> str:
        place = self._place_of.get(name)
        return "" if place is None else self._values[place].strip()

    def has(self, name: str) -> bool:
        return bool(self.text(name))

    def column(self, name: str) -> str:
        """As the file calls it."""
        place = self._place_of.get(name)
        return name if place is None else self._header[place]

    def wrong(self, name: str, problem: str, instead: str, *, refuses: bool = True) -> None:
        self.faults.append(Fault(self.column(name), problem, instead, refuses))

    def needed(self, name: str) -> str:
        found = self.text(name)
        if not found:
            self.wrong(name, "it is empty", "fill it in")
        return found

    def day(self, name: str, today: date | None = None, *, refuses: bool = True) -> date | None:
        """``today`` where the day cannot be in the future."""
        found = self._parsed(name, parse_date, refuses=refuses)
        if found is not None and today is not None and found > today:
            self.wrong(name, "the date is in the future", "check the year", refuses=refuses)
            return None
        return found  # type: ignore[no-any-return]

    def number(self, name: str, check: Callable[[str], str]) -> str | None:
        """An identifier; spaces and dashes that group its digits do not count."""
        return self._parsed(name, lambda text: check(_ungrouped(text)))  # type: ignore[no-any-return]

    def organisation(self, name: str, scheme: CodeScheme | None = None) -> OrganisationCode | None:
        """``scheme`` where the column holds bare codes of one."""
        parse = parse_organisation if scheme is None else lambda text: organisation(scheme, _ungrouped(text))
        return self._parsed(name, parse)  # type: ignore[no-any-return]

    def organisations(self, name: str, scheme: CodeScheme) -> list[OrganisationCode]:
        """Several codes, with spaces between them; each bare or with its scheme."""
        found = []
        for part in re.split(r"[\s,;|]+", self.text(name)):
            if part:
                parse = parse_organisation if ":" in part else lambda text: organisation(scheme, text)
                if (code := self._parse(name, part, parse)) is not None:
                    found.append(code)
        return found

    def _parsed(self, name: str, parse: Callable[[str], Any], *, refuses: bool = True) -> Any:
        text = self.text(name)
        return self._parse(name, text, parse, refuses=refuses) if text else None

    def _parse(self, name: str, text: str, parse: Callable[[str], Any], *, refuses: bool = True) -> Any:
        if _ROUNDED.fullmatch(text):
            self.wrong(name, "a spreadsheet rounded the number", "format the column as text, and export it again")
            return None
        try:
            return parse(text)
        except ContractError as error:
            self.wrong(name, error.problem, error.instead, refuses=refuses)
            return None


def _ungrouped(text: str) -> str:
    return re.sub(r"[\s-]", "", text).upper()
