"""`ehcp sent` and `ehcp removed`: an officer records how and when a plan was sent to a parent or young person, or that a
recalled copy is no longer there."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from services.cli.exchange import Exchange, Reach, Row
from services.cli.machine.errors import UsageError
from services.cli.options import DEFAULT_HOME, AsJson, DryRun, Home
from services.cli.output import RefusedError, out, print_json, run

WAYS = ("post", "email", "hand", "portal")
ENDS = ("returned", "destroyed", "deleted", "never_arrived")


def complete_way(incomplete: str) -> list[str]:
    return [way for way in WAYS if way.startswith(incomplete)]


def sent(
    share: Annotated[str, typer.Argument(help="The share, as `ehcp who` shows it.")],
    on: Annotated[str, typer.Option(help="Day of sending, YYYY-MM-DD.")],
    how: Annotated[str, typer.Option(help=f"One of {', '.join(WAYS)}.", autocompletion=complete_way)],
    by: Annotated[str, typer.Option(help="The officer who sent it.")],
    note: Annotated[str | None, typer.Option(help="How it went, such as `signed for`: no names or identifiers.")] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Record that a plan was sent to a parent or young person; that is the evidence of the share."""
    entry = {"sent_on": on, "how": how, "by": by, **({"note": note} if note else {})}
    answer = run(record(home, share, entry, dry_run=dry_run))
    if as_json:
        print_json(answer)
    else:
        out.print(sentence(answer, how, on, dry_run=dry_run), markup=False, soft_wrap=True)


def complete_end(incomplete: str) -> list[str]:
    return [end for end in ENDS if end.startswith(incomplete)]


def removed(
    share: Annotated[str, typer.Argument(help="The share, as `ehcp who` shows it.")],
    on: Annotated[str, typer.Option(help="Day of the removal, YYYY-MM-DD.")],
    how: Annotated[str, typer.Option(help=f"One of {', '.join(ENDS)}.", autocompletion=complete_end)],
    by: Annotated[str, typer.Option(help="The officer who made sure of it.")],
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Record that what was recalled is no longer with a parent or young person; that is the proof of its removal."""
    answer = run(record(home, share, {"removed_on": on, "how": how, "by": by}, dry_run=dry_run))
    if as_json:
        print_json(answer)
    elif dry_run:
        out.print(f"would be recorded as removed ({how}) on {on}", markup=False)
    elif not answer["recorded"]:
        out.print("nothing recorded: its removal was recorded before", markup=False)
    else:
        rest = "; the right version has still to be sent" if answer["status"] == "waiting" else ""
        out.print(f"recorded as removed ({how}) on {on}{rest}", markup=False, soft_wrap=True)


def sentence(answer: Row, how: str, on: str, *, dry_run: bool) -> str:
    if not dry_run and not answer["recorded"]:
        return f"nothing recorded: version {answer['version']} was recorded as sent before; `ehcp who` shows how and when"
    verb = "would be recorded" if dry_run else "recorded"
    said = f"version {answer['version']} {verb} as sent by {how} on {on}"
    if answer["restricted"]:
        said += (
            "; the plan is restricted, and `ehcp who` says to send nothing until a named person lifts that: the record says so"
            " too. What can still be stopped, stop; where it reached somebody who should not have it, recall it"
        )
    return said


async def record(home: Path, share: str, entry: Row, *, dry_run: bool) -> Row:
    """``entry`` as the contract has it, but for ``seq``: :class:`schemas.evidence.SentRecord` or ``RemovedRecord``."""
    what, ways = ("sent", WAYS) if "sent_on" in entry else ("removed", ENDS)
    day = f"{what}_on"
    if entry["how"] not in ways:
        raise UsageError(f"--how is one of {', '.join(ways)}.")
    try:
        entry[day] = date.fromisoformat(entry[day]).isoformat()
    except ValueError:
        raise UsageError("--on is a day as YYYY-MM-DD, for example 2026-11-20.") from None
    if not entry["by"].strip():
        raise UsageError("--by is the name of the officer.")
    async with Exchange(Reach.of(home)) as exchange:
        delivery = await find(exchange, share)
        entry["seq"] = delivery["seq"]
        if what == "sent":
            restricted = (await exchange.plan(delivery["plan_id"]))["restricted"] is not None
            # Said only where it is so: a subscriber of before knows no such word.
            entry |= {"restricted": True} if restricted else {}
        answer = entry if dry_run else await exchange.record_delivery(share, what, entry)
    return {"share_id": share, "version": delivery["version"], "restricted": entry.get("restricted", False), **answer}


async def find(exchange: Exchange, share: str) -> Row:
    async for delivery in exchange.manual_deliveries():
        if delivery["share_id"] == share:
            return delivery
    raise RefusedError(f"No manual delivery of your councils has the share id {share}: `ehcp who PLAN` shows them.")
