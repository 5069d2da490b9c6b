"""What the command line shows of a share, and when nothing more will happen to it without a person."""

from typing import Any

from services.cli.exchange import Row

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
}
# What a narrow terminal does without, first ones first.
SPARE_COLUMNS = ("record", "recipient_kind", "seconds", "notice")


def row_of(holder: Row) -> Row:
    """The words of the exchange, nothing else. Of a withdrawn share the version is the one that stays with its holder."""
    version = holder["version"] if holder["version"] is not None else holder["held_version"]
    return {name: holder.get(name) for name in FIELDS} | {"version": version}


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
