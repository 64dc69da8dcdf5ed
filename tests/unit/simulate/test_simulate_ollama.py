"""The simulated Ollama on the wire: its bytes, its answers, its errors and its failures."""

import asyncio
import json
import time
from typing import Any

import ollama
import pytest

from llm_operator.simulate.behaviour import Behaviour, Kind
from llm_operator.simulate.journal import Outcome
from llm_operator.simulate.server import Simulator, serve
from parts.eventually import eventually_async
from simulators import DEADLINE, OLLAMA_MODEL, Raw, raw, request

SAID = "Simulated ollama answers phi3:mini: hello there"
TOOL = {
    "type": "function",
    "function": {
        "name": "set_light",
        "parameters": {
            "type": "object",
            "properties": {
                "room": {"type": "string", "enum": ["kitchen", "hall"]},
                "level": {"type": "integer"},
                "on": {"type": "boolean"},
            },
        },
    },
}


def chat(text: str = "hello there", **more: Any) -> dict[str, Any]:
    return {"model": OLLAMA_MODEL, "messages": [{"role": "user", "content": text}]} | more


def generate(text: str = "hello there", **more: Any) -> dict[str, Any]:
    return {"model": OLLAMA_MODEL, "prompt": text} | more


async def post(simulator: Simulator, path: str, body: object, **how: Any) -> Raw:
    return await raw(simulator.port, "POST", path, body, **how)


