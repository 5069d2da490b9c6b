"""The files of one extract under one index: which rows there are, whose children they are, and where each one stands.

A row is kept as its place (offset in its file), never as its content: so 100,000 plans need a few megabytes and no second copy
of a child's data lies about. The index is a nameless SQLite file that is gone with the process, however that ends. Invariant: a
row is used once, has the fields of its table, and comes from the corrections where somebody corrected it.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.cli.importing.cells import Cells
from services.cli.importing.faults import COLUMNS, Fault, Findings, Place
from services.cli.importing.reading import Broken, CsvFile, Row, plain_name

_SCHEMA = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16000; PRAGMA temp_store = FILE;
CREATE TABLE row (name TEXT, id TEXT, parent TEXT, source INT, offset INT, line INT, digest BLOB, PRIMARY KEY (name, id));
CREATE INDEX row_by_parent ON row (name, parent, id);
CREATE TABLE replaced (name TEXT, line INT, PRIMARY KEY (name, line)) WITHOUT ROWID;
CREATE TABLE reported (name TEXT, source INT, offset INT, PRIMARY KEY (name, source, offset)) WITHOUT ROWID;
"""
_ERROR_COLUMNS = frozenset(plain_name(name) for name in COLUMNS)
_ERROR_LINE = plain_name("error_line")

Key = Callable[[Cells], tuple[str, str]]
"""A row's id and its parent's; an empty id is a fault that the cells then have."""


@dataclass(frozen=True, slots=True)
class Table:
    """One CSV file with the fields that it has. ``place_of`` gives each field's place in a row."""

    file: CsvFile
    place_of: Mapping[str, int]

    def unused(self) -> list[str]:
        """Columns that are no field here. A typing error looks just like one that nobody needs."""
        used = set(self.place_of.values())
        names = ((name, place) for name, place in self.file.place_of.items() if name and name not in _ERROR_COLUMNS)
        return [self.file.header[place] for name, place in names if place not in used]

    def kept(self) -> list[int]:
        """Places of columns that are the council's own."""
        return [place for name, place in self.file.place_of.items() if name not in _ERROR_COLUMNS]


def table(file: CsvFile, fields: Sequence[str], named: Mapping[str, str]) -> Table:
    """``named`` gives the file's own names, where a profile has them."""
    places = {field: file.place_of.get(plain_name(named.get(field, field))) for field in fields}
    return Table(file, {field: place for field, place in places.items() if place is not None})


@dataclass(frozen=True, slots=True)
class Ref:
    """A row of a table, without its content. ``source`` 0 is the extract, later ones are corrections."""

    name: str
    id: str
    parent: str
    source: int
    offset: int
    line: int


