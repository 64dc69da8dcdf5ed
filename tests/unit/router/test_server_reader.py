"""Bytes of a client -> calls: the same however the network cuts them, and nothing ambiguous."""

import random
from dataclasses import dataclass, field

import pytest

from llm_router.errors import Code
from llm_router.server import Call, Limits
from llm_router.server.check import Refusal
from llm_router.server.reader import Reader

LIMITS = Limits(max_body=1000, max_head=4096)

HOST = b"Host: router\r\n"
POST = b"POST /v1/x HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /next HTTP/1.1\r\n" + HOST + b"\r\n"
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


@dataclass
class Taken:
    """A connection that only writes down what the reader hands on."""

    calls: list[Call] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    paused: bool = False
    draining: bool = False

    def ready(self, call: Call) -> None:
        self.calls.append(call)

    def refuse(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)

    def send(self, data: bytes) -> None:
        raise AssertionError("nothing is answered here")

    def finish(self, call: Call, data: bytes, body: bytes = b"") -> None:
        raise AssertionError("nothing is answered here")

    def drop(self, call: Call, *, flush: bool) -> None:
        raise AssertionError("nothing is answered here")


def read(*pieces: bytes, limits: Limits = LIMITS) -> tuple[Taken, Reader]:
    taken = Taken()
    reader = Reader(taken, limits)
    for piece in pieces:
        if not reader.done:
            reader.feed(piece)
    return taken, reader


def one(data: bytes) -> Call:
    taken, _ = read(data)
    assert not taken.refusals
    assert len(taken.calls) == 1
    return taken.calls[0]


def facts(call: Call) -> tuple[object, ...]:
    refusal = call.refusal.code if call.refusal else None
    return (
        call.method,
        call.path,
        call.query,
        call.headers,
        call.body,
        call.keep,
        call.header(b"host"),
        refusal,
    )


REQUESTS = {
    "get": GET,
    "query": b"GET /v1/models/a%2Fb%20%C3%BC?x=1&y=%20 HTTP/1.1\r\n" + HOST + b"\r\n",
    "length": POST + b"X-Y:  spaced \t \r\nContent-Length: 5\r\n\r\nhello",
    "chunks": CHUNKED + b"5\r\nhello\r\n1;ext=1\r\n!\r\n0\r\nTrailer: dropped\r\n\r\n",
    "old": b"POST /api/x HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi",
    "old kept": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "closing": b"DELETE /x HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n",
    "upgrade": b"GET /x HTTP/1.1\r\n" + HOST + OFFER + b"\r\n",
    "upgrade and length": POST + OFFER + b"Content-Length: 5\r\n\r\nhello",
    "upgrade and chunks": POST + OFFER + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "too large": POST + b"Content-Length: 1001\r\n\r\n",
    "repeated": b"GET /x HTTP/1.1\r\nAccept: a\r\n" + HOST + b"Accept: b\r\n\r\n",
}


@pytest.mark.parametrize("data", REQUESTS.values(), ids=REQUESTS)
def test_a_request_is_the_same_wherever_it_is_cut(data: bytes) -> None:
    expected = facts(one(data))
    for cut in range(1, len(data)):
        taken, _ = read(data[:cut], data[cut:])
        assert [facts(call) for call in taken.calls] == [expected], cut
    taken, _ = read(*(data[i : i + 1] for i in range(len(data))))
    assert [facts(call) for call in taken.calls] == [expected]


def test_requests_that_follow_each_other_are_the_same_under_random_cuts() -> None:
    names = "get/length/chunks/upgrade/upgrade and length/upgrade and chunks/old kept/get/closing"
    data = b"".join(REQUESTS[name] for name in names.split("/"))
    expected = [facts(call) for call in read(data)[0].calls]
    assert len(expected) == 9
    source = random.Random(7)
    for _ in range(200):
        cuts = sorted(source.sample(range(1, len(data)), source.randint(1, 12)))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        taken, _ = read(*pieces)
        assert not taken.refusals
        assert [facts(call) for call in taken.calls] == expected, cuts


def test_a_call_says_what_was_asked() -> None:
    call = one(REQUESTS["query"])
    assert (call.method, call.path, call.query) == ("GET", "/v1/models/a/b ü", b"x=1&y=%20")
    call = one(REQUESTS["length"])
    assert call.header(b"x-y") == b"spaced"
    assert call.header(b"absent") is None
    assert call.body == b"hello"
    assert one(REQUESTS["chunks"]).body == b"hello!"
    assert one(REQUESTS["chunks"]).header(b"trailer") is None
    assert one(REQUESTS["repeated"]).header(b"accept") == b"a"
    assert one(REQUESTS["upgrade and length"]).body == b"hello"


