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

from pydantic import AfterValidator, BeforeValidator, ValidationError, model_validator

from schemas.base import Channel, Closed, RecipientKind
from schemas.directory import DirectoryRecipient
from schemas.identifiers import CodeScheme, LaCode, OrganisationCode
from schemas.policy import SharingPolicy
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


class RegisteredRecipient(DirectoryRecipient):
    @property
    def recipient_id(self) -> UUID:
        return organisation_id(self.kind, self.codes[0].scheme, self.codes[0].value)


def _in_words(policy: Any) -> Any:
    """The first form of a policy: its approval in words, its rules for kinds of who is involved."""
    if isinstance(policy, dict) and isinstance(policy.get("approval"), str):
        named = policy["approval"]
        policy = policy | {"approval": {"data_sharing_agreement": named, "dpia": named, "from": "1900-01-01"}}
        policy["rules"] = [
            {key: value for key, value in rule.items() if key != "kinds"}
            | {"share_with": {"involved": {"kinds": rule["kinds"]}}}
            for rule in policy.get("rules", ())
        ]
    return policy


class Registry(Closed):
    councils: tuple[RegisteredCouncil, ...]
    clients: tuple[RegisteredClient, ...] = ()
    subscribers: tuple[RegisteredSubscriber, ...] = ()
    recipients: tuple[RegisteredRecipient, ...] = ()
    policies: tuple[Annotated[SharingPolicy, BeforeValidator(_in_words)], ...] = ()

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
    areas: tuple[str, ...] = ()
    """LA codes of the councils that it serves; none is all."""


@dataclass(frozen=True, slots=True)
class _Code:
    """One code of an organisation, and the organisation named by it."""

    known: Known
    from_: date
    until: date | None

    def valid(self, on: date) -> bool:
        return self.from_ <= on and (self.until is None or on <= self.until)


@dataclass(frozen=True, slots=True)
class _Entry:
    """An organisation with its codes, in the order of the directory."""

    codes: tuple[_Code, ...]
    successors: tuple[str, ...]


class Directory:
    """Organisations by code, with councils and policies: all in memory, since every decision needs them. Every code of an
    organisation leads to it, so that a lookup costs the same among ten and among fifty thousand."""

    def __init__(self, registry: Registry) -> None:
        self._entries: dict[UUID, _Entry] = {}
        self._by_code: dict[tuple[CodeScheme, str], tuple[_Entry, ...]] = {}
        self.policies = {policy.la_code: policy for policy in registry.policies}
        self.councils = {council.la_code: council for council in registry.councils}
        for recipient in registry.recipients:
            self.put(recipient)

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, recipient: DirectoryRecipient) -> None:
        """Add an organisation, or replace what was known of it."""
        first = recipient.codes[0]
        recipient_id = organisation_id(recipient.kind, first.scheme, first.value)
        if before := self._entries.get(recipient_id):
            for place in {(code.known.scheme, code.known.value) for code in before.codes}:
                self._by_code[place] = tuple(entry for entry in self._by_code[place] if entry is not before)
        areas = tuple(recipient.areas)
        entry = _Entry(
            tuple(
                _Code(
                    Known(
                        recipient_id, recipient.kind, code.scheme, code.value, recipient.name, recipient.subscriber,
                        recipient.channel, areas,
                    ),
                    code.from_, code.until,
                )
                for code in recipient.codes
            ),
            tuple(str(code) for code in recipient.successors),
        )  # fmt: skip
        self._entries[recipient_id] = entry
        for place in {(code.scheme, code.value) for code in recipient.codes}:
            self._by_code[place] = (*self._by_code.get(place, ()), entry)

    def find(self, code: OrganisationCode, kinds: frozenset[RecipientKind], on: date) -> Known | None:
        """The organisation with this code, of one of these kinds, if the code is valid on that day.

        Named by the first listed of its codes that are valid then, whichever was asked for: its subscriber knows it by one
        address, and an inbox of its own under a second code would be read by nobody.
        """
        for entry in self._by_code.get((code.scheme, code.value), ()):
            if entry.codes[0].known.kind in kinds and any(
                each.valid(on) and each.known.scheme is code.scheme and each.known.value == code.value for each in entry.codes
            ):
                return next(each.known for each in entry.codes if each.valid(on))
        return None

    def why_unknown(self, code: OrganisationCode, kinds: frozenset[RecipientKind], on: date) -> str:
        """Why :meth:`find` finds nothing: what is wrong with the code, and what may be meant instead."""
        entries = self._by_code.get((code.scheme, code.value), ())
        of_kind = [entry for entry in entries if entry.codes[0].known.kind in kinds]
        if not entries:
            return f"{code} is not in the directory"
        if not of_kind:
            known_as = " and ".join(sorted({entry.codes[0].known.kind.value for entry in entries}))
            return f"{code} is in the directory as {known_as}, not as {' or '.join(sorted(kinds))}"
        dated = [
            (each, entry)
            for entry in of_kind
            for each in entry.codes
            if each.known.scheme is code.scheme and each.known.value == code.value
        ]
        ended = max((pair for pair in dated if pair[0].until and pair[0].until < on), key=_ended_on, default=None)
        if ended is None:
            return f"{code} is valid only from {min(each.from_ for each, _ in dated)}"
        followed = f"; its successor is {' and '.join(ended[1].successors)}" if ended[1].successors else ""
        return f"{code} was valid only until {ended[0].until}{followed}"


def _ended_on(pair: tuple[_Code, _Entry]) -> date:
    return pair[0].until or date.max
