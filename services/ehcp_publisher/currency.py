"""What a person should look at in a plan because it may no longer say how things are: flags, never refusals. Pure.

Judged when a version is issued and again each night, since most of them come with the passing of time alone. A flag says what
is missing or old, never what the plan says or that a child is looked after; it goes to ``publisher.flag`` and from there to
people. A document without separate sections is judged by what came beside it: who is involved, and for which sections.

"Current" is twelve months, for views as for advice: a plan is reviewed at least that often (CFA 2014 s.44(1)), and for each
review the views and everybody's advice are asked for anew (SEND Regs 2014 regs 19, 20(4)). What is older has missed one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from schemas.base import RecipientKind
from schemas.identifiers import CodeScheme
from schemas.plan import Child, Circumstances, Involved, PlanVersion, Role, SectionLetter
from services.shared.law import due
from services.shared.law.ages import phase_transfer_near
from services.shared.law.counting import Unit, last_day

CURRENT_MONTHS = 12


@dataclass(frozen=True, slots=True)
class Side:
    """Whose advice belongs to which sections."""

    name: str
    kinds: frozenset[RecipientKind]
    sections: frozenset[SectionLetter]


HEALTH = Side(
    "health",
    frozenset(
        {
            RecipientKind.TRUST, RecipientKind.CAMHS, RecipientKind.THERAPIES, RecipientKind.WHEELCHAIR_SERVICE,
            RecipientKind.GP, RecipientKind.ADULT_HEALTH, RecipientKind.COMMISSIONING_BODY,
        }
    ),
    frozenset({SectionLetter.C, SectionLetter.G}),
)  # fmt: skip
SOCIAL_CARE = Side(
    "social care",
    frozenset({RecipientKind.SOCIAL_CARE, RecipientKind.DISABILITY_SERVICE, RecipientKind.ADULT_SOCIAL_CARE}),
    frozenset({SectionLetter.D, SectionLetter.H1, SectionLetter.H2}),
)
_NOTHING = re.compile(r"(?:none|nil|n/?a|not (?:applicable|known)|none (?:identified|known|required|at present))?")
"""How a section says that there is nothing to say."""


class FlagCode(StrEnum):
    VIEWS_NOT_CURRENT = "views_not_current"
    HEALTH_ADVICE_NOT_CURRENT = "health_advice_not_current"
    SOCIAL_CARE_ADVICE_NOT_CURRENT = "social_care_advice_not_current"
    NO_PLACEMENT = "no_placement"
    MOVED_SINCE_VERSION = "moved_since_version"
    """Of looked-after children alone, which neither the code nor the detail says."""
    LIVES_ELSEWHERE = "lives_elsewhere"
    PHASE_TRANSFER = "phase_transfer"
    HEALTH_PROVISION_NOT_AGREED = "health_provision_not_agreed"
    PLAN_ELSEWHERE = "plan_elsewhere"
    """In another council of the exchange: found among all children, not judged here (``store_events.look_for_same_child``)."""


@dataclass(frozen=True, slots=True)
class Flag:
    """``detail`` is for people and holds no personal data."""

    code: FlagCode
    detail: str
    clock: str | None = None
    """The law's clock that is running, and from when it counts."""
    runs_from: date | None = None


def flags(
    version: PlanVersion,
    child: Child,
    circumstances: Circumstances,
    on: date,
    moved_since: date | None,
    la_code: str | None = None,
) -> tuple[Flag, ...]:
    """At most one flag of each code. ``circumstances`` are those of today; ``moved_since`` is the day of the last move (another
    placement, another home), if one is known; ``la_code`` is the plan's own council, to judge where the child lives."""
    found = {
        FlagCode.VIEWS_NOT_CURRENT: _views(version, on),
        FlagCode.HEALTH_ADVICE_NOT_CURRENT: _advice(version, circumstances, HEALTH, on),
        FlagCode.SOCIAL_CARE_ADVICE_NOT_CURRENT: _advice(version, circumstances, SOCIAL_CARE, on),
        FlagCode.NO_PLACEMENT: _placement(version, circumstances, on),
        FlagCode.MOVED_SINCE_VERSION: _moved(version, circumstances, moved_since),
        FlagCode.LIVES_ELSEWHERE: _lives_elsewhere(circumstances, la_code),
        FlagCode.HEALTH_PROVISION_NOT_AGREED: _agreement(version, circumstances),
    }
    flagged = [Flag(code, detail) for code, detail in found.items() if detail]
    return (*flagged, *_phase_transfer(child, circumstances, on))


