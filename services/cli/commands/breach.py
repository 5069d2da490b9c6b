"""`ehcp recalls` and `ehcp breach`: what was recalled, who has still to answer, and the pack of one recall."""

import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from services.cli import breach_pack
from services.cli.commands.plans import is_version_number, one_plan
from services.cli.commands.who import is_plan_id
from services.cli.exchange import Exchange, ProblemError, Reach, Row
from services.cli.machine.errors import UsageError
from services.cli.machine.folder import write_private
from services.cli.options import DEFAULT_HOME, AsJson, Home
from services.cli.output import RefusedError, err, out, plain_errors, print_json, print_table, run, to_the_second

RECALLS = {
    "case_reference": "Plan",
    "version": "Version",
    "notice": "Notice",
    "reason": "Reason",
    "hours_since_aware": "Hours aware",
    "report_by": "Report by (UTC)",
    "copies": "Copies",
    "outstanding": "Outstanding",
    "recorded_by": "By",
    "recall_id": "Recall",
}
RECIPIENTS = {
    "recipient": "Recipient",
    "subscriber": "Subscriber",
    "things": "Of",
    "fetched_at": "Last fetched (UTC)",
    "held_as": "Held",
    "opened_by": "Opened by",
    "removal": "Removal",
    "removed_at": "Removed (UTC)",
    "reason": "Proof, or what was said last",
}
SPARE = ("subscriber", "opened_by", "fetched_at")


Version = Annotated[
    str | None, typer.Option("--version-id", help="Of this version alone, by its number or id; or of the notice with this id.")
]


