"""A request's parts -> the bytes of its head.

Pure; refuses whatever could start a second request inside the first. The framing of a request and
the state of its connection are this package's: a caller that names one of the `RESERVED` headers
is in error, and is told so.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from llm_router.transport.origin import Origin

#: Headers that a caller can't send, in lower case.
RESERVED = frozenset(
    {
        b"accept-encoding",
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(rb"/[!-~]*")
_FORBIDDEN = b"\r\n\0"


def encode_head(
    origin: Origin,
    *,
    method: bytes,
    path: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    length: int,
) -> bytes:
    """The head of a request with a body of `length` bytes, up to and with its empty line.

    Raises:
        ValueError: the method, the path or a header can't be sent; the message names it.
    """
    opening = _opening(origin.prefix, origin.authority, method, path)
    if not headers:
        return b"%b%d\r\n\r\n" % (opening, length)
    block = b"\r\n".join([_FIELDS[name] + value for name, value in headers])
    # NB: one pass over all values; the separators just written are two bytes each.
    if len(block) - len(block.translate(None, _FORBIDDEN)) != 2 * (len(headers) - 1):
        raise ValueError(f"a line end or NUL in the value of header {_culprit(headers)!r}")
    return b"%b%d\r\n%b\r\n\r\n" % (opening, length, block)


# NB: methods, paths and header names come from configuration and code, so both tables stay small;
# the bounds are for paths and names that turn out to vary. No origin is a key, for it would keep
# the certificates of one that is no longer used.
@lru_cache(maxsize=1024)
def _opening(prefix: bytes, authority: bytes, method: bytes, path: bytes) -> bytes:
    if not _TOKEN.fullmatch(method):
        raise ValueError(f"{method!r} is not an HTTP method")
    if not _TARGET.fullmatch(path):
        raise ValueError(f"{path!r} is not a path: it begins with / and is printable ASCII")
    return (
        b"%b %b%b HTTP/1.1\r\n"
        b"Host: %b\r\n"
        b"Connection: keep-alive\r\n"
        b"Accept-Encoding: identity\r\n"
        b"Content-Length: " % (method, prefix, path, authority)
    )


class _Fields(dict[bytes, bytes]):
    """Header name -> how its line begins, checked when first seen."""

    def __missing__(self, name: bytes) -> bytes:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if name.lower() in RESERVED:
            raise ValueError(f"header {name.decode()!r} is the transport's own: leave it out")
        if len(self) >= 1024:
            self.clear()
        self[name] = field = name + b": "
        return field


_FIELDS = _Fields()


def _culprit(headers: Sequence[tuple[bytes, bytes]]) -> str:
    return next(
        name.decode() for name, value in headers if value.translate(None, _FORBIDDEN) != value
    )
