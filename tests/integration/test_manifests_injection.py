"""The router that the API server itself puts beside a pod with a label, and beside no other.

All pods are created on a dry run, by which admission is done and nothing is kept.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from parts import manifests
from parts.control_plane import ControlPlane
from parts.eventually import eventually
from parts.manifests import Object

SYSTEM, NAME = "llm-backend-system", "llm-backend-injection"
INJECT, ROUTER, PORT = (f"llm.athena.dev/{name}" for name in ("inject", "router", "router-port"))
IMAGES = [{"name": "llm-router", "newName": "registry/llm-router", "newTag": "1"}]
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"

#: A pod that `restricted` takes, and that asks for a router.
SECURE = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER = {
    "name": "app",
    "image": "app",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    },
}


def application(**spec: Any) -> Object:
    """NB: where the API server sets no account, the pod has to, for a token of it to be mounted."""
    usual = {"serviceAccountName": "default", "securityContext": SECURE, "containers": [CONTAINER]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "app", "labels": {INJECT: "true"}},
        "spec": copy.deepcopy(usual | spec),
    }


@contextmanager
def injecting(control_plane: ControlPlane, folder: Path) -> Iterator[None]:
    """The component applied and in force inside the block, and gone after it."""
    (folder / "system.yaml").write_text(
        yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
    )
    manifests.overlay(
        folder, resources=[Path("system.yaml")], components=["components/injection"], images=IMAGES
    )
    shipped = manifests.render(folder)
    given = yaml.safe_dump_all(shipped)
    control_plane.kubectl("apply", "--server-side", "--validate=strict", "-f", "-", stdin=given)
    ours = yaml.safe_dump_all([each for each in shipped if each["kind"] != "Namespace"])
    try:
        with control_plane.client() as client:
            # NB: the API server has a new policy a moment after it is stored.
            eventually(lambda: routers(create(client, "default", application())), within=30)
        yield
    finally:
        control_plane.kubectl("delete", "-f", "-", stdin=ours)
        with control_plane.client() as client:
            eventually(lambda: not routers(create(client, "default", application())), within=30)


@pytest.fixture(scope="module")
def injection(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    with injecting(control_plane, tmp_path_factory.mktemp("injection")):
        yield


@pytest.fixture
def client(control_plane: ControlPlane) -> Iterator[httpx.Client]:
    with control_plane.client() as client:
        yield client


def asked(client: httpx.Client, namespace: str, pod: Object) -> httpx.Response:
    """The API server's answer to a pod, of which nothing is kept."""
    params = {"dryRun": "All", "fieldValidation": "Strict"}
    return client.post(f"/api/v1/namespaces/{namespace}/pods", json=pod, params=params)


def create(client: httpx.Client, namespace: str, pod: Object) -> Object:
    """The pod as it would be stored."""
    answer = asked(client, namespace, pod)
    assert answer.status_code == 201, answer.text
    assert "Warning" not in answer.headers
    return dict(answer.json())


def routers(pod: Object) -> list[Object]:
    """The routers in a pod."""
    return [each for each in pod["spec"].get("initContainers", ()) if each["name"] == "llm-router"]


def patched(folder: Path, pod: Object) -> Object:
    """The pod of a Deployment of this pod, with the component `sidecar`."""
    metadata = pod["metadata"] | {"labels": {"app": "app"}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "app", "labels": {INJECT: "true"}},
        "spec": {
            "selector": {"matchLabels": {"app": "app"}},
            "template": {"metadata": metadata, "spec": pod["spec"]},
        },
    }
    (folder / "app.yaml").write_text(yaml.safe_dump(deployment))
    manifests.overlay(
        folder, resources=[Path("app.yaml")], components=["components/sidecar"], images=IMAGES
    )
    (rendered,) = manifests.render(folder)
    return manifests.pod(rendered)


