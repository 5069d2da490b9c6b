"""Issue versions in batches: decide, render and seal outside the transaction, then write everything in one.

Invariant: a version, the shares it raises, their instructions, outbox rows and acts are committed together or not at all.
What was decided before the locks is decided again under them; where it no longer holds, the line is prepared anew. The
relay takes it from the outbox to Kafka.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, assert_never
from uuid import UUID

import asyncpg
import structlog

from schemas.guard import Finding
from schemas.plan import Child, PlanSubmission, PlanVersion, SectionLetter
from services.ehcp_publisher import (
    currency,
    families,
    guard,
    identities,
    instructions,
    lifecycle,
    store,
    store_directory,
    store_guard,
    versions,
    wishes,
)
from services.ehcp_publisher.deciding import NO_PEOPLE, Batch, Deciding, People, misplaced, undeliverable, waits, without
from services.ehcp_publisher.documents import Received
from services.ehcp_publisher.guarding import Guarding, Looked
from services.ehcp_publisher.idempotency import Answer, Once
from services.ehcp_publisher.rendering import MAX_TEXT_BYTES, RenderingError
from services.ehcp_publisher.shares import Decided
from services.ehcp_publisher.store import ALL_SECTIONS, Act, KnownPlan, NewPlan, NewRendering, NewVersion, SealedFamily
from services.ehcp_publisher.store_guard import NamedChild, NewHold
from services.ehcp_publisher.wishes import Current, Thing
from services.shared.identity.tokens import Caller
from services.shared.ids import new_id
from services.shared.law import PLANS_SINCE
from services.shared.postgres.pool import council_transaction, transient
from services.shared.sealing.sealing import Key
from services.shared.web.problems import FieldError, Problem

log = structlog.get_logger()
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
    by: str | None = None
    """The officer who issues it, by the council's own id."""

    @property
    def place(self) -> object:
        """Two submissions with the same place concern the same plan and never go into one transaction."""
        return self.plan_id or (self.first and (self.first.la_code, self.first.case_reference.upper()))


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
    child: Child
    identity_revision: int
    looked: Looked | None = None
    findings: tuple[Finding, ...] = ()
    flags: tuple[currency.Flag, ...] = ()
    decided: Decided | None = None
    by_directory: int = 0
    """The directory's revision by which it was decided."""
    family: SealedFamily = ()
    """As it was known."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Whom of it the version names otherwise."""


class _Changed:
    """The plan is no longer what the line was prepared for."""


