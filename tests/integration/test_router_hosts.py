"""The router between real clients and real hosts: Ollama, mlx_lm.server, the official SDKs.

Nothing is simulated here but the hosts of the tests that say so, which need a failure on command.
"""

import base64
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import ollama as ollama_sdk
import openai
import pytest

from llm_contract import ActiveCheck, HealthCheck, PassiveCheck, Timeouts
from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.server import Simulator
from parts.eventually import eventually
from parts.mlx import Mlx
from parts.ollama import Ollama
from parts.router import PLAIN, Router, mlx, ollama, route

AUTO, ON_OLLAMA, ON_MLX = "phi3:mini", "on-ollama", "on-mlx"
TURNS: list[Any] = [{"role": "user", "content": "hi"}]
OPTIONS = {"num_predict": 5, "temperature": 0}
PATHS = ["/v1/chat/completions", "/api/chat", "/api/generate", "/generate"]


@pytest.fixture
def routed(router: Router, ollama_server: Ollama, mlx_server: Mlx) -> Router:
    """The router with a model on each host, and one on both."""
    of_mlx, of_ollama = mlx(mlx_server.url), ollama(ollama_server.url)
    # NB: the first request to a host may load the model.
    timeouts = Timeouts(total=60)
    router.publish(
        route(AUTO, of_mlx, of_ollama, timeouts=timeouts),
        route(ON_OLLAMA, of_ollama, timeouts=timeouts),
        route(ON_MLX, of_mlx, timeouts=timeouts),
    )
    return router


def body(path: str, model: str, *, limit: int = 5, **more: Any) -> dict[str, Any]:
    """A short request with a repeatable answer."""
    asked: dict[str, Any] = {"model": model} | more
    asked |= {"messages": TURNS} if "chat" in path else {"prompt": "hi"}
    if path.startswith("/api"):
        return asked | {"options": {"num_predict": limit, "temperature": 0}}
    return asked | {"max_tokens": limit, "temperature": 0}


