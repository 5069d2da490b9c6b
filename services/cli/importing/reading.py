"""CSV as councils' systems write it: encoding and delimiter are found, rows come one at a time, or again by their place.

Invariant: memory is bounded by one row, however large the file or a cell of it, and every row has the line on which it begins.
A row that cannot be read is a :class:`Broken` one and the rows after it are still found; an extract that is another kind of
file is refused in one sentence. Next: ``tables.py`` notes where each row is.
"""

import codecs
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from services.cli.importing.faults import Fault, UnreadableError

MAX_FIELD = 262_144
"""Characters of one cell: a section's text fits, a file pasted into a cell does not."""
MAX_LINE = 4 * 2**20
"""Bytes of one physical line; a row may have several."""
MAX_BROKEN = 1_000
"""Rows of one file that cannot be read, after which the file is refused: its quoting or its delimiter is another one."""
DELIMITERS = ",;\t|"

csv.field_size_limit(MAX_FIELD)

_HINT = re.compile(rb"sep=([\x01-\x7f])\r?\n")
"""A first line that some systems write for Excel."""
_AS_CSV = "export it as CSV in UTF-8 (in Excel: Save As, *CSV UTF-8*)"
_SIGNATURES = (
    (codecs.BOM_UTF32_LE, "is UTF-32"),
    (codecs.BOM_UTF16_LE, "is UTF-16 (Excel calls that *Unicode Text*)"),
    (codecs.BOM_UTF16_BE, "is UTF-16 (Excel calls that *Unicode Text*)"),
    (b"PK\x03\x04", "is an Excel workbook or a zip file, not CSV"),
    (b"\xd0\xcf\x11\xe0", "is an old Excel workbook, not CSV"),
    (b"%PDF-", "is a PDF, not CSV"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """``offset`` is where it begins in the file, in bytes; ``line`` is the number of that line, from 1."""

    line: int
    offset: int
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that cannot be read; ``values`` are its cells where it has some."""

    line: int
    fault: Fault
    values: tuple[str, ...] = ()


class _LineTooLongError(Exception):
    pass


class _Lines:
    """Lines of text from an offset on; ``offset`` and ``line`` are those of the next one."""

    def __init__(self, file: IO[bytes], encoding: str, offset: int, line: int) -> None:
        self._file = file
        self._encoding = encoding
        self.offset = offset
        self.line = line
        file.seek(offset)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        read = self._file.readline(MAX_LINE)
        if not read:
            raise StopIteration
        self.offset += len(read)
        self.line += 1
        if len(read) == MAX_LINE and not read.endswith(b"\n"):
            self._skip_the_rest()
            raise _LineTooLongError
        return read.decode(self._encoding, errors="replace")

    def _skip_the_rest(self) -> None:
        while rest := self._file.readline(MAX_LINE):
            self.offset += len(rest)
            if rest.endswith(b"\n"):
                return


def plain_name(header: str) -> str:
    """Column names are compared without case, spaces and punctuation: ``Case Reference`` is ``case_reference``."""
    return re.sub(r"[^a-z0-9]", "", header.casefold())


class CsvFile:
    """One CSV file. ``header`` is as it stands there; ``place_of`` gives a column's place by its plain name."""

    def __init__(self, path: Path, encoding: str | None = None, delimiter: str | None = None) -> None:
        """Raises :class:`UnreadableError`."""
        self.path = path
        self.encoding = encoding or find_encoding(path)
        self._file = path.open("rb")
        start, line = (len(codecs.BOM_UTF8) if self._file.read(3) == codecs.BOM_UTF8 else 0), 1
        self._file.seek(start)
        if hint := _HINT.fullmatch(opening := self._file.readline(MAX_LINE)):
            start, line, delimiter = start + len(opening), 2, delimiter or hint[1].decode()
        self.delimiter = delimiter or self._find_delimiter(start)
        lines = _Lines(self._file, self.encoding, start, line)
        try:
            self.header = tuple(name.strip() for name in next(csv.reader(lines, delimiter=self.delimiter, strict=True)))
        except (StopIteration, csv.Error, _LineTooLongError):
            raise UnreadableError(f"{path.name} has no header: its first line must name the columns.") from None
        self._body = (lines.offset, lines.line)
        self.place_of: dict[str, int] = {}
        for place, name in enumerate(self.header):
            first = self.place_of.setdefault(plain_name(name), place)
            if first != place and name:
                # Not by name: a file without a header begins with somebody's data.
                raise UnreadableError(f"{path.name}: columns {first + 1} and {place + 1} have one name; rename or remove one.")

    def close(self) -> None:
        self._file.close()

    def _find_delimiter(self, start: int) -> str:
        self._file.seek(start)
        first = self._file.readline(MAX_LINE).decode(self.encoding, errors="replace")
        found = max(DELIMITERS, key=first.count)
        if found not in first:
            raise UnreadableError(
                f"{self.path.name} has one column only: cells must be separated by comma, semicolon, tab or |; "
                "another separator is named in a profile (`delimiter`)."
            )
        return found

    def row_at(self, offset: int) -> tuple[str, ...]:
        """A row that was read before. Raises :class:`UnreadableError` when the file has changed since."""
        try:
            return tuple(next(csv.reader(_Lines(self._file, self.encoding, offset, 0), delimiter=self.delimiter, strict=True)))
        except (StopIteration, csv.Error, _LineTooLongError):
            raise UnreadableError(f"{self.path.name} was changed while it was read: run the command again.") from None

    def rows(self) -> Iterator[Row | Broken]:
        offset, line = self._body
        broken = 0
        # Rows read by offset in between move the one position of the file; so this walk has a handle of its own.
        with self.path.open("rb") as file:
            while True:
                lines = _Lines(file, self.encoding, offset, line)
                reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
                try:
                    for row in self._readable(reader, lines):
                        offset, line = lines.offset, lines.line
                        yield row
                    return
                except csv.Error as error:
                    problem = _problem_of(error)
                    after = self._resume(file, offset, line)
                except _LineTooLongError:
                    problem = f"the line is longer than {MAX_LINE // 2**20} MiB"
                    after = (lines.offset, lines.line)
                broken += 1
                if broken > MAX_BROKEN:
                    raise UnreadableError(
                        f"{self.path.name}: more than {MAX_BROKEN} rows cannot be read, the last at line {line}. Its cells are "
                        "separated or quoted in another way; export it again, or name `delimiter` in a profile."
                    )
                yield Broken(line, _unreadable(problem, line, after[1] - 1))
                offset, line = after

    def _readable(self, reader: "Iterator[list[str]]", lines: _Lines) -> Iterator[Row | Broken]:
        width = len(self.header)
        while True:
            line, offset = lines.line, lines.offset
            values = next(reader, None)
            if values is None:
                return
            while len(values) > width and not values[-1]:
                values.pop()
            if not any(values):
                continue
            if len(values) == width:
                yield Row(line, offset, tuple(values))
            else:
                fault = Fault("", f"the row has {len(values)} cells and the header {width}",
                              "send one cell for each column, in quotation marks where it holds the delimiter")  # fmt: skip
                yield Broken(line, fault, tuple(values[:width]))

    def _resume(self, file: IO[bytes], offset: int, line: int) -> tuple[int, int]:
        """Where reading goes on after a row that cannot be read: at the next line that is a whole row by itself.

        So one quotation mark that is never closed costs its own row, not the rest of the file, and the lines of an overlong
        text cost one row, not one each.
        """
        lines = _Lines(file, self.encoding, offset, line)
        skipped = 0
        while True:
            at = (lines.offset, lines.line)
            try:
                values = next(csv.reader([next(lines)], delimiter=self.delimiter, strict=True), None)
            except StopIteration:
                return at
            except (csv.Error, _LineTooLongError):
                values = None
            if skipped and values is not None and len(values) == len(self.header):
                return at
            skipped += 1


def _problem_of(error: csv.Error) -> str:
    said = str(error)
    if "field limit" in said:
        return f"a cell is longer than {MAX_FIELD:,} characters, or a quotation mark is opened and never closed"
    if "unexpected end" in said:
        return "a quotation mark is opened and never closed"
    return "quotation marks are not as in CSV"


def _unreadable(problem: str, first: int, last: int) -> Fault:
    where = f" (lines {first} to {last})" if last > first else ""
    return Fault(
        "", f"the row cannot be read: {problem}{where}",
        'send the row again; a quotation mark inside a cell is written twice ("")',
    )  # fmt: skip


def find_encoding(path: Path) -> str:
    """UTF-8, or Windows-1252 where every line is that and none is UTF-8. Raises :class:`UnreadableError` for anything else."""
    with path.open("rb") as file:
        head = file.read(4096)
        for signature, what in _SIGNATURES:
            if head.startswith(signature):
                raise UnreadableError(f"{path.name} {what}: {_AS_CSV}.")
        if not head.strip():
            raise UnreadableError(f"{path.name} is empty: export it again.")
        if b"\0" in head:
            what = "is UTF-16" if head.count(b"\0") > len(head) // 4 else "is no text"
            raise UnreadableError(f"{path.name} {what}: {_AS_CSV}.")
        if b"\n" not in head and b"\r" in head:
            raise UnreadableError(f"{path.name} ends its lines in the old Macintosh way (CR alone): {_AS_CSV}.")
        file.seek(0)
        utf8 = other = 0
        first_other = 0
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), 1):
            if line.isascii() or not line.endswith(b"\n"):
                continue
            try:
                line.decode("utf-8")
                utf8 += number > 1 or not line.startswith(codecs.BOM_UTF8)
            except UnicodeDecodeError:
                other += 1
                first_other = first_other or number
                if not _is_windows_1252(line):
                    raise UnreadableError(f"{path.name} line {number} is neither UTF-8 nor Windows-1252: {_AS_CSV}.") from None
    if other and (utf8 or head.startswith(codecs.BOM_UTF8)):
        raise UnreadableError(
            f"{path.name} mixes encodings: line {first_other} is not UTF-8 and others are. Names would be spoilt: {_AS_CSV}."
        )
    return "cp1252" if other else "utf-8"


def _is_windows_1252(line: bytes) -> bool:
    try:
        line.decode("cp1252")
    except UnicodeDecodeError:
        return False
    return True
