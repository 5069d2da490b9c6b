"""Decide again who should hold a plan, and write the wishes that differ: for a new version, an event, and the queue.

Invariant: called with the plan's lock held, in the transaction of what caused it. A rendering of some sections that a recipient
needs and that does not exist yet is made outside (:meth:`Deciding.render`), before the transaction is tried again: nothing slow
happens under a lock.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from schemas.identifiers import OrganisationCode
from schemas.lifecycle import PlanState
from schemas.manifest import FileEntry, Manifest, sha256
from schemas.notices import NoticeKind
from schemas.plan import Child, Circumstances, FamilyMember, PlanVersion, SectionLetter
from services.ehcp_publisher import (
    currency,
    instructions,
    notices,
    shares,
    store,
    store_events,
    store_guard,
    store_handover,
    versions,
    wishes,
)
from services.ehcp_publisher.keys import ChildKeys
from services.ehcp_publisher.registry import Directory, Known, person_id
from services.ehcp_publisher.rendering import Renderer
from services.ehcp_publisher.shares import FAMILY, NOBODY, Decided, Decision, Facts, Ground, Unusual, Wanted, kept_from
from services.ehcp_publisher.store import ALL_SECTIONS, Act, KnownPlan, NewRendering, NewVersion, Person, Share, Wish
from services.ehcp_publisher.store_guard import NewHold
from services.ehcp_publisher.wishes import Asking, Current, Made, Thing
from services.shared.clock import Clock, utc_now
from services.shared.ids import new_id
from services.shared.law.counting import london_date
from services.shared.postgres.pool import Row, council_transaction
from services.shared.sealing.sealing import Key

PDF = "application/pdf"
IN_FORCE = frozenset({PlanState.LIVE, PlanState.CEASING})


@dataclass(frozen=True, slots=True)
class People:
    """What people decided and confirmed, by plan."""

    decisions: Mapping[UUID, tuple[Decision, ...]]
    confirmed: Mapping[UUID, Mapping[UUID, bool | None]]


def without(people: People, plan_id: UUID, doubts: Mapping[str, str]) -> People:
    """As if nobody had confirmed anybody about whom there is a new doubt."""
    if not doubts:
        return people
    said = {key: share for key, share in people.confirmed.get(plan_id, {}).items() if str(key) not in doubts}
    return People(people.decisions, {**people.confirmed, plan_id: said})


NO_PEOPLE = People({}, {})
"""For plans that are new."""


@dataclass(frozen=True, slots=True)
class Situation:
    """A plan as it is from now on, to be decided again."""

    plan: KnownPlan
    child: Child
    circumstances: Circumstances
    key: Key
    remove: Mapping[UUID, tuple[UUID, ...]] = field(default_factory=dict)
    """By share, the versions that are recalled from it; or its notice."""
    quiet: bool = False
    """Nothing more reaches the family."""
    changed: tuple[SectionLetter, ...] = ()
    """Where the plan has another current version from now on: what differs from the one before."""


@dataclass(slots=True)
class Batch:
    """What one transaction will write."""

    versions: list[NewVersion] = field(default_factory=list)
    holds: list[NewHold] = field(default_factory=list)
    renewed: list[UUID] = field(default_factory=list)
    """Plans that have a new current version."""
    people: dict[UUID, Person] = field(default_factory=dict)
    unknown: list[Known] = field(default_factory=list)
    wishes: list[Wish] = field(default_factory=list)
    grounds: list[tuple[UUID, str, tuple[Ground, ...]]] = field(default_factory=list)
    """Of shares whose wish stands, with their council."""
    outbox: list[instructions.OutboxRow] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    decided: dict[UUID, tuple[str, Decided]] = field(default_factory=dict)
    flags: dict[UUID, tuple[str, Sequence[currency.Flag]]] = field(default_factory=dict)
    doubts: dict[UUID, Mapping[str, str]] = field(default_factory=dict)
    """By plan, doubts about its family that are new: they come to those that it has."""
    elsewhere: dict[UUID, str] = field(default_factory=dict)
    """Known once it is written: plans whose child has one in another council too, and what is said of that."""
    told_now: list[tuple[UUID, UUID]] = field(default_factory=list)
    """Of a notice, a recipient who waited to be told of it."""

    async def write(self, connection: Any) -> None:
        await store.insert_versions(connection, self.versions)
        await store_guard.insert_holds(connection, self.holds)
        await store.take_circumstances(connection, self.renewed)
        await store.save_recipients(connection, list(self.people.values()), self.unknown)
        await store_handover.note(connection, self.wishes)
        await store.write_wishes(connection, self.wishes, self.outbox)
        await store.write_grounds(connection, self.grounds)
        await store_events.told_now(connection, self.told_now)
        await store_events.write_doubts(connection, self.doubts)
        await store_events.write_decided(connection, self.decided)
        await store_events.write_flags(connection, self.flags)
        self.elsewhere = await store_events.look_for_same_child(connection, list(self.flags)) if self.flags else {}
        await store.insert_acts(connection, self.acts)

    def add(self, actor: str, key: Key, wanted: Sequence[Wanted], made: Made) -> None:
        for each in wanted:
            if each.member:
                self.people[each.recipient.recipient_id] = _person(made.asking, key, each.recipient, each.member)
            if each.unknown:
                self.unknown.append(each.recipient)
        self.grounds += [(share_id, made.asking.la_code, grounds) for share_id, grounds in made.grounds]
        for wish in made.wishes:
            self.wishes.append(wish)
            details = {"recipient": wish.recipient_id}
            self.acts.append(
                Act(_ACTS[wish.action], actor, wish.la_code, wish.plan_id, wish.thing_id, wish.share_id, wish.seq, details)
            )
            if wish.subscriber:
                self.outbox.append(
                    instructions.to_subscriber(
                        wish.subscriber, wish.share_id, wish.type, wish.la_code, wish.data, wish.requested_at
                    )
                )


_ACTS = {"hold": "shared", "withdraw": "withdrawn", "recall": "recalled"}


def _person(asking: Asking, key: Key, recipient: Known, member: FamilyMember) -> Person:
    sealed = key.seal(member.model_dump_json().encode(), f"person:{recipient.recipient_id}")
    return Person(
        recipient.recipient_id, recipient.kind, recipient.name, recipient.subscriber or "", recipient.channel, asking.la_code,
        asking.plan_id, member.reference, sealed,
    )  # fmt: skip


class Deciding:
    def __init__(
        self, directory: Directory, keys: ChildKeys, renderer: Renderer, resend_after: timedelta, clock: Clock = utc_now
    ) -> None:
        self.directory = directory
        self.keys = keys
        self.renderer = renderer
        self.resend_after = resend_after
        self.clock = clock

    def today(self) -> date:
        """Legal dates are England's."""
        return london_date(self.clock())

    async def read_people(self, connection: Any, plan_ids: Sequence[UUID]) -> People:
        decisions = await store_events.read_decisions(connection, plan_ids)
        return People(decisions, await store_events.read_confirmed(connection, plan_ids))

    def key_of(self, plan: KnownPlan) -> Key:
        return self.keys.child_key(plan.la_code, plan.child_id, plan.wrapped_key)

    def child_of(self, plan: KnownPlan) -> Child:
        return Child.model_validate_json(self.key_of(plan).open(plan.identity, f"child:{plan.child_id}"))

    def circumstances_of(self, plan: KnownPlan, version: PlanVersion | None) -> Circumstances:
        """As events left them; else as the current version has them."""
        if plan.circumstances is not None:
            opened = self.key_of(plan).open(plan.circumstances, f"circumstances:{plan.plan_id}")
            return Circumstances.model_validate_json(opened)
        return version.circumstances() if version else Circumstances()

    def version_of(self, plan: KnownPlan, version_id: UUID, body: bytes) -> PlanVersion:
        """A stored version, opened."""
        return _version(self.key_of(plan).open(body, f"version:{version_id}"))

    def decide(
        self, plan_id: UUID, la_code: str, circumstances: Circumstances, child: Child, people: People, *, issued_on: date,
        first: bool, letters: Iterable[SectionLetter], doubts: Mapping[str, str],
    ) -> Decided:  # fmt: skip
        facts = Facts(
            plan_id, la_code, circumstances, child.date_of_birth, issued_on, first, tuple(letters),
            people.decisions.get(plan_id, ()), people.confirmed.get(plan_id, {}), doubts,
        )  # fmt: skip
        return shares.decide(facts, self.directory, self.today())

    def asking(self, plan_id: UUID, la_code: str, identity_revision: int, at: datetime) -> Asking:
        return Asking(plan_id, la_code, identity_revision, at, self.resend_after)

    async def again(self, connection: Any, actor: str, situations: Sequence[Situation], at: datetime, batch: Batch) -> None:
        """Into ``batch``: what differs for these plans, whose locks are held. Raises ``RenderingNeededError``."""
        plan_ids = [each.plan.plan_id for each in situations]
        standing = await store.lock_shares(connection, plan_ids, notices=True)
        people = await self.read_people(connection, plan_ids)
        current = {each.plan.plan_id: versions.current(each.plan.versions) for each in situations}
        renderings = await store.find_renderings(connection, [each.version_id for each in current.values() if each])
        needed: dict[UUID, frozenset[str]] = {}
        for each in situations:
            plan, now = each.plan, current[each.plan.plan_id]
            known = renderings.get(now.version_id, {}) if now else {}
            try:
                decided, made = self.wished(each, people, standing.get(plan.plan_id, []), known, at)
            except wishes.RenderingNeededError as error:
                needed[plan.plan_id] = error.sections
                continue
            batch.add(actor, each.key, decided.wanted if decided else (), made)
            if decided is not None:
                batch.decided[plan.plan_id] = (plan.la_code, decided)
        if needed:
            raise RenderingNeededError(needed)
        for plan_id, rows in (await store_events.read_waiting_notices(connection, plan_ids)).items():
            situation = next(each for each in situations if each.plan.plan_id == plan_id)
            self._tell_now(actor, situation, people, rows, at, batch)

    def told(self, each: Situation, people: People, event: str, thing: Thing) -> tuple[tuple[Wanted, ...], tuple[Wanted, ...]]:
        """Who must be told of it, and who too once they are confirmed."""
        plan = each.plan
        facts = Facts(
            plan.plan_id, plan.la_code, each.circumstances, each.child.date_of_birth, thing.issued_on,
            decisions=people.decisions.get(plan.plan_id, ()), confirmed=people.confirmed.get(plan.plan_id, {}),
            doubts=plan.doubts,
        )  # fmt: skip
        asked = (event, facts, self.directory, self.today())
        return shares.told(*asked), shares.told_later(*asked)

    def _tell_now(self, actor: str, each: Situation, people: People, rows: Sequence[Row], at: datetime, batch: Batch) -> None:
        """Who waited for a confirmation when a notice went out, and has it now, is told what still matters."""
        plan = each.plan
        if plan.state not in IN_FORCE or plan.restricted is not None or each.quiet:
            return
        for row in rows:
            notice, thing = notices.stored(row, row["notice_id"], each.key)
            if notice.kind is NoticeKind.CEASE_NOTICE and plan.state is not PlanState.CEASING:
                continue
            if notice.kind is NoticeKind.REVIEW_INVITATION and notice.meeting_on and notice.meeting_on < self.today():
                continue
            told, _ = self.told(each, people, notice.kind, thing)
            now = [wanted for wanted in told if wanted.recipient.recipient_id in row["waiting"]]
            asking = self.asking(plan.plan_id, plan.la_code, plan.identity_revision, at)
            batch.add(actor, each.key, now, wishes.tell(asking, now, thing))
            batch.told_now += [(row["notice_id"], wanted.recipient.recipient_id) for wanted in now]

    def wished(
        self, each: Situation, people: People, standing: Sequence[Share], renderings: Mapping[str, Mapping[str, Any]],
        at: datetime,
    ) -> tuple[Decided | None, Made]:  # fmt: skip
        """Who should hold this plan and what differs from the shares that stand; None where nothing may be decided now. Pure.

        ``standing`` are the plan's shares, and those of its notices that have not arrived. ``renderings`` are those of the
        current version, by their sections. Raises ``wishes.RenderingNeededError``.
        """
        asking = self.asking(each.plan.plan_id, each.plan.la_code, each.plan.identity_revision, at)
        of_the_plan = [share for share in standing if not share.notice_id]
        decided, made = self._of_the_plan(each, people, of_the_plan, renderings, asking)
        if each.plan.restricted is None or each.quiet:
            others = [share for share in standing if share.share_id not in each.remove]
            made.wishes += self.taken_back(each.plan, asking, each.circumstances, people, others, quiet=each.quiet)
        return decided, made

    def taken_back(
        self,
        plan: KnownPlan,
        asking: Asking,
        around: Circumstances,
        people: People,
        standing: Sequence[Share],
        *,
        quiet: bool = False,
    ) -> list[Wish]:
        """Of the notices that have not arrived, those to whom nothing of the child goes any more: who is no longer of the
        family (or nobody of it, where all is ``quiet``), who of it must be confirmed first, and whom a person keeps from the
        plan. Of a plan that is not to cease any more, its cease notice."""
        family = set() if quiet else {person_id(asking.plan_id, member.reference) for member in around.family}
        out = kept_from(people.decisions.get(asking.plan_id, ()), self.today())
        confirmed = people.confirmed.get(asking.plan_id, {})
        out |= {UUID(each) for each in plan.doubts if not confirmed.get(UUID(each))}
        return [
            wishes.withdraw(asking, share)
            for share in standing
            if share.notice_id and not share.satisfied
            and (
                share.recipient_id in out
                or (share.recipient.kind in FAMILY and share.recipient_id not in family)
                or (share.notice is NoticeKind.CEASE_NOTICE and plan.state is PlanState.LIVE)
            )
        ]  # fmt: skip

    def _of_the_plan(
        self, each: Situation, people: People, standing: Sequence[Share], renderings: Mapping[str, Mapping[str, Any]],
        asking: Asking,
    ) -> tuple[Decided | None, Made]:  # fmt: skip
        plan, now = each.plan, versions.current(each.plan.versions)
        if plan.restricted is not None:
            # Nothing leaves and nothing is taken back, but for copies that must go.
            recalled = [share for share in standing if share.share_id in each.remove]
            return None, wishes.make(asking, (), recalled, None, each.remove)
        if now is None:
            return NOBODY, wishes.make(asking, (), standing, None, each.remove)
        decided = NOBODY
        if plan.state in IN_FORCE:
            decided = self.decide(
                plan.plan_id, plan.la_code, each.circumstances, each.child, people, issued_on=now.issued_on,
                first=_is_first(plan, now), letters=map(SectionLetter, now.section_hashes), doubts=plan.doubts,
            )  # fmt: skip
        # What was typeset here names the child as it was known then.
        fit = {
            k: row for k, row in renderings.items() if not row["typeset"] or row["identity_revision"] == plan.identity_revision
        }
        things = {key: _thing(now, key, row) for key, row in fit.items()}
        return decided, wishes.make(asking, decided.wanted, standing, Current(things, each.changed), each.remove)

    async def render_again(
        self, pool: "asyncpg.Pool[asyncpg.Record]", plan: KnownPlan, now: versions.Issued, parts: Iterable[str],
        child: Child | None = None,
    ) -> list[NewRendering]:  # fmt: skip
        """Parts of a stored version that somebody is to get now, not yet written. ``child``: as it is from now on, where that
        changes. Called outside a transaction. Raises ``RenderingError``."""
        async with council_transaction(pool, [plan.la_code]) as connection:
            sealed = await store.read_body(connection, now.version_id)
            manifest = Manifest.model_validate(await store_events.read_manifest(connection, now.version_id))
        key = self.key_of(plan)
        body = key.open(sealed, f"version:{now.version_id}")
        version, revision = _version(body), plan.identity_revision + (child is not None)
        return [
            await self.render(
                plan.la_code, plan.case_reference, plan.plan_id, now.version_id, version, child or self.child_of(plan), key,
                sections, versions.hashes_by_letter(now), identity_revision=revision, attachments=manifest.attachments,
                text_bytes=len(body),
            )
            for sections in sorted(parts)
        ]  # fmt: skip

    async def render(
        self, la_code: str, case_reference: str, plan_id: UUID, version_id: UUID, version: PlanVersion, child: Child, key: Key,
        sections: str, section_hashes: Mapping[SectionLetter, str], *, identity_revision: int,
        attachments: tuple[FileEntry, ...], text_bytes: int, document: bytes | None = None, typeset: bool = True,
    ) -> NewRendering:  # fmt: skip
        """A rendering of a version, sealed. ``document``: the council's own PDF, else one is typeset unless ``typeset`` is off.

        Raises ``RenderingError``.
        """
        rendering_id = new_id()
        letters = None if sections == ALL_SECTIONS else frozenset(map(SectionLetter, sections.split()))
        made_here = document is None and typeset
        if made_here:
            council = self.directory.councils[la_code].name
            document = await self.renderer.render(child, council, case_reference, version, letters)
        name = f"{case_reference}.pdf".replace("/", "-")
        with_advice = letters is None or SectionLetter.K in letters
        manifest = Manifest(
            plan_id=plan_id, version_id=version_id, issued_on=version.issued_on,
            sections={letter: hash_ for letter, hash_ in section_hashes.items() if letters is None or letter in letters},
            document=FileEntry(name=name, media_type=PDF, size=len(document), sha256=sha256(document)) if document else None,
            attachments=attachments if with_advice else (),
        )  # fmt: skip
        canonical = manifest.canonical()
        return NewRendering(
            rendering_id, version_id, None, la_code, sections, sha256(canonical), canonical,
            key.seal(document, f"document:{rendering_id}") if document else None,
            text_bytes + len(document or b"") + sum(each.size for each in manifest.attachments), identity_revision, made_here,
        )  # fmt: skip


