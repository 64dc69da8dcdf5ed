"""The peers and where they lie: in the cache, outside the repository, each in a folder of its own.

    python -m bench.peers install [--python PATH] [NAME ...]

Every peer is optional; the bench skips what is not here and says how to get it. Versions are
pinned, because a figure without one can't be repeated.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.process import ROOT

#: Name -> its version and what pip installs.
PYPI = {
    "vllm-router": ("0.1.17", "vllm-router==0.1.17"),
    "litellm": ("1.105.0", "litellm[proxy]==1.105.0"),
}
#: NB: with newer ones of the last three Portkey's streams fail.
PORTKEY = {
    "@portkey-ai/gateway": "1.15.2",
    "hono": "4.6.20",
    "@hono/node-server": "1.13.8",
    "@hono/node-ws": "1.0.4",
}
NAMES = ("vllm-router", "litellm", "portkey")
HOW = "python -m bench.peers install"


@dataclass(frozen=True, slots=True)
class Installed:
    """A peer's folder, and what is in it."""

    folder: Path
    version: str


def cache() -> Path:
    """The bench's folder in the cache: below LLMB_CACHE, else the user's."""
    if named := os.environ.get("LLMB_CACHE"):
        return Path(named) / "bench"
    return (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm-backend" / "bench"
    )


def find(name: str) -> Installed | None:
    """The peer, if it is installed whole."""
    version = PORTKEY["@portkey-ai/gateway"] if name == "portkey" else PYPI[name][0]
    folder = cache() / f"{name}-{version}"
    program = folder / ("node_modules/@portkey-ai/gateway" if name == "portkey" else f"bin/{name}")
    return Installed(folder, version) if program.exists() else None


def environment(python: str) -> Path:
    """The Python of a venv in the cache that runs this repository's router with that interpreter.

    Its dependencies are those that locks/standalone.txt pins.
    """
    lock = ROOT / "locks" / "standalone.txt"
    named = f"{Path(python).resolve()}\n{ROOT}\n{lock.read_text()}"
    folder = cache() / f"router-{hashlib.sha256(named.encode()).hexdigest()[:12]}"
    done = folder / ".whole"
    if not done.exists():
        pins = re.findall(r"^[A-Za-z0-9_.\[\]-]+==[^ \\;]+", lock.read_text(), re.MULTILINE)
        _venv(folder, python)
        (folder / "pins.txt").write_text("\n".join(pins))
        _pip(folder, "-c", str(folder / "pins.txt"), "-e", f"{ROOT}[router]")
        done.touch()
    return folder / "bin" / "python"


def install(name: str, *, python: str) -> None:
    """Install one peer; what a broken run left is replaced."""
    if find(name) is not None:
        return
    if name == "portkey":
        _npm(cache() / f"portkey-{PORTKEY['@portkey-ai/gateway']}")
        return
    version, requirement = PYPI[name]
    folder = cache() / f"{name}-{version}"
    _venv(folder, python)
    _pip(folder, requirement)


def _venv(folder: Path, python: str) -> None:
    sys.stderr.write(f"[bench] a virtual environment in {folder}\n")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([python, "-m", "venv", str(folder)], check=True, timeout=120)


def _pip(folder: Path, *arguments: str) -> None:
    sys.stderr.write(f"[bench] pip install {arguments[-1]}\n")
    command = [str(folder / "bin" / "pip"), "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*command, *arguments], check=True, timeout=900, stdout=sys.stderr)


def _npm(folder: Path) -> None:
    if shutil.which("npm") is None:
        sys.stderr.write("[bench] portkey: needs node and npm on PATH\n")
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pinned = {name: version for name, version in PORTKEY.items() if "portkey" not in name}
    document = {"private": True, "dependencies": PORTKEY, "overrides": pinned}
    (folder / "package.json").write_text(json.dumps(document, indent=2))
    sys.stderr.write(f"[bench] npm install in {folder}\n")
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=folder, check=True, timeout=600, stdout=sys.stderr)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("command", choices=["install"])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--python", default=sys.executable, help="interpreter for their venvs")
    arguments = parser.parse_args()
    for name in arguments.names or NAMES:
        if name not in NAMES:
            parser.error(f"{name}: is none of {', '.join(NAMES)}")
        try:
            install(name, python=arguments.python)
        except (subprocess.SubprocessError, OSError) as error:
            sys.stderr.write(f"[bench] {name}: {error}\n")
        where = find(name)
        sys.stdout.write(f"{name}: {where.folder if where else 'not installed'}\n")


if __name__ == "__main__":
    main()
