"""Deadlines that share a timer: never early, a tick late at most, no timer without a wait."""

import asyncio
from dataclasses import dataclass, field

from llm_router.transport.watch import NEVER, TICK, Watch


@dataclass(eq=False)
class Wait:
    """A wait that notes when it was ended."""

    deadline: float
    expired: asyncio.Future[float] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def expire(self) -> None:
        self.expired.set_result(asyncio.get_running_loop().time())


async def test_each_ends_after_its_own_deadline() -> None:
    now = asyncio.get_running_loop().time()
    waits = [Wait(now + delay) for delay in (0.15, 0.0, 0.08)]
    never = Wait(NEVER)
    deadlines = [wait.deadline for wait in waits]
    Watch([*waits, never]).start()
    async with asyncio.timeout(10):
        ended = [await wait.expired for wait in waits]
    for deadline, end in zip(deadlines, ended, strict=True):
        # NB: no upper bound in time, which a busy machine would break; the order says enough.
        assert end >= deadline
    assert ended[1] < ended[2] < ended[0]
    assert not never.expired.done()


async def test_a_wait_expires_once_and_may_leave_meanwhile() -> None:
    now = asyncio.get_running_loop().time()
    members: set[Wait] = set()

    class Leaving(Wait):
        def expire(self) -> None:
            members.discard(self)
            super().expire()

    members.update(Leaving(now) for _ in range(10))
    waits = list(members)
    watch = Watch(members)
    watch.start()
    async with asyncio.timeout(10):
        for wait in waits:
            await wait.expired
    assert not members
    assert watch._timer is None


async def test_the_timer_rests_when_nothing_waits() -> None:
    wait = Wait(asyncio.get_running_loop().time() + 60)
    watch = Watch([wait])
    watch.start()
    assert watch._timer is not None
    wait.deadline = NEVER
    async with asyncio.timeout(10):
        while watch._timer is not None:  # noqa: ASYNC110
            await asyncio.sleep(TICK)
    assert not wait.expired.done()


async def test_a_stopped_watch_can_start_again() -> None:
    wait = Wait(asyncio.get_running_loop().time())
    watch = Watch([wait])
    watch.start()
    watch.stop()
    await asyncio.sleep(2 * TICK)
    assert not wait.expired.done()
    watch.start()
    async with asyncio.timeout(10):
        await wait.expired
