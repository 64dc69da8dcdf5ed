"""A request through the whole router, in one process: every front, both kinds of host, the headers.

The hosts are simulated ones, which say what reached them.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from pytest_mock import MockerFixture

from llm_contract import Defaults, HeaderEdits, TargetType, Timeouts, checksum
from llm_operator.simulate.behaviour import Behaviour, Kind
from llm_operator.simulate.journal import Outcome, Received
from llm_operator.simulate.server import Simulator, serve
from llm_router.fronts import ROUTES
from parts.eventually import eventually_async
from parts.process import free_port
from parts.router import DataPort, files, mlx, ollama, route

MODEL = "phi3:mini"
SAID_OLLAMA = "Simulated ollama answers phi3:mini: hello there"
SAID_MLX = "Simulated mlx answers default_model: hello there"


def url(simulator: Simulator) -> str:
    return f"http://127.0.0.1:{simulator.port}"


@dataclass(frozen=True)
class Front:
    """How a client of one protocol asks, and where the answer's text stands."""

    path: str
    content_type: str
    body: Callable[..., dict[str, Any]]
    text: Callable[[Any], str]
    piece: Callable[[Any], str]

    def texts(self, response: httpx.Response) -> str:
        """The text of a stream, its end checked."""
        assert response.headers["content-type"] == self.content_type
        if self.content_type == "text/event-stream":
            events = [e.removeprefix("data: ") for e in response.text.split("\n\n") if e]
            assert events[-1] == "[DONE]"
            return "".join(self.piece(json.loads(event)) for event in events[:-1])
        lines = [json.loads(line) for line in response.text.splitlines()]
        assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
        return "".join(self.piece(line) for line in lines)


def chat_body(text: str = "hello there", **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}]} | more


def prompt_body(text: str = "hello there", **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "prompt": text} | more


FRONTS = {
    "openai": Front(
        "/v1/chat/completions",
        "text/event-stream",
        chat_body,
        lambda whole: whole["choices"][0]["message"]["content"],
        lambda chunk: "".join(c["delta"].get("content", "") for c in chunk["choices"]),
    ),
    "openai-completions": Front(
        "/v1/completions",
        "text/event-stream",
        prompt_body,
        lambda whole: whole["choices"][0]["text"],
        lambda chunk: "".join(c["text"] for c in chunk["choices"]),
    ),
    "ollama-chat": Front(
        "/api/chat",
        "application/x-ndjson",
        chat_body,
        lambda whole: whole["message"]["content"],
        lambda line: line["message"]["content"],
    ),
    "ollama-generate": Front(
        "/api/generate",
        "application/x-ndjson",
        prompt_body,
        lambda whole: whole["response"],
        lambda line: line["response"],
    ),
    "unified": Front(
        "/generate",
        "application/x-ndjson",
        prompt_body,
        lambda whole: whole["response"],
        lambda line: line["response"],
    ),
}


@pytest.fixture(params=FRONTS.values(), ids=FRONTS)
def front(request: pytest.FixtureRequest) -> Front:
    found: Front = request.param
    return found


def last(simulator: Simulator) -> dict[str, Any]:
    """The body that reached the host last."""
    received: Received = simulator.requests[-1]
    assert isinstance(received.body, dict)
    return received.body


def explained(response: httpx.Response) -> dict[str, str]:
    """The headers that say how a request went, but for those of every response."""
    ours = {k: v for k, v in response.headers.items() if k.startswith("x-llm-")}
    ours.pop("x-llm-config", None)
    return ours