class TestBytes:
    async def test_a_reply_has_the_headers_of_gin(self, ollama_simulator: Simulator) -> None:
        answer = await raw(ollama_simulator.port, "GET", "/")
        assert answer.body == b"Ollama is running"
        assert answer.head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8")
        assert list(answer.headers) == ["Content-Type", "Date", "Content-Length", "Connection"]

    async def test_head_has_a_length_and_no_body(self, ollama_simulator: Simulator) -> None:
        answer = await raw(ollama_simulator.port, "HEAD", "/")
        assert (answer.headers["Content-Length"], answer.body) == ("17", b"")

    async def test_a_stream_is_one_line_to_a_chunk(self, ollama_simulator: Simulator) -> None:
        answer = await post(ollama_simulator, "/api/chat", chat())
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        assert answer.headers["Transfer-Encoding"] == "chunked"
        chunks = answer.chunks()
        assert chunks[-1] == b""
        assert all(chunk.endswith(b"\n") and chunk.count(b"\n") == 1 for chunk in chunks[:-1])
        assert chunks[0].startswith(b'{"model":"phi3:mini","created_at":"2')
        assert chunks[0].endswith(
            b'Z","message":{"role":"assistant","content":"Simulated"},"done":false}\n'
        )

    async def test_json_is_escaped_as_go_escapes_it(self, ollama_simulator: Simulator) -> None:
        answer = await post(ollama_simulator, "/api/generate", generate("<a> & ü", stream=False))
        assert "\\u003ca\\u003e \\u0026 ü".encode() in answer.body

    async def test_a_long_reply_is_chunked(self, ollama_simulator: Simulator) -> None:
        body = generate("word " * 1000, stream=False)
        answer = await post(ollama_simulator, "/api/generate", body)
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert len(answer.chunks()) == 2
        assert answer.lines()[0]["done"] is True

    async def test_http_1_0_gets_no_chunks(self, ollama_simulator: Simulator) -> None:
        answer = await post(ollama_simulator, "/api/chat", chat(), version="1.0", headers=())
        assert answer.head.startswith(b"HTTP/1.0 200 OK")
        assert "Transfer-Encoding" not in answer.headers
        assert json.loads(answer.body.splitlines()[-1])["done"] is True

    async def test_a_connection_serves_many_requests(self, ollama_simulator: Simulator) -> None:
        wire = request("POST", "/api/chat", chat(stream=False), headers=())
        reader, writer = await asyncio.open_connection("127.0.0.1", ollama_simulator.port)
        async with asyncio.timeout(DEADLINE):
            for _ in range(3):
                writer.write(wire)
                head = await reader.readuntil(b"\r\n\r\n")
                assert b"Connection:" not in head
                length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
                assert json.loads(await reader.readexactly(length))["done"] is True
        writer.close()
        await writer.wait_closed()
        assert ollama_simulator.count(Outcome.ANSWERED) == 3

    async def test_a_chunked_request_is_read(self, ollama_simulator: Simulator) -> None:
        data = json.dumps(chat(stream=False)).encode()
        wire = b"%x\r\n%b\r\n%x;x=y\r\n%b\r\n0\r\n\r\n" % (10, data[:10], len(data) - 10, data[10:])
        headers = ("Connection: close", "Transfer-Encoding: chunked")
        answer = await post(ollama_simulator, "/api/chat", wire, headers=headers)
        assert answer.json()["message"]["content"] == SAID

    async def test_expect_is_answered(self, ollama_simulator: Simulator) -> None:
        headers = ("Connection: close", "Expect: 100-continue")
        answer = await post(ollama_simulator, "/api/chat", chat(), headers=headers)
        assert answer.head == b"HTTP/1.1 100 Continue"
        assert answer.body.startswith(b"HTTP/1.1 200 OK")

    @pytest.mark.parametrize(
        ("wire", "said"),
        [
            (b"nonsense\r\n\r\n", b"400 Bad Request"),
            (b"GET / HTTP/1.1\r\n\r\n", b"400 Bad Request: missing required Host header"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400 Bad Request"),
        ],
    )
    async def test_bytes_that_are_no_request(
        self, ollama_simulator: Simulator, wire: bytes, said: bytes
    ) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", ollama_simulator.port)
        async with asyncio.timeout(DEADLINE):
            writer.write(wire)
            answer = await reader.read(-1)
        writer.close()
        await writer.wait_closed()
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(b"\r\n\r\n" + said)

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            (("Connection: close", "Origin: http://evil.example"), 403),
            (("Connection: close", "Origin: http://localhost:3000"), 200),
            (("Connection: close", "Origin: http://localhost.evil.example"), 403),
        ],
    )
    async def test_a_foreign_page_is_refused(
        self, ollama_simulator: Simulator, headers: tuple[str, ...], status: int
    ) -> None:
        answer = await raw(ollama_simulator.port, "GET", "/", headers=headers)
        assert answer.status == status
        assert (answer.body == b"") is (status == 403)

    @pytest.mark.parametrize(
        ("host", "status"),
        [
            ("evil.example", 403),
            ("ollama.default.svc", 403),
            ("localhost:1", 200),
            ("[::1]:1", 200),
            ("10.0.0.8", 200),
            ("mac.local", 200),
        ],
    )
    async def test_a_foreign_host_header_is_refused(
        self, ollama_simulator: Simulator, host: str, status: int
    ) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", ollama_simulator.port)
        async with asyncio.timeout(DEADLINE):
            writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            line = await reader.readline()
            await reader.read(-1)
        writer.close()
        await writer.wait_closed()
        assert int(line.split()[1]) == status


class TestLists:
    async def test_the_models_are_listed(self, ollama_simulator: Simulator) -> None:
        (model,) = (await raw(ollama_simulator.port, "GET", "/api/tags")).json()["models"]
        assert (model["name"], model["model"]) == (OLLAMA_MODEL, OLLAMA_MODEL)
        assert len(model["digest"]) == 64
        assert model["details"]["format"] == "gguf"

    async def test_a_model_runs_after_its_first_answer(self, ollama_simulator: Simulator) -> None:
        port = ollama_simulator.port
        assert (await raw(port, "GET", "/api/ps")).json() == {"models": []}
        await post(ollama_simulator, "/api/chat", chat(keep_alive=-1))
        (model,) = (await raw(port, "GET", "/api/ps")).json()["models"]
        assert model["name"] == OLLAMA_MODEL
        assert int(model["expires_at"][:4]) > time.gmtime().tm_year + 100
        await post(ollama_simulator, "/api/chat", {"model": OLLAMA_MODEL, "keep_alive": 0})
        assert (await raw(port, "GET", "/api/ps")).json() == {"models": []}

    async def test_show_says_what_a_model_can(self, ollama_simulator: Simulator) -> None:
        ollama_simulator.behaviour = Behaviour(thinking=("phi3:mini",))
        shown = (await post(ollama_simulator, "/api/show", {"model": "phi3:mini"})).json()
        assert shown["capabilities"] == ["completion", "tools", "thinking"]
        assert shown["model_info"]["general.architecture"] == "llama"

    async def test_the_version(self, ollama_simulator: Simulator) -> None:
        answer = await raw(ollama_simulator.port, "GET", "/api/version")
        assert answer.json() == {"version": "0.17.4"}

    @pytest.mark.parametrize(
        ("method", "path", "status", "said"),
        [
            ("GET", "/nope", 404, b"404 page not found"),
            ("GET", "/api/chat", 405, b"405 method not allowed"),
            ("DELETE", "/api/tags", 405, b"405 method not allowed"),
        ],
    )
    async def test_other_paths(
        self, ollama_simulator: Simulator, method: str, path: str, status: int, said: bytes
    ) -> None:
        answer = await raw(ollama_simulator.port, method, path)
        assert (answer.status, answer.body) == (status, said)
        assert answer.headers["Content-Type"] == "text/plain"
        assert ("Allow" in answer.headers) is (status == 405)