def _version(body: bytes) -> PlanVersion:
    rest, _, sections = body.partition(b"\n")
    return PlanVersion.model_validate(orjson.loads(rest) | {"sections": orjson.loads(sections) or None})


class RenderingNeededError(Exception):
    """Recipients are to get sections of these plans' current versions that were not rendered yet; all of them at once, so that
    a batch is decided twice and not once for each of its plans."""

    def __init__(self, sections: Mapping[UUID, frozenset[str]]) -> None:
        super().__init__("renderings are needed")
        self.sections = sections


def _thing(now: versions.Issued, sections: str, row: Mapping[str, Any]) -> Thing:
    letters = tuple(SectionLetter(letter) for letter in SectionLetter if letter.value in now.section_hashes)
    if sections != ALL_SECTIONS:
        letters = tuple(letter for letter in letters if letter.value in sections.split())
    return Thing(now.version_id, row["rendering_id"], row["sha256"], now.number, now.issued_on, letters)


def _is_first(plan: KnownPlan, now: versions.Issued) -> bool:
    """Whether the current version is the first final plan, among those that may leave."""
    return now.number == min(each.number for each in plan.versions if each.may_leave)


def waits(unusual: Unusual) -> str:
    """Warning for the council about a recipient that gets nothing yet."""
    return (
        f"{unusual.recipient.name} ({unusual.recipient.scheme}:{unusual.recipient.value}) waits for a second person's "
        f"confirmation: {unusual.reason}."
    )


