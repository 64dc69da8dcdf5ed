"""One kind of work, one run at a time; requests that come meanwhile share the next run.

This is what makes a burst cheap: a run waits until requests have been quiet for a moment, but never
longer than its limit, and a thousand requests become a handful of runs. It knows nothing of what it
runs.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

#: Requests that double the wait for quiet.
BURST = 10


class Lane:
    """Runs `work` for whoever asks; each request is served by a run that starts after it."""

    def __init__(
        self,
        work: Callable[[], Awaitable[None]],
        *,
        name: str,
        quiet: float = 0.0,
        longest: float = 0.0,
    ) -> None:
        """Start nothing yet.

        Args:
            work: what to run; what it raises goes to those who wait for the run.
            name: for logs and the task.
            quiet: seconds without a request after which a run starts; up to five times as long the
                more requests there are, because a burst has pauses.
            longest: seconds after the first request at which it starts anyhow.
        """
        self._work = work
        self._name = name
        self._quiet = quiet
        self._longest = longest
        self._first: float | None = None
        self._last = 0.0
        self._requests = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def idle(self) -> bool:
        """Nothing runs, and nothing is asked for."""
        return self._task is None and self._timer is None

    def nudge(self) -> None:
        """Ask for a run without waiting for it."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        self._requests += 1
        if self._first is None:
            self._first = self._last
        if self._task is None:
            self._task = loop.create_task(self._drain(), name=self._name)

    def nudge_in(self, seconds: float) -> None:
        """Ask for a run later. One such request is kept, the one for the earliest time."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + seconds:
                return
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._due)

    async def run(self) -> None:
        """Return when a run that started after this call has ended.

        Raises:
            Exception: what the run raised.
            CancelledError: the lane was closed.
        """
        waiter = asyncio.get_running_loop().create_future()
        if self._closed:
            waiter.cancel()
        else:
            self._waiters.append(waiter)
            self.nudge()
        await waiter

    async def settled(self, *, within: float) -> None:
        """Return when nothing runs or is about to, or after so many seconds."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=within)

    async def close(self) -> None:
        """Cancel what runs and who waits; later requests are in vain."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._abandon()

    def _due(self) -> None:
        self._timer = None
        self.nudge()

    def _abandon(self) -> None:
        for waiter in self._waiters:
            waiter.cancel()
        self._waiters = []

    async def _drain(self) -> None:
        try:
            while self._first is not None:
                await self._settle(self._first)
                self._first, self._requests = None, 0
                waiters, self._waiters = self._waiters, []
                await self._serve(waiters)
        except asyncio.CancelledError:
            self._abandon()
            raise
        finally:
            # NB: nothing may be awaited between the loop's last look and here, or a request could
            # be lost.
            self._task = None

    async def _settle(self, first: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            # Each request meanwhile moves the end, so there is no one event to wait for.
            quiet = self._quiet * min(5.0, 1.0 + self._requests / BURST)
            left = min(self._last + quiet, first + self._longest) - loop.time()
            if left <= 0:
                return
            await asyncio.sleep(left)

    async def _serve(self, waiters: list[asyncio.Future[None]]) -> None:
        try:
            await self._work()
        except asyncio.CancelledError:
            for waiter in waiters:
                waiter.cancel()
            raise
        except Exception as error:
            if not waiters:
                # Nobody else would hear of it, and the lane has to go on.
                logger.exception("work_failed", extra={"lane": self._name})
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(error)
        else:
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
