"""A plan as an extract tells of it, whatever its layout: what can be issued, what ceased, and what it lacks.

Both readers (``sen2.py``, ``simple.py``) give these; import, reconcile and readiness use them. Invariant: a submission made
here fits the contract, since it went through the contract's own model.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import orjson
from pydantic import ValidationError

from schemas.base import FROM_OUTSIDE
from schemas.lifecycle import CeaseReason, PastReview, ReviewOutcome
from schemas.plan import PlanSubmission
from schemas.refusals import explain
from services.cli.importing.cells import Cells
from services.cli.importing.faults import Fault
from services.cli.importing.tables import Ref
from services.shared.law import PLANS_SINCE


class Lack(StrEnum):
    """What keeps a plan from being delivered today."""

    DOCUMENT = "document"
    """Neither a document nor sections: there is nothing to send."""
    NHS_NUMBER = "nhs_number"
    """No clinical record can be found without it."""
    RECIPIENT = "recipient"
    """Nobody is named who could get it: no setting with a code, no commissioning body, no family."""
    CORRECTION = "correction"
    """A row is refused."""
    HELD = "held"
    """What came for it may have another child in it, and waits for a second person."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version that can be issued. ``source`` is the row that answers for it."""

    issued_on: date
    submission: bytes
    document: Path | None
    attachments: tuple[Path, ...]
    source: Ref


@dataclass(frozen=True, slots=True)
class Ceased:
    on: date
    reason: CeaseReason
    notified_on: date | None = None
    """When the family was told; the exchange must know it, where it had no cease notice."""


@dataclass(frozen=True, slots=True)
class ExtractPlan:
    """``versions``: newest first, so that older ones go straight into history. ``settings``: codes named today."""

    la_code: str
    case_reference: str
    source: Ref
    versions: tuple[Version, ...] = ()
    ceased: Ceased | None = None
    settings: frozenset[str] = frozenset()
    last_review: date | None = None
    amended: bool = False
    """The last review led to something that a new version should say."""
    review: PastReview | None = None
    """The last review that came to a decision, as ``reviews_before`` takes it."""
    lacks: frozenset[Lack] = frozenset()
    named: frozenset[str] = frozenset()
    """Codes of the organisations that would get it: settings of today and later, commissioning bodies."""
    family: bool = False
    over: bool = False
    """Not in force any more there, even where the exchange cannot be told so from the extract alone (a transfer)."""


class Extract(Protocol):
    """One extract, opened. ``plans`` may be walked once."""

    def count(self) -> int:
        """How many steps ``plans`` takes at most."""
        ...

    def plans(self) -> Iterator[ExtractPlan]: ...

    def refuse(self, source: Ref, refusals: Sequence[Fault]) -> None:
        """What the publisher said of a version; each fault's column is a field of the submission, such as ``child/upn``."""
        ...

    def unused_documents(self) -> Iterator[str]: ...
    def notes(self) -> list[str]:
        """What a person should know of the files: how they were read, and what was not used of them."""
        ...

    @property
    def duplicates(self) -> int: ...


def submission_of(content: Mapping[str, Any], origin: Callable[[str], tuple[Cells, str]]) -> PlanSubmission | None:
    """Through the contract's own model; what that refuses becomes faults.

    ``origin`` says of a field such as ``child/upn`` which row and which column it came from.
    """
    try:
        return PlanSubmission.model_validate_json(orjson.dumps(content), context=FROM_OUTSIDE)
    except ValidationError as error:
        for each in explain(error.errors(include_input=False, include_url=False)):
            cells, column = origin(each.field)
            if not any(fault.refuses and fault.column == column for fault in cells.faults):
                cells.faults.append(Fault(column, each.problem, each.instead))
        return None


def organisations_of(version: Mapping[str, Any], today: date) -> frozenset[str]:
    """Codes of who gets it by law, from ``version`` as it is sent."""
    placed = [each for each in version["placements"] if each.get("setting") and (each.get("until") or "9999") >= str(today)]
    codes = [*(each["setting"] for each in placed), *version["commissioning_bodies"]]
    return frozenset(f"{code['scheme']}:{code['value']}" for code in codes)


def as_json(submission: PlanSubmission) -> bytes:
    return submission.model_dump_json(by_alias=True, exclude_defaults=True).encode()


SEN2_REASONS = {str(number): reason for number, reason in enumerate(CeaseReason, 1)}


def cease_reason(cells: Cells, name: str) -> CeaseReason | None:
    """By SEN2's number or the contract's word."""
    text = cells.needed(name).lower()
    if reason := SEN2_REASONS.get(text):
        return reason
    try:
        return CeaseReason(text.replace(" ", "_"))
    except ValueError:
        if text:
            cells.wrong(name, "it is not a reason that SEN2 knows", "send its number, 1 to 9")
        return None


def past_review(
    cells: Cells, name: str, decided_on: date | None, outcome: str, maintained: frozenset[str], held_on: date | None = None
) -> PastReview | None:
    """``name``: the column of the decision. An outcome in words that nobody knows is left out, not guessed: an invented
    "amend" would wait for a plan that nobody is to write. Without a meeting the day of the decision stands for it."""
    if decided_on is None:
        return None
    if decided_on < PLANS_SINCE:
        cells.wrong(name, "there were no EHC plans on this day", "send the last review of the plan itself", refuses=False)
        return None
    word = ReviewOutcome.MAINTAIN if outcome.casefold() in maintained else outcome.casefold()
    decision = ReviewOutcome(word) if word in {each.value for each in ReviewOutcome} else None
    held_on = held_on if held_on is not None and PLANS_SINCE <= held_on <= decided_on else decided_on
    # The same review has the same reference in every run.
    return PastReview(review=f"decided-{decided_on}", held_on=held_on, decision=decision, decided_on=decided_on)
