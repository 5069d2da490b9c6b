"""What follows from an event: the plan's next state, its circumstances, whom to tell. Pure; refuses what cannot be.

Every event of the contract has its function here; which state it is allowed in is ``lifecycle``'s, what it means for the shares
is decided anew by ``deciding``. Next: ``events`` writes it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any
from uuid import UUID

from schemas.base import Grounds, RecipientKind
from schemas.identifiers import OrganisationCode
from schemas.lifecycle import (
    Adoption,
    CareChanged,
    Cease,
    CeaseNotice,
    CeaseReason,
    ChildCorrected,
    CommissionerChanged,
    Confirm,
    Death,
    Decide,
    FamilyChanged,
    InvolvedChanged,
    Lift,
    Objection,
    PastReview,
    PlacementChanged,
    PlanEvent,
    PlanState,
    Recall,
    RecallReason,
    Reopen,
    ReopenReason,
    Restrict,
    RestrictionReason,
    ReviewDecided,
    ReviewHeld,
    ReviewsBefore,
    ReviewScheduled,
    TakenOver,
    Transfer,
    TransferTold,
)
from schemas.notices import Notice, NoticeKind
from schemas.plan import Child, Circumstances, FamilyMember, PlanVersion
from services.ehcp_publisher import families, lifecycle
from services.ehcp_publisher.deciding import IN_FORCE
from services.ehcp_publisher.registry import Directory, organisation_id, person_id
from services.ehcp_publisher.shares import FAMILY, Decided, Decision
from services.ehcp_publisher.store import KnownPlan
from services.ehcp_publisher.versions import Issued
from services.shared.law import PLANS_SINCE, due
from services.shared.law.counting import london_date
from services.shared.law.rules import clock
from services.shared.postgres.pool import Row
from services.shared.web.problems import FieldError, Problem


@dataclass(frozen=True, slots=True)
class Before:
    """The plan as it is when the event comes."""

    plan: KnownPlan
    current: Issued | None
    """The current version, and its text, once the event has happened: without the one that it recalls as another child's, with
    the one that it releases."""
    version: PlanVersion | None
    child: Child
    circumstances: Circumstances
    """Who is around the child; where the event gives the plan another current version, by what that one says."""
    review: Row | None
    """The review that the event names, as it is known."""
    confirmation: Row | None
    """The confirmation that the event is about."""
    decided: Decided | None
    directory: Directory
    has_document: bool
    """A file came with the event."""
    ends: tuple[tuple[str, date], ...] = ()
    """The events about the plan's end and its way back, with their days, in the order in which they were recorded."""
    came_on: date | None = None
    """Since when the plan's council has it, where another had it before."""

    def day_of(self, *types: str) -> date | None:
        """The day of the newest of these among the events about the plan's end."""
        return next((on for type_, on in reversed(self.ends) if type_ in types), None)

    hold: Row | None = None
    """What the guard held, that the event is about."""
    replaces_current: bool = False
    """The plan has another current version by this event."""
    people: tuple[FamilyMember, ...] = ()
    """Where something is or was held: everyone of the family who was ever to get the plan, as they were named last."""


@dataclass(frozen=True, slots=True)
class Telling:
    """A notice, and the event of the law's rows that says who gets it."""

    event: str
    notice: Notice


@dataclass(frozen=True, slots=True)
class Consequences:
    happened_on: date
    state: PlanState
    plan: Mapping[str, Any] = field(default_factory=dict)
    """Columns of the plan."""
    child_columns: Mapping[str, Any] = field(default_factory=dict)
    child: Child | None = None
    """The child as it is from now on, where that changed."""
    circumstances: Circumstances | None = None
    review: tuple[str, Mapping[str, Any]] | None = None
    past_reviews: tuple[PastReview, ...] = ()
    """Of the time before the plan came here."""
    telling: Telling | None = None
    decision: Decision | None = None
    confirmed: tuple[UUID, bool] | None = None
    familiar: UUID | None = None
    """An organisation that is confirmed for all plans of the council."""
    looked_at: tuple[UUID, bool] | None = None
    """What was held, and whether it is released."""
    to_council: str | None = None
    """Of this exchange."""
    quiet: bool = False
    """Nothing more reaches the family."""
    doubts: Mapping[str, str] = field(default_factory=dict)
    """New ones about the family."""
    warnings: tuple[str, ...] = ()


