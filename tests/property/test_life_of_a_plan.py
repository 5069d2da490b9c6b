"""Any life of a plan: versions, events, days and directories that change. After every step the product's pure rules and a model
of the law written by hand (``law_model``) agree on who holds what, and ``seq`` rose only where a wish differs."""

import dataclasses
import itertools
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schemas.base import Channel, RecipientKind
from schemas.identifiers import CodeScheme
from schemas.lifecycle import PLAN_EVENT, PlanEvent, PlanState, Recall
from schemas.plan import Child, Circumstances, PlanVersion
from services.ehcp_publisher import lifecycle, shares, versions, wishes
from services.ehcp_publisher.consequences import Before, circumstances_after, consequences
from services.ehcp_publisher.deciding import IN_FORCE, Deciding, People, Situation
from services.ehcp_publisher.registry import Directory, Known, Registry, organisation_id, person_id
from services.ehcp_publisher.shares import Decision, Facts
from services.ehcp_publisher.store import ALL_SECTIONS, KnownPlan, Share, Wish
from services.ehcp_publisher.versions import First, History, Issued, Next, Repeat
from services.ehcp_publisher.wishes import Made
from services.shared.web.problems import Problem
from tests.property.law_model import CUSTODY, ENDED, EXCHANGE, ICB_ENDS, LATER, OLD_ICB, OUTSIDE, PART, POSSIBLE, Around, Law

PLAN, CHILD = UUID(int=1), UUID(int=2)
AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
BORN = (date(2010, 3, 4), date(2012, 3, 4))
SETTINGS = ("urn:100001", "urn:100002", "urn:100003", OUTSIDE, LATER)
KINDS = {
    "urn:100001": "school", "urn:100002": "school", "urn:100003": "early_years", OUTSIDE: "school", LATER: "school",
    CUSTODY: "custodial_establishment", OLD_ICB: "commissioning_body", "ods:QQ2": "commissioning_body", "ods:RNT": "trust",
    "vs:332": "virtual_school", "vs:333": "virtual_school", "yos:332": "youth_offending_service",
    "yos:333": "youth_offending_service",
}  # fmt: skip
FAMILY = (("M1", "parent", False), ("F1", "parent", True), ("Y1", "young_person", False))


def code(who: str) -> dict[str, str]:
    scheme, _, value = who.partition(":")
    return {"scheme": "la" if scheme in ("vs", "yos") else scheme, "value": value}


def recipient_id(who: str) -> UUID:
    if who in KINDS:
        parts = code(who)
        return organisation_id(RecipientKind(KINDS[who]), CodeScheme(parts["scheme"]), parts["value"])
    return person_id(PLAN, who)


WHO = {recipient_id(who): who for who in (*KINDS, *(reference for reference, _, _ in FAMILY))}
WHO[organisation_id(RecipientKind.COMMISSIONING_BODY, CodeScheme.ODS, "QQ1:not-valid")] = ENDED


def directory(*, policy: bool, later: bool) -> Directory:
    registered = [who for who in KINDS if who != "yos:333" and (later or who != LATER)]
    law = Law()
    recipients = [
        {
            "kind": KINDS[who], "name": who, "subscriber": law.subscriber(who) or "school", "channel": "inbox",
            "codes": [code(who) | {"from": "2020-01-01", "until": ICB_ENDS if who == OLD_ICB else None}],
            "areas": ["999"] if who == OUTSIDE else sorted(EXCHANGE),
        }
        for who in registered
    ]  # fmt: skip
    rules: list[dict[str, Any]] = [{"rule": "trusts", "share_with": {"involved": {"kinds": ["trust"]}}}] + [
        {
            "rule": f"virtual-school-{council.replace('_', '-')}", "when": {"looked_after": "by_any_council"} | more,
            "share_with": {"of_council": {"kind": "virtual_school", "council": council}}, "sections": PART.split(),
        }
        for council, more in (("looked_after_by", {}), ("resident_in", {"resident": "elsewhere"}))
    ]  # fmt: skip
    approval = {"data_sharing_agreement": "DSA", "dpia": "DPIA", "from": "2020-01-01"}
    policies = [
        {"la_code": "332", "approval": approval, "rules": [each | {"lawful_basis": "x", "reason": "x"} for each in rules]}
    ]
    councils = [{"la_code": la, "name": la, "ods_code": "408"} for la in sorted(EXCHANGE)]
    return Directory(
        Registry.model_validate({"councils": councils, "recipients": recipients, "policies": policies if policy else []})
    )


