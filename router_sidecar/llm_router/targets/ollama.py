"""Ollama, asked by its native API: its /v1 loses durations, keep_alive and errors in mid-stream.

Wire facts: Ollama 0.17, server/routes.go and api/types.go. The answer's headers come with the first
token; the stream is lines of JSON; only `done: true` is a proper end; an error in mid-stream is a
line with `error`.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import orjson

from llm_contract import Defaults
from llm_router.errors import AttemptFailed, Cause
from llm_router.exchange import (
    REASONS,
    Call,
    Delta,
    Dialect,
    Event,
    Exchange,
    Finish,
    Kind,
    Message,
    Reason,
    Usage,
)
from llm_router.targets import embed
from llm_router.targets.chat import dropped_openai
from llm_router.targets.target import (
    Decoder,
    Lines,
    Outgoing,
    broken,
    called,
    cause_of,
    count,
    error_text,
    parsed,
    word,
)

#: The exchange's sampling fields -> Ollama's options.
OPTIONS: Mapping[str, str] = {
    "max_tokens": "num_predict",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repeat_penalty": "repeat_penalty",
}

#: Fields of a chunk that the canonical events carry; anything else is an extra.
KNOWN = frozenset(
    "model created_at message response thinking tool_calls done done_reason total_duration "
    "load_duration prompt_eval_count prompt_eval_duration eval_count eval_duration".split()
)


class OllamaTarget:
    """An Ollama server."""

    def lacks(self, exchange: Exchange) -> str | None:
        """See `Target.lacks`."""
        if exchange.dialect is Dialect.OLLAMA:
            return None
        if any(image.startswith("http") for m in exchange.messages for image in m.images):
            return "image_url"
        return next(iter(sorted(exchange.needs)), None)

    def encode(self, exchange: Exchange, *, model: str, defaults: Defaults) -> Outgoing:
        """See `Target.encode`."""
        if exchange.kind is Kind.EMBED:
            return _embed(exchange, model=model, keep_alive=defaults.keep_alive_seconds)
        dropped: tuple[str, ...] = ()
        if exchange.dialect is Dialect.OLLAMA:
            body = dict(exchange.body)
        else:
            body, dropped = _translated(exchange)
        options = dict(body.get("options") or {})
        if isinstance(options.get("stop"), str):
            # NB: Ollama answers 500 to anything but a list.
            options["stop"] = [options["stop"]]
        if options.get("num_predict") is None and defaults.max_tokens is not None:
            options["num_predict"] = defaults.max_tokens
        if options.get("temperature") is None and defaults.temperature is not None:
            options["temperature"] = defaults.temperature
        if body.get("keep_alive") is None and defaults.keep_alive_seconds is not None:
            body["keep_alive"] = defaults.keep_alive_seconds
        body |= {"model": model, "stream": True} | ({"options": options} if options else {})
        path = b"/api/chat" if exchange.kind is Kind.CHAT else b"/api/generate"
        return Outgoing(path, orjson.dumps(body), dropped)

    def decoder(self) -> Decoder:
        """See `Target.decoder`."""
        return OllamaDecoder()

    def refusal(self, status: int, body: bytes) -> AttemptFailed:
        """See `Target.refusal`."""
        text = error_text(body)
        cause = cause_of(status)
        if status == 404:
            cause = Cause.MODEL_MISSING
        elif status == 400 and "does not support" in text:
            cause = Cause.UNSUPPORTED
        return AttemptFailed(cause, called(status, text))


def _embed(exchange: Exchange, *, model: str, keep_alive: int | None) -> Outgoing:
    # NB: Ollama's older route gives vectors as the model made them, the newer one of length 1.
    older = exchange.dialect is Dialect.OLLAMA and "prompt" in exchange.body
    body = dict(exchange.body) if older else embed.native(exchange, Dialect.OLLAMA)
    body["model"] = model
    if body.get("keep_alive") is None and keep_alive is not None:
        body["keep_alive"] = keep_alive
    dropped = () if exchange.dialect is Dialect.OLLAMA else embed.dropped(exchange)
    path = b"/api/embeddings" if older else b"/api/embed"
    read = embed.of_older_ollama if older else embed.of_ollama
    reader = partial(embed.EmbedDecoder, exchange, read)
    return Outgoing(path, orjson.dumps(body), dropped, reader)


def _translated(exchange: Exchange) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Another dialect's request as Ollama's body, and the fields that have no place in it."""
    sampling = exchange.sampling
    options: dict[str, Any] = {
        name: value
        for ours, name in OPTIONS.items()
        if (value := getattr(sampling, ours)) is not None
    }
    if sampling.stop:
        options["stop"] = list(sampling.stop)
    body: dict[str, Any] = {"options": options} if options else {}
    if exchange.kind is Kind.CHAT:
        body["messages"] = [_message(message) for message in exchange.messages]
    else:
        body |= {_PROMPT_FIELD[message.role]: message.text for message in exchange.messages}
    if exchange.raw:
        body["raw"] = True
    if exchange.tools:
        body["tools"] = list(exchange.tools)
    if exchange.format is not None:
        body["format"] = exchange.format
    if exchange.think is not None:
        body["think"] = exchange.think
    return body, _dropped(exchange) if exchange.dialect is Dialect.OPENAI else ()


