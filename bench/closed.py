"""The load of short requests: wrk where it is, else a closed loop of our own.

    python -m bench.closed SPEC        `starts` connections for `limit` seconds

`wrk` is a command and a script for it; the loop below is slower itself, so the report names what
was used. Both write one JSON document: p50 and p99 in microseconds, requests, seconds, errors.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from typing import cast

import uvloop

from bench.streams import LAST, Spec, percentiles, request

SCRIPT = """wrk.method = "POST"
wrk.body = [==[{body}]==]
{headers}
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{{"p50":%d,"p99":%d,"requests":%d,"seconds":%f,"errors":%d}}\\n',
    latency:percentile(50), latency:percentile(99), summary.requests, summary.duration / 1000000,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def script(body: bytes, headers: Mapping[str, str]) -> str:
    """wrk's script for this request."""
    all_headers = {"content-type": "application/json", **headers}
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in all_headers.items()]
    return SCRIPT.format(body=body.decode(), headers="\n".join(lines))


class Asking(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, raw: bytes, *, until: float, took: list[float]) -> None:
        self._raw, self._until, self._took = raw, until, took
        self.errors = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # NB: uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self._answer = b""
        self._asked = time.monotonic()
        self._transport.write(self._raw)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._whole():
            return
        now = time.monotonic()
        self._took.append((now - self._asked) * 1e6)
        self.errors += not self._answer.startswith(b"HTTP/1.1 200")
        if now < self._until:
            self._ask()
        else:
            self._transport.close()

    def _whole(self) -> bool:
        head, split, rest = self._answer.partition(b"\r\n\r\n")
        _, named, length = head.lower().partition(b"\r\ncontent-length:")
        if named:
            return bool(split) and len(rest) >= int(length.split(b"\r\n", 1)[0])
        return rest.endswith(LAST)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def run(spec: Spec) -> str:
    """Ask for so long; the document."""
    loop, took = asyncio.get_running_loop(), list[float]()
    begun = time.monotonic()
    asking = []
    for _ in range(spec.starts):
        _, one = await loop.create_connection(
            lambda: Asking(request(spec), until=begun + spec.limit, took=took),
            "127.0.0.1",
            spec.port,
        )
        asking.append(one)
    await asyncio.wait([one.done for one in asking], timeout=spec.limit + 10)
    p50, p99 = percentiles(took) or (0.0, 0.0)
    spent, errors = time.monotonic() - begun, sum(one.errors for one in asking)
    told = {"p50": p50, "p99": p99, "requests": len(took), "seconds": spent, "errors": errors}
    return json.dumps(told)


if __name__ == "__main__":
    sys.stdout.write(uvloop.run(run(Spec(**json.loads(sys.argv[1])))) + "\n")
