"""Start a real program for the tests, wait until it answers, end it by its process id.

Each program leads its own process group, so that Ctrl-C in a terminal reaches pytest first and so
that its children (an Ollama runner) end with it. Its output goes to a file, of which a failure
shows the end. Every wait has a deadline. A second, tiny process holds the list of what runs and
ends it when pytest itself is killed: nothing outlives the tests.
"""

import atexit
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from parts.eventually import Errors, eventually

#: Reads "+pid" and "-pid" lines; when the other end of the pipe is gone, ends every group still
#: listed.
WATCH = """
import os, signal, sys
running = set()
for line in sys.stdin:
    (running.add if line[0] == "+" else running.discard)(int(line[1:]))
for pid in running:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""

# NB: pytest-randomly seeds `random` alike in every run, and two runs at once must not pick the same
# ports.
_draw = random.SystemRandom()
_watch: subprocess.Popen[bytes] | None = None


class StartError(Exception):
    """A program ended before it was ready. The message holds the end of its output."""


@dataclass(slots=True)
class Process:
    """One running program. `start` makes it."""

    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def tail(self, *, characters: int = 4000) -> str:
        """The end of what the program wrote."""
        return self.log.read_text(errors="replace")[-characters:]

    def ready(
        self, probe: Callable[[], object], *, within: float, retry: Errors = (OSError,)
    ) -> None:
        """Wait until `probe` is true. Raises StartError, or the probe's last error with the log."""

        def check() -> object:
            if not self.running:
                name = Path(str(self.popen.args[0])).name  # type: ignore[index]
                raise StartError(f"{name} ended with {self.popen.returncode}:\n{self.tail()}")
            return probe()

        try:
            eventually(check, within=within, retry=retry)
        except StartError:
            raise
        except Exception as error:
            error.add_note(self.tail())
            raise

    def end(self, *, by: signal.Signals = signal.SIGTERM, within: float = 15) -> int:
        """Ask the program to end, kill it at the deadline. Returns the exit code once it ended."""
        if self.running:
            self.popen.send_signal(by)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(within)
        return self.kill()

    def kill(self) -> int:
        """SIGKILL to the program and all its children. Returns its exit code once it is gone."""
        # NB: also after a clean end, for children that were left behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        code = self.popen.wait(10)
        _tell(f"-{self.pid}")
        return code


def start(
    command: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: str | None = None,
) -> Process:
    """Start a program with PATH, the language and `env` only; its output is added to `log`."""
    with log.open("ab") as output:
        popen = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"} | dict(env or {}),
            cwd=cwd or log.parent,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=[] if user else None,
        )
    _tell(f"+{popen.pid}")
    return Process(popen=popen, log=log)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, and that no outgoing connection will be given.

    NB: it lies below Linux's range for outgoing connections (32768 up). A server that is stopped
    and started again in a test must find its port free, and a client that retries meanwhile could
    otherwise be given that very port and connect to itself.
    """
    for _ in range(200):
        port = _draw.randrange(15000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise RuntimeError("no free port between 15000 and 32000 on 127.0.0.1")


def _tell(line: str) -> None:
    """Keep the watching process's list right; it is started with the first program."""
    global _watch
    if _watch is None:
        _watch = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", WATCH], stdin=subprocess.PIPE, start_new_session=True
        )
        atexit.register(_unwatch, _watch)
    assert _watch.stdin is not None
    _watch.stdin.write(f"{line}\n".encode())
    _watch.stdin.flush()


def _unwatch(watch: subprocess.Popen[bytes]) -> None:
    assert watch.stdin is not None
    watch.stdin.close()
    watch.wait(10)