class Issuing:
    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", deciding: Deciding, guarding: Guarding) -> None:
        self._pool = pool
        self._deciding = deciding
        self._guarding = guarding
        self._keys = deciding.keys

    async def issue(self, caller: Caller, submissions: Sequence[Submission], once: Once | None = None) -> list[Result]:
        """One result for each, in order. ``once`` is for a single submission."""
        results: dict[int, Result] = {}
        waiting = dict(enumerate(submissions))
        attempts: Counter[int] = Counter()
        while waiting:
            wave = _one_per_plan(waiting)
            for index, result in (await self._wave(caller, wave, once)).items():
                attempts[index] += 1
                if isinstance(result, _Changed):
                    if attempts[index] < _ATTEMPTS:
                        continue
                    result = Problem(409, "busy", "The plan keeps changing", "Send this version again.")
                results[index] = result
                del waiting[index]
        return [results[index] for index in range(len(submissions))]

    async def _wave(self, caller: Caller, wave: dict[int, Submission], once: Once | None) -> dict[int, Result | _Changed]:
        results: dict[int, Result | _Changed] = {}
        async with council_transaction(self._pool, caller.la_codes) as connection:
            known = await store.find_plans(
                connection,
                [s.plan_id for s in wave.values() if s.plan_id],
                [(s.first.la_code, s.first.case_reference) for s in wave.values() if s.first],
            )
            plan_ids = [plan.plan_id for plan in known]
            people = await self._deciding.read_people(connection, plan_ids) if known else NO_PEOPLE
            families_ = await store.read_family(connection, plan_ids) if known else {}
            by_place: dict[object, KnownPlan] = {}
            for plan in known:
                by_place[plan.plan_id] = by_place[(plan.la_code, plan.case_reference.upper())] = plan
        prepared: dict[int, _Prepared] = {}
        for index, submission in wave.items():
            await asyncio.sleep(0)  # others' requests go between two lines
            try:
                known_as = by_place.get(submission.place)
                family = families_.get(known_as.plan_id, ()) if known_as else ()
                prepared[index] = await self._prepare(caller, submission, known_as, people, family)
            except Problem as problem:
                results[index] = problem
            except RenderingError:
                results[index] = Problem(
                    422, "not-typeset", "No document could be made of the sections",
                    f"Send the plan's PDF in the part 'document', or the sections alone in a batch with render=false. "
                    f"More than {MAX_TEXT_BYTES // 1000} KB of text are not typeset here.",
                )  # fmt: skip
            except Exception:  # whatever it is, it is this line's own: the others go through
                log.exception("prepare_failed")
                results[index] = _not_stored()
        if prepared:
            await self._look(prepared)
            results |= await self._commit(caller, prepared, once)
        return results

    async def _prepare(
        self, caller: Caller, submission: Submission, plan: KnownPlan | None, people: People, family: SealedFamily
    ) -> _Prepared:
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
        if version.issued_on < PLANS_SINCE:
            raise Problem(
                422, "issued-too-early", "There were no EHC plans on the date of issue", "They exist since 1 September 2014.",
                [FieldError("version/issued_on", "before 1 September 2014", "the day on which the version is issued")],
            )  # fmt: skip
        if version.issued_on > self._deciding.today() + FARTHEST_AHEAD:
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
            identity_revision = 1
        else:
            plan_id, la_code, case_reference = plan.plan_id, plan.la_code, plan.case_reference
            key, child, identity_revision = self._deciding.key_of(plan), self._deciding.child_of(plan), plan.identity_revision
            if first is not None and first.child != child:
                raise _child_differs(plan, child, first.child)
            if first is not None and not isinstance(decision, versions.Repeat | versions.Held):
                raise Problem(
                    409, "plan-exists", "This case reference has a plan already",
                    f"Send further versions to /v1/plans/{plan.plan_id}/versions.", extra={"plan_id": str(plan.plan_id)},
                )  # fmt: skip
            if not isinstance(decision, versions.Repeat | versions.Held):
                lifecycle.after(plan.state, lifecycle.NEW_VERSION)
        ready = _Prepared(
            submission, plan_id, la_code, case_reference, new, text, decision, None, key, child, identity_revision
        )
        if isinstance(decision, versions.First | versions.Next | versions.History):
            flags = currency.flags(version, child, version.circumstances(), self._deciding.today(), None, la_code)
            by_directory = self._deciding.directory.revision
            decided = None
            if not isinstance(decision, versions.History):
                decided = self._decide(ready, people, plan.doubts if plan else {})
            looked = await self._guarding.read(
                la_code, child, version.issued_on, version, submission.document, submission.attachments
            )
            ready = replace(
                ready, flags=flags, by_directory=by_directory, decided=decided, looked=looked, family=family,
                renamed=_renamed(ready, family),
            )  # fmt: skip
            ready = replace(ready, version=await self._new_version(caller, ready))
        return ready

    async def _look(self, prepared: dict[int, _Prepared]) -> None:
        """Compare what would leave with every child of the exchange, those that come in beside it too."""
        new = [each.new for each in prepared.values() if each.new]
        found = await self._guarding.judge([each.looked for each in prepared.values() if each.looked], new)
        places = [index for index, each in prepared.items() if each.looked]
        for index, findings in zip(places, found, strict=True):
            if findings:
                prepared[index] = replace(prepared[index], findings=findings)

    def _decide(self, ready: _Prepared, people: People, doubts: Mapping[str, str]) -> Decided:
        version = ready.submission.version
        return self._deciding.decide(
            ready.plan_id, ready.la_code, version.circumstances(), ready.child, people, issued_on=version.issued_on,
            first=isinstance(ready.decision, versions.First), letters=ready.text.section_hashes, doubts=doubts,
        )  # fmt: skip

    def _new_plan(self, first: PlanSubmission) -> tuple[NewPlan, Key]:
        child_id, plan_id = new_id(), self._keys.plan_id(first.la_code, first.case_reference)
        key, wrapped = self._keys.new_child_key(first.la_code, child_id)
        child = first.child
        new = NewPlan(
            plan_id=plan_id, la_code=first.la_code, case_reference=first.case_reference, child_id=child_id,
            wrapped_key=wrapped, identity=key.seal(child.model_dump_json().encode(), f"child:{child_id}"),
            nhs_lookup=self._keys.lookup("nhs", child.nhs_number), upn_lookup=self._keys.lookup("upn", child.upn),
            name_lookup=self._keys.name_lookup(child), different_from=first.different_child_from,
            names=tuple(guard.names_of(identities.identity(child), self._keys)),
        )  # fmt: skip
        return new, key

    async def _new_version(self, caller: Caller, ready: _Prepared) -> NewVersion:
        submission, version_id = ready.submission, new_id()
        version, received = submission.version, submission.document
        body = versions.stored(version, ready.text)
        attachments = tuple(each.entry() for each in submission.attachments)
        renderings: list[NewRendering] = []
        for sections in _sections_wanted(ready):
            whole = sections == ALL_SECTIONS
            # Parts are typeset here also where the council's own document came: that one holds everything.
            renderings.append(
                await self._deciding.render(
                    ready.la_code,
                    ready.case_reference,
                    ready.plan_id,
                    version_id,
                    version,
                    ready.child,
                    ready.key,
                    sections,
                    ready.text.section_hashes,
                    identity_revision=ready.identity_revision,
                    attachments=attachments,
                    text_bytes=len(body),
                    document=received.data if received and whole else None,
                    typeset=submission.render and version.sections is not None,
                )
            )
        return NewVersion(
            version_id=version_id, plan_id=ready.plan_id, la_code=ready.la_code, number=0, issued_on=version.issued_on,
            text_hash=ready.text.text_hash, section_hashes={k.value: v for k, v in ready.text.section_hashes.items()},
            body=ready.key.seal(body, f"version:{version_id}"), issued_by=caller.client_id, by=submission.by,
            renderings=tuple(renderings),
            attachments=tuple(ready.key.seal(a.data, f"attachment:{version_id}:{i}")
                              for i, a in enumerate(submission.attachments)),
        )  # fmt: skip

    async def _commit(self, caller: Caller, prepared: dict[int, _Prepared], once: Once | None) -> dict[int, Result | _Changed]:
        """All of a wave in one transaction; where one line breaks it, each in its own, so that the others go through."""
        try:
            async with council_transaction(self._pool, caller.la_codes) as connection:
                results = await self._write(connection, caller, prepared)
                if once and isinstance(answer := next(iter(results.values())), Answer):
                    await once.keep(connection, answer)
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
        await store_directory.refresh(connection, self._deciding.directory)
        new = [_dated(each, each.new) for each in prepared.values() if each.new]
        same = await store.find_same_children(connection, new) if new else {}
        gone = await store.find_transferred(connection, new) if new else {}
        keep_out = same.keys() | gone.keys()
        made = await store.insert_plans(connection, [each for each in _one_per_child(new) if each.plan_id not in keep_out])
        await store_guard.insert_names(
            connection, [NamedChild(each.child_id, each.la_code, each.names) for each in new if each.plan_id in made]
        )
        plan_ids = [p.plan_id for p in prepared.values()]
        plans = await store.lock_plans(connection, plan_ids)
        standing = await store.lock_shares(connection, [p.plan_id for p in prepared.values() if not p.new], notices=True)
        people = await self._deciding.read_people(connection, [p.plan_id for p in prepared.values() if not p.new])
        family = await store.read_family(connection, [p.plan_id for p in prepared.values() if not p.new])
        requested_at: datetime = await connection.fetchval("SELECT clock_timestamp()")
        batch = Batch()
        for index, ready in prepared.items():
            if ready.plan_id in gone:
                results[index] = _transferred(gone[ready.plan_id])
                continue
            if ready.plan_id in same:
                results[index] = _same_child(same[ready.plan_id])
                continue
            plan = plans.get(ready.plan_id)
            if plan is None or (ready.new and ready.plan_id not in made):
                results[index] = _Changed()
                continue
            decision = versions.decide(plan.versions, ready.submission.version.issued_on, ready.text)
            prepared_for = (type(ready.decision), ready.la_code, ready.identity_revision)
            if (type(decision), plan.la_code, plan.identity_revision) != prepared_for:
                results[index] = _Changed()
                continue
            try:
                results[index] = self._decide_one(
                    caller,
                    ready,
                    plan,
                    decision,
                    standing.get(ready.plan_id, []),
                    people,
                    family.get(ready.plan_id, ()),
                    requested_at,
                    batch,
                )
            except Problem as problem:
                results[index] = problem
            except wishes.RenderingNeededError:
                results[index] = _Changed()
        await batch.write(connection)
        for index, ready in prepared.items():
            result = results[index]
            if ready.plan_id in batch.elsewhere and isinstance(result, Answer) and "flags" in result.body:
                flag = {"code": currency.FlagCode.PLAN_ELSEWHERE, "detail": batch.elsewhere[ready.plan_id]}
                result.body["flags"].append(flag)
        return results

    def _decide_one(
        self, caller: Caller, ready: _Prepared, plan: KnownPlan, decision: versions.Decision, standing: list[store.Share],
        people: People, family: SealedFamily, requested_at: datetime, batch: Batch,
    ) -> Result:  # fmt: skip
        match decision:
            case versions.Repeat(issued):
                return Answer(200, _body(ready, issued.version_id, issued.number, "unchanged"))
            case versions.Recalled(issued):
                return Problem(
                    409, "recalled", "This version was recalled", "Send the right text under its own date of issue.",
                    extra={"plan_id": str(ready.plan_id), "version_id": str(issued.version_id)},
                )  # fmt: skip
            case versions.Rejected(issued):
                return Problem(
                    409, "rejected", "A second person rejected this version",
                    "Send the right text; or this one under another date of issue, to have it looked at again.",
                    extra={"plan_id": str(ready.plan_id), "version_id": str(issued.version_id)},
                )  # fmt: skip
            case versions.Behind(waiting):
                return Problem(
                    409, "version-held", "A newer version of this plan is held",
                    f"Version {waiting.number}, issued on {waiting.issued_on}, waits for a second person, and none may leave "
                    "before. Send this older one once that is decided.",
                    extra={"plan_id": str(ready.plan_id), "version_id": str(waiting.version_id)},
                )  # fmt: skip
            case versions.Held(issued, hold):
                return _held(ready, issued.version_id, issued.number, hold.findings)
            case versions.First(number) | versions.Next(number, _, _) | versions.History(number, _) if guard.holds(
                ready.findings
            ):
                return self._hold(caller, ready, _numbered(ready, number), batch)
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
                _note_waived(caller, ready, version, batch)
                body = _body(ready, version.version_id, number, "kept_as_history") | _found(ready.findings)
                note = f"Issued before the current version ({now.issued_on}); kept as history and not shared."
                return Answer(201, body | {"warnings": [note]})
            case versions.First(number) | versions.Next(number, _, _):
                lifecycle.after(plan.state, lifecycle.NEW_VERSION)
                version = _numbered(ready, number)
                batch.versions.append(version)
                batch.renewed.append(ready.plan_id)
                batch.acts.append(_issued(caller, ready, version, current=True))
                _note_waived(caller, ready, version, batch)
                doubts = batch.doubts[ready.plan_id] = ready.renamed if family == ready.family else _renamed(ready, family)
                plan = replace(plan, doubts={**plan.doubts, **doubts})
                asked_anew = without(people, ready.plan_id, doubts)
                shared = self._share(caller, ready, plan, version, decision, standing, asked_anew, requested_at, batch)
                batch.outbox.append(_event(ready, version, decision, requested_at))
                batch.flags[ready.plan_id] = (ready.la_code, ready.flags)
                if version.issued_on > self._deciding.today():
                    shared["warnings"] = [*shared["warnings"], _AHEAD]
                flags = [{"code": flag.code, "detail": flag.detail} for flag in ready.flags]
                body = _body(ready, version.version_id, number, "issued") | shared | {"flags": flags}
                return Answer(201, body | _found(ready.findings))
            case _:
                assert_never(decision)

    def _hold(self, caller: Caller, ready: _Prepared, version: NewVersion, batch: Batch) -> Answer:
        """Kept and numbered, and nothing follows from it: no share, no event, no flag, until a second person has looked."""
        batch.versions.append(version)
        batch.holds.append(_hold_of(caller, ready, version, waived=False))
        batch.acts.append(_issued(caller, ready, version, current=False))
        details = {"findings": [f"{each.kind}: {each.where}" for each in ready.findings]}
        batch.acts.append(Act("held", caller.client_id, ready.la_code, ready.plan_id, version.version_id, details=details))
        return _held(ready, version.version_id, version.number, ready.findings)

    def _share(
        self, caller: Caller, ready: _Prepared, plan: KnownPlan, version: NewVersion,
        decision: versions.First | versions.Next, standing: list[store.Share], people: People, requested_at: datetime,
        batch: Batch,
    ) -> dict[str, Any]:  # fmt: skip
        """Raise the wish of everyone who should hold the plan, end it for those who no longer should."""
        if plan.restricted is not None:
            note = "The plan is restricted: the version is kept, and goes to nobody before a named person lifts that."
            return {"shares": [], "warnings": [note]}
        decided = ready.decided
        # Nobody has decided anything about a new plan: what was prepared holds unless the directory changed since.
        if decided is None or ready.new is None or ready.by_directory != self._deciding.directory.revision:
            decided = self._decide(ready, people, plan.doubts)
        changed = tuple(SectionLetter) if isinstance(decision, versions.First) else decision.changed
        asking = self._deciding.asking(ready.plan_id, ready.la_code, ready.identity_revision, requested_at)
        of_the_plan = [share for share in standing if not share.notice_id]
        made = wishes.make(asking, decided.wanted, of_the_plan, Current(_things(ready, version), changed))
        made.wishes += self._deciding.taken_back(plan, asking, ready.submission.version.circumstances(), people, standing)
        batch.add(caller.client_id, ready.key, decided.wanted, made)
        batch.decided[ready.plan_id] = (ready.la_code, decided)
        unconfirmed = [waits(each) for each in decided.unconfirmed]
        gaps = [{"who": gap.who, "reason": gap.reason} for gap in decided.gaps]
        directory, today = self._deciding.directory, self._deciding.today()
        warnings = undeliverable(decided.wanted, directory, today) + unconfirmed
        codes = misplaced(decided.wanted, ready.submission.version.circumstances(), directory, today)
        return {"shares": made.answers, "warnings": warnings, "noted": codes, "share_gaps": gaps}


