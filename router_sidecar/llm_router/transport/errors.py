"""What can go wrong between this process and an upstream, below anything that a body means.

    TransportError
    ├── ConnectFailed   no connection was made; `reason` says why, and whose fault that is
    ├── NoReply         the connection ended before the first byte of a response
    ├── TimedOut        nothing came within the time that the caller gave; a TimeoutError too
    ├── Cut             the connection ended inside the head or the body of a response
    ├── BadReply        the bytes are not an HTTP response that can be trusted
    └── TooLarge        a body that was to be read whole is longer than its limit

Every message begins with the upstream's address. None holds a header's value or any part of a body.
"""

from typing import Literal

Reason = Literal[
    "refused",  # nobody listens there
    "dns",  # the name has no address
    "timeout",  # resolving, connecting and the TLS handshake together took too long
    "tls",  # the handshake failed, or the certificate does not hold for the host
    "unreachable",  # any other answer of the network
    "refused_address",  # every address is link-local or a cloud's metadata service
    "exhausted",  # this machine is out of files, ports or memory: not the upstream's fault
    "closed",  # the pool was closed: not the upstream's fault
]


class TransportError(Exception):
    """Any failure to get a response, or the rest of one, from an upstream."""


class ConnectFailed(TransportError):
    """No connection was made, so the upstream has seen nothing of the request.

    Attributes:
        reason: one of `Reason`.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class NoReply(TransportError):
    """The connection was closed or reset before any byte of a response.

    The upstream may have read the request all the same.

    Attributes:
        fresh: whether the connection was made for this request; a pool retries the others itself.
    """

    def __init__(self, message: str, *, fresh: bool) -> None:
        self.fresh = fresh
        super().__init__(message)


class TimedOut(TransportError, TimeoutError):
    """The head, or the next piece of the body, did not come within the time given for it."""


class Cut(TransportError):
    """The response ended before its proper end, or was closed on this side while it was read."""


class BadReply(TransportError):
    """The bytes break HTTP, so that where the response ends is unknown or can be disputed."""


class TooLarge(TransportError):
    """The body is longer than the limit that the caller set."""
