"""A TCP proxy that breaks on purpose: the network's faults before the API server or Postgres.

    proxy = make_proxy(("127.0.0.1", port))      # or a Unix socket's path
    proxy.stop(); proxy.start()                  # refused, and back on the same port
    proxy.delay(0.5)                             # every piece, in both directions
    proxy.drop()                                 # half-open: bytes vanish, no end learns of it
    proxy.reset()                                # RST to whoever is connected now
    proxy.heal()

It runs in a thread of its own, so plain and async tests and other processes use it alike. Bytes
pass through unread, so TLS works end to end.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llm_operator.simulate.server import unlisten
from parts.process import free_port

Address = tuple[str, int] | Path

#: SO_LINGER on with zero seconds: closing sends RST and throws away what was not sent.
RESET = struct.pack("ii", 1, 0)


@dataclass(slots=True, eq=False)
class Link:
    """One client's connection and its other half."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    lost: bool = False

    def reset(self) -> None:
        """Break both halves at once, without the goodbye of an orderly close."""
        for writer in (self.client, self.server):
            raw = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                if raw is not None and raw.family != socket.AF_UNIX:
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()


@dataclass(slots=True, eq=False)
class Proxy:
    """One listening port. All methods may be called from any thread."""

    upstream: Address
    port: int = field(default_factory=free_port)
    accepted: int = 0
    _delay: float = 0.0
    _drop: bool = False
    _links: set[Link] = field(default_factory=set)
    _server: asyncio.Server | None = None
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None

    @property
    def open(self) -> int:
        """How many clients are connected now."""
        return len(self._links)

    @property
    def losing(self) -> int:
        """How many of them have lost bytes."""
        return sum(link.lost for link in self._links)

    def start(self) -> None:
        """Listen, on the same port as before."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="proxy", daemon=True
            )
            self._thread.start()
        self._do(self._listen())

    def stop(self) -> None:
        """Stop listening and reset whoever is connected: new connections are refused."""
        self._do(self._unlisten())

    def delay(self, seconds: float) -> None:
        """Hold each piece of data for so long, in both directions."""
        self._delay = seconds

    def drop(self) -> None:
        """Swallow all data and every goodbye from now on; connections stay, new ones are taken."""
        self._drop = True

    def reset(self) -> None:
        """RST to whoever is connected now; new connections are served."""
        self._do(self._break(lost=False))

    def heal(self) -> None:
        """No more delay or loss. A connection that lost bytes is reset: it has a hole in it."""
        self._delay, self._drop = 0.0, False
        self._do(self._break(lost=True))

    def close(self) -> None:
        """The end: nothing of it is left."""
        if self._thread is not None:
            self.stop()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _unlisten(self) -> None:
        if self._server is not None:
            await unlisten(self._server)
            self._server = None
        # NB: a client that was just accepted becomes a link only now, after those that are there.
        until = self._loop.time() + 5
        while others := asyncio.all_tasks(self._loop) - {asyncio.current_task()}:
            for link in list(self._links):
                link.reset()
            await asyncio.wait(others, timeout=0.1)
            if self._loop.time() > until:
                break
        await asyncio.sleep(0)

    async def _break(self, *, lost: bool) -> None:
        """Reset every link, or only those that lost bytes, and see them gone."""
        for link in [link for link in self._links if link.lost or not lost]:
            link.reset()
        others = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        if not lost and others:
            await asyncio.wait(others, timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            if isinstance(self.upstream, Path):
                other = await asyncio.open_unix_connection(self.upstream)
            else:
                other = await asyncio.open_connection(*self.upstream)
        except OSError:
            writer.transport.abort()
            return
        link = Link(client=writer, server=other[1])
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, other[1], link))
                both.create_task(self._pump(other[0], writer, link))
        finally:
            self._links.discard(link)
            for half in (writer, other[1]):
                half.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link
    ) -> None:
        """Carry one direction. One end's reset becomes the other's, unless bytes are being lost."""
        try:
            while data := await reader.read(65536):
                if self._delay:
                    await asyncio.sleep(self._delay)
                if self._drop:
                    link.lost = True
                else:
                    writer.write(data)
                    await writer.drain()
            if self._drop:
                link.lost = True
            else:
                writer.write_eof()
        except OSError:
            if self._drop:
                link.lost = True
            else:
                link.reset()


@pytest.fixture
def make_proxy() -> Iterator[Callable[[Address], Proxy]]:
    """Make started proxies: `make_proxy(("127.0.0.1", port))` or `make_proxy(postgres.socket)`."""
    made: list[Proxy] = []

    def make(upstream: Address) -> Proxy:
        proxy = Proxy(upstream)
        made.append(proxy)
        proxy.start()
        return proxy

    yield make
    for proxy in made:
        proxy.close()
