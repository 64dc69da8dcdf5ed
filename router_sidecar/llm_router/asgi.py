"""The few shapes of ASGI that the data port uses (asgi.readthedocs.io, HTTP connection scope)."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from llm_router.errors import Code, Problem, Refused

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


class Disconnected(Exception):
    """The client went away before its request was whole."""


async def read(receive: Receive, *, limit: int) -> bytes:
    """The whole request body.

    Raises:
        Disconnected: the client went away.
        Refused: it is longer than the limit, in bytes.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise Disconnected
        part = event.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > limit:
            message = f"the body is over {limit} bytes (LLM_ROUTER_MAX_BODY_BYTES)"
            raise Refused(Problem(Code.TOO_LARGE, message))
        if not event.get("more_body", False):
            return b"".join(parts)


async def respond(
    send: Send,
    status: int,
    *,
    headers: Headers,
    body: bytes,
    content_type: bytes = b"application/json",
    head: bool = False,
) -> None:
    """Send a whole response; to HEAD its headers only."""
    length = (b"content-length", str(len(body)).encode())
    headers = [(b"content-type", content_type), length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})
