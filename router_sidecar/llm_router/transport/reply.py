"""One response, as its reader sees it: the head at once, the body piece by piece as it arrives.

The connection puts pieces in. A reader takes them out with `read`, and a read from the socket wakes
it at most once; or a `Sink` is handed each of them at once, and none costs a task, a future or a
closure. A reply lets go of its connection as soon as the body has arrived whole or has failed: from
then on it holds only bytes, and the connection serves others.
"""

import asyncio
from typing import Protocol

from llm_router.transport.errors import Cut, TimedOut, TooLarge, TransportError

Headers = tuple[tuple[bytes, bytes], ...]

#: Bytes of a body that wait unread before the socket is no longer read from.
HIGH_WATER = 256 * 1024


class Source(Protocol):
    """The connection, as far as a reply knows it."""

    def wait(self, timeout: float | None) -> None:
        """The reader waits, for so many seconds at most; then `Reply.expire` is called."""

    def pause(self) -> None:
        """Nothing can be taken now."""

    def resume(self) -> None:
        """The reader has taken what was waiting."""

    def abort(self) -> None:
        """Nobody wants the rest."""


class Sink(Protocol):
    """What a body is handed to. Its methods return at once and do not raise.

    Inside `data` it may call the reply's `close`, `release`, `pause` and `expect`.
    """

    def data(self, piece: bytes) -> None:
        """What one read from the socket gave of the body; never empty."""

    def end(self, error: TransportError | None) -> None:
        """Nothing more will come: the body is whole, or `error` tells why not. Called once."""


class _Nowhere:
    """Takes what nobody wants."""

    __slots__ = ()

    def data(self, piece: bytes) -> None:
        pass

    def end(self, error: TransportError | None) -> None:
        pass


_NOWHERE = _Nowhere()


