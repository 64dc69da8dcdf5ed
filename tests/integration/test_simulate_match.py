"""The simulated hosts against the real ones: the same bytes sent to both give the same answer.

Compared are the status line, the headers in their order and case, the framing, the text of every
error, and of every JSON object the names in their order and the kinds of their values. What a model
says, and what a clock or a digest gives, is not compared.
"""

import json
import re
from typing import Any

import pytest

from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.server import Simulator
from parts.mlx import Mlx
from parts.ollama import Ollama
from simulators import Raw, raw

VARYING = re.compile(rb"((?:Date|Server|Content-Length): )[^\r]*")
#: Of these only the kind of value is compared, not what is in it: they describe the model's file.
OPAQUE = ("details", "model_info", "context", "tensors", "prompt_tokens_details")
MESSAGES = [{"role": "user", "content": "hello <b>"}]
OPTIONS = {"num_predict": 3, "temperature": 0}


def kinds(value: Any) -> Any:
    """A JSON value with its texts and numbers replaced by their kinds; errors stay as they are."""
    if isinstance(value, dict):
        if set(value) == {"error"}:
            return value
        return [(k, type(v).__name__ if k in OPAQUE else kinds(v)) for k, v in value.items()]
    if isinstance(value, list):
        return [kinds(item) for item in value[:1]]
    return value if isinstance(value, bool) or value is None else type(value).__name__


def shape(answer: Raw) -> tuple[bytes, Any]:
    """What is compared of a response."""
    head = VARYING.sub(rb"\1*", answer.head)
    if b"Transfer-Encoding: chunked" in answer.head:
        assert answer.chunks()[-1] == b""
        return head, distinct([kinds(json.loads(chunk)) for chunk in answer.chunks() if chunk])
    if b"event-stream" in answer.head:
        data = [event.removeprefix("data: ") for event in answer.events() if event[0] != ":"]
        return head, distinct(
            [event if event[0] == "[" else kinds(json.loads(event)) for event in data]
        )
    try:
        return head, kinds(answer.json())
    except ValueError:
        return head, answer.body


def distinct(items: list[Any]) -> list[Any]:
    """Each item once, since how many tokens a model makes is its own affair."""
    return [item for at, item in enumerate(items) if item not in items[:at]]


def ollama_requests() -> list[tuple[str, str, object]]:
    posts: list[tuple[str, object]] = []
    for path in ("/api/generate", "/api/chat"):
        name = "prompt" if path == "/api/generate" else "messages"
        asked = {"model": "phi3:mini", name: "hello" if name == "prompt" else MESSAGES}
        for fields in (
            {"options": OPTIONS},
            {"options": OPTIONS, "stream": False},
            {"options": OPTIONS, "raw": True},
            {"format": 5},
            {"format": "xml", "stream": False},
            {"think": True},
            {"think": "high"},
            {"think": 5},
            {"suffix": "x"},
            {"options": {"num_predict": "x"}},
            {"options": {"temperature": "x"}},
            {"options": {"stop": [1]}},
            {"options": []},
            {"top_logprobs": 21},
            {"top_logprobs": 1.5},
            {"keep_alive": "5"},
            {"keep_alive": "5x"},
            {"keep_alive": True},
            {"stream": "x"},
            {"model": 5},
            {"model": ""},
            {"model": "nope"},
            {"model": "a b"},
            {name: None},
            {name: 5},
            {name: [5]},
            {name: [{"role": "user", "content": [1]}]},
        ):
            posts.append((path, asked | fields))
        posts += [(path, text) for text in (b"", b"{", b"{bad", b"[1]", b'{"a" 1}', b"null", b"5")]
    for fields in ({"input": 5}, {"input": [1]}, {"input": ""}, {}, {"input": "x", "model": "no"}):
        posts.append(("/api/embed", {"model": "phi3:mini"} | fields))
    for fields in ({"prompt": 5}, {"prompt": ""}, {"prompt": "x", "model": "no"}, {"model": ""}):
        posts.append(("/api/embeddings", {"model": "phi3:mini"} | fields))
    posts += [("/api/show", fields) for fields in ({}, {"model": "no"}, {"model": "a b"})]
    gets = ["/", "/api/version", "/api/tags", "/nope", "/api/chat"]
    heads = ["/", "/api/version", "/api/tags"]
    return [
        *(("GET", path, None) for path in gets),
        *(("HEAD", path, None) for path in heads),
        *(("POST", path, body) for path, body in posts),
    ]


def mlx_requests() -> list[tuple[str, str, object]]:
    chat, text = "/v1/chat/completions", "/v1/completions"
    asked = {"messages": MESSAGES, "max_tokens": 3}
    usage = {"include_usage": True}
    bodies: list[tuple[str, object]] = [
        (chat, asked | fields)
        for fields in (
            {},
            {"model": "default_model"},
            {"stream": True},
            {"stream": True, "stream_options": usage},
            {"stream": True, "stream_options": {}},
            {"stream": True, "stream_options": {"include_usage": False}},
            {"max_tokens": -1},
            {"max_tokens": 0},
            {"max_tokens": None},
            {"max_tokens": 3.0},
            {"max_completion_tokens": "x"},
            {"temperature": None},
            {"temperature": -1},
            {"stream": None},
            {"model": None},
            {"model": "phi3:mini"},
            {"top_p": 2},
            {"xtc_probability": 0},
            {"top_logprobs": 12},
            {"logit_bias": {"a": 1}},
            {"adapters": 3},
            {"seed": None},
            {"stop": None},
            {"messages": None},
            {"messages": "x"},
            {"messages": []},
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
        )
    ]
    prompt = {"prompt": "hello", "max_tokens": 3}
    bodies += [
        (text, prompt),
        (text, prompt | {"stream": True, "stream_options": usage}),
        (text, {"max_tokens": 3}),
        (chat, {"max_tokens": 3}),
        *((chat, wire) for wire in (b"", b"{bad", b"[1]", b"\xff\xfe{}", None)),
        ("/v1/embeddings", {}),
    ]
    others = [("GET", path) for path in ("/health", "/health?x=1", "/nope")]
    others += [("HEAD", "/health"), ("PUT", "/health"), ("OPTIONS", chat)]
    return [
        *((method, path, None) for method, path in others),
        *(("POST", path, body) for path, body in bodies),
    ]


@pytest.mark.parametrize("sent", ollama_requests(), ids=lambda sent: f"{sent}"[:80])
async def test_ollama(
    ollama_server: Ollama, ollama_simulator: Simulator, sent: tuple[str, str, object]
) -> None:
    # NB: the tiny model's template has no place for tools.
    ollama_simulator.behaviour = Behaviour(capabilities=("completion",))
    assert shape(await raw(ollama_simulator.port, *sent)) == shape(
        await raw(ollama_server.port, *sent)
    )


@pytest.mark.parametrize("sent", mlx_requests(), ids=lambda sent: f"{sent}"[:80])
async def test_mlx(
    mlx_server: Mlx, mlx_simulator: Simulator, sent: tuple[str, str, object]
) -> None:
    simulated = await raw(mlx_simulator.port, *sent, headers=())
    assert shape(simulated) == shape(await raw(mlx_server.port, *sent, headers=()))
