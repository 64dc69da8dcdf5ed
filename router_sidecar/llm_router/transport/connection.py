"""One socket to an upstream: request bytes out, `Reply` objects in, one exchange at a time.

Runs wholly inside the loop's callbacks; it has no task and no timer. It decides whether the socket
can serve another exchange: only when the response ended by its own framing, nothing followed it,
and the request had been sent whole. Everything else closes the socket.
"""

import asyncio
import ssl
from typing import Protocol, cast

from httptools import HttpParserError, HttpResponseParser

from llm_router.transport.errors import BadReply, Cut, NoReply, TimedOut, TransportError
from llm_router.transport.origin import Origin
from llm_router.transport.reply import Headers, Reply
from llm_router.transport.watch import NEVER, Watch

#: Bytes of a head, and of anything else that is neither head nor body: trailers, chunk extensions.
MAX_HEAD = 64 * 1024

#: A body of up to this size is copied behind the head, so that both leave as one piece.
_JOINED = 64 * 1024

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


class Owner(Protocol):
    """The pool, as far as a connection knows it."""

    watch: Watch

    def idle(self, connection: "Connection") -> None:
        """An exchange is over and the connection can take another."""

    def lost(self, connection: "Connection") -> None:
        """The socket is closed."""


class Connection(asyncio.Protocol):
    """The protocol of one upstream socket.

    Attributes:
        origin: where it leads.
        closed: whether it is of no more use.
        since: when it became idle, on the loop's clock; the pool's.
        deadline: when to stop waiting, on the loop's clock.
    """

    # NB: the parser looks its callbacks up on this object once. `on_body` is a list's own `append`,
    # so a piece of a body costs no Python call.
    __slots__ = (
        "_exchanges",
        "_head_only",
        "_headers",
        "_keep",
        "_loop",
        "_owner",
        "_parser",
        "_paused",
        "_pieces",
        "_quiet",
        "_reply",
        "_transport",
        "_waiter",
        "_whole",
        "closed",
        "deadline",
        "on_body",
        "origin",
        "since",
    )

    def __init__(self, origin: Origin, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self.origin = origin
        self.closed = False
        self.since = 0.0
        self.deadline = NEVER
        self._owner = owner
        self._loop = loop
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        self._waiter: asyncio.Future[Reply] | None = None  # set while the head is awaited
        self._reply: Reply | None = None  # set while the body is
        self._exchanges = 0
        self._quiet = 0  # bytes since the exchange began, or since the body's last piece
        self._head_only = False
        self._keep = False
        self._whole = False
        self._paused = False

    # What the pool calls.

    def exchange(
        self, head: bytes, body: bytes, *, head_only: bool, timeout: float | None
    ) -> asyncio.Future[Reply]:
        """Sends a request; the future ends with the head of its response.

        Whoever stops waiting for the future must call `abort`.
        """
        self.wait(timeout)
        self._exchanges += 1
        self._quiet = 0
        self._head_only = head_only
        self._whole = False
        self._waiter = waiter = self._loop.create_future()
        if self.closed:
            # NB: between the end of a dial and its first request, and then nothing else would end.
            self._ended("closed", proper=False)
        elif len(body) <= _JOINED:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        return waiter

    def usable(self) -> bool:
        """Whether an idle connection can be written to, as far as is known here."""
        return not (self.closed or self._transport.is_closing())

    def fail(self, error: TransportError) -> None:
        """Ends the exchange with `error`, and the connection with it."""
        waiter, reply = self._waiter, self._reply
        self.abort()
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        if reply is not None:
            reply.end(error)

    def abort(self) -> None:
        """Closes the socket at once, or as soon as it is there. Wakes nobody."""
        self._waiter = self._reply = None
        self.deadline = NEVER
        if not self.closed:
            self.closed = True
            if hasattr(self, "_transport"):
                self._transport.abort()

    # What the pool's watch calls.

    def expire(self) -> None:
        """The deadline has passed."""
        if self._waiter is not None:
            self.fail(TimedOut(f"{self.origin}: no response came in time"))
        elif self._reply is not None:
            self._reply.expire()

    # What the reply calls, besides `abort`.

    def pause(self) -> None:
        """Reads no more; the upstream notices when its buffers are full."""
        if not self._paused and self.usable():
            self._paused = True
            self._transport.pause_reading()

    def wait(self, timeout: float | None) -> None:
        """Sets the deadline for whatever comes next."""
        if timeout is None:
            self.deadline = NEVER
        else:
            self.deadline = self._loop.time() + timeout
            self._owner.watch.start()

    def resume(self) -> None:
        """Reads on after the reader has taken what was waiting."""
        if self._paused and self.usable():
            self._paused = False
            self._transport.resume_reading()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open, and for TLS the certificate is verified."""
        self._transport = cast(asyncio.Transport, transport)
        self._parser = HttpResponseParser(self)
        if self.closed:  # by a dial that was cancelled in this turn of the loop
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """One read from the socket: parse it, then wake the reader once."""
        if self._waiter is None and self._reply is None:
            # NB: bytes that nobody asked for would be taken for the next response.
            self.abort()
            return
        self._quiet += len(data)
        error: Exception | None = None
        try:
            self._parser.feed_data(data)
        except HttpParserError as raised:
            error = raised
        if self._whole:
            self._finish(clean=error is None)
            return
        if self._pieces:
            self._deliver()
        if error is not None:
            self.fail(self._bad(error))
        elif self._quiet > MAX_HEAD:
            self.fail(self._bad(f"a head, trailer or chunk extension of over {MAX_HEAD} bytes"))

    def eof_received(self) -> None:
        """The upstream has closed; nothing after this counts."""
        self._ended("closed", proper=self._announced())
        # NB: a plain close would first flush a request that the upstream may never read.
        self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is closed, here or there."""
        self._ended(str(error or "lost"), proper=False)
        self.closed = True
        # NB: parser and connection hold each other; without this they wait for the collector.
        del self._parser
        self._owner.lost(self)

    # What the parser calls, all of it inside `data_received`.

    def on_message_begin(self) -> None:
        """A status line follows: of this response, or one too many."""
        if self._whole:
            raise self._bad("bytes after the end of the response")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or one trailer; trailers are dropped."""
        if self._reply is None:
            self._headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        """The head is whole: an interim one is skipped, any other ends the wait for it."""
        waiter, parser = self._waiter, self._parser
        headers = tuple(self._headers)
        self._headers.clear()
        status = parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            return
        keep = parser.should_keep_alive()
        self._check(status, headers, keep=keep)
        if waiter is None or waiter.done():
            # NB: the task that waited was cancelled in this very turn of the loop.
            self.abort()
            return
        self._keep = keep and not self._head_only
        self._whole = self._head_only
        self._reply = reply = Reply(self, status, headers)
        self._waiter = None
        waiter.set_result(reply)

    def on_message_complete(self) -> None:
        """The response is whole by its own framing, or an interim one is."""
        self._whole = self._reply is not None

    def _piece(self) -> bytes:
        pieces = self._pieces
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return piece

    def _deliver(self) -> None:
        piece, reply = self._piece(), self._reply
        self._quiet = 0
        if reply is not None and not reply.feed(piece):
            self.pause()

    def _finish(self, *, clean: bool) -> None:
        piece, reply = self._piece(), self._reply
        self._reply = None
        self.deadline = NEVER
        # NB: an upstream may answer before it has read the request, and then never read the rest.
        if not clean or not self._keep or self._transport.get_write_buffer_size():
            self.abort()
        else:
            if self._paused:
                self.resume()
            self._owner.idle(self)
        # NB: last, because a sink may send the next request, and that over this connection.
        if reply is not None:
            reply.end(None, b"" if self._head_only else piece)

    def _ended(self, how: str, *, proper: bool) -> None:
        reply = self._reply
        if reply is not None:
            if proper and not any(name in _FRAMING for name, _ in reply.headers):
                self._finish(clean=False)
            else:
                self.fail(Cut(f"{self.origin}: the connection ended inside the body ({how})"))
        elif self._waiter is not None and self._quiet:
            self.fail(Cut(f"{self.origin}: the connection ended inside the head ({how})"))
        elif self._waiter is not None:
            message = f"{self.origin}: the connection ended without a response ({how})"
            self.fail(NoReply(message, fresh=self._exchanges == 1))

    def _announced(self) -> bool:
        """Whether the upstream itself ended the connection, and not somebody on the way."""
        tls: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            # NB: nothing is left to read; only after TLS's own closing alert does this return.
            return tls.read(1) == b""
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLError:
            return False

    def _check(self, status: int, headers: Headers, *, keep: bool) -> None:
        """Refuses heads that the parser takes and that leave the body's end or coding in doubt."""
        if status < 200:
            raise self._bad(f"status {status} was not asked for")
        # NB: asking for the version is dear; every version but 1.1 closes unless told otherwise.
        if not keep and self._parser.get_http_version() not in ("1.1", "1.0"):
            raise self._bad("a version of HTTP other than 1.0 and 1.1")
        for name, value in headers:
            if name == b"transfer-encoding" and value.lower() != b"chunked":
                raise self._bad("a transfer coding other than chunked")
        # NB: a head that ends in the same read as much of the body counts by its own size.
        if self._quiet > MAX_HEAD and sum(len(n) + len(v) + 4 for n, v in headers) > MAX_HEAD:
            raise self._bad(f"a head of over {MAX_HEAD} bytes")

    def _bad(self, what: object) -> BadReply:
        # NB: what a callback raises arrives as the context of the parser's own error.
        cause = what.__context__ if isinstance(what, HttpParserError) else None
        return cause if isinstance(cause, BadReply) else BadReply(f"{self.origin}: {what}")