def _dropped(exchange: Exchange) -> tuple[str, ...]:
    kept = ("reasoning_effort",) if exchange.kind is Kind.CHAT else ()
    dropped = set(dropped_openai(exchange, kept=kept))
    if any(message.tool and message.role != "tool" for message in exchange.messages):
        dropped.add("messages.name")
    return tuple(sorted(dropped))


_PROMPT_FIELD = {"system": "system", "user": "prompt"}


def _message(message: Message) -> dict[str, Any]:
    written: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.thinking:
        written["thinking"] = message.thinking
    if message.images:
        written["images"] = list(message.images)
    if message.calls:
        written["tool_calls"] = [_call(call) for call in message.calls]
    if message.call_id:
        written["tool_call_id"] = message.call_id
    if message.tool and message.role == "tool":
        written["tool_name"] = message.tool
    return written


def _call(call: Call) -> dict[str, Any]:
    try:
        arguments = orjson.loads(call.arguments or "{}")
    except orjson.JSONDecodeError:
        arguments = {"arguments": call.arguments}
    return {"id": call.id, "function": {"name": call.name, "arguments": arguments}}


class OllamaDecoder:
    """Lines of JSON -> events."""

    def __init__(self) -> None:
        self.started = False
        self.done = False
        self._lines = Lines()
        self._called = 0

    def feed(self, data: bytes) -> list[Event]:
        """See `Decoder.feed`."""
        events: list[Event] = []
        for line in self._lines.feed(data):
            if line and not line.isspace():
                events.extend(self._line(line))
        return events

    def _line(self, line: bytes) -> list[Event]:
        if self.done:
            raise broken("went on after done")
        chunk = parsed(line)
        if chunk.get("error") is not None:
            raise AttemptFailed(Cause.BROKEN_STREAM, f"the host broke off: {error_text(line)}")
        message = chunk.get("message") or {}
        text = message.get("content") or chunk.get("response") or ""
        thinking = message.get("thinking") or chunk.get("thinking") or ""
        if not (isinstance(text, str) and isinstance(thinking, str)):
            raise TypeError(chunk)
        calls = self._calls(message.get("tool_calls") or chunk.get("tool_calls") or ())
        delta = Delta(text, thinking, calls)
        extras = (
            {k: v for k, v in chunk.items() if k not in KNOWN} if chunk.keys() - KNOWN else None
        )
        told = bool(delta.text or delta.thinking or delta.calls)
        if chunk.get("done") is not True:
            self.started = self.started or told
            delta.extras = extras
            return [delta] if told or extras else []
        self.started = self.done = True
        finish = Finish(_reason(chunk), _usage(chunk), extras)
        return [delta, finish] if told else [finish]

    def _calls(self, listed: Any) -> tuple[Call, ...]:
        calls = []
        for call in listed:
            function = call.get("function") or {}
            # NB: versions before 0.15 give no id, and OpenAI's clients need one.
            calls.append(
                Call(
                    id=word(call.get("id")) or f"call_{self._called}",
                    name=word(function.get("name")),
                    arguments=orjson.dumps(function.get("arguments") or {}).decode(),
                )
            )
            self._called += 1
        return tuple(calls)


def _reason(chunk: Mapping[str, Any]) -> Reason:
    named = chunk.get("done_reason") or "stop"
    return REASONS.get(named, Reason.STOP)


def _usage(chunk: Mapping[str, Any]) -> Usage:
    return Usage(
        prompt_tokens=count(chunk.get("prompt_eval_count")),
        completion_tokens=count(chunk.get("eval_count")),
        load_ns=count(chunk.get("load_duration")),
        prefill_ns=count(chunk.get("prompt_eval_duration")),
        decode_ns=count(chunk.get("eval_duration")),
    )