def _renamed(ready: _Prepared, family: SealedFamily) -> dict[str, str]:
    """Whom the version names by a reference that was somebody's of another name."""
    return families.renamed(ready.plan_id, families.opened(ready.key, family), ready.submission.version.family)


def _hold_of(caller: Caller, ready: _Prepared, version: NewVersion, *, waived: bool) -> NewHold:
    asked_by = ready.submission.by or caller.client_id
    return NewHold(version.version_id, "version", ready.plan_id, ready.la_code, ready.findings, asked_by, waived)


def _note_waived(caller: Caller, ready: _Prepared, version: NewVersion, batch: Batch) -> None:
    """Its files leave unread: that stays known."""
    if ready.findings:
        batch.holds.append(_hold_of(caller, ready, version, waived=True))


def _found(findings: Sequence[Finding]) -> dict[str, Any]:
    return {"findings": [each.model_dump(mode="json") for each in findings]} if findings else {}


def _held(ready: _Prepared, version_id: UUID, number: int, findings: Sequence[Finding]) -> Answer:
    said = store_guard.said(each for each in findings if not each.waived)
    note = f"Held, and shared with nobody: {said}. A second person releases or rejects it: see /v1/confirmations."
    return Answer(202, _body(ready, version_id, number, "held") | _found(findings) | {"warnings": [note]})


