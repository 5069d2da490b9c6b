"""Recalls, and the breach pack of one: who got what should not have been there, and what became of each copy.

Made for the council's data protection officer and, where it must be, for the Information Commissioner (UK GDPR art. 33). No
child's name and no text: the case reference says which plan it is to those who may know.
"""

from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Channel, Open, RecipientKind
from schemas.events import Seq, VersionNumber
from schemas.lifecycle import RecallReason
from schemas.manifest import Sha256
from schemas.notices import NoticeKind
from schemas.plan import SectionLetter
from schemas.receipts import HostedBy, Status

CopyState = Literal["removed", "outstanding", "wanted_again"]
"""``wanted_again``: a later decision gives the recipient what was recalled after all, so that nothing is to be removed."""


class RecallWord(Open):
    """One officer's word that it is to be recalled."""

    by: str
    aware_at: datetime
    recorded_at: datetime


class RecallEntry(Open):
    """One recall, as a list shows it. What several officers recall for the same reason is one."""

    recall_id: UUID
    la_code: str
    plan_id: UUID
    case_reference: str
    reason: RecallReason
    version_id: UUID
    """The version, or the notice."""
    version: VersionNumber
    notice: NoticeKind | None = None
    recorded_by: str
    """Who recorded it first; everybody is among ``words``."""
    recorded_at: datetime
    aware_at: datetime
    """When the first of them says that the council became aware."""
    words: tuple[RecallWord, ...] = ()
    """In the order in which they were recorded."""
    report_by: datetime
    """When the time to report the breach has run out (UK GDPR art. 33(1))."""
    hours_since_aware: int
    """Whole hours, when this was asked."""
    copies: int
    """Recipients' copies that must go, counted by share and subscriber."""
    outstanding: int
    """Those of which no signed receipt proves the removal."""


class RecallList(Open):
    recalls: tuple[RecallEntry, ...]
    next: UUID | None = None
    """Send it as ``after`` for the next page; null on the last."""


class Fetched(Open):
    """A read of the document API; what was answered left the council."""

    at: datetime
    by: str
    """The subscriber's client."""


class Opened(Open):
    at: datetime
    by: str | None = None
    """The account at the recipient's, where the subscriber says it."""


class SignedReceipt(Open):
    """A receipt as it came. Its words are in ``signed``, which anyone can verify with the subscriber's key."""

    number: int
    seq: Seq
    status: Status
    at: datetime
    """By the subscriber's clock."""
    received_at: datetime
    """By the council's."""
    signed: str
    """Compact JWS (RFC 7515) with Ed25519 over the receipt's JSON."""
    signature: Literal["good", "other-key"]
    """``other-key``: it was verified when it came, with a key that was replaced before the exchange kept replaced keys."""
    key: str | None = None
    """Fingerprint of the key in ``receipt_keys`` that verifies it."""
    la_code: str | None = None
    """The council in whose time it came."""


class ReceiptKey(Open):
    """A key with which a subscriber signed receipts, and when it held."""

    subscriber: str
    fingerprint: str
    """RFC 7638, SHA-256, as ``ehcp verify`` shows fingerprints."""
    key: dict[str, Any]
    """Public (RFC 7517)."""
    valid_from: datetime | None = None
    """Null: from before the exchange kept this."""
    valid_until: datetime | None = None
    """When another took its place; null while it holds."""


class CouncilBefore(Open):
    """A council of this exchange that had the plan before."""

    la_code: str
    name: str | None = None
    case_reference: str
    from_date: date
    until_date: date
    receipts: int
    """Of its time, in this pack."""


class CopyOf(Open):
    """What one recipient was given of a version, or a notice, that must go."""

    version_id: UUID
    version: VersionNumber
    notice: NoticeKind | None = None
    issued_on: date
    sha256: Sha256
    """Of the rendering that was given last."""
    sections: tuple[SectionLetter, ...]
    """Those of the rendering; none for a document without sections, and for a notice."""
    whole: bool
    """False where the recipient was given some sections only."""
    shared_by: str
    """LA code of the council that had the plan when it was first shared."""
    instructed_at: datetime
    """When the recipient's subscriber was first told to deliver it."""
    fetched: tuple[Fetched, ...]
    held_since: datetime | None = None
    """By the first receipt that says it arrived."""
    held_as: Status | None = None
    record: str | None = None
    """The record system's own id of it."""
    opened: tuple[Opened, ...]


class Removal(Open):
    asked_at: datetime
    due_at: datetime
    seq: Seq
    """Of the instruction that first asked for it."""
    state: CopyState
    at: datetime | None = None
    """When the subscriber had the proof."""
    proof: str | None = None
    """What was removed and who had opened it, or who states that it is gone. Accounts and officers, no child."""
    last_said: Status | None = None
    """While it is outstanding: the newest word of the subscriber since it was asked."""
    reason: str | None = None


class RecalledFrom(Open):
    """One recipient, through one subscriber."""

    share_id: UUID
    recipient: str
    """Name of an organisation; for a person the council's reference, never a name."""
    recipient_kind: RecipientKind
    code: str
    """``scheme:value``, as the subscriber knows the recipient."""
    channel: Channel
    subscriber: str
    hosted_by: HostedBy
    former: bool
    """Another subscriber serves the recipient by now; this one had copies too."""
    copies: tuple[CopyOf, ...]
    removal: Removal
    receipts: tuple[SignedReceipt, ...]
    """What the statements above rest on."""


class BreachPack(Open):
    """``document`` of a signed document of the kind ``breach-pack``. Numbers are whole, so that its JSON is canonical."""

    recall: RecallEntry
    council: str
    """The council's name."""
    law: str
    """What asks for a report by ``report_by``."""
    made_at: datetime
    made_by: str
    """The client that asked for it."""
    minutes_since_aware: int
    minutes_left: int
    """To report it; 0 when the time has run out."""
    recipients: tuple[RecalledFrom, ...]
    keys: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Each subscriber's public key (RFC 7517) of now."""
    receipt_keys: tuple[ReceiptKey, ...] = ()
    """Every key that signed a receipt in it, also one that was replaced since."""
    earlier_councils: tuple[CouncilBefore, ...] = ()
    to_be_asked: tuple[str, ...] = ()
    """What only somebody else can say, in sentences: whom a council outside this exchange gave the plan."""
    how_to_verify: str


class SignedBreachPack(Open):
    """As every document that the council signs: ``ehcp verify`` and any JOSE library check it offline."""

    kind: Literal["breach-pack"]
    document: BreachPack
    signature: dict[str, Any]
    """``jws``: detached, over the document's canonical JSON (RFC 8785); ``key``: the council's public key for documents."""
