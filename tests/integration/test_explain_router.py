"""POST /explain and `llmb explain` at a router that runs, against what its requests then do."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import httpx
import pytest

from llm_contract import ActiveCheck, HealthCheck
from llm_operator.simulate.server import Simulator
from parts.process import free_port
from parts.router import PLAIN, Router, mlx, ollama, route

CHAT = "/v1/chat/completions"
TURNS = [{"role": "user", "content": "hi"}]


async def ask(router: Router, **question: Any) -> httpx.Response:
    async with httpx.AsyncClient(timeout=10, **PLAIN) as client:
        return await client.post(f"{router.management}/explain", json=question)


async def send(router: Router, path: str, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(timeout=20, **PLAIN) as client:
        return await client.post(f"{router.url}{path}", json=body)


@pytest.fixture
def targets(ollama_simulator: Simulator, mlx_simulator: Simulator) -> list[Any]:
    return [
        mlx(f"http://127.0.0.1:{mlx_simulator.port}"),
        ollama(f"http://127.0.0.1:{ollama_simulator.port}"),
    ]


@pytest.mark.parametrize("needs", [[], ["format"], ["tools"]])
async def test_a_request_goes_where_it_said(
    router: Router, targets: list[Any], needs: list[str]
) -> None:
    router.publish(route("phi3:mini", *targets))
    told = (await ask(router, model="phi3:mini", needs=needs)).json()
    fields = {"format": {"response_format": {"type": "json_object"}}}
    more: dict[str, Any] = fields.get("".join(needs), {})
    answer = await send(router, CHAT, model="phi3:mini", messages=TURNS, **more)
    assert answer.headers["x-llm-backend-type"] == told["would"]
    assert answer.headers["x-llm-config"] == told["config"]


async def test_says_what_a_failed_request_has_shown(router: Router, targets: list[Any]) -> None:
    dead = replace(targets[0], url=f"http://127.0.0.1:{free_port()}")
    off = HealthCheck(active=ActiveCheck(enabled=False))
    router.publish(replace(route("phi3:mini", dead, targets[1]), health=off))
    for _ in range(2):
        answer = await send(router, CHAT, model="phi3:mini", messages=TURNS)
        assert answer.headers["x-llm-backend-type"] == "ollama"
    told = (await ask(router, model="phi3:mini")).json()
    assert told["would"] == "ollama"
    assert [t["verdict"] for t in told["targets"] if t["name"] == "mlx"] == ["Ejected"]


async def test_a_wrong_question_is_a_400_with_a_sentence(router: Router) -> None:
    router.publish()
    answer = await ask(router, model="m", path="/nowhere")
    assert answer.status_code == 400
    assert "path" in answer.json()["detail"]
    assert (await ask(router, model="unknown")).json()["would"] is None


def test_the_command_asks_the_router(router: Router) -> None:
    router.publish(route("phi3:mini", ollama("http://127.0.0.1:9")))
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "llm_operator.cli", "explain", "phi3:mini"),
            *("--router", router.management),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[1].split()[1:3] == ["ollama", "ollama"]
    assert "phi3:mini: ollama would be asked" in ran.stdout
