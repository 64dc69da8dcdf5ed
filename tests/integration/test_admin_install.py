"""The admin API's manifests on a real API server: taken beside either install, restricted, and with
the rights that they need and no others.
"""

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator.admin.access import ClusterGate
from llm_operator.admin.model import USAGE, Verb
from llm_operator.api import API
from parts.access import User, expect
from parts.control_plane import ControlPlane
from parts.eventually import eventually_async

pytestmark = pytest.mark.usefixtures("crd")

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
SYSTEM, NAME = "llm-backend-system", "llm-backend-admin"
RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
LLM = "llm.athena.dev"

Documents = list[dict[str, Any]]

#: What an overlay for one namespace says, as in manifests/README.md.
NOT_EVERYWHERE = f"""
$patch: delete
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {NAME}}}
"""


def overlay(folder: Path, install: str) -> Path:
    """An overlay of an install with the admin API, and usage from `models`."""

    def shipped(name: str, of: Path = folder) -> str:
        return os.path.relpath(MANIFESTS / name, of.resolve())

    models = folder / "models"
    models.mkdir()
    top: dict[str, Any] = {
        "resources": [shipped(install), "models"],
        "components": [shipped("components/admin"), shipped("components/network-policy")],
        "images": [{"name": "llm-backend", "newName": "registry/llm-backend", "newTag": "1"}],
    }
    there = [shipped("components/admin/models", models)]
    if install == "overlays/namespaced":
        top["patches"] = [{"patch": NOT_EVERYWHERE}]
        there.append(shipped("components/admin/served", models))
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(top))
    inner = {"namespace": "models", "resources": there}
    (models / "kustomization.yaml").write_text(yaml.safe_dump(inner))
    return folder


def rendered(control_plane: ControlPlane, folder: Path) -> Documents:
    return list(yaml.safe_load_all(control_plane.kubectl("kustomize", folder).stdout))


@pytest.fixture(scope="module", params=["base", "overlays/namespaced"])
def install(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def whole(
    install: str, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Documents:
    return rendered(control_plane, overlay(tmp_path_factory.mktemp("overlay"), install))


@pytest.fixture(scope="module")
def namespaces(control_plane: ControlPlane, whole: Documents) -> None:
    """A dry run stores no namespace, and nothing can be tried in one that is not there."""
    (system,) = [document for document in whole if document["kind"] == "Namespace"]
    served = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "models"}}
    text = yaml.safe_dump_all([system, served])
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=text)


@pytest.mark.usefixtures("namespaces")
def test_the_api_server_takes_all_of_it(control_plane: ControlPlane, whole: Documents) -> None:
    tried = control_plane.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--dry-run=server"),
        *("--validate=strict", "-f", "-"),
        stdin=yaml.safe_dump_all(whole),
    )
    taken = [line for line in tried.stdout.splitlines() if line.endswith("(server dry run)")]
    assert len(taken) == len(whole)
    # NB: one more than these would be of a pod template that `restricted` forbids.
    lines = tried.stderr.splitlines()
    assert [at for at in lines if "last-applied-configuration for Server-Side" not in at] == []


def test_it_has_the_settings_and_the_image_of_the_install(whole: Documents) -> None:
    deployments = [document for document in whole if document["kind"] == "Deployment"]
    containers = [d["spec"]["template"]["spec"]["containers"][0] for d in deployments]
    assert len(containers) == 2
    assert {container["image"] for container in containers} == {"registry/llm-backend:1"}
    (settings,) = {each["envFrom"][0]["configMapRef"]["name"] for each in containers}
    assert settings in {d["metadata"]["name"] for d in whole if d["kind"] == "ConfigMap"}


def test_without_the_component_there_is_nothing_of_it(control_plane: ControlPlane) -> None:
    for folder in ("base", "overlays/namespaced"):
        shipped = rendered(control_plane, MANIFESTS / folder)
        assert not any(d["metadata"]["name"].startswith(NAME) for d in shipped)


def test_its_pod_is_a_restricted_one(
    control_plane: ControlPlane, whole: Documents, namespace: str
) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    control_plane.kubectl("label", "namespace", namespace, label)
    (deployment,) = [d for d in whole if (d["kind"], d["metadata"]["name"]) == ("Deployment", NAME)]
    template = deployment["spec"]["template"]
    pod = {"metadata": {"generateName": "tried-"} | template["metadata"], "spec": template["spec"]}
    with control_plane.client() as client:
        params = {"dryRun": "All", "fieldValidation": "Strict"}
        answer = client.post(f"/api/v1/namespaces/{namespace}/pods", json=pod, params=params)
    assert answer.status_code == 201, answer.text
    assert "Warning" not in answer.headers


