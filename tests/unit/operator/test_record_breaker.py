"""The breaker: who may try a database that failed, and when."""

from dataclasses import dataclass

import pytest

from llm_operator.record.breaker import Breaker, State


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def breaker(clock: Clock, *, jitter: float = 1.0) -> Breaker:
    return Breaker(clock=clock, jitter=lambda: jitter, first=0.5, cap=5.0)


def test_lets_everybody_through_while_nothing_failed(clock: Clock) -> None:
    subject = breaker(clock)
    assert [subject.admit() for _ in range(3)] == [True, True, True]


def test_turns_everybody_away_after_one_failure_until_its_time(clock: Clock) -> None:
    subject = breaker(clock)
    subject.admit()
    subject.fail()
    assert not subject.admits
    assert not subject.admit()
    clock.now += 0.499
    assert not subject.admit()
    clock.now += 0.002
    assert subject.admit()


def test_lets_one_probe_through_and_no_second(clock: Clock) -> None:
    subject = breaker(clock)
    subject.fail()
    clock.now += 1
    assert subject.admit()
    assert subject.state is State.HALF_OPEN
    assert not subject.admit()


def test_asking_whether_it_admits_claims_no_probe(clock: Clock) -> None:
    subject = breaker(clock)
    subject.fail()
    clock.now += 1
    assert subject.admits
    assert subject.admits
    assert subject.admit()


def test_closes_at_the_first_success_and_starts_over(clock: Clock) -> None:
    subject = breaker(clock)
    for _ in range(6):
        subject.fail()
        clock.now += 10
        assert subject.admit()
    subject.succeed()
    assert subject.admit()
    assert subject.admit()
    subject.fail()
    assert subject.wait == pytest.approx(0.5)


def test_the_wait_doubles_up_to_its_cap(clock: Clock) -> None:
    subject = breaker(clock)
    waits = []
    for _ in range(40):
        subject.fail()
        waits.append(round(subject.wait, 6))
        clock.now += subject.wait
        assert subject.admit()
    assert waits[:6] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert set(waits[4:]) == {5.0}


@pytest.mark.parametrize(("jitter", "longest"), [(0.0, 2.5), (0.5, 3.75), (0.999, 5.0)])
def test_jitter_keeps_at_least_half_of_the_wait(
    clock: Clock, jitter: float, longest: float
) -> None:
    subject = breaker(clock, jitter=jitter)
    for _ in range(10):
        subject.fail()
        clock.now += 10
        assert subject.admit()
    subject.fail()
    assert subject.wait == pytest.approx(longest, abs=0.01)


def test_a_late_failure_does_not_push_the_probe_away(clock: Clock) -> None:
    subject = breaker(clock)
    for _ in range(3):
        assert subject.admit()
    subject.fail()
    clock.now += 0.4
    subject.fail()
    subject.fail()
    clock.now += 0.2
    assert subject.admit()


def test_a_released_probe_leaves_its_place_to_the_next(clock: Clock) -> None:
    subject = breaker(clock)
    subject.fail()
    clock.now += 1
    assert subject.admit()
    subject.release()
    assert subject.admit()


def test_releasing_while_closed_changes_nothing(clock: Clock) -> None:
    subject = breaker(clock)
    subject.admit()
    subject.release()
    assert subject.state is State.CLOSED


def test_who_is_turned_away_is_never_told_to_come_back_at_once(clock: Clock) -> None:
    subject = breaker(clock)
    assert subject.wait == 0.5
    subject.fail()
    clock.now += 60
    assert subject.wait == 0.5
    subject.admit()
    assert subject.wait == 0.5
