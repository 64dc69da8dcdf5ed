"""Carries an answer's events to the client, in the client's protocol, as they come."""

from llm_router.ask import Live
from llm_router.exchange import Chunk, Delta, Event
from llm_router.fronts import Encoder
from llm_router.server import Call


class Relay:
    """Writes events to the client; when the client is slower than the host, the host waits."""

    __slots__ = ("_call", "_encoder", "_live")

    def __init__(self, call: Call, encoder: Encoder, live: Live) -> None:
        self._call = call
        self._encoder = encoder
        self._live = live
        call.on_resume = live.resume

    def take(self, events: list[Event]) -> None:
        """Send these, and with the last of them the end."""
        pieces: list[bytes] = []
        encoder, timing = self._encoder, self._live.timing
        for event in events:
            kind = type(event)
            if kind is Chunk:
                pieces.append(event.data)  # type: ignore[union-attr]
            elif kind is Delta:
                pieces.append(encoder.delta(event))  # type: ignore[arg-type]
            elif not event.sent:  # type: ignore[union-attr]
                pieces.append(encoder.finish(event, timing))  # type: ignore[arg-type]
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._live.done:
            self._call.end(piece)
        elif piece and not self._call.write(piece):
            self._live.pause()