def post(router: Router, path: str, asked: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{router.url}{path}", json=asked, timeout=70, **PLAIN)


def text_of(piece: dict[str, Any]) -> str:
    if "choices" in piece:
        said = [choice.get("message") or choice["delta"] for choice in piece["choices"]]
        return "".join(one.get("content") or "" for one in said)
    return str(piece["message"]["content"] if "message" in piece else piece["response"])


def streamed(response: httpx.Response) -> list[dict[str, Any]]:
    if response.headers["content-type"] == "text/event-stream":
        events = [event[6:] for event in response.text.split("\n\n") if event]
        assert events.pop() == "[DONE]"
        return [json.loads(event) for event in events]
    return [json.loads(line) for line in response.text.splitlines()]


async def drained(stream: Any) -> None:
    async for _ in stream:
        pass


class TestFronts:
    @pytest.mark.parametrize("model", [ON_OLLAMA, ON_MLX])
    @pytest.mark.parametrize("path", PATHS)
    def test_answer_whole_and_streamed_alike(self, routed: Router, path: str, model: str) -> None:
        whole = post(routed, path, body(path, model, stream=False))
        assert whole.status_code == 200, whole.text
        said = text_of(whole.json())
        assert said.strip()
        stream = post(routed, path, body(path, model, stream=True))
        assert stream.status_code == 200, stream.text
        pieces = streamed(stream)
        assert len(pieces) > 2
        assert "".join(text_of(piece) for piece in pieces) == said
        for response in (whole, stream):
            assert response.headers["x-llm-backend-type"] == model.removeprefix("on-")
            assert response.headers["x-llm-attempts"] == "1"
        assert whole.json()["model"] == model
        assert {piece["model"] for piece in pieces} == {model}

    @pytest.mark.parametrize("model", [ON_OLLAMA, ON_MLX])
    def test_count_the_tokens_the_host_counted(self, routed: Router, model: str) -> None:
        native = post(routed, "/api/chat", body("/api/chat", model, stream=False)).json()
        assert native["done_reason"] == "length"
        assert native["eval_count"] == 5
        assert native["prompt_eval_count"] > 0
        assert native["total_duration"] >= native["prompt_eval_duration"] > 0
        path = "/v1/chat/completions"
        usage = post(routed, path, body(path, model)).json()["usage"]
        assert usage["completion_tokens"] == 5
        assert usage["prompt_tokens"] == native["prompt_eval_count"]
        unified = post(routed, "/generate", body("/generate", model)).json()
        assert unified["eval_count"] == 5
        assert unified["backend"] == model.removeprefix("on-")
        assert {"response", "backend", "model", "done", "total_duration"} <= set(unified)

    @pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
    def test_an_ollama_client_of_ollama_gets_what_ollama_says(
        self, routed: Router, ollama_server: Ollama, path: str
    ) -> None:
        asked = body(path, AUTO, stream=False)
        direct = httpx.post(f"{ollama_server.url}{path}", json=asked, timeout=60).json()
        through = post(routed, path, asked | {"model": ON_OLLAMA}).json()
        assert set(through) == set(direct)
        for name in direct:
            if name not in ("model", "created_at") and "duration" not in name:
                assert through[name] == direct[name], name

    def test_logprobs_of_ollama_are_whole(self, routed: Router) -> None:
        asked = body("/api/chat", ON_OLLAMA, stream=False, logprobs=True)
        answer = post(routed, "/api/chat", asked).json()
        assert len(answer["logprobs"]) == 5
        assert "".join(one["token"] for one in answer["logprobs"]) == text_of(answer)

    def test_a_model_is_loaded_and_unloaded_through_the_router(
        self, routed: Router, ollama_server: Ollama
    ) -> None:
        def loaded() -> list[str]:
            listed = httpx.get(f"{ollama_server.url}/api/ps", timeout=10).json()["models"]
            return [one["name"] for one in listed]

        for keep_alive, reason in ((0, "unload"), ("5m", "load")):
            for stream in (True, False):
                asked = {"model": AUTO, "keep_alive": keep_alive, "stream": stream}
                answer = post(routed, "/api/generate", asked)
                assert answer.status_code == 200, answer.text
                assert answer.json()["done_reason"] == reason
            eventually(lambda want=reason: ("phi3:mini" in loaded()) is (want == "load"), within=10)

    def test_a_raw_prompt_goes_to_each(self, routed: Router) -> None:
        for model in (ON_OLLAMA, ON_MLX):
            asked = body("/api/generate", model, stream=False, raw=True)
            assert post(routed, "/api/generate", asked).json()["response"].strip()


class TestRefusals:
    """What real hosts say to requests they do not take."""

    def test_tools_on_a_model_without_them(self, routed: Router) -> None:
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        asked = body("/api/chat", ON_OLLAMA, tools=[tool])
        answer = post(routed, "/api/chat", asked)
        assert answer.status_code == 400
        assert "does not support tools" in answer.json()["error"]

    def test_no_tokens_at_all_is_refused_by_mlx_itself(self, routed: Router) -> None:
        # NB: 0 reaches the server as 0; that it takes no 0 is its own word.
        answer = post(routed, "/generate", body("/generate", ON_MLX, limit=0))
        assert answer.status_code == 400
        assert "max_tokens must be at least 1" in answer.json()["error"]["message"]

    @pytest.mark.parametrize("upstream", ["phi3:mini", "phi3", "org/none"])
    def test_a_model_that_mlx_has_not(
        self,
        router: Router,
        mlx_server: Mlx,
        ollama_server: Ollama,
        upstream: str,
    ) -> None:
        wrong = mlx(mlx_server.url, model=upstream)
        router.publish(route("only", wrong), route("both", wrong, ollama(ollama_server.url)))
        assert post(router, "/generate", body("/generate", "only")).status_code == 404
        answer = post(router, "/generate", body("/generate", "both"))
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-llm-fallback-reason"] == "ModelMissing"

    def test_a_model_that_ollama_has_not(self, router: Router, ollama_server: Ollama) -> None:
        router.publish(route("only", ollama(ollama_server.url, model="none:1b")))
        answer = post(router, "/api/chat", body("/api/chat", "only"))
        assert answer.status_code == 404
        assert "'none:1b' not found" in answer.json()["error"]

    def test_an_image_never_reaches_mlx(self, routed: Router) -> None:
        image = base64.b64encode(b"no picture").decode()
        turns = [{"role": "user", "content": "what?", "images": [image]}]
        asked = {"model": ON_MLX, "messages": turns, "stream": False}
        answer = post(routed, "/api/chat", asked)
        assert answer.status_code == 400
        assert "images: a host of type mlx can't do this" in answer.json()["error"]


def test_mlx_killed_is_ollama_and_mlx_again_when_it_is_back(
    router: Router, mlx_server: Mlx, ollama_server: Ollama
) -> None:
    of_mlx, of_ollama = mlx(mlx_server.url), ollama(ollama_server.url)
    active = ActiveCheck(interval=1, timeout=0.5)
    often: dict[str, Any] = {
        "health": HealthCheck(active=active, passive=PassiveCheck(eject=1)),
        "timeouts": Timeouts(total=60),
    }
    router.publish(route(AUTO, of_mlx, of_ollama, **often), route(ON_MLX, of_mlx, **often))

    def types() -> set[str]:
        found = set()
        for path in PATHS:
            for stream in (True, False):
                answer = post(router, path, body(path, AUTO, stream=stream))
                assert answer.status_code == 200, answer.text
                found.add(answer.headers["x-llm-backend-type"])
        return found

    assert types() == {"mlx"}
    try:
        os.kill(mlx_server.pid, signal.SIGKILL)
        mlx_server.stop(crash=True)
        answer = post(router, "/generate", body("/generate", AUTO))
        assert answer.json()["backend"] == "ollama"
        assert answer.headers["x-llm-attempts"] == "2"
        assert answer.headers["x-llm-fallback-reason"] == "ConnectFailure"
        assert types() == {"ollama"}
        # By now it is known to be away, and no request tries it first.

        def passed_over() -> bool:
            answer = post(router, "/generate", body("/generate", AUTO))
            assert answer.json()["backend"] == "ollama"
            return answer.headers["x-llm-fallback-reason"] in {"Ejected", "Unhealthy"}

        eventually(passed_over, within=10)
        assert post(router, "/generate", body("/generate", ON_MLX)).status_code == 502
    finally:
        mlx_server.start()
    eventually(lambda: types() == {"mlx"}, within=15)


class TestOpenAI:
    """The official `openai` client, unchanged but for its base URL."""

    @pytest.fixture
    def client(self, routed: Router) -> Iterator[openai.OpenAI]:
        with openai.OpenAI(base_url=f"{routed.url}/v1", api_key="none", max_retries=0) as made:
            yield made

    @pytest.fixture
    async def later(self, routed: Router) -> AsyncIterator[openai.AsyncOpenAI]:
        base_url = f"{routed.url}/v1"
        async with openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as made:
            yield made

    @pytest.mark.parametrize("model", [AUTO, ON_OLLAMA, ON_MLX])
    def test_whole(self, client: openai.OpenAI, model: str) -> None:
        answer = client.chat.completions.create(
            model=model, messages=TURNS, max_tokens=5, temperature=0
        )
        (choice,) = answer.choices
        assert choice.message.role == "assistant"
        assert choice.message.content
        assert choice.finish_reason == "length"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 5
        assert answer.model == model

    @pytest.mark.parametrize("model", [AUTO, ON_OLLAMA, ON_MLX])
    def test_streamed(self, client: openai.OpenAI, model: str) -> None:
        with client.chat.completions.create(
            model=model,
            messages=TURNS,
            max_tokens=5,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        ) as stream:
            chunks = list(stream)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text.strip()
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 5
        assert len({chunk.id for chunk in chunks}) == 1

    async def test_later_whole_and_streamed(self, later: openai.AsyncOpenAI) -> None:
        for model in (ON_OLLAMA, ON_MLX):
            asked: dict[str, Any] = {
                "model": model,
                "messages": TURNS,
                "max_tokens": 5,
                "temperature": 0,
            }
            whole = await later.chat.completions.create(**asked)
            stream = await later.chat.completions.create(**asked, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            assert text == whole.choices[0].message.content

    def test_headers_say_who_answered(self, client: openai.OpenAI) -> None:
        raw = client.chat.completions.with_raw_response.create(
            model=ON_MLX, messages=TURNS, max_tokens=1
        )
        assert raw.headers["x-llm-backend-type"] == "mlx"
        assert raw.parse().choices

    def test_an_unknown_model_is_not_found(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="nope", messages=TURNS)
        assert caught.value.code == "model_not_found"
        assert caught.value.param == "model"
        assert caught.value.request_id
        assert "model 'nope' not found" in caught.value.message

    def test_a_wrong_field_is_a_bad_request(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(
                model=AUTO,
                messages=[{"role": "robot", "content": "x"}],  # type: ignore[list-item]
            )
        assert caught.value.param == "messages[0].role"

    def test_a_path_that_is_not_served_is_not_found(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match="/v1/responses is not served"):
            client.responses.create(model=AUTO, input="hi")

    @pytest.mark.parametrize(
        ("mode", "error"),
        [
            ("status:429", openai.RateLimitError),
            ("status:503", openai.InternalServerError),
            ("status:500", openai.InternalServerError),
            ("hang-before-headers", openai.InternalServerError),
        ],
    )
    async def test_a_failing_host(
        self,
        router: Router,
        later: openai.AsyncOpenAI,
        mlx_simulator: Simulator,
        mode: str,
        error: type[openai.APIStatusError],
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode=mode)
        of_mlx = mlx(f"http://127.0.0.1:{mlx_simulator.port}")
        router.publish(route("m", of_mlx, timeouts=Timeouts(total=0.3)))
        with pytest.raises(error) as caught:
            await later.chat.completions.create(model="m", messages=TURNS)
        status = caught.value.status_code
        assert status == {"status:429": 429, "status:503": 503, "status:500": 502}.get(mode, 504)

    async def test_a_stream_that_breaks_raises_and_does_not_just_stop(
        self, router: Router, later: openai.AsyncOpenAI, mlx_simulator: Simulator
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode="cut-mid-stream:2", tokens_per_second=50)
        router.publish(route("m", mlx(f"http://127.0.0.1:{mlx_simulator.port}")))
        stream = await later.chat.completions.create(model="m", messages=TURNS, stream=True)
        assert (await anext(stream)).choices
        with pytest.raises(openai.APIError, match="the answer broke off: mlx"):
            await drained(stream)
        await stream.close()


class TestOllama:
    """The official `ollama` client, unchanged but for its host."""

    @pytest.fixture
    def client(self, routed: Router) -> Iterator[ollama_sdk.Client]:
        made = ollama_sdk.Client(host=routed.url)
        with contextlib.closing(made._client):
            yield made

    @pytest.fixture
    async def later(self, routed: Router) -> AsyncIterator[ollama_sdk.AsyncClient]:
        made = ollama_sdk.AsyncClient(host=routed.url)
        async with contextlib.aclosing(made._client):
            yield made

    @pytest.mark.parametrize("model", [AUTO, ON_OLLAMA, ON_MLX])
    def test_chat(self, client: ollama_sdk.Client, model: str) -> None:
        whole = client.chat(model, TURNS, options=OPTIONS)
        assert whole.message.content
        assert (whole.done, whole.done_reason, whole.eval_count) == (True, "length", 5)
        # NB: an answer that came in one piece has no time between its tokens, and says none.
        assert whole.eval_duration is None or whole.eval_duration > 0
        assert whole.total_duration
        parts = list(client.chat(model, TURNS, options=OPTIONS, stream=True))
        assert "".join(part.message.content or "" for part in parts) == whole.message.content
        assert [part.done for part in parts[-2:]] == [False, True]

    @pytest.mark.parametrize("model", [AUTO, ON_OLLAMA, ON_MLX])
    def test_generate(self, client: ollama_sdk.Client, model: str) -> None:
        whole = client.generate(model, "hi", options=OPTIONS)
        assert whole.response
        parts = list(client.generate(model, "hi", options=OPTIONS, stream=True))
        assert "".join(part.response for part in parts) == whole.response

    async def test_later(self, later: ollama_sdk.AsyncClient) -> None:
        for model in (ON_OLLAMA, ON_MLX):
            whole = await later.chat(model, TURNS, options=OPTIONS)
            stream = await later.chat(model, TURNS, options=OPTIONS, stream=True)
            text = "".join([part.message.content or "" async for part in stream])
            assert text == whole.message.content
            said = await later.generate(model, "hi", options=OPTIONS)
            assert said.response

    def test_an_unknown_model_is_a_response_error(self, client: ollama_sdk.Client) -> None:
        for call in (lambda: client.chat("nope", TURNS), lambda: client.generate("nope", "hi")):
            with pytest.raises(ollama_sdk.ResponseError) as caught:
                call()
            assert caught.value.status_code == 404
            assert caught.value.error == "model 'nope' not found"

    def test_pulling_a_model_is_a_response_error(self, client: ollama_sdk.Client) -> None:
        with pytest.raises(ollama_sdk.ResponseError, match=r"the router|this router"):
            client.pull("phi3:mini")

    async def test_a_stream_that_breaks_raises_and_does_not_just_stop(
        self, router: Router, later: ollama_sdk.AsyncClient, mlx_simulator: Simulator
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode="cut-mid-stream:2", tokens_per_second=50)
        router.publish(route("m", mlx(f"http://127.0.0.1:{mlx_simulator.port}")))
        stream = await later.chat("m", TURNS, stream=True)
        assert (await anext(stream)).message.content  # type: ignore[call-overload]
        with pytest.raises(ollama_sdk.ResponseError, match="the answer broke off: mlx"):
            await drained(stream)