class TestAnswers:
    async def test_the_official_client_chats(self, ollama_simulator: Simulator) -> None:
        client = ollama.AsyncClient(f"http://127.0.0.1:{ollama_simulator.port}", trust_env=False)
        messages = [{"role": "user", "content": "hello there"}]
        whole = await client.chat(OLLAMA_MODEL, messages)
        parts = [part async for part in await client.chat(OLLAMA_MODEL, messages, stream=True)]
        assert whole.message.content == SAID
        assert "".join(part.message.content or "" for part in parts) == SAID
        assert (parts[-1].done, parts[-1].done_reason) == (True, "stop")
        assert (whole.eval_count, parts[-1].eval_count) == (7, 7)
        shown = await client.generate(OLLAMA_MODEL, "hello there")
        assert shown.response == SAID
        embedded = await client.embed(OLLAMA_MODEL, ["a", "b"])
        assert len(embedded.embeddings) == 2
        with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as raised:
            await client.chat("nope", messages)
        assert raised.value.status_code == 404
        await client._client.aclose()

    async def test_the_last_line_has_figures(self, ollama_simulator: Simulator) -> None:
        last = (await post(ollama_simulator, "/api/generate", generate())).lines()[-1]
        assert list(last)[:6] == [
            "model",
            "created_at",
            "response",
            "done",
            "done_reason",
            "context",
        ]
        durations = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
        assert all(last[name] > 0 for name in durations)
        assert last["total_duration"] >= last["eval_duration"]
        assert last["prompt_eval_count"] == 6

    async def test_raw_has_no_context(self, ollama_simulator: Simulator) -> None:
        body = generate(raw=True, stream=False)
        assert "context" not in (await post(ollama_simulator, "/api/generate", body)).json()

    async def test_num_predict_ends_an_answer(self, ollama_simulator: Simulator) -> None:
        body = chat(options={"num_predict": 2})
        lines = (await post(ollama_simulator, "/api/chat", body)).lines()
        assert [line["message"]["content"] for line in lines] == ["Simulated", " ollama", ""]
        assert (lines[-1]["done_reason"], lines[-1]["eval_count"]) == ("length", 2)

    @pytest.mark.parametrize("none", [0, -1, -2])
    async def test_num_predict_of_none(self, ollama_simulator: Simulator, none: int) -> None:
        body = chat(options={"num_predict": none}, stream=False)
        answer = (await post(ollama_simulator, "/api/chat", body)).json()
        assert (answer["message"]["content"], answer["done_reason"]) == (SAID, "stop")

    async def test_a_stop_word_ends_an_answer(self, ollama_simulator: Simulator) -> None:
        body = chat(options={"stop": [" hello", "nowhere"]}, stream=False)
        answer = (await post(ollama_simulator, "/api/chat", body)).json()
        assert answer["message"]["content"] == "Simulated ollama answers phi3:mini:"
        assert answer["done_reason"] == "stop"

    async def test_parameters_are_echoed_on_demand(self, ollama_simulator: Simulator) -> None:
        body = chat("which parameters?", options={"temperature": 0, "seed": 7}, stream=False)
        said = (await post(ollama_simulator, "/api/chat", body)).json()["message"]["content"]
        assert said.endswith("which parameters? [seed=7 temperature=0]")

    @pytest.mark.parametrize("stream", [True, False])
    async def test_a_tool_is_called(self, ollama_simulator: Simulator, stream: bool) -> None:
        body = chat("use a tool", tools=[TOOL], stream=stream)
        answer = await post(ollama_simulator, "/api/chat", body)
        lines = answer.lines() if stream else [answer.json()]
        message = lines[0]["message"]
        (call,) = message["tool_calls"]
        assert message["content"] == ""
        assert call["id"].startswith("call_")
        assert call["function"] == {
            "index": 0,
            "name": "set_light",
            "arguments": {"room": "kitchen", "level": 1, "on": True},
        }
        assert (lines[-1]["done"], lines[-1]["done_reason"]) == (True, "stop")
        assert len(lines) == (2 if stream else 1)

    async def test_tools_may_be_left_alone(self, ollama_simulator: Simulator) -> None:
        body = chat("hello there", tools=[TOOL], stream=False)
        answer = (await post(ollama_simulator, "/api/chat", body)).json()
        assert answer["message"] == {"role": "assistant", "content": SAID}

    @pytest.mark.parametrize(
        ("form", "value"),
        [
            ("json", {"answer": SAID}),
            ({"type": "object", "properties": {"n": {"type": "integer"}}}, {"n": 1}),
        ],
    )
    async def test_format_gives_json(
        self, ollama_simulator: Simulator, form: object, value: object
    ) -> None:
        lines = (await post(ollama_simulator, "/api/chat", chat(format=form))).lines()
        assert json.loads("".join(line["message"]["content"] for line in lines)) == value

    async def test_a_thinking_model_thinks_first(self, ollama_simulator: Simulator) -> None:
        ollama_simulator.behaviour = Behaviour(thinking=(OLLAMA_MODEL,))
        lines = (await post(ollama_simulator, "/api/chat", chat())).lines()
        thoughts = [line["message"].get("thinking", "") for line in lines]
        assert "".join(thoughts) == "Simulated thinking about: hello there"
        assert thoughts[-1] == ""
        assert "".join(line["message"]["content"] for line in lines) == SAID
        silent = await post(ollama_simulator, "/api/chat", chat(think=False, stream=False))
        assert "thinking" not in silent.json()["message"]

    async def test_the_number_of_tokens_can_be_set(self, ollama_simulator: Simulator) -> None:
        ollama_simulator.behaviour = Behaviour(tokens=100)
        lines = (await post(ollama_simulator, "/api/generate", generate())).lines()
        assert len(lines) == 101
        assert lines[-2]["response"] == " t99"

    @pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
    async def test_nothing_to_say_loads_and_unloads(
        self, ollama_simulator: Simulator, path: str
    ) -> None:
        load = await post(ollama_simulator, path, {"model": OLLAMA_MODEL})
        assert load.headers["Content-Type"] == "application/json; charset=utf-8"
        assert (load.json()["done"], load.json()["done_reason"]) == (True, "load")
        unload = await post(ollama_simulator, path, {"model": OLLAMA_MODEL, "keep_alive": "0"})
        assert unload.json()["done_reason"] == "unload"

    async def test_embeddings_are_fixed(self, ollama_simulator: Simulator) -> None:
        body = {"model": OLLAMA_MODEL, "input": ["a", "b", "a"], "dimensions": 8}
        vectors = (await post(ollama_simulator, "/api/embed", body)).json()["embeddings"]
        assert vectors[0] == vectors[2] != vectors[1]
        assert [len(vector) for vector in vectors] == [8, 8, 8]
        assert sum(x * x for x in vectors[0]) == pytest.approx(1)
        old = await post(ollama_simulator, "/api/embeddings", generate("a"))
        assert len(old.json()["embedding"]) == 64

    async def test_names_are_found_as_ollama_finds_them(self, ollama_simulator: Simulator) -> None:
        body = chat(stream=False) | {"model": "PHI3:MINI"}
        answer = await post(ollama_simulator, "/api/chat", body)
        assert answer.json()["model"] == "PHI3:MINI"
        assert (await post(ollama_simulator, "/api/chat", body | {"model": "phi3"})).status == 404


