"""How the command line comes to a subscriber as its operator: by name in the data folder's machine, else by address and token.

A subscriber belongs to its agency: the council's keys open nothing there.
"""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.exchange import Door, Reach
from services.cli.machine.config import SUBSCRIBERS
from services.cli.machine.errors import MachineError, UsageError
from services.cli.machine.folder import DataFolder
from services.cli.machine.keys import KeyRing
from services.cli.machine.ports import HOST
from services.cli.output import plain_errors

Name = Annotated[
    str | None, typer.Option("--subscriber", help="A subscriber of this machine, e.g. health: finds its address and token.")
]
Url = Annotated[str | None, typer.Option("--url", help="The subscriber's address, where it runs elsewhere.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(envvar="EHCP_OPERATOR_TOKEN_FILE", help="With --url: the file with that subscriber's operator token."),
]


def door(home: Path, subscriber: str | None, url: str | None, token_file: Path | None) -> Door:
    """Without a name and an address: the council's own, with the operator's key."""
    with plain_errors():
        if subscriber and url:
            raise UsageError("Give --subscriber or --url, not both.")
        if subscriber:
            return _of_machine(home, subscriber)
        if url is None:
            return Door()
        if token_file is None:
            raise UsageError("With --url, name the file with that subscriber's operator token: --token-file.")
        return Door(url.rstrip("/"), _read(token_file))


def reach_of(home: Path, at: Door) -> Reach:
    """A subscriber is reached without the data folder of a council's machine."""
    return Reach("", "", "", None) if at.url else Reach.of(home)


def _of_machine(home: Path, name: str) -> Door:
    service = next((each.service for each in SUBSCRIBERS if each.name == name), None)
    if service is None:
        raise UsageError(f"There is no subscriber {name} here; there are {', '.join(each.name for each in SUBSCRIBERS)}.")
    folder = DataFolder(home)
    folder.open()
    if service not in folder.remembered.ports:
        raise MachineError(f"The machine in {folder.path} was never started: `ehcp up` starts it.")
    return Door(f"http://{HOST}:{folder.remembered.ports[service]}", _read(KeyRing(folder.keys).operator_token(name)))


def _read(token_file: Path) -> str:
    try:
        return token_file.read_text().strip()
    except OSError as error:
        raise UsageError(f"{token_file} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise UsageError(f"{token_file} is no text in UTF-8.") from None