DIRECTORIES = {(policy, later): directory(policy=policy, later=later) for policy in (True, False) for later in (True, False)}


def placements_of(around: Around) -> list[dict[str, Any]]:
    return [{"setting": code(who), "from": from_, "until": until} for who, from_, until in around.placements]


def family_of(around: Around) -> list[dict[str, Any]]:
    return [
        {"reference": reference, "role": role, "name": "Somebody", "acts_for_young_person": acts}
        for reference, role, acts in around.family
    ]


def involved_of(around: Around) -> list[dict[str, Any]]:
    return [{"role": "provision", "kind": "trust", "organisation": code("ods:RNT")}] if around.trust else []


def care_of(around: Around) -> dict[str, Any]:
    return {
        "looked_after_by": around.carer, "resident_in": around.home, "detained_at": code(CUSTODY) if around.detained else None,
    }  # fmt: skip


def circumstances_of(around: Around) -> dict[str, Any]:
    return {
        "placements": placements_of(around), "commissioning_bodies": [code(who) for who in around.icbs],
        "family": family_of(around), "involved": involved_of(around), **care_of(around),
    }  # fmt: skip


def version_of(issued_on: date, text: int, around: Around) -> PlanVersion:
    sections = {"A": {"text": f"text {text}"}, "F": {"text": "help"}} if text else None
    return PlanVersion.model_validate({"issued_on": issued_on, "sections": sections, **circumstances_of(around)})


# --- what may happen ---

DAYS = st.integers(0, 60)
UNTIL = (None, date(2026, 4, 1), date(2026, 7, 20))
TURNS = [date(2026, 4, 1), date(2026, 6, 26), date(2026, 7, 1), date(2026, 7, 21)]
"""Days on which something ends or passes, and days before them."""
PLACEMENTS = st.lists(
    st.tuples(st.sampled_from(SETTINGS), st.just(date(2025, 9, 1)), st.sampled_from(UNTIL)),
    max_size=3, unique_by=lambda each: each[0],
).map(tuple)  # fmt: skip
ICBS = st.lists(st.sampled_from([OLD_ICB, "ods:QQ2"]), max_size=2, unique=True).map(tuple)
SOME_FAMILY = st.lists(st.sampled_from(FAMILY), max_size=3, unique=True).map(tuple)
COUNCIL = st.sampled_from([None, "332", "333"])
AROUND = st.builds(
    Around, placements=PLACEMENTS, icbs=ICBS, family=SOME_FAMILY, trust=st.booleans(), carer=COUNCIL, home=COUNCIL,
    detained=st.booleans(),
)  # fmt: skip
ORGANISATIONS = st.sampled_from(["urn:100001", "urn:100002", OUTSIDE, "ods:QQ2", "ods:RNT", CUSTODY])


