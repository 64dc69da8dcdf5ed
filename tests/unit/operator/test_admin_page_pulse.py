"""One watch on the store wakes all who wait."""

import asyncio

from llm_operator.admin.page.pulse import Pulse


async def test_a_change_wakes_everyone_who_waits() -> None:
    changes: asyncio.Queue[None] = asyncio.Queue()

    async def changed(within: float) -> None:
        await changes.get()

    pulse = Pulse(changed)
    await pulse.start()
    waiting = [asyncio.create_task(pulse.next()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    changes.put_nowait(None)
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)
    await pulse.stop()


async def test_it_stops_whether_it_was_started_or_not() -> None:
    async def changed(within: float) -> None:
        await asyncio.sleep(3600)

    await Pulse(changed).stop()
    pulse = Pulse(changed)
    await pulse.start()
    await pulse.stop()
