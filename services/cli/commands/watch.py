"""`ehcp watch`: takes in whatever a case system drops into a folder, and writes beside each thing what became of it."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer

from services.cli.commands.import_ import Council, ProfileOption, london_today, profile_of, take_in
from services.cli.exchange import Exchange, Reach, Row, sentence
from services.cli.importing.opening import DOCUMENTS, Asked
from services.cli.importing.profiles import Profile
from services.cli.importing.reading import MAX_LINE
from services.cli.machine.errors import MachineError, UsageError
from services.cli.options import DEFAULT_HOME, AsJson, Home
from services.cli.output import Exit, RefusedError, err, print_json, print_table, run
from services.cli.publishing import VERSION_FILE, VersionFile, collect, publish_version, read_version
from services.cli.watching_folder import Dropped, Kind, WatchedFolder

COLUMNS = {"name": "Dropped", "outcome": "Outcome", "versions": "Versions", "problem": "Remark"}
LISTED = 1_000
"""Answers that one result file lists; it counts all."""
SAID = ("case_reference", "plan_id", "version_id", "version", "result", "problem")
"""Of an answer. Recipients are left out: a parent is a name."""
MAX_SUBMISSION = 8 * 2**20
LINES_AT_A_TIME = 200
BYTES_AT_A_TIME = 8 * 2**20
WHAT_IS_TAKEN = "JSON, NDJSON and CSV files, and folders of plans; unpack an archive"


def watch(
    folder: Annotated[Path, typer.Argument(help="The folder into which the case system writes.", file_okay=False)],
    profile: ProfileOption = None,
    council: Council = None,
    settle: Annotated[float, typer.Option(help="Seconds for which a file must not change before it is taken.", min=0)] = 10.0,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 5.0,
    once: Annotated[bool, typer.Option("--once", help="Take what is complete, then end.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Take in what a case system drops into a folder; `NAME.result.json` beside each thing says what became of it."""
    watcher = Watcher(folder, profile_of(profile, home), council, settle, home)
    if not once:
        run(watcher.for_ever(every))
        return
    results = run(watcher.once())
    if as_json:
        print_json(results)
    else:
        print_table(
            COLUMNS, [{**row, "versions": said_of(row["versions"])} for row in results], empty="There is nothing to take."
        )
    if any(row["outcome"] not in ("taken", "waiting") or row["versions"].get("held") for row in results):
        raise typer.Exit(Exit.CHECK_FAILED)


def said_of(versions: Row) -> str:
    return ", ".join(f"{count} {name}" for name, count in versions.items())


class Watcher:
    def __init__(self, folder: Path, profile: Profile, council: str | None, settle: float, home: Path) -> None:
        self._watched = WatchedFolder(folder, settle)
        self._profile = profile
        self._council = council
        self._home = home

    def check(self) -> None:
        """What is wrong from the start should not be found at the first file."""
        if not self._watched.folder.is_dir():
            raise UsageError(f"There is no folder {self._watched.folder}.")
        Reach.of(self._home)

    async def once(self) -> list[Row]:
        self.check()
        try:
            self._watched.look()
            await asyncio.sleep(self._watched.settle)
            return [row for dropped in self._watched.look() if (row := await self._take(dropped)) is not None]
        except OSError as error:
            raise MachineError(f"{error.filename or self._watched.folder}: {error.strerror}.") from error

    async def for_ever(self, every: float) -> None:
        self.check()
        err.print(f"Watching {self._watched.folder}; Ctrl-C ends it.", markup=False)
        while True:
            try:
                for dropped in self._watched.look():
                    if (row := await self._take(dropped)) is not None:
                        err.print(f"{row['name']}: {row['outcome']} {said_of(row['versions'])}", markup=False, soft_wrap=True)
            except UsageError:
                raise
            except (MachineError, OSError) as error:
                # Nothing is marked as done, so it is tried again at the next look, and the one after.
                err.print(f"{error} Trying again in {every:.0f} s.", style="red", markup=False, soft_wrap=True)
            await asyncio.sleep(every)

    async def _take(self, dropped: Dropped) -> Row | None:
        """None where it still waits for what it waited for before."""
        try:
            match dropped.kind:
                case Kind.SUBMISSION:
                    row = await self._submission(dropped.path)
                case Kind.BATCH:
                    row = await self._batch(chunks(dropped.path))
                case Kind.CSV:
                    row = await self._extract(dropped.path)
                case Kind.FOLDER if is_plans(dropped.path):
                    row = await self._plans(dropped.path)
                case Kind.FOLDER:
                    row = await self._extract(dropped.path)
                case Kind.OTHER:
                    row = refused(f"this kind of file is not taken: drop {WHAT_IS_TAKEN}")
        except UsageError as error:
            row = refused(str(error))
        except RefusedError as error:
            row = refused(str(error))
        result = {"name": dropped.path.name, "at": datetime.now(UTC).isoformat(timespec="seconds"), **with_held(row)}
        if result["outcome"] == "waiting" and dropped.result_file.exists():
            return None
        dropped.write_result(result)
        return result

    async def _submission(self, path: Path) -> Row:
        if path.stat().st_size > MAX_SUBMISSION:  # noqa: ASYNC240 - a look at one local file
            return refused(f"it is larger than {MAX_SUBMISSION // 2**20} MiB: send texts as JSON and files beside it")
        version = read_version(path)
        if is_event(version):
            return await self._batch([[orjson.dumps(orjson.loads(version.content.submission))]])
        if waits_for_document(version):
            return {"outcome": "waiting", "versions": {}, "problem": f"waits for {path.stem}.pdf, since it has no sections"}
        async with Exchange(Reach.of(self._home)) as exchange:
            return summary([await publish_version(exchange, version, self._council)])

    async def _plans(self, path: Path) -> Row:
        answers = Answers()
        async with Exchange(Reach.of(self._home)) as exchange:
            for folder in folders_of_plans(path):
                for version in collect(folder)[0]:
                    answers.add(await publish_version(exchange, version, self._council))
        return answers.summary()

    async def _batch(self, chunks_of_lines: Iterable[list[bytes]]) -> Row:
        if self._council is None:
            return refused("this does not say whose it is: start `ehcp watch` with --council")
        answers = Answers()
        async with Exchange(Reach.of(self._home)) as exchange:
            line = 0
            for lines in chunks_of_lines:
                for row in await exchange.issue_batch(f"case-system-{self._council}", b"\n".join(lines)):
                    line += 1
                    answers.add(
                        {**row, "result": "refused", "problem": f"line {line}: {sentence(row['problem'], row['status'])}"}
                        if "problem" in row else row
                    )  # fmt: skip
        return answers.summary()

    async def _extract(self, path: Path) -> Row:
        asked = Asked(path, self._profile, london_today(), self._council, documents_beside(path))
        found = await take_in(asked, path.with_name(f"{path.name}.import"), self._home, None, render=True, unnamed="watch")
        versions, bad = found["versions"], found["rows_refused"]
        outcome = "taken" if not bad else "partly" if any(versions.values()) else "refused"
        return {
            "outcome": outcome, "versions": versions, "plans": found["plans"], "rows_refused": bad,
            "rows_noted": found["rows_noted"], "errors": found["errors"], "faults": found["faults"],
            "problem": f"{bad} rows refused; the folder of errors has them" if bad else None,
        }  # fmt: skip


