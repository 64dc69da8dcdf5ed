"""The kstatus of live objects, computed by the library that GitOps tools use, not by ours.

A program of a few lines around `sigs.k8s.io/cli-utils`, compiled once from the public Go module
proxy into the cache that `parts.build` keeps its servers in, at the first test that asks.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from parts import build
from parts.absent import absent

SOURCE = Path(__file__).resolve().parent / "kstatus"
FILES = ("go.mod", "go.sum", "main.go")


class KStatus:
    """What the library says of objects. `provide` makes it."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def of(self, objects: Sequence[Mapping[str, Any]]) -> list[str]:
        """Current, InProgress, Failed, Terminating or Unknown, for each in turn."""
        ended = subprocess.run(
            [self._program],
            input=json.dumps([dict(each) for each in objects]),
            capture_output=True,
            text=True,
            timeout=10,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.split()


def compile_into(folder: Path) -> None:
    """The program, in a folder of the cache."""
    build.run(
        [build.go(), "build", "-trimpath", "-ldflags", "-s -w", "-o", str(folder / "kstatus"), "."],
        cwd=SOURCE,
        env=build.environment(CGO_ENABLED="0"),
        what="kstatus (a minute, once)",
    )


def provide() -> KStatus:
    """The program as it lies in the cache, built now if it does not."""
    target = build.cache() / f"kstatus-{build.fingerprint(*(SOURCE / name for name in FILES))}"
    return KStatus(build.built(target, steps=[compile_into]) / "kstatus")


@pytest.fixture(scope="session")
def kstatus() -> KStatus:
    """The library. NB: a test that asks for it is given the minutes that a first build takes."""
    try:
        return provide()
    except SystemExit:
        absent(
            "the kstatus library", remedy="see above why `go build` failed in tests/parts/kstatus"
        )