_Rule = Callable[[Any, Before, date, PlanState], Consequences]


def consequences(event: PlanEvent, before: Before, today: date) -> Consequences:
    """Raises :class:`Problem`."""
    # Somebody must look at what is held, whatever has become of the plan.
    looks = isinstance(event, Confirm) and event.version_id is not None
    state = before.plan.state if looks else lifecycle.after(before.plan.state, event.type)
    follows = _RULES[type(event)](event, before, today, state)
    if before.child.date_of_birth > follows.happened_on and follows.child is None:
        # The day of birth itself is not for an error text.
        raise _order("The child was not born yet", f"The event is of {follows.happened_on}, before the child's date of birth.")
    return follows


# --- the plan's end, and its way back ---


def _cease_notice(event: CeaseNotice, before: Before, today: date, state: PlanState) -> Consequences:
    lifecycle.check_cease_notice(event)
    _happened(event.notified_on, "notified_on", today)
    _not_before_it_came(event.notified_on, "notified_on", before)
    text = f"The council has decided to cease the plan on {_day(event.ceases_on)}. It stays in force until then"
    text += f", and while an appeal is possible, until {_day(event.appeal_until)}." if event.appeal_until else "."
    notice = Notice(
        kind=NoticeKind.CEASE_NOTICE, happened_on=event.notified_on, text=text, ceases_on=event.ceases_on,
        appeal_until=event.appeal_until, cease_reason=event.reason,
    )  # fmt: skip
    columns = {"ceases_on": event.ceases_on, "appeal_until": event.appeal_until, "cease_reason": event.reason}
    return Consequences(event.notified_on, state, columns, telling=Telling("cease_notice", notice))


def _cease(event: Cease, before: Before, today: date, state: PlanState) -> Consequences:
    _happened(event.ceased_on, "ceased_on", today)
    if event.reason is CeaseReason.DECEASED:
        # An extract tells of a death this way: no appeal to wait for, and no word more to the family.
        return replace(_ended(event.ceased_on, state, event.reason, died=True), quiet=True)
    lifecycle.check_cease(before.plan.state, event, before.plan.appeal_until)
    _not_before_it_came(event.ceased_on, "ceased_on", before)
    if before.plan.state is PlanState.CEASING:
        _in_order(event.ceased_on, "ceased_on", before.day_of("cease_notice"), "the family had the cease notice")
    if before.current and before.current.issued_on <= today:
        _in_order(event.ceased_on, "ceased_on", before.current.issued_on, f"version {before.current.number} was issued")
    return _ended(event.ceased_on, state, event.reason)


def _ended(on: date, state: PlanState, reason: CeaseReason, **columns: Any) -> Consequences:
    ended = {"ceases_on": on, "cease_reason": reason, "decide_on": None} | columns
    return Consequences(on, state, ended, child_columns={"findable": False})


