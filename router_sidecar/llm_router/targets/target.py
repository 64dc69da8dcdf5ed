"""What every target type is: how one kind of host is asked, and how its answer is read.

Pure translation: an `Exchange` becomes the bytes of one upstream request, upstream bytes become
events. No I/O, no knowledge of the client's protocol beyond the exchange. Upstream is always asked
to stream, whatever the client wanted: that is what makes cancelling, the first-token limit and
token counts possible.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from llm_contract import Defaults, Parameters
from llm_router.errors import AttemptFailed, Cause
from llm_router.exchange import Event, Exchange

#: An upstream line longer than this is not one of a language model's.
MAX_LINE = 16 * 1024 * 1024

#: No event of more bytes is `[DONE]`, whatever blanks are around it.
DONE_LENGTH = 16

#: Body fields that the request alone, or the router, sets; parameters never do.
RESERVED = frozenset({"model", "messages", "prompt", "input", "stream", "stream_options"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a route wants one of its targets asked.

    Attributes:
        model: the id this host knows the model by.
        defaults: for what the request does not set.
        parameters: body fields by the target's own names, the route's and the target's merged;
            overrides win over the request.
        num_ctx: Ollama's context length; always sent, so that the model is not loaded anew.
        keep_alive: Ollama's, when neither the request nor `defaults` sets one.
    """

    model: str
    defaults: Defaults
    parameters: Parameters = field(default_factory=Parameters)
    num_ctx: int | None = None
    keep_alive: str | int | None = None


@dataclass(slots=True)
class Outgoing:
    """One upstream request.

    Attributes:
        dropped: the client's fields that this target has no place for, by name; never empty in
            silence.
        reader: makes the decoder of its answer.
    """

    path: bytes
    body: bytes
    reader: "Callable[[], Decoder]"
    dropped: tuple[str, ...] = ()


class Decoder(Protocol):
    """Reads one upstream answer.

    Attributes:
        started: a first token has come: text, thinking, a tool call or the end. Comments and
            role-only chunks are none.
        done: the host has marked the proper end.
    """

    started: bool
    done: bool

    def feed(self, data: bytes) -> list[Event]:
        """The events completed by these bytes, however they were cut; `b""` is the answer's end.

        Raises:
            AttemptFailed: the host sent an error in band, or bytes that are not its protocol.
            AttributeError, KeyError, TypeError, ValueError: JSON of an unknown shape; see
                `decoded`.
        """


class Target(Protocol):
    """One kind of host."""

    def lacks(self, exchange: Exchange) -> str | None:
        """The request's field that this kind of host can't honour, or None."""

    def encode(self, exchange: Exchange, terms: Terms) -> Outgoing:
        """The upstream request, and how its answer is read."""

    def refusal(self, status: int, body: bytes) -> AttemptFailed:
        """What an answer other than 200 means."""


class Lines:
    """Cuts upstream bytes into lines, wherever the network cut them.

    Attributes:
        held: bytes of a line that is not complete.
    """

    __slots__ = ("_parts", "held")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.held = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete now, without their ends; `b""` completes the last one.

        Raises:
            AttemptFailed: a line longer than MAX_LINE.
        """
        lines = data.split(b"\n")
        if not data or len(lines) == 1:
            # NB: a short answer of Ollama's, such as of a load, has no line end.
            return self._hold(data) if data else self._last()
        rest = lines.pop()
        if self._parts:
            self._parts.append(lines[0])
            lines[0] = b"".join(self._parts)
            self._parts = []
            self.held = 0
        if rest:
            self._hold(rest)
        return lines

    def _hold(self, piece: bytes) -> list[bytes]:
        self._parts.append(piece)
        self.held += len(piece)
        if self.held > MAX_LINE:
            raise broken(f"sent a line of more than {MAX_LINE} bytes")
        return []

    def _last(self) -> list[bytes]:
        rest, self._parts, self.held = b"".join(self._parts), [], 0
        return [rest]


def broken(what: str) -> AttemptFailed:
    """The host broke its own protocol."""
    return AttemptFailed(Cause.BROKEN_STREAM, f"the host {what}")


def decoded(decoder: Decoder, data: bytes) -> list[Event]:
    """What `Decoder.feed` gives, with JSON of a shape that no host of the kind sends as a failure.

    Raises:
        AttemptFailed: the answer is broken.
    """
    try:
        return decoder.feed(data)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise broken("sent JSON of an unknown shape") from None


def word(value: object) -> str:
    """A text in a host's chunk; "" when it is not there.

    Raises:
        TypeError: it is something else.
    """
    if value is None or isinstance(value, str):
        return value or ""
    raise TypeError(value)


def count(value: object) -> int | None:
    """A count or a duration in a host's chunk.

    Raises:
        TypeError: it is something else.
    """
    if value is None or type(value) is int:
        return value
    raise TypeError(value)


def parsed(line: bytes) -> dict[str, Any]:
    """One JSON object from a host.

    Raises:
        AttemptFailed: it is not one.
    """
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise broken("sent a line that is not JSON") from None
    if type(value) is not dict:
        raise broken("sent JSON that is not an object")
    return value


def is_done(payload: bytes) -> bool:
    """Whether an event is the end that the OpenAI protocol marks, and no JSON."""
    # NB: looked at first, as it ends every answer, and an exception of the parser's is dear.
    return len(payload) <= DONE_LENGTH and payload.strip() == b"[DONE]"


def error_text(body: bytes) -> str:
    """The sentence in a host's error body, whichever of the known shapes it has."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body[:500].decode(errors="replace").strip()
    error = value.get("error", value) if isinstance(value, Mapping) else value
    if isinstance(error, Mapping):
        error = error.get("message", error)
    return (error if isinstance(error, str) else orjson.dumps(error).decode())[:500]


#: Statuses that mean one thing on every host; the rest is each host's own.
CAUSES: Mapping[int, Cause] = {
    401: Cause.MISCONFIGURED,
    403: Cause.MISCONFIGURED,
    408: Cause.SERVER_ERROR,
    429: Cause.RATE_LIMITED,
    503: Cause.BUSY,
}


def cause_of(status: int) -> Cause:
    """The cause behind a status that no host gives a meaning of its own."""
    if status in CAUSES:
        return CAUSES[status]
    if 400 <= status < 500:
        return Cause.REJECTED
    # NB: 1xx never gets here; 2xx other than 200 and 3xx are no answer (redirects are not
    # followed).
    return Cause.SERVER_ERROR


def called(status: int, text: str) -> str:
    """How a message speaks of an upstream status."""
    return f"the host answered {status}: {text}" if text else f"the host answered {status}"
