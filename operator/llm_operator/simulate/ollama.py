"""A simulated Ollama: its native API over HTTP/1.1, with gin's framing.

    connection -> request -> admit (fail?) -> route -> reply, or NDJSON in chunks

Headers leave with the first token, as they do on the real server, so that a client's wait for
headers is its wait for the first token. A client that closes ends the generation.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from llm_operator.simulate import answer, binding, framing
from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.binding import bind
from llm_operator.simulate.catalogue import Catalogue, full_name, unqualified
from llm_operator.simulate.generation import Cut, Died, Pace, Refusal, Refused, Status, admit
from llm_operator.simulate.host import Host, control
from llm_operator.simulate.http import BadRequest, Exchange, Gone, Request, read_body, read_head
from llm_operator.simulate.journal import Outcome
from llm_operator.simulate.ollama_reply import reply, reply_json, reply_status, stream, whole
from llm_operator.simulate.ollama_turn import Turn, prepare
from llm_operator.simulate.origin import trusted

VERSION = "0.17.4"
DIMENSIONS = 64
GENERATING = ("/api/generate", "/api/chat", "/api/embed", "/api/embeddings")

_JSON = ("Content-Type", "application/json; charset=utf-8")
_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_PLAIN = ("Content-Type", "text/plain")
_RUNNER_DIED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an "
    "internal error, check ollama server logs for details"
)

Route = Callable[[Exchange, Behaviour], Awaitable[None]]


class Ollama:
    """The connections of one simulated Ollama."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._catalogue = Catalogue(host.models, time.time())
        self._routes: dict[tuple[str, str], Route] = {
            ("HEAD", "/"): self._running,
            ("GET", "/"): self._running,
            ("HEAD", "/api/version"): self._version,
            ("GET", "/api/version"): self._version,
            ("HEAD", "/api/tags"): self._tags,
            ("GET", "/api/tags"): self._tags,
            ("GET", "/api/ps"): self._ps,
            ("POST", "/api/show"): self._show,
            ("POST", "/api/generate"): self._generate,
            ("POST", "/api/chat"): self._chat,
            ("POST", "/api/embed"): self._embed,
            ("POST", "/api/embeddings"): self._embeddings,
        }

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        try:
            while request := await self._read(reader, writer):
                if request.control:
                    status, document = control(self._host, request)
                    body = framing.go_json(document)
                    writer.write(framing.go_reply(request, status, (_JSON,), body))
                elif not await self._serve(request, (reader, writer)):
                    return
                if request.closes():
                    return
        except BadRequest:
            writer.write(framing.go_bad_request())
        except Gone:
            return

    async def _read(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Request | None:
        head = await read_head(reader)
        if head is None:
            return None
        if len(hosts := head.all("host")) > 1 or (head.version == "HTTP/1.1" and not hosts):
            writer.write(framing.go_bad_request("" if hosts else "missing required Host header"))
            return None
        if (head.header("expect") or "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return replace(head, body=await read_body(reader, head))

    async def _serve(
        self, request: Request, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    ) -> bool:
        """Answer one request. False if the connection is to be closed."""
        journal = self._host.journal
        received = journal.add(request.received())
        exchange = Exchange(request, streams=streams, journal=journal, received=received)
        try:
            await self._answer(exchange, self._host.behaviour)
        except Cut:
            exchange.end(Outcome.FAILED)
            return False
        except Gone:
            exchange.end(Outcome.CANCELLED)
            return False
        exchange.end(Outcome.ANSWERED)
        return True

    async def _answer(self, exchange: Exchange, behaviour: Behaviour) -> None:
        request = exchange.request
        generates = request.method == "POST" and request.path in GENERATING
        try:
            await admit(exchange, behaviour, generates=generates)
            if not trusted(request, loopback=self._host.loopback):
                await reply(exchange, 403, b"")
            elif route := self._routes.get((request.method, request.path)):
                await route(exchange, behaviour)
            else:
                await self._no_route(exchange)
        except Refusal as refusal:
            await reply_json(exchange, refusal.status, {"error": refusal.text})
        except Refused:
            body = exchange.received.body
            model = body.get("model", "") if isinstance(body, dict) else ""
            await reply_json(exchange, 404, {"error": f"model '{model}' not found"})
        except Died:
            await reply_json(exchange, 500, {"error": _RUNNER_DIED})
        except Status as status:
            await reply_status(exchange, behaviour, status.code)

    async def _no_route(self, exchange: Exchange) -> None:
        allowed = [m for m, path in self._routes if path == exchange.request.path]
        if allowed:
            headers = (_PLAIN, ("Allow", ", ".join(allowed)))
            await reply(exchange, 405, b"405 method not allowed", headers)
        else:
            await reply(exchange, 404, b"404 page not found", (_PLAIN,))

    async def _running(self, exchange: Exchange, _: Behaviour) -> None:
        await reply(exchange, 200, b"Ollama is running", (_TEXT,))

    async def _version(self, exchange: Exchange, _: Behaviour) -> None:
        await reply_json(exchange, 200, {"version": VERSION})

    async def _tags(self, exchange: Exchange, _: Behaviour) -> None:
        await reply_json(exchange, 200, self._catalogue.tags())

    async def _ps(self, exchange: Exchange, _: Behaviour) -> None:
        await reply_json(exchange, 200, self._catalogue.running(now=time.time()))

    async def _show(self, exchange: Exchange, behaviour: Behaviour) -> None:
        fields = bind(exchange.request.body, "ShowRequest", binding.SHOW)
        model = fields.get("model") or fields.get("name")
        if not model:
            raise Refusal(400, "model is required")
        if full_name(model) is None:
            raise Refusal(500, unqualified(model))
        if not self._catalogue.has(model):
            raise Refusal(404, f"model '{model}' not found")
        await reply_json(exchange, 200, self._catalogue.show(full_name(model) or model, behaviour))

    async def _embed(self, exchange: Exchange, behaviour: Behaviour) -> None:
        started = time.perf_counter_ns()
        fields = bind(exchange.request.body, "EmbedRequest", binding.EMBED)
        texts = fields.get("input", [])
        texts = [texts] if isinstance(texts, str) and texts else texts or []
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise Refusal(400, "invalid input type")
        model = fields.get("model", "")
        self._check_held(model)
        if not texts:
            await reply_json(exchange, 200, {"model": model, "embeddings": []})
            return
        await Pace(exchange, behaviour).prefill()
        size = fields.get("dimensions") or DIMENSIONS
        vectors = [answer.normalised(answer.embedding(text, DIMENSIONS)[:size]) for text in texts]
        reply = {
            "model": model,
            "embeddings": vectors,
            "total_duration": time.perf_counter_ns() - started,
            "load_duration": 1,
            "prompt_eval_count": sum(len(answer.words(text)) for text in texts),
        }
        await reply_json(exchange, 200, reply)

    async def _embeddings(self, exchange: Exchange, behaviour: Behaviour) -> None:
        fields = bind(exchange.request.body, "EmbeddingRequest", binding.EMBEDDING)
        model, prompt = fields.get("model", ""), fields.get("prompt", "")
        if full_name(model) is None:
            raise Refusal(400, "model is required")
        self._check_held(model)
        await Pace(exchange, behaviour).prefill()
        vector = answer.embedding(prompt, DIMENSIONS) if prompt else []
        await reply_json(exchange, 200, {"embedding": vector})

    def _check_held(self, model: str) -> None:
        if full_name(model) is None:
            raise Refusal(500, unqualified(model))
        if not self._catalogue.has(model):
            raise Refusal(404, f'model "{model}" not found, try pulling it first')

    async def _generate(self, exchange: Exchange, behaviour: Behaviour) -> None:
        fields = bind(exchange.request.body, "GenerateRequest", binding.GENERATE)
        await self._generation(exchange, behaviour, fields, chat=False)

    async def _chat(self, exchange: Exchange, behaviour: Behaviour) -> None:
        fields = bind(exchange.request.body, "ChatRequest", binding.CHAT)
        await self._generation(exchange, behaviour, fields, chat=True)

    async def _generation(
        self, exchange: Exchange, behaviour: Behaviour, fields: dict[str, object], *, chat: bool
    ) -> None:
        turn = prepare(fields, chat=chat, catalogue=self._catalogue, behaviour=behaviour)
        if not isinstance(turn, Turn):
            await reply_json(exchange, 200, turn)
        elif turn.stream:
            await stream(exchange, behaviour, turn)
        else:
            await whole(exchange, behaviour, turn)
