"""The OpenAI front: POST /v1/chat/completions.

Streams are server-sent events: one role delta, one id throughout, a chunk with the finish reason, a
usage chunk only when asked for, and `[DONE]`. A broken stream ends with an error event and no
`[DONE]`.
"""

from collections.abc import Mapping
from typing import Any, cast

import orjson

from llm_router import fields
from llm_router.errors import Code, Problem
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
    Usage,
)
from llm_router.fronts.front import SSE, About, Encoder

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

#: Those whose turn may be no more than a text.
TURNS = frozenset({"system", "user", "assistant"})

#: Problem -> OpenAI's error type; the official client maps the status to its exception classes.
ERROR_TYPE = {
    Code.FORBIDDEN: "permission_error",
    Code.MODEL_NOT_FOUND: "not_found_error",
    Code.PATH_NOT_FOUND: "not_found_error",
    Code.RATE_LIMITED: "rate_limit_error",
    Code.UPSTREAM: "api_error",
    Code.OVERLOADED: "api_error",
    Code.NOT_READY: "api_error",
    Code.INTERNAL: "api_error",
    Code.TIMEOUT: "timeout",
}

#: Fields that ask for no more than text.
SIMPLE = frozenset(
    "model messages stream max_tokens max_completion_tokens temperature top_p top_k min_p seed "
    "stop presence_penalty frequency_penalty repetition_penalty user store metadata".split()
)

#: Features that only a server of this protocol may have, in so far as they are asked for.
NEEDS = ("audio", "prediction", "web_search_options", "functions", "function_call")

#: The same of an earlier turn.
TURN_NEEDS = ("audio", "function_call")


class ChatFront:
    """POST /v1/chat/completions.

    Several answers (`n`) are a feature like any other: a server of this protocol gives them,
    streamed and not, as its streams are joined choice by choice; other targets lack it.
    """

    name = "openai_chat"
    stream_type = SSE

    def decode(self, body: bytes) -> Exchange:
        """See `Front.decode`."""
        sent = fields.document(body)
        needs: set[str] = set()
        exchange = Exchange(
            kind=Kind.CHAT,
            dialect=Dialect.OPENAI,
            body=sent,
            model=fields.required(sent, "model"),
            stream=fields.flag(sent, "stream", default=False),
            messages=_messages(sent, needs),
            sampling=sampling(sent),
        )
        if not sent.keys() <= SIMPLE:
            _features(sent, exchange, needs)
        if needs:
            exchange.needs = frozenset(needs)
        return exchange

    def encoder(self, exchange: Exchange, about: About) -> Encoder:
        """See `Front.encoder`."""
        return ChatEncoder(exchange, about)

    def problem(self, problem: Problem) -> bytes:
        """See `Front.problem`."""
        return orjson.dumps({"error": error(problem)})


#: Sampling field -> what it sets; the newer name of the limit on tokens goes before the older.
SAMPLING: fields.Readers = {
    "max_completion_tokens": ("limit", fields.natural),
    "max_tokens": ("max_tokens", fields.natural),
    "temperature": ("temperature", fields.number),
    "top_p": ("top_p", fields.number),
    "top_k": ("top_k", fields.integer),
    "min_p": ("min_p", fields.number),
    "seed": ("seed", fields.integer),
    "stop": ("stop", fields.strings),
    "presence_penalty": ("presence_penalty", fields.number),
    "frequency_penalty": ("frequency_penalty", fields.number),
    "repetition_penalty": ("repeat_penalty", fields.number),
}


def sampling(sent: dict[str, Any]) -> Sampling:
    """The sampling fields, which chat and text completion share."""
    found = fields.read(sent, SAMPLING)
    if "limit" in found:
        found["max_tokens"] = found.pop("limit")
    return cast(Sampling, found)


def usage_wanted(sent: dict[str, Any]) -> bool:
    """Whether a stream is to end with a usage chunk."""
    options = fields.mapping(sent, "stream_options")
    return fields.flag(options, "include_usage", default=False, path="stream_options.")


def several(sent: dict[str, Any]) -> bool:
    """Whether more than one answer is asked for."""
    return (fields.integer(sent, "n", minimum=1) or 1) > 1


def _features(sent: dict[str, Any], exchange: Exchange, needs: set[str]) -> None:
    """What goes beyond text: read into the exchange, or noted as needed."""
    exchange.include_usage = usage_wanted(sent)
    tools, choice = fields.objects(sent, "tools"), sent.get("tool_choice")
    if tools and choice != "none":
        exchange.tools = tuple(tools)
        if any(tool.get("type", "function") != "function" for tool in tools):
            needs.add("tools")
        if choice is not None and choice != "auto":
            # NB: «required» and a function's name are a promise; a host that ignores it breaks it.
            needs.add("tool_choice")
    exchange.format = _format(sent)
    if exchange.format is not None:
        needs.add("response_format")
    exchange.think = _think(sent)
    if fields.flag(sent, "logprobs", default=False):
        exchange.logprobs = fields.natural(sent, "top_logprobs") or 0
        needs.add("logprobs")
    if several(sent):
        needs.add("n")
    needs.update(name for name in NEEDS if sent.get(name))
    if sent.get("modalities") not in (None, ["text"]):
        needs.add("modalities")


