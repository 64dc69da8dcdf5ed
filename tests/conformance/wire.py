"""Reads an answer strictly, in the protocol of the client that asked: what is not right fails.

whole(front, response, model=...)  -> Read
stream(front, response, model=...) -> Read
refusal(front, response)           -> the message of an error
"""

import base64
import json
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from conformance.matrix import (
    CHAT,
    EMBEDDING,
    OLDER_VECTORS,
    OLLAMA_CHAT,
    OLLAMA_TEXT,
    TEXT,
    UNIFIED,
    VECTORS,
)

Document = dict[str, Any]


@dataclass(slots=True)
class Read:
    """An answer, in no protocol."""

    text: str = ""
    thinking: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    reason: str = ""
    tokens: list[str] = field(default_factory=list)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    choices: int = 1
    vectors: list[list[float]] = field(default_factory=list)


REASONS = ("stop", "length", "tool_calls")
NANOSECONDS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


def headers(response: httpx.Response, *, backend: str, dropped: str | None) -> None:
    """The router's own headers."""
    told = response.headers
    assert told["x-request-id"], told
    assert re.fullmatch("[0-9a-f]{12}", told["x-llm-config"]), told
    assert told["x-llm-backend"].count("/") == 1, told
    assert told["x-llm-backend-type"] == backend, told
    assert told["x-llm-upstream-model"], told
    assert told["x-llm-attempts"] == "1", told
    assert "x-llm-fallback-reason" not in told, told
    assert told.get("x-llm-dropped") == dropped, told


def refusal(front: str, response: httpx.Response) -> str:
    """The message of an error, whose shape is the protocol's own."""
    assert response.headers["content-type"] == "application/json"
    told = response.json()
    assert set(told) == {"error"}
    error = told["error"]
    if front in (CHAT, TEXT, VECTORS):
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["type"], str)
        return str(error["message"])
    if front == UNIFIED:
        assert {"code", "message"} <= set(error) <= {"code", "message", "param"}
        return str(error["message"])
    assert isinstance(error, str)
    return error


def whole(front: str, response: httpx.Response, *, model: str) -> Read:
    """A whole answer."""
    assert response.headers["content-type"] == "application/json", response.headers
    assert int(response.headers["content-length"]) == len(response.content)
    document = response.json()
    if front in EMBEDDING:
        return _vectors(front, document, model)
    if front in (CHAT, TEXT):
        return _openai_whole(front, document, model)
    read = Read()
    assert document["done"] is True
    _ollama_line(front, document, model, read)
    _ollama_end(front, document, read)
    return read


def stream(front: str, response: httpx.Response, *, model: str, usage: bool, own: bool) -> Read:
    """A streamed answer, whole.

    Args:
        usage: the client asked for a usage chunk.
        own: host and client speak one protocol, so that what a host repeats is repeated.
    """
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["transfer-encoding"] == "chunked"
    if front in (CHAT, TEXT):
        assert response.headers["content-type"] == "text/event-stream"
        return _events(front, response.content, model, usage=usage, own=own)
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.content.endswith(b"\n")
    lines = response.content[:-1].split(b"\n")
    read = Read()
    for index, line in enumerate(lines):
        document = json.loads(line)
        assert document["done"] is (index == len(lines) - 1), line
        _ollama_line(front, document, model, read)
    _ollama_end(front, document, read)
    return read


# OpenAI.


def _openai_whole(front: str, document: Document, model: str) -> Read:
    chat = front == CHAT
    _head(document, "chat.completion" if chat else "text_completion", model)
    read = Read(choices=len(document["choices"]))
    _usage(document["usage"], read)
    for index, choice in enumerate(document["choices"]):
        assert choice["index"] == index
        assert choice["finish_reason"] in REASONS
        assert "logprobs" in choice
        read.reason = choice["finish_reason"]
        if index:
            continue
        _logprobs(chat, choice["logprobs"], read)
        if not chat:
            assert isinstance(choice["text"], str)
            read.text = choice["text"]
            continue
        message = choice["message"]
        assert message["role"] == "assistant"
        assert isinstance(message["content"], str) or message["content"] is None
        assert message["content"] is not None or message["tool_calls"]
        read.text = message["content"] or ""
        read.thinking = message.get("reasoning") or message.get("reasoning_content") or ""
        for call in message.get("tool_calls") or ():
            assert set(call) >= {"id", "type", "function"}
            assert isinstance(call["id"], str)
            assert call["type"] == "function"
            read.calls.append((call["function"]["name"], json.loads(call["function"]["arguments"])))
    return read


