"""Sending instructions again: which are meant, how many go to whom, and how far it is. Nothing is issued anew."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, model_validator

from schemas.base import Closed, ContractError, OneLine, Open
from schemas.identifiers import OrganisationCode


class SendAgain(Closed):
    """Everything named must fit. At least one of what tells shares apart is named."""

    by: Annotated[OneLine, Field(max_length=100)]
    """The officer who wants it."""
    share_id: UUID | None = None
    plan_id: UUID | None = None
    case_reference: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    recipient: OrganisationCode | None = None
    subscriber: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    since: AwareDatetime | None = None
    """Asked for at this time or later."""
    satisfied_too: bool = False
    """Also what is satisfied: its subscriber looks into the record, and files again what is not there."""

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if not any((self.share_id, self.plan_id, self.case_reference, self.recipient, self.subscriber, self.since)):
            raise ContractError(
                "it is not said which shares are meant",
                "send share_id, plan_id, case_reference, recipient, subscriber or since",
            )
        return self


class To(Open):
    recipient: str
    """Name of an organisation; for a person the council's reference, never a name."""
    subscriber: str
    shares: int


class WouldSend(Open):
    """What sending again would come to."""

    shares: int
    recipients: int
    to: tuple[To, ...]
    """The fifty with the most."""


class JobState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


class SendingAgain(Open):
    job_id: UUID
    state: JobState
    by: str
    total: int
    """When it was begun; what is satisfied meanwhile is left out."""
    sent: int
    begun_at: datetime
    ended_at: datetime | None


class SendingsAgain(Open):
    jobs: tuple[SendingAgain, ...]
    """The newest first, at most a hundred."""
