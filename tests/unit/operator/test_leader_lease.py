"""Who may take the Lease, and when: decided on the own clock alone."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llm_operator.leader import lease
from llm_operator.leader.lease import Lease, Sight, Step

ME, OTHER = "me", "other"
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLACE = ("ns", "llmb")


def a_lease(
    holder: str = OTHER, *, renewed: str = "1", transitions: int = 7, seconds: float = 15
) -> Lease:
    return Lease(holder=holder, seconds=seconds, transitions=transitions, renewed=renewed)


def seen(*sights: tuple[float, Lease | None]) -> Sight:
    """What one knows after having looked at these times."""
    sight: Sight | None = None
    for now, found in sights:
        sight = lease.see(sight, found, me=ME, now=now)
    assert sight is not None
    return sight


def step(sight: Sight, now: float, *, leading: bool = False) -> Step:
    return lease.decide(sight, me=ME, leading=leading, now=now)


def test_where_there_is_none_it_is_taken_at_once() -> None:
    assert step(seen((100, None)), 100) is Step.ACQUIRE


@pytest.mark.parametrize("holder", ["", ME])
def test_a_free_one_is_taken_at_once_and_so_is_the_own(holder: str) -> None:
    assert step(seen((100, a_lease(holder))), 100) is Step.ACQUIRE


@pytest.mark.check(32)
def test_a_held_one_is_taken_when_it_has_not_changed_for_its_length() -> None:
    sight = seen((100, a_lease()), (107, a_lease()))
    assert step(sight, 114.9) is Step.WAIT
    assert step(sight, 115) is Step.ACQUIRE


def test_each_renewal_begins_it_anew() -> None:
    sight = seen((100, a_lease(renewed="1")), (110, a_lease(renewed="2")))
    assert step(sight, 124.9) is Step.WAIT
    assert step(sight, 125) is Step.ACQUIRE


def test_the_time_it_names_counts_for_nothing() -> None:
    long_ago = seen((100, a_lease(renewed="1999-01-01T00:00:00.000000Z")))
    assert step(long_ago, 101) is Step.WAIT
    to_come = seen((100, a_lease(renewed="2999-01-01T00:00:00.000000Z")))
    assert step(to_come, 115) is Step.ACQUIRE


def test_its_length_is_the_holders() -> None:
    assert step(seen((100, a_lease(seconds=60))), 120) is Step.WAIT


def test_a_deleted_one_is_waited_for_as_long_as_its_holder_may_not_know() -> None:
    sight = seen((100, a_lease()), (110, None), (112, None))
    assert step(sight, 124.9) is Step.WAIT
    assert step(sight, 125) is Step.ACQUIRE
    assert step(seen((100, a_lease("")), (110, None)), 110) is Step.ACQUIRE


def test_a_holder_renews_what_is_its_own_or_gone() -> None:
    assert step(seen((100, a_lease(ME))), 100, leading=True) is Step.RENEW
    assert step(seen((100, a_lease(ME)), (110, None)), 110, leading=True) is Step.RENEW


@pytest.mark.parametrize("holder", ["", OTHER])
def test_a_holder_that_another_replaced_has_lost(holder: str) -> None:
    assert step(seen((100, a_lease(holder))), 100, leading=True) is Step.LOST


def test_an_epoch_is_greater_than_all_before_it() -> None:
    assert lease.epoch_of(a_lease(OTHER), me=ME, at=AT) == 8
    assert lease.epoch_of(a_lease(""), me=ME, at=AT) == 8
    assert lease.epoch_of(a_lease(ME), me=ME, at=AT) == 7
    first = lease.epoch_of(None, me=ME, at=AT)
    later = lease.epoch_of(None, me=ME, at=AT + timedelta(minutes=1))
    # Another leader every two seconds, and then somebody deletes the Lease.
    assert later > first + 30 > first > 0
    assert lease.epoch_of(None, me=ME, at=datetime(2088, 1, 1, tzinfo=UTC)) < 2**31
    assert lease.epoch_of(None, me=ME, at=datetime(1999, 1, 1, tzinfo=UTC)) == 1


def held(found: Any, *, epoch: int = 8) -> Any:
    return lease.held(found, place=PLACE, me=ME, seconds=15, epoch=epoch, at=AT)


def test_what_is_written_to_take_it() -> None:
    now = "2026-03-01T12:00:00.000000Z"
    assert held(None) == {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"namespace": "ns", "name": "llmb"},
        "spec": {
            "holderIdentity": ME,
            "leaseDurationSeconds": 15,
            "leaseTransitions": 8,
            "acquireTime": now,
            "renewTime": now,
        },
    }


def test_what_others_put_on_it_stays() -> None:
    found = {
        "metadata": {"name": "llmb", "labels": {"team": "a"}, "resourceVersion": "5"},
        "spec": {
            "holderIdentity": OTHER,
            "leaseTransitions": 7,
            "strategy": "x",
            "acquireTime": "0",
        },
    }
    taken = held(found)
    assert taken["metadata"] == found["metadata"]
    assert taken["spec"]["strategy"] == "x"
    assert taken["spec"]["acquireTime"] == "2026-03-01T12:00:00.000000Z"
    taken["spec"]["acquireTime"] = "earlier"
    renewed = held(taken)
    assert renewed["spec"]["acquireTime"] == "earlier"
    given = lease.released(renewed, at=AT)
    assert lease.read(given, seconds=15) == Lease(
        holder="", seconds=1, transitions=8, renewed="2026-03-01T12:00:00.000000Z"
    )
    assert given["metadata"] == found["metadata"]


@pytest.mark.parametrize("found", [{}, {"spec": None}, {"spec": {"holderIdentity": None}}])
def test_one_made_by_hand_is_free(found: dict[str, Any]) -> None:
    assert lease.read(found, seconds=15) == Lease(holder="", seconds=15, transitions=0, renewed="")