class LifeOfAPlan(RuleBasedStateMachine):
    """The product on the left hand, as the publisher's transactions put its parts together; the model on the right."""

    def __init__(self) -> None:
        super().__init__()
        self.law = Law()
        self.ids = itertools.count(1000)
        self.plan = KnownPlan(
            PLAN, "332", "EHC-1", CHILD, b"", b"", PlanState.LIVE, 1, 1, None, (), None, (),
        )  # fmt: skip
        self.child = Child(family_name="Example", given_names="Child", date_of_birth=BORN[0])
        self.texts: dict[UUID, PlanVersion] = {}
        self.accepted: dict[UUID, int] = {}
        self.events: list[PlanEvent] = []
        self.around: Circumstances | None = None
        self.decisions: dict[UUID, Decision] = {}
        self.confirmed: dict[UUID, bool | None] = {}
        self.renderings: dict[UUID, dict[str, dict[str, Any]]] = {}
        self.shares: dict[UUID, Share] = {}
        self.told: dict[UUID, set[UUID]] = {}
        """By share, every version that it was ever told to hold."""
        self.decide_on: date | None = None

    # --- the product, as ``issuing``, ``events`` and ``redeciding`` use it ---

    @property
    def deciding(self) -> Deciding:
        now = datetime.combine(self.law.today, AT.timetz())
        known = DIRECTORIES[self.law.policy, self.law.later_is_registered]
        return Deciding(known, None, None, timedelta(minutes=1), lambda: now)  # type: ignore[arg-type]

    def new_id(self) -> UUID:
        return UUID(int=next(self.ids))

    def circumstances(self) -> Circumstances:
        now = versions.current(self.plan.versions)
        return self.around or (self.texts[now.version_id].circumstances() if now else Circumstances())

    def people(self) -> People:
        return People({PLAN: tuple(self.decisions.values())}, {PLAN: self.confirmed})

    def decide_again(self, remove: dict[UUID, tuple[UUID, ...]] | None = None) -> int:
        """Returns how many wishes rose."""
        now = versions.current(self.plan.versions)
        situation = Situation(self.plan, self.child, self.circumstances(), None, remove or {})  # type: ignore[arg-type]
        while True:
            known = self.renderings.get(now.version_id, {}) if now else {}
            try:
                decided, made = self.deciding.wished(situation, self.people(), list(self.shares.values()), known, AT)
            except wishes.RenderingNeededError as needed:
                assert now
                self.render(now.version_id, *needed.sections)
                continue
            if decided is not None:
                self.take_in(decided)
            return self.write(made)

    def take_in(self, decided: shares.Decided) -> None:
        """``store_events.write_decided``."""
        self.decide_on = decided.next_on
        waiting = {each.recipient.recipient_id for each in decided.unconfirmed}
        for each in [each for each, share in self.confirmed.items() if share is None and each not in waiting]:
            del self.confirmed[each]
        for each in waiting:
            self.confirmed.setdefault(each, None)

    def render(self, version_id: UUID, *sections: str) -> None:
        known = self.renderings.setdefault(version_id, {})
        for key in sections:
            fits = key in known and known[key]["identity_revision"] == self.plan.identity_revision
            assert not fits, "it is rendered already"
            known[key] = {
                "rendering_id": self.new_id(), "sha256": "ab" * 32, "typeset": True,
                "identity_revision": self.plan.identity_revision,
            }  # fmt: skip

    def write(self, made: Made) -> int:
        """``store.write_wishes`` and ``store.lock_shares``."""
        for wish in made.wishes:
            before = self.shares.get(wish.share_id)
            assert wish.seq == (before.seq if before else 0) + 1
            again = before is not None and before.satisfied and wish.removing
            assert before is None or again or stands(before) != stands(wish), "seq rose, and the wish is the same"
            recipient = DIRECTORIES[True, True].get(wish.recipient_id)
            known = recipient.known_by(recipient.codes[0]) if recipient else self.somebody(wish)
            self.shares[wish.share_id] = Share(
                wish.share_id, PLAN, wish.recipient_id, wish.seq, wish.action, known, wish.la_code, wish.subscriber,
                wish.version_id, None, wish.rendering_id, wish.identity_revision, wish.removing, satisfied=False,
            )  # fmt: skip
            assert wish.version_id
            self.told.setdefault(wish.share_id, set()).add(wish.version_id)
        return len(made.wishes)

    def somebody(self, wish: Wish) -> Any:
        kind = RecipientKind(KINDS.get(WHO[wish.recipient_id], "parent"))
        return Known(wish.recipient_id, kind, CodeScheme.URN, "1", "Somebody", wish.subscriber, Channel.INBOX)

    def record(self, type_: str, **fields: Any) -> bool:
        """``Events.record``; whether it was accepted."""
        event: PlanEvent = PLAN_EVENT.validate_python({"type": type_, "by": "officer", **fields})
        known = list(self.plan.versions)
        recalls = isinstance(event, Recall) and event.reason == "wrong_child"
        if recalls:
            known = [each for each in known if each.version_id != fields["version_id"]]
        now = versions.current(known)
        version = self.texts[now.version_id] if now else None
        around = self.circumstances()
        if recalls and versions.current(self.plan.versions) != now:
            base = version.circumstances() if version else Circumstances()
            around = circumstances_after(base, self.events_since(now))
        decided = None
        if now:
            decided = self.deciding.decide(
                PLAN,
                self.plan.la_code,
                around,
                self.child,
                self.people(),
                issued_on=now.issued_on,
                first=True,
                letters=(),
                doubts=self.plan.doubts,
            )
        asked = None
        if type_ == "confirm" and fields["recipient_id"] in self.confirmed:
            share = self.confirmed[fields["recipient_id"]]
            asked = {"asked_by": "case-system", "once": False, "decided_by": "officer-0" if share is not None else None}
        before = Before(
            self.plan, now, version, self.child, around, None, asked, decided, self.deciding.directory, has_document=False
        )
        try:
            follows = consequences(event, before, self.law.today)
        except Problem:
            return False
        plan = replace(self.plan, state=follows.state, revision=self.plan.revision + 1)
        known_columns = {each.name for each in dataclasses.fields(KnownPlan)}
        plan = replace(plan, **{name: value for name, value in follows.plan.items() if name in known_columns})
        plan = replace(plan, doubts={**plan.doubts, **follows.doubts})
        if follows.child:
            self.child = follows.child
            plan = replace(plan, identity_revision=plan.identity_revision + 1)
        if follows.circumstances is not None:
            self.around = follows.circumstances
        if follows.decision:
            self.decisions[follows.decision.recipient_id] = follows.decision
        if follows.confirmed:
            self.confirmed[follows.confirmed[0]] = follows.confirmed[1]
        remove: dict[UUID, tuple[UUID, ...]] = {}
        if isinstance(event, Recall):
            if recalls:
                plan = replace(
                    plan,
                    versions=tuple(replace(v, recalled=v.recalled or v.version_id == event.version_id) for v in plan.versions),
                )
                remove = {share_id: (event.version_id,) for share_id, told in self.told.items() if event.version_id in told}
            for share_id in event.shares:
                decision = Decision(
                    self.shares[share_id].recipient_id, share=False, code=None, lawful_basis="recall", reason=event.reason,
                    until=None,
                )  # fmt: skip
                self.decisions[decision.recipient_id] = decision
                remove[share_id] = tuple(sorted(self.told[share_id]))
        self.plan = plan
        self.events.append(event)
        self.decide_again(remove)
        assert self.decide_again() == 0, "deciding again right away raises nothing"
        return True

    def events_since(self, now: Issued | None) -> list[PlanEvent]:
        """``store_events.read_events_since``."""
        if now is None:
            return []
        return [
            event
            for place, event in enumerate(self.events)
            if place >= self.accepted[now.version_id] or getattr(event, "changed_on", now.issued_on) > now.issued_on
        ]

    def happens(self, type_: str, possible: bool = True, **fields: Any) -> bool:
        """Into the product; whether it is to go into the model too. Both must agree on whether it may be."""
        possible = possible and self.law.state in POSSIBLE[type_]
        assert self.record(type_, **fields) == possible
        return possible

    # --- versions ---

    @initialize(around=AROUND, text=st.integers(0, 2))
    def first(self, around: Around, text: int) -> None:
        self.issue(0, text, around)

    @rule(ago=DAYS, text=st.integers(0, 2), around=AROUND)
    def issue(self, ago: int, text: int, around: Around) -> None:
        self.send(self.law.today - timedelta(days=ago), text, around)

    @precondition(lambda self: self.law.versions)
    @rule(place=st.integers(0, 9), later=st.booleans())
    def issue_again(self, place: int, later: bool) -> None:
        """The same once more, or the same text under another date."""
        was = self.law.versions[place % len(self.law.versions)]
        self.send(self.law.today if later else was.issued_on, was.text, was.around)

    def send(self, issued_on: date, text: int, around: Around) -> None:
        """``Issuing``."""
        version = version_of(issued_on, text, around)
        sent = versions.text_of(version, None if text else "document", [])
        decision = versions.decide(self.plan.versions, issued_on, sent)
        expected = self.law.version_comes(issued_on, text, around)
        if isinstance(decision, Repeat):
            assert expected == "repeat"
            return
        try:
            lifecycle.after(self.plan.state, lifecycle.NEW_VERSION)
        except Problem:
            assert expected == "refused"
            return
        if not isinstance(decision, First | Next | History):
            assert expected == "refused"
            return
        version_id = self.new_id()
        hashes = {letter.value: value for letter, value in sent.section_hashes.items()}
        issued = Issued(version_id, decision.number, issued_on, sent.text_hash, hashes)
        self.texts[version_id], self.accepted[version_id] = version, len(self.events)
        self.plan = replace(self.plan, versions=(*self.plan.versions, issued))
        self.render(version_id, ALL_SECTIONS)
        if isinstance(decision, History):
            assert expected == "history"
            return
        assert expected == "issued"
        self.around = None
        if self.plan.restricted is None:
            first = isinstance(decision, First)
            decided = self.deciding.decide(
                PLAN, self.plan.la_code, version.circumstances(), self.child, self.people(), issued_on=issued_on, first=first,
                letters=sent.section_hashes, doubts=self.plan.doubts,
            )  # fmt: skip
            parts = {wishes.sections_key(each) for each in decided.wanted} - {ALL_SECTIONS}
            self.render(version_id, *parts)
            things = {
                key: wishes.Thing(version_id, row["rendering_id"], row["sha256"], decision.number, issued_on)
                for key, row in self.renderings[version_id].items()
            }
            asking = self.deciding.asking(PLAN, self.plan.la_code, self.plan.identity_revision, AT)
            changed = () if isinstance(decision, First) else decision.changed
            self.take_in(decided)
            self.write(wishes.make(asking, decided.wanted, list(self.shares.values()), wishes.Current(things, changed)))
        assert self.decide_again() == 0, "deciding again right away raises nothing"

    # --- the plan's end, and its way back ---

    @rule(appeal=st.sampled_from([None, 0, 30]))
    def cease_notice(self, appeal: int | None) -> None:
        today, law = self.law.today, self.law
        until = None if appeal is None else today + timedelta(days=appeal)
        told = self.told_of("cease_notice")
        held = {each.share_id: each.seq for each in self.shares.values()}
        if self.happens("cease_notice", notified_on=today, ceases_on=today, reason="needs_met", appeal_until=until):
            assert told == law.told_of_cease_notice()
            assert {each.share_id: each.seq for each in self.shares.values()} == held, "the notice changes no copy"
            law.state, law.appeal_until = "ceasing", until

    def told_of(self, event: str) -> set[str]:
        facts = Facts(
            PLAN, self.plan.la_code, self.circumstances(), self.child.date_of_birth, self.law.today,
            decisions=tuple(self.decisions.values()), confirmed=self.confirmed, doubts=self.plan.doubts,
        )  # fmt: skip
        told = shares.told(event, facts, self.deciding.directory, self.law.today)
        return {WHO[each.recipient.recipient_id] for each in told}

    @rule(decided=st.booleans(), notified=st.booleans())
    def cease(self, decided: bool, notified: bool) -> None:
        law = self.law
        possible = (law.state == "ceasing" or notified) and not (
            law.appeal_until and law.today <= law.appeal_until and not decided
        )
        notified_on = law.today if notified else None
        fields = {"ceased_on": law.today, "reason": "other", "notified_on": notified_on, "appeal_decided": decided}
        if self.happens("cease", bool(possible), **fields):
            law.state = "ceased"
            law.decide()

    @rule()
    def reopen(self) -> None:
        if self.happens("reopen", reopened_on=self.law.today, reason="appeal_succeeded"):
            self.law.state, self.law.appeal_until = "live", None
            self.law.decide()

    @rule(type_=st.sampled_from(["adoption", "death"]), luck=st.integers(0, 3))
    def ends(self, type_: str, luck: int) -> None:
        day: dict[str, Any] = {"adopted_on" if type_ == "adoption" else "died_on": self.law.today}
        if luck == 0 and self.happens(type_, **day):
            self.law.state = "ceased"
            self.law.decide()

    @rule(to=st.sampled_from(["332", "333", "301"]), luck=st.integers(0, 2))
    def transfer(self, to: str, luck: int) -> None:
        law = self.law
        if luck == 0 and self.happens(
            "transfer", to != law.council, to_la_code=to, moved_on=law.today, aware_on=law.today
        ):  # fmt: skip
            law.transfer(to)

    # --- around the child ---

    @rule(placements=PLACEMENTS)
    def placement_changed(self, placements: Any) -> None:
        sent = placements_of(Around(placements=placements))
        if self.happens("placement_changed", placements=sent, changed_on=self.law.today):
            self.law.around_changes(placements=placements)

    @rule(icbs=ICBS)
    def commissioner_changed(self, icbs: tuple[str, ...]) -> None:
        sent = [code(who) for who in icbs]
        if self.happens("commissioner_changed", commissioning_bodies=sent, changed_on=self.law.today):
            self.law.around_changes(icbs=icbs)

    @rule(family=SOME_FAMILY)
    def family_changed(self, family: Any) -> None:
        if self.happens("family_changed", family=family_of(Around(family=family)), changed_on=self.law.today):
            self.law.around_changes(family=family)

    @rule(trust=st.booleans())
    def involved_changed(self, trust: bool) -> None:
        if self.happens("involved_changed", involved=involved_of(Around(trust=trust)), changed_on=self.law.today):
            self.law.around_changes(trust=trust)

    @rule(carer=COUNCIL, home=COUNCIL, detained=st.booleans())
    def care_changed(self, carer: str | None, home: str | None, detained: bool) -> None:
        sent = care_of(Around(carer=carer, home=home, detained=detained))
        if self.happens("care_changed", **sent, changed_on=self.law.today):
            self.law.around_changes(carer=carer, home=home, detained=detained)

    @rule(born=st.sampled_from(BORN))
    def child_corrected(self, born: date) -> None:
        child = self.child.model_copy(update={"date_of_birth": born, "given_names": f"Child {len(self.events)}"})
        before = {share.share_id: share for share in self.shares.values()}
        if self.happens("child_corrected", child=child.model_dump()):
            self.law.born = born
            self.law.decide()
            for share in self.shares.values():
                # Whoever held it and holds it still is told anew, and whoever begins to gets the new details as well.
                if share.action == "hold" and not self.law.restricted:
                    assert share.identity_revision == self.plan.identity_revision
                    assert share.share_id not in before or share.seq > before[share.share_id].seq

    # --- what people decide ---

    @rule()
    def restrict(self) -> None:
        if self.happens("restrict", reason="court_order"):
            self.law.restricted = True

    @rule()
    def lift(self) -> None:
        if self.happens("lift", self.law.restricted):
            self.law.restricted = False
            self.law.decide()

    @rule(who=ORGANISATIONS, share=st.booleans())
    def decide(self, who: str, share: bool) -> None:
        law = self.law
        owed = law.current is not None and who in law.owed() - law.kept_from and not law.unusual(who)
        if self.happens(
            "decide", share or not owed, organisation=code(who), share=share, lawful_basis="consent", reason="asked"
        ):  # fmt: skip
            (law.decided_for.add if share else law.decided_for.discard)(who)
            (law.kept_from.discard if share else law.kept_from.add)(who)
            law.decide()

    @rule(share=st.booleans())
    def confirm(self, share: bool) -> None:
        if self.happens(
            "confirm", self.law.asked and self.law.confirmed is None, recipient_id=recipient_id(OUTSIDE), share=share
        ):
            self.law.confirmed = share
            self.law.decide()

    @precondition(lambda self: self.law.versions)
    @rule(place=st.integers(0, 9))
    def recall_version(self, place: int) -> None:
        place %= len(self.law.versions)
        version_id = self.plan.versions[place].version_id
        at = datetime.combine(self.law.today, AT.timetz())
        assert self.happens("recall", version_id=version_id, reason="wrong_child", aware_at=at)
        self.law.recall_version(self.law.versions[place].number)

    @precondition(lambda self: self.shares)
    @rule(place=st.integers(0, 30))
    def recall_from(self, place: int) -> None:
        share = list(self.shares.values())[place % len(self.shares)]
        at = datetime.combine(self.law.today, AT.timetz())
        version_id = self.plan.versions[0].version_id
        assert self.happens(
            "recall", version_id=version_id, reason="wrong_recipient", shares=[share.share_id], aware_at=at
        )  # fmt: skip
        self.law.recall_from(WHO[share.recipient_id])

    # --- what else changes ---

    @rule(days=st.integers(1, 90))
    def days_pass(self, days: int) -> None:
        self.comes(self.law.today + timedelta(days=days))

    @rule(day=st.sampled_from(TURNS))
    def a_day_comes(self, day: date) -> None:
        if day > self.law.today:
            self.comes(day)

    def comes(self, day: date) -> None:
        """Only what is in the queue for the day is decided again."""
        self.law.today = day
        if self.decide_on is not None and self.decide_on <= self.law.today:
            self.decide_again()
        self.law.decide()

    @rule(policy=st.booleans(), later=st.booleans())
    def directory_changes(self, policy: bool, later: bool) -> None:
        """Plans in force that it touches are in the queue then."""
        self.law.policy, self.law.later_is_registered = policy, later
        if self.plan.state in IN_FORCE:
            self.decide_again()
        self.law.decide()

    @precondition(lambda self: self.shares)
    @rule(place=st.integers(0, 30))
    def proved(self, place: int) -> None:
        """The newest instruction is satisfied: what it wanted removed is gone."""
        share = list(self.shares.values())[place % len(self.shares)]
        self.shares[share.share_id] = replace(share, satisfied=True)
        self.law.copies[WHO[share.recipient_id]].remove.clear()

    # --- the two agree ---

    @invariant()
    def the_states_are_the_same(self) -> None:
        law = self.law
        now = versions.current(self.plan.versions)
        assert (self.plan.state, self.plan.la_code, self.plan.restricted is not None) == (
            law.state,
            law.council,
            law.restricted,
        )
        assert (now and now.number) == (law.current and law.current.number)

    @invariant()
    def everyone_is_to_hold_what_the_law_says(self) -> None:
        numbers = {each.version_id: each.number for each in self.plan.versions}
        found = {}
        for share in self.shares.values():
            removing = set() if share.satisfied else {numbers[each] for each in share.removing}
            held = (numbers[share.version_id], self.part_of(share)) if share.action == "hold" and share.version_id else None
            found[WHO[share.recipient_id]] = (share.action, held, removing)
        assert found == {
            who: (copy.wish, (copy.version, copy.part) if copy.wish == "hold" else None, copy.remove)
            for who, copy in self.law.copies.items()
        }

    def part_of(self, share: Share) -> str | None:
        known = self.renderings[share.version_id] if share.version_id else {}
        for key, row in known.items():
            if row["rendering_id"] == share.rendering_id:
                return None if key == ALL_SECTIONS else key
        return "an older rendering" if not self.law.restricted else self.law.copies[WHO[share.recipient_id]].part

    def identity_of(self, share: Share) -> int | None:
        """Which identity of the child the document of this share names."""
        known = self.renderings[share.version_id] if share.version_id else {}
        found = (row["identity_revision"] for row in known.values() if row["rendering_id"] == share.rendering_id)
        return next(found, None)

    @invariant()
    def nothing_is_wanted_that_must_not_be(self) -> None:
        recalled = {each.version_id for each in self.plan.versions if each.recalled}
        for share in self.shares.values():
            if share.action == "hold" and not self.law.restricted:
                assert share.version_id not in recalled
                assert share.version_id not in share.removing
                assert self.identity_of(share) == self.plan.identity_revision
                assert share.subscriber == self.law.subscriber(WHO[share.recipient_id])
                assert share.la_code == self.law.council
                assert self.plan.state in IN_FORCE
                assert share.recipient.kind is not RecipientKind.PARENT or self.part_of(share) is None


def stands(wish: Share | Wish) -> tuple[Any, ...]:
    return (
        wish.action, wish.version_id, wish.rendering_id, wish.subscriber, wish.identity_revision, wish.removing, wish.la_code,
    )  # fmt: skip


TestLifeOfAPlan = LifeOfAPlan.TestCase
TestLifeOfAPlan.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