def _reopen(event: Reopen, before: Before, today: date, state: PlanState) -> Consequences:
    _happened(event.reopened_on, "reopened_on", today)
    if before.plan.state is PlanState.CEASED:
        _in_order(event.reopened_on, "reopened_on", before.day_of("cease", "death", "adoption"), "the plan ceased")
    else:
        _in_order(event.reopened_on, "reopened_on", before.day_of("cease_notice"), "the family had the cease notice")
    columns = {"ceases_on": None, "appeal_until": None, "cease_reason": None, "died": False}
    found = {"findable": True} if before.plan.state is PlanState.CEASED else {}
    reopened = Consequences(event.reopened_on, state, columns, child_columns=found)
    ended_by = before.ends[-1][0] if before.ends else None
    if ended_by not in ("adoption", "death"):
        return reopened
    if event.reason is not ReopenReason.CEASED_BY_MISTAKE:
        raise Problem(
            409, "order", f"The plan ended by the child's {ended_by}", "Only what was recorded by mistake is taken back.",
            [FieldError("event/reason", "it does not fit how the plan ended", "ceased_by_mistake, where it was recorded of the "
                        "wrong plan")],
        )  # fmt: skip
    if ended_by == "death":
        return reopened
    # One slip must not send the plan to the family that the child no longer has.
    held = _held_for(dict.fromkeys([*before.plan.restrictions, RestrictionReason.SAFEGUARDING.value]), today, state)
    return replace(
        reopened, plan={**columns, **held.plan},
        warnings=("The plan ended by an adoption: it is restricted, until somebody has looked whose it is and lifts that.",),
    )  # fmt: skip


def _death(event: Death, _: Before, today: date, state: PlanState) -> Consequences:
    _happened(event.died_on, "died_on", today)
    return replace(_ended(event.died_on, state, CeaseReason.DECEASED, died=True), quiet=True)


def _adoption(event: Adoption, _: Before, today: date, state: PlanState) -> Consequences:
    _happened(event.adopted_on, "adopted_on", today)
    # The family that the plan names is no longer the child's.
    return replace(_ended(event.adopted_on, state, CeaseReason.OTHER), quiet=True)


def _transfer(event: Transfer, before: Before, today: date, state: PlanState) -> Consequences:
    _happened(event.moved_on, "moved_on", today)
    _happened(event.aware_on, "aware_on", today)
    plan = before.plan
    if event.to_la_code == plan.la_code:
        raise Problem(
            422, "same-council", "The plan is this council's already", "Nothing was changed.",
            [FieldError("event/to_la_code", "it is the plan's own council", "the council of the new home")],
        )  # fmt: skip
    _not_before_it_came(event.moved_on, "moved_on", before)
    if before.came_on and event.moved_on < before.came_on:
        raise Problem(
            409, "order", "The child would have moved on before it came",
            f"This council has had the plan since {before.came_on}.",
            [FieldError("event/moved_on", "it is before the move that brought the plan here", "the day of this move")],
        )  # fmt: skip
    last = due.transfer(event.moved_on, event.aware_on)
    late = (f"It was due by {_day(last)} (15 working days, reg 15).",) if today > last else ()
    if event.to_la_code not in before.directory.councils:
        ended = _ended(event.moved_on, state, CeaseReason.TRANSFER)
        return replace(ended, warnings=(*late, "The new council is not in this exchange: export the plan and send it there."))
    columns = {"la_code": event.to_la_code, "case_reference": event.case_reference or plan.case_reference}
    return Consequences(event.moved_on, plan.state, columns, to_council=event.to_la_code, warnings=late)


def _taken_over(event: TakenOver, before: Before, today: date, state: PlanState) -> Consequences:
    _happened(event.transferred_on, "transferred_on", today)
    if event.from_la_code == before.plan.la_code:
        raise Problem(
            422, "same-council", "The plan is this council's already", "Nothing was changed.",
            [FieldError("event/from_la_code", "it is the plan's own council", "the council that had it before")],
        )  # fmt: skip
    _past(event.reviews, today)
    return Consequences(event.transferred_on, state, past_reviews=event.reviews)


def _reviews_before(event: ReviewsBefore, _: Before, today: date, state: PlanState) -> Consequences:
    _past(event.reviews, today)
    return Consequences(today, state, past_reviews=event.reviews)


def _past(reviews: Iterable[PastReview], today: date) -> None:
    for place, review in enumerate(reviews):
        for name in ("held_on", "reported_on", "decided_on"):
            if (day := getattr(review, name)) is not None:
                _happened(day, f"reviews/{place}/{name}", today)


def _transfer_told(event: TransferTold, _: Before, today: date, state: PlanState) -> Consequences:
    _happened(event.told_on, "told_on", today)
    return Consequences(event.told_on, state)


