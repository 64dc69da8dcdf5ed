"""Which hosts serve on this machine: the real Ollama and MLX server where they answer, simulated
ones where not.

A simulated host is always called so. Nothing here is asked again later: a host that comes up after
the start is used from the next start on.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from llm_operator.simulate.behaviour import Behaviour, Kind
from llm_operator.simulate.server import Simulator, serve

#: Where a laptop's own hosts listen, and what they answer on without loading a model.
USUAL: Mapping[Kind, tuple[str, str]] = {
    Kind.OLLAMA: ("http://127.0.0.1:11434", "/api/version"),
    Kind.MLX: ("http://127.0.0.1:8080", "/health"),
}

#: A pace at which a person sees that an answer streams.
PACE = Behaviour(ttft_ms=50, tokens_per_second=40)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host.

    Attributes:
        simulated: the running simulator; None for a real host.
        models: the names it has; only asked of a real Ollama.
    """

    kind: Kind
    url: str
    simulated: Simulator | None = None
    models: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.url} ({'simulated: no real model' if self.simulated else 'real'})"


async def find(*, simulate: bool, models: tuple[str, ...] = ()) -> dict[Kind, Host]:
    """A host of each kind.

    Args:
        simulate: start simulated ones even where real ones answer.
        models: what a simulated one lists; it answers for any.
    """
    found = await asyncio.gather(*(_one(kind, simulate=simulate, listed=models) for kind in USUAL))
    return {host.kind: host for host in found}


async def _one(kind: Kind, *, simulate: bool, listed: tuple[str, ...]) -> Host:
    url, path = USUAL[kind]
    if not simulate and await _answers(url, path, kind=kind):
        models = await _models(url) if kind is Kind.OLLAMA else ()
        return Host(kind=kind, url=url, models=models)
    # NB: a router takes a model that is not listed for one that is not there.
    models = (*listed, "*")
    simulator = await serve(kind, host="127.0.0.1", port=0, behaviour=PACE, models=models)
    return Host(kind=kind, url=f"http://127.0.0.1:{simulator.port}", simulated=simulator)


async def _answers(url: str, path: str, *, kind: Kind) -> bool:
    """Whether it is a host of that kind: something else may well listen on 8080."""
    try:
        async with httpx.AsyncClient(timeout=1, trust_env=False) as client:
            body = (await client.get(url + path)).raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return False
    if not isinstance(body, dict):
        return False
    return "version" in body if kind is Kind.OLLAMA else body == {"status": "ok"}


async def _models(url: str) -> tuple[str, ...]:
    try:
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            listed = (await client.get(f"{url}/api/tags")).json()["models"]
        return tuple(model["name"] for model in listed)
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return ()
