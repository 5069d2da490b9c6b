"""Which statutory clocks of a plan run, which run out soon or have, and what else of a plan waits for people. Pure.

Judged from what the council recorded and the law's rows (:mod:`services.shared.law`), so that silence is noticed: a review
that nobody ever recorded is as visible as a late one. A plan that has ended has no clocks, nor has one whose child died. An
alert is cleared when its reason is gone. ``now`` is the council's database clock; days are those of Europe/London.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from schemas.alerts import AlertKind, ClearedBecause
from schemas.lifecycle import ReviewOutcome
from services.shared.law import PLANS_SINCE, clock, due
from services.shared.law.counting import LONDON, london_date

DAY = timedelta(days=1)
WARN = {
    # Two weeks' notice of a meeting, and up to four from the meeting to the decision that completes the review.
    "review": timedelta(weeks=6),
    "review_invitation": timedelta(weeks=1),
    "review_report": timedelta(days=3),
    "review_decision": timedelta(weeks=1),
    "final_plan_after_notice": timedelta(weeks=2),
    "final_plan_after_meeting": timedelta(weeks=2),
    "transfer": timedelta(weeks=1),
    "tell_family_of_transfer": timedelta(weeks=2),
    # As long as the law gives from a review's meeting to the final plan.
    "phase_transfer": timedelta(weeks=12),
    "phase_transfer_to_post_16": timedelta(weeks=12),
}
"""How long before its last day a clock is told of. The exchange's own choice; no law says it."""


@dataclass(frozen=True, slots=True)
class Review:
    """``review`` is the council's own reference of it."""

    review: str
    meeting_on: date | None
    invited_on: date | None
    held_on: date | None
    reported_on: date | None
    decision: ReviewOutcome | None
    decided_on: date | None

    @property
    def meeting(self) -> date | None:
        return self.held_on or self.meeting_on


@dataclass(frozen=True, slots=True)
class Plan:
    """What the council's views say of it now."""

    plan_id: UUID
    la_code: str
    in_force: bool
    """Live or under notice to cease, and its child alive."""
    first_issued_on: date | None
    issued_on: date | None
    transferred_on: date | None
    lives_elsewhere_since: date | None
    """The day on which the council recorded that the child lives in another council's area."""
    reviews: tuple[Review, ...]
    gap_since: datetime | None
    """Of the oldest share gap."""
    waiting_since: datetime | None
    """Of the oldest confirmation that is asked for."""
    told_of_transfer: bool = False
    """The family was told, since the plan came here, by whom it is kept now."""
    phase_transfer: tuple[str, date] | None = None
    """The clock of a transfer between phases that no placement answers, and the day on which the new phase begins."""
    held_since: datetime | None = None
    """Of the oldest version or notice that the guard holds."""


@dataclass(frozen=True, slots=True)
class Running:
    """A clock whose act has not been done. ``warn_on`` is the first day on which people are told."""

    clock: str
    review: str | None
    due_on: date
    warn_on: date
    reference: str


@dataclass(frozen=True, slots=True)
class Trouble:
    kind: AlertKind
    due_at: datetime
    clock: str | None = None
    review: str | None = None
    reference: str | None = field(default=None, compare=False)


def running(plan: Plan, today: date) -> tuple[Running, ...]:
    if not plan.in_force:
        return ()
    reviewed_on = max((each.decided_on for each in plan.reviews if each.decided_on), default=None)
    # A meeting before the last decision led to it, or to nothing: it is nobody's task any more.
    open_ = [
        each
        for each in plan.reviews
        if each.decided_on is None and each.meeting is not None and (reviewed_on is None or each.meeting > reviewed_on)
    ]
    found = [*_next_review(plan, reviewed_on, open_)]
    for review in open_:
        found.extend(_until_decided(review, today))
    for review in plan.reviews:
        found.extend(_until_amended(plan, review))
    if plan.lives_elsewhere_since is not None:
        found.append(_running("transfer", plan.lives_elsewhere_since, None))
    if plan.transferred_on is not None and not plan.told_of_transfer:
        found.append(_running("tell_family_of_transfer", plan.transferred_on, None))
    if plan.phase_transfer is not None:
        id_, on = plan.phase_transfer
        found.append(_running(id_, on, None))
    return tuple(found)