class TestErrors:
    @pytest.mark.parametrize(
        ("path", "body", "status", "said"),
        [
            ("chat", b"", 400, "missing request body"),
            ("chat", b"{", 400, "unexpected EOF"),
            (
                "chat",
                b"{bad",
                400,
                "invalid character 'b' looking for beginning of object key string",
            ),
            (
                "chat",
                b"[1]",
                400,
                "json: cannot unmarshal array into Go value of type api.ChatRequest",
            ),
            (
                "generate",
                {"model": 5},
                400,
                "json: cannot unmarshal number into Go struct field GenerateRequest.model "
                "of type string",
            ),
            (
                "chat",
                {"messages": [{"content": [{"type": "text"}]}]},
                400,
                "json: cannot unmarshal array into Go struct field ChatRequest.messages.content "
                "of type string",
            ),
            ("chat", {"keep_alive": "5"}, 400, 'time: missing unit in duration "5"'),
            ("chat", {"keep_alive": "x"}, 400, 'time: invalid duration "x"'),
            ("chat", {"model": ""}, 400, "model is required"),
            ("generate", {"model": ""}, 404, "model '' not found"),
            ("chat", {"model": "nope"}, 404, "model 'nope' not found"),
            ("embed", {"model": "nope"}, 404, 'model "nope" not found, try pulling it first'),
            ("show", {}, 400, "model is required"),
            ("chat", chat(think=True), 400, '"phi3:mini" does not support thinking'),
            (
                "chat",
                chat(think="high"),
                400,
                '"phi3:mini" does not support thinking',
            ),
            (
                "generate",
                generate(suffix="x"),
                400,
                "registry.ollama.ai/library/phi3:mini does not support insert",
            ),
            (
                "generate",
                generate(raw=True, system="x"),
                400,
                "raw mode does not support template, system, or context",
            ),
            (
                "chat",
                chat(options={"num_predict": "x"}),
                500,
                'option "num_predict" must be of type integer',
            ),
            (
                "chat",
                chat(options={"stop": "x"}),
                500,
                'option "stop" must be of type array',
            ),
            ("chat", chat(top_logprobs=21), 400, "top_logprobs must be between 0 and 20"),
            ("embed", {"model": OLLAMA_MODEL, "input": [1]}, 400, "invalid input type"),
        ],
    )
    async def test_a_bad_request_is_told(
        self, ollama_simulator: Simulator, path: str, body: object, status: int, said: str
    ) -> None:
        answer = await post(ollama_simulator, f"/api/{path}", body)
        assert (answer.status, answer.json()) == (status, {"error": said})

    async def test_a_bad_format_fails_as_a_stream_does(self, ollama_simulator: Simulator) -> None:
        answer = await post(ollama_simulator, "/api/chat", chat(format="xml"))
        assert (answer.status, answer.headers["Content-Type"]) == (500, "application/json")
        assert answer.lines()[0]["error"].startswith('invalid format: "\\"xml\\"";')

    async def test_tools_need_the_capability(self, ollama_simulator: Simulator) -> None:
        ollama_simulator.behaviour = Behaviour(capabilities=("completion",))
        answer = await post(ollama_simulator, "/api/chat", chat(tools=[TOOL]))
        said = "registry.ollama.ai/library/phi3:mini does not support tools"
        assert (answer.status, answer.json()) == (400, {"error": said})


