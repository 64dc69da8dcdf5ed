"""The manifests of the admin API agree with each other, with the operator's and with the code."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator import cli
from llm_operator.admin import settings
from llm_operator.admin.access import reviews
from llm_operator.admin.model import USAGE
from llm_operator.resource.model import GROUP, PLURAL

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
ADMIN = MANIFESTS / "components" / "admin"


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def named(file: str, kind: str, name: str = "llm-backend-admin") -> dict[str, Any]:
    found = [d for d in documents(ADMIN / file) if d["kind"] == kind]
    (one,) = [d for d in found if d["metadata"]["name"] == name]
    return one


def pod(path: Path) -> dict[str, Any]:
    (deployment,) = [d for d in documents(path) if d["kind"] == "Deployment"]
    return dict(deployment["spec"]["template"]["spec"])


def granted(role: dict[str, Any]) -> set[str]:
    return {
        f"{verb} {resource}" + (f".{group}" if group else "")
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_admin_may_ask_and_write_llmbackends() -> None:
    assert granted(named("rbac.yaml", "ClusterRole", "llm-backend-admin-reviews")) == set(
        reviews.NEEDED.values()
    )
    verbs = ("get", "list", "watch", "create", "patch", "delete")
    assert granted(named("rbac.yaml", "ClusterRole")) == {
        *(f"{verb} {PLURAL}.{GROUP}" for verb in verbs),
        "list pods",
    }


def test_a_router_may_send_usage() -> None:
    role = named("usage.yaml", "ClusterRole", "llm-backend-usage")
    assert granted(role) == {f"create {PLURAL}/{USAGE}.{GROUP}"}
    (binding,) = documents(ADMIN / "models" / "usage.yaml")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    (customized,) = documents(ADMIN / "models" / "kustomization.yaml")
    (subject,) = binding["subjects"]
    assert (subject["kind"], subject["name"]) == (
        "Group",
        f"system:serviceaccounts:{customized['namespace']}",
    )


@pytest.mark.parametrize("file", ["rbac.yaml", "served/binding.yaml"])
def test_every_binding_is_of_the_pod_s_account(file: str) -> None:
    bindings = [d for d in documents(ADMIN / file) if d["kind"].endswith("RoleBinding")]
    assert bindings
    account = pod(ADMIN / "admin.yaml")["serviceAccountName"]
    roles = {d["metadata"]["name"] for d in documents(ADMIN / "rbac.yaml")}
    for binding in bindings:
        assert binding["roleRef"]["name"] in roles
        assert binding["roleRef"]["kind"] == "ClusterRole"
        (subject,) = binding["subjects"]
        assert (subject["name"], subject["namespace"]) == (account, "llm-backend-system")


class TestPod:
    @pytest.fixture
    def container(self) -> dict[str, Any]:
        (found,) = pod(ADMIN / "admin.yaml")["containers"]
        return dict(found)

    def test_it_is_as_restricted_as_the_operator_s(self, container: dict[str, Any]) -> None:
        ours, its = pod(ADMIN / "admin.yaml"), pod(MANIFESTS / "base" / "operator.yaml")
        for key in ("securityContext", "volumes", "terminationGracePeriodSeconds"):
            assert ours[key] == its[key]
        for key in ("securityContext", "volumeMounts", "image", "envFrom"):
            assert container[key] == its["containers"][0][key]

    def test_the_database_is_the_operator_s(self, container: dict[str, Any]) -> None:
        (its,) = pod(MANIFESTS / "base" / "operator.yaml")["containers"]
        assert [entry for entry in its["env"] if entry["name"] == "LLMB_DATABASE_URL"] == container[
            "env"
        ]

    def test_the_command_and_the_settings_are_there(self, container: dict[str, Any]) -> None:
        program, command = container["command"]
        assert program == "llmb"
        assert command in cli.COMMANDS
        known = {setting.name for setting in settings.TABLE}
        assert {entry["name"] for entry in container["env"]} <= known

    def test_the_port_is_one_everywhere(self, container: dict[str, Any]) -> None:
        default = next(s.default for s in settings.TABLE if s.name == "LLMB_ADMIN_PORT")
        (port,) = container["ports"]
        assert str(port["containerPort"]) == default
        probes = {name: container[name]["httpGet"] for name in container if "Probe" in name}
        assert probes == {
            "livenessProbe": {"path": "/healthz", "port": port["name"]},
            "readinessProbe": {"path": "/readyz", "port": port["name"]},
        }
        service = named("admin.yaml", "Service")["spec"]
        (served,) = service["ports"]
        assert (str(served["port"]), served["targetPort"]) == (default, port["name"])
        policy = named("policy.yaml", "NetworkPolicy")["spec"]
        (ingress,) = policy["ingress"]
        assert [str(each["port"]) for each in ingress["ports"]] == [default]

    def test_service_and_policy_pick_this_pod_and_no_other(self) -> None:
        (deployment,) = [d for d in documents(ADMIN / "admin.yaml") if d["kind"] == "Deployment"]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels
        assert named("admin.yaml", "Service")["spec"]["selector"] == labels
        policy = named("policy.yaml", "NetworkPolicy")["spec"]
        assert policy["podSelector"]["matchLabels"] == labels
        for other in ("operator.yaml", "migrate.yaml"):
            (its,) = documents(MANIFESTS / "base" / other)
            assert its["spec"]["template"]["metadata"]["labels"] != labels
