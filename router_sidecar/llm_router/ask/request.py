"""One request on its way through the targets of its route."""

from dataclasses import dataclass, field

from llm_router.ask.live import Failed
from llm_router.exchange import Exchange, Timing
from llm_router.table import Entry
from llm_router.trace import Trace


@dataclass(slots=True, kw_only=True)
class Request:
    """What is asked, where it may go, and how that went so far.

    Attributes:
        deadline: of all attempts, on the loop's clock.
        headers: the client's; a target gets those that may be forwarded.
        sticky: the value of the route's sticky header; None when it has none.
        trace: that each attempt upstream is a part of.
        passed: what is against the first tier, when none of it is asked; "" when one is.
        failures: so far, in order.
    """

    exchange: Exchange
    entry: Entry
    deadline: float
    timing: Timing
    headers: tuple[tuple[bytes, bytes], ...] = ()
    request_id: bytes = b""
    sticky: bytes | None = None
    trace: Trace | None = None
    passed: str = ""
    failures: list[Failed] = field(default_factory=list)
