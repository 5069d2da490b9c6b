"""`ehcp coverage`: how many of the shares that should be held are proved to be, by kind of recipient and strength of proof."""

from pathlib import Path
from typing import Annotated

import typer

from schemas.base import RecipientKind
from services.cli.exchange import Exchange, Reach, Row
from services.cli.machine.errors import UsageError
from services.cli.options import DEFAULT_HOME, AsJson, Home
from services.cli.output import out, plain_errors, print_json, print_table, run

COLUMNS = {
    "recipient_kind": "Recipient", "active": "Active", "satisfied": "Satisfied", "coverage": "Coverage", "filed": "Filed",
    "opened": "Opened", "collected": "Collected", "sent": "Sent", "waiting": "Waiting", "failed": "Failed",
    "refused": "Refused", "superseded": "Superseded", "undeliverable": "Undeliverable",
}  # fmt: skip
ALWAYS = ("recipient_kind", "active", "satisfied", "coverage", "filed", "opened", "collected", "sent", "waiting")


def coverage(
    la: Annotated[str | None, typer.Option("--la", help="LA code of one council; else all of yours.")] = None,
    agency: Annotated[str | None, typer.Option("--agency", help="One kind of recipient, such as trust or school.")] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Say how many shares are proved to be held, by kind of recipient and strength of proof, beside the share gaps."""
    if agency is not None and agency not in set(RecipientKind):
        with plain_errors():
            raise UsageError(f"--agency is one of {', '.join(sorted(RecipientKind))}.")
    found = run(_asked(home, la, agency))
    if as_json:
        print_json(found)
        return
    rows = [_row(each) for each in (*found["kinds"], found | {"recipient_kind": "all"})]
    shown = {name: heading for name, heading in COLUMNS.items() if name in ALWAYS or any(row[name] for row in rows)}
    print_table(shown, rows)
    if found["active"]:
        said = f"{found['satisfied']} of {found['active']} active shares are satisfied ({found['coverage']:.1%})."
    else:
        said = "No share is active."
    plans, gaps = found["plans"], found["share_gaps"]
    beside = f"In {found['plans_with_gaps']} of {plans} plans in force somebody is involved who has no share"
    out.print(f"{said} {beside}: {gaps} share gaps, `ehcp gaps` lists them." if gaps else f"{said} There are no share gaps.",
              soft_wrap=True)  # fmt: skip


async def _asked(home: Path, la: str | None, agency: str | None) -> Row:
    async with Exchange(Reach.of(home)) as exchange:
        return await exchange.coverage(la, agency)


def _row(counted: Row) -> Row:
    share = counted["coverage"]
    return {
        "recipient_kind": counted["recipient_kind"].replace("_", " "), "active": counted["active"],
        "satisfied": counted["satisfied"], "coverage": "" if share is None else f"{share:.1%}", **counted["proof"],
    }  # fmt: skip
