"""Around every request of the API: its id, the headers of its answer, its log line, its count; and
an answer when something broke.

A plain ASGI callable, outermost. It reads no body, and lets through untouched what is not the
API's. The log holds the route's template and never a query, a body or a token.
"""

import logging
import random
import re
import time
from dataclasses import dataclass, field

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_operator.admin.api.answers import answer
from llm_operator.admin.api.counts import Counts
from llm_operator.admin.api.kept import Kept
from llm_operator.admin.model import Caller
from llm_operator.admin.wiring import Admin

logger = logging.getLogger("llm_operator.admin.access")

BASE = "/api/llm-backends"
PROBES = ("/healthz", "/readyz", "/metrics")
DOCUMENT = "/openapi.json"

#: As a router's: a caller's id is kept when it can go into a header and a log.
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
METHODS = frozenset("GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT".split())

#: The status in the log of a request whose client went away.
GONE = 499
BROKEN = "internal error; request id {}"

#: On every answer of the API, unless it says otherwise.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

_KEY = "llmb.call"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What every request is answered from.

    Attributes:
        public: whether the public routes answer without a token.
    """

    admin: Admin
    counts: Counts
    public: bool
    kept: Kept = field(default_factory=Kept)


@dataclass(slots=True)
class Call:
    """One request, as far as it is told of.

    Attributes:
        site: what it is answered from.
        id: its own, or drawn.
        began: by the monotonic clock.
        status: of the answer; 0 before it begins.
        caller: whose token it came with, once that is known.
    """

    site: Site
    id: str
    began: float = field(default_factory=time.monotonic)
    status: int = 0
    caller: Caller | None = None


def call(request: Request) -> Call:
    """What is known of a request."""
    found: Call = request.scope[_KEY]
    return found


class Edge:
    """The API's outermost layer."""

    def __init__(self, app: ASGIApp, *, site: Site) -> None:
        self._app = app
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not _ours(scope["path"]):
            await self._app(scope, receive, send)
            return
        one = Call(self._site, _request_id(scope))
        # NB: HEAD is GET whose body the server leaves out.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        inner = {**scope, "method": method, _KEY: one}
        if scope["path"] == f"{BASE}/":
            # NB: what clients with a base URL make of it.
            inner["path"] = BASE

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                one.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = one.id
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(inner, receive, told)
        except ClientDisconnect:
            one.status = GONE
        except Exception:
            logger.exception("request_broken", extra={"request_id": one.id})
            if one.status:
                raise
            broken = answer({"detail": BROKEN.format(one.id)}, status=500)
            await broken(inner, receive, told)
        finally:
            self._tell(one, scope["method"], inner)

    def _tell(self, one: Call, method: str, scope: Scope) -> None:
        method = method if method in METHODS else "other"
        route = getattr(scope.get("route"), "path", "other")
        seconds = time.monotonic() - one.began
        self._site.counts.answered(method, route, status=one.status, seconds=seconds)
        level = logging.DEBUG if route in PROBES and one.status == 200 else logging.INFO
        extra = {
            "request_id": one.id,
            "method": method,
            "route": route,
            "status": one.status,
            "seconds": round(seconds, 6),
            "peer": peer(scope),
            "by": one.caller.name if one.caller else "",
        }
        logger.log(level, "request", extra=extra)


def peer(scope: Scope) -> str:
    """The address that the connection is from. NB: a header of it would be anybody's word."""
    client = scope.get("client")
    return client[0] if client else ""


def _ours(path: str) -> bool:
    return path.startswith("/api/") or path in PROBES or path == DOCUMENT


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value.decode() if REQUEST_ID.fullmatch(value) else _drawn()
    return _drawn()


def _drawn() -> str:
    # NB: not uuid4, which asks the kernel each time; nothing is secret about an id.
    return f"{random.getrandbits(128):032x}"
