"""What may happen to a plan in which state, and in which state it is then. One table; pure.

``live`` -> ``ceasing`` (notice) -> ``ceased``, or ``transferred`` to a council elsewhere; back to ``live`` when an appeal
succeeds or the notice is withdrawn. A draft is not ours. The database has the same pairs in a trigger (migration 002). Which
event tells whom is in :data:`NOTICES`; what follows for the shares is decided anew after each event (``deciding``).
"""

from collections.abc import Mapping
from datetime import date

from schemas.events import EventType
from schemas.lifecycle import Cease, CeaseNotice, PlanEvent, PlanState
from schemas.notices import NoticeKind
from services.shared.web.problems import FieldError, Problem

NEW_VERSION = "new_version"
"""A further version, among the events."""

_LIVE, _CEASING, _CEASED, _TRANSFERRED = PlanState
_IN_FORCE = (_LIVE, _CEASING)
_ALWAYS = tuple(PlanState)

_STAYS: Mapping[str, tuple[PlanState, ...]] = {
    NEW_VERSION: _IN_FORCE,  # the duty to review and amend lasts until the plan has ceased
    "taken_over": _IN_FORCE,
    "transfer_told": _IN_FORCE,
    "reviews_before": _IN_FORCE,
    "child_corrected": _IN_FORCE,
    "placement_changed": _IN_FORCE,
    "commissioner_changed": _IN_FORCE,
    "family_changed": _IN_FORCE,
    "involved_changed": _IN_FORCE,
    "care_changed": _IN_FORCE,
    "review_scheduled": _IN_FORCE,
    "review_held": _IN_FORCE,
    "review_decided": _IN_FORCE,
    "objection": _IN_FORCE,
    "decide": _IN_FORCE,
    "confirm": _IN_FORCE,
    # A wrong copy must go, and a dangerous one must be held, whatever has become of the plan.
    "recall": _ALWAYS,
    "restrict": _ALWAYS,
    "lift": _ALWAYS,
}

TRANSITIONS: Mapping[tuple[PlanState, str], PlanState] = {
    **{(state, type_): state for type_, states in _STAYS.items() for state in states},
    (_LIVE, "cease_notice"): _CEASING,
    (_CEASING, "cease_notice"): _CEASING,  # other dates
    (_LIVE, "cease"): _CEASED,  # only with notified_on: the family was told before the plan came here
    (_CEASING, "cease"): _CEASED,
    (_CEASING, "reopen"): _LIVE,
    (_CEASED, "reopen"): _LIVE,
    **{(state, "transfer"): _TRANSFERRED for state in _IN_FORCE},  # within the exchange it stays what it is
    **{(state, type_): _CEASED for state in _IN_FORCE for type_ in ("adoption", "death")},
}

EVENTS: Mapping[str, EventType] = {
    "cease_notice": EventType.PLAN_CEASING,
    "cease": EventType.PLAN_CEASED,
    "adoption": EventType.PLAN_CEASED,
    "death": EventType.PLAN_CEASED,
    "reopen": EventType.PLAN_REOPENED,
    "transfer": EventType.PLAN_TRANSFERRED,
    "recall": EventType.PLAN_RECALLED,
    "child_corrected": EventType.CHILD_CORRECTED,
    "placement_changed": EventType.PLACEMENT_CHANGED,
    "commissioner_changed": EventType.COMMISSIONER_CHANGED,
    "review_scheduled": EventType.REVIEW_SCHEDULED,
    "review_held": EventType.REVIEW_HELD,
    "review_decided": EventType.REVIEW_DECIDED,
}
"""What goes to everyone allowed. The others are the council's own matter: who parents are, or that a plan is restricted."""

NOTICES: Mapping[str, NoticeKind] = {
    "cease_notice": NoticeKind.CEASE_NOTICE,
    "review_scheduled": NoticeKind.REVIEW_INVITATION,
    "review_held": NoticeKind.REVIEW_REPORT,
    "review_decided": NoticeKind.REVIEW_DECISION,
}

SENT_ON: Mapping[NoticeKind, str] = {
    NoticeKind.REVIEW_INVITATION: "invited_on",
    NoticeKind.REVIEW_REPORT: "reported_on",
}
"""Of a review, the day on which its notice went out: what the law's clock for it waits for."""


def allowed(state: PlanState) -> list[str]:
    """What may happen to a plan in this state, in alphabetical order."""
    return sorted(type_ for from_, type_ in TRANSITIONS if from_ is state)


def after(state: PlanState, type_: str) -> PlanState:
    """The state after this event; raises :class:`Problem` that names the state and what is allowed from it."""
    following = TRANSITIONS.get((state, type_))
    if following is None:
        what = "A new version" if type_ == NEW_VERSION else f"The event {type_}"
        raise Problem(
            409, "not-in-this-state", f"The plan is {state}",
            f"{what} is not possible now. From {state}: {', '.join(allowed(state))}.",
            extra={"state": state, "allowed": allowed(state)},
        )  # fmt: skip
    return following


def check_cease(state: PlanState, event: Cease, appeal_until: date | None) -> None:
    """A plan stays in force until the family was told and the appeal time is over or the appeal decided (CFA 2014 s.45(4))."""
    if state is PlanState.LIVE and event.notified_on is None:
        raise Problem(
            409, "no-cease-notice", "The family has had no cease notice",
            "Send a cease_notice first; or notified_on, when the family was told before the plan came to the exchange.",
            [FieldError("event/notified_on", "there was no cease notice", "the day on which the family was told")],
        )  # fmt: skip
    if appeal_until is not None and event.ceased_on <= appeal_until and not event.appeal_decided:
        raise Problem(
            409, "appeal-time", "The time for an appeal is not over",
            f"The family may appeal until {appeal_until}, and ceased_on is {event.ceased_on}: until then the plan stays in "
            "force, and everyone keeps their copy.",
            [FieldError("event/ceased_on", "it is not after appeal_until", "a later day, or appeal_decided")],
        )  # fmt: skip


def check_cease_notice(event: CeaseNotice) -> None:
    if event.appeal_until is not None and event.appeal_until < event.notified_on:
        raise Problem(
            422, "dates", "The appeal time ends before the notice",
            f"appeal_until is {event.appeal_until}, and notified_on is {event.notified_on}. Nothing was changed.",
            [FieldError("event/appeal_until", "it is before notified_on", "the last day on which the family may appeal")],
        )  # fmt: skip


_ENDS = frozenset({"cease_notice", "cease", "reopen", "transfer", "adoption", "death"})
AROUND = frozenset({"placement_changed", "commissioner_changed", "family_changed", "involved_changed", "care_changed"})


def about(event: PlanEvent) -> str:
    """What the event is about: a repeat of the last word about the same thing changes nothing, whatever else came between."""
    if event.type in _ENDS:
        return "end"
    for name in ("review", "organisation", "member", "recipient_id", "version_id"):
        if (value := getattr(event, name, None)) is not None:
            return f"{event.type}:{value}"
    return "restriction" if event.type in ("restrict", "lift") else event.type


def lasts(event: PlanEvent) -> bool:
    """Whether a new version leaves standing what the event said; it brings circumstances of its own."""
    return event.type not in AROUND