class Reply:
    """A response whose head has arrived.

    Attributes:
        status: 200 to 999; interim responses are never seen.
        headers: in the order sent, names in lower case.
    """

    __slots__ = (
        "_error",
        "_held",
        "_pieces",
        "_sink",
        "_source",
        "_timeout",
        "_waiter",
        "_waiting",
        "headers",
        "status",
    )

    def __init__(self, source: Source, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self._source: Source | None = source
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: TransportError | None = None
        self._sink: Sink | None = None
        self._timeout: float | None = None  # of the sink
        self._held = False  # by the sink

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; `name` in lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    async def read(self, timeout: float | None = None) -> bytes:
        """All of the body that has arrived since the last call, waiting for some if none has.

        Args:
            timeout: seconds to wait. Much cheaper than `asyncio.timeout`, and up to `watch.TICK`
                late.

        Returns:
            `b""` when the body has ended as it should. Without a length or chunks that is the end
            of the connection, which looks the same when the upstream dies: there the caller needs
            an end of its own.

        Raises:
            TimedOut: nothing came in time; the connection is closed.
            Cut: the connection ended before the body did, or this reply was closed.
            BadReply: the body's framing broke.
        """
        pieces = self._pieces
        while not pieces:
            if self._error is not None:
                raise self._error
            if self._source is None:
                return b""
            await self._arrival(self._source, timeout)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if self._waiting >= HIGH_WATER and self._source is not None:
            self._source.resume()
        self._waiting = 0
        return data

    async def read_all(self, limit: int, timeout: float | None = None) -> bytes:
        """The whole body, when it is no longer than `limit` bytes; closes the reply when it is.

        Args:
            timeout: seconds to wait for each piece.

        Raises:
            TooLarge: the body is longer.
            TimedOut, Cut, BadReply: as for `read`.
        """
        parts: list[bytes] = []
        size = 0
        while part := await self.read(timeout):
            size += len(part)
            if size > limit:
                self.close()
                raise TooLarge(f"the response's body is longer than {limit} bytes")
            parts.append(part)
        return b"".join(parts)

    def pipe(self, sink: Sink, *, timeout: float | None) -> None:
        """Hands the body to a sink from now on: what has arrived at once, the rest as it arrives.

        Whatever has arrived by now comes before this returns, and so does the end if that is here.
        When the body ends as it should, its connection is back in the pool before the sink hears of
        it. A sink that raises loses its connection and gets a `Cut`, with what it raised as cause.

        Args:
            timeout: seconds without a piece until the connection is closed and the end is a
                `TimedOut`; up to `watch.TICK` late.
        """
        if self._waiter is not None or self._sink is not None:
            raise RuntimeError("this response has a reader already")
        self._sink = sink
        self.expect(timeout)
        if self._pieces:
            piece = b"".join(self._pieces)
            self._pieces.clear()
            try:
                sink.data(piece)
            except Exception as error:
                self._broken(error)
        stopped, self._waiting = self._waiting >= HIGH_WATER, 0
        if self._source is None:
            self._tell(self._error)
        elif stopped and not self._held:
            self._source.resume()

    def expect(self, timeout: float | None) -> None:
        """Sets how long the sink waits for a piece, from now on."""
        self._timeout = timeout
        if self._source is not None and not self._held:
            self._source.wait(timeout)

    def pause(self) -> None:
        """Reads no more from the socket, so that the upstream has to wait. No time runs meanwhile.

        The sink may still get what had been read, and an end that needs no reading.
        """
        self._held = True
        if self._source is not None:
            self._source.pause()
            self._source.wait(None)

    def resume(self) -> None:
        """Reads on after `pause`."""
        self._held = False
        if self._source is not None:
            self._source.resume()
            self._source.wait(self._timeout)

    def close(self) -> None:
        """Ends the use of this reply; drops the connection at once if the body was still coming.

        A dropped connection is how an inference host learns that it can stop generating. A sink
        hears nothing more.
        """
        source, unread = self._source, bool(self._pieces)
        self._sink = None
        self._pieces.clear()
        if source is not None:
            self.end(Cut("the response was closed here before its end"))
            source.abort()
        elif unread:
            self._error = Cut("the response was closed here before it was read")

    def release(self, within: float) -> None:
        """Ends the use of this reply, and lets a body that is about to end do so.

        Returns at once. Whatever comes within that many seconds is dropped; if the body ends by
        then, its connection serves others, else it is closed. A sink hears nothing more.
        """
        source = self._source
        if source is None or within <= 0:
            self.close()
            return
        self._pieces.clear()
        self._error = Cut("the response was released here before its end")
        self._wake()
        self._sink = _NOWHERE
        self._waiting = 0
        self._timeout = None
        source.resume()
        source.wait(within)

    # What the connection calls.

    def feed(self, piece: bytes) -> bool:
        """Takes a piece; returns whether the socket should be read on."""
        sink = self._sink
        if sink is None:
            self._pieces.append(piece)
            self._waiting += len(piece)
            self._wake()
            return self._waiting < HIGH_WATER
        if self._timeout is not None and self._source is not None and not self._held:
            self._source.wait(self._timeout)
        try:
            sink.data(piece)
        except Exception as error:
            self._broken(error)
        return True

    def end(self, error: TransportError | None, piece: bytes = b"") -> None:
        """Nothing more will come but `piece`: the body is whole, or `error` tells why not."""
        self._source = None
        self._error = error
        if piece:
            self.feed(piece)
        if self._sink is not None:
            self._tell(error)
        else:
            self._wake()

    def expire(self) -> None:
        """The time to wait is over; of no effect when nobody waits."""
        source = self._source
        if source is not None and (self._waiter is not None or self._sink is not None):
            source.abort()
            self.end(TimedOut("no more of the response's body came in time"))

    def _tell(self, error: TransportError | None) -> None:
        sink, self._sink = self._sink, None
        if sink is None:
            return
        try:
            sink.end(error)
        except Exception as raised:
            # NB: whoever called is the loop, the watch or another exchange: none may suffer.
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a response's sink failed at its end", "exception": raised}
            )

    def _broken(self, error: Exception) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.abort()
        self._error = Cut("the response was closed here: what it was handed to failed")
        self._error.__cause__ = error
        self._tell(self._error)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            # NB: a reader that was cancelled in this turn of the loop has done so to its future.
            if not waiter.done():
                waiter.set_result(None)

    async def _arrival(self, source: Source, timeout: float | None) -> None:
        if self._waiter is not None or self._sink is not None:
            raise RuntimeError("two tasks read one response")
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        source.wait(timeout)
        try:
            await waiter
        except BaseException:
            self.close()
            raise
        finally:
            self._waiter = None