def troubles(plan: Plan, now: datetime) -> tuple[Trouble, ...]:
    """All that people are to be told of this plan now."""
    if not plan.in_force:
        return ()
    today = london_date(now)
    found = [
        Trouble(_kind(each, today), end_of(each.due_on), each.clock, each.review, each.reference)
        for each in running(plan, today)
        if today >= each.warn_on
    ]
    if plan.gap_since is not None:
        found.append(Trouble(AlertKind.SHARE_GAP, plan.gap_since))
    if plan.waiting_since is not None:
        found.append(Trouble(AlertKind.UNCONFIRMED, plan.waiting_since))
    if plan.held_since is not None:
        found.append(Trouble(AlertKind.HELD, plan.held_since))
    return tuple(found)


def why_cleared(alert: Trouble, plan: Plan | None, now: datetime) -> ClearedBecause | None:
    """None while this trouble is there. ``plan`` is None when the council has no such plan any more."""
    if plan is None:
        return ClearedBecause.GONE
    there = troubles(plan, now)
    if alert.clock is None:
        return None if any(each.kind is alert.kind for each in there) else ClearedBecause.SETTLED
    if alert in there:
        return None
    for each in running(plan, london_date(now)):
        if (each.clock, each.review) == (alert.clock, alert.review):
            same_day = end_of(each.due_on) == alert.due_at
            return ClearedBecause.OVERDUE if same_day and now >= alert.due_at else ClearedBecause.NOT_DUE
    return ClearedBecause.SETTLED


def end_of(day: date) -> datetime:
    """The first moment that is too late."""
    return datetime.combine(day + DAY, time(), LONDON).astimezone(UTC)


def _kind(each: Running, today: date) -> AlertKind:
    return AlertKind.OVERDUE if today > each.due_on else AlertKind.DUE_SOON


def _next_review(plan: Plan, reviewed_on: date | None, open_: Sequence[Review]) -> Iterator[Running]:
    if plan.first_issued_on is None:
        return
    last = due.review(plan.first_issued_on, _counted(reviewed_on), _counted(plan.transferred_on))
    # A review whose meeting is arranged in time needs no warning; its own clocks see to the rest.
    arranged = any(each.meeting is not None and each.meeting <= last for each in open_)
    warn_on = last + DAY if arranged else last - WARN["review"]
    yield Running("review", None, last, warn_on, clock("review", plan.first_issued_on).reference)


def _counted(on: date | None) -> date | None:
    """The law has no clock for a day before there were plans: a mistyped year is told of as long overdue and stops no alert."""
    return on and max(on, PLANS_SINCE)


def _until_decided(review: Review, today: date) -> Iterator[Running]:
    meeting = review.meeting
    assert meeting is not None
    if review.held_on is None and meeting >= today:
        invitation = _running("review_invitation", meeting, review.review)
        # Invitations that came too late are told of too: the meeting can still be moved.
        if review.invited_on is None or review.invited_on > invitation.due_on:
            yield invitation
        return
    # A meeting whose day has passed counts as held: perhaps nobody recorded it.
    if review.reported_on is None:
        yield _running("review_report", meeting, review.review)
    yield _running("review_decision", meeting, review.review)


def _until_amended(plan: Plan, review: Review) -> Iterator[Running]:
    """The decision to amend goes out with the proposed amendments: it is the amendment notice."""
    if review.decision is not ReviewOutcome.AMEND or review.decided_on is None:
        return
    if plan.issued_on is not None and plan.issued_on >= review.decided_on:
        return
    both = [_running("final_plan_after_notice", review.decided_on, review.review)]
    if review.meeting is not None:
        both.append(_running("final_plan_after_meeting", review.meeting, review.review))
    yield min(both, key=lambda each: each.due_on)


def _running(id_: str, trigger: date, review: str | None) -> Running:
    rule = clock(id_, max(trigger, PLANS_SINCE))
    last = rule.due(trigger)
    return Running(id_, review, last, last - WARN[id_], rule.reference)
