"""What happens to a plan besides a new version: one event, applied in one transaction with all that follows from it.

Invariant: the plan's new state, its circumstances, notices, wishes, outbox rows and acts are committed together or not at all.
What an event means is prepared outside the transaction for one revision of the plan (``consequences``); where another request
came first, it is prepared anew. The last word about a thing said once more is answered and changes nothing.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from schemas.events import PlanHappened, PlanRecalled, PlanTransferred, ReviewDecided, ReviewHappened
from schemas.guard import Finding
from schemas.lifecycle import PLAN_EVENT, Confirm, PlanEvent, Recall, RecallReason, Told, Transfer
from schemas.plan import Child, Circumstances, SectionLetter
from services.ehcp_publisher import (
    currency,
    families,
    guard,
    identities,
    instructions,
    lifecycle,
    notices,
    recalls,
    store,
    store_directory,
    store_events,
    store_guard,
    versions,
    wishes,
)
from services.ehcp_publisher.consequences import Before, Consequences, Telling, circumstances_after, consequences
from services.ehcp_publisher.deciding import IN_FORCE, Batch, Deciding, RenderingNeededError, Situation, undeliverable, waits
from services.ehcp_publisher.documents import Received
from services.ehcp_publisher.guarding import Guarding
from services.ehcp_publisher.idempotency import Answer, Once
from services.ehcp_publisher.overview import no_such_plan
from services.ehcp_publisher.rendering import RenderingError
from services.ehcp_publisher.shares import Wanted
from services.ehcp_publisher.store import Act, KnownPlan, NewRendering
from services.ehcp_publisher.wishes import Thing
from services.shared.identity.tokens import Caller
from services.shared.postgres.pool import Row, council_transaction
from services.shared.web.problems import FieldError, Problem

log = structlog.get_logger()
_ATTEMPTS = 5


class _Changed(Exception):  # noqa: N818 - not an error: the plan is no longer what the event was prepared for
    pass


class Events:
    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", deciding: Deciding, guarding: Guarding) -> None:
        self._pool = pool
        self._deciding = deciding
        self._guarding = guarding

    async def record(
        self, caller: Caller, plan_id: UUID, event: PlanEvent, document: Received | None = None,
        attachments: Sequence[Received] = (), once: Once | None = None,
    ) -> Answer:  # fmt: skip
        """Raises :class:`Problem`."""
        hash_ = _hash(event, document, attachments)
        parts: set[str] = set()
        findings: tuple[Finding, ...] | None = None
        for _ in range(_ATTEMPTS):
            before, repeated = await self._before(caller, plan_id, event, hash_, has_document=document is not None)
            if repeated:
                return Answer(200, _body(before.plan, event) | {"status": "unchanged"})
            follows = consequences(event, before, self._deciding.today())
            if follows.telling is None and (document or attachments):
                raise _nobody_to_tell(event)
            if follows.telling is None and isinstance(event, Told) and event.not_to:
                raise _nobody_to_leave_out(event)
            if findings is None:
                findings = await self._look(before, follows, document, attachments)
            follows = _held_back(follows) if guard.holds(findings) else follows
            typeset = await self._typeset_again(before, follows, parts)
            notice = await self._sealed(before, follows.telling, document, attachments)
            try:
                return await self._apply(caller, event, before, follows, typeset, notice, findings, hash_, once)
            except _Changed:
                findings = None  # another name or number may be the child's by now
                continue
            except RenderingNeededError as needed:
                if follows.child is not None:
                    # They name the child as it is to be: kept now, they would be found by another correction that came first.
                    parts |= needed.sections[plan_id]
                    continue
                made = await self._rendered(before, needed.sections[plan_id], None)
                async with council_transaction(self._pool, caller.la_codes) as connection:
                    await store.insert_renderings(connection, made)
            except asyncpg.UniqueViolationError as error:
                raise _taken(error) from None
        raise Problem(409, "busy", "The plan keeps changing", "Send this event again.")

    async def for_commissioner(self, caller: Caller, plan_id: UUID) -> Caller:
        """Reg 16 binds the commissioning body, so it must be able to tell; in the name of the plan's council. Raises
        :class:`Problem` for a subscriber that delivers the plan to no commissioning body."""
        async with council_transaction(self._pool, self._deciding.directory.councils) as connection:
            la_code = await store_events.council_of_commissioner(connection, plan_id, caller.subscriber or "")
        if la_code is None:
            raise Problem(
                403, "not-allowed", "This client may not do this",
                "Only a subscriber that delivers this plan to its commissioning body may tell of a change.",
            )  # fmt: skip
        return replace(caller, la_codes=frozenset({la_code}))

    async def _before(
        self, caller: Caller, plan_id: UUID, event: PlanEvent, hash_: bytes, *, has_document: bool
    ) -> tuple[Before, bool]:
        """The plan as it is, and whether this very event was the last word about its thing."""
        async with council_transaction(self._pool, caller.la_codes) as connection:
            found = await store.find_plans(connection, [plan_id], [])
            if not found:
                raise await no_such_plan(connection, plan_id)
            (plan,) = found
            last = await store_events.last_event(connection, plan_id, lifecycle.about(event))
            now, was = versions.current(_after(event, plan.versions)), versions.current(plan.versions)
            other = now != was
            body = await store.read_body(connection, now.version_id) if now else None
            review = None
            if name := getattr(event, "review", None):
                review = await store_events.find_review(connection, plan_id, name)
            confirmation = None
            if recipient_id := getattr(event, "recipient_id", None):
                confirmation = await store_events.find_confirmation(connection, plan_id, recipient_id)
            hold = None
            if isinstance(event, Confirm | Recall) and event.version_id:
                hold = await store_guard.find_hold(connection, plan_id, event.version_id)
            family = (await store.read_family(connection, [plan_id])).get(plan_id, ()) if hold else ()
            came_on = await store_events.find_since(connection, plan_id) if isinstance(event, Transfer) else None
            people = await self._deciding.read_people(connection, [plan_id])
            since = await store_events.read_events_since(connection, plan_id, now.version_id) if now and other else []
            ends = await store_events.read_ends(connection, plan_id) if lifecycle.about(event) == "end" else ()
        version = self._deciding.version_of(plan, now.version_id, body) if now and body is not None else None
        child, around = self._deciding.child_of(plan), self._deciding.circumstances_of(plan, version)
        if other:
            key = self._deciding.key_of(plan)
            opened = [PLAN_EVENT.validate_json(key.open(row["data"], f"event:{plan_id}:{row['revision']}")) for row in since]
            around = circumstances_after(version.circumstances() if version else Circumstances(), opened)
        decided = None
        if now:
            decided = self._deciding.decide(
                plan_id,
                plan.la_code,
                around,
                child,
                people,
                issued_on=now.issued_on,
                first=True,
                letters=(),
                doubts=plan.doubts,
            )
        before = Before(
            plan,
            now,
            version,
            child,
            around,
            review,
            confirmation,
            decided,
            self._deciding.directory,
            has_document,
            ends,
            came_on,
            hold,
            other,
            people=families.opened(self._deciding.key_of(plan), family),
        )
        said = last is not None and last["hash"] == hash_
        return before, said and last is not None and (lifecycle.lasts(event) or last["revision"] == plan.revision)

    async def _typeset_again(self, before: Before, follows: Consequences, parts: Set[str]) -> list[NewRendering]:
        """What was typeset here names the child: it is typeset again when the child's details change. ``parts``: and these."""
        plan, now = before.plan, before.current
        if follows.child is None or now is None:
            return []
        async with council_transaction(self._pool, [plan.la_code]) as connection:
            found = (await store.find_renderings(connection, [now.version_id])).get(now.version_id, {})
        return await self._rendered(before, parts | {key for key, row in found.items() if row["typeset"]}, follows.child)

    async def _look(
        self, before: Before, follows: Consequences, document: Received | None, attachments: Sequence[Received]
    ) -> tuple[Finding, ...]:
        """The words of a notice are the exchange's own; what comes with it is compared as a version is."""
        if follows.telling is None or not (document or attachments):
            return ()
        la_code, on = before.plan.la_code, follows.telling.notice.happened_on
        looked = await self._guarding.read(la_code, follows.child or before.child, on, None, document, attachments)
        (findings,) = await self._guarding.judge([looked])
        return findings

    async def _sealed(
        self, before: Before, telling: Telling | None, document: Received | None, attachments: Sequence[Received]
    ) -> notices.Sealed | None:
        if telling is None:
            return None
        key = self._deciding.key_of(before.plan)
        return await asyncio.to_thread(notices.seal, before.plan, key, telling.notice, document, attachments)

    async def _rendered(self, before: Before, parts: Iterable[str], child: Child | None) -> list[NewRendering]:
        assert before.current is not None
        try:
            return await self._deciding.render_again(self._pool, before.plan, before.current, parts, child)
        except RenderingError:
            raise Problem(
                422, "not-typeset", "No document could be made of the sections",
                "Issue the current version again with the plan's PDF in the part 'document'.",
            ) from None  # fmt: skip

    async def _apply(
        self, caller: Caller, event: PlanEvent, before: Before, follows: Consequences, typeset: Sequence[NewRendering],
        notice: notices.Sealed | None, findings: tuple[Finding, ...], hash_: bytes, once: Once | None,
    ) -> Answer:  # fmt: skip
        plan_id = before.plan.plan_id
        councils = {*caller.la_codes, follows.to_council or before.plan.la_code}
        async with council_transaction(self._pool, councils) as connection:
            revision = await self._hold_directory(connection, follows)
            locked = (await store.lock_plans(connection, [plan_id])).get(plan_id)
            if locked is None or locked.revision != before.plan.revision or locked.la_code not in caller.la_codes:
                raise _Changed
            at = await connection.fetchval("SELECT clock_timestamp()")
            await self._write_plan(connection, event, locked, follows, revision)
            await store.insert_renderings(connection, typeset)
            plan = (await store.lock_plans(connection, [plan_id]))[plan_id]
            key = self._deciding.key_of(plan)
            recalled = await recalls.find(connection, plan, event) if isinstance(event, Recall) else recalls.NOTHING
            child, around = follows.child or before.child, follows.circumstances or before.circumstances
            batch = Batch()
            situation = Situation(plan, child, around, key, recalled.things, follows.quiet, _changed_letters(before, follows))
            await self._deciding.again(connection, event.by, [situation], at, batch)
            asking = self._deciding.asking(plan_id, plan.la_code, plan.identity_revision, at)
            batch.add(caller.client_id, key, (), recalls.of_notices(asking, recalled))
            raised, left_out = len(batch.wishes), tuple[Row, ...]()
            if follows.to_council:
                # A notice under way is wanted in the new council's name, as the plan is: receipts say whose share they are of.
                gone = {wish.share_id for wish in batch.wishes}
                pending = await store.lock_pending_notices(connection, plan_id)
                renamed = [wishes.again(row, at, asking.resend_after) for row in pending if row["share_id"] not in gone]
                batch.add(caller.client_id, key, (), wishes.Made(asking, renamed))
            if follows.telling and notice:
                if findings:
                    batch.holds.append(_hold_of(event, plan, notice, findings))
                left_out = await self._tell(
                    connection, caller, situation, event, follows.telling, notice, at, batch, held=guard.holds(findings)
                )
            if follows.looked_at:
                await self._looked_at(connection, caller, situation, before, follows.looked_at, at, batch)
            data = event.model_dump_json().encode()
            await store_events.insert_event(
                connection,
                store_events.NewEvent(
                    plan_id, plan.revision, plan.la_code, event.type, lifecycle.about(event), event.by,
                    follows.happened_on, hash_,
                    key.seal(data, f"event:{plan_id}:{plan.revision}"),
                ),
            )  # fmt: skip
            details: dict[str, Any] = {"by": event.by, "happened_on": str(follows.happened_on), "state": plan.state}
            if left_out:
                details["left_out"] = [each["recipient_id"] for each in left_out]
            batch.acts.insert(0, Act(event.type, caller.client_id, before.plan.la_code, plan_id, details=details))
            if (type_ := lifecycle.EVENTS.get(event.type)) is not None:
                batch.outbox.append(
                    instructions.domain_event(type_, plan_id, before.plan.la_code, _thin(event, before.plan, follows), at)
                )
            batch.flags[plan_id] = (plan.la_code, await self._flags(connection, before, plan, child, around))
            await batch.write(connection)
            if isinstance(event, Recall):
                await recalls.write(connection, event, plan, recalled, at)
            warnings = list(follows.warnings)
            if follows.child or follows.to_council or follows.child_columns.get("findable"):
                warnings += [_namesake(each) for each in await store_events.find_namesakes(connection, plan.child_id)]
            if decided := batch.decided.get(plan_id):
                warnings += undeliverable(decided[1].wanted, self._deciding.directory, self._deciding.today())
                warnings += [waits(each) for each in decided[1].unconfirmed]
            answer = Answer(
                201,
                _body(plan, event) | {"status": "recorded", "shares_changed": raised,
                                      "notice_id": notice.notice.notice_id if notice else None,
                                      "told": len(batch.wishes) - raised,
                                      "left_out": [each["who"] for each in left_out], "warnings": warnings + _said(findings)}
                | ({"findings": [each.model_dump(mode="json") for each in findings]} if findings else {}),
            )  # fmt: skip
            if once:
                await once.keep(connection, answer)
        log.info("event_recorded", type=event.type, plan_id=str(plan_id), shares=raised)
        return answer

    async def _hold_directory(self, connection: Any, follows: Consequences) -> int:
        """Alone where the event makes an organisation familiar to the council; the number that this change has then."""
        if follows.familiar:
            return await store_directory.hold_alone(connection, self._deciding.directory)
        await store_directory.refresh(connection, self._deciding.directory)
        return self._deciding.directory.revision

    async def _write_plan(
        self, connection: Any, event: PlanEvent, plan: KnownPlan, follows: Consequences, revision: int
    ) -> None:
        """``revision``: of the directory, where the event changes it."""
        key, changes = self._deciding.key_of(plan), dict(follows.plan)
        if follows.state is not plan.state:
            changes["state"] = follows.state
        if follows.circumstances is not None:
            opened = follows.circumstances.model_dump_json(by_alias=True).encode()
            changes["circumstances"] = key.seal(opened, f"circumstances:{plan.plan_id}")
        child = dict(follows.child_columns)
        if follows.child is not None:
            changes["identity_revision"] = plan.identity_revision + 1
            keys = self._deciding.keys
            child |= {
                "identity": key.seal(follows.child.model_dump_json().encode(), f"child:{plan.child_id}"),
                "nhs_lookup": keys.lookup("nhs", follows.child.nhs_number),
                "upn_lookup": keys.lookup("upn", follows.child.upn),
                "name_lookup": keys.name_lookup(follows.child),
            }
        if follows.to_council is not None:
            wrapped = self._deciding.keys.rewrap(plan.la_code, follows.to_council, plan.child_id, plan.wrapped_key)
            await store_events.change_council(
                connection, plan.plan_id, plan.child_id, wrapped, follows.to_council, follows.happened_on
            )
        if child:
            await store_events.update_child(connection, plan.child_id, child)
        await store_events.update_plan(connection, plan.plan_id, changes)
        await store_events.write_doubts(connection, {plan.plan_id: follows.doubts})
        la_code = follows.to_council or plan.la_code
        if follows.review:
            await store_events.save_review(connection, plan.plan_id, la_code, *follows.review)
        if follows.past_reviews:
            await store_events.keep_past_reviews(connection, plan.plan_id, la_code, follows.past_reviews)
        if follows.decision:
            await store_events.save_decision(connection, plan.plan_id, la_code, follows.decision, event.by)
        if follows.confirmed:
            recipient_id, share = follows.confirmed
            await store_events.confirm(connection, plan.plan_id, recipient_id, event.by, share=share)
        if follows.familiar:
            codes = await store_directory.make_familiar(connection, revision, la_code, follows.familiar, event.by)
            await store_directory.write_revision(connection, revision)
            await store_events.queue_plans(connection, "confirmed", la_code, codes)
        if follows.looked_at:
            thing_id, released = follows.looked_at
            await store_guard.decide(connection, thing_id, event.by, released=released)
        if follows.child is not None:
            names = guard.names_of(identities.identity(follows.child), self._deciding.keys)
            await store_guard.rename(connection, store_guard.NamedChild(plan.child_id, la_code, names))
        if isinstance(event, Recall) and event.reason is RecallReason.WRONG_CHILD:
            await store_events.recall_version(connection, event.version_id)

    async def _flags(
        self, connection: Any, before: Before, plan: KnownPlan, child: Child, around: Circumstances
    ) -> Sequence[currency.Flag]:
        """What a person should look at now; nothing once the plan has ended."""
        if plan.state not in IN_FORCE or before.version is None:
            return ()
        moved = (await store_events.last_moves(connection, [plan.plan_id])).get(plan.plan_id)
        return currency.flags(before.version, child, around, self._deciding.today(), moved, plan.la_code)

    async def _looked_at(
        self, connection: Any, caller: Caller, situation: Situation, before: Before, looked_at: tuple[UUID, bool], at: Any,
        batch: Batch,
    ) -> None:  # fmt: skip
        """What was held is shared as if it had come now, or never is."""
        plan, (thing_id, released) = situation.plan, looked_at
        batch.acts.append(Act("released" if released else "rejected", caller.client_id, plan.la_code, plan.plan_id, thing_id))
        if not released or before.hold is None:
            return
        if before.hold["kind"] == "notice":
            row = await store_guard.read_notice(connection, thing_id)
            notice, thing = notices.stored(row, thing_id, situation.key)
            if notice.review and (column := lifecycle.SENT_ON.get(notice.kind)):
                sent = {column: self._deciding.today()}
                await store_events.save_review(connection, plan.plan_id, plan.la_code, notice.review, sent)
            people = await self._deciding.read_people(connection, [plan.plan_id])
            told, _ = self._deciding.told(situation, people, notice.kind, thing)
            # It may leave since it was decided again: who waited for it, and was confirmed while it was held, is told already.
            done = {recipient_id for told_id, recipient_id in batch.told_now if told_id == thing_id}
            told = tuple(each for each in told if each.recipient.recipient_id not in done)
            batch.told_now += [(thing_id, each.recipient.recipient_id) for each in told]
            self._notify(caller, situation, told, row["left_out"], thing, at, batch)
        elif before.replaces_current and before.current:
            was = versions.current(before.plan.versions)
            batch.outbox.append(instructions.issued(plan.plan_id, plan.la_code, before.current, was, at))

    async def _tell(
        self, connection: Any, caller: Caller, situation: Situation, event: PlanEvent, telling: Telling, notice: notices.Sealed,
        at: Any, batch: Batch, *, held: bool,
    ) -> tuple[Row, ...]:  # fmt: skip
        """A notice for everyone who must know, by the law's rows. Returns who is left out of it. Raises :class:`Problem`."""
        plan = situation.plan
        people = await self._deciding.read_people(connection, [plan.plan_id])
        told, later = self._deciding.told(situation, people, telling.event, notice.thing)
        everyone, directory = (*told, *later), self._deciding.directory
        left_out = notices.left_out(plan.plan_id, event, everyone, directory) if isinstance(event, Told) else ()
        out = {each["recipient_id"] for each in left_out}
        waiting = [each.recipient.recipient_id for each in later]
        await notice.write(connection, left_out, tuple(each for each in waiting if str(each) not in out))
        if not held:
            self._notify(caller, situation, told, left_out, notice.thing, at, batch)
        return left_out

    def _notify(
        self, caller: Caller, situation: Situation, told: Sequence[Wanted], left_out: Sequence[Row], thing: Thing, at: Any,
        batch: Batch,
    ) -> None:  # fmt: skip
        plan, out = situation.plan, {each["recipient_id"] for each in left_out}
        told = tuple(each for each in told if str(each.recipient.recipient_id) not in out)
        asking = self._deciding.asking(plan.plan_id, plan.la_code, plan.identity_revision, at)
        batch.add(caller.client_id, self._deciding.key_of(plan), told, wishes.tell(asking, told, thing))


