"""The NHS register of organisations (ODS): its CSV files of 27 columns without a header, such as epraccur, etr and eccg.

Columns are known by their place (ODS, *CSV file format*): code, name, national grouping, health geography, five lines of
address, postcode, open date, close date, status, sub-type, commissioner, joined, left, telephone, … the 22nd whether the record
was amended, the 24th provider, the 26th the prescribing setting. Dates are YYYYMMDD. What kind of organisation a file lists is
said by its name alone. Whom an organisation serves is not in it, so that none is out of area until someone says so.
"""

import csv
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from schemas.base import RecipientKind
from schemas.directory import DirectoryRecipient
from schemas.identifiers import CodeScheme
from services.cli.directories.entries import (
    Delivery,
    Entries,
    Entry,
    LeftOutError,
    Links,
    RowFaultError,
    checked,
    dated,
    in_order,
    organisation,
    places,
    wrong,
)
from services.cli.importing.faults import Fault, Place, UnreadableError
from services.cli.importing.reading import find_encoding
from services.cli.machine.errors import UsageError

COLUMNS = (
    "Organisation Code", "Name", "National Grouping", "High Level Health Geography", "Address Line 1", "Address Line 2",
    "Address Line 3", "Address Line 4", "Address Line 5", "Postcode", "Open Date", "Close Date", "Status Code",
    "Organisation Sub-Type Code", "Commissioner", "Join Provider/Purchaser Date", "Left Provider/Purchaser Date",
    "Contact Telephone Number", "Null 1", "Null 2", "Null 3", "Amended Record Indicator", "Null 4", "Provider/Purchaser",
    "Null 5", "Prescribing Setting", "Null 6",
)  # fmt: skip
CODE, NAME, OPENED, CLOSED, STATUS, SETTING = 0, 1, 10, 11, 12, 25
GP_PRACTICE = "4"
"""Prescribing setting of a GP practice; the same file lists walk-in centres, prisons and others."""
CLOSED_STATUS = frozenset({"C", "Closed", "CLOSED", "Inactive", "INACTIVE"})
LEAST_COLUMNS = 13

KIND_OF_FILE: Mapping[str, RecipientKind] = {
    "epraccur": RecipientKind.GP,
    "etr": RecipientKind.TRUST,
    "etrust": RecipientKind.TRUST,
    "eccg": RecipientKind.COMMISSIONING_BODY,
}


def kind_of(path: Path, said: RecipientKind | None) -> RecipientKind:
    """Raises ``UsageError`` where neither the name nor anybody says it."""
    kind = said or KIND_OF_FILE.get(path.stem.casefold())
    if kind is None:
        known = ", ".join(KIND_OF_FILE)
        raise UsageError(f"{path.name} is not named as the register's own files are ({known}): say --kind.")
    return kind


def read(path: Path, kind: RecipientKind, links: Links, delivery: Delivery) -> Entries:
    """Every row of the file, one at a time. Raises ``UnreadableError``."""
    with path.open(encoding=find_encoding(path), errors="replace", newline="") as file:
        reader = csv.reader(file, strict=True)
        seen = False
        while True:
            line = reader.line_num + 1
            place = Place(places(path), line)
            try:
                values = tuple(next(reader))
            except StopIteration:
                return
            except csv.Error:
                fault = Fault("", "the row cannot be read: quotation marks are not as in CSV", "export the file again")
                yield Entry(place, COLUMNS, (), faults=(fault,))
                continue
            if not any(values):
                continue
            if not seen and (len(values) < LEAST_COLUMNS or not _is_first(values)):
                raise UnreadableError(
                    f"{path.name} is not a file of the NHS register: that has 27 columns and no header, the first an ODS code, "
                    "the 11th a date as YYYYMMDD."
                )
            seen = True
            try:
                yield Entry(place, COLUMNS, values, _organisation(kind, values, links, delivery))
            except LeftOutError as why:
                yield Entry(place, COLUMNS, values, left_out=str(why))
            except RowFaultError as error:
                yield Entry(place, COLUMNS, values, faults=(error.fault,))


def read_links(path: Path) -> Links:
    """Code by code who took over, from the register's file of successions (``succ``): code, successor, reason, date."""
    found: dict[str, tuple[str, ...]] = {}
    with path.open(encoding=find_encoding(path), errors="replace", newline="") as file:
        for values in csv.reader(file):
            if len(values) >= 2 and values[0].strip() and values[1].strip():
                found[values[0].strip()] = (*found.get(values[0].strip(), ()), values[1].strip())
    if not found:
        raise UnreadableError(f"{path.name} is not the register's file of successions: a code and its successor in each row.")
    return found


def _is_first(values: tuple[str, ...]) -> bool:
    return values[CODE].strip().isalnum() and len(values[CODE].strip()) <= 8 and values[OPENED].strip()[:8].isdigit()


def _organisation(kind: RecipientKind, values: tuple[str, ...], links: Links, delivery: Delivery) -> DirectoryRecipient:
    if len(values) < LEAST_COLUMNS:
        raise wrong("", f"the row has {len(values)} cells, the layout {len(COLUMNS)}", "export the file again")
    if kind is RecipientKind.GP and len(values) > SETTING and values[SETTING].strip() not in ("", GP_PRACTICE):
        raise LeftOutError("no GP practice (another prescribing setting)")
    code = checked(CodeScheme.ODS, values[CODE].strip(), COLUMNS[CODE])
    opened, closed = _day(values, OPENED), _day(values, CLOSED)
    if values[STATUS].strip() in CLOSED_STATUS and closed is None:
        raise LeftOutError("closed, nobody knows when")
    in_order(opened, closed, COLUMNS[CLOSED])
    if not values[NAME].strip():
        raise wrong(COLUMNS[NAME], "it is empty", "correct it in the register")
    successors = [{"scheme": CodeScheme.ODS, "value": each} for each in links.get(code, ()) if each.isalnum()]
    return organisation(kind, values[NAME], [dated(CodeScheme.ODS, code, opened, closed)], (), successors[:20], delivery)


def _day(values: tuple[str, ...], place: int) -> date | None:
    text = values[place].strip()
    if not text:
        return None
    try:
        if len(text) != 8 or not text.isdigit():
            raise ValueError
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        raise wrong(COLUMNS[place], "it is not a date", "send it as YYYYMMDD, as the register does") from None
