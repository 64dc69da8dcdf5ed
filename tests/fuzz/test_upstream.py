"""Any bytes in place of a response: a reply or a `TransportError`, and never a hang.

A connection serves again only what a second, independent parser takes for a whole response as well.
"""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.profile import fuzz, fuzz_each
from fuzz.shapes import changed, cut
from llm_router.transport import Origin, Reply, TransportError
from llm_router.transport.connection import Connection
from llm_router.transport.watch import Watch

ORIGIN = Origin.parse("http://upstream:80")

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

RESPONSES = (
    OK + b"Content-Length: 5\r\nX-A:  b \r\nx-a: c\r\n\r\nhello",
    OK + b"Content-Length: 0\r\n\r\n",
    CHUNKED + b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
    CHUNKED + b'3;a="b\\"c"\r\nabc\r\n0;x\r\nT: 1\r\nU: 2\r\n\r\n',
    CHUNKED + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2 + OK + b"Content-Length: 1\r\n\r\nx",
    b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx",
    OK + b"Connection: close\r\n\r\nto the end",
    b"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\n{}",
)

#: What makes two parsers disagree.
WORDS = (
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\r\n ", b"0\r\n\r\n", b"ffffffff\r\n"),
    *(b"Content-Length: 3\r\n", b"Content-Length: -1\r\n", b"Content-Length: +5\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n"),
    *(b"Connection: close\r\n", b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"HTTP/1.1 200 OK\r\n"),
    *(b"HTTP/2.0", b"1" * 25, b"0x5\r\n", b"5 \r\n", b";" * 20, b"Trailer: X\r\n"),
)


#: A status line, and empty lines before it.
STATUS = re.compile(rb"(\A|\r\n\r\n)[\r\n]*(HTTP/1\.[01] \d{3})(?: [^\r\n]*)?(?=\r\n)")


@dataclass
class Pipe(asyncio.Transport):
    """A transport that goes nowhere."""

    gone: bool = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def is_closing(self) -> bool:
        return self.gone

    def abort(self) -> None:
        self.gone = True


@dataclass
class Keeper:
    """An owner and a sink that write down what they are told."""

    idles: int = 0
    body: bytes = b""
    ends: list[TransportError | None] = field(default_factory=list)
    watch: Watch = field(default_factory=lambda: Watch([]))

    def idle(self, connection: Connection) -> None:
        self.idles += 1

    def lost(self, connection: Connection) -> None:
        pass

    def data(self, piece: bytes) -> None:
        assert piece
        self.body += piece

    def end(self, error: TransportError | None) -> None:
        self.ends.append(error)


@dataclass(frozen=True)
class Outcome:
    """What became of one exchange."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    error: type[TransportError] | None
    reused: bool


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def exchange(
    loop: asyncio.AbstractEventLoop, pieces: list[bytes], *, head_only: bool = False
) -> Outcome:
    """One request, its response in these pieces, and then the end of the connection."""
    keeper, pipe = Keeper(), Pipe()
    connection = Connection(ORIGIN, keeper, loop)
    connection.connection_made(pipe)
    waiter = connection.exchange(b"head", b"", head_only=head_only, timeout=None)
    reply: Reply | None = None
    for piece in pieces:
        if pipe.gone:
            break
        connection.data_received(piece)
        if reply is None and waiter.done() and waiter.exception() is None:
            reply = waiter.result()
            reply.pipe(keeper, timeout=None)
    # NB: bytes that follow a response close a connection that would have been used again.
    reused = keeper.idles > 0 and not pipe.gone
    if not pipe.gone:
        connection.eof_received()
    assert pipe.gone
    connection.connection_lost(None)
    assert waiter.done(), "whoever waits for the head would wait for ever"
    failure = waiter.exception()
    if failure is not None:
        assert isinstance(failure, TransportError)
        assert not reused
        return Outcome(0, (), b"", type(failure), reused)
    if reply is None:
        reply = waiter.result()
        reply.pipe(keeper, timeout=None)
    assert len(keeper.ends) == 1, "whoever reads the body would wait for ever"
    (error,) = keeper.ends
    assert error is None or isinstance(error, TransportError)
    assert error is None or not reused
    kind = None if error is None else type(error)
    # NB: of what failed only that is told: how much came before it depends on the cuts.
    body = keeper.body if error is None else b""
    return Outcome(reply.status, reply.headers, body, kind, reused)


def second_opinion(data: bytes) -> bytes | None:
    """The body by another parser, if these bytes are exactly one response; else None."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    body = b""
    try:
        # NB: nobody reads the reason, empty lines before it say nothing, and h11 refuses some.
        client.receive_data(STATUS.sub(rb"\1\2 OK", data))
        while True:
            event = client.next_event()
            if isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                # NB: an empty line too many is skipped by our parser, and says nothing.
                return None if client.trailing_data[0].strip(b"\r\n") else body
            elif event in (h11.NEED_DATA, h11.PAUSED):
                return None
    except h11.RemoteProtocolError:
        return None


