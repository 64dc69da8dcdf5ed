"""An open loop of requests: so many a second, however long the answers take.

    async with Clients(router.port) as clients:
        load = OpenLoop(clients, lambda number: questions.ask(number).raw(), rate=100)
        load.start()
        ...
        replies = await load.stop()

A slow answer holds no other request up, as with real callers. Connections are kept and used again.
Nothing is raised for what a server does: a reply says how far it came, and each ends by a deadline.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httptools

#: Seconds after which a reply is given up. Far above any deadline of a route under test.
LIMIT = 30.0


def post(path: str, body: bytes) -> bytes:
    """A request as bytes."""
    head = f"POST {path} HTTP/1.1\r\nHost: load\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


@dataclass(slots=True)
class Reply:
    """What came for one request. Times are monotonic seconds.

    Attributes:
        status: 0 when no head came.
        whole: the response came to the end that its framing says.
        first: when the first byte of the body came; 0 when none did.
        error: how it ended otherwise.
    """

    number: int
    started: float
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False
    first: float = 0.0
    ended: float = 0.0
    error: str = ""

    @property
    def seconds(self) -> float:
        """From the request to the end."""
        return self.ended - self.started


class _Connection(asyncio.Protocol):
    """One kept connection, one request at a time."""

    def __init__(self, free: list["_Connection"]) -> None:
        self._free = free
        self._reply: Reply | None = None
        self._over: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    async def ask(self, raw: bytes, reply: Reply) -> None:
        """Send a request; the reply is filled in as it comes."""
        self._parser = httptools.HttpResponseParser(self)
        self._reply, self._over = reply, asyncio.get_running_loop().create_future()
        self.transport.write(raw)
        try:
            async with asyncio.timeout(LIMIT):
                await self._over
        except TimeoutError:
            reply.error = f"no end within {LIMIT:g} s"
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"bad response: {error}")
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._free:
            self._free.remove(self)
        self._end(f"the connection ended: {exc}")

    def _end(self, error: str = "") -> None:
        # NB: the next request may take the connection before the task of this one runs again.
        if self._reply is not None and self._over is not None and not self._over.done():
            self._reply.error = error
            self._over.set_result(None)
        self._reply = None

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reply is not None:
            self._reply.headers[name.decode().lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._reply is not None:
            self._reply.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        reply = self._reply
        if reply is not None:
            reply.first = reply.first or time.monotonic()
            reply.body += body

    def on_message_complete(self) -> None:
        if self._reply is not None:
            self._reply.whole = True
        self._end()
        if self._parser.should_keep_alive():
            self._free.append(self)
        else:
            self.transport.close()


class Clients:
    """Kept connections to one port, as many as are needed at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[_Connection] = []
        self._all: list[_Connection] = []

    async def __aenter__(self) -> "Clients":
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._all:
            connection.transport.abort()

    async def ask(self, raw: bytes, *, number: int = 0) -> Reply:
        """Send a request over a free connection, or a new one, and have what came."""
        reply = Reply(number, started=time.monotonic())
        try:
            connection = self._free.pop() if self._free else await self._connect()
            await connection.ask(raw, reply)
        except OSError as error:
            reply.error = f"not connected: {error}"
        reply.ended = time.monotonic()
        return reply

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(
            lambda: _Connection(self._free), "127.0.0.1", self._port
        )
        self._all.append(made)
        return made


class OpenLoop:
    """Requests at a steady rate, from `start` to `stop`.

    Attributes:
        replies: that are complete, in the order they ended.
    """

    def __init__(self, clients: Clients, make: Callable[[int], bytes], *, rate: float) -> None:
        self.replies: list[Reply] = []
        self._clients = clients
        self._make = make
        self._rate = rate
        self._asking: set[asyncio.Task[None]] = set()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Send from now on."""
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> list[Reply]:
        """Send no more, wait for all that is under way; every reply."""
        assert self._running is not None
        self._running.cancel()
        await asyncio.wait([self._running])
        if not self._running.cancelled():
            self._running.result()
        await asyncio.gather(*self._asking)
        return self.replies

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        begun, number = clock(), 0
        while True:
            # NB: each has its own point of one schedule, so that lateness does not add up.
            await asyncio.sleep(begun + number / self._rate - clock())
            task = asyncio.create_task(self._ask(number))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
            number += 1

    async def _ask(self, number: int) -> None:
        reply = await self._clients.ask(self._make(number), number=number)
        self.replies.append(reply)


def percentile(values: list[float], share: float) -> float:
    """The value that this share of them is not above."""
    ordered: list[Any] = sorted(values)
    return float(ordered[min(int(share * len(ordered)), len(ordered) - 1)])
