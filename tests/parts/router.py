"""The router as its own process, fed from a folder that is written as a kubelet writes a mount.

    router.publish(route("phi3:mini", mlx(mlx_server.url), ollama(ollama_server.url)))
    httpx.post(f"{router.url}/api/chat", json=...)

The configuration is in use when `publish` returns. One process serves the whole run, so a test says
which routes it needs; `make_router` is for tests that look at starting, ending or settings, and
`data_port` is the same router in the test's own process and loop.
"""

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from llm_contract import (
    CHECKSUM_KEY,
    CONFIG_KEY,
    Defaults,
    Route,
    RoutingConfig,
    Target,
    TargetType,
    Timeouts,
    checksum,
    dump,
)
from llm_operator.simulate.journal import Outcome
from llm_operator.simulate.server import Simulator
from llm_router.app import App
from llm_router.assemble import Router as Assembled
from llm_router.assemble import assemble
from llm_router.credentials import NONE
from llm_router.mount import Published
from llm_router.run import listen
from llm_router.server import Server
from llm_router.serving import Parts
from llm_router.settings import Settings
from llm_router.standing import Standing
from llm_router.table import Table
from llm_router.transport import Pool
from llm_router.usage import Record, Recorder
from parts import process
from parts.kubelet import project
from parts.process import Process, free_port

COMMAND = [sys.executable, "-m", "llm_router.cli"]

#: For httpx: no proxy, and no certificates, which it would read anew for each client (40 ms).
PLAIN: dict[str, Any] = {"trust_env": False, "verify": False}


def ollama(url: str, *, name: str = "ollama", model: str = "phi3:mini", **more: Any) -> Target:
    """A target that is an Ollama."""
    return Target(name=name, type=TargetType.OLLAMA, url=url, model=model, **more)


def mlx(url: str, *, name: str = "mlx", model: str = "default_model", **more: Any) -> Target:
    """A target that is an mlx_lm.server."""
    return Target(name=name, type=TargetType.MLX, url=url, model=model, **more)


def route(
    model: str,
    *targets: Target,
    timeouts: Timeouts | None = None,
    defaults: Defaults | None = None,
    **more: Any,
) -> Route:
    """A route as the operator compiles it."""
    return Route(
        model=model,
        uid=f"uid-of-{model}",
        generation=1,
        name=model.replace(":", "-"),
        targets=targets,
        timeouts=timeouts or Timeouts(total=20),
        defaults=defaults or Defaults(),
        **more,
    )


def asked(simulator: Simulator, outcome: Outcome | None = None) -> int:
    """How many requests of clients reached a host, or ended so there.

    The router's own, which are probes and checks, have no request id and are not counted.
    """
    return sum(
        "x-request-id" in received.headers and outcome in (None, received.outcome)
        for received in simulator.requests
    )


def files(*routes: Route) -> dict[str, bytes]:
    """The two files of a published configuration."""
    raw = dump(RoutingConfig(routes=routes))
    return {CONFIG_KEY: raw, CHECKSUM_KEY: checksum(raw).encode()}


