"""National registers: what their rows become, what is left out and why, and which rows are refused."""

from collections.abc import Iterable
from datetime import date
from pathlib import Path

import pytest

from schemas.base import Channel, RecipientKind
from services.cli.directories import gias, ods
from services.cli.directories.entries import Delivery, Entry
from services.cli.importing.faults import UnreadableError
from services.cli.machine.errors import UsageError
from tests.support.services import REPOSITORY

REGISTERS = REPOSITORY / "deploy" / "sandbox" / "registers"
HEADER = ",".join(gias.NEEDED)
SCHOOL = "100001,332,2001,Hill School,Community school,Open,01-09-2010,,Primary,10000001"


def gias_file(folder: Path, *rows: str, header: str = HEADER, encoding: str = "cp1252") -> Path:
    path = folder / "edubasealldata.csv"
    path.write_bytes("\r\n".join([header, *rows, ""]).encode(encoding))
    return path


def schools(path: Path, councils: frozenset[str] = frozenset()) -> list[Entry]:
    return list(gias.read(path, {}, Delivery(), councils))


def codes(entry: Entry) -> list[tuple[str, str, str | None]]:
    """(code, from, until); the beginning of time is empty."""
    assert entry.recipient is not None
    return [
        (f"{c.scheme}:{c.value}", "" if c.from_ == date(1900, 1, 1) else str(c.from_), str(c.until) if c.until else None)
        for c in entry.recipient.codes
    ]


def kinds(entries: Iterable[Entry]) -> list[str | None]:
    return [entry.recipient.kind.value if entry.recipient else None for entry in entries]


def test_the_sample_of_the_schools_register() -> None:
    links = gias.read_links(REGISTERS / "school_links.csv")
    entries = list(gias.read(REGISTERS / "schools.csv", links, Delivery("school", Channel.INBOX)))
    taken = {entry.recipient.name: entry for entry in entries if entry.recipient}
    assert {name: entry.recipient.kind.value for name, entry in taken.items() if entry.recipient} == {
        "Puddlers’ Row Primary School": "school",
        "St Zoë’s Catholic Primary School": "school",
        "St Zoë’s Catholic Primary Academy": "school",
        "Holloway Hall School": "school",
        "The Ironbridge Centre": "alternative_provision",
        "Tall Chimney Nursery School": "early_years",
        "Navigation Sixth Form": "college",
        "Tollbar College": "college",
        "Locksmith School": "school",
        "Little Sparks Children’s Centre": "early_help",
    }
    assert codes(taken["St Zoë’s Catholic Primary School"]) == [
        ("urn:993402", "", "2024-08-31"), ("laestab:3329942", "", "2024-08-31"), ("ukprn:10993402", "", "2024-08-31"),
    ]  # fmt: skip
    assert codes(taken["St Zoë’s Catholic Primary Academy"])[1] == ("laestab:3329942", "2024-09-01", None)
    assert codes(taken["Locksmith School"])[0] == ("urn:993411", "2009-01-12", "2027-07-31")
    assert codes(taken["Tollbar College"]) == [("urn:993408", "1993-04-01", None), ("ukprn:10993408", "1993-04-01", None)]
    closed = taken["St Zoë’s Catholic Primary School"].recipient
    assert closed is not None
    assert [str(each) for each in closed.successors] == ["urn:993403"]
    assert (closed.subscriber, closed.channel, closed.areas) == ("school", "inbox", ("332",))
    college = taken["Tollbar College"].recipient
    assert college is not None
    assert college.areas == ()
    assert [entry.left_out for entry in entries if entry.left_out] == [
        "not open yet, nobody knows from when", "closed, nobody knows when",
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "utf-8-sig"])
def test_a_name_is_read_in_each_encoding_that_spreadsheets_write(tmp_path: Path, encoding: str) -> None:
    (entry,) = schools(gias_file(tmp_path, SCHOOL.replace("Hill", "Zoë’s"), encoding=encoding))
    assert entry.recipient is not None
    assert entry.recipient.name == "Zoë’s School"


def test_another_encoding_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="UTF-16"):
        schools(gias_file(tmp_path, SCHOOL, encoding="utf-16"))


def test_columns_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    header = ",".join(reversed([*gias.NEEDED, "HeadLastName"]))
    row = ",".join(reversed([*SCHOOL.split(","), "Example"]))
    (entry,) = schools(gias_file(tmp_path, row, header=header))
    assert codes(entry) == [
        ("urn:100001", "2010-09-01", None), ("laestab:3322001", "2010-09-01", None), ("ukprn:10000001", "2010-09-01", None),
    ]  # fmt: skip


def test_a_file_without_the_columns_says_which(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"has no column LA \(code\), UKPRN: send the register's own CSV"):
        schools(gias_file(tmp_path, header=HEADER.replace("LA (code),", "").replace(",UKPRN", "")))


