"""Lives of an exchange that once ended badly, each with the one rule that makes it end well. Found by the stateful test."""

from datetime import date, timedelta

import pytest

from schemas.receipts import Status
from services.ehcp_publisher.registry import Known as Recipient
from services.shared.delivery.states import Action
from tests.property.exchange import PARENT, RECIPIENTS, SCHOOL, TRUST, Exchange, Share, Work

DAY = date(2026, 9, 1)


@pytest.fixture
def exchange() -> Exchange:
    """A first version, wanted by everyone and on nobody's desk yet."""
    exchange = Exchange()
    exchange.issue(DAY, 1, RECIPIENTS)
    return exchange


def share_of(exchange: Exchange, recipient: Recipient) -> Share:
    return next(share for share in exchange.council.shares.values() if share.recipient == recipient)


def ends_well(exchange: Exchange) -> None:
    assert exchange.settle()
    for share in exchange.council.shares.values():
        assert exchange.council.satisfied(share.share_id)


def step(exchange: Exchange, lane: str, steps: int) -> Work:
    """Claim what is due in a lane and take it some steps: 1 read, 2 delivered, 3 recorded."""
    row = next(row for row in exchange.due() if row.lane == lane)
    exchange.claim(row)
    work = exchange.work[-1]
    for _ in range(steps):
        exchange.go_on(work)
    return work


def test_an_item_is_opened_before_it_is_recorded_that_it_lies_there(exchange: Exchange) -> None:
    """The reader, who has read it, does not open it again."""
    exchange.relay_instructions(3, crash=False)
    exchange.park(exchange.instructions)
    work = step(exchange, "inbox", 2)
    exchange.open_item(share_of(exchange, SCHOOL).share_id)
    exchange.go_on(work)
    ends_well(exchange)


def test_an_item_is_opened_when_a_crash_kept_it_from_being_recorded(exchange: Exchange) -> None:
    exchange.relay_instructions(3, crash=False)
    exchange.park(exchange.instructions)
    step(exchange, "inbox", 2)
    exchange.crash_subscriber()
    exchange.open_item(share_of(exchange, SCHOOL).share_id)
    ends_well(exchange)


def test_the_receipt_of_what_a_person_did_is_lost(exchange: Exchange) -> None:
    exchange.all_move_on()
    exchange.open_item(share_of(exchange, SCHOOL).share_id)
    exchange.send_letter(share_of(exchange, PARENT).share_id, 1)
    exchange.relay_receipts(len(exchange.books.outbox), crash=False)
    exchange.receipts.clear()
    ends_well(exchange)


def test_a_late_old_message_comes_after_the_newest_was_filed_and_its_receipt_lost(exchange: Exchange) -> None:
    exchange.relay_instructions(3, crash=False)
    late = list(exchange.instructions)
    exchange.instructions.clear()
    exchange.issue(DAY, 2, RECIPIENTS)
    exchange.all_move_on()
    exchange.council.newest.clear()
    exchange.council.receipts.clear()
    exchange.park(late)
    ends_well(exchange)


def test_a_withdrawal_follows_a_filing_that_a_crash_kept_from_being_recorded(exchange: Exchange) -> None:
    exchange.relay_instructions(3, crash=False)
    exchange.park(exchange.instructions)
    step(exchange, "record", 2)
    exchange.crash_subscriber()
    exchange.issue(DAY, 2, [SCHOOL])
    ends_well(exchange)
    assert exchange.record[share_of(exchange, TRUST).share_id].withdrawn


@pytest.mark.parametrize("recipient", RECIPIENTS)
def test_a_restored_council_that_believes_everyone_satisfied(exchange: Exchange, recipient: Recipient) -> None:
    """Nothing is open, so nothing is sent; only the subscriber can notice."""
    assert exchange.settle()
    exchange.back_up_council()
    exchange.issue(DAY, 2, [recipient])
    assert exchange.settle()
    exchange.restore_council()
    ends_well(exchange)
    assert all(share.seq == 3 for share in exchange.council.shares.values())


def test_a_restored_council_counts_again_and_an_old_message_comes_late(exchange: Exchange) -> None:
    """Equal ``seq``, another hash: the conflict rule."""
    assert exchange.settle()
    exchange.back_up_council()
    exchange.issue(DAY, 2, RECIPIENTS)
    exchange.relay_instructions(3, crash=False)
    late = list(exchange.instructions)
    exchange.instructions.clear()
    exchange.restore_council()
    exchange.issue(DAY, 3, RECIPIENTS)
    assert exchange.settle()
    exchange.park(late)
    ends_well(exchange)
    assert share_of(exchange, TRUST).seq == 3
    assert exchange.record[share_of(exchange, TRUST).share_id].version_id == share_of(exchange, TRUST).version.version_id


def test_a_receipt_from_the_future_that_a_restored_council_comes_to_itself(exchange: Exchange) -> None:
    """Withdrawn under seq 2, restored, and withdrawn again under seq 2: the same wish, so the subscriber says the same."""
    exchange.all_move_on()
    exchange.back_up_council()
    exchange.issue(DAY, 2, [TRUST])
    exchange.relay_instructions(3, crash=False)
    exchange.park(exchange.instructions)
    exchange.restore_council()
    exchange.relay_receipts(len(exchange.books.outbox), crash=False)
    exchange.take_in(exchange.receipts)
    exchange.issue(DAY, 2, [TRUST])
    ends_well(exchange)
    assert share_of(exchange, PARENT).action is Action.WITHDRAW


def test_a_conflict_is_overtaken_by_a_person(exchange: Exchange) -> None:
    """The council was restored; the conflict has come, and before the sweep looks, the item of the forgotten life is opened."""
    assert exchange.settle()
    exchange.back_up_council()
    exchange.issue(DAY, 2, RECIPIENTS)
    exchange.all_move_on()
    exchange.restore_council()
    exchange.list_shares(unanswered=False)
    exchange.park_page()
    exchange.ask()
    exchange.open_item(share_of(exchange, SCHOOL).share_id)
    ends_well(exchange)


def test_the_list_was_overtaken_by_the_topic(exchange: Exchange) -> None:
    """A page that names a lower ``seq`` than is here is no proof that the council counts lower."""
    exchange.all_move_on()
    exchange.list_shares(unanswered=True)
    exchange.issue(DAY, 2, RECIPIENTS)
    exchange.all_move_on()
    before = {row.share_id: (row.seq, row.state) for row in exchange.books.deliveries.values()}
    exchange.park_page()
    exchange.ask()
    assert {row.share_id: (row.seq, row.state) for row in exchange.books.deliveries.values()} == before
    assert exchange.books.outbox == []


def test_a_council_in_conflict_wants_again_once_however_long_the_answer_takes(exchange: Exchange) -> None:
    assert exchange.settle()
    exchange.back_up_council()
    exchange.issue(DAY, 2, RECIPIENTS)
    exchange.all_move_on()
    exchange.restore_council()
    exchange.issue(DAY, 3, RECIPIENTS)
    exchange.all_move_on()  # the subscriber answers with conflicts
    assert exchange.council.newest[share_of(exchange, TRUST).share_id].newest.status is Status.CONFLICT
    for _ in range(10):
        exchange.now += timedelta(hours=2)
        exchange.sweep()
    assert share_of(exchange, TRUST).seq == 3
    ends_well(exchange)
    assert share_of(exchange, TRUST).seq == 3
