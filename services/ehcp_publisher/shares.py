"""Who should hold a plan, and on what grounds. Pure: from a version, the directory and the council's sharing policy.

Statutory recipients follow from the version: parents or the young person, the settings named in it, the commissioning bodies
(Children and Families Act 2014 s.40(5); SEND Regulations 2014 regs 13(2), 22(3)). Others follow from the policy that the
council approved. Where the directory does not know a code, the share still exists, without a subscriber: a duty does not
lapse because of a wrong code, it becomes visible as undeliverable.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from schemas.base import Channel, Grounds, RecipientKind
from schemas.identifiers import CodeScheme, OrganisationCode
from schemas.plan import FamilyMember, FamilyRole, PlanVersion
from services.ehcp_publisher.registry import Directory, Known, organisation_id, person_id

SETTINGS = frozenset({RecipientKind.SCHOOL, RecipientKind.COLLEGE, RecipientKind.EARLY_YEARS})
FAMILY_SUBSCRIBER = "family"
SYSTEM_DUE = timedelta(days=1)
PEOPLE_DUE_WORKING_DAYS = 5


@dataclass(frozen=True, slots=True)
class Ground:
    grounds: Grounds
    reference: str
    reason: str
    from_: date
    until: date | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """One recipient that should hold the plan. ``member`` is set for people."""

    recipient: Known
    grounds: tuple[Ground, ...]
    member: FamilyMember | None = None
    unknown: bool = False


def _unknown(kind: RecipientKind, code: OrganisationCode) -> Known:
    return Known(
        organisation_id(kind, code.scheme, code.value), kind, code.scheme, code.value,
        f"{code} (not in the directory)", None, Channel.INBOX,
    )  # fmt: skip


def decide(plan_id: UUID, la_code: str, version: PlanVersion, directory: Directory, first: bool) -> tuple[Wanted, ...]:
    """Every recipient once, in a stable order, with all its grounds."""
    on = version.issued_on
    law = "CFA 2014 s.40(5), SEND Regs 2014 reg 13(2)" if first else "SEND Regs 2014 reg 22(3)"
    found: dict[UUID, Wanted] = {}

    def add(known: Known, ground: Ground, member: FamilyMember | None = None, unknown: bool = False) -> None:
        before = found.get(known.recipient_id)
        grounds = (*before.grounds, ground) if before else (ground,)
        unique = {each.reference: each for each in grounds}
        found[known.recipient_id] = Wanted(known, tuple(unique.values()), member, unknown)

    for member in version.family:
        kind = RecipientKind.PARENT if member.role is FamilyRole.PARENT else RecipientKind.YOUNG_PERSON
        recipient_id = person_id(plan_id, member.reference)
        known = Known(
            recipient_id, kind, CodeScheme.RECIPIENT, str(recipient_id),
            f"{kind.value.replace('_', ' ')} {member.reference}", FAMILY_SUBSCRIBER, Channel.MANUAL,
        )  # fmt: skip
        add(known, Ground(Grounds.STATUTORY, law, "parent or young person", on), member)

    for placement in version.placements:
        if placement.setting is None or (placement.until is not None and placement.until < on):
            continue
        setting = directory.find(placement.setting, SETTINGS, on)
        known = setting or _unknown(RecipientKind.SCHOOL, placement.setting)
        # Reg 22(3) does not mention early years providers: theirs is the standing ground of the first plan.
        reference = "SEND Regs 2014 reg 13(2)" if known.kind is RecipientKind.EARLY_YEARS else law
        ground = Ground(Grounds.STATUTORY, reference, "named in section I", placement.from_, placement.until)
        add(known, ground, unknown=setting is None)

    for code in version.commissioning_bodies:
        body = directory.find(code, frozenset({RecipientKind.COMMISSIONING_BODY}), on)
        known = body or _unknown(RecipientKind.COMMISSIONING_BODY, code)
        ground = Ground(Grounds.STATUTORY, law, "responsible commissioning body", on)
        add(known, ground, unknown=body is None)

    if policy := directory.policies.get(la_code):
        for rule in policy.rules:
            reference = f"{rule.lawful_basis} · {policy.approval} · {rule.rule}"
            for involved in version.involved:
                if involved.organisation and (known_ := directory.find(involved.organisation, frozenset(rule.kinds), on)):
                    add(known_, Ground(Grounds.POLICY, reference, rule.reason, on))
    return tuple(found.values())


def due_at(channel: Channel, requested_at: datetime) -> datetime:
    """When a share is missed: one day for systems, five working days for people (local policy, no law says otherwise)."""
    if channel in (Channel.FHIR, Channel.WEBHOOK):
        return requested_at + SYSTEM_DUE
    due, left = requested_at.astimezone(UTC), PEOPLE_DUE_WORKING_DAYS
    while left:
        due += timedelta(days=1)
        left -= due.weekday() < 5
    return due
