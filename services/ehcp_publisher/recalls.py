"""A recall: whose copies of what must go, who is asked for that, and what is kept of it for the breach pack.

Invariant: whoever was ever told to hold what is recalled is asked to remove it and counts as outstanding until a receipt of its
own subscriber proves the removal: also one whose share was withdrawn since, and a subscriber that the recipient had before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from schemas.events import EventType, ShareRecalled
from schemas.lifecycle import Recall, RecallReason
from schemas.manifest import canonical
from services.ehcp_publisher import instructions, store, store_events, store_handover, store_recalls, wishes
from services.ehcp_publisher.shares import Decision
from services.ehcp_publisher.store import Act, KnownPlan, Share
from services.ehcp_publisher.store_recalls import Former, NewRecall
from services.ehcp_publisher.wishes import Asking
from services.shared.ids import new_id
from services.shared.web.problems import FieldError, Problem


@dataclass(frozen=True, slots=True)
class Removals:
    """What must go, by share."""

    of_plan: Mapping[UUID, tuple[UUID, ...]] = field(default_factory=dict)
    """Versions, by the plan's shares."""
    of_notices: Sequence[Share] = ()
    """Shares of notices; each is its whole copy."""

    @property
    def things(self) -> dict[UUID, tuple[UUID, ...]]:
        notices = {share.share_id: (share.notice_id,) for share in self.of_notices if share.notice_id}
        return dict(self.of_plan) | notices


NOTHING = Removals()


async def find(connection: Any, plan: KnownPlan, event: Recall) -> Removals:
    """Everyone's copy of a version or notice of the wrong child; of a wrong recipient every version and notice, or, where a
    notice alone went wrong, that notice. Raises :class:`Problem`."""
    shares = (await store.lock_shares(connection, [plan.plan_id], notices=True, arrived=True)).get(plan.plan_id, [])
    notices = [share for share in shares if share.notice_id]
    is_version = event.version_id in {each.version_id for each in plan.versions}
    if not is_version and not await store_recalls.is_notice(connection, plan.plan_id, event.version_id):
        raise Problem(
            422, "unknown-version", "The plan has no such version", "Nothing was recalled.",
            [FieldError("event/version_id", "it is no version or notice of this plan", "one that the plan's list has")],
        )  # fmt: skip
    if not is_version:
        of_it = [share for share in notices if share.notice_id == event.version_id]
        if event.reason is RecallReason.WRONG_RECIPIENT:
            _must_be_known(event, {share.share_id for share in of_it})
            of_it = [share for share in of_it if share.share_id in event.shares]
        return Removals(of_notices=of_it)
    if event.reason is RecallReason.WRONG_CHILD:
        given = await store_recalls.shares_with(connection, plan.plan_id, event.version_id)
        return Removals(dict.fromkeys(given, (event.version_id,)))
    standing = {share.share_id: share for share in shares if not share.notice_id}
    _must_be_known(event, standing.keys())
    wrong = {standing[share_id].recipient_id for share_id in event.shares}
    for recipient_id in sorted(wrong):
        decision = Decision(recipient_id, share=False, code=None, lawful_basis="recall", reason=event.reason, until=None)
        await store_events.save_decision(connection, plan.plan_id, plan.la_code, decision, event.by)
    things = await store_recalls.things_of(connection, event.shares)
    return Removals(things, [share for share in notices if share.recipient_id in wrong])


def _must_be_known(event: Recall, known: Any) -> None:
    if unknown := [share_id for share_id in event.shares if share_id not in known]:
        raise Problem(
            422, "unknown-share", "A share is not of this plan",
            f"{len(unknown)} of the shares named are not of this plan, or not of the notice named; nothing was recalled.",
        )  # fmt: skip


def of_notices(asking: Asking, removals: Removals) -> wishes.Made:
    """The wish that these notices go, where it does not stand already. Pure."""
    made = wishes.Made(asking)
    for share in removals.of_notices:
        assert share.notice_id is not None
        if share.action != "recall":
            made.wishes.append(wishes.recall(asking, share, (share.notice_id,)))
    return made


async def write(connection: Any, event: Recall, plan: KnownPlan, removals: Removals, at: datetime) -> UUID:
    """Keep the recall and its copies, and ask former subscribers too; call when the wishes are written.

    What another officer recalled before is the same breach: that recall gets this one's copies too, and its clock runs from
    whoever was aware first.
    """
    things = removals.things
    known = await store_recalls.find_same(connection, plan.plan_id, event.version_id, event.reason, list(event.shares))
    recall = NewRecall(known or new_id(), plan.plan_id, plan.la_code, event.version_id, event.reason, event.by, event.aware_at)
    if known:
        await store_recalls.insert_word(connection, recall)
    else:
        await store_recalls.insert(connection, recall)
    await store_recalls.insert_copies(connection, recall.recall_id, things, at)
    asked, copies, acts = [], [], []
    for row in await store_recalls.lock_former(connection, list(things)):
        remove = tuple(dict.fromkeys([*_asked_before(row), *things[row["share_id"]]]))
        former = Former(row["share_id"], row["subscriber"], row["la_code"], row["seq"], said(row, remove, at, row["due_at"]))
        asked.append(former)
        copies.append((former, things[row["share_id"]], row["due_at"]))
        details = {"subscriber": former.subscriber, "former": True}
        acts.append(
            Act("recalled", event.by, plan.la_code, plan.plan_id, event.version_id, former.share_id, former.seq, details)
        )
    await store_handover.write_told(
        connection, [(each.share_id, each.subscriber, each.seq, EventType.SHARE_RECALLED, each.data) for each in asked], at
    )
    await store_recalls.insert_former(connection, recall.recall_id, copies, at)
    await store.insert_acts(connection, acts)
    await store.insert_outbox(
        connection,
        [
            instructions.to_subscriber(each.subscriber, each.share_id, EventType.SHARE_RECALLED, each.la_code, each.data, at)
            for each in asked
        ],
    )
    return recall.recall_id


def said(row: Any, remove: Sequence[UUID], at: datetime, due_at: datetime) -> bytes:
    """The words of a recall for a former subscriber. ``row``: the share, and its newest instruction as ``data``."""
    event = ShareRecalled(
        share_id=row["share_id"], seq=row["seq"], la_code=row["la_code"], plan_id=row["plan_id"],
        recipient=orjson.loads(row["data"])["recipient"], remove=tuple(remove), requested_at=at, due_at=due_at,
    )  # fmt: skip
    return canonical(event.model_dump(mode="json"))


def _asked_before(row: Any) -> list[UUID]:
    return [UUID(each) for each in orjson.loads(row["told"])["remove"]] if row["told"] else []
