"""When a topic is no longer read: too much of it is garbage, and that for long enough to be no accident."""

from services.shared.kafka.garbage import Breaker


def test_a_handful_of_bad_records_stops_nothing() -> None:
    breaker = Breaker()
    for _ in range(99):
        assert breaker.count({"t": 1}, {"t": 1}) == set()
    assert breaker.count({"t": 1}, {"t": 1}) == {"t"}


def test_bad_records_among_enough_good_ones_stop_nothing() -> None:
    breaker = Breaker()
    for _ in range(1000):
        assert breaker.count({"t": 10}, {"t": 4}) == set()


def test_half_of_the_window_stops_it() -> None:
    breaker = Breaker()
    for _ in range(1000):
        breaker.count({"t": 10}, {})
    batches = 1
    while not breaker.count({"t": 100}, {"t": 100}):
        batches += 1
    # Of 1,000 records 500: what was good before has not been forgotten at once, nor is it remembered for ever.
    assert batches == 5
    assert breaker.stopped == {"t"}


def test_one_topic_s_garbage_stops_no_other() -> None:
    breaker = Breaker()
    assert breaker.count({"bad": 500, "good": 500}, {"bad": 500}) == {"bad"}
    assert breaker.count({"good": 500}, {}) == set()
    assert breaker.stopped == {"bad"}


def test_what_is_stopped_is_told_once_and_after_resuming_counts_anew() -> None:
    breaker = Breaker()
    assert breaker.count({"t": 500}, {"t": 500}) == {"t"}
    assert breaker.count({"t": 500}, {"t": 500}) == set()
    breaker.resume("t")
    assert breaker.stopped == set()
    assert breaker.count({"t": 99}, {"t": 99}) == set()
    assert breaker.count({"t": 1}, {"t": 1}) == {"t"}


def test_a_batch_larger_than_the_window_is_judged_whole() -> None:
    assert Breaker().count({"t": 5000}, {"t": 2400}) == set()
    assert Breaker().count({"t": 5000}, {"t": 2500}) == {"t"}