@pytest.mark.usefixtures("injection")
class TestInjected:
    def test_is_what_the_component_gives(
        self, client: httpx.Client, namespace: str, tmp_path: Path
    ) -> None:
        by_policy = create(client, namespace, application())
        by_component = create(client, namespace, patched(tmp_path, application()))
        (router,) = routers(by_policy)
        assert router["image"] == "registry/llm-router:1"
        assert [router] == routers(by_component)
        assert by_policy["spec"] == by_component["spec"]
        for pod in (by_policy, by_component):
            assert pod["metadata"]["labels"][ROUTER] == "true"

    def test_is_a_native_sidecar_that_comes_first(
        self, client: httpx.Client, namespace: str, tmp_path: Path
    ) -> None:
        asks = CONTAINER | {"name": "asks-a-model"}
        pod = application(initContainers=[asks])
        for found in (
            create(client, namespace, pod),
            create(client, namespace, patched(tmp_path, pod)),
        ):
            inits = found["spec"]["initContainers"]
            assert [each["name"] for each in inits] == ["llm-router", "asks-a-model"]
            assert inits[0]["restartPolicy"] == "Always"

    def test_it_is_admitted_where_pods_are_restricted(
        self, client: httpx.Client, control_plane: ControlPlane, namespace: str
    ) -> None:
        control_plane.kubectl("label", "namespace", namespace, RESTRICTED)
        assert routers(create(client, namespace, application()))

    def test_others_are_not_touched(self, client: httpx.Client, namespace: str) -> None:
        for labels in ({}, {INJECT: "false"}, {ROUTER: "true"}):
            pod = application()
            pod["metadata"]["labels"] = labels
            found = create(client, namespace, pod)
            assert not routers(found)
            assert found["metadata"].get("labels", {}) == labels
            assert [each["name"] for each in found["spec"]["containers"]] == ["app"]
            assert "volumes" not in found["spec"]

    def test_what_has_a_router_gets_no_other(self, client: httpx.Client, namespace: str) -> None:
        once = create(client, namespace, application())
        again = {"metadata": {"name": "again", "labels": once["metadata"]["labels"]}}
        twice = create(client, namespace, again | {"spec": once["spec"]})
        assert twice["spec"] == once["spec"]
        own = application(containers=[CONTAINER, CONTAINER | {"name": "llm-router"}])
        assert not routers(create(client, namespace, own))

    def test_volumes_of_the_same_name_stay(self, client: httpx.Client, namespace: str) -> None:
        own = {"name": "llm-router-spool", "emptyDir": {"medium": "Memory"}}
        other = {"name": "data", "emptyDir": {}}
        volumes = create(client, namespace, application(volumes=[own, other]))["spec"]["volumes"]
        assert volumes[:2] == [own, other]
        assert sorted(each["name"] for each in volumes[2:]) == [
            "llm-router-config",
            "llm-router-credentials",
            "llm-router-token",
        ]

    def test_the_annotation_names_its_management_port(
        self, client: httpx.Client, namespace: str
    ) -> None:
        pod = application()
        pod["metadata"]["annotations"] = {PORT: "9081"}
        (router,) = routers(create(client, namespace, pod))
        (port,) = router["ports"]
        assert (port["name"], port["containerPort"]) == ("management", 9081)
        assert {"name": "LLM_ROUTER_MANAGEMENT_PORT", "value": "9081"} in router["env"]
        pod["metadata"]["annotations"] = {PORT: "http"}
        refused = asked(client, namespace, pod)
        assert refused.status_code in {403, 422}, refused.text
        assert NAME in refused.text

    def test_without_its_parameters_a_labelled_pod_is_refused_and_no_other(
        self, client: httpx.Client, control_plane: ControlPlane, namespace: str
    ) -> None:
        where = ("-n", SYSTEM, "configmap", NAME)
        kept = control_plane.kubectl("get", *where, "-o", "yaml").stdout
        control_plane.kubectl("delete", *where)
        try:

            def refused() -> bool:
                answer = asked(client, namespace, application())
                return not answer.is_success and NAME in answer.text

            eventually(refused, within=20)
            pod = application()
            pod["metadata"]["labels"] = {}
            assert not routers(create(client, namespace, pod))
        finally:
            stored = yaml.safe_load(kept)
            for field in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
                stored["metadata"].pop(field, None)
            given = yaml.safe_dump(stored)
            control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=given)
            eventually(lambda: asked(client, namespace, application()).is_success, within=20)


class Accounts(ControlPlane):
    """One that gives each pod an account and mounts its token, as clusters do."""

    def _server_command(self) -> list[str | Path]:
        command = super()._server_command()
        at = command.index("--disable-admission-plugins")
        return command[:at] + command[at + 2 :]


@pytest.fixture(scope="module")
def cluster(
    control_plane: ControlPlane, part_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Accounts]:
    folder = part_folder / "accounts"
    folder.mkdir()
    plane = Accounts(folder=folder, programs=control_plane.programs)
    try:
        plane.start()
        plane.kubectl("-n", "default", "create", "serviceaccount", "default")
        with injecting(plane, tmp_path_factory.mktemp("injection")):
            yield plane
    finally:
        plane.close()


@pytest.mark.parametrize("automount", [True, False])
def test_the_router_has_the_projected_token_and_no_other(
    cluster: Accounts, tmp_path: Path, automount: bool
) -> None:
    pod = application(automountServiceAccountToken=automount)
    del pod["spec"]["serviceAccountName"]
    with cluster.client() as client:
        by_policy = create(client, "default", pod)
        by_component = create(client, "default", patched(tmp_path, pod))
    for found in (by_policy, by_component):
        (router,) = routers(found)
        assert [mount["name"] for mount in router["volumeMounts"]] == [
            "llm-router-config",
            "llm-router-credentials",
            "llm-router-token",
            "llm-router-spool",
        ]
        (app,) = found["spec"]["containers"]
        assert bool(app.get("volumeMounts")) is automount
