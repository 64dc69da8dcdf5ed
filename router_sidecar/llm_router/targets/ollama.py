"""Ollama, asked by its native API: its /v1 loses durations, keep_alive and errors in mid-stream.

Wire facts: Ollama 0.17, server/routes.go and api/types.go. The answer's headers come with the first
token; the stream is lines of JSON; only `done: true` is a proper end; an error in mid-stream is a
line with `error`.
"""

from functools import partial
from typing import Any

import orjson

from llm_router.errors import AttemptFailed, Cause
from llm_router.exchange import (
    Call,
    Delta,
    Dialect,
    Event,
    Exchange,
    Finish,
    Kind,
    Message,
)
from llm_router.targets import embed
from llm_router.targets.chat import dropped_openai
from llm_router.targets.options import EMBED_PARAMETERS, OPTIONS, fill, keep
from llm_router.targets.relay import OllamaRelay, ended, measured
from llm_router.targets.target import (
    Decoder,
    Lines,
    Outgoing,
    Terms,
    broken,
    called,
    cause_of,
    error_text,
    parsed,
    word,
)
from llm_router.targets.whole import OllamaWhole

#: Of another dialect's needs, those that Ollama has words for.
ABLE = frozenset({"image_url", "response_format", "logprobs", "suffix"})

#: OpenAI fields that `_translated` carries over besides the common ones.
CARRIED = frozenset({"reasoning_effort", "think", "logprobs", "top_logprobs"})
CARRIED_PROMPT = frozenset({"logprobs", "suffix"})

#: Levels of thinking that OpenAI's clients have and Ollama refuses.
LEVEL = {"minimal": "low", "xhigh": "high"}


class OllamaTarget:
    """An Ollama server."""

    def lacks(self, exchange: Exchange) -> str | None:
        """See `Target.lacks`."""
        if exchange.dialect is Dialect.OLLAMA or not exchange.needs:
            return None
        missing = exchange.needs - ABLE
        return min(missing) if missing else None

    def encode(self, exchange: Exchange, terms: Terms) -> Outgoing:
        """See `Target.encode`."""
        if exchange.kind is Kind.EMBED:
            return _embed(exchange, terms)
        native = exchange.dialect is Dialect.OLLAMA
        body = {**exchange.body} if native else _translated(exchange)
        options = {**(body.get("options") or {})}
        if isinstance(options.get("stop"), str):
            # NB: Ollama answers 500 to anything but a list.
            options["stop"] = [options["stop"]]
        fill(body, options, terms)
        defaults = terms.defaults
        if defaults.max_tokens is not None and options.get("num_predict") is None:
            options["num_predict"] = defaults.max_tokens
        if defaults.temperature is not None and options.get("temperature") is None:
            options["temperature"] = defaults.temperature
        keep(body, options, terms)
        body["model"] = terms.model
        body["stream"] = True
        path = b"/api/chat" if exchange.kind is Kind.CHAT else b"/api/generate"
        dropped = _dropped(exchange, terms)
        if not native:
            return Outgoing(path, orjson.dumps(body), OllamaDecoder, dropped)
        return Outgoing(path, orjson.dumps(body), partial(_reader, exchange), dropped)

    def refusal(self, status: int, body: bytes) -> AttemptFailed:
        """See `Target.refusal`."""
        text = error_text(body)
        cause = cause_of(status)
        if status == 404:
            cause = Cause.MODEL_MISSING
        elif status == 400 and ("does not support" in text or "is not supported" in text):
            cause = Cause.UNSUPPORTED
        return AttemptFailed(cause, called(status, text))


def _reader(exchange: Exchange) -> Decoder:
    """Of an answer in the client's own protocol."""
    if exchange.stream:
        return OllamaRelay(exchange.model)
    return OllamaDecoder(whole=OllamaWhole(exchange.model))


def _embed(exchange: Exchange, terms: Terms) -> Outgoing:
    # NB: Ollama's older route gives vectors as the model made them, the newer one of length 1.
    older = exchange.dialect is Dialect.OLLAMA and "prompt" in exchange.body
    body = {**exchange.body} if older else embed.native(exchange, Dialect.OLLAMA)
    options = {**(body.get("options") or {})}
    fill(body, options, terms, names=EMBED_PARAMETERS)
    keep(body, options, terms)
    body["model"] = terms.model
    dropped = _dropped(exchange, terms)
    path = b"/api/embeddings" if older else b"/api/embed"
    read = embed.of_older_ollama if older else embed.of_ollama
    reader = partial(embed.EmbedDecoder, exchange, read)
    return Outgoing(path, orjson.dumps(body), reader, dropped)


