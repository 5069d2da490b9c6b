"""What happens to a plan besides being issued: what comes into ``POST /v1/plans/{plan_id}/events``, one model for each.

Each is a decision or a fact of the council, said by an officer (``by``: the council's own id of that person, never a name).
A document, such as a review's report or a letter, comes beside it as a file. Which event is allowed in which state, and who
is told: ``services/ehcp_publisher/lifecycle.py``.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self, get_args
from uuid import UUID

from pydantic import AwareDatetime, Field, TypeAdapter, model_validator

from schemas.base import Closed, ContractError, RecipientKind
from schemas.identifiers import LaCode, Organisation
from schemas.plan import Child, Family, IsoDate, Organisations, People, Placements, Prose, Reference


class PlanState(StrEnum):
    LIVE = "live"
    CEASING = "ceasing"
    """The family has notice; the plan is in force until the appeal time ends, and nobody's copy changes."""
    CEASED = "ceased"
    TRANSFERRED = "transferred"
    """To a council outside this exchange."""


class CeaseReason(StrEnum):
    """The reasons of the SEN2 return, 1 to 9 in this order."""

    MAXIMUM_AGE = "maximum_age"
    NEEDS_MET = "needs_met"
    HIGHER_EDUCATION = "higher_education"
    EMPLOYED = "employed"
    TRANSFER = "transfer"
    NO_ENGAGEMENT = "no_engagement"
    LEFT_ENGLAND = "left_england"
    DECEASED = "deceased"
    OTHER = "other"


class Recorded(Closed):
    by: Reference
    """The council's own id of the officer who decided or recorded it."""


class LeftOut(Closed):
    """Somebody who is not to be told: of the family by the reference, or an organisation by its code."""

    member: Reference | None = None
    organisation: Organisation | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.member is None) == (self.organisation is None):
            raise ContractError(
                "it does not say who is left out",
                "send one of member, the reference of somebody of the family, and organisation",
            )
        return self


class Told(Recorded):
    """An event of which the law has people told, by a notice to each of them."""

    not_to: Annotated[tuple[LeftOut, ...], Field(max_length=50)] = ()
    """Who of them is not told: a report may hold one parent's address, and the other must not have it."""
    not_to_reason: Annotated[Prose, Field(min_length=1, max_length=500)] | None = None
    """Why the council does not tell whom the law names."""

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if bool(self.not_to) != (self.not_to_reason is not None):
            raise ContractError(
                "not_to and not_to_reason do not fit together",
                "send both where somebody is left out who must be told by law, else neither",
            )
        return self


class CeaseNotice(Told):
    """The council tells of its decision to cease the plan (reg 31(2)). Withdraws nothing."""

    type: Literal["cease_notice"] = "cease_notice"
    notified_on: IsoDate
    ceases_on: IsoDate
    reason: CeaseReason
    appeal_until: IsoDate | None = None
    """Until when the family may appeal; the plan cannot cease before."""

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.ceases_on < self.notified_on:
            raise ContractError("ceases_on is before notified_on", "check which of the two dates has the typing error")
        return self


class Cease(Recorded):
    """The plan has ceased: copies get no more updates and stay under their holders' retention."""

    type: Literal["cease"] = "cease"
    ceased_on: IsoDate
    reason: CeaseReason
    notified_on: IsoDate | None = None
    """When the family was told, where the exchange had no cease notice (plans that ceased before they came here)."""
    appeal_decided: bool = False
    """An appeal was decided for the council, before ``appeal_until``."""

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.notified_on is not None and self.ceased_on < self.notified_on:
            raise ContractError("ceased_on is before notified_on", "check which of the two dates has the typing error")
        return self


class ReopenReason(StrEnum):
    APPEAL_SUCCEEDED = "appeal_succeeded"
    NOTICE_WITHDRAWN = "notice_withdrawn"
    CEASED_BY_MISTAKE = "ceased_by_mistake"


class Reopen(Recorded):
    """The plan is in force again: everyone who should hold it is to hold its current version."""

    type: Literal["reopen"] = "reopen"
    reopened_on: IsoDate
    reason: ReopenReason


class Transfer(Recorded):
    """The family moved to another council's area (SEND Regulations 2014 reg 15)."""

    type: Literal["transfer"] = "transfer"
    to_la_code: LaCode
    moved_on: IsoDate
    aware_on: IsoDate
    """When the old council became aware; it has 15 working days from then, or the day of the move."""
    case_reference: Reference | None = None
    """The new council's own reference; without one the old council's stays."""


