"""From what was decided to instructions: who is to hold what under which ``seq``, and who no longer. Pure.

Invariant: ``seq`` rises only where the wish differs from the one that stands, so deciding again is free of noise. An
instruction is the whole wish, never a difference: what must be removed is in it until its removal is proved. Next:
``store.write_wishes``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

from schemas.base import Channel, Open
from schemas.events import EventType, ShareRecalled, ShareRequested, ShareWithdrawn
from schemas.manifest import canonical
from schemas.notices import NoticeKind
from schemas.plan import SectionLetter
from services.ehcp_publisher import instructions, registry, shares
from services.ehcp_publisher.registry import Known
from services.ehcp_publisher.shares import Ground, Wanted
from services.ehcp_publisher.store import ALL_SECTIONS, Share, Wish
from services.shared.ids import new_id


@dataclass(frozen=True, slots=True)
class Thing:
    """What a share is of: a version of the plan in one rendering, or a notice."""

    thing_id: UUID
    rendering_id: UUID
    sha256: str
    number: int
    issued_on: date
    sections: tuple[SectionLetter, ...] = ()
    notice: NoticeKind | None = None


@dataclass(frozen=True, slots=True)
class Current:
    """The plan's current version and its renderings, by sections as ``rendering.sections`` has them."""

    things: dict[str, Thing]
    changed: tuple[SectionLetter, ...] = ()
    """The letters that differ from the version before."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What every wish of one decision has in common."""

    plan_id: UUID
    la_code: str
    identity_revision: int
    at: datetime
    resend_after: timedelta


@dataclass(slots=True)
class Made:
    """The wishes of one decision, with their grounds' people and unknown organisations."""

    asking: Asking
    wishes: list[Wish] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    """For the council: one for each recipient that should hold it."""
    grounds: list[tuple[UUID, tuple[Ground, ...]]] = field(default_factory=list)
    """Of the shares whose wish stands as it is: why they stand may have changed."""


class RenderingNeededError(Exception):
    """A recipient is to get sections of the current version that were not rendered yet."""

    def __init__(self, sections: Iterable[str]) -> None:
        super().__init__("a rendering is needed")
        self.sections = frozenset(sections)


def sections_key(wanted: Wanted) -> str:
    """As in ``rendering.sections``: letters in the order of the regulations, or all of them."""
    return ALL_SECTIONS if wanted.sections is None else " ".join(wanted.sections)


def make(
    asking: Asking, wanted: Sequence[Wanted], standing: Sequence[Share], current: Current | None,
    remove: Mapping[UUID, tuple[UUID, ...]] = MappingProxyType({}),
) -> Made:  # fmt: skip
    """Raise what differs from the standing shares of the plan. ``remove``: by share, the versions recalled from it just now.

    Raises :class:`RenderingNeededError`. Without a current version (all recalled) nobody can hold anything.
    """
    if current is not None and (missing := {sections_key(each) for each in wanted} - current.things.keys()):
        raise RenderingNeededError(missing)
    made = Made(asking)
    before = {share.recipient_id: share for share in standing}
    for want in wanted if current is not None else ():
        assert current is not None
        share = before.pop(want.recipient.recipient_id, None)
        thing = current.things[sections_key(want)]
        # Who is to hold again what was recalled from it: to remove it as well would be two wishes in one.
        asked = _removing(share, remove, want.recipient.subscriber)
        removing = tuple(each for each in asked if each != thing.thing_id)
        seq = share.seq if share else 0
        share_id = share.share_id if share else registry.share_id(asking.plan_id, want.recipient.recipient_id)
        if share is None or _differs(share, asking, want.recipient, thing, removing):
            seq += 1
            changed = _changed(share, want, thing, current.changed)
            made.wishes.append(hold(asking, share_id, seq, want.recipient, thing, changed, want.grounds, removing))
        else:
            made.grounds.append((share_id, want.grounds))
        made.answers.append(_answer(asking, share_id, seq, want))
    for share in before.values():
        removing = _removing(share, remove, share.subscriber)
        stands = (share.action, _asked(share), share.la_code) == ("recall", removing, asking.la_code)
        if removing and not stands:
            made.wishes.append(recall(asking, share, removing))
        elif share.action == "hold" and not removing:
            made.wishes.append(withdraw(asking, share))
    return made


def tell(asking: Asking, told: Sequence[Wanted], notice: Thing) -> Made:
    """A share of the notice for everyone who must know."""
    made = Made(asking)
    for each in told:
        share_id = new_id()
        made.wishes.append(hold(asking, share_id, 1, each.recipient, notice, (), each.grounds, ()))
        made.answers.append(_answer(asking, share_id, 1, each) | {"notice": notice.notice})
    return made


