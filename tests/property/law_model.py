"""The law of one plan's shares, small and by hand: who must hold which version now, and what may happen in which state.

Written from the regulations and the council's own rules alone, with nothing of the product, so that the two can be compared.
Everything is a plain value: an organisation is its code, a person a reference, a version a number in the order of acceptance.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

IN_FORCE = {"live", "ceasing"}
STATES = {"live", "ceasing", "ceased", "transferred"}
POSSIBLE: Mapping[str, set[str]] = {
    "version": IN_FORCE,
    "cease_notice": IN_FORCE,
    "cease": IN_FORCE,
    "reopen": {"ceasing", "ceased"},
    "transfer": IN_FORCE,
    "adoption": IN_FORCE,
    "death": IN_FORCE,
    "child_corrected": IN_FORCE,
    "placement_changed": IN_FORCE,
    "commissioner_changed": IN_FORCE,
    "family_changed": IN_FORCE,
    "involved_changed": IN_FORCE,
    "care_changed": IN_FORCE,
    "review_scheduled": IN_FORCE,
    "decide": IN_FORCE,
    "confirm": IN_FORCE,
    "recall": STATES,
    "restrict": STATES,
    "lift": STATES,
}
EXCHANGE = {"332", "333"}
"""The councils of this exchange; any other is elsewhere."""
PART = "A B E F I"
"""What the sharing policy gives to a virtual school."""
RIGHTS_PASS = {date(2010, 3, 4): date(2026, 6, 26), date(2012, 3, 4): date(2028, 6, 30)}
"""The last Friday in June of the school year of the sixteenth birthday, from a calendar."""
OUTSIDE = "urn:100007"
"""A school that serves another area than either council's."""
CUSTODY = "urn:100008"
LATER = "urn:100009"
"""A school that is registered only some day."""
OLD_ICB, ICB_ENDS = "ods:QQ1", date(2026, 6, 30)
"""A commissioning body whose code ends."""
ENDED = "nobody"
"""Whom its code means after that."""


@dataclass(frozen=True)
class Around:
    placements: tuple[tuple[str, date, date | None], ...] = ()
    icbs: tuple[str, ...] = ()
    family: tuple[tuple[str, str, bool], ...] = ()
    """(reference, role, acts for the young person)."""
    trust: bool = False
    carer: str | None = None
    home: str | None = None
    detained: bool = False


@dataclass(frozen=True)
class Version:
    number: int
    issued_on: date
    text: int
    """0 is a document without sections."""
    around: Around
    recalled: bool = False
    after: int = 0
    """How many events had happened before."""


@dataclass
class Copy:
    """What one recipient is to do, and what it has ever been told to hold."""

    wish: str = "none"
    version: int = 0
    part: str | None = None
    council: str = ""
    told: set[int] = field(default_factory=set)
    remove: set[int] = field(default_factory=set)
    """Not proved to be gone yet."""


