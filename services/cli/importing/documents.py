"""The folder of PDFs beside an extract: which file belongs to which plan, and of which day.

``REFERENCE.pdf`` is the newest version of the plan with that case reference, ``REFERENCE_2026-02-13.pdf`` the version issued
on that day; a ``/`` or ``:`` in a reference is written ``-``. A row may also name its file. Invariant: nothing outside the
folder is ever read; no document goes out as the plan of two children, by whatever names it lies there; and a file that no plan
asked for is listed, since a misnamed plan reaches nobody, or somebody else.
"""

import hashlib
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
        db.execute(
            "CREATE TABLE document (reference TEXT, day TEXT, name TEXT PRIMARY KEY, size INT, sha256 TEXT, used INT DEFAULT 0)"
        )
        db.execute("CREATE INDEX document_by_reference ON document (reference)")
        db.execute("CREATE INDEX document_by_size ON document (size)")
        db.execute(
            "CREATE TABLE claim (name TEXT, case_reference TEXT COLLATE NOCASE, PRIMARY KEY (name, case_reference))"
            " WITHOUT ROWID"
        )
        if folder is not None:
            db.execute("BEGIN")
            for entry in os.scandir(folder):
                if (match := _NAME.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False):
                    values = (match[1], match[2] or "", entry.name, entry.stat().st_size)
                    db.execute("INSERT INTO document (reference, day, name, size) VALUES (?, ?, ?, ?)", values)
            db.execute("COMMIT")

    def of(self, case_reference: str) -> dict[date | None, Path]:
        """By the day in the name; None for the one without."""
        rows = self._db.execute(
            "UPDATE document SET used = 1 WHERE reference = ? RETURNING day, name", (file_name(case_reference),)
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

    def claim(self, name: str, case_reference: str) -> None:
        """Notes that a row names this file, before any row is acted on."""
        self._db.execute("INSERT OR IGNORE INTO claim VALUES (?, ?)", (name, case_reference))

    def check(self, path: Path, case_reference: str) -> None:
        """That it is a PDF, and no other plan's too; the publisher looks closer at the file. Raises ContractError."""
        self.claim(path.name, case_reference)
        claimed = self._db.execute("SELECT count(*) FROM claim WHERE name = ?", (path.name,)).fetchone()
        if claimed[0] > 1:
            raise ContractError("two plans have this document", "find out whose it is, and name each plan's own")
        check_pdf(path)
        if self._has_twin(path):
            raise ContractError(
                "the folder has the same document under another plan's name", "find out whose it is, and remove the other"
            )

    def _has_twin(self, path: Path) -> bool:
        """Files are read only where two have the same size."""
        row = self._db.execute("SELECT reference, size FROM document WHERE name = ?", (path.name,)).fetchone()
        if row is None:
            return False
        others = "SELECT name FROM document WHERE size = ? AND reference <> ?"
        return any(self._sha256(name) == self._sha256(path.name) for (name,) in self._db.execute(others, (row[1], row[0])))

    def _sha256(self, name: str) -> str:
        (known,) = self._db.execute("SELECT sha256 FROM document WHERE name = ?", (name,)).fetchone()
        if known is None:
            with (self.folder or Path()).joinpath(name).open("rb") as file:
                known = hashlib.file_digest(file, "sha256").hexdigest()
            self._db.execute("UPDATE document SET sha256 = ? WHERE name = ?", (known, name))
        return str(known)

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
    """What can be seen without reading all of it. Raises ContractError."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ContractError(f"the document is larger than {MAX_BYTES // 2**20} MiB", "send a smaller file")
    with path.open("rb") as file:
        if file.read(5) != b"%PDF-":
            raise ContractError("the document is not a PDF", "send the plan as a PDF")
