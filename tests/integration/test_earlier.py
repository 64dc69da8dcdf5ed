"""Objects stored under an earlier CRD stay valid under this one, and are reconciled as they are.

Each folder of tests/earlier holds a CRD as it was once and objects that it accepted. Neither is
changed any more; a folder is added when a release changes the schema.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from parts.access import expect
from parts.control_plane import CRD_FILE, ControlPlane, another
from parts.eventually import eventually
from parts.operator import Backends, Operator

TESTS = Path(__file__).resolve().parents[1]
EARLIER = sorted((TESTS / "earlier").iterdir())
#: What only the CRD of now accepts, which tells that it is the one in force.
NEW = TESTS / "valid" / "15-targets.yaml"

NAMESPACE = "default"
ADDRESSES = {
    "LLMB_DEFAULT_OLLAMA_URL": "http://ollama.lan:11434",
    "LLMB_DEFAULT_MLX_URL": "http://mlx.lan:8080",
}
STATUS = {
    "observedGeneration": 1,
    "configChecksum": "0" * 12,
    "summary": {"endpoint": "http://mac.lan:8080", "routers": "2/3", "latency": "120ms"},
    "targets": [{"name": "ollama", "type": "ollama", "url": "http://a", "state": "Healthy"}],
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Ready",
            "message": "Said by an earlier release.",
            "lastTransitionTime": "2026-01-05T10:00:00Z",
            "observedGeneration": 1,
        }
    ],
}


@pytest.fixture
def plane(control_plane: ControlPlane, tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane of its own: the CRD that other tests share can't be taken from them."""
    with another(control_plane, tmp_path / "control-plane") as own:
        yield own


def specs(backends: Backends) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item["spec"] for item in backends.items()}


@pytest.fixture
def operator(plane: ControlPlane, migrated: str, tmp_path: Path) -> Iterator[Operator]:
    made = Operator(plane, folder=tmp_path, database=migrated, settings=ADDRESSES)
    yield made
    made.kill()


@pytest.mark.check(6)
@pytest.mark.parametrize("folder", EARLIER, ids=lambda folder: folder.name)
def test_they_validate_and_reconcile(plane: ControlPlane, operator: Operator, folder: Path) -> None:
    backends = Backends(plane, NAMESPACE)
    install(plane, folder / "crd.yaml")
    objects = ("apply", "-n", NAMESPACE, "-f", folder / "objects.yaml")
    eventually(lambda: plane.kubectl(*objects), within=20)
    before = specs(backends)
    names = sorted(before)
    assert len(names) == len(list(yaml.safe_load_all((folder / "objects.yaml").read_text())))
    for name in names:
        backends.patch(name, {"status": STATUS}, subresource="/status")

    assert plane.kubectl("apply", "--dry-run=server", "-f", NEW, check=False).returncode
    install(plane, CRD_FILE)
    eventually(lambda: plane.kubectl("apply", "--dry-run=server", "-f", NEW), within=20)

    assert specs(backends) == before
    again = plane.kubectl(*objects).stdout.splitlines()
    assert [line.rsplit(maxsplit=1)[-1] for line in again] == ["unchanged"] * len(names)
    operator.start()
    eventually(lambda: backends.all_ready(len(names)), within=20)
    assert {item["metadata"]["generation"] for item in backends.items()} == {1}
    assert {route.name for route in backends.config().routes} == set(names) - {"disabled"}
    with plane.client() as client:
        for name in names:
            body = {"metadata": {"labels": {"team": "a"}}, "spec": {"priority": 7}}
            merge = {"Content-Type": "application/merge-patch+json"}
            expect(client.patch(f"{backends.path}/{name}", json=body, headers=merge))
    eventually(lambda: backends.all_ready(len(names)), within=20)


def install(plane: ControlPlane, crd: Path) -> None:
    plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", crd)
    wait = ("wait", "--for=condition=Established", "--timeout=20s", "-f", crd)
    eventually(lambda: plane.kubectl(*wait), within=20)
