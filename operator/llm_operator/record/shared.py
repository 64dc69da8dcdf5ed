"""An answer that many ask for: fetched once for all who wait, and good for a while.

Whatever the fetch costs, it is under way at most once, and for one part in twenty of the time at
most: the longer it took, the longer its answer is good. An error is shared by those who wait for
it, and the next to ask tries again. Without I/O of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

#: An answer is good for so many times as long as it took.
FACTOR = 20.0


class Shared(Generic[T]):
    """One answer; `close` ends a fetch under way."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[T]],
        *,
        good: float,
        longest: float,
        clock: Callable[[], float],
    ) -> None:
        """Fetch nothing yet.

        Args:
            good: seconds for which an answer is good at least; `longest` at most.
            clock: seconds, monotonic.
        """
        self._fetch = fetch
        self._good = good
        self._longest = longest
        self._clock = clock
        self._last: tuple[T, float] | None = None
        self._flight: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The answer, at most so old; what the fetch raises is raised."""
        if self._last is not None and self._clock() < self._last[1]:
            return self._last[0]
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._fly(), name="shared answer")
            # NB: asked for its error, or asyncio warns of it when all who waited were cancelled.
            self._flight.add_done_callback(lambda flight: flight.cancelled() or flight.exception())
        # NB: shielded, since who goes away must not end it for the others.
        return await asyncio.shield(self._flight)

    async def close(self) -> None:
        """End a fetch under way; who waits for it is cancelled."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait([self._flight])

    async def _fly(self) -> T:
        began = self._clock()
        answer = await self._fetch()
        ended = self._clock()
        good = min(self._longest, max(self._good, FACTOR * (ended - began)))
        self._last = answer, ended + good
        return answer
