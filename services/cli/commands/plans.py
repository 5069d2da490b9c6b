"""`ehcp plans`, `ehcp plan`, `ehcp gaps`, `ehcp flags`, `ehcp confirmations`: a council's plans as the publisher has them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from schemas.guard import Finding
from services.cli.commands.who import is_plan_id
from services.cli.exchange import Exchange, Reach, Row
from services.cli.machine.config import OPERATOR
from services.cli.options import DEFAULT_HOME, AsJson, Home
from services.cli.output import RefusedError, out, print_json, print_table, run, to_the_second

Council = Annotated[str | None, typer.Option(help="LA code: only this council's.")]
COLUMNS = {
    "case_reference": "Plan",
    "state": "State",
    "restricted": "Restricted",
    "version": "Version",
    "issued_on": "Issued on",
    "shares": "Shares",
    "gaps": "Gaps",
    "flag_count": "Flags",
    "to_confirm": "To confirm",
    "settings": "Settings",
    "la_code": "Council",
    "plan_id": "Plan id",
}
SPARE_COLUMNS = ("settings", "la_code", "plan_id")
OPEN_COLUMNS = {"case_reference": "Plan", "name": "What", "reason": "Reason", "since": "Since (UTC)", "la_code": "Council"}
CONFIRMATION_COLUMNS = {
    "case_reference": "Plan", "recipient": "To confirm", "reason": "Reason", "plans": "Plans", "name": "Id",
    "since": "Since (UTC)", "la_code": "Council",
}  # fmt: skip
VERSIONS = {
    "version": "Version", "issued_on": "Issued on", "by": "By", "received_at": "Received (UTC)",
    "recalled_at": "Recalled (UTC)",
    "version_id": "Version id",
}  # fmt: skip
EVENTS = {"happened_on": "On", "type": "What happened", "by": "By", "recorded_at": "Recorded (UTC)"}
REVIEWS = {
    "review": "Review", "meeting_on": "Meeting", "invited_on": "Invited", "held_on": "Held", "reported_on": "Reported",
    "decision": "Decision", "decided_on": "Decided",
}  # fmt: skip
NOTICES = {"happened_on": "On", "kind": "Notice", "not_to": "Not to"}
CUSTODY = {"la_code": "Earlier council", "case_reference": "Its reference", "from_date": "From", "until_date": "Until"}
GAPS = {"who": "Share gap", "reason": "Reason", "since": "Since (UTC)"}
FLAGS = {"code": "Flag", "detail": "Reason", "since": "Since (UTC)"}
CONFIRMATIONS = {
    "name": "To confirm", "kind": "Kind", "reason": "Reason", "asked_by": "Asked by", "decided_by": "Decided by",
    "share": "Share", "recipient_id": "Recipient id",
}  # fmt: skip
HOLDS = {
    "version_id": "Held", "found": "Found", "asked_by": "Brought in by", "asked_at": "Since (UTC)",
    "decided_by": "Decided by", "released": "Released",
}  # fmt: skip
DECISIONS = {
    "name": "Decided about", "kind": "Kind", "code": "Code", "share": "Share", "lawful_basis": "Lawful basis",
    "reason": "Reason", "by": "By",
    "until_date": "Until",
}  # fmt: skip
OBJECTIONS = {"received_on": "On", "from_reference": "Objection of", "code": "About", "text": "Text", "by": "By"}
TABLES = {
    "versions": VERSIONS, "events": EVENTS, "reviews": REVIEWS, "notices": NOTICES, "custody": CUSTODY, "share_gaps": GAPS,
    "flags": FLAGS, "confirmations": CONFIRMATIONS, "decisions": DECISIONS,
    "objections": OBJECTIONS,
    "holds": HOLDS,
}  # fmt: skip
TIMES = ("asked_at", "received_at", "recalled_at", "recorded_at", "since")


def plans(council: Council = None, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List plans: state, current version, shares, and what is open about them."""
    found = run(all_plans(home, council))
    if as_json:
        print_json(found)
    else:
        print_table(COLUMNS, [row_of(each) for each in found], SPARE_COLUMNS, empty="There are no plans.")