class PastReview(Closed):
    """A review that was held before the plan came to the exchange, or while another council had it."""

    review: Reference
    held_on: IsoDate
    reported_on: IsoDate | None = None
    decision: "ReviewOutcome | None" = None
    """May be missing where only the day is known: the next review is due after it, whatever was decided."""
    decided_on: IsoDate | None = None

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.decision is not None and self.decided_on is None:
            raise ContractError("decision is there without decided_on", "send the day of the decision too")
        if self.decided_on is not None and self.decided_on < self.held_on:
            raise ContractError("decided_on is before held_on", "check which of the two dates has the typing error")
        return self


class TakenOver(Recorded):
    """The plan came from a council outside this exchange, with the reviews that were held there. Nobody is told of them again;
    from here on they count for when the next is due."""

    type: Literal["taken_over"] = "taken_over"
    from_la_code: LaCode
    transferred_on: IsoDate
    """From here the family is to be told within six weeks (reg 15(4))."""
    reviews: Annotated[tuple[PastReview, ...], Field(max_length=200)] = ()


class ReviewsBefore(Recorded):
    """Reviews that the council held before the plan came to the exchange. Nobody is told of them again; the next is due after
    the last of them."""

    type: Literal["reviews_before"] = "reviews_before"
    reviews: Annotated[tuple[PastReview, ...], Field(min_length=1, max_length=200)]


class TransferTold(Recorded):
    """The council that has the plan now told the family that it has, whether it will assess, and when it will review
    (reg 15(4))."""

    type: Literal["transfer_told"] = "transfer_told"
    told_on: IsoDate


class ChildCorrected(Recorded):
    """Who the child is was wrong, or is known better now: the whole of it as it should be. Reaches every holder."""

    type: Literal["child_corrected"] = "child_corrected"
    child: Child


class PlacementChanged(Recorded):
    """All placements as they are now: a school move, a second school from September."""

    type: Literal["placement_changed"] = "placement_changed"
    placements: Placements
    changed_on: IsoDate


class CommissionerChanged(Recorded):
    """All responsible commissioning bodies as they are now (reg 16)."""

    type: Literal["commissioner_changed"] = "commissioner_changed"
    commissioning_bodies: Organisations
    changed_on: IsoDate


class FamilyChanged(Recorded):
    """All parents, or the young person, as they are now: somebody moved, came or went."""

    type: Literal["family_changed"] = "family_changed"
    family: Family
    changed_on: IsoDate


class InvolvedChanged(Recorded):
    """Everyone who gives advice or provision, or is named, as it is now."""

    type: Literal["involved_changed"] = "involved_changed"
    involved: People
    changed_on: IsoDate


class CareChanged(Recorded):
    """Where the child lives and who looks after it; what is left out is so no more."""

    type: Literal["care_changed"] = "care_changed"
    looked_after_by: LaCode | None = None
    resident_in: LaCode | None = None
    detained_at: Organisation | None = None
    changed_on: IsoDate


class ReviewScheduled(Told):
    """A review meeting has a date. Invitations go out with two weeks' notice (reg 20(2), (3))."""

    type: Literal["review_scheduled"] = "review_scheduled"
    review: Reference
    """The council's own reference of this review."""
    meeting_on: IsoDate


class ReviewHeld(Told):
    """The meeting was held. With a document, that is its report: due two weeks after the meeting."""

    type: Literal["review_held"] = "review_held"
    review: Reference
    held_on: IsoDate


class ReviewOutcome(StrEnum):
    MAINTAIN = "maintain"
    AMEND = "amend"
    CEASE = "cease"


class ReviewDecided(Told):
    """The council's decision after a review, due four weeks after the meeting."""

    type: Literal["review_decided"] = "review_decided"
    review: Reference
    decision: ReviewOutcome
    decided_on: IsoDate


class RecallReason(StrEnum):
    WRONG_CHILD = "wrong_child"
    """The version holds another child's data: everyone removes it, and it is not the plan's any more."""
    WRONG_RECIPIENT = "wrong_recipient"
    """It reached somebody who should not have it."""


