"""The simulated mlx_lm.server on the wire: its bytes, its answers, its errors and its failures."""

import asyncio
import json
import time
from typing import Any

import openai
import pytest

from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.journal import Outcome
from llm_operator.simulate.server import Simulator
from parts.eventually import eventually_async
from simulators import DEADLINE, MLX_MODEL, Raw, raw, request

CHAT = "/v1/chat/completions"
SAID = "Simulated mlx answers default_model: hello there"
TOOL = {
    "type": "function",
    "function": {
        "name": "set_light",
        "parameters": {"type": "object", "properties": {"room": {"type": "string"}}},
    },
}


def chat(text: str = "hello there", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]} | more


async def post(simulator: Simulator, body: object, path: str = CHAT, **how: Any) -> Raw:
    return await raw(simulator.port, "POST", path, body, **({"headers": ()} | how))


class TestBytes:
    async def test_a_reply_has_the_headers_of_http_server(self, mlx_simulator: Simulator) -> None:
        answer = await raw(mlx_simulator.port, "GET", "/health", headers=())
        assert answer.head.startswith(b"HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6 Python/3.")
        assert list(answer.headers) == [
            "Server",
            "Date",
            "Content-type",
            "Access-Control-Allow-Origin",
            "Access-Control-Allow-Methods",
            "Access-Control-Allow-Headers",
        ]
        assert answer.body == b'{"status": "ok"}'

    async def test_a_connection_serves_one_request(self, mlx_simulator: Simulator) -> None:
        headers = ("Connection: keep-alive",)
        answer = await post(mlx_simulator, chat(), headers=headers)
        assert "Content-Length" in answer.headers
        assert mlx_simulator.count() == 1

    async def test_a_stream_ends_with_the_connection(self, mlx_simulator: Simulator) -> None:
        answer = await post(mlx_simulator, chat(stream=True))
        assert answer.headers["Content-type"] == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-cache"
        assert not {"Content-Length", "Transfer-Encoding", "Connection"} & set(answer.headers)
        events = answer.events()
        assert events[0] == ": keepalive 6/6"
        assert events[-1] == "data: [DONE]"
        assert answer.body.endswith(b"data: [DONE]\n\n")
        start, _, end = events[1].partition('"system_fingerprint"')
        assert start.startswith('data: {"id": "chatcmpl-')
        assert '"object": "chat.completion.chunk", "model": "default_model"' in end
        assert end.endswith(
            '"choices": [{"index": 0, "finish_reason": null, '
            '"delta": {"role": "assistant", "content": "Simulated"}}]}'
        )
        assert events[-2].endswith(
            '"choices": [{"index": 0, "finish_reason": "stop", "delta": {"role": "assistant"}}]}'
        )

    async def test_the_id_and_time_are_one_for_a_stream(self, mlx_simulator: Simulator) -> None:
        packets = (await post(mlx_simulator, chat(stream=True))).packets()
        assert len({(packet["id"], packet["created"]) for packet in packets}) == 1

    @pytest.mark.parametrize(
        ("method", "path", "status", "said"),
        [
            ("GET", "/nope", 404, b"Not Found"),
            ("GET", "/health?x=1", 404, b"Not Found"),
            ("POST", "/v1/embeddings", 404, b"Not Found"),
            ("OPTIONS", CHAT, 204, b""),
            ("HEAD", "/health", 501, b""),
        ],
    )
    async def test_other_requests(
        self, mlx_simulator: Simulator, method: str, path: str, status: int, said: bytes
    ) -> None:
        answer = await raw(mlx_simulator.port, method, path, headers=())
        assert (answer.status, answer.body) == (status, said)

    async def test_an_unknown_method_gets_a_page(self, mlx_simulator: Simulator) -> None:
        answer = await raw(mlx_simulator.port, "PUT", "/health", headers=())
        assert answer.head.startswith(b"HTTP/1.0 501 Unsupported method ('PUT')\r\n")
        assert b"<p>Error code: 501</p>" in answer.body

    async def test_the_models(self, mlx_simulator: Simulator) -> None:
        answer = await raw(mlx_simulator.port, "GET", "/v1/models", headers=())
        (model,) = answer.json()["data"]
        assert (model["id"], model["object"]) == (MLX_MODEL, "model")
        assert "Content-Length" not in answer.headers


