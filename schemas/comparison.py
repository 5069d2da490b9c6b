"""What a council found when it compared its case system with the exchange: ids and kinds of difference, nothing else.

A comparison is always of the whole council and replaces the one before: a difference that is not told any more is over.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, model_validator

from schemas.base import Closed, ContractError, Open

MAX_DIFFERENCES = 100_000
"""In one comparison."""


class DifferenceKind(StrEnum):
    NEVER_SHARED = "never_shared"
    """In force there; here it is not known, or nobody should hold it."""
    CEASED_THERE = "ceased_there"
    """Live here, and over there."""
    UNKNOWN_THERE = "unknown_there"
    """Live here, and the extract does not have it."""
    CEASED_HERE = "ceased_here"
    """In force there, and over here."""
    SETTING_DIFFERS = "setting_differs"
    REVIEW_NEWER = "review_newer"
    """The last review was decided after our version was issued, and was to change the plan."""


_Count = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Comparison(Closed):
    """Everything in which one council's case system and the exchange differ now."""

    plans: _Count
    """That the case system has."""
    rows_refused: _Count = 0
    """Of its extract, that could not be used."""
    not_here: _Count = 0
    """Plans in force there that the exchange does not know: they have no id here, so they are counted."""
    differences: dict[DifferenceKind, tuple[UUID, ...]] = Field(default_factory=dict)
    """Ids of the plans that differ, by how."""

    @model_validator(mode="after")
    def _not_too_many(self) -> Self:
        if sum(map(len, self.differences.values())) > MAX_DIFFERENCES:
            raise ContractError("there are too many differences", f"send at most {MAX_DIFFERENCES}; look at the extract first")
        return self


class ComparisonShown(Open):
    """A council's last comparison, and how much of it is left."""

    la_code: str
    compared_at: datetime
    plans: int
    rows_refused: int
    not_here: int
    differences: dict[DifferenceKind, int]
    """How many plans differ, by how; of those that are the council's."""


class ComparisonsPage(Open):
    comparisons: tuple[ComparisonShown, ...]
    """One for each of the caller's councils that ever compared."""
