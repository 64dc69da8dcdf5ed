"""A closed loop of requests, in a process of its own so that it measures nothing but the server.

    python tests/parts/closed_loop.py SPEC     {"port", "connections", "requests", "raw": [...]}

Each kept connection asks again as soon as it is answered, the kinds of requests in turn. Writes one
JSON document: requests, seconds, and the first answers that were not good.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import uvloop

#: The end of a chunked body.
LAST = b"0\r\n\r\n"

#: Bad answers that are told; the loop ends after as many.
SHOWN = 20


class Turns:
    """How many requests are still to be sent, over all connections."""

    def __init__(self, requests: int, raw: Sequence[bytes]) -> None:
        self.asked = 0
        self.answered = 0
        self.bad: list[str] = []
        self._requests = requests
        self._raw = raw

    def next(self) -> bytes | None:
        if self.asked == self._requests or len(self.bad) >= SHOWN:
            return None
        self.asked += 1
        return self._raw[self.asked % len(self._raw)]


class Asking(asyncio.Protocol):
    """One connection."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._answer = b""
        self._waiting = False
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._answer = self._answer + data if self._answer else data
        if not whole(self._answer):
            return
        if self._answer.startswith(b"HTTP/1.1 200") and b'"error"' not in self._answer:
            self._turns.answered += 1
        else:
            self._turns.bad.append(repr(self._answer[:500]))
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting:
            self._turns.bad.append(f"the connection ended: {exc}")
        self.over.set_result(None)

    def _ask(self) -> None:
        self._answer = b""
        raw = self._turns.next()
        self._waiting = raw is not None
        if raw is not None:
            self._transport.write(raw)
        else:
            self._transport.close()


def whole(answer: bytes) -> bool:
    """A response has come to its end."""
    split = answer.find(b"\r\n\r\n")
    if split < 0:
        return False
    named = answer.find(b"content-length: ", 0, split)
    if named < 0:
        return answer.endswith(LAST)
    length = answer[named + 16 : answer.index(b"\r\n", named)]
    return len(answer) >= split + 4 + int(length)


async def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Ask as often as is wanted; the document."""
    loop, begun = asyncio.get_running_loop(), time.monotonic()
    turns = Turns(spec["requests"], [raw.encode() for raw in spec["raw"]])
    made = [
        await loop.create_connection(lambda: Asking(turns), "127.0.0.1", spec["port"])
        for _ in range(spec["connections"])
    ]
    await asyncio.gather(*(asking.over for _, asking in made))
    seconds = time.monotonic() - begun
    return {"answered": turns.answered, "seconds": seconds, "bad": turns.bad}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(uvloop.run(run(json.loads(sys.argv[1])))) + "\n")
