"""Getting an answer: targets in order, one deadline for all of them, no switch once the client has
a token.

`begin` returns an answer whose first token has come; until then another target is tried. `complete`
returns a whole answer; as its client has nothing before the end, a stream that breaks half-way is
tried elsewhere too. Whatever ends the caller's task ends the upstream request at once, which is how
a client's disconnect stops a generation. Data flows `table` -> here -> `targets` -> `transport`,
and back as events.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_contract import TargetType
from llm_router.errors import TABLE, AttemptFailed, Cause, Code, Problem, Unanswered
from llm_router.exchange import Answer, Call, Delta, Event, Exchange, Finish, Timing
from llm_router.table import Destination, Entry
from llm_router.targets import TARGETS, Decoder, Outgoing, Target, decoded
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

log = logging.getLogger(__name__)

#: Every upstream request's own headers; a client's are not forwarded.
HEADERS = ((b"content-type", b"application/json"), (b"accept", b"*/*"))

#: Bytes of an error body that are read; enough for a sentence.
MAX_ERROR = 64 * 1024

#: Characters of a whole answer that are collected; far above any model's context.
MAX_ANSWER = 64 * 1024 * 1024

#: How long a response that is over may take to end, before its connection is given up.
SETTLE_SECONDS = 0.1

#: What a transport failure means, before the first token.
CAUSES: dict[type[TransportError], Cause] = {
    ConnectFailed: Cause.CONNECT_FAILURE,
    NoReply: Cause.NO_REPLY,
    Cut: Cause.BROKEN_STREAM,
    BadReply: Cause.BROKEN_STREAM,
    TooLarge: Cause.BROKEN_STREAM,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds that apply where a route sets none."""

    connect: float
    stream_idle: float


class Live:
    """An answer that has begun: its first token is in `events`.

    Attributes:
        failures: of the targets tried before this one.
    """

    __slots__ = (
        "_decoder",
        "_idle",
        "_reply",
        "destination",
        "events",
        "failures",
        "outgoing",
        "timing",
    )

    def __init__(
        self,
        destination: Destination,
        outgoing: Outgoing,
        *,
        begun: tuple[Reply, Decoder, list[Event]],
        timing: Timing,
        idle: float,
    ) -> None:
        self.destination = destination
        self.outgoing = outgoing
        self.timing = timing
        self.failures: tuple[AttemptFailed, ...] = ()
        self._reply, self._decoder, self.events = begun
        self._idle = idle

    @property
    def done(self) -> bool:
        """The host has marked the proper end; there is nothing more to read."""
        return self._decoder.done

    async def more(self, *, within: float | None = None) -> list[Event]:
        """The next events; call it until `done`.

        Args:
            within: seconds left of a deadline, where one still holds.

        Raises:
            AttemptFailed: the stream broke, stood still, or ended without its mark; or the deadline
                came first.
        """
        idle = self._idle
        try:
            data = await self._reply.read(idle if within is None else min(idle, within))
        except TimedOut:
            if within is not None and within < idle:
                message = "its answer was not complete in time"
                raise AttemptFailed(Cause.DEADLINE, message) from None
            message = f"the host sent nothing for {idle:g} s"
            raise AttemptFailed(Cause.BROKEN_STREAM, message) from None
        except TransportError as error:
            raise AttemptFailed(Cause.BROKEN_STREAM, str(error)) from None
        events = decoded(self._decoder, data)
        if not data and not self.done:
            message = "the host ended its answer without marking the end"
            raise AttemptFailed(Cause.BROKEN_STREAM, message)
        if events:
            self.timing.last_token = time.monotonic_ns()
        return events

    async def settle(self) -> None:
        """After `done`: let the response end, so that its connection can be used again."""
        clock = asyncio.get_running_loop().time
        until = clock() + SETTLE_SECONDS
        with contextlib.suppress(TransportError):
            # NB: a host that goes on after its end must not hold up the answer.
            while await self._reply.read(until - clock()) and clock() < until:
                pass
        self._reply.close()

    def close(self) -> None:
        """End it now, whatever state it is in; an open generation stops upstream."""
        self._reply.close()


