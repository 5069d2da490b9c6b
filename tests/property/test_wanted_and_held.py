"""Whatever is lost, doubled, delayed, reordered, crashed or restored: every share ends satisfied with what is wanted."""

from datetime import date, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.shared.delivery.states import Action
from tests.property.exchange import RECIPIENTS, SCHOOL, TRUST, Exchange

DAYS = st.integers(0, 5).map(lambda n: date(2026, 9, 1) + timedelta(days=n))
TEXTS = st.integers(1, 6)
WHO = st.sets(st.sampled_from(RECIPIENTS), min_size=1)
INDEX = st.integers(0, 7)
SEVERAL = st.lists(INDEX, min_size=1, max_size=4)
SOME = st.integers(1, 4)


def picked(items: list[Any], indices: list[int], *, keep: bool) -> list[Any]:
    """Some of ``items`` in any order, one maybe twice; they stay (a redelivery is to come) where ``keep``."""
    if not items:
        return []
    places = [index % len(items) for index in indices]
    chosen = [items[place] for place in places]
    if not keep:
        items[:] = [item for place, item in enumerate(items) if place not in places]
    return chosen


class WantedAndHeld(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.exchange = Exchange()

    @initialize()
    def first_version(self) -> None:
        self.exchange.issue(date(2026, 9, 1), 1, RECIPIENTS)

    # --- the council ------------------------------------------------------------------------------------------------------

    @rule(issued_on=DAYS, text=TEXTS, recipients=WHO)
    def issue(self, issued_on: date, text: int, recipients: set[Any]) -> None:
        """The next version, an older one that comes late, a repeat; recipients go and come back."""
        self.exchange.issue(issued_on, text, sorted(recipients, key=lambda each: each.recipient_id))

    @rule()
    def sweep(self) -> None:
        self.exchange.sweep()

    @precondition(lambda self: self.exchange.council.outbox)
    @rule(count=SOME, crash=st.booleans())
    def relay_instructions(self, count: int, crash: bool) -> None:
        self.exchange.relay_instructions(count, crash=crash)

    @precondition(lambda self: self.exchange.receipts)
    @rule(indices=SEVERAL, keep=st.booleans())
    def take_in_receipts(self, indices: list[int], keep: bool) -> None:
        self.exchange.take_in(picked(self.exchange.receipts, indices, keep=keep))

    @rule()
    def back_up_council(self) -> None:
        self.exchange.back_up_council()

    @precondition(lambda self: self.exchange.council_backup)
    @rule()
    def restore_council(self) -> None:
        self.exchange.restore_council()

    # --- the broker -------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.exchange.instructions)
    @rule(indices=SEVERAL)
    def lose_instructions(self, indices: list[int]) -> None:
        picked(self.exchange.instructions, indices, keep=False)

    @precondition(lambda self: self.exchange.receipts)
    @rule(indices=SEVERAL)
    def lose_receipts(self, indices: list[int]) -> None:
        picked(self.exchange.receipts, indices, keep=False)

    @rule()
    def wipe_broker(self) -> None:
        self.exchange.instructions.clear()
        self.exchange.receipts.clear()

    # --- the subscriber ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.exchange.instructions)
    @rule(indices=SEVERAL, keep=st.booleans())
    def park(self, indices: list[int], keep: bool) -> None:
        self.exchange.park(picked(self.exchange.instructions, indices, keep=keep))

    @rule(unanswered=st.booleans())
    def list_shares(self, unanswered: bool) -> None:
        self.exchange.list_shares(unanswered=unanswered)

    @precondition(lambda self: self.exchange.page)
    @rule()
    def park_page(self) -> None:
        self.exchange.park_page()

    @precondition(lambda self: self.exchange.doubted)
    @rule()
    def ask(self) -> None:
        self.exchange.ask()

    @precondition(lambda self: self.exchange.due())
    @rule(index=INDEX, steps=st.integers(0, 2))
    def claim(self, index: int, steps: int) -> None:
        """Up to where it is read, or delivered and not yet recorded."""
        due = self.exchange.due()
        self.exchange.claim(due[index % len(due)])
        for _ in range(steps):
            self.exchange.go_on(self.exchange.work[-1])

    @precondition(lambda self: self.exchange.work)
    @rule(index=INDEX)
    def go_on(self, index: int) -> None:
        work = self.exchange.work
        self.exchange.go_on(work[index % len(work)])

    @precondition(lambda self: self.exchange.due())
    @rule()
    def deliver_all(self) -> None:
        for row in self.exchange.due():
            self.exchange.claim(row)
        for _ in range(4):
            for work in list(self.exchange.work):
                self.exchange.go_on(work)

    @precondition(lambda self: self.exchange.books.outbox)
    @rule(count=SOME, crash=st.booleans())
    def relay_receipts(self, count: int, crash: bool) -> None:
        self.exchange.relay_receipts(count, crash=crash)

    @rule()
    def crash_subscriber(self) -> None:
        self.exchange.crash_subscriber()

    @rule()
    def lose_books(self) -> None:
        self.exchange.lose_books()

    @rule()
    def back_up_books(self) -> None:
        self.exchange.back_up_books()

    @precondition(lambda self: self.exchange.books_backup)
    @rule()
    def restore_books(self) -> None:
        self.exchange.restore_books()

    # --- the world --------------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 30, 200, 4000, 40_000]))
    def time_passes(self, seconds: int) -> None:
        self.exchange.now += timedelta(seconds=seconds)

    @rule()
    def all_move_on(self) -> None:
        self.exchange.all_move_on()

    @rule(away=st.booleans())
    def record_away(self, away: bool) -> None:
        self.exchange.record_away = away

    @rule(away=st.booleans())
    def council_away(self, away: bool) -> None:
        self.exchange.council_away = away

    @precondition(lambda self: self.exchange.books.inbox)
    @rule(index=INDEX)
    def open_item(self, index: int) -> None:
        items = list(self.exchange.books.inbox)
        self.exchange.open_item(items[index % len(items)])

    @precondition(lambda self: self.exchange.awaiting_letters())
    @rule()
    def send_letter(self) -> None:
        row = self.exchange.awaiting_letters()[0]
        self.exchange.send_letter(row.share_id, row.seq)

    # --- what must hold ---------------------------------------------------------------------------------------------------

    @invariant()
    def satisfied_is_true(self) -> None:
        """What the council shows as satisfied is so, at every moment, as long as nobody lost their memory."""
        exchange = self.exchange
        if exchange.council_restored or exchange.books_lost:
            return
        for share in exchange.council.shares.values():
            if exchange.council.satisfied(share.share_id):
                self._holds_what_is_wanted(share)

    def _holds_what_is_wanted(self, share: Any) -> None:
        exchange, wanted = self.exchange, share.version.version_id
        if share.recipient == TRUST:
            copy = exchange.record.get(share.share_id)
            if share.action is Action.HOLD:
                assert copy is not None
                assert (copy.seq, copy.version_id, copy.withdrawn) == (share.seq, wanted, False)
            else:
                assert copy is None or copy.withdrawn
        elif share.recipient == SCHOOL:
            item = exchange.books.inbox.get(share.share_id)
            if share.action is Action.HOLD:
                assert item is not None
                assert (item.seq, item.version_id, item.opened, item.withdrawn) == (share.seq, wanted, True, False)
            else:
                assert item is None or item.withdrawn
        elif share.action is Action.HOLD:
            assert wanted in exchange.letters[share.share_id]

    def teardown(self) -> None:
        quiet = self.exchange.settle()
        for share in self.exchange.council.shares.values():
            assert self.exchange.council.satisfied(share.share_id), share
            self._holds_what_is_wanted(share)
        assert quiet


TestWantedAndHeld = WantedAndHeld.TestCase
TestWantedAndHeld.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
