"""Where records are put down when a request ends, and handed on later.

    serving -> Recorder.add -> (every quarter of a second) -> each sink

A request pays for one append. The sinks are cheap and never wait; they get records in small slices,
so that requests in between are not held up. Memory is bounded: beyond it records are counted and
dropped.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from llm_router.usage.record import Record

log = logging.getLogger(__name__)

#: Seconds between two rounds.
PERIOD = 0.25

#: Records handed on at a time; about a tenth of a millisecond's work.
SLICE = 16

#: When more than these wait, an eighth of what is beyond them goes at a time: a round of the loop
#: can end more requests than one slice holds.
MANY = 1024

#: Records that wait at most, some 30 MB; a router makes as many in a second at its very best.
LIMIT = 30_000

Sink = Callable[[Sequence[Record]], None]


class Recorder:
    """A buffer between requests and what is told of them.

    Attributes:
        dropped: records lost as the buffer was full.
    """

    __slots__ = ("_limit", "_records", "_sinks", "dropped")

    def __init__(self, sinks: Sequence[Sink] = (), *, limit: int = LIMIT) -> None:
        self._records: deque[Record] = deque()
        self._sinks = tuple(sinks)
        self._limit = limit
        self.dropped = 0

    def add(self, record: Record) -> None:
        """Put it down; never waits, never raises."""
        if len(self._records) < self._limit:
            self._records.append(record)
        else:
            self.dropped += 1

    def flush(self) -> None:
        """Hand on all there is, now: before a scrape and at the end."""
        while self._records:
            self._hand_on(len(self._records))

    async def run(self) -> None:
        """Hand on what has gathered, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            while self._records:
                self._hand_on(max(SLICE, (len(self._records) - MANY) // 8))
                await asyncio.sleep(0)

    def _hand_on(self, count: int) -> None:
        records = self._records
        batch = [records.popleft() for _ in range(min(count, len(records)))]
        for sink in self._sinks:
            try:
                sink(batch)
            except Exception:
                # NB: one sink's fault must not cost the others their records.
                log.exception("usage_sink_failed", extra={"records": len(batch)})
