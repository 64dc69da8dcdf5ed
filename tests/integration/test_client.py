"""The client library against a router process: the predecessor's contract, each of the
predecessor's faults, and what it never had.

The hosts are simulated, whose journals say what reached them; the last tests ask the real ones.
"""

import asyncio
import gc
import logging
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from llm_contract import Defaults, Timeouts
from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.server import Simulator
from llm_router import (
    InvalidRequest,
    LLMRouter,
    LLMRouterError,
    ModelNotFound,
    Piece,
    UpstreamFailed,
    get_llm_router,
)
from llm_router.client import router as client_router
from parts.asking import of_mlx, of_ollama
from parts.mlx import Mlx
from parts.ollama import Ollama
from parts.process import free_port
from parts.proxy import Proxy
from parts.router import DataPort, Router, mlx, ollama, route

MODEL = "phi3:mini"
MLX_ID = "mlx-community/Phi-3-mini-4k-instruct-4bit"
SECRET = "the prompt that no log may hold"
TURNS = [{"role": "user", "content": "hello"}]
#: Simulated models call a tool when they are told so.
ASKING_FOR_A_TOOL = [{"role": "user", "content": "use the tool"}]
LIGHTS = {
    "type": "function",
    "function": {
        "name": "lights",
        "description": "Switch the lights.",
        "parameters": {"type": "object", "properties": {"room": {"type": "string"}}},
    },
}


@pytest.fixture
async def client(router: Router) -> AsyncIterator[LLMRouter]:
    async with LLMRouter(url=router.url) as made:
        yield made