def _after(event: PlanEvent, known: Sequence[versions.Issued]) -> list[versions.Issued]:
    """The plan's versions once this has happened to them."""
    match event:
        case Recall(reason=RecallReason.WRONG_CHILD):
            return [each for each in known if each.version_id != event.version_id]
        case Confirm(share=True):
            released = versions.Hold(released=True)
            return [
                replace(each, hold=released) if each.waits and each.version_id == event.version_id else each for each in known
            ]
        case _:
            return list(known)


def _changed_letters(before: Before, follows: Consequences) -> tuple[SectionLetter, ...]:
    if not (follows.looked_at and before.replaces_current and before.current):
        return ()
    was = versions.current(before.plan.versions)
    if was is None:
        return tuple(SectionLetter)
    return versions.changed_sections(was.section_hashes, versions.hashes_by_letter(before.current))


def _held_back(follows: Consequences) -> Consequences:
    """Nobody was invited or told yet: the law's clock for that runs on."""
    if follows.review is None:
        return follows
    name, columns = follows.review
    return replace(follows, review=(name, {k: v for k, v in columns.items() if k not in lifecycle.SENT_ON.values()}))


def _hold_of(event: PlanEvent, plan: KnownPlan, notice: notices.Sealed, findings: tuple[Finding, ...]) -> store_guard.NewHold:
    waived = not guard.holds(findings)
    return store_guard.NewHold(notice.notice.notice_id, "notice", plan.plan_id, plan.la_code, findings, event.by, waived)


