"""The data port: a plain ASGI callable that finds the front and serves one request.

It knows HTTP and nothing of protocols; `serving` is the life of a request. Paths outside the table
are 404 in the words of the family they look like.
"""

import random
import re

from llm_router.asgi import Receive, Scope, Send, respond
from llm_router.errors import Code, Problem
from llm_router.fronts import ROUTES, Front
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
        front = ROUTES.get(scope["path"])
        request_id = _request_id(scope)
        if front is None or scope["method"] != "POST":
            problem, headers = _no_route(scope, front)
            family = front or _family(scope["path"])
            headers.append((b"x-request-id", request_id.encode()))
            await respond(send, problem.status, headers=headers, body=family.problem(problem))
            return
        with self._parts.metrics.active.track_inprogress():
            await Serving(self._parts, front, request_id=request_id).run(receive, send)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    # NB: not uuid4; it asks the kernel each time, which costs more than all else a request needs.
    return f"{random.getrandbits(128):032x}"


def _no_route(scope: Scope, front: Front | None) -> tuple[Problem, list[tuple[bytes, bytes]]]:
    path, method = scope["path"], scope["method"]
    if front is not None:
        message = f"{method} {path} is not served; use POST"
        return Problem(Code.METHOD_NOT_ALLOWED, message), [(b"allow", b"POST")]
    return Problem(Code.PATH_NOT_FOUND, f"{path} is not served by this router"), []


def _family(path: str) -> Front:
    """Whose words an unknown path is answered in."""
    return ROUTES["/api/chat" if path.startswith("/api") else "/v1/chat/completions"]
