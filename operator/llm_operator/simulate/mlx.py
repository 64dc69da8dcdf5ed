"""A simulated mlx_lm.server: OpenAI-like completions over HTTP/1.0, one request a connection.

    connection -> request -> admit (fail?) -> route -> reply, or events until the end of file

A stream's headers leave before prefill and keepalive comments fill it, so a client must wait for
its first token, not for headers. Without a stream the server never looks at its client, and goes on
generating for one that has gone.
"""

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

from llm_operator.simulate import framing
from llm_operator.simulate.behaviour import Behaviour, Mode
from llm_operator.simulate.generation import (
    Cut,
    Died,
    ErrorLine,
    Pace,
    Refusal,
    Refused,
    Status,
    admit,
)
from llm_operator.simulate.host import Host, control, died
from llm_operator.simulate.http import BadRequest, Exchange, Gone, Request, read_body, read_head
from llm_operator.simulate.journal import Outcome
from llm_operator.simulate.mlx_fields import FieldError, check
from llm_operator.simulate.mlx_turn import ANY, Fatal, Turn, not_found, prepare

CHAT = ("/v1/chat/completions", "/chat/completions")
GENERATING = (*CHAT, "/v1/completions")

_CORS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "*"),
    ("Access-Control-Allow-Headers", "*"),
)
_JSON = (("Content-type", "application/json"), *_CORS)
_EVENTS = (("Content-type", "text/event-stream"), ("Cache-Control", "no-cache"), *_CORS)
_DIED = "generation thread died"


class Mlx:
    """The connections of one simulated mlx_lm.server."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._warm: set[str] = set()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the one request of a connection."""
        try:
            head = await read_head(reader)
            if head is None:
                return
            request = await _with_body(reader, head)
        except BadRequest as error:
            writer.write(framing.python_error(400, f"Bad request syntax ({error})"))
            return
        except Gone:
            return
        if request.control:
            status, document = control(self._host, request)
            writer.write(framing.python_head(status, _JSON) + json.dumps(document).encode())
            return
        await self._serve(request, (reader, writer))

    async def _serve(
        self, request: Request, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    ) -> None:
        journal = self._host.journal
        received = journal.add(request.received())
        exchange = Exchange(request, streams=streams, journal=journal, received=received)
        try:
            await self._answer(exchange, self._host.behaviour)
        except Cut:
            exchange.end(Outcome.FAILED)
        except Gone:
            exchange.end(Outcome.CANCELLED)
        else:
            exchange.end(Outcome.ANSWERED)

    async def _answer(self, exchange: Exchange, behaviour: Behaviour) -> None:
        request = exchange.request
        generates = request.method == "POST" and request.path in GENERATING
        try:
            await admit(exchange, behaviour, generates=generates)
            await self._route(exchange, behaviour)
        except FieldError as error:
            if behaviour.field_errors == "close":
                raise Cut from error
            await _json(exchange, 400, {"error": str(error)})
        except Refusal as refusal:
            await _json(exchange, refusal.status, {"error": refusal.text})
        except Fatal:
            died(self._host)
            await _json(exchange, 404, {"error": _DIED})
        except Refused:
            body = exchange.received.body
            model = body.get("model", "default_model") if isinstance(body, dict) else ""
            await _json(exchange, 404, {"error": not_found(model)})
        except Died:
            await _json(exchange, 404, {"error": _DIED})
        except Status as status:
            await _status(exchange, behaviour, status.code)

    async def _route(self, exchange: Exchange, behaviour: Behaviour) -> None:
        request = exchange.request
        # NB: the server compares the whole target, so that a query makes a path unknown.
        match request.method, request.target:
            case "OPTIONS", _:
                await _send(exchange, 204, _JSON, b"")
            case "POST", target if target in GENERATING:
                await self._complete(exchange, behaviour)
            case "GET", "/health":
                await self._health(exchange, behaviour)
            case "GET", target if target.startswith("/v1/models"):
                await self._models(exchange)
            case "GET" | "POST", _:
                await _send(exchange, 404, _JSON, b"Not Found")
            case method, _:
                exchange.received.status = 501
                page = framing.python_error(501, f"Unsupported method ({method!r})", method=method)
                await exchange.send(page)

    async def _health(self, exchange: Exchange, behaviour: Behaviour) -> None:
        if behaviour.fails(Mode.GENERATION_DIED):
            await _json(exchange, 503, {"status": "unavailable"})
        else:
            await _json(exchange, 200, {"status": "ok"})

    async def _models(self, exchange: Exchange) -> None:
        created = int(time.time())
        held = [
            {"id": model, "object": "model", "created": created}
            for model in self._host.models
            if model != ANY
        ]
        await _json(exchange, 200, {"object": "list", "data": held})

    async def _complete(self, exchange: Exchange, behaviour: Behaviour) -> None:
        fields = check(_document(exchange))
        chat = exchange.request.path in CHAT
        turn = prepare(fields, chat=chat, models=self._host.models, behaviour=behaviour)
        pace = Pace(exchange, behaviour, warm=turn.model in self._warm)
        self._warm.add(turn.model)
        try:
            if turn.stream:
                await _stream(exchange, behaviour, turn, pace)
            else:
                await _whole(exchange, behaviour, turn, pace)
        except ErrorLine as error:
            raise Cut from error


