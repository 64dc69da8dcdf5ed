"""A client goes away in the middle of a long generation, and a real Ollama stops generating.

Ollama answers one request of a model after the other, so a generation that went on would hold the
next one up for minutes. That it has stopped is also seen in its log, which has a line for each
request that is over, and in the processor time of its runner.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from llm_contract import Timeouts
from parts.eventually import eventually_async
from parts.load import post
from parts.ollama import ENDLESS, Ollama
from parts.router import PLAIN, Router, ollama, route

PATHS = ("/v1/chat/completions", "/api/chat", "/api/generate")

#: Far more tokens than it can make while the test runs.
OPTIONS: dict[str, Any] = {"num_predict": 300_000, "temperature": 0}

#: Seconds until the host has ended the request. The router takes milliseconds; the rest is for
#: Ollama, whose runner looks between two tokens, and for a busy machine.
AT_ONCE = 2.0


def endless(path: str, *, stream: bool) -> bytes:
    """A request that takes minutes."""
    body: dict[str, Any] = {"model": ENDLESS, "stream": stream}
    if path.startswith("/v1"):
        sampling = {name: value for name, value in OPTIONS.items() if name != "num_predict"}
        body |= sampling | {"max_tokens": OPTIONS["num_predict"]}
    else:
        body["options"] = OPTIONS
    if path.endswith("generate"):
        body["prompt"] = "hi"
    else:
        body["messages"] = [{"role": "user", "content": "hi"}]
    return post(path, json.dumps(body).encode())


def over(server: Ollama) -> int:
    """How many generations the host has ended, however."""
    lines = Path(server.folder / "ollama.log").read_text(errors="replace").splitlines()
    return sum(line.startswith("[GIN]") and " POST " in line for line in lines)


def spent(server: Ollama) -> float:
    """Processor seconds of the server and its runners so far."""
    tree = psutil.Process(server.pid)
    return sum(sum(one.cpu_times()[:2]) for one in (tree, *tree.children(recursive=True)))


async def works(server: Ollama, *, seconds: float = 0.5) -> float:
    """The share of a processor that it uses now."""
    before, begun = spent(server), time.monotonic()
    await asyncio.sleep(seconds)
    return (spent(server) - before) / (time.monotonic() - begun)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("path", PATHS)
async def test_ollama_stops_generating(
    router: Router,
    ollama_server: Ollama,
    path: str,
    stream: bool,
) -> None:
    timeouts = Timeouts(total=100)
    target = ollama(ollama_server.url, model=ENDLESS)
    await asyncio.to_thread(router.publish, route(ENDLESS, target, timeouts=timeouts))
    # NB: the model is loaded by this, which can take seconds of the processor.
    await answered(router, ollama_server)
    async with generating(router, ollama_server, path, stream=stream) as before:
        assert over(ollama_server) == before
    await eventually_async(lambda: over(ollama_server) > before, within=AT_ONCE, every=0.005)

    async def idle() -> bool:
        return await works(ollama_server) < 0.1

    await eventually_async(idle, within=10)
    await answered(router, ollama_server)


@contextlib.asynccontextmanager
async def generating(
    router: Router, server: Ollama, path: str, *, stream: bool
) -> AsyncIterator[int]:
    """A client for whom the host generates, and who goes at the end of the block; how many
    generations the host had ended before.
    """
    before = over(server)
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    try:
        writer.write(endless(path, stream=stream))
        if stream:
            async with asyncio.timeout(30):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                await reader.readuntil(b"content" if "chat" in path else b"response")
        enough = spent(server) + 0.5
        await eventually_async(lambda: spent(server) > enough, within=30, every=0.02)
        yield before
    finally:
        writer.close()


async def answered(router: Router, server: Ollama) -> None:
    """A short request is answered at once, as nothing is before it."""
    asked = {"model": ENDLESS, "prompt": "hi", "stream": False, "options": {"num_predict": 2}}
    before = over(server)
    async with httpx.AsyncClient(base_url=router.url, timeout=30, **PLAIN) as client:
        response = await client.post("/api/generate", json=asked)
    assert response.status_code == 200, response.text
    # NB: the host writes its line after the answer, so one may still be on its way.
    await eventually_async(lambda: over(server) > before, within=AT_ONCE, every=0.005)
