"""A request's head, as the parser took it -> what it means, or why it is refused.

Pure. The parser (llhttp, strict) already refuses a length beside a coding, repeated lengths,
lengths that are no numbers, folded lines, bare line ends, NUL, and names that are no tokens. Here
is the rest: what it takes and another program on the way could read differently.
"""

from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

Headers = tuple[tuple[bytes, bytes], ...]

#: The length of a body that comes in chunks.
CHUNKED = -1

#: Headers that a request has once. The parser sees to content-length.
_SINGLE = (b"host", b"transfer-encoding", b"expect")

#: Digits of the largest length that the parser counts to.
_DIGITS = 20

#: Bytes of a target that is worth remembering.
_SHORT = 128


class Refusal(Exception):
    """The request is answered by the server itself, and its connection ends."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


def body_length(headers: Headers, fields: Mapping[bytes, bytes], *, version: str) -> int:
    """How many bytes of body follow the head, or `CHUNKED`.

    Args:
        fields: the same headers; of a repeated one, any value.

    Raises:
        Refusal: the head is not one of HTTP/1.1 or 1.0 that all would read alike.
    """
    if len(fields) != len(headers):
        _refuse_repeated(headers)
    if version == "1.1":
        if b"host" not in fields:
            raise Refusal(400, "the request has no Host header")
        expected = fields.get(b"expect")
        if expected is not None and expected.lower() != b"100-continue":
            raise Refusal(417, "no expectation but 100-continue can be met")
    elif version != "1.0":
        raise Refusal(400, f"HTTP/{version} is not served: use HTTP/1.1")
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        return _chunked(coding, version)
    length = fields.get(b"content-length")
    if length is None:
        return 0
    if len(length) > _DIGITS:
        raise Refusal(400, f"a Content-Length of {len(length)} digits is not a length")
    return int(length)


def split_target(target: bytes) -> tuple[str, bytes]:
    """The path and the query of a request target in origin form.

    Raises:
        Refusal: it has another form, or its path is not UTF-8.
    """
    return _targets[target] if len(target) <= _SHORT else _split(target)


def _split(target: bytes) -> tuple[str, bytes]:
    if target[:1] != b"/" or b"#" in target:
        raise Refusal(400, "the request target must be a path, as /v1/models?x=y")
    path, _, query = target.partition(b"?")
    if b"%" in path:
        path = unquote_to_bytes(path)
    try:
        return path.decode(), query
    except UnicodeDecodeError:
        raise Refusal(400, "the path is not UTF-8, percent-encoded") from None


class _Targets(dict[bytes, tuple[str, bytes]]):
    """Target -> path and query, of those that come again and again."""

    def __missing__(self, target: bytes) -> tuple[str, bytes]:
        if len(self) >= 1024:
            self.clear()
        self[target] = split = _split(target)
        return split


_targets = _Targets()


def _chunked(coding: bytes, version: str) -> int:
    if version == "1.0":
        raise Refusal(400, "an HTTP/1.0 request has no Transfer-Encoding")
    if coding.lower() == b"chunked":
        return CHUNKED
    if not all(part.strip() for part in coding.split(b",")):
        raise Refusal(400, "Transfer-Encoding has an empty member")
    raise Refusal(501, "no Transfer-Encoding but chunked is served")


def _refuse_repeated(headers: Headers) -> None:
    names = [name for name, _ in headers]
    for name in _SINGLE:
        if names.count(name) > 1:
            raise Refusal(400, f"the request has more than one {name.decode()} header")
