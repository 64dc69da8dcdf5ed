"""Installing, changing and removing the operator, by Helm and by kustomize, as the docs say."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from parts.cluster import Cluster
from parts.eventually import eventually
from stories.images import ROOT
from stories.scene import NAMESPACE, SYSTEM, Scene

RELEASE = "llm-backend"
MANIFESTS = ROOT / "manifests"
CHART = MANIFESTS / "helm" / "llm-backend"
CRD = "llmbackends.llm.athena.dev"
#: What the operator published for routers.
PUBLISHED = "app.kubernetes.io/managed-by=llm-backend-operator"
DEPLOYMENTS = ("llm-backend-operator", "llm-backend-admin")

#: What no name, label or finalizer of an object may have in it once all is uninstalled.
OURS = ("llm-backend", "llm-router", "llm.athena.dev", "llmbackend")


def helm(scene: Scene, **more: object) -> None:
    """`helm upgrade --install` with what the stories need, and these values besides."""
    values: dict[str, Any] = {
        "admin.usageFrom": [NAMESPACE],
        "injection.enabled": True,
        **more,
    }
    given = [f"--set-json={key}={json.dumps(value)}" for key, value in values.items()]
    scene.cluster.helm(
        *("upgrade", "--install", RELEASE, CHART, "--namespace", SYSTEM, *given),
        *("--wait", "--timeout", "150s"),
    )


def helm_uninstall(scene: Scene) -> None:
    """The order of docs/operator.md: the resources, then the operator."""
    delete_backends(scene)
    scene.cluster.helm("uninstall", RELEASE, "--namespace", SYSTEM, "--wait")


def overlay(folder: Path, *, tag: str) -> Path:
    """An overlay as a user writes it: all of overlays/cluster, injection, and the tag."""
    shutil.copytree(MANIFESTS, folder / "manifests")
    shutil.copytree(ROOT / "crds", folder / "crds")
    own = folder / "manifests" / "own"
    own.mkdir()
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../overlays/cluster", "usage.yaml"],
        "components": ["../components/injection"],
        "images": [{"name": name, "newTag": tag} for name in ("llm-backend", "llm-router")],
    }
    (own / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (own / "usage.yaml").write_text(yaml.safe_dump(_usage()))
    return own


def kustomize(scene: Scene, own: Path) -> None:
    """`kubectl apply -k`, until all of it is ready."""
    scene.cluster.kubectl("apply", "--server-side", "-k", own)
    for name in DEPLOYMENTS:
        scene.cluster.rolled_out(f"deployment/{name}", namespace=SYSTEM)


def kustomize_uninstall(scene: Scene, own: Path) -> None:
    """The same order; definition and namespace go with the operator."""
    delete_backends(scene)
    scene.cluster.kubectl("delete", "-k", own, "--wait", "--timeout=60s", within=90)


def delete_backends(scene: Scene) -> None:
    """First of all, while the operator runs: it takes the routes down and lets them go."""
    scene.cluster.kubectl("delete", "llmbackends", "--all", "-A", "--timeout=60s", within=90)


def remove_kept(scene: Scene) -> None:
    """What stays on purpose: the definition, what routers have mounted, the namespace."""
    delete = ("delete", "--timeout=60s")
    scene.cluster.kubectl(*delete, "crd", CRD, "--ignore-not-found", within=90)
    scene.cluster.kubectl(*delete, "configmaps,secrets", "-A", "-l", PUBLISHED, within=90)
    scene.cluster.kubectl(*delete, "namespace", SYSTEM, "--ignore-not-found", within=90)


def pods(scene: Scene) -> dict[str, int]:
    """The ready pods of each of our Deployments."""
    found = scene.cluster.get("deployments", "-n", SYSTEM)["items"]
    return {each["metadata"]["name"]: each["status"].get("readyReplicas", 0) for each in found}


def leader(cluster: Cluster) -> str:
    """Who holds the Lease."""
    lease = cluster.get("lease", "llm-backend-operator", "-n", SYSTEM)
    return str(lease["spec"].get("holderIdentity") or "")


def left(cluster: Cluster) -> list[str]:
    """What has anything of ours in its name, labels or finalizers, in the whole cluster.

    Events are left out: they are the cluster's own record, and go by themselves.
    """
    told = cluster.kubectl("api-resources", "--verbs=list", "-o", "name").stdout.split()
    kinds = [each for each in told if each.split(".")[0] != "events"]
    listed = cluster.kubectl(
        "get", ",".join(kinds), "-A", "-o", "json", "--ignore-not-found", within=120
    ).stdout
    items = json.loads(listed)["items"] if listed.strip() else []
    return sorted(_name(each) for each in items if _ours(each))


def gone(scene: Scene, *, kept: tuple[str, ...] = ()) -> None:
    """Wait until nothing of ours is left but what is kept on purpose."""

    def nothing() -> bool:
        found = [each for each in left(scene.cluster) if each not in kept]
        assert not found, f"left behind: {', '.join(found)}"
        return True

    eventually(nothing, within=60, every=1)


def _ours(item: Mapping[str, Any]) -> bool:
    metadata = item["metadata"]
    labels = metadata.get("labels") or {}
    texts = [metadata["name"], *labels, *labels.values(), *metadata.get("finalizers", ())]
    return any(mark in text for text in texts for mark in OURS)


def _name(item: Mapping[str, Any]) -> str:
    namespace = item["metadata"].get("namespace")
    where = f"{namespace}/" if namespace else ""
    return f"{item['kind']} {where}{item['metadata']['name']}"


def _usage() -> Mapping[str, Any]:
    """Routers of the stories' namespace may send usage, as manifests/README.md has it."""
    group = "rbac.authorization.k8s.io"
    account = f"system:serviceaccounts:{NAMESPACE}"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "llm-backend-usage", "namespace": NAMESPACE},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "llm-backend-usage"},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": account}],
    }
