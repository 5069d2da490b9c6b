"""A receipt: a signed statement by a subscriber of what became of one ``seq`` of one share.

On Kafka it is a compact JWS (RFC 7515, EdDSA) whose payload is the canonical JSON of :class:`Receipt`. Audit appends
every receipt; the newest by (``seq``, ``number``) counts, so *filed, then found missing* can be said.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, model_validator

from schemas.base import Channel, ContractError, Open
from schemas.events import Seq
from schemas.manifest import Sha256


class Status(StrEnum):
    """What became of an instruction. Which of them satisfies which channel: :func:`satisfies`."""

    WAITING = "waiting"
    """Parked; a person or a later evidence is awaited (manual: an officer must send it)."""
    SENT = "sent"
    COLLECTED = "collected"
    FILED = "filed"
    OPENED = "opened"
    REFUSED = "refused"
    FAILED = "failed"
    """An attempt failed and will be tried again at ``next_try_at``."""
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"
    RECALLED = "recalled"
    RELEASED = "released"
    CONFLICT = "conflict"
    """Equal ``seq`` with another hash, or higher than the council wants: the council must want again, higher."""


_STRENGTH = {Status.SENT: 1, Status.COLLECTED: 2, Status.OPENED: 3, Status.FILED: 4}

_WEAKEST_THAT_SATISFIES = {
    Channel.FHIR: Status.FILED,
    Channel.MESH: Status.FILED,
    Channel.HL7V2: Status.COLLECTED,
    Channel.WEBHOOK: Status.FILED,
    Channel.SFTP: Status.FILED,
    Channel.INBOX: Status.OPENED,
    Channel.MANUAL: Status.SENT,
}


def satisfies(channel: Channel, status: Status) -> bool:
    """Whether this status, for the newest ``seq``, makes a share of this channel satisfied.

    A withdrawal is satisfied by ``withdrawn``, a recall by ``recalled``, whatever the channel.
    """
    if status in (Status.WITHDRAWN, Status.RECALLED, Status.RELEASED):
        return True
    return _STRENGTH.get(status, 0) >= _STRENGTH[_WEAKEST_THAT_SATISFIES[channel]]


class HostedBy(StrEnum):
    """Who runs the subscriber that signed: the agency itself, or the council for it. Evidence differs in weight."""

    AGENCY = "agency"
    COUNCIL = "council"


class Receipt(Open):
    number: Annotated[int, Field(ge=1, le=2**53 - 1)]
    """Rises with every receipt of a subscriber: the greater of the last plus one and the clock in microseconds."""
    subscriber: str
    hosted_by: HostedBy
    share_id: UUID
    seq: Seq
    status: Status
    version_id: UUID | None = None
    sha256: Sha256 | None = None
    """Hash of the rendering held, as read back from the record system where it can be."""
    record: str | None = None
    """The record system's own id of what it holds, e.g. ``DocumentReference/123``."""
    reason: str | None = None
    """Why it was refused or failed, in words without any personal data."""
    next_try_at: AwareDatetime | None = None
    attempt: Annotated[int, Field(ge=0)] = 0
    removed: tuple[UUID, ...] = ()
    """Recalled versions, or the recalled notice, that are proved to be gone."""
    removal: str | None = None
    """The proof of it in words: what was removed and who had opened it, or who states it. Accounts and officers, no child."""
    remaining: tuple[UUID, ...] = ()
    """What the instruction names to remove and is not proved to be gone yet: with any of it, nothing is satisfied."""
    opened_by: str | None = None
    """The account at the recipient's that opened it, never a name."""
    at: AwareDatetime

    @model_validator(mode="after")
    def _says_enough(self) -> Self:
        # Coverage counts evidence: "filed" that cannot say what and where is a claim, not evidence.
        if self.status is Status.FILED and None in (self.version_id, self.sha256, self.record):
            raise ContractError("a receipt says filed but not what and where", "send version_id, sha256 and record")
        if self.status in (Status.REFUSED, Status.FAILED) and not self.reason:
            raise ContractError("a receipt says refused or failed but not why", "send reason, without personal data")
        return self


def openings(said: Iterable[Receipt]) -> list[Receipt]:
    """Of the receipts of one version in one share, in order of their numbers: the first of each account that opened it. Those
    that say again that it is open (it was acknowledged, something else was removed) are no further openings."""
    found: dict[str | None, Receipt] = {}
    for each in said:
        if each.status is Status.OPENED and (each.opened_by is not None or not found):
            found.setdefault(each.opened_by, each)
    return list(found.values())
