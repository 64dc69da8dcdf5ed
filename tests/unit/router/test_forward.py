"""Which of a client's headers a target gets."""

import pytest

from llm_router import forward
from llm_router.forward import MAX_BYTES, MAX_HEADERS, MAX_NAME, MAX_VERDICTS, forwarded

WITHHELD = """
connection keep-alive te trailer transfer-encoding upgrade proxy-connection proxy-authorization
proxy-authenticate authorization cookie host origin referer user-agent content-type content-length
content-encoding content-language accept accept-encoding accept-language expect range if-match
if-none-match if-modified-since forwarded x-forwarded-for x-forwarded-host x-forwarded-proto via
x-real-ip sec-fetch-mode sec-ch-ua access-control-request-method x-api-key api-key
x-stainless-lang x-stainless-retry-count x-llm-session x-llm-user x-request-id traceparent
tracestate baggage x-http-method-override x-original-url x-auth-token
""".split()


@pytest.mark.parametrize("name", WITHHELD)
def test_stays_here(name: str) -> None:
    headers = [(name.encode(), b"x"), (b"x-mine", b"1")]
    assert forwarded(headers, ()) == ((b"x-mine", b"1"),)


@pytest.mark.parametrize(
    "name",
    [
        "openai-beta",
        "openai-organization",
        "anthropic-version",
        "x-tenant",
        "cache-control",
        "x-hostess",
        "cookies",
        "x-requested-with",
        "range-x",
    ],
)
def test_goes_on(name: str) -> None:
    assert forwarded([(name.encode(), b"x")], ()) == ((name.encode(), b"x"),)


def test_an_ordinary_request_has_none() -> None:
    headers = [(name.encode(), b"x") for name in WITHHELD]
    assert forwarded(headers, ()) == ()
    assert forwarded([], ()) == ()


def test_order_and_repetition_stay() -> None:
    headers = [(b"b", b"1"), (b"a", b"2"), (b"host", b"h"), (b"b", b"3")]
    assert forwarded(headers, ()) == ((b"b", b"1"), (b"a", b"2"), (b"b", b"3"))


def test_what_the_connection_names_is_of_the_connection() -> None:
    headers = [
        (b"x-a", b"1"),
        (b"connection", b"keep-alive,  X-A"),
        (b"x-b", b"2"),
        (b"connection", b"x-c"),
        (b"x-c", b"3"),
    ]
    assert forwarded(headers, ()) == ((b"x-b", b"2"),)


def test_a_target_removes_more() -> None:
    headers = [(b"x-a", b"1"), (b"x-b", b"2")]
    assert forwarded(headers, frozenset({b"x-a"})) == ((b"x-b", b"2"),)


@pytest.mark.parametrize(
    "header",
    [
        (b"", b"x"),
        (b"a b", b"x"),
        (b"a:b", b"x"),
        (b"a\r\nb", b"x"),
        (b"X-Upper", b"x"),
        (b"x-a", b"1\r\nx-b: 2"),
        (b"x-a", b"1\0"),
        (b"x-a", b"1\x7f"),
        (b"x" * (MAX_NAME + 1), b"x"),
    ],
)
def test_what_no_server_lets_through_does_not_go_on_either(header: tuple[bytes, bytes]) -> None:
    assert forwarded([header, (b"x-ok", b"\xc3\xbc\t1")], ()) == ((b"x-ok", b"\xc3\xbc\t1"),)


def test_their_number_is_bounded() -> None:
    headers = [(b"x-%d" % n, b"") for n in range(MAX_HEADERS + 5)]
    assert forwarded(headers, ()) == tuple(headers[:MAX_HEADERS])


def test_their_size_is_bounded() -> None:
    fits = (b"x-a", b"a" * (MAX_BYTES - 3))
    assert forwarded([fits, (b"b", b"")], ()) == (fits,)
    assert forwarded([(b"x-a", b"a" * (MAX_BYTES - 2)), (b"b", b"")], ()) == ()


def test_what_is_kept_of_clients_names_is_bounded() -> None:
    for number in range(3 * MAX_VERDICTS):
        forwarded([(b"x-%d" % number, b"1"), (b"y" * 1000 + b"%d" % number, b"1")], ())
    assert len(forward._PASSES) <= MAX_VERDICTS
    assert max(map(len, forward._PASSES)) <= MAX_NAME
    assert forwarded([(b"host", b"h"), (b"x-a", b"1")], ()) == ((b"x-a", b"1"),)
