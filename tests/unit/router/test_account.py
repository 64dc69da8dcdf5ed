"""The record of a request: who answered, what it took, and what is said when nobody did."""

import asyncio
from dataclasses import replace

import pytest

from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.server import Simulator
from llm_router.usage import Outcome, Record
from parts.asking import of_mlx, of_ollama
from parts.eventually import eventually_async
from parts.process import free_port
from parts.router import DataPort, ollama, route

MODEL = "phi3:mini"
TURNS = [{"role": "user", "content": "hello there"}]


async def recorded(port: DataPort, path: str = "/api/chat", **more: object) -> Record:
    """The record of one request."""
    before = len(port.records())
    await port.post(path, **{"model": MODEL, "messages": TURNS, "stream": False} | more)
    (record,) = port.records()[before:]
    return record


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_an_answer(
    data_port: DataPort, mlx_simulator: Simulator, path: str, stream: bool
) -> None:
    mlx_simulator.behaviour = Behaviour(ttft_ms=60, tokens_per_second=100)
    data_port.publish(route(MODEL, of_mlx(mlx_simulator)))
    record = await recorded(data_port, path, stream=stream)
    assert (record.outcome, record.status, record.error) == (Outcome.OK, 200, "")
    assert (record.model, record.route, record.route_uid) == (MODEL, "phi3-mini", f"uid-of-{MODEL}")
    assert (record.target, record.backend_type) == ("mlx", "mlx")
    assert record.upstream_model == "default_model"
    assert record.front == {"/api/chat": "ollama_chat"}.get(path, "openai_chat")
    assert (record.kind, record.stream, record.generation) == ("chat", stream, 1)
    assert (record.attempts, record.fallback_reason, record.failures) == (1, "", ())
    measures = record.measures
    # NB: the stop token is counted.
    assert (measures.prompt_tokens, measures.completion_tokens) == (6, 7)
    assert measures.counted == "host"
    assert measures.first_token_seconds is not None
    assert 0.06 <= measures.first_token_seconds < 0.5
    assert measures.decode_tokens_per_second is not None
    assert 30 < measures.decode_tokens_per_second < 150, "by the time after the first token alone"
    assert record.total_seconds >= measures.first_token_seconds


async def test_what_failed_before_it(data_port: DataPort, ollama_simulator: Simulator) -> None:
    away = ollama(f"http://127.0.0.1:{free_port()}", name="away")
    data_port.publish(route(MODEL, away, of_ollama(ollama_simulator)))
    first, second, third = [await recorded(data_port) for _ in range(3)]
    assert (first.attempts, first.target, first.outcome) == (2, "ollama", Outcome.OK)
    (failure,) = first.failures
    assert (failure.target, failure.cause) == ("away", "ConnectFailure")
    assert 0 <= failure.seconds < 1
    assert second.fallback_reason == "ConnectFailure"
    # It was not asked any more.
    assert (third.attempts, third.failures, third.fallback_reason) == (1, (), "Ejected")


async def test_nobody(data_port: DataPort, ollama_simulator: Simulator) -> None:
    ollama_simulator.behaviour = Behaviour(mode="status:500")
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    record = await recorded(data_port)
    assert (record.outcome, record.status) == (Outcome.ERROR, 502)
    assert record.error == "upstream_error"
    assert (record.target, record.attempts) == ("ollama", 1)
    assert record.measures.completion_tokens is None
    assert record.measures.first_token_seconds is None


async def test_a_name_that_only_a_client_gave_is_in_no_record(
    data_port: DataPort, ollama_simulator: Simulator
) -> None:
    data_port.publish()
    refused = await recorded(data_port, model="canary")
    assert (refused.outcome, refused.status, refused.error) == ("error", 404, "model_not_found")
    assert (refused.model, refused.attempts) == ("other", 0)
    data_port.parts.default_ollama_url = f"http://127.0.0.1:{ollama_simulator.port}"
    answered = await recorded(data_port)
    assert (answered.model, answered.upstream_model, answered.status) == ("other", "", 200)
    assert answered.route == "default"
    assert "canary" not in repr(data_port.records())


async def test_a_client_that_leaves_a_stream(
    data_port: DataPort, ollama_simulator: Simulator
) -> None:
    ollama_simulator.behaviour = Behaviour(tokens=1000, tokens_per_second=100)
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    sent = {"model": MODEL, "messages": TURNS}
    async with data_port.client.stream("POST", "/api/chat", json=sent) as response:
        lines = response.aiter_lines()
        for _ in range(5):
            await anext(lines)
    await eventually_async(lambda: data_port.records(), within=1)
    (record,) = data_port.records()
    assert (record.outcome, record.status) == (Outcome.CANCELLED, 200)
    assert record.measures.counted == "router"
    assert record.measures.completion_tokens is not None
    assert 5 <= record.measures.completion_tokens < 100, "what was passed on is what counts"
    assert record.measures.decode_tokens_per_second is not None


async def test_who_asked(data_port: DataPort, ollama_simulator: Simulator) -> None:
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    headers = {"x-llm-session": "s1", "x-llm-zone": "kitchen", "x-request-id": "mine"}
    sent = {"model": MODEL, "messages": TURNS}
    await data_port.client.post("/api/chat", json=sent, headers=headers)
    (record,) = data_port.records()
    assert (record.caller.session, record.caller.zone, record.caller.user) == ("s1", "kitchen", "")
    assert record.request_id == "mine"
    received = ollama_simulator.requests[-1].headers
    assert not any(name.startswith("x-llm-") for name in received)


async def test_the_speed_of_a_target_is_smoothed(
    data_port: DataPort, mlx_simulator: Simulator
) -> None:
    target = of_mlx(mlx_simulator)
    data_port.publish(route(MODEL, target))
    speeds = []
    for rate in (200, 20, 20):
        mlx_simulator.behaviour = Behaviour(tokens_per_second=rate, tokens=10)
        await recorded(data_port)
        speeds.append(data_port.standing(target).tokens_per_second)
    assert 60 < speeds[0] < 260
    assert 20 < speeds[2] < speeds[1] < speeds[0]


async def test_the_wait_for_a_first_token_is_smoothed(
    data_port: DataPort, mlx_simulator: Simulator
) -> None:
    target = of_mlx(mlx_simulator)
    data_port.publish(route(MODEL, target))
    assert data_port.standing(target).first_token_seconds == 0
    first = await recorded(data_port)
    wait = first.measures.first_token_seconds
    assert wait is not None
    assert data_port.standing(target).first_token_seconds == pytest.approx(wait)
    second = (await recorded(data_port)).measures.first_token_seconds
    assert second is not None
    between = sorted((wait, second))
    assert between[0] <= data_port.standing(target).first_token_seconds <= between[1]


async def test_each_request_has_one_record(
    data_port: DataPort, ollama_simulator: Simulator
) -> None:
    data_port.publish(route(MODEL, replace(of_ollama(ollama_simulator), max_concurrent=5)))
    sent = {"model": MODEL, "messages": TURNS}
    asking = [data_port.client.post("/api/chat", json=sent) for _ in range(30)]
    answers = await asyncio.gather(*asking)
    statuses = sorted(answer.status_code for answer in answers)
    assert sorted(record.status for record in data_port.records()) == statuses
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert {record.request_id for record in data_port.records()} == ids
