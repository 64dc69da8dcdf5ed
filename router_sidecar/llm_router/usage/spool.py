"""Usage records on their way from the recorder to the receiver; they wait on disk if they may.

    Recorder -> take -> (a thread writes) -> segments -> next -> shipper -> done

`take` encodes and never waits; whatever touches the disk runs in one thread of the spool's own, so
that a slow disk costs no request anything.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from llm_router.usage.record import Record, to_json
from llm_router.usage.segments import MEMORY_BYTES, Segment, Segments

log = logging.getLogger(__name__)

Ts = TypeVarTuple("Ts")
T = TypeVar("T")

#: Seconds between two writes; what a killed router can lose, with the recorder's own period.
PERIOD = 0.5

#: Seconds to the next write after one failed in a way that nobody thought of.
FAILED_PERIOD = 30.0

#: A record of a list asked for: it has no usage.
LIST = "_list"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How delivery stands: records by what became of them, and what waits."""

    sent: int = 0
    spooled: int = 0
    dropped: int = 0
    rejected: int = 0
    waiting: int = 0
    waiting_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Records to be delivered together.

    Attributes:
        more: others wait behind it.
    """

    segment: Segment
    lines: list[bytes]
    more: bool

    def body(self) -> bytes:
        """The document that is posted."""
        return b'{"records":[' + b",".join(self.lines) + b"]}"


class Spool:
    """The records of one router that wait."""

    def __init__(self, folder: Path | None, *, limit: int) -> None:
        self._segments = Segments(folder, limit=limit)
        self._thread = ThreadPoolExecutor(1, "usage-spool") if folder else None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._opened = False
        self._dropped = 0

    def take(self, records: Sequence[Record]) -> None:
        """Requests have ended."""
        for record in records:
            if record.front.endswith(LIST):
                continue
            line = to_json(record)
            if self._pending_bytes > MEMORY_BYTES:
                # NB: only while the disk hangs; what it is busy with is older.
                self._dropped += 1
                continue
            self._pending.append(line)
            self._pending_bytes += len(line) + 1

    async def run(self) -> None:
        """Write what has gathered, until cancelled."""
        while True:
            try:
                await self.store()
                pause = PERIOD
            except Exception:
                # NB: usage is no reason to end the router.
                log.exception("usage_spool_failed")
                pause = FAILED_PERIOD
            await asyncio.sleep(pause)

    async def store(self) -> None:
        """Put what has gathered into segments."""
        if self._opened and not self._pending:
            return
        lines, self._pending, self._pending_bytes = self._pending, [], 0
        await self._call(self._store, lines)

    async def next(self) -> Batch | None:
        """The oldest records; the same again until they are done."""
        await self.store()
        return await self._call(self._oldest)

    async def done(self, batch: Batch) -> None:
        """They have arrived, or never will."""
        await self._call(self._segments.remove, batch.segment)

    async def close(self) -> int:
        """At the end: write and sync the rest; how many records are lost with the memory."""
        await self.store()
        lost = await self._call(self._segments.close)
        if self._thread is not None:
            self._thread.shutdown(wait=False)
        return lost

    def counts(self) -> Counts:
        """How it stands; what was sent and rejected is the shipper's to say."""
        segments = self._segments
        return Counts(
            spooled=segments.written,
            dropped=segments.dropped + self._dropped,
            waiting=segments.records + len(self._pending),
            waiting_bytes=segments.size + self._pending_bytes,
        )

    def _store(self, lines: list[bytes]) -> None:
        if not self._opened:
            self._opened = True
            self._segments.open()
        self._segments.add(lines)

    def _oldest(self) -> Batch | None:
        found = self._segments.oldest()
        return None if found is None else Batch(*found, more=len(self._segments) > 1)

    async def _call(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        if self._thread is None:
            return function(*args)
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)
