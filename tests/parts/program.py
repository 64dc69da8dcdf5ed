"""A process of `llmb` for a cluster: the API server by a token of its own, a database, a port.

`operator.Operator` and `admin.Admin` are the two: what each is started with, and with which rights,
they say themselves.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import httpx

from parts import process
from parts.access import User
from parts.control_plane import ControlPlane
from parts.process import Process, free_port


@dataclass(slots=True)
class Program:
    """One of them. It may be started and ended in any order, any number of times.

    Attributes:
        NAME: of the subcommand.
        server: another way to the API server, a proxy's URL say.
        settings: more environment variables, or others than those of the tests.
        port: where it answers /readyz.
    """

    NAME: ClassVar[str]

    control_plane: ControlPlane
    folder: Path
    database: str
    user: User | None = None
    server: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    _process: Process | None = None

    def run(self, user: User, env: Mapping[str, str], *, ready: bool, within: float) -> None:
        """Start it as a user, with `env` beside what every one has; and wait until it is ready."""
        kubeconfig = self.control_plane.write_kubeconfig(token=user.token, server=self.server)
        self._process = process.start(
            [sys.executable, "-m", "llm_operator.cli", self.NAME],
            log=self.log,
            env={
                "KUBECONFIG": str(kubeconfig),
                "HOME": str(self.folder),
                "LLMB_DATABASE_URL": self.database,
                **env,
                **self.settings,
            },
        )
        if ready:
            self._process.ready(self.ready, within=within, retry=(httpx.TransportError,))

    @property
    def log(self) -> Path:
        return self.folder / f"{self.NAME}.log"

    @property
    def process(self) -> Process:
        assert self._process is not None, f"the {self.NAME} was never started"
        return self._process

    def ready(self) -> bool:
        """What /readyz says."""
        return self.ask("readyz").is_success

    def ask(self, path: str) -> httpx.Response:
        """One request to its port."""
        return httpx.get(f"http://127.0.0.1:{self.port}/{path}", trust_env=False, timeout=5)

    def end(self, *, within: float = 15) -> int:
        """SIGTERM. Returns the exit code."""
        return self.process.end(within=within)

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines with this event so far."""
        found = (json.loads(line) for line in self.log.read_text().splitlines() if line[:1] == "{")
        return [line for line in found if line["event"] == event]