async def _with_body(reader: asyncio.StreamReader, head: Request) -> Request:
    length = head.header("content-length") or ""
    if head.method in ("GET", "OPTIONS", "HEAD") or not length.isdecimal():
        return head
    headers = tuple(item for item in head.headers if item[0].lower() != "transfer-encoding")
    body = await read_body(reader, replace(head, headers=headers))
    return replace(head, body=body)


def _document(exchange: Exchange) -> dict[str, Any]:
    """The body as a JSON object. Raises Refusal, and Cut where the server fails without a word."""
    length = exchange.request.header("content-length")
    if length is None:
        raise Refusal(411, "Content-Length header is required")
    if not length.isdecimal():
        raise Refusal(400, "Invalid Content-Length header")
    try:
        document = json.loads(exchange.request.body.decode())
    except json.JSONDecodeError as error:
        raise Refusal(400, f"Invalid JSON in request body: {error}") from error
    except UnicodeDecodeError as error:
        raise Cut from error
    if not isinstance(document, dict):
        raise Refusal(400, "Request should be a JSON dictionary")
    return document


async def _whole(exchange: Exchange, behaviour: Behaviour, turn: Turn, pace: Pace) -> None:
    # NB: the server looks at its client only when it writes, which here is once, at the end.
    exchange.patient = True
    await pace.prefill()
    for _ in turn.packets():
        await pace.token()
    await pace.end()
    body = json.dumps(turn.whole()).encode()
    await _send(exchange, 200, (*_JSON, ("Content-Length", str(len(body)))), body)


async def _stream(exchange: Exchange, behaviour: Behaviour, turn: Turn, pace: Pace) -> None:
    await _send(exchange, 200, _EVENTS, b"")
    await _prefill(exchange, behaviour.keepalives, turn, pace)
    for packet in turn.packets():
        await pace.token()
        await _event(exchange, packet)
    await pace.end()
    await _event(exchange, turn.last())
    if turn.usage_broken:
        raise Cut
    if turn.usage_wanted:
        await _event(exchange, turn.usage_packet())
    if behaviour.fails(Mode.NO_DONE):
        raise Cut
    await exchange.send(b"data: [DONE]\n\n")


async def _prefill(exchange: Exchange, keepalives: int, turn: Turn, pace: Pace) -> None:
    total = turn.prompt_tokens
    for number in range(1, keepalives + 1):
        await pace.prefill(1 / keepalives)
        done = total * number // keepalives
        await exchange.send(f": keepalive {done}/{total}\n\n".encode())
    if keepalives == 0:
        await pace.prefill()


async def _event(exchange: Exchange, packet: dict[str, Any]) -> None:
    await exchange.send(f"data: {json.dumps(packet)}\n\n".encode())


async def _json(exchange: Exchange, status: int, value: Any) -> None:
    # NB: without a length; the end of the connection ends the body.
    await _send(exchange, status, _JSON, json.dumps(value).encode())


async def _status(exchange: Exchange, behaviour: Behaviour, status: int) -> None:
    text = behaviour.message or f"simulated failure: status {status}"
    after = behaviour.retry_after
    headers = _JSON if after is None else (*_JSON, ("Retry-After", str(after)))
    await _send(exchange, status, headers, json.dumps({"error": text}).encode())


async def _send(exchange: Exchange, status: int, headers: framing.Headers, body: bytes) -> None:
    exchange.received.status = status
    await exchange.send(framing.python_head(status, headers) + body)