def _said(findings: Sequence[Finding]) -> list[str]:
    if not guard.holds(findings):
        return []
    said = store_guard.said(each for each in findings if not each.waived)
    return [f"The notice is held, and nobody is told: {said}. A second person releases or rejects it: see /v1/confirmations."]


def _namesake(case_reference: str) -> str:
    return f"The child of {case_reference} has the same name and date of birth: check that it is another child."


def _nobody_to_tell(event: PlanEvent) -> Problem:
    """A file that nobody would get must not be taken in as if somebody did."""
    return Problem(
        422, "no-document", f"Nobody is told of {event.type} by a document", "Nothing was recorded.",
        [FieldError("document", "no notice goes out with this event", "the event alone; review_held with its report as the "
                    "part 'document'")],
    )  # fmt: skip


def _nobody_to_leave_out(event: PlanEvent) -> Problem:
    return Problem(
        422, "nobody-told", f"Nobody is told of this {event.type}", "Nothing was recorded.",
        [FieldError("event/not_to", "no notice goes out with this event", "the event without it; review_held tells with its "
                    "report as the part 'document'")],
    )  # fmt: skip


def _hash(event: PlanEvent, document: Received | None, attachments: Sequence[Received]) -> bytes:
    # What the contract did not have once is in it only where it is said: the event is still the one that was recorded then.
    unsaid = {name for name in ("not_to", "not_to_reason") if not getattr(event, name, None)}
    digest = hashlib.sha256(event.model_dump_json(exclude=unsaid).encode())
    for file in (document, *attachments):
        digest.update(file.sha256.encode() if file else b"-")
    return digest.digest()


