"""How a client of each protocol asks for a feature, and how it stands in the host's own request.

request(front, feature, model=..., stream=...) -> the body of the client
arrived(feature, target, path, body)           -> whether the host was asked for it
"""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from conformance.matrix import CHAT, EMBEDDING, OLDER_VECTORS, OLLAMA_CHAT, TEXT, UNIFIED, VECTORS

Body = dict[str, Any]

PROMPT, SYSTEM = "one two STOP three", "be brief"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n tiny").decode()
SCHEMA: Body = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
}
TOOL: Body = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
TOOL_PROMPT, RESULT, CALL_ID = "use the tool", "rain in Oslo", "call_7"
LIMIT, SEED, TOP_K = 3, 7, 5


def request(
    front: str, feature: str, *, model: str, stream: bool, limit: int | None = None
) -> Body:
    """What a client sends.

    Args:
        limit: tokens at most, where the feature does not set them itself.
    """
    body: Body = {"model": model}
    if front in EMBEDDING:
        return body | _embedding(front, feature)
    body["stream"] = stream
    if front in (CHAT, OLLAMA_CHAT):
        body["messages"] = _turns(front, feature)
    elif feature == "tokens":
        body["prompt"] = [1, 2, 3]
    else:
        body["prompt"] = PROMPT
        if feature == "system":
            body["system"] = SYSTEM
        if feature == "image":
            body["images"] = [PNG]
    if front in (CHAT, TEXT):
        more = _openai(front, feature)
    elif front == UNIFIED:
        more = _unified(feature)
    else:
        more = _ollama(feature)
    return _limited(front, body | more, limit)


def _limited(front: str, body: Body, limit: int | None) -> Body:
    if limit is None:
        return body
    if front in (CHAT, TEXT, UNIFIED):
        return {"max_tokens": limit, "temperature": 0} | body
    options = {"num_predict": limit, "temperature": 0} | body.get("options", {})
    return body | {"options": options}


def _turns(front: str, feature: str) -> list[Body]:
    user: Body = {"role": "user", "content": PROMPT}
    match feature:
        case "system":
            return [{"role": "system", "content": SYSTEM}, user]
        case "turns":
            said = {"role": "assistant", "content": "yes"}
            return [{"role": "user", "content": "first"}, said, user]
        case "tools" | "tool choice":
            return [{"role": "user", "content": TOOL_PROMPT}]
        case "image" | "image url" if front == CHAT:
            url = "http://pictures/cat.png" if "url" in feature else f"data:image/png;base64,{PNG}"
            picture = {"type": "image_url", "image_url": {"url": url}}
            return [{"role": "user", "content": [{"type": "text", "text": PROMPT}, picture]}]
        case "image":
            return [user | {"images": [PNG]}]
    return [user]


def _openai(front: str, feature: str) -> Body:
    schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    asked: Mapping[str, Body] = {
        "tools": {"tools": [TOOL]},
        "tool choice": {"tools": [TOOL], "tool_choice": "required"},
        "thinking": {"chat_template_kwargs": {"enable_thinking": True}},
        "thinking level": {"reasoning_effort": "low"},
        "json": {"response_format": {"type": "json_object"}},
        "schema": {"response_format": schema},
        "logprobs": {"logprobs": True, "top_logprobs": 2} if front == CHAT else {"logprobs": 2},
        "stop": {"stop": "STOP"},
        "seed": {"seed": SEED, "temperature": 0},
        "top_k": {"top_k": TOP_K},
        "limit": {"max_tokens": LIMIT},
        "usage": {"stream_options": {"include_usage": True}},
        "n": {"n": 2},
        "suffix": {"suffix": "the end"},
        "unknown": {"x_unknown": 1},
    }
    return asked.get(feature, {})


def _ollama(feature: str) -> Body:
    asked: Mapping[str, Body] = {
        "tools": {"tools": [TOOL]},
        "thinking": {"think": True},
        "thinking level": {"think": "low"},
        "json": {"format": "json"},
        "schema": {"format": SCHEMA},
        "logprobs": {"logprobs": True, "top_logprobs": 2},
        "stop": {"options": {"stop": ["STOP"]}},
        "seed": {"options": {"seed": SEED, "temperature": 0}},
        "top_k": {"options": {"top_k": TOP_K}},
        "limit": {"options": {"num_predict": LIMIT}},
        "suffix": {"suffix": "the end"},
        "raw": {"raw": True},
        "unknown": {"x_unknown": 1},
        "unknown option": {"options": {"mirostat": 1}},
    }
    return asked.get(feature, {})


def _unified(feature: str) -> Body:
    asked: Mapping[str, Body] = {
        "stop": {"stop": ["STOP"]},
        "limit": {"max_tokens": LIMIT},
        "unknown": {"x_unknown": 1},
    }
    return asked.get(feature, {})


def _embedding(front: str, feature: str) -> Body:
    if front == OLDER_VECTORS:
        return {"prompt": PROMPT} | _ollama_extra(feature)
    texts: Any = [PROMPT, "other"] if feature == "vectors" else PROMPT
    body: Body = {"input": [1, 2, 3] if feature == "tokens" else texts}
    if feature == "dimensions":
        body["dimensions"] = 2
    if feature == "base64":
        body["encoding_format"] = "base64"
    return (
        body
        | ({"x_unknown": 1} if front == VECTORS and feature == "unknown" else {})
        | ({} if front == VECTORS else _ollama_extra(feature))
    )


def _ollama_extra(feature: str) -> Body:
    found = {"unknown": {"x_unknown": 1}, "unknown option": {"options": {"mirostat": 1}}}
    return found.get(feature, {})


