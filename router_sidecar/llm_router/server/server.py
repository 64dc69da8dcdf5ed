"""The listener and all that it has taken on: connections, calls, their end.

Every call is answered in one task, which ends with the answer, with the client, or with the drain.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from llm_router.errors import Code, Problem
from llm_router.server.call import Call
from llm_router.server.connection import Connection
from llm_router.server.limits import Limits
from llm_router.transport.watch import Watch

log = logging.getLogger(__name__)

Handler = Callable[[Call], Coroutine[Any, Any, None]]

#: Connections that may wait to be accepted.
BACKLOG = 1024

#: How long a drain waits for calls that it has cancelled, and then for their last bytes.
GRACE_SECONDS = 1.0

_JSON = ((b"content-type", b"application/json"),)
_FAILED = b'{"error": "the router failed to answer: see its log"}'
_ENDING = b'{"error": "the router is shutting down: send the request again"}'


class Server:
    """Serves HTTP/1.1 on one socket, with one handler.

    Attributes:
        draining: whether every answer is its connection's last.
        limits: what a client may take.
        watch: the deadlines of all connections.
    """

    def __init__(self, handle: Handler, limits: Limits) -> None:
        self.draining = False
        self.limits = limits
        self._handle = handle
        self._connections: set[Connection] = set()
        self.watch = Watch(self._connections)
        self._calls: set[Call] = set()
        self._stopping = False
        self._listening: asyncio.Server | None = None
        self._over = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop

    @property
    def active(self) -> int:
        """Requests that are being answered."""
        return len(self._calls)

    async def start(self, listener: socket.socket) -> None:
        """Accepts connections on a bound socket, from now on."""
        self._loop = asyncio.get_running_loop()
        self._listening = await self._loop.create_server(
            self._connect, sock=listener, backlog=BACKLOG
        )

    async def drain(self, seconds: float) -> None:
        """Takes no more connections, and ends those there are.

        Idle ones are closed at once, the others after their answer. Calls that are not answered
        after `seconds` are cancelled, and connections that are still open soon after are aborted.
        """
        self.draining = True
        if self._listening is not None:
            self._listening.close()
        for connection in tuple(self._connections):
            connection.retire()
        if not await self._ended(seconds):
            self._stopping = True
            for call in tuple(self._calls):
                call.stop()
            await self._ended(GRACE_SECONDS)
        if self._connections or self._calls:
            log.warning(
                "drain_incomplete",
                extra={"connections": len(self._connections), "requests": len(self._calls)},
            )
            for connection in tuple(self._connections):
                connection.abort()
            await self._ended(GRACE_SECONDS)
        self.watch.stop()

    # What connections call.

    def run(self, call: Call) -> None:
        """Answers a call, in a task of its own."""
        if len(self._calls) >= self.limits.max_active and call.refusal is None:
            message = f"{self.limits.max_active} requests are being answered: try again"
            call.refusal = Problem(Code.OVERLOADED, message, retry_after="1")
            call.body = b""
        self._calls.add(call)
        call.task = self._loop.create_task(self._answer(call))

    def lost(self, connection: Connection) -> None:
        """The socket is closed."""
        self._connections.discard(connection)
        if self.draining:
            self._look()

    def _connect(self) -> Connection:
        connection = Connection(self, self._loop)
        self._connections.add(connection)
        return connection

    async def _answer(self, call: Call) -> None:
        call.running = True
        try:
            if not (call.gone or self._stopping):
                await self._handle(call)
        except Exception:
            log.exception("handler_failed", extra={"method": call.method, "path": call.path})
        finally:
            self._calls.discard(call)
            call.task = None  # NB: each holds the other
            if not call.ended and not call.gone:
                self._settle(call)
            if self.draining:
                self._look()

    def _settle(self, call: Call) -> None:
        """Ends an answer that its handler did not."""
        if call.started:
            call.cut()
        elif self.draining:
            call.respond(503, headers=_JSON, body=_ENDING)
        else:
            call.respond(500, headers=_JSON, body=_FAILED)

    def _look(self) -> None:
        if not self._connections and not self._calls:
            self._over.set()

    async def _ended(self, seconds: float) -> bool:
        """Waits until no connection and no call is left; whether that came in time."""
        self._look()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()
        return self._over.is_set()