class TestFailures:
    async def test_a_status(self, ollama_simulator: Simulator) -> None:
        ollama_simulator.behaviour = Behaviour(mode="status:503", retry_after=7)
        answer = await post(ollama_simulator, "/api/chat", chat())
        assert (answer.status, answer.headers["Retry-After"]) == (503, "7")
        assert answer.json()["error"].startswith("server busy, please try again.")
        assert (await raw(ollama_simulator.port, "GET", "/api/tags")).status == 200

    async def test_a_refused_model(self, ollama_simulator: Simulator) -> None:
        ollama_simulator.behaviour = Behaviour(mode="refuse-model")
        answer = await post(ollama_simulator, "/api/chat", chat())
        assert (answer.status, answer.json()) == (404, {"error": "model 'phi3:mini' not found"})

    async def test_a_dead_runner(self, ollama_simulator: Simulator) -> None:
        ollama_simulator.behaviour = Behaviour(mode="generation-died")
        answer = await post(ollama_simulator, "/api/chat", chat())
        assert answer.status == 500
        assert answer.json()["error"].startswith("model runner has unexpectedly stopped")

    async def test_a_cut_stream_has_no_last_chunk(self, ollama_simulator: Simulator) -> None:
        ollama_simulator.behaviour = Behaviour(mode="cut-mid-stream:2")
        answer = await post(ollama_simulator, "/api/chat", chat())
        assert len(answer.lines()) == 2
        assert answer.chunks()[-1] != b""
        assert ollama_simulator.requests[-1].outcome is Outcome.FAILED

    async def test_a_cut_without_stream_has_no_response(self, ollama_simulator: Simulator) -> None:
        ollama_simulator.behaviour = Behaviour(mode="cut-mid-stream:2")
        assert (await post(ollama_simulator, "/api/chat", chat(stream=False))).head == b""

    async def test_a_cut_after_more_tokens_than_there_are(
        self, ollama_simulator: Simulator
    ) -> None:
        ollama_simulator.behaviour = Behaviour(mode="cut-mid-stream:99")
        lines = (await post(ollama_simulator, "/api/chat", chat())).lines()
        assert len(lines) == 6
        assert not any(line["done"] for line in lines)

    async def test_an_error_line(self, ollama_simulator: Simulator) -> None:
        ollama_simulator.behaviour = Behaviour(mode="error-line:2", message="out of memory")
        answer = await post(ollama_simulator, "/api/chat", chat())
        assert answer.status == 200
        assert answer.lines()[2:] == [{"error": "out of memory"}]
        assert answer.chunks()[-1] == b""

    @pytest.mark.parametrize("body", [chat(), chat(stream=False)])
    async def test_an_error_before_the_first_token_has_a_status(
        self, ollama_simulator: Simulator, body: dict[str, Any]
    ) -> None:
        ollama_simulator.behaviour = Behaviour(mode="error-line:0")
        answer = await post(ollama_simulator, "/api/chat", body)
        assert answer.status == 500
        assert b"an error was encountered while running the model" in answer.body

    async def test_an_end_without_done(self, ollama_simulator: Simulator) -> None:
        ollama_simulator.behaviour = Behaviour(mode="no-done")
        answer = await post(ollama_simulator, "/api/chat", chat())
        assert "".join(line["message"]["content"] for line in answer.lines()) == SAID
        assert not any(line["done"] for line in answer.lines())
        assert answer.chunks()[-1] == b""
        whole = (await post(ollama_simulator, "/api/chat", chat(stream=False))).json()
        assert (whole["done"], "eval_count" in whole) == (False, False)

    async def test_a_close_without_response(self, ollama_simulator: Simulator) -> None:
        ollama_simulator.behaviour = Behaviour(mode="close-without-response")
        assert (await post(ollama_simulator, "/api/chat", chat())).head == b""
        assert (await raw(ollama_simulator.port, "GET", "/api/tags")).head == b""
        assert ollama_simulator.count(Outcome.FAILED) == 2

    @pytest.mark.parametrize(
        ("mode", "sent"),
        [
            ("hang-before-headers", 0),
            ("zombie", 0),
            ("hang-mid-stream:0", 0),
            ("hang-mid-stream:3", 3),
        ],
    )
    async def test_a_hang_ends_when_the_client_goes(
        self, ollama_simulator: Simulator, mode: str, sent: int
    ) -> None:
        ollama_simulator.behaviour = Behaviour(mode=mode)
        reader, writer = await asyncio.open_connection("127.0.0.1", ollama_simulator.port)
        async with asyncio.timeout(DEADLINE):
            writer.write(request("POST", "/api/chat", chat()))
            for _ in range(sent):
                await reader.readuntil(b'"done":false}\n\r\n')
            await eventually_async(lambda: ollama_simulator.requests, within=5)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.2)
        assert ollama_simulator.requests[-1].outcome is Outcome.OPEN
        gone = time.monotonic()
        writer.close()
        await writer.wait_closed()
        await eventually_async(
            lambda: ollama_simulator.requests[-1].outcome is Outcome.CANCELLED,
            within=5,
            every=0.005,
        )
        assert time.monotonic() - gone < 1
        assert ollama_simulator.requests[-1].tokens == sent

    async def test_a_zombie_looks_healthy(self, ollama_simulator: Simulator) -> None:
        ollama_simulator.behaviour = Behaviour(mode="zombie")
        assert (await raw(ollama_simulator.port, "GET", "/api/tags")).status == 200
        ollama_simulator.behaviour = Behaviour(mode="hang-before-headers")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(raw(ollama_simulator.port, "GET", "/api/tags"), 0.3)


