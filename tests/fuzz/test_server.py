"""Any bytes of a client, however cut: the same requests, or a refusal and no more of them.

What two parsers could read differently is never handed on: a second, independent parser has to
agree with each request.
"""

import json
import re
from dataclasses import dataclass, field

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.profile import fuzz, fuzz_each
from fuzz.shapes import changed, cut
from llm_router.server import Call, Limits
from llm_router.server.check import Refusal
from llm_router.server.reader import Reader

LIMITS = Limits(max_body=200, max_head=2000)

HOST = b"Host: router\r\n"
GET = b"GET /v1/models HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /api/chat HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()

REQUESTS = (
    GET,
    GET * 3,
    POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY + GET,
    CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY) + GET,
    CHUNKED + b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n" + GET,
    POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    POST + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /generate HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /v1/models/a%2Fb?x=1 HTTP/1.1\r\n" + HOST + b"Connection: keep-alive\r\n\r\n",
    POST + b"Content-Length: 500\r\n\r\n" + b"x" * 500,
)

WORDS = (
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\r\n ", b"0\r\n\r\n", b"\r\n\r\n"),
    *(b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Content-Length: -1\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: x, chunked\r\n", b"HTTP/1.0"),
    *(b"Content-Length : 4\r\n", b"Transfer-Encoding:\x0bchunked\r\n", b"1" * 25, b"+3", b"0x3"),
    *(b"Connection: close\r\n", b"Host: other\r\n", b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"),
    *(b"X: " + b"y" * 900 + b"\r\n", b"%00", b"%ff", b"#", b"http://x/", b"Expect: x\r\n"),
)


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


def read(pieces: list[bytes]) -> Taken:
    taken = Taken()
    reader = Reader(taken, LIMITS)
    for piece in pieces:
        if reader.done:
            break
        reader.feed(piece)
    assert len(taken.refusals) <= 1
    for refusal in taken.refusals:
        assert refusal.status in (400, 417, 431, 501), "a fault of our own"
        assert reader.done
    return taken


def facts(call: Call) -> tuple[object, ...]:
    status = call.refusal.status if call.refusal else None
    return (call.method, call.path, call.query, call.headers, call.body, call.keep, status)


def second_opinion(data: bytes) -> list[tuple[str, bytes, bytes]]:
    """Method, target and body of each request by another parser, up to the first it refuses."""
    found: list[tuple[str, bytes, bytes]] = []
    # NB: empty lines before a request are to be skipped (RFC 9112, 2.2), and h11 does not.
    while data := data.lstrip(b"\r\n"):
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=10_000)
        # NB: more than one space may stand in a request line (RFC 9112, 3), and h11 wants one.
        server.receive_data(re.sub(rb"\A(\S+) +(\S+) +", rb"\1 \2 ", data))
        try:
            request = server.next_event()
            if not isinstance(request, h11.Request):
                break
            body = b""
            while not isinstance(event := server.next_event(), h11.EndOfMessage):
                if not isinstance(event, h11.Data):
                    return found
                body += bytes(event.data)
        except h11.RemoteProtocolError:
            break
        found.append((request.method.decode(), request.target, body))
        data = server.trailing_data[0]
    return found


def agreed(taken: Taken, data: bytes) -> None:
    """Each request that is handed on is one of the second parser's too, in the same place."""
    served = [call for call in taken.calls if call.refusal is None]
    others = second_opinion(data)
    assert len(served) <= len(others), (served, others)
    for call, (method, target, body) in zip(served, others, strict=False):
        assert (call.method, call.body) == (method, body)
        assert target.partition(b"?")[2] == call.query


@fuzz
@given(data=st.data(), requests=st.sampled_from(REQUESTS))
def test_requests_changed(data: st.DataObject, requests: bytes) -> None:
    sent = data.draw(changed(requests, words=WORDS))
    whole = read([sent] if sent else [])
    if b"upgrade" not in sent.lower():
        agreed(whole, sent)
    in_pieces = read(data.draw(cut(sent)))
    assert list(map(facts, in_pieces.calls)) == list(map(facts, whole.calls))
    assert bool(in_pieces.refusals) == bool(whole.refusals)


@fuzz
@given(data=st.data(), requests=st.lists(st.sampled_from(REQUESTS[:-1]), max_size=4).map(b"".join))
def test_good_requests_however_they_are_cut(data: st.DataObject, requests: bytes) -> None:
    whole, in_pieces = read([requests]), read(data.draw(cut(requests)))
    assert not whole.refusals
    assert not in_pieces.refusals
    assert list(map(facts, in_pieces.calls)) == list(map(facts, whole.calls))


@fuzz
@given(data=st.data(), sent=st.binary(max_size=80))
def test_rubbish(data: st.DataObject, sent: bytes) -> None:
    taken = read(data.draw(cut(sent)))
    assert not taken.calls


#: Heads whose body's end two servers could see in two places.
SMUGGLING = {
    "both lengths": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "both, the other way": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "one length twice": b"Content-Length: 5\r\nContent-Length: 5\r\n",
    "a list of lengths": b"Content-Length: 5, 5\r\n",
    "a signed length": b"Content-Length: +5\r\n",
    "a negative length": b"Content-Length: -5\r\n",
    "a length in hex": b"Content-Length: 0x5\r\n",
    "a length with a space": b"Content-Length: 5 5\r\n",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "a list of codings": b"Transfer-Encoding: chunked, chunked\r\n",
    "another coding": b"Transfer-Encoding: xchunked\r\n",
    "a coding after chunked": b"Transfer-Encoding: chunked, identity\r\n",
    "a coding with a control": b"Transfer-Encoding: \x0bchunked\r\n",
    "a space before the colon": b"Transfer-Encoding : chunked\r\n",
    "a folded line": b"Transfer-Encoding:\r\n chunked\r\n",
    "a bare line feed": b"X: y\nTransfer-Encoding: chunked\r\n",
    "a bare carriage return": b"X: y\rTransfer-Encoding: chunked\r\n",
    "a NUL": b"X: \x00\r\nContent-Length: 5\r\n",
}


@pytest.mark.parametrize("shape", SMUGGLING.values(), ids=SMUGGLING.keys())
@fuzz_each
@given(data=st.data(), before=st.sampled_from([b"", b"X-A: b\r\n", b"X-Chunked: 1\r\n"]))
def test_a_smuggling_shape_is_never_served(
    shape: bytes, data: st.DataObject, before: bytes
) -> None:
    body = data.draw(st.sampled_from([b"0\r\n\r\n", b"5\r\nabcde\r\n0\r\n\r\n", b"abcde", b""]))
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    case = data.draw(st.sampled_from([bytes.lower, bytes.upper, bytes]))
    named = re.sub(rb"(?m)^[A-Za-z-]+", lambda found: case(found[0]), shape)
    taken = read(data.draw(cut(POST + before + named + b"\r\n" + body + smuggled)))
    assert not taken.calls
    assert len(taken.refusals) == 1


@pytest.mark.parametrize(
    "size", [b"0x5", b"+5", b"-5", b" 5", b"5 ", b"5\t", b"g", b"", b"5;\n", b"f" * 17]
)
@fuzz_each
@given(data=st.data())
def test_a_bad_chunk_size_is_never_served(size: bytes, data: st.DataObject) -> None:
    sent = CHUNKED + size + b"\r\nabcde\r\n0\r\n\r\n" + GET
    taken = read(data.draw(cut(sent)))
    assert not taken.calls
    assert len(taken.refusals) == 1
