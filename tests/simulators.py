"""Simulated hosts for tests: each on a free port, gone after the test; and requests as raw bytes.

async def test_x(ollama_simulator: Simulator) -> None:
    ollama_simulator.behaviour = Behaviour(mode="cut-mid-stream:2")
    ...
    assert ollama_simulator.requests[-1].body["model"] == "phi3:mini"
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from llm_operator.simulate.behaviour import Behaviour, Kind
from llm_operator.simulate.server import Simulator, serve

OLLAMA_MODEL = "phi3:mini"
MLX_MODEL = "mlx-community/Phi-3-mini-4k-instruct-4bit"
DEADLINE = 10.0


@pytest.fixture
async def ollama_simulator() -> AsyncIterator[Simulator]:
    """A simulated Ollama with `phi3:mini`."""
    simulator = await serve(
        Kind.OLLAMA, host="127.0.0.1", port=0, behaviour=Behaviour(), models=(OLLAMA_MODEL,)
    )
    yield simulator
    await simulator.close()


@pytest.fixture
async def mlx_simulator() -> AsyncIterator[Simulator]:
    """A simulated mlx_lm.server with one model beside `default_model`."""
    simulator = await serve(
        Kind.MLX, host="127.0.0.1", port=0, behaviour=Behaviour(), models=(MLX_MODEL,)
    )
    yield simulator
    await simulator.close()


@dataclass(frozen=True, slots=True)
class Raw:
    """A response as it came: the head, and everything after it until the connection ended."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1]) if self.head else 0

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return dict(line.split(": ", 1) for line in lines if line)

    def json(self) -> Any:
        return json.loads(self.body)

    def chunks(self) -> list[bytes]:
        """The chunks of a chunked body, an empty one last if it ended as it must."""
        found, rest = [], self.body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            found.append(rest[:length])
            assert rest[length : length + 2] == b"\r\n", "a chunk is longer than it says"
            rest = rest[length + 2 :]
        return found

    def lines(self) -> list[Any]:
        """The NDJSON lines of a chunked body, one to a chunk."""
        return [json.loads(chunk) for chunk in self.chunks() if chunk]

    def events(self) -> list[str]:
        """The events of an SSE body, comments too."""
        return [event for event in self.body.decode().split("\n\n") if event]

    def packets(self) -> list[Any]:
        """The JSON of the data events."""
        data = [event[6:] for event in self.events() if event.startswith("data: {")]
        return [json.loads(text) for text in data]


def request(
    method: str,
    path: str,
    body: object = None,
    *,
    headers: tuple[str, ...] = ("Connection: close",),
    version: str = "1.1",
) -> bytes:
    """A request as bytes. A body that is not bytes is sent as JSON, with its length."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *headers]
    named = " ".join(headers).lower()
    if body is not None and "content-length" not in named and "transfer-encoding" not in named:
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join([*lines, "", ""]).encode() + data


async def raw(port: int, method: str, path: str, body: object = None, **how: Any) -> Raw:
    """Send one request and read until the server closes."""
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request(method, path, body, **how))
            head, _, rest = (await reader.read(-1)).partition(b"\r\n\r\n")
        finally:
            writer.close()
            await writer.wait_closed()
    return Raw(head, rest)
