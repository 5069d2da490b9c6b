"""The folder of PDFs beside an extract: which file belongs to which plan, and of which day.

``REFERENCE.pdf`` is the newest version of the plan with that case reference, ``REFERENCE_2026-02-13.pdf`` the version issued
on that day; a ``/`` or ``:`` in a reference is written ``-``. A row may also name its file. Invariant: nothing outside the
folder is ever read, and a file that no plan asked for is listed: a misnamed plan reaches nobody, or somebody else.
"""

import os
import re
import sqlite3
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from schemas.base import ContractError

MAX_BYTES = 25 * 2**20
"""The publisher's own limit."""
_NAME = re.compile(r"(.+?)(?:_([0-9]{4}-[0-9]{2}-[0-9]{2}))?\.pdf", re.IGNORECASE)


class Documents:
    def __init__(self, folder: Path | None, db: sqlite3.Connection) -> None:
        """``db`` is where names are kept while a command runs. A folder that is None has no files."""
        self.folder = folder
        self._db = db
        db.execute("CREATE TABLE document (reference TEXT, day TEXT, name TEXT PRIMARY KEY, used INT DEFAULT 0)")
        db.execute("CREATE INDEX document_by_reference ON document (reference)")
        if folder is not None:
            db.execute("BEGIN")
            for entry in os.scandir(folder):
                if (match := _NAME.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False):
                    values = (match[1].casefold(), match[2] or "", entry.name)
                    db.execute("INSERT INTO document (reference, day, name) VALUES (?, ?, ?)", values)
            db.execute("COMMIT")

    def of(self, case_reference: str) -> dict[date | None, Path]:
        """By the day in the name; None for the one without."""
        rows = self._db.execute(
            "UPDATE document SET used = 1 WHERE reference = ? RETURNING day, name", (file_name(case_reference).casefold(),)
        ).fetchall()
        assert self.folder is not None or not rows
        found: dict[date | None, Path] = {}
        for day, name in rows:
            try:
                issued_on = date.fromisoformat(day) if day else None
            except ValueError:
                continue
            found[issued_on] = (self.folder or Path()) / name
        return found

    def named(self, name: str) -> Path:
        """A file that a row names. Raises ContractError."""
        if self.folder is None:
            raise ContractError("there is no folder of documents", "name it with --documents")
        path = self.folder / name
        inside = os.path.basename(name) == name and name not in ("", ".", "..")  # noqa: PTH119 - a name is judged, not a path
        if not inside or path.is_symlink() or not path.is_file():
            raise ContractError("there is no such file in the folder of documents", "put it there, or correct the name")
        self._db.execute("UPDATE document SET used = 1 WHERE name = ?", (name,))
        return path

    def unused(self) -> Iterator[str]:
        for (name,) in self._db.execute("SELECT name FROM document WHERE used = 0 ORDER BY name"):
            yield name


def file_name(case_reference: str) -> str:
    return re.sub(r"[/:]", "-", case_reference)


def check_pdf(path: Path) -> None:
    """What can be seen without reading all of it; the publisher looks closer. Raises ContractError."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ContractError(f"the document is larger than {MAX_BYTES // 2**20} MiB", "send a smaller file")
    with path.open("rb") as file:
        if file.read(5) != b"%PDF-":
            raise ContractError("the document is not a PDF", "send the plan as a PDF")
