"""Which trace a request belongs to: W3C Trace Context, level 1, in and out.

    traceparent of the caller -> Trace -> traceparent of each attempt upstream

Pure and cheap, as it runs for each request whether or not spans are exported. What a client sends
is taken whole or not at all: a header that is not exactly version 00 starts a new trace.
"""

from dataclasses import dataclass
from random import getrandbits

#: Characters of a `tracestate` that are passed on; the standard asks for no more.
MAX_STATE = 512

_HEX = b"0123456789abcdef"
#: The last digit of flags with the sampled bit.
_ODD = b"13579bdf"
_NO_TRACE = b"0" * 32
_NO_SPAN = b"0" * 16

#: NB: never 0, and not after `attempt_id` either, which changes low bits only.
_TOP = 1 << 63


@dataclass(slots=True)
class Trace:
    """The place of one request in a trace. Nobody changes it; freezing it would cost each request.

    Attributes:
        trace_id: 32 lower hex digits.
        span_id: of the router's own span, 16 lower hex digits.
        parent_id: the caller's span; empty where the trace begins here.
        sampled: spans of it are recorded.
        state: the caller's `tracestate`, passed on as it is.
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    sampled: bool = False
    state: str = ""

    def attempt_id(self, number: int) -> str:
        """The span of one attempt upstream, counted from 0; the same whenever it is asked for."""
        return f"{int(self.span_id, 16) ^ (number + 1):016x}"

    def header(self, attempt: int = 0) -> bytes:
        """The `traceparent` that one attempt, counted from 0, sends upstream."""
        flags = "01" if self.sampled else "00"
        return f"00-{self.trace_id}-{self.attempt_id(attempt)}-{flags}".encode()


def begin(parent: bytes | None = None, state: bytes | None = None, *, ratio: float = 0.0) -> Trace:
    """The trace that a caller's two headers name, else a new one.

    Args:
        parent: `traceparent`; None where it was absent or sent twice.
        ratio: of the traces that begin here, how many are sampled; a caller's own word is kept.
    """
    span = f"{getrandbits(64) | _TOP:016x}"
    if parent is None or not _valid(parent):
        number = getrandbits(128) | 1
        sampled = ratio >= 1.0 or (ratio > 0.0 and (number & (_TOP - 1)) < ratio * _TOP)
        return Trace(f"{number:032x}", span, "", sampled)
    text = parent.decode()
    passed = _state(state) if state else ""
    return Trace(text[3:35], span, text[36:52], parent[54] in _ODD, passed)


def _valid(parent: bytes) -> bool:
    return (
        len(parent) == 55
        and parent[:3] == b"00-"
        and parent[35:36] == b"-"
        and parent[52:53] == b"-"
        # NB: int(text, 16) would take capitals, signs and underscores as well.
        and not (parent[3:35] + parent[36:52] + parent[53:]).translate(None, _HEX)
        and parent[3:35] != _NO_TRACE
        and parent[36:52] != _NO_SPAN
    )


def _state(value: bytes) -> str:
    if len(value) > MAX_STATE or not value.isascii():
        return ""
    text = value.decode()
    return text if text.isprintable() else ""