def documents_beside(path: Path) -> Path | None:
    """``plans.documents`` of ``plans.csv``."""
    folder = path.with_suffix(f".{DOCUMENTS}")
    return folder if path.is_file() and folder.is_dir() else None


class Answers:
    """Counts answers, and lists the first of them."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._listed: list[Row] = []

    def add(self, row: Row) -> None:
        self._counts[row["result"]] += 1
        if len(self._listed) < LISTED or (row["result"] == "refused" and len(self._listed) < 2 * LISTED):
            self._listed.append({name: row[name] for name in SAID if row.get(name) is not None})

    def summary(self) -> Row:
        bad = self._counts["refused"]
        outcome = "taken" if not bad else "partly" if self._counts.total() > bad else "refused"
        first = next((row["problem"] for row in self._listed if row["result"] == "refused"), None)
        return {"outcome": outcome, "versions": dict(self._counts), "answers": self._listed, "problem": first}


def summary(rows: list[Row]) -> Row:
    answers = Answers()
    for row in rows:
        answers.add(row)
    return answers.summary()


def with_held(row: Row) -> Row:
    """A version that is held was taken, and yet goes to nobody before a person acts: it is said like what was refused."""
    if not (held := row["versions"].get("held")):
        return row
    said = f"held until a second person has looked, see `ehcp confirmations`: {held} of the versions"
    return row | {"problem": f"{row['problem']}; {said}" if row["problem"] else said}


def refused(problem: str) -> Row:
    return {"outcome": "refused", "versions": {}, "problem": problem}


def waits_for_document(version: VersionFile) -> bool:
    """A version without sections is its document; where that is not there yet, it will come."""
    if version.content.document is not None:
        return False
    try:
        content = orjson.loads(version.content.submission)
        return not content["version"].get("sections")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return False  # the publisher says better what is wrong


def is_event(version: VersionFile) -> bool:
    try:
        return "event" in orjson.loads(version.content.submission)
    except (orjson.JSONDecodeError, TypeError):
        return False


def is_plans(path: Path) -> bool:
    return next(folders_of_plans(path), None) is not None


def folders_of_plans(path: Path) -> Iterator[Path]:
    """Each folder that has v1.json, v2.json …; one at a time, since there may be many."""
    for folder, folders, files in os.walk(path):
        folders.sort()
        if any(VERSION_FILE.fullmatch(name) for name in files):
            yield Path(folder)


def chunks(path: Path) -> Iterator[list[bytes]]:
    """Lines that are not blank, so many at a time that memory stays small. A line that is too long is cut, and refused."""
    lines: list[bytes] = []
    size = 0
    with path.open("rb") as file:
        while line := file.readline(2 * MAX_LINE + 1):
            if len(line) > 2 * MAX_LINE and not line.endswith(b"\n"):
                while (rest := file.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                    pass
            if not line.strip():
                continue
            lines.append(line.rstrip(b"\r\n"))
            size += len(line)
            if len(lines) == LINES_AT_A_TIME or size > BYTES_AT_A_TIME:
                yield lines
                lines, size = [], 0
    if lines:
        yield lines