# --- the child, and who is around it ---


def _child_corrected(event: ChildCorrected, before: Before, today: date, state: PlanState) -> Consequences:
    first = min((each.issued_on for each in before.plan.versions), default=today)
    if event.child.date_of_birth > first:
        raise Problem(
            422, "dates", "The child would be born after its plan was issued",
            f"It was issued first on {first}. Nothing was changed.",
            [FieldError("event/child/date_of_birth", "it is after the first date of issue", "the right date of birth")],
        )  # fmt: skip
    return Consequences(today, state, child=event.child)


AroundChanged = PlacementChanged | CommissionerChanged | FamilyChanged | InvolvedChanged | CareChanged


def _around_changed(event: AroundChanged, before: Before, today: date, state: PlanState) -> Consequences:
    _not_before_plans(event.changed_on, "changed_on")
    if not isinstance(event, PlacementChanged):  # placements have days of their own; the others hold from now on
        _happened(event.changed_on, "changed_on", today)
    doubts: Mapping[str, str] = {}
    named: Mapping[str, Any] = {}
    if isinstance(event, FamilyChanged):
        plan_id, known = before.plan.plan_id, before.circumstances.family
        doubts = families.taken_out(plan_id, known, event.family) | families.renamed(plan_id, known, event.family)
        # Whom the event itself brings back, it means.
        back = {str(person_id(plan_id, member.reference)) for member in event.family}
        stay = {key: why for key, why in before.plan.doubts.items() if key not in back or why != families.Doubt.TAKEN_OUT}
        named = {"doubts": stay} if stay != before.plan.doubts else {}
    around = circumstances_after(before.circumstances, [event])
    return Consequences(event.changed_on, state, named, circumstances=around, doubts=doubts)


def circumstances_after(around: Circumstances, events: Iterable[PlanEvent]) -> Circumstances:
    """Who is around the child after these events, in their order."""
    for event in events:
        if isinstance(event, AroundChanged):
            around = around.model_copy(update={name: getattr(event, name) for name in _CHANGED[type(event)]})
    return around


_CHANGED: Mapping[type[Any], tuple[str, ...]] = {
    PlacementChanged: ("placements",),
    CommissionerChanged: ("commissioning_bodies",),
    FamilyChanged: ("family",),
    InvolvedChanged: ("involved",),
    CareChanged: ("looked_after_by", "resident_in", "detained_at"),
}


# --- reviews ---


def _review_scheduled(event: ReviewScheduled, before: Before, today: date, state: PlanState) -> Consequences:
    if before.review and before.review["held_on"]:
        raise _order(
            "The review was held already",
            f"It was held on {before.review['held_on']}, and meeting_on is {event.meeting_on}.", "meeting_on",
        )  # fmt: skip
    notice = Notice(
        kind=NoticeKind.REVIEW_INVITATION, happened_on=today, review=event.review, meeting_on=event.meeting_on,
        text=f"A meeting to review the plan is on {_day(event.meeting_on)}. You are invited to it, or to send advice "
        "beforehand.",
    )  # fmt: skip
    short = clock("review_invitation", event.meeting_on).due(event.meeting_on) < today
    warnings = ("The meeting is in less than two weeks: reg 20(3) asks for two weeks' notice.",) if short else ()
    if event.meeting_on < today:
        past = f"meeting_on is {event.meeting_on}, and today is {today}. A meeting that was held is a review_held event."
        raise _order("The meeting would be in the past", past, "meeting_on")
    review = (event.review, {"meeting_on": event.meeting_on, "invited_on": today})
    return Consequences(today, state, review=review, telling=Telling("review_invitation", notice), warnings=warnings)


