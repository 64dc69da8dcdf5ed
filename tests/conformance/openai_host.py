"""A server with an OpenAI /v1, true to the wire, that writes down what it is asked.

It does what other simulated hosts can't: tools in fragments, log probabilities, schemas, images,
several answers. It only streams, as the router asks for nothing else, and answers 400 to a request
that does not. Wire facts: OpenAI's API reference of chat, text completions and embeddings.

    host = await OpenAIHost.start()
    ...
    host.requests[-1].body
"""

import asyncio
import base64
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from llm_operator.simulate.server import unlisten

MODEL = "stub-model"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(slots=True)
class OpenAIHost:
    """The server, and what it was asked; probes of lists are not written down."""

    requests: list[Asked] = field(default_factory=list)
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    async def start(cls) -> "OpenAIHost":
        host = cls()
        host._server = await asyncio.start_server(host._converse, "127.0.0.1", 0)
        host.port = host._server.sockets[0].getsockname()[1]
        return host

    async def close(self) -> None:
        assert self._server is not None
        await unlisten(self._server)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (asked := await _read(reader)) is not None:
                async for piece in self._answer(*asked):
                    writer.write(piece)
                    await writer.drain()
        except (asyncio.CancelledError, ConnectionError):
            # NB: ended here, because asyncio's streams log a handler that ends cancelled.
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _answer(self, method: str, asked: Asked) -> AsyncIterator[bytes]:
        if method == "GET":
            listed = [{"id": MODEL, "object": "model", "created": 0, "owned_by": "tests"}]
            yield _whole(200, {"object": "list", "data": listed})
            return
        self.requests.append(asked)
        body = asked.body
        if body.get("model") != MODEL:
            yield _whole(404, _error(f"The model `{body.get('model')}` does not exist", "model"))
        elif asked.path == "/v1/embeddings":
            yield _whole(200, _vectors(body))
        elif body.get("stream") is not True:
            yield _whole(400, _error("this server only streams", "stream"))
        else:
            yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            yield b"Transfer-Encoding: chunked\r\n\r\n"
            for packet in _stream(asked.path.endswith("chat/completions"), body):
                data = b"data: " + json.dumps(packet).encode() + b"\n\n"
                yield b"%x\r\n%b\r\n" % (len(data), data)
            yield b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


async def _read(reader: asyncio.StreamReader) -> tuple[str, Asked] | None:
    with contextlib.suppress(asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, value in (one.split(": ", 1) for one in lines)}
        data = await reader.readexactly(int(headers.get("content-length", 0)))
        method, path, _ = line.split(" ")
        return method, Asked(path, headers, json.loads(data) if data else {})
    return None


def _whole(status: int, document: dict[str, Any]) -> bytes:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def _error(message: str, param: str) -> dict[str, Any]:
    kind = "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": None}}


def _stream(chat: bool, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    head = {
        "id": "chatcmpl-stub" if chat else "cmpl-stub",
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": 1_700_000_000,
        "model": MODEL,
        "system_fingerprint": "fp_stub",
    }
    counted = 0
    for index in range(body.get("n") or 1):
        for choice in _chat(body) if chat else _text(body):
            counted += _is_token(choice)
            yield head | {"choices": [{"index": index} | choice]}
    if (body.get("stream_options") or {}).get("include_usage"):
        usage = {"prompt_tokens": 7, "completion_tokens": counted, "total_tokens": 7 + counted}
        yield head | {"choices": [], "usage": usage}


def _is_token(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta") or choice
    return any(delta.get(name) for name in ("content", "text", "tool_calls", "reasoning_content"))


def _chat(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    def choice(delta: dict[str, Any], *, logprobs: Any = None) -> dict[str, Any]:
        return {"delta": delta, "logprobs": logprobs, "finish_reason": None}

    yield choice({"role": "assistant", "content": "", "refusal": None})
    turns = body["messages"]
    if body.get("tools") and turns[-1]["role"] == "user":
        begun = {"name": body["tools"][0]["function"]["name"], "arguments": ""}
        call = {"index": 0, "id": "call_stub", "type": "function", "function": begun}
        yield choice({"tool_calls": [call]})
        for piece in ('{"city"', ': "Oslo"}'):
            yield choice({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        yield choice({}) | {"finish_reason": "tool_calls"}
        return
    wish = body.get("chat_template_kwargs") or {}
    if body.get("reasoning_effort") or wish.get("enable_thinking"):
        yield choice({"reasoning_content": "Stub thinks."})
    words, reason = _words(body, _said(body, turns))
    for word in words:
        told = {"content": [_entry(word, body)], "refusal": None} if body.get("logprobs") else None
        yield choice({"content": word}, logprobs=told)
    yield choice({}) | {"finish_reason": reason}


def _said(body: dict[str, Any], turns: list[dict[str, Any]]) -> str:
    if body.get("response_format"):
        return '{"answer": "stub"}'
    content = turns[-1]["content"]
    if isinstance(content, str):
        return f"Stub answers: {content}"
    images = sum(part["type"] == "image_url" for part in content)
    text = "".join(part.get("text", "") for part in content)
    return f"Stub saw {images} and answers: {text}"


def _text(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    words, reason = _words(body, f"Stub completes: {body['prompt']}")
    offset = 0
    for word in words:
        told = None
        if body.get("logprobs") is not None:
            told = {"tokens": [word], "token_logprobs": [-0.5], "text_offset": [offset]}
            told["top_logprobs"] = [{word: -0.5, "other": -1.5}]
            offset += len(word)
        # NB: as some servers do, nothing is said of what was not asked for.
        yield {"text": word, "finish_reason": None} | ({"logprobs": told} if told else {})
    yield {"text": "", "finish_reason": reason}


def _words(body: dict[str, Any], text: str) -> tuple[list[str], str]:
    """The tokens, and why they end."""
    stops = body.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.partition(stop)[0]
    first, *rest = text.split(" ")
    words = [first, *(f" {word}" for word in rest)]
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    cut = limit is not None and limit <= len(words)
    return (words[:limit], "length") if cut else (words, "stop")


def _entry(word: str, body: dict[str, Any]) -> dict[str, Any]:
    one = {"token": word, "logprob": -0.5, "bytes": list(word.encode())}
    return one | {"top_logprobs": [one] * (body.get("top_logprobs") or 0)}


def _vectors(body: dict[str, Any]) -> dict[str, Any]:
    sent = body["input"]
    many = isinstance(sent, list) and sent and not isinstance(sent[0], int)
    count = len(sent) if many else 1
    data = []
    for index in range(count):
        vector = [0.25 * (index + 1)] * (body.get("dimensions") or 4)
        packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        wanted = vector if body.get("encoding_format") != "base64" else packed
        data.append({"object": "embedding", "index": index, "embedding": wanted})
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return {"object": "list", "data": data, "model": MODEL, "usage": usage}
