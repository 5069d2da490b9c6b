"""What the command line shows of a share, and when nothing more will happen to it without a person."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.cli.exchange import Row
from services.cli.output import print_table, to_the_second

FIELDS = (
    "plan_id",
    "case_reference",
    "recipient",
    "recipient_kind",
    "notice",
    "version",
    "status",
    "reason",
    "record",
    "seconds",
    "failed_tries",
    "next_try_at",
)
COLUMNS = {
    "case_reference": "Plan",
    "status": "Status",
    "recipient": "Recipient",
    "recipient_kind": "Kind",
    "notice": "Notice",
    "version": "Version",
    "record": "Record",
    "seconds": "Seconds",
    "reason": "Reason",
    "failed_tries": "Failed tries",
    "next_try_at": "Next try (UTC)",
}
# What a narrow terminal does without, first ones first.
SPARE_COLUMNS = ("record", "recipient_kind", "seconds", "notice", "failed_tries")
TRIES = ("failed_tries", "next_try_at")


def row_of(holder: Row) -> Row:
    """The words of the exchange, nothing else. Of a withdrawn share the version is the one that stays with its holder."""
    version = holder["version"] if holder["version"] is not None else holder["held_version"]
    return {name: holder.get(name) for name in FIELDS} | {"version": version}


def print_shares(rows: Sequence[Row]) -> None:
    shown = [row | {"next_try_at": to_the_second(row["next_try_at"])} for row in rows]
    print_table(without_empty_tries(COLUMNS, rows), shown, SPARE_COLUMNS)


def without_empty_tries(columns: Mapping[str, str], rows: Sequence[Row]) -> dict[str, str]:
    """Mostly nothing is being tried again, and nobody needs columns that say so."""
    return {name: text for name, text in columns.items() if name not in TRIES or any(row.get(name) for row in rows)}


def is_settled(holder: dict[str, Any]) -> bool:
    """True when machines have done what they can: filed, refused, or now waiting for a person or a subscriber."""
    if holder["satisfied"] or holder["status"] == "refused" or holder["subscriber"] is None:
        return True
    match holder["channel"]:
        case "manual":
            return True
        case "inbox":
            return bool(holder["status"] == "sent")
        case _:
            return False


def in_order(holders: list[Row]) -> list[Row]:
    return sorted(
        holders,
        key=lambda holder: (holder["case_reference"], holder["recipient_kind"], holder["recipient"], holder["notice"] or ""),
    )
