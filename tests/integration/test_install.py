"""The shipped manifests on a real API server: it is taken, and its pods are restricted ones."""

import copy
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from parts import manifests
from parts.control_plane import ControlPlane
from parts.manifests import MANIFESTS, Object

pytestmark = pytest.mark.usefixtures("crd")

INSTALLS = ("base", "overlays/namespaced", "overlays/cluster", "everything")


def rendered(install: str, folder: Path) -> list[Object]:
    """The objects of an install; `everything` has the components that none has by itself."""
    if install != "everything":
        return manifests.render(MANIFESTS / install)
    components = [f"components/{each}" for each in ("injection", "postgres", "metrics")]
    own = manifests.overlay(folder, resources=["overlays/cluster"], components=components)
    return manifests.render(own)


def warnings(stderr: str) -> list[str]:
    """What kubectl says of the manifests.

    NB: not of objects that another test has applied in another way: a dry run can't move them over.
    """
    lines = stderr.splitlines()
    return [line for line in lines if "last-applied-configuration for Server-Side" not in line]


@pytest.fixture(scope="module")
def namespaces(control_plane: ControlPlane) -> None:
    """A dry run stores no namespace, and nothing can be tried in one that is not there."""
    system = manifests.only(rendered("base", MANIFESTS), "Namespace", "llm-backend-system")
    served = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "models"}}
    text = yaml.safe_dump_all([system, served])
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=text)


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("install", INSTALLS)
def test_the_api_server_takes_all_of_it(
    control_plane: ControlPlane, install: str, tmp_path: Path
) -> None:
    """As one text of many documents, which is what install.yaml is."""
    documents = rendered(install, tmp_path)
    tried = control_plane.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--dry-run=server"),
        *("--validate=strict", "-f", "-"),
        stdin=yaml.safe_dump_all(documents),
    )
    taken = [line for line in tried.stdout.splitlines() if line.endswith("(server dry run)")]
    assert len(taken) == len(documents)
    # A pod template that `restricted` forbids would be a warning here.
    assert warnings(tried.stderr) == []


def test_the_network_policies_are_there_when_they_are_asked_for() -> None:
    usual = rendered("base", MANIFESTS)
    assert not manifests.of_kind(usual, "NetworkPolicy")
    whole = rendered("overlays/cluster", MANIFESTS)
    policies = manifests.of_kind(whole, "NetworkPolicy")
    everybody = manifests.only(policies, "NetworkPolicy", "llm-backend")["spec"]
    selector = everybody["podSelector"]["matchLabels"].items()
    pods = [manifests.pod(each) for each in manifests.workloads(whole)]
    assert [selector <= pod["metadata"]["labels"].items() for pod in pods] == [True] * 3
    # Nobody is let in but where a policy for less pods than all says so.
    assert "ingress" not in everybody
    assert everybody["policyTypes"] == ["Ingress", "Egress"]


def test_two_operators_are_run_where_it_is_asked_for() -> None:
    one = manifests.only(rendered("base", MANIFESTS), "Deployment", "llm-backend-operator")
    whole = rendered("overlays/cluster", MANIFESTS)
    two = manifests.only(whole, "Deployment", "llm-backend-operator")
    assert (one["spec"]["replicas"], two["spec"]["replicas"]) == (1, 2)
    budget = manifests.only(whole, "PodDisruptionBudget", "llm-backend-operator")["spec"]
    labels = two["spec"]["template"]["metadata"]["labels"]
    (spread,) = two["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert budget["selector"] == spread["labelSelector"] == {"matchLabels": labels}


@pytest.mark.usefixtures("namespaces")
def test_every_pod_is_admitted_where_they_are_restricted(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    control_plane.kubectl("label", "namespace", namespace, label)
    workloads = manifests.workloads(rendered("everything", tmp_path))
    assert len(workloads) == 4
    with control_plane.client() as client:
        for workload in workloads:
            answer = TestRestricted.create(client, namespace, manifests.pod(workload))
            assert answer.status_code == 201, answer.text
            assert "Warning" not in answer.headers


class TestRestricted:
    """In a namespace that enforces the strictest pod security."""

    @pytest.fixture
    def client(self, control_plane: ControlPlane, namespace: str) -> Iterator[httpx.Client]:
        label = "pod-security.kubernetes.io/enforce=restricted"
        control_plane.kubectl("label", "namespace", namespace, label)
        with control_plane.client() as client:
            yield client

    @pytest.fixture(params=[("base", "Deployment"), ("base", "Job")], ids=lambda param: param[1])
    def pod(self, request: pytest.FixtureRequest) -> Object:
        """The pod that a controller would make."""
        install, kind = request.param
        return manifests.pod(manifests.of_kind(rendered(install, MANIFESTS), kind)[0])

    @staticmethod
    def create(client: httpx.Client, namespace: str, pod: Object) -> httpx.Response:
        pods = f"/api/v1/namespaces/{namespace}/pods"
        params = {"dryRun": "All", "fieldValidation": "Strict"}
        return client.post(pods, json=pod, params=params)

    @pytest.mark.check(38)
    def test_a_pod_is_admitted(self, client: httpx.Client, namespace: str, pod: Object) -> None:
        answer = self.create(client, namespace, pod)
        assert answer.status_code == 201, answer.text
        assert "Warning" not in answer.headers

    @pytest.mark.check(38)
    @pytest.mark.parametrize("less", ["seccompProfile", "runAsNonRoot", "capabilities"])
    def test_with_less_it_would_be_refused(
        self, client: httpx.Client, namespace: str, pod: Object, less: str
    ) -> None:
        pod = copy.deepcopy(pod)
        places = [pod["spec"], *pod["spec"]["containers"]]
        assert any(place["securityContext"].pop(less, None) for place in places)
        answer = self.create(client, namespace, pod)
        assert (answer.status_code, less in answer.text) == (403, True)

    def test_its_file_system_is_read_only_but_for_tmp(self, pod: Object) -> None:
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
        assert pod["spec"]["volumes"] == [{"name": "tmp", "emptyDir": {}}]