def _body(plan: KnownPlan, event: PlanEvent) -> dict[str, Any]:
    return {
        "plan_id": plan.plan_id, "case_reference": plan.case_reference, "type": event.type, "state": plan.state,
        "restricted": plan.restricted is not None,
    }  # fmt: skip


def _thin(event: PlanEvent, plan: KnownPlan, follows: Consequences) -> PlanHappened:
    common: dict[str, Any] = {"la_code": plan.la_code, "plan_id": plan.plan_id, "happened_on": follows.happened_on}
    match event.type:
        case "transfer":
            return PlanTransferred(**common, to_la_code=event.to_la_code)
        case "recall":
            return PlanRecalled(**common, version_id=event.version_id)
        case "review_scheduled" | "review_held":
            return ReviewHappened(**common, review=event.review)
        case "review_decided":
            return ReviewDecided(**common, review=event.review, decision=event.decision)
        case _:
            return PlanHappened(**common)


def _taken(error: asyncpg.UniqueViolationError) -> Problem:
    if (error.constraint_name or "").startswith("child_"):
        return Problem(
            409, "same-child", "Another plan is of a child with this NHS number or UPN",
            "Nothing was changed. Check the identifier; two plans of one child are ended by ceasing one of them.",
        )  # fmt: skip
    return Problem(
        409, "reference-taken", "The new council has a plan under this case reference",
        "Send case_reference: the new council's own reference for this plan.",
    )  # fmt: skip
