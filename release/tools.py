"""The programs a release is made with: those of tests/parts/build.py, and a pinned setuptools."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from release import git

LOCK = git.ROOT / "locks" / "build.txt"


def _parts() -> ModuleType:
    # NB: by its path; the tests' folder is on nobody's path but theirs.
    spec = importlib.util.spec_from_file_location(
        "parts_build", git.ROOT / "tests" / "parts" / "build.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def program(part: str, name: str) -> Path:
    """A program that tests/parts/build.py has built.

    Raises:
        Refused: it has not.
    """
    folder = _parts().located(part)
    if folder is None or not (folder / name).exists():
        raise git.Refused(f"{name} is not built: make {part}")
    return Path(folder / name)


def setuptools() -> Path:
    """The folder of the setuptools that locks/build.txt pins, in the cache of built parts."""
    parts = _parts()

    def install(folder: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        command = [*pip, "--require-hashes", "--target", str(folder), "-r", str(LOCK)]
        parts.run(command, cwd=git.ROOT, what="setuptools")

    return Path(parts.built(parts.cache() / f"wheel-{parts.fingerprint(LOCK)}", steps=[install]))


def run(*command: str, cwd: Path, environment: dict[str, str]) -> str:
    """What a command printed.

    Raises:
        Refused: it failed; with the end of what it said.
    """
    ended = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if ended.returncode != 0:
        raise git.Refused(f"{command[0]}: {(ended.stderr or ended.stdout)[-2000:]}")
    return ended.stdout
