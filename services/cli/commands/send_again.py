"""`ehcp send-again`: put instructions out once more, one share or all that wait at a recipient; first says how many to whom."""

import asyncio
from datetime import date, datetime, time
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from services.cli.commands.who import is_plan_id
from services.cli.exchange import Exchange, Reach, Row
from services.cli.machine.errors import UsageError
from services.cli.options import DEFAULT_HOME, AsJson, DryRun, Home
from services.cli.output import RefusedError, err, out, plain_errors, print_json, print_table, run, to_the_second

TO = {"recipient": "Recipient", "subscriber": "Subscriber", "shares": "Shares"}
JOBS = {"job_id": "Id", "state": "State", "sent": "Sent", "total": "Of", "by": "By", "begun_at": "Begun (UTC)"}
LOOK_SECONDS = 0.5


def send_again(
    which: Annotated[
        str | None, typer.Argument(help="A share or a plan, as `ehcp who` shows them, or the council's case reference.")
    ] = None,
    recipient: Annotated[str | None, typer.Option(help="All shares of this recipient, e.g. ods:RNA.")] = None,
    subscriber: Annotated[str | None, typer.Option(help="All shares that this subscriber delivers.")] = None,
    since: Annotated[str | None, typer.Option(help="Only what was asked for on this day or later, YYYY-MM-DD.")] = None,
    satisfied_too: Annotated[
        bool, typer.Option("--satisfied-too", help="Also what is satisfied: is looked at in the record, filed again if gone.")
    ] = False,
    by: Annotated[str | None, typer.Option(help="The officer who wants it.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    cancel: Annotated[str | None, typer.Option(help="Stop the sending of this id.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="What was sent again, and how far it is.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Send instructions again, under the same number: nothing is issued anew, and twice does no more than once. What waits
    for its next try is tried now; pauses and rates of the recipient's side stand."""
    if list_ or cancel:
        with plain_errors():
            if cancel and not is_plan_id(cancel):
                raise UsageError("--cancel takes the id of a sending: `ehcp send-again --list` shows it.")
        answer = run(jobs(home, cancel))
        if as_json:
            print_json(answer)
        elif cancel:
            out.print(said(answer), markup=False, soft_wrap=True)
        else:
            rows = [row | {"begun_at": to_the_second(row["begun_at"])} for row in answer["jobs"]]
            print_table(JOBS, rows, empty="Nothing was sent again yet.")
        return
    with plain_errors():
        choice = choice_of(recipient, subscriber, since, by)
    choice |= {"satisfied_too": satisfied_too}
    choice, found = run(look(home, which, choice))
    if not as_json or not yes:
        err.print(f"{counted(found['shares'], 'share')} of {counted(found['recipients'], 'recipient')}:", markup=False)
    if not as_json:
        print_table(TO, found["to"])
        if found["recipients"] > len(found["to"]):
            err.print(f"… and {found['recipients'] - len(found['to'])} recipients with fewer", markup=False)
    if dry_run:
        if as_json:
            print_json(found)
        return
    if not yes and not typer.confirm("Send them again?", err=True):
        raise typer.Exit(1)
    job = run(begin(home, choice))
    try:
        job = run(follow(home, job, show=not as_json))
    except typer.Exit:  # Ctrl-C: the council goes on by itself
        err.print(f"It goes on. `ehcp send-again --cancel {job['job_id']}` stops it.", markup=False, soft_wrap=True)
        raise
    if as_json:
        print_json(job)
    else:
        out.print(said(job), markup=False, soft_wrap=True)


def choice_of(recipient: str | None, subscriber: str | None, since: str | None, by: str | None) -> Row:
    """Raises UsageError."""
    if not by:
        raise UsageError("Say who wants it: --by NAME.")
    choice: Row = {"by": by}
    if recipient:
        scheme, separator, value = recipient.partition(":")
        if not separator:
            raise UsageError("Write the recipient with its scheme, for example ods:RNA.")
        choice["recipient"] = {"scheme": scheme, "value": value}
    if subscriber:
        choice["subscriber"] = subscriber
    if since:
        try:
            day = date.fromisoformat(since)
        except ValueError:
            raise UsageError("--since takes a day as YYYY-MM-DD.") from None
        choice["since"] = datetime.combine(day, time(), ZoneInfo("Europe/London")).isoformat()
    return choice


async def look(home: Path, which: str | None, choice: Row) -> tuple[Row, Row]:
    """What is meant, and what it comes to. An id may be a share's or a plan's."""
    readings: list[Row] = [{}]
    if which and is_plan_id(which):
        readings = [{"share_id": which}, {"plan_id": which}]
    elif which:
        readings = [{"case_reference": which}]
    async with Exchange(Reach.of(home)) as exchange:
        for reading in readings:
            found = await exchange.send_again(choice | reading, dry_run=True)
            if found["shares"]:
                return choice | reading, found
    waits = "" if choice["satisfied_too"] else " that waits (--satisfied-too for those that are satisfied)"
    raise RefusedError(f"Your councils have no share of {_named(which, choice)}{waits}.")


def _named(which: str | None, choice: Row) -> str:
    recipient = choice.get("recipient")
    of = [which, recipient and f"the recipient {recipient['scheme']}:{recipient['value']}",
          choice.get("subscriber") and f"the subscriber {choice['subscriber']}"]  # fmt: skip
    return ", ".join(each for each in of if each) + (" that was asked for since then" if "since" in choice else "")


async def begin(home: Path, choice: Row) -> Row:
    async with Exchange(Reach.of(home)) as exchange:
        return await exchange.send_again(choice, dry_run=False)


async def follow(home: Path, job: Row, *, show: bool) -> Row:
    """Until it has ended."""
    told = -1
    async with Exchange(Reach.of(home)) as exchange:
        while job["state"] == "running":
            if show and job["sent"] != told:
                told = job["sent"]
                err.print(f"sending: {told} of {counted(job['total'], 'share')} so far", markup=False)
            await asyncio.sleep(LOOK_SECONDS)
            job = await exchange.sendings_again(job["job_id"])
    return job


async def jobs(home: Path, cancel: str | None) -> Row:
    async with Exchange(Reach.of(home)) as exchange:
        return await exchange.sendings_again(cancel, cancel=cancel is not None)


def said(job: Row) -> str:
    total = counted(job["total"], "share")
    if job["state"] == "cancelled":
        return f"cancelled after {job['sent']} of {total}"
    if job["state"] != "done":
        return f"{job['sent']} of {total} sent again so far"
    others = ": the others were satisfied, or ended, before it was their turn" if job["sent"] < job["total"] else ""
    return f"{job['sent']} of {total} sent again{others}"


def counted(number: int, of: str) -> str:
    return f"{number} {of}{'' if number == 1 else 's'}"
