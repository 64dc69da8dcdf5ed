"""An answer that has begun: its first token is there, the rest is piped from the socket.

A piece of the answer is decoded in the very callback that the socket's bytes arrive in and handed
on as events; no task wakes up for it. Whatever ends a `Live` tells the target's standing once, and
closes the connection at once if the host was still generating.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from llm_router.errors import AttemptFailed, Cause
from llm_router.exchange import Chunk, Delta, Event, Finish, Timing, Usage
from llm_router.table import Destination
from llm_router.targets import Decoder, Outgoing, decoded
from llm_router.transport import Reply, TimedOut, TransportError

#: How long a response that is over may take to end, before its connection is given up.
SETTLE_SECONDS = 0.1

Take = Callable[[list[Event]], None]


@dataclass(frozen=True, slots=True)
class Failed:
    """One attempt that gave no answer.

    Attributes:
        seconds: how long it took.
    """

    destination: Destination
    failure: AttemptFailed
    seconds: float


class Live:
    """An answer under way; the sink of its reply.

    Attributes:
        asked: monotonic nanoseconds when this target was.
        events: the first ones, up to and with the first token.
        failures: of the targets tried before.
        pieces: texts, thoughts and tool calls so far, which is about one a token.
        finish: the proper end, once it has come.
        over: ends with what broke the answer, or None for its proper end; set by `pipe`.
    """

    __slots__ = (
        "_decoder",
        "_idle",
        "_number",
        "_open",
        "_reply",
        "_take",
        "asked",
        "destination",
        "events",
        "failures",
        "finish",
        "outgoing",
        "over",
        "pieces",
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
        asked: int = 0,
        number: int = 0,
    ) -> None:
        self.destination = destination
        self.outgoing = outgoing
        self.timing = timing
        self.failures: tuple[Failed, ...] = ()
        self.pieces = 0
        self.finish: Finish | None = None
        self.over: asyncio.Future[AttemptFailed | None] | None = None
        self._reply, self._decoder, self.events = begun
        self.asked = asked
        self._idle = idle
        self._number = number
        self._open = True
        self._take: Take | None = None
        self._note(self.events)

    @property
    def done(self) -> bool:
        """The host has marked the proper end; there is nothing more to come."""
        return self._decoder.done

    @property
    def usage(self) -> Usage | None:
        """What the host counted; None before the end."""
        return self.finish.usage if self.finish is not None else None

    def pipe(self, take: Take) -> "asyncio.Future[AttemptFailed | None]":
        """Hand the rest of the events to `take` as they come.

        Returns:
            what broke the answer, or None for its proper end; `take` is not called after it.
        """
        self.over = asyncio.get_running_loop().create_future()
        self._take = take
        self._reply.pipe(self, timeout=self._idle)
        return self.over

    def pause(self) -> None:
        """Whoever takes the events can't take more now; the host is read no further."""
        self._reply.pause()

    def resume(self) -> None:
        """It can again."""
        if self._open:
            self._reply.resume()

    def close(self) -> None:
        """End it now, whatever state it is in; an open generation stops upstream."""
        if self._open:
            self._open = False
            if self.done:
                # NB: a host that goes on after its end must not hold up the answer.
                self._reply.release(SETTLE_SECONDS)
            else:
                self._reply.close()
            self.destination.standing.ended(self._number)

    # What the reply calls.

    def data(self, piece: bytes) -> None:
        """More bytes of the answer."""
        if self._decoder.done:
            return
        try:
            events = decoded(self._decoder, piece)
        except AttemptFailed as failure:
            self._over(failure)
            return
        if events:
            self.timing.last_token = self.destination.standing.heard = time.monotonic_ns()
            self._note(events)
            assert self._take is not None
            try:
                self._take(events)
            except Exception as error:
                self._raise(error)
            else:
                if self.finish is not None:
                    self._over(None)

    def end(self, error: TransportError | None) -> None:
        """The bytes have ended."""
        if error is None and not self._decoder.done:
            # NB: a short answer of Ollama's has no line end, and ends here.
            self.data(b"")
        if self.over is None or self.over.done():
            return
        if isinstance(error, TimedOut):
            message = f"the host sent nothing for {self._idle:g} s"
        elif error is not None:
            message = str(error)
        else:
            message = "the host ended its answer without marking the end"
        self._over(AttemptFailed(Cause.BROKEN_STREAM, message))

    def _over(self, failure: AttemptFailed | None) -> None:
        over = self.over
        if over is not None and not over.done():
            over.set_result(failure)
            if failure is not None:
                self._reply.close()

    def _raise(self, error: Exception) -> None:
        """Whoever takes the events takes no more; what it raised goes to whoever waits."""
        over = self.over
        if over is not None and not over.done():
            over.set_exception(error)
            self._reply.close()

    def _note(self, events: list[Event]) -> None:
        for event in events:
            kind = type(event)
            if kind is Chunk:
                self.pieces += event.tokens  # type: ignore[union-attr]
            elif kind is Delta:
                self.pieces += 1
            else:
                assert isinstance(event, Finish)
                self.finish = event