def recalls(
    plan: Annotated[str | None, typer.Argument(help="Plan id or case reference: only its recalls.")] = None,
    version: Version = None,
    outstanding: Annotated[bool, typer.Option("--outstanding", help="Only those that somebody has not answered.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """List recalls: how long the council has been aware, until when to report, how many copies are outstanding."""
    found = run(find(home, plan, version, outstanding=outstanding))
    if as_json:
        print_json(found)
    elif not found:
        err.print("Nothing is outstanding." if outstanding else "Nothing was recalled.")
    else:
        print_table(
            RECALLS, [row | {"report_by": to_the_second(row["report_by"]), "recorded_by": officers(row)} for row in found]
        )


def breach(
    recall: Annotated[str, typer.Argument(help="The recall, as `ehcp recalls` shows it; or its plan.")],
    version: Version = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write: .zip with everything, or .json.", dir_okay=False)
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the copies as CSV on standard output.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Make the breach pack of a recall, signed by the council: who got what, opened and removed when, and the clock."""
    with plain_errors():
        if output is not None and output.suffix not in (".zip", ".json"):
            raise UsageError("--output ends in .zip or .json.")
        if output is not None and output.exists():
            raise UsageError(f"{output} exists already: give another name.")
    signed = run(fetch(home, recall, version))
    document = orjson.loads(signed)["document"]
    if output is not None:
        with plain_errors():
            write(output, signed)
    if as_json:
        print_json(orjson.loads(signed))
    elif as_csv:
        sys.stdout.write(breach_pack.table(document))
        sys.stdout.flush()
    else:
        show(document)
    if output is not None:
        err.print(f"Written: {output}. `ehcp verify {output}` checks it.", markup=False, soft_wrap=True)


def show(document: Row) -> None:
    recall = document["recall"]
    out.print(f"{recall['case_reference']}: {said(recall)}", style="bold", markup=False)
    hours, minutes = divmod(document["minutes_since_aware"], 60)
    left, rest = divmod(document["minutes_left"], 60)
    clock = f"{left} h {rest} min left" if document["minutes_left"] else "the time has run out"
    out.print(
        f"Aware for {hours} h {minutes} min; to be reported by {to_the_second(recall['report_by'])} UTC ({clock}; "
        f"{document['law']}). Recalled by {officers(recall)}.",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    out.print(f"{recall['outstanding']} of {recall['copies']} copies are outstanding.", markup=False)
    print_table(RECIPIENTS, [row_of(each) for each in document["recipients"]], SPARE)
    for each in document.get("earlier_councils", ()):
        name = each["name"] or each["la_code"]
        out.print(
            f"{name} had the plan until {each['until_date']} as {each['case_reference']}: "
            f"{each['receipts']} of the receipts in this pack are of its time.",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    for sentence in document.get("to_be_asked", ()):
        out.print(sentence, markup=False, soft_wrap=True)


def officers(recall: Row) -> str:
    """Everybody who recalled it, once each."""
    return ", ".join(dict.fromkeys(each["by"] for each in recall.get("words") or [{"by": recall["recorded_by"]}]))


def row_of(recipient: Row) -> Row:
    removal, copies = recipient["removal"], recipient["copies"]
    fetched = [each["at"] for copy in copies for each in copy["fetched"]]
    opened = {each["by"] or "somebody": None for copy in copies for each in copy["opened"]}
    names = [copy["notice"].replace("_", " ") if copy["notice"] else str(copy["version"]) for copy in copies]
    return {
        "recipient": recipient["recipient"],
        "subscriber": recipient["subscriber"] + (" (former)" if recipient["former"] else ""),
        "things": ", ".join(names), "fetched_at": to_the_second(max(fetched, default=None)),
        "held_as": next((copy["held_as"] for copy in reversed(copies) if copy["held_as"]), None),
        "opened_by": ", ".join(opened), "removal": removal["state"].replace("_", " "),
        "removed_at": to_the_second(removal["at"]),
        "reason": removal["proof"] or removal["reason"] or removal["last_said"],
    }  # fmt: skip


def write(output: Path, signed: bytes) -> None:
    """For this user alone: it names officers and a case reference."""
    if output.exists():
        raise UsageError(f"{output} exists already: choose another name.")
    try:
        write_private(output, breach_pack.archive(signed) if output.suffix == ".zip" else signed)
    except OSError as error:
        raise UsageError(f"{output} cannot be written ({error.strerror}).") from error


def is_of(row: Row, version: str | None) -> bool:
    """Whether a recall is of this version (by number or id), or of this notice (by id)."""
    if version is None:
        return True
    if is_version_number(version):
        return row["notice"] is None and row["version"] == int(version)
    return bool(row["version_id"] == version.lower())


async def find(home: Path, plan: str | None, version: str | None, *, outstanding: bool) -> list[Row]:
    if version and is_version_number(version) and plan is None:
        raise UsageError("Each plan has a version of this number: name the plan too.")
    async with Exchange(Reach.of(home)) as exchange:
        plan_id = (await one_plan(exchange, plan, None))["plan_id"] if plan else None
        rows = [row async for row in exchange.recalls(plan_id=plan_id, outstanding=outstanding)]
    return [row for row in rows if is_of(row, version)]


def the_one(case_reference: str, found: list[Row], version: str | None) -> Row:
    """Raises :class:`RefusedError`, which tells several recalls apart."""
    if not found and version is not None:
        what = f"Version {version}" if is_version_number(version) else f"What has the id {version}"
        raise RefusedError(f"{what} of {case_reference} was not recalled.")
    if not found:
        raise RefusedError(f"Nothing of {case_reference} was recalled.")
    if len(found) > 1:
        named = "; ".join(f"{row['recall_id']} ({said(row)}, by {officers(row)})" for row in found)
        raise RefusedError(f"{case_reference} has {len(found)} recalls, each a breach of its own. Name one: {named}.")
    return found[0]


def said(recall: Row) -> str:
    what = recall["notice"].replace("_", " ") if recall["notice"] else f"version {recall['version']}"
    return f"{what} recalled, {recall['reason'].replace('_', ' ')}"


async def fetch(home: Path, recall: str, version: str | None) -> bytes:
    async with Exchange(Reach.of(home)) as exchange:
        if is_plan_id(recall):
            try:
                return await exchange.breach_pack(recall)
            except ProblemError as error:
                if error.kind != "no-such-recall":
                    raise
        plan = await one_plan(exchange, recall, None)
        rows = [row async for row in exchange.recalls(plan_id=plan["plan_id"])]
        one = the_one(plan["case_reference"], [row for row in rows if is_of(row, version)], version)
        return await exchange.breach_pack(one["recall_id"])
