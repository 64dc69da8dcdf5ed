"""The data port before and beside the hosts: ids, the list records, the drain, the limits."""

import asyncio
from typing import Any

import httpx
import pytest

from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.server import Simulator
from llm_router.app import App
from llm_router.run import listen
from llm_router.server import Limits, Server
from parts.asking import of_ollama
from parts.eventually import eventually_async
from parts.router import PLAIN, DataPort, route

MODEL = "phi3:mini"
SENT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
PATHS = ["/v1/chat/completions", "/api/chat"]


def message(response: httpx.Response) -> str:
    error = response.json()["error"]
    return str(error if isinstance(error, str) else error["message"])


@pytest.mark.parametrize(
    ("path", "front", "status"),
    [
        ("/v1/models", "openai_list", 200),
        ("/v1/models/none", "openai_list", 404),
        ("/api/tags", "ollama_list", 200),
        ("/", "ollama_list", 200),
        ("/api/pull", "ollama_list", 403),
        ("/api/none", "ollama_list", 404),
        ("/v1/none", "openai_list", 404),
        ("/api/chat", "ollama_list", 405),
    ],
)
async def test_lists_and_refusals_are_recorded(
    data_port: DataPort, path: str, front: str, status: int
) -> None:
    data_port.publish()
    response = await data_port.client.get(path, headers={"x-request-id": "mine"})
    assert response.status_code == status
    (record,) = data_port.records()
    assert (record.front, record.status, record.request_id) == (front, status, "mine")
    assert record.outcome == ("ok" if status == 200 else "error")
    assert (record.model, record.attempts, record.target) == ("other", 0, "")


@pytest.mark.parametrize("path", ["/v1/models", "/api/tags", "/api/version", "/"])
async def test_lists_end_with_the_process(data_port: DataPort, path: str) -> None:
    data_port.publish()
    data_port.parts.draining = True
    response = await data_port.client.get(path)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert "shutting down" in message(response)


async def test_ids_are_never_given_twice(data_port: DataPort) -> None:
    data_port.publish()
    found = [
        (await data_port.client.get("/api/version")).headers["x-request-id"] for _ in range(50)
    ]
    assert len(set(found)) == 50


async def test_requests_that_are_being_answered_are_counted(
    data_port: DataPort, ollama_simulator: Simulator
) -> None:
    ollama_simulator.behaviour = Behaviour(mode="hang-mid-stream:1")
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    value = data_port.parts.metrics.registry.get_sample_value
    async with data_port.client.stream("POST", "/api/chat", json=SENT):
        assert value("llm_router_active_requests") == 1
        await data_port.client.get("/api/tags")
        assert value("llm_router_active_requests") == 1
    await eventually_async(lambda: value("llm_router_active_requests") == 0, within=1)


@pytest.mark.parametrize("path", PATHS)
async def test_one_request_too_many_is_told_in_the_clients_words(
    data_port: DataPort, ollama_simulator: Simulator, path: str
) -> None:
    ollama_simulator.behaviour = Behaviour(mode="hang-mid-stream:1")
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    server = Server(App(data_port.parts), Limits(max_body=10_000, max_active=2))
    listener = listen("127.0.0.1", 0, setting="")
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    await server.start(listener)
    sent = SENT | {"stream": True}
    async with (
        httpx.AsyncClient(base_url=url, **PLAIN) as client,
        client.stream("POST", path, json=sent),
        client.stream("POST", path, json=sent),
    ):
        response = await client.post(path, json=sent)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert "2 requests are being answered" in message(response)
        assert len(response.headers["x-request-id"]) == 32
        assert ollama_simulator.count() == 2
    await eventually_async(lambda: server.active == 0, within=1)
    ollama_simulator.behaviour = Behaviour()
    async with httpx.AsyncClient(base_url=url, **PLAIN) as client:
        assert (await client.post(path, json=SENT)).status_code == 200
    await server.drain(0)


@pytest.mark.parametrize("path", PATHS)
async def test_a_drain_lets_streams_end_and_cuts_those_that_do_not(
    data_port: DataPort, ollama_simulator: Simulator, path: str
) -> None:
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    server = Server(App(data_port.parts), Limits(max_body=10_000))
    listener = listen("127.0.0.1", 0, setting="")
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    await server.start(listener)
    sent = SENT | {"stream": True}
    async with httpx.AsyncClient(base_url=url, **PLAIN) as client:
        ollama_simulator.behaviour = Behaviour(tokens=20, tokens_per_second=50)
        short = asyncio.create_task(client.post(path, json=sent))
        await eventually_async(lambda: ollama_simulator.count() == 1, within=1, every=0.005)
        ollama_simulator.behaviour = Behaviour(mode="hang-mid-stream:2")
        long = asyncio.create_task(client.post(path, json=sent))
        whole = asyncio.create_task(client.post(path, json=SENT | {"stream": False}))
        await eventually_async(lambda: ollama_simulator.count() == 3, within=1, every=0.005)
        await asyncio.sleep(0.1)
        data_port.parts.draining = True
        await server.drain(0.8)
        ended, cut, refused = await asyncio.gather(short, long, whole)
    assert ended.text.rstrip().endswith(("[DONE]", "}"))
    assert "shutting down" not in ended.text
    assert "the router is shutting down" in cut.text
    assert "[DONE]" not in cut.text
    assert '"done":true' not in cut.text
    assert refused.status_code == 503
    assert "shutting down" in message(refused)
    outcomes = sorted(record.outcome for record in data_port.records())
    assert outcomes == ["broken", "error", "ok"]