@pytest.fixture(params=["ollama", "mlx"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def simulator(
    router: Router, kind: str, ollama_simulator: Simulator, mlx_simulator: Simulator
) -> Simulator:
    """The one host of `phi3:mini`, of either kind, with the predecessor's defaults."""
    defaults = Defaults(max_tokens=2048, temperature=0.7)
    if kind == "ollama":
        router.publish(route(MODEL, of_ollama(ollama_simulator), defaults=defaults))
        return ollama_simulator
    router.publish(route(MODEL, of_mlx(mlx_simulator, model=MLX_ID), defaults=defaults))
    return mlx_simulator


def got(simulator: Simulator) -> dict[str, Any]:
    """The body of the last request of a caller that reached a host."""
    bodies = [one.body for one in simulator.requests if "x-request-id" in one.headers]
    body = bodies[-1]
    assert isinstance(body, dict)
    return body


def sampling(body: dict[str, Any]) -> dict[str, Any]:
    """Temperature and limit, by the names that mlx_lm.server has for them."""
    options = body.get("options", body)
    limit = options.get("num_predict", options.get("max_tokens"))
    return {"temperature": options.get("temperature"), "max_tokens": limit}


async def read(stream: AsyncIterator[Piece]) -> list[str]:
    return [str(piece) async for piece in stream]


# The predecessor's contract.


async def test_the_predecessor_s_call(client: LLMRouter, simulator: Simulator, kind: str) -> None:
    result = await client.generate(MODEL, "hello", 0.5, 20, "r-1", "s", "u", "z", "i")
    model = MODEL if kind == "ollama" else MLX_ID
    assert result["response"] == f"Simulated {kind} answers {model}: hello"
    assert (result["backend"], result["model"], result["done"]) == (kind, MODEL, True)
    assert isinstance(result["total_duration"], int)
    assert result["total_duration"] > 0
    assert result["eval_count"] == 6
    assert sampling(got(simulator)) == {"temperature": 0.5, "max_tokens": 20}
    assert result.request_id == "r-1"


async def test_what_is_not_set_is_the_configuration_s(
    client: LLMRouter, simulator: Simulator
) -> None:
    await client.generate(MODEL, "hello")
    assert sampling(got(simulator)) == {"temperature": 0.7, "max_tokens": 2048}


async def test_temperature_0_reaches_the_host(client: LLMRouter, simulator: Simulator) -> None:
    for zero in (0, 0.0):
        await client.generate(MODEL, "hello", temperature=zero)
        assert sampling(got(simulator))["temperature"] == 0
    await client.generate(MODEL, "hello", temperature=0, top_p=0.5)
    assert sampling(got(simulator))["temperature"] == 0
    await client.chat(MODEL, TURNS, temperature=0)
    assert sampling(got(simulator))["temperature"] == 0


async def test_max_tokens_0_reaches_the_host(
    client: LLMRouter, simulator: Simulator, kind: str
) -> None:
    if kind == "mlx":
        # That host refuses it. It must be the host who does, and nobody who makes 2048 of it.
        with pytest.raises(InvalidRequest, match="max_tokens must be at least 1"):
            await client.generate(MODEL, "hello", max_tokens=0)
    else:
        await client.generate(MODEL, "hello", max_tokens=0)
    assert sampling(got(simulator))["max_tokens"] == 0


async def test_a_fallback_goes_where_the_configuration_says(
    client: LLMRouter, router: Router, ollama_simulator: Simulator
) -> None:
    away = mlx(f"http://127.0.0.1:{free_port()}")
    router.publish(route(MODEL, away, of_ollama(ollama_simulator)))
    result = await client.generate(MODEL, "hello")
    assert result["backend"] == "ollama"
    assert (result.attempts, result.fallback_reason) == (2, "ConnectFailure")
    assert result.served.target == "phi3-mini/ollama"
    assert got(ollama_simulator)["prompt"] == "hello"


async def test_an_mlx_host_is_asked_for_its_own_model(
    client: LLMRouter, router: Router, mlx_simulator: Simulator
) -> None:
    router.publish(route(MODEL, of_mlx(mlx_simulator, model=MLX_ID)))
    result = await client.generate(MODEL, "hello")
    assert got(mlx_simulator)["model"] == MLX_ID
    assert (result.upstream_model, result.model) == (MLX_ID, MODEL)


async def test_the_timeout_is_spent_once(
    client: LLMRouter, router: Router, ollama_simulator: Simulator, mlx_simulator: Simulator
) -> None:
    seconds = 4
    mlx_simulator.behaviour = ollama_simulator.behaviour = Behaviour(mode="zombie")
    targets = of_mlx(mlx_simulator), of_ollama(ollama_simulator)
    router.publish(route(MODEL, *targets, timeouts=Timeouts(total=seconds)))
    began = time.monotonic()
    with pytest.raises(UpstreamFailed) as caught:
        await client.generate(MODEL, "hello")
    assert time.monotonic() - began < 2 * seconds
    assert (caught.value.status, caught.value.attempts) == (504, 2)
    assert caught.value.fallback_reason == "FirstTokenTimeout"


async def test_a_failed_request_is_counted(
    client: LLMRouter, router: Router, ollama_simulator: Simulator
) -> None:
    router.publish(route(MODEL, of_ollama(ollama_simulator)))
    await client.generate(MODEL, "hello")
    ollama_simulator.behaviour = Behaviour(mode="status:500")
    with pytest.raises(UpstreamFailed):
        await client.generate(MODEL, "hello")
    with pytest.raises(UpstreamFailed):
        await read(aiter(client.stream_chat(MODEL, TURNS)))
    told = client.report_metrics()
    assert (told["total_requests"], told["errors"]) == (3, 2)
    assert told["by_model"][MODEL]["errors"] == 2
    assert told["by_backend"]["ollama"]["requests"] == 1


async def test_speed_is_of_the_decoding_alone(client: LLMRouter, simulator: Simulator) -> None:
    simulator.behaviour = Behaviour(ttft_ms=1000, tokens=20, tokens_per_second=100)
    result = await client.generate(MODEL, "hello")
    used = result.usage
    assert used.total_seconds is not None
    assert used.decode_seconds is not None
    # The second before the first token is in the one and not in the other.
    assert used.total_seconds - used.decode_seconds >= 0.99
    told = client.report_metrics()
    assert told["avg_tokens_per_second"] == used.tokens_per_second
    assert told["avg_tokens_per_second"] > result["eval_count"] / told["avg_latency_seconds"]


async def test_one_connection_serves_one_call_after_the_other(
    router: Router, make_proxy: Callable[[Any], Proxy], simulator: Simulator
) -> None:
    proxy = make_proxy(("127.0.0.1", router.port))
    async with LLMRouter(url=f"http://127.0.0.1:{proxy.port}") as client:
        for _ in range(5):
            await client.generate(MODEL, "hello")
            await client.chat(MODEL, TURNS)
            await read(aiter(client.stream(MODEL, "hello")))
            with pytest.raises(ModelNotFound):
                await client.generate("nobody:1b", "hello")
    assert proxy.accepted == 1


def tasks() -> set[str]:
    """What runs in this loop, but for the simulated hosts."""
    running = {str(getattr(one.get_coro(), "__qualname__", one)) for one in asyncio.all_tasks()}
    return {name for name in running if not name.startswith("Simulator.")}


async def test_no_proxy_stands_between(
    client: LLMRouter, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert await client.generate(MODEL, "hello")


async def test_no_task_outlives_a_call(client: LLMRouter, simulator: Simulator) -> None:
    before = tasks()
    await client.generate(MODEL, "hello")
    assert tasks() == before
    await read(aiter(client.stream(MODEL, "hello")))
    assert tasks() == before


async def test_a_metrics_window(router: Router, simulator: Simulator) -> None:
    async with LLMRouter(url=router.url, metrics_window_size=2) as client:
        for _ in range(3):
            await client.generate(MODEL, "hello")
        assert client.report_metrics()["total_requests"] == 2


# What the predecessor never had.


async def test_a_stream(client: LLMRouter, simulator: Simulator, kind: str) -> None:
    async with client.stream(MODEL, "hello there", temperature=0, request_id="r-2") as answer:
        pieces = await read(aiter(answer))
    whole = await client.generate(MODEL, "hello there", temperature=0)
    assert len(pieces) > 2
    assert "".join(pieces) == answer.result.text == whole.text
    assert answer.result["eval_count"] == whole["eval_count"]
    assert (answer.request_id, answer.result.request_id) == ("r-2", "r-2")
    assert answer.served.backend == answer.result["backend"] == kind
    # NB: a duration of zero is left out.
    assert set(whole) - set(answer.result) <= {"context", "eval_duration"}


async def test_a_stream_is_not_there_before_it_is_read(
    client: LLMRouter, simulator: Simulator
) -> None:
    answer = client.stream(MODEL, "hello")
    with pytest.raises(RuntimeError, match="not begun"):
        _ = answer.served
    with pytest.raises(RuntimeError, match="not been read"):
        _ = answer.result
    await read(aiter(answer))
    with pytest.raises(RuntimeError, match="read once"):
        await read(aiter(answer))


async def test_line_ends_of_other_alphabets_are_text(
    client: LLMRouter, simulator: Simulator
) -> None:
    odd = "a\u2028b\u2029c\x85d\x0be\x1cf"
    answer = client.stream(MODEL, odd)
    text = "".join(await read(aiter(answer)))
    assert text.endswith(odd)
    assert text == (await client.generate(MODEL, odd)).text


async def test_a_chat_with_a_tool(client: LLMRouter, simulator: Simulator, kind: str) -> None:
    asked = await client.chat(MODEL, ASKING_FOR_A_TOOL, tools=[LIGHTS])
    assert asked.finish_reason == "tool_calls"
    (call,) = asked.tool_calls
    assert call.name == "lights"
    answered = {"role": "tool", "content": "done", "tool_name": call.name}
    if call.id:
        answered["tool_call_id"] = call.id
    result = await client.chat(MODEL, [*ASKING_FOR_A_TOOL, asked.message, answered])
    assert result.text == result["message"]["content"]
    assert result.text.startswith(f"Simulated {kind} answers")
    assert result["backend"] == kind


async def test_a_streamed_chat(client: LLMRouter, simulator: Simulator) -> None:
    answer = client.stream_chat(MODEL, TURNS, max_tokens=50)
    pieces = await read(aiter(answer))
    whole = await client.chat(MODEL, TURNS, max_tokens=50)
    assert "".join(pieces) == answer.result.text == whole.text
    assert answer.result.message == whole.message


async def test_a_streamed_tool_call(client: LLMRouter, simulator: Simulator) -> None:
    answer = client.stream_chat(MODEL, ASKING_FOR_A_TOOL, tools=[LIGHTS])
    calls = [call async for piece in answer for call in piece.tool_calls]
    assert [call.name for call in calls] == ["lights"]
    assert list(answer.result.tool_calls) == calls
    assert answer.result.finish_reason == "tool_calls"


async def test_embeddings(client: LLMRouter, router: Router, ollama_simulator: Simulator) -> None:
    router.publish(route(MODEL, of_ollama(ollama_simulator)))
    result = await client.embed(MODEL, ["one", "two"])
    assert len(result.embeddings) == 2
    assert result["embeddings"] == result.embeddings
    (alone,) = (await client.embed(MODEL, "one")).embeddings
    assert list(alone) == pytest.approx(list(result.embeddings[0]))


async def test_embeddings_that_no_host_has(
    client: LLMRouter, router: Router, mlx_simulator: Simulator
) -> None:
    router.publish(route(MODEL, of_mlx(mlx_simulator)))
    with pytest.raises(InvalidRequest, match="embeddings"):
        await client.embed(MODEL, "one")


async def test_sampling_values_reach_the_host(client: LLMRouter, simulator: Simulator) -> None:
    await client.generate(MODEL, "hello", top_p=0.0, top_k=0, seed=0, stop=["never"])
    body = got(simulator)
    sent = body.get("options", body)
    assert {name: sent.get(name) for name in ("top_p", "top_k", "seed")} == {
        **{"top_p": 0, "top_k": 0, "seed": 0}
    }
    assert sent["stop"] == ["never"]


async def test_what_a_host_has_no_place_for_is_named(
    client: LLMRouter,
    router: Router,
    mlx_simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    router.publish(route(MODEL, of_mlx(mlx_simulator)))
    result = await client.generate(MODEL, "hello", options={"mirostat": 1})
    assert result.dropped == ("options.mirostat",)
    (line,) = [record for record in caplog.records if record.message == "llm_fields_dropped"]
    assert vars(line)["fields"] == ["options.mirostat"]
    assert (await client.generate(MODEL, "hello", top_k=5)).dropped == ()


async def test_an_unknown_argument_is_not_dropped_in_silence(client: LLMRouter) -> None:
    with pytest.raises(TypeError, match="temprature"):
        await client.generate(MODEL, "hello", temprature=0)  # type: ignore[call-arg]
    assert client.report_metrics()["total_requests"] == 0


async def test_ids_are_in_the_usage_record(
    data_port: DataPort, ollama_simulator: Simulator
) -> None:
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    ids = {
        **{"session_id": "s-1", "user_id": "jay", "zone": "Küche", "intent": "lights"},
        **{"source": "gateway", "stage": "classify", "request_id": "r-1"},
    }
    async with LLMRouter(url=data_port.url) as client:
        await client.generate(MODEL, "hello", **ids)  # type: ignore[arg-type]
        await client.chat(MODEL, TURNS, **ids)  # type: ignore[arg-type]
        await read(aiter(client.stream(MODEL, "hello", **ids)))  # type: ignore[arg-type]
        await client.embed(MODEL, "hello", **ids)  # type: ignore[arg-type]
    records = data_port.records()
    assert [record.front for record in records] == [
        *("generate", "ollama_chat", "generate", "ollama_embed"),
    ]
    for record in records:
        assert record.request_id == "r-1"
        caller = record.caller
        assert (caller.session, caller.user, caller.zone) == ("s-1", "jay", "Küche")
        assert (caller.intent, caller.source, caller.stage) == ("lights", "gateway", "classify")


async def test_the_predecessor_s_log_events(
    client: LLMRouter,
    router: Router,
    simulator: Simulator,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    await client.generate(MODEL, SECRET, request_id="r-3")
    lines = [record for record in caplog.records if record.name == "llm_router.client"]
    begun, ended = lines
    assert (begun.message, ended.message) == ("routing_llm_request", "llm_request_completed")
    assert (vars(begun)["model"], vars(begun)["endpoint"]) == (MODEL, router.url)
    assert (vars(ended)["model"], vars(ended)["backend_type"]) == (MODEL, kind)
    assert vars(ended)["duration"] > 0
    assert {vars(line)["request_id"] for line in lines} == {"r-3"}
    simulator.behaviour = Behaviour(mode="status:500")
    with pytest.raises(LLMRouterError) as caught:
        await client.generate(MODEL, SECRET)
    assert caplog.records[-1].message == "llm_request_failed"
    assert vars(caplog.records[-1])["error"] == "UpstreamFailed"
    assert SECRET not in f"{[vars(record) for record in caplog.records]} {caught.value}"


async def test_many_calls_at_once(client: LLMRouter, simulator: Simulator) -> None:
    asked = [client.generate(MODEL, f"number {number}") for number in range(150)]
    answers = await asyncio.gather(*asked)
    assert [answer.text.rsplit(" ", 1)[1] for answer in answers] == [str(n) for n in range(150)]


# One object, used from wherever.


@pytest.fixture
def fresh(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has not called get_llm_router yet."""
    monkeypatch.setattr(client_router, "_singleton", None)
    monkeypatch.setenv("LLM_ROUTER_URL", router.url)


async def ask() -> str:
    result = await get_llm_router().generate(MODEL, "hello")
    assert [piece async for piece in get_llm_router().stream(MODEL, "hello")]
    return str(result["response"])


async def test_there_is_one_router_in_a_process(fresh: None, simulator: Simulator) -> None:
    barrier, found = threading.Barrier(16), []

    def get() -> None:
        barrier.wait(10)
        found.append(get_llm_router())

    threads = [threading.Thread(target=get) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 16
    assert set(map(id, found)) == {id(get_llm_router())}
    assert await ask()
    await get_llm_router().aclose()


async def test_it_may_be_used_from_one_loop_after_the_other(
    fresh: None, simulator: Simulator
) -> None:
    def runs() -> list[str]:
        answers = [asyncio.run(ask()) for _ in range(3)]
        # A connection that outlived its loop would be complained about here.
        gc.collect()
        return answers

    assert len(set(await asyncio.to_thread(runs))) == 1
    assert get_llm_router().report_metrics()["total_requests"] == 6


async def test_it_may_be_used_from_several_loops_at_once(fresh: None, simulator: Simulator) -> None:
    runs = [asyncio.to_thread(asyncio.run, ask()) for _ in range(4)]
    answers = await asyncio.gather(ask(), *runs)
    assert len(set(answers)) == 1
    assert get_llm_router().report_metrics()["total_requests"] == 10
    await get_llm_router().aclose()


async def test_a_loop_that_was_made_by_hand(fresh: None, simulator: Simulator) -> None:
    def runs() -> str:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(ask())
        # NB: what asyncio.run does for its own loop, and whoever makes one by hand has to.
        loop.run_until_complete(get_llm_router().aclose())
        loop.close()
        return asyncio.run(ask())

    assert await asyncio.to_thread(runs)


async def test_a_loop_that_was_closed_in_disorder(fresh: None, simulator: Simulator) -> None:
    def runs() -> str:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(ask())
        loop.close()
        with warnings.catch_warnings(record=True):
            # Its connection could not be closed any more, and asyncio says so.
            warnings.simplefilter("always")
            answer = asyncio.run(ask())
            gc.collect()
        return answer

    assert await asyncio.to_thread(runs)


async def test_closing_is_not_for_ever(client: LLMRouter, simulator: Simulator) -> None:
    first = await client.generate(MODEL, "hello")
    await client.aclose()
    await client.aclose()
    assert (await client.generate(MODEL, "hello")).text == first.text


# The real hosts.


async def test_a_real_ollama(client: LLMRouter, router: Router, ollama_server: Ollama) -> None:
    router.publish(route(MODEL, ollama(ollama_server.url)))
    settled: dict[str, Any] = {"temperature": 0, "seed": 7, "max_tokens": 8}
    whole = await client.generate(MODEL, "hello", **settled)
    assert (whole["backend"], whole.usage.completion_tokens) == ("ollama", 8)
    assert whole.usage.tokens_per_second is not None
    assert whole.finish_reason == "length"
    answer = client.stream(MODEL, "hello", **settled)
    assert "".join(await read(aiter(answer))) == whole.text == answer.result.text
    chat = await client.chat(MODEL, TURNS, **settled)
    streamed = client.stream_chat(MODEL, TURNS, **settled)
    assert "".join(await read(aiter(streamed))) == chat.text
    assert (await client.chat(MODEL, TURNS, format="json", **settled)).usage.prompt_tokens
    (vector,) = (await client.embed(MODEL, "hello")).embeddings
    assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-3)
    loaded = await client.generate(MODEL, "", keep_alive=60)
    assert (loaded.text, loaded.finish_reason) == ("", "load")


async def test_a_real_mlx(client: LLMRouter, router: Router, mlx_server: Mlx) -> None:
    router.publish(route(MODEL, mlx(mlx_server.url)))
    settled: dict[str, Any] = {"temperature": 0, "max_tokens": 8}
    whole = await client.generate(MODEL, "hello", **settled)
    assert (whole["backend"], whole.usage.completion_tokens) == ("mlx", 8)
    assert whole.upstream_model == "default_model"
    answer = client.stream(MODEL, "hello", **settled)
    assert "".join(await read(aiter(answer))) == whole.text == answer.result.text
    chat = await client.chat(MODEL, TURNS, **settled)
    streamed = client.stream_chat(MODEL, TURNS, **settled)
    assert "".join(await read(aiter(streamed))) == chat.text


async def test_from_a_real_mlx_to_a_real_ollama_and_back(
    client: LLMRouter, router: Router, ollama_server: Ollama, mlx_server: Mlx
) -> None:
    router.publish(route(MODEL, mlx(f"http://127.0.0.1:{free_port()}"), ollama(ollama_server.url)))
    assert (await client.generate(MODEL, "hello", max_tokens=4))["backend"] == "ollama"
    router.publish(route(MODEL, mlx(mlx_server.url), ollama(ollama_server.url)))
    assert (await client.generate(MODEL, "hello", max_tokens=4))["backend"] == "mlx"