def _review_held(event: ReviewHeld, before: Before, today: date, state: PlanState) -> Consequences:
    _happened(event.held_on, "held_on", today)
    if before.review and before.review["decided_on"] and event.held_on > before.review["decided_on"]:
        raise _order(
            "The decision would be before the meeting",
            f"It was on {before.review['decided_on']}, and held_on is {event.held_on}.", "held_on",
        )  # fmt: skip
    notice = Notice(
        kind=NoticeKind.REVIEW_REPORT, happened_on=event.held_on, review=event.review, meeting_on=event.held_on,
        text=f"The plan was reviewed on {_day(event.held_on)}. The report is attached.",
    )  # fmt: skip
    if not before.has_document:
        return Consequences(event.held_on, state, review=(event.review, {"held_on": event.held_on}))
    review = (event.review, {"held_on": event.held_on, "reported_on": today})
    return Consequences(event.held_on, state, review=review, telling=Telling("review_report", notice))


def _review_decided(event: ReviewDecided, before: Before, today: date, state: PlanState) -> Consequences:
    _happened(event.decided_on, "decided_on", today)
    held_on: date | None = before.review["held_on"] if before.review else None
    if held_on is None:
        raise Problem(
            409, "not-held", "The review was not held", "Send review_held with the day of the meeting first.",
            [FieldError("event/review", "no meeting is known", "the reference of a review that was held")],
        )  # fmt: skip
    if event.decided_on < held_on:
        raise _order(
            "The decision would be before the meeting",
            f"The meeting was on {held_on}, and decided_on is {event.decided_on}.", "decided_on",
        )  # fmt: skip
    words = {"maintain": "keep the plan as it is", "amend": "amend the plan", "cease": "cease the plan"}
    notice = Notice(
        kind=NoticeKind.REVIEW_DECISION, happened_on=event.decided_on, review=event.review, meeting_on=held_on,
        decision=event.decision, text=f"After the review of {_day(held_on)} the council decided to {words[event.decision]}.",
    )  # fmt: skip
    review = (event.review, {"decision": event.decision, "decided_on": event.decided_on})
    return Consequences(event.decided_on, state, review=review, telling=Telling("review_decision", notice))


# --- what people decide about shares ---


def _recall(event: Recall, before: Before, today: date, state: PlanState) -> Consequences:
    aware_on = london_date(event.aware_at)
    _happened(aware_on, "aware_at", today)
    if before.hold is not None and not before.hold["released"]:
        what = before.hold["kind"]
        raise Problem(
            409, "held", f"Nobody has this {what}", "It was held and never left: a confirm event with share false rejects it."
        )
    if event.reason is RecallReason.WRONG_CHILD and event.version_id in {each.version_id for each in before.plan.versions}:
        # What the recalled version said of family and schools was another child's too.
        return Consequences(aware_on, state, circumstances=before.circumstances)
    return Consequences(aware_on, state)


def _restrict(event: Restrict, before: Before, today: date, state: PlanState) -> Consequences:
    return _held_for(dict.fromkeys([*before.plan.restrictions, event.reason]), today, state)


def _lift(event: Lift, before: Before, today: date, state: PlanState) -> Consequences:
    standing = before.plan.restrictions
    if not standing:
        raise Problem(409, "not-restricted", "The plan is not restricted", "There is nothing to lift.")
    # Whoever clears up a suspicion must not let out the plan of a family in hiding.
    if event.reason is None and len(standing) > 1:
        raise Problem(
            409, "several-restrictions", "The plan is restricted for several reasons",
            f"It is held for {_and(standing)}; each is lifted by itself.",
            [FieldError("event/reason", "it does not say which restriction is over", "the reason that no longer holds")],
        )  # fmt: skip
    if event.reason is not None and event.reason not in standing:
        raise Problem(
            409, "not-restricted", "The plan is not restricted for this reason", f"It is held for {_and(standing)}.",
            [FieldError("event/reason", "no such restriction stands", "the reason that no longer holds")],
        )  # fmt: skip
    return _held_for([each for each in standing if event.reason is not None and each != event.reason], today, state)


