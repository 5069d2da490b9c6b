"""Evidence that people give: an officer records that, when and how a plan was sent, or that a recalled one was removed."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from schemas.base import Closed
from schemas.identifiers import no_identifiers
from schemas.plan import IsoDate, Line

How = Literal["post", "email", "hand", "portal"]


class SentRecord(Closed):
    """What the officer states. ``by`` is the officer, not the family."""

    seq: Annotated[int, Field(ge=1)]
    sent_on: IsoDate
    how: How
    by: Annotated[Line, Field(min_length=1, max_length=100)]
    note: Annotated[Line, Field(min_length=1, max_length=200), AfterValidator(no_identifiers)] | None = None
    """How it went, such as *signed for*: no names or identifiers. It stands in the receipt, and in what ``who`` shows."""
    restricted: bool = False
    """The plan was restricted when this was recorded, so nothing was to be sent. It stands in the receipt too."""


class RemovedRecord(Closed):
    """What the officer states of a recalled copy. ``by`` is the officer, not the family."""

    seq: Annotated[int, Field(ge=1)]
    removed_on: IsoDate
    how: Literal["returned", "destroyed", "deleted", "never_arrived"]
    by: Annotated[Line, Field(min_length=1, max_length=100)]


class Acknowledgement(Closed):
    """A person of the organisation states that this version was read. ``by`` is that person, as the council may know them."""

    seq: Annotated[int, Field(ge=1)]
    """As the list of the inbox says it: what is acknowledged is this version, and not one that came meanwhile."""
    by: Annotated[Line, Field(min_length=1, max_length=100)]