class TestAnswers:
    async def test_the_official_client_chats(self, mlx_simulator: Simulator) -> None:
        client = openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{mlx_simulator.port}/v1", api_key="none", max_retries=0
        )
        async with client:
            messages: list[Any] = [{"role": "user", "content": "hello there"}]
            whole = await client.chat.completions.create(model="default_model", messages=messages)
            stream = await client.chat.completions.create(
                model="default_model",
                messages=messages,
                stream=True,
                stream_options={"include_usage": True},
            )
            parts = [part async for part in stream]
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="phi3:mini", messages=messages)
        assert whole.choices[0].message.content == SAID
        assert whole.usage is not None
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (6, 7)
        texts = [part.choices[0].delta.content or "" for part in parts if part.choices]
        assert "".join(texts) == SAID
        assert parts[-1].usage == whole.usage

    @pytest.mark.parametrize("path", [CHAT, "/chat/completions"])
    async def test_both_chat_paths(self, mlx_simulator: Simulator, path: str) -> None:
        answer = (await post(mlx_simulator, chat(), path)).json()
        assert answer["choices"][0]["message"] == {"role": "assistant", "content": SAID}

    async def test_completions(self, mlx_simulator: Simulator) -> None:
        body = {"prompt": "hello there", "stream": True, "stream_options": {"include_usage": True}}
        packets = (await post(mlx_simulator, body, "/v1/completions")).packets()
        assert "".join(p["choices"][0]["text"] for p in packets if p["choices"]) == SAID
        assert {packet["object"] for packet in packets[:-1]} == {"text_completion"}
        assert packets[-1]["object"] == "chat.completion"
        assert packets[-1]["choices"] == []
        assert packets[-1]["usage"]["total_tokens"] == 13

    @pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
    async def test_max_tokens_ends_an_answer(self, mlx_simulator: Simulator, name: str) -> None:
        answer = (await post(mlx_simulator, chat(**{name: 2}))).json()
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["choices"][0]["message"]["content"] == "Simulated mlx"
        assert answer["usage"]["completion_tokens"] == 2

    @pytest.mark.parametrize("stop", [" hello", [" hello", "nowhere"]])
    async def test_a_stop_word_ends_an_answer(self, mlx_simulator: Simulator, stop: object) -> None:
        (choice,) = (await post(mlx_simulator, chat(stop=stop))).json()["choices"]
        assert choice["message"]["content"] == "Simulated mlx answers default_model:"
        assert choice["finish_reason"] == "stop"

    async def test_a_tool_is_called(self, mlx_simulator: Simulator) -> None:
        whole = (await post(mlx_simulator, chat("use a tool", tools=[TOOL]))).json()
        (choice,) = whole["choices"]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] is None
        (call,) = choice["message"]["tool_calls"]
        assert list(call) == ["function", "type", "id"]
        assert call["function"] == {"name": "set_light", "arguments": '{"room": "simulated"}'}

        body = chat("use a tool", tools=[TOOL], stream=True)
        first, last = (await post(mlx_simulator, body)).packets()
        (call,) = first["choices"][0]["delta"]["tool_calls"]
        assert (call["index"], first["choices"][0]["finish_reason"]) == (0, None)
        assert last["choices"][0] == {
            "index": 0,
            "finish_reason": "tool_calls",
            "delta": {"role": "assistant"},
        }

    async def test_a_thinking_model_reasons_first(self, mlx_simulator: Simulator) -> None:
        mlx_simulator.behaviour = Behaviour(thinking=("default_model",))
        packets = (await post(mlx_simulator, chat(stream=True))).packets()
        deltas = [packet["choices"][0]["delta"] for packet in packets]
        said = "".join(delta.get("reasoning", "") for delta in deltas)
        assert said == "Simulated thinking about: hello there"
        assert "".join(delta.get("content", "") for delta in deltas) == SAID
        silent = chat(chat_template_kwargs={"enable_thinking": False})
        (choice,) = (await post(mlx_simulator, silent)).json()["choices"]
        assert choice["message"] == {"role": "assistant", "content": SAID}

    async def test_parameters_are_echoed_on_demand(self, mlx_simulator: Simulator) -> None:
        body = chat("which parameters?", temperature=0, top_p=0.5)
        (choice,) = (await post(mlx_simulator, body)).json()["choices"]
        assert choice["message"]["content"].endswith("[temperature=0 top_p=0.5]")

    async def test_content_may_come_in_parts(self, mlx_simulator: Simulator) -> None:
        parts = [{"type": "text", "text": "hello "}, {"type": "text", "text": "there"}]
        body = {"messages": [{"role": "user", "content": parts}]}
        (choice,) = (await post(mlx_simulator, body)).json()["choices"]
        assert choice["message"]["content"] == SAID

    async def test_the_configured_model_answers_too(self, mlx_simulator: Simulator) -> None:
        answer = (await post(mlx_simulator, chat(model=MLX_MODEL))).json()
        assert answer["model"] == MLX_MODEL


