"""An answer on its way to the client: piece by piece, as it comes, with one end."""

import asyncio
import json
import time

import pytest

from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.server import Simulator
from parts.asking import of_mlx, of_ollama
from parts.router import DataPort, route

MODEL = "phi3:mini"
SENT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "stream": True}
PATHS = ["/v1/chat/completions", "/api/chat"]


async def chunks(port: DataPort, path: str) -> list[tuple[float, bytes]]:
    """The chunks of a streamed answer as they are on the wire, and when each came."""
    host, number = port.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(number))
    raw = json.dumps(SENT).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n"
    writer.write(head.encode() + raw)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    found = []
    while size := int(await reader.readline(), 16):
        found.append((time.monotonic(), await reader.readexactly(size)))
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n"
    writer.close()
    await writer.wait_closed()
    return found


@pytest.mark.parametrize("kind", ["ollama", "mlx"])
@pytest.mark.parametrize("path", PATHS)
async def test_each_token_is_a_piece_that_leaves_when_it_comes(
    data_port: DataPort,
    ollama_simulator: Simulator,
    mlx_simulator: Simulator,
    path: str,
    kind: str,
) -> None:
    simulator = ollama_simulator if kind == "ollama" else mlx_simulator
    simulator.behaviour = Behaviour(tokens=10, tokens_per_second=25)
    target = of_ollama(simulator) if kind == "ollama" else of_mlx(simulator)
    data_port.publish(route(MODEL, target))
    found = await chunks(data_port, path)
    assert 10 <= len(found) <= 14
    times = [when for when, _ in found]
    # NB: ten tokens at 25 a second; in one piece at the end they would be no stream.
    assert 0.3 < times[-1] - times[0] < 1
    for _, piece in found:
        assert piece.endswith(b"\n\n" if path.startswith("/v1") else b"\n")


@pytest.mark.parametrize("kind", ["ollama", "mlx"])
@pytest.mark.parametrize("path", PATHS)
async def test_the_end_is_said_once_and_last(
    data_port: DataPort,
    ollama_simulator: Simulator,
    mlx_simulator: Simulator,
    path: str,
    kind: str,
) -> None:
    target = of_ollama(ollama_simulator) if kind == "ollama" else of_mlx(mlx_simulator)
    data_port.publish(route(MODEL, target))
    text = b"".join(piece for _, piece in await chunks(data_port, path))
    end = b"data: [DONE]\n\n" if path.startswith("/v1") else b'"done":true'
    assert text.count(end) == 1
    assert text.endswith(end) or b"\n" not in text.partition(end)[2].rstrip(b"\n")


@pytest.mark.parametrize("path", PATHS)
async def test_the_connection_serves_the_next_request(
    data_port: DataPort, ollama_simulator: Simulator, path: str
) -> None:
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    for _ in range(5):
        async with data_port.client.stream("POST", path, json=SENT) as response:
            assert response.status_code == 200
            await response.aread()
    counts = data_port.pool.counts()
    assert (counts.connects, counts.reuses) == (1, 4)
