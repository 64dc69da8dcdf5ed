"""Lanes: one run at a time, shared by whoever asked before it began."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from llm_operator.lane import Lane


class Work:
    """Counts its runs; each ends when it is let go."""

    def __init__(self, *, free: bool = True) -> None:
        self.runs = 0
        self.going = 0
        self.most = 0
        self.free = asyncio.Event()
        if free:
            self.free.set()
        self.error: Exception | None = None

    async def __call__(self) -> None:
        self.runs += 1
        self.going += 1
        self.most = max(self.most, self.going)
        try:
            await self.free.wait()
            if self.error:
                raise self.error
        finally:
            self.going -= 1


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_request_is_served_by_a_run_that_starts_after_it() -> None:
    work = Work(free=False)
    lane = Lane(work, name="test")
    first = asyncio.create_task(lane.run())
    await until(lambda: work.going == 1)
    late = asyncio.create_task(lane.run())
    await asyncio.sleep(0)
    work.free.set()
    await asyncio.gather(first, late)
    assert (work.runs, work.most) == (2, 1)


async def test_requests_during_a_run_share_the_next_one() -> None:
    work = Work(free=False)
    lane = Lane(work, name="test")
    first = asyncio.create_task(lane.run())
    await until(lambda: work.going == 1)
    others = [asyncio.create_task(lane.run()) for _ in range(100)]
    await asyncio.sleep(0)
    work.free.set()
    await asyncio.gather(first, *others)
    assert work.runs == 2


async def test_a_burst_is_one_run() -> None:
    work = Work()
    lane = Lane(work, name="test", quiet=0.05, longest=5)
    await asyncio.gather(*(lane.run() for _ in range(1000)))
    assert work.runs == 1


async def test_a_lasting_burst_is_not_put_off_for_ever() -> None:
    work = Work()
    lane = Lane(work, name="test", quiet=0.1, longest=0.3)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while work.runs < 2 and loop.time() - begun < 5:
        lane.nudge()
        await asyncio.sleep(0.01)
    assert 0.5 <= loop.time() - begun < 2


async def test_one_request_waits_for_quiet_and_no_longer() -> None:
    work = Work()
    lane = Lane(work, name="test", quiet=0.1, longest=10)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await lane.run()
    assert 0.1 <= loop.time() - begun < 0.4


async def test_what_a_run_raises_goes_to_those_who_wait_for_it() -> None:
    work = Work()
    work.error = ValueError("no")
    lane = Lane(work, name="test")
    results = await asyncio.gather(lane.run(), lane.run(), return_exceptions=True)
    assert [str(result) for result in results] == ["no", "no"]
    work.error = None
    await lane.run()
    assert work.runs == 2


async def test_what_nobody_waits_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    work.error = ValueError("unheard")
    lane = Lane(work, name="test")
    with caplog.at_level(logging.ERROR):
        lane.nudge()
        await until(lambda: lane.idle)
    assert caplog.messages == ["work_failed"]
    assert "unheard" in caplog.text


async def test_one_who_gives_up_does_not_stop_the_others() -> None:
    work = Work(free=False)
    lane = Lane(work, name="test")
    leaving, staying = asyncio.create_task(lane.run()), asyncio.create_task(lane.run())
    await until(lambda: work.going == 1)
    leaving.cancel()
    await asyncio.wait([leaving])
    work.free.set()
    await staying
    assert work.runs == 1


async def test_a_later_request_comes_once() -> None:
    work = Work()
    lane = Lane(work, name="test")
    for _ in range(10):
        lane.nudge_in(0.02)
    assert not lane.idle
    await until(lambda: lane.idle)
    assert work.runs == 1


async def test_of_later_requests_the_earliest_counts() -> None:
    work = Work()
    lane = Lane(work, name="test")
    lane.nudge_in(3600)
    lane.nudge_in(0.01)
    lane.nudge_in(3600)
    await until(lambda: work.runs == 1)
    assert lane.idle


async def test_settled_waits_for_a_run_but_not_for_ever() -> None:
    work = Work(free=False)
    lane = Lane(work, name="test")
    await lane.settled(within=5)
    lane.nudge()
    await lane.settled(within=0.05)
    assert work.going == 1
    asyncio.get_running_loop().call_later(0.02, work.free.set)
    await lane.settled(within=5)
    assert lane.idle


async def test_closing_ends_the_run_the_timer_and_who_waits() -> None:
    work = Work(free=False)
    lane = Lane(work, name="test")
    running = asyncio.create_task(lane.run())
    await until(lambda: work.going == 1)
    queued = asyncio.create_task(lane.run())
    await asyncio.sleep(0)
    lane.nudge_in(0.01)
    await lane.close()
    await asyncio.wait([running, queued], timeout=1)
    assert running.cancelled()
    assert queued.cancelled()
    assert lane.idle
    lane.nudge()
    with pytest.raises(asyncio.CancelledError):
        await lane.run()
    assert work.runs == 1


async def test_a_run_cancelled_from_outside_leaves_nobody_waiting() -> None:
    work = Work(free=False)
    lane = Lane(work, name="the lane")
    running = asyncio.create_task(lane.run())
    await until(lambda: work.going == 1)
    queued = asyncio.create_task(lane.run())
    await asyncio.sleep(0)
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "the lane"]
    task.cancel()
    done, _ = await asyncio.wait([running, queued], timeout=1)
    assert len(done) == 2