class Tables:
    """``sources[0]`` are the extract's tables by name; the further ones are corrections, the last the strongest."""

    def __init__(self, sources: Sequence[Mapping[str, Table]], findings: Findings) -> None:
        self._sources = sources
        self._findings = findings
        self.duplicates = 0
        self._of_the_profile: dict[str, None] = {}
        self.db = sqlite3.connect("", isolation_level=None)
        self.db.executescript(_SCHEMA)

    def close(self) -> None:
        self.db.close()
        for source in self._sources:
            for each in source.values():
                each.file.close()

    def notes(self) -> list[str]:
        found = []
        for each in (table for source in self._sources for table in source.values()):
            if each.file.encoding != "utf-8":
                found.append(f"{each.file.path.name} was read as Windows-1252")
            if unused := each.unused():
                found.append(f"{each.file.path.name} has columns that are not used: {', '.join(unused)}")
        return [*found, *self._of_the_profile]

    def blame_profile(self, faults: Sequence[Fault]) -> None:
        """What is wrong for every row is said once, and no row is in need of correction."""
        self._of_the_profile |= {f"the profile's {fault.column}: {fault.problem}; {fault.instead}": None for fault in faults}

    # --- reading all rows once ------------------------------------------------------------------------------------------

    def index(self, name: str, key: Key) -> None:
        """Reads every row of a table. Rows that cannot be used are reported."""
        self.db.execute("BEGIN")
        for source in reversed(range(len(self._sources))):
            if (found := self._sources[source].get(name)) is not None:
                self._index(name, source, found, key)
        self.db.execute("COMMIT")

    def _index(self, name: str, source: int, found: Table, key: Key) -> None:
        file, kept = found.file, found.kept()
        error_line = file.place_of.get(_ERROR_LINE)
        for row in file.rows():
            line = row.line
            if source and error_line is not None:
                cell = row.values[error_line] if error_line < len(row.values) else ""
                line = int(cell) if cell.isascii() and cell.isdigit() else 0
            if self._is_replaced(name, line):
                continue
            if source and line:
                self.db.execute("INSERT OR IGNORE INTO replaced VALUES (?, ?)", (name, line))
            match row:
                case Broken(_, fault, values):
                    self._findings.add(Place(name, line), [fault], file.header, values, file.delimiter)
                case Row():
                    self._index_row(name, source, found, key, row, line, kept)

    def _index_row(self, name: str, source: int, found: Table, key: Key, row: Row, line: int, kept: list[int]) -> None:
        cells = Cells(row.values, found.place_of, found.file.header)
        id_, parent = key(cells)
        ref = Ref(name, id_, parent, source, row.offset, line)
        if not id_:
            self.report(ref, cells.faults)
            return
        digest = _digest([row.values[place] for place in kept])
        inserted = self.db.execute(
            "INSERT OR IGNORE INTO row VALUES (?, ?, ?, ?, ?, ?, ?)", (name, id_, parent, source, row.offset, line, digest)
        )
        if inserted.rowcount:
            return
        first = self.db.execute("SELECT digest, line FROM row WHERE name = ? AND id = ?", (name, id_)).fetchone()
        if first[0] == digest:
            self.duplicates += 1
        else:
            self.report(ref, [Fault("", f"line {first[1]} has the same id with other content",
                                    "keep one of the two rows, or give each an id of its own")])  # fmt: skip

    def _is_replaced(self, name: str, line: int) -> bool:
        found = self.db.execute("SELECT 1 FROM replaced WHERE name = ? AND line = ?", (name, line))
        return found.fetchone() is not None

    # --- reading rows again ---------------------------------------------------------------------------------------------

    def count(self, name: str) -> int:
        return int(self.db.execute("SELECT count(*) FROM row WHERE name = ?", (name,)).fetchone()[0])

    def count_parents(self, name: str) -> int:
        return int(self.db.execute("SELECT count(DISTINCT parent) FROM row WHERE name = ?", (name,)).fetchone()[0])

    def refs(self, name: str) -> Iterator[Ref]:
        """In the order of the file."""
        yield from self._refs("name = ? ORDER BY source, offset", name)

    def parents(self, name: str) -> Iterator[str]:
        """Each parent's id once, in the order in which the file has them first."""
        found = self.db.execute(
            "SELECT parent FROM row WHERE name = ? GROUP BY parent ORDER BY min(source), min(offset)", (name,)
        )
        for (parent,) in found:
            yield parent

    def get(self, name: str, id_: str) -> Ref | None:
        return next(self._refs("name = ? AND id = ?", name, id_), None)

    def children(self, name: str, parent: str) -> list[Ref]:
        """In the order of their ids."""
        return list(self._refs("name = ? AND parent = ? ORDER BY id", name, parent))

    def orphans(self, name: str, parent: str) -> Iterator[Ref]:
        """Rows whose parent is not there."""
        yield from self._refs(
            "name = ? AND NOT EXISTS (SELECT 1 FROM row p WHERE p.name = ? AND p.id = row.parent)", name, parent
        )

    def _refs(self, condition: str, *values: str) -> Iterator[Ref]:
        statement = f"SELECT name, id, parent, source, offset, line FROM row WHERE {condition}"
        for found in self.db.execute(statement, values):
            yield Ref(*found)

    def cells(self, ref: Ref) -> Cells:
        found = self._sources[ref.source][ref.name]
        return Cells(found.file.row_at(ref.offset), found.place_of, found.file.header)

    def report(self, ref: Ref, faults: Sequence[Fault], *, again: bool = False) -> None:
        """Each row once, whoever uses it; ``again`` where something new is known of it."""
        if not faults:
            return
        where = (ref.name, ref.source, ref.offset)
        if self.db.execute("INSERT OR IGNORE INTO reported VALUES (?, ?, ?)", where).rowcount or again:
            file = self._sources[ref.source][ref.name].file
            self._findings.add(Place(ref.name, ref.line), faults, file.header, file.row_at(ref.offset), file.delimiter)


def _digest(values: Sequence[Any]) -> bytes:
    return hashlib.blake2b("\x1f".join(values).encode("utf-8", "replace"), digest_size=12).digest()
