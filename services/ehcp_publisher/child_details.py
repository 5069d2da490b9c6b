"""What of a child's identity goes to whom beside a plan: as much as the recipient's kind needs to find its own record. Pure.

Everyone gets names and date of birth, without which no two records are safely told apart (the plan itself has them too). Of the
identifiers each gets the one that its record system goes by: health and social care the NHS number (Health and Social Care Act
2012 s.251B), schools and colleges UPN and ULN (older guidance bars the UPN from other use). The child's address goes to nobody:
no record is found by it, the plan leaves it out, and it may be the one thing that must not be known. The family's letters go to
each member's own address. Next: ``reads`` sends it.
"""

from collections.abc import Mapping

from schemas.base import RecipientKind

NAMES = frozenset({"family_name", "given_names", "preferred_name", "date_of_birth"})
_HEALTH = frozenset({"nhs_number"})
_EDUCATION = frozenset({"upn", "uln"})
_NONE: frozenset[str] = frozenset()

IDENTIFIERS: Mapping[RecipientKind, frozenset[str]] = {
    RecipientKind.PARENT: _NONE,
    RecipientKind.YOUNG_PERSON: _NONE,
    RecipientKind.SCHOOL: _EDUCATION,
    RecipientKind.COLLEGE: _EDUCATION,
    RecipientKind.EARLY_YEARS: _EDUCATION,
    RecipientKind.ALTERNATIVE_PROVISION: _EDUCATION,
    RecipientKind.VIRTUAL_SCHOOL: _EDUCATION,
    RecipientKind.COMMISSIONING_BODY: _HEALTH,
    RecipientKind.TRUST: _HEALTH,
    RecipientKind.CAMHS: _HEALTH,
    RecipientKind.THERAPIES: _HEALTH,
    RecipientKind.WHEELCHAIR_SERVICE: _HEALTH,
    RecipientKind.GP: _HEALTH,
    RecipientKind.ADULT_HEALTH: _HEALTH,
    RecipientKind.SOCIAL_CARE: _HEALTH,
    RecipientKind.DISABILITY_SERVICE: _HEALTH,
    RecipientKind.ADULT_SOCIAL_CARE: _HEALTH,
    RecipientKind.KEY_WORKER_SERVICE: _HEALTH,
    # Help for a family before it comes to social care: no law says that its records go by the NHS number.
    RecipientKind.EARLY_HELP: _NONE,
    RecipientKind.YOUTH_OFFENDING_SERVICE: _NONE,
    RecipientKind.CUSTODIAL_ESTABLISHMENT: _NONE,
    RecipientKind.SEND_ADVICE_SERVICE: _NONE,
}


def details_for(kind: RecipientKind) -> frozenset[str]:
    """The fields of :class:`schemas.plan.Child` that a recipient of this kind reads."""
    return NAMES | IDENTIFIERS[kind]
