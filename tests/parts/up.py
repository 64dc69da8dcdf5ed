"""`llmb up` as a person starts it: one data folder, and the runs on it, one after another.

    up = Up(folder); up.start(); up.ask(); up.end()

Hosts are simulated ones. The process is ended by its pid; what it started ends with it.
"""

import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from parts import process
from parts.process import Process, free_port

COMMAND = [sys.executable, "-m", "llm_operator.cli", "up"]


@dataclass(slots=True)
class Up:
    """One data folder and the runs of `llmb up` on it."""

    folder: Path
    port: int = field(default_factory=free_port)
    management_port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    process: Process | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What it wrote to the terminal."""
        return self.folder / "up.log"

    @property
    def router(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> str:
        """Where page and API are."""
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def ports(self) -> list[str]:
        """The flags for its ports."""
        return [
            *("--port", str(self.port), "--management-port", str(self.management_port)),
            *("--admin-port", str(self.admin_port)),
        ]

    @property
    def example(self) -> Path:
        return self.data / "resources" / "example.yaml"

    @property
    def token(self) -> str:
        """Of the admin API."""
        return (self.data / "admin.token").read_text().strip()

    @property
    def card(self) -> str:
        return self.log.read_text()

    def told(self, part: str) -> str:
        """What the card says of a part: the first word after its name."""
        found = re.search(rf"^  {part}\s+(\S+)", self.card, re.MULTILINE)
        assert found is not None, self.card
        return found[1]

    def start(self) -> None:
        """Start it and wait for the card."""
        self.log.unlink(missing_ok=True)
        self.process = process.start(
            [*COMMAND, "--simulate", "--data", str(self.data), *self.ports],
            log=self.log,
            env={"HOME": str(self.folder)},
        )
        self.process.ready(lambda: "Ctrl-C ends everything" in self.card, within=60)

    def ask(self, model: str = "phi3:mini") -> httpx.Response:
        """One chat through the router."""
        return httpx.post(
            f"{self.router}/v1/chat/completions",
            json={"model": model, "messages": [{"role": "user", "content": "Hello"}]},
            timeout=10,
        )

    def client(self) -> httpx.Client:
        """A client of the admin API with its token, for a `with`."""
        return httpx.Client(
            base_url=f"{self.admin}/api/llm-backends",
            headers={"Authorization": f"Bearer {self.token}"},
            trust_env=False,
            timeout=20,
        )

    def end(self) -> int | None:
        """Ctrl-C. Returns the exit status, None if it was never started."""
        return None if self.process is None else self.process.end(by=signal.SIGINT, within=25)


@contextmanager
def folder(part_folder: Path) -> Iterator[Up]:
    """One in a fresh folder, not started; ended at the end."""
    place = part_folder / f"up-{free_port()}"
    place.mkdir()
    one = Up(place)
    try:
        yield one
    finally:
        one.end()