def _translated(exchange: Exchange) -> dict[str, Any]:
    """Another dialect's request as Ollama's body."""
    body: dict[str, Any] = {}
    if exchange.sampling:
        body["options"] = {OPTIONS[name]: value for name, value in exchange.sampling.items()}
    if exchange.kind is Kind.CHAT:
        body["messages"] = [_message(message) for message in exchange.messages]
    else:
        for message in exchange.messages:
            body[_PROMPT_FIELD[message.role]] = message.text
    if exchange.raw:
        # NB: Ollama looks at a suffix only where it writes the prompt itself.
        if suffix := exchange.body.get("suffix"):
            body["suffix"] = suffix
        else:
            body["raw"] = True
    if exchange.tools:
        body["tools"] = list(exchange.tools)
    if exchange.format is not None:
        body["format"] = exchange.format
    if exchange.think is not None:
        level = exchange.think
        body["think"] = LEVEL.get(level, level) if isinstance(level, str) else level
    if exchange.logprobs is not None:
        body["logprobs"] = True
        body["top_logprobs"] = exchange.logprobs
    return body


def _dropped(exchange: Exchange, terms: Terms) -> tuple[str, ...]:
    if exchange.dialect is Dialect.OPENAI:
        if exchange.kind is Kind.EMBED:
            return embed.dropped(exchange)
        return _dropped_openai(exchange)
    if terms.num_ctx is not None and exchange.dialect is Dialect.OLLAMA:
        asked = (exchange.body.get("options") or {}).get("num_ctx")
        if asked is not None and asked != terms.num_ctx:
            return ("options.num_ctx",)
    return ()


def _dropped_openai(exchange: Exchange) -> tuple[str, ...]:
    chat = exchange.kind is Kind.CHAT
    dropped = dropped_openai(exchange, kept=CARRIED if chat else CARRIED_PROMPT)
    if "chat_template_kwargs" in dropped and _only_a_switch(exchange):
        dropped = tuple(name for name in dropped if name != "chat_template_kwargs")
    for message in exchange.messages:
        if message.tool and message.role != "tool":
            return tuple(sorted((*dropped, "messages.name")))
    return dropped


def _only_a_switch(exchange: Exchange) -> bool:
    """Whether the client's template arguments are but one, which `think` says here."""
    return set(exchange.body["chat_template_kwargs"]) <= {"enable_thinking"}


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

    __slots__ = ("_called", "_lines", "_whole", "done", "started")

    def __init__(self, *, whole: OllamaWhole | None = None) -> None:
        """Read an answer; `whole` is where it is joined too, in the client's own protocol."""
        self.started = False
        self.done = False
        self._lines = Lines()
        self._called = 0
        self._whole = whole

    def feed(self, data: bytes) -> list[Event]:
        """See `Decoder.feed`."""
        events: list[Event] = []
        for line in self._lines.feed(data):
            if line and not line.isspace():
                self._line(line, events)
        return events

    def _line(self, line: bytes, events: list[Event]) -> None:
        if self.done:
            raise broken("went on after done")
        chunk = parsed(line)
        if chunk.get("error") is not None:
            raise AttemptFailed(Cause.BROKEN_STREAM, f"the host broke off: {error_text(line)}")
        piece = chunk.get("message") or chunk
        text = piece.get("content") or chunk.get("response") or ""
        thinking = piece.get("thinking") or ""
        if type(text) is not str or type(thinking) is not str:
            raise TypeError(chunk)
        listed = piece.get("tool_calls")
        calls = self._calls(listed) if listed else ()
        logprobs = chunk.get("logprobs")
        extras = {"logprobs": logprobs} if logprobs else None
        told = text or thinking or calls
        if told:
            self.started = True
        if told or extras:
            events.append(Delta(text, thinking, calls, extras))
        if self._whole is not None:
            self._whole.add(chunk, len(line))
        if chunk.get("done") is True:
            self.started = self.done = True
            whole = self._whole.written() if self._whole is not None else None
            events.append(Finish(ended(chunk), measured(chunk), whole=whole))

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
