"""Identifiers of people and organisations, with their check digits. Rules and vectors: ``docs/identifiers.md``.

Every type refuses a wrong value with one sentence: which identifier, which rule it breaks, what to send instead. The
value itself is never repeated.
"""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from schemas.base import Closed, ContractError, RecipientKind

_UPN_LETTERS = "ABCDEFGHJKLMNPQRTUVWXYZ"
"""23 letters: I, O and S are left out because they look like 1, 0 and 5."""

_CHECK_AGAIN = "check it against the record it was copied from"


def _digits(value: str, name: str, count: int) -> str:
    # Not str.isdigit: that accepts digits of other scripts, which no receiving system would match.
    if not re.fullmatch(rf"[0-9]{{{count}}}", value):
        raise ContractError(f"{name} must be {count} digits", "send the digits only, without spaces or dashes")
    return value


def check_nhs_number(value: str) -> str:
    """Ten digits; weights 10 to 2, check digit 11 - (sum mod 11), 11 counts as 0 and 10 never occurs.

    Source: NHS Data Dictionary, *NHS NUMBER*. Ten equal digits may pass the sum but are never issued.
    """
    _digits(value, "NHS number", 10)
    if len(set(value)) == 1:
        raise ContractError("NHS number must not be ten equal digits", "leave it out when it is not known")
    check = 11 - sum(int(d) * w for d, w in zip(value[:9], range(10, 1, -1), strict=True)) % 11
    if check == 10:
        raise ContractError("NHS number has nine digits that never begin one (modulus 11 gives 10)", _CHECK_AGAIN)
    if check % 11 != int(value[9]):
        raise ContractError("NHS number has a wrong check digit (modulus 11)", _CHECK_AGAIN)
    return value


def check_upn(value: str) -> str:
    """Check letter, LA (3), establishment (4), year (2), serial (3); a temporary UPN ends in a letter.

    Source: DfE, *Unique pupil numbers: guide*. Sum of digit x position (2 to 13), mod 23, into 23 letters; the letter
    that ends a temporary one counts by its place in the same table.
    """
    if not re.fullmatch(rf"[{_UPN_LETTERS}][0-9]{{11}}[0-9{_UPN_LETTERS}]", value):
        raise ContractError(
            "UPN must be a check letter, 11 digits and a last digit (a letter when temporary)",
            "send all 13 characters in upper case, without spaces",
        )
    last = _UPN_LETTERS.index(value[12]) if value[12].isalpha() else int(value[12])
    total = sum(int(d) * w for d, w in zip(value[1:12], range(2, 13), strict=True)) + last * 13
    if _UPN_LETTERS[total % 23] != value[0]:
        raise ContractError("UPN has a wrong check letter (modulus 23)", _CHECK_AGAIN)
    return value


def check_uln(value: str) -> str:
    """Ten digits, the first not 0; weights 10 to 1 give 10 modulo 11. Source: Learning Records Service."""
    _digits(value, "ULN", 10)
    if value[0] == "0":
        raise ContractError("ULN must not begin with 0", _CHECK_AGAIN)
    body = sum(int(d) * w for d, w in zip(value[:9], range(10, 1, -1), strict=True))
    if body % 11 == 0:
        raise ContractError("ULN has nine digits that never begin one (modulus 11 gives 0)", _CHECK_AGAIN)
    if (body + int(value[9])) % 11 != 10:
        raise ContractError("ULN has a wrong check digit (modulus 11)", _CHECK_AGAIN)
    return value


_GROUPS = re.compile(r"[0-9]+(?:[ -]{1,3}[0-9]+)*")
_MAYBE_UPN = re.compile(rf"[{_UPN_LETTERS}][0-9]{{11}}[0-9{_UPN_LETTERS}]", re.IGNORECASE)


def no_identifiers(value: str) -> str:
    """For words that go where nothing of a child may be: refused is whatever passes the check of an NHS number, UPN or ULN, its
    digits in groups or not."""
    found = any(_passes(check_upn, each.upper()) for each in _MAYBE_UPN.findall(re.sub(r"[ -]", "", value)))
    for groups in (re.findall("[0-9]+", each) for each in _GROUPS.findall(value)):
        spans = ("".join(groups[i:j]) for i in range(len(groups)) for j in range(i + 1, len(groups) + 1))
        found |= any(_passes(check_nhs_number, each) or _passes(check_uln, each) for each in spans)
    if found:
        raise ContractError("it holds what may be an NHS number, UPN or ULN", "leave it out: no names or identifiers")
    return value


def _passes(check: Callable[[str], str], value: str) -> bool:
    try:
        check(value)
    except ContractError:
        return False
    return True


def check_urn(value: str) -> str:
    """Six digits, no check digit. Issued by the register of schools; other bodies' numbers may collide with it."""
    return _digits(value, "URN", 6)


def check_ukprn(value: str) -> str:
    """Eight digits, no check digit."""
    return _digits(value, "UKPRN", 8)


def check_laestab(value: str) -> str:
    """LA (3) and establishment (4), written together."""
    return _digits(value, "LAESTAB", 7)


def check_la_code(value: str) -> str:
    """Three digits, no check digit."""
    return _digits(value, "LA code", 3)


def check_ods_code(value: str) -> str:
    """Three to eight upper-case letters and digits, no check digit."""
    if not re.fullmatch(r"[A-Z0-9]{3,8}", value):
        raise ContractError("ODS code must be 3 to 8 upper-case letters and digits", "send the code alone, such as RNA")
    return value


