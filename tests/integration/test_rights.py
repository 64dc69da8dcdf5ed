"""What the shipped rights allow, asked of a real API server: all the operator does, no more."""

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator.api import API
from llm_operator.cluster import RIGHTS, Cluster, Right
from parts.access import User, expect
from parts.control_plane import ControlPlane
from parts.eventually import eventually
from parts.operator import Backends, Operator, lease_rules, rules

pytestmark = pytest.mark.usefixtures("crd")

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
REVIEWS = "/apis/authorization.k8s.io/v1"
KINDS = ("Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")

LLM, LEASES, RBAC = "llm.athena.dev", "coordination.k8s.io", "rbac.authorization.k8s.io"

#: Resource with its group -> verbs that nobody may grant the operator without a reason.
FORBIDDEN: Mapping[tuple[str, str], str] = {
    ("secrets", ""): "get update delete deletecollection",
    ("configmaps", ""): "update delete deletecollection",
    ("llmbackends", LLM): "get create update delete deletecollection",
    ("llmbackends/status", LLM): "update",
    ("pods", ""): "get watch create update delete deletecollection",
    ("pods/exec", ""): "create get",
    ("pods/attach", ""): "create get",
    ("pods/portforward", ""): "create get",
    ("pods/eviction", ""): "create",
    ("pods/ephemeralcontainers", ""): "patch update",
    ("pods/log", ""): "get",
    ("services", ""): "get create update patch delete",
    ("events", ""): "get list watch update delete",
    ("leases", LEASES): "list watch patch delete",
    ("namespaces", ""): "get list watch create update patch delete",
    ("nodes", ""): "get list watch patch",
    ("nodes/proxy", ""): "get create",
    ("serviceaccounts", ""): "get list create impersonate",
    ("serviceaccounts/token", ""): "create",
    ("users", ""): "impersonate",
    ("groups", ""): "impersonate",
    ("roles", RBAC): "get list create update patch delete bind escalate",
    ("rolebindings", RBAC): "get list create update patch delete",
    ("clusterroles", RBAC): "get list create update patch delete bind escalate",
    ("clusterrolebindings", RBAC): "get list create update patch delete",
    ("deployments", "apps"): "get list create update patch delete",
    ("daemonsets", "apps"): "create",
    ("jobs", "batch"): "create",
    ("customresourcedefinitions", "apiextensions.k8s.io"): "get list create update patch delete",
    ("validatingadmissionpolicies", "admissionregistration.k8s.io"): "get create update delete",
    ("mutatingwebhookconfigurations", "admissionregistration.k8s.io"): "get create update delete",
    ("certificatesigningrequests", "certificates.k8s.io"): "create approve",
}


