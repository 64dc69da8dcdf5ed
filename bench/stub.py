"""The upstream of every measurement: an Ollama and an OpenAI server that cost next to nothing.

    python -m bench.stub PORT MODEL...

Bytes in, bytes out, no framework: what is measured must be the proxy. Every streamed token holds
the stub's monotonic clock in nanoseconds at the moment of writing, 19 digits wide, so that a client
on this machine knows how long the token was under way, whatever was translated in between.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from re import compile as pattern
from typing import cast

import uvloop

from bench.shapes import NAME

LENGTH = pattern(rb"(?i)\r\ncontent-length: *(\d+)")
CHUNKED = pattern(rb"(?i)\r\ntransfer-encoding: *chunked")
STREAM = pattern(rb'"stream"\s*:\s*(true|false)')
#: Tokens written before the loop turns, and the write buffer at which a fast stream waits.
BURST = 32
ROOM = 65_536

TEXT = "It is the Rhine, and it flows on through Strasbourg and Cologne into the North Sea."


def _answer(content: str, payload: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content}\r\ncontent-length: {len(payload)}\r\n\r\n"
    return head.encode() + payload


def _chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def _head(content: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % content


def _sse(choice: str) -> bytes:
    common = '"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1764000000,'
    return f'data: {{{common}"model":"bench","choices":[{choice}]}}\n\n'.encode()


def _line(fields: str) -> bytes:
    return f'{{"model":"bench","created_at":"2025-11-24T16:00:00Z",{fields}}}\n'.encode()


class Dialect:
    """One protocol's bytes: a whole answer, a short stream, and the parts of a long one."""

    def __init__(self, *, whole: bytes, content: bytes, first: bytes, token: bytes, end: bytes):
        self.whole = _answer("application/json", whole)
        self.head = _head(content)
        self.first = _chunk(first)
        self.token = _chunk(token)
        self.end = _chunk(end) + b"0\r\n\r\n"
        said = first.replace(b"0" * 19, TEXT.encode())
        self.short = self.head + _chunk(said) + self.end


#: Takes the router's usage records, and says 200.
USAGE_PATH = b"POST /usage"

USAGE = '"usage":{"prompt_tokens":38,"completion_tokens":21,"total_tokens":59}'
ZEROS = "0" * 19
OPENAI = Dialect(
    whole=(
        '{"id":"chatcmpl-bench","object":"chat.completion","created":1764000000,"model":"bench",'
        f'"choices":[{{"index":0,"message":{{"role":"assistant","content":"{TEXT}"}},'
        f'"finish_reason":"stop"}}],{USAGE}}}'
    ).encode(),
    content=b"text/event-stream",
    first=_sse(f'{{"index":0,"delta":{{"role":"assistant","content":"{ZEROS}"}}}}'),
    token=_sse(f'{{"index":0,"delta":{{"content":"{ZEROS}"}},"finish_reason":null}}'),
    end=_sse('{"index":0,"delta":{},"finish_reason":"stop"}')
    + _sse("").replace(b'"choices":[]', b'"choices":[],' + USAGE.encode())
    + b"data: [DONE]\n\n",
)
SPENT = (
    '"done_reason":"stop","total_duration":190000000,"load_duration":1000000,'
    '"prompt_eval_count":38,"prompt_eval_duration":20000000,"eval_count":21,'
    '"eval_duration":160000000'
)
OLLAMA = Dialect(
    whole=_line(f'"message":{{"role":"assistant","content":"{TEXT}"}},"done":true,{SPENT}'),
    content=b"application/x-ndjson",
    first=_line(f'"message":{{"role":"assistant","content":"{ZEROS}"}},"done":false'),
    token=_line(f'"message":{{"role":"assistant","content":"{ZEROS}"}},"done":false'),
    end=_line(f'"message":{{"role":"assistant","content":""}},"done":true,{SPENT}'),
)


def catalogue(models: Sequence[str]) -> bytes:
    """For what a proxy asks a host besides: its health, its models, its version."""
    document = {
        "object": "list",
        "data": [{"id": name, "object": "model", "owned_by": "bench"} for name in models],
        "models": [{"name": name, "model": name} for name in models],
        "version": "0.17.4",
        "status": "ok",
    }
    return _answer("application/json", json.dumps(document).encode())


class Stub(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, catalogue: bytes) -> None:
        self._loop = loop
        self._catalogue = catalogue
        self._buffer = b""
        self._timer: asyncio.Handle | None = None
        self._blocked: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # NB: uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=ROOM)
        self._writable = True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._blocked = None

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if (resume := self._blocked) is not None:
            self._blocked = None
            resume()

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        split = data.find(b"\r\n\r\n")
        if split < 0 or not self._whole(data, split):
            self._buffer = data
            return
        self._buffer = b""
        self._serve(data, split)

    def _whole(self, data: bytes, split: int) -> bool:
        if (length := LENGTH.search(data, 0, split)) is not None:
            return len(data) >= split + 4 + int(length[1])
        return data.endswith(b"0\r\n\r\n") if CHUNKED.search(data, 0, split) else True

    def _serve(self, data: bytes, split: int) -> None:
        if not data.startswith(b"POST") or data.startswith(USAGE_PATH):
            self._transport.write(self._catalogue)
            return
        native = data.startswith(b"POST /api/")
        dialect = OLLAMA if native else OPENAI
        order, stream = NAME.search(data, split), STREAM.search(data, split)
        streamed = stream[1] == b"true" if stream is not None else native
        if order is None or order[1] == b"static" or not streamed:
            self._transport.write(dialect.short if streamed else dialect.whole)
        elif order[2] is not None:
            self._paced(dialect, rate=int(order[2]), count=int(order[3]), wait=int(order[4]))
        else:
            self._fast(dialect, count=int(order[5]))

    def _paced(self, dialect: Dialect, *, rate: int, count: int, wait: int) -> None:
        """Each token at its own point of an absolute schedule, so that no lateness adds up."""
        begun = self._loop.time() + wait / 1000
        sent = 0

        def step() -> None:
            nonlocal sent
            stamp = b"%019d" % time.monotonic_ns()
            if sent == 0:
                self._transport.write(dialect.head + dialect.first.replace(b"0" * 19, stamp))
            else:
                self._transport.write(dialect.token.replace(b"0" * 19, stamp))
            sent += 1
            if sent < count:
                self._timer = self._loop.call_at(begun + sent / rate, step)
            else:
                self._transport.write(dialect.end)

        self._timer = self._loop.call_at(begun, step)

    def _fast(self, dialect: Dialect, *, count: int) -> None:
        """Bursts of tokens for as long as the reader takes them."""
        sent = 0

        def step() -> None:
            nonlocal sent
            burst = min(BURST, count - sent)
            stamped = dialect.token.replace(b"0" * 19, b"%019d" % time.monotonic_ns())
            self._transport.write(stamped * burst)
            sent += burst
            if sent >= count:
                self._transport.write(dialect.end)
            elif self._writable:
                self._timer = self._loop.call_soon(step)
            else:
                self._blocked = step

        self._transport.write(dialect.head)
        step()


async def serve(port: int, models: Sequence[str]) -> None:
    """Listen until the process is ended."""
    loop, listed = asyncio.get_running_loop(), catalogue(models)
    server = await loop.create_server(lambda: Stub(loop, listed), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2:]))
