"""The load of streams: an open loop on one core, and how late each token came.

    python -m bench.streams SPEC        one JSON document in, one out

Requests begin at fixed times whatever became of those before, so a slow proxy can't slow down what
is asked of it. Each token holds the stub's clock at its writing: `held` is how long it was under
way, `gap` by how much its distance to the token before grew, `first` is from the request's planned
time to its first token. All in microseconds, as [p50, p99].
"""

import asyncio
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop

STAMP = re.compile(rb'"content" ?: ?"(\d{19})"')
LAST = b"\r\n0\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One run: where to ask, what to send, and when."""

    port: int
    path: str
    body: str
    headers: dict[str, str]
    starts: int
    every: float
    paced: bool
    limit: float


@dataclass(slots=True)
class Seen:
    """What the streams of one run were like."""

    first: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)
    gap: list[float] = field(default_factory=list)
    events: int = 0
    ended: int = 0
    began_at: float = 0.0
    ended_at: float = 0.0


class Stream(asyncio.Protocol):
    """One connection, kept for the next stream."""

    def __init__(self, seen: Seen, idle: "list[Stream]", spec: Spec) -> None:
        self._seen, self._idle, self._spec = seen, idle, spec
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # NB: uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def begin(self, request: bytes, *, due: float) -> "asyncio.Future[None]":
        """Ask for a stream that was due at this time; done when it ended, well or not."""
        self._due, self._tail, self._end, self._proper = due, b"", b"", False
        self._stamp = self._came = 0.0
        self._got = 0
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._done

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self._seen.ended_at = now / 1e9
        if self._spec.paced:
            self._read(data, now)
        else:
            # Too many to look at one by one.
            self._seen.events += data.count(b'"content"')
        # NB: a proxy may cut the end of a stream anywhere, so it is looked for across reads.
        self._end = (self._end + data)[-512:]
        self._proper = self._proper or b"[DONE]" in self._end or b'"done":true' in self._end
        if not self._end.endswith(LAST):
            return
        if self._proper:
            self._seen.ended += 1
        self._idle.append(self)
        self._finish()

    def _read(self, data: bytes, now: int) -> None:
        seen = self._seen
        data = self._tail + data
        self._tail = data[data.rfind(b"\n") + 1 :]
        for match in STAMP.finditer(data):
            stamp = int(match[1])
            seen.held.append((now - stamp) / 1000)
            if self._got == 0:
                seen.first.append(now / 1000 - self._due * 1e6)
            else:
                seen.gap.append((now - self._came - stamp + self._stamp) / 1000)
            self._stamp, self._came = stamp, now
            self._got += 1
            seen.events += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)
        self._finish()

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)


def request(spec: Spec) -> bytes:
    """The bytes of one request."""
    lines = [
        f"POST {spec.path} HTTP/1.1",
        f"host: 127.0.0.1:{spec.port}",
        "content-type: application/json",
        f"content-length: {len(spec.body.encode())}",
        *(f"{name}: {value}" for name, value in spec.headers.items()),
    ]
    return "\r\n".join([*lines, "", spec.body]).encode()


async def run(spec: Spec) -> Seen:
    """Every stream of the spec, at its time."""
    loop = asyncio.get_running_loop()
    seen = Seen()
    idle: list[Stream] = []
    raw = request(spec)
    begun = seen.began_at = time.monotonic() + 0.05

    async def one(due: float) -> None:
        if idle:
            stream = idle.pop()
        else:
            _, stream = await loop.create_connection(
                lambda: Stream(seen, idle, spec), "127.0.0.1", spec.port
            )
        await stream.begin(raw, due=due)

    tasks = []
    for number in range(spec.starts):
        due = begun + number * spec.every
        await asyncio.sleep(due - time.monotonic())
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.wait(tasks, timeout=spec.limit)
    return seen


def percentiles(values: Sequence[float]) -> list[float]:
    """p50 and p99; empty without values."""
    ordered = sorted(values)
    return [ordered[int((len(ordered) - 1) * q)] for q in (0.5, 0.99)] if ordered else []


def main() -> None:
    """Run the spec and write what was seen."""
    spec = Spec(**json.loads(sys.argv[1]))
    seen = uvloop.run(run(spec))
    told = {
        "first": percentiles(seen.first),
        "held": percentiles(seen.held),
        "gap": percentiles(seen.gap),
        "events": seen.events,
        "ended": seen.ended,
        "seconds": seen.ended_at - seen.began_at,
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
