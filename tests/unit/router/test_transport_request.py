"""Request heads: their bytes, and that nothing a header holds can begin a second request."""

import pytest

from llm_router.transport import RESERVED, Origin
from llm_router.transport.request import encode_head

ORIGIN = Origin.parse("http://host:8080/v1")


def head(
    *headers: tuple[bytes, bytes], method: bytes = b"POST", path: bytes = b"/chat", length: int = 7
) -> bytes:
    return encode_head(ORIGIN, method=method, path=path, headers=headers, length=length)


def test_head_without_headers() -> None:
    assert head(method=b"GET", path=b"/models?x=%20", length=0) == (
        b"GET /v1/models?x=%20 HTTP/1.1\r\n"
        b"Host: host:8080\r\n"
        b"Connection: keep-alive\r\n"
        b"Accept-Encoding: identity\r\n"
        b"Content-Length: 0\r\n"
        b"\r\n"
    )


def test_headers_keep_their_order_case_and_bytes() -> None:
    assert head((b"X-B", b"1"), (b"x-a", b"\xff \t"), (b"X-B", b"")).endswith(
        b"Content-Length: 7\r\nX-B: 1\r\nx-a: \xff \t\r\nX-B: \r\n\r\n"
    )


@pytest.mark.parametrize("value", [b"a\r\nb", b"a\n", b"\r", b"\0", b"\r\n\r\nGET / HTTP/1.1\r\n"])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_value_with_a_line_end_is_refused_by_its_name(value: bytes, position: int) -> None:
    headers = [(b"x-one", b"1"), (b"x-two", b"2"), (b"x-three", b"3")]
    name = headers[position][0]
    headers[position] = (name, b"secret" + value)
    with pytest.raises(ValueError, match=repr(name.decode())) as caught:
        head(*headers)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\n", b"a\0", b"\xff", b"a\n b", b" a"])
def test_name_that_is_no_token_is_refused(name: bytes) -> None:
    for _ in range(2):  # a refusal is not remembered as a success
        with pytest.raises(ValueError, match="not a header name"):
            head((name, b"x"))


@pytest.mark.parametrize("name", sorted(RESERVED))
@pytest.mark.parametrize("form", [bytes.lower, bytes.title, bytes.upper])
def test_own_headers_can_not_be_given(name: bytes, form: object) -> None:
    assert callable(form)
    with pytest.raises(ValueError, match="transport's own"):
        head((form(name), b"x"))


def test_framing_is_reserved() -> None:
    assert {b"host", b"content-length", b"transfer-encoding", b"connection"} <= RESERVED


@pytest.mark.parametrize("path", [b"", b"x", b"/a b", b"/\r\n", b"/\xc3", b"/a\0", b"http://x/"])
def test_path_that_would_end_the_line_is_refused(path: bytes) -> None:
    with pytest.raises(ValueError, match="not a path"):
        head(path=path)


@pytest.mark.parametrize("method", [b"", b"GE T", b"GET\r\n", b"GET /"])
def test_method_that_is_no_token_is_refused(method: bytes) -> None:
    with pytest.raises(ValueError, match="not an HTTP method"):
        head(method=method)


def test_many_names_do_not_grow_the_table_for_ever() -> None:
    for number in range(5_000):
        assert b"x-%d: v\r\n" % number in head((b"x-%d" % number, b"v"))