BAD_FIELDS = [
    ({"temperature": None}, "temperature must be of type ('float', 'int')"),
    ({"max_tokens": -1}, "max_tokens must be at least 1"),
    ({"max_tokens": 0}, "max_tokens must be at least 1"),
    ({"max_tokens": None}, "max_tokens must be of type int"),
    ({"max_completion_tokens": "x"}, "max_tokens must be of type int"),
    ({"stream": None}, "stream must be of type bool"),
    ({"top_p": 2}, "top_p must be at most 1"),
    ({"top_logprobs": 12}, "top_logprobs must be at most 11"),
    ({"xtc_probability": 0}, "xtc_probability must be of type float"),
    ({"model": None}, "requested_model must be of type str"),
    ({"adapters": 3}, "adapter must be of type str"),
    ({"logit_bias": {"a": 1}}, "logit_bias must be a dict of int to float"),
    ({"messages": None}, "'NoneType' object is not iterable"),
    ({"messages": "x"}, "'str' object has no attribute 'get'"),
]


class TestErrors:
    @pytest.mark.parametrize(("fields", "said"), BAD_FIELDS)
    async def test_a_bad_field_is_told(
        self, mlx_simulator: Simulator, fields: dict[str, object], said: str
    ) -> None:
        answer = await post(mlx_simulator, chat() | fields)
        assert (answer.status, answer.json()) == (400, {"error": said})

    @pytest.mark.parametrize("fields", [fields for fields, _ in BAD_FIELDS])
    async def test_older_releases_close_on_a_bad_field(
        self, mlx_simulator: Simulator, fields: dict[str, object]
    ) -> None:
        mlx_simulator.behaviour = Behaviour(field_errors="close")
        assert (await post(mlx_simulator, chat() | fields)).head == b""
        assert mlx_simulator.requests[-1].outcome is Outcome.FAILED

    @pytest.mark.parametrize("empty", [{"seed": None}, {"adapters": None}, {"stop": None}])
    async def test_some_fields_may_be_null(
        self, mlx_simulator: Simulator, empty: dict[str, object]
    ) -> None:
        assert (await post(mlx_simulator, chat() | empty)).status == 200

    async def test_a_body_needs_its_length(self, mlx_simulator: Simulator) -> None:
        headers = ("Transfer-Encoding: chunked",)
        answer = await post(mlx_simulator, b"2\r\n{}\r\n0\r\n\r\n", headers=headers)
        assert (answer.status, answer.json()) == (
            411,
            {"error": "Content-Length header is required"},
        )
        answer = await post(mlx_simulator, b"{}", headers=("Content-Length: x",))
        assert (answer.status, answer.json()) == (400, {"error": "Invalid Content-Length header"})

    async def test_a_body_must_be_an_object(self, mlx_simulator: Simulator) -> None:
        answer = await post(mlx_simulator, b"{bad")
        assert answer.status == 400
        assert answer.json()["error"].startswith("Invalid JSON in request body: Expecting")
        answer = await post(mlx_simulator, b"[1]")
        assert answer.json() == {"error": "Request should be a JSON dictionary"}

    async def test_a_body_must_be_utf_8(self, mlx_simulator: Simulator) -> None:
        assert (await post(mlx_simulator, b"\xff\xfe{}")).head == b""

    @pytest.mark.parametrize(
        ("path", "said"),
        [
            (CHAT, "Request did not contain messages"),
            ("/v1/completions", "Request did not contain a prompt"),
        ],
    )
    async def test_something_must_be_asked(
        self, mlx_simulator: Simulator, path: str, said: str
    ) -> None:
        answer = await post(mlx_simulator, {"max_tokens": 2}, path)
        assert (answer.status, answer.json()) == (400, {"error": said})

    async def test_a_foreign_model_is_not_loaded(self, mlx_simulator: Simulator) -> None:
        answer = await post(mlx_simulator, chat(model="phi3:mini"))
        assert answer.status == 404
        assert answer.json()["error"].startswith("Repo id must use alphanumeric chars")
        answer = await post(mlx_simulator, chat(model="some/model"))
        assert answer.status == 404
        assert "Repository Not Found" in answer.json()["error"]

    @pytest.mark.parametrize(
        ("messages", "said"),
        [
            ([], "Cannot apply chat template to an empty conversation"),
            (
                [{"role": "user", "content": [{"type": "image_url"}]}],
                "Only 'text' content type is supported.",
            ),
        ],
    )
    async def test_a_failing_template_is_404(
        self, mlx_simulator: Simulator, messages: object, said: str
    ) -> None:
        answer = await post(mlx_simulator, {"messages": messages})
        assert answer.status == 404
        assert answer.json()["error"].startswith(said)

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            (CHAT, chat(stop=5)),
            (CHAT, chat(stop=[5])),
            ("/v1/completions", {"prompt": ["a"]}),
        ],
    )
    async def test_some_requests_end_the_generation_thread(
        self, mlx_simulator: Simulator, path: str, body: object
    ) -> None:
        for sent in (body, {"prompt": "hello"} if path == "/v1/completions" else chat()):
            answer = await post(mlx_simulator, sent, path)
            assert (answer.status, answer.json()) == (404, {"error": "generation thread died"})
        health = await raw(mlx_simulator.port, "GET", "/health", headers=())
        assert (health.status, health.json()) == (503, {"status": "unavailable"})
        mlx_simulator.behaviour = Behaviour()
        assert (await post(mlx_simulator, chat())).status == 200

    @pytest.mark.parametrize("options", [{}, [], {"other": 1}])
    async def test_stream_options_without_usage_cut_the_end(
        self, mlx_simulator: Simulator, options: object
    ) -> None:
        answer = await post(mlx_simulator, chat(stream=True, stream_options=options))
        assert '"finish_reason": "stop"' in answer.events()[-1]


