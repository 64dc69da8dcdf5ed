"""What a router's process holds at one moment: memory, files, connections, requests.

    before = Held.of(router)
    ...
    await eventually_async(lambda: Held.of(router).nothing_beyond(before), within=10)

Connections to hosts are kept on purpose, so files are compared without them.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from parts.router import Router


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """All of it.

    Attributes:
        files: open file descriptors, sockets among them.
        connections: to hosts, those that wait for a request included.
        idle: of these, those that wait.
        active: requests being answered, and attempts at targets.
        memory: resident bytes.
    """

    files: int
    connections: int
    idle: int
    active: int
    memory: int

    @classmethod
    def of(cls, router: Router) -> "Held":
        """What it holds now."""
        assert router.process is not None
        # NB: asked first, so that the connection this takes is gone from the files or counted alike
        # each time.
        values = _values(router.metrics())
        folder = f"/proc/{router.process.pid}"
        return cls(
            files=len(os.listdir(f"{folder}/fd")),
            connections=sum(v for k, v in values.items() if "connections" in k and "open" in k),
            idle=sum(v for k, v in values.items() if "connections" in k and "idle" in k),
            active=sum(v for k, v in values.items() if "active_requests" in k),
            memory=resident(router.process.pid),
        )

    @property
    def other_files(self) -> int:
        """All but the connections to hosts."""
        return self.files - self.connections

    def nothing_beyond(self, before: "Held", *, spare: int = 0) -> bool:
        """Every request is over and nothing of it is left, but for so many files at most."""
        assert self.active == 0, f"{self} after {before}"
        assert self.idle == self.connections, f"{self} after {before}"
        assert self.other_files <= before.other_files + spare, f"{self} after {before}"
        return True


def resident(pid: int) -> int:
    """A process's memory, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def _values(exposition: str) -> dict[str, int]:
    wanted = ("llm_router_upstream_connections", "llm_router_active", "llm_router_target_active")
    lines = [line.rsplit(" ", 1) for line in exposition.splitlines() if line.startswith(wanted)]
    return {name: int(float(value)) for name, value in lines}
