"""One connection fed to the byte: a response means the same however the network cuts it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from llm_router.transport import BadReply, Cut, NoReply, Origin, Reply
from llm_router.transport.connection import MAX_HEAD, Connection
from llm_router.transport.watch import Watch

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
