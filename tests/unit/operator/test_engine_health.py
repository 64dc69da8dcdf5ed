"""/healthz and /readyz, and whether the watch is there."""

import asyncio
import socket

import httpx
import pytest

from llm_operator import health
from llm_operator.term import Watch


async def ask(port: int, path: str) -> tuple[int, str]:
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        answer = await client.get(f"http://127.0.0.1:{port}{path}")
        return answer.status_code, answer.text


async def test_both_say_what_is_wrong() -> None:
    problems = {"healthy": "", "ready": "the watch has not begun"}
    async with health.serving(
        "127.0.0.1", 0, healthy=lambda: problems["healthy"], ready=lambda: problems["ready"]
    ) as (_, port):
        assert await ask(port, "/healthz") == (200, "ok\n")
        assert await ask(port, "/readyz") == (503, "the watch has not begun\n")
        problems.update(healthy="stuck", ready="")
        assert await ask(port, "/healthz") == (503, "stuck\n")
        assert await ask(port, "/readyz") == (200, "ok\n")
        assert (await ask(port, "/"))[0] == 404


async def test_nothing_is_left_when_it_ends() -> None:
    async with health.serving("127.0.0.1", 0, healthy=str, ready=str) as (_, port):
        await ask(port, "/healthz")
    with pytest.raises(httpx.ConnectError):
        await ask(port, "/healthz")
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_taken_port_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(health.NotListening, match=rf"127\.0\.0\.1:{port}.*LLMB_HEALTH_PORT"):
            async with health.serving("127.0.0.1", port, healthy=str, ready=str):
                pytest.fail("the port is taken")


async def test_a_watch_that_was_there_and_is_not_is_lost() -> None:
    watch = Watch()
    assert (watch.pending(), watch.lost()) == ("the watch has not begun", "")
    task = asyncio.create_task(
        asyncio.Event().wait(), name="watcher for llmbackends.v1alpha1.llm.athena.dev@None"
    )
    assert (watch.pending(), watch.lost()) == ("", "")
    task.cancel()
    await asyncio.wait([task])
    assert watch.lost() == "the watch has ended"
