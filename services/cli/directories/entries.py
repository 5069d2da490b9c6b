"""What a register's row becomes: an organisation of the directory, or the reason why it is none.

Invariant: a row is taken, left out with a reason that is counted, or refused with a fault that names its column; never guessed
and never lost. Next: ``sending.py``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from schemas.base import Channel, ContractError, RecipientKind
from schemas.directory import BEGINNING, DirectoryRecipient
from schemas.identifiers import CodeScheme, OrganisationCode
from services.cli.importing.faults import Fault, Place

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Delivery:
    """How organisations that are new to the directory are reached; a register does not know."""

    subscriber: str | None = None
    channel: Channel = Channel.INBOX


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. ``recipient`` is None where it was left out (``left_out`` says why) or refused (``faults``)."""

    place: Place
    header: tuple[str, ...]
    values: tuple[str, ...]
    recipient: DirectoryRecipient | None = None
    left_out: str | None = None
    faults: tuple[Fault, ...] = ()


Entries = Iterator[Entry]
Links = Mapping[str, tuple[str, ...]]
"""By code, the codes of its successors."""


class RowFaultError(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.problem)
        self.fault = fault


class LeftOutError(Exception):
    """The row is in order, and no organisation that a plan goes to."""


def wrong(column: str, problem: str, instead: str) -> RowFaultError:
    return RowFaultError(Fault(column, problem, instead))


def dated(scheme: CodeScheme, value: str, from_: date | None, until: date | None) -> dict[str, Any]:
    return {"scheme": scheme, "value": value, "from": max(from_ or BEGINNING, BEGINNING), "until": until}


def checked(scheme: CodeScheme, value: str, column: str) -> str:
    """Raises :class:`RowFaultError` where the code breaks its scheme's rule."""
    try:
        OrganisationCode.model_validate({"scheme": scheme, "value": value})
    except ValueError as error:
        context = error.errors()[0].get("ctx", {}) if hasattr(error, "errors") else {}
        cause = context.get("error")
        if isinstance(cause, ContractError):
            raise wrong(column, cause.problem, cause.instead) from None
        raise wrong(column, "it is not a code of this register", "correct it there") from None
    return value


def in_order(opened: date | None, closed: date | None, column: str) -> None:
    if opened and closed and closed < opened:
        raise wrong(column, "it closed before it opened", "correct one of the two dates in the register")


def organisation(
    kind: RecipientKind, name: str, codes: list[Row], areas: tuple[str, ...], successors: list[Row], delivery: Delivery
) -> DirectoryRecipient:
    """Raises :class:`RowFaultError`."""
    try:
        return DirectoryRecipient.model_validate(
            {"kind": kind, "name": " ".join(name.split()), "codes": codes, "areas": areas, "successors": successors,
             "subscriber": delivery.subscriber, "channel": delivery.channel}
        )  # fmt: skip
    except ValueError as error:
        first = error.errors(include_input=False)[0] if hasattr(error, "errors") else {}
        where = "/".join(str(part) for part in first.get("loc", ()))
        raise wrong(where, "the organisation does not fit the directory", "correct it in the register") from None


def places(path: Path) -> str:
    """A file's name in faults."""
    return path.stem
