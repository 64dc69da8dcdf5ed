"""The Ollama fronts: POST /api/chat and POST /api/generate.

Wire format: Ollama's api/types.go and server/routes.go, as of 0.17. Streams are lines of JSON and
are the default; the last line has `done: true`. A broken stream ends with a line `{"error": ...}`.
"""

import base64
import binascii
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import orjson

from llm_router import fields
from llm_router.errors import Problem
from llm_router.exchange import (
    Answer,
    Call,
    Delta,
    Dialect,
    Exchange,
    Finish,
    Kind,
    Message,
    Reason,
    Sampling,
    Timing,
)
from llm_router.fronts.front import NDJSON, About, Encoder

ROLES = frozenset({"system", "user", "assistant", "tool"})

#: Those whose turn may be no more than a text.
TURNS = frozenset({"system", "user", "assistant"})

#: Fields that ask for no more than text.
SIMPLE = frozenset("model messages prompt system stream options".split())

#: Features that no other protocol has words for.
NEEDS = ("suffix", "template", "context", "_debug_render_only", "width", "height", "steps")


class ChatFront:
    """POST /api/chat."""

    name = "ollama_chat"
    stream_type = NDJSON

    def decode(self, body: bytes) -> Exchange:
        """See `Front.decode`."""
        sent = fields.document(body)
        return _exchange(sent, Kind.CHAT, _messages(sent))

    def encoder(self, exchange: Exchange, about: About) -> Encoder:
        """See `Front.encoder`."""
        return OllamaEncoder(exchange.model, chat=True)

    def problem(self, problem: Problem) -> bytes:
        """See `Front.problem`."""
        return _error(problem)


class GenerateFront:
    """POST /api/generate."""

    name = "ollama_generate"
    stream_type = NDJSON

    def decode(self, body: bytes) -> Exchange:
        """See `Front.decode`."""
        sent = fields.document(body)
        system, prompt = fields.text(sent, "system"), fields.text(sent, "prompt")
        images = _images(sent, "")
        messages = [Message(role="system", text=system)] if system else []
        messages.append(Message(role="user", text=prompt, images=images))
        # NB: without a prompt Ollama loads or unloads the model, whatever else is set.
        return _exchange(sent, Kind.PROMPT, tuple(messages) if prompt else ())

    def encoder(self, exchange: Exchange, about: About) -> Encoder:
        """See `Front.encoder`."""
        return OllamaEncoder(exchange.model, chat=False)

    def problem(self, problem: Problem) -> bytes:
        """See `Front.problem`."""
        return _error(problem)


def _exchange(sent: dict[str, Any], kind: Kind, messages: tuple[Message, ...]) -> Exchange:
    options = fields.mapping(sent, "options")
    exchange = Exchange(
        kind=kind,
        dialect=Dialect.OLLAMA,
        body=sent,
        model=fields.required(sent, "model"),
        stream=fields.flag(sent, "stream", default=True),
        messages=messages,
        sampling=_sampling(options),
    )
    pictured = any(message.images for message in messages)
    if pictured or not sent.keys() <= SIMPLE:
        needs = _features(sent, exchange)
        exchange.needs = frozenset({*needs, "images"} if pictured else needs)
    return exchange


def _features(sent: dict[str, Any], exchange: Exchange) -> set[str]:
    """What goes beyond text: read into the exchange; given is what a target must know of."""
    needs = {name for name in NEEDS if sent.get(name)}
    exchange.keep_alive = keep_alive = sent.get("keep_alive")
    if keep_alive is not None and not _duration(keep_alive):
        fields.refuse("keep_alive", "must be a number of seconds or a duration such as 5m")
    exchange.think = think = sent.get("think")
    if think is not None and not isinstance(think, bool | str):
        fields.refuse("think", f"must be true, false or a level, is {fields.kind(think)}")
    exchange.format = output = sent.get("format") or None
    if output is not None:
        if output != "json" and not isinstance(output, dict):
            fields.refuse("format", 'must be "json" or a JSON Schema')
        needs.add("format")
    exchange.raw = fields.flag(sent, "raw", default=False)
    if exchange.raw and (output or any(m.images or m.role == "system" for m in exchange.messages)):
        # A prompt that goes as it is has no place for more elsewhere.
        needs.add("raw")
    exchange.tools = tuple(fields.objects(sent, "tools"))
    if fields.flag(sent, "logprobs", default=False):
        exchange.logprobs = fields.natural(sent, "top_logprobs") or 0
        needs.add("logprobs")
    return needs


def _duration(value: object) -> bool:
    # NB: Ollama refuses "5" without a unit; leave the text to it, only the JSON type is checked
    # here.
    return isinstance(value, int | float | str) and not isinstance(value, bool)


#: Option -> what it sets.
SAMPLING: fields.Readers = {
    "num_predict": ("max_tokens", fields.integer),
    "temperature": ("temperature", fields.number),
    "top_p": ("top_p", fields.number),
    "top_k": ("top_k", fields.integer),
    "min_p": ("min_p", fields.number),
    "seed": ("seed", fields.integer),
    "stop": ("stop", fields.strings),
    "presence_penalty": ("presence_penalty", fields.number),
    "frequency_penalty": ("frequency_penalty", fields.number),
    "repeat_penalty": ("repeat_penalty", fields.number),
}


def _sampling(options: dict[str, Any]) -> Sampling:
    return cast(Sampling, fields.read(options, SAMPLING, path="options."))


def _messages(sent: dict[str, Any]) -> tuple[Message, ...]:
    messages = []
    for index, item in enumerate(fields.objects(sent, "messages")):
        role, content = item.get("role"), item.get("content")
        if len(item) == 2 and type(content) is str and type(role) is str and role in TURNS:
            messages.append(Message(role=role, text=content))
        else:
            messages.append(_message(item, f"messages[{index}]."))
    return tuple(messages)


