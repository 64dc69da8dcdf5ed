"""The shipped manifests on a real API server: it is taken, and its pods are restricted ones."""

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from parts.control_plane import ControlPlane

pytestmark = pytest.mark.usefixtures("crd")

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
INSTALLS = ("base", "namespaced")


def rendered(control_plane: ControlPlane, folder: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(control_plane.kubectl("kustomize", folder).stdout))


def warnings(stderr: str) -> list[str]:
    """What kubectl says of the manifests.

    NB: not of objects that another test has applied in another way: a dry run can't move them over.
    """
    lines = stderr.splitlines()
    return [line for line in lines if "last-applied-configuration for Server-Side" not in line]


@pytest.fixture(scope="module")
def namespaces(control_plane: ControlPlane) -> None:
    """A dry run stores no namespace, and nothing can be tried in one that is not there."""
    shipped = rendered(control_plane, MANIFESTS / "base")
    (system,) = [document for document in shipped if document["kind"] == "Namespace"]
    served = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "models"}}
    text = yaml.safe_dump_all([system, served])
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=text)


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("install", INSTALLS)
def test_the_api_server_takes_all_of_it(control_plane: ControlPlane, install: str) -> None:
    tried = control_plane.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--dry-run=server"),
        *("--validate=strict", "-k", MANIFESTS / install),
    )
    taken = [line for line in tried.stdout.splitlines() if line.endswith("(server dry run)")]
    assert len(taken) == len(rendered(control_plane, MANIFESTS / install))
    # A pod template that `restricted` forbids would be a warning here.
    assert warnings(tried.stderr) == []


@pytest.mark.usefixtures("namespaces")
def test_the_network_policy_is_there_when_it_is_asked_for(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    usual = rendered(control_plane, MANIFESTS / "base")
    assert not any(document["kind"] == "NetworkPolicy" for document in usual)
    root = os.path.relpath(MANIFESTS, tmp_path.resolve())
    overlay = {"resources": [f"{root}/base"], "components": [f"{root}/network-policy"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    more = rendered(control_plane, tmp_path)
    (policy,) = [document for document in more if document not in usual]
    tried = control_plane.kubectl(
        *("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"),
        stdin=yaml.safe_dump(policy),
    )
    assert "networkpolicy.networking.k8s.io/llm-backend serverside-applied" in tried.stdout
    selector = policy["spec"]["podSelector"]["matchLabels"].items()
    pods = [d["spec"]["template"] for d in usual if "template" in d.get("spec", {})]
    assert [selector <= pod["metadata"]["labels"].items() for pod in pods] == [True, True]


class TestRestricted:
    """In a namespace that enforces the strictest pod security."""

    @pytest.fixture
    def client(self, control_plane: ControlPlane, namespace: str) -> Iterator[httpx.Client]:
        label = "pod-security.kubernetes.io/enforce=restricted"
        control_plane.kubectl("label", "namespace", namespace, label)
        with control_plane.client() as client:
            yield client

    @pytest.fixture(params=[("base", "Deployment"), ("base", "Job")], ids=lambda param: param[1])
    def pod(self, request: pytest.FixtureRequest, control_plane: ControlPlane) -> dict[str, Any]:
        """The pod that a controller would make."""
        install, kind = request.param
        documents = rendered(control_plane, MANIFESTS / install)
        template = next(d for d in documents if d["kind"] == kind)["spec"]["template"]
        return {"metadata": {"generateName": "tried-"} | template["metadata"]} | {
            "spec": template["spec"]
        }

    @staticmethod
    def create(client: httpx.Client, namespace: str, pod: dict[str, Any]) -> httpx.Response:
        pods = f"/api/v1/namespaces/{namespace}/pods"
        params = {"dryRun": "All", "fieldValidation": "Strict"}
        return client.post(pods, json=pod, params=params)

    @pytest.mark.check(38)
    def test_a_pod_is_admitted(
        self, client: httpx.Client, namespace: str, pod: dict[str, Any]
    ) -> None:
        answer = self.create(client, namespace, pod)
        assert answer.status_code == 201, answer.text
        assert "Warning" not in answer.headers

    @pytest.mark.check(38)
    @pytest.mark.parametrize("less", ["seccompProfile", "runAsNonRoot", "capabilities"])
    def test_with_less_it_would_be_refused(
        self, client: httpx.Client, namespace: str, pod: dict[str, Any], less: str
    ) -> None:
        pod = copy.deepcopy(pod)
        places = [pod["spec"], *pod["spec"]["containers"]]
        assert any(place["securityContext"].pop(less, None) for place in places)
        answer = self.create(client, namespace, pod)
        assert (answer.status_code, less in answer.text) == (403, True)

    def test_its_file_system_is_read_only_but_for_tmp(self, pod: dict[str, Any]) -> None:
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
        assert pod["spec"]["volumes"] == [{"name": "tmp", "emptyDir": {}}]
