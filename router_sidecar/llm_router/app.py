"""The data port: finds what serves a request, and serves it.

`serving` is the life of a request to a host, `listing` that of all others.
"""

import random
import re

from llm_router import listing
from llm_router.fronts import ROUTES
from llm_router.server import Call
from llm_router.serving import Parts, Serving

#: A caller's request id is kept when it is one; anything else could not go into a header or a log.
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class App:
    """What the data port's server calls.

    Attributes:
        active: requests being answered by a host.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.active = 0
        parts.metrics.observe_active(lambda: self.active)

    async def __call__(self, call: Call) -> None:
        """Serve one request."""
        front = ROUTES.get(call.path) if call.method == "POST" else None
        request_id = _request_id(call)
        if front is None:
            listing.answer(self._parts, call, request_id=request_id)
            return
        self.active += 1
        try:
            await Serving(self._parts, front, call, request_id=request_id).run()
        finally:
            self.active -= 1


def _request_id(call: Call) -> str:
    value = call.header(b"x-request-id")
    if value is not None and REQUEST_ID.fullmatch(value):
        return value.decode()
    # NB: not uuid4; it asks the kernel each time, which costs more than all else a request needs.
    return f"{random.getrandbits(128):032x}"