def result(front: str, asked: Body, call: tuple[str, Body]) -> Body:
    """The next request of a client whose model has called its tool."""
    name, arguments = call
    if front == CHAT:
        function = {"name": name, "arguments": json.dumps(arguments)}
        said = {"id": CALL_ID, "type": "function", "function": function}
        told = {"role": "tool", "tool_call_id": CALL_ID, "content": RESULT}
        turn: Body = {"role": "assistant", "content": None, "tool_calls": [said]}
    else:
        turn = {"role": "assistant", "content": ""}
        turn["tool_calls"] = [{"function": {"name": name, "arguments": arguments}}]
        told = {"role": "tool", "tool_name": name, "content": RESULT}
    asking = {"role": "user", "content": "and now?"}
    return asked | {"messages": [*asked["messages"], turn, told, asking]}


def turns(body: Body) -> list[tuple[str, Any]]:
    """Role and content of what a host was asked, a prompt's as a chat's."""
    if "messages" in body:
        return [(turn["role"], turn["content"]) for turn in body["messages"]]
    system = [("system", body["system"])] if body.get("system") else []
    return [*system, ("user", body["prompt"])]


def _said(expected: list[tuple[str, str]]) -> Callable[[Body], bool]:
    return lambda body: turns(body) == expected


def _option(name: str, value: object, *, other: str = "") -> Mapping[str, Callable[[Body], bool]]:
    """A sampling field, which Ollama has among its options."""
    return {
        "ollama": lambda body: body["options"][name] == value,
        "mlx": lambda body: body[other or name] in (value, ["STOP"]),
        "openai": lambda body: body[other or name] in (value, ["STOP"]),
    }


def _input(body: Body) -> Any:
    """What vectors are wanted of, or a prompt."""
    sent = body.get("input", body.get("prompt"))
    return sent[0] if isinstance(sent, list) and len(sent) == 1 else sent


def _both(test: Callable[[Body], bool]) -> Mapping[str, Callable[[Body], bool]]:
    return {"ollama": test, "mlx": test, "openai": test}


#: Feature -> type -> whether a host's request asks for it; where the router always asks, nothing.
ARRIVED: Mapping[str, Mapping[str, Callable[[Body], bool]]] = {
    "text": _both(_said([("user", PROMPT)])),
    "system": _both(_said([("system", SYSTEM), ("user", PROMPT)])),
    "turns": _both(_said([("user", "first"), ("assistant", "yes"), ("user", PROMPT)])),
    "tools": _both(lambda body: body["tools"] == [TOOL]),
    "tool choice": {"openai": lambda body: body["tool_choice"] == "required"},
    "thinking": {
        "ollama": lambda body: body["think"] is True,
        "mlx": lambda body: body["chat_template_kwargs"] == {"enable_thinking": True},
        "openai": lambda body: body["chat_template_kwargs"] == {"enable_thinking": True},
    },
    "thinking level": {
        "ollama": lambda body: body["think"] == "low",
        "mlx": lambda body: body["chat_template_kwargs"]["reasoning_effort"] == "low",
        "openai": lambda body: body["reasoning_effort"] == "low",
    },
    "json": {
        "ollama": lambda body: body["format"] == "json",
        "openai": lambda body: body["response_format"] == {"type": "json_object"},
    },
    "schema": {
        "ollama": lambda body: body["format"] == SCHEMA,
        "openai": lambda body: body["response_format"]["json_schema"]["schema"] == SCHEMA,
    },
    "image": {
        "ollama": lambda body: PNG in (body.get("images") or body["messages"][-1]["images"]),
        "openai": lambda body: any(
            part.get("image_url", {}).get("url") == f"data:image/png;base64,{PNG}"
            for part in body["messages"][-1]["content"]
        ),
    },
    "image url": {
        "openai": lambda body: (
            body["messages"][-1]["content"][1]["image_url"]["url"] == "http://pictures/cat.png"
        )
    },
    "logprobs": {
        "ollama": lambda body: body["logprobs"] is True and body["top_logprobs"] == 2,
        "openai": lambda body: (
            body["top_logprobs"] == 2 if "messages" in body else body["logprobs"] == 2
        ),
    },
    "stop": _option("stop", ["STOP"]) | {"openai": lambda b: b["stop"] in ("STOP", ["STOP"])},
    "seed": _both(
        lambda body: (
            (body.get("options") or body)["seed"] == SEED
            and (body.get("options") or body)["temperature"] == 0
        )
    ),
    "top_k": _option("top_k", TOP_K),
    "limit": _option("num_predict", LIMIT, other="max_tokens"),
    "usage": {},
    "n": {"openai": lambda body: body["n"] == 2},
    "suffix": _both(lambda body: body["suffix"] == "the end"),
    "raw": {
        "ollama": lambda body: body["raw"] is True,
        "mlx": lambda body: body["prompt"] == PROMPT,
        "openai": lambda body: body["prompt"] == PROMPT,
    },
    "unknown": _both(lambda body: body["x_unknown"] == 1),
    "unknown option": {"ollama": lambda body: body["options"]["mirostat"] == 1},
    "vector": _both(lambda body: _input(body) == PROMPT),
    "vectors": _both(lambda body: body["input"] == [PROMPT, "other"]),
    "dimensions": _both(lambda body: body["dimensions"] == 2),
    "tokens": _both(lambda body: _input(body) == [1, 2, 3]),
    "base64": _both(lambda body: body.get("encoding_format", "float") == "float"),
}
