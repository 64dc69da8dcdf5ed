"""The circuit breaker, alone: its phases, its times, and what no sequence of events may do."""

import random

import pytest

from llm_contract import PassiveCheck
from llm_router.breaker import CLOSED, Breaker, Phase

POLICY = PassiveCheck(failures=3, eject=10, max_eject=60)


def failed(breaker: Breaker, times: int, *, at: float = 0.0) -> Breaker:
    for _ in range(times):
        breaker = breaker.failed(at, POLICY)
    return breaker


OPEN = failed(CLOSED, 3)


def test_is_closed_until_enough_failures_in_a_row() -> None:
    assert failed(CLOSED, 2).phase(0) is Phase.CLOSED
    assert failed(CLOSED, 2).admits(0)
    assert OPEN.phase(0) is Phase.OPEN
    assert not OPEN.admits(9.9)


def test_is_half_open_when_the_ejection_ends() -> None:
    assert OPEN.phase(10) is Phase.HALF_OPEN
    assert OPEN.admits(10)


def test_lets_exactly_one_trial_through() -> None:
    tried = OPEN.tried(10, 1)
    assert not tried.admits(10)
    assert tried.tried(10, 2) is tried
    assert tried.released(2) is tried
    assert tried.released(1).admits(10)
    assert tried.released().admits(10)


def test_no_request_is_a_trial_before_the_ejection_ends() -> None:
    assert OPEN.tried(9.9, 1) is OPEN
    assert CLOSED.tried(0, 1) is CLOSED


@pytest.mark.parametrize(("times", "seconds"), [(1, 10), (2, 20), (3, 40), (4, 60), (200, 60)])
def test_each_ejection_in_a_row_is_twice_as_long_up_to_the_longest(
    times: int, seconds: float
) -> None:
    breaker, now = OPEN, 0.0
    for number in range(1, times):
        now = breaker.until
        breaker = breaker.tried(now, number).failed(now, POLICY)
    assert breaker.until == now + seconds
    assert breaker.ejections == times


def test_a_failed_trial_ejects_even_when_its_end_was_told_before_its_failure() -> None:
    again = OPEN.tried(10, 7).released(7).failed(11, POLICY, began=10)
    assert again.phase(11) is Phase.OPEN
    assert again.until == 31


def test_a_request_of_before_says_nothing_of_the_time_after() -> None:
    tried = OPEN.tried(12, 7)
    assert tried.failed(13, POLICY, began=9) is tried
    assert OPEN.failed(5, POLICY) is OPEN


def test_unproven_failures_never_eject() -> None:
    breaker = CLOSED
    for _ in range(50):
        breaker = breaker.failed(0, POLICY, proven=False)
    assert breaker.phase(0) is Phase.CLOSED
    assert breaker.failed(0, POLICY).phase(0) is Phase.OPEN


def step(draw: random.Random, breaker: Breaker, now: float, policy: PassiveCheck) -> Breaker:
    """One random event."""
    number = draw.randint(1, 3)
    match draw.choice(("failed", "stale", "success", "tried", "released")):
        case "failed":
            return breaker.failed(now, policy)
        case "stale":
            return breaker.failed(now, policy, began=breaker.until - 0.01)
        case "tried":
            return breaker.tried(now, number)
        case "released":
            return breaker.released(number)
    return CLOSED


@pytest.mark.parametrize("seed", range(50))
def test_no_sequence_of_events_breaks_its_promises(seed: int) -> None:
    draw = random.Random(seed)
    policy = PassiveCheck(failures=draw.randint(1, 5), eject=draw.uniform(1, 20), max_eject=60)
    breaker, now, row = CLOSED, 0.0, 0
    for _ in range(1000):
        now += draw.choice((0.0, 0.5, 3.0, 30.0))
        before, phase = breaker, breaker.phase(now)
        breaker = step(draw, before, now, policy)
        row = 0 if breaker is CLOSED else row + (breaker.failures > before.failures)
        if breaker is CLOSED:
            assert breaker.admits(now)
        elif phase is Phase.OPEN:
            assert breaker is before, "nothing but a success changes an ejection before its end"
        elif breaker.trial != before.trial and before.trial:
            assert breaker.trial == 0, "one trial never takes another's place"
        if breaker.until > before.until:
            assert (breaker.ejections, breaker.trial) == (before.ejections + 1, 0)
            assert row >= policy.failures
        assert breaker.until <= now + 60
        assert not (breaker.trial and breaker.admits(now))