class TestTime:
    async def test_headers_wait_for_the_first_token(self, ollama_simulator: Simulator) -> None:
        ollama_simulator.behaviour = Behaviour(ttft_ms=300)
        reader, writer = await asyncio.open_connection("127.0.0.1", ollama_simulator.port)
        started = time.monotonic()
        async with asyncio.timeout(DEADLINE):
            writer.write(request("POST", "/api/chat", chat()))
            await reader.readuntil(b"\r\n\r\n")
            waited = time.monotonic() - started
            rest = await reader.read(-1)
        writer.close()
        await writer.wait_closed()
        assert waited >= 0.29
        assert b'"done":true' in rest

    async def test_tokens_come_at_their_rate(self, ollama_simulator: Simulator) -> None:
        ollama_simulator.behaviour = Behaviour(tokens_per_second=50, tokens=11)
        started = time.monotonic()
        last = (await post(ollama_simulator, "/api/chat", chat())).lines()[-1]
        assert 0.19 <= time.monotonic() - started < 2
        assert last["eval_duration"] >= 190_000_000

    async def test_only_the_first_request_is_cold(self, ollama_simulator: Simulator) -> None:
        ollama_simulator.behaviour = Behaviour(mode="cold-load", ttft_ms=500)
        body = chat(stream=False)
        cold = (await post(ollama_simulator, "/api/chat", body)).json()
        warm = (await post(ollama_simulator, "/api/chat", body)).json()
        assert cold["load_duration"] >= 490_000_000
        assert warm["total_duration"] < 400_000_000
        await post(ollama_simulator, "/api/chat", {"model": OLLAMA_MODEL, "keep_alive": 0})
        again = (await post(ollama_simulator, "/api/chat", body)).json()
        assert again["load_duration"] >= 490_000_000

    @pytest.mark.parametrize("stream", [True, False])
    async def test_a_client_that_goes_ends_the_generation(
        self, ollama_simulator: Simulator, stream: bool
    ) -> None:
        ollama_simulator.behaviour = Behaviour(tokens_per_second=20, tokens=1000)
        _, writer = await asyncio.open_connection("127.0.0.1", ollama_simulator.port)
        writer.write(request("POST", "/api/chat", chat(stream=stream)))
        await eventually_async(
            lambda: ollama_simulator.requests and ollama_simulator.requests[-1].tokens >= 2,
            within=5,
        )
        writer.close()
        await writer.wait_closed()
        await eventually_async(lambda: ollama_simulator.count(Outcome.CANCELLED) == 1, within=5)
        assert ollama_simulator.requests[-1].tokens < 20


class TestConstruction:
    async def test_any_model(self) -> None:
        simulator = await serve(
            Kind.OLLAMA, host="127.0.0.1", port=0, behaviour=Behaviour(), models=("*",)
        )
        body = chat(stream=False) | {"model": "whatever:7b"}
        answer = await post(simulator, "/api/chat", body)
        assert answer.json()["message"]["content"].startswith(
            "Simulated ollama answers whatever:7b"
        )
        assert (await raw(simulator.port, "GET", "/api/tags")).json() == {"models": []}
        await simulator.close()

    async def test_close_breaks_off_what_is_open(self, ollama_simulator: Simulator) -> None:
        ollama_simulator.behaviour = Behaviour(mode="hang-before-headers")
        waiting = asyncio.create_task(post(ollama_simulator, "/api/chat", chat()))
        await eventually_async(lambda: ollama_simulator.requests, within=5)
        async with asyncio.timeout(DEADLINE):
            port = ollama_simulator.port
            await ollama_simulator.close()
            assert (await waiting).head == b""
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
