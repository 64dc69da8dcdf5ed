"""An answer's status and headers -> the bytes of its head.

Pure but for the clock; refuses whatever could start a second response inside the first. Framing,
the state of the connection and the date are the server's own: a handler that names one of the
`RESERVED` headers is in error, and is told so.
"""

import time
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus
from string import ascii_letters, digits

Headers = Sequence[tuple[bytes, bytes]]

#: Headers that a handler can't set, in lower case.
RESERVED = frozenset(
    {
        b"connection",
        b"content-length",
        b"date",
        b"keep-alive",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

_TOKEN = f"!#$%&'*+-.^_`|~{digits}{ascii_letters}".encode()
_FORBIDDEN = b"\r\n\0"


def encode_head(status: int, headers: Headers, *, framing: bytes) -> bytes:
    """The head of an answer, up to and with its empty line.

    Args:
        framing: whole header lines that say how the body ends and what becomes of the connection.

    Raises:
        ValueError: the status or a header can't be sent; the message names it.
    """
    second = int(time.time())
    if second != _openings.second:
        _openings.clear()
        _openings.second = second
    if not headers:
        return b"%b%b\r\n" % (_openings[status], framing)
    block = b"\r\n".join([_fields[name] + value for name, value in headers])
    # NB: one pass over all values; the separators just written are two bytes each.
    if len(block) - len(block.translate(None, _FORBIDDEN)) != 2 * (len(headers) - 1):
        raise ValueError(f"a line end or NUL in the value of header {_culprit(headers)!r}")
    return b"%b%b%b\r\n\r\n" % (_openings[status], framing, block)


class _Openings(dict[int, bytes]):
    """Status -> status line and date, for one second."""

    second = 0

    def __missing__(self, status: int) -> bytes:
        if not 200 <= status <= 599:
            raise ValueError(f"{status} is not the status of a final response: use 200 to 599")
        phrase = HTTPStatus(status).phrase if status in _KNOWN else ""
        date = formatdate(self.second, usegmt=True)
        self[status] = line = f"HTTP/1.1 {status} {phrase}\r\ndate: {date}\r\n".encode()
        return line


class _Fields(dict[bytes, bytes]):
    """Header name -> how its line begins, checked when first seen."""

    def __missing__(self, name: bytes) -> bytes:
        if not name or name.translate(None, _TOKEN):
            raise ValueError(f"{name!r} is not a header name")
        if name.lower() in RESERVED:
            raise ValueError(f"header {name.decode()!r} is the server's own: leave it out")
        if len(self) >= 1024:
            self.clear()
        self[name] = field = name + b": "
        return field


_KNOWN = frozenset(HTTPStatus)
_openings = _Openings()
_fields = _Fields()


def _culprit(headers: Headers) -> str:
    return next(
        name.decode() for name, value in headers if value.translate(None, _FORBIDDEN) != value
    )
