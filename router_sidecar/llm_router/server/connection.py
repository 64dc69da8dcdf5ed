"""One socket of a client: request bytes in, one call answered at a time, its answer out.

Runs wholly inside the loop's callbacks; it has no timer. Input goes on being read while a call is
answered, because that is how a client that leaves is noticed; what arrives then is kept unread, up
to a bound.
"""

import asyncio
import contextlib
import json
import socket
import struct
from collections import deque
from typing import Protocol, cast

from llm_router.server.call import Call
from llm_router.server.check import Refusal
from llm_router.server.head import encode_head
from llm_router.server.limits import Limits
from llm_router.server.reader import Reader
from llm_router.transport.watch import NEVER, Watch

#: Bytes of an answer that wait for the client before its handler is told to stop.
HIGH_WATER = 64 * 1024

#: Bytes that are kept for the requests after the one that is answered; then reading stops.
MAX_BACKLOG = 64 * 1024

#: Bytes that are parsed at a time. It bounds how many requests one read can turn into.
SLICE = 16 * 1024

#: How long what a client still sends is thrown away, so that it can read why it was refused.
LINGER_SECONDS = 2.0

#: A body of up to this size is copied behind the head, so that both leave as one piece.
_JOINED = 64 * 1024

# What a connection waits for.
_ANSWER, _REQUEST, _HEAD, _BODY = range(4)


class Owner(Protocol):
    """The server, as far as a connection knows it."""

    draining: bool
    limits: Limits
    watch: Watch

    def run(self, call: Call) -> None:
        """Answers a call, in a task of its own."""

    def lost(self, connection: "Connection") -> None:
        """The socket is closed."""