@pytest.mark.parametrize(
    ("name", "kept"), [("get", True), ("old", False), ("old kept", True), ("closing", False)]
)
def test_the_request_says_whether_another_may_follow(name: str, kept: bool) -> None:
    taken, reader = read(REQUESTS[name] + GET)
    assert taken.calls[0].keep is kept
    assert reader.done is not kept
    assert len(taken.calls) == (2 if kept else 1)
    assert not taken.refusals


def chunked(body: bytes) -> bytes:
    return CHUNKED + body


def length(value: bytes) -> bytes:
    return POST + b"Content-Length: " + value + b"\r\n\r\nabc"


def coding(value: bytes) -> bytes:
    return POST + b"Transfer-Encoding: " + value + b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


def head(lines: bytes) -> bytes:
    return b"GET /x HTTP/1.1\r\n" + lines + b"\r\n"


BOTH = b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"
BAD = [
    # Two ways to say where the body ends.
    POST + BOTH + b"\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    chunked(b"0\r\nContent-Length: 3\r\n\r\nabc"),
    chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    # Lengths that are none.
    *(length(value) for value in (b"3, 3", b"+3", b"-3", b"0x3", b"3 3", b"", b"3;", b"3.0")),
    *(length(value) for value in (b"\xb3", b"9" * 20, b"0" * 30 + b"3", b"0" * 4000 + b"3")),
    # Codings that are none.
    *(coding(value) for value in (b"", b"chunked,", b",chunked", b"chunked, chunked")),
    *(coding(value) for value in (b"\x0bchunked", b"chunked\x00")),
    # Lines and names.
    b"GET /x HTTP/1.1\n" + HOST + b"\r\n",
    b"GET /x HTTP/1.1\r" + HOST + b"\r\n",
    head(b"Host: a\n"),
    head(b"Host: a\r\nX: a\rb\r\n"),
    b"GET /x HTTP/1.1\r\nHost: a\r\n\n" + GET,
    head(b"Host : a\r\n"),
    head(b" Host: a\r\n"),
    head(b"Host: a\r\nX: a\r\n b\r\n"),
    head(b"Host: a\r\nX: a\r\n\tb\r\n"),
    head(b"Host: a\r\nX:\r\n b\r\n"),
    head(b"Host: a\r\nX(: b\r\n"),
    head(b"Host: a\r\n: b\r\n"),
    head(b"Host: a\r\nX\r\n"),
    head(b"Host: a\r\nX: a\0b\r\n"),
    head(b"Host: a\r\nX: a\x7fb\r\n"),
    # Chunks.
    *(
        chunked(body)
        for body in (
            b"3\nabc\r\n0\r\n\r\n",
            b"3\r\nabc\n0\r\n\r\n",
            b"3\r\nabcd\r\n0\r\n\r\n",
            b"3\r\nabc0\r\n\r\n",
            b"3 \r\nabc\r\n0\r\n\r\n",
            b" 3\r\nabc\r\n0\r\n\r\n",
            b"+3\r\nabc\r\n0\r\n\r\n",
            b"-3\r\nabc\r\n0\r\n\r\n",
            b"0x3\r\nabc\r\n0\r\n\r\n",
            b"\r\nabc",
            b"g\r\n",
            b"F" * 17 + b"\r\n",
            b"3;a\nabc\r\n0\r\n\r\n",
            b'3;a="\n"\r\nabc\r\n0\r\n\r\n',
            b"3;a\rX\r\nabc\r\n0\r\n\r\n",
            b"3\rabc\r\n0\r\n\r\n",
            b"0\r\n\n",
            b"0\n\n",
            b"0\r\nA: b\n\r\n",
            b"0\r\n A: b\r\n\r\n",
        )
    ),
    # Whom and what the request is for.
    head(b""),
    head(b"Host: a\r\nHost: a\r\n"),
    head(b"Host: a\r\nhost: b\r\n"),
    b"GET http://router/x HTTP/1.1\r\n" + HOST + b"\r\n",
    b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    b"CONNECT router:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET router:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /x#y HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /x y HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /x\0 HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /%ff HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /\xc3\xbc HTTP/1.1\r\n" + HOST + b"\r\n",
    # Versions and methods.
    b"GET /x\r\n\r\n",
    *(b"GET /x %b\r\n" % v + HOST + b"\r\n" for v in (b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2")),
    *(b"GET /x %b\r\n" % v + HOST + b"\r\n" for v in (b"HTTP/1.10", b"http/1.1", b"ICE/1.0")),
    b"GET /x HTTP/2.0\r\nConnection: keep-alive\r\n" + HOST + b"\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"FOO /x HTTP/1.1\r\n" + HOST + b"\r\n",
    b"get /x HTTP/1.1\r\n" + HOST + b"\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    head(b"Host: a\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n"),
]


@pytest.mark.parametrize("data", BAD, ids=[repr(data)[2:80] for data in BAD])
def test_what_could_be_read_in_two_ways_is_refused(data: bytes) -> None:
    for pieces in ((data,), tuple(data[i : i + 1] for i in range(len(data)))):
        taken, reader = read(*pieces)
        assert [refusal.status for refusal in taken.refusals] == [400]
        assert not taken.calls
        assert reader.done


@pytest.mark.parametrize(
    "value", [b"gzip, chunked", b"identity", b"xchunked", b"chunked;q=1", b'"chunked"']
)
def test_a_coding_that_is_not_served_is_told_apart(value: bytes) -> None:
    taken, _ = read(coding(value))
    assert [refusal.status for refusal in taken.refusals] == [501]


def test_an_expectation_that_is_not_known_is_told_apart() -> None:
    taken, _ = read(head(HOST + b"Expect: x-magic\r\n"))
    assert [refusal.status for refusal in taken.refusals] == [417]
    assert len(read(b"GET / HTTP/1.0\r\nExpect: x-magic\r\n\r\n")[0].calls) == 1


def test_a_refusal_comes_after_the_requests_before_it() -> None:
    taken, reader = read(GET + head(b"Host : a\r\n") + GET)
    assert len(taken.calls) == 1
    assert [refusal.status for refusal in taken.refusals] == [400]
    assert reader.done


def test_a_body_is_wanted_once() -> None:
    expecting = POST + b"Expect: 100-Continue\r\nContent-Length: 5\r\n\r\n"
    _, reader = read(expecting)
    assert reader.in_body
    assert reader.expects()
    assert not reader.expects()
    assert not read(expecting + b"h")[1].expects()
    assert not read(POST + b"Content-Length: 5\r\n\r\n")[1].expects()
    old = b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    assert not read(old)[1].expects()


def test_a_head_has_a_limit_however_it_arrives() -> None:
    fits = head(HOST + b"X: " + b"x" * 4000 + b"\r\n")
    large = head(HOST + b"X: " + b"x" * 5000 + b"\r\n")
    many = head(HOST + b"X: y\r\n" * 1000)
    line = b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"
    assert len(read(fits)[0].calls) == 1
    for data in (large, many, line):
        for size in (len(data), 100, 1):
            taken, _ = read(*(data[i : i + size] for i in range(0, len(data), size)))
            assert [refusal.status for refusal in taken.refusals] == [431]
    body = POST + b"Content-Length: 900\r\n\r\n" + b"x" * 900
    assert len(read(body * 9)[0].calls) == 9  # heads count, not what follows them


def test_a_body_that_is_too_large_is_refused_as_soon_as_that_is_known() -> None:
    fits = POST + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000
    assert one(fits).refusal is None
    large = POST + b"Content-Length: 18446744073709551615\r\n\r\n"
    for data in (large, chunked(b"3E9\r\n" + b"x" * 1001), chunked(b"1\r\nx\r\n" * 1001)):
        for size in (len(data), 1):
            taken, reader = read(*(data[i : i + size] for i in range(0, len(data), size)))
            [call] = taken.calls
            assert call.refusal is not None
            assert call.refusal.code is Code.TOO_LARGE
            assert (call.body, call.keep) == (b"", False)
            assert reader.done
            assert reader.spilled


@pytest.mark.parametrize("tail", [b"1;" + b"e" * 20000, b"0\r\nT: " + b"t" * 20000])
def test_what_is_neither_head_nor_body_has_a_limit(tail: bytes) -> None:
    data = chunked(b"3\r\nabc\r\n" + tail)
    taken, _ = read(*(data[i : i + 100] for i in range(0, len(data), 100)))
    assert [refusal.status for refusal in taken.refusals] == [400]


def test_random_bytes_never_break_the_reader() -> None:
    source = random.Random(11)
    whole = b"".join(REQUESTS.values())
    for _ in range(1500):
        data = bytearray(whole)
        start = source.randrange(len(data))
        data = data[start:] + data[:start] if source.random() < 0.3 else data
        for _ in range(source.randint(1, 6)):
            data[source.randrange(len(data))] = source.choice(b"\r\n\0 :;,%/0aAzZ\x80\xff")
        taken, reader = read(bytes(data[:200]), bytes(data[200:]))
        assert len(taken.refusals) <= 1
        assert all(refusal.status != 500 for refusal in taken.refusals)
        assert reader.done or not taken.refusals
