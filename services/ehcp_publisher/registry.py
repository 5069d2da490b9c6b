"""Who takes part: councils, their clients, subscribers, recipients and sharing policies, as one file that starts an exchange.

The publisher reads it at start and brings its tables to it (adding and changing; a client that is no longer in it is disabled,
nothing is deleted). Ids of organisations follow
from their code, so that loading twice, or on a restored database, gives the same recipients.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid5

from pydantic import AfterValidator, Field, ValidationError, model_validator

from schemas.base import Channel, Closed, RecipientKind
from schemas.identifiers import CodeScheme, LaCode, OrganisationCode
from schemas.receipts import HostedBy
from services.shared.identity.keys import import_key
from services.shared.identity.tokens import CallerKind

_ORGANISATIONS = UUID("6f9d8b52-3f0e-5d8a-9b0e-2f1d1c7a4e10")
"""Namespace of organisations' recipient ids; never changes."""


class RegistryError(Exception):
    """One sentence that says where the registry file is wrong."""


class RegisteredCouncil(Closed):
    la_code: LaCode
    name: str
    ods_code: str
    ons_code: str | None = None


def _public(jwk: dict[str, Any]) -> dict[str, Any]:
    import_key(jwk)
    if "d" in jwk:
        raise ValueError("it is a private key; register the public one")
    return jwk


PublicKey = Annotated[dict[str, Any], AfterValidator(_public)]
"""An Ed25519 JSON Web Key without its private part: the registry is no place for secrets."""


class RegisteredClient(Closed):
    client_id: str
    kind: CallerKind
    la_codes: tuple[LaCode, ...] = ()
    subscriber: str | None = None
    public_key: PublicKey


class RegisteredSubscriber(Closed):
    subscriber: str
    name: str
    hosted_by: HostedBy
    receipt_key: PublicKey


class DatedCode(OrganisationCode):
    from_: date = Field(date(1900, 1, 1), alias="from")
    until: date | None = None


class RegisteredRecipient(Closed):
    kind: RecipientKind
    name: str
    codes: tuple[DatedCode, ...]
    subscriber: str | None = None
    channel: Channel

    @model_validator(mode="after")
    def _has_code(self) -> "RegisteredRecipient":
        if not self.codes:
            raise ValueError("a recipient needs at least one code")
        return self

    @property
    def recipient_id(self) -> UUID:
        return organisation_id(self.kind, self.codes[0].scheme, self.codes[0].value)


class PolicyRule(Closed):
    """Share with every organisation of these kinds that the version lists as involved."""

    rule: str
    kinds: tuple[RecipientKind, ...]
    lawful_basis: str
    reason: str


class Policy(Closed):
    la_code: LaCode
    approval: str
    rules: tuple[PolicyRule, ...]


class Registry(Closed):
    councils: tuple[RegisteredCouncil, ...]
    clients: tuple[RegisteredClient, ...] = ()
    subscribers: tuple[RegisteredSubscriber, ...] = ()
    recipients: tuple[RegisteredRecipient, ...] = ()
    policies: tuple[Policy, ...] = ()

    @model_validator(mode="after")
    def _names_only_its_own(self) -> "Registry":
        """What points to nothing is said at the start, not by the first plan that needs it."""
        councils = {council.la_code for council in self.councils}
        subscribers = {subscriber.subscriber for subscriber in self.subscribers}
        for client in self.clients:
            if unknown := set(client.la_codes) - councils:
                raise ValueError(f"client {client.client_id} names councils that are not registered: {sorted(unknown)}")
            if client.subscriber is not None and client.subscriber not in subscribers:
                raise ValueError(f"client {client.client_id} names a subscriber that is not registered: {client.subscriber}")
        for recipient in self.recipients:
            if subscribers and recipient.subscriber is not None and recipient.subscriber not in subscribers:
                raise ValueError(f"{recipient.name} has a subscriber that is not registered: {recipient.subscriber}")
        return self


def organisation_id(kind: RecipientKind, scheme: CodeScheme, value: str) -> UUID:
    return uuid5(_ORGANISATIONS, f"{kind}:{scheme}:{value}")


def person_id(plan_id: UUID, reference: str) -> UUID:
    """Each parent, and the young person, is a recipient of their own within one plan."""
    return uuid5(plan_id, reference)


def read_registry(file: Path) -> Registry:
    try:
        return Registry.model_validate_json(file.read_bytes())
    except OSError as error:
        raise RegistryError(f"EHCP_REGISTRY_FILE cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise RegistryError(f"the registry file is wrong at {'/'.join(map(str, first['loc']))}: {first['msg']}") from None


@dataclass(frozen=True, slots=True)
class Known:
    """A recipient as the deciding rules see it."""

    recipient_id: UUID
    kind: RecipientKind
    scheme: CodeScheme
    value: str
    name: str
    subscriber: str | None
    channel: Channel


class Directory:
    """Organisations by code, in memory: tens of thousands at most, read by every issued version."""

    def __init__(self, registry: Registry) -> None:
        self._by_code: dict[tuple[CodeScheme, str], list[tuple[DatedCode, _Entry]]] = {}
        self.policies = {policy.la_code: policy for policy in registry.policies}
        self.councils = {council.la_code: council for council in registry.councils}
        for recipient in registry.recipients:
            entry = tuple((code, _known(recipient, code)) for code in recipient.codes)
            for code in recipient.codes:
                self._by_code.setdefault((code.scheme, code.value), []).append((code, entry))

    def find(self, code: OrganisationCode, kinds: frozenset[RecipientKind], on: date) -> Known | None:
        """The organisation with this code, of one of these kinds, if the code is valid on that day.

        Named by the first listed of its codes that are valid then, whichever was asked for: its subscriber knows it by one
        address, and an inbox of its own under a second code would be read by nobody.
        """
        for dated, entry in self._by_code.get((code.scheme, code.value), ()):
            if entry[0][1].kind in kinds and _valid(dated, on):
                return next(known for each, known in entry if _valid(each, on))
        return None


_Entry = tuple[tuple[DatedCode, Known], ...]
"""One organisation under each of its codes, as listed."""


def _known(entry: RegisteredRecipient, code: DatedCode) -> Known:
    return Known(entry.recipient_id, entry.kind, code.scheme, code.value, entry.name, entry.subscriber, entry.channel)


def _valid(code: DatedCode, on: date) -> bool:
    return code.from_ <= on and (code.until is None or on <= code.until)
