"""Helm as the tests run it: its own settings and caches, never this user's, and no repository.

What it renders comes as data. `make tools` builds it.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from parts import build
from parts.absent import absent
from parts.manifests import MANIFESTS, Object

CHARTS = MANIFESTS / "helm"
CHART = CHARTS / "llm-backend"
#: What a render takes the cluster to be; an install asks the server.
KUBERNETES = ("--kube-version", build.KUBERNETES)

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Helm:
    """One program, and a folder for all that it keeps."""

    program: Path
    folder: Path
    kubeconfig: Path | None = None

    def __call__(
        self, *args: str | Path, values: Values | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run it, with values on its standard input. `check`: a failure is an AssertionError."""
        given = () if values is None else ("--values", "-")
        homes = {f"HELM_{name}_HOME": str(self.folder) for name in ("CACHE", "CONFIG", "DATA")}
        ended = subprocess.run(
            [self.program, *args, *given],
            input=None if values is None else yaml.safe_dump(dict(values)),
            capture_output=True,
            text=True,
            timeout=120,
            # NB: without a kubeconfig of the tests' own it would find this user's.
            env=homes
            | {
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "KUBECONFIG": str(self.kubeconfig or self.folder / "none"),
            },
        )
        said = f"helm {' '.join(map(str, args))}:\n{ended.stdout}{ended.stderr}"
        assert not check or ended.returncode == 0, said
        return ended

    def render(
        self, chart: Path = CHART, *, namespace: str = "llm-backend-system", **values: Any
    ) -> list[Object]:
        """The objects that the chart gives, hooks too, with these values beside its own."""
        ended = self(
            "template", "llm-backend", chart, "--namespace", namespace, *KUBERNETES, values=values
        )
        return [each for each in yaml.safe_load_all(ended.stdout) if each is not None]

    def refusal(self, chart: Path = CHART, **values: Any) -> str:
        """What it says of values that it refuses."""
        ended = self("template", "x", chart, *KUBERNETES, values=values, check=False)
        assert ended.returncode != 0, f"{values} was taken"
        return ended.stderr


def leaves(values: Any, path: str = "") -> dict[str, Any]:
    """Each value of a chart with its default; settings and resources are one each."""
    whole = not isinstance(values, dict) or not values
    if whole or path == "settings" or path.endswith(("resources", "dashboards.labels")):
        return {path: values}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= leaves(value, f"{path}.{key}" if path else key)
    return found


def described(chart: Path, path: str) -> str:
    """What a chart's schema says of a value."""
    at = json.loads((chart / "values.schema.json").read_text())
    for key in path.split("."):
        at = at["properties"][key]
    return str(at["description"])


def rows(text: str) -> list[list[str]]:
    """The cells of the table in a text, without its head."""
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line[:1] == "|"][2:]


@pytest.fixture(scope="session")
def helm(part_folder: Path) -> Helm:
    """Helm, without a cluster."""
    folder = build.located("tools")
    if folder is None or not (folder / "helm").exists():
        absent("Helm", remedy="run `make tools` (a minute or two, once)")
    home = part_folder / "helm"
    home.mkdir()
    return Helm(program=folder / "helm", folder=home)
