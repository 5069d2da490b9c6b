"""CSV as it comes: encodings, delimiters, quoting, and files that are something else."""

import csv
import io
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.importing.faults import UnreadableError
from services.cli.importing.reading import MAX_BROKEN, MAX_FIELD, Broken, CsvFile, Row

TEXT = "Case Reference,Name,Day\nE-1,Zoë,2026-02-10\nE-2,Siân,2026-02-11\n"


def written(folder: Path, content: bytes, name: str = "plans.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def read(folder: Path, content: bytes) -> list[Row | Broken]:
    file = CsvFile(written(folder, content))
    try:
        return list(file.rows())
    finally:
        file.close()


def refusal(folder: Path, content: bytes) -> str:
    with pytest.raises(UnreadableError) as caught:
        read(folder, content)
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [TEXT.encode(), b"\xef\xbb\xbf" + TEXT.encode(), TEXT.encode("cp1252"), TEXT.replace("\n", "\r\n").encode()],
    ids=["utf-8", "with a byte order mark", "windows-1252", "with Windows line ends"],
)
def test_names_come_out_right_in_each_encoding_that_councils_export(tmp_path: Path, content: bytes) -> None:
    file = CsvFile(written(tmp_path, content))
    assert file.place_of == {"casereference": 0, "name": 1, "day": 2}, "compared without case, spaces and marks"
    rows = list(file.rows())
    assert [row.values for row in rows] == [("E-1", "Zoë", "2026-02-10"), ("E-2", "Siân", "2026-02-11")]
    assert [row.line for row in rows] == [2, 3]
    assert [file.row_at(row.offset) for row in rows if isinstance(row, Row)] == [row.values for row in rows], "found again"
    file.close()


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
def test_the_delimiter_is_found_in_the_header(tmp_path: Path, delimiter: str) -> None:
    (row,) = read(tmp_path, f"a{delimiter}b{delimiter}c\n1{delimiter}{delimiter}3\n".encode())
    assert row.values == ("1", "", "3")


def test_a_first_line_that_names_the_delimiter(tmp_path: Path) -> None:
    (row,) = read(tmp_path, b"\xef\xbb\xbfsep=~\r\na~b,c\r\n1~2\r\n")
    assert (row.line, row.values) == (3, ("1", "2"))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (TEXT.encode("utf-16"), "is UTF-16"),
        (TEXT.encode("utf-16-le"), "is UTF-16"),
        (TEXT.encode("utf-32"), "is UTF-32"),
        (b"PK\x03\x04" + bytes(100), "is an Excel workbook"),
        (b"%PDF-1.7 and more", "is a PDF"),
        (b"", "is empty"),
        (b"\x00\x01\x02 binary", "is no text"),
        (b"a,b\r1,2\r", "old Macintosh"),
        ("a,b\nZoë,1\n".encode() + "Siân,2\n".encode("cp1252"), "mixes encodings: line 3"),
        (b"a,b\n\x81,2\n", "line 2 is neither UTF-8 nor Windows-1252"),
        (b"only one column\nx\n", "one column only"),
        (b"Zo,b,Zo\n1,2,3\n", "columns 1 and 3 have one name"),
    ],
)
def test_another_kind_of_file_is_refused_in_one_sentence(tmp_path: Path, content: bytes, what: str) -> None:
    said = refusal(tmp_path, content)
    assert said.startswith("plans.csv")
    assert what in said
    assert "Zo" not in said
    assert "Si" not in said


def test_line_breaks_and_delimiters_within_quotation_marks(tmp_path: Path) -> None:
    first, second = read(tmp_path, b'a,b\n"one\nline, or ""two""",2\n3,4\n')
    assert first.values == ('one\nline, or "two"', "2")
    assert (first.line, second.line) == (2, 4), "a row is known by the line on which it begins"


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12)


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=8), st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]))
def test_whatever_was_written_as_csv_is_read_and_found_again(
    rows: list[tuple[str, str, str]], delimiter: str, line_end: str
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=line_end).writerows([("a", "b", "c"), *rows])
    with TemporaryDirectory() as folder:
        file = CsvFile(written(Path(folder), text.getvalue().encode()))
        found = list(file.rows())
        assert [row.values for row in found] == [row for row in rows if any(row)]
        assert [file.row_at(row.offset) for row in found if isinstance(row, Row)] == [row.values for row in found]
        file.close()


def test_blank_rows_and_empty_cells_after_the_last_column_are_no_fault(tmp_path: Path) -> None:
    rows = read(tmp_path, b"a,b\n\n1,2,,,\n,,\n3,4\n")
    assert [row.values for row in rows] == [("1", "2"), ("3", "4")]


def test_a_row_with_another_number_of_cells_is_broken_and_the_rest_is_read(tmp_path: Path) -> None:
    rows = read(tmp_path, b"a,b\n1\n1,2,3\n5,6\n")
    assert [type(row) for row in rows] == [Broken, Broken, Row]
    assert isinstance(rows[0], Broken)
    assert rows[0].fault.problem == "the row has 1 cells and the header 2"


def test_a_quotation_mark_that_is_never_closed_costs_its_own_row(tmp_path: Path) -> None:
    rows = read(tmp_path, b'a,b\n1,2\n"3,4\n5,6\n7,"8"\n9,10\n')
    assert [(row.line, row.values) for row in rows if isinstance(row, Row)] == [
        (2, ("1", "2")), (4, ("5", "6")), (5, ("7", "8")), (6, ("9", "10")),
    ]  # fmt: skip
    (broken,) = [row for row in rows if isinstance(row, Broken)]
    assert broken.line == 3
    assert "quotation mark" in broken.fault.problem


def test_a_cell_of_50_megabytes_is_one_broken_row_and_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "plans.csv"
    with path.open("wb") as file:
        file.write(b"a,b\n1,2\n3,")
        for _ in range(50):
            file.write(b"x" * 2**20)
        file.write(b'\n4,5\n"')
        for _ in range(50 * 1024):
            file.write(b"y, y, y, " + b"z" * 1000 + b"\n")  # with line breaks within quotation marks
        file.write(b'",6\n7,8\n')
    opened = CsvFile(path)
    tracemalloc.start()
    rows = list(opened.rows())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    opened.close()
    assert peak < 40 * 2**20, "bytes"
    assert [row.values for row in rows if isinstance(row, Row)] == [("1", "2"), ("4", "5"), ("7", "8")]
    long_line, long_cell = (row.fault.problem for row in rows if isinstance(row, Broken))
    assert "longer than 4 MiB" in long_line
    assert f"longer than {MAX_FIELD:,} characters" in long_cell
    assert len(long_cell) < 200


def test_a_file_that_is_quoted_in_another_way_is_given_up(tmp_path: Path) -> None:
    said = refusal(tmp_path, b"a,b\n" + b'"x"y,1\n2,3\n' * (MAX_BROKEN + 1))
    assert f"more than {MAX_BROKEN} rows cannot be read" in said
