"""What every front is: one route of the data port, in one client protocol.

A front decodes a request's bytes into an `Exchange`, and an `Encoder` writes the answer's events
back in the protocol the client spoke. Fronts know nothing of targets; they do no I/O.
"""

from dataclasses import dataclass
from typing import Protocol

from llm_router.errors import Problem
from llm_router.exchange import Answer, Delta, Exchange, Finish, Timing

JSON = b"application/json"
NDJSON = b"application/x-ndjson"
SSE = b"text/event-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What an encoder needs to know besides the exchange.

    Attributes:
        request_id: the x-request-id.
        created: Unix time of the request, in seconds.
        backend: the type of the target that answers.
    """

    request_id: str
    created: float
    backend: str


class Encoder(Protocol):
    """One answer, in the client's protocol. Made for one exchange, used once."""

    def delta(self, delta: Delta) -> bytes:
        """A piece of a streamed answer."""

    def finish(self, finish: Finish, timing: Timing) -> bytes:
        """The proper end of a streamed answer; not for one that is `sent`."""

    def failure(self, problem: Problem) -> bytes:
        """The end of a stream that broke: an error in band, and never the mark of a proper end."""

    def whole(self, answer: Answer, timing: Timing) -> bytes:
        """A whole answer; the host's own, where that is in the client's protocol already."""


class Front(Protocol):
    """One route of the data port.

    Attributes:
        name: its metric label.
        stream_type: the content type of a streamed answer.
    """

    name: str
    stream_type: bytes

    def decode(self, body: bytes) -> Exchange:
        """The request in the bytes.

        Raises:
            Refused: the request is wrong, or asks for what no target has.
        """

    def encoder(self, exchange: Exchange, about: About) -> Encoder:
        """The encoder of this request's answer."""

    def problem(self, problem: Problem) -> bytes:
        """An error body in the client's protocol."""