def _held_for(reasons: Iterable[str], today: date, state: PlanState) -> Consequences:
    standing = list(reasons)
    return Consequences(today, state, {"restrictions": standing, "restricted": standing[0] if standing else None})


def _and(names: Iterable[str]) -> str:
    return " and ".join(name.replace("_", " ") for name in names)


def _objection(event: Objection, before: Before, today: date, state: PlanState) -> Consequences:
    _happened(event.received_on, "received_on", today)
    if event.from_reference not in {member.reference for member in before.circumstances.family}:
        raise _unknown_family("event/from_reference")
    return Consequences(event.received_on, state)


def _unknown_family(field_: str) -> Problem:
    return Problem(
        422, "unknown-family", "Nobody of the family has this reference", "Nothing was recorded.",
        [FieldError(field_, "it is nobody's reference", "the reference of a parent or young person")],
    )  # fmt: skip


def _decide(event: Decide, before: Before, today: date, state: PlanState) -> Consequences:
    if event.member is not None:
        if event.member not in {member.reference for member in before.circumstances.family}:
            raise _unknown_family("event/member")
        code, kind, recipient_id = None, None, person_id(before.plan.plan_id, event.member)
    else:
        assert event.organisation is not None
        code, kind, recipient_id = _meant(event, event.organisation, before.directory, today)
    owed = {
        each.recipient.recipient_id
        for each in (before.decided.wanted if before.decided else ())
        if any(ground.grounds is Grounds.STATUTORY for ground in each.grounds)
    }
    if not event.share and recipient_id in owed:
        raise Problem(
            409, "statutory", "This share is owed by law", "It ends when the plan does not name the organisation any more; a "
            "copy that went to the wrong recipient is recalled.",
        )  # fmt: skip
    _in_order(event.until, "until", today, "it is decided")
    decision = Decision(
        recipient_id, event.share, code if event.share else None, event.lawful_basis, event.reason, event.until, kind
    )
    return Consequences(today, state, decision=decision)


def _meant(
    event: Decide, code: OrganisationCode, directory: Directory, today: date
) -> tuple[OrganisationCode, RecipientKind | None, UUID]:  # fmt: skip
    """The organisation of a decision: what it is, and its id as a recipient."""
    kinds = frozenset({event.kind}) if event.kind else frozenset(RecipientKind) - FAMILY
    found = {kind: known for kind in sorted(kinds) if (known := directory.find(code, frozenset({kind}), today))}
    if len(found) > 1:
        raise Problem(
            422, "several-organisations", f"{code} is registered as {' and '.join(found)}", "Nothing was decided.",
            [FieldError("event/kind", "it is missing, and the code does not say which is meant", f"{' or '.join(found)}")],
        )  # fmt: skip
    if found:
        ((kind, known),) = found.items()
        return code, kind, known.recipient_id
    if event.share:
        raise Problem(
            422, "unknown-organisation", "The directory has no such organisation", "Nothing was decided.",
            [FieldError("event/organisation", directory.why_unknown(code, kinds, today),
                        "a registered code, or register it first")],
        )  # fmt: skip
    return code, event.kind, organisation_id(event.kind or RecipientKind.SCHOOL, code.scheme, code.value)


def _confirm(event: Confirm, before: Before, today: date, state: PlanState) -> Consequences:
    asked = before.confirmation
    if event.version_id is not None:
        return _look_at(event, event.version_id, before, today, state)
    if asked is None:
        raise Problem(404, "no-confirmation", "Nothing waits for a confirmation of this recipient", "See /v1/confirmations.")
    if asked["decided_by"] is not None:
        raise Problem(409, "confirmed", "A second person has decided already", f"It was decided by {asked['decided_by']}.")
    if asked["asked_by"].casefold() == event.by.casefold():
        raise Problem(
            409, "same-person", "A second person must confirm it",
            f"{event.by} brought the recipient in, so another officer confirms or refuses it.",
            [FieldError("event/by", "it is the person who asked", "another officer")],
        )  # fmt: skip
    assert event.recipient_id is not None
    familiar = event.recipient_id if event.share and asked["once"] else None
    return Consequences(today, state, confirmed=(event.recipient_id, event.share), familiar=familiar)


