"""Getting an answer from the targets of a route.

    asker ─> attempt ─> Live ─> pipe ─> events, for `collect` or for whoever relays them

The order is `select`'s, the bytes are `targets`', the sockets are `transport`'s.
"""

from llm_router.ask.asker import Asker
from llm_router.ask.attempt import Limits
from llm_router.ask.collect import collect
from llm_router.ask.live import Failed, Live
from llm_router.ask.request import Request

__all__ = ["Asker", "Failed", "Limits", "Live", "Request", "collect"]