def _head(document: Document, kind: str, model: str) -> None:
    assert document["object"] == kind
    assert isinstance(document["id"], str)
    assert document["id"]
    assert type(document["created"]) is int
    assert document["model"] == model


def _usage(usage: Document, read: Read) -> None:
    read.prompt_tokens, read.completion_tokens = usage["prompt_tokens"], usage["completion_tokens"]
    assert type(read.prompt_tokens) is int
    assert type(read.completion_tokens) is int
    assert usage["total_tokens"] == read.prompt_tokens + read.completion_tokens


def _events(front: str, data: bytes, model: str, *, usage: bool, own: bool) -> Read:
    chat = front == CHAT
    *events, rest = data.split(b"\n\n")
    assert rest == b""
    assert all(event.startswith(b"data: ") and b"\n" not in event for event in events), events
    payloads = [event[6:] for event in events]
    assert payloads.pop() == b"[DONE]"
    assert b"[DONE]" not in payloads
    chunks = [json.loads(payload) for payload in payloads]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert len({chunk["created"] for chunk in chunks}) == 1
    read, roles, calls = Read(), 0, dict[int, Document]()
    if usage:
        last = chunks.pop()
        assert last["choices"] == []
        assert last["model"] == model
        _usage(last["usage"], read)
    indexes, ended = set(), set()
    for chunk in chunks:
        _head(chunk, "chat.completion.chunk" if chat else "text_completion", model)
        assert chunk.get("usage") is None, "a usage that nobody asked for"
        for choice in chunk["choices"]:
            index = choice["index"]
            assert index not in ended, "a choice goes on after its end"
            indexes.add(index)
            if choice["finish_reason"] is not None:
                assert choice["finish_reason"] in REASONS
                ended.add(index)
                read.reason = choice["finish_reason"]
            if index == 0:
                _logprobs(chat, choice.get("logprobs"), read)
                roles += "role" in (choice["delta"] if chat else {})
                _piece(chat, choice, read, calls)
    assert indexes == ended, "a choice without an end"
    if chat and not own:
        assert roles == 1
    read.choices = len(indexes)
    for call in calls.values():
        read.calls.append((call["name"], json.loads(call["arguments"])))
    return read


def _piece(chat: bool, choice: Document, read: Read, calls: dict[int, Document]) -> None:
    if not chat:
        assert isinstance(choice["text"], str)
        read.text += choice["text"]
        return
    delta = choice["delta"]
    assert delta.get("role", "assistant") == "assistant"
    read.text += delta.get("content") or ""
    read.thinking += delta.get("reasoning") or delta.get("reasoning_content") or ""
    for call in delta.get("tool_calls") or ():
        if call["index"] not in calls:
            assert call["type"] == "function"
            assert call["id"]
        begun = calls.setdefault(call["index"], {"name": "", "arguments": ""})
        begun["name"] += call["function"].get("name") or ""
        begun["arguments"] += call["function"].get("arguments") or ""


def _logprobs(chat: bool, told: Document | None, read: Read) -> None:
    if told is None:
        return
    if not chat:
        lists = [told[name] for name in ("token_logprobs", "top_logprobs", "text_offset")]
        assert all(len(one) == len(told["tokens"]) for one in lists)
        assert told["text_offset"][0] == len("".join(read.tokens))
        read.tokens += told["tokens"]
        return
    for entry in told["content"]:
        for one in (entry, *entry["top_logprobs"]):
            assert isinstance(one["token"], str)
            assert isinstance(one["logprob"], float | int)
            assert isinstance(one["bytes"], list) or one["bytes"] is None
        read.tokens.append(entry["token"])


