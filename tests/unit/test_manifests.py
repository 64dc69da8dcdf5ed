"""The manifests agree with each other and with the code they start."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator import cli, settings
from llm_operator.admin.api.edge import BASE
from llm_operator.admin.model import USAGE
from llm_operator.cluster import RIGHTS
from llm_operator.publish import configmap, secret
from llm_operator.resource.model import GROUP, PLURAL, VERSION
from llm_operator.routers import pods
from llm_router.settings import TABLE as ROUTER_SETTINGS
from llm_router.settings import Settings as RouterSettings

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
        ("overlays/namespaced/served/role.yaml", "Role", False),
        ("base/rbac.yaml", "Role", True),
    ],
)
def test_a_role_grants_what_the_operator_needs(path: str, kind: str, lease: bool) -> None:
    rules = of_kind(path, kind)["rules"]
    assert granted(rules) == wanted(lease=lease)
    assert not any("*" in value for rule in rules for values in rule.values() for value in values)


def test_both_installs_have_the_same_rules() -> None:
    whole = of_kind("base/rbac.yaml", "ClusterRole")["rules"]
    assert of_kind("overlays/namespaced/served/role.yaml", "Role")["rules"] == whole


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
    policies = documents("components/network-policy/policy.yaml")
    asked = [policy["spec"] for policy in policies if "ingress" in policy["spec"]]
    (ingress,) = [rule for spec in asked for rule in spec["ingress"]]
    assert [str(each["port"]) for each in ingress["ports"]] == [default]
    (service,) = documents("components/metrics/service.yaml")
    (served,) = service["spec"]["ports"]
    assert (str(served["port"]), served["targetPort"]) == (default, port["name"])


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


class TestSidecar:
    """What an application's pods get: settings, paths and names are the router's own."""

    def container(self) -> dict[str, Any]:
        (patch,) = documents("components/sidecar/router.yaml")
        (found,) = patch["spec"]["template"]["spec"]["initContainers"]
        return dict(found)

    def test_the_settings_are_settings(self) -> None:
        known = {setting.variable for setting in ROUTER_SETTINGS}
        set_here = {entry["name"]: entry["value"] for entry in self.container()["env"]}
        assert set_here.keys() <= known
        taken = RouterSettings.from_environment(set_here)
        assert str(taken.usage_url).endswith(f"{BASE}/{USAGE}")
        mounts = {mount["mountPath"] for mount in self.container()["volumeMounts"]}
        assert {str(taken.config), str(taken.credentials), str(taken.usage_spool)} <= mounts
        assert str(Path(str(taken.usage_token_file)).parent) in mounts

    def test_the_probes_ask_the_management_port(self) -> None:
        container = self.container()
        (port,) = container["ports"]
        assert port["containerPort"] == RouterSettings.from_environment({}).management_port
        asked = {name: container[name]["httpGet"] for name in container if "Probe" in name}
        assert {name: probe["path"] for name, probe in asked.items()} == {
            "startupProbe": "/healthz",
            "livenessProbe": "/healthz",
            "readinessProbe": "/readyz",
        }
        assert {probe["port"] for probe in asked.values()} == {port["name"]}

    def test_what_it_mounts_is_what_the_operator_writes(self) -> None:
        (patch,) = documents("components/sidecar/router.yaml")
        template = patch["spec"]["template"]
        volumes = template["spec"]["volumes"]
        (config,) = [each["configMap"] for each in volumes if "configMap" in each]
        (credentials,) = [each["secret"] for each in volumes if "secret" in each]
        assert config == {"name": configmap.NAME, "optional": True}
        assert credentials == {"secretName": secret.NAME, "optional": True}
        assert pods.LABEL in template["metadata"]["labels"]

    def test_the_usage_goes_to_the_shipped_service(self) -> None:
        (params,) = documents("components/injection/params.yaml")
        (service,) = [
            document
            for document in documents("components/admin/admin.yaml")
            if document["kind"] == "Service"
        ]
        (port,) = service["spec"]["ports"]
        where = "{name}.{namespace}".format(**service["metadata"])
        assert params["data"]["usageURL"].startswith(f"http://{where}:{port['port']}/")
        usage = next(e for e in self.container()["env"] if e["name"] == "LLM_ROUTER_USAGE_URL")
        assert usage["value"] == params["data"]["usageURL"]
