"""Which of a client's request headers go on to a target.

Pure, and run for each request: one look-up a header, and most requests have none that pass. What
says who the client is, what it may do, how its connection or its body is made, or where it came
from stays here. So does what the router sets itself: ids, traces and everything about the body.
"""

from collections.abc import Collection, Iterable

Header = tuple[bytes, bytes]

#: How many headers pass, and how many bytes of names and values; the rest is left out.
MAX_HEADERS = 32
MAX_BYTES = 8192

#: A longer name does not pass.
MAX_NAME = 64

#: Names whose verdict is kept: a bound, for clients choose them.
MAX_VERDICTS = 1024

#: Names that don't pass, and beginnings of names.
WITHHELD = frozenset(
    {
        # of one connection
        b"connection",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
        b"max-forwards",
        # who the client is
        b"authorization",
        b"cookie",
        b"cookie2",
        b"api-key",
        b"x-api-key",
        b"x-goog-api-key",
        b"x-csrf-token",
        b"x-xsrf-token",
        # where it is, what it is and where it came from
        b"host",
        b"origin",
        b"referer",
        b"from",
        b"user-agent",
        b"dnt",
        b"upgrade-insecure-requests",
        b"forwarded",
        b"via",
        b"x-real-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"true-client-ip",
        # what is asked of the body
        b"expect",
        b"range",
        # what would ask for another path or method than the router's
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-url",
        b"x-rewrite-url",
        # what the router sets itself
        b"x-request-id",
        b"traceparent",
        b"tracestate",
        b"baggage",
    }
)
WITHHELD_PREFIXES = (
    b"proxy-",
    b"content-",
    b"accept",
    b"if-",
    b"sec-",
    b"access-control-",
    b"x-forwarded-",
    b"x-auth-",
    b"x-amz-",
    b"cf-",
    b"x-stainless-",
    b"x-llm-",
)

_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
_CONTROL = bytes(byte for byte in range(32) if byte != 9) + b"\x7f"


class _Verdicts(dict[bytes, bool]):
    """Header name -> whether it passes, found out when first seen."""

    def __missing__(self, name: bytes) -> bool:
        if len(name) > MAX_NAME:
            return False
        if len(self) >= MAX_VERDICTS:
            self.clear()
        self[name] = verdict = (
            bool(name)
            and not name.translate(None, _TOKEN)
            and name not in WITHHELD
            and not name.startswith(WITHHELD_PREFIXES)
        )
        return verdict


_PASSES = _Verdicts()


def forwarded(headers: Iterable[Header], removed: Collection[bytes]) -> tuple[Header, ...]:
    """The headers that a target gets of a request's.

    Args:
        headers: the client's, names in lower case; run through twice when any passes.
        removed: more names that don't pass, see `Access`.
    """
    passes = _PASSES
    kept = [header for header in headers if passes[header[0]]]
    return _chosen(kept, headers, removed) if kept else ()


def _chosen(
    kept: list[Header], headers: Iterable[Header], removed: Collection[bytes]
) -> tuple[Header, ...]:
    hop_by_hop = {
        token.strip().lower()
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    }
    chosen: list[Header] = []
    left = MAX_BYTES
    for name, value in kept:
        if name in removed or name in hop_by_hop or value.translate(None, _CONTROL) != value:
            continue
        left -= len(name) + len(value)
        if left < 0 or len(chosen) == MAX_HEADERS:
            break
        chosen.append((name, value))
    return tuple(chosen)
