"""docs/migration.md, run: each of its Python blocks, and what its diffs leave, against a router."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.server import Simulator
from llm_router import get_llm_router
from llm_router.client import router as client_router
from parts.asking import of_mlx, of_ollama
from parts.router import Router, route

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "migration.md"


def blocks() -> list[str]:
    """All that is Python; of a diff, what is there after it."""
    found = []
    for kind, text in re.findall(r"```(\w+)\n(.*?)```", GUIDE.read_text(), re.DOTALL):
        if kind == "diff":
            kept = [line for line in text.splitlines() if not line.startswith("-")]
            found.append("\n".join(line[1:] for line in kept))
        elif kind == "python":
            found.append(text)
    return found


async def run(block: str) -> dict[str, Any]:
    """Run a block that may await; what it has defined."""
    names: dict[str, Any] = {"__name__": "block"}
    program = compile(block, str(GUIDE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    ran = eval(program, names)
    if inspect.isawaitable(ran):
        await ran
    return names


@pytest.fixture
def served(
    router: Router,
    ollama_simulator: Simulator,
    mlx_simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A router as the guide has it, by the environment."""
    embedding = of_ollama(ollama_simulator, name="embedding")
    targets = of_mlx(mlx_simulator), of_ollama(ollama_simulator)
    router.publish(route("phi3:mini", *targets), route("nomic-embed-text", embedding))
    ollama_simulator.behaviour = Behaviour(tokens_per_second=500)
    monkeypatch.setattr(client_router, "_singleton", None)
    monkeypatch.setenv("LLM_ROUTER_URL", router.url)


def test_there_are_blocks_of_both_kinds() -> None:
    assert len(blocks()) >= 8
    assert not any(line.startswith(("+", "-")) for text in blocks() for line in text.splitlines())


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.split("\n\n")[1][:30])
@pytest.mark.usefixtures("served")
async def test_a_block(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = await run(block)
    if "response_text" in names:
        assert names["response_text"].startswith("Simulated mlx answers")
    if "print(" in block and "report_metrics" not in block:
        assert capsys.readouterr().out
    await get_llm_router().aclose()


@pytest.mark.usefixtures("served")
async def test_the_overview_s_own_call_works_with_the_new_import() -> None:
    first = next(text for text in blocks() if "Your prompt here" in text)
    names = await run(first)
    assert names["response_text"].endswith("Your prompt here")
    await get_llm_router().aclose()
