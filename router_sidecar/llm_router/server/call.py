"""One request, and the way to answer it.

A handler uses it from its task alone. It never waits: a client that reads too slowly is told of by
`write`, and that it reads again by `on_resume`. What is written for a client that is gone vanishes.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from llm_router.errors import Problem
from llm_router.server.head import encode_head

Headers = Sequence[tuple[bytes, bytes]]

#: Statuses whose answer has no body and says nothing of one.
_BODILESS = frozenset({204, 304})

_CHUNKED = b"transfer-encoding: chunked\r\n"
_CLOSE = b"connection: close\r\n"
_KEEP = b"connection: keep-alive\r\n"


class Line(Protocol):
    """The connection, as far as a call knows it."""

    paused: bool

    @property
    def draining(self) -> bool:
        """Whether this answer should be the connection's last."""

    def send(self, data: bytes) -> None:
        """Part of the answer."""

    def finish(self, call: "Call", data: bytes, body: bytes = b"") -> None:
        """The last of the answer, in one or two parts."""

    def drop(self, call: "Call", *, flush: bool) -> None:
        """The answer ends here, and the connection with it."""


class Call:
    """A request that has arrived whole, or that is refused.

    Attributes:
        method: as `GET`.
        path: percent-decoded, without the query.
        query: as sent, without its `?`.
        headers: in the order sent, names in lower case.
        body: all of it; `b""` when the call is refused.
        refusal: why the server will not have the request served; the handler tells the client.
        gone: whether the client went away, or can't be reached any more.
        started: whether the answer's head was written.
        on_resume: called when the client reads again, after `write` returned False.
    """

    __slots__ = (
        "_chunked",
        "_fields",
        "_line",
        "_modern",
        "_mute",
        "body",
        "ended",
        "gone",
        "headers",
        "keep",
        "method",
        "on_resume",
        "path",
        "query",
        "refusal",
        "running",
        "started",
        "task",
    )

    def __init__(
        self,
        line: Line,
        *,
        method: str,
        target: tuple[str, bytes],
        headers: tuple[tuple[bytes, bytes], ...],
        fields: dict[bytes, bytes],
        modern: bool,
        keep: bool,
    ) -> None:
        self.method = method
        self.path, self.query = target
        self.headers = headers
        self.body = b""
        self.refusal: Problem | None = None
        self.gone = False
        self.started = False
        self.on_resume: Callable[[], None] | None = None
        # The server's own; a handler has no use for them.
        self.ended = False
        self.keep = keep
        self.running = False
        self.task: asyncio.Task[None] | None = None
        self._line = line
        self._fields = fields
        self._modern = modern
        self._mute = method == "HEAD"
        self._chunked = False

    def header(self, name: bytes) -> bytes | None:
        """The value of a header, the first of a repeated one; `name` in lower case."""
        return self._fields.get(name)

    def respond(self, status: int, *, headers: Headers, body: bytes) -> None:
        """Sends the whole answer, in one write.

        Raises:
            ValueError: the status or a header can't be sent; nothing was.
        """
        bare = status in _BODILESS
        framing = b"" if bare else b"content-length: %d\r\n" % len(body)
        self._open(status, headers, framing=framing, data=b"" if bare or self._mute else body)

    def begin(self, status: int, *, headers: Headers) -> None:
        """Starts an answer whose length is not known; `end` must follow.

        Raises:
            ValueError: the status or a header can't be sent; nothing was.
        """
        bare = status in _BODILESS
        if not self._modern and not bare:
            self.keep = False  # NB: to HTTP/1.0 the end of the connection is the end of the body
        chunked = self._modern and not bare
        self._open(status, headers, framing=_CHUNKED if chunked else b"", data=None)
        self._mute = self._mute or bare
        self._chunked = chunked

    def write(self, piece: bytes) -> bool:
        """Sends a piece of the answer at once; whether the client keeps up.

        After False, more may be written when `on_resume` has been called.
        """
        if self.gone:
            return True
        self._check_open()
        if piece and not self._mute:
            if self._chunked:
                piece = b"%x\r\n%b\r\n" % (len(piece), piece)
            self._line.send(piece)
        return not self._line.paused

    def end(self, last: bytes = b"") -> None:
        """Sends the last piece and the end of the answer, in one write."""
        if self.gone:
            return
        self._check_open()
        if self._mute:
            last = b""
        elif self._chunked:
            last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last) if last else b"0\r\n\r\n"
        self.ended = True
        self._line.finish(self, last)

    def cut(self) -> None:
        """Closes the connection so that what was sent can't look like a whole answer."""
        if not self.ended and not self.gone:
            self.ended = True
            # NB: chunks without their end are cut whatever follows, so what was written may arrive.
            self._line.drop(self, flush=self.started and self._chunked and not self._mute)

    # What the server calls.

    def stop(self) -> None:
        """Cancels the handler."""
        # NB: a task that is cancelled before its first step would never run its `finally`; such a
        # task looks for itself whether it should still begin.
        if self.running and self.task is not None:
            self.task.cancel()

    def _open(self, status: int, headers: Headers, *, framing: bytes, data: bytes | None) -> None:
        """Sends the head; with `data` the answer ends there."""
        if self.started:
            raise RuntimeError("the call has been answered already")
        line = self._line
        if line.draining:
            self.keep = False
        if not self.keep:
            framing += _CLOSE
        elif not self._modern:
            framing += _KEEP
        head = encode_head(status, headers, framing=framing)
        self.started = True
        if self.gone:
            return
        if self.ended:
            raise RuntimeError("the call has been cut")
        if data is None:
            line.send(head)
        else:
            self.ended = True
            line.finish(self, head, data)

    def _check_open(self) -> None:
        if not self.started:
            raise RuntimeError("the answer has no head yet: call begin first")
        if self.ended:
            raise RuntimeError("the answer has ended already")
