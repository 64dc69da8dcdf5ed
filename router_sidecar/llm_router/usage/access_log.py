"""The access log: one line of JSON for each request, in the form of all other log lines.

    Recorder -> take -> logs.LineWriter -> (its thread) -> standard error

It holds what a record holds, so never a prompt. Lines go to the log's own writer, many at a time:
one logging call each would cost more than the request's own share of the router.
"""

from collections.abc import Sequence
from time import gmtime, strftime

from llm_router.logs import LineWriter
from llm_router.usage.record import Record, to_json

#: What every line has besides its time and the record.
KEYS = b'"level":"INFO","logger":"llm_router.access","event":"request"'


class AccessLog:
    """Writes records among the log lines."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer
        self._second = 0
        self._time = ""

    @property
    def dropped(self) -> int:
        """Log lines lost as the reader was too slow, those of requests and all others."""
        return self._writer.dropped

    def close(self) -> None:
        """Nothing to do: the log's writer ends with the process."""

    def take(self, records: Sequence[Record]) -> None:
        """Requests have ended."""
        self._writer.put(b"".join(map(self._line, records)), lines=len(records))

    def _line(self, record: Record) -> bytes:
        ended = record.at + record.total_seconds
        second = int(ended)
        if second != self._second:
            self._second = second
            self._time = strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
        time = f"{self._time}.{int((ended - second) * 1000):03d}Z".encode()
        return b'{"time":"%b",%b,%b\n' % (time, KEYS, to_json(record)[1:])