def plan(
    plan: Annotated[str, typer.Argument(help="Plan id, or the council's case reference.")],
    council: Council = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show one plan with its history: versions, events, reviews, notices, and what is open about it."""
    found = run(find(home, plan, council))
    if as_json:
        print_json(found)
        return
    out.print(headline(found), style="bold", markup=False, soft_wrap=True)
    out.print(f"Council {found['la_code']}, plan id {found['plan_id']}, {found['shares']} shares.", markup=False)
    if settings := settings_of(found):
        out.print(f"Settings: {settings}", markup=False, soft_wrap=True)
    for name, columns in TABLES.items():
        if rows := found.get(name):
            out.print()
            print_table(columns, [readable(row) for row in rows])


def gaps(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List share gaps: people involved in a plan who have no share of it."""
    show_open("gaps", home, as_json=as_json)


def flags(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List flags: what a person should look at in a plan."""
    show_open("flags", home, as_json=as_json)


def confirmations(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List what waits for a second person: unusual recipients, and what is held. `ehcp record confirm` answers."""
    show_open("confirmations", home, CONFIRMATION_COLUMNS, as_json=as_json)


def show_open(what: str, home: Path, columns: Mapping[str, str] = OPEN_COLUMNS, *, as_json: bool) -> None:
    found = run(all_open(home, what))
    if as_json:
        print_json(found)
    else:
        print_table(columns, [readable(row) for row in found], ("la_code", "since"), empty=f"There are no {what}.")


async def all_plans(home: Path, council: str | None) -> list[Row]:
    async with Exchange(Reach.of(home)) as exchange:
        return [row async for row in exchange.plans(client_of(council))]


async def all_open(home: Path, what: str) -> list[Row]:
    async with Exchange(Reach.of(home)) as exchange:
        return [row async for row in exchange.open(what)]


async def find(home: Path, plan: str, council: str | None) -> Row:
    async with Exchange(Reach.of(home)) as exchange:
        found = await one_plan(exchange, plan, council)
        return await exchange.plan(found["plan_id"], client_of(council))


async def one_plan(exchange: Exchange, plan: str, council: str | None) -> Row:
    """By id or case reference, with its history only where asked by id. Raises :class:`RefusedError`."""
    client_id = client_of(council)
    if is_plan_id(plan):
        return await exchange.plan(plan, client_id)
    found = [row async for row in exchange.plans(client_id, case_reference=plan)]
    if not found:
        raise RefusedError(f"No plan of your councils has the case reference {plan}.")
    if len(found) > 1:
        codes = ", ".join(sorted(row["la_code"] for row in found))
        raise RefusedError(f"The councils {codes} each have a plan {plan}: say which with --council, or give the plan id.")
    return found[0]


def is_version_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


async def version_id_of(exchange: Exchange, plan: Row, number: str, council: str | None) -> str:
    """Of the version with this number. Raises :class:`RefusedError`."""
    versions = (await exchange.plan(plan["plan_id"], client_of(council)))["versions"]
    for each in versions:
        if each["version"] == int(number):
            return str(each["version_id"])
    there = ", ".join(str(each["version"]) for each in versions)
    raise RefusedError(f"{plan['case_reference']} has no version {number}; it has {there}.")


def client_of(council: str | None) -> str:
    return f"case-system-{council}" if council else OPERATOR


def row_of(found: Row) -> Row:
    current = found["current"] or {}
    return found | {
        "version": current.get("version"), "issued_on": current.get("issued_on"), "settings": settings_of(found),
        "to_confirm": "yes" if found["to_confirm"] else None,
    }  # fmt: skip


def settings_of(found: Row) -> str:
    return ", ".join(
        f"{each['scheme']}:{each['value']} from {each['from']}" + (f" until {each['until']}" if each["until"] else "")
        for each in found["settings"]
    )


def headline(found: Row) -> str:
    said = f"{found['case_reference']}: {found['state']}"
    if found["state"] == "ceasing":
        said += f", ceases on {found['ceases_on']}"
        said += f", appeal until {found['appeal_until']}" if found["appeal_until"] else ""
    elif found["ceases_on"]:
        said += f" on {found['ceases_on']}"
    if found["cease_reason"]:
        said += f" ({found['cease_reason']})"
    return said + (f", restricted ({', '.join(found['restrictions'])})" if found["restricted"] else "")


def readable(row: Row) -> Row:
    """Times to the second; a code in one word."""
    row = row | {name: to_the_second(row[name]) for name in TIMES if row.get(name)}
    if row.get("left_out"):
        row["not_to"] = "; ".join(f"{each['who']} ({each['reason']})" for each in row["left_out"])
    if "findings" in row:
        row["found"] = "; ".join(str(Finding.model_validate(each)) for each in row["findings"])
    if row.get("scheme"):
        row["code"] = f"{row['scheme']}:{row['value']}"
    return row
