"""What of an import the publisher has answered already, so that a run that was killed goes on where it was.

A file beside the extract, gone when a run comes to its end. It holds hashes and results, nothing of a plan. Invariant: a
version is noted only after its answer came; so what is lost with a kill is sent twice, and answered as unchanged.
"""

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from services.cli.importing.faults import FILE_MODE, make_private
from services.cli.importing.plans import Version
from services.cli.output import RefusedError


class Progress:
    """``exchange`` is the address that answers: what one exchange has taken in, another has not.
    ``patience``: seconds to wait for another run to end."""

    def __init__(self, file: Path, exchange: str, patience: float = 5.0) -> None:
        make_private(file.parent)
        file.touch(mode=FILE_MODE)
        self._file = file
        self._patience = patience
        self._exchange = exchange.encode()
        try:
            self._db = self._open()
        except sqlite3.OperationalError as error:
            raise RefusedError(f"{file} cannot be used ({error}): does another import of this extract run?") from None
        except sqlite3.DatabaseError:
            file.unlink()  # damaged: everything is sent again, which is harmless
            self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._file, isolation_level=None, timeout=self._patience)
        # One import of an extract at a time: the lock is held until this one ends, however it ends.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        db.execute("CREATE TABLE IF NOT EXISTS answered (version BLOB PRIMARY KEY, result TEXT) WITHOUT ROWID")
        db.execute("COMMIT")
        return db

    def answered(self, version: Version) -> bool:
        found = self._db.execute("SELECT 1 FROM answered WHERE version = ?", (self._key(version),))
        return found.fetchone() is not None

    def note(self, versions: Sequence[tuple[Version, str]]) -> None:
        """On the disk before this returns."""
        self._db.execute("BEGIN")
        keys = [(self._key(version), result) for version, result in versions]
        self._db.executemany("INSERT OR REPLACE INTO answered VALUES (?, ?)", keys)
        self._db.execute("COMMIT")

    def close(self, *, ended: bool) -> None:
        """``ended``: the whole extract was gone through, so that the next run begins anew."""
        (count,) = self._db.execute("SELECT count(*) FROM answered").fetchone()
        self._db.close()
        if ended or not count:
            self._file.unlink(missing_ok=True)
            with suppress(OSError):  # errors are in it
                self._file.parent.rmdir()

    def _key(self, version: Version) -> bytes:
        digest = hashlib.sha256(self._exchange + b"\0" + version.submission)
        for path in (version.document, *version.attachments):
            if path is not None:
                state = path.stat()
                digest.update(f"\0{path.name}\0{state.st_size}\0{state.st_mtime_ns}".encode())
        return digest.digest()