@fuzz
@given(data=st.data(), response=st.sampled_from(RESPONSES))
def test_a_response_changed(
    loop: asyncio.AbstractEventLoop, data: st.DataObject, response: bytes
) -> None:
    sent = data.draw(changed(response, words=WORDS))
    whole = exchange(loop, [sent] if sent else [])
    if whole.reused:
        assert second_opinion(sent) == whole.body
    in_pieces = exchange(loop, data.draw(cut(sent)))
    assert (in_pieces.error is None) == (whole.error is None)
    if whole.error is None:
        # NB: an empty line too many, in a read of its own, is one that nobody asked for.
        assert in_pieces.reused <= whole.reused
        assert replace(in_pieces, reused=whole.reused) == whole


@fuzz
@given(data=st.data(), response=st.sampled_from(RESPONSES), head_only=st.booleans())
def test_a_good_response_however_it_is_cut(
    loop: asyncio.AbstractEventLoop, data: st.DataObject, response: bytes, head_only: bool
) -> None:
    whole = exchange(loop, [response], head_only=head_only)
    assert exchange(loop, data.draw(cut(response)), head_only=head_only) == whole or head_only
    assert whole.error is None or head_only


@fuzz
@given(data=st.data(), response=st.sampled_from(RESPONSES))
def test_a_part_of_a_response(
    loop: asyncio.AbstractEventLoop, data: st.DataObject, response: bytes
) -> None:
    at = data.draw(st.integers(0, len(response) - 1))
    outcome = exchange(loop, [response[:at]] if at else [])
    assert not outcome.reused
    head, _, _ = response.partition(b"\r\n\r\n")
    framed = b"ength:" in head or b"ncoding:" in head or not response.startswith(b"HTTP/1.0 200")
    if framed and b"Connection: close" not in head:
        assert outcome.error is not None


@fuzz
@given(data=st.data(), sent=st.binary(max_size=80))
def test_rubbish(loop: asyncio.AbstractEventLoop, data: st.DataObject, sent: bytes) -> None:
    outcome = exchange(loop, data.draw(cut(sent)))
    assert not outcome.reused
    assert outcome.error is not None


@pytest.mark.parametrize("start", [b"", OK, OK + b"X: ", CHUNKED + b"1;", CHUNKED + b"0\r\nT: "])
def test_what_never_ends_is_given_up(loop: asyncio.AbstractEventLoop, start: bytes) -> None:
    outcome = exchange(loop, [start or b"H", *([b"a" * 1000] * 200)])
    assert outcome.error is not None
    assert not outcome.reused


#: Heads of a body whose end two parsers could see in two places, or whose coding is unknown.
DISPUTED = {
    "both lengths": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "a list of lengths": b"Content-Length: 5, 5\r\n",
    "a signed length": b"Content-Length: +5\r\n",
    "two codings": b"Transfer-Encoding: gzip, chunked\r\n",
    "two headers of codings": b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
    "another coding": b"Transfer-Encoding: gzip\r\n",
    "a space before the colon": b"Transfer-Encoding : chunked\r\n",
    "a folded line": b"X: y\r\n Content-Length: 0\r\nContent-Length: 5\r\n",
    "a NUL": b"X: \x00\r\nContent-Length: 5\r\n",
}


@pytest.mark.parametrize("shape", DISPUTED.values(), ids=DISPUTED.keys())
@fuzz_each
@given(data=st.data(), body=st.sampled_from([b"5\r\nabcde\r\n0\r\n\r\n", b"abcde"]))
def test_a_disputed_body_is_a_failure(
    loop: asyncio.AbstractEventLoop, shape: bytes, data: st.DataObject, body: bytes
) -> None:
    outcome = exchange(loop, data.draw(cut(OK + shape + b"\r\n" + body)))
    assert outcome.error is not None
    assert not outcome.reused