@dataclass(slots=True)
class Router:
    """One router. `start` and `stop` may be called in any order, repeatedly."""

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    management_port: int = field(default_factory=free_port)
    process: Process | None = None

    @property
    def mount(self) -> Path:
        """The folder that is its mounted ConfigMap."""
        return self.folder / "mount"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def management(self) -> str:
        return f"http://127.0.0.1:{self.management_port}"

    @property
    def environment(self) -> dict[str, str]:
        """Its settings, as environment variables."""
        own = {
            "CONFIG": str(self.mount),
            "PORT": str(self.port),
            "MANAGEMENT_HOST": "127.0.0.1",
            "MANAGEMENT_PORT": str(self.management_port),
        }
        return {f"LLM_ROUTER_{name}": value for name, value in (own | self.settings).items()}

    def start(self) -> None:
        """Start it if it does not run, and wait until its management port answers."""
        self.mount.mkdir(exist_ok=True)
        if self.process is None or not self.process.running:
            log = self.folder / "router.log"
            self.process = process.start(COMMAND, log=log, env=self.environment)
            self.process.ready(self._answers, within=30, retry=(httpx.TransportError,))

    def stop(self) -> int | None:
        """End it in order. Returns the exit status, None if it was never started."""
        return self.process.end() if self.process else None

    def project(self, payload: Mapping[str, bytes]) -> None:
        """Make the mount show exactly these files; the router sees them at its next look."""
        project(self.mount, payload)

    def publish(self, *routes: Route) -> None:
        """Make these the routes. They are in use when this returns."""
        payload = files(*routes)
        self.project(payload)
        reloaded = httpx.post(f"{self.management}/reload", timeout=10, **PLAIN).json()
        assert reloaded["rejected"] is None, reloaded
        assert reloaded["config"]["checksum"] == payload[CHECKSUM_KEY].decode(), reloaded

    def status(self) -> dict[str, Any]:
        """What it says it runs."""
        answer = httpx.get(f"{self.management}/status", timeout=10, **PLAIN)
        document: dict[str, Any] = answer.raise_for_status().json()
        return document

    def ready(self) -> int:
        """The status that its readiness probe gets."""
        return httpx.get(f"{self.management}/readyz", timeout=10, **PLAIN).status_code

    def metrics(self) -> str:
        """Its Prometheus exposition."""
        answer = httpx.get(f"{self.management}/metrics", timeout=10, **PLAIN)
        return answer.raise_for_status().text

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of its log with this event."""
        text = (self.folder / "router.log").read_text()
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def _answers(self) -> bool:
        answer = httpx.get(f"{self.management}/healthz", timeout=5, **PLAIN)
        return answer.is_success


@dataclass(slots=True)
class DataPort:
    """A router in the test's own process and loop, and a client of it.

    Nothing of it runs in the background: no probes, no reading of folders.
    """

    router: Assembled
    client: httpx.AsyncClient
    url: str
    recorded: list[Record]

    @property
    def parts(self) -> Parts:
        """What its requests use."""
        return self.router.parts

    @property
    def pool(self) -> Pool:
        """Its connections to hosts."""
        return self.router.pool

    def standing(self, target: Target) -> Standing:
        """What it knows of a target."""
        return self.parts.standings.of(target.url, target.model)

    def publish(self, *routes: Route) -> None:
        """Make these the routes."""
        payload = files(*routes)
        published = Published(payload[CONFIG_KEY], payload[CHECKSUM_KEY].decode())
        follower = self.parts.follower
        follower.table = Table.build(published, self.parts.standings, NONE)
        follower.on_swap(follower.table)

    async def post(self, path: str, **body: Any) -> httpx.Response:
        """Send a request and have the whole answer."""
        return await self.client.post(path, json=body)

    def records(self) -> list[Record]:
        """What was recorded so far."""
        self.parts.recorder.flush()
        return self.recorded


@pytest.fixture
async def data_port(tmp_path: Path) -> AsyncIterator[DataPort]:
    """The data port of this test, without a configuration."""
    made = assemble(
        Settings.from_environment(
            {
                "LLM_ROUTER_CONFIG": str(tmp_path),
                "LLM_ROUTER_CREDENTIALS": str(tmp_path / "credentials"),
                "LLM_ROUTER_STREAM_IDLE_SECONDS": "5",
                "LLM_ROUTER_MAX_BODY_BYTES": "100000",
                "LLM_ROUTER_ACCESS_LOG": "false",
            }
        )
    )
    recorded: list[Record] = []
    made.parts.recorder = Recorder([made.parts.metrics.take, recorded.extend])
    server = Server(App(made.parts), made.limits)
    listener = listen("127.0.0.1", 0, setting="")
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    await server.start(listener)
    async with httpx.AsyncClient(base_url=url, trust_env=False, verify=False) as client:
        yield DataPort(made, client, url, recorded)
    await server.drain(0)
    await made.close()


@pytest.fixture(scope="session")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """The run's router. A test publishes the routes it needs and never stops it."""
    started = Router(tmp_path_factory.mktemp("router"))
    started.start()
    yield started
    started.stop()


@pytest.fixture
def make_router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Router]]:
    """Make routers, not yet started: `make_router(DRAIN_SECONDS="2")`."""
    made: list[Router] = []

    def make(**settings: str) -> Router:
        fresh = Router(tmp_path_factory.mktemp("router"), settings)
        fresh.mount.mkdir()
        made.append(fresh)
        return fresh

    yield make
    for one in made:
        one.stop()
