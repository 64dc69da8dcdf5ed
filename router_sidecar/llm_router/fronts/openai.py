"""The OpenAI front: POST /v1/chat/completions.

Streams are server-sent events: one role delta, one id throughout, a chunk with the finish reason, a
usage chunk only when asked for, and `[DONE]`. A broken stream ends with an error event and no
`[DONE]`.
"""

from typing import Any

import orjson

from llm_router import fields
from llm_router.errors import Code, Problem, Refused
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

#: Features that ask for more than text, tools, thinking and structure; a target refuses what it
#: lacks.
NEEDS = ("logprobs", "audio", "prediction", "web_search_options", "functions")


class ChatFront:
    """POST /v1/chat/completions."""

    name = "openai_chat"
    stream_type = SSE

    def decode(self, body: bytes) -> Exchange:
        """See `Front.decode`."""
        sent = fields.document(body)
        model = fields.required(sent, "model")
        listed = fields.objects(sent, "messages")
        if not listed:
            fields.refuse("messages", "must hold at least one message")
        if fields.integer(sent, "n") not in (None, 1):
            fields.refuse("n", "only 1 answer per request is supported")
        options = fields.mapping(sent, "stream_options")
        effort = fields.text(sent, "reasoning_effort") or None
        return Exchange(
            kind=Kind.CHAT,
            dialect=Dialect.OPENAI,
            body=sent,
            model=model,
            stream=fields.flag(sent, "stream", default=False),
            messages=tuple(_message(item, f"messages[{i}].") for i, item in enumerate(listed)),
            sampling=sampling(sent),
            tools=tuple(fields.objects(sent, "tools")) if sent.get("tool_choice") != "none" else (),
            format=_format(sent),
            think=False if effort == "none" else effort,
            needs=frozenset(name for name in NEEDS if sent.get(name)),
            include_usage=fields.flag(options, "include_usage", default=False),
        )

    def encoder(self, exchange: Exchange, about: About) -> Encoder:
        """See `Front.encoder`."""
        return ChatEncoder(exchange, about)

    def problem(self, problem: Problem) -> bytes:
        """See `Front.problem`."""
        return orjson.dumps({"error": error(problem)})


def sampling(sent: dict[str, Any]) -> Sampling:
    """The sampling fields, which chat and text completion share."""
    limit = fields.integer(sent, "max_completion_tokens", minimum=0)
    if limit is None:
        limit = fields.integer(sent, "max_tokens", minimum=0)
    return Sampling(
        max_tokens=limit,
        temperature=fields.number(sent, "temperature"),
        top_p=fields.number(sent, "top_p"),
        top_k=fields.integer(sent, "top_k"),
        min_p=fields.number(sent, "min_p"),
        seed=fields.integer(sent, "seed"),
        stop=fields.strings(sent, "stop"),
        presence_penalty=fields.number(sent, "presence_penalty"),
        frequency_penalty=fields.number(sent, "frequency_penalty"),
        repeat_penalty=fields.number(sent, "repetition_penalty"),
    )


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


def _message(item: dict[str, Any], path: str) -> Message:
    role = fields.required(item, "role", path=path)
    if role not in ROLES:
        fields.refuse(f"{path}role", f"must be one of {', '.join(sorted(ROLES))}, is {role!r}")
    text, images = _content(item.get("content"), f"{path}content")
    calls = []
    for index, call in enumerate(fields.objects(item, "tool_calls", path=path)):
        at = f"{path}tool_calls[{index}]."
        function = fields.mapping(call, "function", path=at)
        calls.append(
            Call(
                id=fields.text(call, "id", path=at) or f"call_{index}",
                name=fields.required(function, "name", path=f"{at}function."),
                arguments=fields.text(function, "arguments", path=f"{at}function.") or "{}",
            )
        )
    thinking = item.get("reasoning") or item.get("reasoning_content")
    return Message(
        role="system" if role == "developer" else "tool" if role == "function" else role,
        text=text,
        thinking=thinking if isinstance(thinking, str) else "",
        images=images,
        calls=tuple(calls),
        call_id=fields.text(item, "tool_call_id", path=path) or None,
        tool=fields.text(item, "name", path=path) or None,
    )


def _content(content: object, path: str) -> tuple[str, tuple[str, ...]]:
    """The text and the images of a message's content, which is a string or a list of parts."""
    if content is None or isinstance(content, str):
        return content or "", ()
    texts: list[str] = []
    images: list[str] = []
    for index, part in enumerate(fields.listed(content, path)):
        at = f"{path}[{index}]."
        match part.get("type"):
            case "text" | "refusal":
                texts.append(fields.text(part, part["type"], path=at))
            case "image_url":
                url = fields.mapping(part, "image_url", path=at)
                images.append(_image(fields.required(url, "url", path=f"{at}image_url.")))
            case other:
                message = f"{at}type: content of type {other!r} is not supported"
                raise Refused(Problem(Code.UNSUPPORTED, message, param=f"{at}type"))
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
        self._after = b',"finish_reason":null}]}\n\n'

    def delta(self, delta: Delta) -> bytes:
        """See `Encoder.delta`."""
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
        return self._before + orjson.dumps(piece) + self._after

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
        message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
        if not answer.calls:
            message["content"] = answer.text
        if answer.thinking:
            message["reasoning"] = answer.thinking
        if answer.calls:
            message["tool_calls"] = [_call(call) for call in answer.calls]
        reason = self._reason(answer.finish, called=bool(answer.calls))
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
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


def _call(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def counts(usage: Usage) -> dict[str, int] | None:
    """Counts as the host gave them; what it did not count is left out, never 0."""
    counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    known = {name: count for name, count in counts.items() if count is not None}
    return known | {"total_tokens": sum(known.values())} if known else None