@pytest.mark.parametrize(
    ("row", "column", "problem"),
    [
        (SCHOOL.replace("100001", "10001"), "URN", "URN must be 6 digits"),
        (SCHOOL.replace("01-09-2010", "2010"), "OpenDate", "it is not a date"),
        (SCHOOL.replace("01-09-2010", "31-09-2010"), "OpenDate", "it is not a date"),
        (SCHOOL.replace("01-09-2010,", "01-09-2010,31-08-2010"), "CloseDate", "it closed before it opened"),
        (SCHOOL.replace("10000001", "1000001"), "UKPRN", "UKPRN must be 8 digits"),
        (SCHOOL.replace(",2001,", ",20012,"), "EstablishmentNumber", "LAESTAB must be 7 digits"),
        (SCHOOL.replace("Hill School", ""), "EstablishmentName", "it is empty"),
        (SCHOOL + ",more", "", "the row has 11 cells and the header 10"),
    ],
)
def test_a_row_that_is_wrong_is_one_fault_and_the_next_is_taken(tmp_path: Path, row: str, column: str, problem: str) -> None:
    wrong, right = schools(gias_file(tmp_path, row, SCHOOL.replace("100001", "100002")))
    assert [(fault.column, fault.problem) for fault in wrong.faults] == [(column, problem)]
    assert (wrong.place.line, wrong.recipient) == (2, None)
    assert right.recipient is not None


def test_a_short_establishment_number_is_filled_up(tmp_path: Path) -> None:
    (entry,) = schools(gias_file(tmp_path, SCHOOL.replace(",2001,", ",7,")))
    assert codes(entry)[1][0] == "laestab:3320007"


def test_schools_of_one_council_only(tmp_path: Path) -> None:
    entries = schools(gias_file(tmp_path, SCHOOL, SCHOOL.replace("332", "333")), frozenset({"333"}))
    assert [entry.left_out for entry in entries] == ["of another council", None]


@pytest.mark.parametrize(
    ("type_", "phase", "kind"),
    [
        ("Free schools special", "Not applicable", "school"),
        ("Academy converter", "Nursery", "early_years"),
        ("Free schools alternative provision", "Not applicable", "alternative_provision"),
        ("Special post 16 institution", "16 plus", "college"),
        ("Secure units", "Not applicable", "custodial_establishment"),
        ("A type of next year", "Secondary", "school"),
        ("British schools overseas", "Secondary", None),
        ("Higher education institutions", "16 plus", None),
    ],
)
def test_the_kind_follows_from_type_and_phase(tmp_path: Path, type_: str, phase: str, kind: str | None) -> None:
    row = SCHOOL.replace("Community school", type_).replace("Primary", phase)
    assert kinds(schools(gias_file(tmp_path, row))) == [kind]


# --- ODS ---


def ods_row(code: str = "M99901", opened: str = "19740401", closed: str = "", status: str = "A", setting: str = "4") -> str:
    cells = [""] * 27
    cells[0], cells[1], cells[10], cells[11], cells[12], cells[25] = code, "HILL SURGERY", opened, closed, status, setting
    return ",".join(f'"{cell}"' for cell in cells)


def ods_file(folder: Path, *rows: str) -> Path:
    path = folder / "epraccur.csv"
    path.write_bytes("\r\n".join([*rows, ""]).encode("cp1252"))
    return path


def test_the_sample_of_the_nhs_register() -> None:
    path = REGISTERS / "epraccur.csv"
    entries = list(ods.read(path, ods.kind_of(path, None), ods.read_links(REGISTERS / "succ.csv"), Delivery()))
    assert [(e.recipient.name, e.recipient.kind.value) if e.recipient else e.left_out for e in entries] == [
        ("TALL CHIMNEY MEDICAL PRACTICE", "gp"),
        ("QUARRY BANK SURGERY", "gp"),
        ("QUARRY BANK AND LYE SURGERY", "gp"),
        "no GP practice (another prescribing setting)",
    ]
    assert codes(entries[1]) == [("ods:M99902", "1974-04-01", "2025-03-31")]
    closed = entries[1].recipient
    assert closed is not None
    assert [str(each) for each in closed.successors] == ["ods:M99903"]
    trust = REGISTERS / "etr.csv"
    assert kinds(ods.read(trust, ods.kind_of(trust, None), {}, Delivery())) == ["trust"]


def test_a_file_of_another_name_needs_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    with pytest.raises(UsageError, match="say --kind"):
        ods.kind_of(path, None)
    assert ods.kind_of(path, RecipientKind.CAMHS) is RecipientKind.CAMHS


@pytest.mark.parametrize(
    ("row", "column", "problem"),
    [
        (ods_row(code="m99901"), "Organisation Code", "ODS code must be 3 to 8 upper-case letters and digits"),
        (ods_row(opened="1974-04-01"), "Open Date", "it is not a date"),
        (ods_row(closed="20250231"), "Close Date", "it is not a date"),
        (ods_row(closed="19740331"), "Close Date", "it closed before it opened"),
        ('"M99901","HILL', "", "the row cannot be read: quotation marks are not as in CSV"),
        ('"M99901","HILL SURGERY"', "", "the row has 2 cells, the layout 27"),
    ],
)
def test_an_nhs_row_that_is_wrong_is_one_fault(tmp_path: Path, row: str, column: str, problem: str) -> None:
    path = ods_file(tmp_path, ods_row(), row)
    entries = list(ods.read(path, RecipientKind.GP, {}, Delivery()))
    assert [(fault.column, fault.problem) for fault in entries[1].faults] == [(column, problem)]


def test_a_practice_that_closed_nobody_knows_when_is_left_out(tmp_path: Path) -> None:
    (entry,) = ods.read(ods_file(tmp_path, ods_row(status="C")), RecipientKind.GP, {}, Delivery())
    assert entry.left_out == "closed, nobody knows when"


def test_a_file_with_a_header_is_not_the_registers(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="27 columns and no header"):
        list(ods.read(gias_file(tmp_path, SCHOOL), RecipientKind.GP, {}, Delivery()))
