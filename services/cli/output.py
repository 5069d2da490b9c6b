"""How the command line speaks: data on standard output, progress on standard error, exit codes with one meaning each."""

import asyncio
import sys
from collections.abc import Coroutine, Iterator, Mapping, Sequence
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


def print_table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    """`columns` maps a row's key to its heading."""
    out.print(table_of(columns, rows))


def table_of(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(plain(row.get(key)) for key in columns))
    return table


def plain(value: object) -> str:
    """Square brackets in data are no styles."""
    if value is None:
        return ""
    text = f"{value:.2f}" if isinstance(value, float) else str(value)
    return text.replace("[", r"\[")
