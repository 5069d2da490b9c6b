"""The `ehcp` command: one sub-command per module of `commands/`; no rules of its own."""

import typer

app = typer.Typer(name="ehcp", no_args_is_help=True, help="EHC Plan Exchange")


@app.callback()
def main() -> None:
    """Gets the newest EHC plan into every agency's own record, and proves it."""
