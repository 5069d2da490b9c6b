"""`ehcp who PLAN`: who should hold a plan, and who holds which version."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from services.cli.exchange import Exchange, Reach, Row
from services.cli.options import DEFAULT_HOME, AsJson, Home
from services.cli.output import RefusedError, print_json, print_table, run, to_the_second
from services.cli.shares import in_order, without_empty_tries

COLUMNS = {
    "recipient": "Recipient",
    "notice": "Notice",
    "status": "Status",
    "version": "Wanted",
    "held_version": "Held",
    "record": "Record",
    "at": "When (UTC)",
    "hosted_by": "Word of",
    "reason": "Reason",
    "failed_tries": "Failed tries",
    "next_try_at": "Next try (UTC)",
    "share_id": "Share",
}


def who(
    plan: Annotated[str, typer.Argument(help="Plan id, or the council's case reference.")],
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show who should hold a plan and who holds which version."""
    holders = in_order(run(find(home, plan)))
    if as_json:
        print_json(holders)
    else:
        rows = [holder | {name: to_the_second(holder[name]) for name in ("at", "next_try_at")} for holder in holders]
        print_table(without_empty_tries(COLUMNS, rows), rows)


async def find(home: Path, plan: str) -> list[Row]:
    async with Exchange(Reach.of(home)) as exchange:
        if is_plan_id(plan):
            return await exchange.holders_of(plan)
        plan_ids = {
            holder["plan_id"] async for holder in exchange.holders() if holder["case_reference"].upper() == plan.strip().upper()
        }
        if not plan_ids:
            raise RefusedError(f"No plan of your councils has the case reference {plan}.")
        # Two councils may use the same reference.
        return [holder for plan_id in sorted(plan_ids) for holder in await exchange.holders_of(plan_id)]


def is_plan_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
