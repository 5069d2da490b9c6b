"""When a record system is left alone, and when what waits for it is tried at once."""

from services.shared.delivery.breaker import Breaker


def test_it_is_left_alone_for_longer_each_time_up_to_five_minutes() -> None:
    breaker, now, rests = Breaker(), 1000.0, []
    for _ in range(8):
        rests.append(breaker.nobody_answered(now, None))
        assert breaker.rests(now + rests[-1] - 0.1)
        now += rests[-1]
        assert not breaker.rests(now)
    assert rests == [5, 10, 20, 40, 80, 160, 300, 300]


def test_for_as_long_as_it_asks() -> None:
    breaker = Breaker()
    assert breaker.nobody_answered(0.0, 900.0) == 900
    assert breaker.rests(899.0)


def test_back_is_said_once() -> None:
    breaker = Breaker(answered_before=True)
    breaker.nobody_answered(0.0, None)
    breaker.nobody_answered(5.0, None)
    assert breaker.answered()
    assert not breaker.rests(5.1)
    assert not breaker.answered()


def test_one_silent_batch_is_no_outage() -> None:
    breaker = Breaker(answered_before=True)
    breaker.nobody_answered(0.0, None)
    assert not breaker.answered()


def test_a_new_process_does_not_know_what_was_before() -> None:
    assert Breaker().answered()
