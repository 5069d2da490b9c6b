"""`ehcp run SERVICE`: one service in the foreground, with the configuration that `ehcp up` wrote."""

import os
import sys
from typing import Annotated

import typer

from services.cli.machine.config import SERVICES, env_file, read_environment
from services.cli.machine.folder import DataFolder
from services.cli.options import DEFAULT_HOME, Home
from services.cli.output import Exit, fail


def complete_service(incomplete: str) -> list[str]:
    return [service for service in SERVICES if service.startswith(incomplete)]


def run(
    service: Annotated[str, typer.Argument(help=f"One of {', '.join(SERVICES)}.", autocompletion=complete_service)],
    home: Home = DEFAULT_HOME,
) -> None:
    """Run one service in this terminal. Settings in the environment win over those of the data folder."""
    if service not in SERVICES:
        fail(f"There is no service {service}; there are {', '.join(SERVICES)}.", Exit.USAGE)
    file = env_file(DataFolder(home), service)
    settings = read_environment(file) if file.exists() else {}
    sys.stdout.flush()
    # The service takes this process over, so that signals and exit codes are its own.
    os.execve(sys.executable, [sys.executable, "-m", f"services.{service}.app"], {**settings, **os.environ})  # noqa: S606 — no shell is wanted
