"""The official `openai` and `ollama` clients, unchanged: every call they have that a router serves.

Sync and async, against simulated hosts that can do what the tests' tiny models can't; see
`tests/integration/test_router_hosts.py` for the real ones. An error of each class is raised as the
client's own exception.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import ollama as ollama_sdk
import openai
import pydantic
import pytest

from conformance.asking import PNG, RESULT, TOOL
from conformance.hosts import MODELS, Hosts
from conformance.matrix import TARGETS
from llm_contract import Target, TargetType, Timeouts
from parts.process import free_port
from parts.router import Router, route

TURNS: list[Any] = [{"role": "user", "content": "hi"}]
CALLING: list[Any] = [{"role": "user", "content": "use the tool"}]
TOOLS: list[Any] = [TOOL]
#: Types of hosts that have embeddings.
VECTORS = ("ollama", "openai")

#: How the host fails -> the status of the router's error.
FAILURES = {
    "status:429": 429,
    "status:500": 502,
    "status:503": 503,
    "status:400": 400,
    "status:401": 502,
    "refuse-model": 404,
    "close-without-response": 502,
    "hang-before-headers": 504,
}

EXCEPTION: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    404: openai.NotFoundError,
    429: openai.RateLimitError,
    502: openai.InternalServerError,
    503: openai.InternalServerError,
    504: openai.InternalServerError,
}


class Weather(pydantic.BaseModel):
    """What a structured answer holds."""

    answer: str


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with Hosts.started() as started:
        yield started


@pytest.fixture
def routed(router: Router, hosts: Hosts) -> Router:
    """The router with a model on each host."""
    hosts.behave()
    made = {
        each: Target(name=each, type=TargetType(each), url=hosts.url(each), model=MODELS[each])
        for each in TARGETS
    }
    router.publish(*(route(f"on-{each}", made[each]) for each in TARGETS))
    return router


@pytest.fixture
def failing(router: Router, hosts: Hosts) -> Router:
    """The router with one model, `m`, that waits but a moment for its host."""
    target = Target(name="mlx", type=TargetType.MLX, url=hosts.url("mlx"), model=MODELS["mlx"])
    router.publish(route("m", target, timeouts=Timeouts(total=0.3)))
    return router


class TestOpenAI:
    @pytest.fixture
    def client(self, routed: Router) -> Iterator[openai.OpenAI]:
        with openai.OpenAI(base_url=f"{routed.url}/v1", api_key="none", max_retries=0) as made:
            yield made

    @pytest.fixture
    async def later(self, routed: Router) -> AsyncIterator[openai.AsyncOpenAI]:
        base_url = f"{routed.url}/v1"
        async with openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as made:
            yield made

    @pytest.mark.parametrize("target", TARGETS)
    def test_tools_and_their_result(self, client: openai.OpenAI, target: str) -> None:
        model = f"on-{target}"
        whole = client.chat.completions.create(model=model, messages=CALLING, tools=TOOLS)
        (choice,) = whole.choices
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls is not None
        (call,) = choice.message.tool_calls
        assert call.type == "function"
        assert call.function.name == "weather"
        assert set(json.loads(call.function.arguments)) == {"city"}
        said = choice.message.model_dump(exclude_none=True)
        told = {"role": "tool", "tool_call_id": call.id, "content": RESULT}
        asking = {"role": "user", "content": "and?"}
        turns: list[Any] = [*CALLING, said, told, asking]
        assert (
            client.chat.completions.create(model=model, messages=turns).choices[0].message.content
        )

    @pytest.mark.parametrize("target", TARGETS)
    def test_tools_streamed(self, client: openai.OpenAI, target: str) -> None:
        asked: dict[str, Any] = {"messages": CALLING, "tools": TOOLS}
        with client.chat.completions.stream(model=f"on-{target}", **asked) as stream:
            events = [event.type for event in stream]
            final = stream.get_final_completion()
        assert "tool_calls.function.arguments.done" in events
        assert final.choices[0].finish_reason == "tool_calls"
        calls = final.choices[0].message.tool_calls
        assert calls is not None
        assert set(json.loads(calls[0].function.arguments)) == {"city"}

    @pytest.mark.parametrize("target", TARGETS)
    async def test_tools_streamed_later(self, later: openai.AsyncOpenAI, target: str) -> None:
        asked: dict[str, Any] = {"messages": CALLING, "tools": TOOLS}
        async with later.chat.completions.stream(model=f"on-{target}", **asked) as stream:
            final = await stream.get_final_completion()
        calls = final.choices[0].message.tool_calls
        assert calls is not None
        assert calls[0].function.name == "weather"

    @pytest.mark.parametrize("target", VECTORS)
    def test_a_structured_answer(self, client: openai.OpenAI, target: str) -> None:
        answer = client.chat.completions.parse(
            model=f"on-{target}", messages=TURNS, response_format=Weather
        )
        assert isinstance(answer.choices[0].message.parsed, Weather)

    @pytest.mark.parametrize("target", TARGETS)
    @pytest.mark.parametrize("stream", [False, True])
    async def test_text_completions(
        self, later: openai.AsyncOpenAI, target: str, stream: bool
    ) -> None:
        made: Any = await later.completions.create(
            model=f"on-{target}", prompt="hi", max_tokens=3, stream=stream
        )
        if not stream:
            assert (made.object, made.choices[0].finish_reason) == ("text_completion", "length")
            assert made.usage.completion_tokens == 3
            return
        chunks = [chunk async for chunk in made]
        assert "".join(chunk.choices[0].text for chunk in chunks).strip()
        assert chunks[-1].choices[0].finish_reason == "length"

    @pytest.mark.parametrize("target", VECTORS)
    def test_embeddings(self, client: openai.OpenAI, target: str) -> None:
        # NB: without a format the client asks for base64 and unpacks it itself.
        model = f"on-{target}"
        packed = client.embeddings.create(model=model, input=["a", "b"])
        plain = client.embeddings.create(model=model, input=["a", "b"], encoding_format="float")
        assert [one.index for one in packed.data] == [0, 1]
        assert packed.model == model
        for one, other in zip(packed.data, plain.data, strict=True):
            assert one.embedding == pytest.approx(other.embedding, abs=1e-6)

    @pytest.mark.parametrize("target", VECTORS)
    async def test_embeddings_later(self, later: openai.AsyncOpenAI, target: str) -> None:
        made = await later.embeddings.create(model=f"on-{target}", input="a", dimensions=2)
        assert len(made.data[0].embedding) == 2

    async def test_models(self, client: openai.OpenAI, later: openai.AsyncOpenAI) -> None:
        names = {f"on-{target}" for target in TARGETS}
        assert {model.id for model in client.models.list()} == names
        assert {model.id async for model in later.models.list()} == names
        assert client.models.retrieve("on-mlx").object == "model"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("nope")

    @pytest.mark.parametrize("mode", FAILURES)
    def test_a_failing_host(self, failing: Router, hosts: Hosts, mode: str) -> None:
        hosts.behave(mode=mode)
        client = openai.OpenAI(base_url=f"{failing.url}/v1", api_key="none", max_retries=0)
        with client, pytest.raises(EXCEPTION[FAILURES[mode]]) as caught:
            client.chat.completions.create(model="m", messages=TURNS)
        assert caught.value.status_code == FAILURES[mode]
        assert isinstance(caught.value.code, str)
        assert caught.value.request_id

    @pytest.mark.parametrize("mode", ["cut-mid-stream:2", "no-done"])
    def test_a_broken_stream_raises(self, failing: Router, hosts: Hosts, mode: str) -> None:
        hosts.behave(mode=mode)
        client = openai.OpenAI(base_url=f"{failing.url}/v1", api_key="none", max_retries=0)
        with client:
            stream = client.chat.completions.create(model="m", messages=TURNS, stream=True)
            with stream, pytest.raises(openai.APIError, match="broke off"):
                list(stream)

    def test_what_a_host_can_t_do_is_a_bad_request(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="embeddings: a host of type mlx"):
            client.embeddings.create(model="on-mlx", input="a")

    def test_a_slow_host_is_a_timeout(self, failing: Router, hosts: Hosts) -> None:
        hosts.behave(mode="hang-before-headers")
        client = openai.OpenAI(
            base_url=f"{failing.url}/v1", api_key="none", max_retries=0, timeout=0.1
        )
        with client, pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(model="m", messages=TURNS)

    def test_no_router_is_a_connection_error(self) -> None:
        url = f"http://127.0.0.1:{free_port()}/v1"
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        with client, pytest.raises(openai.APIConnectionError):
            client.models.list()


class TestOllama:
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

    @pytest.mark.parametrize("target", TARGETS)
    def test_tools_and_their_result(self, client: ollama_sdk.Client, target: str) -> None:
        model = f"on-{target}"
        said = client.chat(model, CALLING, tools=TOOLS).message
        assert said.tool_calls is not None
        assert said.tool_calls[0].function.name == "weather"
        assert set(said.tool_calls[0].function.arguments) == {"city"}
        told = {"role": "tool", "tool_name": "weather", "content": RESULT}
        turns: list[Any] = [*CALLING, said, told, {"role": "user", "content": "and?"}]
        assert client.chat(model, turns).message.content

    @pytest.mark.parametrize("target", TARGETS)
    async def test_tools_streamed_later(self, later: ollama_sdk.AsyncClient, target: str) -> None:
        stream = await later.chat(f"on-{target}", CALLING, tools=TOOLS, stream=True)
        parts = [part async for part in stream]
        calls = [call for part in parts for call in part.message.tool_calls or ()]
        assert [call.function.name for call in calls] == ["weather"]
        assert parts[-1].done

    @pytest.mark.parametrize("target", ["ollama", "mlx"])
    def test_thinking(self, client: ollama_sdk.Client, hosts: Hosts, target: str) -> None:
        hosts.behave(thinking=True)
        said = client.chat(f"on-{target}", TURNS, think=True).message
        assert said.thinking
        assert said.content

    @pytest.mark.parametrize("target", VECTORS)
    def test_a_structured_answer(self, client: ollama_sdk.Client, target: str) -> None:
        said = client.chat(f"on-{target}", TURNS, format=Weather.model_json_schema()).message
        assert Weather.model_validate_json(said.content or "")

    @pytest.mark.parametrize("target", VECTORS)
    async def test_an_image(self, later: ollama_sdk.AsyncClient, target: str) -> None:
        said = await later.generate(f"on-{target}", "what?", images=[PNG])
        assert said.response

    @pytest.mark.parametrize("target", VECTORS)
    async def test_embeddings(
        self, client: ollama_sdk.Client, later: ollama_sdk.AsyncClient, target: str
    ) -> None:
        model = f"on-{target}"
        assert len(client.embed(model, ["a", "b"]).embeddings) == 2
        assert len((await later.embed(model, "a")).embeddings) == 1
        assert client.embeddings(model, "a").embedding
        assert (await later.embeddings(model, "a")).embedding

    async def test_lists(self, client: ollama_sdk.Client, later: ollama_sdk.AsyncClient) -> None:
        names = {f"on-{target}" for target in TARGETS}
        for listed in (client.list(), await later.list()):
            assert {model.model for model in listed.models} == names
        for running in (client.ps(), await later.ps()):
            assert {model.model for model in running.models} <= names
        for shown in (client.show("on-mlx"), await later.show("on-mlx")):
            assert "completion" in (shown.capabilities or [])

    @pytest.mark.parametrize("mode", FAILURES)
    async def test_a_failing_host(self, failing: Router, hosts: Hosts, mode: str) -> None:
        hosts.behave(mode=mode)
        sync, later = ollama_sdk.Client(failing.url), ollama_sdk.AsyncClient(failing.url)
        with contextlib.closing(sync._client), pytest.raises(ollama_sdk.ResponseError) as caught:
            sync.chat("m", TURNS)
        assert caught.value.status_code == FAILURES[mode]
        assert caught.value.error
        async with contextlib.aclosing(later._client):
            with pytest.raises(ollama_sdk.ResponseError):
                await later.generate("m", "hi", stream=False)

    @pytest.mark.parametrize("mode", ["cut-mid-stream:2", "no-done"])
    def test_a_broken_stream_raises(self, failing: Router, hosts: Hosts, mode: str) -> None:
        hosts.behave(mode=mode)
        client = ollama_sdk.Client(failing.url)
        with (
            contextlib.closing(client._client),
            pytest.raises(ollama_sdk.ResponseError, match="broke off"),
        ):
            list(client.chat("m", TURNS, stream=True))

    @pytest.mark.parametrize("call", ["pull", "push", "delete"])
    def test_what_changes_a_host_is_forbidden(self, client: ollama_sdk.Client, call: str) -> None:
        with pytest.raises(ollama_sdk.ResponseError) as caught:
            getattr(client, call)("on-mlx")
        assert caught.value.status_code == 403

    def test_what_a_host_can_t_do_is_a_response_error(self, client: ollama_sdk.Client) -> None:
        for call in (client.embed, client.embeddings):
            with pytest.raises(ollama_sdk.ResponseError, match="embeddings: a host of") as caught:
                call("on-mlx", "a")
            assert caught.value.status_code == 400

    def test_a_slow_host_is_a_timeout(self, failing: Router, hosts: Hosts) -> None:
        hosts.behave(mode="hang-before-headers")
        client = ollama_sdk.Client(failing.url, timeout=0.1)
        with contextlib.closing(client._client), pytest.raises(httpx.ReadTimeout):
            client.chat("m", TURNS)

    def test_no_router_is_a_connection_error(self) -> None:
        client = ollama_sdk.Client(f"http://127.0.0.1:{free_port()}")
        with contextlib.closing(client._client), pytest.raises(ConnectionError):
            client.list()