def _views(version: PlanVersion, on: date) -> str | None:
    if version.views_recorded_on is None:
        return "It is not recorded when the views in section A were asked for (views_recorded_on)."
    if _old(version.views_recorded_on, on):
        return f"The views in section A are of {_day(version.views_recorded_on)}, more than twelve months ago."
    return None


def _advice(version: PlanVersion, now: Circumstances, side: Side, on: date) -> str | None:
    written = sorted(side.sections & _content(version, now))
    if not written:
        return None
    dated = [each.advice_dated for each in now.involved if each.role is Role.ADVICE and _side(each) is side]
    where = f"Section {written[0]} has" if len(written) == 1 else f"Sections {' and '.join(written)} have"
    if not dated:
        return f"{where} content, but section K lists no {side.name} advice."
    newest = max((day for day in dated if day is not None), default=None)
    if newest is None:
        return f"{where} content, but it is not recorded of when the {side.name} advice is (advice_dated)."
    if _old(newest, on):
        return f"{where} content, but the newest {side.name} advice is of {_day(newest)}, more than twelve months ago."
    return None


def _placement(version: PlanVersion, now: Circumstances, on: date) -> str | None:
    if any(each.until is None or each.until >= on for each in now.placements):
        return None
    if now.placements:
        return "Every placement has ended: no setting, and no type of setting, is named from today on."
    if version.sections is None or SectionLetter.I in _content(version, now):
        return "Whatever section I says, no placement was sent with it, so no setting gets the plan."
    return "Section I names neither a setting nor a type of setting (reg 12(1)(i))."


def _moved(version: PlanVersion, now: Circumstances, moved_since: date | None) -> str | None:
    if now.looked_after_by is None or moved_since is None or moved_since <= version.issued_on:
        return None
    return f"The child has moved since this version of {_day(version.issued_on)} was issued."


def _lives_elsewhere(now: Circumstances, la_code: str | None) -> str | None:
    # Whether a looked-after child who is placed in another area has moved there is a person's question.
    if la_code is None or now.resident_in in (None, la_code) or now.looked_after_by is not None:
        return None
    return f"The child lives in the area of council {now.resident_in}, to which the plan is to be transferred (reg 15(2))."


def _phase_transfer(child: Child, now: Circumstances, on: date) -> Iterator[Flag]:
    transfer = phase_transfer_near(child.date_of_birth, on)
    if transfer is None:
        return
    # Some settings begin in the last days of August; a move in the year before is no answer to where the child goes then.
    if any(each.from_ >= date(transfer.on.year, 8, 1) for each in now.placements):
        return
    last = due.phase_transfer(transfer)
    detail = (
        f"The next phase of education begins on {_day(transfer.on)}: the plan must name its setting or type "
        f"by {_day(last)} (reg 18(1))."
    )
    yield Flag(FlagCode.PHASE_TRANSFER, detail, due.phase_transfer_clock(transfer), transfer.on)


def _agreement(version: PlanVersion, now: Circumstances) -> str | None:
    if SectionLetter.G not in _content(version, now) or version.health_provision_agreed is not None:
        return None
    return "Section G has content, but not who agreed the health provision and when (reg 12(2); health_provision_agreed)."


def _content(version: PlanVersion, now: Circumstances) -> frozenset[SectionLetter]:
    """The sections that say something: by their text or, in a document without sections, by who gives what they set out."""
    if version.sections is None:
        return frozenset(letter for each in now.involved for letter in each.sections)
    return frozenset(
        letter
        for letter, section in version.sections.items()
        if section.items or not _NOTHING.fullmatch(section.text.strip(" .\n-").lower())
    )


def _side(who: Involved) -> Side | None:
    """By kind, else by the sections that the advice is for, else an NHS code says that it is health's."""
    for side in (HEALTH, SOCIAL_CARE):
        if who.kind in side.kinds or (who.kind is None and side.sections & set(who.sections)):
            return side
    by_code = who.kind is None and who.organisation is not None and who.organisation.scheme is CodeScheme.ODS
    return HEALTH if by_code else None


def _old(day: date, on: date) -> bool:
    return on > last_day(day, CURRENT_MONTHS, Unit.MONTHS, day_one=False)


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"
