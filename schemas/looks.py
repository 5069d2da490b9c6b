"""Looking into the records: whose plans the council asks about, and how they were found.

Nothing personal leaves in an answer but what the asker sent: a child is named by the council's own case reference.
"""

import re
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints, field_validator, model_validator

from schemas.base import Closed, ContractError, Open, RecipientKind
from schemas.identifiers import LaCode, OrganisationCode

MAX_CHILDREN = 1000
DRAWN_BY = "the smallest SHA-256 (hexadecimal) of 'seed:case reference', in UTF-8"
"""Of each plan that may be drawn: anyone with the list of case references and the seed draws the same again."""

_Seed = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
_Child = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]


class Draw(Closed):
    """At random, so that any other draw was as likely."""

    n: Annotated[int, Field(ge=1, le=MAX_CHILDREN)]
    seed: _Seed | None = None
    """Best given by the inspector, so that nobody could look for a seed that draws well; left out, one is made."""


class LookRequest(Closed):
    """Whose plans, and whose records. Exactly one of ``draw`` and ``children``."""

    la_code: LaCode
    draw: Draw | None = None
    children: Annotated[tuple[_Child, ...], Field(min_length=1, max_length=MAX_CHILDREN)] | None = None
    """The asker's own choice: case references, NHS numbers or plan ids."""
    agency: OrganisationCode | None = None
    """Only this organisation's records; a draw is then among the plans that it should hold."""
    kind: RecipientKind | None = None
    """Only records of recipients of this kind; a draw is then among the plans that one of them should hold."""

    @field_validator("children")
    @classmethod
    def _no_controls(cls, children: Any) -> Any:
        if any(re.search(r"[\x00-\x1f]", each) for each in children or ()):
            raise ContractError("a control character is in it", "send one case reference or NHS number in each text")
        return children

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.draw is None) == (self.children is None):
            raise ContractError("there is not exactly one of draw and children", "send one of the two")
        if self.agency is not None and self.kind is not None:
            raise ContractError("there are both agency and kind", "send one of the two")
        return self


class NotLookedAt(Open):
    """One of ``children`` that leads to no plan in force."""

    position: Annotated[int, Field(ge=1)]
    """In ``children``, from 1."""
    given: str
    """As it was sent; of an NHS number the last four digits."""
    reason: Literal["unknown", "not_in_force", "no_version", "not_shared_with_agency", "repeated"]


class LookAsked(Open):
    look_id: UUID
    asked_at: AwareDatetime
    until: AwareDatetime
    """Answers are waited for until then."""
    seed: str | None
    population: int | None
    """Plans that might have been drawn; null where they were chosen."""
    children: int
    """Plans that are looked at."""
    shares: int
    """Records that are looked into."""
    not_looked_at: tuple[NotLookedAt, ...] = ()
