"""The router's HTTP/1.1 client: the only code that opens sockets to upstreams.

    Pool.send ─> request (head) ─> address, dial ─> connection ─> Reply ─> read, pipe, close

It knows origins, bytes and connections; what a body means is for the layers above. `errors` holds
the tree of what can go wrong.
"""

from llm_router.transport.errors import (
    BadReply,
    ConnectFailed,
    Cut,
    NoReply,
    TimedOut,
    TooLarge,
    TransportError,
)
from llm_router.transport.origin import Origin
from llm_router.transport.pool import Counts, Pool
from llm_router.transport.reply import Reply, Sink
from llm_router.transport.request import RESERVED
from llm_router.transport.tls import Security

__all__ = [
    "RESERVED",
    "BadReply",
    "ConnectFailed",
    "Counts",
    "Cut",
    "NoReply",
    "Origin",
    "Pool",
    "Reply",
    "Security",
    "Sink",
    "TimedOut",
    "TooLarge",
    "TransportError",
]