@dataclass(frozen=True, slots=True)
class Installed:
    """The admin API's account after an install, and the namespaces there are."""

    user: User
    system: str
    served: str
    other: str


@pytest.fixture(scope="module")
def installed(install: str, control_plane: ControlPlane, whole: Documents) -> Iterator[Installed]:
    """The accounts, roles and bindings alone, under names of their own."""
    tag = uuid.uuid4().hex[:8]
    system, served, other = f"system-{tag}", f"served-{tag}", f"other-{tag}"
    for name in (system, served, other):
        control_plane.kubectl("create", "namespace", name)
    text = yaml.safe_dump_all(document for document in whole if document["kind"] in RIGHTS)
    text = text.replace(SYSTEM, system).replace("namespace: models", f"namespace: {served}")
    text = text.replace("serviceaccounts:models", f"serviceaccounts:{served}")
    # NB: as another test's, which may be there at the same time, none may have its name.
    text = text.replace("name: llm-backend", f"name: {tag}-llm-backend")
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=text)
    account = control_plane.service_account(system, f"{tag}-{NAME}")
    yield Installed(account, system, served, other)
    control_plane.kubectl("delete", "--wait=false", "-f", "-", stdin=text)


def granted(control_plane: ControlPlane, user: User, namespace: str) -> set[str]:
    """All that somebody may do in a namespace that not every account may."""
    own, everybody = (
        _granted(control_plane, each, namespace)
        for each in (user, control_plane.create_user("nobody"))
    )
    return own - everybody


def _granted(control_plane: ControlPlane, user: User, namespace: str) -> set[str]:
    with control_plane.client(user=user) as client:
        path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
        found = expect(client.post(path, json={"spec": {"namespace": namespace}}))["status"]
    assert not found["incomplete"]
    return {
        f"{verb} {resource}" + (f".{group}" if group else "")
        for rule in found["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_what_it_may_and_nothing_else(
    control_plane: ControlPlane, installed: Installed, install: str
) -> None:
    reviews = {
        "create tokenreviews.authentication.k8s.io",
        "create subjectaccessreviews.authorization.k8s.io",
    }
    verbs = ("get", "list", "watch", "create", "patch", "delete")
    work = {*(f"{verb} llmbackends.{LLM}" for verb in verbs), "list pods"}
    elsewhere = reviews | (work if install == "base" else set())
    assert granted(control_plane, installed.user, installed.served) == reviews | work
    for namespace in (installed.other, installed.system, "kube-system"):
        assert granted(control_plane, installed.user, namespace) == elsewhere


async def test_it_can_ask_and_every_account_of_the_namespace_may_send_usage(
    control_plane: ControlPlane, installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = {}
    for namespace in (installed.served, installed.other):
        control_plane.kubectl("-n", namespace, "create", "serviceaccount", f"any-{uuid.uuid4()}")
        names = control_plane.kubectl("-n", namespace, "get", "serviceaccount", "-o", "name").stdout
        name = next(line for line in names.split() if "/any-" in line).partition("/")[2]
        tokens[namespace] = control_plane.service_account(namespace, name).token
    monkeypatch.setenv("KUBECONFIG", str(installed.user.kubeconfig))
    async with await API.connect() as api:
        gate = ClusterGate(api)
        router = await gate.caller(tokens[installed.served], peer="10.0.0.1")
        assert router.namespace == installed.served
        for namespace in (installed.other, installed.system, ""):
            assert not await gate.may(router, Verb.CREATE, namespace, subresource=USAGE)
        assert not any([await gate.may(router, verb, installed.served) for verb in Verb])
        stranger = await gate.caller(tokens[installed.other], peer="10.0.0.2")
        assert not await gate.may(stranger, Verb.CREATE, installed.served, subresource=USAGE)

        async def may_send() -> bool:
            # NB: the API server may need a moment to see a binding, and a gate keeps its answers.
            return await ClusterGate(api).may(
                router, Verb.CREATE, installed.served, subresource=USAGE
            )

        await eventually_async(may_send, within=10)