# The patterns are for the JSON Schema alone: in pydantic they would come first, with a sentence that helps nobody.
NhsNumber = Annotated[
    str,
    AfterValidator(check_nhs_number),
    Field(json_schema_extra={"pattern": "^[0-9]{10}$", "examples": ["9434765919"]}),
]
Upn = Annotated[
    str,
    AfterValidator(check_upn),
    Field(
        json_schema_extra={
            "pattern": f"^[{_UPN_LETTERS}][0-9]{{11}}[0-9{_UPN_LETTERS}]$",
            "examples": ["P207000016049"],
        }
    ),
]
Uln = Annotated[
    str, AfterValidator(check_uln), Field(json_schema_extra={"pattern": "^[1-9][0-9]{9}$", "examples": ["9276308686"]})
]
LaCode = Annotated[str, AfterValidator(check_la_code), Field(json_schema_extra={"pattern": "^[0-9]{3}$", "examples": ["332"]})]


class CodeScheme(StrEnum):
    """Whose number a code is. Numbers of two schemes may collide, so a code never travels without its scheme."""

    URN = "urn"
    UKPRN = "ukprn"
    LAESTAB = "laestab"
    ODS = "ods"
    LA = "la"
    RECIPIENT = "recipient"
    """The exchange's own opaque id, for people: each parent or young person is a recipient of their own."""


_CHECKS: dict[CodeScheme, Callable[[str], str]] = {
    CodeScheme.URN: check_urn,
    CodeScheme.UKPRN: check_ukprn,
    CodeScheme.LAESTAB: check_laestab,
    CodeScheme.ODS: check_ods_code,
    CodeScheme.LA: check_la_code,
}

_PATTERNS = {
    CodeScheme.URN: "^[0-9]{6}$",
    CodeScheme.UKPRN: "^[0-9]{8}$",
    CodeScheme.LAESTAB: "^[0-9]{7}$",
    CodeScheme.ODS: "^[A-Z0-9]{3,8}$",
    CodeScheme.LA: "^[0-9]{3}$",
}

_BY_SCHEME: dict[str, Any] = {
    "allOf": [
        {
            "if": {"properties": {"scheme": {"const": scheme.value}}},
            "then": {"properties": {"value": {"pattern": pattern}}},
        }
        for scheme, pattern in _PATTERNS.items()
    ]
}


class OrganisationCode(Closed):
    """A code with its scheme, e.g. ``{"scheme": "ods", "value": "RNA"}``."""

    model_config = ConfigDict(json_schema_extra=_BY_SCHEME)

    scheme: CodeScheme
    value: Annotated[str, Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _check(self) -> "OrganisationCode":
        if check := _CHECKS.get(self.scheme):
            check(self.value)
        return self

    def __str__(self) -> str:
        return f"{self.scheme}:{self.value}"


def _not_a_person(code: OrganisationCode) -> OrganisationCode:
    if code.scheme is CodeScheme.RECIPIENT:
        raise ContractError(
            "an organisation must not have the scheme 'recipient', which is for people",
            "send its URN, UKPRN, LAESTAB, ODS or LA code",
        )
    return code


Organisation = Annotated[OrganisationCode, AfterValidator(_not_a_person)]
"""A code of an organisation, where a person would make no sense."""


_ESTABLISHMENTS = frozenset(
    {
        RecipientKind.SCHOOL,
        RecipientKind.COLLEGE,
        RecipientKind.EARLY_YEARS,
        RecipientKind.ALTERNATIVE_PROVISION,
        RecipientKind.EARLY_HELP,
    }
)
"""What the register of schools lists, children's centres too: one number is one of them, whatever kind it is listed as."""
_NUMBERED: dict[str, frozenset[RecipientKind]] = {
    CodeScheme.URN: _ESTABLISHMENTS,
    CodeScheme.UKPRN: _ESTABLISHMENTS,
    CodeScheme.LAESTAB: _ESTABLISHMENTS,
    CodeScheme.ODS: frozenset({RecipientKind.TRUST, RecipientKind.COMMISSIONING_BODY, RecipientKind.GP}),
    CodeScheme.LA: frozenset({RecipientKind.SOCIAL_CARE}),
    CodeScheme.RECIPIENT: frozenset(RecipientKind),
}
"""Whom a scheme numbers: a code of it is one of these, and that one's alone. Everybody else who has it shares it."""


def recipient_name(kind: str, scheme: str, value: str) -> str:
    """A recipient as deliveries are addressed, kept and read by: ``ods:RNA``, ``camhs/ods:RNA``.

    A trust and its CAMHS may have one code, and so have a council's social care, its youth offending service and its virtual
    school. A code alone means the organisation that its scheme numbers; who shares that code is named with its kind, so that
    nobody is taken for another. The same rule is in SQL as ``delivery.recipient_name``.
    """
    code = f"{scheme}:{value}"
    return code if kind in _NUMBERED.get(scheme, frozenset()) else f"{kind}/{code}"


class RecipientName(OrganisationCode):
    """A recipient in a subscriber's settings: ``{"kind": "camhs", "scheme": "ods", "value": "RNA"}``.

    Without ``kind`` it is the organisation that the scheme numbers, never a service that shares its code.
    """

    kind: RecipientKind | None = None

    def __str__(self) -> str:
        return recipient_name(self.kind, self.scheme, self.value) if self.kind else super().__str__()
