"""Wrong tokens are counted by address and together, slowed, and refused for a while; one question
is asked once at a time.
"""

import asyncio
import gc
import logging

import pytest

from llm_operator.admin.access import guard, limit
from llm_operator.admin.access.answers import Flights
from llm_operator.admin.access.guard import Guard
from llm_operator.admin.errors import AdminError, TooMany, Unauthorized
from parts.clock import Clock
from parts.eventually import eventually_async

PEER, OTHER = "10.0.0.1", "10.0.0.2"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def subject(clock: Clock) -> Guard:
    return Guard(clock=clock, pause=0)


async def wrong(subject: Guard, peer: str, times: int = 1) -> None:
    for _ in range(times):
        subject.admit(peer)
        with pytest.raises(Unauthorized):
            await subject.refuse(peer)


async def test_too_many_from_an_address_limit_it_and_no_other(subject: Guard, clock: Clock) -> None:
    await wrong(subject, PEER, limit.PEER.most)
    with pytest.raises(TooMany) as refused:
        subject.admit(PEER)
    assert refused.value.retry_after == limit.PEER.first
    subject.admit(OTHER)
    clock.now += limit.PEER.first
    subject.admit(PEER)


async def test_the_wait_grows(subject: Guard, clock: Clock) -> None:
    waits = []
    for _ in range(7):
        await wrong(subject, PEER, limit.PEER.most)
        with pytest.raises(TooMany) as refused:
            subject.admit(PEER)
        assert refused.value.retry_after is not None
        waits.append(refused.value.retry_after)
        clock.now += refused.value.retry_after
    assert waits == [10, 20, 40, 80, 160, 300, 300]


async def test_an_ipv6_network_is_one_address(subject: Guard) -> None:
    for number in range(limit.PEER.most):
        await wrong(subject, f"2001:db8::{number:x}")
    with pytest.raises(TooMany):
        subject.admit("2001:db8::ffff")
    subject.admit("2001:db8:0:1::1")


async def test_too_many_from_everywhere_limit_all(
    subject: Guard, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(limit.ALL.most):
        await wrong(subject, f"10.0.1.{number}")
    with pytest.raises(TooMany) as refused:
        subject.admit(PEER)
    assert refused.value.retry_after == limit.ALL.first
    assert [record.__dict__["peer"] for record in caplog.records] == ["all"]
    clock.now += limit.ALL.first
    subject.admit(PEER)


async def test_it_remembers_a_bounded_number_of_addresses(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "PEERS", 3)
    subject = Guard(clock=clock, pause=0)
    await wrong(subject, PEER, limit.PEER.most)
    for number in range(2):
        await wrong(subject, f"10.0.1.{number}")
    with pytest.raises(TooMany):
        subject.admit(PEER)
    await wrong(subject, "10.0.1.9")
    subject.admit(PEER)


async def test_a_limit_is_logged_once_with_its_address(
    subject: Guard, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await wrong(subject, PEER, limit.PEER.most)
    for _ in range(5):
        with pytest.raises(TooMany):
            subject.admit(PEER)
    clock.now += limit.PEER.first + limit.PEER.calm
    await wrong(subject, PEER, limit.PEER.most)
    told = [(r.getMessage(), r.__dict__["peer"], r.__dict__["seconds"]) for r in caplog.records]
    assert told == [("wrong_tokens_limited", PEER, limit.PEER.first)] * 2


async def test_the_answer_to_a_wrong_one_waits(clock: Clock) -> None:
    loop = asyncio.get_running_loop()
    subject, began = Guard(clock=clock, pause=0.2), loop.time()
    await wrong(subject, PEER)
    assert loop.time() - began >= 0.19


async def test_a_bounded_number_of_answers_wait(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "WAITING", 3)
    subject = Guard(clock=clock, pause=3600)
    tasks = [asyncio.create_task(subject.refuse(PEER)) for _ in range(5)]
    ended, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert {type(task.exception()) for task in ended} == {TooMany}
    await eventually_async(lambda: sum(task.done() for task in tasks) == 2, within=10)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # Their places are free again.
    again = asyncio.create_task(subject.refuse(OTHER))
    ended, _ = await asyncio.wait([again], timeout=0.1)
    assert not ended
    again.cancel()


def test_what_it_tells_is_a_sentence_with_a_time() -> None:
    for told in (guard.TOO_MANY, guard.ALL_BUSY):
        assert told.format(seconds=9.6).endswith("looked at in 10 s")


class TestFlights:
    async def test_one_question_for_all_who_ask_at_once(self) -> None:
        asked, go, flights = [], asyncio.Event(), Flights[str, int]()

        async def question() -> int:
            asked.append(1)
            await go.wait()
            return len(asked)

        tasks = [asyncio.create_task(flights.join("a", question())) for _ in range(20)]
        other = asyncio.create_task(flights.join("b", question()))
        await eventually_async(lambda: len(asked) == 2, within=10)
        go.set()
        assert await asyncio.gather(*tasks, other) == [2] * 21
        assert await flights.join("a", question()) == 3

    async def test_an_error_is_everybody_s(self) -> None:
        flights = Flights[str, int]()

        async def question() -> int:
            await asyncio.sleep(0)
            raise AdminError("away")

        tasks = [asyncio.create_task(flights.join("a", question())) for _ in range(3)]
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(error) for error in ended] == ["away"] * 3

    async def test_who_leaves_takes_nobody_along(self) -> None:
        go, flights = asyncio.Event(), Flights[str, int]()

        async def question() -> int:
            await go.wait()
            return 1

        first = asyncio.create_task(flights.join("a", question()))
        await asyncio.sleep(0)
        second = asyncio.create_task(flights.join("a", question()))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        go.set()
        assert first.cancelled()
        assert await second == 1

    async def test_an_error_that_nobody_waits_for_is_no_fault(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        go, ended, flights = asyncio.Event(), [], Flights[str, int]()

        async def question() -> int:
            await go.wait()
            ended.append(1)
            raise AdminError("away")

        only = asyncio.create_task(flights.join("a", question()))
        await asyncio.sleep(0)
        only.cancel()
        await asyncio.wait([only])
        go.set()
        await eventually_async(lambda: ended, within=10)
        # NB: asyncio tells of an error that nobody has looked at when the task is collected.
        del only
        gc.collect()
        assert caplog.records == []
