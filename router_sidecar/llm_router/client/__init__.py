"""The client library: `from llm_router import LLMRouter, get_llm_router`.

    async with LLMRouter() as router:
        result = await router.generate("phi3:mini", "Why is the sky blue?")
        print(result["response"], result.usage.tokens_per_second)

It talks to a router process over HTTP and needs httpx alone. Nothing of the router process is
imported here, and the router process imports nothing of this.

Reading order is the flow of one call: `router` -> `fields` -> `request` -> `wire` -> `results`, and
`stream` for answers that are read as they are written.
"""

from llm_router.client.errors import (
    InvalidRequest,
    LLMRouterError,
    ModelNotFound,
    Overloaded,
    RouterUnavailable,
    StreamBroken,
    Timeout,
    UpstreamFailed,
)
from llm_router.client.predecessor import LLMRouterWarning
from llm_router.client.results import (
    ChatResult,
    EmbedResult,
    GenerateResult,
    Served,
    ToolCall,
    Usage,
)
from llm_router.client.router import LLMRouter, get_llm_router
from llm_router.client.stream import Piece, Stream

__all__ = [
    "ChatResult",
    "EmbedResult",
    "GenerateResult",
    "InvalidRequest",
    "LLMRouter",
    "LLMRouterError",
    "LLMRouterWarning",
    "ModelNotFound",
    "Overloaded",
    "Piece",
    "RouterUnavailable",
    "Served",
    "Stream",
    "StreamBroken",
    "Timeout",
    "ToolCall",
    "UpstreamFailed",
    "Usage",
    "get_llm_router",
]
