"""What a handler says -> the bytes of an answer."""

import re
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial

import pytest

from llm_router.server import Call
from llm_router.server.head import RESERVED

TEXT = ((b"content-type", b"text/plain"),)


@dataclass
class Wire:
    """A connection that keeps what is written."""

    paused: bool = False
    draining: bool = False
    writes: list[bytes] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        self.writes.append(data)

    def finish(self, call: Call, data: bytes, body: bytes = b"") -> None:
        self.writes.append(data + body)
        self.ends.append("finish")

    def drop(self, call: Call, *, flush: bool) -> None:
        self.ends.append("flush" if flush else "reset")

    def sent(self) -> bytes:
        """All of it, with the date taken out."""
        return re.sub(rb"date: [^\r]+ GMT\r\n", b"", b"".join(self.writes))


def make(
    *, method: str = "GET", modern: bool = True, keep: bool = True, draining: bool = False
) -> tuple[Call, Wire]:
    wire = Wire(draining=draining)
    call = Call(
        wire,
        method=method,
        target=("/", b""),
        headers=(),
        fields={},
        modern=modern,
        keep=keep,
    )
    return call, wire


def test_a_whole_answer_is_one_write() -> None:
    call, wire = make()
    call.respond(200, headers=TEXT, body=b"hello")
    assert len(wire.writes) == 1
    assert wire.sent() == (
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/plain\r\n\r\nhello"
    )
    assert (call.started, call.ended, wire.ends) == (True, True, ["finish"])
    date = wire.writes[0].split(b"date: ")[1].split(b"\r\n")[0].decode()
    assert parsedate_to_datetime(date).year >= 2024


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (404, b"HTTP/1.1 404 Not Found\r\n"),
        (503, b"HTTP/1.1 503 Service Unavailable\r\n"),
        (599, b"HTTP/1.1 599 \r\n"),
    ],
)
def test_a_status_has_its_phrase(status: int, line: bytes) -> None:
    call, wire = make()
    call.respond(status, headers=(), body=b"")
    assert wire.sent() == line + b"content-length: 0\r\n\r\n"


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_says_nothing_of_one(status: int) -> None:
    call, wire = make()
    call.respond(status, headers=(), body=b"x")
    assert b"content-length" not in wire.sent()
    assert wire.sent().endswith(b"\r\n\r\n")
    call, wire = make()
    call.begin(status, headers=())
    call.write(b"x")
    call.end(b"y")
    assert b"transfer-encoding" not in wire.sent()
    assert wire.sent().endswith(b"\r\n\r\n")


def test_head_is_answered_without_a_body() -> None:
    call, wire = make(method="HEAD")
    call.respond(200, headers=(), body=b"hello")
    assert wire.sent() == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
    call, wire = make(method="HEAD")
    call.begin(200, headers=())
    assert call.write(b"x")
    call.end(b"y")
    assert wire.sent() == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    assert wire.ends == ["finish"]


def test_a_stream_is_in_chunks() -> None:
    call, wire = make()
    call.begin(200, headers=TEXT)
    assert call.write(b"a" * 16)
    assert call.write(b"")
    call.end(b"z")
    head, _, rest = wire.sent().partition(b"\r\n\r\n")
    assert head.endswith(b"transfer-encoding: chunked\r\ncontent-type: text/plain")
    assert rest == b"10\r\n" + b"a" * 16 + b"\r\n1\r\nz\r\n0\r\n\r\n"
    assert wire.writes[-1] == b"1\r\nz\r\n0\r\n\r\n"


def test_a_stream_may_end_with_nothing_more() -> None:
    call, wire = make()
    call.begin(200, headers=())
    call.end()
    assert wire.writes[-1] == b"0\r\n\r\n"


def test_to_an_old_client_a_stream_ends_with_the_connection() -> None:
    call, wire = make(modern=False)
    call.begin(200, headers=())
    call.write(b"a")
    call.end(b"z")
    assert wire.sent() == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\naz"
    assert not call.keep


@pytest.mark.parametrize(
    ("modern", "keep", "draining", "said"),
    [
        (True, True, False, None),
        (True, False, False, b"close"),
        (True, True, True, b"close"),
        (False, True, False, b"keep-alive"),
        (False, False, False, b"close"),
        (False, True, True, b"close"),
    ],
)
def test_the_answer_says_what_becomes_of_the_connection(
    modern: bool, keep: bool, draining: bool, said: bytes | None
) -> None:
    call, wire = make(modern=modern, keep=keep, draining=draining)
    call.respond(200, headers=(), body=b"")
    found = re.search(rb"connection: ([^\r]+)", wire.sent())
    assert (found[1] if found else None) == said
    assert call.keep is (keep and not draining)


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"a\r\nset-cookie: b"),
        (b"x", b"a\nb"),
        (b"x", b"a\rb"),
        (b"x", b"a\0b"),
        (b"x", b"a\r\n\r\nb"),
        (b"x\r\ny", b"a"),
        (b"x y", b"a"),
        (b"x:", b"a"),
        (b"", b"a"),
        (b"\xc3\xbc", b"a"),
        *((name, b"a") for name in sorted(RESERVED)),
        (b"Content-Length", b"3"),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_a_header_can_not_split_the_answer(header: tuple[bytes, bytes], whole: bool) -> None:
    call, wire = make()
    answer = partial(call.respond, body=b"") if whole else call.begin
    with pytest.raises(ValueError, match="header"):
        answer(200, headers=[*TEXT, header, *TEXT])
    assert (wire.writes, call.started, call.ended) == ([], False, False)
    call.respond(500, headers=(), body=b"")  # so an answer can still be given
    assert wire.ends == ["finish"]


@pytest.mark.parametrize("status", [0, 99, 100, 101, 199, 600, 1000])
def test_a_status_that_is_none_is_refused(status: int) -> None:
    call, wire = make()
    with pytest.raises(ValueError, match=str(status)):
        call.respond(status, headers=(), body=b"")
    assert not wire.writes


def test_write_says_whether_the_client_keeps_up() -> None:
    call, wire = make()
    call.begin(200, headers=())
    wire.paused = True
    assert not call.write(b"a")


def test_an_answer_is_given_once() -> None:
    call, _ = make()
    with pytest.raises(RuntimeError, match="begin"):
        call.write(b"a")
    with pytest.raises(RuntimeError, match="begin"):
        call.end()
    call.respond(200, headers=(), body=b"")
    for again in (
        lambda: call.respond(200, headers=(), body=b""),
        lambda: call.begin(200, headers=()),
        lambda: call.write(b"a"),
        lambda: call.end(),
    ):
        with pytest.raises(RuntimeError, match="already"):
            again()
    call.cut()  # and a whole one is no more cut


def test_what_is_said_to_nobody_vanishes() -> None:
    call, wire = make()
    call.gone = True
    call.begin(200, headers=())
    assert call.write(b"a")
    call.end(b"b")
    call.cut()
    assert (wire.writes, wire.ends) == ([], [])


@pytest.mark.parametrize(("modern", "end"), [(True, "flush"), (False, "reset")])
def test_a_cut_answer_does_not_look_whole(modern: bool, end: str) -> None:
    call, wire = make(modern=modern)
    call.begin(200, headers=())
    call.write(b"a")
    call.cut()
    call.cut()
    assert wire.ends == [end]
    assert b"0\r\n\r\n" not in wire.sent()


def test_a_call_that_is_cut_before_its_answer_has_none() -> None:
    call, wire = make()
    call.cut()
    assert (wire.writes, wire.ends) == ([], ["reset"])
    with pytest.raises(RuntimeError, match="cut"):
        call.respond(200, headers=(), body=b"")
