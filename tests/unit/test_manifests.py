"""The manifests agree with each other and with the code they start."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator import cli, settings
from llm_operator.cluster import RIGHTS
from llm_operator.resource.model import GROUP, PLURAL, VERSION

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"


def documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((MANIFESTS / path).read_text()))


def of_kind(path: str, kind: str) -> dict[str, Any]:
    (found,) = [document for document in documents(path) if document["kind"] == kind]
    return found


def granted(rules: Any) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def wanted(*, lease: bool) -> set[tuple[str, str, str]]:
    return {(r.group, r.resource, r.verb) for r in RIGHTS if r.lease == lease}


@pytest.mark.check(37)
@pytest.mark.parametrize(
    ("path", "kind", "lease"),
    [
        ("base/rbac.yaml", "ClusterRole", False),
        ("served/role.yaml", "Role", False),
        ("base/rbac.yaml", "Role", True),
    ],
)
def test_a_role_grants_what_the_operator_needs(path: str, kind: str, lease: bool) -> None:
    rules = of_kind(path, kind)["rules"]
    assert granted(rules) == wanted(lease=lease)
    assert not any("*" in value for rule in rules for values in rule.values() for value in values)


def test_both_installs_have_the_same_rules() -> None:
    whole = of_kind("base/rbac.yaml", "ClusterRole")["rules"]
    assert of_kind("served/role.yaml", "Role")["rules"] == whole


@pytest.mark.parametrize(
    ("path", "kind"), [("base/operator.yaml", "Deployment"), ("base/migrate.yaml", "Job")]
)
class TestPods:
    """What they start is a command of ours, with settings of ours."""

    def container(self, path: str, kind: str) -> dict[str, Any]:
        (found,) = of_kind(path, kind)["spec"]["template"]["spec"]["containers"]
        return dict(found)

    def test_the_command_is_there(self, path: str, kind: str) -> None:
        program, command = self.container(path, kind)["command"]
        assert program == "llmb"
        assert command in cli.COMMANDS

    def test_the_settings_are_settings(self, path: str, kind: str) -> None:
        known = {setting.name for setting in settings.TABLE}
        set_here = {entry["name"] for entry in self.container(path, kind)["env"]} - {"NAMESPACE"}
        assert "LLMB_DATABASE_URL" in set_here
        assert set_here <= known

    def test_the_image_is_named_and_no_more(self, path: str, kind: str) -> None:
        assert self.container(path, kind)["image"] == "llm-backend"
        (image,) = of_kind("base/kustomization.yaml", "Kustomization")["images"]
        assert image["name"] == "llm-backend"


def test_the_shipped_settings_are_settings() -> None:
    lines = (MANIFESTS / "base" / "settings.env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    known = {setting.name: setting for setting in settings.TABLE}
    for name, value in given.items():
        assert known[name].value({name: value})


def test_the_probes_ask_where_the_operator_listens() -> None:
    (container,) = of_kind("base/operator.yaml", "Deployment")["spec"]["template"]["spec"][
        "containers"
    ]
    (port,) = container["ports"]
    default = next(s.default for s in settings.TABLE if s.name == "LLMB_HEALTH_PORT")
    assert str(port["containerPort"]) == default
    paths = {name: container[name]["httpGet"]["path"] for name in container if "Probe" in name}
    assert paths == {"livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    (ingress,) = of_kind("network-policy/policy.yaml", "NetworkPolicy")["spec"]["ingress"]
    assert [str(each["port"]) for each in ingress["ports"]] == [default]


def test_the_advice_is_about_llmbackends_and_refuses_nothing() -> None:
    policy = of_kind("base/advice.yaml", "ValidatingAdmissionPolicy")
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    assert (rule["apiGroups"], rule["apiVersions"], rule["resources"]) == (
        [GROUP],
        [VERSION],
        [PLURAL],
    )
    assert policy["spec"]["failurePolicy"] == "Ignore"
    binding = of_kind("base/advice.yaml", "ValidatingAdmissionPolicyBinding")
    assert binding["spec"]["validationActions"] == ["Warn"]
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