@dataclass
class Law:
    today: date = date(2026, 3, 2)
    council: str = "332"
    state: str = "live"
    restricted: bool = False
    born: date = date(2010, 3, 4)
    appeal_until: date | None = None
    versions: list[Version] = field(default_factory=list)
    around: Around = field(default_factory=Around)
    events: list[tuple[date, dict[str, Any]]] = field(default_factory=list)
    """What changed around the child, and when."""
    kept_from: set[str] = field(default_factory=set)
    decided_for: set[str] = field(default_factory=set)
    taken_out: set[str] = field(default_factory=set)
    """Whom an event took out of the family: a version that names them again does not bring them back."""
    confirmed: bool | None = None
    """Whether a second person let the school from outside have it."""
    asked: bool = False
    policy: bool = True
    """Council 332 has one; 333 has none."""
    later_is_registered: bool = False
    copies: dict[str, Copy] = field(default_factory=dict)

    @property
    def current(self) -> Version | None:
        return max((v for v in self.versions if not v.recalled), key=lambda v: (v.issued_on, v.number), default=None)

    # --- what happens ---

    def version_comes(self, issued_on: date, text: int, around: Around) -> str:
        same = next((v for v in self.versions if (v.issued_on, v.text, v.around) == (issued_on, text, around)), None)
        if same and not same.recalled:
            return "repeat"
        now = self.current
        if self.state not in IN_FORCE or same:
            return "refused"
        if now and issued_on >= now.issued_on and (now.text, now.around) == (text, around):
            return "refused"
        self.versions.append(Version(len(self.versions) + 1, issued_on, text, around, after=len(self.events)))
        if now and issued_on < now.issued_on:
            return "history"
        self.around = around
        self.decide()
        return "issued"

    def around_changes(self, **changes: Any) -> None:
        if "family" in changes:
            named = {reference for reference, _, _ in changes["family"]}
            self.taken_out = (self.taken_out | {reference for reference, _, _ in self.around.family}) - named
        self.around = replace(self.around, **changes)
        self.events.append((self.today, changes))
        self.decide()

    def recall_version(self, number: int) -> None:
        """It is another child's: everyone who was ever told to hold it removes it, and what it said of the child is void."""
        was_current = self.current is not None and self.current.number == number
        self.versions = [replace(v, recalled=v.recalled or v.number == number) for v in self.versions]
        if was_current:
            now = self.current
            self.around = now.around if now else Around()
            for place, (day, changes) in enumerate(self.events):
                if now and (place >= now.after or day > now.issued_on):
                    self.around = replace(self.around, **changes)
        self.remove({who: {number} for who, copy in self.copies.items() if number in copy.told})

    def recall_from(self, who: str) -> None:
        self.kept_from.add(who)
        self.decided_for.discard(who)
        self.remove({who: set(self.copies[who].told)})

    def remove(self, recalled: dict[str, set[int]]) -> None:
        for who, numbers in recalled.items():
            self.copies[who].remove |= numbers
            if self.restricted:
                self.copies[who].wish = "recall"
        self.decide()

    def transfer(self, to: str) -> None:
        if to in EXCHANGE:
            self.council = to
        else:
            self.state = "transferred"
        self.decide()

    # --- who must hold it ---

    def decide(self) -> None:
        """Bring every copy to what the law wants of it today; while the plan is restricted, nothing moves."""
        if self.restricted:
            return
        now, holders = self.current, self.holders()
        self.asked = self.waits()
        for who, part in holders.items():
            assert now
            copy = self.copies.setdefault(who, Copy())
            copy.wish, copy.version, copy.part, copy.council = "hold", now.number, part, self.council
            copy.told.add(now.number)
            copy.remove.discard(now.number)
        for who, copy in self.copies.items():
            if who not in holders:
                if copy.remove:
                    copy.wish, copy.council = "recall", self.council
                elif copy.wish == "hold":
                    copy.wish, copy.council = "withdraw", self.council

    def holders(self) -> dict[str, str | None]:
        """Who holds the current version, and which part of it; None is the whole."""
        if self.state not in IN_FORCE or self.current is None:
            return {}
        found = dict.fromkeys((*self.with_rights(), *self.settings(), *self.icbs()))
        if self.around.detained:
            found |= {CUSTODY: None, f"yos:{self.around.home or self.council}": None}
        if self.council == "332" and self.policy:
            if self.around.trust:
                found["ods:RNT"] = None
            if self.current.text:
                home = self.around.home if self.around.home != self.council else None
                for la_code in {self.around.carer, self.around.carer and home} & EXCHANGE:
                    found.setdefault(f"vs:{la_code}", PART)
        found |= dict.fromkeys(self.decided_for)
        return {who: part for who, part in found.items() if who not in self.kept_from and not self.unusual(who)}

    def with_rights(self) -> list[str]:
        young = [reference for reference, role, _ in self.around.family if role == "young_person"]
        parents = [reference for reference, role, _ in self.around.family if role == "parent"]
        if not (young and parents):
            return young + parents
        if self.today < RIGHTS_PASS[self.born]:
            return parents
        return young + [reference for reference, role, acts in self.around.family if role == "parent" and acts]

    def settings(self) -> list[str]:
        return [setting for setting, _, until in self.around.placements if until is None or until >= self.today]

    def icbs(self) -> list[str]:
        """Who a code that has ended means is nobody that anyone knows; it is owed the plan all the same."""
        return [ENDED if who == OLD_ICB and self.today > ICB_ENDS else who for who in self.around.icbs]

    def unusual(self, who: str) -> bool:
        return (who == OUTSIDE and self.confirmed is not True) or who in self.taken_out

    def waits(self) -> bool:
        """A second person is asked about the school from outside."""
        wanted = OUTSIDE in (*self.settings(), *self.decided_for) and OUTSIDE not in self.kept_from
        return self.state in IN_FORCE and self.current is not None and wanted and self.confirmed is None

    def told_of_cease_notice(self) -> set[str]:
        """Reg 31(2): family, named institution, commissioning body; nobody who is kept from the plan."""
        everyone = {*self.with_rights(), *self.settings(), *self.icbs()} - {"urn:100003"}
        return {who for who in everyone if who not in self.kept_from and not self.unusual(who)}

    def owed(self) -> set[str]:
        """What nobody may decide away."""
        custody = {CUSTODY, f"yos:{self.around.home or self.council}"} if self.around.detained else set()
        return {*self.settings(), *self.icbs(), *custody}

    def subscriber(self, who: str) -> str | None:
        """Who delivers to it; None where its code leads to nobody."""
        if who == LATER:
            return "school" if self.later_is_registered else None
        if who in (ENDED, "yos:333"):
            return None
        if who.startswith(("M", "F", "Y")):
            return "family"
        return "health" if who.startswith("ods:") else "school"