def undeliverable(wanted: Iterable[Wanted], directory: Directory, on: date) -> list[str]:
    """Warnings for the council about codes that lead to nobody on that day."""
    return [
        f"{_why_unknown(each, directory, on)}: the share is kept and shown as undeliverable. Register the organisation, or "
        "correct the code in the next version."
        for each in wanted
        if each.unknown
    ]


def misplaced(wanted: Iterable[Wanted], around: Circumstances, directory: Directory, on: date) -> list[dict[str, str]]:
    """The same for a program: by the field of the submission that has the code."""
    why = {
        OrganisationCode(scheme=each.recipient.scheme, value=each.recipient.value): _why_unknown(each, directory, on)
        for each in wanted
        if each.unknown
    }
    codes = [
        (f"version/placements/{place}/setting", placement.setting)
        for place, placement in enumerate(around.placements)
        if placement.until is None or placement.until >= on
    ]
    codes += [(f"version/commissioning_bodies/{place}", code) for place, code in enumerate(around.commissioning_bodies)]
    codes.append(("version/detained_at", around.detained_at))
    instead = "send the code that holds on that day, or register the organisation"
    return [{"field": field, "problem": why[code], "instead": instead} for field, code in codes if code in why]


def _why_unknown(wanted: Wanted, directory: Directory, on: date) -> str:
    known = wanted.recipient
    kinds = shares.SETTINGS if known.kind in shares.SETTINGS else frozenset({known.kind})
    return directory.why_unknown(OrganisationCode(scheme=known.scheme, value=known.value), kinds, on)
