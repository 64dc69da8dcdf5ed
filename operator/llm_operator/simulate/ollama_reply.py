"""What a simulated Ollama sends: whole JSON replies, and a generation as NDJSON or in one piece.

    Turn, Behaviour -> bytes on the exchange

Ends the exchange only when the behaviour makes it fail; an answer is ended by who asked for it.
"""

from typing import Any

from llm_operator.simulate import framing
from llm_operator.simulate.behaviour import Behaviour, Mode
from llm_operator.simulate.generation import ErrorLine, Pace
from llm_operator.simulate.http import Exchange
from llm_operator.simulate.journal import Outcome
from llm_operator.simulate.ollama_turn import Timings, Turn, cold
from llm_operator.simulate.origin import cors

_JSON = ("Content-Type", "application/json; charset=utf-8")
_PLAIN_JSON = ("Content-Type", "application/json")
_NDJSON = ("Content-Type", "application/x-ndjson")
_BUSY = "server busy, please try again.  maximum pending requests exceeded"
_RUNNER_ERROR = "an error was encountered while running the model: unexpected EOF"


async def reply(
    exchange: Exchange, status: int, body: bytes, headers: framing.Headers = ()
) -> None:
    """A whole response."""
    exchange.received.status = status
    all_headers = (*headers, *cors(exchange.request))
    await exchange.send(framing.go_reply(exchange.request, status, all_headers, body))


async def reply_json(exchange: Exchange, status: int, value: Any) -> None:
    await reply(exchange, status, framing.go_json(value), (_JSON,))


async def reply_status(exchange: Exchange, behaviour: Behaviour, status: int) -> None:
    """The error that the behaviour asks for."""
    usual = _BUSY if status == 503 else f"simulated failure: status {status}"
    body = framing.go_json({"error": behaviour.message or usual})
    after = behaviour.retry_after
    headers = (_JSON,) if after is None else (_JSON, ("Retry-After", str(after)))
    await reply(exchange, status, body, headers)


async def whole(exchange: Exchange, behaviour: Behaviour, turn: Turn) -> None:
    """A generation in one response, sent when it has ended."""
    if turn.error:
        await reply_json(exchange, 500, {"error": turn.error})
        return
    timings = Timings(cold=cold(behaviour, turn))
    pace = Pace(exchange, behaviour, warm=turn.warm)
    try:
        await pace.prefill()
        timings.first_token()
        for _ in turn.parts():
            await pace.token()
        await pace.end()
    except ErrorLine:
        await reply_json(exchange, 500, {"error": behaviour.message or _RUNNER_ERROR})
        exchange.end(Outcome.FAILED)
        return
    if behaviour.fails(Mode.NO_DONE):
        await reply_json(exchange, 200, turn.line(turn.whole()))
        exchange.end(Outcome.FAILED)
        return
    await reply_json(exchange, 200, turn.last(turn.whole(), timings))


async def stream(exchange: Exchange, behaviour: Behaviour, turn: Turn) -> None:
    """A generation as one line for each token."""
    timings, lines = Timings(cold=cold(behaviour, turn)), Lines(exchange)
    if turn.error:
        await lines.fail(turn.error)
        return
    pace = Pace(exchange, behaviour, warm=turn.warm)
    try:
        await pace.prefill()
        timings.first_token()
        for part in turn.parts():
            await pace.token()
            await lines.send(turn.line(part))
        await pace.end()
    except ErrorLine:
        await lines.fail(behaviour.message or _RUNNER_ERROR)
        exchange.end(Outcome.FAILED)
        return
    if behaviour.fails(Mode.NO_DONE):
        await lines.end()
        exchange.end(Outcome.FAILED)
        return
    await lines.send(turn.last(turn.nothing(), timings))
    await lines.end()


class Lines:
    """An NDJSON body. The head leaves with the first line, so an error before it has a status."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._head = self._heading(200, _NDJSON)

    async def send(self, value: Any) -> None:
        await self._write(framing.go_chunk(self._exchange.request, framing.go_json(value) + b"\n"))

    async def end(self) -> None:
        await self._write(framing.go_end(self._exchange.request))

    async def fail(self, text: str) -> None:
        """An error: in band after the first line, before it with a status."""
        if self._head:
            # NB: chunked and without the line's end, since gin has begun to stream.
            self._head = self._heading(500, _PLAIN_JSON)
            body = framing.go_json({"error": text})
            await self._write(framing.go_chunk(self._exchange.request, body), status=500)
        else:
            await self.send({"error": text})
        await self.end()

    def _heading(self, status: int, kind: tuple[str, str]) -> bytes:
        request = self._exchange.request
        return framing.go_stream_head(request, status, (kind, *cors(request)))

    async def _write(self, data: bytes, *, status: int = 200) -> None:
        if self._head:
            self._exchange.received.status = status
        await self._exchange.send(self._head + data)
        self._head = b""
