"""The router: one localhost address for every model an orchestrator calls.

Reading order is the flow of one request: `mount` -> `table` -> `fronts` -> `ask` -> `targets` ->
`transport`, and back. `app` is what the data port's `server` calls, `management` the port for
probes and metrics.

`client` is its client library, whose names are exported here: `from llm_router import LLMRouter`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_router.client import *  # noqa: F403

#: What the client exports, and this package with it.
EXPORTED = frozenset(
    "ChatResult EmbedResult GenerateResult InvalidRequest LLMRouter LLMRouterError "
    "LLMRouterWarning ModelNotFound Overloaded Piece RouterUnavailable Served Stream StreamBroken "
    "Timeout ToolCall UpstreamFailed Usage get_llm_router".split()
)


def __getattr__(name: str) -> Any:
    # NB: lazily, as the router process is this package too, and must not import httpx for it.
    if name not in EXPORTED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from llm_router import client

    return getattr(client, name)