def _sections_wanted(ready: _Prepared) -> list[str]:
    """The whole first, then every part of it that some recipient is to get."""
    wanted = ready.decided.wanted if ready.decided else ()
    return [ALL_SECTIONS, *sorted({wishes.sections_key(each) for each in wanted} - {ALL_SECTIONS})]


def _dated(ready: _Prepared, new: NewPlan) -> NewPlan:
    """With what was decided already, so that the row is written once."""
    return replace(new, decide_on=ready.decided.next_on, parties=ready.decided.parties) if ready.decided else new


def _things(ready: _Prepared, version: NewVersion) -> dict[str, Thing]:
    letters = tuple(ready.text.section_hashes)
    return {
        each.sections: Thing(
            version.version_id, each.rendering_id, each.sha256, version.number, version.issued_on,
            letters if each.sections == ALL_SECTIONS else tuple(s for s in letters if s.value in each.sections.split()),
        )
        for each in version.renderings
    }  # fmt: skip


_AHEAD = (
    "The date of issue is ahead: the version is shared now, and whatever is issued before that day is kept as history. Recall "
    "it where the date is a mistake."
)


def _one_per_child(new: list[NewPlan]) -> list[NewPlan]:
    """Of two plans for one child in one batch the first; the other is looked at again once that is there."""
    kept: list[NewPlan] = []
    seen: set[bytes | None] = set()
    for plan in new:
        lookups = {plan.nhs_lookup, plan.upn_lookup, plan.name_lookup} - {None}
        if seen.isdisjoint(lookups) or not any(each.la_code == plan.la_code and _same(each, plan) for each in kept):
            kept.append(plan)
            seen |= lookups
    return kept


