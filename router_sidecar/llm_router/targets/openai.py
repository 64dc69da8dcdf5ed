"""Any server with an OpenAI /v1: vLLM, llama.cpp, LM Studio, a hosted API.

An OpenAI client's body goes on as it is, but for the model id, the stream and the route's
parameters, and so does the answer; other dialects are translated. Errors are OpenAI error objects,
or whatever the server makes of them.
"""

from functools import partial
from typing import Any

import orjson

from llm_router.errors import AttemptFailed, Cause
from llm_router.exchange import Dialect, Exchange, Kind
from llm_router.targets import embed
from llm_router.targets.chat import ChatDecoder, dropped_ollama, fill, lacking, settle, written
from llm_router.targets.relay import ChatRelay
from llm_router.targets.target import Decoder, Outgoing, Terms, called, cause_of, error_text
from llm_router.targets.whole import ChatWhole

#: Of another dialect's needs, those that this protocol has words for.
ABLE = frozenset({"images", "format", "logprobs"})

#: What this protocol has no parameters for in an embedding.
EMBED_PARAMETERS = frozenset({"dimensions", "user"})


class OpenAITarget:
    """An OpenAI-type server."""

    def lacks(self, exchange: Exchange) -> str | None:
        """See `Target.lacks`."""
        if exchange.kind is Kind.EMBED:
            return None if exchange.inputs else "input"
        return None if exchange.dialect is Dialect.OPENAI else lacking(exchange, ABLE)

    def encode(self, exchange: Exchange, terms: Terms) -> Outgoing:
        """See `Target.encode`."""
        if exchange.kind is Kind.EMBED:
            return _embed(exchange, terms)
        native = exchange.dialect is Dialect.OPENAI
        body = {**exchange.body} if native else _translated(exchange)
        body["model"] = terms.model
        body["stream"] = True
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        fill(body, terms.parameters)
        settle(body, terms.defaults)
        path = b"/v1/completions" if exchange.raw else b"/v1/chat/completions"
        if not native:
            return Outgoing(path, orjson.dumps(body), ChatDecoder, _dropped(exchange))
        return Outgoing(path, orjson.dumps(body), partial(_reader, exchange))

    def refusal(self, status: int, body: bytes) -> AttemptFailed:
        """See `Target.refusal`."""
        text = error_text(body)
        cause = Cause.MODEL_MISSING if status == 404 else cause_of(status)
        return AttemptFailed(cause, called(status, text))


def _reader(exchange: Exchange) -> Decoder:
    """Of an answer in the client's own protocol."""
    if exchange.stream:
        return ChatRelay(exchange.model, include_usage=exchange.include_usage)
    return ChatDecoder(whole=ChatWhole(exchange.model))


def _embed(exchange: Exchange, terms: Terms) -> Outgoing:
    body = embed.native(exchange, Dialect.OPENAI)
    fill(body, embed.parameters(terms.parameters, EMBED_PARAMETERS))
    body |= {"model": terms.model, "encoding_format": "float"}
    dropped = () if exchange.dialect is Dialect.OPENAI else embed.dropped(exchange)
    reader = partial(embed.EmbedDecoder, exchange, embed.of_openai)
    return Outgoing(b"/v1/embeddings", orjson.dumps(body), reader, dropped)


#: The exchange's sampling fields, where a server of this kind has them.
SAMPLING = frozenset(
    "max_tokens temperature top_p seed stop presence_penalty frequency_penalty".split()
)

#: Levels of thinking that Ollama's clients have and OpenAI's do not.
EFFORT = {"max": "high"}


def _translated(exchange: Exchange) -> dict[str, Any]:
    body: dict[str, Any] = {
        name: value for name, value in exchange.sampling.items() if name in SAMPLING
    }
    # NB: a negative number is Ollama's «no limit», which is what leaving it out means here.
    if body.get("max_tokens", 0) < 0:
        del body["max_tokens"]
    if exchange.raw:
        if exchange.logprobs is not None:
            body["logprobs"] = exchange.logprobs
        body["prompt"] = exchange.messages[-1].text
        return body
    body["messages"] = [written(message) for message in exchange.messages]
    if exchange.tools:
        body["tools"] = list(exchange.tools)
    if exchange.format == "json":
        body["response_format"] = {"type": "json_object"}
    elif exchange.format is not None:
        schema = {"name": "answer", "schema": exchange.format}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if isinstance(exchange.think, str):
        body["reasoning_effort"] = EFFORT.get(exchange.think, exchange.think)
    if exchange.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": exchange.logprobs}
    return body


#: Ollama options that `_translated` carries over.
OPTIONS = SAMPLING - {"max_tokens"} | {"num_predict"}


def _dropped(exchange: Exchange) -> tuple[str, ...]:
    if exchange.dialect is Dialect.UNIFIED:
        return ()
    dropped = dropped_ollama(exchange, options=OPTIONS)
    # NB: this protocol has levels of thinking and no switch.
    if isinstance(exchange.think, bool) or (exchange.raw and exchange.think is not None):
        dropped.add("think")
    return tuple(sorted(dropped))
