"""The columns of the simple CSV: one row for each version of a plan. ``docs/import.md`` describes each.

Settings, family members and people involved come in numbered groups, ``setting_1_urn`` to ``setting_9_until``.
"""

from schemas.plan import SectionLetter

NEEDED = ("case_reference", "family_name", "given_names", "date_of_birth", "issued_on")
SINGLE = (
    *NEEDED, "la_code", "preferred_name", "nhs_number", "upn", "uln", "address_1", "address_2", "address_3", "address_4",
    "postcode", "views_recorded_on", "document", "attachments", "commissioning_bodies", "looked_after_by", "resident_in",
    "ceased_on", "cease_reason", "cease_notified_on", "last_review", "review_outcome", "different_child_from",
    *(f"section_{letter.value.lower()}" for letter in SectionLetter),
)  # fmt: skip
GROUPS = {
    "setting": ("urn", "ukprn", "laestab", "type", "name", "from", "until"),
    "family": ("reference", "role", "name", "email", "address"),
    "involved": ("role", "kind", "organisation", "name", "profession", "sections", "advice_dated"),
}
NUMBERS = range(1, 10)
FIELDS = (*SINGLE, *(f"{group}_{n}_{name}" for group, names in GROUPS.items() for n in NUMBERS for name in names))
_KNOWN = frozenset(FIELDS)


def is_field(name: str) -> bool:
    return name in _KNOWN