@dataclass(frozen=True, slots=True)
class Installed:
    """The operator's account after an install, and namespaces to ask about."""

    control_plane: ControlPlane
    user: User
    system: str
    served: str
    other: str

    def may(self, verb: str, resource: str, group: str, namespace: str) -> bool:
        """What the API server says to `kubectl auth can-i` of the operator; "" is everywhere."""
        name, _, subresource = resource.partition("/")
        attributes = {
            "verb": verb,
            "resource": name,
            "subresource": subresource,
            "group": group,
            "namespace": namespace,
        }
        with self.control_plane.client(user=self.user) as client:
            body = {"spec": {"resourceAttributes": attributes}}
            answer = client.post(f"{REVIEWS}/selfsubjectaccessreviews", json=body)
        return bool(expect(answer)["status"]["allowed"])

    def granted(self, namespace: str) -> set[tuple[str, str, str]]:
        """Group, resource and verb of all it may do in a namespace that not every account may."""
        nobody = self.control_plane.create_user("nobody")
        return self._granted(self.user, namespace) - self._granted(nobody, namespace)

    def _granted(self, user: User, namespace: str) -> set[tuple[str, str, str]]:
        with self.control_plane.client(user=user) as client:
            body = {"spec": {"namespace": namespace}}
            answer = client.post(f"{REVIEWS}/selfsubjectrulesreviews", json=body)
        found = expect(answer)["status"]
        assert not found["incomplete"]
        return {
            (group, resource, verb)
            for rule in found["resourceRules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }


@pytest.fixture(scope="module", params=["base", "overlays/namespaced"])
def installed(request: pytest.FixtureRequest, control_plane: ControlPlane) -> Iterator[Installed]:
    """The accounts, roles and bindings of one of the installs, under names of their own."""
    tag = uuid.uuid4().hex[:8]
    system, served, other = f"system-{tag}", f"served-{tag}", f"other-{tag}"
    for name in (served, other):
        control_plane.kubectl("create", "namespace", name)
    text = control_plane.kubectl("kustomize", MANIFESTS / request.param).stdout
    documents = [d for d in yaml.safe_load_all(text) if d["kind"] in KINDS]
    shipped = yaml.safe_dump_all(documents).replace("llm-backend-system", system)
    shipped = shipped.replace("namespace: models", f"namespace: {served}")
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=shipped)
    user = control_plane.service_account(system, "llm-backend-operator")
    yield Installed(control_plane, user, system, served, other)
    control_plane.kubectl("delete", "--wait=false", "-f", "-", stdin=shipped)


def namespaced(installed: Installed) -> bool:
    return not installed.may("list", "llmbackends", LLM, "")


def shipped(rights: Callable[[Right], bool]) -> set[tuple[str, str, str]]:
    return {(right.group, right.resource, right.verb) for right in RIGHTS if rights(right)}


@pytest.mark.check(37)
def test_nothing_else_is_granted(installed: Installed) -> None:
    """All of it, and not only what a list of bad things names."""
    everywhere = shipped(lambda right: not right.lease)
    lease = shipped(lambda right: right.lease)
    elsewhere = set() if namespaced(installed) else everywhere
    assert installed.granted(installed.served) == everywhere
    assert installed.granted(installed.system) == elsewhere | lease
    assert installed.granted(installed.other) == elsewhere
    assert installed.granted("kube-system") == elsewhere


@pytest.mark.check(37)
def test_what_is_forbidden_is_denied(installed: Installed) -> None:
    allowed = [
        (verb, resource, namespace)
        for (resource, group), verbs in FORBIDDEN.items()
        for verb in (*verbs.split(), "*")
        for namespace in (installed.served, installed.system, "")
        if installed.may(verb, resource, group, namespace)
    ]
    assert allowed == []
    assert not installed.may("*", "*", "*", "")
    assert not any(installed.may(verb, "*", "*", installed.served) for verb in ("list", "patch"))


@pytest.mark.check(37)
def test_the_lease_of_no_other_namespace(installed: Installed) -> None:
    verbs = ("get", "create", "update")
    for namespace, may in (
        (installed.system, True),
        (installed.served, False),
        (installed.other, False),
        ("kube-system", False),
        ("", False),
    ):
        answers = {installed.may(verb, "leases", LEASES, namespace) for verb in verbs}
        assert answers == {may}, namespace


@pytest.mark.check(37)
def test_a_namespaced_install_has_nothing_in_another(installed: Installed) -> None:
    if not namespaced(installed):
        # The other install is for all namespaces, and has to be told apart from this one.
        assert installed.may("list", "secrets", "", installed.other)
        return
    allowed = [
        (str(right), namespace)
        for right in RIGHTS
        for namespace in (installed.other, "kube-system", "")
        if installed.may(right.verb, right.resource, right.group, namespace)
    ]
    assert allowed == []


async def test_the_operator_lacks_nothing(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(installed.user.kubeconfig))
    only = frozenset({installed.served} if namespaced(installed) else ())
    with caplog.at_level(logging.INFO):
        async with await API.connect() as api:
            assert await Cluster(api, namespaces=only).lacking(installed.system) == []
            more = only | {installed.other}
            lacking = await Cluster(api, namespaces=more).lacking() if only else []
    required = [right for right in RIGHTS if not right.lease and not right.optional]
    assert lacking == [f"{right} in {installed.other}" for right in required if only]
    told = [r for r in caplog.records if r.getMessage() == "rights_lacking_optional"]
    optional = [f"{right} in {installed.other}" for right in RIGHTS if right.optional]
    assert [record.__dict__["rights"] for record in told] == ([optional] if only else [])


async def test_the_lease_is_asked_for_where_it_is_alone(
    control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = control_plane.create_user("operator", rules())
    monkeypatch.setenv("KUBECONFIG", str(user.kubeconfig))
    async with await API.connect() as api:
        cluster = Cluster(api)
        assert await cluster.lacking() == []
        assert await cluster.lacking(namespace) == [
            f"{verb} leases.coordination.k8s.io in {namespace}"
            for verb in ("get", "create", "update")
        ]
        control_plane.allow(user, lease_rules(), namespace=namespace)
        assert await cluster.lacking(namespace) == []


def test_without_an_optional_right_it_runs(
    control_plane: ControlPlane, make_operator: Callable[..., Operator], namespace: str
) -> None:
    optional = {(right.resource, right.verb) for right in RIGHTS if right.optional}
    less: list[Any] = [
        dict(rule) | {"verbs": verbs}
        for rule in rules()
        if (verbs := [v for v in rule["verbs"] if (rule["resources"][0], v) not in optional])
    ]
    operator = make_operator(user=control_plane.create_user("less", less))
    operator.start()
    backends = Backends(control_plane, namespace)
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=15)
    (told,) = operator.logged("rights_lacking_optional")
    assert sorted(told["rights"]) == sorted(f"{v} {r} in all namespaces" for r, v in optional)
    assert operator.logged("rights_missing") == []


class TestPeople:
    """The roles that the cluster's own view, edit and admin take up."""

    @pytest.fixture
    def roles(self) -> dict[str, Any]:
        documents = yaml.safe_load_all((MANIFESTS / "base" / "people.yaml").read_text())
        return {document["metadata"]["name"]: document for document in documents}

    def test_who_takes_them_up(self, roles: dict[str, Any]) -> None:
        prefix = "rbac.authorization.k8s.io/aggregate-to-"
        labels = {name: role["metadata"]["labels"] for name, role in roles.items()}
        assert labels == {
            "llm-backend-view": {f"{prefix}{to}": "true" for to in ("view", "edit", "admin")},
            "llm-backend-edit": {f"{prefix}{to}": "true" for to in ("edit", "admin")},
        }

    @pytest.mark.parametrize(("name", "writes"), [("view", False), ("edit", True)])
    def test_what_they_allow(
        self,
        control_plane: ControlPlane,
        roles: dict[str, Any],
        namespace: str,
        name: str,
        writes: bool,
    ) -> None:
        found = roles[f"llm-backend-{name}"]["rules"]
        person = control_plane.create_user(name, found, namespace=namespace)
        may = Installed(control_plane, person, "", namespace, "default").may
        assert may("list", "llmbackends", LLM, namespace)
        changes = ("create", "update", "patch", "delete")
        assert {may(verb, "llmbackends", LLM, namespace) for verb in changes} == {writes}
        assert not may("patch", "llmbackends/status", LLM, namespace)
        assert not may("get", "secrets", "", namespace)
        assert not may("list", "llmbackends", LLM, "default")
