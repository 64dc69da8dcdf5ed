"""A real Ollama with a tiny model, on a port and in folders of its own.

The server is the one OLLAMA_BIN or PATH names, else the one that `make ollama` built. It knows the
model `phi3:mini`; a test adds names with `create`. All names are the same tiny model, which answers
in milliseconds, with at most 16 tokens unless a request says otherwise; but `endless` never ends an
answer by itself.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from parts import build, process
from parts.absent import absent
from parts.process import Process, free_port

MODEL = "phi3:mini"
ENDLESS = "endless"

MODELFILE = """FROM {model}
TEMPLATE \"\"\"{{{{ if .System }}}}system: {{{{ .System }}}}
{{{{ end }}}}user: {{{{ .Prompt }}}}
assistant: {{{{ .Response }}}}\"\"\"
PARAMETER num_predict 16
"""
#: What is said of the endless model besides. Ollama makes ten times as many tokens at most.
LONG = "PARAMETER num_ctx 32768\n"


@dataclass(slots=True)
class Ollama:
    """One server. `start` and `stop` may be called in any order, repeatedly."""

    folder: Path
    program: Path
    port: int = field(default_factory=free_port)
    _process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "Ollama was never started"
        return self._process.pid

    @property
    def log(self) -> str:
        """The end of the server's own log."""
        return self._process.tail() if self._process else ""

    def start(self) -> None:
        """Start the server if it does not run, and wait until it answers. Models are kept."""
        if self._process is None or not self._process.running:
            self._process = process.start(
                [self.program, "serve"],
                log=self.folder / "ollama.log",
                env=self._environment(),
            )
            self._process.ready(self._answers, within=30, retry=(httpx.TransportError,))

    def stop(self, *, crash: bool = False) -> None:
        """End the server and its model runners, in order or by SIGKILL."""
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

    def create(self, name: str, *, endless: bool = False) -> None:
        """Give the tiny model one more name, or a name to the endless one."""
        weights = self.folder / ("endless.gguf" if endless else "tiny.gguf")
        modelfile = self.folder / "Modelfile"
        modelfile.write_text(MODELFILE.format(model=weights) + (LONG if endless else ""))
        ended = subprocess.run(
            [self.program, "create", name, "-f", modelfile],
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": os.environ["PATH"]} | self._environment(),
        )
        assert ended.returncode == 0, f"ollama create {name}: {ended.stderr}\n{self.log}"

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),
            "OLLAMA_HOST": f"127.0.0.1:{self.port}",
            "OLLAMA_MODELS": str(self.folder / "models"),
            "OLLAMA_KEEP_ALIVE": "1h",
            "OLLAMA_MAX_LOADED_MODELS": "4",
        }

    def _answers(self) -> bool:
        return httpx.get(f"{self.url}/api/version", trust_env=False, timeout=5).is_success


def program() -> Path:
    """The Ollama to run; it is never built here."""
    folder = build.located("ollama")
    found = os.environ.get("OLLAMA_BIN") or (folder / "ollama" if folder else None)
    if found is None or not Path(found).exists():
        absent("Ollama", remedy="run `make ollama` (ten minutes, once), or set OLLAMA_BIN")
    return Path(found)


@pytest.fixture(scope="session")
def ollama_server(part_folder: Path) -> Iterator[Ollama]:
    """The run's Ollama and its two models. A test stops it by `with ollama_server.down():` only."""
    found = program()
    # NB: the libraries that make models are imported only where a model is made.
    from parts import gguf_model

    folder = part_folder / "ollama"
    folder.mkdir()
    gguf_model.write(folder / "tiny.gguf")
    gguf_model.write(folder / "endless.gguf", endless=True)
    server = Ollama(folder=folder, program=found)
    try:
        server.start()
        server.create(MODEL)
        server.create(ENDLESS, endless=True)
        yield server
    finally:
        server.stop(crash=True)
