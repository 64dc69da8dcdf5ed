"""What is in manifests/, as kustomize renders it and as a test tries it. No cluster is asked here.

render(MANIFESTS / "overlays" / "cluster")      # the objects, as data
overlay(tmp_path, resources=["base"], components=["components/ha"])     # of a user, to render
pod(deployment)                                 # the pod that its controller would create
"""

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from parts import build
from parts.absent import absent

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"

#: A Kubernetes object, as data.
Object = dict[str, Any]


def render(folder: Path) -> list[Object]:
    """The objects of a kustomization, in kustomize's order. What it says ends the test."""
    return list(yaml.safe_load_all(text(folder)))


def text(folder: Path) -> str:
    """The same as one YAML text of many documents."""
    programs = build.located("control-plane")
    if programs is None or not (programs / "kubectl").exists():
        absent("kubectl", remedy="run `make control-plane` (minutes, once)")
    ended = subprocess.run(
        [programs / "kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, f"kubectl kustomize {folder}:\n{ended.stderr}"
    # NB: a warning is about a field that a release of kustomize will take away.
    assert not ended.stderr, ended.stderr
    return ended.stdout


def overlay(
    folder: Path,
    *,
    resources: Sequence[str | Path] = (),
    components: Sequence[str | Path] = (),
    **more: Any,
) -> Path:
    """An overlay of a user in `folder`; names are of folders in manifests/, paths of files there.

    `more` are other fields of its kustomization.yaml.
    """

    def named(each: str | Path) -> str:
        if isinstance(each, Path):
            return str(each)
        return os.path.relpath(MANIFESTS / each, folder.resolve())

    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [named(each) for each in resources],
        "components": [named(each) for each in components],
    }
    folder.mkdir(exist_ok=True)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization | more))
    return folder


def of_kind(objects: Iterable[Object], *kinds: str) -> list[Object]:
    """Those of some kinds."""
    return [each for each in objects if each["kind"] in kinds]


def only(objects: Iterable[Object], kind: str, name: str) -> Object:
    """The one object of a kind and a name."""
    found = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def workloads(objects: Iterable[Object]) -> list[Object]:
    """Those that create pods."""
    return of_kind(objects, "Deployment", "StatefulSet", "DaemonSet", "Job")


def pod(workload: Mapping[str, Any]) -> Object:
    """The pod that the controller of a workload would create."""
    template = workload["spec"]["template"]
    names = [each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", ())]
    claims = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in names]
    volumes = [*template["spec"].get("volumes", ()), *claims]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "tried-"} | template["metadata"],
        "spec": template["spec"] | ({"volumes": volumes} if volumes else {}),
    }
