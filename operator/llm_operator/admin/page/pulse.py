"""One watch on the store for all open pages: each change, at most twice a second, wakes them all.

It knows no page: a page waits on it and reads anew by itself.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

#: Seconds without a change after which pages look all the same, since times go on and routers move.
QUIET = 5.0
#: Seconds between two beats at least.
PAUSE = 0.5

#: As `Store.changed`.
Changed = Callable[[float], Awaitable[None]]


class Pulse:
    """A beat at each change. It runs from `start` to `stop`, in one event loop."""

    def __init__(self, changed: Changed) -> None:
        self._changed = changed
        self._beat = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def next(self) -> None:
        """Return at the next beat."""
        await self._beat.wait()

    async def _run(self) -> None:
        while True:
            try:
                await self._changed(QUIET)
            except Exception:
                # NB: without this loop no page would ever move again.
                logger.exception("pulse_failed")
                await asyncio.sleep(QUIET)
            beat, self._beat = self._beat, asyncio.Event()
            beat.set()
            await asyncio.sleep(PAUSE)
