"""What `make release` makes, but for the images: built twice, verified, and given to a real server.

What an earlier release froze below tests/earlier is read by this one.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_contract import verify
from llm_router.credentials import NONE
from llm_router.mount import Published
from llm_router.standing import Standings
from llm_router.table import Table
from parts import build
from parts.absent import absent
from parts.control_plane import ControlPlane
from parts.manifests import MANIFESTS, render

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
EARLIER = ROOT / "tests" / "earlier"
FROZEN = sorted(path.parent for path in EARLIER.glob("*/migrations.sha256"))


def python(*args: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, capture_output=True, text=True, timeout=100
    )


def snapshot(into: Path) -> Path:
    """A release of the tree as it is, without images."""
    for part, program in (("tools", "helm"), ("control-plane", "kubectl")):
        folder = build.located(part)
        if folder is None or not (folder / program).exists():
            absent(program, remedy=f"run `make {part}` (minutes, once)")
    ended = python("-m", "release", "--snapshot", "--no-images", "--out", into)
    assert ended.returncode == 0, ended.stderr
    return into


def sums(folder: Path) -> dict[str, str]:
    rows = [row.split("  ") for row in (folder / "SHA256SUMS").read_text().splitlines()]
    return {name: digest for digest, name in rows}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return snapshot(tmp_path_factory.mktemp("release"))


def test_it_is_whole_and_its_checksums_are_right(released: Path) -> None:
    listed = sums(released)
    assert listed.keys() == {
        "install.yaml",
        f"llm-backend-{VERSION}.tgz",
        f"llm-router-{VERSION}.tgz",
        f"llm_backend-{VERSION}-py3-none-any.whl",
        f"llm_backend-{VERSION}.tar.gz",
    }
    for name, digest in listed.items():
        assert hashlib.sha256((released / name).read_bytes()).hexdigest() == digest


def test_a_second_build_gives_the_same_bytes(released: Path, tmp_path: Path) -> None:
    assert sums(snapshot(tmp_path / "again")) == sums(released)


def test_the_wheel_holds_the_crd_and_the_migrations(released: Path) -> None:
    (wheel,) = released.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    migrations = {f"llm_operator/migrations/{p.name}" for p in ROOT.glob("migrations/*.sql")}
    assert migrations | {"llm_operator/crds/llmbackends.yaml", "llm_router/cli.py"} <= names
    assert not [name for name in names if name.startswith("tests")]


@pytest.mark.parametrize("chart", ["llm-backend", "llm-router"])
def test_a_chart_has_the_version_of_the_project(released: Path, chart: str) -> None:
    with tarfile.open(released / f"{chart}-{VERSION}.tgz") as packed:
        file = packed.extractfile(f"{chart}/Chart.yaml")
        assert file is not None
        told = yaml.safe_load(file)
    assert (told["name"], told["version"], told["appVersion"]) == (chart, VERSION, VERSION)


def documents(released: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((released / "install.yaml").read_text()))


def test_install_yaml_is_the_overlay_with_the_tag_set(released: Path) -> None:
    text = yaml.safe_dump_all(render(MANIFESTS / "overlays" / "cluster"))
    tagged, images = re.subn(
        r"image: llm-backend(:\S+)?\n", f"image: llm-backend:{VERSION}\n", text
    )
    assert images > 0
    assert documents(released) == list(yaml.safe_load_all(tagged))


@pytest.mark.usefixtures("crd")
def test_the_api_server_takes_install_yaml(control_plane: ControlPlane, released: Path) -> None:
    shipped = documents(released)
    namespaces = [each for each in shipped if each["kind"] == "Namespace"]
    # NB: a dry run stores no namespace, and nothing can be tried in one that is not there.
    apply = ("apply", "--server-side", "--force-conflicts")
    control_plane.kubectl(*apply, "-f", "-", stdin=yaml.safe_dump_all(namespaces))
    tried = control_plane.kubectl(
        *(*apply, "--dry-run=server", "--validate=strict", "-f", released / "install.yaml")
    )
    taken = [line for line in tried.stdout.splitlines() if line.endswith("(server dry run)")]
    assert len(taken) == len(shipped)


class TestTag:
    """A release is of a clean tree with the version's tag; here of the test's own."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        tree = tmp_path / "tree"
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "release", tree / "release", ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", tree)
        (tree / ".gitignore").write_text("__pycache__/\n")
        self.git(tree, "init", "-q")
        self.git(tree, "add", ".")
        self.git(tree, "commit", "-q", "-m", "One")
        return tree

    def git(self, tree: Path, *args: str) -> None:
        who = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
        subprocess.run(["git", *who, *args], cwd=tree, check=True, capture_output=True, timeout=20)

    def refusal(self, tree: Path) -> str:
        ended = python("-c", "from release import git; git.check()", cwd=tree)
        return ended.stderr.strip().rpartition("\n")[2]

    def test_without_a_tag_is_refused(self, tree: Path) -> None:
        assert f"no tag: tag it v{VERSION}" in self.refusal(tree)

    def test_with_another_tag_is_refused(self, tree: Path) -> None:
        self.git(tree, "tag", "v99.0.0")
        assert "the commit has v99.0.0" in self.refusal(tree)

    def test_with_its_tag_is_taken_until_a_file_differs(self, tree: Path) -> None:
        self.git(tree, "tag", f"v{VERSION}")
        assert self.refusal(tree) == ""
        (tree / "pyproject.toml").write_text((tree / "pyproject.toml").read_text() + "\n")
        assert "1 files differ from the commit, the first is pyproject.toml" in self.refusal(tree)


def holds(frozen: Path) -> None:
    """This release reads what an earlier one published, and has not edited its migrations."""
    routing = sorted((frozen / "routing").glob("*.json"))
    assert routing
    for path in routing:
        published = Published(path.read_bytes(), path.with_suffix(".json.sha256").read_text())
        verify(published.raw, published.checksum)
        table = Table.build(published, Standings(), NONE)
        written = json.loads(published.raw)["routes"]
        assert list(table.entries) == [
            name for route in written for name in (route["model"], *route.get("aliases", ()))
        ]
    for row in (frozen / "migrations.sha256").read_text().splitlines():
        digest, file = row.split("  ")
        now = hashlib.sha256((ROOT / "migrations" / file).read_bytes()).hexdigest()
        assert now == digest, f"{file} was released and is never edited: add a migration"


def test_what_was_ever_frozen_holds_until_it_is_edited(tmp_path: Path) -> None:
    into = tmp_path / "now"
    freeze = (
        f"from pathlib import Path; from release.freeze import freeze; freeze(Path({str(into)!r}))"
    )
    ended = python("-c", freeze)
    assert ended.returncode == 0, ended.stderr
    assert {path.name for path in into.iterdir()} == {
        *("crd.yaml", "objects.yaml", "routing", "migrations.sha256")
    }
    for frozen in [*FROZEN, into]:
        holds(frozen)
    listed = into / "migrations.sha256"
    listed.write_text("0" * 64 + listed.read_text()[64:])
    with pytest.raises(AssertionError, match="is never edited"):
        holds(into)
    assert "FileExistsError" in python("-c", freeze).stderr
