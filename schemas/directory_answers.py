"""What the publisher answers about the directory and the sharing policies: for OpenAPI, and its readers."""

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Channel, Open, RecipientKind
from schemas.directory import DatedCode
from schemas.manifest import Sha256
from schemas.plan import SectionLetter
from schemas.policy import SharingPolicy


class DirectoryLineTaken(Open):
    line: Annotated[int, Field(ge=1)]
    status: int
    result: Literal["created", "changed", "unchanged"]
    recipient_id: UUID


class DirectoryEntry(Open):
    recipient_id: UUID
    kind: RecipientKind
    name: str
    codes: tuple[DatedCode, ...] | None
    subscriber: str | None
    channel: Channel
    contact: str | None
    public_key: dict[str, Any] | None
    areas: tuple[str, ...]
    """LA codes of the councils whose children it serves; none is all."""
    successors: tuple[str, ...]
    """``scheme:value``"""


class DirectoryPage(Open):
    recipients: tuple[DirectoryEntry, ...]
    next: str | None
    """Send it as ``after`` for the next page; null on the last."""
    listed: int
    """Organisations in the whole directory."""


class _Policy(Open):
    la_code: str
    off: str | None
    """Why no rule of it shares anything today; null when they do."""


class PolicyApplied(_Policy):
    result: Literal["applied", "unchanged"]
    sha256: Sha256
    revision: int
    plans_to_decide: int
    """Plans that are decided again now."""


class PolicyTried(_Policy):
    """``dry_run``: nothing was applied."""

    result: Literal["dry_run"]
    plans: int
    shares_added: int
    shares_withdrawn: int
    shares_changed: int


class PolicyShown(_Policy):
    revision: int
    sha256: Sha256
    applied_by: str
    applied_at: datetime
    policy: SharingPolicy


class RecipientExplained(Open):
    code: str
    name: str | None
    """Null where the code leads to nobody."""
    kind: RecipientKind | None
    shared: bool
    why: str


class RuleExplained(Open):
    rule: str
    exclude: bool
    applies: bool
    why_not: tuple[str, ...]
    sections: tuple[SectionLetter, ...] | None
    """Null is the whole plan."""
    lawful_basis: str | None
    reason: str
    recipients: tuple[RecipientExplained, ...]


class ShareExplained(Open):
    recipient_id: UUID
    recipient: str
    kind: RecipientKind
    code: str
    sections: tuple[SectionLetter, ...] | None
    """Null is the whole plan."""
    rules: tuple[str, ...]
    until: date | None
    by_law: bool | None = None
    """Of a plan: whether the law shares it with them already."""


class PolicyExplained(_Policy):
    plan_id: UUID | None = None
    on: date
    draft: bool
    """Whether it is of a policy that was sent along, not of the one that holds."""
    rules: tuple[RuleExplained, ...]
    shares: tuple[ShareExplained, ...]