def _same(one: NewPlan, other: NewPlan) -> bool:
    return other.is_same_child(one.nhs_lookup, one.upn_lookup, one.name_lookup, one.plan_id)


def _same_child(known: dict[str, Any]) -> Problem:
    return Problem(
        409, "same-child", "This child has a plan already",
        f"The child is known under the case reference {known['case_reference']}. Send further versions to "
        f"/v1/plans/{known['plan_id']}/versions; if it is another child of the same name and date of birth, send its NHS "
        "number, or different_child_from with this plan_id.",
        extra={"plan_id": str(known["plan_id"]), "case_reference": known["case_reference"]},
    )  # fmt: skip


def _transferred(since: date) -> Problem:
    """An old extract sent once more must not bring back, beside the plan that went on, one that nobody keeps up."""
    return Problem(
        409, "transferred", "The plan of this case reference was transferred",
        f"Another council has had it since {since}; that one issues its further versions. A plan that begins anew here has a "
        "case reference of its own.",
    )  # fmt: skip


def _child_differs(plan: KnownPlan, known: Child, sent: Child) -> Problem:
    """A repeat that says something else of the child must not be answered as if that had been taken in."""
    names = [name for name in Child.model_fields if getattr(known, name) != getattr(sent, name)]
    return Problem(
        409, "child-differs", "This plan's child has other details here",
        f"Nothing was changed. Check that it is the same child; then correct it by a child_corrected event, to "
        f"/v1/plans/{plan.plan_id}/events.",
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
        "sha256": version.renderings[0].sha256,
        "current": current,
    } | ({"by": version.by} if version.by else {})
    return Act("issued", caller.client_id, ready.la_code, ready.plan_id, version.version_id, details=details)


def _event(
    ready: _Prepared, version: NewVersion, decision: versions.First | versions.Next, at: datetime
) -> instructions.OutboxRow:
    issued = versions.Issued(version.version_id, version.number, version.issued_on, version.text_hash, version.section_hashes)
    replaces = decision.replaces if isinstance(decision, versions.Next) else None
    return instructions.issued(ready.plan_id, ready.la_code, issued, replaces, at)


def _body(ready: _Prepared, version_id: UUID, number: int, status: str) -> dict[str, Any]:
    return {
        "plan_id": ready.plan_id, "version_id": version_id, "version": number, "case_reference": ready.case_reference,
        "status": status,
    }  # fmt: skip
