"""`ehcp recipient`: how a subscriber's recipients stand; pause one whose record system must be left alone, and resume."""

from pathlib import Path
from typing import Annotated

import typer

from schemas.identifiers import recipient_name
from services.cli.doors import Name, TokenFile, Url, door
from services.cli.exchange import Door, Exchange, Reach, Row
from services.cli.machine.config import SUBSCRIBERS
from services.cli.machine.errors import UsageError
from services.cli.options import DEFAULT_HOME, AsJson, Home
from services.cli.output import RefusedError, err, out, plain_errors, print_json, print_table, run, to_the_second

app = typer.Typer(no_args_is_help=True, help="Whom a subscriber delivers to: see how it stands, pause one, resume it.")
COLUMNS = {
    "recipient": "Code",
    "record_system": "Record system",
    "per_minute": "A minute",
    "shares": "Shares",
    "waiting": "Waiting",
    "failed": "Failed",
    "refused": "Refused",
    "next_try_at": "Next try (UTC)",
    "reason": "Paused",
}
Code = Annotated[str, typer.Argument(help="As the list shows it, e.g. ods:RNA or camhs/ods:RNA.")]


@app.command("list")
def list_(
    subscriber: Name = None,
    url: Url = None,
    token_file: TokenFile = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Everyone whom the subscriber delivers to, or the subscribers of this machine, and how their deliveries stand."""
    names = [subscriber] if subscriber or url else [each.name for each in SUBSCRIBERS]
    found = [row for name in names for row in run(ask(door(home, name, url, token_file)))["recipients"]]
    if as_json:
        print_json({"recipients": found})
    else:
        print_table(
            COLUMNS,
            [row_of(row) for row in found],
            ("per_minute", "record_system"),
            empty="Nothing was to be delivered here yet.",
        )


@app.command()
def pause(
    code: Code,
    reason: Annotated[str, typer.Option(help="Why, in one line, without anything of a child: the council is told.")],
    by: Annotated[str, typer.Option(help="Who says so: a person or a team.")],
    subscriber: Name = None,
    url: Url = None,
    token_file: TokenFile = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Put nothing more into a recipient's record until it is resumed. What must be removed is removed all the same, and what
    is late is still late."""
    at = of_recipient(home, code, subscriber, url, token_file)
    answer = run(ask(at, "PUT", f"/{code}/pause", {"reason": reason, "by": by}))
    if as_json:
        print_json(answer)
    else:
        out.print(f"{code} {'was already' if answer.get('was_paused') else 'is'} {said(answer)}", markup=False, soft_wrap=True)
        if answer.get("was_paused"):
            err.print("Nothing was changed: the first pause stands. To say something else, resume it first.", style="yellow")


@app.command()
def resume(
    code: Code,
    subscriber: Name = None,
    url: Url = None,
    token_file: TokenFile = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Deliver to a recipient again."""
    answer = run(ask(of_recipient(home, code, subscriber, url, token_file), "DELETE", f"/{code}/pause"))
    if as_json:
        print_json(answer)
    elif answer["was_paused"]:
        out.print(f"{code} is delivered to again: {answer['deliveries']} go on now", markup=False, soft_wrap=True)
    else:
        out.print(f"{code} was not paused", markup=False, soft_wrap=True)


def of_recipient(home: Path, code: str, subscriber: str | None, url: str | None, token_file: Path | None) -> Door:
    """Its subscriber's door: the one that is named, else the one that the council's directory has for this code."""
    if subscriber or url:
        return door(home, subscriber, url, token_file)
    return door(home, run(subscriber_of(home, code)), None, None)


async def subscriber_of(home: Path, code: str) -> str:
    async with Exchange(Reach.of(home)) as exchange:
        async for row in exchange.directory(code=code.rpartition("/")[2]):
            names = {recipient_name(row["kind"], each["scheme"], each["value"]) for each in row["codes"]}
            if row["subscriber"] and code in names:
                return str(row["subscriber"])
    raise RefusedError(
        f"The directory has no subscriber for {code}. Write it as `ehcp recipient list` shows it, for example ods:RNA, or "
        "camhs/ods:RNA for a service that shares a trust's code."
    )


async def ask(at: Door, method: str = "GET", path: str = "", body: Row | None = None) -> Row:
    with plain_errors():
        if at.url is None:
            raise UsageError("Say which subscriber: --subscriber NAME on this machine, or --url and --token-file.")
    async with Exchange(Reach("", "", "", None)) as exchange:
        return await exchange.recipients(at, method, path, **({"json": body} if body is not None else {}))


def row_of(row: Row) -> Row:
    return row | {"reason": row["pause"] and said(row["pause"]), "next_try_at": to_the_second(row["next_try_at"])}


def said(pause: Row) -> str:
    since = str(pause["paused_at"])[:16].replace("T", " ")
    return f"paused by {pause['paused_by']} since {since} UTC: {pause['reason']}"
