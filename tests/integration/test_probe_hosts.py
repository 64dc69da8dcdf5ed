"""Probes and the router's own checks against a real Ollama and a real mlx_lm.server."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from llm_contract import (
    CHECKSUM_KEY,
    CONFIG_KEY,
    ActiveCheck,
    HealthCheck,
    Route,
    Target,
    TargetType,
)
from llm_router.credentials import NONE
from llm_router.errors import Cause
from llm_router.mount import Published
from llm_router.probe import Prober
from llm_router.select import Verdict, judge
from llm_router.standing import Standings
from llm_router.table import Destination, Table
from llm_router.transport import Pool
from parts.eventually import eventually_async
from parts.mlx import Mlx
from parts.ollama import Ollama
from parts.router import PLAIN, files, mlx, ollama, route

FAST = ActiveCheck(interval=0.2, timeout=3, unhealthy_threshold=1)


@dataclass(slots=True)
class Bench:
    """A prober that runs, and what it has found."""

    standings: Standings
    prober: Prober
    table: Table | None = None

    def follow(self, *targets: Target, active: ActiveCheck = FAST) -> list[Destination]:
        """Route `m1`, `m2`, ... to these; returns them ready to be asked."""
        health = HealthCheck(active=active)
        routes = [replace(route(f"m{n}", t), health=health) for n, t in enumerate(targets, 1)]
        return self.swap(*routes)

    def swap(self, *routes: Route) -> list[Destination]:
        payload = files(*routes)
        published = Published(payload[CONFIG_KEY], payload[CHECKSUM_KEY].decode())
        self.table = table = Table.build(published, self.standings, NONE)
        self.standings.keep(table.standings())
        self.prober.follow(table)
        return [table.entries[one.model].destinations[0] for one in routes]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    pool, standings = Pool(), Standings()
    prober = Prober(pool, standings)
    running = asyncio.create_task(prober.run())
    yield Bench(standings, prober)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await pool.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert pool.counts().open == 0


def verdict(destination: Destination) -> Verdict:
    return judge(destination, asyncio.get_running_loop().time())


async def becomes(destination: Destination, wanted: Verdict, *, within: float = 15) -> None:
    def check() -> bool:
        assert verdict(destination) is wanted
        return True

    await eventually_async(check, within=within)


def generate(server: Ollama, model: str, **more: Any) -> None:
    body = {"model": model, "prompt": "hi", "stream": False, "options": {"num_predict": 1}} | more
    answer = httpx.post(f"{server.url}/api/generate", json=body, timeout=60, **PLAIN)
    answer.raise_for_status()


def unload(server: Ollama, model: str) -> None:
    generate(server, model, prompt="", keep_alive=0)


async def test_an_ollama_has_the_models_it_lists_and_no_others(
    bench: Bench, ollama_server: Ollama
) -> None:
    there, gone, tagless = bench.follow(
        ollama(ollama_server.url),
        ollama(ollama_server.url, model="phi3:medium"),
        ollama(ollama_server.url, model="phi3"),
    )
    await becomes(there, Verdict.HEALTHY)
    await becomes(gone, Verdict.MODEL_MISSING)
    await becomes(tagless, Verdict.MODEL_MISSING)


async def test_a_model_that_is_pulled_later_is_found(bench: Bench, ollama_server: Ollama) -> None:
    [destination] = bench.follow(ollama(ollama_server.url, model="pulled-later"))
    await becomes(destination, Verdict.MODEL_MISSING)
    await asyncio.to_thread(ollama_server.create, "pulled-later")
    await becomes(destination, Verdict.HEALTHY)


async def test_says_which_models_an_ollama_has_in_memory(
    bench: Bench, ollama_server: Ollama
) -> None:
    """A copy of a model is loaded with it: the host runs both as one, under the first's name."""
    await asyncio.to_thread(ollama_server.create, "probe-copy")
    one, copy = bench.follow(
        ollama(ollama_server.url), ollama(ollama_server.url, model="probe-copy")
    )
    for destination in (one, copy):
        await asyncio.to_thread(unload, ollama_server, destination.target.model)
        await eventually_async(lambda: one.standing.loaded is False, within=15)
        await eventually_async(lambda: copy.standing.loaded is False, within=15)
        assert verdict(one) is Verdict.HEALTHY, "cold is not dead"
        await asyncio.to_thread(generate, ollama_server, destination.target.model)
        await eventually_async(lambda: one.standing.loaded is True, within=15)
        await eventually_async(lambda: copy.standing.loaded is True, within=15)
    assert bench.table is not None
    told = bench.prober.loaded_models(bench.table)
    assert [seen["name"] for seen in told] == ["m1", "m2"], "under the callers' names"
    assert told[0]["size_vram"] >= 0
    assert told[0]["expires_at"]
    assert told[0]["details"]["format"] == "gguf"


async def test_an_ollama_s_v1_is_probed_as_a_server_of_that_kind(
    bench: Bench, ollama_server: Ollama
) -> None:
    one = Target(name="v1", type=TargetType.OPENAI, url=ollama_server.url, model="phi3:mini")
    there, gone = bench.follow(one, replace(one, model="not-there"))
    await becomes(there, Verdict.HEALTHY)
    await becomes(gone, Verdict.MODEL_MISSING)


async def test_an_mlx_server_is_healthy_and_its_list_proves_nothing(
    bench: Bench, mlx_server: Mlx
) -> None:
    known, named = bench.follow(mlx(mlx_server.url), mlx(mlx_server.url, model="org/other"))
    await becomes(known, Verdict.HEALTHY)
    await becomes(named, Verdict.HEALTHY)
    assert known.standing.loaded is None


async def test_a_server_that_goes_and_comes_back_is_seen_both_times(
    bench: Bench, ollama_server: Ollama
) -> None:
    [destination] = bench.follow(ollama(ollama_server.url))
    await becomes(destination, Verdict.HEALTHY)
    context = ollama_server.down()
    await asyncio.to_thread(context.__enter__)
    try:
        await becomes(destination, Verdict.UNHEALTHY)
        assert destination.standing.why
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)
    await becomes(destination, Verdict.HEALTHY)


@pytest.mark.parametrize("kind", ["ollama", "mlx", "openai"])
async def test_a_check_proves_that_a_real_server_can_answer(
    bench: Bench, ollama_server: Ollama, mlx_server: Mlx, kind: str
) -> None:
    targets = {
        "ollama": ollama(ollama_server.url),
        "mlx": mlx(mlx_server.url),
        "openai": Target(
            name="v1", type=TargetType.OPENAI, url=ollama_server.url, model="phi3:mini"
        ),
    }
    [destination] = bench.follow(targets[kind], active=ActiveCheck(enabled=False))
    assert bench.table is not None
    found, standing = bench.table.entries["m1"], destination.standing
    for _ in range(5):
        now = asyncio.get_running_loop().time()
        if standing.failed(Cause.NO_REPLY, now, found.route.health.passive, why="a poison"):
            bench.prober.confirm(destination, found)
    assert standing.doubted
    await eventually_async(lambda: not standing.doubted, within=60)
    assert verdict(destination) is Verdict.UNKNOWN