def _think(sent: dict[str, Any]) -> bool | str | None:
    """How much to think: OpenAI's level, else the switch that other servers have."""
    effort = fields.text(sent, "reasoning_effort") or None
    switch = fields.mapping(sent, "chat_template_kwargs").get("enable_thinking")
    if effort == "none" or switch is False:
        return False
    other = sent.get("think")
    if effort is None and switch is None and isinstance(other, bool | str):
        return None if other == "" else other
    return effort or (True if switch is True else None)


def _format(sent: dict[str, Any]) -> str | dict[str, Any] | None:
    asked = fields.mapping(sent, "response_format")
    match asked.get("type"):
        case None | "text":
            return None
        case "json_object":
            return "json"
        case "json_schema":
            schema = fields.mapping(asked, "json_schema", path="response_format.")
            return fields.mapping(schema, "schema", path="response_format.json_schema.") or "json"
        case other:
            fields.refuse("response_format.type", f"{other!r} is not a known format")


def _messages(sent: dict[str, Any], needs: set[str]) -> tuple[Message, ...]:
    listed = sent.get("messages")
    if type(listed) is not list or not listed:
        fields.objects(sent, "messages")
        fields.refuse("messages", "must hold at least one message")
    messages = []
    for index, item in enumerate(listed):
        if type(item) is not dict:
            fields.listed(listed, "messages")
        role, content = item.get("role"), item.get("content")
        if len(item) == 2 and type(content) is str and type(role) is str and role in TURNS:
            messages.append(Message(role=role, text=content))
        else:
            messages.append(_message(item, f"messages[{index}].", needs))
    return tuple(messages)


def _message(item: dict[str, Any], path: str, needs: set[str]) -> Message:
    role = fields.required(item, "role", path=path)
    if role not in ROLES:
        fields.refuse(f"{path}role", f"must be one of {', '.join(sorted(ROLES))}, is {role!r}")
    text, images = _content(item.get("content"), f"{path}content", needs)
    calls = []
    for index, call in enumerate(fields.objects(item, "tool_calls", path=path)):
        at = f"{path}tool_calls[{index}]."
        if call.get("type", "function") != "function":
            needs.add("tools")
            continue
        function = fields.mapping(call, "function", path=at)
        calls.append(
            Call(
                id=fields.text(call, "id", path=at) or f"call_{index}",
                name=fields.required(function, "name", path=f"{at}function."),
                arguments=fields.text(function, "arguments", path=f"{at}function.") or "{}",
            )
        )
    needs.update(name for name in TURN_NEEDS if item.get(name))
    thinking = item.get("reasoning") or item.get("reasoning_content") or item.get("thinking")
    return Message(
        role="system" if role == "developer" else "tool" if role == "function" else role,
        text=text or fields.text(item, "refusal", path=path),
        thinking=thinking if isinstance(thinking, str) else "",
        images=images,
        calls=tuple(calls),
        call_id=fields.text(item, "tool_call_id", path=path) or None,
        tool=fields.text(item, "name", path=path) or None,
    )


def _content(content: object, path: str, needs: set[str]) -> tuple[str, tuple[str, ...]]:
    """The text and the images of a message's content, which is a string or a list of parts.

    A part of another type is a need: only a server of this protocol may know it.
    """
    if content is None or isinstance(content, str):
        return content or "", ()
    texts: list[str] = []
    images: list[str] = []
    for index, part in enumerate(fields.listed(content, path)):
        at = f"{path}[{index}]."
        match fields.required(part, "type", path=at):
            case "text" | "refusal" as name:
                texts.append(fields.text(part, name, path=at))
            case "image_url":
                url = fields.mapping(part, "image_url", path=at)
                image = _image(fields.required(url, "url", path=f"{at}image_url."))
                # NB: no other host fetches a URL.
                needs.add("image_url.url" if ":" in image[:10] else "image_url")
                images.append(image)
            case other:
                needs.add(f"content.{other[:40]}")
    return "".join(texts), tuple(images)


def _image(url: str) -> str:
    head, comma, data = url.partition(",")
    return data if comma and head.startswith("data:") and head.endswith(";base64") else url