def hold(
    asking: Asking, share_id: UUID, seq: int, recipient: Known, thing: Thing, changed: tuple[SectionLetter, ...],
    grounds: tuple[Ground, ...] | None, removing: tuple[UUID, ...],
) -> Wish:  # fmt: skip
    due_at = shares.due_at(recipient.channel, asking.at)
    event = ShareRequested(
        share_id=share_id, seq=seq, la_code=asking.la_code, plan_id=asking.plan_id,
        recipient=instructions.code_of(recipient), notice=thing.notice, version_id=thing.thing_id, version=thing.number,
        issued_on=thing.issued_on, sha256=thing.sha256, sections=thing.sections, changed_sections=changed, remove=removing,
        requested_at=asking.at, due_at=due_at, dataref=instructions.DATAREF,
    )  # fmt: skip
    return Wish(
        share_id, asking.la_code, asking.plan_id, recipient.recipient_id, recipient.subscriber, seq, "hold",
        None if thing.notice else thing.thing_id, thing.thing_id if thing.notice else None, thing.rendering_id,
        asking.identity_revision, removing, EventType.SHARE_REQUESTED, _data(event), asking.at, due_at,
        asking.at + asking.resend_after, grounds,
    )  # fmt: skip


def withdraw(asking: Asking, share: Share) -> Wish:
    """No further version; the copy stays, marked so."""
    return _ended(asking, share, "withdraw", EventType.SHARE_WITHDRAWN, ShareWithdrawn, ())


def recall(asking: Asking, share: Share, removing: tuple[UUID, ...]) -> Wish:
    """The copies of these versions must go, and nothing comes in their place."""
    return _ended(asking, share, "recall", EventType.SHARE_RECALLED, ShareRecalled, removing)


def _ended(
    asking: Asking, share: Share, action: str, type_: EventType, model: type[ShareWithdrawn], removing: tuple[UUID, ...]
) -> Wish:
    due_at = shares.due_at(share.recipient.channel, asking.at)
    event = model(
        share_id=share.share_id, seq=share.seq + 1, la_code=asking.la_code, plan_id=asking.plan_id,
        recipient=instructions.code_of(share.recipient), remove=removing, requested_at=asking.at, due_at=due_at,
    )  # fmt: skip
    # Where the instruction went, it is taken back: the recipient may have another subscriber by now, which holds nothing.
    return Wish(
        share.share_id, asking.la_code, asking.plan_id, share.recipient_id, share.subscriber, share.seq + 1, action,
        share.version_id, share.notice_id, share.rendering_id, share.identity_revision, removing, type_, _data(event),
        asking.at, due_at, asking.at + asking.resend_after,
    )  # fmt: skip


def _data(event: Open) -> bytes:
    return canonical(event.model_dump(mode="json"))


def _differs(share: Share, asking: Asking, recipient: Known, thing: Thing, removing: tuple[UUID, ...]) -> bool:
    stands = (
        share.action, share.version_id, share.rendering_id, share.subscriber, share.identity_revision, share.la_code,
    )  # fmt: skip
    wanted = ("hold", thing.thing_id, thing.rendering_id, recipient.subscriber, asking.identity_revision, asking.la_code)
    return stands != wanted or _asked(share) != removing


def _removing(share: Share | None, remove: Mapping[UUID, tuple[UUID, ...]], subscriber: str | None) -> tuple[UUID, ...]:
    """What this share's copies at this subscriber must lose: what is not proved yet, and what is recalled now. Another
    subscriber's proof is none of this one's, which may have had the recipient before."""
    if share is None:
        return ()
    owed = share.owed.get(subscriber, ()) if subscriber else ()
    return tuple(dict.fromkeys([*_asked(share), *owed, *remove.get(share.share_id, ())]))


def _asked(share: Share) -> tuple[UUID, ...]:
    """What is to be removed and not proved yet. What is proved is asked no more, unless it is recalled again."""
    return () if share.satisfied else share.removing


def _changed(share: Share | None, want: Wanted, thing: Thing, changed: tuple[SectionLetter, ...]) -> tuple[SectionLetter, ...]:
    """What is new to this recipient, of what it gets. A section that is no longer there has changed too."""
    if share is None or share.action != "hold":
        return thing.sections
    if share.version_id == thing.thing_id:
        return ()
    return changed if want.sections is None else tuple(letter for letter in changed if letter in want.sections)


def _answer(asking: Asking, share_id: UUID, seq: int, want: Wanted) -> dict[str, Any]:
    return {
        "share_id": share_id, "recipient": want.recipient.name, "recipient_kind": want.recipient.kind, "seq": seq,
        "channel": want.recipient.channel, "grounds": sorted({ground.grounds for ground in want.grounds}),
        "due_at": shares.due_at(want.recipient.channel, asking.at),
    } | ({"sections": want.sections} if want.sections is not None else {})  # fmt: skip


def again(row: Mapping[str, Any], now: datetime, resend_after: timedelta) -> Wish:
    """What a share wants already, under a ``seq`` above everything its subscriber has seen, and in its council's name. ``row``:
    the share with its instruction and newest receipt, locked."""
    seq = max(row["seq"], row["receipt_seq"] or 0) + 1
    due_at = shares.due_at(Channel(row["channel"]), now)
    return Wish(
        row["share_id"], row["la_code"], row["plan_id"], row["recipient_id"], row["subscriber"], seq, row["action"],
        row["version_id"], row["notice_id"], row["rendering_id"], row["identity_revision"], tuple(row["removing"]), row["type"],
        instructions.again(row["data"], seq, row["la_code"], now, due_at), now, due_at, now + resend_after, None,
    )  # fmt: skip
