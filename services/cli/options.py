"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from schemas.plan import Reference

_REFERENCE: TypeAdapter[str] = TypeAdapter(Reference)


def officer(by: str | None) -> str | None:
    try:
        return by and _REFERENCE.validate_python(by)
    except ValidationError:
        message = "it is the council's own id of an officer, without blanks, such as jh42; never a name"
        raise typer.BadParameter(message) from None


Home = Annotated[Path, typer.Option("--home", envvar="EHCP_HOME", help="Data folder of the machine.", show_default=".ehcp")]
DEFAULT_HOME = Path(".ehcp")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
By = Annotated[
    str | None,
    typer.Option(
        "--by", callback=officer, help="The council's own id of the officer who issues the versions; else the file's."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
