"""Usage records that wait to be delivered, as files in one folder, or in memory without one.

    lines of JSON -> the open segment -> (full, or asked for) -> closed -> removed after delivery

One segment is one batch of the receiver's. A line is written to its file at once, so that records
outlive `kill -9`; the file is synced once, when it is closed, so that a power cut costs the open
segment at most. Both bounds, on disk and in memory, are kept by dropping the oldest segment. A disk
that takes nothing is survived: what could not be written waits in memory. Does blocking I/O and
never raises for it: `spool` calls it from a thread of its own, one call at a time.
"""

import contextlib
import fcntl
import logging
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

log = logging.getLogger(__name__)

#: The most a receiver gets at once.
MAX_RECORDS = 500
MAX_BYTES = 1 << 20

#: Records that wait in memory: all of them without a folder, else what the disk did not take.
MEMORY_BYTES = 8 << 20


@dataclass(slots=True, eq=False)
class Segment:
    """One batch that waits.

    Attributes:
        lines: in memory; None when they are in its file.
        found: it was there at the start, so its lines may be anything.
        closed: nothing is added any more.
    """

    number: int
    records: int = 0
    size: int = 0
    lines: list[bytes] | None = None
    found: bool = False
    closed: bool = False


class Segments:
    """All segments, oldest first.

    Attributes:
        written: records that were put on disk.
        dropped: records lost for want of room.
    """

    def __init__(self, folder: Path | None, *, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._largest = min(MAX_BYTES, limit // 4)
        self._segments: deque[Segment] = deque()
        self._taken: Segment | None = None
        self._file = -1
        self._lock = -1
        self._failing = False
        self.written = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._segments)

    @property
    def records(self) -> int:
        """How many wait."""
        return sum(segment.records for segment in tuple(self._segments))

    @property
    def size(self) -> int:
        """Their bytes."""
        return sum(segment.size for segment in tuple(self._segments))

    def open(self) -> None:
        """Take the folder, and what an earlier process left in it."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(
                self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in sorted(self._folder.glob("*.jsonl")):
                self._find(path)
        except OSError as error:
            # NB: usage is no reason not to serve.
            extra = {"folder": str(self._folder), "reason": error.strerror or str(error)}
            log.error("usage_spool_unusable", extra=extra)
            self._folder = None
        self._trim()

    def add(self, lines: Sequence[bytes]) -> None:
        """Records, each one line without its end."""
        start = 0
        while start < len(lines):
            segment = self._open_segment()
            count = _fitting(lines, start, segment, largest=self._largest)
            if count:
                self._append(segment, lines[start : start + count])
                start += count
            else:
                self._close(segment)
        self._trim()

    def oldest(self) -> tuple[Segment, list[bytes]] | None:
        """The oldest segment, closed, and its lines; it stays until it is removed."""
        while self._segments:
            segment = self._taken = self._segments[0]
            self._close(segment)
            lines = self._lines(segment)
            if lines:
                return segment, lines
            self.remove(segment)
        return None

    def remove(self, segment: Segment) -> None:
        """It has been delivered, or never will be."""
        self._taken = None
        with contextlib.suppress(ValueError):
            self._segments.remove(segment)
        if segment.lines is None:
            self._unlink(segment)

    def close(self) -> int:
        """At the end: sync what is on disk; how many records are lost with the memory."""
        lost = 0
        for segment in self._segments:
            self._close(segment)
            if segment.lines is not None:
                lost += segment.records
        self.dropped += lost
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        return lost

    def _path(self, segment: Segment) -> Path:
        assert self._folder is not None
        return self._folder / f"{segment.number:012d}.jsonl"

    def _find(self, path: Path) -> None:
        if not path.stem.isdecimal():
            return
        data = path.read_bytes()
        # NB: a line without its end was being written when the process was killed.
        records = data.count(b"\n")
        self._segments.append(Segment(int(path.stem), records, len(data), found=True, closed=True))

    def _open_segment(self) -> Segment:
        last = self._segments[-1] if self._segments else None
        if last is not None and not last.closed:
            return last
        segment = Segment(last.number + 1 if last else 1)
        if self._folder is None or not self._create(segment):
            segment.lines = []
        self._segments.append(segment)
        return segment

    def _create(self, segment: Segment) -> bool:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        try:
            self._file = os.open(self._path(segment), flags, 0o600)
        except OSError as error:
            self._failed(error)
            return False
        return True

    def _append(self, segment: Segment, lines: Sequence[bytes]) -> None:
        data = b"\n".join((*lines, b""))
        if segment.lines is None:
            try:
                _write(self._file, data)
            except OSError as error:
                self._failed(error)
                # NB: a half line would swallow the next one.
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, segment.size)
                self._close(segment)
                if not segment.records:
                    self.remove(segment)
                segment = Segment(segment.number + 1, lines=[])
                self._segments.append(segment)
            else:
                self.written += len(lines)
                self._recovered()
        if segment.lines is not None:
            segment.lines += lines
        segment.records += len(lines)
        segment.size += len(data)

    def _close(self, segment: Segment) -> None:
        if segment.closed:
            return
        segment.closed = True
        if segment.lines is None and self._file >= 0:
            try:
                os.fsync(self._file)
            except OSError as error:
                self._failed(error)
            finally:
                os.close(self._file)
                self._file = -1

    def _lines(self, segment: Segment) -> list[bytes]:
        if segment.lines is not None:
            return segment.lines
        try:
            data = self._path(segment).read_bytes()
        except OSError as error:
            self._failed(error)
            self.dropped += segment.records
            return []
        lines = data.split(b"\n")[:-1]
        return [line for line in lines if _proper(line)] if segment.found else lines

    def _trim(self) -> None:
        """Drop the oldest until both bounds hold."""
        memory = MEMORY_BYTES if self._folder else min(MEMORY_BYTES, self._limit)
        while self.size > self._limit and self._drop(in_memory=False):
            pass
        while self._in_memory() > memory and self._drop(in_memory=True):
            pass

    def _in_memory(self) -> int:
        return sum(s.size for s in self._segments if s.lines is not None)

    def _drop(self, *, in_memory: bool) -> bool:
        for segment in self._segments:
            # NB: one that is being sent may have arrived already.
            if segment is self._taken or (in_memory and segment.lines is None):
                continue
            self._close(segment)
            self._segments.remove(segment)
            if segment.lines is None:
                self._unlink(segment)
            self.dropped += segment.records
            return True
        return False

    def _unlink(self, segment: Segment) -> None:
        try:
            self._path(segment).unlink(missing_ok=True)
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            extra = {"folder": str(self._folder), "reason": error.strerror or str(error)}
            log.error("usage_spool_failing", extra=extra)

    def _recovered(self) -> None:
        if self._failing:
            self._failing = False
            log.info("usage_spool_recovered", extra={"folder": str(self._folder)})


def _fitting(lines: Sequence[bytes], start: int, segment: Segment, *, largest: int) -> int:
    """How many lines from there on a segment has room for; in an empty one at least one."""
    room, size = MAX_RECORDS - segment.records, segment.size
    for count, line in enumerate(lines[start : start + room]):
        size += len(line) + 1
        if size > largest and (count or segment.records):
            return count
    return min(room, len(lines) - start)


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _proper(line: bytes) -> bool:
    # NB: after a power cut a file can have its length and none of its bytes.
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False
