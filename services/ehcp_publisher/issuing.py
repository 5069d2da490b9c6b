"""Issue versions in batches: decide, render and seal outside the transaction, then write everything in one.

Invariant: a version, the shares it raises, their instructions, outbox rows and acts are committed together or not at all.
What was decided before the locks is decided again under them; where it no longer holds, the line is prepared anew. The
relay takes it from the outbox to Kafka.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, assert_never
from uuid import UUID

import asyncpg
import structlog

from schemas.events import EventType, PlanAmended, PlanFinalised
from schemas.manifest import FileEntry, Manifest, sha256
from schemas.plan import Child, PlanSubmission, PlanVersion, SectionLetter
from services.ehcp_publisher import instructions, shares, store, versions
from services.ehcp_publisher.documents import Received
from services.ehcp_publisher.keys import ChildKeys
from services.ehcp_publisher.registry import Directory
from services.ehcp_publisher.rendering import Renderer, RenderingError
from services.ehcp_publisher.store import Act, KnownPlan, NewPlan, NewVersion, Person, Wish
from services.shared.clock import Clock, utc_now
from services.shared.identity.tokens import Caller
from services.shared.ids import new_id
from services.shared.postgres.pool import council_transaction, transient
from services.shared.sealing.sealing import Key
from services.shared.web.problems import FieldError, Problem

log = structlog.get_logger()
PDF = "application/pdf"
KEY_IN_USE = "key-in-use"
FARTHEST_AHEAD = timedelta(days=365)
"""How far ``issued_on`` may be ahead. The newest date is the current version: with 2062 for 2026 by mistake, every version that
follows would be history, and never shared."""
_ATTEMPTS = 5
"""A line is prepared anew when another request changed its plan in between; five in a row do not happen."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One version to issue: for a known plan by ``plan_id``, else with the child and the council's case reference."""

    version: PlanVersion
    plan_id: UUID | None = None
    first: PlanSubmission | None = None
    document: Received | None = None
    attachments: tuple[Received, ...] = ()
    render: bool = True

    @property
    def place(self) -> object:
        """Two submissions with the same place concern the same plan and never go into one transaction."""
        return self.plan_id or (self.first and (self.first.la_code, self.first.case_reference))


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: dict[str, Any]


