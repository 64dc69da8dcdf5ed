"""A client that goes away: its generation ends at once, wherever the request is by then, and
nobody is blamed.

Between router and host stands a real proxy, which shows when the router's connection is closed.
"""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from llm_contract import OnBusy, Target, Timeouts
from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.journal import Outcome
from llm_operator.simulate.server import Simulator
from parts.asking import of_ollama
from parts.eventually import eventually_async
from parts.process import free_port
from parts.proxy import Proxy
from parts.router import DataPort, asked, mlx, ollama, route

MODEL = "phi3:mini"
PATHS = ["/v1/chat/completions", "/api/chat"]

#: Seconds from a client's leaving to the end of the connection to the host. It takes a few
#: milliseconds; the rest is for machines that do other things as well.
AT_ONCE = 0.1


@dataclass(slots=True)
class Client:
    """A connection with one request on it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def leave(self, *, reset: bool = False) -> float:
        """Close the connection; when that was."""
        if reset:
            self.writer.transport.abort()
        else:
            self.writer.close()
        return time.monotonic()


async def sent(data_port: DataPort, path: str, *, stream: bool) -> Client:
    turns = [{"role": "user", "content": "hello there"}]
    raw = json.dumps({"model": MODEL, "messages": turns, "stream": stream}).encode()
    host, port = data_port.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n"
    writer.write(head.encode() + raw)
    return Client(reader, writer)


async def ended(proxy: Proxy, since: float) -> None:
    """The router's connection is closed, and that came at once."""
    await eventually_async(lambda: proxy.open == 0, within=2, every=0.002)
    assert time.monotonic() - since < AT_ONCE


def nobody_is_blamed(data_port: DataPort, target: Target, *, status: int) -> None:
    standing = data_port.standing(target)
    assert not standing.doubted
    assert standing.active == 0
    assert standing.breaks == 0
    (record,) = data_port.records()
    assert (record.outcome, record.status) == ("cancelled", status)


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(params=[True, False], ids=["stream", "whole"])
def stream(request: pytest.FixtureRequest) -> bool:
    found: bool = request.param
    return found


@pytest.fixture(params=["ollama", "mlx"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def simulator(kind: str, ollama_simulator: Simulator, mlx_simulator: Simulator) -> Simulator:
    return ollama_simulator if kind == "ollama" else mlx_simulator


@pytest.mark.parametrize("mode", ["hang-before-headers", "hang-mid-stream:0", "ok"])
@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
async def test_while_the_host_answers(
    data_port: DataPort,
    simulator: Simulator,
    make_proxy: Callable[[Any], Proxy],
    kind: str,
    path: str,
    stream: bool,
    mode: str,
    reset: bool,
) -> None:
    simulator.behaviour = Behaviour(mode=mode, tokens=1000, tokens_per_second=100)
    proxy = make_proxy(("127.0.0.1", simulator.port))
    url = f"http://127.0.0.1:{proxy.port}"
    target = ollama(url) if kind == "ollama" else mlx(url)
    # NB: nobody else is asked for a client that is no longer there.
    other = ollama(f"http://127.0.0.1:{free_port()}", name="other")
    data_port.publish(route(MODEL, target, other))
    client = await sent(data_port, path, stream=stream)
    await eventually_async(lambda: asked(simulator) == 1, within=2, every=0.005)
    if mode == "ok":
        await eventually_async(lambda: simulator.requests[0].tokens > 2, within=2, every=0.005)
    await asyncio.sleep(0.05)
    left = await client.leave(reset=reset)
    await ended(proxy, left)
    await eventually_async(lambda: simulator.count(Outcome.CANCELLED) == 1, within=1, every=0.01)
    nobody_is_blamed(data_port, target, status=200 if stream and mode == "ok" else 499)
    assert not data_port.standing(other).doubted
    assert data_port.pool.counts().open == 0


async def test_while_it_waits_for_a_slot(
    data_port: DataPort,
    ollama_simulator: Simulator,
    path: str,
    stream: bool,
) -> None:
    ollama_simulator.behaviour = Behaviour(mode="hang-mid-stream:1")
    target = of_ollama(ollama_simulator, max_concurrent=1, on_busy=OnBusy.QUEUE)
    data_port.publish(route(MODEL, target))
    standing = data_port.standing(target)
    first = await sent(data_port, path, stream=True)
    await eventually_async(lambda: standing.active == 1, within=1, every=0.005)
    waiting = await sent(data_port, path, stream=stream)
    await eventually_async(lambda: len(standing.queue) == 1, within=1, every=0.005)
    left = await waiting.leave()
    await eventually_async(lambda: not standing.queue, within=1, every=0.002)
    assert time.monotonic() - left < AT_ONCE
    assert asked(ollama_simulator) == 1
    nobody = [(one.outcome, one.status, one.attempts) for one in data_port.records()]
    assert nobody == [("cancelled", 499, 0)]
    await first.leave()
    await eventually_async(lambda: standing.active == 0, within=1, every=0.005)
    assert not standing.doubted


async def test_while_it_connects(
    data_port: DataPort, path: str, stream: bool, full: socket.socket
) -> None:
    target = ollama(f"http://127.0.0.1:{full.getsockname()[1]}")
    data_port.publish(route(MODEL, target))
    client = await sent(data_port, path, stream=stream)
    await eventually_async(lambda: data_port.standing(target).active == 1, within=1, every=0.005)
    left = await client.leave()
    await eventually_async(lambda: data_port.standing(target).active == 0, within=1, every=0.002)
    assert time.monotonic() - left < AT_ONCE
    nobody_is_blamed(data_port, target, status=499)


async def test_before_a_second_try(
    data_port: DataPort, ollama_simulator: Simulator, path: str, stream: bool
) -> None:
    ollama_simulator.behaviour = Behaviour(mode="status:503", retry_after=1)
    data_port.publish(route(MODEL, of_ollama(ollama_simulator), timeouts=Timeouts(total=10)))
    client = await sent(data_port, path, stream=stream)
    await eventually_async(lambda: asked(ollama_simulator) == 1, within=1, every=0.005)
    await asyncio.sleep(0.05)
    await client.leave()
    await eventually_async(lambda: len(data_port.records()) == 1, within=1, every=0.005)
    await asyncio.sleep(1.1)
    assert asked(ollama_simulator) == 1, "it is not tried again for nobody"
    (record,) = data_port.records()
    assert (record.outcome, record.status, record.attempts) == ("cancelled", 499, 1)


async def test_of_ten_each_ends_its_own(
    data_port: DataPort, ollama_simulator: Simulator, path: str
) -> None:
    ollama_simulator.behaviour = Behaviour(tokens=60, tokens_per_second=60)
    target = of_ollama(ollama_simulator)
    data_port.publish(route(MODEL, target))
    clients = [await sent(data_port, path, stream=True) for _ in range(10)]
    for client in clients:
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    for client in clients[::2]:
        await client.leave()
    await eventually_async(lambda: data_port.standing(target).active == 5, within=1, every=0.005)
    await eventually_async(lambda: ollama_simulator.count(Outcome.ANSWERED) == 5, within=5)
    await eventually_async(lambda: ollama_simulator.count(Outcome.CANCELLED) == 5, within=1)
    outcomes = sorted(one.outcome for one in data_port.records())
    assert outcomes == ["cancelled"] * 5 + ["ok"] * 5
    for client in clients[1::2]:
        await client.leave()


@pytest.fixture
async def full() -> AsyncIterator[socket.socket]:
    """A listener whose one place is taken, so that others wait for their connection."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as listener,
        contextlib.closing(socket.create_connection(listener.getsockname())),
    ):
        yield listener