class Connection(asyncio.Protocol):
    """The protocol of one client's socket.

    Attributes:
        deadline: when to stop waiting, on the loop's clock.
        paused: whether the client reads too slowly.
    """

    __slots__ = (
        "_backlog",
        "_call",
        "_closing",
        "_held",
        "_limits",
        "_lingers",
        "_loop",
        "_owner",
        "_phase",
        "_queue",
        "_reader",
        "_refusal",
        "_transport",
        "_unread",
        "deadline",
        "paused",
    )

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self.deadline = NEVER
        self.paused = False
        self._owner = owner
        self._loop = loop
        self._limits = owner.limits
        self._reader = Reader(self, owner.limits)
        self._call: Call | None = None  # the one that is answered
        self._queue: deque[Call] = deque()  # those that one read has brought behind it
        self._refusal: Refusal | None = None  # the answer after all of these
        self._backlog = bytearray()
        self._held = False  # reading is paused
        self._closing = False  # no more is read or answered
        self._lingers = False  # and the client may still be sending
        self._unread = 0  # bytes of answers that waited when last looked at
        self._phase = _ANSWER

    # What the server calls.

    def retire(self) -> None:
        """Closes the connection if nothing has begun on it; else its next answer will."""
        if not (self._busy() or self._closing or self.paused):
            self._close()

    def abort(self) -> None:
        """Closes the socket at once. An answer that is under way ends in a reset."""
        if self._call is not None:
            self._reset()
        self._leave()
        self._closing = True
        self.deadline = NEVER
        self._transport.abort()

    # What a call calls.

    @property
    def draining(self) -> bool:
        """Whether every answer should be its connection's last."""
        return self._owner.draining

    def send(self, data: bytes) -> None:
        """Part of the answer."""
        self._transport.write(data)

    def finish(self, call: Call, data: bytes, body: bytes = b"") -> None:
        """The last of the answer; then the next request, or the end of the connection."""
        if len(body) <= _JOINED:
            self._transport.write(data + body)
        else:
            self._transport.writelines((data, body))
        self._call = None
        if call.keep:
            self._next()
        elif self._reader.spilled:
            self._linger()
        else:
            self._close()

    def drop(self, call: Call, *, flush: bool) -> None:
        """The answer ends here, and the connection with it."""
        self._call = None
        if flush:
            self._close()
        else:
            self._reset()
            self.abort()

    # What the reader calls.

    def ready(self, call: Call) -> None:
        """A request is whole."""
        if self._call is None and not self._queue and not self.paused:
            self._start(call)
        else:
            self._queue.append(call)

    def refuse(self, refusal: Refusal) -> None:
        """The last that was read is no request; the answers to those before it come first."""
        if self._call is None and not self._queue and not self.paused:
            self._answer(refusal)
        else:
            self._refusal = refusal

    # What the server's watch calls.

    def expire(self) -> None:
        """The deadline has passed."""
        reader, limits = self._reader, self._limits
        if self._lingers:
            self.abort()
        elif self.paused or self._closing:
            self._check_progress()
        elif self._call is not None:
            return
        elif reader.in_body:
            message = f"the request's body was not whole after {limits.body_seconds:g} s"
            self._answer(Refusal(408, message))
        elif reader.begun:
            message = f"the request's head was not whole after {limits.head_seconds:g} s"
            self._answer(Refusal(408, message))
        elif self._transport.get_write_buffer_size():
            self.abort()  # the client has not even read the last answer
        else:
            self._close()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """One read from the socket."""
        if self._closing or self._reader.done:
            return
        if self._call is not None or self.paused:
            self._hold(data)
            return
        self._feed(data)
        if self._call is None:
            self._wait()

    def eof_received(self) -> None:
        """The client will send nothing more, which is taken for its leaving."""
        if self._call is not None:
            self.abort()
        elif not self._closing:
            self._close()

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is closed, here or there."""
        self._leave()
        self._closing = True
        self.deadline = NEVER
        self._queue.clear()
        self._reader.close()
        self._owner.lost(self)

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self.paused = True
        self._watch_progress()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.paused = False
        call = self._call
        if self._closing:
            return
        if call is None:
            self._next()
        else:
            self.deadline = NEVER
            if call.on_resume is not None:
                call.on_resume()

    # Requests in, calls out.

    def _feed(self, data: bytes) -> None:
        """Reads on until a request is whole; the rest waits for its answer."""
        if len(data) <= SLICE:
            self._reader.feed(data)
            return
        for start in range(0, len(data), SLICE):
            if self._closing or self._reader.done:
                return
            if self._call is not None or self.paused:
                self._hold(data[start:])
                return
            self._reader.feed(data[start : start + SLICE])

    def _hold(self, data: bytes) -> None:
        self._backlog += data
        if len(self._backlog) > MAX_BACKLOG and not self._held:
            self._held = True
            self._transport.pause_reading()

    def _start(self, call: Call) -> None:
        self._call = call
        self._phase = _ANSWER
        self.deadline = NEVER
        self._owner.run(call)

    def _next(self) -> None:
        """Turns to what comes after an answer."""
        if self.paused:
            return  # NB: a client that does not read its answers does not get more of them.
        if self._queue:
            self._start(self._queue.popleft())
        elif self._refusal is not None:
            self._answer(self._refusal)
        else:
            if self._backlog:
                self._take_backlog()
            if self._call is None:
                self._wait()

    def _take_backlog(self) -> None:
        data = bytes(self._backlog)
        self._backlog.clear()
        self._feed(data)
        if self._held and len(self._backlog) <= MAX_BACKLOG and not self._closing:
            self._held = False
            self._transport.resume_reading()

    def _wait(self) -> None:
        """Sets the deadline for what the client is to send next, once for each."""
        reader, limits = self._reader, self._limits
        if self._closing:
            return
        if reader.in_body:
            if reader.expects():
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            phase, seconds = _BODY, limits.body_seconds
        elif reader.begun:
            phase, seconds = _HEAD, limits.head_seconds
        elif self._owner.draining and self._phase == _ANSWER:
            self._close()
            return
        else:
            phase, seconds = _REQUEST, limits.keep_alive_seconds
        if phase != self._phase:
            self._phase = phase
            self._set_deadline(seconds)

    def _busy(self) -> bool:
        """Whether a request has begun."""
        return (
            self._call is not None
            or self._reader.begun
            or bool(self._queue)
            or bool(self._backlog)
            or self._refusal is not None
        )

    # Ends.

    def _leave(self) -> None:
        """The client is gone: whoever answers it is stopped."""
        call = self._call
        if call is not None:
            self._call = None
            call.gone = True
            call.stop()

    def _answer(self, refusal: Refusal) -> None:
        """Answers in the server's own words, and ends the connection."""
        body = json.dumps({"error": refusal.message}).encode()
        framing = b"content-length: %d\r\nconnection: close\r\n" % len(body)
        headers = ((b"content-type", b"application/json"),)
        self._transport.write(encode_head(refusal.status, headers, framing=framing) + body)
        self._linger()

    def _linger(self) -> None:
        """Says that nothing more follows, and reads on for a while.

        A socket that is closed with input unread resets the connection, and the client may lose the
        answer that is on its way.
        """
        self._closing = self._lingers = True
        if self._held:
            self._held = False
            self._transport.resume_reading()
        self._transport.write_eof()
        self._set_deadline(LINGER_SECONDS)

    def _close(self) -> None:
        """Closes the socket once the client has read what was written."""
        self._closing = True
        self._transport.close()
        self._watch_progress()

    def _reset(self) -> None:
        """Lets the socket end with a reset.

        To HTTP/1.0 a proper end of the connection is the proper end of the answer.
        """
        with contextlib.suppress(OSError):
            sock = self._transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _watch_progress(self) -> None:
        self._unread = self._transport.get_write_buffer_size()
        self._set_deadline(self._limits.stall_seconds)

    def _check_progress(self) -> None:
        """Gives up a client that has read nothing since the last look."""
        if self._transport.get_write_buffer_size() < self._unread:
            self._watch_progress()
        else:
            self.abort()

    def _set_deadline(self, seconds: float) -> None:
        self.deadline = self._loop.time() + seconds
        self._owner.watch.start()
