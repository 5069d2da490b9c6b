"""Organisations that receive plans, as the directory lists them: a line of ``PUT /v1/directory``, from a register or by hand.

A recipient's identity follows from its kind and its **first** code, so the same line always means the same recipient; a code is
dated, since organisations close, merge and are followed by others. People are not listed: a family comes with its plan.
"""

from datetime import date
from itertools import combinations
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from schemas.base import Channel, Closed, ContractError, RecipientKind
from schemas.identifiers import CodeScheme, LaCode, Organisation, OrganisationCode
from schemas.plan import Email, IsoDate, Name
from schemas.policy import PEOPLE

BEGINNING = date(1900, 1, 1)
"""From when a code is valid where its register does not say."""


class DatedCode(OrganisationCode):
    """A code with the first and the last day on which it is this organisation's."""

    from_: IsoDate = Field(BEGINNING, alias="from")
    until: IsoDate | None = None

    @model_validator(mode="after")
    def _dated(self) -> Self:
        if self.scheme is CodeScheme.RECIPIENT:
            raise ContractError(
                "an organisation must not have the scheme 'recipient', which is for people",
                "send its URN, UKPRN, LAESTAB, ODS or LA code",
            )
        if self.until is not None and self.until < self.from_:
            raise ContractError("a code ends (until) before it begins (from)", "send until on or after from")
        return self

    def overlaps(self, other: "DatedCode") -> bool:
        same = (self.scheme, self.value) == (other.scheme, other.value)
        return same and self.from_ <= (other.until or date.max) and other.from_ <= (self.until or date.max)


def _some_once(codes: tuple[DatedCode, ...]) -> tuple[DatedCode, ...]:
    if not codes:
        raise ContractError("there is no code", "send at least one; the first says which organisation it is")
    if any(one.overlaps(other) for one, other in combinations(codes, 2)):
        raise ContractError("the same code is listed twice for the same days", "send it once, with its first and last day")
    return codes


def _public(jwk: dict[str, Any]) -> dict[str, Any]:
    if "d" in jwk:
        raise ContractError("it is a private key", "send the public one, and make a new pair: this one is known now")
    if jwk.get("kty") != "OKP" or jwk.get("crv") not in ("Ed25519", "X25519") or not isinstance(jwk.get("x"), str):
        raise ContractError("it is not a public JSON Web Key", "send kty OKP, crv Ed25519 or X25519, and x")
    return jwk


PublicJwk = Annotated[dict[str, Any], AfterValidator(_public)]
SubscriberName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$", max_length=60)]


class DirectoryRecipient(Closed):
    """An organisation with everything that sharing needs. Without a subscriber it is known, and nobody delivers to it."""

    kind: RecipientKind
    name: Name
    codes: Annotated[tuple[DatedCode, ...], Field(max_length=20), AfterValidator(_some_once)]
    subscriber: SubscriberName | None = None
    channel: Channel = Channel.INBOX
    contact: Email | None = None
    """A mailbox of the organisation, never one person's."""
    public_key: PublicJwk | None = None
    areas: Annotated[tuple[LaCode, ...], Field(max_length=200)] = ()
    """LA codes of the councils whose children it serves; none is all. Another council's plan waits for a second person."""
    successors: Annotated[tuple[Organisation, ...], Field(max_length=20)] = ()
    """Who took over when it closed: named to whoever still sends its code, never shared with by itself."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind in PEOPLE:
            raise ContractError("a person is not listed in the directory", "send organisations; a family comes with its plan")
        return self
