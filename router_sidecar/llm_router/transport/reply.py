"""One response, as its reader sees it: the head at once, the body piece by piece as it arrives.

The connection puts pieces in, the reader takes them out, and a read from the socket wakes the
reader at most once. A reply lets go of its connection as soon as the body has arrived whole or has
failed: from then on it holds only bytes, and the connection serves others.
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

    def resume(self) -> None:
        """The reader has taken what was waiting."""

    def abort(self) -> None:
        """Nobody wants the rest."""


class Reply:
    """A response whose head has arrived.

    Attributes:
        status: 200 to 999; interim responses are never seen.
        headers: in the order sent, names in lower case.
    """

    __slots__ = ("_error", "_pieces", "_source", "_waiter", "_waiting", "headers", "status")

    def __init__(self, source: Source, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self._source: Source | None = source
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: TransportError | None = None

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

    def close(self) -> None:
        """Ends the use of this reply; drops the connection at once if the body was still coming.

        A dropped connection is how an inference host learns that it can stop generating.
        """
        source = self._source
        if source is not None:
            self.end(Cut("the response was closed here before its end"))
            source.abort()
        elif self._pieces:
            self._pieces.clear()
            self._error = Cut("the response was closed here before it was read")

    # What the connection calls.

    def feed(self, piece: bytes) -> bool:
        """Takes a piece; returns whether the socket should be read on."""
        self._pieces.append(piece)
        self._waiting += len(piece)
        self._wake()
        return self._waiting < HIGH_WATER

    def end(self, error: TransportError | None) -> None:
        """Nothing more will come: the body is whole, or `error` tells why not."""
        self._source = None
        self._error = error
        self._wake()

    def expire(self) -> None:
        """The time to wait is over; of no effect when the reader does not wait."""
        source = self._source
        if source is not None and self._waiter is not None:
            self.end(TimedOut("no more of the response's body came in time"))
            source.abort()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            # NB: a reader that was cancelled in this turn of the loop has done so to its future.
            if not waiter.done():
                waiter.set_result(None)

    async def _arrival(self, source: Source, timeout: float | None) -> None:
        if self._waiter is not None:
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