class Asker:
    """Asks the targets of a route, in order."""

    def __init__(self, pool: Pool, limits: Limits) -> None:
        self._pool = pool
        self._limits = limits

    async def begin(self, exchange: Exchange, entry: Entry) -> Live:
        """An answer whose first token has come.

        Raises:
            Unanswered: no target gave one within the deadline.
            Refused: the request is out of the range of the target asked.
        """
        live, _ = await self._ask(exchange, entry, whole=False)
        return live

    async def complete(self, exchange: Exchange, entry: Entry) -> tuple[Live, Answer]:
        """A whole answer and where it came from; raises as `begin`."""
        live, answer = await self._ask(exchange, entry, whole=True)
        assert answer is not None
        return live, answer

    async def _ask(
        self, exchange: Exchange, entry: Entry, *, whole: bool
    ) -> tuple[Live, Answer | None]:
        loop = asyncio.get_running_loop()
        total = entry.route.timeouts.total
        deadline = loop.time() + total
        timing = Timing(started=time.monotonic_ns())
        failures: list[AttemptFailed] = []
        for position, destination in enumerate(entry.destinations):
            left = len(entry.destinations) - position - 1
            limit = _first_token_limit(entry, remaining=deadline - loop.time(), left=left)
            answer = None
            try:
                live = await self._attempt(exchange, entry, destination, limit=limit, timing=timing)
                if whole:
                    answer = await _collect(live, deadline=deadline)
                    await live.settle()
            except AttemptFailed as failure:
                failures.append(_named(failure, destination))
                _report(failures[-1], exchange, destination, left=left)
                if not TABLE[failure.cause].falls_over or loop.time() >= deadline:
                    break
                continue
            live.failures = tuple(failures)
            return live, answer
        raise _unanswered(exchange, failures, total=total, expired=loop.time() >= deadline)

    async def _attempt(
        self,
        exchange: Exchange,
        entry: Entry,
        destination: Destination,
        *,
        limit: float,
        timing: Timing,
    ) -> Live:
        target, route = destination.target, entry.route
        kind = TARGETS[target.type]
        if lacking := kind.lacks(exchange):
            message = f"{lacking}: a host of type {target.type} can't do this"
            raise AttemptFailed(Cause.UNSUPPORTED, message)
        outgoing = kind.encode(exchange, model=target.model, defaults=route.defaults)
        try:
            begun = await self._first(destination, kind, outgoing, entry=entry, limit=limit)
        except TimedOut:
            message = f"no token within {limit:.3g} s"
            raise AttemptFailed(Cause.FIRST_TOKEN_TIMEOUT, message) from None
        except TransportError as error:
            raise AttemptFailed(CAUSES[type(error)], str(error)) from None
        timing.first_token = timing.last_token = time.monotonic_ns()
        idle = route.timeouts.stream_idle or self._limits.stream_idle
        return Live(destination, outgoing, begun=begun, timing=timing, idle=idle)

    async def _first(
        self,
        destination: Destination,
        kind: Target,
        outgoing: Outgoing,
        *,
        entry: Entry,
        limit: float,
    ) -> tuple[Reply, Decoder, list[Event]]:
        """Send the request and read up to the first token, within so many seconds."""
        clock = asyncio.get_running_loop().time
        until = clock() + limit
        connect = entry.route.timeouts.connect or self._limits.connect
        reply = await self._pool.send(
            destination.origin,
            method=b"POST",
            path=outgoing.path,
            headers=HEADERS,
            body=outgoing.body,
            connect_timeout=min(connect, limit),
            timeout=limit,
        )
        try:
            if reply.status != 200:
                said = await _refusal_body(reply, until=until)
                failure = kind.refusal(reply.status, said)
                failure.retry_after = _retry_after(reply)
                raise failure
            decoder = (outgoing.reader or kind.decoder)()
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


def _first_token_limit(entry: Entry, *, remaining: float, left: int) -> float:
    """Seconds this attempt may take to its first token.

    Where the route sets none, an attempt that others may follow gets half of what is left, so that
    a host that hangs can't spend the deadline of the host that would have answered; the last one
    gets all of it.
    """
    configured = entry.route.timeouts.first_token
    if configured is not None:
        return min(configured, remaining)
    return remaining / 2 if left else remaining


async def _collect(live: Live, *, deadline: float) -> Answer:
    """The whole answer.

    Raises:
        AttemptFailed: it broke, or the deadline came first.
    """
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[Call] = []
    extras: dict[str, Any] = {}
    size = 0
    clock = asyncio.get_running_loop().time
    try:
        events = live.events
        while True:
            for event in events:
                if event.extras:
                    _join(extras, event.extras)
                if isinstance(event, Finish):
                    told = "".join(texts), "".join(thoughts), tuple(calls)
                    return Answer(*told, event, extras or None)
                size += _gather(event, texts, thoughts, calls)
            if size > MAX_ANSWER:
                raise AttemptFailed(Cause.BROKEN_STREAM, "the answer has no end")
            events = await live.more(within=deadline - clock())
    except BaseException:
        live.close()
        raise


def _gather(delta: Delta, texts: list[str], thoughts: list[str], calls: list[Call]) -> int:
    texts.append(delta.text)
    thoughts.append(delta.thinking)
    calls.extend(delta.calls)
    return len(delta.text) + len(delta.thinking)


def _join(extras: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Lists that come in pieces, as logprobs do, are one list in a whole answer."""
    for name, value in more.items():
        before = extras.get(name)
        both = isinstance(before, list) and isinstance(value, list)
        extras[name] = before + value if both else value


def _named(failure: AttemptFailed, destination: Destination) -> AttemptFailed:
    target = destination.target
    message = f"{target.name} ({target.url}): {failure.message}"
    return AttemptFailed(failure.cause, message, retry_after=failure.retry_after)


def _report(
    failure: AttemptFailed, exchange: Exchange, destination: Destination, *, left: int
) -> None:
    target = destination.target
    event = "attempt_failed"
    if left and TABLE[failure.cause].falls_over and target.type is TargetType.MLX:
        # The predecessor's name for the same thing, which people alert on.
        event = "mlx_failed_falling_back_to_ollama"
    log.warning(
        event,
        extra={
            "model": exchange.model,
            "target": target.name,
            "cause": failure.cause.value,
            "reason": failure.message,
        },
    )


def _unanswered(
    exchange: Exchange, failures: list[AttemptFailed], *, total: float, expired: bool
) -> Unanswered:
    last = failures[-1]
    code = TABLE[last.cause].code
    said = "; ".join(failure.message for failure in failures)
    if expired:
        code = Code.TIMEOUT
    message = f"model {exchange.model!r} was not answered: {said}"
    if code is Code.TIMEOUT:
        message = f"model {exchange.model!r} was not answered within {total:g} s: {said}"
    problem = Problem(code, message, retry_after=last.retry_after)
    return Unanswered(problem, tuple(failures))
