"""One answer for many: fetched once at a time, good for a while, and its errors forgotten."""

import asyncio
import gc
from collections.abc import Callable

import pytest

from llm_operator.record.shared import Shared


class Source:
    """What is asked: it counts, and answers when it is let."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked = 0
        self.takes = 0.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.shared = Shared(self.fetch, good=5.0, longest=60.0, clock=lambda: self.now)

    async def fetch(self) -> int:
        self.asked += 1
        answer = self.asked
        await self.gate.wait()
        self.now += self.takes
        if self.error is not None:
            raise self.error
        return answer


@pytest.fixture
def source() -> Source:
    return Source()


async def waiting(source: Source, count: int) -> list[asyncio.Task[int]]:
    """So many who wait for a fetch under way."""
    source.gate.clear()
    tasks = [asyncio.create_task(source.shared.get()) for _ in range(count)]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def test_all_who_ask_at_once_get_one_answer(source: Source) -> None:
    tasks = await waiting(source, 50)
    source.gate.set()
    assert await asyncio.gather(*tasks) == [1] * 50
    assert source.asked == 1


async def test_an_answer_is_good_for_a_while(source: Source) -> None:
    assert await source.shared.get() == 1
    source.now += 4.99
    assert await source.shared.get() == 1
    source.now += 0.01
    assert await source.shared.get() == 2


@pytest.mark.parametrize(("took", "good"), [(0.1, 5.0), (1.0, 20.0), (4.0, 60.0)])
async def test_the_longer_it_took_the_longer_it_is_good(
    source: Source, took: float, good: float
) -> None:
    source.takes = took
    await source.shared.get()
    source.now += good - 0.01
    assert await source.shared.get() == 1
    source.now += 0.02
    assert await source.shared.get() == 2


async def test_an_error_is_for_those_who_wait_and_the_next_tries_again(source: Source) -> None:
    tasks = await waiting(source, 3)
    source.error = OSError("away")
    source.gate.set()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in told] == [OSError] * 3
    source.error = None
    assert await source.shared.get() == 2


async def test_after_an_error_an_old_answer_is_not_given(source: Source) -> None:
    await source.shared.get()
    source.now += 6
    source.error = OSError("away")
    for _ in range(2):
        with pytest.raises(OSError, match="away"):
            await source.shared.get()


async def test_who_goes_away_ends_it_for_nobody_else(source: Source) -> None:
    first, second = await waiting(source, 2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.gate.set()
    assert await second == 1


async def test_an_error_that_nobody_waits_for_is_no_warning(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    (only,) = await waiting(source, 1)
    only.cancel()
    source.error = OSError("away")
    source.gate.set()
    for _ in range(5):
        await asyncio.sleep(0)
    del source.shared
    gc.collect()
    assert caplog.records == []


@pytest.mark.parametrize("before", [lambda source: None, lambda source: source.shared.get()])
async def test_it_can_be_closed_at_any_time(
    source: Source, before: Callable[[Source], object]
) -> None:
    done = before(source)
    if asyncio.iscoroutine(done):
        await done
    await source.shared.close()


async def test_closing_ends_a_fetch(source: Source) -> None:
    (task,) = await waiting(source, 1)
    await source.shared.close()
    with pytest.raises(asyncio.CancelledError):
        await task
