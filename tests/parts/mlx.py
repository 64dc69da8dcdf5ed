"""A real mlx_lm.server with a tiny model, on a port of its own, cut off from the model hub.

It serves one model, by the name `default_model`; any other name is a 404, because it is looked for
in a hub cache that is empty. Its first answer takes seconds (Python, MLX, the model); `start` waits
for one.
"""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from parts import process
from parts.absent import absent
from parts.process import Process, free_port

MODEL = "default_model"


@dataclass(slots=True)
class Mlx:
    """One server. `start` and `stop` may be called in any order, repeatedly."""

    folder: Path
    port: int = field(default_factory=free_port)
    _process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "mlx_lm.server was never started"
        return self._process.pid

    @property
    def log(self) -> str:
        """The end of the server's own log."""
        return self._process.tail() if self._process else ""

    def start(self) -> None:
        """Start the server if it does not run, and wait until it has answered a chat."""
        if self._process is None or not self._process.running:
            self._process = process.start(
                [
                    *(sys.executable, "-m", "mlx_lm", "server", "--model", self.folder / "model"),
                    *("--host", "127.0.0.1", "--port", str(self.port), "--max-tokens", "16"),
                ],
                log=self.folder / "mlx.log",
                env={
                    "HOME": str(self.folder),
                    "HF_HUB_OFFLINE": "1",
                    "HF_HUB_DISABLE_TELEMETRY": "1",
                    "TOKENIZERS_PARALLELISM": "false",
                },
            )
            self._process.ready(self._answers, within=90, retry=(httpx.TransportError,))

    def stop(self, *, crash: bool = False) -> None:
        """End the server, in order or by SIGKILL."""
        if self._process is not None:
            if crash:
                self._process.kill()
            else:
                self._process.end()

    @contextmanager
    def down(self, *, crash: bool = True) -> Iterator[None]:
        """Down inside the block, up again on the same port after it."""
        self.stop(crash=crash)
        try:
            yield
        finally:
            self.start()

    def _answers(self) -> bool:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
        url = f"{self.url}/v1/chat/completions"
        return httpx.post(url, json=body, trust_env=False, timeout=60).is_success


@pytest.fixture(scope="session")
def mlx_server(part_folder: Path) -> Iterator[Mlx]:
    """The run's MLX server. A test stops it by `with mlx_server.down():` only."""
    if not all(importlib.util.find_spec(name) for name in ("mlx_lm", "safetensors", "tokenizers")):
        absent("mlx_lm.server", remedy="run `pip install 'llm-backend[dev]'`")
    # NB: the libraries that make models are imported only where a model is made.
    from parts import mlx_model

    folder = part_folder / "mlx"
    (folder / "model").mkdir(parents=True)
    mlx_model.write(folder / "model")
    server = Mlx(folder=folder)
    try:
        server.start()
        yield server
    finally:
        server.stop(crash=True)