# Ollama and the unified protocol.


def _ollama_line(front: str, line: Document, model: str, read: Read) -> None:
    assert line["model"] == model
    if front == UNIFIED:
        assert line["backend"] in ("ollama", "mlx", "openai")
        piece, name = line, "response"
    else:
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", line["created_at"]
        )
        chat = front == OLLAMA_CHAT
        piece, name = (line["message"], "content") if chat else (line, "response")
        assert not chat or piece["role"] == "assistant"
    assert isinstance(piece[name], str)
    read.text += piece[name]
    read.thinking += piece.get("thinking", "")
    for call in piece.get("tool_calls") or ():
        function = call["function"]
        assert isinstance(function["arguments"], dict)
        read.calls.append((function["name"], function["arguments"]))
    for entry in line.get("logprobs") or ():
        assert isinstance(entry["logprob"], float | int)
        read.tokens.append(entry["token"])


def _ollama_end(front: str, line: Document, read: Read) -> None:
    allowed = REASONS if front == UNIFIED else ("stop", "length")
    assert line["done_reason"] in allowed
    read.reason = line["done_reason"]
    for name in NANOSECONDS:
        assert name not in line or (type(line[name]) is int and line[name] >= 0), name
    assert "total_duration" in line
    if front != OLLAMA_TEXT or "context" in line:
        assert isinstance(line.get("context", []), list)
    read.prompt_tokens, read.completion_tokens = line.get("prompt_eval_count"), line["eval_count"]
    assert type(read.completion_tokens) is int
    assert read.prompt_tokens is None or type(read.prompt_tokens) is int


# Embeddings.


def _vectors(front: str, document: Document, model: str) -> Read:
    read = Read()
    if front == OLDER_VECTORS:
        assert set(document) == {"embedding"}
        read.vectors = [document["embedding"]]
    elif front == VECTORS:
        assert document["object"] == "list"
        assert document["model"] == model
        usage = document["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"]
        read.prompt_tokens = usage["prompt_tokens"]
        for index, item in enumerate(document["data"]):
            assert (item["object"], item["index"]) == ("embedding", index)
            read.vectors.append(_unpacked(item["embedding"]))
    else:
        assert document["model"] == model
        assert type(document["total_duration"]) is int
        read.prompt_tokens = document.get("prompt_eval_count")
        read.vectors = document["embeddings"]
    for vector in read.vectors:
        assert vector
        assert all(isinstance(x, float | int) for x in vector)
    return read


def _unpacked(told: Any) -> list[float]:
    if isinstance(told, list):
        return told
    data = base64.b64decode(told, validate=True)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


Check = Callable[[Read], bool]

#: Feature -> whether an answer has it, where it does.
HAS: Mapping[str, Check] = {
    "text": lambda read: bool(read.text.strip()),
    "system": lambda read: bool(read.text.strip()),
    "turns": lambda read: bool(read.text.strip()),
    "tools": lambda read: len(read.calls) == 1 and set(read.calls[0][1]) == {"city"},
    "tool choice": lambda read: len(read.calls) == 1,
    "thinking": lambda read: bool(read.thinking and read.text),
    "json": lambda read: isinstance(json.loads(read.text), dict),
    "schema": lambda read: set(json.loads(read.text)) == {"answer"},
    "stop": lambda read: "STOP" not in read.text and read.reason == "stop",
    "limit": lambda read: read.reason == "length" and read.completion_tokens in (None, 3),
    "usage": lambda read: bool(read.prompt_tokens and (read.completion_tokens or read.vectors)),
    "n": lambda read: read.choices == 2,
    "vectors": lambda read: len(read.vectors) == 2,
    "vector": lambda read: len(read.vectors) == 1,
    "base64": lambda read: len(read.vectors) == 1,
    "dimensions": lambda read: [len(vector) for vector in read.vectors] == [2],
}
