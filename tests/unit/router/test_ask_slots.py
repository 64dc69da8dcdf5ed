"""A target that serves as many requests as it may: who gets the next slot."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from llm_contract import OnBusy, Timeouts
from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.server import Simulator
from llm_router.ask import Live
from llm_router.errors import Cause, Code
from llm_router.exchange import Answer
from llm_router.table import Entry
from parts.asking import Asking, asking, causes, entry, exchange, of_ollama
from parts.eventually import eventually_async


@pytest.fixture
async def asker() -> AsyncIterator[Asking]:
    async with asking() as made:
        yield made


@pytest.fixture
def queue(ollama_simulator: Simulator) -> Entry:
    """A route to a host that takes one request at a time."""
    target = of_ollama(ollama_simulator, max_concurrent=1, on_busy=OnBusy.QUEUE)
    return entry(target, timeouts=Timeouts(total=3))


async def waiting(
    asker: Asking, queue: Entry, count: int
) -> list[asyncio.Task[tuple[Live, Answer]]]:
    """So many requests that wait for the slot, in this order."""
    standing = queue.destinations[0].standing
    tasks = []
    for number in range(1, count + 1):
        tasks.append(asyncio.create_task(asker.complete(exchange(), queue)))
        await eventually_async(lambda want=number: len(standing.queue) == want, within=1)
    return tasks


@pytest.mark.parametrize("order", ["the slot first", "the client first", "the client a step later"])
async def test_a_turn_that_comes_as_its_owner_leaves_is_the_next_ones(
    asker: Asking, queue: Entry, order: str
) -> None:
    live = await asker.begin(exchange(), queue)
    gone, stays = await waiting(asker, queue, 2)
    if order == "the client first":
        gone.cancel()
        live.close()
    else:
        live.close()
        if order.endswith("later"):
            await asyncio.sleep(0)
        gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    started = time.monotonic()
    await asyncio.wait_for(stays, 2)
    assert time.monotonic() - started < 1
    assert not queue.destinations[0].standing.queue
    assert queue.destinations[0].standing.active == 0


async def test_a_turn_that_comes_at_the_deadline_is_not_lost(
    asker: Asking, queue: Entry, ollama_simulator: Simulator
) -> None:
    ollama_simulator.behaviour = Behaviour(mode="hang-mid-stream:1")
    live = await asker.begin(exchange(), queue)
    ollama_simulator.behaviour = Behaviour()
    late = asyncio.create_task(asker.unanswered(queue))
    await asyncio.sleep(0.5)
    (stays,) = await waiting_after(asker, queue, late)
    error = await late
    assert causes(error) == [Cause.BUSY]
    assert error.problem.code is Code.TIMEOUT
    live.close()
    await asyncio.wait_for(stays, 1)


async def waiting_after(
    asker: Asking, queue: Entry, first: asyncio.Task[object]
) -> list[asyncio.Task[tuple[Live, Answer]]]:
    """One more that waits, behind one that does already."""
    standing = queue.destinations[0].standing
    assert not first.done()
    task = asyncio.create_task(asker.complete(exchange(), queue))
    await eventually_async(lambda: len(standing.queue) == 2, within=1)
    return [task]


async def test_they_are_served_in_the_order_they_came(asker: Asking, queue: Entry) -> None:
    live = await asker.begin(exchange(), queue)
    tasks = await waiting(asker, queue, 5)
    ended: list[int] = []
    for number, task in enumerate(tasks):
        task.add_done_callback(lambda _, number=number: ended.append(number))  # type: ignore[misc]
    live.close()
    await asyncio.gather(*tasks)
    assert ended == [0, 1, 2, 3, 4]


async def test_the_time_in_the_queue_is_a_part_of_the_limit(
    asker: Asking, ollama_simulator: Simulator
) -> None:
    target = of_ollama(ollama_simulator, max_concurrent=1, on_busy=OnBusy.QUEUE)
    asked = entry(target, timeouts=Timeouts(total=5, first_token=0.6))
    live = await asker.begin(exchange(), asked)
    ollama_simulator.behaviour = Behaviour(mode="hang-before-headers")
    started = time.monotonic()
    late = asyncio.create_task(asker.unanswered(asked))
    await asyncio.sleep(0.3)
    live.close()
    error = await late
    assert causes(error) == [Cause.FIRST_TOKEN_TIMEOUT]
    assert 0.6 <= time.monotonic() - started < 0.85