def _images(of: dict[str, Any], path: str) -> tuple[str, ...]:
    images = fields.strings(of, "images", path=path)
    for index, image in enumerate(images):
        try:
            base64.b64decode(image, validate=True)
        except binascii.Error:
            fields.refuse(f"{path}images[{index}]", "is not base64")
    return images


def _message(item: dict[str, Any], path: str) -> Message:
    role = fields.required(item, "role", path=path)
    if role not in ROLES:
        fields.refuse(f"{path}role", f"must be one of {', '.join(sorted(ROLES))}, is {role!r}")
    calls = []
    for index, call in enumerate(fields.objects(item, "tool_calls", path=path)):
        at = f"{path}tool_calls[{index}]."
        function = fields.mapping(call, "function", path=at)
        arguments = fields.mapping(function, "arguments", path=f"{at}function.")
        calls.append(
            Call(
                id=fields.text(call, "id", path=at) or f"call_{index}",
                name=fields.required(function, "name", path=f"{at}function."),
                arguments=orjson.dumps(arguments).decode(),
            )
        )
    return Message(
        role=role,
        text=fields.text(item, "content", path=path),
        thinking=fields.text(item, "thinking", path=path),
        images=_images(item, path),
        calls=tuple(calls),
        call_id=fields.text(item, "tool_call_id", path=path) or None,
        tool=fields.text(item, "tool_name", path=path) or None,
    )


def _error(problem: Problem) -> bytes:
    return orjson.dumps({"error": problem.message})


#: The millisecond that was written last, and how.
_last = (0, "")


def _now() -> str:
    """The time as Ollama writes it; lines of one millisecond share it."""
    global _last
    now = int(time.time() * 1000)
    if now != _last[0]:
        _last = now, written(now / 1000)
    return _last[1]


def written(seconds: float) -> str:
    """A time as Ollama writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


class OllamaEncoder:
    """An answer as Ollama writes it; model is the name the client asked for."""

    def __init__(self, model: str, *, chat: bool) -> None:
        self._model = model
        self._chat = chat
        # NB: everything but the time and the text is the same in each line, so it is encoded once.
        self._before = orjson.dumps({"model": model})[:-1] + b',"created_at":"'
        self._text = b'","message":{"role":"assistant","content":' if chat else b'","response":'
        self._after = b'},"done":false}\n' if chat else b',"done":false}\n'

    def delta(self, delta: Delta) -> bytes:
        """See `Encoder.delta`."""
        if delta.thinking or delta.calls or delta.extras:
            chunk = self._chunk(delta.text, delta.thinking, delta.calls, extras=delta.extras)
            return orjson.dumps(chunk | {"done": False}) + b"\n"
        text = orjson.dumps(delta.text)
        return self._before + _now().encode() + self._text + text + self._after

    def finish(self, finish: Finish, timing: Timing) -> bytes:
        """See `Encoder.finish`."""
        chunk = self._chunk("", "", (), extras=finish.extras)
        return orjson.dumps(chunk | _end(finish, timing)) + b"\n"

    def failure(self, problem: Problem) -> bytes:
        """See `Encoder.failure`."""
        return _error(problem) + b"\n"

    def whole(self, answer: Answer, timing: Timing) -> bytes:
        """See `Encoder.whole`."""
        if answer.finish.whole is not None:
            return answer.finish.whole
        chunk = self._chunk(answer.text, answer.thinking, answer.calls, extras=answer.extras)
        return orjson.dumps(chunk | _end(answer.finish, timing))

    def _chunk(
        self, text: str, thinking: str, calls: tuple[Call, ...], *, extras: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        chunk: dict[str, Any] = {"model": self._model, "created_at": _now()}
        if self._chat:
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if thinking:
                message["thinking"] = thinking
            if calls:
                message["tool_calls"] = [_call(call, index) for index, call in enumerate(calls)]
            chunk["message"] = message
        else:
            chunk["response"] = text
            if thinking:
                chunk["thinking"] = thinking
            if calls:
                chunk["tool_calls"] = [_call(call, index) for index, call in enumerate(calls)]
        return {**chunk, **extras} if extras else chunk


def _call(call: Call, index: int) -> dict[str, Any]:
    try:
        arguments = orjson.loads(call.arguments or "{}")
    except orjson.JSONDecodeError:
        # NB: a model may write broken JSON; Ollama clients need an object, so it is kept under one
        # key.
        arguments = {"arguments": call.arguments}
    function = {"index": index, "name": call.name, "arguments": arguments}
    return {"id": call.id, "function": function}


#: OpenAI's reasons in Ollama's words: a tool call ends with stop.
DONE_REASON = {Reason.TOOL_CALLS: "stop"}


def _end(finish: Finish, timing: Timing) -> dict[str, Any]:
    """The last line's fields. Where the host measured nothing, the router's own clock fills in."""
    usage = finish.usage
    reason = DONE_REASON.get(finish.reason, finish.reason.value)
    end: dict[str, Any] = {"done": True, "done_reason": reason}
    if finish.reason in (Reason.LOAD, Reason.UNLOAD):
        return end
    measured = usage.decode_ns is not None or usage.prefill_ns is not None
    # NB: clients divide by durations, so one of zero is left out, as Ollama does.
    end |= {
        "total_duration": timing.total_ns() or None,
        "load_duration": usage.load_ns,
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": (usage.prefill_ns if measured else timing.prefill_ns()) or None,
        "eval_count": usage.completion_tokens,
        "eval_duration": (usage.decode_ns if measured else timing.decode_ns()) or None,
    }
    return {name: value for name, value in end.items() if value is not None}
