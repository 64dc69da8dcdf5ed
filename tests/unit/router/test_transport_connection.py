"""One connection fed to the byte: a response means the same however the network cuts it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from llm_router.transport import (
    BadReply,
    Cut,
    NoReply,
    Origin,
    Reply,
    TimedOut,
    TransportError,
)
from llm_router.transport.connection import MAX_HEAD, Connection
from llm_router.transport.watch import NEVER, Watch

ORIGIN = Origin.parse("http://upstream:80")


@dataclass
class Keeper:
    """An owner that writes down what it is told."""

    told: list[str] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    watch: Watch = field(default_factory=lambda: Watch([]))

    def idle(self, connection: Connection) -> None:
        self.told.append("idle")

    def lost(self, connection: Connection) -> None:
        self.told.append("lost")
        self.gone.set()


@dataclass
class Line:
    """A connection on a real socket, whose bytes the test hands over itself."""

    connection: Connection
    keeper: Keeper
    peer: socket.socket

    def ask(self, *, head_only: bool = False) -> asyncio.Future[Reply]:
        return self.connection.exchange(b"head", b"body", head_only=head_only, timeout=None)

    def feed(self, data: bytes, cuts: tuple[int, ...] = ()) -> None:
        for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
            if start < end:
                self.connection.data_received(data[start:end])


async def open_line() -> Line:
    loop, keeper = asyncio.get_running_loop(), Keeper()
    here, there = socket.socketpair()
    _, connection = await loop.create_connection(
        lambda: Connection(ORIGIN, keeper, loop), sock=here
    )
    return Line(connection, keeper, there)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    opened = await open_line()
    yield opened
    await shut(opened)


async def shut(line: Line) -> None:
    line.connection.abort()
    async with asyncio.timeout(5):
        await line.keeper.gone.wait()
    line.peer.close()


@dataclass
class Case:
    """What a server sends, and what its client must see."""

    sent: bytes
    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    reused: bool = True
    at_eof: bool = False
    head_only: bool = False


OK = b"HTTP/1.1 200 OK\r\n"
CASES = {
    "length": Case(
        OK + b"Content-Length: 5\r\nX-A:  b \r\nx-a: c\r\n\r\nhello",
        200,
        b"hello",
        headers=((b"content-length", b"5"), (b"x-a", b"b"), (b"x-a", b"c")),
    ),
    "no body": Case(OK + b"Content-Length: 0\r\n\r\n", 200, b"", ((b"content-length", b"0"),)),
    "no reason": Case(
        b"HTTP/1.1 429\r\nContent-Length: 1\r\n\r\nx", 429, b"x", ((b"content-length", b"1"),)
    ),
    "chunked": Case(
        OK + b"Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
        200,
        b"abc0123456789",
        ((b"transfer-encoding", b"Chunked"),),
    ),
    "chunk extensions and trailers": Case(
        OK + b'Transfer-Encoding: chunked\r\n\r\n3;a="b\\"c"\r\nabc\r\n0;x\r\nT: 1\r\nU: 2\r\n\r\n',
        200,
        b"abc",
        ((b"transfer-encoding", b"chunked"),),
    ),
    "204": Case(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "304 with a length": Case(
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        304,
        b"",
        ((b"content-length", b"9"),),
    ),
    "100": Case(
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx",
        200,
        b"x",
        ((b"content-length", b"1"),),
    ),
    "103 twice": Case(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2 + OK + b"Content-Length: 1\r\n\r\nx",
        200,
        b"x",
        ((b"content-length", b"1"),),
    ),
    "HTTP/1.0 to the end": Case(
        b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n",
        200,
        b"data: x\n\n",
        ((b"content-type", b"text/event-stream"),),
        reused=False,
        at_eof=True,
    ),
    "HTTP/1.0 to the end, empty": Case(
        b"HTTP/1.0 200 OK\r\n\r\n", 200, b"", reused=False, at_eof=True
    ),
    "HTTP/1.0 with a length": Case(
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        200,
        b"x",
        ((b"content-length", b"1"),),
        reused=False,
    ),
    "HTTP/1.0 kept": Case(
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx",
        200,
        b"x",
        ((b"connection", b"Keep-Alive"), (b"content-length", b"1")),
    ),
    "closing": Case(
        OK + b"Connection: close\r\nContent-Length: 1\r\n\r\nx",
        200,
        b"x",
        ((b"connection", b"close"), (b"content-length", b"1")),
        reused=False,
    ),
    "closing, to the end": Case(
        OK + b"Connection: close\r\n\r\nxyz",
        200,
        b"xyz",
        ((b"connection", b"close"),),
        reused=False,
        at_eof=True,
    ),
    "upgrade offered": Case(
        OK + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\nx",
        200,
        b"x",
        ((b"upgrade", b"h2c"), (b"connection", b"Upgrade"), (b"content-length", b"1")),
    ),
    "HEAD": Case(
        OK + b"Content-Length: 9\r\n\r\n",
        200,
        b"",
        ((b"content-length", b"9"),),
        reused=False,
        head_only=True,
    ),
    "HEAD of chunks": Case(
        OK + b"Transfer-Encoding: chunked\r\n\r\n",
        200,
        b"",
        ((b"transfer-encoding", b"chunked"),),
        reused=False,
        head_only=True,
    ),
    "HEAD with a body all the same": Case(
        OK + b"Content-Length: 3\r\n\r\nabc",
        200,
        b"",
        ((b"content-length", b"3"),),
        reused=False,
        head_only=True,
    ),
    "surplus response": Case(
        OK + b"Content-Length: 1\r\n\r\nx" + OK + b"Content-Length: 1\r\n\r\ny",
        200,
        b"x",
        ((b"content-length", b"1"),),
        reused=False,
    ),
    "surplus bytes": Case(
        OK + b"Content-Length: 1\r\n\r\nxyz",
        200,
        b"x",
        ((b"content-length", b"1"),),
        reused=False,
    ),
    "204 with a body": Case(
        b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc",
        204,
        b"",
        ((b"content-length", b"3"),),
        reused=False,
    ),
}


async def played(case: Case, cuts: tuple[int, ...]) -> tuple[object, ...]:
    line = await open_line()
    future = line.ask(head_only=case.head_only)
    line.feed(case.sent, cuts)
    if case.at_eof:
        line.connection.eof_received()
    reply = await future
    body = await reply.read_all(1_000)
    # NB: asking again at the end gives the end again.
    assert await reply.read() == b""
    # NB: surplus that arrives on its own closes the connection after it had become idle.
    seen = (reply.status, reply.headers, body, not line.connection.closed)
    await shut(line)
    return seen


@pytest.mark.parametrize("name", CASES)
async def test_a_response_is_the_same_however_it_is_cut(name: str) -> None:
    case = CASES[name]
    meant = (case.status, case.headers, case.body, case.reused)
    assert await played(case, ()) == meant
    for cut in range(1, len(case.sent)):
        assert await played(case, (cut,)) == meant, f"cut at byte {cut}"
    assert await played(case, tuple(range(1, len(case.sent)))) == meant, "byte by byte"


@pytest.mark.parametrize("name", CASES)
async def test_a_response_that_ends_early_is_cut(name: str) -> None:
    case = CASES[name]
    for end in range(len(case.sent)):
        line = await open_line()
        future = line.ask(head_only=case.head_only)
        line.feed(case.sent[:end])
        line.connection.eof_received()
        try:
            body = await (await future).read_all(1_000)
        except NoReply:
            assert end == 0
        except Cut:
            assert 0 < end < len(case.sent)
        else:
            # The rest was surplus, or this body ends with its connection.
            assert case.body.startswith(body)
            assert case.at_eof or (not case.reused and body == case.body)
        await shut(line)


BROKEN = {
    "a web page": b"<html>\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "leading space": b" " + OK + b"\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx",
    "status 99": b"HTTP/1.1 99 No\r\n\r\n",
    "status 000": b"HTTP/1.1 000 No\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nrest",
    "switching to nothing": b"HTTP/1.1 101 S\r\n\r\n",
    "header without colon": OK + b"nonsense\r\n\r\n",
    "space before the colon": OK + b"Content-Length : 1\r\n\r\nx",
    "folded header": OK + b"A: b\r\n c\r\nContent-Length: 1\r\n\r\nx",
    "NUL in a header": OK + b"A: \0\r\n\r\n",
    "carriage return in a header": OK + b"A: b\rc\r\n\r\n",
    "two different lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "two equal lengths": OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "list of lengths": OK + b"Content-Length: 1, 1\r\n\r\nx",
    "negative length": OK + b"Content-Length: -1\r\n\r\nx",
    "length beyond 64 bits": OK + b"Content-Length: 99999999999999999999\r\n\r\nx",
    "length and chunks": OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "coding around chunks": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding after chunks": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "unknown coding": OK + b"Transfer-Encoding: identity\r\n\r\nx",
    "chunk size in words": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "negative chunk size": OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    "chunk size beyond 64 bits": OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n",
    "chunk longer than its size": OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n",
    "chunk ended by a line feed": OK + b"Transfer-Encoding: chunked\r\n\r\n1\nx\n0\n\n",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_bytes_that_break_http_are_refused_however_they_are_cut(name: str) -> None:
    sent = BROKEN[name]
    for cut in range(len(sent)):
        line = await open_line()
        future = line.ask()
        line.feed(sent, (cut,))
        with pytest.raises(BadReply, match=r"^http://upstream:80: "):
            await (await future).read_all(1_000)
        assert line.connection.closed
        assert "idle" not in line.keeper.told
        await shut(line)


@pytest.mark.parametrize(
    ("prefix", "filler"),
    [
        (OK, b"A: " + b"a" * 50 + b"\r\n"),
        (OK + b"A: ", b"a"),
        (OK[:-2], b"a"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"T: a\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nT: ", b"a"),
    ],
)
@pytest.mark.parametrize("step", [1_000, 4 * MAX_HEAD])
async def test_what_is_no_body_has_a_limit(
    line: Line, prefix: bytes, filler: bytes, step: int
) -> None:
    future = line.ask()
    line.feed(prefix)
    sent = 0
    while not line.connection.closed:
        assert sent <= MAX_HEAD + step
        piece = filler * (step // len(filler))
        line.feed(piece)
        sent += len(piece)
    with pytest.raises(BadReply, match=f"over {MAX_HEAD} bytes"):
        await (await future).read_all(1_000)


@pytest.mark.parametrize("pieces", [1, 100])
@pytest.mark.parametrize(("excess", "taken"), [(-64, True), (64, False)])
async def test_the_heads_limit_is_the_same_for_one_read_and_many(
    line: Line, pieces: int, excess: int, taken: bool
) -> None:
    size = MAX_HEAD + excess - len(OK + b"Content-Length: 200000\r\nA: \r\n\r\n")
    head = OK + b"Content-Length: 200000\r\nA: " + b"a" * size + b"\r\n\r\n"
    sent = head + b"x" * 200_000
    future = line.ask()
    line.feed(sent, tuple(len(sent) * n // pieces for n in range(1, pieces)))
    if taken:
        assert len(await (await future).read_all(200_000)) == 200_000
    else:
        with pytest.raises(BadReply, match="over"):
            await future


async def test_one_connection_serves_one_exchange_after_another(line: Line) -> None:
    for name, case in CASES.items():
        if case.reused:
            future = line.ask()
            line.feed(case.sent)
            reply = await future
            seen = (reply.status, reply.headers, await reply.read_all(1_000))
            assert seen == (case.status, case.headers, case.body), name


async def test_an_empty_line_after_a_response_is_no_next_response(line: Line) -> None:
    for _ in range(2):
        future = line.ask()
        line.feed(OK + b"Content-Length: 1\r\n\r\nx\r\n")
        assert await (await future).read_all(9) == b"x"


async def test_bytes_on_an_idle_connection_close_it(line: Line) -> None:
    line.feed(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")
    assert line.connection.closed


async def test_pieces_of_one_read_come_as_one(line: Line) -> None:
    future = line.ask()
    line.feed(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n")
    reply = await future
    assert await reply.read() == b"ab"
    line.feed(b"1\r\nc\r\n")
    line.feed(b"1\r\nd\r\n0\r\n\r\n")
    assert await reply.read() == b"cd"
    assert await reply.read() == b""


async def test_what_came_before_a_failure_is_read_before_it(line: Line) -> None:
    future = line.ask()
    line.feed(OK + b"Content-Length: 9\r\n\r\nabc")
    line.connection.eof_received()
    reply = await future
    assert await reply.read() == b"abc"
    for _ in range(2):
        with pytest.raises(Cut, match="inside the body"):
            await reply.read()


async def test_cancelling_in_the_turn_of_the_answer_uses_nobody_elses_connection(
    line: Line,
) -> None:
    future = line.ask()
    future.cancel()
    line.feed(OK + b"Content-Length: 1\r\n\r\nx")
    assert line.connection.closed
    assert "idle" not in line.keeper.told


# Handed to a sink.


@dataclass
class Taker:
    """A sink that writes down what it gets, and does what it is told to at each piece."""

    pieces: list[bytes] = field(default_factory=list)
    ends: list[TransportError | None] = field(default_factory=list)
    act: Callable[[bytes], None] = lambda piece: None
    at_end: Callable[[], None] = lambda: None

    def data(self, piece: bytes) -> None:
        assert piece
        assert not self.ends
        self.pieces.append(piece)
        self.act(piece)

    def end(self, error: TransportError | None) -> None:
        self.ends.append(error)
        self.at_end()


async def piped(case: Case, cuts: tuple[int, ...], *, after: int) -> tuple[object, ...]:
    """As `played`, for a sink that is there after so many of the pieces."""
    line, taker = await open_line(), Taker()
    future = line.ask(head_only=case.head_only)
    told_idle: list[bool] = []
    taker.at_end = lambda: told_idle.append("idle" in line.keeper.told or line.connection.closed)
    reply: Reply | None = None
    starts, ends = (0, *cuts), (*cuts, len(case.sent))
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        line.feed(case.sent[start:end])
        if reply is None and future.done() and number >= after:
            reply = future.result()
            reply.pipe(taker, timeout=None)
    if reply is None:
        reply = future.result()
        reply.pipe(taker, timeout=None)
    if case.at_eof:
        line.connection.eof_received()
    assert taker.ends == [None]
    # NB: a plain reader of a whole body has no connection to wait for either.
    assert told_idle == [True] or case.at_eof
    seen = (reply.status, reply.headers, b"".join(taker.pieces), not line.connection.closed)
    await shut(line)
    assert taker.ends == [None]
    return seen


@pytest.mark.parametrize("name", CASES)
async def test_a_sink_gets_the_same_however_it_is_cut(name: str) -> None:
    case = CASES[name]
    meant = (case.status, case.headers, case.body, case.reused)
    for cut in range(1, len(case.sent)):
        for after in (0, 1):
            assert await piped(case, (cut,), after=after) == meant, f"cut at byte {cut}"
    every = tuple(range(1, len(case.sent)))
    for after in (0, len(case.sent) // 2, len(case.sent)):
        assert await piped(case, every, after=after) == meant, "byte by byte"


@pytest.mark.parametrize("name", CASES)
async def test_a_sink_is_told_of_every_early_end(name: str) -> None:
    case = CASES[name]
    for end in range(case.sent.index(b"\r\n\r\n") + 4, len(case.sent)):
        line, taker = await open_line(), Taker()
        future = line.ask(head_only=case.head_only)
        line.feed(case.sent[:end])
        if not future.done():  # an interim response
            await shut(line)
            continue
        future.result().pipe(taker, timeout=None)
        line.connection.eof_received()
        (error,) = taker.ends
        if error is None:
            assert case.at_eof or (not case.reused and b"".join(taker.pieces) == case.body)
        else:
            assert isinstance(error, Cut)
            assert line.connection.closed
        await shut(line)
        assert len(taker.ends) == 1


STREAM = OK + b"Transfer-Encoding: chunked\r\n\r\n"
A, B, END = b"1\r\na\r\n", b"1\r\nb\r\n", b"0\r\n\r\n"


def piping(line: Line, taker: Taker, *, timeout: float | None = None) -> Reply:
    """A reply whose head alone has arrived, handed to `taker`."""
    future = line.ask()
    line.feed(STREAM)
    reply = future.result()
    reply.pipe(taker, timeout=timeout)
    return reply


async def test_what_had_arrived_comes_as_one_piece_before_the_rest(line: Line) -> None:
    taker = Taker()
    future = line.ask()
    line.feed(STREAM + A)
    line.feed(B)
    future.result().pipe(taker, timeout=None)
    assert (taker.pieces, taker.ends) == ([b"ab"], [])
    line.feed(A + B)
    line.feed(END)
    assert (taker.pieces, taker.ends) == ([b"ab", b"ab"], [None])


async def test_a_reader_can_hand_over_in_the_midst(line: Line) -> None:
    taker = Taker()
    future = line.ask()
    line.feed(STREAM + A)
    reply = await future
    assert await reply.read() == b"a"
    reply.pipe(taker, timeout=None)
    line.feed(B + END)
    assert (taker.pieces, taker.ends) == ([b"b"], [None])


async def test_a_response_has_one_reader(line: Line) -> None:
    reply = piping(line, Taker())
    with pytest.raises(RuntimeError, match="a reader already"):
        reply.pipe(Taker(), timeout=None)
    with pytest.raises(RuntimeError):
        await reply.read()


@pytest.mark.parametrize("rest", [b"", END, b"zz\r\n"], ids=["more-to-come", "whole", "broken"])
async def test_closing_inside_a_piece_is_the_end_of_it(line: Line, rest: bytes) -> None:
    taker = Taker()
    reply = piping(line, taker)
    taker.act = lambda piece: reply.close()
    line.feed(A + rest)
    line.connection.eof_received()
    assert (taker.pieces, taker.ends) == ([b"a"], [])
    # NB: of a body that is whole nothing is left to be stopped.
    assert line.connection.closed
    assert line.keeper.told.count("idle") == (rest == END)


async def test_closing_inside_what_had_arrived(line: Line) -> None:
    taker = Taker()
    future = line.ask()
    line.feed(STREAM + A)
    reply = future.result()
    taker.act = lambda piece: reply.close()
    reply.pipe(taker, timeout=1)
    assert (taker.pieces, taker.ends) == ([b"a"], [])
    assert line.connection.closed
    assert line.connection.deadline == NEVER


async def test_a_closed_response_ends_at_once(line: Line) -> None:
    taker = Taker()
    future = line.ask()
    line.feed(STREAM + A)
    reply = future.result()
    reply.close()
    reply.pipe(taker, timeout=None)
    assert not taker.pieces
    assert [type(error) for error in taker.ends] == [Cut]


@pytest.mark.parametrize("rest", [b"", END], ids=["more-to-come", "whole"])
@pytest.mark.parametrize("early", [False, True], ids=["as-it-comes", "had-arrived"])
async def test_a_sink_that_raises_is_told_so_and_nothing_else_suffers(
    line: Line, rest: bytes, early: bool
) -> None:
    problem = KeyError("x")

    def fail(piece: bytes) -> None:
        raise problem

    taker = Taker(act=fail)
    if early:
        future = line.ask()
        line.feed(STREAM + A + rest)
        future.result().pipe(taker, timeout=None)
    else:
        piping(line, taker)
        line.feed(A + rest)
    (error,) = taker.ends
    assert isinstance(error, Cut)
    assert error.__cause__ is problem
    assert line.connection.closed == (rest == b"")
    if rest == END:
        future = line.ask()
        line.feed(OK + b"Content-Length: 1\r\n\r\nx")
        assert await future.result().read_all(9) == b"x"


async def test_a_sink_that_raises_at_its_end_leaves_the_connection_to_others(line: Line) -> None:
    seen: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context))

    def fail() -> None:
        raise KeyError("x")

    piping(line, Taker(at_end=fail))
    line.feed(A + END)
    assert [type(context["exception"]) for context in seen] == [KeyError]
    assert line.keeper.told == ["idle"]


async def test_the_next_request_can_be_sent_from_within_the_last_piece(line: Line) -> None:
    taker, futures = Taker(), []
    piping(line, taker)
    taker.act = lambda piece: futures.append(line.ask())
    line.feed(A + END)
    assert taker.ends == [None]
    line.feed(OK + b"Content-Length: 1\r\n\r\nx")
    assert await futures[0].result().read_all(9) == b"x"


async def test_a_piece_moves_the_deadline(line: Line) -> None:
    taker = Taker()
    piping(line, taker, timeout=100)
    first = line.connection.deadline
    assert first < NEVER
    await asyncio.sleep(0.01)
    line.feed(A)
    assert first < line.connection.deadline < first + 50
    line.feed(END)
    assert line.connection.deadline == NEVER


async def test_a_deadline_that_passes_ends_it_once(line: Line) -> None:
    taker = Taker()
    piping(line, taker, timeout=0.01)
    line.feed(A)
    line.connection.expire()
    assert line.connection.closed
    assert [type(error) for error in taker.ends] == [TimedOut]
    line.connection.expire()
    line.feed(B)
    assert (taker.pieces, len(taker.ends)) == ([b"a"], 1)


async def test_no_time_runs_while_the_sink_takes_nothing(line: Line) -> None:
    taker = Taker()
    reply = piping(line, taker, timeout=100)
    reply.pause()
    assert line.connection.deadline == NEVER
    line.feed(A)  # what a loop had read already
    assert taker.pieces == [b"a"]
    assert line.connection.deadline == NEVER
    reply.expect(50)
    assert line.connection.deadline == NEVER
    reply.resume()
    assert line.connection.deadline < NEVER
    line.feed(B + END)
    assert (taker.pieces, taker.ends) == ([b"a", b"b"], [None])
    reply.pause()
    reply.resume()


@pytest.mark.parametrize("timeout", [None, 10.0])
async def test_a_sink_that_pauses_is_sent_no_more(line: Line, timeout: float | None) -> None:
    taker = Taker()
    reply = piping(line, taker, timeout=timeout)
    taker.act = lambda piece: reply.pause()
    line.peer.sendall(A)
    await arrived(taker, 1)
    line.peer.sendall(B)
    for _ in range(20):
        await asyncio.sleep(0)
    assert taker.pieces == [b"a"]
    reply.resume()
    await arrived(taker, 2)
    assert line.connection._paused


async def arrived(taker: Taker, count: int) -> None:
    async with asyncio.timeout(5):
        while len(taker.pieces) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("pauses", [False, True])
async def test_a_backlog_is_handed_over_and_read_on_from(line: Line, pauses: bool) -> None:
    taker = Taker()
    future = line.ask()
    line.feed(OK + b"Content-Length: 1000000\r\n\r\n" + b"x" * 500_000)
    assert line.connection._paused
    reply = future.result()
    if pauses:
        taker.act = lambda piece: reply.pause()
    reply.pipe(taker, timeout=None)
    assert [len(piece) for piece in taker.pieces] == [500_000]
    assert line.connection._paused == pauses


class TestRelease:
    """A reply that nobody wants the rest of, and whose connection is wanted."""

    async def test_a_body_that_ends_in_time_leaves_its_connection(self, line: Line) -> None:
        taker = Taker()
        reply = piping(line, taker, timeout=1)
        line.feed(A)
        reply.release(30)
        deadline = line.connection.deadline
        assert deadline < NEVER
        await asyncio.sleep(0.01)
        line.feed(B)
        assert line.connection.deadline == deadline
        line.feed(END)
        assert (taker.pieces, taker.ends) == ([b"a"], [])
        assert line.keeper.told == ["idle"]
        assert line.connection.deadline == NEVER

    async def test_one_that_does_not_is_dropped(self, line: Line) -> None:
        taker = Taker()
        piping(line, taker).release(1)
        line.connection.expire()
        assert line.connection.closed
        assert (taker.pieces, taker.ends) == ([], [])

    async def test_no_time_is_to_close(self, line: Line) -> None:
        piping(line, Taker()).release(0)
        assert line.connection.closed

    async def test_one_that_is_whole_is_let_be(self, line: Line) -> None:
        taker = Taker()
        reply = piping(line, taker)
        line.feed(A + END)
        reply.release(1)
        assert taker.ends == [None]
        assert not line.connection.closed

    @pytest.mark.parametrize("rest", [b"", END])
    async def test_inside_a_piece(self, line: Line, rest: bytes) -> None:
        taker = Taker()
        reply = piping(line, taker)
        taker.act = lambda piece: reply.release(5)
        line.feed(A + rest)
        if not rest:
            line.feed(B + END)
        assert (taker.pieces, taker.ends) == ([b"a"], [])
        assert line.keeper.told == ["idle"]
        assert not line.connection.closed

    async def test_one_that_was_never_read_is_read_on(self, line: Line) -> None:
        future = line.ask()
        line.feed(OK + b"Content-Length: 1000000\r\n\r\n" + b"x" * 500_000)
        reply = future.result()
        reply.release(5)
        assert not line.connection._paused
        line.feed(b"x" * 500_000)
        assert line.keeper.told == ["idle"]

    async def test_a_paused_one_is_read_on(self, line: Line) -> None:
        reply = piping(line, Taker())
        reply.pause()
        reply.release(5)
        assert not line.connection._paused
        line.feed(END)
        assert line.keeper.told == ["idle"]

    async def test_a_reader_that_waits_is_woken(self, line: Line) -> None:
        future = line.ask()
        line.feed(STREAM)
        reply = future.result()
        task = asyncio.create_task(reply.read())
        await asyncio.sleep(0)
        reply.release(5)
        with pytest.raises(Cut, match="released here"):
            await task

    async def test_it_can_be_closed_all_the_same(self, line: Line) -> None:
        reply = piping(line, Taker())
        reply.release(5)
        reply.close()
        assert line.connection.closed
