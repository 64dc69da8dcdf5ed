"""Simulated hosts of all three types, in a thread and a loop of their own, for a module's tests.

with Hosts.started() as hosts:
    hosts.url("mlx"), hosts.last("mlx").body
"""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from conformance.openai_host import MODEL, OpenAIHost
from llm_operator.simulate.behaviour import Behaviour, Kind
from llm_operator.simulate.server import Simulator, serve

T = TypeVar("T")

#: Type -> the model that its simulated host has.
MODELS = {"ollama": "phi3:mini", "mlx": "default_model", "openai": MODEL}

ABLE = ("completion", "tools", "vision", "insert", "embedding")


@dataclass(slots=True)
class Hosts:
    """The three hosts."""

    loop: asyncio.AbstractEventLoop
    ollama: Simulator
    mlx: Simulator
    openai: OpenAIHost

    @classmethod
    @contextlib.contextmanager
    def started(cls) -> "Iterator[Hosts]":
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="hosts")
        thread.start()

        def run(what: Coroutine[Any, Any, T]) -> T:
            return asyncio.run_coroutine_threadsafe(what, loop).result(30)

        def simulator(kind: Kind) -> Simulator:
            models = (MODELS[kind.value],)
            return run(serve(kind, host="127.0.0.1", port=0, behaviour=Behaviour(), models=models))

        ollama, mlx = simulator(Kind.OLLAMA), simulator(Kind.MLX)
        openai = run(OpenAIHost.start())
        try:
            yield cls(loop, ollama, mlx, openai)
        finally:
            for host in (ollama, mlx, openai):
                run(host.close())
            loop.call_soon_threadsafe(loop.stop)
            thread.join(30)
            loop.close()

    def url(self, target: str) -> str:
        return f"http://127.0.0.1:{getattr(self, target).port}"

    def behave(self, *, thinking: bool = False, **more: Any) -> None:
        """How the simulated Ollama and MLX answer from now on."""
        able = (*ABLE, "thinking") if thinking else ABLE
        self.ollama.behaviour = Behaviour(capabilities=able, **more)
        self.mlx.behaviour = Behaviour(thinking=("*",) if thinking else (), **more)

    def asked(self, target: str) -> list[Any]:
        """The requests of clients that reached a host: `path` and `body` of each."""
        host = getattr(self, target)
        # NB: the router's own, probes and checks, have no request id.
        return [one for one in host.requests if "x-request-id" in one.headers]