class Recall(Recorded):
    """A version must be removed where it should not be, and the removal proved."""

    type: Literal["recall"] = "recall"
    version_id: UUID
    reason: RecallReason
    shares: Annotated[tuple[UUID, ...], Field(max_length=1_000)] = ()
    """Whose copies; for ``wrong_recipient``. A version of the wrong child is recalled from everyone."""
    aware_at: AwareDatetime
    """When the council became aware: the 72 hours count from then."""

    @model_validator(mode="after")
    def _who(self) -> Self:
        if (self.reason is RecallReason.WRONG_RECIPIENT) != bool(self.shares):
            raise ContractError(
                "reason and shares do not fit together",
                "name the shares for wrong_recipient; leave shares out for wrong_child, which concerns everyone",
            )
        return self


class RestrictionReason(StrEnum):
    HIDDEN_ADDRESS = "hidden_address"
    COURT_ORDER = "court_order"
    SAFEGUARDING = "safeguarding"
    WRONG_CHILD_SUSPECTED = "wrong_child_suspected"


class Restrict(Recorded):
    """Nothing more leaves, to anyone, until a named person lifts it. A plan may be restricted for several reasons at once."""

    type: Literal["restrict"] = "restrict"
    reason: RestrictionReason


class Lift(Recorded):
    """The restriction is over. Another reason that stands still holds the plan."""

    type: Literal["lift"] = "lift"
    reason: RestrictionReason | None = None
    """Which restriction; may be left out where the plan has only one."""


class Objection(Recorded):
    """Somebody of the family objects to a share. Recorded and shown; what follows from it is for people to decide."""

    type: Literal["objection"] = "objection"
    from_reference: Reference
    """The family member's reference."""
    about: Organisation | None = None
    """The organisation whose share it is about; without one, all discretionary ones."""
    received_on: IsoDate
    text: Annotated[Prose, Field(max_length=10_000)] = ""


class Decide(Recorded):
    """Share with somebody, or no longer, by a decision of its own (reg 17): with lawful basis and reason. After a recall it
    lets the recipient have the plan again."""

    type: Literal["decide"] = "decide"
    organisation: Organisation | None = None
    kind: RecipientKind | None = None
    """As what the organisation is meant, where its code is registered as several: a trust, or its mental health service."""
    member: Reference | None = None
    """Instead of an organisation, the reference of a parent or of the young person."""
    share: bool
    lawful_basis: Annotated[Prose, Field(min_length=1, max_length=500)]
    reason: Annotated[Prose, Field(min_length=1, max_length=500)]
    until: IsoDate | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.organisation is None) == (self.member is None):
            raise ContractError(
                "it does not say about whom it is", "send one of organisation, and member for somebody of the family"
            )
        if self.kind is not None and (self.member is not None or self.kind in ("parent", "young_person")):
            raise ContractError("kind is of an organisation", "leave kind out for somebody of the family")
        return self


class Confirm(Recorded):
    """A second person confirms, or refuses, a share with an unusual recipient; or releases or rejects what the guard held."""

    type: Literal["confirm"] = "confirm"
    recipient_id: UUID | None = None
    version_id: UUID | None = None
    """Of the version, or the notice, that was held."""
    share: bool

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if (self.recipient_id is None) == (self.version_id is None):
            raise ContractError(
                "it must be about a recipient or a version",
                "send either recipient_id or version_id, as /v1/confirmations has it",
            )
        return self


class Adoption(Recorded):
    """The child was adopted: this plan ends here without a trace to the new one, which begins under a new reference."""

    type: Literal["adoption"] = "adoption"
    adopted_on: IsoDate


class Death(Recorded):
    """The child has died: the plan ceases, and nothing more is sent to the family, no reminder either."""

    type: Literal["death"] = "death"
    died_on: IsoDate


PlanEvent = Annotated[
    CeaseNotice | Cease | Reopen | Transfer | TakenOver | TransferTold | ReviewsBefore | ChildCorrected | PlacementChanged
    | CommissionerChanged | FamilyChanged | InvolvedChanged | CareChanged | ReviewScheduled | ReviewHeld | ReviewDecided
    | Recall | Restrict | Lift | Objection | Decide | Confirm | Adoption | Death,
    Field(discriminator="type"),
]  # fmt: skip

PLAN_EVENT: TypeAdapter[PlanEvent] = TypeAdapter(PlanEvent)
EVENT_MODELS: dict[str, type[Recorded]] = {
    model.model_fields["type"].default: model for model in get_args(get_args(PlanEvent)[0])
}
"""Each event's model by its ``type``."""


class EventLine(Closed):
    """An event, as one line of a batch."""

    plan_id: UUID
    event: PlanEvent
