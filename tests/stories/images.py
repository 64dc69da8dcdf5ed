"""The two images of this release, built once and brought to the cluster."""

import json
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from parts.cluster import LOADED, Cluster
from stories import archive

ROOT = Path(__file__).resolve().parents[2]
#: A second name of the same operator: what an upgrade goes to.
NEXT = "next"


@dataclass(frozen=True, slots=True)
class Images:
    """Their names in pods' specs, and their sizes in words where they were built here."""

    tag: str
    sizes: dict[str, str]

    @property
    def operator(self) -> str:
        return f"llm-backend:{self.tag}"

    @property
    def next(self) -> str:
        """The tag of the upgrade."""
        return f"{self.tag}-{NEXT}"


def load(cluster: Cluster, folder: Path) -> Images:
    """Build them, or take those of the cache, and give them to the cluster."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        tag = tomllib.load(file)["project"]["version"]
    if cluster.node is None and os.environ.get(LOADED):
        return Images(tag=tag, sizes={})
    command = [sys.executable, ROOT / "images" / "build.py", "--out", folder]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    told = json.loads((folder / "images.json").read_text())
    sizes = {
        name: f"{each['bytes'] / 1e6:.0f} MB ({each['compressed'] / 1e6:.0f} MB to pull)"
        for name, each in told.items()
    }
    images = Images(tag=tag, sizes=sizes)
    upgrade = folder / "llm-backend-next.tar"
    name = f"docker.io/library/llm-backend:{images.next}"
    archive.renamed(folder / "llm-backend.tar", upgrade, name=name)
    cluster.load([folder / "llm-backend.tar", folder / "llm-router.tar", upgrade])
    return images
