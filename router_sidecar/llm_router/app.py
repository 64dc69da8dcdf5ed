"""The data port: a plain ASGI callable that finds the front and serves one request.

It knows HTTP and nothing of protocols; `serving` is the life of a request to a host, `listing` that
of all others.
"""

import random
import re

from llm_router import listing
from llm_router.asgi import Receive, Scope, Send
from llm_router.fronts import ROUTES
from llm_router.serving import Parts, Serving

#: A caller's request id is kept when it is one; anything else could not go into a header or a log.
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class App:
    """The ASGI application of the data port."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        if scope["type"] != "http":
            raise NotImplementedError(f"the router serves http, not {scope['type']}")
        front = ROUTES.get(scope["path"]) if scope["method"] == "POST" else None
        request_id = _request_id(scope)
        if front is None:
            await listing.answer(self._parts, scope, receive, send, request_id=request_id)
            return
        with self._parts.metrics.active.track_inprogress():
            await Serving(self._parts, front, request_id=request_id).run(receive, send)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    # NB: not uuid4; it asks the kernel each time, which costs more than all else a request needs.
    return f"{random.getrandbits(128):032x}"
