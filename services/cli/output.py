"""How the command line speaks: data on standard output, progress on standard error, exit codes with one meaning each."""

import asyncio
import csv
import io
import sys
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, NoReturn, TypeVar

import orjson
import typer
from rich.console import Console
from rich.table import Table

from services.cli.machine.errors import MachineError, UsageError

Result = TypeVar("Result")
WIDTH_OF_A_PIPE = 240  # nothing is cut off where no terminal sets a width
# Columns of words wrap, down to this width; ids, numbers and states stay whole, so that they can be read and copied.
WORDS = frozenset({"recipient", "recipients", "reason", "problem", "note", "last_exit"})
NARROWEST_WORDS = 20
GAP = 2


class Exit(IntEnum):
    OK = 0
    CHECK_FAILED = 1
    USAGE = 2
    BELOW_THRESHOLD = 3
    UNREACHABLE = 4


class RefusedError(Exception):
    """A service said no, and why."""


out = Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_PIPE, highlight=False)
err = Console(stderr=True, width=None if sys.stderr.isatty() else WIDTH_OF_A_PIPE, highlight=False)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    with plain_errors():
        return asyncio.run(work)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Every error that a person can act on becomes one sentence and an exit code."""
    try:
        yield
    except UsageError as error:
        fail(str(error), Exit.USAGE)
    except MachineError as error:
        if error.detail:
            err.print(error.detail.strip(), style="dim", markup=False)
        fail(str(error), Exit.UNREACHABLE)
    except RefusedError as error:
        fail(str(error), Exit.CHECK_FAILED)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def fail(message: str, code: Exit) -> NoReturn:
    err.print(message, style="red", markup=False, soft_wrap=True)
    raise typer.Exit(code)


def print_json(content: object) -> None:
    sys.stdout.write(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode() + "\n")
    sys.stdout.flush()


def csv_of(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Some words are other people's, and a spreadsheet takes a text that begins like a formula for one: it gets a quote."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    writer.writerows({name: _no_formula(value) for name, value in row.items()} for row in rows)
    return file.getvalue()


def _no_formula(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def print_table(
    columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], spare: Sequence[str] = (), *, empty: str | None = None
) -> None:
    """`columns` maps a row's key to its heading. Without rows there are no headings either, but the sentence `empty`, where
    progress is said. Where the terminal is too narrow, the columns in `spare` are left out, first
    ones first; when that is not enough, every row becomes a block of lines."""
    if not rows:
        if empty:
            err.print(empty, markup=False, soft_wrap=True)
        return
    shown = dict(columns)
    left_out = []
    for key in spare:
        if width_of(shown, rows) <= out.width:
            break
        left_out.append(shown.pop(key))
    if width_of(shown, rows) <= out.width:
        out.print(table_of(shown, rows))
    else:
        print_blocks(columns, rows)  # which have room for all
        left_out = []
    if left_out:
        err.print(f"Too narrow to show: {', '.join(left_out)}. --json has all.", style="dim", markup=False)


def print_blocks(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    first, *others = columns
    for row in rows:
        out.print(plain(row.get(first)), style="bold", soft_wrap=True)
        for key in others:
            if row.get(key) is not None:
                out.print(f"  {columns[key]}: {plain(row[key])}", soft_wrap=True)


def width_of(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> int:
    """The least number of columns in which a table of this can be read."""
    widths = []
    for key, heading in columns.items():
        widest = max(len(heading), *(len(plain(row.get(key))) for row in rows)) if rows else len(heading)
        widths.append(min(widest, NARROWEST_WORDS) if key in WORDS else widest)
    return sum(widths) + GAP * len(widths)


def table_of(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for key, heading in columns.items():
        table.add_column(heading, overflow="fold", no_wrap=key not in WORDS)
    for row in rows:
        table.add_row(*(plain(row.get(key)) for key in columns))
    return table


def to_the_second(at: str | None) -> str | None:
    """A time of an answer as people read it, without its zone, which the heading names."""
    return at and at[:19].replace("T", " ")


def plain(value: object) -> str:
    """Square brackets in data are no styles."""
    if value is None:
        return ""
    text = f"{value:.2f}" if isinstance(value, float) else str(value)
    return text.replace("[", r"\[")
