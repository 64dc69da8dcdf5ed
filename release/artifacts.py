"""The parts of a release, each made into a folder from the tree. Equal trees give equal bytes.

Nothing is downloaded here but the pinned setuptools, once; helm and kubectl are those that
`make tools control-plane` built.
"""

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from release import git, tools

CHARTS = ("llm-backend", "llm-router")
SUMS = "SHA256SUMS"

#: Run in a copy of the tree, so that no earlier build's leftovers come along.
#: NB: building sets sys.argv anew.
BACKEND = (
    "import sys; from setuptools import build_meta as backend; into = sys.argv[1]; "
    "backend.build_wheel(into); backend.build_sdist(into)"
)


def distributions(into: Path) -> None:
    """The wheel and the sdist."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for path in git.files():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(git.ROOT / path, tree / path)
        _run(sys.executable, "-c", BACKEND, str(into), cwd=tree, path=str(tools.setuptools()))
    for archive in into.glob("*.tar.gz"):
        settle(archive)


def charts(into: Path, *, helm: Path) -> None:
    """Both charts, with the project's version as theirs and as the application's."""
    version = git.version()
    for name in CHARTS:
        chart = git.ROOT / "manifests" / "helm" / name
        versions = ("--version", version, "--app-version", version)
        _run(str(helm), "package", str(chart), *versions, "-d", str(into), cwd=git.ROOT)
        settle(into / f"{name}-{version}.tgz")


def manifest(into: Path, *, kubectl: Path) -> None:
    """install.yaml: the cluster-wide overlay with the tag of this version on the images."""
    # NB: kustomize takes no absolute path for a resource.
    with tempfile.TemporaryDirectory() as folder:
        overlay = git.ROOT / "manifests" / "overlays" / "cluster"
        resource = os.path.relpath(overlay, Path(folder).resolve())
        lines = (
            "apiVersion: kustomize.config.k8s.io/v1beta1",
            "kind: Kustomization",
            f"resources: [{resource}]",
            f"images: [{{name: llm-backend, newTag: {git.version()}}}]",
        )
        (Path(folder) / "kustomization.yaml").write_text("\n".join(lines) + "\n")
        told = _run(str(kubectl), "kustomize", folder, cwd=git.ROOT)
    (into / "install.yaml").write_text(told)


def images(into: Path) -> None:
    """Both images with their bills of materials."""
    builder = git.ROOT / "images" / "build.py"
    subprocess.run([sys.executable, builder, "--out", into], check=True, stdout=subprocess.DEVNULL)


def sums(into: Path) -> None:
    """SHA256SUMS of everything in the folder, as `sha256sum --check` reads it."""
    rows = []
    for path in sorted(into.iterdir()):
        if path.is_file() and path.name != SUMS:
            with path.open("rb") as file:
                rows.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    (into / SUMS).write_text("".join(rows))


def settle(archive: Path) -> None:
    """Write a tar.gz anew: entries in order, no owner, the commit's time everywhere."""
    moment = git.epoch()
    packed = io.BytesIO()
    with tarfile.open(archive) as old, tarfile.open(fileobj=packed, mode="w") as new:
        for member in sorted(old.getmembers(), key=lambda each: each.name):
            content = old.extractfile(member) if member.isfile() else None
            member.mtime = moment
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, content)
    archive.write_bytes(gzip.compress(packed.getvalue(), mtime=moment))


def _run(*command: str, cwd: Path, path: str = "") -> str:
    # NB: the commit's time, so that a zip's entries have it; `path` comes before what is installed.
    own = {"SOURCE_DATE_EPOCH": str(git.epoch()), "PYTHONPATH": path}
    return tools.run(*command, cwd=cwd, environment=os.environ | own)
