"""The folder into which a case system drops what it issues: which things are in it, which are complete, which are done.

A thing is complete when it has not changed between two looks that are a settling time apart, so half-written files are left
alone whatever the clocks of two machines say; so is a name that ends in ``.part`` or ``.tmp``, or begins with a dot.
What became of it stands in ``<name>.result.json`` beside it, with its fingerprint: so a restart takes nothing twice, and a file
that is replaced is taken again. Next: ``commands/watch.py`` hands it to the publisher.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import orjson

from services.cli.exchange import Row
from services.cli.machine.folder import write_private
from services.cli.output import RefusedError

RESULT = ".result.json"
_UNFINISHED = (".part", ".tmp", ".partial", ".filepart", ".crdownload")
_BESIDE = (".attachments", ".documents", ".import")
MOST_FILES = 1_000_000
"""In one folder that was dropped; more is a mistake."""


class Kind(StrEnum):
    SUBMISSION = "submission"
    """One version as JSON, its PDF beside it under the same name."""
    BATCH = "batch"
    """NDJSON, a version on each line."""
    CSV = "csv"
    FOLDER = "folder"
    """Plans as v1.json, v2.json …, or a SEN2 return, or a CSV with PDFs."""
    OTHER = "other"


_KINDS = {".json": Kind.SUBMISSION, ".ndjson": Kind.BATCH, ".csv": Kind.CSV}


@dataclass(frozen=True, slots=True)
class Dropped:
    path: Path
    kind: Kind
    fingerprint: str

    @property
    def result_file(self) -> Path:
        return self.path.with_name(f"{self.path.name}{RESULT}")

    def is_done(self) -> bool:
        """Whether a result for just this content is there that says more than that something is awaited."""
        try:
            result = orjson.loads(self.result_file.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return False
        return isinstance(result, dict) and result.get("fingerprint") == self.fingerprint and result.get("outcome") != "waiting"

    def write_result(self, result: Row) -> None:
        """Whole or not at all."""
        write_private(self.result_file, orjson.dumps(result | {"fingerprint": self.fingerprint}, option=orjson.OPT_INDENT_2))


@dataclass(slots=True)
class WatchedFolder:
    """``settle``: seconds for which a thing must not change. ``clock`` counts seconds."""

    folder: Path
    settle: float
    clock: Callable[[], float] = time.monotonic
    _since: dict[Path, tuple[str, float]] = field(default_factory=dict)

    def look(self) -> list[Dropped]:
        """What is complete and not done, in order of names."""
        now = self.clock()
        seen: dict[Path, tuple[str, float]] = {}
        complete = []
        for path in sorted(self.folder.iterdir()):
            kind = kind_of(path)
            if kind is None:
                continue
            try:
                print_ = fingerprint(path)
            except FileNotFoundError:  # taken away, or still being renamed
                continue
            before = self._since.get(path)
            seen[path] = before if before is not None and before[0] == print_ else (print_, now)
            dropped = Dropped(path, kind, print_)
            if before is not None and before[0] == print_ and now - seen[path][1] >= self.settle and not dropped.is_done():
                complete.append(dropped)
        self._since = seen
        return complete


def kind_of(path: Path) -> Kind | None:
    """None for what is not to be taken by itself: results, unfinished files, and what lies beside something else."""
    name = path.name.lower()
    if name.startswith((".", "~")) or name.endswith((*_UNFINISHED, *_BESIDE, RESULT)) or path.is_symlink():
        return None
    if path.is_dir():
        return None if name == "documents" else Kind.FOLDER
    if name.endswith(".pdf"):
        return None  # the document of a JSON or CSV, which says whose it is
    return _KINDS.get(path.suffix.lower(), Kind.OTHER)


def fingerprint(path: Path) -> str:
    """Of names, sizes and times of the thing and of everything that belongs to it."""
    digest = hashlib.sha256()
    for number, file in enumerate(_parts(path)):
        if number > MOST_FILES:
            raise RefusedError(f"{path.name} has more than {MOST_FILES:,} files.")
        state = file.stat()
        digest.update(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _parts(path: Path) -> Iterator[Path]:
    beside = [path.with_suffix(".pdf"), *(path.with_suffix(ending) for ending in _BESIDE[:2])] if path.is_file() else []
    for part in (path, *beside):
        if part.is_dir():
            for folder, folders, files in os.walk(part):
                folders.sort()
                yield from (Path(folder) / name for name in sorted(files))
        elif part.exists() or part == path:
            yield part
