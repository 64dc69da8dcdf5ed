"""Any server with an OpenAI /v1: vLLM, llama.cpp, LM Studio, a hosted API.

An OpenAI client's body goes on as it is, but for the model id, the stream and the defaults; other
dialects are translated. Errors are OpenAI error objects, or whatever the server makes of them.
"""

from functools import partial
from typing import Any

import orjson

from llm_contract import Defaults
from llm_router.errors import AttemptFailed, Cause
from llm_router.exchange import Dialect, Exchange, Kind
from llm_router.targets import embed
from llm_router.targets.chat import ChatDecoder, dropped_ollama, lacking, written
from llm_router.targets.target import Decoder, Outgoing, called, cause_of, error_text


class OpenAITarget:
    """An OpenAI-type server."""

    def lacks(self, exchange: Exchange) -> str | None:
        """See `Target.lacks`."""
        if exchange.kind is Kind.EMBED:
            return None if exchange.inputs else "input"
        return lacking(exchange)

    def encode(self, exchange: Exchange, *, model: str, defaults: Defaults) -> Outgoing:
        """See `Target.encode`."""
        if exchange.kind is Kind.EMBED:
            return _embed(exchange, model=model)
        native = exchange.dialect is Dialect.OPENAI
        body = dict(exchange.body) if native else _translated(exchange)
        limits = (body.get("max_tokens"), body.get("max_completion_tokens"))
        if limits == (None, None) and defaults.max_tokens is not None:
            body["max_tokens"] = defaults.max_tokens
        if body.get("temperature") is None and defaults.temperature is not None:
            body["temperature"] = defaults.temperature
        body |= {"model": model, "stream": True, "stream_options": {"include_usage": True}}
        path = b"/v1/completions" if exchange.raw else b"/v1/chat/completions"
        return Outgoing(path, orjson.dumps(body), () if native else _dropped(exchange))

    def decoder(self) -> Decoder:
        """See `Target.decoder`."""
        return ChatDecoder()

    def refusal(self, status: int, body: bytes) -> AttemptFailed:
        """See `Target.refusal`."""
        text = error_text(body)
        cause = Cause.MODEL_MISSING if status == 404 else cause_of(status)
        return AttemptFailed(cause, called(status, text))


def _embed(exchange: Exchange, *, model: str) -> Outgoing:
    body = embed.native(exchange, Dialect.OPENAI) | {"model": model, "encoding_format": "float"}
    dropped = () if exchange.dialect is Dialect.OPENAI else embed.dropped(exchange)
    reader = partial(embed.EmbedDecoder, exchange, embed.of_openai)
    return Outgoing(b"/v1/embeddings", orjson.dumps(body), dropped, reader)


#: The exchange's sampling fields -> OpenAI's, where a server of this kind has them.
SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}


def _translated(exchange: Exchange) -> dict[str, Any]:
    sampling = exchange.sampling
    body: dict[str, Any] = {
        name: value
        for ours, name in SAMPLING.items()
        if (value := getattr(sampling, ours)) is not None
    }
    # NB: a negative number is Ollama's «no limit», which is what leaving it out means here.
    if sampling.max_tokens is not None and sampling.max_tokens >= 0:
        body["max_tokens"] = sampling.max_tokens
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if exchange.raw:
        return body | {"prompt": exchange.messages[-1].text}
    body["messages"] = [written(message) for message in exchange.messages]
    if exchange.tools:
        body["tools"] = list(exchange.tools)
    if exchange.format == "json":
        body["response_format"] = {"type": "json_object"}
    elif exchange.format is not None:
        schema = {"name": "answer", "schema": exchange.format}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if isinstance(exchange.think, str):
        body["reasoning_effort"] = exchange.think
    return body


#: Ollama options that `_translated` carries over.
OPTIONS = frozenset({*SAMPLING.values(), "num_predict", "stop"})


def _dropped(exchange: Exchange) -> tuple[str, ...]:
    dropped = dropped_ollama(exchange, options=OPTIONS)
    if exchange.think is True:
        dropped.add("think")
    return tuple(sorted(dropped))
