"""What a client may take of this process: bytes, seconds, requests at once."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of the server.

    Attributes:
        max_body: bytes of a request's body.
        max_head: bytes of a request line and its headers; also of trailers.
        max_active: requests that are answered at once, over all connections.
        keep_alive_seconds: a connection without a request is closed after this long.
        head_seconds: from the first byte of a request to its whole head.
        body_seconds: from there to its whole body.
        stall_seconds: for how long a client may read nothing of what is waiting for it.
    """

    max_body: int
    max_head: int = 64 * 1024
    max_active: int = 1024
    keep_alive_seconds: float = 75
    head_seconds: float = 30
    body_seconds: float = 60
    stall_seconds: float = 60
