"""What GitOps tools see of the install and of LLMBackends: kstatus by its library, and no drift.

Argo CD compares what Git holds with what is live; here the live side is a real API server's.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from parts.argo import health
from parts.backend_states import STATES, shown
from parts.control_plane import ControlPlane
from parts.eventually import eventually
from parts.kstatus import KStatus
from parts.manifests import Object, only, overlay, render
from parts.operator import Backends, Operator

pytest_plugins = ["parts.kstatus"]
# NB: the first run compiles the library.
pytestmark = pytest.mark.timeout(400)

DOCS = Path(__file__).resolve().parents[2] / "docs" / "gitops.md"


def test_kstatus_says_what_the_documents_say(kstatus: KStatus) -> None:
    deleted = shown(STATES["ready"]["status"], deletionTimestamp="2026-01-01T00:00:09Z")
    objects = {**STATES, "being deleted": deleted}
    rows = [
        line.strip("| ").split(" | ")
        for line in DOCS.read_text().splitlines()
        if line.startswith("|") and line.count(" | ") == 3
    ]
    documented = {state: last for state, *_, last in rows if state in objects}
    assert documented == dict(zip(objects, kstatus.of(list(objects.values())), strict=True))


@pytest.fixture
def install(tmp_path: Path) -> list[Object]:
    """An install as an overlay for GitOps renders it."""
    return render(
        overlay(tmp_path / "install", resources=["overlays/cluster"], components=["gitops/order"])
    )


def annotations(each: Object) -> dict[str, str]:
    found: dict[str, str] = each["metadata"].get("annotations", {})
    return found


def test_the_order_of_an_install(install: list[Object]) -> None:
    wave = "argocd.argoproj.io/sync-wave"
    waves = {each["kind"]: annotations(each).get(wave, "0") for each in install}
    assert {kind: at for kind, at in waves.items() if at != "0"} == {
        "CustomResourceDefinition": "-1",
        "Namespace": "-1",
        "Job": "2",
    }
    assert waves["Deployment"] == "0"
    job = annotations(only(install, "Job", "llm-backend-migrate"))
    assert job["argocd.argoproj.io/hook"] == "Sync"
    assert job["kustomize.toolkit.fluxcd.io/force"] == "enabled"


def test_no_tool_deletes_the_definition_or_the_namespace(install: list[Object]) -> None:
    kept = {
        each["kind"]
        for each in install
        if annotations(each).get("argocd.argoproj.io/sync-options") == "Prune=false,Delete=false"
        and annotations(each).get("kustomize.toolkit.fluxcd.io/prune") == "disabled"
    }
    assert kept == {"CustomResourceDefinition", "Namespace"}


def test_what_is_applied_is_what_is_live(
    install: list[Object], control_plane: ControlPlane, namespace: str
) -> None:
    """No ignoreDifferences is needed for the install."""
    drift = {}
    for each in install:
        # NB: nothing is kept of it, so the namespace that it is meant for would not be there.
        if "namespace" in each["metadata"]:
            each["metadata"]["namespace"] = namespace
        flags = ("--server-side", "--force-conflicts", "--dry-run=server", "-o", "json")
        live = control_plane.kubectl("apply", *flags, "-f", "-", stdin=json.dumps(each))
        if found := list(differences(each, json.loads(live.stdout))):
            drift[f"{each['kind']}/{each['metadata']['name']}"] = found
    assert drift == {}


def differences(wanted: Any, live: Any, at: str = "") -> Iterator[str]:
    """The paths of what is wanted and not so. What is live beside it is no difference."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        for name, value in wanted.items():
            yield from differences(value, live.get(name), f"{at}/{name}")
    elif isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        for index, value in enumerate(wanted):
            yield from differences(value, live[index], f"{at}/{index}")
    elif wanted != live:
        yield f"{at}: {wanted!r} is {live!r}"


@pytest.mark.usefixtures("crd")
def test_a_live_one_is_judged_as_the_table_says(
    make_operator: Any, control_plane: ControlPlane, namespace: str, kstatus: KStatus
) -> None:
    backends = Backends(control_plane, namespace)
    wanted = {
        "phi": backends.manifest("phi"),
        "off": backends.manifest("off", enabled=False),
        "bad": backends.manifest("bad", backendType="mlx", endpointURL=None),
        "second": backends.manifest("second", modelName="phi"),
    }
    backends.apply(wanted["phi"])
    operator: Operator = make_operator()
    operator.start()
    eventually(lambda: backends.ready("phi"), within=20)
    backends.apply(*wanted.values())

    def judged() -> dict[str, tuple[str, str]]:
        live = {name: backends.get(name) for name in wanted}
        said = kstatus.of(list(live.values()))
        return {
            name: (health(each).status, word)
            for (name, each), word in zip(live.items(), said, strict=True)
        }

    expected = {
        "phi": ("Healthy", "Current"),
        "off": ("Suspended", "Current"),
        "bad": ("Degraded", "Failed"),
        "second": ("Degraded", "InProgress"),
    }
    eventually(lambda: judged() == expected, within=20)
    for name, manifest in wanted.items():
        assert list(differences(manifest, backends.get(name))) == [], name
