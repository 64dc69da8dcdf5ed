"""The quickstart's commands, as they are written."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from parts import docs
from parts import up as ups
from parts.control_plane import ControlPlane
from parts.up import Up

PAGE = docs.DOCS / "quickstart.md"
PROGRAMS = Path(sys.executable).parent

pytestmark = pytest.mark.usefixtures("crd")


def run(
    text: str, *, folder: Path, environment: dict[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """What a shell makes of a block."""
    path = f"{PROGRAMS}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-ec", text],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder)} | (environment or {}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not check or ended.returncode == 0, f"{text}\n{ended.stdout}{ended.stderr}"
    return ended


@pytest.fixture(scope="module")
def up(part_folder: Path) -> Iterator[Up]:
    """What `make up` starts, on free ports."""
    with ups.folder(part_folder) as one:
        one.start()
        yield one


def here(up: Up, text: str) -> str:
    """A block with the run's own ports and folder in place of the default ones."""
    for printed, there in (
        ("http://127.0.0.1:11440", up.router),
        ("http://127.0.0.1:11441", f"http://127.0.0.1:{up.management_port}"),
        ("llmb-data", str(up.data)),
        (".venv/bin/llmb", "llmb"),
    ):
        text = text.replace(printed, there)
    return text


def test_on_one_machine(up: Up) -> None:
    start, ask, move, explain, token = docs.commands(PAGE, "standalone")
    # NB: what the target runs is what `up` has started; the target itself is `make help`'s.
    makefile = (docs.ROOT / "Makefile").read_text()
    assert start == "make up\n"
    assert "$(BIN)/llmb up $(UP)" in makefile

    first = run(here(up, ask), folder=up.folder).stdout
    assert "HTTP/1.1 200" in first
    assert "x-llm-backend-type: mlx" in first
    moved = run(here(up, move), folder=up.folder).stdout
    assert "x-llm-backend-type: ollama" in moved
    assert "ollama" in run(here(up, explain), folder=up.folder).stdout
    assert run(here(up, token), folder=up.folder).stdout.strip() == up.token


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the file that the page shows."""
    (tmp_path / "backend.yaml").write_text(docs.file(PAGE, "backend.yaml"))
    return tmp_path


def test_before_a_commit(folder: Path) -> None:
    [text] = docs.commands(PAGE, "offline")
    assert '"phi3:mini"' in run(text, folder=folder).stdout


def test_on_a_cluster(folder: Path, control_plane: ControlPlane, namespace: str) -> None:
    """Against the real API server; no operator runs, and `llmb status` says that it is not yet."""
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_bytes(control_plane.kubeconfig.read_bytes())
    environment = {
        "KUBECONFIG": str(kubeconfig),
        "PATH": f"{control_plane.programs}:{PROGRAMS}:{os.environ['PATH']}",
    }
    settle = f"kubectl config set-context --current --namespace {namespace}"
    run(settle, folder=folder, environment=environment)
    apply, status = docs.commands(PAGE, "cluster")
    applied = run(apply, folder=folder, environment=environment).stdout
    assert "llmbackend.llm.athena.dev/phi3-mini serverside-applied" in applied
    assert "PROGRAMMED" in applied
    assert "endpointURL" in applied
    told = run(status, folder=folder, environment=environment, check=False)
    assert told.returncode == 1, told.stderr
    assert "phi3-mini" in told.stdout