Result = Answer | Problem


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Everything the transaction writes, sealed already."""

    submission: Submission
    plan_id: UUID
    la_code: str
    case_reference: str
    new: NewPlan | None
    text: versions.Text
    decision: versions.Decision
    version: NewVersion | None
    key: Key


class _Changed:
    """The plan is no longer what the line was prepared for."""


class Issuing:
    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        directory: Directory,
        keys: ChildKeys,
        renderer: Renderer,
        resend_after: timedelta,
        clock: Clock = utc_now,
    ) -> None:
        self._pool = pool
        self._directory = directory
        self._keys = keys
        self._renderer = renderer
        self._resend_after = resend_after
        self._clock = clock

    async def issue(
        self, caller: Caller, submissions: Sequence[Submission], idempotency: tuple[str, str, str] | None = None
    ) -> list[Result]:
        """One result for each, in order. ``idempotency`` is (route, key, body hash), for a single submission."""
        results: dict[int, Result] = {}
        waiting = dict(enumerate(submissions))
        attempts: Counter[int] = Counter()
        while waiting:
            wave = _one_per_plan(waiting)
            for index, result in (await self._wave(caller, wave, idempotency)).items():
                attempts[index] += 1
                if isinstance(result, _Changed):
                    if attempts[index] < _ATTEMPTS:
                        continue
                    result = Problem(409, "busy", "The plan keeps changing", "Send this version again.")
                results[index] = result
                del waiting[index]
        return [results[index] for index in range(len(submissions))]

    async def _wave(
        self, caller: Caller, wave: dict[int, Submission], idempotency: tuple[str, str, str] | None
    ) -> dict[int, Result | _Changed]:
        results: dict[int, Result | _Changed] = {}
        async with council_transaction(self._pool, caller.la_codes) as connection:
            known = await store.find_plans(
                connection,
                [s.plan_id for s in wave.values() if s.plan_id],
                [(s.first.la_code, s.first.case_reference) for s in wave.values() if s.first],
            )
        by_place: dict[object, KnownPlan] = {}
        for plan in known:
            by_place[plan.plan_id] = by_place[(plan.la_code, plan.case_reference)] = plan
        prepared: dict[int, _Prepared] = {}
        for index, submission in wave.items():
            await asyncio.sleep(0)  # others' requests go between two lines
            try:
                prepared[index] = await self._prepare(caller, submission, by_place.get(submission.place))
            except Problem as problem:
                results[index] = problem
            except RenderingError:
                results[index] = Problem(
                    422, "not-typeset", "No document could be made of the sections",
                    "Send the plan's PDF in the part 'document', or the sections alone in a batch with render=false.",
                )  # fmt: skip
            except Exception:  # whatever it is, it is this line's own: the others go through
                log.exception("prepare_failed")
                results[index] = _not_stored()
        if prepared:
            results |= await self._commit(caller, prepared, idempotency)
        return results

    async def _prepare(self, caller: Caller, submission: Submission, plan: KnownPlan | None) -> _Prepared:
        """Outside any transaction: hashes, the rendering, the seals."""
        version, first = submission.version, submission.first
        text = versions.text_of(
            version,
            submission.document.sha256 if submission.document else None,
            [each.sha256 for each in submission.attachments],
        )
        if not version.sections and not submission.document:
            raise Problem(
                422, "no-text", "The version has no text", "It has neither sections nor a document.",
                [FieldError("version/sections", "neither sections nor a document", "send sections, a document part, or both")],
            )  # fmt: skip
        if version.issued_on > self._clock().date() + FARTHEST_AHEAD:
            raise Problem(
                422, "issued-in-future", "The date of issue is more than a year ahead",
                "Versions issued after this one would count as older, and would not be shared.",
                [FieldError("version/issued_on", "more than a year ahead", "the day on which the version is issued")],
            )  # fmt: skip
        new: NewPlan | None = None
        decision = versions.decide(plan.versions if plan else (), version.issued_on, text)
        if plan is None:
            if first is None:
                raise Problem(
                    404, "unknown-plan", "There is no such plan",
                    "No plan of your council has this id; send a first version to /v1/plans.",
                )  # fmt: skip
            new, key = self._new_plan(first)
            plan_id, la_code, case_reference, child = new.plan_id, first.la_code, first.case_reference, first.child
        else:
            if first is not None and not isinstance(decision, versions.Repeat):
                raise Problem(
                    409, "plan-exists", "This case reference has a plan already",
                    f"Send further versions to /v1/plans/{plan.plan_id}/versions.", extra={"plan_id": str(plan.plan_id)},
                )  # fmt: skip
            plan_id, la_code, case_reference = plan.plan_id, plan.la_code, plan.case_reference
            key = self._keys.child_key(la_code, plan.child_id, plan.wrapped_key)
            child = Child.model_validate_json(key.open(plan.identity, f"child:{plan.child_id}"))
            if first is not None and first.child != child:
                raise _child_differs(plan, child, first.child)
        ready = _Prepared(submission, plan_id, la_code, case_reference, new, text, decision, None, key)
        if isinstance(decision, versions.First | versions.Next | versions.History):
            ready = replace(ready, version=await self._new_version(caller, ready, child))
        return ready

    def _new_plan(self, first: PlanSubmission) -> tuple[NewPlan, Key]:
        child_id = new_id()
        key, wrapped = self._keys.new_child_key(first.la_code, child_id)
        child = first.child
        new = NewPlan(
            plan_id=new_id(), la_code=first.la_code, case_reference=first.case_reference, child_id=child_id,
            wrapped_key=wrapped, identity=key.seal(child.model_dump_json().encode(), f"child:{child_id}"),
            nhs_lookup=self._keys.lookup("nhs", child.nhs_number), upn_lookup=self._keys.lookup("upn", child.upn),
        )  # fmt: skip
        return new, key

    async def _new_version(self, caller: Caller, ready: _Prepared, child: Child) -> NewVersion:
        submission, version_id, rendering_id = ready.submission, new_id(), new_id()
        version, received = submission.version, submission.document
        document = received.data if received else None
        if document is None and submission.render:
            council = self._directory.councils[ready.la_code].name
            document = await self._renderer.render(child, council, ready.case_reference, version)
        manifest = Manifest(
            plan_id=ready.plan_id, version_id=version_id, issued_on=version.issued_on, sections=ready.text.section_hashes,
            document=FileEntry(name=f"{ready.case_reference}.pdf".replace("/", "-"), media_type=PDF, size=len(document),
                               sha256=sha256(document)) if document else None,
            attachments=tuple(FileEntry(name=a.name, media_type=a.media_type, size=len(a.data), sha256=a.sha256)
                              for a in submission.attachments),
        )  # fmt: skip
        canonical = manifest.canonical()
        body = versions.stored(version, ready.text)
        return NewVersion(
            version_id=version_id, plan_id=ready.plan_id, la_code=ready.la_code, number=0, issued_on=version.issued_on,
            text_hash=ready.text.text_hash, section_hashes={k.value: v for k, v in ready.text.section_hashes.items()},
            body=ready.key.seal(body, f"version:{version_id}"), issued_by=caller.client_id, rendering_id=rendering_id,
            sha256=sha256(canonical), manifest=canonical,
            document=ready.key.seal(document, f"document:{rendering_id}") if document else None,
            size=len(body) + len(document or b"") + sum(len(a.data) for a in submission.attachments),
            attachments=tuple(ready.key.seal(a.data, f"attachment:{version_id}:{i}")
                              for i, a in enumerate(submission.attachments)),
        )  # fmt: skip

    async def _commit(
        self, caller: Caller, prepared: dict[int, _Prepared], idempotency: tuple[str, str, str] | None
    ) -> dict[int, Result | _Changed]:
        """All of a wave in one transaction; where one line breaks it, each in its own, so that the others go through."""
        try:
            async with council_transaction(self._pool, caller.la_codes) as connection:
                results = await self._write(connection, caller, prepared)
                if idempotency and isinstance(answer := next(iter(results.values())), Answer):
                    route, key, body_hash = idempotency
                    if not await store.keep_answer(
                        connection, caller.client_id, route, key, body_hash, answer.status, answer.body
                    ):
                        raise Problem(
                            409, KEY_IN_USE, "This idempotency key is being used by another request",
                            "Send the request again to get its answer.",
                        )  # fmt: skip
                return results
        except Problem as problem:
            return dict.fromkeys(prepared, problem)
        except Exception as error:
            if transient(error):
                raise
            log.exception("issue_failed", lines=len(prepared))
            if len(prepared) == 1:
                return dict.fromkeys(prepared, _not_stored())
        results = {}
        for index, ready in prepared.items():
            results |= await self._commit(caller, {index: ready}, None)
        return results

    async def _write(self, connection: Any, caller: Caller, prepared: dict[int, _Prepared]) -> dict[int, Result | _Changed]:
        results: dict[int, Result | _Changed] = {}
        made = await store.insert_plans(connection, [p.new for p in prepared.values() if p.new])
        plans = await store.lock_plans(connection, [p.plan_id for p in prepared.values()])
        standing = await store.lock_shares(connection, [p.plan_id for p in prepared.values() if not p.new])
        requested_at: datetime = await connection.fetchval("SELECT clock_timestamp()")
        batch = _Batch()
        for index, ready in prepared.items():
            plan = plans.get(ready.plan_id)
            if plan is None or (ready.new and ready.plan_id not in made):
                results[index] = _Changed()
                continue
            decision = versions.decide(plan.versions, ready.submission.version.issued_on, ready.text)
            if type(decision) is not type(ready.decision):
                results[index] = _Changed()
                continue
            results[index] = self._decide_one(caller, ready, decision, standing.get(ready.plan_id, []), requested_at, batch)
        await store.insert_versions(connection, batch.versions)
        await store.save_recipients(connection, batch.people, batch.unknown)
        await store.write_wishes(connection, batch.wishes, batch.outbox)
        await store.insert_acts(connection, batch.acts)
        return results

    def _decide_one(
        self, caller: Caller, ready: _Prepared, decision: versions.Decision, standing: list[store.Share],
        requested_at: datetime, batch: "_Batch",
    ) -> Result:  # fmt: skip
        match decision:
            case versions.Repeat(issued):
                return Answer(200, _body(ready, issued.version_id, issued.number, "unchanged"))
            case versions.SameText(now):
                return Problem(
                    409, "same-text", "The text is identical to the current version",
                    f"Version {now.number}, issued on {now.issued_on}, has the same text; nothing was stored. "
                    "Send the amended text, or nothing when the review left the plan as it is.",
                    extra={"plan_id": str(ready.plan_id), "version_id": str(now.version_id)},
                )  # fmt: skip
            case versions.History(number, now):
                version = _numbered(ready, number)
                batch.versions.append(version)
                batch.acts.append(_issued(caller, ready, version, current=False))
                body = _body(ready, version.version_id, number, "kept_as_history")
                note = f"Issued before the current version ({now.issued_on}); kept as history and not shared."
                return Answer(201, body | {"warnings": [note]})
            case versions.First(number) | versions.Next(number, _, _):
                version = _numbered(ready, number)
                batch.versions.append(version)
                batch.acts.append(_issued(caller, ready, version, current=True))
                wishes = self._share(caller, ready, version, decision, standing, requested_at, batch)
                batch.outbox.append(_event(ready, version, decision, requested_at))
                return Answer(201, _body(ready, version.version_id, number, "issued") | wishes)
            case _:
                assert_never(decision)

    def _share(
        self, caller: Caller, ready: _Prepared, version: NewVersion, decision: versions.First | versions.Next,
        standing: list[store.Share], requested_at: datetime, batch: "_Batch",
    ) -> dict[str, Any]:  # fmt: skip
        """Raise the wish of everyone who should hold the plan, end it for those who no longer should."""
        first = isinstance(decision, versions.First)
        wanted = shares.decide(ready.plan_id, ready.la_code, ready.submission.version, self._directory, first)
        changed = tuple(SectionLetter) if isinstance(decision, versions.First) else decision.changed
        sections = tuple(ready.text.section_hashes)
        before = {share.recipient_id: share for share in standing}
        answers, warnings = [], []
        for want in wanted:
            recipient, share = want.recipient, before.pop(want.recipient.recipient_id, None)
            share_id, seq = (share.share_id, share.seq + 1) if share else (new_id(), 1)
            due_at = shares.due_at(recipient.channel, requested_at)
            data = instructions.hold(
                share_id=share_id, seq=seq, la_code=ready.la_code, plan_id=ready.plan_id, recipient=recipient,
                version_id=version.version_id, version=version.number, issued_on=version.issued_on, sha256=version.sha256,
                sections=sections, changed=tuple(s for s in changed if s in sections or not first),
                requested_at=requested_at, due_at=due_at,
            )  # fmt: skip
            wish = Wish(
                share_id, ready.la_code, ready.plan_id, recipient.recipient_id, recipient.subscriber, seq, "hold",
                version.version_id, version.rendering_id, EventType.SHARE_REQUESTED, data, requested_at, due_at,
                requested_at + self._resend_after, want.grounds,
            )  # fmt: skip
            batch.add_wish(wish, caller)
            if want.member:
                sealed = ready.key.seal(want.member.model_dump_json().encode(), f"person:{recipient.recipient_id}")
                batch.people.append(
                    Person(recipient.recipient_id, recipient.kind, recipient.name, recipient.subscriber or "",
                           recipient.channel, ready.la_code, ready.plan_id, want.member.reference, sealed)
                )  # fmt: skip
            if want.unknown:
                batch.unknown.append(recipient)
                warnings.append(
                    f"{recipient.scheme}:{recipient.value} is not in the directory: the share is kept and shown as "
                    "undeliverable. Register the organisation, or correct the code in the next version."
                )
            answers.append(
                {"share_id": share_id, "recipient": recipient.name, "recipient_kind": recipient.kind, "seq": seq,
                 "channel": recipient.channel, "grounds": sorted({g.grounds for g in want.grounds}), "due_at": due_at}
            )  # fmt: skip
        for share in before.values():
            if share.action == "hold":
                batch.add_wish(self._withdrawal(ready, version, share, requested_at), caller)
        return {"shares": answers, "warnings": warnings}

    def _withdrawal(self, ready: _Prepared, version: NewVersion, share: store.Share, requested_at: datetime) -> Wish:
        due_at = shares.due_at(share.recipient.channel, requested_at)
        data = instructions.withdraw(
            share_id=share.share_id, seq=share.seq + 1, la_code=ready.la_code, plan_id=ready.plan_id,
            recipient=share.recipient, requested_at=requested_at, due_at=due_at,
        )  # fmt: skip
        return Wish(
            share.share_id, ready.la_code, ready.plan_id, share.recipient_id, share.recipient.subscriber, share.seq + 1,
            "withdraw", version.version_id, version.rendering_id, EventType.SHARE_WITHDRAWN, data, requested_at, due_at,
            requested_at + self._resend_after,
        )  # fmt: skip


class _Batch:
    """What one transaction will write."""

    def __init__(self) -> None:
        self.versions: list[NewVersion] = []
        self.people: list[Person] = []
        self.unknown: list[Any] = []
        self.wishes: list[Wish] = []
        self.outbox: list[instructions.OutboxRow] = []
        self.acts: list[Act] = []

    def add_wish(self, wish: Wish, caller: Caller) -> None:
        self.wishes.append(wish)
        act = "shared" if wish.action == "hold" else "withdrawn"
        self.acts.append(Act(act, caller.client_id, wish.la_code, wish.plan_id, wish.version_id, wish.share_id, wish.seq))
        if wish.subscriber:
            self.outbox.append(
                instructions.to_subscriber(
                    wish.subscriber, wish.share_id, wish.type, wish.la_code, wish.data, wish.requested_at
                )
            )


def _child_differs(plan: KnownPlan, known: Child, sent: Child) -> Problem:
    """A repeat that says something else of the child must not be answered as if that had been taken in."""
    names = [name for name in Child.model_fields if getattr(known, name) != getattr(sent, name)]
    return Problem(
        409, "child-differs", "This plan's child has other details here",
        "Nothing was changed. Check that it is the same child; details of a known child cannot be corrected here yet.",
        [FieldError(f"child/{name}", "it is not what the first version said") for name in names],
        extra={"plan_id": str(plan.plan_id)},
    )  # fmt: skip


def _not_stored() -> Problem:
    return Problem(500, "internal", "This version could not be stored", "Nothing of it was kept; send it again.")


def _one_per_plan(waiting: dict[int, Submission]) -> dict[int, Submission]:
    """The first waiting submission of every plan, so that versions of one plan go in one after another."""
    wave: dict[object, int] = {}
    for index, submission in waiting.items():
        wave.setdefault(submission.place, index)
    return {index: waiting[index] for index in wave.values()}


def _numbered(ready: _Prepared, number: int) -> NewVersion:
    if ready.version is None:
        raise RuntimeError("a version is written only where one was prepared")
    return replace(ready.version, number=number)


def _issued(caller: Caller, ready: _Prepared, version: NewVersion, *, current: bool) -> Act:
    details = {
        "version": version.number,
        "issued_on": str(version.issued_on),
        "sha256": version.sha256,
        "current": current,
    }
    return Act("issued", caller.client_id, ready.la_code, ready.plan_id, version.version_id, details=details)


def _event(
    ready: _Prepared, version: NewVersion, decision: versions.First | versions.Next, at: datetime
) -> instructions.OutboxRow:
    common: dict[str, Any] = {
        "la_code": ready.la_code, "plan_id": ready.plan_id, "version_id": version.version_id, "version": version.number,
        "issued_on": version.issued_on, "sections": tuple(ready.text.section_hashes),
    }  # fmt: skip
    if isinstance(decision, versions.First):
        return instructions.domain_event(EventType.PLAN_FINALISED, ready.plan_id, ready.la_code, PlanFinalised(**common), at)
    event = PlanAmended(**common, replaces=decision.replaces.version_id, changed_sections=decision.changed)
    return instructions.domain_event(EventType.PLAN_AMENDED, ready.plan_id, ready.la_code, event, at)


def _body(ready: _Prepared, version_id: UUID, number: int, status: str) -> dict[str, Any]:
    return {
        "plan_id": ready.plan_id, "version_id": version_id, "version": number, "case_reference": ready.case_reference,
        "status": status,
    }  # fmt: skip
