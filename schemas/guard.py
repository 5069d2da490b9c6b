"""What the guard found in a version or a notice before it leaves: what kind of thing and where, never whose it is."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from schemas.base import Open


class FindingKind(StrEnum):
    OTHER_NHS_NUMBER = "other_nhs_number"
    """An NHS number of another child in the exchange."""
    OTHER_UPN = "other_upn"
    """A unique pupil number of another child in the exchange."""
    OTHER_NAME = "other_name"
    """The full name of another child in the exchange, and that child's date of birth."""
    NOTHING_OF_CHILD = "nothing_of_child"
    """A file with text that has neither this child's NHS number nor its UPN nor its name."""
    SCAN = "scan"
    """Pages without text: nobody but a person can read them."""
    PICTURE = "picture"
    """A picture: nobody but a person can read it."""
    UNREADABLE = "unreadable"
    """The file could not be read in the time and memory for it."""


class Finding(Open):
    kind: FindingKind
    where: str
    """``section B``, ``document``, ``attachment 2``: attachments are counted in the order in which they were sent."""
    pages: tuple[int, ...] = ()
    """Of a file, from 1; at most twenty are listed."""
    count: Annotated[int, Field(ge=1)] = 1
    """How many other children's, where it is about others."""
    waived: bool = False
    """The council's policy lets such a file leave: it is said and does not hold."""

    def __str__(self) -> str:
        pages = f", page {', '.join(map(str, self.pages))}" if self.pages else ""
        said = _WORDS[self.kind] if self.count == 1 else _SEVERAL[self.kind].format(self.count)
        return f"{said} ({self.where}{pages})"


_WORDS = {
    FindingKind.OTHER_NHS_NUMBER: "an NHS number of another child",
    FindingKind.OTHER_UPN: "a UPN of another child",
    FindingKind.OTHER_NAME: "the name and date of birth of another child",
    FindingKind.NOTHING_OF_CHILD: "neither this child's NHS number nor its UPN nor its name",
    FindingKind.SCAN: "pages without text, which cannot be read",
    FindingKind.PICTURE: "a picture, which cannot be read",
    FindingKind.UNREADABLE: "it could not be read",
}
_SEVERAL = {
    FindingKind.OTHER_NHS_NUMBER: "NHS numbers of {} other children",
    FindingKind.OTHER_UPN: "UPNs of {} other children",
    FindingKind.OTHER_NAME: "the names and dates of birth of {} other children",
}
