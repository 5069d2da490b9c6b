"""`ehcp dead-letters`: records that audit, or a subscriber, could not take in: see them, own them, put them in again."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from services.cli.doors import Name, TokenFile, Url, door, reach_of
from services.cli.exchange import Door, Exchange, Row
from services.cli.options import DEFAULT_HOME, AsJson, DryRun, Home
from services.cli.output import Exit, err, fail, out, print_json, print_table, run

app = typer.Typer(no_args_is_help=True, help="Records that audit, or a subscriber, could not take in.")
COLUMNS = {"id": "Id", "at": "Came at", "topic": "Topic", "origin": "Partition:offset", "owner": "Owner", "reason": "Reason"}
Ids = Annotated[list[int], typer.Argument(help="As `ehcp dead-letters list` shows them.", min=1)]
Topic = Annotated[str | None, typer.Option(help="Only those of this topic.")]


@app.command("list")
def list_(
    topic: Topic = None,
    everything: Annotated[bool, typer.Option("--all", help="Those too that were put in again or dismissed.")] = False,
    subscriber: Name = None,
    url: Url = None,
    token_file: TokenFile = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Open dead letters, the oldest first, and topics that are not read because too much of them was garbage."""
    found, stopped = run(find(home, door(home, subscriber, url, token_file), everything=everything))
    found = [each for each in found if topic in (None, each["topic"])]
    if as_json:
        print_json({"dead_letters": found, "stopped_topics": stopped})
        return
    nothing = f"There are no {'' if everything else 'open '}dead letters{f' of {topic}' if topic else ''}."
    print_table(COLUMNS, [row_of(each) for each in found], ("owner", "at"), empty=nothing)
    for each in stopped:
        err.print(f"{each} is not read until you resume it: too much of it was garbage.", markup=False, soft_wrap=True)


@app.command()
def show(
    letter: Annotated[int, typer.Argument(help="As `ehcp dead-letters list` shows it.", min=1)],
    subscriber: Name = None,
    url: Url = None,
    token_file: TokenFile = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """One dead letter as JSON, with its headers, and its key and value in base64."""
    print_json(run(ask(home, door(home, subscriber, url, token_file), "GET", f"/{letter}")))


@app.command()
def own(
    letter: Annotated[int, typer.Argument(help="As `ehcp dead-letters list` shows it.", min=1)],
    owner: Annotated[str, typer.Argument(help="A name or a team; empty when nobody looks after it any more.")],
    subscriber: Name = None,
    url: Url = None,
    token_file: TokenFile = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Say who looks after a dead letter."""
    run(ask(home, door(home, subscriber, url, token_file), "PUT", f"/{letter}/owner", {"owner": owner.strip() or None}))
    out.print(f"{letter} is looked after by {owner.strip() or 'nobody'}", markup=False, soft_wrap=True)


@app.command()
def replay(
    ids: Annotated[list[int] | None, typer.Argument(help="Those to put in again; without them, all of --topic.", min=1)] = None,
    topic: Topic = None,
    subscriber: Name = None,
    url: Url = None,
    token_file: TokenFile = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Put open dead letters in again. Exit code 1 when some are still refused."""
    if not ids and topic is None:
        raise typer.BadParameter("name ids, or a --topic")
    chosen = {"ids": ids, "topic": topic} if ids else {"topic": topic}
    if dry_run:
        found, _ = run(find(home, door(home, subscriber, url, token_file), everything=False))
        meant = [each for each in found if topic in (None, each["topic"]) and (not ids or each["id"] in ids)]
        reasons = Counter(each["reason"] for each in meant)
        if as_json:
            print_json({"would_replay": len(meant), "reasons": reasons})
        else:
            out.print(f"{len(meant)} would be put in again")
            print_table(
                {"count": "Letters", "reason": "Set aside because"}, [{"reason": r, "count": n} for r, n in reasons.items()]
            )
        not_open(ids, [each["id"] for each in meant], as_json=as_json)
        return
    at = door(home, subscriber, url, token_file)
    known = [each["id"] for each in run(find(home, at, everything=False))[0]] if ids else []
    answer = run(ask(home, at, "POST", "/replay", chosen))
    if as_json:
        print_json(answer)
    else:
        out.print(f"{answer['replayed']} put in again, {len(answer['refused'])} still refused")
        print_table({"id": "Id", "reason": "Reason"}, answer["refused"])
    not_open(ids, known, as_json=as_json)
    if answer["refused"]:
        raise typer.Exit(Exit.CHECK_FAILED)


@app.command()
def dismiss(
    ids: Ids,
    subscriber: Name = None,
    url: Url = None,
    token_file: TokenFile = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Close dead letters that need nothing more."""
    answer = run(ask(home, door(home, subscriber, url, token_file), "POST", "/dismiss", {"ids": ids}))
    if as_json:
        print_json(answer)
    else:
        out.print(f"{len(answer['dismissed'])} dismissed")
    not_open(ids, answer["dismissed"], as_json=as_json)


@app.command()
def resume(
    topic: Annotated[str, typer.Argument(help="As `ehcp dead-letters list` names it.")],
    subscriber: Name = None,
    url: Url = None,
    token_file: TokenFile = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Read a topic again that was stopped because too much of it was garbage."""
    at = door(home, subscriber, url, token_file)
    stopped = run(find(home, at, everything=False))[1]
    if topic not in stopped:
        there = f"Stopped: {', '.join(stopped)}." if stopped else "None is."
        fail(f"{topic} is not a topic that was stopped. {there}", Exit.CHECK_FAILED)
    run(ask(home, at, "POST", "/resume", {"topic": topic}))
    out.print(f"{topic} is read again", markup=False, soft_wrap=True)


def not_open(asked: list[int] | None, found: Sequence[int], *, as_json: bool) -> None:
    """Exit code 1 where an id that was named is none of an open dead letter: a typing error must not look like work done."""
    missing = sorted(set(asked or ()) - set(found))
    if missing:
        if not as_json:
            err.print(f"Not open here: {', '.join(map(str, missing))}. Take ids from the list.", style="red", markup=False)
        raise typer.Exit(Exit.CHECK_FAILED)


async def ask(home: Path, at: Door, method: str, path: str, body: Row | None = None) -> Row:
    async with Exchange(reach_of(home, at)) as exchange:
        return await exchange.dead_letters(at, method, path, **({"json": body} if body is not None else {}))


async def find(home: Path, at: Door, *, everything: bool) -> tuple[list[Row], list[str]]:
    """All pages."""
    found: list[Row] = []
    after = 0
    async with Exchange(reach_of(home, at)) as exchange:
        while True:
            params = {"after": str(after), "limit": "1000", "everything": str(everything).lower()}
            page = await exchange.dead_letters(at, "GET", "", params=params)
            found += page["dead_letters"]
            if page["next"] is None:
                return found, page["stopped_topics"]
            after = page["next"]


def row_of(letter: Row) -> Row:
    at = str(letter["at"]).replace("T", " ")[:19]
    return letter | {"origin": f"{letter['partition']}:{letter['offset']}", "at": at, "owner": letter["owner"] or ""}