class TestAnswers:
    async def test_whole_from_ollama(
        self, data_port: DataPort, ollama_simulator: Simulator, front: Front
    ) -> None:
        config = route(MODEL, ollama(url(ollama_simulator)))
        data_port.publish(config)
        response = await data_port.post(front.path, **front.body(stream=False))
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json"
        whole = response.json()
        assert front.text(whole) == SAID_OLLAMA
        assert whole["model"] == MODEL
        assert explained(response) == {
            "x-llm-backend": "phi3-mini/ollama",
            "x-llm-backend-type": "ollama",
            "x-llm-upstream-model": MODEL,
            "x-llm-attempts": "1",
        }
        published = checksum(files(config)["routing.json"])
        assert response.headers["x-llm-config"] == published[:12]
        assert last(ollama_simulator)["stream"] is True, "upstream is always asked to stream"

    async def test_whole_from_mlx(
        self, data_port: DataPort, mlx_simulator: Simulator, front: Front
    ) -> None:
        data_port.publish(route(MODEL, mlx(url(mlx_simulator))))
        response = await data_port.post(front.path, **front.body(stream=False))
        assert response.status_code == 200, response.text
        assert front.text(response.json()) == SAID_MLX
        assert response.json()["model"] == MODEL, "the callers' name, not the host's"
        assert explained(response) == {
            "x-llm-backend": "phi3-mini/mlx",
            "x-llm-backend-type": "mlx",
            "x-llm-upstream-model": "default_model",
            "x-llm-attempts": "1",
        }

    @pytest.mark.parametrize("kind", list(TargetType)[:2])
    async def test_streamed(
        self,
        data_port: DataPort,
        ollama_simulator: Simulator,
        mlx_simulator: Simulator,
        front: Front,
        kind: TargetType,
    ) -> None:
        of_ollama = kind is TargetType.OLLAMA
        target = ollama(url(ollama_simulator)) if of_ollama else mlx(url(mlx_simulator))
        data_port.publish(route(MODEL, target))
        response = await data_port.post(front.path, **front.body(stream=True))
        assert response.status_code == 200, response.text
        assert front.texts(response) == (SAID_OLLAMA if of_ollama else SAID_MLX)
        assert explained(response)["x-llm-backend-type"] == kind.value
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        assert "content-length" not in response.headers

    async def test_a_stream_of_openai_has_one_role_and_one_id(
        self, data_port: DataPort, mlx_simulator: Simulator
    ) -> None:
        # NB: mlx_lm.server puts the role into every chunk.
        data_port.publish(route(MODEL, mlx(url(mlx_simulator))))
        path = "/v1/chat/completions"
        response = await data_port.post(path, **chat_body(stream=True))
        chunks = [
            json.loads(event[6:]) for event in response.text.split("\n\n") if event[6:7] == "{"
        ]
        assert len({chunk["id"] for chunk in chunks}) == 1
        roles = [c["choices"][0]["delta"].get("role") for c in chunks]
        assert roles == ["assistant"] + [None] * (len(chunks) - 1)
        assert "usage" not in response.text
        options = {"include_usage": True}
        asked = await data_port.post(path, **chat_body(stream=True, stream_options=options))
        assert asked.text.count('"usage"') == 1

    async def test_defaults_decide_who_streams(
        self, data_port: DataPort, ollama_simulator: Simulator, front: Front
    ) -> None:
        data_port.publish(route(MODEL, ollama(url(ollama_simulator))))
        response = await data_port.post(front.path, **front.body())
        streams = front.path.startswith("/api")
        assert (response.headers["content-type"] != "application/json") is streams

    async def test_figures_for_an_ollama_client_of_mlx(
        self, data_port: DataPort, mlx_simulator: Simulator
    ) -> None:
        mlx_simulator.behaviour = Behaviour(ttft_ms=30, tokens_per_second=100)
        data_port.publish(route(MODEL, mlx(url(mlx_simulator))))
        whole = (await data_port.post("/api/chat", **chat_body(stream=False))).json()
        # NB: the stop token is counted.
        assert whole["eval_count"] == 7
        assert whole["prompt_eval_count"] == 6
        assert whole["prompt_eval_duration"] >= 30_000_000
        assert whole["eval_duration"] >= 30_000_000
        total = whole["prompt_eval_duration"] + whole["eval_duration"]
        assert whole["total_duration"] == pytest.approx(total, abs=5_000_000)

    @pytest.mark.parametrize("kind", ["ollama", "mlx"])
    async def test_tools(
        self,
        data_port: DataPort,
        ollama_simulator: Simulator,
        mlx_simulator: Simulator,
        kind: str,
    ) -> None:
        target = ollama(url(ollama_simulator)) if kind == "ollama" else mlx(url(mlx_simulator))
        data_port.publish(route(MODEL, target))
        parameters = {"type": "object", "properties": {"room": {"enum": ["hall"]}}}
        tools = [{"type": "function", "function": {"name": "light", "parameters": parameters}}]
        asked = chat_body("use a tool", tools=tools, stream=False)
        openai = (await data_port.post("/v1/chat/completions", **asked)).json()
        choice = openai["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        (call,) = choice["message"]["tool_calls"]
        assert call["function"]["name"] == "light"
        assert json.loads(call["function"]["arguments"]) == {"room": "hall"}
        native = (await data_port.post("/api/chat", **asked)).json()
        (call,) = native["message"]["tool_calls"]
        assert call["function"]["name"] == "light"
        assert call["function"]["arguments"] == {"room": "hall"}
        assert native["done_reason"] == "stop"

    @pytest.mark.parametrize("kind", ["ollama", "mlx"])
    async def test_thinking(
        self,
        data_port: DataPort,
        ollama_simulator: Simulator,
        mlx_simulator: Simulator,
        kind: str,
    ) -> None:
        for simulator in (ollama_simulator, mlx_simulator):
            simulator.behaviour = Behaviour(thinking=("*",))
        target = ollama(url(ollama_simulator)) if kind == "ollama" else mlx(url(mlx_simulator))
        data_port.publish(route(MODEL, target))
        native = (await data_port.post("/api/chat", **chat_body(stream=False))).json()
        assert native["message"]["thinking"] == "Simulated thinking about: hello there"
        openai = (await data_port.post("/v1/chat/completions", **chat_body())).json()
        message = openai["choices"][0]["message"]
        assert message["reasoning"] == "Simulated thinking about: hello there"
        unified = (await data_port.post("/generate", **prompt_body())).json()
        assert "thinking" not in unified, "it is asked not to think"
        assert unified["response"].startswith("Simulated")

    async def test_a_load_goes_to_ollama_and_comes_back_as_it_is(
        self, data_port: DataPort, ollama_simulator: Simulator, mlx_simulator: Simulator
    ) -> None:
        data_port.publish(route(MODEL, mlx(url(mlx_simulator)), ollama(url(ollama_simulator))))
        for stream in (True, False):
            response = await data_port.post("/api/generate", model=MODEL, stream=stream)
            answer = response.json()
            answer.pop("created_at")
            assert answer == {"model": MODEL, "response": "", "done": True, "done_reason": "load"}
            assert explained(response)["x-llm-fallback-reason"] == "Unsupported"
        assert mlx_simulator.count() == 0

    async def test_connections_are_kept(
        self, data_port: DataPort, ollama_simulator: Simulator, front: Front
    ) -> None:
        data_port.publish(route(MODEL, ollama(url(ollama_simulator))))
        for stream in (True, False) * 3:
            await data_port.post(front.path, **front.body(stream=stream))
        counts = data_port.pool.counts()
        assert (counts.connects, counts.open, counts.idle) == (1, 1, 1)


class TestFallback:
    async def test_a_host_that_is_down(
        self, data_port: DataPort, ollama_simulator: Simulator, front: Front
    ) -> None:
        away = f"http://127.0.0.1:{free_port()}"
        data_port.publish(route(MODEL, mlx(away), ollama(url(ollama_simulator))))
        for stream in (False, True):
            response = await data_port.post(front.path, **front.body(stream=stream))
            assert response.status_code == 200, response.text
            text = front.texts(response) if stream else front.text(response.json())
            assert text == SAID_OLLAMA
            assert explained(response) == {
                "x-llm-backend": "phi3-mini/ollama",
                "x-llm-backend-type": "ollama",
                "x-llm-upstream-model": MODEL,
                "x-llm-attempts": "2",
                "x-llm-fallback-reason": "ConnectFailure",
            }

    async def test_two_hosts_that_fail_leave_the_first_ones_reason(
        self,
        data_port: DataPort,
        ollama_simulator: Simulator,
        mlx_simulator: Simulator,
        front: Front,
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode="status:503")
        away = mlx(f"http://127.0.0.1:{free_port()}")
        busy = replace(mlx(url(mlx_simulator)), name="busy")
        data_port.publish(route(MODEL, away, busy, ollama(url(ollama_simulator))))
        response = await data_port.post(front.path, **front.body())
        assert response.status_code == 200
        assert response.headers["x-llm-attempts"] == "3"
        assert response.headers["x-llm-fallback-reason"] == "ConnectFailure"

    async def test_the_callers_name_never_reaches_mlx_nor_mlxs_name_ollama(
        self,
        data_port: DataPort,
        ollama_simulator: Simulator,
        mlx_simulator: Simulator,
        front: Front,
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode="status:503")
        data_port.publish(route(MODEL, mlx(url(mlx_simulator)), ollama(url(ollama_simulator))))
        response = await data_port.post(front.path, **front.body(stream=False))
        assert response.headers["x-llm-attempts"] == "2"
        assert MODEL not in json.dumps(last(mlx_simulator))
        assert last(mlx_simulator)["model"] == "default_model"
        assert last(ollama_simulator)["model"] == MODEL

    async def test_a_capability_that_mlx_lacks(
        self, data_port: DataPort, ollama_simulator: Simulator, mlx_simulator: Simulator
    ) -> None:
        data_port.publish(route(MODEL, mlx(url(mlx_simulator)), ollama(url(ollama_simulator))))
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
        asked: list[tuple[str, dict[str, Any]]] = [
            ("/v1/chat/completions", chat_body(response_format={"type": "json_object"})),
            ("/api/chat", chat_body(format="json")),
            ("/api/generate", prompt_body(format={"type": "object"})),
            ("/api/generate", prompt_body(images=["aGk="])),
            (
                "/v1/chat/completions",
                {"model": MODEL, "messages": [{"role": "user", "content": [image]}]},
            ),
        ]
        for path, body in asked:
            response = await data_port.post(path, **body)
            assert response.status_code == 200, response.text
            assert response.headers["x-llm-backend-type"] == "ollama"
            assert response.headers["x-llm-fallback-reason"] == "Unsupported"
        assert mlx_simulator.count() == 0, "nothing is sent that could not be honoured"

    async def test_a_wrong_request_is_not_tried_elsewhere(
        self,
        data_port: DataPort,
        ollama_simulator: Simulator,
        mlx_simulator: Simulator,
        front: Front,
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode="status:400", message="no such knob")
        data_port.publish(route(MODEL, mlx(url(mlx_simulator)), ollama(url(ollama_simulator))))
        response = await data_port.post(front.path, **front.body(stream=True))
        assert response.status_code == 400
        assert "no such knob" in response.text
        assert ollama_simulator.count() == 0

    async def test_the_unsupported_of_the_last_one_is_a_400(
        self, data_port: DataPort, mlx_simulator: Simulator
    ) -> None:
        data_port.publish(route(MODEL, mlx(url(mlx_simulator))))
        response = await data_port.post("/api/chat", **chat_body(format="json"))
        assert response.status_code == 400
        assert "format: a host of type mlx can't do this" in response.json()["error"]

    async def test_retry_after_of_the_last_one_is_passed_on(
        self, data_port: DataPort, ollama_simulator: Simulator, front: Front
    ) -> None:
        data_port.publish(route(MODEL, ollama(url(ollama_simulator))))
        for status in (503, 429):
            ollama_simulator.behaviour = Behaviour(mode=f"status:{status}", retry_after=7)
            response = await data_port.post(front.path, **front.body())
            assert response.status_code == status
            assert response.headers["retry-after"] == "7"
            assert response.headers["x-llm-attempts"] == "1"

    async def test_every_failure_is_named(
        self, data_port: DataPort, ollama_simulator: Simulator, front: Front
    ) -> None:
        ollama_simulator.behaviour = Behaviour(mode="status:500", message="out of memory")
        port = free_port()
        targets = mlx(f"http://127.0.0.1:{port}"), ollama(url(ollama_simulator))
        data_port.publish(route(MODEL, *targets))
        response = await data_port.post(front.path, **front.body())
        assert response.status_code == 502
        for part in ("mlx", str(port), "ollama", "out of memory"):
            assert part in response.text
        assert response.headers["x-llm-attempts"] == "2"
        assert response.headers["x-llm-fallback-reason"] == "ConnectFailure"


class TestValues:
    @pytest.mark.parametrize("kind", ["ollama", "mlx"])
    async def test_zero_arrives_as_zero(
        self,
        data_port: DataPort,
        ollama_simulator: Simulator,
        mlx_simulator: Simulator,
        front: Front,
        kind: str,
    ) -> None:
        defaults = Defaults(max_tokens=99, temperature=0.9)
        of_ollama = kind == "ollama"
        target = ollama(url(ollama_simulator)) if of_ollama else mlx(url(mlx_simulator))
        data_port.publish(route(MODEL, target, defaults=defaults))
        zero = {"max_tokens": 0, "temperature": 0}
        if front.path.startswith("/api"):
            zero = {"options": {"num_predict": 0, "temperature": 0}}  # type: ignore[dict-item]
        await data_port.post(front.path, **front.body(**zero))
        if of_ollama:
            options = last(ollama_simulator)["options"]
            assert options == {"num_predict": 0, "temperature": 0}
        else:
            body = last(mlx_simulator)
            assert (body["max_tokens"], body["temperature"]) == (0, 0)

    async def test_the_routes_defaults_fill_the_rest(
        self, data_port: DataPort, ollama_simulator: Simulator, front: Front
    ) -> None:
        defaults = Defaults(max_tokens=99, temperature=0.0, keep_alive_seconds=-1)
        data_port.publish(route(MODEL, ollama(url(ollama_simulator)), defaults=defaults))
        await data_port.post(front.path, **front.body())
        body = last(ollama_simulator)
        assert body["options"] == {"num_predict": 99, "temperature": 0}
        assert body["keep_alive"] == -1

    @pytest.mark.parametrize(
        ("path", "body", "dropped"),
        [
            (
                "/v1/chat/completions",
                chat_body(user="ada", logit_bias={}, parallel_tool_calls=False),
                "parallel_tool_calls,user",
            ),
            ("/api/chat", chat_body(options={"num_ctx": 1, "mirostat": 1}), None),
            ("/v1/chat/completions", chat_body(**{"bad\r\nname": 1}), "unnamed"),
            ("/v1/chat/completions", chat_body(), None),
        ],
    )
    async def test_what_mlx_has_no_place_for_is_told(
        self,
        data_port: DataPort,
        mlx_simulator: Simulator,
        path: str,
        body: dict[str, Any],
        dropped: str | None,
    ) -> None:
        data_port.publish(route(MODEL, mlx(url(mlx_simulator))))
        response = await data_port.post(path, **body)
        assert response.status_code == 200, response.text
        if "options" in body:
            dropped = "options.mirostat,options.num_ctx"
        assert response.headers.get("x-llm-dropped") == dropped

    async def test_a_host_gets_none_of_the_clients_headers(
        self, data_port: DataPort, ollama_simulator: Simulator
    ) -> None:
        data_port.publish(route(MODEL, ollama(url(ollama_simulator))))
        sent = {
            "authorization": "Bearer secret",
            "cookie": "a=b",
            "origin": "http://evil.example",
            "x-forwarded-for": "1.2.3.4",
            "host": "evil.example",
            "accept-encoding": "gzip",
        }
        body = chat_body(stream=False)
        response = await data_port.client.post("/api/chat", json=body, headers=sent)
        assert response.status_code == 200
        received = ollama_simulator.requests[-1].headers
        assert received["host"] == f"127.0.0.1:{ollama_simulator.port}"
        assert received["accept-encoding"] == "identity"
        assert received["x-request-id"] == response.headers["x-request-id"]
        ours = {
            *("host", "connection", "accept-encoding", "content-length", "content-type", "accept"),
            *("x-request-id", "traceparent"),
        }
        assert set(received) == ours

    async def test_a_host_gets_the_headers_that_may_be_forwarded(
        self, data_port: DataPort, ollama_simulator: Simulator
    ) -> None:
        edits = HeaderEdits(set=(("X-Team", "ours"),), remove=("X-Secret-Plan",))
        data_port.publish(route(MODEL, ollama(url(ollama_simulator), headers=edits)))
        parent = f"00-{'a' * 32}-{'b' * 16}-01"
        sent = {
            "x-tenant": "blue",
            "X-Team": "theirs",
            "x-secret-plan": "42",
            "x-request-id": "mine",
            "traceparent": parent,
            "tracestate": "vendor=1",
        }
        response = await data_port.client.post("/api/chat", json=chat_body(), headers=sent)
        assert response.status_code == 200
        received = ollama_simulator.requests[-1].headers
        assert received["x-tenant"] == "blue"
        assert received["x-team"] == "ours"
        assert "x-secret-plan" not in received
        assert received["x-request-id"] == "mine"
        assert received["traceparent"].startswith(f"00-{'a' * 32}-")
        assert received["traceparent"] != parent, "the attempt is a span of its own"
        assert received["tracestate"] == "vendor=1"


class TestRequestId:
    async def test_a_clients_own_is_kept(
        self, data_port: DataPort, ollama_simulator: Simulator
    ) -> None:
        data_port.publish(route(MODEL, ollama(url(ollama_simulator))))
        given = {"x-request-id": "abc-1.2:3_Z"}
        path = "/v1/chat/completions"
        response = await data_port.client.post(path, json=chat_body(), headers=given)
        assert response.headers["x-request-id"] == "abc-1.2:3_Z"
        assert response.json()["id"] == "chatcmpl-abc-1.2:3_Z"

    @pytest.mark.parametrize("value", ["", "a b", "x" * 129, "ä".encode(), "a\tb"])
    async def test_one_that_is_none_is_replaced(
        self, data_port: DataPort, ollama_simulator: Simulator, value: str | bytes
    ) -> None:
        data_port.publish(route(MODEL, ollama(url(ollama_simulator))))
        headers: dict[str, Any] = {"x-request-id": value}
        response = await data_port.client.post("/api/chat", json=chat_body(), headers=headers)
        assert len(response.headers["x-request-id"]) == 32

    async def test_errors_have_one_too(self, data_port: DataPort) -> None:
        for path in ("/nope", "/api/chat"):
            response = await data_port.post(path)
            assert len(response.headers["x-request-id"]) == 32


#: Where each protocol says what went wrong.
def said(front: Front, response: httpx.Response) -> tuple[str, str | None]:
    error = response.json()["error"]
    if isinstance(error, str):
        assert front.path.startswith("/api")
        return error, None
    assert not front.path.startswith("/api")
    if front.path == "/generate":
        assert set(error) <= {"code", "message", "param"}
    else:
        assert set(error) == {"code", "message", "param", "type"}
    return error["message"], error["code"]


class TestRefused:
    async def test_an_unknown_model(self, data_port: DataPort, front: Front) -> None:
        data_port.publish()
        response = await data_port.post(front.path, **front.body())
        assert response.status_code == 404
        message, code = said(front, response)
        assert message == "model 'phi3:mini' not found"
        assert code in (None, "model_not_found")

    async def test_a_wrong_field(self, data_port: DataPort, front: Front) -> None:
        data_port.publish()
        response = await data_port.post(front.path, **front.body(stream="yes"))
        assert response.status_code == 400
        assert said(front, response)[0] == "stream: must be true or false, is a string"

    async def test_no_body(self, data_port: DataPort, front: Front) -> None:
        response = await data_port.client.post(front.path)
        assert response.status_code == 400
        assert said(front, response)[0] == "missing request body: send a JSON object"

    async def test_no_configuration_yet(self, data_port: DataPort, front: Front) -> None:
        response = await data_port.post(front.path, **front.body())
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert "x-llm-config" not in response.headers
        assert said(front, response) == (
            "no configuration has been loaded yet",
            None if front.path.startswith("/api") else "not_ready",
        )

    async def test_a_router_that_is_ending(self, data_port: DataPort, front: Front) -> None:
        data_port.publish()
        data_port.parts.draining = True
        response = await data_port.post(front.path, **front.body())
        assert response.status_code == 503
        assert "shutting down" in said(front, response)[0]

    async def test_a_body_over_the_limit(self, data_port: DataPort, front: Front) -> None:
        data_port.publish()
        response = await data_port.post(front.path, **front.body("x" * 100_001))
        assert response.status_code == 413
        message, code = said(front, response)
        assert "100000 bytes (LLM_ROUTER_MAX_BODY_BYTES)" in message
        assert code in (None, "too_large")

    async def test_the_deadline(
        self, data_port: DataPort, ollama_simulator: Simulator, front: Front
    ) -> None:
        ollama_simulator.behaviour = Behaviour(mode="hang-before-headers")
        timeouts = Timeouts(total=0.2)
        data_port.publish(route(MODEL, ollama(url(ollama_simulator)), timeouts=timeouts))
        response = await data_port.post(front.path, **front.body())
        assert response.status_code == 504
        message, code = said(front, response)
        assert message.startswith("model 'phi3:mini' was not answered within 0.2 s: ")
        assert code in (None, "timeout")

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
    async def test_another_method(self, data_port: DataPort, front: Front, method: str) -> None:
        response = await data_port.client.request(method, front.path)
        assert response.status_code == 405
        assert response.headers["allow"] == "POST"
        assert said(front, response)[0] == f"{method} {front.path} is not served; use POST"

    @pytest.mark.parametrize(
        ("path", "ollamas"),
        [
            ("/api/no", True),
            ("/v1/responses", False),
            ("/v1/chat/completions/", False),
            ("/metrics", False),
            ("/status", False),
        ],
    )
    async def test_another_path(self, data_port: DataPort, path: str, ollamas: bool) -> None:
        response = await data_port.post(path, **chat_body())
        assert response.status_code == 404
        error = response.json()["error"]
        message = error if ollamas else error["message"]
        assert message == f"{path} is not served by this router"

    async def test_a_query_is_no_matter(
        self, data_port: DataPort, ollama_simulator: Simulator, front: Front
    ) -> None:
        data_port.publish(route(MODEL, ollama(url(ollama_simulator))))
        response = await data_port.post(f"{front.path}?beta=true", **front.body())
        assert response.status_code == 200

    async def test_a_websocket_is_not_served(self, data_port: DataPort) -> None:
        asked = {
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        response = await data_port.client.get("/v1/chat/completions", headers=asked)
        assert response.status_code == 405
        assert "upgrade" not in response.headers


class TestDefaultOllama:
    async def test_gets_models_that_no_route_names(
        self, data_port: DataPort, ollama_simulator: Simulator, front: Front
    ) -> None:
        data_port.parts.default_ollama_url = url(ollama_simulator)
        data_port.publish()
        response = await data_port.post(front.path, **front.body(stream=False))
        assert front.text(response.json()) == SAID_OLLAMA
        assert response.headers["x-llm-backend"] == "default/ollama"

    async def test_is_not_asked_for_a_routed_one(
        self, data_port: DataPort, ollama_simulator: Simulator, mlx_simulator: Simulator
    ) -> None:
        data_port.parts.default_ollama_url = url(ollama_simulator)
        mlx_simulator.behaviour = Behaviour(mode="status:500")
        data_port.publish(route(MODEL, mlx(url(mlx_simulator))))
        response = await data_port.post("/generate", **prompt_body())
        assert response.status_code == 502
        assert ollama_simulator.count() == 0

    async def test_its_404_is_the_clients(
        self, data_port: DataPort, ollama_simulator: Simulator
    ) -> None:
        data_port.parts.default_ollama_url = url(ollama_simulator)
        data_port.publish()
        response = await data_port.post("/api/chat", **chat_body() | {"model": "nope"})
        assert response.status_code == 404

    async def test_a_models_name_cannot_make_a_header(self, data_port: DataPort) -> None:
        # NB: no Ollama has such a model, but whatever stands at that address may say it has.
        anything = await serve(
            Kind.OLLAMA, host="127.0.0.1", port=0, behaviour=Behaviour(), models=("*",)
        )
        data_port.parts.default_ollama_url = url(anything)
        data_port.publish()
        body = prompt_body(stream=False) | {"model": "a\r\nset-cookie: x=ä"}
        response = await data_port.post("/api/generate", **body)
        assert response.status_code == 200
        await anything.close()
        assert response.headers["x-llm-upstream-model"] == "a%0D%0Aset-cookie:%20x%3D%C3%A4"


class TestMetrics:
    async def test_count_what_happened(
        self, data_port: DataPort, ollama_simulator: Simulator, front: Front
    ) -> None:
        away = f"http://127.0.0.1:{free_port()}"
        data_port.publish(route(MODEL, mlx(away), ollama(url(ollama_simulator))))
        await data_port.post(front.path, **front.body(stream=True))
        await data_port.post(front.path, **front.body(stream=False))
        await data_port.post(front.path, **front.body() | {"model": "unknown-1"})
        ollama_simulator.behaviour = Behaviour(mode="status:500")
        await data_port.post(front.path, **front.body())
        data_port.parts.recorder.flush()
        value = data_port.parts.metrics.registry.get_sample_value
        name = {
            "/v1/chat/completions": "openai_chat",
            "/v1/completions": "openai_completions",
            "/api/chat": "ollama_chat",
            "/api/generate": "ollama_generate",
            "/generate": "generate",
        }[front.path]

        def requests(outcome: str, model: str, target_type: str) -> float | None:
            labels = {"outcome": outcome, "model": model, "target_type": target_type}
            return value("llm_router_requests_total", labels | {"front": name})

        def failures(target: str, cause: str) -> float | None:
            labels = {"model": MODEL, "target": target, "cause": cause}
            return value("llm_router_attempt_failures_total", labels)

        assert requests("ok", MODEL, "ollama") == 2
        assert requests("error", MODEL, "") == 1
        assert requests("error", "other", "") == 1, "a client can't make a label"
        assert failures("mlx", "ConnectFailure") == 3
        assert failures("ollama", "ServerError") == 1
        timed = {"model": MODEL, "target_type": "ollama"}
        assert value("gen_ai_server_request_duration_seconds_count", timed) == 2
        assert value("gen_ai_server_time_to_first_token_seconds_count", timed) == 2
        assert value("llm_router_active_requests") == 0

    async def test_a_client_cannot_make_series(self, data_port: DataPort, front: Front) -> None:
        data_port.publish()
        for number in range(20):
            await data_port.post(front.path, **front.body() | {"model": f"m{number}"})
        data_port.parts.recorder.flush()
        text = data_port.parts.metrics.render().decode()
        assert "m19" not in text
        assert 'model="other"' in text


async def test_a_request_keeps_the_table_it_began_with(
    data_port: DataPort, ollama_simulator: Simulator
) -> None:
    data_port.publish(route(MODEL, ollama(url(ollama_simulator))))
    before = data_port.parts.follower.table
    assert before is not None
    ollama_simulator.behaviour = Behaviour(ttft_ms=100)
    asked = asyncio.create_task(data_port.post("/generate", **prompt_body()))
    await eventually_async(lambda: ollama_simulator.count() == 1, within=1, every=0.005)
    data_port.publish()
    response = await asked
    assert response.status_code == 200
    assert response.headers["x-llm-config"] == before.checksum[:12]


def test_the_fronts_are_those_of_the_router() -> None:
    # Embeddings, which have no text and no stream, have tests of their own.
    embedding = {"/v1/embeddings", "/api/embed", "/api/embeddings"}
    assert {front.path for front in FRONTS.values()} | embedding == set(ROUTES)


class TestOwnFault:
    """A fault of the router itself: it is told and logged, and never looks like a whole answer."""

    async def test_before_the_answer_is_500(
        self,
        data_port: DataPort,
        ollama_simulator: Simulator,
        front: Front,
        mocker: MockerFixture,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        ollama_simulator.behaviour = Behaviour(tokens_per_second=50)
        data_port.publish(route(MODEL, ollama(url(ollama_simulator))))
        mocker.patch.object(type(ROUTES[front.path]), "encoder", side_effect=RuntimeError("canary"))
        for stream in (True, False):
            response = await data_port.post(front.path, **front.body(stream=stream))
            assert response.status_code == 500
            message, code = said(front, response)
            assert response.headers["x-request-id"] in message
            assert "canary" not in message
            assert code in (None, "internal_error")
        assert "canary" in caplog.text
        # The generation of the one that streamed is ended, with its connection.
        await eventually_async(lambda: ollama_simulator.count(Outcome.CANCELLED) == 1, within=1)

    async def test_in_a_stream_is_no_end(
        self,
        data_port: DataPort,
        ollama_simulator: Simulator,
        front: Front,
        mlx_simulator: Simulator,
        mocker: MockerFixture,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        # NB: a host of the client's own protocol would need no encoder.
        of_mlx = front.path.startswith("/api")
        simulator = mlx_simulator if of_mlx else ollama_simulator
        simulator.behaviour = Behaviour(tokens_per_second=50, tokens=50)
        target = mlx(url(simulator)) if of_mlx else ollama(url(simulator))
        data_port.publish(route(MODEL, target))
        encoder = mocker.Mock()
        encoder.delta.side_effect = [b"{}\n", b"{}\n", RuntimeError("canary")]
        mocker.patch.object(type(ROUTES[front.path]), "encoder", return_value=encoder)
        with pytest.raises(httpx.RemoteProtocolError):
            await data_port.post(front.path, **front.body(stream=True))
        await eventually_async(lambda: simulator.count(Outcome.CANCELLED) == 1, within=1)
        assert "canary" in caplog.text
        # NB: it is not the host's fault.
        assert not data_port.standing(target).doubted
        (record,) = data_port.records()
        assert (record.outcome, record.error) == ("broken", "internal_error")