def error(problem: Problem) -> dict[str, Any]:
    """An OpenAI error object."""
    return {
        "message": problem.message,
        "type": ERROR_TYPE.get(problem.code, "invalid_request_error"),
        "param": problem.param,
        "code": problem.code.value,
    }


#: Reasons that OpenAI has no word for.
FINISH_REASON = {Reason.LOAD: "stop", Reason.UNLOAD: "stop"}


class ChatEncoder:
    """An answer as chat.completion.chunk events, or as one chat.completion."""

    def __init__(self, exchange: Exchange, about: About) -> None:
        self._include_usage = exchange.include_usage
        self._called = 0
        self._begun = False
        answer_id, created = f"chatcmpl-{about.request_id}", int(about.created)
        self._head = {"id": answer_id, "created": created, "model": exchange.model}
        chunk = orjson.dumps(self._head | {"object": "chat.completion.chunk"})
        # NB: everything but the text is the same in each chunk, so it is encoded once.
        self._before = b"data: " + chunk[:-1] + b',"choices":[{"index":0,"delta":'
        self._text = self._before + b'{"content":'

    def delta(self, delta: Delta) -> bytes:
        """See `Encoder.delta`."""
        plain = not (delta.thinking or delta.calls or delta.extras or delta.fragments)
        if plain and self._begun:
            return self._text + orjson.dumps(delta.text) + b'},"finish_reason":null}]}\n\n'
        piece: dict[str, Any] = {}
        if not self._begun:
            self._begun = True
            piece["role"] = "assistant"
            piece["content"] = ""
        if delta.text:
            piece["content"] = delta.text
        if delta.thinking:
            piece["reasoning"] = delta.thinking
        if delta.calls:
            piece["tool_calls"] = [
                _call(call) | {"index": self._called + offset}
                for offset, call in enumerate(delta.calls)
            ]
            self._called += len(delta.calls)
        elif delta.fragments:
            # NB: a host that gives no index gives calls whole.
            piece["tool_calls"] = [
                {"index": self._called + offset, **fragment}
                for offset, fragment in enumerate(delta.fragments)
            ]
            self._called += len(delta.fragments)
        rest = b',"finish_reason":null}]}\n\n'
        if delta.extras:
            rest = b',"logprobs":' + orjson.dumps(_logprobs(delta.extras)) + rest
        return self._before + orjson.dumps(piece) + rest

    def finish(self, finish: Finish, timing: Timing) -> bytes:
        """See `Encoder.finish`."""
        begin = b"" if self._begun else self.delta(Delta())
        reason = self._reason(finish, called=self._called > 0)
        choice = {"index": 0, "delta": {}, "finish_reason": reason}
        head = self._head | {"object": "chat.completion.chunk"}
        end = begin + event(head | {"choices": [choice]})
        usage = counts(finish.usage) if self._include_usage else None
        if usage is not None:
            end += event(head | {"choices": [], "usage": usage})
        return end + b"data: [DONE]\n\n"

    def failure(self, problem: Problem) -> bytes:
        """See `Encoder.failure`."""
        return event({"error": error(problem)})

    def whole(self, answer: Answer, timing: Timing) -> bytes:
        """See `Encoder.whole`."""
        if answer.finish.whole is not None:
            return answer.finish.whole
        message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
        if not answer.calls:
            message["content"] = answer.text
        if answer.thinking:
            message["reasoning"] = answer.thinking
        if answer.calls:
            message["tool_calls"] = [_call(call) for call in answer.calls]
        reason = self._reason(answer.finish, called=bool(answer.calls))
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        if answer.extras:
            choice["logprobs"] = _logprobs(answer.extras)
        whole = self._head | {"object": "chat.completion", "choices": [choice]}
        usage = counts(answer.finish.usage)
        return orjson.dumps(whole | {"usage": usage} if usage is not None else whole)

    def _reason(self, finish: Finish, *, called: bool) -> str:
        # NB: Ollama ends a tool call with stop; OpenAI's clients look for tool_calls.
        if called and finish.reason is Reason.STOP:
            return Reason.TOOL_CALLS.value
        return FINISH_REASON.get(finish.reason, finish.reason.value)


def event(chunk: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _logprobs(extras: Mapping[str, Any]) -> dict[str, Any] | None:
    """Log probabilities with every field that OpenAI's clients read unchecked."""
    told = extras.get("logprobs")
    if told is None:
        return None
    content = [{"bytes": None, **entry, "top_logprobs": _others(entry)} for entry in told]
    return {"content": content, "refusal": None}


def _others(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"bytes": None, **other} for other in entry.get("top_logprobs") or ()]


def _call(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def counts(usage: Usage) -> dict[str, int] | None:
    """Counts as the host gave them; what it did not count is left out, never 0."""
    counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    known = {name: count for name, count in counts.items() if count is not None}
    return known | {"total_tokens": sum(known.values())} if known else None