def _look_at(event: Confirm, thing_id: UUID, before: Before, today: date, state: PlanState) -> Consequences:
    """A second person has looked at what the guard held."""
    hold = before.hold
    if hold is None or hold["waived"]:
        raise Problem(404, "no-confirmation", "Nothing of this id is held", "See /v1/confirmations.")
    if hold["decided_by"] is not None:
        what = "released" if hold["released"] else "rejected"
        raise Problem(409, "confirmed", "A second person has decided already", f"It was {what} by {hold['decided_by']}.")
    if hold["asked_by"].casefold() == event.by.casefold():
        raise Problem(
            409, "same-person", "A second person must look at it",
            f"{event.by} brought it in, so another officer releases or rejects it.",
            [FieldError("event/by", "it is the person who brought it in", "another officer")],
        )  # fmt: skip
    if hold["kind"] == "notice" and event.share and state not in IN_FORCE:
        raise Problem(
            409, "not-in-this-state", f"The plan is {state}", "Nobody is told of it any more: reject the notice (share false)."
        )
    decided = Consequences(today, state, looked_at=(thing_id, event.share))
    if not before.replaces_current:
        return decided
    # A released version that is the current one from now on says who is around the child, but for what happened since. Who
    # looked at its text has said nothing about who a known reference is now.
    around = before.circumstances
    return replace(decided, circumstances=around, doubts=families.renamed(before.plan.plan_id, before.people, around.family))


_RULES: Mapping[type[Any], _Rule] = {
    CeaseNotice: _cease_notice, Cease: _cease, Reopen: _reopen, Death: _death, Adoption: _adoption, Transfer: _transfer,
    TakenOver: _taken_over, TransferTold: _transfer_told, ReviewsBefore: _reviews_before,
    ChildCorrected: _child_corrected, PlacementChanged: _around_changed, CommissionerChanged: _around_changed,
    FamilyChanged: _around_changed, InvolvedChanged: _around_changed, CareChanged: _around_changed,
    ReviewScheduled: _review_scheduled, ReviewHeld: _review_held, ReviewDecided: _review_decided, Recall: _recall,
    Restrict: _restrict, Lift: _lift, Objection: _objection, Decide: _decide, Confirm: _confirm,
}  # fmt: skip


def _happened(on: date, name: str, today: date) -> None:
    """A day of this plan's life: not ahead, and not before there were plans, where the law has no clock to count by."""
    if on > today:
        raise Problem(
            422, "in-future", "This has not happened yet", "Send the event when it has happened.",
            [FieldError(f"event/{name}", "it is in the future", "a day up to today")],
        )  # fmt: skip
    _not_before_plans(on, name)


def _not_before_plans(on: date, name: str) -> None:
    if on < PLANS_SINCE:
        raise Problem(
            422, "too-early", "There were no EHC plans on this day", "They exist since 1 September 2014; nothing was changed.",
            [FieldError(f"event/{name}", "it is before 1 September 2014", "the right day; often the year is mistyped")],
        )  # fmt: skip


def _not_before_it_came(on: date, name: str, before: Before) -> None:
    """What ends a plan comes after whatever brought it back, or to this council."""
    _in_order(on, name, before.day_of("reopen"), "the plan was reopened")
    _in_order(on, name, before.day_of("transfer"), "the plan came from another council")


def _in_order(on: date | None, name: str, after: date | None, what: str) -> None:
    if on is not None and after is not None and on < after:
        raise _order("The order of the days is impossible", f"{name} is {on}, and {what} on {after}.", name)


def _order(title: str, detail: str, name: str | None = None) -> Problem:
    fields = [FieldError(f"event/{name}", "the order is impossible", "check the dates")] if name else []
    return Problem(409, "order", title, detail, fields)


def _day(value: date) -> str:
    return f"{value.day} {value:%B %Y}"
