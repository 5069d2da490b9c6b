"""The national register of schools (*Get information about schools*): its CSV of all establishments, and that of their links.

The file comes in Windows-1252 with dates as DD-MM-YYYY; columns are found by name, so that it may have more or fewer of the
others. URN is what says which school it is; LAESTAB and UKPRN are further codes. A school serves its own council's children:
another council's plan waits for a second person. Colleges take young people from far away and have no area.
"""

import re
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
from services.cli.importing.faults import Place, UnreadableError
from services.cli.importing.reading import Broken, CsvFile, plain_name

URN, NAME, STATUS = "URN", "EstablishmentName", "EstablishmentStatus (name)"
LA, NUMBER, UKPRN = "LA (code)", "EstablishmentNumber", "UKPRN"
TYPE, PHASE = "TypeOfEstablishment (name)", "PhaseOfEducation (name)"
OPENED, CLOSED = "OpenDate", "CloseDate"
NEEDED = (URN, LA, NUMBER, NAME, TYPE, STATUS, OPENED, CLOSED, PHASE, UKPRN)
_DATE = re.compile(r"([0-9]{2})[-/]([0-9]{2})[-/]([0-9]{4})")

_KINDS: Mapping[str, RecipientKind] = {
    "local authority nursery school": RecipientKind.EARLY_YEARS,
    "pupil referral unit": RecipientKind.ALTERNATIVE_PROVISION,
    "academy alternative provision converter": RecipientKind.ALTERNATIVE_PROVISION,
    "academy alternative provision sponsor led": RecipientKind.ALTERNATIVE_PROVISION,
    "free schools alternative provision": RecipientKind.ALTERNATIVE_PROVISION,
    "further education": RecipientKind.COLLEGE,
    "sixth form centres": RecipientKind.COLLEGE,
    "special post 16 institution": RecipientKind.COLLEGE,
    "academy 16 to 19 sponsor led": RecipientKind.COLLEGE,
    "academy 16-19 converter": RecipientKind.COLLEGE,
    "free schools 16 to 19": RecipientKind.COLLEGE,
    "children's centre": RecipientKind.EARLY_HELP,
    "children's centre linked site": RecipientKind.EARLY_HELP,
    "secure units": RecipientKind.CUSTODIAL_ESTABLISHMENT,
    "academy secure 16 to 19": RecipientKind.CUSTODIAL_ESTABLISHMENT,
}
_NO_SETTING = frozenset(
    {"british schools overseas", "offshore schools", "service children's education", "higher education institutions"}
)
"""Nothing that section I of a plan names: abroad, no school, or (higher education) where a plan ends."""
_AREA = frozenset(
    {RecipientKind.SCHOOL, RecipientKind.EARLY_YEARS, RecipientKind.ALTERNATIVE_PROVISION, RecipientKind.EARLY_HELP}
)


def read(path: Path, links: Links, delivery: Delivery, councils: frozenset[str] = frozenset()) -> Entries:
    """Every row of the file, one at a time; of these councils only, if any are given. Raises ``UnreadableError``."""
    file = CsvFile(path)
    try:
        _has_columns(file, NEEDED)
        place_of = {name: file.place_of[plain_name(name)] for name in NEEDED}
        for row in file.rows():
            place = Place(places(path), row.line)
            if isinstance(row, Broken):
                yield Entry(place, file.header, row.values, faults=(row.fault,))
                continue
            cells = {name: row.values[at].strip() for name, at in place_of.items()}
            if councils and cells[LA] not in councils:
                yield Entry(place, file.header, row.values, left_out="of another council")
                continue
            try:
                yield Entry(place, file.header, row.values, _school(cells, links, delivery))
            except LeftOutError as why:
                yield Entry(place, file.header, row.values, left_out=str(why))
            except RowFaultError as error:
                yield Entry(place, file.header, row.values, faults=(error.fault,))
    finally:
        file.close()


def read_links(path: Path) -> Links:
    """URN by URN who took over, from the register's file of links. Raises ``UnreadableError``."""
    file = CsvFile(path)
    try:
        _has_columns(file, ("URN", "LinkURN", "LinkType"))
        found: dict[str, tuple[str, ...]] = {}
        urn, other, kind = (file.place_of[plain_name(name)] for name in ("URN", "LinkURN", "LinkType"))
        for row in file.rows():
            if not isinstance(row, Broken) and row.values[kind].strip().casefold().startswith("successor"):
                found[row.values[urn].strip()] = (*found.get(row.values[urn].strip(), ()), row.values[other].strip())
        return found
    finally:
        file.close()


def _has_columns(file: CsvFile, needed: tuple[str, ...]) -> None:
    if missing := [name for name in needed if plain_name(name) not in file.place_of]:
        raise UnreadableError(
            f"{file.path.name} has no column {', '.join(missing)}: send the register's own CSV of all establishment data "
            "(with --links: of links)."
        )


def _school(cells: Mapping[str, str], links: Links, delivery: Delivery) -> DirectoryRecipient:
    kind = _kind(cells[TYPE], cells[PHASE])
    urn = checked(CodeScheme.URN, cells[URN], URN)
    opened, closed = _day(cells, OPENED), _day(cells, CLOSED)
    status = cells[STATUS].casefold()
    if status == "closed" and closed is None:
        raise LeftOutError("closed, nobody knows when")
    if status.startswith("proposed") and opened is None:
        raise LeftOutError("not open yet, nobody knows from when")
    in_order(opened, closed, CLOSED)
    codes = [dated(CodeScheme.URN, urn, opened, closed)]
    if cells[NUMBER] and cells[LA].isdigit() and int(cells[LA]):
        number = f"{cells[LA]}{cells[NUMBER].zfill(4)}"
        codes.append(dated(CodeScheme.LAESTAB, checked(CodeScheme.LAESTAB, number, NUMBER), opened, closed))
    if cells[UKPRN]:
        codes.append(dated(CodeScheme.UKPRN, checked(CodeScheme.UKPRN, cells[UKPRN], UKPRN), opened, closed))
    areas = (checked(CodeScheme.LA, cells[LA], LA),) if kind in _AREA and cells[LA].strip("0") else ()
    if not cells[NAME]:
        raise wrong(NAME, "it is empty", "correct it in the register")
    successors = [{"scheme": CodeScheme.URN, "value": each} for each in links.get(urn, ()) if re.fullmatch("[0-9]{6}", each)]
    return organisation(kind, cells[NAME], codes, areas, successors[:20], delivery)


def _kind(type_: str, phase: str) -> RecipientKind:
    known = type_.casefold().replace("’", "'")
    if known in _NO_SETTING:
        raise LeftOutError(f"no setting of a plan ({type_})")
    if phase.casefold() == "nursery":
        return RecipientKind.EARLY_YEARS
    return _KINDS.get(known, RecipientKind.SCHOOL)


def _day(cells: Mapping[str, str], name: str) -> date | None:
    if not cells[name]:
        return None
    match = _DATE.fullmatch(cells[name])
    try:
        return date(int(match[3]), int(match[2]), int(match[1])) if match else date.fromisoformat(cells[name])
    except ValueError:
        raise wrong(name, "it is not a date", "send it as DD-MM-YYYY, as the register does") from None
