"""One attempt at one target: from the encoded request to the first token.

It never looks at other targets and never waits longer than its limit.
"""

import asyncio
import time
from dataclasses import dataclass

from llm_router.ask.live import Live
from llm_router.ask.request import Request
from llm_router.errors import AttemptFailed, Cause
from llm_router.exchange import Event
from llm_router.forward import forwarded
from llm_router.table import Destination
from llm_router.targets import TARGETS, Decoder, Outgoing, decoded
from llm_router.transport import (
    BadReply,
    ConnectFailed,
    Cut,
    NoReply,
    Pool,
    Reply,
    TimedOut,
    TooLarge,
    TransportError,
)

#: Bytes of an error body that are read; enough for a sentence.
MAX_ERROR = 64 * 1024

#: What a transport failure means, before the first token.
CAUSES: dict[type[TransportError], Cause] = {
    ConnectFailed: Cause.CONNECT_FAILURE,
    NoReply: Cause.NO_REPLY,
    Cut: Cause.BROKEN_STREAM,
    BadReply: Cause.BROKEN_STREAM,
    TooLarge: Cause.BROKEN_STREAM,
}

#: Reasons of a failed connection that are this machine's own.
LOCAL = frozenset({"exhausted", "closed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds that apply where a route sets none."""

    connect: float
    stream_idle: float


async def attempt(
    pool: Pool, limits: Limits, request: Request, destination: Destination, *, limit: float
) -> Live:
    """Ask one target for an answer.

    Raises:
        AttemptFailed: it gave no token within `limit` seconds, and why.
        Refused: the request is out of this target's range.
    """
    exchange, target = request.exchange, destination.target
    if destination.unusable:
        raise AttemptFailed(Cause.MISCONFIGURED, destination.unusable, local=True)
    kind = TARGETS[target.type]
    if lacking := kind.lacks(exchange):
        message = f"{lacking}: a host of type {target.type} can't do this"
        raise AttemptFailed(Cause.UNSUPPORTED, message, local=True)
    outgoing = kind.encode(exchange, destination.terms)
    standing = destination.standing
    number = standing.begun(asyncio.get_running_loop().time())
    asked = time.monotonic_ns()
    try:
        begun = await _first(pool, limits, request, destination, outgoing, limit=limit)
    except TimedOut:
        standing.ended(number)
        message = f"no token within {limit:.3g} s"
        raise AttemptFailed(Cause.FIRST_TOKEN_TIMEOUT, message) from None
    except TransportError as error:
        standing.ended(number)
        local = isinstance(error, ConnectFailed) and error.reason in LOCAL
        raise AttemptFailed(CAUSES[type(error)], str(error), local=local) from None
    except BaseException:
        standing.ended(number)
        raise
    standing.answered()
    timing = request.timing
    timing.first_token = timing.last_token = time.monotonic_ns()
    idle = destination.waits.stream_idle or limits.stream_idle
    return Live(
        destination,
        outgoing,
        begun=begun,
        timing=timing,
        idle=idle,
        asked=asked,
        number=number,
    )


async def _first(
    pool: Pool,
    limits: Limits,
    request: Request,
    destination: Destination,
    outgoing: Outgoing,
    *,
    limit: float,
) -> tuple[Reply, Decoder, list[Event]]:
    """Send the request and read up to the first token."""
    clock = asyncio.get_running_loop().time
    until = clock() + limit
    reply = await pool.send(
        destination.origin,
        method=b"POST",
        path=outgoing.path,
        headers=_headers(request, destination),
        body=outgoing.body,
        connect_timeout=min(destination.waits.connect or limits.connect, limit),
        timeout=limit,
    )
    try:
        if reply.status != 200:
            said = await _refusal_body(reply, until=until)
            failure = TARGETS[destination.target.type].refusal(reply.status, said)
            failure.retry_after = _retry_after(reply)
            raise failure
        decoder = outgoing.reader()
        events: list[Event] = []
        while not decoder.started:
            data = await reply.read(until - clock())
            events += decoded(decoder, data)
            if not data and not decoder.started:
                message = "the host ended its answer before the first token"
                raise AttemptFailed(Cause.BROKEN_STREAM, message)
    except BaseException:
        reply.close()
        raise
    return reply, decoder, events


def _headers(request: Request, destination: Destination) -> list[tuple[bytes, bytes]]:
    removed = destination.removed
    headers = [*destination.headers, *forwarded(request.headers, removed)]
    headers.append((b"x-request-id", request.request_id))
    if (trace := request.trace) is not None:
        headers.append((b"traceparent", trace.header(len(request.failures))))
        if trace.state:
            headers.append((b"tracestate", trace.state.encode()))
    if removed:
        # NB: what a route sets or removes by name is its own, the ids of the router included.
        own = len(destination.headers)
        headers[own:] = [header for header in headers[own:] if header[0] not in removed]
    return headers


async def _refusal_body(reply: Reply, *, until: float) -> bytes:
    """The beginning of an error body: some hosts repeat the whole request in it."""
    clock = asyncio.get_running_loop().time
    body = b""
    while len(body) < MAX_ERROR and (data := await reply.read(until - clock())):
        body += data
    return body[:MAX_ERROR]


def _retry_after(reply: Reply) -> str | None:
    """The host's Retry-After in seconds; its other form, a date, is of no use to a client."""
    value = reply.header(b"retry-after") or b""
    return value.decode() if value.isdigit() and len(value) <= 6 else None