class TestFailures:
    async def test_a_status(self, mlx_simulator: Simulator) -> None:
        mlx_simulator.behaviour = Behaviour(mode="status:500", message="boom", retry_after=1)
        answer = await post(mlx_simulator, chat())
        assert (answer.status, answer.json()) == (500, {"error": "boom"})
        assert answer.headers["Retry-After"] == "1"
        assert (await raw(mlx_simulator.port, "GET", "/health", headers=())).status == 200

    async def test_a_refused_model(self, mlx_simulator: Simulator) -> None:
        mlx_simulator.behaviour = Behaviour(mode="refuse-model")
        answer = await post(mlx_simulator, chat(model=MLX_MODEL))
        assert answer.status == 404
        assert MLX_MODEL in answer.json()["error"]

    @pytest.mark.parametrize("mode", ["cut-mid-stream:2", "error-line:2"])
    async def test_a_cut(self, mlx_simulator: Simulator, mode: str) -> None:
        mlx_simulator.behaviour = Behaviour(mode=mode)
        answer = await post(mlx_simulator, chat(stream=True))
        assert len(answer.packets()) == 2
        assert b"[DONE]" not in answer.body
        assert (await post(mlx_simulator, chat())).head == b""
        assert mlx_simulator.count(Outcome.FAILED) == 2

    async def test_an_end_without_done(self, mlx_simulator: Simulator) -> None:
        mlx_simulator.behaviour = Behaviour(mode="no-done")
        answer = await post(mlx_simulator, chat(stream=True))
        assert answer.packets()[-1]["choices"][0]["finish_reason"] == "stop"
        assert b"[DONE]" not in answer.body

    async def test_a_close_without_response(self, mlx_simulator: Simulator) -> None:
        mlx_simulator.behaviour = Behaviour(mode="close-without-response")
        assert (await post(mlx_simulator, chat())).head == b""
        assert (await raw(mlx_simulator.port, "GET", "/health", headers=())).head == b""

    @pytest.mark.parametrize(
        ("mode", "stream", "sent"),
        [
            ("hang-before-headers", True, b""),
            ("zombie", True, b""),
            ("hang-mid-stream:2", True, b'"content": " mlx"}}]}\n\n'),
            ("hang-mid-stream:2", False, b""),
        ],
    )
    async def test_a_hang_ends_when_the_client_goes(
        self, mlx_simulator: Simulator, mode: str, stream: bool, sent: bytes
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode=mode)
        reader, writer = await asyncio.open_connection("127.0.0.1", mlx_simulator.port)
        async with asyncio.timeout(DEADLINE):
            writer.write(request("POST", CHAT, chat(stream=stream)))
            if sent:
                await reader.readuntil(sent)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.2)
        writer.close()
        await writer.wait_closed()
        await eventually_async(lambda: mlx_simulator.count(Outcome.CANCELLED) == 1, within=5)

    async def test_a_zombie_looks_healthy(self, mlx_simulator: Simulator) -> None:
        mlx_simulator.behaviour = Behaviour(mode="zombie")
        answer = await raw(mlx_simulator.port, "GET", "/health", headers=())
        assert answer.json() == {"status": "ok"}


