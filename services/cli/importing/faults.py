"""What is wrong with an extract, row by row: said to a person, kept in a file that can be corrected and fed back.

Invariant: a fault names file, line, column and rule, never what the cell holds. The rows themselves go only into the errors
folder, beside the extract that they came from and readable by its owner alone. Next: ``--corrections`` of ``ehcp import``
reads that folder again.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from services.cli.machine.errors import UsageError
from services.cli.output import RefusedError

COLUMNS = ("error_line", "error_column", "error_problem", "error_instead", "error_effect")
NOT_SENT, SENT = "not sent", "sent all the same"
BETWEEN = " | "
FOLDER_MODE, FILE_MODE = 0o700, 0o600
UNUSED = "documents-not-used.txt"
SHOWN = 100
"""Faults that a summary lists; the errors folder has all."""


class UnreadableError(RefusedError):
    """A whole file or set that cannot be taken in: which, why, and what to send instead."""


NOBODYS = "Nothing says whose plans these are: name the council with --council, or la_code in a profile."


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in one cell. ``refuses``: the plan is not sent because of it."""

    column: str
    problem: str
    instead: str
    refuses: bool = True


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row is: its file (a module's name of the SEN2 set, or the CSV's own) and its line, from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file} line {self.line}"


def make_private(folder: Path) -> None:
    """For this user alone. Raises UsageError where nothing can be written."""
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made ({error.strerror}): name another folder with --work.") from error


@dataclass(slots=True)
class Findings:
    """Takes every fault of a run. With a ``folder``, rows are written there: one CSV for each file of the extract."""

    folder: Path | None = None
    rows: int = 0
    refused: int = 0
    noted: int = 0
    shown: list[dict[str, Any]] = field(default_factory=list)
    _writers: dict[str, tuple[IO[str], Any]] = field(default_factory=dict)

    def add(
        self,
        place: Place,
        faults: Sequence[Fault],
        header: Sequence[str] = (),
        values: Sequence[str] = (),
        delimiter: str = ",",
    ) -> None:
        """``header`` and ``values`` are the row as it came."""
        if not faults:
            return
        refuses = any(fault.refuses for fault in faults)
        self.rows += 1
        self.refused += refuses
        self.noted += not refuses
        for fault in faults[: SHOWN - len(self.shown)]:
            self.shown.append(
                {"file": place.file, "line": place.line, "column": fault.column, "problem": fault.problem,
                 "instead": fault.instead, "effect": NOT_SENT if fault.refuses else SENT}
            )  # fmt: skip
        if self.folder is not None:
            self._write(place, faults, header, values, delimiter)

    def _write(
        self, place: Place, faults: Sequence[Fault], header: Sequence[str], values: Sequence[str], delimiter: str
    ) -> None:
        kept = [index for index, name in enumerate(header) if name not in COLUMNS]
        if place.file not in self._writers:
            self._writers[place.file] = self._open(place.file, [header[index] for index in kept], delimiter)
        _, writer = self._writers[place.file]
        cells = [values[index] if index < len(values) else "" for index in kept]
        effect = NOT_SENT if any(fault.refuses for fault in faults) else SENT
        said = [BETWEEN.join(getattr(fault, name) for fault in faults) for name in ("column", "problem", "instead")]
        writer.writerow([*cells, str(place.line), *said, effect])

    def _open(self, name: str, header: Sequence[str], delimiter: str) -> tuple[IO[str], Any]:
        # With a byte order mark, since spreadsheets take a CSV without one for Windows-1252 and spoil names on saving.
        file = self._made(f"{name}.csv").open("w", encoding="utf-8-sig", newline="")
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow([*header, *COLUMNS])
        return file, writer

    def _made(self, name: str) -> Path:
        assert self.folder is not None
        make_private(self.folder.parent)
        make_private(self.folder)
        path = self.folder / name
        path.touch(mode=FILE_MODE)
        return path

    def list_unused(self, documents: Iterable[str]) -> int:
        """Files that belong to no plan, one name a line; how many."""
        count = 0
        for name in documents:
            if self.folder is not None:
                with self._made(UNUSED).open("a", encoding="utf-8") as file:
                    file.write(f"{name}\n")
            count += 1
        return count

    def close(self) -> None:
        for file, _ in self._writers.values():
            file.close()
        self._writers.clear()
