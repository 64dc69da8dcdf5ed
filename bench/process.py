"""Processes pinned to a core: started, watched through /proc, ended by pid.

What a process costs is what it and its children cost: user and system time from /proc/PID/stat, and
VmRSS from /proc/PID/status.
"""

import http.client
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
UNDER_TEST, LOAD = 0, 1
TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A process did not do what it was started for; the message holds its last words."""


def free_port() -> int:
    """A port of the loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pinned(command: Sequence[str], *, core: int) -> list[str]:
    """The command on one core, where the machine can pin and has two."""
    able = shutil.which("taskset") and (os.cpu_count() or 1) > 1
    return ["taskset", "-c", str(core), *command] if able else list(command)


class Process:
    """One child of the bench, its output in a file."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        core: int,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        self.log = log
        self.started = time.monotonic()
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                pinned(command, core=core),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
            )
        self._family: dict[int, psutil.Process] = {}

    def first_200(
        self,
        port: int,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limit: float = 90,
    ) -> float:
        """Seconds from the process's start to its first answer of 200.

        Raises:
            Failed: it ended, or gave none within the limit.
        """
        seen = "nothing"
        sent = {"content-type": "application/json", **(headers or {})}
        while time.monotonic() < self.started + limit:
            if self._child.poll() is not None:
                raise Failed(f"ended with {self._child.returncode}: {self.last_words()}")
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                connection.request("GET" if body is None else "POST", path, body, sent)
                answer = connection.getresponse()
                seen = f"{answer.status} {answer.read(300)!r}"
                if answer.status == 200:
                    return time.monotonic() - self.started
            except (OSError, http.client.HTTPException) as error:
                seen = repr(error)
            finally:
                connection.close()
            time.sleep(0.005)
        raise Failed(f"no answer of 200 in {limit:g} s, last {seen}: {self.last_words()}")

    def last_words(self) -> str:
        """The end of what it wrote."""
        return self.log.read_text(errors="replace")[-600:].strip()

    def cpu_us(self) -> float:
        """Microseconds of CPU that it and its children have used so far."""
        total = 0.0
        for pid in self._pids():
            try:
                # NB: the command's name, in brackets, may itself hold spaces and brackets.
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += (int(fields[11]) + int(fields[12])) * TICK_US
        return total

    def rss_kib(self) -> int:
        """Resident memory of it and its children, in KiB."""
        total = 0
        for pid in self._pids():
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            total += sum(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmRSS"))
        return total

    def stop(self) -> None:
        """End it and its children, politely first."""
        self._pids()
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(5)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait(5)
        for child in self._family.values():
            # NB: psutil compares the start time, so a pid that was given away again is safe.
            if child.is_running():
                child.kill()

    def _pids(self) -> list[int]:
        try:
            children = psutil.Process(self._child.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            children = []
        self._family |= {child.pid: child for child in children}
        return [self._child.pid, *(child.pid for child in children)]
