"""Who takes part: councils, their clients, subscribers, recipients and sharing policies, as one file that starts an exchange.

The publisher reads it at start and brings its tables to it (adding and changing; a client that is no longer in it is disabled,
nothing is deleted). Ids of organisations follow
from their code, so that loading twice, or on a restored database, gives the same recipients.
"""

import hashlib
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid5

from pydantic import AfterValidator, ValidationError, model_validator

from schemas.base import Channel, Closed, RecipientKind
from schemas.directory import DirectoryRecipient
from schemas.identifiers import CodeScheme, LaCode, OrganisationCode
from schemas.policy import SharingPolicy
from schemas.receipts import HostedBy
from services.shared.identity.keys import import_key
from services.shared.identity.tokens import CallerKind
from services.shared.ids import derived_id

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


class Registry(Closed):
    councils: tuple[RegisteredCouncil, ...]
    clients: tuple[RegisteredClient, ...] = ()
    subscribers: tuple[RegisteredSubscriber, ...] = ()
    recipients: tuple[DirectoryRecipient, ...] = ()
    policies: tuple[SharingPolicy, ...] = ()

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


def share_id(plan_id: UUID, recipient_id: UUID) -> UUID:
    """The same when it is made once more, and the shares of one plan lie together in an index."""
    return derived_id(plan_id.bytes[:6] + hashlib.sha256(plan_id.bytes + recipient_id.bytes).digest())


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
    areas: tuple[str, ...] = ()
    """LA codes of the councils that it serves; none is all."""


@dataclass(frozen=True, slots=True)
class ListedCode:
    scheme: CodeScheme
    value: str
    from_: date
    until: date | None

    def valid(self, on: date) -> bool:
        return self.from_ <= on and (self.until is None or on <= self.until)


@dataclass(frozen=True, slots=True)
class Listed:
    """An organisation as the directory lists it, with its codes in order; ``hash`` is of all that is known of it."""

    recipient_id: UUID
    kind: RecipientKind
    name: str
    codes: tuple[ListedCode, ...]
    subscriber: str | None
    channel: Channel
    areas: tuple[str, ...]
    successors: tuple[str, ...]
    hash: str

    def known_by(self, code: ListedCode) -> Known:
        return Known(
            self.recipient_id, self.kind, code.scheme, code.value, self.name, self.subscriber, self.channel, self.areas
        )  # fmt: skip


def listed(recipient: DirectoryRecipient) -> Listed:
    first = recipient.codes[0]
    return Listed(
        organisation_id(recipient.kind, first.scheme, first.value), recipient.kind, recipient.name,
        tuple(ListedCode(code.scheme, code.value, code.from_, code.until) for code in recipient.codes),
        recipient.subscriber, recipient.channel, tuple(recipient.areas), tuple(map(str, recipient.successors)),
        hashlib.sha256(recipient.model_dump_json(by_alias=True).encode()).hexdigest(),
    )  # fmt: skip


class Directory:
    """Organisations by code, with councils and policies: all in memory, since every decision needs them. Every code of an
    organisation leads to it, so that a lookup costs the same among ten and among fifty thousand. What the database has is
    brought in by ``store_directory.refresh``, up to ``revision``."""

    def __init__(self, registry: Registry) -> None:
        self.revision = 0
        self._listed: dict[UUID, Listed] = {}
        self._by_code: dict[tuple[CodeScheme, str], tuple[Listed, ...]] = {}
        self.policies = {policy.la_code: policy for policy in registry.policies}
        self.familiar: dict[str, set[UUID]] = {}
        """By council, the organisations that a second person has confirmed for all of its plans."""
        self.councils = {council.la_code: council for council in registry.councils}
        for recipient in registry.recipients:
            self.put(listed(recipient))

    def __len__(self) -> int:
        return len(self._listed)

    def get(self, recipient_id: UUID) -> Listed | None:
        return self._listed.get(recipient_id)

    def put(self, listed: Listed) -> None:
        """Add an organisation, or replace what was known of it."""
        if before := self._listed.get(listed.recipient_id):
            for place in {(code.scheme, code.value) for code in before.codes}:
                self._by_code[place] = tuple(each for each in self._by_code[place] if each is not before)
        self._listed[listed.recipient_id] = listed
        for place in {(code.scheme, code.value) for code in listed.codes}:
            self._by_code[place] = (*self._by_code.get(place, ()), listed)

    def with_policy(self, policy: SharingPolicy) -> "Directory":
        """The same directory under another policy of one council, for asking what would be; it does not follow changes."""
        other = copy(self)
        other.policies = {**self.policies, policy.la_code: policy}
        return other

    def with_code(self, scheme: CodeScheme, value: str) -> tuple[Listed, ...]:
        """Every organisation that has this code or once had it, of whatever kind."""
        return self._by_code.get((scheme, value), ())

    def find(self, code: OrganisationCode, kinds: frozenset[RecipientKind], on: date) -> Known | None:
        """The organisation with this code, of one of these kinds, if the code is valid on that day.

        Named by the first listed of its codes that are valid then, whichever was asked for: its subscriber knows it by one
        address, and an inbox of its own under a second code would be read by nobody.
        """
        for listed in self.with_code(code.scheme, code.value):
            if listed.kind in kinds and any(each.valid(on) for each in _same(listed, code)):
                return listed.known_by(next(each for each in listed.codes if each.valid(on)))
        return None

    def why_unknown(self, code: OrganisationCode, kinds: frozenset[RecipientKind], on: date) -> str:
        """Why :meth:`find` finds nothing: what is wrong with the code, and what may be meant instead."""
        found = self.with_code(code.scheme, code.value)
        if not found:
            return f"{code} is not in the directory"
        dated = [(each, listed) for listed in found if listed.kind in kinds for each in _same(listed, code)]
        if not dated:
            known_as = " and ".join(sorted({listed.kind.value for listed in found}))
            return f"{code} is in the directory as {known_as}, not as {' or '.join(sorted(kinds))}"
        ended = [(each.until, listed) for each, listed in dated if each.until and each.until < on]
        if not ended:
            return f"{code} is valid only from {min(each.from_ for each, _ in dated)}"
        until, last = max(ended, key=lambda pair: pair[0])
        followed = f"; its successor is {' and '.join(last.successors)}" if last.successors else ""
        return f"{code} was valid only until {until}{followed}"


def _same(listed: Listed, code: OrganisationCode) -> Iterator[ListedCode]:
    return (each for each in listed.codes if each.scheme is code.scheme and each.value == code.value)
