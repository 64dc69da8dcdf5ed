"""The bytes of one client -> its requests, whole, in order.

Feeds the parser and judges what it reports; does no I/O and knows no time. After `done` nothing
more is read: the last request was the client's last, or one was refused.
"""

import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from llm_router.errors import Code, Problem
from llm_router.server.call import Call, Line
from llm_router.server.check import CHUNKED, Headers, Refusal, body_length, split_target
from llm_router.server.limits import Limits

log = logging.getLogger(__name__)


class Taker(Line, Protocol):
    """The connection, as far as a reader knows it."""

    def ready(self, call: Call) -> None:
        """A request is whole, or refused with words that are the handler's to find."""

    def refuse(self, refusal: Refusal) -> None:
        """What arrives is not a request that can be served; the reader is done."""


class _Enough(Exception):
    """Stops the parser: nothing after this is wanted, and the taker knows."""


class Reader:
    """The request that is arriving.

    Attributes:
        done: nothing more is read.
        spilled: it ended in a body that was too large and that the client may still be sending.
    """

    # NB: the parser looks its callbacks up on this object once. `on_body` is a bytearray's own
    # `extend`, so a piece of a body costs no Python call; `on_header` is a closure, the cheapest
    # thing that takes a name and a value.
    __slots__ = (
        "_body",
        "_call",
        "_expects",
        "_headers",
        "_length",
        "_limits",
        "_parser",
        "_quiet",
        "_taker",
        "_target",
        "_upgrades",
        "done",
        "on_body",
        "on_header",
        "spilled",
    )

    def __init__(self, taker: Taker, limits: Limits) -> None:
        self.done = False
        self.spilled = False
        self._taker = taker
        self._limits = limits
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []  # once the head is whole, trailers
        self.on_header = _collector(self._headers)
        self._call: Call | None = None  # set from the end of the head to the end of the body
        self._body = bytearray()
        self.on_body = self._body.extend
        self._length = 0
        self._quiet = 0  # bytes since the request began, or since its body last grew
        self._expects = False
        self._upgrades = False
        self._parser = HttpRequestParser(self)

    @property
    def begun(self) -> bool:
        """Whether anything of a request has arrived."""
        return self._quiet > 0 or self._call is not None or self._target != b""

    @property
    def in_body(self) -> bool:
        """Whether a head is whole and its body is not."""
        return self._call is not None

    def expects(self) -> bool:
        """Whether the client waits to be told that its body is wanted; True once."""
        expects = self._expects and not self._body
        self._expects = False
        return expects

    def feed(self, data: bytes) -> None:
        """Reads on; the taker is told of what that completes."""
        before = len(self._body)
        self._quiet += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
        except HttpParserError as error:
            self._broken(error)
            return
        else:
            self._measure(before)
            return
        self._ignore_upgrade()
        if rest and not self.done:
            self.feed(rest)

    def close(self) -> None:
        """Reads no more, and lets go of what there is of a request."""
        self.done = True
        self._call = None
        self._body.clear()
        # NB: parser, reader and taker hold each other; without this they wait for the collector.
        del self._parser, self._taker

    # What the parser calls, all of it inside `feed`.

    def on_url(self, url: bytes) -> None:
        """The request target, or a piece of it."""
        self._target += url

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self._call is not None:
            return  # NB: of the head that stands for one that asked for an upgrade
        try:
            self._open()
        except Refusal as refusal:
            self._fail(refusal)
            raise _Enough from None

    def on_message_complete(self) -> None:
        """The request is whole."""
        call = self._call
        if self._upgrades or call is None:
            return
        if self._body:
            if len(self._body) > self._limits.max_body:
                self._spill(call)
                raise _Enough
            call.body = bytes(self._body)
            self._body.clear()
        self._headers.clear()
        self._call = None
        self._target = b""
        self._quiet = 0
        self._expects = False
        self.done = not call.keep
        self._taker.ready(call)
        if self.done:
            raise _Enough

    def _open(self) -> None:
        parser, limits = self._parser, self._limits
        headers = tuple(self._headers)
        fields = dict(headers)
        keep = parser.should_keep_alive()
        # NB: asking for the version is dear; every version but 1.1 closes unless told otherwise.
        plain = keep and b"connection" not in fields
        version = "1.1" if plain else parser.get_http_version()
        self._length = length = body_length(headers, fields, version=version)
        if len(fields) != len(headers):
            fields = dict(reversed(headers))
        # NB: a head that ends in the same read as much of the body counts by its own size.
        if self._quiet > limits.max_head and _size(self._target, headers) > limits.max_head:
            raise _head_too_large(limits)
        self._call = call = Call(
            self._taker,
            method=parser.get_method().decode(),
            target=split_target(self._target),
            headers=headers,
            fields=fields,
            modern=version == "1.1",
            keep=keep,
        )
        self._headers.clear()
        if length > limits.max_body:
            self._spill(call)
            raise _Enough
        self._expects = length != 0 and version == "1.1" and b"expect" in fields
        self._upgrades = b"upgrade" in fields and parser.should_upgrade()

    def _measure(self, before: int) -> None:
        call, limits = self._call, self._limits
        if call is None:
            if self._quiet > limits.max_head:
                self._fail(_head_too_large(limits))
        elif len(self._body) > limits.max_body:
            self._spill(call)
        elif len(self._body) > before:
            self._quiet = 0
        elif self._quiet > 2 * limits.max_head:
            self._fail(Refusal(400, "a trailer or a chunk extension is too long"))

    def _ignore_upgrade(self) -> None:
        """Goes on with HTTP/1.1 where the parser would leave it.

        A head that asks for an upgrade ends the parser's work, whatever body was announced; clients
        that offer h2c with every request send one. So a new parser gets a head that says no more
        than how the body ends.
        """
        self._upgrades = False
        self._parser = HttpRequestParser(self)
        if self._length == CHUNKED:
            self._parser.feed_data(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
        elif self._length:
            head = b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % self._length
            self._parser.feed_data(head)
        else:
            with contextlib.suppress(_Enough):
                self.on_message_complete()

    def _broken(self, error: HttpParserError) -> None:
        if self.done:
            return  # NB: by a callback's own doing; it has told the taker why.
        if isinstance(error, HttpParserCallbackError):
            log.error("request_not_parsed", exc_info=error)
            self._fail(Refusal(500, "the request could not be read: see the router's log"))
        else:
            self._fail(Refusal(400, f"the request is not proper HTTP/1.1: {error}"))

    def _fail(self, refusal: Refusal) -> None:
        self.done = True
        self._call = None
        self._body.clear()
        self._taker.refuse(refusal)

    def _spill(self, call: Call) -> None:
        """Hands on a request whose body is too large, without the body."""
        self.done = self.spilled = True
        self._call = None
        self._body.clear()
        message = f"the body is over {self._limits.max_body} bytes (LLM_ROUTER_MAX_BODY_BYTES)"
        call.refusal = Problem(Code.TOO_LARGE, message)
        call.keep = False
        self._taker.ready(call)


def _collector(headers: list[tuple[bytes, bytes]]) -> Callable[[bytes, bytes], None]:
    append = headers.append

    def collect(name: bytes, value: bytes) -> None:
        append((name.lower(), value.rstrip()))

    return collect


def _size(target: bytes, headers: Headers) -> int:
    return len(target) + sum(len(name) + len(value) + 4 for name, value in headers)


def _head_too_large(limits: Limits) -> Refusal:
    return Refusal(431, f"the request's head is over {limits.max_head} bytes")
