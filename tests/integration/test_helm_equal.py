"""The chart and kustomize give the same objects, for every choice that both have.

Each pair is compared as data: the same objects, and each of them equal. What may differ is what
docs/helm.md has a table of; `plain` takes it away on both sides and nothing else.
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from parts.helm import Helm
from parts.manifests import MANIFESTS, Object, overlay, render

pytest_plugins = ["parts.helm"]

PROJECT = tomllib.loads((MANIFESTS.parent / "pyproject.toml").read_text())["project"]
ON, OFF = {"enabled": True}, {"enabled": False}
#: The chart with nothing that is a component of kustomize's.
BARE = {"admin": OFF, "ha": OFF, "networkPolicy": OFF}
MONITORS = dict.fromkeys(("podMonitor", "prometheusRule", "dashboards"), ON)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Folders below manifests/, and the values that mean the same.

    Attributes:
        models: folders for the namespace `models` of an install that serves it alone.
        deleted: patches that delete an object.
    """

    resources: Sequence[str] = ("base",)
    components: Sequence[str] = ()
    models: Sequence[str] = ()
    deleted: Sequence[Mapping[str, Any]] = ()
    values: Mapping[str, Any] = field(default_factory=dict)


#: What an overlay for some namespaces deletes where the admin API is beside it.
EVERYWHERE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "llm-backend-admin"},
}

PAIRS = {
    "defaults": Pair(resources=["overlays/cluster"]),
    "base": Pair(values=BARE),
    "admin": Pair(components=["components/admin"], values=BARE | {"admin": ON}),
    "ha": Pair(components=["components/ha"], values=BARE | {"ha": ON}),
    "network-policy": Pair(
        components=["components/network-policy"], values=BARE | {"networkPolicy": ON}
    ),
    "injection": Pair(
        components=["components/admin", "components/injection"],
        values=BARE | {"admin": ON, "injection": ON},
    ),
    "postgres": Pair(components=["components/postgres"], values=BARE | {"postgres": ON}),
    "service": Pair(components=["components/metrics"], values=BARE | {"metrics": {"service": ON}}),
    "observability": Pair(components=["observability"], values=BARE | {"metrics": MONITORS}),
    "observability of the admin": Pair(
        components=["components/admin", "observability", "observability/admin"],
        values=BARE | {"admin": ON, "metrics": MONITORS},
    ),
    "usage": Pair(
        components=["components/admin"],
        models=["components/admin/models"],
        values=BARE | {"admin": ON | {"usageFrom": ["models"]}},
    ),
    "namespaced": Pair(resources=["overlays/namespaced"], values=BARE | {"namespaces": ["models"]}),
    "namespaced admin": Pair(
        resources=["overlays/namespaced"],
        components=["components/admin"],
        models=["components/admin/served", "components/admin/models"],
        deleted=[EVERYWHERE],
        values=BARE | {"admin": ON, "namespaces": ["models"]},
    ),
    "all of it": Pair(
        resources=["overlays/cluster"],
        components=[
            *("components/injection", "components/postgres", "components/metrics"),
            *("observability", "observability/admin"),
        ],
        values={
            "injection": ON,
            "postgres": ON,
            "metrics": MONITORS | {"service": ON},
        },
    ),
}


def kustomized(folder: Path, pair: Pair) -> list[Object]:
    """The objects of an overlay of these, with the images of the release."""
    resources: list[str | Path] = [*pair.resources]
    if pair.models:
        overlay(folder / "models", resources=pair.models, namespace="models")
        # NB: kustomize takes a folder by its way from the overlay, never by its whole path.
        resources.append(Path("models"))
    tag = PROJECT["version"]
    images = [{"name": name, "newTag": tag} for name in ("llm-backend", "llm-router")]
    patches = [{"patch": yaml.safe_dump({"$patch": "delete", **each})} for each in pair.deleted]
    return render(
        overlay(
            folder,
            resources=resources,
            components=pair.components,
            images=images,
            patches=patches,
        )
    )


#: Labels and annotations that one side alone has a use for.
HELMS = {
    *("helm.sh/chart", "app.kubernetes.io/managed-by", "helm.sh/resource-policy"),
    "checksum/settings",
}
#: How GitOps tools replace a Job whose name stays.
REPLACING = {
    *("argocd.argoproj.io/hook", "argocd.argoproj.io/hook-delete-policy"),
    "kustomize.toolkit.fluxcd.io/force",
}
#: Ends of names: of a generated ConfigMap, of the chart's Job.
GENERATED, SPECIFIED = re.compile("-[bcdfghkmt24-9]{10}$"), re.compile("-[0-9a-f]{8}$")

Key = tuple[str, str, str, str]


def plain(objects: Sequence[Object]) -> dict[Key, Object]:
    """Objects by version, kind, namespace and name, without what may differ."""
    text = json.dumps([each for each in objects if not _left_out(each)])
    # NB: kustomize writes a folded text with more line breaks than it read.
    text = text.replace(r"\n\n", r"\n")
    for name in (each["metadata"]["name"] for each in objects if each["kind"] == "ConfigMap"):
        text = text.replace(json.dumps(name), json.dumps(GENERATED.sub("", name)))
    found: dict[Key, Object] = {}
    for each in json.loads(text):
        metadata = each["metadata"]
        if each["kind"] == "Job":
            metadata["name"] = SPECIFIED.sub("", metadata["name"])
            _drop(metadata, REPLACING)
        if "data" in each and each["kind"] == "Secret":
            # NB: kustomize breaks base64 into lines.
            each["data"] = {key: "".join(text.split()) for key, text in each["data"].items()}
        _drop(metadata, HELMS)
        if "template" in each.get("spec", {}):
            _drop(each["spec"]["template"]["metadata"], HELMS)
        key = (each["apiVersion"], each["kind"], metadata.get("namespace", ""), metadata["name"])
        assert key not in found, f"{key} is there twice"
        found[key] = each
    return found


def _left_out(each: Object) -> bool:
    """The namespace of the release, and `helm test`, which kustomize has not."""
    hook = each["metadata"].get("annotations", {}).get("helm.sh/hook")
    return bool(each["kind"] == "Namespace" or hook == "test")


def _drop(metadata: Object, names: set[str]) -> None:
    for of in ("labels", "annotations"):
        kept = {name: text for name, text in metadata.pop(of, {}).items() if name not in names}
        if kept:
            metadata[of] = kept


@pytest.mark.check(38)
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_both_give_the_same_objects(helm: Helm, tmp_path: Path, pair: Pair) -> None:
    ours = plain(helm.render(**pair.values))
    theirs = plain(kustomized(tmp_path, pair))
    assert ours.keys() == theirs.keys()
    assert {key: each for key, each in ours.items() if each != theirs[key]} == {
        key: each for key, each in theirs.items() if each != ours[key]
    }