class TestTime:
    async def test_a_stream_opens_before_its_first_token(self, mlx_simulator: Simulator) -> None:
        mlx_simulator.behaviour = Behaviour(ttft_ms=600, keepalives=4)
        reader, writer = await asyncio.open_connection("127.0.0.1", mlx_simulator.port)
        started = time.monotonic()
        async with asyncio.timeout(DEADLINE):
            writer.write(request("POST", CHAT, chat("a b c d", stream=True)))
            await reader.readuntil(b"\r\n\r\n")
            opened = time.monotonic() - started
            comments = [await reader.readuntil(b"\n\n") for _ in range(4)]
            await reader.readuntil(b"data: ")
            first = time.monotonic() - started
            await reader.read(-1)
        writer.close()
        await writer.wait_closed()
        assert opened < 0.45 < 0.59 <= first
        assert comments == [b": keepalive %d/8\n\n" % done for done in (2, 4, 6, 8)]

    async def test_comments_can_be_left_out(self, mlx_simulator: Simulator) -> None:
        mlx_simulator.behaviour = Behaviour(keepalives=0)
        assert (await post(mlx_simulator, chat(stream=True))).events()[0].startswith("data: ")

    async def test_a_stream_ends_when_its_client_goes(self, mlx_simulator: Simulator) -> None:
        mlx_simulator.behaviour = Behaviour(tokens_per_second=20, tokens=500)
        reader, writer = await asyncio.open_connection("127.0.0.1", mlx_simulator.port)
        async with asyncio.timeout(DEADLINE):
            writer.write(request("POST", CHAT, chat(stream=True)))
            await reader.readuntil(b"data: ")
        writer.close()
        await writer.wait_closed()
        await eventually_async(lambda: mlx_simulator.count(Outcome.CANCELLED) == 1, within=5)
        assert mlx_simulator.requests[-1].tokens < 20

    async def test_without_a_stream_it_generates_for_nobody(self, mlx_simulator: Simulator) -> None:
        mlx_simulator.behaviour = Behaviour(tokens_per_second=50, tokens=100)
        _, writer = await asyncio.open_connection("127.0.0.1", mlx_simulator.port)
        writer.write(request("POST", CHAT, chat()))
        await eventually_async(lambda: mlx_simulator.requests, within=5)
        writer.close()
        await writer.wait_closed()
        await eventually_async(lambda: mlx_simulator.count(Outcome.CANCELLED) == 1, within=5)
        seen = mlx_simulator.requests[-1]
        assert seen.tokens < 100
        await eventually_async(lambda: seen.tokens == 100, within=10)
        assert mlx_simulator.count(Outcome.ANSWERED) == 0

    async def test_only_the_first_request_is_cold(self, mlx_simulator: Simulator) -> None:
        mlx_simulator.behaviour = Behaviour(mode="cold-load", ttft_ms=500)
        took = []
        for _ in range(2):
            started = time.monotonic()
            await post(mlx_simulator, chat())
            took.append(time.monotonic() - started)
        assert took[0] >= 0.49
        assert took[1] < 0.4


class TestJson:
    async def test_text_is_escaped_as_python_escapes_it(self, mlx_simulator: Simulator) -> None:
        answer = await post(mlx_simulator, chat("ü <a>"))
        assert b"\\u00fc <a>" in answer.body
        assert json.loads(answer.body)["choices"][0]["message"]["content"].endswith("ü <a>")
