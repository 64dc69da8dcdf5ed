"""Logs as lines of JSON on standard error: a constant event name and its key-values.

The operator's lines have the same keys, so that one query reads both. A thread writes them, so that
a reader who stands still holds up no request: beyond a bound lines are counted and dropped.
"""

import atexit
import json
import logging
import os
import select
import sys
import threading
import time
from queue import Empty, SimpleQueue
from typing import Any, TextIO

#: What a LogRecord has anyway; all else was given as `extra`.
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

#: Bytes of lines that wait at most.
WAITING_BYTES = 4 << 20

#: How long the end of the process waits for a slow reader, in seconds.
CLOSE_SECONDS = 1.0


class JSONFormatter(logging.Formatter):
    """One record, one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {k: v for k, v in vars(record).items() if k not in STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class LineWriter:
    """A stream that takes whole lines and makes nobody wait.

    Attributes:
        dropped: lines lost as the reader was too slow.
    """

    def __init__(self, stream: TextIO) -> None:
        # NB: not the stream's own buffer, whose lock a blocked thread would hold at the exit.
        self._file = stream.fileno()
        self._queue: SimpleQueue[bytes] = SimpleQueue()
        self._taken = 0
        self._written = 0
        self._closed = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        """One line with its end, as a logging handler writes it."""
        self.put(text.encode(errors="backslashreplace"))

    def put(self, data: bytes, *, lines: int = 1) -> None:
        """Some lines with their ends."""
        if self._closed or self._taken - self._written > WAITING_BYTES:
            self.dropped += lines
            return
        self._taken += len(data)
        self._queue.put(data)

    def flush(self) -> None:
        """Nothing to do: the thread writes at once."""

    def close(self) -> None:
        """Write the rest, if it is taken soon."""
        self._closed = True
        self._queue.put(b"")
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        ending = False
        while not ending:
            parts = [self._queue.get()]
            while parts[-1]:
                try:
                    parts.append(self._queue.get_nowait())
                except Empty:
                    break
            ending = not parts[-1]
            data = b"".join(parts)
            self._put(memoryview(data))
            self._written += len(data)

    def _put(self, data: memoryview) -> None:
        while data:
            try:
                data = data[os.write(self._file, data) :]
            except BlockingIOError:
                # NB: whoever shares the terminal or pipe may have made it so.
                select.select([], [self._file], [], 1.0)
            except OSError:
                # It is closed; there is nobody to tell.
                return


def configure(level: str) -> LineWriter:
    """Send every log of the process to standard error, from this level on; its writer."""
    writer = LineWriter(sys.stderr)
    atexit.register(writer.close)
    handler = logging.StreamHandler(writer)
    handler.setFormatter(JSONFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # NB: uvicorn's start-up chatter says nothing that our own lines do not, and httpx has a line
    # for each request it makes.
    for name in ("uvicorn", "httpx", "httpcore"):
        logging.getLogger(name).setLevel("WARNING")
    return writer
