"""Requests to upstreams over kept connections: one `send`, one `Reply`.

The only place of the router that opens sockets to upstreams. It knows origins, bytes and
connections, and nothing of routes, models or JSON. Waiting is the caller's to bound; a `send` or
`read` that is cancelled, or whose time is over, closes the socket at once.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from llm_router.transport.connection import Connection
from llm_router.transport.dial import dial
from llm_router.transport.errors import ConnectFailed, Cut, NoReply
from llm_router.transport.origin import Origin
from llm_router.transport.reply import Reply
from llm_router.transport.request import encode_head
from llm_router.transport.watch import Watch

#: A kept connection that was dead before it was used ends within this time.
STALE_SECONDS = 1.0


class Counts(NamedTuple):
    """What a pool holds now, and has done so far.

    Attributes:
        open: connected sockets, idle ones included.
        idle: sockets that wait for a request.
        connects: connections made.
        reuses: requests sent over a kept connection.
        retries: requests sent again because the kept connection turned out to be dead.
    """

    open: int
    idle: int
    connects: int
    reuses: int
    retries: int


class Pool:
    """Connections by origin. Belongs to one event loop; has two timers at most, and no task."""

    def __init__(
        self,
        *,
        max_idle_per_origin: int = 64,
        idle_seconds: float = 55.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """A pool without connections.

        Args:
            max_idle_per_origin: kept connections; the longest unused one is dropped for one more.
            idle_seconds: how long an unused connection is kept; below the usual 60 s of what lies
                between here and the upstream.
            tls: how https origins without settings of their own are verified; without one, by the
                system's authorities.
        """
        self._max_idle = max_idle_per_origin
        self._idle_seconds = idle_seconds
        self._tls = tls
        self._open: set[Connection] = set()
        self._idle: dict[Origin, deque[Connection]] = {}
        self.watch = Watch(self._open)
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._drained: asyncio.Future[None] | None = None
        self._connects = self._reuses = self._retries = 0

    async def send(
        self,
        origin: Origin,
        *,
        method: bytes,
        path: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        connect_timeout: float,
        timeout: float | None = None,
    ) -> Reply:
        """Sends one request and returns when the head of its response has arrived.

        The response must be read to its end or closed. Host, Content-Length, Connection and
        Accept-Encoding are added; `request.RESERVED` names the headers that a caller can't give.

        Args:
            timeout: seconds to wait for the head, connecting included. Much cheaper than
                `asyncio.timeout`, and up to `watch.TICK` late.

        Raises:
            ValueError: the method, the path or a header can't be sent.
            ConnectFailed: no connection within `connect_timeout` seconds.
            NoReply: the connection ended without a byte. A kept connection that does so at once was
                most likely dead before, so that case is tried once more, on a new one.
            TimedOut: no head came in time.
            Cut, BadReply: the head was not whole, or not HTTP.
        """
        head = encode_head(origin, method=method, path=path, headers=headers, length=len(body))
        head_only = method == b"HEAD"
        connection = self._take(origin)
        clock = asyncio.get_running_loop().time
        begun, left = clock(), timeout
        while True:
            if connection is None:
                connection = await self._connect(origin, connect_timeout)
                if timeout is not None:
                    left = timeout - (clock() - begun)
            waiter = connection.exchange(head, body, head_only=head_only, timeout=left)
            try:
                return await waiter
            except NoReply as error:
                # NB: a connection that was dead before says so at once; what closes later has most
                # likely read the request, and begun to work on it.
                if error.fresh or self._closed or clock() - begun > STALE_SECONDS:
                    raise
            except BaseException:
                _abandon(connection, waiter)
                raise
            self._retries += 1
            connection = None

    def counts(self) -> Counts:
        """What the pool holds and has done, for metrics and for tests of leaks."""
        return Counts(
            open=len(self._open),
            idle=sum(len(kept) for kept in self._idle.values()),
            connects=self._connects,
            reuses=self._reuses,
            retries=self._retries,
        )

    async def close(self) -> None:
        """Drops every connection, busy ones too, and returns when all sockets are closed."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.watch.stop()
        self._idle.clear()
        for connection in list(self._open):
            connection.fail(Cut(f"{connection.origin}: the pool was closed"))
        if self._open:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    # What a connection calls.

    def idle(self, connection: Connection) -> None:
        """A connection can take another request."""
        loop = asyncio.get_running_loop()
        connection.since = loop.time()
        kept = self._idle.get(connection.origin)
        if kept is None:
            kept = self._idle[connection.origin] = deque()
        kept.append(connection)
        if len(kept) > self._max_idle:
            kept.popleft().abort()
        if self._timer is None:
            self._timer = loop.call_later(self._idle_seconds, self._expire)

    def lost(self, connection: Connection) -> None:
        """A socket is closed."""
        self._open.discard(connection)
        kept = self._idle.get(connection.origin)
        if kept and connection in kept:
            kept.remove(connection)
        if self._drained is not None and not self._open and not self._drained.done():
            self._drained.set_result(None)

    def _take(self, origin: Origin) -> Connection | None:
        kept = self._idle.get(origin)
        while kept:
            # NB: the one used last; so the others grow old and expire when there is less to do.
            connection = kept.pop()
            if connection.usable():
                self._reuses += 1
                return connection
        return None

    async def _connect(self, origin: Origin, timeout: float) -> Connection:
        self._check_open(origin)
        loop = asyncio.get_running_loop()
        connection = await dial(
            origin,
            lambda: Connection(origin, self, loop),
            timeout=timeout,
            context=self._context(origin) if origin.tls else None,
        )
        try:
            self._check_open(origin)
        except ConnectFailed:
            connection.abort()
            raise
        self._connects += 1
        # NB: not from `connection_made`: on uvloop a dial that is cancelled in that very turn
        # closes its socket without `connection_lost`.
        if not connection.closed:
            self._open.add(connection)
        return connection

    def _check_open(self, origin: Origin) -> None:
        if self._closed:
            raise ConnectFailed("closed", f"{origin}: the pool is closed")

    def _context(self, origin: Origin) -> ssl.SSLContext:
        if origin.security is not None:
            return origin.security.context
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for origin, kept in list(self._idle.items()):
            while kept and now - kept[0].since >= self._idle_seconds:
                kept.popleft().abort()
            if not kept:
                del self._idle[origin]
        oldest = min((kept[0].since for kept in self._idle.values()), default=None)
        self._timer = None
        if oldest is not None:
            self._timer = loop.call_at(oldest + self._idle_seconds, self._expire)


def _abandon(connection: Connection, waiter: asyncio.Future[Reply]) -> None:
    # NB: a task can be cancelled in the turn in which its future gets its result; by then the
    # connection may be idle again, or already another request's.
    if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
        waiter.result().close()
    else:
        connection.abort()
